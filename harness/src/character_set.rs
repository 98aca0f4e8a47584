//! Messages in the client's character set, which it names when it logs in, as mariadbd sends them.

use std::borrow::Cow;
use std::io::Write;

use encoding_rs::{EncoderResult, Encoding};
use mysql_common::collations::{Collation, CollationId};

/// Converts UTF-8 text for a client with this collation. A character that its character set lacks becomes `\20AC`, the code
/// point in hexadecimal digits. For UTF-8 clients, and for character sets that are not supported here, the text is unchanged.
pub(super) fn encode(text: &[u8], collation: u8) -> Cow<'_, [u8]> {
    if text.is_ascii() {
        return Cow::Borrowed(text);
    }
    let (Ok(text), Some(target)) = (str::from_utf8(text), CharacterSet::of(collation)) else {
        return Cow::Borrowed(text);
    };
    Cow::Owned(match target {
        CharacterSet::Ascii => ascii(text),
        CharacterSet::Known(encoding) => encoded(text, encoding),
    })
}

enum CharacterSet {
    Ascii,
    Known(&'static Encoding),
}

impl CharacterSet {
    fn of(collation: u8) -> Option<Self> {
        use encoding_rs as known;
        // 0 means the server's default.
        let collation = if collation == 0 { 8 } else { collation.into() };
        let collation = Collation::resolve(CollationId::from(collation));
        Some(Self::Known(match collation.charset() {
            "ascii" => return Some(Self::Ascii),
            "latin1" => known::WINDOWS_1252,
            "latin2" => known::ISO_8859_2,
            "cp1250" => known::WINDOWS_1250,
            "cp1251" => known::WINDOWS_1251,
            "cp1257" => known::WINDOWS_1257,
            "cp866" => known::IBM866,
            "koi8r" => known::KOI8_R,
            "koi8u" => known::KOI8_U,
            "hebrew" => known::ISO_8859_8,
            _ => return None,
        }))
    }
}

fn encoded(text: &str, encoding: &'static Encoding) -> Vec<u8> {
    let mut encoder = encoding.new_encoder();
    let mut out = Vec::with_capacity(2 * text.len());
    let mut rest = text;
    loop {
        // Enough for the rest: none of these character sets needs more bytes than UTF-8.
        out.reserve(rest.len() + 16);
        let (result, read) = encoder.encode_from_utf8_to_vec_without_replacement(rest, &mut out, true);
        rest = &rest[read..];
        match result {
            EncoderResult::Unmappable(character) => replacement(&mut out, character),
            EncoderResult::InputEmpty => return out,
            EncoderResult::OutputFull => {}
        }
    }
}

fn ascii(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 * text.len());
    for character in text.chars() {
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => out.push(byte),
            _ => replacement(&mut out, character),
        }
    }
    out
}

fn replacement(out: &mut Vec<u8>, character: char) {
    // Writing into a Vec cannot fail.
    let _ = write!(out, "\\{:04X}", u32::from(character));
}

#[cfg(test)]
mod tests {
    use super::encode;

    #[test]
    fn texts_are_encoded() {
        let text = "é€ñ Ж";
        for (collation, expected) in [
            (8, &b"\xe9\x80\xf1 \\0416"[..]),
            (51, b"\\00E9\x88\\00F1 \xc6"),
            (11, b"\\00E9\\20AC\\00F1 \\0416"),
            (45, text.as_bytes()),
            (33, text.as_bytes()),
            (13, text.as_bytes()),
        ] {
            assert_eq!(encode(text.as_bytes(), collation), expected, "{collation}");
        }
        assert_eq!(encode(b"plain", 11), &b"plain"[..]);
    }
}
