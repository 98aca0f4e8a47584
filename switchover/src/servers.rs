//! The file with the servers: an option file with one group for each.

use std::fmt;
use std::fs;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use failover::{Host, Target};
use option_file::Line;

use crate::plan::seen::Channel;
use crate::threads;

/// A file is not larger than this.
const MAX_BYTES: u64 = 1024 * 1024;

/// How long a `password-command` may take.
const PASSWORD_COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// A password: never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The password itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// All servers of a file.
#[derive(Debug, PartialEq, Eq)]
pub struct Servers {
    file: PathBuf,
    entries: Vec<Entry>,
    /// Each with the name of the server that it stands in for.
    stand_ins: Vec<(String, Entry)>,
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name of the group.
    pub name: String,
    /// How this command reaches it.
    pub way: Way,
    /// The administrator's account.
    pub user: String,
    password: Password,
    /// How clients reach it.
    pub target: Target,
    /// How other servers replicate from it; by default as clients reach it.
    pub replication: Replication,
    /// Servers with the same word belong together.
    pub cluster: Option<String>,
}

impl Entry {
    /// Whether it belongs with another server, if the file says so of both.
    #[must_use]
    pub fn same_cluster(&self, other: &Self) -> Option<bool> {
        Some(self.cluster.as_ref()? == other.cluster.as_ref()?)
    }

    /// Whether a server replicates from this one, of whose `server_id` its connection is. Servers of other clusters may have the
    /// same; `None` if nothing tells.
    #[must_use]
    pub fn is_source_of(&self, channel: &Channel, replica: &Self) -> Option<bool> {
        self.same_cluster(replica).or_else(|| self.replication.is_at(&channel.address).then_some(true))
    }
}

impl Replication {
    /// Whether a connection leads to this address: host and port, with a colon.
    #[must_use]
    pub fn is_at(&self, address: &str) -> bool {
        format!("{}:{}", self.host, self.port).eq_ignore_ascii_case(address)
    }
}

/// How to reach a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// Through a Unix socket.
    Socket(String),
    /// Over TCP.
    Tcp {
        /// A name or an address.
        host: String,
        /// The port.
        port: u16,
        /// How the connection is protected.
        tls: Tls,
    },
}

/// How a connection is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Off,
    /// The certificate must be valid for the host name.
    Verified {
        /// Certificates of authorities, in a file.
        ca: PathBuf,
        /// Certificate and key to present, in files.
        identity: Option<(PathBuf, PathBuf)>,
    },
}

/// What `CHANGE MASTER` needs on another server to replicate from this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replication {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The account.
    pub user: Option<String>,
    /// Its password.
    pub password: Secret,
    /// `MASTER_SSL`
    pub ssl: bool,
    /// `MASTER_SSL_CA`: a file on the replica.
    pub ssl_ca: Option<String>,
    /// `MASTER_SSL_CERT`: a file on the replica.
    pub ssl_cert: Option<String>,
    /// `MASTER_SSL_KEY`: a file on the replica.
    pub ssl_key: Option<String>,
    /// `MASTER_SSL_VERIFY_SERVER_CERT`
    pub ssl_verify: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Password {
    Given(Secret),
    Command(String),
}

impl Servers {
    /// Reads the file that was given, or the first of the default files that exists.
    ///
    /// # Errors
    /// What is wrong with the file; if there is none.
    pub fn read(given: Option<&Path>) -> Result<Self, String> {
        let file = match given {
            Some(file) => file.to_owned(),
            None => default_files().into_iter().find(|file| file.exists()).ok_or_else(|| {
                format!(
                    "there is no file with servers: write one, for example\n\n{EXAMPLE}\nto {}",
                    shown(&default_files())
                )
            })?,
        };
        let metadata = fs::metadata(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        if !metadata.is_file() {
            return Err(format!("{}: not a regular file", file.display()));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(format!("{} contains passwords and others have access to it: chmod 600 {0}", file.display()));
        }
        if metadata.len() > MAX_BYTES {
            return Err(format!("{} has {} bytes; at most {MAX_BYTES} are allowed", file.display(), metadata.len()));
        }
        let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        Self::parse(&text, &file)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// What is wrong, with its place.
    pub fn parse(text: &str, file: &Path) -> Result<Self, String> {
        let lines = option_file::parse(text, file)?;
        if let Some(line) = lines.iter().find(|line| line.group.is_empty()) {
            return Err(format!(
                "{}: {} is in no group; begin with [NAME], the name of a server",
                line.place, line.name
            ));
        }
        let names = option_file::groups(text);
        for (n, name) in names.iter().enumerate() {
            if names[..n].contains(name) {
                return Err(format!("{}: the group [{name}] is there twice; keep one", file.display()));
            }
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                return Err(format!(
                    "{}: [{name}] is not a name; use letters, digits, '-', '_' and '.'",
                    file.display()
                ));
            }
        }
        let (mut entries, mut stand_ins) = (Vec::new(), Vec::new());
        for name in &names {
            let mut own: Vec<_> = lines.iter().filter(|line| line.group == *name).collect();
            let stands_in = own.iter().rev().find(|line| line.name == STAND_IN_FOR).copied();
            let server = stands_in.map(|line| line.value.clone().unwrap_or_default());
            if let (Some(server), Some(line)) = (&server, stands_in) {
                if server == name || !names.contains(server) {
                    return Err(format!("{}: there is no other group [{server}]", line.place));
                }
                own.extend(lines.iter().filter(|line| line.group == *server && line.name == "target"));
            }
            let entry = Entry::new(name, &own).map_err(|error| error.with_place(file, name))?;
            match server {
                Some(server) => stand_ins.push((server, entry)),
                None => entries.push(entry),
            }
        }
        if let Some((server, entry)) =
            stand_ins.iter().find(|(server, _)| entries.iter().all(|one| one.name != *server))
        {
            return Err(format!(
                "{}: [{}] stands in for [{server}], which is a stand-in itself",
                file.display(),
                entry.name
            ));
        }
        if entries.is_empty() {
            return Err(format!("{}: there is no server in it; write, for example\n\n{EXAMPLE}", file.display()));
        }
        Ok(Self { file: file.to_owned(), entries, stand_ins })
    }

    /// The server with this name.
    ///
    /// # Errors
    /// If there is none.
    pub fn get(&self, name: &str) -> Result<&Entry, String> {
        self.entries.iter().find(|entry| entry.name == name).ok_or_else(|| {
            if self.stand_ins.iter().any(|(_, entry)| entry.name == name) {
                return format!("{name} is a stand-in, not a server");
            }
            let names: Vec<_> = self.entries.iter().map(|entry| entry.name.as_str()).collect();
            format!("there is no server '{name}' in {}; it has {}", self.file.display(), names.join(", "))
        })
    }

    /// The stand-in for a server.
    #[must_use]
    pub fn stand_in_for(&self, server: &str) -> Option<&Entry> {
        self.stand_ins.iter().find(|(name, _)| name == server).map(|(_, entry)| entry)
    }

    /// Every stand-in.
    pub fn stand_ins(&self) -> impl Iterator<Item = &Entry> {
        self.stand_ins.iter().map(|(_, entry)| entry)
    }

    /// Every server, without stand-ins.
    #[must_use]
    pub fn all(&self) -> &[Entry] {
        &self.entries
    }
}

/// The option that makes a group a stand-in's.
const STAND_IN_FOR: &str = "stand-in-for";

const EXAMPLE: &str = "\
[db1]
host = db1.example.com
user = dba
password = ...
ssl-ca = /etc/ssl/certs/ca-certificates.crt
target = db1.example.com:3306
replication-user = repl
replication-password = ...
";

fn default_files() -> Vec<PathBuf> {
    let home =
        || std::env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let mut files: Vec<_> = config.into_iter().map(|path| path.join("instant-failover/servers.cnf")).collect();
    files.push("/etc/instant-failover/servers.cnf".into());
    files
}

fn shown(files: &[PathBuf]) -> String {
    files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>().join(" or ")
}

/// What is wrong with an entry.
struct Wrong {
    place: Option<String>,
    what: String,
}

impl Wrong {
    fn with_place(self, file: &Path, name: &str) -> String {
        let place = self.place.unwrap_or_else(|| format!("{}, group [{name}]", file.display()));
        format!("{place}: {}", self.what)
    }
}

impl From<String> for Wrong {
    fn from(what: String) -> Self {
        Self { place: None, what }
    }
}

/// The options of one group.
struct Options<'a>(Vec<&'a Line>);

const NAMES: &[&str] = &[
    "host",
    "port",
    "socket",
    "user",
    "password",
    "password-command",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "skip-ssl",
    "target",
    "replication-host",
    "replication-port",
    "replication-user",
    "replication-password",
    "replication-ssl",
    "replication-ssl-ca",
    "replication-ssl-cert",
    "replication-ssl-key",
    "replication-ssl-verify-server-cert",
    "cluster",
    STAND_IN_FOR,
];

impl<'a> Options<'a> {
    fn new(lines: &[&'a Line]) -> Result<Self, Wrong> {
        for line in lines {
            if !NAMES.contains(&line.name.as_str()) {
                let what = format!("there is no option {}; there are {}", line.name, NAMES.join(", "));
                return Err(Wrong { place: Some(line.place.clone()), what });
            }
        }
        Ok(Self(lines.to_vec()))
    }

    /// As everywhere in option files, the last one counts.
    fn line(&self, name: &str) -> Option<&'a Line> {
        self.0.iter().rev().find(|line| line.name == name).copied()
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.line(name)?.value.as_deref().filter(|value| !value.is_empty())
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    fn port(&self, name: &str) -> Result<Option<u16>, Wrong> {
        let Some(line) = self.line(name) else { return Ok(None) };
        let value = line.value.as_deref().unwrap_or_default();
        match value.parse() {
            Ok(0) | Err(_) => Err(Wrong { place: Some(line.place.clone()), what: format!("'{value}' is not a port") }),
            Ok(port) => Ok(Some(port)),
        }
    }

    fn flag(&self, name: &str) -> Result<Option<bool>, Wrong> {
        let Some(line) = self.line(name) else { return Ok(None) };
        let value = line.value.as_deref().unwrap_or("1");
        match value.parse::<failover::Switch>() {
            Ok(switch) => Ok(Some(switch.is_on())),
            Err(error) => Err(Wrong { place: Some(line.place.clone()), what: error.to_string() }),
        }
    }
}

impl Entry {
    fn new(name: &str, lines: &[&Line]) -> Result<Self, Wrong> {
        let options = Options::new(lines)?;
        let target = options.line("target").ok_or_else(|| {
            Wrong::from("target is missing: how clients reach this server, for example db1.example.com:3306".to_owned())
        })?;
        let value = target.value.as_deref().unwrap_or_default();
        let target: Target = value.parse().map_err(|error: failover::TargetError| Wrong {
            place: Some(target.place.clone()),
            what: error.to_string(),
        })?;
        let password = match (options.line("password"), options.owned("password-command")) {
            (Some(_), Some(_)) => return Err("give password or password-command, not both".to_owned().into()),
            (_, Some(command)) => Password::Command(command),
            (password, None) => {
                Password::Given(Secret(password.and_then(|line| line.value.clone()).unwrap_or_default()))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            way: way(&options)?,
            user: options
                .owned("user")
                // A stand-in accepts root of its own Unix socket only.
                .or_else(|| {
                    (options.line(STAND_IN_FOR).is_some() && options.line("socket").is_some())
                        .then(|| "root".to_owned())
                })
                .ok_or_else(|| Wrong::from("user is missing: an administrator's account".to_owned()))?,
            password,
            replication: Replication::new(&options, &target)?,
            target,
            cluster: options.owned("cluster"),
        })
    }

    /// The administrator's password. Runs `password-command`, if that is how it is given.
    ///
    /// # Errors
    /// If that command fails, or takes too long.
    pub fn password(&self) -> Result<Secret, String> {
        match &self.password {
            Password::Given(password) => Ok(password.clone()),
            Password::Command(command) => run(command, PASSWORD_COMMAND_TIMEOUT)
                .map_err(|why| format!("password-command of {}: {why}", self.name)),
        }
    }
}

fn way(options: &Options<'_>) -> Result<Way, Wrong> {
    if let Some(socket) = options.owned("socket") {
        if options.line("host").is_some() {
            return Err("give socket or host, not both".to_owned().into());
        }
        return Ok(Way::Socket(socket));
    }
    let host = options.owned("host").ok_or_else(|| Wrong::from("host is missing, or socket".to_owned()))?;
    let identity = match (options.path("ssl-cert"), options.path("ssl-key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        _ => return Err("give both ssl-cert and ssl-key, or neither".to_owned().into()),
    };
    let tls = match (options.path("ssl-ca"), options.flag("skip-ssl")?.unwrap_or(false)) {
        (Some(ca), false) => Tls::Verified { ca, identity },
        (None, true) => Tls::Off,
        (Some(_), true) => return Err("give ssl-ca or skip-ssl, not both".to_owned().into()),
        (None, false) => {
            let what = "is the connection over TCP protected? Give ssl-ca, a file with the authority that signed the \
                        server's certificate, or skip-ssl. This connection carries passwords of replication";
            return Err(what.to_owned().into());
        }
    };
    Ok(Way::Tcp { host, port: options.port("port")?.unwrap_or(failover::DEFAULT_PORT), tls })
}

impl Replication {
    fn new(options: &Options<'_>, target: &Target) -> Result<Self, Wrong> {
        let host = match target.host() {
            Host::V6(address) => address.to_string(),
            host => host.to_string(),
        };
        let (ssl_ca, ssl_cert, ssl_key) = (
            options.owned("replication-ssl-ca"),
            options.owned("replication-ssl-cert"),
            options.owned("replication-ssl-key"),
        );
        let has_files = ssl_ca.is_some() || ssl_cert.is_some() || ssl_key.is_some();
        Ok(Self {
            host: options.owned("replication-host").unwrap_or(host),
            port: options.port("replication-port")?.unwrap_or_else(|| target.port()),
            user: options.owned("replication-user"),
            password: Secret(options.owned("replication-password").unwrap_or_default()),
            ssl: options.flag("replication-ssl")?.unwrap_or(has_files),
            ssl_verify: options.flag("replication-ssl-verify-server-cert")?.unwrap_or(ssl_ca.is_some()),
            ssl_ca,
            ssl_cert,
            ssl_key,
        })
    }
}

/// The first line that a command writes.
fn run(command: &str, patience: Duration) -> Result<Secret, String> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let deadline = Instant::now() + patience;
    let output = child.stdout.take();
    // It may leave a process behind that never closes its output.
    let line = threads::within(patience, || output.map_or(Ok(Vec::new()), first_line));
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) if line.is_some() || !status.success() => break status,
            Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            Ok(_) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("no result within {} s", patience.as_secs_f64()));
            }
            Err(error) => return Err(error.to_string()),
        }
    };
    if !status.success() {
        return Err(status.to_string());
    }
    let line = line.unwrap_or_else(|| Ok(Vec::new())).map_err(|error| error.to_string())?;
    let text = String::from_utf8(line).map_err(|_| "its output is not UTF-8".to_owned())?;
    Ok(Secret(text.lines().next().unwrap_or_default().to_owned()))
}

/// What comes after the line is read, too, so that the command can end.
fn first_line(output: ChildStdout) -> io::Result<Vec<u8>> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    output.by_ref().take(MAX_BYTES).read_until(b'\n', &mut line)?;
    std::thread::spawn(move || io::copy(&mut output, &mut io::sink()));
    Ok(line)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use super::{Servers, Tls, Way, run};
    use crate::plan::unfinished::tests::channel;

    const TEXT: &str = "\
[db1]
host = db1.example.com
port = 3307
user = dba
password = 'a#b'
ssl-ca = /ca.pem
target = DB1.example.com
replication-user = repl
replication-password = r
[db2]
socket = /run/s
user = root
password-command = echo secret; echo more
target = [2001:db8::2]:3310
cluster = a
";

    fn parse(text: &str) -> Result<Servers, String> {
        Servers::parse(text, Path::new("f"))
    }

    #[test]
    fn replicas_of_another_server_with_the_same_id() {
        let text = |clusters: [&str; 2]| {
            let group = |name, cluster| format!("[{name}]\nsocket=/s\nuser=u\ntarget={name}\n{cluster}\n");
            group("db1", clusters[0]) + &group("db3", clusters[1])
        };
        let mut channel = channel(1);
        for (clusters, address, expected) in [
            (["", ""], "DB1:3306", Some(true)),
            (["", ""], "10.0.0.1:3306", None),
            (["cluster=shop", ""], "10.0.0.1:3306", None),
            (["cluster=shop", "cluster=shop"], "10.0.0.1:3306", Some(true)),
            (["cluster=shop", "cluster=stock"], "db1:3306", Some(false)),
        ] {
            let servers = parse(&text(clusters)).unwrap();
            let [db1, db3] = servers.all() else { panic!("{servers:?}") };
            address.clone_into(&mut channel.address);
            assert_eq!(db1.is_source_of(&channel, db3), expected, "{clusters:?} {address}");
        }
    }

    #[test]
    fn entries() {
        let servers = parse(TEXT).unwrap();
        let [db1, db2] = servers.all() else { panic!("{servers:?}") };
        let Way::Tcp { host, port, tls: Tls::Verified { ca, identity: None } } = &db1.way else { panic!("{db1:?}") };
        assert_eq!((host.as_str(), *port, ca.to_str()), ("db1.example.com", 3307, Some("/ca.pem")));
        assert_eq!(db1.password().unwrap().reveal(), "a#b");
        assert_eq!((db1.replication.host.as_str(), db1.replication.port), ("DB1.example.com", 3306));
        assert_eq!(db2.way, Way::Socket("/run/s".to_owned()));
        assert_eq!(db2.password().unwrap().reveal(), "secret");
        assert_eq!((db2.replication.host.as_str(), db2.replication.port), ("2001:db8::2", 3310));
        assert_eq!(db2.cluster.as_deref(), Some("a"));
        assert!(servers.get("db3").unwrap_err().contains("there is no server 'db3' in f; it has db1, db2"));
        assert!(!format!("{servers:?}").contains("a#b"));
    }

    #[test]
    fn stand_ins() {
        let text = format!("{TEXT}[stand-in]\nstand-in-for=db1\nsocket=/run/t\nuser=root\n");
        let servers = parse(&text).unwrap();
        assert_eq!(servers.all().len(), 2);
        let stand_in = servers.stand_in_for("db1").unwrap();
        assert_eq!((stand_in.name.as_str(), stand_in.target.to_string().as_str()), ("stand-in", "DB1.example.com"));
        assert!(servers.stand_in_for("db2").is_none());
        assert_eq!(servers.get("stand-in").unwrap_err(), "stand-in is a stand-in, not a server");
        let text = text.replace("user=root\n", "");
        assert_eq!(parse(&text).unwrap().stand_in_for("db1").unwrap().user, "root");
        let error = parse(&text.replace("socket=/run/t", "host=x\nskip-ssl")).unwrap_err();
        assert_eq!(error, "f, group [stand-in]: user is missing: an administrator's account");
        for (text, expected) in [
            ("[a]\nstand-in-for=b\n", "f, line 2: there is no other group [b]"),
            ("[a]\nstand-in-for=a\n", "f, line 2: there is no other group [a]"),
            (
                "[a]\ntarget=x\nuser=u\nsocket=s\nstand-in-for=b\n[b]\ntarget=x\nuser=u\nsocket=s\nstand-in-for=a\n",
                "f: [a] stands in for [b], which is a stand-in itself",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), expected);
        }
    }

    #[test]
    fn mistakes() {
        for (text, expected) in [
            ("", "f: there is no server in it"),
            ("host=x\n", "f, line 1: host is in no group"),
            ("[a]\n[a]\n", "f: the group [a] is there twice"),
            ("[a b]\n", "f: [a b] is not a name"),
            ("[a]\nhots=x\n", "f, line 2: there is no option hots; there are host, port"),
            ("[a]\ntarget=x:y\n", "f, line 2: 'x:y'"),
            ("[a]\nhost=x\nuser=u\n", "f, group [a]: target is missing"),
            ("[a]\ntarget=x\nhost=x\nskip-ssl\n", "f, group [a]: user is missing"),
            ("[a]\ntarget=x\nuser=u\n", "f, group [a]: host is missing, or socket"),
            ("[a]\ntarget=x\nuser=u\nhost=x\n", "f, group [a]: is the connection over TCP protected?"),
            ("[a]\ntarget=x\nuser=u\nhost=x\nskip-ssl\nport=0\n", "f, line 6: '0' is not a port"),
            ("[a]\ntarget=x\nuser=u\nhost=x\nsocket=y\n", "f, group [a]: give socket or host, not both"),
            ("[a]\ntarget=x\nuser=u\nhost=x\nskip-ssl=maybe\n", "f, line 5: 'maybe' is not a boolean"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
        let failing = "[a]\ntarget=x\nuser=u\nsocket=y\npassword-command=exit 3\n";
        let error = parse(failing).unwrap().all()[0].password().unwrap_err();
        assert_eq!(error, "password-command of a: exit status: 3");
    }

    #[test]
    fn password_commands() {
        let run = |command: &str| run(command, Duration::from_millis(500)).map(|secret| secret.reveal().to_owned());
        let began = Instant::now();
        for (command, expected) in [
            ("printf secret", "secret"),
            ("echo secret; sleep 9 2>&- &", "secret"),
            // More than a pipe holds.
            ("echo secret; head -c 1000000 /dev/zero", "secret"),
            ("echo; echo more", ""),
            ("true", ""),
        ] {
            assert_eq!(run(command).as_deref(), Ok(expected), "{command}");
        }
        for (command, expected) in [
            ("echo secret; exit 3", "exit status: 3"),
            ("sleep 9 2>&- & exit 3", "exit status: 3"),
            ("sleep 9 2>&- &", "no result within 0.5 s"),
            ("echo secret; exec sleep 20", "no result within 0.5 s"),
            (r"printf '\377'", "its output is not UTF-8"),
        ] {
            assert_eq!(run(command), Err(expected.to_owned()), "{command}");
        }
        assert!(began.elapsed() < Duration::from_secs(8));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("servers.cnf");
        fs::write(&file, TEXT).unwrap();
        for (mode, fine) in [(0o600, true), (0o400, true), (0o640, false), (0o604, false), (0o620, false)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let read = Servers::read(Some(&file));
            assert_eq!(read.is_ok(), fine, "{mode:o}: {read:?}");
        }
        assert!(Servers::read(Some(directory.path())).unwrap_err().contains("not a regular file"));
        assert!(Servers::read(Some(Path::new("/none"))).unwrap_err().contains("No such file"));
    }
}
