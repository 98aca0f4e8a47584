//! `cargo xtask release`: what must be true of the project before a version of it is given away, and the packages to give away.

use std::fs;

use anyhow::{Context, Result};
use support::build::Arch;
use support::{output, project_root};

use crate::common::git::git;
use crate::common::results::{self, RESULTS};
use crate::{Outcome, deb, rpm};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only check, and build nothing
    #[arg(long)]
    dry_run: bool,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Files that name the version, and the text that each must have, with `{version}` for it. What names the workspace's own
/// version (`version.workspace`) needs no line.
const NAMED: &[(&str, &str)] = &[
    ("README.md", "mariadb-plugin-instant-failover_{version}-1_amd64.deb"),
    ("README.md", "/instant-failover_{version}-1_amd64.deb"),
    ("docs/install.md", "mariadb-plugin-instant-failover_{version}-1_amd64.deb"),
    ("docs/install.md", "instant-failover-harness_{version}-1_amd64.deb"),
    ("docs/install.md", "`instant-failover_{version}-1_amd64.deb"),
    ("docs/install.md", "mariadb-plugin-instant-failover-{version}-1.x86_64.rpm"),
    ("docs/reference.md", "`version {version} started,"),
    ("fuzz/Cargo.toml", "version = \"{version}\""),
    ("tests/clients/rust/Cargo.toml", "version = \"{version}\""),
    ("clients/go/README.md", "instantfailover@v{version} "),
    ("clients/java/README.md", "<version>{version}</version>"),
    ("clients/java/pom.xml", "<version>{version}</version>"),
    ("clients/java/src/main/java/org/mariadb/instantfailover/Driver.java", "VERSION = \"{version}\""),
    ("clients/node/README.md", "instant-failover-{version}.tgz"),
    ("clients/node/package.json", "\"version\": \"{version}\""),
    ("clients/node/package-lock.json", "\"version\": \"{version}\""),
    ("clients/php/composer.json", "\"version\": \"{version}\""),
    ("clients/php/php_instant_failover.h", "#define PHP_INSTANT_FAILOVER_VERSION \"{version}\""),
    ("clients/php/tests/001_module.phpt", "Version => {version}"),
    ("clients/python/pyproject.toml", "version = \"{version}\""),
    ("clients/rust/Cargo.toml", "path = \"../../failover\", version = \"{version}\""),
];

/// What runs in a server, as git's pathspecs.
const PLUGIN: &[&str] = &[
    "build.rs",
    "c-shim",
    "failover/src",
    "src",
    ":!c-shim/client_plugin.c",
    ":!c-shim/client_shim.h",
    ":!src/client.rs",
    ":!src/client",
];
/// What runs in a program on Connector/C.
const CLIENT_PLUGIN: &[&str] =
    &["build.rs", "c-shim", "failover/src", "src", ":!c-shim/server_plugin.c", ":!src/server.rs", ":!src/server"];
const STAND_IN: &[&str] = &["failover/src", "harness/src", "option-file"];
const COMMAND: &[&str] = &["option-file", "switchover/src"];
const CLIENTS: &[&str] = &["clients", ":!*.md", ":!*/tests/*", ":!*/test/*"];

/// The sections of the documents that a command has written, the command, and the code that it measures.
const MEASURED: &[(&str, &str, &str, &[&[&str]])] = &[
    (RESULTS, "soak", "soak --minutes 30 --keep", &[PLUGIN]),
    (RESULTS, "drain", "drain --seconds 600 --keep", &[PLUGIN]),
    (RESULTS, "switchover", "switchover --keep", &[PLUGIN, COMMAND]),
    (RESULTS, "connections", "bench instructions --keep", &[CLIENT_PLUGIN]),
    (RESULTS, "conformance", "conformance --switch --keep", &[PLUGIN, COMMAND, CLIENTS]),
    (RESULTS, "instructions", "bench instructions --keep", &[PLUGIN]),
    (RESULTS, "statements", "bench instructions --keep", &[PLUGIN]),
    (RESULTS, "logins", "bench logins --keep", &[PLUGIN]),
    (RESULTS, "switch", "bench switch --keep", &[PLUGIN]),
    (RESULTS, "proxy", "bench proxy --keep", &[PLUGIN]),
    (RESULTS, "memory", "bench memory --keep", &[PLUGIN]),
    (RESULTS, "storm", "bench storm --keep", &[PLUGIN]),
    (RESULTS, "sessions", "bench sessions --keep", &[PLUGIN]),
    (RESULTS, "harness", "bench harness --keep", &[STAND_IN]),
    (RESULTS, "server-tests", "server-tests --keep", &[PLUGIN]),
    ("docs/install.md", "versions", "versions --keep", &[PLUGIN]),
    ("docs/clients.md", "conformance", "conformance --keep", &[PLUGIN, CLIENTS]),
];

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    let mut outcome = Outcome::default();
    for (file, text) in NAMED {
        outcome += names_version(file, text)?;
    }
    outcome += of_other_versions()?;
    outcome += changelogs()?;
    outcome += committed()?;
    for (document, section, command, code) in MEASURED {
        outcome += measured(document, section, command, code)?;
    }
    outcome.conclude("this is not to be released; see above")?;
    if arguments.dry_run {
        return Ok(());
    }
    for arch in [Arch::Amd64, Arch::Arm64] {
        deb::command(&deb::Arguments::build(arch))?;
        rpm::command(&rpm::Arguments::build(arch))?;
    }
    println!(
        "\nWhen `.ci/run` has passed on this commit: git tag --annotate v{VERSION} --message 'instant failover {VERSION}'"
    );
    Ok(())
}

fn names_version(file: &str, text: &str) -> Result<Outcome> {
    let text = text.replace("{version}", VERSION);
    Ok(Outcome::of(read(file)?.contains(&text), format!("{file} does not have {:?}", text.trim())))
}

/// How the names of package files end.
const PACKAGES: &[&str] = &["-1_amd64.deb", "-1_arm64.deb", "-1.x86_64.rpm", "-1.aarch64.rpm"];

/// The documents name no package of another version.
fn of_other_versions() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for file in documents()? {
        let text = read(&file)?;
        let others = PACKAGES.iter().flat_map(|end| text.match_indices(end)).filter_map(|(at, end)| {
            let name = text[..at].rsplit([' ', '/', '`']).next().unwrap_or_default();
            (!name.ends_with(VERSION) && name.ends_with(|last: char| last.is_ascii_digit()))
                .then(|| format!("{name}{end}"))
        });
        let others: Vec<_> = others.collect();
        outcome += Outcome::of(others.is_empty(), format!("{file} names {}, not {VERSION}", others.join(", ")));
    }
    Ok(outcome)
}

fn documents() -> Result<Vec<String>> {
    let listed = output(&mut git(&["ls-files", "README.md", "docs/*.md"]))?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// Both changelogs begin with this version, so that everything that has changed is in its section.
fn changelogs() -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for (file, mark, expected) in [
        ("CHANGELOG.md", "\n## ", format!("{VERSION} - ")),
        ("packaging/changelog", "instant-failover (", format!("{VERSION}-1) ")),
    ] {
        let text = read(file)?;
        let first = text.split_once(mark).map_or("", |(_, first)| first.lines().next().unwrap_or_default());
        outcome += Outcome::of(
            first.starts_with(&expected),
            format!("{file} begins with '{first}'; what has changed belongs into a section '{}'", expected.trim()),
        );
    }
    Ok(outcome)
}

fn committed() -> Result<Outcome> {
    let changed = output(&mut git(&["status", "--porcelain"]))?;
    Ok(Outcome::of(changed.is_empty(), format!("not committed:\n{changed}")))
}

/// The code is still what was measured.
fn measured(document: &str, section: &str, command: &str, code: &[&[&str]]) -> Result<Outcome> {
    let text = read(document)?;
    let again = format!("run `cargo xtask {command}`");
    let Some(commit) = results::measured_at(&text, section) else {
        return Ok(Outcome::of(false, format!("{document}, {section}: of which commit is not said; {again}")));
    };
    let diff = git(&["diff", "--stat", commit, "--"]).args(code.concat()).output()?;
    let changed = String::from_utf8_lossy(&diff.stdout);
    let is_same = diff.status.success() && changed.is_empty();
    let last = changed.lines().last().unwrap_or("no such commit").trim();
    Ok(Outcome::of(is_same, format!("{document}, {section}: measured at {commit}; since then: {last}; {again}")))
}

fn read(file: &str) -> Result<String> {
    fs::read_to_string(project_root().join(file)).with_context(|| format!("cannot read {file}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_has_this_version() {
        for (file, text) in NAMED {
            let outcome = names_version(file, text).unwrap();
            assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        }
    }

    #[test]
    fn changelogs_and_packages_are_of_this_version() {
        for outcome in [changelogs().unwrap(), of_other_versions().unwrap()] {
            assert!(outcome.failed.is_empty(), "{:?}", outcome.failed);
        }
    }

    #[test]
    fn every_section_that_a_command_writes_is_known() {
        for document in [RESULTS, "docs/install.md", "docs/clients.md"] {
            let text = read(document).unwrap();
            for section in text.split("<!-- begin ").skip(1).filter_map(|rest| rest.split(" -->").next()) {
                assert!(
                    MEASURED.iter().any(|known| (known.0, known.1) == (document, section)),
                    "{document}: {section}"
                );
            }
        }
    }
}
