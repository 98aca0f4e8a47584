//! The replicas of a primary are restarted, one after the other.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mysql::prelude::Queryable as _;

use super::application::{Application, Procedures, connect};
use super::faults::signal;
use super::pair::{DB1, DB2, DB3, Ended, PASSWORD, Pair};

const LIMIT: Duration = Duration::from_mins(2);

/// One primary and two replicas, whose restarts are up to the test.
struct Three {
    pair: Pair,
}

/// The command, waiting for us to restart a server.
struct Running {
    child: Option<Child>,
    asked: PathBuf,
    output: PathBuf,
}

impl Three {
    fn start() -> Self {
        let mut pair = Pair::start(&[]);
        pair.add_third();
        Self { pair }
    }

    /// Where the command's `--restart` writes which server it wants restarted, until we have removed the file.
    fn asked(&self) -> PathBuf {
        self.pair.servers_file().with_file_name("asked")
    }

    fn ask(&self) -> String {
        let asked = self.asked().display().to_string();
        format!(
            "echo $INSTANT_FAILOVER_NODE >{asked}.new; mv {asked}.new {asked}; while [ -e {asked} ]; do sleep 0.05; done"
        )
    }

    fn arguments<'a>(more: &[&'a str], restart: &'a str) -> Vec<&'a str> {
        [&["rolling", "db2", "db3", "--yes", "--max-lag", "60"], more, &["--restart", restart]].concat()
    }

    fn begin(&self, more: &[&str]) -> Running {
        let ask = self.ask();
        self.begin_as(&Self::arguments(more, &ask))
    }

    fn begin_as(&self, arguments: &[&str]) -> Running {
        let _ = fs::remove_file(self.asked());
        let (asked, output) = (self.asked(), self.asked().with_extension("output"));
        // A pipe would not end before the command that it has started.
        let file = fs::File::create(&output).unwrap();
        let mut command = self.pair.command(arguments);
        let child = command.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Running { child: Some(child), asked, output }
    }

    /// With a command that restarts nothing by itself.
    fn run(&self, more: &[&str], restart: &str) -> Ended {
        self.pair.run(&Self::arguments(more, restart))
    }

    fn mode(&self, server: usize) -> Vec<String> {
        self.pair
            .sql(server, "SELECT @@instant_failover_mode, @@instant_failover_target, @@instant_failover_note")
            .concat()
    }

    fn all_serve(&self) {
        for server in [DB2, DB3] {
            assert_eq!(self.mode(server), ["OFF", "", ""]);
            self.replicates(server);
        }
        let ended = self.pair.run(&["resume", "--yes"]);
        assert!(ended.text.contains("no switchover is unfinished"), "{}", ended.text);
    }

    fn replicates(&self, server: usize) {
        self.pair.wait_for(
            server,
            "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for master to send event'",
            "1",
        );
    }

    fn restart(&mut self, server: usize) {
        self.pair.stop(server);
        self.pair.begin(server, &[]);
    }

    fn shows(&self, elsewhere: bool, status: i32, texts: &[&str]) {
        let ended = if elsewhere { self.pair.run_elsewhere(&["status"]) } else { self.pair.run(&["status"]) };
        for text in texts {
            assert!(ended.text.contains(text), "{text}: {}", ended.text);
        }
        assert_eq!(ended.status, Some(status), "{}", ended.text);
    }
}

impl Running {
    /// Waits until it asks for a restart; `None` if it ends before.
    fn asks(&mut self) -> Option<usize> {
        let child = self.child.as_mut().unwrap();
        let end = Instant::now() + LIMIT;
        loop {
            if let Ok(name) = fs::read_to_string(&self.asked) {
                return Some(name.trim().strip_prefix("db").unwrap().parse::<usize>().unwrap() - 1);
            }
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < end, "it neither ends nor asks");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until it has said this.
    fn says(&self, text: &str) {
        let end = Instant::now() + LIMIT;
        loop {
            let said = fs::read_to_string(&self.output).unwrap();
            if said.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "it does not say '{text}', but: {said}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// It has what it asked for.
    fn answer(&self) {
        fs::remove_file(&self.asked).unwrap();
    }

    fn signal(&self, name: &str) {
        signal(self.child.as_ref().unwrap(), name);
    }

    fn end(&mut self) -> Ended {
        let status = self.child.take().unwrap().wait().unwrap();
        Ended { status: status.code(), text: fs::read_to_string(&self.output).unwrap() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Its command waits for this.
        let _ = fs::remove_file(&self.asked);
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Readers with a pool: they test a connection before they use it, and each reads twice in a transaction.
struct Readers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Read>>,
}

#[derive(Debug, Default)]
struct Read {
    transactions: u64,
    /// Errors inside a transaction, and logins that failed.
    errors: Vec<String>,
    servers: BTreeSet<u64>,
}

impl Readers {
    fn start(pair: &Pair) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..6).map(|reader| {
            let (stop, address) = (Arc::clone(&stop), pair.servers[DB2 + reader % 2].address());
            thread::spawn(move || read(&stop, address))
        });
        Self { threads: threads.collect(), stop }
    }

    fn end(self) -> Vec<Read> {
        self.stop.store(true, Ordering::SeqCst);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    }
}

fn read(stop: &AtomicBool, address: SocketAddr) -> Read {
    let mut result = Read::default();
    let mut connection: Option<mysql::Conn> = None;
    while !stop.load(Ordering::SeqCst) {
        thread::sleep(Duration::from_millis(10));
        let Some(mut open) = connection.take() else {
            match connect(address, "app") {
                Ok(open) => connection = Some(open),
                Err(error) => result.errors.push(format!("login: {error}")),
            }
            continue;
        };
        // The statement that begins it is not inside: a drain may have come before it.
        if open.ping().is_err() || open.query_drop("START TRANSACTION READ ONLY").is_err() {
            continue;
        }
        let mut one = || -> mysql::Result<u64> {
            open.query_drop("SELECT COUNT(*) FROM shop.orders")?;
            thread::sleep(Duration::from_millis(5));
            let server: Option<u64> = open.query_first("SELECT @@server_id")?;
            open.query_drop("COMMIT")?;
            Ok(server.unwrap_or_default())
        };
        match one() {
            Ok(server) => {
                result.transactions += 1;
                result.servers.insert(server);
                connection = Some(open);
            }
            Err(error) => result.errors.push(format!("in a transaction: {error}")),
        }
    }
    result
}

#[test]
fn readers_go_to_the_other_replica() {
    let mut three = Three::start();
    let (writers, readers) = (Application::start(&three.pair, Procedures::Yes), Readers::start(&three.pair));
    writers.writes(50);
    let addresses = [DB2, DB3].map(|n| three.pair.servers[n].address().to_string());
    let mut running = three.begin(&["--max-drain", "60"]);

    // It asks for the first, and nobody else may begin anything.
    assert_eq!(running.asks(), Some(DB2));
    let redirects = format!("its clients go to {}", addresses[1]);
    three.shows(false, 0, &[&redirects, "0 of 2 done, db2 is being restarted", "an instant-failover is working on it"]);
    three.shows(true, 0, &["mode ON", "rolling restart by", &redirects, "an instant-failover is working on it"]);
    for (arguments, expected) in [
        (&["rolling", "db3", "db2", "--yes", "--restart", "true"][..], "is unfinished: resume, or back"),
        (&["resume", "--yes"], "it is still running"),
        (&["back", "--yes"], "it is still running"),
    ] {
        let refused = three.pair.run(arguments);
        assert_eq!(refused.status, Some(1), "{}", refused.text);
        assert!(refused.text.contains(expected), "{}", refused.text);
    }
    for arguments in
        [&["rolling", "db3", "db2", "--yes", "--restart", "true"][..], &["switchover", "db1", "db3", "--yes"]]
    {
        let refused = three.pair.run_elsewhere(arguments);
        assert_eq!(refused.status, Some(1), "{}", refused.text);
        assert!(refused.text.contains("another instant-failover is working on this server"), "{}", refused.text);
    }

    // What is written while it is away, it has before the second goes, though it is not far behind.
    three.pair.stop(DB2);
    three.shows(false, 0, &["db2          does not answer: it is being restarted"]);
    three.shows(true, 1, &["db2 does not answer", "Connection refused"]);
    writers.writes(50);
    let position = three.pair.value(DB1, "SELECT @@gtid_binlog_pos");
    three.pair.replicated(DB1, DB3);
    three.pair.begin(DB2, &["--skip-slave-start"]);
    let mut lock = three.pair.root(DB2);
    lock.query("LOCK TABLES shop.orders READ").unwrap();
    three.pair.sql(DB2, "START SLAVE");
    three.replicates(DB2);
    running.answer();
    thread::sleep(Duration::from_secs(2));
    assert_eq!(three.pair.value(DB3, "SELECT @@instant_failover_mode"), "OFF");
    assert!(three.mode(DB2) == ["OFF", "", ""] && three.pair.value(DB2, &waits(&position)) == "-1");
    drop(lock);

    assert_eq!(running.asks(), Some(DB3));
    assert_eq!(three.pair.value(DB2, &waits(&position)), "0");
    assert_eq!(three.mode(DB2), ["OFF", "", ""]);
    three.shows(false, 0, &["1 of 2 done, db3 is being restarted", &format!("its clients go to {}", addresses[0])]);
    three.restart(DB3);
    running.answer();
    assert_eq!(running.asks(), None);
    let ended = running.end();
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    let read = readers.end();
    assert!(read.iter().all(|read| read.errors.is_empty()), "{read:?}\n{}", ended.text);
    assert!(read.iter().all(|read| read.servers == BTreeSet::from([2, 3])), "{read:?}\n{}", ended.text);
    println!("{} transactions\n{}", read.iter().map(|read| read.transactions).sum::<u64>(), ended.text);
    three.all_serve();
    three.shows(false, 0, &[]);
    writers.end();
}

fn waits(position: &str) -> String {
    format!("SELECT MASTER_GTID_WAIT('{position}', 0)")
}

#[test]
fn a_command_that_restarts_nothing() {
    let mut three = Three::start();
    let other = three.pair.servers[DB3].address().to_string();
    let is_stuck = |three: &Three, ended: &Ended, why: &str| {
        assert_eq!(ended.status, Some(4), "{}", ended.text);
        for text in [why, "db2", "has NOT been restarted", "resume", "back"] {
            assert!(ended.text.contains(text), "{text}: {}", ended.text);
        }
        assert_eq!(three.mode(DB2)[..2], ["ON", &other], "{}", ended.text);
        three.shows(false, 1, &["is unfinished and not running", "0 of 2 done, db2 is being restarted"]);
        three.shows(true, 1, &["db2 redirects for a rolling restart by", "which is not running"]);
        let elsewhere = three.pair.run_elsewhere(&["resume", "--yes"]);
        assert_eq!(elsewhere.status, Some(1), "{}", elsewhere.text);
        assert!(elsewhere.text.contains("go on where it began"), "{}", elsewhere.text);
        let back = three.pair.run(&["back", "--yes"]);
        assert_eq!(back.status, Some(3), "{}", back.text);
        three.all_serve();
    };
    // It fails; it succeeds; it hangs; it restarts another server. Nobody's name gets into a shell.
    is_stuck(&three, &three.run(&[], "echo fails; exit 7"), "exit status: 7");
    is_stuck(&three, &three.run(&["--json"], "true"), "the command has ended");
    is_stuck(&three, &three.run(&["--max-wait", "1"], "exec sleep 3"), "not finished within 1 s");
    let mut running = three.begin(&[]);
    assert_eq!(running.asks(), Some(DB2));
    three.restart(DB3);
    three.replicates(DB3);
    running.answer();
    is_stuck(&three, &running.end(), "the command has ended");

    // What it prints is not among what is for programs.
    let mut json = three.pair.command(&Three::arguments(&["--json"], "echo not json; exit 1"));
    let output = json.output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(lines.lines().all(|line| line.starts_with('{')), "{lines}");
    is_stuck(&three, &Ended { status: output.status.code(), text: lines }, "exit status: 1");

    // Resumed, it asks again.
    let mut running = three.begin(&[]);
    assert_eq!(running.asks(), Some(DB2));
    running.answer();
    assert_eq!(running.end().status, Some(4));
    let mut resumed = three.begin_as(&["resume", "--yes"]);
    for server in [DB2, DB3] {
        assert_eq!(resumed.asks(), Some(server));
        three.restart(server);
        resumed.answer();
        thread::sleep(Duration::from_millis(200));
    }
    let ended = resumed.end();
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    three.all_serve();
}

#[test]
fn a_server_that_does_not_come_back() {
    let mut three = Three::start();
    let mut running = three.begin(&["--max-wait", "3"]);
    assert_eq!(running.asks(), Some(DB2));
    three.pair.stop(DB2);
    running.answer();
    let ended = running.end();
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    for text in ["db2: after 3 s it is", "Connection refused", "Once it is ready: instant-failover resume"] {
        assert!(ended.text.contains(text), "{text}: {}", ended.text);
    }
    three.shows(false, 1, &["db2 does not answer", "is unfinished and not running"]);
    let back = three.pair.run(&["back", "--yes"]);
    assert_eq!(back.status, Some(1), "{}", back.text);
    assert!(back.text.contains("bring it back first"), "{}", back.text);

    // It is back, but does not replicate.
    three.pair.begin(DB2, &["--skip-slave-start"]);
    let ended = three.pair.run(&["resume", "--yes"]);
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert!(ended.text.contains("after 3 s it is a replica that does not run"), "{}", ended.text);
    three.pair.sql(DB2, "STOP SLAVE");
    three.pair.sql(DB2, "START SLAVE");

    // It has lost the plugin.
    three.pair.sql(DB2, "UNINSTALL SONAME 'instant_failover'");
    let ended = three.pair.run(&["resume", "--yes"]);
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert!(ended.text.contains("it has no plugin: INSTALL SONAME"), "{}", ended.text);
    three.pair.sql(DB2, "INSTALL SONAME 'instant_failover'");
    three.pair.sql(DB2, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'");

    // What another program or administrator has set there meanwhile stays.
    three.pair.sql(
        DB2,
        "SET GLOBAL instant_failover_note = 'hands off', instant_failover_target = 'x:1', instant_failover_mode = ON",
    );
    let ended = three.pair.run(&["resume", "--yes"]);
    assert_eq!(ended.status, Some(4), "{}", ended.text);
    assert!(ended.text.contains("another program or administrator has set mode ON ('hands off')"), "{}", ended.text);
    three.pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF, instant_failover_note = ''");

    let mut resumed = three.begin_as(&["resume", "--yes"]);
    assert_eq!(resumed.asks(), Some(DB3));
    three.restart(DB3);
    resumed.answer();
    let ended = resumed.end();
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    three.all_serve();
}

/// Clients have nobody else then.
#[test]
fn the_one_with_the_clients_dies() {
    let mut three = Three::start();
    let mut running = three.begin(&["--max-wait", "60"]);
    assert_eq!(running.asks(), Some(DB2));
    three.pair.servers[DB3].kill();
    three.restart(DB2);
    running.answer();
    running.says("db2: is back and serves");
    running.signal("-TERM");
    let ended = running.end();
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("Restarted: db2"), "{}", ended.text);
    let back = three.pair.run(&["back", "--yes"]);
    assert_eq!(back.status, Some(3), "{}", back.text);
    three.pair.begin(DB3, &[]);
    three.all_serve();
}

/// A transaction that a drain has to wait for.
fn open_transaction(three: &Three) -> mysql::Conn {
    let mut open = connect(three.pair.servers[DB2].address(), "app").unwrap();
    open.query_drop("START TRANSACTION").unwrap();
    open.query_drop("SELECT COUNT(*) FROM shop.orders").unwrap();
    open
}

#[test]
fn stopped_by_signals() {
    let mut three = Three::start();
    for (name, status) in [("-TERM", Some(3)), ("-KILL", None)] {
        // While it drains.
        let mut open = open_transaction(&three);
        let mut running = three.begin(&["--max-drain", "600"]);
        three.pair.wait_for(DB2, "SELECT @@instant_failover_mode", "ON");
        running.signal(name);
        let ended = running.end();
        assert_eq!(ended.status, status, "{}", ended.text);
        open.query_drop("COMMIT").unwrap();
        if status.is_none() {
            three.shows(false, 1, &["is unfinished and not running", "db2 redirects to"]);
            let back = three.pair.run(&["back", "--yes"]);
            assert_eq!(back.status, Some(3), "{}", back.text);
        }
        drop(open);
        three.all_serve();

        // While the command runs, which goes on.
        let mut running = three.begin(&[]);
        assert_eq!(running.asks(), Some(DB2));
        running.signal(name);
        let ended = running.end();
        assert_eq!(ended.status, status.map(|_| 4), "{}", ended.text);
        assert!(status.is_none() || ended.text.contains("SIGTERM; it is left running"), "{}", ended.text);
        three.restart(DB2);
        running.answer();
        let mut resumed = three.begin_as(&["resume", "--yes"]);
        assert_eq!(resumed.asks(), Some(DB3));
        three.pair.stop(DB3);
        resumed.answer();

        // While it waits for the second.
        thread::sleep(Duration::from_secs(1));
        resumed.signal(name);
        let ended = resumed.end();
        assert_eq!(ended.status, status.map(|_| 4), "{}", ended.text);
        three.pair.begin(DB3, &[]);
        let ended = three.pair.run(&["resume", "--yes"]);
        assert_eq!(ended.status, Some(0), "{}", ended.text);
        three.all_serve();
    }
}

#[test]
fn a_person_who_sets_the_mode_to_off_ends_it() {
    let three = Three::start();
    let open = open_transaction(&three);
    let mut running = three.begin(&["--max-drain", "600"]);
    three.pair.wait_for(DB2, "SELECT @@instant_failover_mode", "ON");
    three.pair.sql(DB2, "SET GLOBAL instant_failover_mode = OFF");
    assert_eq!(running.asks(), None);
    let ended = running.end();
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(
        ended.text.contains("another program or administrator has set its mode to OFF; it serves again"),
        "{}",
        ended.text
    );
    three.all_serve();
    drop(open);
}

#[test]
fn what_does_not_end_and_what_cannot_be_written() {
    let three = Three::start();
    let open = open_transaction(&three);
    let ended = three.run(&["--max-drain", "1"], "true");
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("1 in transactions") && ended.text.contains("it serves again"), "{}", ended.text);
    three.all_serve();
    drop(open);

    // A session that is lost could not be opened again.
    let exempt = three.pair.value(DB2, "SELECT @@instant_failover_exempt_users");
    three.pair.sql(DB2, "SET GLOBAL instant_failover_exempt_users = 'repl,root'");
    let ended = three.run(&[], "true");
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("add dba to instant_failover_exempt_users there; it serves again"), "{}", ended.text);
    three.pair.sql(DB2, &format!("SET GLOBAL instant_failover_exempt_users = '{exempt}'"));
    three.all_serve();

    // No byte can be written to a file.
    let plain = three.pair.command(&Three::arguments(&[], "true"));
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"])
        .arg(plain.get_program())
        .args(plain.get_args());
    command.env("XDG_STATE_HOME", three.pair.state_directory()).stdin(Stdio::null());
    let ended: Ended = command.output().unwrap().into();
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("db2 is left as it is: the state cannot be written to the file"), "{}", ended.text);
    three.all_serve();
}

/// A session of `app`, and somebody who reads the binary log, were there before the plugin: a drain cannot end the first, and does
/// not wait for the second.
#[test]
fn what_was_connected_before_the_plugin() {
    let mut three = Three::start();
    three.pair.sql(DB2, "UNINSTALL SONAME 'instant_failover'");
    let address = three.pair.servers[DB2].address();
    let mut dump = Command::new("mariadb-binlog");
    dump.args([
        "--no-defaults",
        "--read-from-remote-server",
        "--stop-never",
        "--raw",
        "--host=127.0.0.1",
        "--user=repl",
    ]);
    dump.args([format!("--port={}", address.port()), format!("--password={PASSWORD}"), "binlog.000001".to_owned()]);
    let mut dump = dump.current_dir(three.pair.state_directory()).stderr(Stdio::null()).spawn().unwrap();
    let dumps = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE COMMAND LIKE 'Binlog Dump%'";
    three.pair.wait_for(DB2, dumps, "1");
    let old = connect(address, "app").unwrap();
    three.pair.sql(DB2, "INSTALL SONAME 'instant_failover'");
    three.pair.sql(DB2, "SET GLOBAL instant_failover_exempt_users = 'repl,dba,root'");
    let unknown = "SELECT VARIABLE_VALUE FROM information_schema.GLOBAL_STATUS \
                   WHERE VARIABLE_NAME = 'instant_failover_sessions_unknown'";
    three.pair.wait_for(DB2, unknown, "2");
    let ended = three.run(&["--max-drain", "1"], "true");
    assert_eq!(ended.status, Some(3), "{}", ended.text);
    assert!(ended.text.contains("1 not known to the plugin"), "{}", ended.text);
    drop(old);
    let mut running = three.begin(&[]);
    for server in [DB2, DB3] {
        assert_eq!(running.asks(), Some(server));
        assert_eq!(three.pair.value(DB2, dumps), if server == DB2 { "1" } else { "0" });
        let _ = dump.kill();
        dump.wait().unwrap();
        three.restart(server);
        running.answer();
        thread::sleep(Duration::from_millis(200));
    }
    let ended = running.end();
    assert_eq!(ended.status, Some(0), "{}", ended.text);
    three.all_serve();
}
