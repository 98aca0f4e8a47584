//! What git knows of the project.

use std::process::Command;

use support::project_root;

/// git, in the project's checkout, whoever owns that.
pub(crate) fn git(arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(["-c", "safe.directory=*", "-C"]).arg(project_root()).args(arguments);
    git
}
