//! The servers, and what an adapter answers.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use support::harness::Harness;
use support::output;
use support::server::Server;
use support::wire::Session;
use tempfile::TempDir;

use super::language::Language;
use crate::clients::{Old, redirect};
use crate::common::script::Script;
use crate::common::tools;

pub(super) const USER: &str = "app";
pub(super) const PASSWORD: &str = "open sesame";
/// Has another password on the target.
pub(super) const MOVED: &str = "moved";
pub(super) const DATABASE: &str = "demo";

/// Long enough for a machine under load.
const PATIENCE: Duration = Duration::from_secs(30);

/// Servers with the same accounts. All listen on 127.0.0.1 and have certificates for `localhost`, but for the last.
pub(super) struct World {
    pub(super) home: TempDir,
    /// A mariadbd and the stand-in, which redirect, and sessions of root on them.
    old: [(Old, Session); 2],
    /// Where they redirect to.
    pub(super) target: Server,
    target_root: Session,
    /// Its certificate is for another name.
    pub(super) elsewhere: Server,
    /// A key for full authentication.
    pub(super) public_key: String,
}

/// The one of the servers that redirect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Mariadbd = 0,
    StandIn = 1,
}

impl World {
    pub(super) fn start(library: &Path, harness: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("instant-failover-conformance-").tempdir()?;
        let tls = tools::certificate(home.path(), "localhost")?;
        let both = "--bind-address=127.0.0.1,::1".to_owned();
        let target = mariadbd(library, &[&tls[..], &[both]].concat(), "another password")?;
        let elsewhere = mariadbd(library, &tools::certificate(home.path(), "elsewhere.example")?, PASSWORD)?;
        let mariadbd = Old::MariaDb(mariadbd(library, &tls, PASSWORD)?);
        let mut target_root = target.root()?;
        let hash = target_root.query(&format!("SELECT PASSWORD('{PASSWORD}')"))?.concat().concat();
        let accounts = home.path().join("accounts");
        fs::write(&accounts, format!("{USER} {hash}\n{MOVED} {hash}\n"))?;
        let accounts = format!("--accounts-file={}", accounts.display());
        let arguments: Vec<_> = [accounts.as_str()].into_iter().chain(tls.iter().map(String::as_str)).collect();
        let stand_in = Old::Harness(Harness::start(harness, &arguments)?);
        let roots = (mariadbd.root()?, stand_in.root()?);
        let key = home.path().join("rsa.key");
        output(Command::new("openssl").args(["genrsa", "-out"]).arg(&key).arg("2048"))?;
        let public_key = output(Command::new("openssl").args(["rsa", "-pubout", "-in"]).arg(&key))?;
        let old = [(mariadbd, roots.0), (stand_in, roots.1)];
        Ok(Self { home, old, target, target_root, elsewhere, public_key })
    }

    pub(super) fn stop(&mut self) -> Result<()> {
        self.old.iter_mut().try_for_each(|(server, _)| server.stop())?;
        self.target.stop()?;
        self.elsewhere.stop()
    }

    pub(super) fn address(&self, by: By) -> SocketAddr {
        self.old[by as usize].0.address()
    }

    /// The target's address, by the name that its certificate has.
    pub(super) fn target_name(&self) -> String {
        format!("localhost:{}", self.target.address().port())
    }

    /// Makes a server redirect.
    pub(super) fn redirect(&mut self, by: By, target: &str) -> Result<()> {
        redirect(&mut self.old[by as usize].1, Some(target))
    }

    /// Makes the target redirect back.
    pub(super) fn redirect_back(&mut self, target: &str) -> Result<()> {
        redirect(&mut self.target_root, Some(target))
    }

    /// No server redirects, holds or drains.
    pub(super) fn calm(&mut self) -> Result<()> {
        let sessions = self.old.iter_mut().map(|(_, root)| root).chain([&mut self.target_root]);
        sessions.into_iter().try_for_each(|root| redirect(root, None))
    }

    /// Runs a statement on the mariadbd that redirects.
    pub(super) fn sql(&mut self, sql: &str) -> Result<()> {
        self.old[By::Mariadbd as usize].1.query(sql).map(drop)
    }

    /// Waits until a counter of the mariadbd that redirects says so.
    pub(super) fn wait_until(&mut self, counter: &str, is_so: impl Fn(u64) -> bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let value = self.old[By::Mariadbd as usize].1.status(counter)?.parse()?;
            if is_so(value) {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{counter} stays {value}");
            sleep(Duration::from_millis(10));
        }
    }
}

/// Starts a server with the plugin and the accounts.
fn mariadbd(library: &Path, arguments: &[String], other_password: &str) -> Result<Server> {
    let server = Server::start(library, &arguments.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut root = server.root()?;
    for sql in [
        "INSTALL SONAME 'instant_failover'",
        &format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'"),
        &format!("CREATE USER {MOVED} IDENTIFIED BY '{other_password}'"),
        &format!("CREATE DATABASE {DATABASE}"),
        &format!("GRANT ALL ON {DATABASE}.* TO {USER}"),
    ] {
        root.query(sql)?;
    }
    Ok(server)
}

/// How an adapter connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// A single connection.
    Single,
    /// By a pool.
    Pool,
}

impl Way {
    pub(super) const ALL: [Self; 2] = [Self::Single, Self::Pool];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Single => "connection",
            Self::Pool => "pool",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    Off,
    Require,
    Verify,
}

/// What an adapter is told.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) host: String,
    pub(super) port: u16,
    /// A list of hosts, of which the first is `host`; empty if that is the only one.
    pub(super) hosts: Vec<SocketAddr>,
    pub(super) user: &'static str,
    pub(super) database: Option<&'static str>,
    pub(super) tls: Tls,
    pub(super) follow: Option<&'static str>,
    /// In seconds. A pool may try until then, so where an error is expected, this is short.
    pub(super) timeout: u32,
}

impl Options {
    /// By address: the name `localhost` is a socket to some drivers. Certificates have both.
    pub(super) fn to(address: SocketAddr) -> Self {
        let host = address.ip().to_string();
        let port = address.port();
        Self { host, port, hosts: Vec::new(), user: USER, database: None, tls: Tls::Off, follow: None, timeout: 20 }
    }

    /// The first of these that works.
    pub(super) fn to_list(addresses: [SocketAddr; 2]) -> Self {
        Self { hosts: addresses.to_vec(), ..Self::to(addresses[0]) }
    }

    pub(super) fn with_tls(address: SocketAddr, tls: Tls) -> Self {
        Self { tls, ..Self::to(address) }
    }
}

/// What an adapter answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Ok(Option<String>),
    Error { code: u64, message: String },
}

impl Reply {
    fn parse(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line).with_context(|| format!("the answer is no JSON: {line}"))?;
        if let Some(error) = value.get("error") {
            let code = error["code"].as_u64().with_context(|| format!("no code in {line}"))?;
            let message = error["message"].as_str().with_context(|| format!("no message in {line}"))?;
            return Ok(Self::Error { code, message: message.to_owned() });
        }
        match value.get("ok") {
            Some(Value::Null) => Ok(Self::Ok(None)),
            Some(Value::String(text)) => Ok(Self::Ok(Some(text.clone()))),
            _ => bail!("neither \"ok\" nor \"error\": {line}"),
        }
    }

    /// It must be this value.
    pub(super) fn is(&self, expected: &str) -> Result<()> {
        match self {
            Self::Ok(Some(found)) if found == expected => Ok(()),
            other => bail!("{other:?} instead of {expected}"),
        }
    }

    /// It must be an error with this code and these words. A pool may keep the text alone.
    pub(super) fn is_error(&self, way: Way, wanted: u64, words: &[&str]) -> Result<()> {
        let Self::Error { code, message } = self else { bail!("{self:?} instead of error {wanted}") };
        ensure!(*code == wanted || *code == 0 && way == Way::Pool, "error {code} instead of {wanted}: {message}");
        let missing: Vec<_> = words.iter().filter(|&&word| !message.contains(word)).collect();
        ensure!(missing.is_empty(), "the error says nothing of {missing:?}: {message}");
        Ok(())
    }

    /// That of an error; empty if it is none.
    pub(super) fn message(&self) -> &str {
        if let Self::Error { message, .. } = self { message } else { "" }
    }

    pub(super) fn is_any_error(&self) -> Result<()> {
        ensure!(matches!(self, Self::Error { .. }), "{self:?} instead of an error");
        Ok(())
    }
}

/// The server that a session is on.
pub(super) const WHERE: &str = "SELECT @@port";

/// A running adapter.
pub(super) struct Adapter {
    script: Script,
    /// Of connections and pools so far.
    number: usize,
}

impl Adapter {
    /// With this value of `INSTANT_FAILOVER_FOLLOW`.
    pub(super) fn start(language: &Language, world: &World, follow: Option<&str>) -> Result<Self> {
        let mut command = language.adapter(&["land"])?;
        command.envs(follow.map(|value| ("INSTANT_FAILOVER_FOLLOW", value)));
        let script = Script::start(&mut command, &world.home.path().join("stderr"))?;
        Ok(Self { script, number: 0 })
    }

    pub(super) fn end(self) -> Result<()> {
        self.script.end()
    }

    pub(super) fn errors(&self) -> String {
        self.script.errors()
    }

    /// Connects, or makes a pool and uses a connection of it; answers where that landed.
    pub(super) fn land(&mut self, world: &World, way: Way, options: &Options) -> Result<Reply> {
        self.ask(world, way, options, WHERE)
    }

    /// The same with another question.
    pub(super) fn ask(&mut self, world: &World, way: Way, options: &Options, sql: &str) -> Result<Reply> {
        let id = self.open(world, way, options)?;
        let opened = self.answer()?;
        if let Reply::Error { .. } = opened {
            return Ok(opened);
        }
        let reply = self.query(way, &id, sql)?;
        self.close(way, &id)?;
        Ok(reply)
    }

    /// Sends the request for a connection or a pool; its answer is still to come.
    pub(super) fn open(&mut self, world: &World, way: Way, options: &Options) -> Result<String> {
        self.number += 1;
        let id = format!("{}{}", way.name(), self.number);
        let tls = match options.tls {
            Tls::Off => "off",
            Tls::Require => "require",
            Tls::Verify => "verify",
        };
        let authority = world.home.path().join(tools::AUTHORITY).display().to_string();
        let mut request = json!({
            "op": if way == Way::Single { "connect" } else { "pool" },
            "id": id,
            "host": options.host,
            "port": options.port,
            "hosts": (!options.hosts.is_empty()).then_some(&options.hosts),
            "user": options.user,
            "password": PASSWORD,
            "database": options.database,
            "tls": tls,
            "ca": (options.tls == Tls::Verify).then_some(authority),
            "follow": options.follow,
            "timeout": options.timeout,
        });
        if way == Way::Pool {
            request["size"] = json!(4);
        }
        self.script.send(&request.to_string())?;
        Ok(id)
    }

    /// Sends a query; its answer is still to come.
    pub(super) fn send_query(&mut self, way: Way, id: &str, sql: &str) -> Result<()> {
        let op = if way == Way::Single { "query" } else { "pool_query" };
        self.script.send(&json!({ "op": op, "id": id, "sql": sql }).to_string())
    }

    pub(super) fn query(&mut self, way: Way, id: &str, sql: &str) -> Result<Reply> {
        self.send_query(way, id, sql)?;
        self.answer()
    }

    /// Closes a connection. A pool ends with its adapter.
    pub(super) fn close(&mut self, way: Way, id: &str) -> Result<()> {
        if way == Way::Single {
            self.script.send(&json!({ "op": "close", "id": id }).to_string())?;
            self.answer()?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self) -> Result<Reply> {
        Reply::parse(&self.script.answer()?)
    }
}
