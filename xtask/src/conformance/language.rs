//! The languages, and their adapters.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use support::{output, packages, project_root};

use crate::common::tools::forget_settings;

/// A package, or one of its drivers.
#[derive(Clone, Debug)]
pub(super) struct Language {
    /// The folder in `clients/`, and the driver if there is more than one: `rust`, `rust mysql_async`.
    pub(super) name: String,
    directory: PathBuf,
    build: Vec<String>,
    run: Vec<String>,
}

/// `command.json` describes an adapter; that of another driver is called `command-DRIVER.json`.
const FILE: &str = "command";

/// The languages that have an adapter, or those that are named.
pub(super) fn choose(clients: Option<&Path>, names: &[String]) -> Result<Vec<Language>> {
    let clients = clients.map_or_else(|| project_root().join("clients"), Path::to_path_buf);
    let unreadable = || format!("cannot read {}", clients.display());
    let mut folders = Vec::new();
    for entry in fs::read_dir(&clients).with_context(unreadable)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    folders.sort();
    for name in names {
        ensure!(folders.contains(name), "there is no clients/{name}; there are {}", folders.join(", "));
    }
    let mut chosen = Vec::new();
    for folder in folders.iter().filter(|folder| names.is_empty() || names.contains(folder)) {
        let found = Language::all_in(&clients, folder)?;
        if found.is_empty() {
            let missing = format!("clients/{folder} has no conformance/{FILE}.json");
            ensure!(names.is_empty(), "{missing}");
            println!("note: {missing}: not tested");
        }
        chosen.extend(found);
    }
    ensure!(!chosen.is_empty(), "no language in {} has an adapter", clients.display());
    Ok(chosen)
}

impl Language {
    fn all_in(clients: &Path, folder: &str) -> Result<Vec<Self>> {
        let directory = clients.canonicalize()?.join(folder);
        let Ok(entries) = fs::read_dir(directory.join("conformance")) else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(driver) = name.strip_suffix(".json").and_then(|name| name.strip_prefix(FILE)) else { continue };
            let name = format!("{folder}{}", driver.replacen('-', " ", 1));
            let text = fs::read_to_string(&path)?;
            let value: Value = serde_json::from_str(&text).with_context(|| format!("{} is no JSON", path.display()))?;
            let words = |key: &str| -> Result<Vec<String>> {
                let words = value[key].as_array().filter(|words| !words.is_empty());
                let words = words.with_context(|| format!("no \"{key}\" in {}", path.display()))?;
                words.iter().map(|word| Ok(word.as_str().context("not a string")?.to_owned())).collect()
            };
            found.push(Self { name, build: words("build")?, run: words("run")?, directory: directory.clone() });
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// The folder in `clients/`.
    pub(super) fn folder(&self) -> &str {
        self.name.split(' ').next().unwrap_or_default()
    }

    /// The Debian packages that its build needs.
    pub(super) fn packages(&self) -> Vec<&'static str> {
        packages::of_language(self.folder())
    }

    pub(super) fn build(&self) -> Result<()> {
        println!("building {} ...", self.name);
        output(&mut self.command(&self.build)?).map(drop)
    }

    /// The adapter with a subcommand.
    pub(super) fn adapter(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = self.command(&self.run)?;
        command.args(arguments);
        Ok(command)
    }

    fn command(&self, words: &[String]) -> Result<Command> {
        let Some((program, arguments)) = words.split_first() else { bail!("an empty command") };
        let mut command =
            if program.contains('/') { Command::new(self.directory.join(program)) } else { Command::new(program) };
        command.args(arguments).current_dir(&self.directory);
        forget_settings(&mut command);
        // What `cargo run` tells this program is not meant for a cargo that it runs.
        for (name, _) in std::env::vars_os() {
            if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
                command.env_remove(&name);
            }
        }
        Ok(command)
    }
}
