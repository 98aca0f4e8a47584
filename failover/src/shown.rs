//! How a value somebody typed is shown back to them inside an error.

use std::fmt;

/// The most characters that an error spends on a value. MariaDB keeps 511 bytes of an error; the rest of the sentence,
/// which says what to do, must fit too.
const LONGEST: usize = 60;

/// Displays a value in single quotes, cut with `...` where it is long. Control characters are escaped, and those beyond
/// U+FFFF: MariaDB ends an error message at the first of them.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        let mut left = LONGEST;
        for character in self.0.chars() {
            let piece = if character.is_control() || character > '\u{ffff}' {
                character.escape_default().to_string()
            } else {
                character.to_string()
            };
            let length = piece.chars().count();
            if length > left {
                shown += "...";
                break;
            }
            left -= length;
            shown += &piece;
        }
        write!(f, "'{shown}'")
    }
}

/// The beginning of a long value, for a log: MariaDB keeps 511 bytes of a line, and who did it should be among them.
#[must_use]
pub fn shortened(value: &str) -> String {
    const LONGEST: usize = 150;
    if value.len() <= LONGEST {
        return value.to_owned();
    }
    format!("{}...", &value[..value.floor_char_boundary(LONGEST)])
}

#[cfg(test)]
mod tests {
    use super::{Shown, shortened};

    #[test]
    fn logs_have_the_beginning_of_a_long_value() {
        assert_eq!(shortened(&"x".repeat(150)), "x".repeat(150));
        assert_eq!(shortened(&"x".repeat(151)), format!("{}...", "x".repeat(150)));
        assert_eq!(shortened(&"\u{20ac}".repeat(60)), format!("{}...", "\u{20ac}".repeat(50)));
    }

    #[test]
    fn values_are_quoted_escaped_and_cut() {
        assert_eq!(Shown("db2").to_string(), "'db2'");
        assert_eq!(Shown("a\nb\0\u{1f600}").to_string(), "'a\\nb\\u{0}\\u{1f600}'");
        assert_eq!(Shown(&"é".repeat(60)).to_string(), format!("'{}'", "é".repeat(60)));
        assert_eq!(Shown(&"é".repeat(61)).to_string(), format!("'{}...'", "é".repeat(60)));
        assert_eq!(Shown(&"\n".repeat(61)).to_string(), format!("'{}...'", "\\n".repeat(30)));
        assert_eq!(Shown(&"\u{1f600}".repeat(61)).to_string(), format!("'{}...'", "\\u{1f600}".repeat(6)));
    }
}
