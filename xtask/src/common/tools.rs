//! Installs the clients and starts their scripts.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, anyhow};
use support::{output, project_root, target_dir};

/// Creates the certificates.
pub(crate) const ALWAYS: &[&str] = &["openssl"];

/// What runs a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tool {
    /// MariaDB's own programs.
    Programs,
    /// MariaDB's client at a terminal that Python opens.
    Prompt,
    /// Health checks and monitoring, run by Python.
    Checks,
    /// Debian's Python, with packages in a virtual environment.
    Python,
    /// The same, with MariaDB's ODBC driver.
    Odbc,
    /// The machine's Node.js or Debian's, with npm packages.
    Node,
    /// Debian's Perl.
    Perl,
    /// Debian's PHP.
    Php,
    /// A program of this workspace.
    Rust,
}

/// To build the Python packages that are written in C.
const PYTHON: &[&str] = &["python3", "python3-venv", "python3-dev", "gcc", "pkg-config", "libmariadb-dev"];

const CHECKS: &[&str] =
    &["mariadb-client", "python3", "haproxy", "monitoring-plugins-standard", "prometheus-mysqld-exporter"];

impl Tool {
    /// The Debian packages it needs.
    pub(crate) fn packages(self) -> Vec<&'static str> {
        let is_missing = |program: &str| Command::new(program).arg("--version").output().is_err();
        match self {
            Self::Programs => vec!["mariadb-client"],
            Self::Prompt => vec!["mariadb-client", "python3"],
            Self::Checks => CHECKS.to_vec(),
            Self::Python => PYTHON.to_vec(),
            Self::Odbc => [PYTHON, &["odbc-mariadb", "unixodbc"]].concat(),
            Self::Node => {
                let programs = [("node", "nodejs"), ("npm", "npm")];
                programs.into_iter().filter(|(program, _)| is_missing(program)).map(|(_, package)| package).collect()
            }
            Self::Perl => vec!["perl", "libdbd-mariadb-perl"],
            Self::Php => vec!["php-cli", "php-mysql"],
            Self::Rust => Vec::new(),
        }
    }

    /// The command that runs a script, without the user's own settings. The tool must be prepared.
    pub(crate) fn command(self, script: &[&str]) -> Result<Command> {
        let mut command = match self {
            Self::Programs => Command::new("sh"),
            Self::Prompt | Self::Checks => Command::new("python3"),
            Self::Python | Self::Odbc => Command::new(installed()?.join("python/bin/python")),
            Self::Node => Command::new("node"),
            Self::Perl => Command::new("perl"),
            Self::Php => Command::new("php"),
            Self::Rust => Command::new(target_dir().join("debug/instant-failover-clients")),
        };
        forget_settings(&mut command);
        // Leave no files next to the scripts.
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        if self == Self::Node {
            // The servers listen on IPv4 only; older versions try only the first address of localhost.
            command.env("NODE_PATH", installed()?.join("node/node_modules")).arg("--dns-result-order=ipv4first");
        }
        let scripts = project_root().join("tests/clients");
        let mut words = script.iter();
        if self != Self::Rust {
            command.args(words.next().map(|name| scripts.join(name)));
        }
        command.args(words);
        Ok(command)
    }
}

/// Leaves out of a command's environment what would change what a client does.
pub(crate) fn forget_settings(command: &mut Command) {
    const SETTINGS: &[&str] = &["MYSQL", "MARIADB", "INSTANT_FAILOVER", "PYTHON", "NODE", "PERL"];
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if SETTINGS.iter().any(|prefix| text.starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
}

/// The tools that are ready, and those that failed to install.
#[derive(Debug, Default)]
pub(crate) struct Tools(HashMap<Tool, Result<(), String>>);

impl Tools {
    /// Installs what a tool needs besides Debian packages, once.
    pub(crate) fn prepare(&mut self, tool: Tool) -> Result<()> {
        let tool = if tool == Tool::Odbc { Tool::Python } else { tool };
        let prepared = self.0.entry(tool).or_insert_with(|| {
            match tool {
                Tool::Python => prepare_python(),
                Tool::Node => prepare_node(),
                Tool::Rust => prepare_rust(),
                Tool::Programs | Tool::Prompt | Tool::Checks | Tool::Odbc | Tool::Perl | Tool::Php => Ok(()),
            }
            .map_err(|error| format!("cannot install the client: {error:#}"))
        });
        prepared.clone().map_err(|error| anyhow!(error))
    }
}

/// Where the clients are installed, in cargo's target directory.
fn installed() -> Result<PathBuf> {
    let directory = target_dir().join("clients");
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// Whether `directory` contains what `wanted` says; if not, empties it.
fn is_current(directory: &Path, wanted: &str) -> Result<bool> {
    if fs::read_to_string(directory.join(STAMP)).is_ok_and(|installed| installed == wanted) {
        return Ok(true);
    }
    let _ = fs::remove_dir_all(directory);
    fs::create_dir_all(directory)?;
    Ok(false)
}

/// A file that says what was installed in its directory.
const STAMP: &str = "installed";

fn prepare_python() -> Result<()> {
    let directory = installed()?.join("python");
    let requirements = project_root().join("tests/clients/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    if is_current(&directory, &wanted)? {
        return Ok(());
    }
    eprintln!("Installing Python packages ...");
    // Debian has the headers for this one.
    output(Command::new("/usr/bin/python3").args(["-m", "venv"]).arg(&directory))?;
    output(
        Command::new(directory.join("bin/pip"))
            .args(["install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(&requirements),
    )?;
    Ok(fs::write(directory.join(STAMP), wanted)?)
}

fn prepare_node() -> Result<()> {
    let directory = installed()?.join("node");
    let source = project_root().join("tests/clients/node");
    let wanted = fs::read_to_string(source.join("package-lock.json"))?;
    if is_current(&directory, &wanted)? {
        return Ok(());
    }
    eprintln!("Installing Node packages ...");
    for name in ["package.json", "package-lock.json"] {
        fs::copy(source.join(name), directory.join(name))?;
    }
    output(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory))?;
    Ok(fs::write(directory.join(STAMP), wanted)?)
}

fn prepare_rust() -> Result<()> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(project_root()).args(["build", "--quiet", "--package", "instant-failover-clients"]);
    cargo.arg("--target-dir").arg(target_dir());
    output(&mut cargo).map(drop)
}

/// The certificate authority that signs all certificates, in the home of the clients.
pub(crate) const AUTHORITY: &str = "authority.pem";

/// Creates a certificate for a host, and returns the server options that use it. A certificate for localhost is also
/// valid for its address.
pub(crate) fn certificate(home: &Path, host: &str) -> Result<Vec<String>> {
    const NEW_KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    let openssl = |arguments: &str, more: &[&str]| {
        output(Command::new("openssl").current_dir(home).args(arguments.split(' ')).args(more))
    };
    if !home.join(AUTHORITY).exists() {
        let usage = ["-subj", "/CN=Authority of a test", "-addext", "keyUsage=critical,keyCertSign,cRLSign"];
        openssl(&format!("req -x509 -days 2 {NEW_KEY} -keyout authority.key -out {AUTHORITY}"), &usage)?;
    }
    let address = if host == "localhost" { ",IP:127.0.0.1" } else { "" };
    fs::write(home.join("extensions"), format!("subjectAltName=DNS:{host}{address}\nextendedKeyUsage=serverAuth\n"))?;
    openssl(&format!("req {NEW_KEY} -keyout {host}.key -out request -subj /CN={host}"), &[])?;
    openssl(
        &format!("x509 -req -days 2 -in request -CA {AUTHORITY} -CAkey authority.key -CAcreateserial"),
        &["-extfile", "extensions", "-out", &format!("{host}.pem")],
    )?;
    let path = |name: &str| home.join(name).display().to_string();
    Ok(vec![
        format!("--ssl-ca={}", path(AUTHORITY)),
        format!("--ssl-cert={}", path(&format!("{host}.pem"))),
        format!("--ssl-key={}", path(&format!("{host}.key"))),
    ])
}
