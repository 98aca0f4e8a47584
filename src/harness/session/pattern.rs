//! The patterns of `LIKE`.

/// Whether `text` is like `pattern`, where `%` stands for anything, `_` for one character, and `\` takes their meaning
/// away. Upper and lower case of ASCII letters are the same. Takes time in proportion to the product of both lengths at
/// most, whatever the pattern.
pub(super) fn is_like(text: &str, pattern: &str) -> bool {
    let pattern = tokens(pattern);
    // Which prefixes of the text the tokens so far can stand for.
    let text: Vec<char> = text.chars().map(|character| character.to_ascii_lowercase()).collect();
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for token in pattern {
        let mut next = vec![false; text.len() + 1];
        for end in 0..=text.len() {
            next[end] = match token {
                Token::Anything => reached[end] || (end > 0 && next[end - 1]),
                Token::One => end > 0 && reached[end - 1],
                Token::Just(character) => end > 0 && reached[end - 1] && text[end - 1] == character,
            };
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

fn tokens(pattern: &str) -> Vec<Token> {
    let mut characters = pattern.chars();
    let mut tokens = Vec::new();
    while let Some(character) = characters.next() {
        tokens.push(match character {
            '%' => Token::Anything,
            '_' => Token::One,
            '\\' => Token::Just(characters.next().unwrap_or('\\').to_ascii_lowercase()),
            other => Token::Just(other.to_ascii_lowercase()),
        });
    }
    tokens
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
            ("aaaaaaaaaaaaaaaaaaaaaaaab", "%a%a%a%a%a%a%a%a%a%a%a%c", false),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} LIKE {pattern}");
        }
    }
}
