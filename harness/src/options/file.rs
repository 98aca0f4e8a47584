//! Options files: the `my.cnf` format.
//!
//! See <https://mariadb.com/kb/en/configuring-mariadb-with-option-files/#option-file-syntax>.

use std::path::Path;

use crate::files::{self, When};

/// The group with this program's options.
const GROUP: &str = "instant-failover-harness";

/// One option of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// As it would be on the command line.
    pub(super) argument: String,
    /// File and line, for messages.
    pub(super) place: String,
}

/// Reads the options of [`GROUP`]; the groups of other programs, such as mariadbd, are ignored.
///
/// # Errors
/// If the file cannot be read, or contains something that is not supported.
pub(super) fn read(file: &Path, when: When) -> Result<Vec<Line>, String> {
    let text = files::read_text(file, when).map_err(|error| format!("--defaults-file {}: {error}", file.display()))?;
    let mut lines = Vec::new();
    let mut ours = false;
    for (index, line) in text.lines().enumerate() {
        let place = format!("{}, line {}", file.display(), index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('!') {
            return Err(format!("{place}: {line} is not supported; put the options in this file"));
        }
        if let Some(group) = line.strip_prefix('[') {
            let name = group.strip_suffix(']').ok_or_else(|| format!("{place}: {line} has no closing ]"))?;
            ours = name.trim() == GROUP;
        } else if ours {
            lines.push(Line { argument: argument(line), place });
        }
    }
    Ok(lines)
}

fn argument(line: &str) -> String {
    let Some((name, value)) = line.split_once('=') else {
        return format!("--{}", without_comment(line).replace('_', "-"));
    };
    format!("--{}={}", name.trim_end().replace('_', "-"), self::value(value.trim()))
}

/// A value without its quotes, or without the comment after it, and with its escapes replaced.
fn value(value: &str) -> String {
    let quoted = ['"', '\''].into_iter().find_map(|quote| {
        let inner = value.strip_prefix(quote)?;
        Some(inner.rfind(quote).map_or(value, |end| &inner[..end]))
    });
    unescaped(quoted.unwrap_or_else(|| without_comment(value)))
}

/// A comment in a line begins with `#` after a blank.
fn without_comment(text: &str) -> &str {
    let comment = text.match_indices('#').find(|(at, _)| text[..*at].ends_with(char::is_whitespace) || *at == 0);
    comment.map_or(text, |(at, _)| &text[..at]).trim_end()
}

fn unescaped(value: &str) -> String {
    let mut characters = value.chars();
    let mut unescaped = String::new();
    while let Some(character) = characters.next() {
        if character != '\\' {
            unescaped.push(character);
            continue;
        }
        match characters.next() {
            Some('n') => unescaped.push('\n'),
            Some('t') => unescaped.push('\t'),
            Some('r') => unescaped.push('\r'),
            Some('b') => unescaped.push('\u{8}'),
            Some('s') => unescaped.push(' '),
            Some(quote @ ('\\' | '"' | '\'')) => unescaped.push(quote),
            Some(other) => unescaped.extend(['\\', other]),
            None => unescaped.push('\\'),
        }
    }
    unescaped
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{When, read};

    fn arguments(text: &str) -> Result<Vec<String>, String> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Ok(read(file.path(), When::Starting)?.into_iter().map(|line| line.argument).collect())
    }

    #[test]
    fn the_format_of_my_cnf() {
        let text = "\
# a comment
[mysqld]
port=1
[instant-failover-harness]
  port = 3307  # the usual
; another comment
skip-ssl
skip_networking # not now
instant_failover_message = \"Go to '%s' # now\"
instant-failover-exempt-users='a b'
instant-failover-target=
socket=/run/my\\ssocket\\\\x\\q
[mysqld]
port=2
";
        let expected = [
            "--port=3307",
            "--skip-ssl",
            "--skip-networking",
            "--instant-failover-message=Go to '%s' # now",
            "--instant-failover-exempt-users=a b",
            "--instant-failover-target=",
            "--socket=/run/my socket\\x\\q",
        ];
        assert_eq!(arguments(text).unwrap(), expected);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("[instant-failover-harness\n", "line 1: [instant-failover-harness has no closing ]"),
            ("\n!include x\n", "line 2: !include x is not supported"),
        ] {
            let error = arguments(text).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
        assert!(
            read("/nonexistent".as_ref(), When::Starting)
                .unwrap_err()
                .contains("--defaults-file /nonexistent: No such file")
        );
    }
}
