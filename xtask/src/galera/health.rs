//! What health checks and clients see of a node that is not ready for use.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::cluster::Node;

/// Statements in an open session, and whether a node that is not in the primary component executes them.
pub(super) const STATEMENTS: &[(&str, bool)] = &[
    ("SELECT 1", true),
    ("SELECT @@version", true),
    ("SET NAMES utf8mb4", true),
    ("USE shop", true),
    ("SHOW DATABASES", true),
    ("SHOW GLOBAL STATUS LIKE 'wsrep_ready'", true),
    ("SELECT * FROM shop.orders", false),
    ("INSERT INTO shop.orders (client, number) VALUES (0, 0)", false),
    ("BEGIN", false),
    ("COMMIT", false),
];

/// The programs to which such a node is well, and how what they say ends.
pub(super) const CONTENT: &[(&str, &str)] = &[
    ("mariadb-admin ping", "0: mysqld is alive"),
    ("mariadb-admin status", "0: Uptime: "),
    ("check_mysql", "0: Uptime: "),
    ("check_mysql_query -q 'SELECT 1'", "0: QUERY OK"),
    ("haproxy", "tcp UP L4OK, without-user UP L7OK 0, with-user UP L7OK 0"),
];

/// What a program says: its exit status, and its last line.
fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().context(program.to_owned())?;
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    let line = text.lines().next_back().unwrap_or_default();
    Ok(format!("{}: {line}", output.status.code().unwrap_or(-1)))
}

/// What the programs of [`CONTENT`] say, which log in over TCP.
pub(super) fn programs(node: &Node) -> Result<Vec<String>> {
    let (host, port) = (node.address().ip().to_string(), node.address().port().to_string());
    let (to_host, to_port) = (format!("--host={host}"), format!("--port={port}"));
    let admin = |command| {
        said(
            "mariadb-admin",
            &["--no-defaults", "--protocol=tcp", "--skip-ssl", &to_host, &to_port, "--user=app", command],
        )
    };
    let nagios = |program: &str, more: &[&str]| {
        let program = format!("/usr/lib/nagios/plugins/{program}");
        said(&program, &[&["-H", &host, "-P", &port, "-u", "app"], more].concat())
    };
    Ok(vec![
        admin("ping")?,
        admin("status")?,
        nagios("check_mysql", &[])?,
        nagios("check_mysql_query", &["-q", "SELECT 1"])?,
        haproxy(node)?,
    ])
}

/// `option mysql-check` of `HAProxy`, with and without a user: the result of the first check.
fn haproxy(node: &Node) -> Result<String> {
    let directory = tempfile::tempdir()?;
    let (config, socket) = (directory.path().join("cfg"), directory.path().join("socket"));
    let server = node.address();
    let text = format!(
        "global\n    stats socket unix@{}\ndefaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n    \
         timeout check 5s\nbackend tcp\n    server db {server} check\nbackend without-user\n    option mysql-check\n    server db {server} \
         check\nbackend with-user\n    option mysql-check user app\n    server db {server} check\n",
        socket.display()
    );
    fs::write(&config, text)?;
    let mut child = Command::new("/usr/sbin/haproxy");
    child.args(["-db", "-f"]).arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = child.spawn().context("haproxy")?;
    let end = Instant::now() + Duration::from_secs(30);
    let result = loop {
        sleep(Duration::from_millis(200));
        match first_checks(&socket) {
            Ok(Some(text)) => break Ok(text),
            _ if Instant::now() < end => {}
            other => break other.and_then(|_| bail!("HAProxy has checked nothing")),
        }
    };
    child.kill()?;
    child.wait()?;
    result
}

fn first_checks(socket: &std::path::Path) -> Result<Option<String>> {
    let mut stream = UnixStream::connect(socket)?;
    stream.write_all(b"show stat\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let mut lines = text.trim_start_matches("# ").lines();
    let names: Vec<_> = lines.next().unwrap_or_default().split(',').collect();
    let place = |name: &str| names.iter().position(|one| *one == name).context("no such column");
    let columns = [place("pxname")?, place("status")?, place("check_status")?, place("check_code")?];
    let server = place("svname")?;
    let mut all = Vec::new();
    for line in lines {
        let fields: Vec<_> = line.split(',').collect();
        if fields.get(server) != Some(&"db") {
            continue;
        }
        let values = columns.map(|column| fields.get(column).copied().unwrap_or_default());
        if values[2].is_empty() || values[2] == "INI" || values[2].starts_with('*') {
            return Ok(None);
        }
        all.push(values.join(" ").trim_end().to_owned());
    }
    Ok((!all.is_empty()).then(|| all.join(", ")))
}
