//! Languages and scenarios in a table, and the exceptions.

use std::fmt;

use anyhow::Result;

use super::language::Language;
use super::scenarios::{
    ADDED_TO_GREETING, LIST_WITH_DEAD, LIST_WITH_LOOP, LIST_WITH_REDIRECT_TO_DEAD, LISTS, THREE_ROUNDS,
};
use crate::Outcome;

/// What a language cannot do, and why. It must indeed fail, so that nothing stays here for longer than it is true.
struct Exception {
    /// As in the table: the folder, and the driver if there is more than one.
    languages: &'static [&'static str],
    /// Its name, or what the names of several begin with.
    scenario: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        languages: &["java"],
        scenario: THREE_ROUNDS,
        reason: "without TLS, Connector/J takes the server's key only if the program allows it (allowPublicKeyRetrieval)",
    },
    Exception {
        languages: &["node mariadb"],
        scenario: THREE_ROUNDS,
        reason: "without TLS, mariadb takes the server's key only if the program allows it (allowPublicKeyRetrieval)",
    },
    Exception {
        languages: &["go", "python", "python aiomysql", "python asyncmy", "rust", "rust mysql_async"],
        scenario: LISTS,
        reason: "the drivers take one host",
    },
    Exception {
        languages: &["php"],
        scenario: LIST_WITH_DEAD,
        reason: "mysqlnd takes the first host, and ignores the others",
    },
    Exception {
        languages: &["php"],
        scenario: LIST_WITH_REDIRECT_TO_DEAD,
        reason: "mysqlnd takes the first host, and ignores the others",
    },
    Exception {
        languages: &["node mariadb"],
        scenario: LIST_WITH_LOOP,
        reason: "an error, but its cluster does not say which",
    },
    Exception {
        languages: &["rust"],
        scenario: ADDED_TO_GREETING,
        reason: "mysql reads what came in one piece with the greeting as if it had come inside TLS",
    },
];

/// The results of all languages.
#[derive(Debug, Default)]
pub(super) struct Table {
    cells: Vec<Cell>,
}

#[derive(Debug)]
struct Cell {
    language: String,
    scenario: String,
    failures: Vec<String>,
}

impl Cell {
    fn exception(&self) -> Option<usize> {
        exception(&self.language, &self.scenario)
    }
}

/// Which of [`EXCEPTIONS`] it is.
fn exception(language: &str, scenario: &str) -> Option<usize> {
    EXCEPTIONS.iter().position(|it| it.languages.contains(&language) && scenario.starts_with(it.scenario))
}

impl Table {
    /// Notes a result, and prints it. A scenario passes if all its results do.
    pub(super) fn note(&mut self, language: &Language, scenario: &str, result: Result<()>) {
        match (&result, exception(&language.name, scenario)) {
            (Ok(()), _) => println!("passed   {scenario}"),
            (Err(_), Some(known)) => println!("excepted {scenario}: {}", EXCEPTIONS[known].reason),
            (Err(error), None) => println!("FAILED   {scenario}: {error:#}"),
        }
        let failures = result.err().map(|error| format!("{error:#}"));
        if let Some(cell) =
            self.cells.iter_mut().find(|cell| cell.language == language.name && cell.scenario == scenario)
        {
            cell.failures.extend(failures);
        } else {
            let (language, scenario) = (language.name.clone(), scenario.to_owned());
            self.cells.push(Cell { language, scenario, failures: failures.into_iter().collect() });
        }
    }

    /// An exception that does not fail is a failure, too.
    pub(super) fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::default();
        for cell in &self.cells {
            let name = format!("{}: {}", cell.language, cell.scenario);
            match (cell.exception(), cell.failures.is_empty()) {
                (None, true) => outcome.passed += 1,
                (None, false) => outcome.failed.push(format!("{name}: {}", cell.failures.join("; "))),
                (Some(_), true) => outcome.failed.push(format!("{name}: passed, but is listed as an exception")),
                (Some(_), false) => outcome.skipped += 1,
            }
        }
        outcome
    }

    /// The languages or the scenarios, each once, in order.
    fn each<'a>(&'a self, name: impl Fn(&'a Cell) -> &'a str) -> Vec<&'a str> {
        let mut names = Vec::new();
        for name in self.cells.iter().map(name) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }
}

/// In Markdown, with the exceptions below.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let languages = self.each(|cell| &cell.language);
        writeln!(f, "| | {} |", languages.join(" | "))?;
        write!(f, "|---|{}", ":-:|".repeat(languages.len()))?;
        let mut notes: Vec<usize> = Vec::new();
        for scenario in self.each(|cell| &cell.scenario) {
            write!(f, "\n| {scenario} |")?;
            for language in &languages {
                let cell = self.cells.iter().find(|cell| cell.language == *language && cell.scenario == scenario);
                match cell.map(|cell| (cell.failures.is_empty(), cell.exception())) {
                    None => write!(f, " – |")?,
                    Some((true, _)) => write!(f, " ✓ |")?,
                    Some((false, None)) => write!(f, " **fails** |")?,
                    Some((false, Some(exception))) => {
                        if !notes.contains(&exception) {
                            notes.push(exception);
                        }
                        let number = notes.iter().position(|&note| note == exception).unwrap_or_default() + 1;
                        write!(f, " no ({number}) |")?;
                    }
                }
            }
        }
        for (number, &note) in notes.iter().enumerate() {
            let Exception { languages, scenario, reason } = &EXCEPTIONS[note];
            let languages = languages.join(", ");
            write!(f, "{}{}. {languages}; {scenario}: {reason}", if number == 0 { "\n\n" } else { "\n" }, number + 1)?;
        }
        Ok(())
    }
}
