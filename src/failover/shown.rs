//! How a value somebody typed is shown back to them inside an error.

use std::fmt;

/// The most characters of a value that an error repeats. MariaDB keeps 511 bytes of an error; the rest of the sentence,
/// which says what to do, must fit too.
const LONGEST: usize = 60;

/// Displays a value in single quotes, cut with `...` where it is long. Control characters are escaped, and those beyond
/// U+FFFF: MariaDB ends an error message at the first of them.
pub(super) struct Shown<'a>(pub &'a str);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for character in self.0.chars().take(LONGEST) {
            if character.is_control() || character > '\u{ffff}' {
                write!(f, "{}", character.escape_default())?;
            } else {
                write!(f, "{character}")?;
            }
        }
        f.write_str(if self.0.chars().nth(LONGEST).is_some() { "...'" } else { "'" })
    }
}

#[cfg(test)]
mod tests {
    use super::Shown;

    #[test]
    fn values_are_quoted_escaped_and_cut() {
        assert_eq!(Shown("db2").to_string(), "'db2'");
        assert_eq!(Shown("a\nb\0\u{1f600}").to_string(), "'a\\nb\\u{0}\\u{1f600}'");
        assert_eq!(Shown(&"é".repeat(60)).to_string(), format!("'{}'", "é".repeat(60)));
        assert_eq!(Shown(&"é".repeat(61)).to_string(), format!("'{}...'", "é".repeat(60)));
    }
}
