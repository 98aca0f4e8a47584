//! `cargo xtask demo`: shows what the plugin does, on two private servers.

mod picture;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use support::build::Flavour;
use support::server::{self, Server};
use support::system::System;
use support::{packages, project_root, wire};

/// How many clients keep connecting during the switch.
const CLIENTS: usize = 4;

/// The step that the picture begins with, and the first that is not in it any more: what fits a screen.
const PICTURED: [&str; 2] = ["db1 must go down", "The DBA still gets in"];

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Write a picture of the demo to docs/
    #[arg(long)]
    keep: bool,
}

pub(crate) fn command(arguments: &Arguments) -> Result<()> {
    if arguments.keep { keep() } else { run() }
}

/// Runs this program without the option, in a separate terminal, and draws its output.
fn keep() -> Result<()> {
    const PICTURE: &str = "docs/demo.svg";
    let program = env::current_exe()?;
    let mut script = Command::new("script")
        .args(["--quiet", "--return", "--command", &format!("'{}' demo", program.display()), "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start script")?;
    let mut printed = "\x1b[1m$ cargo xtask demo\x1b[0m\n...\n".to_owned();
    let mut pictured = false;
    for line in BufReader::new(script.stdout.take().context("script has no output")?).lines() {
        let line = line?;
        println!("{line}");
        let begins = |step| line.contains(&format!("--- {step}"));
        pictured = (pictured || begins(PICTURED[0])) && !begins(PICTURED[1]);
        if pictured {
            printed.extend([line.as_str(), "\n"]);
        }
    }
    if !script.wait()?.success() {
        bail!("the demo failed");
    }
    fs::write(project_root().join(PICTURE), picture::draw("cargo xtask demo", &printed))
        .with_context(|| format!("cannot write {PICTURE}"))?;
    println!("{PICTURE}: written");
    Ok(())
}

fn run() -> Result<()> {
    packages::install(&[packages::BUILD, packages::SERVER])?;
    say("Building the plugin ...");
    let library = Flavour::Release.build()?;
    say("Starting two private MariaDB servers, db1 and db2 ...");
    let (db1, db2) = (start(&library, "db1")?, start(&library, "db2")?);
    // On Ctrl-C the servers end with this process, but their directories must be removed here.
    let directories = [db1.dir().to_path_buf(), db2.dir().to_path_buf()];
    ctrlc::set_handler(move || {
        for directory in &directories {
            let _ = fs::remove_dir_all(directory);
        }
        std::process::exit(130);
    })?;
    let (one, two) = (db1.address(), db2.address());
    say(&format!("db1 listens on {one} (extra port {}), db2 on {two}.", db1.extra_address().port()));

    step("A client connects to db1 and is accepted");
    application(one)?;

    step("The DBA installs the plugin on db1");
    let mut dba = Dba(db1.root()?);
    dba.types("INSTALL SONAME 'instant_failover'")?;

    step(&format!("{}. While {CLIENTS} clients connect as fast as they can, the DBA runs two statements", PICTURED[0]));
    let crowd = Crowd::start(one);
    dba.types(&format!("SET GLOBAL instant_failover_target = '{two}'"))?;
    let before = Instant::now();
    dba.types("SET GLOBAL instant_failover_mode = ON")?;
    let after = Instant::now();
    crowd.report(before, after)?;

    step("The same client, the same command as before");
    application(one)?;
    say("The server that the error names accepts it:");
    application(two)?;

    step("A client that follows: the same command, with instant_failover:// before the host");
    let plugins = db1.dir().join("client");
    System::this().install_client_plugins(&plugins, &library)?;
    follower(&plugins, one)?;

    step(&format!("{}, through the extra port and through the Unix socket", PICTURED[1]));
    client(&["-h", "127.0.0.1", "-P", &db1.extra_address().port().to_string(), "-u", "dba", "-pdemo"])?;
    client(&["-S", &db1.socket().display().to_string(), "-u", "dba", "-pdemo"])?;

    step("Monitoring still reaches db1: its user is exempt");
    dba.types("SET GLOBAL instant_failover_exempt_users = 'monitor'")?;
    client(&["-h", "127.0.0.1", "-P", &one.port().to_string(), "-u", "monitor", "-pdemo"])?;

    step("What the server counts and logs");
    dba.types("SHOW GLOBAL STATUS LIKE 'Instant_failover_%'")?;
    for line in db1.error_log().lines().filter(|line| line.contains("instant_failover:")) {
        println!("    {line}");
    }

    step("Maintenance is over. Both clients return to db1 at once");
    dba.types("SET GLOBAL instant_failover_mode = OFF")?;
    application(one)?;
    follower(&plugins, one)?;

    let (mut db1, mut db2) = (db1, db2);
    db1.stop()?;
    db2.stop()?;
    say("\nBoth servers have been stopped and their directories removed.");
    Ok(())
}

fn start(library: &Path, name: &str) -> Result<Server> {
    let server = Server::start(library, &[])?;
    let mut root = server.root()?;
    for sql in [
        "CREATE USER app IDENTIFIED BY 'demo', dba IDENTIFIED BY 'demo', monitor IDENTIFIED BY 'demo', crowd",
        "CREATE DATABASE demo",
        "CREATE TABLE demo.hello (words TEXT)",
        &format!("INSERT INTO demo.hello VALUES ('Hello from {name}')"),
        "GRANT SELECT ON demo.* TO app, dba, monitor",
    ] {
        root.query(sql)?;
    }
    Ok(server)
}

/// Runs the `mariadb` program as the application would.
fn application(address: SocketAddr) -> Result<()> {
    client(&["-h", &address.ip().to_string(), "-P", &address.port().to_string(), "-u", "app", "-pdemo"])
}

/// The same, with the client plugin.
fn follower(plugins: &Path, address: SocketAddr) -> Result<()> {
    let host = format!("instant_failover://{}", address.ip());
    let shown = ["-h", &host, "-P", &address.port().to_string(), "-u", "app", "-pdemo"];
    show_client(&shown, server::client().arg("--plugin-dir").arg(plugins))
}

fn client(arguments: &[&str]) -> Result<()> {
    show_client(arguments, &mut server::client())
}

/// Runs the program with these arguments, and shows them and its output.
fn show_client(arguments: &[&str], program: &mut Command) -> Result<()> {
    const QUERY: &str = "SELECT * FROM demo.hello";
    println!("    {}", bold(&format!("$ mariadb {} -Ne \"{QUERY}\"", arguments.join(" "))));
    let output = program.args(arguments).args(["-N", "-e", QUERY]).output().context("cannot start mariadb")?;
    for bytes in [output.stdout, output.stderr] {
        for line in String::from_utf8_lossy(&bytes).lines().filter(|line| !line.starts_with("---") && *line != QUERY) {
            println!("    {line}");
        }
    }
    Ok(())
}

/// An open session on db1.
struct Dba(wire::Session);

impl Dba {
    fn types(&mut self, sql: &str) -> Result<()> {
        let start = Instant::now();
        let rows = self.0.query(sql)?;
        let took = start.elapsed();
        println!("    {}", bold(&format!("MariaDB [db1]> {sql};")));
        if rows.is_empty() {
            println!("    Query OK ({took:.1?})");
        }
        for row in rows {
            let columns: Vec<_> = row.iter().map(|column| format!("{column:<40}")).collect();
            println!("    {}", columns.concat().trim_end());
        }
        Ok(())
    }
}

/// Clients that connect and disconnect all the time.
struct Crowd {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// One attempt: when it began and ended, and how.
struct Seen {
    began: Instant,
    ended: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq)]
enum Outcome {
    Accepted,
    Redirected,
    Failed,
}

impl Crowd {
    fn start(address: SocketAddr) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let threads = (0..CLIENTS)
            .map(|_| {
                let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        let client = wire::Client::connect(address).map(|client| client.log_in("crowd", b""));
                        let outcome = match client {
                            Ok(Ok(client)) => match client.reply {
                                wire::Reply::Ok => Outcome::Accepted,
                                wire::Reply::Err(error) if error.code == 4196 => Outcome::Redirected,
                                _ => Outcome::Failed,
                            },
                            _ => Outcome::Failed,
                        };
                        if let Ok(mut seen) = seen.lock() {
                            seen.push(Seen { began, ended: Instant::now(), outcome });
                        }
                    }
                })
            })
            .collect();
        thread::sleep(Duration::from_millis(500));
        Self { stop, seen, threads }
    }

    fn report(self, before: Instant, after: Instant) -> Result<()> {
        thread::sleep(Duration::from_millis(500));
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            let _ = thread.join();
        }
        let seen = self.seen.lock().ok().context("a client panicked")?;
        let count = |outcome, when: &dyn Fn(&Seen) -> bool| {
            seen.iter().filter(|seen| seen.outcome == outcome && when(seen)).count()
        };
        let (early, late) = (|seen: &Seen| seen.ended < before, |seen: &Seen| seen.began > after);
        println!("    Clients that connected before:           {} accepted", count(Outcome::Accepted, &early));
        println!(
            "    Clients that connected after SET returned: {} redirected to db2, {} accepted",
            count(Outcome::Redirected, &late),
            count(Outcome::Accepted, &late)
        );
        println!("    Clients with any other result:           {}", count(Outcome::Failed, &|_| true));
        if let Some(first) = seen.iter().filter(|seen| seen.outcome == Outcome::Redirected).map(|seen| seen.ended).min()
        {
            match first.checked_duration_since(after) {
                Some(later) => println!("    First redirect:                          {later:.1?} after SET returned"),
                None => println!("    First redirect:                          before SET returned"),
            }
        }
        Ok(())
    }
}

fn step(text: &str) {
    println!("\n{}", bold(&format!("--- {text}")));
}

fn say(text: &str) {
    println!("{text}");
    let _ = std::io::stdout().flush();
}

fn bold(text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}
