//! What one administrator leaves for the next one to read.

use std::fmt;
use std::str::FromStr;

use super::shown::Shown;

/// The most characters of a note.
pub const MAX_NOTE: usize = 400;

/// The value of `instant_failover_note`: one line of text without any effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note(String);

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Note {
    type Err = NoteError;

    fn from_str(value: &str) -> Result<Self, NoteError> {
        let length = value.chars().count();
        // Errors show the beginning of the value.
        let error = |problem| NoteError { value: value.chars().take(MAX_NOTE).collect(), problem };
        if length > MAX_NOTE {
            Err(error(Problem::TooLong(length)))
        } else if value.chars().any(char::is_control) {
            Err(error(Problem::Control))
        } else {
            Ok(Self(value.to_owned()))
        }
    }
}

/// A value that cannot be a note, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteError {
    value: String,
    problem: Problem,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Problem {
    TooLong(usize),
    Control,
}

impl fmt::Display for NoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a note: ", Shown(&self.value))?;
        match self.problem {
            Problem::TooLong(length) => write!(f, "it has {length} characters; give at most {MAX_NOTE}"),
            Problem::Control => {
                f.write_str("it contains a line break or another control character; give one line of text")
            }
        }
    }
}

impl std::error::Error for NoteError {}

#[cfg(test)]
mod tests {
    use super::{MAX_NOTE, Note};

    #[test]
    fn one_line_of_limited_length() {
        for text in ["", "switchover 7: fenced by ann", &"\u{20ac}".repeat(MAX_NOTE)] {
            assert_eq!(text.parse::<Note>().unwrap().to_string(), text);
        }
        for (text, expected) in [
            (
                "x".repeat(401),
                format!("'{}...' is not a note: it has 401 characters; give at most 400", "x".repeat(60)),
            ),
            (
                "a\nb".to_owned(),
                "'a\\nb' is not a note: it contains a line break or another control character; give one line of text"
                    .to_owned(),
            ),
        ] {
            assert_eq!(text.parse::<Note>().unwrap_err().to_string(), expected);
        }
    }
}
