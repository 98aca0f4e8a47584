//! Three nodes of a Galera cluster on this machine, each with an address of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use support::system::System;
use support::{child, output, packages, project_root, wire};
use tempfile::TempDir;

/// A state transfer copies some 50 MB; on a busy machine that takes a while.
const LIMIT: Duration = Duration::from_mins(2);

/// With this account `galera-notify` asks other nodes. It has no privilege.
const PEER: (&str, &str) = ("instant_failover_peer", "peer");

pub(super) struct Cluster {
    pub(super) nodes: [Node; 3],
}

/// Its data is removed with it.
pub(super) struct Node {
    pub(super) name: String,
    address: Ipv4Addr,
    system: System,
    dir: TempDir,
    child: Option<Child>,
}

impl Cluster {
    /// Starts a cluster; all nodes are synced.
    pub(super) fn start(system: &System, library: &Path) -> Result<Self> {
        let network = std::process::id();
        let address = |node: u8| {
            let [.., high, low] = network.to_be_bytes();
            // Other clusters on this machine have other addresses.
            Ipv4Addr::new(127, 64 | high & 63, low, node)
        };
        let node = |number| Node::new(system, library, number, address);
        let mut nodes = [node(1)?, node(2)?, node(3)?];
        nodes[0].run(&["--wsrep-new-cluster"])?;
        let (name, password) = PEER;
        let mut root = nodes[0].root()?;
        for statement in [
            format!("CREATE USER {name} IDENTIFIED BY '{password}'"),
            "CREATE USER app".to_owned(),
            "CREATE DATABASE shop".to_owned(),
            "GRANT ALL ON shop.* TO app".to_owned(),
            "CREATE TABLE shop.orders (id INT AUTO_INCREMENT PRIMARY KEY, client INT, number INT)".to_owned(),
            "CREATE USER sst@localhost IDENTIFIED BY 'sst'".to_owned(),
            "GRANT RELOAD, PROCESS, LOCK TABLES, REPLICATION CLIENT ON *.* TO sst@localhost".to_owned(),
        ] {
            root.query(&statement)?;
        }
        for node in &mut nodes[1..] {
            node.run(&[])?;
        }
        Ok(Self { nodes })
    }
}

impl Node {
    fn new(system: &System, library: &Path, number: u8, address: impl Fn(u8) -> Ipv4Addr) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("instant-failover-").tempdir()?;
        // The nodes run as another user: rsync, run by root, would change to a user who may not write there.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777))?;
        let path = |name: &str| dir.path().join(name);
        system.install_plugins(&path("plugin"), library)?;
        let others = (1..=3).filter(|&other| other != number).map(|other| format!("{}:3306", address(other)));
        let others = others.collect::<Vec<_>>().join(",");
        // A copy, which that user can reach wherever the project is.
        fs::copy(project_root().join("packaging/galera-notify"), path("galera-notify"))?;
        let own = address(number);
        let mut options = format!("[client]\nuser = root\nskip-ssl\nsocket = {}\n", path("socket").display());
        fs::write(path("here.cnf"), &options)?;
        let (name, password) = PEER;
        fs::write(path("peers.cnf"), format!("[client]\nuser = {name}\npassword = {password}\nskip-ssl\n"))?;
        let members = (1..=3).map(|member| address(member).to_string()).collect::<Vec<_>>().join(",");
        write!(
            options,
            "[mariadb]\n\
             datadir = {data}\n\
             socket = {socket}\n\
             pid-file = {pid}\n\
             plugin-dir = {plugins}\n\
             tmpdir = {dir}\n\
             server-id = {number}\n\
             bind-address = {own}\n\
             port = 3306\n\
             skip-name-resolve\n\
             innodb-buffer-pool-size = 16M\n\
             innodb-log-file-size = 8M\n\
             innodb-flush-log-at-trx-commit = 0\n\
             binlog-format = ROW\n\
             innodb-autoinc-lock-mode = 2\n\
             wsrep-on = ON\n\
             wsrep-provider = /usr/lib/galera/libgalera_smm.so\n\
             loose-plugin-wsrep-provider = OFF\n\
             wsrep-cluster-name = instant_failover\n\
             wsrep-cluster-address = gcomm://{members}\n\
             wsrep-node-name = node{number}\n\
             wsrep-node-address = {own}\n\
             wsrep-provider-options = \"gmcast.listen_addr=tcp://{own}:4567;ist.recv_addr={own}:4568;gcache.size=16M\"\n\
             wsrep-sst-receive-address = {own}:4444\n\
             wsrep-sst-method = rsync\n\
             wsrep-sst-auth = sst:sst\n\
             wsrep-notify-cmd = \"{notify} --defaults-extra-file={here} --peers-file={peers} --targets={others} --log={log}\"\n\
             [sst]\n\
             # Without it, on all addresses of this machine: of other clusters, too.\n\
             sockopt = \",bind={own}\"\n",
            data = path("data").display(),
            socket = path("socket").display(),
            pid = path("pid").display(),
            plugins = path("plugin").display(),
            dir = dir.path().display(),
            notify = path("galera-notify").display(),
            here = path("here.cnf").display(),
            peers = path("peers.cnf").display(),
            log = path("notify.log").display(),
        )?;
        fs::write(path("my.cnf"), options)?;
        let node = Self { name: format!("node{number}"), address: own, system: system.clone(), dir, child: None };
        node.install_data()?;
        Ok(node)
    }

    fn install_data(&self) -> Result<()> {
        let defaults = self.defaults();
        let mut command = self.system.command(self.dir(), "mariadb-install-db");
        command.args([
            &defaults,
            "--skip-test-db",
            "--auth-root-authentication-method=normal",
            "--wsrep-on=OFF",
            "--force",
        ]);
        output(command.args(user_argument())).map(drop)
    }

    fn defaults(&self) -> String {
        format!("--defaults-file={}", self.path("my.cnf").display())
    }

    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// As clients reach it.
    pub(super) fn address(&self) -> SocketAddr {
        (self.address, 3306).into()
    }

    /// Starts it, and waits until it is synced.
    pub(super) fn run(&mut self, arguments: &[&str]) -> Result<()> {
        self.begin(arguments)?;
        self.wait_until("synced", Self::is_synced)
    }

    /// Starts it.
    pub(super) fn begin(&mut self, arguments: &[&str]) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path("error.log"))?;
        let mut command = self.system.command(self.dir(), "/usr/sbin/mariadbd");
        command.arg(self.defaults()).args(user_argument()).args(arguments);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(child::spawn(&mut command)?);
        Ok(())
    }

    /// Waits until it ends by itself.
    pub(super) fn wait_for_end(&mut self) -> Result<()> {
        let Some(child) = &mut self.child else { return Ok(()) };
        let deadline = Instant::now() + LIMIT;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end:\n{}", self.name, self.error_log());
            }
            sleep(Duration::from_millis(20));
        }
        self.child = None;
        Ok(())
    }

    /// Stops it as an operator does.
    pub(super) fn stop(&mut self) -> Result<()> {
        if self.child.is_some() {
            self.root()?.query("SHUTDOWN")?;
        }
        self.wait_for_end()
    }

    /// Ends it as a crash does.
    pub(super) fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        // In another root, this is `unshare`, and the server outlives it: as another user, it is no longer told.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))?;
        for pid in children.split_whitespace() {
            // One that has ended by itself is no failure.
            let _ = Command::new("kill").args(["-KILL", pid]).stderr(Stdio::null()).status()?;
        }
        child.kill()?;
        child.wait().map(drop).map_err(Into::into)
    }

    /// Removes its data: it needs a whole state transfer at its next start.
    pub(super) fn forget_data(&self) -> Result<()> {
        fs::remove_dir_all(self.path("data"))?;
        self.install_data()
    }

    pub(super) fn root(&self) -> Result<wire::Session> {
        wire::Client::connect_socket(&self.path("socket"))?.log_in("root", b"")?.session()
    }

    pub(super) fn is_synced(&self) -> bool {
        let state = |name| self.root().and_then(|mut root| root.status(name)).unwrap_or_default();
        state("wsrep_local_state_comment") == "Synced" && state("wsrep_cluster_status") == "Primary"
    }

    pub(super) fn mode(&self) -> Result<String> {
        let row = self.root()?.query("SELECT CONCAT_WS(' ', @@instant_failover_mode, @@instant_failover_target)")?;
        row.into_iter().flatten().next().context("no mode")
    }

    pub(super) fn set(&self, assignments: &str) -> Result<()> {
        self.root()?.query(&format!("SET GLOBAL {assignments}")).map(drop)
    }

    /// Takes it out of the network of the cluster, and back.
    pub(super) fn isolate(&self, isolated: bool) -> Result<()> {
        self.set(&format!("wsrep_provider_options = 'gmcast.isolate={}'", u8::from(isolated)))
    }

    /// A state transfer from this node waits as long as the session lasts: it needs a global read lock. Without that, the node may be
    /// a donor for less time than `galera-notify` needs to look.
    pub(super) fn hold_transfers(&self) -> Result<wire::Session> {
        let mut session = self.root()?;
        session.query("LOCK TABLES shop.orders WRITE")?;
        Ok(session)
    }

    pub(super) fn log_in(&self) -> Result<wire::Reply> {
        Ok(wire::Client::connect(self.address())?.log_in("app", b"")?.reply)
    }

    pub(super) fn wait_until(&self, what: &str, is_so: impl Fn(&Self) -> bool) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        while !is_so(self) {
            if Instant::now() > deadline {
                bail!("{} is not {what}; its log ends with\n{}", self.name, self.error_log());
            }
            sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until its `galera-notify` has nothing more to do.
    pub(super) fn wait_for_notify(&self) -> Result<()> {
        self.wait_for("here.cnf")
    }

    /// Waits for the `galera-notify` that has locked this file.
    pub(super) fn wait_for(&self, file: &str) -> Result<()> {
        output(Command::new("flock").arg("--wait=60").arg(self.path(file)).arg("true")).map(drop)
    }

    /// What `galera-notify` has noted.
    pub(super) fn notes(&self) -> String {
        fs::read_to_string(self.path("notify.log")).unwrap_or_default()
    }

    pub(super) fn whole_error_log(&self) -> String {
        let log = fs::read(self.path("error.log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    /// The end of its error log.
    pub(super) fn error_log(&self) -> String {
        let log = self.whole_error_log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn user_argument() -> Option<&'static str> {
    packages::is_root().then_some("--user=mysql")
}
