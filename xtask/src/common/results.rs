//! Keeps the results of a run in a section of a document, between two comments.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::thread;

use anyhow::{Context, Result, bail};
use support::{output, project_root};

use super::git::git;

/// The document with all results.
pub(crate) const RESULTS: &str = "docs/results/README.md";

/// Replaces the text between `<!-- begin NAME -->` and `<!-- end NAME -->` in a document of the project, and notes what was measured:
/// the commit that was checked out when [`begin`] was called.
///
/// # Errors
/// If the document has no such section, or cannot be written.
pub(crate) fn keep(document: &str, name: &str, text: &str) -> Result<()> {
    let path = project_root().join(document);
    let old = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let text = format!("{}\n\n{MEASURED_AT}{} -->", text.trim(), *COMMIT);
    let new = replace(&old, name, &text).with_context(|| format!("{document} has no section \"{name}\""))?;
    write(&path, &new)?;
    println!("{document}: wrote section \"{name}\"");
    Ok(())
}

/// Before the commit in a section.
const MEASURED_AT: &str = "<!-- measured at ";

/// The commit that is checked out, with `-dirty` if anything but a document differs from it.
static COMMIT: LazyLock<String> = LazyLock::new(|| match output(&mut git(&["rev-parse", "--short=12", "HEAD"])) {
    Ok(commit) => {
        let is_clean = output(&mut git(&["diff", "--quiet", "HEAD", "--", ".", ":!docs"])).is_ok();
        format!("{}{}", commit.trim(), if is_clean { "" } else { "-dirty" })
    }
    Err(_) => "an unknown commit".to_owned(),
});

/// To be called before anything is built: a run takes long, and the next commit may be there before its end.
pub(crate) fn begin() {
    LazyLock::force(&COMMIT);
}

/// Which commit the section `name` of a document was measured at.
pub(crate) fn measured_at<'a>(document: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = document.split_once(&format!("<!-- begin {name} -->"))?;
    let (section, _) = rest.split_once(&format!("<!-- end {name} -->"))?;
    let (_, rest) = section.split_once(MEASURED_AT)?;
    rest.split_once(" -->").map(|(commit, _)| commit)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

fn replace(document: &str, name: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let (before, rest) = document.split_once(&begin).with_context(|| format!("no {}", begin.trim_end()))?;
    let Some((_, after)) = rest.split_once(&end) else { bail!("no {end}") };
    Ok(format!("{before}{begin}\n{}\n\n{end}{after}", text.trim()))
}

/// The machine and the date of a measurement, in one line.
pub(crate) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    let model = model.trim_start_matches([' ', '\t', ':']);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let date = output(Command::new("date").args(["--utc", "+%F"])).unwrap_or_default();
    format!("{cores} cores of {model}, Linux {}, {}", kernel.trim(), date.trim())
}

#[cfg(test)]
mod tests {
    use super::{measured_at, replace};

    #[test]
    fn a_section_alone_is_replaced() {
        let document = "# One\n<!-- begin a -->\nold\n<!-- end a -->\nrest <!-- begin b -->\n<!-- end b -->\n";
        let new = "# One\n<!-- begin a -->\n\nnew\n\n<!-- end a -->\nrest <!-- begin b -->\n<!-- end b -->\n";
        assert_eq!(replace(document, "a", "new\n").unwrap(), new);
        assert_eq!(replace(new, "a", "new").unwrap(), new);
        assert!(replace(document, "c", "new").is_err());
        assert!(replace("<!-- begin a -->\n", "a", "new").is_err());
    }

    #[test]
    fn what_a_section_measured() {
        let document =
            "<!-- begin a -->\n1\n<!-- end a -->\n<!-- begin b -->\n2\n<!-- measured at 0123abc -->\n<!-- end b -->";
        assert_eq!(measured_at(document, "b"), Some("0123abc"));
        assert_eq!(measured_at(document, "a"), None);
        assert_eq!(measured_at(document, "c"), None);
    }
}
