//! The message of the error packet: `|readable text|target`.

use std::ffi::{CStr, CString};
use std::fmt;
use std::str::FromStr;

use super::shown::Shown;
use super::target::{Target, TargetError};

/// The most bytes of a message: clients keep 512 (`MYSQL_ERRMSG_SIZE`), terminator included.
pub const MAX_LENGTH: usize = 511;

/// The placeholder for the target inside a [`Text`].
const PLACEHOLDER: &str = "%s";
/// Marks a text that was cut.
const CUT: &str = "...";

/// The value of `instant_failover_message`: the text that users see if their client does not follow.
///
/// One `%s` is replaced by the target; any other `%` is literal. At most [`MAX_LENGTH`] bytes: more could never be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(String);

impl Default for Text {
    fn default() -> Self {
        Self("Server is directing clients to the alternative server '%s'.".to_owned())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Text {
    type Err = TextError;

    fn from_str(value: &str) -> Result<Self, TextError> {
        let error = |problem| {
            let beginning = &value[..value.floor_char_boundary(MAX_LENGTH)];
            Err(TextError { value: beginning.to_owned(), problem })
        };
        if value.len() > MAX_LENGTH {
            error(Problem::TooLong(value.len()))
        } else if value.trim().is_empty() {
            error(Problem::Empty)
        } else if value.contains('|') {
            error(Problem::Bar)
        } else if value.chars().any(char::is_control) {
            error(Problem::Control)
        } else if value.chars().any(|character| character > '\u{ffff}') {
            error(Problem::Supplementary)
        } else if value.matches(PLACEHOLDER).count() > 1 {
            error(Problem::Placeholders)
        } else {
            Ok(Self(value.to_owned()))
        }
    }
}

/// A value that cannot be the text of a message, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TextError {
    value: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    TooLong(usize),
    Empty,
    Bar,
    Control,
    /// MariaDB's character set for errors ends at U+FFFF, and a message is cut at the first character beyond: the target
    /// would be lost.
    Supplementary,
    Placeholders,
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a message: ", Shown(&self.value))?;
        f.write_str(match self.problem {
            Problem::TooLong(length) => {
                return write!(
                    f,
                    "it has {length} bytes, but an error message holds at most {MAX_LENGTH}; give a shorter text"
                );
            }
            Problem::Empty => "the text is empty",
            Problem::Bar => "it contains '|', which ends the text on the wire",
            Problem::Control => "it contains a line break or another control character",
            Problem::Supplementary => "it contains an emoji or another character that MariaDB cannot send in an error",
            Problem::Placeholders => "it contains more than one %s",
        })?;
        f.write_str("; give one line of text, with %s where the target should appear")
    }
}

impl std::error::Error for TextError {}

/// A complete message, ready to be sent: at most [`MAX_LENGTH`] bytes of UTF-8, the target whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message(CString);

impl Message {
    /// Combines `text` and `target`. A text that is too long is cut; the target never is.
    #[must_use]
    pub fn new(text: &Text, target: &Target) -> Self {
        let target = target.to_string();
        let text = text.0.replacen(PLACEHOLDER, &target, 1);
        let text = fit(&text, MAX_LENGTH - 2 - target.len());
        // Neither part can hold a NUL: a text has no control characters, and a target only those of a host name.
        Self(CString::new(format!("|{text}|{target}")).unwrap_or_default())
    }

    /// The message as a C string.
    #[must_use]
    pub fn as_c_str(&self) -> &CStr {
        &self.0
    }

    /// The message as it goes on the wire.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.to_bytes()
    }
}

/// The longest prefix of `text` that is certain to fit into `room` bytes on the wire, marked with [`CUT`] if it is cut.
fn fit(text: &str, room: usize) -> String {
    if text.chars().map(wire_length).sum::<usize>() <= room {
        return text.to_owned();
    }
    let mut left = room - CUT.len();
    let whole = text.chars().take_while(|&character| {
        let fits = wire_length(character) <= left;
        left = left.saturating_sub(wire_length(character));
        fits
    });
    whole.collect::<String>() + CUT
}

/// The most bytes one character can take on the wire.
///
/// MariaDB converts an error to the client's character set, into a buffer of the same 512 bytes, and writes characters that
/// the set lacks as `\20AC` (`convert_error_message` in `sql/sql_error.cc`). A text that just fits in UTF-8 would push the target
/// out for a client that uses latin1.
const fn wire_length(character: char) -> usize {
    if character.is_ascii() { 1 } else { 5 }
}

/// A parsed message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed<'a> {
    /// The readable text, in the character set of the connection.
    pub text: &'a [u8],
    /// Where to go.
    pub target: Target,
}

/// Why a message is not a redirect, or cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseError {
    /// It does not have the form `|text|target`: an ordinary error with the same code.
    NotARedirect,
    /// It has the form, but its target is invalid.
    BadTarget(TargetError),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARedirect => f.write_str("the message does not have the form |text|target"),
            Self::BadTarget(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ParseError {}

/// Parses a message.
///
/// The text ends at the *last* `|`: some character sets a client may use (Shift-JIS, GBK, Big5) have that byte inside
/// characters, while a target never contains it.
///
/// # Errors
/// [`ParseError`] if the message does not have the form, or its target is not valid. Do not use any part of it then.
pub fn parse(message: &[u8]) -> Result<Parsed<'_>, ParseError> {
    let rest = message.strip_prefix(b"|").ok_or(ParseError::NotARedirect)?;
    let bar = rest.iter().rposition(|&b| b == b'|').ok_or(ParseError::NotARedirect)?;
    let (text, target) = (&rest[..bar], &rest[bar + 1..]);
    let target = String::from_utf8_lossy(target).parse().map_err(ParseError::BadTarget)?;
    Ok(Parsed { text, target })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::target::tests::any_target;
    use super::{MAX_LENGTH, Message, ParseError, Parsed, Target, Text, parse};

    fn message(text: &str, target: &str) -> String {
        let message = Message::new(&text.parse().unwrap(), &target.parse().unwrap());
        String::from_utf8(message.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn the_default_text() {
        let target = "db2.example.com:3307".parse().unwrap();
        assert_eq!(
            Message::new(&Text::default(), &target).as_bytes(),
            b"|Server is directing clients to the alternative server 'db2.example.com:3307'.|db2.example.com:3307"
        );
    }

    #[test]
    fn the_placeholder_and_other_percent_signs() {
        assert_eq!(message("go to %s", "db2:1"), "|go to db2:1|db2:1");
        assert_eq!(message("100% at %d%%", "db2"), "|100% at %d%%|db2");
    }

    #[test]
    fn a_long_text_is_cut_and_the_target_is_not() {
        let target = format!("{0}.{0}.{0}.{1}:65535", "a".repeat(63), "b".repeat(61));
        assert_eq!(
            message(&"x".repeat(MAX_LENGTH), &target),
            format!("|{}...|{target}", "x".repeat(MAX_LENGTH - 2 - 3 - target.len()))
        );
        assert_eq!(message(&"x".repeat(MAX_LENGTH - 2 - 3), "db2").len(), MAX_LENGTH);
        assert_eq!(message(&"x".repeat(MAX_LENGTH), "db2").len(), MAX_LENGTH);
        // 504 bytes of room after "|", "|db2" and "...", five of them for each character.
        assert_eq!(message(&"€".repeat(170), "db2"), format!("|{}...|db2", "€".repeat(503 / 5)));
    }

    #[test]
    fn texts_that_are_refused() {
        for (text, said) in [
            ("", "the text is empty"),
            ("  ", "the text is empty"),
            ("a|b", "it contains '|'"),
            ("a\nb", "control character"),
            ("a\0b", "control character"),
            ("a\u{1f600}b", "it contains an emoji"),
            ("%s and %s", "more than one %s"),
            (&"x".repeat(512), "it has 512 bytes, but an error message holds at most 511"),
            (&"€".repeat(171), "it has 513 bytes, but an error message holds at most 511"),
            (&"|".repeat(1 << 24), "it has 16777216 bytes, but an error message holds at most 511"),
        ] {
            let error = text.parse::<Text>().unwrap_err().to_string();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn messages_that_are_no_redirect() {
        for bytes in [&b""[..], b"|", b"db2", b"|db2", b"text|db2", b"Sequence 'a.b' table has wrong columns"] {
            assert_eq!(parse(bytes), Err(ParseError::NotARedirect), "{bytes:?}");
        }
        for bytes in [&b"||"[..], b"|text|", b"|text|db2 ", b"|text|db2:0", b"|text|db2\0", b"|text|\xff", b"|text|a|"]
        {
            assert!(matches!(parse(bytes), Err(ParseError::BadTarget(_))), "{bytes:?}");
        }
    }

    #[test]
    fn a_bar_byte_inside_the_text_does_not_matter() {
        // 83 7C is one character in Shift-JIS, the katakana PO; its second byte is a bar.
        let parsed = parse(b"|\x83\x7c|db2").unwrap();
        assert_eq!(parsed, Parsed { text: b"\x83\x7c", target: "db2".parse().unwrap() });
    }

    proptest! {
        #[test]
        fn a_text_is_as_long_as_an_error_at_most(text in r"[ -{}~\u{a0}-\u{d7ff}]{100,520}") {
            let is_short = text.len() <= MAX_LENGTH;
            prop_assert!(is_short || text.parse::<Text>().is_err());
            if !text.trim().is_empty() && text.matches("%s").count() < 2 {
                prop_assert_eq!(text.parse::<Text>().is_ok(), is_short);
            }
        }

        #[test]
        fn a_text_is_kept_as_it_is(text in r"[^|\p{Cc}%]{1,300}") {
            if let Ok(parsed) = text.parse::<Text>() {
                prop_assert_eq!(parsed.to_string(), text);
            }
        }

        #[test]
        fn what_was_put_in_comes_out_and_always_fits(text in r"[\x20-\x7b\x7d\x7e\u{a0}-\u{d7ff}]{1,511}", target in any_target()) {
            let Ok(text) = text.parse::<Text>() else { return Ok(()) };
            let target: Target = target.parse().unwrap();
            let message = Message::new(&text, &target);
            prop_assert!(message.as_bytes().len() <= MAX_LENGTH);
            let parsed = parse(message.as_bytes()).unwrap();
            prop_assert_eq!(parsed.target, target);
            prop_assert!(std::str::from_utf8(parsed.text).is_ok());
        }

        #[test]
        fn no_bytes_make_parse_panic(bytes in any::<Vec<u8>>()) {
            let _ = parse(&bytes);
        }

        #[test]
        fn bytes_close_to_a_message_neither(bytes in r"\|{0,3}[a-z0-9:.\[\]| ]{0,40}") {
            let _ = parse(bytes.as_bytes());
        }
    }
}
