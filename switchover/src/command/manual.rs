//! The manual page is complete.

use std::fmt::Write as _;
use std::path::Path;

use clap::{Arg, Command};

use super::command_line;
use crate::servers::Servers;

const PAGE: &str = include_str!("../../../packaging/instant-failover.1");
const FILE: &str = "packaging/instant-failover.1";

/// The part of the page between two comments.
fn part(name: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(&format!(".\\\" begin {name}\n")).unwrap();
    rest.split_once(&format!(".\\\" end {name}\n")).unwrap().0
}

fn help(text: &clap::builder::StyledStr) -> String {
    // A line that begins with a dot or a quote would be a macro.
    text.to_string().trim_end_matches('.').replace('\n', " ")
}

/// An option, its text, and which commands have it.
fn options(command: &Command) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let own = |arg: &&Arg| arg.get_long().is_some() && !matches!(arg.get_id().as_str(), "help" | "version");
    for command in command.get_subcommands() {
        for option in command.get_arguments().filter(own) {
            let mut text = format!(".It Fl -{}", option.get_long().unwrap());
            if option.get_action().takes_values() {
                let _ = write!(text, " Ar {}", option.get_value_names().unwrap()[0]);
            }
            let _ = write!(text, "\n{}.", help(option.get_help().unwrap()));
            if let (true, [default]) = (option.get_action().takes_values(), option.get_default_values()) {
                let _ = write!(text, "\nDefault: {}.", default.display());
            }
            let name = command.get_name().to_owned();
            match found.iter_mut().find(|(other, _)| *other == text) {
                Some((_, commands)) => commands.push(name),
                None => found.push((text, vec![name])),
            }
        }
    }
    found
}

#[test]
fn has_all_options() {
    let mut expected = String::new();
    for (text, commands) in options(&command_line()) {
        let _ = writeln!(expected, "{text}\n.Pq {}", commands.join(", "));
    }
    assert!(part("options") == expected, "in {FILE}, write:\n{expected}");
}

#[test]
fn has_all_commands() {
    let commands = part("commands");
    let mut line = command_line();
    line.build();
    for command in line.get_subcommands().filter(|command| command.get_name() != "help") {
        let mut heading = format!(".It Cm {}", command.get_name());
        for argument in command.get_positionals() {
            for name in argument.get_value_names().unwrap() {
                let is_optional = !argument.is_required_set();
                let _ = write!(heading, " {}Ar {name}", if is_optional { "Op " } else { "" });
            }
        }
        let about = help(command.get_about().unwrap());
        assert!(commands.contains(&format!("{heading}\n{about}.\n")), "{FILE} lacks:\n{heading}\n{about}.");
    }
}

#[test]
fn has_all_of_the_file_with_servers() {
    let error = Servers::parse("[a]\nx=y\n", Path::new("f")).unwrap_err();
    let names = error.split_once("there are ").unwrap().1;
    let described = part("servers");
    for name in names.split(", ") {
        assert!(described.contains(&format!(".It Cm {name}\n")), "{FILE} lacks .It Cm {name}");
    }
}

/// The examples: that of the page, and the file of the package.
#[test]
fn examples_are_right() {
    let page = part("example");
    let example: Vec<&str> = page.lines().filter(|line| !line.starts_with('.')).collect();
    for text in [&example.join("\n"), include_str!("../../../packaging/servers.cnf")] {
        let servers = Servers::parse(text, Path::new("example")).unwrap();
        let names: Vec<_> = servers.all().iter().map(|entry| entry.name.as_str()).collect();
        assert_eq!(names, ["db1", "db2"]);
    }
}

/// What the checks of a command advise.
#[test]
fn advice_names_options_of_the_command() {
    let checks = [
        ("failover", include_str!("../plan/failover/check.rs")),
        ("switchover", include_str!("../plan/check/accounts.rs")),
        ("switchover", include_str!("../plan/check/replication.rs")),
    ];
    for (name, source) in checks {
        let command_line = command_line();
        let command = command_line.find_subcommand(name).unwrap();
        let has = |option: &str| command.get_arguments().any(|argument| argument.get_long() == Some(option));
        let mut options = source.split([' ', '"', ',', ':', ';']).filter_map(|word| word.strip_prefix("--")).peekable();
        assert!(options.peek().is_some(), "{name} advises no option");
        for option in options {
            assert!(has(option), "{name} has no option --{option}");
        }
    }
}
