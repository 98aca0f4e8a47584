//! A running client: a process that reads commands and answers each with a line.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// A client that takes longer hangs.
const PATIENCE: Duration = Duration::from_mins(1);

/// A client's answer to a command: `ok` and names of servers, or `error` and what it shows.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) took: Duration,
}

/// Killed when it is dropped.
pub(crate) struct Script {
    process: Child,
    commands: Option<ChildStdin>,
    answers: Receiver<String>,
    stderr: PathBuf,
}

impl Script {
    pub(crate) fn start(command: &mut Command, stderr: &Path) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(stderr)?);
        let mut process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let (commands, output) = (process.stdin.take(), process.stdout.take().context("no output")?);
        let (sender, answers) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { process, commands, answers, stderr: stderr.into() })
    }

    /// Sends a command and waits for the answer.
    pub(crate) fn ask(&mut self, words: &[&str]) -> Result<Answer> {
        let start = Instant::now();
        let command = words.join("\t");
        self.send(&command)?;
        let text = self.answer().with_context(|| command)?;
        Ok(Answer { text, took: start.elapsed() })
    }

    /// Sends a command. Commands are answered in their order.
    pub(crate) fn send(&mut self, command: &str) -> Result<()> {
        let mut commands = self.commands.as_ref().context("the client was ended")?;
        writeln!(commands, "{command}").context("the client accepts no command")
    }

    /// Waits for the answer to the first command that has none.
    pub(crate) fn answer(&mut self) -> Result<String> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(text) => Ok(text),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("no answer within {PATIENCE:?}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the client exited without an answer"),
        }
    }

    /// Its error output.
    pub(crate) fn errors(&self) -> String {
        let errors = fs::read(&self.stderr).unwrap_or_default();
        String::from_utf8_lossy(&errors).trim().to_owned()
    }

    /// Closes its input; the client must then exit successfully.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.commands.take());
        match self.answers.recv_timeout(PATIENCE) {
            Ok(text) => bail!("the client said '{text}' without a command"),
            Err(mpsc::RecvTimeoutError::Timeout) => bail!("the client does not exit"),
            Err(mpsc::RecvTimeoutError::Disconnected) => {}
        }
        let status = self.process.wait()?;
        if !status.success() {
            bail!("the client exited with {status}\n{}", self.errors());
        }
        Ok(())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
