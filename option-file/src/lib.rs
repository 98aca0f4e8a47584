//! Option files in the format of `my.cnf`. This parses text; reading the file is up to the caller.
//!
//! See <https://mariadb.com/kb/en/configuring-mariadb-with-option-files/#option-file-syntax>.
#![forbid(unsafe_code)]

use std::path::Path;

/// One option of a file.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    /// The group that it is in; empty before the first one.
    pub group: String,
    /// Its name, with every `_` replaced by `-`.
    pub name: String,
    /// Its value, without quotes and with escapes replaced. It can be a secret.
    pub value: Option<String>,
    /// File and line, for messages.
    pub place: String,
}

/// Parses an option file.
///
/// # Errors
/// What is not supported, with its place.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Line>, String> {
    let mut lines = Vec::new();
    let mut group = String::new();
    for (index, line) in text.lines().enumerate() {
        let place = format!("{}, line {}", file.display(), index + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('!') {
            return Err(format!("{place}: {line} is not supported; put the options in this file"));
        }
        if let Some(name) = line.strip_prefix('[') {
            let name = name.strip_suffix(']').ok_or_else(|| format!("{place}: {line} has no closing ]"))?;
            name.trim().clone_into(&mut group);
            continue;
        }
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(self::value(value.trim()))),
            None => (without_comment(line), None),
        };
        lines.push(Line { group: group.clone(), name: name.replace('_', "-"), value, place });
    }
    Ok(lines)
}

/// The names of the groups, in the order of the file, also of those without options.
#[must_use]
pub fn groups(text: &str) -> Vec<String> {
    let group = |line: &str| Some(line.trim().strip_prefix('[')?.strip_suffix(']')?.trim().to_owned());
    text.lines().filter_map(group).collect()
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
    use std::path::Path;

    use super::{groups, parse};

    const TEXT: &str = "\
# a comment
before=1
[mysqld]
port=1
[ db1 ]
  port = 3307  # the usual
; another comment
skip-ssl
skip_networking # not now
instant_failover_message = \"Go to '%s' # now\"
users='a b'
target=
socket=/run/my\\ssocket\\\\x\\q
[empty]
[mysqld]
port=2
";

    #[test]
    fn the_format_of_my_cnf() {
        let lines = parse(TEXT, Path::new("f")).unwrap();
        let found: Vec<_> =
            lines.iter().map(|line| (line.group.as_str(), line.name.as_str(), line.value.as_deref())).collect();
        let expected = [
            ("", "before", Some("1")),
            ("mysqld", "port", Some("1")),
            ("db1", "port", Some("3307")),
            ("db1", "skip-ssl", None),
            ("db1", "skip-networking", None),
            ("db1", "instant-failover-message", Some("Go to '%s' # now")),
            ("db1", "users", Some("a b")),
            ("db1", "target", Some("")),
            ("db1", "socket", Some("/run/my socket\\x\\q")),
            ("mysqld", "port", Some("2")),
        ];
        assert_eq!(found, expected);
        assert_eq!(lines[1].place, "f, line 4");
        assert_eq!(groups(TEXT), ["mysqld", "db1", "empty", "mysqld"]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("[group\n", "f, line 1: [group has no closing ]"),
            ("\n!include x\n", "f, line 2: !include x is not supported; put the options in this file"),
        ] {
            let error = parse(text, Path::new("f")).map(drop).unwrap_err();
            assert_eq!(error, expected);
        }
    }
}
