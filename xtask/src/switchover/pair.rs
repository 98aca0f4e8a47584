//! Two servers, one a replica of the other, and the DBA's sessions on them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use support::output;
use support::server::{self, REPLICATION, Server};
use support::system::System;
use support::wire::{Client, LoggedIn, Reply, Session};
use tempfile::TempDir;

use super::SECTION;
use super::application::Order;
use crate::common::tools::Tool;
use crate::recipes::{Document, run_statement};

pub(crate) const PASSWORD: &str = "open sesame";
const DATABASE: &str = "shop";
/// Events that write each second, with root as their definer.
const EVENTS: std::ops::Range<u32> = 1..6;

/// `db1` and `db2`.
pub(crate) struct Pair {
    pub(super) servers: [Server; 2],
    /// The runbook's db1 and db2: the primary, and the replica that will take over.
    roles: [usize; 2],
    /// Sessions of root, through the sockets.
    sessions: [Session; 2],
    /// Connector/C's plugins, and the command's files.
    pub(crate) home: TempDir,
    started: Instant,
    started_at: f64,
}

/// The name of a server.
pub(crate) fn name(server: usize) -> &'static str {
    ["db1", "db2"][server]
}

/// Its `server_id`.
pub(super) fn number(server: usize) -> u64 {
    server as u64 + 1
}

impl Pair {
    /// db1 is the primary, db2 its replica and read only. Both have the plugin.
    pub(crate) fn start(library: &Path) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("instant-failover-switchover-").tempdir()?;
        System::this().install_client_plugins(&home.path().join("plugin"), library)?;
        let start = |server| {
            let id = format!("--server-id={}", number(server));
            Server::start(library, &[REPLICATION, &["--log-warnings=1", &id]].concat())
        };
        let servers = [start(0)?, start(1)?];
        let sessions = [servers[0].root()?, servers[1].root()?];
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let mut pair = Self { servers, roles: [0, 1], sessions, home, started: Instant::now(), started_at: since };
        for server in 0..2 {
            pair.query(server, "INSTALL SONAME 'instant_failover'")?;
            // Discard what each has written so far: the other does not have it.
            pair.query(server, "RESET MASTER")?;
        }
        pair.sql(1, "SET GLOBAL read_only = 1")?;
        pair.sql(0, &format!("CREATE USER repl IDENTIFIED BY '{PASSWORD}'"))?;
        pair.sql(0, "GRANT REPLICATION SLAVE ON *.* TO repl")?;
        pair.sql(0, &format!("CREATE USER dba IDENTIFIED BY '{PASSWORD}'"))?;
        pair.sql(0, "GRANT ALL ON *.* TO dba")?;
        for account in ["app", "`\"o'brien\" app`", "jo@127.0.0.1"] {
            pair.sql(0, &format!("CREATE USER {account} IDENTIFIED BY '{PASSWORD}'"))?;
        }
        pair.sql(0, &format!("CREATE DATABASE {DATABASE}"))?;
        pair.sql(0, &format!("GRANT SELECT, INSERT, UPDATE ON {DATABASE}.* TO app"))?;
        pair.sql(
            0,
            &format!(
                "CREATE TABLE {DATABASE}.orders (client INT, number INT, server INT, PRIMARY KEY (client, number)) \
                 ENGINE=InnoDB"
            ),
        )?;
        pair.sql(0, &format!("CREATE TABLE {DATABASE}.totals (client INT PRIMARY KEY, orders INT) ENGINE=InnoDB"))?;
        // Writes by root on behalf of others.
        pair.sql(
            0,
            &format!(
                "CREATE PROCEDURE {DATABASE}.place_order(client INT, number INT) SQL SECURITY DEFINER \
                 INSERT INTO {DATABASE}.orders VALUES (client, number, @@server_id)"
            ),
        )?;
        pair.sql(0, &format!("GRANT EXECUTE ON {DATABASE}.* TO app"))?;
        pair.sql(
            0,
            &format!(
                "CREATE TABLE {DATABASE}.ticks (event INT, at DATETIME(6), server INT, PRIMARY KEY (event, at)) ENGINE=InnoDB"
            ),
        )?;
        for event in EVENTS {
            pair.sql(
                0,
                &format!(
                    "CREATE EVENT {DATABASE}.tick{event} ON SCHEDULE EVERY 1 SECOND DO \
                     INSERT INTO {DATABASE}.ticks VALUES ({event}, NOW(6), @@server_id)"
                ),
            )?;
        }
        pair.replicate(1, 0)?;
        pair.wait_for_replica(0, 1)?;
        Ok(pair)
    }

    /// The time in seconds since 1970, as in the journal.
    pub(super) fn now(&self) -> f64 {
        self.started_at + self.started.elapsed().as_secs_f64()
    }

    pub(crate) fn address(&self, server: usize) -> SocketAddr {
        self.servers[server].address()
    }

    /// Runs a statement as the DBA, and prints it.
    pub(crate) fn sql(&mut self, server: usize, sql: &str) -> Result<Vec<Vec<String>>> {
        println!("{:8.3} s  {}> {sql};", self.started.elapsed().as_secs_f64(), name(server));
        let rows = self.query(server, sql)?;
        for row in &rows {
            println!("{:16}{}", "", row.join("  "));
        }
        Ok(rows)
    }

    /// Runs a statement without printing it.
    pub(crate) fn query(&mut self, server: usize, sql: &str) -> Result<Vec<Vec<String>>> {
        self.sessions[server].query(sql).with_context(|| format!("{}> {sql}", name(server)))
    }

    /// The only value of a statement's only row.
    pub(super) fn value(&mut self, server: usize, sql: &str) -> Result<String> {
        self.sql(server, sql)?.into_iter().flatten().next().with_context(|| format!("no answer to {sql}"))
    }

    /// Restarts a stopped server with more options. Does not open a DBA session.
    pub(super) fn start_again(&mut self, server: usize, options: &[&str]) -> Result<()> {
        println!("{:16}{}: mariadbd {}", "", name(server), options.join(" "));
        let id = format!("--server-id={}", number(server));
        self.servers[server].start_again(&[REPLICATION, &["--log-warnings=1", &id], options].concat())
    }

    /// Reopens the DBA's session.
    pub(crate) fn log_in(&mut self, server: usize) -> Result<()> {
        self.sessions[server] = self.servers[server].root()?;
        Ok(())
    }

    /// The reply to a login over TCP, or through the socket.
    pub(crate) fn try_login(&self, server: usize, way: Option<SocketAddr>, user: &str) -> Result<Reply> {
        let client = match way {
            Some(address) => Client::connect(address)?,
            None => Client::connect_socket(&self.servers[server].socket())?,
        };
        let LoggedIn { reply, .. } =
            if user == "root" { client.log_in(user, b"")? } else { client.log_in_by_password(user, PASSWORD)? };
        Ok(reply)
    }

    /// A session of a user, over TCP.
    pub(super) fn session(&self, server: usize, user: &str) -> Result<Session> {
        Client::connect(self.address(server))?.log_in_by_password(user, PASSWORD)?.session()
    }

    /// From now on `from` is the runbook's db1, and `to` its db2.
    pub(crate) fn takes_over(&mut self, from: usize, to: usize) {
        self.roles = [from, to];
    }

    pub(crate) fn roles(&self) -> [usize; 2] {
        self.roles
    }

    /// Runs a step of the runbook's switchover.
    pub(super) fn step(&mut self, runbook: &Document, step: usize) -> Result<()> {
        let blocks = runbook.step(SECTION, step);
        ensure!(!blocks.is_empty(), "the runbook has no step {step}");
        blocks
            .iter()
            .flat_map(|block| &block.statements)
            .try_for_each(|statement| run_statement(self, statement).map(drop))
    }

    /// The first block of step 1; returns the position. The second block is the way back.
    pub(super) fn fence(&mut self, runbook: &Document) -> Result<String> {
        let block = runbook.step(SECTION, 1).into_iter().next().context("the runbook has no step 1")?;
        let mut last = Vec::new();
        for statement in &block.statements {
            last = run_statement(self, statement)?.concat();
        }
        last.pop().context("the last statement of step 1 returns no position")
    }

    /// The way back from step 1.
    pub(super) fn back(&mut self, runbook: &Document) -> Result<()> {
        let blocks = runbook.step(SECTION, 1);
        let back = blocks.get(1).context("the runbook has no way back from step 1")?;
        back.statements.iter().try_for_each(|statement| run_statement(self, statement).map(drop))
    }

    /// Waits until nothing is left that a drain can end.
    pub(super) fn drained(&mut self, server: usize) -> Result<()> {
        let sessions = "SHOW GLOBAL STATUS LIKE 'Instant_failover_sessions'";
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.query(server, sessions)?.concat().get(1).is_none_or(|left| left != "0") {
            ensure!(
                Instant::now() < deadline,
                "the sessions on {} do not end: {:?}",
                name(server),
                self.processes(server)?
            );
            sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn processes(&mut self, server: usize) -> Result<Vec<Vec<String>>> {
        self.query(server, "SELECT * FROM information_schema.PROCESSLIST")
    }

    /// A statement of a document with the names, positions and passwords of these servers.
    pub(crate) fn with_real_names(&mut self, sql: &str) -> Result<String> {
        let [primary, replica] = self.roles;
        let (old, new) = (self.address(primary), self.address(replica));
        let mut sql = sql
            .replace(
                "MASTER_HOST = 'db2.example.com', MASTER_PORT = 3306",
                &format!("MASTER_HOST = '{}', MASTER_PORT = {}", new.ip(), new.port()),
            )
            .replace("db2.example.com:3306", &new.to_string())
            .replace("db1.example.com:3306", &old.to_string())
            .replace("'...'", &format!("'{PASSWORD}'"));
        // The password in the form in which SHOW CREATE USER has it.
        let hash = "'*94BDCEBE19083CE2A1F959FD02F964C7AF4CFC29'";
        if sql.contains(hash) {
            let real = self.query(primary, &format!("SELECT PASSWORD('{PASSWORD}')"))?.concat().concat();
            sql = sql.replace(hash, &format!("'{real}'"));
        }
        for position in ["'0-1-1277'", "'<that position>'"] {
            if sql.contains(position) {
                let now = self.query(primary, "SELECT @@gtid_binlog_pos")?.concat().concat();
                sql = sql.replace(position, &format!("'{now}'"));
            }
        }
        Ok(sql)
    }

    /// Creates what recipes need and a switchover does not.
    pub(crate) fn recipes_can_run(&mut self) -> Result<()> {
        for user in ["monitor", "tenant7"] {
            self.query(0, &format!("CREATE USER {user} IDENTIFIED BY '{PASSWORD}'"))?;
        }
        self.wait_for_replica(0, 1)?;
        for server in 0..2 {
            self.query(server, "SET GLOBAL instant_failover_exempt_users = 'repl,monitor,dba'")?;
        }
        let target = format!("SET GLOBAL instant_failover_target = '{}'", self.address(1));
        self.query(0, &target).map(drop)
    }

    /// If db2 is a replica, it has all writes of db1, and runs.
    pub(crate) fn still_replicates(&mut self) -> Result<()> {
        let [primary, replica] = self.roles;
        if self.query(replica, "SHOW SLAVE STATUS")?.is_empty() {
            return Ok(());
        }
        let position = self.query(primary, "SELECT @@gtid_binlog_pos")?.concat().concat();
        let waited = self.query(replica, &format!("SELECT MASTER_GTID_WAIT('{position}', 3)"))?;
        ensure!(waited == [["0"]], "the replica has stopped: {:?}", self.slave_status(replica)?);
        self.replica_runs(replica)
    }

    /// Everything that an event of the old primary wrote is on the new one. (The application's journal covers the rest.)
    pub(super) fn nothing_is_left_behind(&mut self, from: usize, to: usize) -> Result<()> {
        let ticks = format!("SELECT event, at FROM {DATABASE}.ticks WHERE server = {}", number(from));
        let (here, there) = (self.query(from, &ticks)?, self.query(to, &ticks)?);
        let lost: Vec<_> = here.iter().filter(|tick| !there.contains(tick)).collect();
        ensure!(!here.is_empty(), "no event has written on {}", name(from));
        ensure!(lost.is_empty(), "{} writes of events are lost: {lost:?}", lost.len());
        Ok(())
    }

    /// Drops all events.
    pub(super) fn no_more_events(&mut self, primary: usize) -> Result<()> {
        EVENTS
            .clone()
            .try_for_each(|event| self.query(primary, &format!("DROP EVENT {DATABASE}.tick{event}")).map(drop))
    }

    /// Makes one server the replica of the other.
    pub(super) fn replicate(&mut self, replica: usize, primary: usize) -> Result<()> {
        let port = self.address(primary).port();
        self.sql(
            replica,
            &format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'repl', \
                 MASTER_PASSWORD = '{PASSWORD}', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos"
            ),
        )?;
        self.sql(replica, "START SLAVE").map(drop)
    }

    /// Waits until the replica has everything in the primary's binary log.
    pub(crate) fn wait_for_replica(&mut self, primary: usize, replica: usize) -> Result<()> {
        let position = self.value(primary, "SELECT @@gtid_binlog_pos")?;
        let waited = self.value(replica, &format!("SELECT MASTER_GTID_WAIT('{position}', 20)"))?;
        ensure!(waited == "0", "{} does not catch up: {:?}", name(replica), self.slave_status(replica)?);
        Ok(())
    }

    /// Checks that both threads of a replica run.
    pub(crate) fn replica_runs(&mut self, replica: usize) -> Result<()> {
        println!("{:16}{}> SHOW SLAVE STATUS", "", name(replica));
        let status = self.slave_status(replica)?;
        ensure!(status.io == "Yes" && status.sql == "Yes", "{} does not replicate: {status:?}", name(replica));
        Ok(())
    }

    /// The relevant part of `SHOW SLAVE STATUS`.
    pub(super) fn slave_status(&mut self, replica: usize) -> Result<SlaveStatus> {
        let row = self.query(replica, "SHOW SLAVE STATUS")?.concat();
        let field = |n: usize| row.get(n).cloned().context("no replica");
        Ok(SlaveStatus { io: field(10)?, sql: field(11)?, io_error: (field(34)?, field(35)?), arrived: field(43)? })
    }

    /// Every write that exists.
    pub(super) fn orders(&mut self, server: usize) -> Result<BTreeSet<Order>> {
        let rows = self.query(server, &format!("SELECT client, number FROM {DATABASE}.orders"))?;
        rows.iter().map(|row| Ok((row[0].parse()?, row[1].parse()?))).collect()
    }

    /// Checks that each write counts once.
    pub(super) fn check_totals(&mut self, server: usize) -> Result<()> {
        let wrong = self.sql(
            server,
            &format!(
                "SELECT client, totals.orders, COUNT(number) FROM {DATABASE}.totals LEFT JOIN {DATABASE}.orders USING \
                 (client) GROUP BY client HAVING totals.orders <> COUNT(number)"
            ),
        )?;
        ensure!(wrong.is_empty(), "writes are not counted exactly once: {wrong:?}");
        Ok(())
    }

    pub(super) fn checksum(&mut self, server: usize) -> Result<Vec<Vec<String>>> {
        self.sql(server, &format!("CHECKSUM TABLE {DATABASE}.orders, {DATABASE}.totals, {DATABASE}.ticks"))
    }

    /// The application, which connects to db1.
    pub(super) fn application(&self) -> Result<Command> {
        let mut command = Tool::Python.command(&["switchover.py"])?;
        command
            .env("DB_HOST", format!("instant_failover://{}", self.address(0)))
            .env("DB_USER", "app")
            .env("DB_PASSWORD", PASSWORD)
            .env("DB_NAME", DATABASE)
            .env("MARIADB_PLUGIN_DIR", self.home.path().join("plugin"))
            .env("LIBMYSQL_PLUGINS", "instant_failover");
        Ok(command)
    }

    /// What `mariadb` shows to a user of the application who connects to a server and runs statements. If possible, it uses no
    /// name server.
    pub(super) fn client(&self, server: usize, sql: &str) -> Result<String> {
        let host = format!("instant_failover://{}", self.address(server));
        println!("{:16}$ mariadb -h {host} -u app -p {DATABASE} -e \"{sql}\"", "");
        let mariadb = server::client();
        let own_mounts = output(Command::new("unshare").args(["--mount", "true"])).is_ok();
        // With an empty resolv.conf, only a name server on this machine is asked, and there is none.
        let mut command = if own_mounts {
            let mut command = Command::new("unshare");
            command.args(["--mount", "sh", "-c", "mount --bind /dev/null /etc/resolv.conf; exec \"$@\"", "sh"]);
            command.arg(mariadb.get_program());
            command
        } else {
            Command::new(mariadb.get_program())
        };
        command
            .args(mariadb.get_args())
            .arg(format!("--plugin-dir={}", self.home.path().join("plugin").display()))
            .args(["--host", &host, "--user=app", &format!("--password={PASSWORD}"), "--connect-timeout=1"])
            .args(["--skip-column-names", "--batch", DATABASE, "--execute", sql]);
        let Output { stdout, stderr, .. } = command.output().context("cannot start mariadb")?;
        let text = [stdout, stderr].concat();
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        println!("{:16}{text}", "");
        Ok(text)
    }
}

/// The status of a replica.
#[derive(Debug)]
pub(super) struct SlaveStatus {
    io: String,
    sql: String,
    /// Number and text.
    pub(super) io_error: (String, String),
    /// The position up to which it has received.
    pub(super) arrived: String,
}
