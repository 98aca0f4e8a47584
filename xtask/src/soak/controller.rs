//! Changes settings and plugins, and records each change.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use support::wire::Session;

use super::clients::{DOMAIN, ROLES, user};
use super::report::Counters;
use super::state::{Account, Mode, Settings, State};
use super::{Leg, STAYING};

/// Libraries with plugins that none of our logins need. Those missing on this machine are not used.
const OTHERS: [&str; 6] =
    ["auth_0x0100", "auth_pam_v1", "auth_test_plugin", "dialog_examples", "qa_auth_interface", "simple_password_check"];

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Round {
    /// Our plugin is not installed: this shows how the server behaves alone.
    Without,
    /// Our plugin stays installed: its counters must agree at the end.
    Stays,
    /// Our plugin is installed and uninstalled, too.
    ComesAndGoes,
}

pub(super) struct Controller<'a> {
    leg: &'a Leg,
    root: Session,
    random: fastrand::Rng,
    others: Vec<&'static str>,
    loaded: BTreeSet<&'static str>,
    /// Statements that changed something.
    pub(super) changes: u64,
    /// How often HOLD was set, and a drain was.
    pub(super) holds: u64,
    pub(super) drains: u64,
    /// INSTALLs of any library.
    pub(super) installs: u64,
    /// INSTALLs of our plugin.
    pub(super) own_installs: u64,
}

impl<'a> Controller<'a> {
    pub(super) fn new(leg: &'a Leg, seed: u64) -> Result<Self> {
        let directory = leg.server.plugin_dir();
        let others = OTHERS.into_iter().filter(|name| directory.join(name).with_extension("so").exists()).collect();
        Ok(Self {
            leg,
            root: leg.server.root()?,
            random: fastrand::Rng::with_seed(seed),
            others,
            loaded: BTreeSet::new(),
            changes: 0,
            holds: 0,
            drains: 0,
            installs: 0,
            own_installs: 0,
        })
    }

    /// Changes one thing after another until then.
    pub(super) fn run(&mut self, round: Round, until: Instant) -> Result<()> {
        while Instant::now() < until && self.leg.goes_on() {
            match (self.random.u8(..10), round) {
                (0, Round::ComesAndGoes) => self.toggle_ours()?,
                (0 | 1, _) => self.toggle_ed25519()?,
                (_, Round::Without) | (2, _) => self.toggle_other()?,
                _ => self.set()?,
            }
            // Often immediately, and sometimes long enough for many logins between two changes.
            let pause = if self.random.bool() { 5 } else { 300 };
            sleep(Duration::from_millis(self.random.u64(..pause)));
            self.leg.show_progress();
        }
        self.leave_hold()
    }

    /// Clients that are held would not end.
    fn leave_hold(&mut self) -> Result<()> {
        let settings = self.leg.history().last().settings;
        match settings {
            Some(settings) if settings.mode == Mode::Hold => {
                self.set_all(&settings, &Settings { mode: Mode::Off, ..settings.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Sends a statement that passes through these states and ends in the last one.
    fn change(&mut self, states: Vec<State>, sql: &str) -> Result<()> {
        self.leg.history().begin(states, Instant::now());
        self.root.query(sql).map_err(|error| error.context(sql.to_owned()))?;
        Ok(())
    }

    fn settle(&mut self) {
        self.leg.history().settle(Instant::now());
        self.changes += 1;
    }

    /// Changes some of our plugin's variables, or installs it if it is not installed.
    fn set(&mut self) -> Result<()> {
        let state = self.leg.history().last();
        let Some(settings) = state.settings else { return self.toggle_ours() };
        let mut wanted = settings.clone();
        // Held clients do nothing else.
        if settings.mode == Mode::Hold && self.random.bool() {
            wanted.mode = [Mode::Off, Mode::On, Mode::All][self.random.usize(..3)];
            return self.set_all(&settings, &wanted);
        }
        match self.random.u8(..13) {
            8 | 9 => wanted.mode = Mode::Hold,
            10 => return self.let_hold_end(&settings),
            11 | 12 => {
                wanted.mode = [Mode::On, Mode::All, Mode::Hold][self.random.usize(..3)];
                wanted.drain = !settings.drain;
            }
            0 | 1 => wanted.mode = [Mode::Off, Mode::On, Mode::All][self.random.usize(..3)],
            2 => (wanted.mode, wanted.target) = ([Mode::On, Mode::All][self.random.usize(..2)], self.target()),
            3 => (wanted.text, wanted.target) = (self.text(), self.target()),
            4 => wanted.text = self.text(),
            5 => wanted.exempt_users = self.users(),
            6 => wanted.exempt_hosts = self.hosts(),
            _ => wanted.target = self.target(),
        }
        self.set_all(&settings, &wanted)
    }

    /// Sets all differences in one statement. The server applies them one after another.
    fn set_all(&mut self, now: &Settings, wanted: &Settings) -> Result<()> {
        let mut wanted = wanted.clone();
        if wanted.mode != Mode::Off && wanted.target.is_empty() {
            wanted.target = self.target();
        }
        // The mode OFF ends a drain. The sessions that stay must not be ended.
        wanted.drain &= wanted.mode != Mode::Off;
        if wanted.drain && !wanted.exempt_users.iter().any(|user| user == STAYING) {
            wanted.exempt_users.push(STAYING.to_owned());
        }
        let ed25519 = self.leg.history().last().ed25519;
        let (mut step, mut steps, mut changes) = (now.clone(), Vec::new(), Vec::new());
        let mut note = |differs: bool, name: &str, value: &str, step: &Settings| {
            if differs {
                changes.push(format!("instant_failover_{name} = '{value}'"));
                steps.push(State { settings: Some(step.clone()), ed25519 });
            }
        };
        step.target.clone_from(&wanted.target);
        note(step.target != now.target, "target", &step.target, &step);
        step.text.clone_from(&wanted.text);
        note(step.text != now.text, "message", &step.text, &step);
        step.exempt_users.clone_from(&wanted.exempt_users);
        note(step.exempt_users != now.exempt_users, "exempt_users", &step.exempt_users.join(","), &step);
        step.exempt_hosts.clone_from(&wanted.exempt_hosts);
        let hosts: Vec<String> =
            step.exempt_hosts.iter().map(|(network, length)| format!("{network}/{length}")).collect();
        note(step.exempt_hosts != now.exempt_hosts, "exempt_hosts", &hosts.join(","), &step);
        step.mode = wanted.mode;
        let drained = step.drain;
        step.drain &= step.mode != Mode::Off;
        note(step.mode != now.mode, "mode", &step.mode.to_string(), &step);
        let ended = drained && !step.drain;
        step.drain = wanted.drain;
        note(!ended && step.drain != now.drain, "drain", if step.drain { "ON" } else { "OFF" }, &step);
        if !changes.is_empty() {
            self.holds += u64::from(step.mode == Mode::Hold && now.mode != Mode::Hold);
            self.drains += u64::from(step.drain && !now.drain);
            self.change(steps, &format!("SET GLOBAL {}", changes.join(", ")))?;
            self.settle();
        }
        Ok(())
    }

    /// Sets HOLD, and waits until it ends by itself.
    fn let_hold_end(&mut self, now: &Settings) -> Result<()> {
        self.holds += 1;
        let ed25519 = self.leg.history().last().ed25519;
        let [held, ended] = [(Mode::Hold, now.drain), (Mode::Off, false)]
            .map(|(mode, drain)| State { settings: Some(Settings { mode, drain, ..now.clone() }), ed25519 });
        self.change(vec![held, ended], "SET GLOBAL instant_failover_hold_timeout = 1, instant_failover_mode = 'HOLD'")?;
        self.wait_for("HOLD to end", |root| Ok(root.query("SELECT @@instant_failover_mode")? == [["OFF"]]))?;
        self.settle();
        self.root.query("SET GLOBAL instant_failover_hold_timeout = DEFAULT").map(drop)
    }

    /// Host and port have the same number, which reveals a torn target.
    fn target(&mut self) -> String {
        let number = self.random.u16(1..);
        format!("host{number}.{DOMAIN}:{number}")
    }

    fn text(&mut self) -> String {
        let number = self.random.u16(..);
        match self.random.u8(..3) {
            0 => format!("Text {number}: go to %s."),
            1 => format!("Text {number} without a target"),
            // Just fits with the longest target.
            _ => format!("Text {number} to %s{}", " long".repeat(80)),
        }
    }

    fn users(&mut self) -> Vec<String> {
        let mut users = Vec::new();
        for _ in 0..self.random.usize(..12) {
            let account = Account::ALL[self.random.usize(..Account::ALL.len())];
            users.push(user(account, self.random.usize(..ROLES.len()), &self.leg.system_user));
        }
        users.sort();
        users.dedup();
        users
    }

    fn hosts(&mut self) -> Vec<(Ipv4Addr, u8)> {
        let mut hosts = Vec::new();
        for length in [32, 31, 30] {
            if self.random.bool() {
                let last = self.random.u8(1..10) & (u8::MAX << (32 - length));
                hosts.push((Ipv4Addr::new(127, 0, 0, last), length));
            }
        }
        hosts
    }

    /// Installs a library, or uninstalls it and waits until it is gone.
    fn install(&mut self, soname: &str, install: bool, states: Vec<State>) -> Result<()> {
        self.change(states, &format!("{}INSTALL SONAME '{soname}'", if install { "" } else { "UN" }))?;
        if install {
            self.installs += 1;
        } else {
            // A plugin in use by a login remains until that login ends.
            self.wait_for("an uninstalled plugin to be gone", |root| Ok(!root.has_installed(soname)?))?;
        }
        self.settle();
        Ok(())
    }

    fn wait_for(&mut self, what: &str, is_there: impl Fn(&mut Session) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + Duration::from_mins(1);
        while !is_there(&mut self.root)? {
            if Instant::now() > deadline {
                bail!("timed out waiting for {what}");
            }
            sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Installs our plugin unless it is installed.
    pub(super) fn install_ours(&mut self) -> Result<()> {
        if self.leg.history().last().settings.is_none() { self.toggle_ours() } else { Ok(()) }
    }

    /// Uninstalls our plugin if it is installed.
    pub(super) fn uninstall_ours(&mut self) -> Result<()> {
        if self.leg.history().last().settings.is_some() { self.toggle_ours() } else { Ok(()) }
    }

    fn toggle_ours(&mut self) -> Result<()> {
        let state = self.leg.history().last();
        let install = state.settings.is_none();
        self.own_installs += u64::from(install);
        let mut states = Vec::new();
        if let Some(settings) = state.settings.as_ref().filter(|settings| settings.mode == Mode::Hold) {
            // Those who are held are let go first, as by OFF.
            let settings = Settings { mode: Mode::Off, drain: false, ..settings.clone() };
            states.push(State { settings: Some(settings), ..state.clone() });
        }
        states.push(State { settings: install.then(Settings::default), ..state });
        self.install("instant_failover", install, states)
    }

    /// Installs the plugin that some logins need, or uninstalls it when that is safe.
    ///
    /// The server, with or without our plugin, can give a login a plugin that it is about to unload, and crashes when the
    /// library is gone (docs/internals.md). Our plugin keeps the library loaded while it redirects.
    pub(super) fn toggle_ed25519(&mut self) -> Result<()> {
        let state = self.leg.history().last();
        let install = !state.ed25519;
        // A login that is held with it keeps it.
        let redirects = |settings: &Settings| matches!(settings.mode, Mode::On | Mode::All);
        let redirecting = state.settings.as_ref().is_some_and(redirects);
        if !install && !redirecting {
            return Ok(());
        }
        self.install("auth_ed25519", install, vec![State { ed25519: install, ..state }])
    }

    fn toggle_other(&mut self) -> Result<()> {
        let Some(&soname) = self.others.get(self.random.usize(..self.others.len().max(1))) else { return Ok(()) };
        let install = self.loaded.insert(soname) || !self.loaded.remove(soname);
        let state = self.leg.history().last();
        self.install(soname, install, vec![state])
    }

    /// Uninstalls and reinstalls our plugin this many times.
    pub(super) fn reinstall(&mut self, times: u64) -> Result<()> {
        for _ in 0..times {
            self.uninstall_ours()?;
            self.install_ours()?;
        }
        Ok(())
    }

    /// Installs our plugin and redirects all clients.
    pub(super) fn redirect_all(&mut self) -> Result<()> {
        self.install_ours()?;
        let settings = self.leg.history().last().settings.unwrap_or_default();
        let (exempt_users, exempt_hosts) = (Vec::new(), Vec::new());
        self.set_all(&settings, &Settings { mode: Mode::All, exempt_users, exempt_hosts, ..settings.clone() })
    }

    /// Waits until only root and `staying` other sessions are connected.
    pub(super) fn wait_for_rest(&mut self, staying: usize) -> Result<()> {
        // Threads_connected does not count the extra port.
        let number = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER <> 'system user'";
        let wanted = (staying + 1).to_string();
        self.wait_for("the clients to disconnect", |root| Ok(root.query(number)? == [[wanted.as_str()]]))
    }

    pub(super) fn counters(&mut self) -> Result<Counters> {
        if self.leg.history().last().settings.is_none() {
            return Ok(Counters::default());
        }
        let mut counter =
            |name: &str| -> Result<u64> { Ok(self.root.status(&format!("Instant_failover_{name}"))?.parse()?) };
        Ok(Counters {
            total: counter("redirects")?,
            by_way: [counter("redirects_tcp")?, counter("redirects_extra_port")?, counter("redirects_socket")?],
            change_user: counter("change_user_redirects")?,
            account: counter("account_redirects")?,
        })
    }
}
