//! What is shown: text for people, or one JSON object a line for programs.
//!
//! A terminal that has gone must not stop a switchover: errors of writing are ignored.

use std::io::{IsTerminal as _, Write as _, stdin, stdout};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::live::Report;
use crate::plan::check::{Finding, Level};
use crate::plan::drive::Event;
use crate::plan::next::{Goal, Missing};
use crate::plan::step::Step;

/// Where everything is shown.
#[derive(Clone)]
pub(super) struct Console {
    json: bool,
    bar: ProgressBar,
    began: Instant,
    step_began: Instant,
    names: [String; 2],
    /// What was said since a step succeeded. What is tried again each second fails with the same words.
    said: Vec<String>,
}

impl Console {
    pub(super) fn new(json: bool) -> Self {
        let bar = if json { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
            bar.set_style(style);
        }
        let now = Instant::now();
        Self { json, bar, began: now, step_began: now, names: Default::default(), said: Vec::new() }
    }

    /// From now on, steps are shown with these names, and times count from now.
    pub(super) fn begin(&mut self, old: &str, new: &str) {
        self.names = [old.to_owned(), new.to_owned()];
        self.began = Instant::now();
    }

    /// No more progress.
    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }

    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    pub(super) fn line(&self, text: &str) {
        let write = || {
            let _ = writeln!(stdout(), "{text}");
        };
        // It would be drawn even if there has been no progress: below `status`, and in front of a question.
        if self.bar.message().is_empty() { write() } else { self.bar.suspend(write) }
    }

    /// A line for programs.
    pub(super) fn object(&self, value: &Value) {
        self.line(&value.to_string());
        let _ = stdout().flush();
    }

    /// A text in either form.
    pub(super) fn say(&self, kind: &str, text: &str) {
        if self.json {
            self.object(&json!({ kind: text }));
        } else {
            self.line(text);
        }
    }

    pub(super) fn error(&mut self, text: &str) {
        self.bar.finish_and_clear();
        if self.json {
            self.object(&json!({ "error": text }));
        } else {
            let _ = writeln!(std::io::stderr(), "instant-failover: {text}");
        }
    }

    pub(super) fn findings(&self, title: &str, findings: &[Finding]) {
        if self.json {
            for finding in findings {
                self.object(&json!({ "check": title, "finding": finding }));
            }
            return;
        }
        self.line(&format!("{title}:"));
        let width = findings.iter().map(|finding| finding.about.len()).max().unwrap_or_default();
        for Finding { about, level, seen, cure } in findings {
            let level = match level {
                Level::Ok => "ok     ",
                Level::Warning => "warning",
                Level::Failure => "FAILURE",
            };
            self.line(&format!("  {level}  {about:width$}  {seen}"));
            if !cure.is_empty() {
                self.line(&format!("           {:width$}  -> {cure}", ""));
            }
        }
    }

    /// Asks. Only a person at a terminal can answer.
    pub(super) fn ask(&self, question: &str) -> Result<bool, String> {
        let answer = self.ask_for(&format!("{question} [y/N] ")).map_err(|why| format!("{why}: use --yes"))?;
        Ok(matches!(answer.to_lowercase().as_str(), "y" | "yes"))
    }

    /// Asks for a text. Only a person at a terminal can answer.
    pub(super) fn ask_for(&self, question: &str) -> Result<String, String> {
        if self.json || !stdin().is_terminal() {
            return Err("there is no terminal to ask at".to_owned());
        }
        let mut answer = String::new();
        // Without the spinner before the question.
        let read = self.bar.suspend(|| {
            let _ = write!(stdout(), "{question}");
            let _ = stdout().flush();
            stdin().read_line(&mut answer)
        });
        read.map_err(|error| error.to_string())?;
        Ok(answer.trim().to_owned())
    }

    /// With the time, unless nothing has succeeded since it was said.
    fn once(&mut self, text: &str) {
        if !self.said.iter().any(|said| said == text) {
            self.line(&format!("{:8.3} s  {text}", self.began.elapsed().as_secs_f64()));
            self.said.push(text.to_owned());
        }
    }

    fn text(&self, step: Step) -> String {
        step.with_names(&self.names[0], &self.names[1])
    }
}

/// A server that cannot be looked at.
pub(super) fn unanswered(name: &str, why: &str) -> String {
    match why.strip_prefix("no answer: ") {
        Some(why) => format!("{name} does not answer: {why}"),
        None => format!("{name} cannot be examined: {why}"),
    }
}

impl Report for Console {
    fn event(&mut self, event: Event<'_>) {
        let at = self.began.elapsed();
        match event {
            Event::Begins(step) => {
                self.step_began = Instant::now();
                self.bar.set_message(self.text(step));
                if self.json {
                    self.object(&json!({ "at": at.as_secs_f64(), "begins": step.text() }));
                } else {
                    // Not before: it would wipe out the question.
                    self.bar.enable_steady_tick(Duration::from_millis(100));
                }
            }
            Event::Succeeded(step) => {
                let took = self.step_began.elapsed();
                self.said.clear();
                if self.json {
                    self.object(&json!({ "at": at.as_secs_f64(), "done": step.text(), "took": took.as_secs_f64() }));
                } else {
                    self.line(&format!("{:8.3} s  {} ({} ms)", at.as_secs_f64(), self.text(step), took.as_millis()));
                }
            }
            Event::Failed(step, why) => {
                if self.json {
                    self.object(&json!({ "at": at.as_secs_f64(), "failed": step.text(), "why": why }));
                } else {
                    self.once(&format!("{}: FAILED: {why}", self.text(step)));
                }
            }
            Event::Turns(Goal::Again, why) => self.note(&format!("letting clients in before another attempt: {why}")),
            Event::Turns(_, why) => self.note(&format!("going back: {why}")),
            Event::GoesOn(signal) => {
                self.note(&format!("{signal}: the new primary is promoted, so this goes on to the end"));
            }
            Event::Waits(Missing::Old, why) => self.note(&unanswered(&self.names[0], why)),
            Event::Waits(Missing::New, why) => self.note(&unanswered(&self.names[1], why)),
            Event::NotSaved(why) => self.note(&format!("the state cannot be written to the file: {why}")),
        }
    }

    fn progress(&mut self, text: &str) {
        if self.json {
            self.object(&json!({ "at": self.began.elapsed().as_secs_f64(), "progress": text }));
        } else {
            self.bar.set_message(text.to_owned());
        }
    }

    fn note(&mut self, text: &str) {
        if self.json {
            self.object(&json!({ "at": self.began.elapsed().as_secs_f64(), "note": text }));
        } else {
            self.once(text);
        }
    }
}
