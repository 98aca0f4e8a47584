//! Two servers, one a replica of the other, and the command.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use support::build::Flavour;
use support::server::{REPLICATION, Server};
use support::system::System;
use support::wire::{Client, Session};
use tempfile::TempDir;

pub(crate) const PASSWORD: &str = "open sesame";
pub(crate) const DB1: usize = 0;
pub(crate) const DB2: usize = 1;
pub(crate) const DB3: usize = 2;

const OPTIONS: &[&str] = &[
    "--plugin-load-add=instant_failover",
    "--loose-instant-failover-exempt-users=repl,dba,root",
    "--back-log=4096",
    "--max-connections=500",
];

/// `db1`, the primary, and `db2`, its replica; further replicas can be added.
pub(crate) struct Pair {
    pub(crate) servers: Vec<Server>,
    home: TempDir,
    options: Vec<String>,
}

/// How the command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: Option<i32>,
    pub(crate) text: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = [output.stdout, output.stderr].concat();
        Self { status: output.status.code(), text: String::from_utf8_lossy(&text).into_owned() }
    }
}

impl Pair {
    pub(crate) fn start(more: &[&str]) -> Self {
        let library = Flavour::Release.library();
        let here = System::this();
        Self::start_with([(&here, &library), (&here, &library)], more)
    }

    /// With mariadbd of other systems, or other plugins.
    pub(crate) fn start_with(of: [(&System, &Path); 2], more: &[&str]) -> Self {
        for (_, library) in of {
            assert!(library.exists(), "build the plugin first: cargo build --release --package instant-failover");
        }
        let options: Vec<String> = [REPLICATION, OPTIONS, more].concat().into_iter().map(str::to_owned).collect();
        let mut pair = Self { servers: Vec::new(), home: tempfile::tempdir().unwrap(), options };
        for (n, read_only) in [(DB1, false), (DB2, true)] {
            let (system, library) = of[n];
            let server = Server::start_of(system, library, &pair.arguments(n, read_only)).unwrap();
            pair.servers.push(server);
        }
        pair.sql(DB2, "SET GLOBAL read_only = 0");
        for n in [DB1, DB2] {
            pair.sql(n, "RESET MASTER");
        }
        pair.sql(DB2, "SET GLOBAL read_only = 1");
        for sql in [
            &format!("CREATE USER repl IDENTIFIED BY '{PASSWORD}'"),
            "GRANT REPLICATION SLAVE ON *.* TO repl",
            &format!("CREATE USER dba IDENTIFIED BY '{PASSWORD}'"),
            "GRANT ALL ON *.* TO dba WITH GRANT OPTION",
            &format!("CREATE USER app IDENTIFIED BY '{PASSWORD}'"),
            "CREATE DATABASE shop",
            "GRANT SELECT, INSERT, EXECUTE ON shop.* TO app",
            "CREATE TABLE shop.orders (client INT, number INT, server INT, PRIMARY KEY (client, number))",
            "CREATE TABLE shop.ticks (at DATETIME(6) PRIMARY KEY, server INT)",
            "CREATE PROCEDURE shop.place(client INT, number INT) SQL SECURITY DEFINER INSERT INTO shop.orders VALUES (client, number, @@server_id)",
            "CREATE EVENT shop.tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO shop.ticks VALUES (NOW(6), @@server_id)",
        ] {
            pair.sql(DB1, sql);
        }
        pair.replicate(DB2);
        pair.write_servers(|text| text);
        pair.replicated(DB1, DB2);
        pair
    }

    fn arguments(&self, n: usize, read_only: bool) -> Vec<&str> {
        const IDS: [&str; 3] = ["--server-id=1", "--server-id=2", "--server-id=3"];
        let mut options: Vec<&str> = self.options.iter().map(String::as_str).collect();
        options.extend([IDS[n], if read_only { "--read-only=1" } else { "--read-only=0" }]);
        options
    }

    /// Adds `db3`, another replica of `db1`, which has everything from the beginning.
    pub(crate) fn add_third(&mut self) {
        let third = Server::start(&Flavour::Release.library(), &self.arguments(DB3, true)).unwrap();
        self.servers.push(third);
        self.sql(DB3, "SET GLOBAL read_only = 0");
        self.sql(DB3, "RESET MASTER");
        self.sql(DB3, "SET GLOBAL read_only = 1");
        self.replicate(DB3);
        self.write_servers(|text| text);
        self.replicated(DB1, DB3);
    }

    fn replicate(&self, n: usize) {
        let port = self.servers[DB1].address().port();
        self.sql(
            n,
            &format!(
                "CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_PORT = {port}, MASTER_USER = 'repl', \
                 MASTER_PASSWORD = '{PASSWORD}', MASTER_CONNECT_RETRY = 1, MASTER_USE_GTID = slave_pos, MASTER_SSL = 0, \
                 MASTER_SSL_VERIFY_SERVER_CERT = 0"
            ),
        );
        self.sql(n, "START SLAVE");
    }

    /// Writes the file with the servers.
    pub(crate) fn write_servers(&self, change: impl Fn(String) -> String) {
        let entry = |n: usize| {
            let port = self.servers[n].address().port();
            format!(
                "[db{}]\nhost = 127.0.0.1\nport = {port}\nuser = dba\npassword = {PASSWORD}\nskip-ssl\ntarget = 127.0.0.1:{port}\n\
                 replication-user = repl\nreplication-password = {PASSWORD}\n",
                n + 1
            )
        };
        let file = self.servers_file();
        let entries: String = (0..self.servers.len()).map(entry).collect();
        fs::write(&file, change(entries)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn servers_file(&self) -> PathBuf {
        self.home.path().join("servers.cnf")
    }

    /// The file with the state of a switchover.
    pub(crate) fn state_of(&self, [old, new]: [&str; 2]) -> PathBuf {
        self.home.path().join(format!("instant-failover/{old}+{new}.json"))
    }

    /// A directory for the state, besides the one that commands use.
    pub(crate) fn state_directory(&self) -> PathBuf {
        let directory = self.home.path().join("state");
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    /// The command, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_instant-failover"));
        command.arg("--servers").arg(self.servers_file()).args(arguments);
        command.env("XDG_STATE_HOME", self.home.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the command, with limits that hold on a machine that is loaded.
    pub(crate) fn run_patiently(&self, arguments: &[&str]) -> Ended {
        let pause: &[&str] = if arguments[0] == "switchover" { &["--max-pause", "10"] } else { &[] };
        self.run(&[arguments, &["--max-lag", "60"], pause].concat())
    }

    /// Runs the command.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.command(arguments).output().unwrap().into()
    }

    /// The same from a machine that has no state.
    pub(crate) fn run_elsewhere(&self, arguments: &[&str]) -> Ended {
        let elsewhere = tempfile::tempdir().unwrap();
        self.command(arguments).env("XDG_STATE_HOME", elsewhere.path()).output().unwrap().into()
    }

    /// Kills a server, and starts it again: read only, as all should.
    pub(crate) fn restart(&mut self, n: usize) {
        self.restart_as(n, true);
    }

    /// The same, read only or not.
    pub(crate) fn restart_as(&mut self, n: usize, read_only: bool) {
        self.servers[n].kill();
        let options: Vec<String> = self.arguments(n, read_only).into_iter().map(str::to_owned).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        self.servers[n].start_again(&options).unwrap();
    }

    /// Stops a server as an operator does.
    pub(crate) fn stop(&mut self, n: usize) {
        self.servers[n].stop().unwrap();
    }

    /// Starts one that was stopped: read only, and with these options, too.
    pub(crate) fn begin(&mut self, n: usize, more: &[&str]) {
        let options: Vec<String> =
            self.arguments(n, true).iter().chain(more).map(|&option| option.to_owned()).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        self.servers[n].start_again(&options).unwrap();
    }

    pub(crate) fn root(&self, server: usize) -> Session {
        self.servers[server].root().unwrap()
    }

    /// Runs a statement as root.
    pub(crate) fn sql(&self, server: usize, sql: &str) -> Vec<Vec<String>> {
        self.root(server).query(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub(crate) fn value(&self, server: usize, sql: &str) -> String {
        self.sql(server, sql).concat().concat()
    }

    /// Waits until one server has everything that the other one has written.
    pub(crate) fn replicated(&self, from: usize, to: usize) {
        let position = self.value(from, "SELECT @@gtid_binlog_pos");
        assert_eq!(
            self.value(to, &format!("SELECT MASTER_GTID_WAIT('{position}', 60)")),
            "0",
            "{:?}",
            self.sql(to, "SHOW SLAVE STATUS")
        );
    }

    /// A session of the application on db1.
    pub(crate) fn application(&self) -> Session {
        let client = Client::connect(self.servers[DB1].address()).unwrap();
        client.log_in_by_password("app", PASSWORD).unwrap().session().unwrap()
    }

    /// Waits until a statement has this value.
    pub(crate) fn wait_for(&self, server: usize, sql: &str, expected: &str) {
        let end = Instant::now() + Duration::from_mins(1);
        loop {
            let value = self.value(server, sql);
            if value == expected {
                return;
            }
            assert!(Instant::now() < end, "{sql} is {value:?}, not {expected:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// db1 is the primary as if nothing had been.
    pub(crate) fn is_as_before(&self) {
        let ask = "SELECT @@read_only, @@instant_failover_mode, @@instant_failover_target, @@instant_failover_note, @@event_scheduler";
        assert_eq!(self.sql(DB1, ask), [["0", "OFF", "", "", "ON"]]);
        assert_eq!(self.sql(DB1, "SHOW ALL SLAVES STATUS"), Vec::<Vec<String>>::new());
        assert_eq!(self.sql(DB2, ask), [["1", "OFF", "", "", "ON"]]);
        self.sql(DB1, "INSERT INTO shop.orders SELECT 1000, COUNT(*), 1 FROM shop.orders WHERE client = 1000");
        self.replicated(DB1, DB2);
    }

    /// db2 is the primary, and db1 redirects to it and is its replica.
    pub(crate) fn is_switched(&self) {
        let target = self.servers[DB2].address();
        let ask = "SELECT @@read_only, @@instant_failover_mode, @@instant_failover_target, @@instant_failover_note, @@event_scheduler";
        assert_eq!(self.sql(DB1, ask), [["1", "ON", &target.to_string(), "", "ON"]]);
        assert_eq!(self.sql(DB2, ask), [["0", "OFF", "", "", "ON"]]);
        assert_eq!(self.sql(DB2, "SHOW ALL SLAVES STATUS"), Vec::<Vec<String>>::new());
        self.sql(DB2, "INSERT INTO shop.orders SELECT 1000, COUNT(*), 2 FROM shop.orders WHERE client = 1000");
        self.replicated(DB2, DB1);
        assert_eq!(self.value(DB1, "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS = 'ENABLED'"), "0");
        assert_eq!(self.value(DB2, "SELECT COUNT(*) FROM information_schema.EVENTS WHERE STATUS <> 'ENABLED'"), "0");
    }
}
