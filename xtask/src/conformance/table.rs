//! Languages and scenarios in a table, and the exceptions.

use std::fmt;

use anyhow::Result;

use super::language::Language;
use super::scenarios::THREE_ROUNDS;
use crate::Outcome;

/// What a language cannot do, and why. It must indeed fail, so that nothing stays here for longer than it is true.
struct Exception {
    /// As in the table: the folder, and the driver if there is more than one.
    language: &'static str,
    scenario: &'static str,
    reason: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        language: "java",
        scenario: THREE_ROUNDS,
        reason: "without TLS, Connector/J takes the server's key only if the program allows it (allowPublicKeyRetrieval)",
    },
    Exception {
        language: "python",
        scenario: THREE_ROUNDS,
        reason: "PyMySQL needs the package cryptography for it, which neither requires",
    },
];

/// The results of all languages.
#[derive(Debug, Default)]
pub(super) struct Table {
    languages: Vec<String>,
    rows: Vec<(String, Vec<Cell>)>,
}

#[derive(Clone, Debug)]
struct Cell {
    language: String,
    failures: Vec<String>,
}

impl Cell {
    fn exception(&self, scenario: &str) -> Option<usize> {
        EXCEPTIONS.iter().position(|exception| exception.language == self.language && exception.scenario == scenario)
    }
}

impl Table {
    /// Notes a result, and prints it. A scenario passes if all its results do.
    pub(super) fn note(&mut self, language: &Language, scenario: &str, result: Result<()>) {
        if !self.languages.contains(&language.name) {
            self.languages.push(language.name.clone());
        }
        let row = match self.rows.iter().position(|(name, _)| name == scenario) {
            Some(row) => row,
            None => {
                self.rows.push((scenario.to_owned(), Vec::new()));
                self.rows.len() - 1
            }
        };
        let cells = &mut self.rows[row].1;
        let cell = match cells.iter().position(|cell| cell.language == language.name) {
            Some(cell) => cell,
            None => {
                cells.push(Cell { language: language.name.clone(), failures: Vec::new() });
                cells.len() - 1
            }
        };
        match result {
            Ok(()) => println!("passed   {scenario}"),
            Err(error) => {
                println!("FAILED   {scenario}: {error:#}");
                cells[cell].failures.push(format!("{error:#}"));
            }
        }
    }

    /// An exception that does not fail is a failure, too.
    pub(super) fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::default();
        for (scenario, cells) in &self.rows {
            for cell in cells {
                let name = format!("{}: {scenario}", cell.language);
                match (cell.exception(scenario), cell.failures.is_empty()) {
                    (None, true) => outcome.passed += 1,
                    (None, false) => outcome.failed.push(format!("{name}: {}", cell.failures.join("; "))),
                    (Some(_), true) => outcome.failed.push(format!("{name}: passed, but is listed as an exception")),
                    (Some(_), false) => outcome.skipped += 1,
                }
            }
        }
        outcome
    }
}

/// In Markdown, with the exceptions below.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | {} |", self.languages.join(" | "))?;
        write!(f, "|---|{}", ":-:|".repeat(self.languages.len()))?;
        let mut notes: Vec<usize> = Vec::new();
        for (scenario, cells) in &self.rows {
            write!(f, "\n| {scenario} |")?;
            for language in &self.languages {
                let Some(cell) = cells.iter().find(|cell| cell.language == *language) else {
                    write!(f, " – |")?;
                    continue;
                };
                match (cell.failures.is_empty(), cell.exception(scenario)) {
                    (true, _) => write!(f, " ✓ |")?,
                    (false, None) => write!(f, " **fails** |")?,
                    (false, Some(exception)) => {
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
            let Exception { language, scenario, reason } = &EXCEPTIONS[note];
            write!(f, "{}{}. {language}, {scenario}: {reason}", if number == 0 { "\n\n" } else { "\n" }, number + 1)?;
        }
        Ok(())
    }
}
