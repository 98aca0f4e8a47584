//! The command `instant-failover`, as the DBA runs it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::pair::{PASSWORD, Pair, name};

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(super) status: Option<i32>,
    /// Everything that it printed.
    pub(super) text: String,
    /// When it began to count, in seconds since 1970.
    began: f64,
    /// Each line, if it is JSON.
    lines: Vec<Value>,
}

impl Ended {
    /// It must have ended like this, and printed this.
    pub(crate) fn expect(&self, status: i32, text: &str) -> Result<()> {
        ensure!(self.status == Some(status), "exit status {:?} instead of {status}:\n{}", self.status, self.text);
        ensure!(self.text.contains(text), "no {text:?} in:\n{}", self.text);
        Ok(())
    }

    /// When a step ended, by a part of its text; the last time, if there was more than one attempt.
    pub(super) fn done(&self, step: &str) -> Option<f64> {
        self.last("done", step)
    }

    /// When a step began.
    pub(super) fn began(&self, step: &str) -> Option<f64> {
        self.last("begins", step)
    }

    fn last(&self, what: &str, step: &str) -> Option<f64> {
        let is_it = |line: &&Value| line[what].as_str().is_some_and(|text| text.contains(step));
        Some(self.began + self.lines.iter().rfind(is_it)?["at"].as_f64()?)
    }
}

/// A machine of the DBA: what the command reads and writes is in its home directory.
pub(crate) struct Machine {
    program: PathBuf,
    home: PathBuf,
}

impl Machine {
    /// Both servers are in its file: db1 over TCP, db2 by its socket.
    ///
    /// The home directory also has a `.my.cnf` with another server, which must not matter.
    pub(crate) fn new(program: &Path, pair: &Pair, home: &str) -> Result<Self> {
        let home = pair.home.path().join(home);
        fs::create_dir_all(home.join(".config/instant-failover"))?;
        fs::write(home.join(".my.cnf"), "[client]\nhost = 127.0.0.1\nport = 1\nuser = nobody\npassword = wrong\n")?;
        let machine = Self { program: program.to_owned(), home };
        machine.write_servers(pair, |text| text)?;
        Ok(machine)
    }

    /// Writes the file with the servers.
    pub(super) fn write_servers(&self, pair: &Pair, change: impl Fn(String) -> String) -> Result<()> {
        let text = (0..2).map(|server| {
            let address = pair.address(server);
            let way = match server {
                0 => format!("host = {}\nport = {}\nskip-ssl", address.ip(), address.port()),
                _ => format!("socket = {}", pair.servers[server].socket().display()),
            };
            format!(
                "[{}]\n{way}\nuser = dba\npassword = {PASSWORD}\ntarget = {address}\n\
                 replication-user = repl\nreplication-password = {PASSWORD}\n",
                name(server)
            )
        });
        let file = self.home.join(".config/instant-failover/servers.cnf");
        fs::write(&file, change(text.collect()))?;
        fs::set_permissions(&file, Permissions::from_mode(0o600)).context("servers.cnf")
    }

    fn start(&self, arguments: &[&str]) -> Result<Child> {
        println!("{:16}$ instant-failover {}", "", arguments.join(" "));
        Command::new(&self.program)
            .args(arguments)
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", &self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // As in a terminal, for ^C.
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))
    }

    /// Runs the command.
    pub(crate) fn run(&self, pair: &mut Pair, arguments: &[&str]) -> Result<Ended> {
        self.watch(pair, arguments, |_, _, _| Ok(()))
    }

    /// Runs the command, and calls a function with the text of each step that it begins; with `--json`.
    pub(super) fn watch(
        &self,
        pair: &mut Pair,
        arguments: &[&str],
        mut begins: impl FnMut(&mut Pair, &Child, &str) -> Result<()>,
    ) -> Result<Ended> {
        let mut child = self.start(arguments)?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let (mut text, mut lines, mut began) = (String::new(), Vec::new(), f64::INFINITY);
        for line in output.lines() {
            let (line, now) = (line?, pair.now());
            let value: Value = serde_json::from_str(&line).unwrap_or_default();
            if value["finding"]["level"] != "ok" && value.get("progress").is_none() {
                println!("{:16}{line}", "");
            }
            if let Some(step) = value["begins"].as_str() {
                begins(pair, &child, step)?;
            }
            text += &line;
            text.push('\n');
            // Its own times are right; a line may arrive late.
            began = value["at"].as_f64().map_or(began, |at| began.min(now - at));
            lines.push(value);
        }
        let mut errors = String::new();
        child.stderr.take().context("no errors")?.read_to_string(&mut errors)?;
        if !errors.is_empty() {
            println!("{:16}{}", "", errors.trim());
        }
        Ok(Ended { status: child.wait()?.code(), text: text + &errors, began, lines })
    }
}
