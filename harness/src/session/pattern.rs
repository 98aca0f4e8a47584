//! The patterns of `LIKE`.

/// Whether `text` matches `pattern`, where `%` matches anything, `_` matches one character, and `\` escapes them. The case of
/// ASCII letters is ignored. The time is at most proportional to the length of the pattern and to that of the text.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    // Which prefixes of the text match the tokens so far.
    let text: Vec<char> = text.chars().map(|character| character.to_ascii_lowercase()).collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in tokens(pattern) {
        let mut next = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            next[end] = match token {
                Token::Anything => reached[end] || (end > 0 && next[end - 1]),
                Token::One => end > 0 && reached[end - 1],
                Token::Just(character) => end > 0 && reached[end - 1] && text[end - 1] == character,
            };
        }
        if !next.contains(&true) {
            return false;
        }
        reached = next;
    }
    reached[text.len()]
}

#[derive(Clone, Copy)]
enum Token {
    Anything,
    One,
    Just(char),
}

fn tokens(pattern: &str) -> impl Iterator<Item = Token> {
    let mut characters = pattern.chars();
    std::iter::from_fn(move || {
        Some(match characters.next()? {
            '%' => {
                // Several are equivalent to one.
                characters = characters.as_str().trim_start_matches('%').chars();
                Token::Anything
            }
            '_' => Token::One,
            '\\' => Token::Just(characters.next().unwrap_or('\\').to_ascii_lowercase()),
            other => Token::Just(other.to_ascii_lowercase()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns() {
        for (text, pattern, like) in [
            ("Uptime", "uptime", true),
            ("Uptime", "up%", true),
            ("Uptime", "%TIME", true),
            ("Uptime", "%p%m%", true),
            ("Uptime", "_ptime", true),
            ("Uptime", "_", false),
            ("Uptime", "", false),
            ("", "%", true),
            ("", "", true),
            ("a_b", r"a\_b", true),
            ("axb", r"a\_b", false),
            ("a%", r"a\%", true),
            ("a\\", r"a\", true),
            ("Uptime", "%%t%%", true),
            ("Uptime", r"%%\%%", false),
            ("aaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%a%a%a%a%a%c", false),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} LIKE {pattern}");
        }
    }

    #[test]
    fn long_patterns() {
        for piece in ["%", "_", "%_", "%a", "a"] {
            assert_eq!(is_like(&"a".repeat(40), &piece.repeat(64 * 1024)), piece == "%", "{piece}");
        }
    }
}
