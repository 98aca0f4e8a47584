//! How values are shown in errors and in the log.

use std::fmt;

/// The most characters of a value that an error shows. MariaDB keeps 511 bytes of an error; the rest of the sentence,
/// which says what to do, must fit too.
const MAX_CHARACTERS: usize = 60;

/// The most bytes of a value that a log line shows. MariaDB keeps 511 bytes of a line, and it ends with the user.
const MAX_LOGGED: usize = 150;

/// Displays a value in single quotes; a long one is cut and ends with `...`. Control characters and characters beyond
/// U+FFFF are escaped: MariaDB cuts an error message at the first of the latter.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = String::new();
        let mut left = MAX_CHARACTERS;
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

/// The log line about a changed setting: `instant_failover_target changed from 'db2' to 'db3' by ...`. None if it has not
/// changed.
pub(super) fn change(name: &str, old: &str, new: &str, by: Option<&str>) -> Option<String> {
    let by = by.map(|by| format!(" by {by}")).unwrap_or_default();
    (old != new).then(|| format!("{name} changed from '{}' to '{}'{by}", shortened(old), shortened(new)))
}

/// A long value is cut.
fn shortened(value: &str) -> String {
    if value.len() <= MAX_LOGGED {
        return value.to_owned();
    }
    format!("{}...", &value[..value.floor_char_boundary(MAX_LOGGED)])
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
