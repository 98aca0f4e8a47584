//! `cargo xtask clients`: real clients, tested with real servers.
//!
//! Each client is a small script in `tests/clients` that reads commands and answers with what happened. The expectations
//! are here: which server it reaches, which error it shows, and how often it connects. They are the same for a mariadbd
//! with the plugin and for the stand-in, without TLS and with it. Programs on Connector/C are tested twice: with
//! `instant_failover://` before the host, and without it, with the plugin in their environment.

mod checks;
mod prompt;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use failover::ER_INSTANT_FAILOVER;
use support::build::{self, Flavour};
use support::fake::{Fake, Pieces, When};
use support::harness::Harness;
use support::server::Server;
use support::system::System;
use support::{packages, wire};
use tempfile::TempDir;

use crate::Outcome;
use crate::common::script::{Answer, Script};
use crate::common::tools::{self, Tool, Tools};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Names of clients [default: all]
    clients: Vec<String>,
}

/// A client and its expected behaviour.
#[derive(Debug)]
struct Client {
    name: &'static str,
    tool: Tool,
    /// The script below `tests/clients`, and its arguments.
    script: &'static [&'static str],
    kind: Kind,
    /// The plugin is in its environment, and the host has no prefix.
    by_default: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A program on Connector/C, which follows. It names the server this many times.
    Follows(usize),
    /// The same, for a program that needs what the stand-in lacks: tables or prepared statements.
    FollowsForData(usize),
    /// A program on Connector/C that verifies certificates, to which an attacker on the network sends a redirect together with the
    /// greeting. It does not follow.
    Attacked,
    /// A program on Connector/C that administers: it follows no redirect because of its environment.
    Administers,
    /// A client that shows the error.
    Stays,
    /// The same, and its pool. A pool may retry until it times out: at most this many times.
    StaysWithPool(u64),
    /// A program on Connector/C with a list of servers, which follows.
    FollowsList,
    /// A client with a list of servers, which tries the next server when it is redirected.
    GoesOn,
    /// The same, but it tries the next server only if one is down.
    GoesOnIfDown,
    /// Health checks and monitoring.
    Checks,
    /// `mariadb` at a terminal.
    Prompt,
}

const CLIENTS: &[Client] = &[
    client("mariadb", Tool::Programs, &["programs.sh", "mariadb"], Kind::Follows(3)),
    client("mariadb-prompt", Tool::Prompt, &["prompt.py"], Kind::Prompt),
    client("mariadb-dump", Tool::Programs, &["programs.sh", "mariadb-dump"], Kind::FollowsForData(1)),
    client("mariadb-admin", Tool::Programs, &["programs.sh", "mariadb-admin"], Kind::Follows(1)),
    client("mariadb-import", Tool::Programs, &["programs.sh", "mariadb-import"], Kind::FollowsForData(1)),
    client("mysqlclient", Tool::Python, &["mysqlclient.py"], Kind::Follows(3)),
    client("mariadb-python", Tool::Python, &["mariadb_client.py"], Kind::Follows(3)),
    client("odbc", Tool::Odbc, &["odbc.py"], Kind::FollowsForData(3)),
    client("dbd-mariadb", Tool::Perl, &["dbd_mariadb.pl"], Kind::Follows(3)),
    by_default("mariadb-by-default", Tool::Programs, &["programs.sh", "mariadb"], Kind::Follows(3)),
    by_default("mariadb-dump-by-default", Tool::Programs, &["programs.sh", "mariadb-dump"], Kind::FollowsForData(1)),
    by_default("mariadb-admin-by-default", Tool::Programs, &["programs.sh", "mariadb-admin"], Kind::Administers),
    by_default(
        "mariadb-import-by-default",
        Tool::Programs,
        &["programs.sh", "mariadb-import"],
        Kind::FollowsForData(1),
    ),
    by_default("mysqlclient-by-default", Tool::Python, &["mysqlclient.py"], Kind::Follows(3)),
    by_default("mariadb-python-by-default", Tool::Python, &["mariadb_client.py"], Kind::Follows(3)),
    by_default("odbc-by-default", Tool::Odbc, &["odbc.py"], Kind::FollowsForData(3)),
    by_default("dbd-mariadb-by-default", Tool::Perl, &["dbd_mariadb.pl"], Kind::Follows(3)),
    client("mariadb-attacked", Tool::Programs, &["programs.sh", "mariadb"], Kind::Attacked),
    client("mysqlclient-attacked", Tool::Python, &["mysqlclient.py"], Kind::Attacked),
    client("odbc-attacked", Tool::Odbc, &["odbc.py"], Kind::Attacked),
    by_default("mariadb-attacked-by-default", Tool::Programs, &["programs.sh", "mariadb"], Kind::Attacked),
    by_default("mysqlclient-attacked-by-default", Tool::Python, &["mysqlclient.py"], Kind::Attacked),
    client("pymysql", Tool::Python, &["pymysql_client.py"], Kind::Stays),
    client("mysql-connector-python", Tool::Python, &["mysql_connector.py", "c"], Kind::StaysWithPool(1)),
    client("mysql-connector-python-pure", Tool::Python, &["mysql_connector.py", "pure"], Kind::StaysWithPool(1)),
    client("node-mysql2", Tool::Node, &["node/mysql2.js"], Kind::StaysWithPool(1)),
    // It retries every half second until it times out: after 3 seconds in the script, 10 by default.
    client("node-mariadb", Tool::Node, &["node/mariadb.js"], Kind::StaysWithPool(10)),
    client("rust-mysql", Tool::Rust, &["mysql"], Kind::StaysWithPool(1)),
    client("rust-sqlx", Tool::Rust, &["sqlx"], Kind::StaysWithPool(1)),
    client("mariadb-list", Tool::Programs, &["programs.sh", "mariadb"], Kind::FollowsList),
    client("mariadb-plain-list", Tool::Programs, &["programs.sh", "mariadb"], Kind::GoesOnIfDown),
    client("mysql-connector-python-list", Tool::Python, &["mysql_connector.py", "c"], Kind::GoesOn),
    client("mysql-connector-python-pure-list", Tool::Python, &["mysql_connector.py", "pure"], Kind::GoesOn),
    client("node-mysql2-list", Tool::Node, &["node/mysql2.js"], Kind::GoesOn),
    client("node-mariadb-list", Tool::Node, &["node/mariadb.js"], Kind::GoesOn),
    client("php-mysqli", Tool::Php, &["mysqli.php"], Kind::Stays),
    client("checks", Tool::Checks, &["checks.py"], Kind::Checks),
];

const fn client(name: &'static str, tool: Tool, script: &'static [&'static str], kind: Kind) -> Client {
    Client { name, tool, script, kind, by_default: false }
}

const fn by_default(name: &'static str, tool: Tool, script: &'static [&'static str], kind: Kind) -> Client {
    Client { by_default: true, ..client(name, tool, script, kind) }
}

/// A single connection attempt takes no longer, even on a machine under load.
const SOON: Duration = Duration::from_secs(10);
/// How long a pool is watched after it has given up.
const WATCHED: Duration = Duration::from_secs(2);

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    run(arguments)?.conclude("a client did not behave as expected")
}

/// Installs the clients and tests each.
pub(crate) fn run(arguments: &Arguments) -> Result<Outcome> {
    let chosen = choose(&arguments.clients)?;
    let mut tools = Tools::default();
    let needed: BTreeSet<_> = chosen.iter().flat_map(|client| client.tool.packages()).collect();
    let needed: Vec<_> = needed.into_iter().collect();
    packages::install(&[packages::BUILD, packages::SERVER, tools::ALWAYS, &needed])?;
    let (library, harness) = (Flavour::Release.build()?, build::harness()?);

    let mut outcome = Outcome::default();
    for mut world in [World::start(&library, None)?, World::start(&library, Some(&harness))?] {
        println!("redirected by {}:", world.db1.name());
        for client in &chosen {
            // Checks apply to mariadbd only: the stand-in has no users without passwords.
            if client.kind == Kind::Checks && !world.db1.has_data() {
                continue;
            }
            let result = tools.prepare(client.tool).and_then(|()| world.try_out(client));
            match result {
                Ok(notes) => {
                    outcome.passed += 1;
                    println!("passed   {:<28} {}", client.name, notes.said.join("; "));
                    for skipped in notes.skipped {
                        outcome.skipped += 1;
                        println!("skipped  {:<28} {skipped}", client.name);
                    }
                }
                Err(error) => {
                    println!("FAILED   {:<28} {error:#}", client.name);
                    outcome.failed.push(format!("{}, redirected by {}: {error:#}", client.name, world.db1.name()));
                }
            }
        }
        world.db1.stop()?;
    }
    Ok(outcome)
}

fn choose(names: &[String]) -> Result<Vec<&'static Client>> {
    if names.is_empty() {
        return Ok(CLIENTS.iter().collect());
    }
    names
        .iter()
        .map(|name| {
            let known = || CLIENTS.iter().map(|client| client.name).collect::<Vec<_>>().join(", ");
            CLIENTS
                .iter()
                .find(|client| client.name == name)
                .with_context(|| format!("unknown client '{name}'; known clients: {}", known()))
        })
        .collect()
}

/// What is worth reporting about a client that passed.
#[derive(Debug, Default)]
struct Notes {
    said: Vec<String>,
    skipped: Vec<String>,
}

/// The server that redirects on demand.
pub(crate) enum Old {
    MariaDb(Server),
    Harness(Harness),
}

impl Old {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::MariaDb(_) => "mariadbd with the plugin",
            Self::Harness(_) => "the stand-in",
        }
    }

    /// Whether it has data and supports prepared statements.
    fn has_data(&self) -> bool {
        matches!(self, Self::MariaDb(_))
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::MariaDb(server) => server.address(),
            Self::Harness(harness) => harness.address(),
        }
    }

    fn extra_address(&self) -> SocketAddr {
        match self {
            Self::MariaDb(server) => server.extra_address(),
            Self::Harness(harness) => harness.extra_address(),
        }
    }

    pub(crate) fn root(&self) -> Result<wire::Session> {
        match self {
            Self::MariaDb(server) => server.root(),
            Self::Harness(harness) => harness.root(),
        }
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        match self {
            Self::MariaDb(server) => server.stop(),
            Self::Harness(harness) => harness.stop(),
        }
    }
}

/// Two servers with the same account, and with certificates. db1 redirects to db2 on demand.
///
/// Each is identified by an exempt user that does not exist. A mariadbd also has that name in a table.
struct World {
    db1: Old,
    db2: Server,
    /// A session of root on db1, through the socket.
    one: wire::Session,
    /// Home of the clients, with Connector/C's plugins and certificates.
    home: TempDir,
}

const USER: &str = "app";
const PASSWORD: &str = "open sesame";
const DATABASE: &str = "demo";

/// Part of the error for what the stand-in does not support.
const WHAT_HARNESS_IS: &str = "This is instant-failover-harness, which redirects clients and has no data";

impl World {
    /// db1 is the stand-in if its program is given.
    fn start(library: &Path, harness: Option<&Path>) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("instant-failover-clients-").tempdir()?;
        System::this().install_client_plugins(&home.path().join("plugin"), library)?;
        let db2 = start_mariadbd(library, "db2", &tools::certificate(home.path(), "localhost")?)?;
        let tls = tools::certificate(home.path(), "localhost")?;
        let db1 = match harness {
            None => Old::MariaDb(start_mariadbd(library, "db1", &tls)?),
            Some(program) => {
                let hash = db2.root()?.query(&format!("SELECT PASSWORD('{PASSWORD}')"))?.concat().concat();
                let accounts = home.path().join("accounts");
                fs::write(&accounts, format!("{USER} {hash}\n"))?;
                let accounts = format!("--accounts-file={}", accounts.display());
                let mut arguments = vec![accounts.as_str(), "--instant-failover-exempt-users=db1"];
                arguments.extend(tls.iter().map(String::as_str));
                Old::Harness(Harness::start(program, &arguments)?)
            }
        };
        let one = db1.root()?;
        Ok(Self { db1, db2, one, home })
    }

    /// Tests a client without TLS and with it.
    fn try_out(&mut self, client: &Client) -> Result<Notes> {
        let mut notes = Notes::default();
        // There is nothing to attack without TLS: all of it can be changed on the way.
        if client.kind == Kind::Attacked {
            for pieces in Pieces::ALL {
                self.attacked(client, pieces, &mut notes).with_context(|| format!("{pieces:?}"))?;
            }
            return Ok(notes);
        }
        self.try_once(client, false, &mut notes)?;
        // For checks it makes no difference.
        if client.kind != Kind::Checks {
            self.try_once(client, true, &mut notes).context("with TLS")?;
        }
        Ok(notes)
    }

    fn try_once(&mut self, client: &Client, is_secure: bool, notes: &mut Notes) -> Result<()> {
        self.redirect(None)?;
        self.wait_for_the_last_client()?;
        let mut script = Script::start(&mut self.command(client, is_secure)?, &self.home.path().join("stderr"))?;
        let before = self.handshakes()?;
        match client.kind {
            Kind::Follows(statements) => self.follows(&mut script, statements, true, notes),
            Kind::FollowsForData(statements) => self.follows(&mut script, statements, self.db1.has_data(), notes),
            // See try_out().
            Kind::Attacked => Ok(()),
            Kind::Administers => self.administers(&mut script, notes),
            Kind::StaysWithPool(most) if !is_secure => {
                self.stays(&mut script, notes).and_then(|()| self.pool(&mut script, most, notes))
            }
            // With TLS, a pool's connections behave like any other connection.
            Kind::Stays | Kind::StaysWithPool(_) => self.stays(&mut script, notes),
            Kind::FollowsList | Kind::GoesOn => self.list(&mut script, true, notes),
            Kind::GoesOnIfDown => self.list(&mut script, false, notes),
            Kind::Checks => checks::check(self, &mut script, notes),
            Kind::Prompt => prompt::check(self, &mut script, notes),
        }
        .with_context(|| script.errors())?;
        script.end()?;
        let handshakes = self.handshakes()? - before;
        // A skipped client did nothing.
        let tells = client.kind != Kind::Checks && notes.skipped.is_empty();
        ensure!(!tells || is_secure == (handshakes > 0), "{handshakes} TLS handshakes");
        if let (true, Some(said)) = (is_secure, notes.said.last_mut()) {
            said.push_str(" with TLS");
        }
        Ok(())
    }

    fn command(&self, client: &Client, is_secure: bool) -> Result<Command> {
        let mut command = client.tool.command(client.script)?;
        let scheme = match client.kind {
            Kind::Follows(_) | Kind::FollowsForData(_) | Kind::FollowsList | Kind::Attacked if !client.by_default => {
                "instant_failover://"
            }
            _ => "",
        };
        if client.by_default {
            command.env("LIBMYSQL_PLUGINS", "instant_failover");
            // MariaDB's programs need it, too. It changes nothing for others, and for those that administer.
            if client.tool == Tool::Programs {
                command.env("INSTANT_FAILOVER_FOLLOW", "auto");
            }
        }
        command
            .current_dir(self.home.path())
            .env("HOME", self.home.path())
            .env("MARIADB_PLUGIN_DIR", self.home.path().join("plugin"))
            .env("DB_HOST", format!("{scheme}127.0.0.1"))
            .env("DB_PORT", self.db1.address().port().to_string())
            .env("DB_USER", USER)
            .env("DB_PASSWORD", PASSWORD)
            .env("DB_NAME", DATABASE);
        if let Old::MariaDb(server) = &self.db1 {
            command.env("DB_SOCKET", server.socket());
        }
        let direct = self.db2.extra_address().port();
        if self.db1.has_data() {
            command
                .env("DB_DIRECT", format!("{} {direct}", self.db1.extra_address().port()))
                .env("DB_QUERY", "SELECT name FROM this_server")
                .env("DB_CONDITION", "WHERE 1 = ?");
        } else {
            command
                .env("DB_DIRECT", direct.to_string())
                .env("DB_QUERY", "SELECT @@instant_failover_exempt_users AS name");
        }
        if is_secure {
            command.env("DB_AUTHORITY", self.home.path().join(tools::AUTHORITY));
        }
        Ok(command)
    }

    /// Makes db1 redirect to the target, or not at all.
    fn redirect(&mut self, target: Option<&str>) -> Result<()> {
        redirect(&mut self.one, target)
    }

    /// Sets the mode of db1, which redirects to db2 in all but OFF.
    fn set_mode(&mut self, mode: &str) -> Result<()> {
        let target = self.db2.address();
        self.one
            .query(&format!("SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = {mode}"))
            .map(drop)
    }

    /// The redirects that db1 has sent.
    fn redirects(&mut self) -> Result<u64> {
        Ok(self.one.status("Instant_failover_redirects")?.parse()?)
    }

    /// The one before may have left connections that db1 has yet to greet.
    fn wait_for_the_last_client(&mut self) -> Result<()> {
        for _ in 0..100 {
            if self.one.status("Threads_connected")? == "1" {
                return Ok(());
            }
            sleep(Duration::from_millis(50));
        }
        bail!("the client before is still connected: {}", self.one.status("Threads_connected")?)
    }

    /// The TLS handshakes that db1 has done.
    fn handshakes(&mut self) -> Result<u64> {
        Ok(self.one.status("Ssl_accepts")?.parse()?)
    }

    /// Sends a command, and returns the answer and the number of redirects.
    fn ask(&mut self, script: &mut Script, words: &[&str]) -> Result<(Answer, u64)> {
        let before = self.redirects()?;
        let answer = script.ask(words)?;
        Ok((answer, self.redirects()? - before))
    }

    fn follows(&mut self, script: &mut Script, statements: usize, is_served: bool, notes: &mut Notes) -> Result<()> {
        let db2 = self.db2.address().to_string();
        for (target, name, expected) in [(None, "db1", 0), (Some(db2.as_str()), "db2", 1), (None, "db1", 0)] {
            self.redirect(target)?;
            let (answer, redirects) = self.ask(script, &["connect"])?;
            if expected == 0 && !is_served {
                let is_told = answer.text.starts_with("error ") && answer.text.contains(WHAT_HARNESS_IS);
                ensure!(is_told, "not redirected: got '{}'", answer.text);
            } else {
                let wanted = format!("ok{}", format!(" {name}").repeat(statements));
                ensure!(answer.text == wanted, "redirected to {target:?}: '{wanted}' expected, got '{}'", answer.text);
            }
            ensure!(redirects == expected, "redirected to {target:?}: {redirects} redirects");
            ensure!(answer.took < SOON, "it took {:?}", answer.took);
            if expected > 0 {
                notes.said.push(format!("followed in {:.0?}", answer.took));
            }
        }
        Ok(())
    }

    /// An attacker between the client and db1 wants it to go to db2, whose certificate it accepts. It may lose its connection.
    fn attacked(&mut self, client: &Client, pieces: Pieces, notes: &mut Notes) -> Result<()> {
        self.redirect(None)?;
        let redirect = format!("|text|{}", self.db2.address());
        let attacker = Fake::start(ER_INSTANT_FAILOVER, &redirect, When::BehindGreetingOf(self.db1.address(), pieces))?;
        let mut command = self.command(client, true)?;
        command.env("DB_PORT", attacker.address().port().to_string());
        let mut script = Script::start(&mut command, &self.home.path().join("stderr"))?;
        let answer = script.ask(&["connect"])?;
        let is_refused = answer.text.starts_with("error ") && answer.text.contains("2026");
        ensure!(is_refused, "error 2026 expected, got '{}'", answer.text);
        ensure!(attacker.connections() > 0, "it did not connect to the attacker");
        script.end()?;
        notes.said.push(format!("{pieces:?}: refused").to_lowercase());
        Ok(())
    }

    /// Its servers are the ones that it is given, or none.
    fn administers(&mut self, script: &mut Script, notes: &mut Notes) -> Result<()> {
        let db2 = self.db2.address().to_string();
        for target in [None, Some(db2.as_str()), None] {
            self.redirect(target)?;
            let (answer, redirects) = self.ask(script, &["connect"])?;
            let wanted = if target.is_none() { "ok db1" } else { "works only on the server that it is given" };
            ensure!(answer.text.contains(wanted), "redirected to {target:?}: got '{}'", answer.text);
            ensure!(redirects == u64::from(target.is_some()), "redirected to {target:?}: {redirects} redirects");
        }
        notes.said.push("told".to_owned());
        Ok(())
    }

    /// Whether the user sees the error number and the sentence that names the target.
    fn is_told(&self, text: &str) -> bool {
        let target = self.db2.address();
        // The second form is how node-mariadb embeds it in the error of its pool.
        (text.starts_with("error 4196 ") || text.contains("[(conn:") && text.contains(", no: 4196, "))
            && text.contains(&format!("Server is directing clients to the alternative server '{target}'."))
    }

    fn stays(&mut self, script: &mut Script, notes: &mut Notes) -> Result<()> {
        let db2 = self.db2.address().to_string();
        for target in [None, Some(db2.as_str()), None] {
            self.redirect(target)?;
            let (answer, redirects) = self.ask(script, &["connect"])?;
            ensure!(answer.took < SOON, "it took {:?}", answer.took);
            if target.is_none() {
                ensure!(answer.text == "ok db1 db1 db1", "not redirected: got '{}'", answer.text);
                ensure!(redirects == 0, "not redirected, but {redirects} redirects");
            } else {
                ensure!(self.is_told(&answer.text), "redirected: got '{}'", answer.text);
                ensure!(redirects == 1, "one attempt made {redirects} redirects");
                notes.said.push(format!("told in {:.0?}", answer.took));
            }
        }
        Ok(())
    }

    /// The list has db1 or an address where nothing listens, followed by db2.
    fn list(&mut self, script: &mut Script, goes_on: bool, notes: &mut Notes) -> Result<()> {
        let (up, down) = (self.db1.address().to_string(), "127.0.0.1:1".to_owned());
        let next = self.db2.address().to_string();
        for (mode, first, name) in
            [("OFF", &up, "db1"), ("ON", &up, "db2"), ("ALL", &up, "db2"), ("OFF", &down, "db2"), ("OFF", &up, "db1")]
        {
            self.set_mode(mode)?;
            let (answer, redirects) = self.ask(script, &["list", first, &next])?;
            let case = format!("{first} and {next}, mode {mode}");
            if mode == "OFF" || goes_on {
                let wanted = format!("ok {name} {name} {name}");
                ensure!(answer.text == wanted, "{case}: '{wanted}' expected, got '{}'", answer.text);
            } else {
                let is_told = answer.text.starts_with("error ") && answer.text.contains("|Server is directing clients");
                ensure!(is_told, "{case}: got '{}'", answer.text);
            }
            // The pool of Node's mariadb retries until it times out.
            ensure!(
                if mode == "OFF" { redirects == 0 } else { (1..=5).contains(&redirects) },
                "{case}: {redirects} redirects"
            );
            ensure!(answer.took < SOON, "{case}: it took {:?}", answer.took);
            if mode == "ON" {
                let does = if goes_on { "moved on" } else { "told" };
                notes.said.push(format!("{does} in {:.0?}", answer.took));
            }
        }
        Ok(())
    }

    /// The pool is created while db1 redirects; it must report that, connect at most `most` times, and recover.
    fn pool(&mut self, script: &mut Script, most: u64, notes: &mut Notes) -> Result<()> {
        let db2 = self.db2.address().to_string();
        self.redirect(Some(&db2))?;
        let (answer, redirects) = self.ask(script, &["pool"])?;
        ensure!(self.is_told(&answer.text), "redirected, the pool says '{}'", answer.text);
        ensure!(redirects > 0, "the pool was never redirected");
        // Does it keep connecting while it is idle?
        let before = self.redirects()?;
        sleep(WATCHED);
        let idle = self.redirects()? - before;
        notes.said.push(format!("pool: {redirects} redirects in {:.1?}, {idle} in the next {WATCHED:?}", answer.took));
        ensure!(redirects <= most, "the pool was redirected {redirects} times in {:?}", answer.took);
        // One attempt may have been in progress when the pool gave up.
        ensure!(idle <= 1, "the pool was redirected {idle} times after it gave up");
        self.redirect(None)?;
        let (answer, _) = self.ask(script, &["pool"])?;
        ensure!(answer.text == "ok db1 db1 db1", "no longer redirected, the pool says '{}'", answer.text);
        ensure!(answer.took < SOON, "it took the pool {:?} to recover", answer.took);
        Ok(())
    }
}

/// Starts a server with the plugin, an account and tables.
fn start_mariadbd(library: &Path, name: &str, tls: &[String]) -> Result<Server> {
    let server = Server::start(library, &tls.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut root = server.root()?;
    for sql in [
        "INSTALL SONAME 'instant_failover'",
        &format!("SET GLOBAL instant_failover_exempt_users = '{name}'"),
        &format!("CREATE USER {USER} IDENTIFIED BY '{PASSWORD}'"),
        &format!("CREATE DATABASE {DATABASE}"),
        &format!("CREATE TABLE {DATABASE}.this_server (name TEXT) AS SELECT '{name}' AS name"),
        &format!("CREATE TABLE {DATABASE}.arrivals (what TEXT)"),
        &format!("GRANT ALL ON {DATABASE}.* TO {USER}"),
    ] {
        root.query(sql)?;
    }
    Ok(server)
}

/// Makes a server redirect to the target, or not at all.
pub(crate) fn redirect(root: &mut wire::Session, target: Option<&str>) -> Result<()> {
    let sql = match target {
        Some(target) => format!("SET GLOBAL instant_failover_target = '{target}', instant_failover_mode = ON"),
        None => "SET GLOBAL instant_failover_mode = OFF".to_owned(),
    };
    root.query(&sql).map(drop)
}
