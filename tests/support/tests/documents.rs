//! What the documents name exists: files, folders, and the headings that links lead to.
#![allow(clippy::unwrap_used, reason = "a test; its helpers have no attribute that says so")]

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use support::project_root;

/// Every document of the project.
fn documents() -> Vec<PathBuf> {
    let folders = ["", "clients", "docs", "docs/results", "switchover"].map(|folder| project_root().join(folder));
    let packages = fs::read_dir(project_root().join("clients")).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.into_iter().chain(packages.filter(|path| path.is_dir()));
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap());
    files.map(|file| file.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "md")).collect()
}

/// The targets of the links and pictures in a document.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

/// The headings of a document, as a link to one is written.
fn headings(text: &str) -> HashSet<String> {
    let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
    headings
        .map(|heading| {
            let heading = heading.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let mut broken = Vec::new();
    for document in documents() {
        let text = fs::read_to_string(&document).unwrap();
        for link in links(&text).filter(|link| !link.contains("://") && !link.is_empty()) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let file = if file.is_empty() { document.clone() } else { document.parent().unwrap().join(file) };
            let is_there = file.exists()
                && (heading.is_empty() || headings(&fs::read_to_string(&file).unwrap()).contains(heading));
            if !is_there {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Words in backquotes that begin with a folder of the project, or end as its sources do, name a file or a folder in it.
#[test]
fn paths_exist() {
    let root = project_root();
    let is_ours = |path: &str| {
        let ends_as_ours = [".rs", ".toml", ".md"].iter().any(|end| path.ends_with(end));
        path.split_once('/').is_some_and(|(first, _)| root.join(first).is_dir() || ends_as_ours && !first.is_empty())
    };
    let mut missing = Vec::new();
    for name in ["README.md", "CONTRIBUTING.md", "docs/internals.md"] {
        let text = fs::read_to_string(root.join(name)).unwrap();
        // In a map, each line begins with what it is about.
        let map = text.lines().filter_map(|line| line.strip_prefix("    ")?.split_whitespace().next());
        let quoted = text.split('`').skip(1).step_by(2);
        for path in map.chain(quoted).filter(|path| is_ours(path) && !path.contains([' ', '*', '{', '<'])) {
            if path.split_once('/').is_some_and(|(first, _)| first != "target") && !root.join(path).exists() {
                missing.push(format!("{name}: {path}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn the_test_sees_what_is_broken() {
    assert_eq!(links("[a](b.md#c) ![d](e.svg)").collect::<Vec<_>>(), ["b.md#c", "e.svg"]);
    assert_eq!(headings("# A `b` c\ntext\n### D, e"), ["a-b-c", "d-e"].map(str::to_owned).into());
    assert!(!Path::new(&project_root()).join("src/no_such_file.rs").exists());
}
