//! The options file.

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
/// If the file cannot be read, contains something that is not supported, or has no such group.
pub(super) fn read(file: &Path, when: When) -> Result<Vec<Line>, String> {
    let text = files::read_text(file, when).map_err(|error| format!("--defaults-file {}: {error}", file.display()))?;
    let lines = option_file::parse(&text, file)?;
    // A copy of my.cnf: without any of its options this program would listen everywhere and redirect nobody.
    if !option_file::groups(&text).iter().any(|group| group == GROUP) {
        return Err(format!("{} has no group [{GROUP}]; put the options for this program into one", file.display()));
    }
    let ours = lines.into_iter().filter(|line| line.group == GROUP);
    Ok(ours.map(|line| Line { argument: argument(&line), place: line.place }).collect())
}

fn argument(line: &option_file::Line) -> String {
    match &line.value {
        Some(value) => format!("--{}={value}", line.name),
        None => format!("--{}", line.name),
    }
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
    fn only_our_group_counts() {
        let text = "\
[mysqld]
port=1
[instant-failover-harness]
  port = 3307  # the usual
skip_networking # not now
instant-failover-target=
[mysqld]
port=2
";
        assert_eq!(arguments(text).unwrap(), ["--port=3307", "--skip-networking", "--instant-failover-target="]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (text, expected) in [
            ("[instant-failover-harness\n", "line 1: [instant-failover-harness has no closing ]"),
            ("\n!include x\n", "line 2: !include x is not supported"),
            ("[mariadb]\nport=3307\n", " has no group [instant-failover-harness]"),
            ("", " has no group [instant-failover-harness]"),
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
