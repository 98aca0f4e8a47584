//! The settings, and the rules between them.

use std::fmt;
use std::net::IpAddr;

use super::exemptions::{ExemptHosts, ExemptHostsError, ExemptUsers, ExemptUsersError};
use super::lease::{HoldTimeout, HoldTimeoutError};
use super::message::{Text, TextError};
use super::mode::{Mode, ModeError};
use super::note::{Note, NoteError};
use super::shown::{Shown, change};
use super::switch::{Switch, SwitchError};
use super::target::{Host, Target, TargetError};

/// One of the system variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `instant_failover_mode`
    Mode,
    /// `instant_failover_target`
    Target,
    /// `instant_failover_message`
    Message,
    /// `instant_failover_exempt_users`
    ExemptUsers,
    /// `instant_failover_exempt_hosts`
    ExemptHosts,
    /// `instant_failover_hold_timeout`
    HoldTimeout,
    /// `instant_failover_note`
    Note,
    /// `instant_failover_drain`
    Drain,
}

impl Variable {
    /// Every variable: in this order each can be set by a separate statement, the mode after the target, and the drain after the
    /// mode.
    pub const ALL: [Self; 8] = [
        Self::Target,
        Self::Message,
        Self::ExemptUsers,
        Self::ExemptHosts,
        Self::HoldTimeout,
        Self::Note,
        Self::Mode,
        Self::Drain,
    ];

    /// The name in SQL and in option files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "instant_failover_mode",
            Self::Target => "instant_failover_target",
            Self::Message => "instant_failover_message",
            Self::ExemptUsers => "instant_failover_exempt_users",
            Self::ExemptHosts => "instant_failover_exempt_hosts",
            Self::HoldTimeout => "instant_failover_hold_timeout",
            Self::Note => "instant_failover_note",
            Self::Drain => "instant_failover_drain",
        }
    }
}

/// The settings. A value of this type is always consistent: a mode that redirects has a target, and nothing is drained in mode
/// `OFF`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub(super) mode: Mode,
    pub(super) target: Option<Target>,
    pub(super) text: Text,
    pub(super) exempt_users: ExemptUsers,
    pub(super) exempt_hosts: ExemptHosts,
    pub(super) hold_timeout: HoldTimeout,
    pub(super) note: Note,
    pub(super) drain: Switch,
}

impl Settings {
    /// These settings with one of them changed, as `SET GLOBAL variable = value` would.
    ///
    /// # Errors
    /// [`SettingError`] says what is wrong with `value`, or how it conflicts with the other settings.
    pub fn set(&self, variable: Variable, value: &[u8]) -> Result<Self, SettingError> {
        let mut new = self.clone();
        let value = str::from_utf8(value)
            .map_err(|_| SettingError::NotUtf8(variable, String::from_utf8_lossy(value).into_owned()))?;
        match variable {
            Variable::Mode => new.mode = value.parse().map_err(SettingError::Mode)?,
            Variable::Target if value.is_empty() => new.target = None,
            Variable::Target => new.target = Some(value.parse().map_err(SettingError::Target)?),
            Variable::Message => new.text = value.parse().map_err(SettingError::Message)?,
            Variable::ExemptUsers => new.exempt_users = value.parse().map_err(SettingError::ExemptUsers)?,
            Variable::ExemptHosts => new.exempt_hosts = value.parse().map_err(SettingError::ExemptHosts)?,
            Variable::HoldTimeout => new.hold_timeout = value.parse().map_err(SettingError::HoldTimeout)?,
            Variable::Note => new.note = value.parse().map_err(SettingError::Note)?,
            Variable::Drain => new.drain = value.parse().map_err(SettingError::Drain)?,
        }
        if new.mode.redirects() && new.target.is_none() {
            return Err(match variable {
                Variable::Target => SettingError::TargetInUse(new.mode),
                _ => SettingError::NoTarget(new.mode),
            });
        }
        if new.mode == Mode::Off && new.drain.is_on() {
            if variable == Variable::Drain {
                return Err(SettingError::DrainInOff);
            }
            new.drain = Switch::Off;
        }
        Ok(new)
    }

    /// These settings with one of them as an option file gives it at start-up. What begins at a moment does not begin there.
    ///
    /// # Errors
    /// As for [`set`](Self::set); HOLD and a drain are errors, too.
    pub fn set_at_start(&self, variable: Variable, value: &[u8]) -> Result<Self, SettingError> {
        let mut new = self.set(variable, value);
        if matches!(&new, Ok(new) if new.mode == Mode::Hold || new.drains()) || new == Err(SettingError::DrainInOff) {
            new = Err(SettingError::AtStart(variable));
        }
        new
    }

    /// These settings in mode `OFF`, with nothing drained: as they are once HOLD has ended by itself.
    #[must_use]
    pub fn switched_off(&self) -> Self {
        Self { mode: Mode::Off, drain: Switch::Off, ..self.clone() }
    }

    /// The value of a variable, as `SHOW VARIABLES` prints it. [`set`](Self::set) accepts it.
    #[must_use]
    pub fn value(&self, variable: Variable) -> String {
        match variable {
            Variable::Mode => self.mode.to_string(),
            Variable::Target => self.target.as_ref().map(ToString::to_string).unwrap_or_default(),
            Variable::Message => self.text.to_string(),
            Variable::ExemptUsers => self.exempt_users.to_string(),
            Variable::ExemptHosts => self.exempt_hosts.to_string(),
            Variable::HoldTimeout => self.hold_timeout.to_string(),
            Variable::Note => self.note.to_string(),
            Variable::Drain => self.drain.to_string(),
        }
    }

    /// Which new connections are redirected.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether open sessions are ended.
    #[must_use]
    pub const fn drains(&self) -> bool {
        self.drain.is_on()
    }

    /// How long HOLD lasts.
    #[must_use]
    pub const fn hold_timeout(&self) -> HoldTimeout {
        self.hold_timeout
    }

    /// A log line for each variable that differs in `after`; `by` names the user or the file that changed it.
    #[must_use]
    pub fn changes(&self, after: &Self, by: Option<&str>) -> Vec<String> {
        let line = |variable: Variable| change(variable.name(), &self.value(variable), &after.value(variable), by);
        Variable::ALL.into_iter().filter_map(line).collect()
    }

    /// Setting the mode has ended a drain of `before`.
    #[must_use]
    pub const fn has_ended_drain(&self, before: &Self, variable: Variable) -> bool {
        matches!(variable, Variable::Mode) && before.drains() && !self.drains()
    }

    /// The warnings for a DBA who has just set these variables, each once.
    #[must_use]
    pub fn cautions(&self, variables: &[Variable], this_server: &ThisServer) -> Vec<Caution> {
        let mut cautions = Vec::new();
        for caution in variables.iter().flat_map(|&variable| self.cautions_of(variable, this_server)) {
            if !cautions.contains(&caution) {
                cautions.push(caution);
            }
        }
        cautions
    }

    fn cautions_of(&self, variable: Variable, this_server: &ThisServer) -> Vec<Caution> {
        let own_target =
            || self.target.clone().filter(|target| this_server.is(target)).map(Caution::TargetIsThisServer);
        let all = (self.mode == Mode::All).then_some(Caution::All);
        match variable {
            Variable::Target => own_target().into_iter().collect(),
            Variable::Mode if self.mode.redirects() => own_target().into_iter().chain(all).collect(),
            Variable::ExemptUsers => {
                self.exempt_users.with_host().map(|name| Caution::UserWithHost(name.to_owned())).into_iter().collect()
            }
            Variable::Mode
            | Variable::Message
            | Variable::ExemptHosts
            | Variable::HoldTimeout
            | Variable::Note
            | Variable::Drain => Vec::new(),
        }
    }
}

/// A value that was refused, and why. The settings in force do not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettingError {
    /// Not a mode.
    Mode(ModeError),
    /// Not a target.
    Target(TargetError),
    /// Not a message text.
    Message(TextError),
    /// Not a list of users.
    ExemptUsers(ExemptUsersError),
    /// Not a list of addresses.
    ExemptHosts(ExemptHostsError),
    /// Not a timeout.
    HoldTimeout(HoldTimeoutError),
    /// Not a note.
    Note(NoteError),
    /// Neither on nor off.
    Drain(SwitchError),
    /// Nothing is drained in mode `OFF`.
    DrainInOff,
    /// HOLD or a drain in an option file.
    AtStart(Variable),
    /// Bytes that are not UTF-8 (shown with the invalid ones replaced).
    NotUtf8(Variable, String),
    /// The mode redirects, but there is no target.
    NoTarget(Mode),
    /// The target cannot be emptied while the mode redirects to it.
    TargetInUse(Mode),
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (target, mode) = (Variable::Target.name(), Variable::Mode.name());
        match self {
            Self::Mode(error) => write!(f, "{mode}: {error}"),
            Self::Target(error) => write!(f, "{target}: {error}"),
            Self::Message(error) => write!(f, "{}: {error}", Variable::Message.name()),
            Self::ExemptUsers(error) => write!(f, "{}: {error}", Variable::ExemptUsers.name()),
            Self::ExemptHosts(error) => write!(f, "{}: {error}", Variable::ExemptHosts.name()),
            Self::HoldTimeout(error) => write!(f, "{}: {error}", Variable::HoldTimeout.name()),
            Self::Note(error) => write!(f, "{}: {error}", Variable::Note.name()),
            Self::Drain(error) => write!(f, "{}: {error}", Variable::Drain.name()),
            Self::DrainInOff => {
                let drain = Variable::Drain.name();
                write!(f, "{drain} cannot be ON while {mode} is OFF: clients would come straight back; ")?;
                write!(f, "set {mode} to HOLD or ON first")
            }
            Self::AtStart(variable) => {
                let (name, value) = (variable.name(), if *variable == Variable::Drain { "ON" } else { "HOLD" });
                write!(f, "{name} cannot be {value} in an option file; use SET GLOBAL once the server runs")
            }
            Self::NotUtf8(variable, value) => {
                write!(f, "{}: {} is not UTF-8; use SET NAMES utf8mb4 first", variable.name(), Shown(value))
            }
            Self::NoTarget(new) => {
                write!(f, "{mode} cannot be {new} while {target} is empty; set {target} first, for example to ")?;
                f.write_str("'db2.example.com:3306'")
            }
            Self::TargetInUse(now) => {
                write!(
                    f,
                    "{target} cannot be empty while {mode} is {now}; set {mode} to OFF first, or give another target"
                )
            }
        }
    }
}

impl std::error::Error for SettingError {}

/// What is known of the server that redirects, to detect a target that points back to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThisServer {
    /// The ports it listens on.
    ports: Vec<u16>,
    /// Its host name, as in `@@hostname`.
    name: String,
    /// The addresses of its network interfaces.
    addresses: Vec<IpAddr>,
}

impl ThisServer {
    /// The server with this port, extra port, host name (as in `@@hostname`) and these addresses of network interfaces.
    pub fn new(
        port: u16,
        extra_port: Option<u16>,
        name: impl Into<String>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        Self {
            ports: [Some(port), extra_port].into_iter().flatten().collect(),
            name: name.into(),
            addresses: addresses.into_iter().collect(),
        }
    }

    /// Whether `target` is this server, as far as can be determined without DNS.
    fn is(&self, target: &Target) -> bool {
        let has = |address: IpAddr| self.addresses.iter().any(|own| own.to_canonical() == address);
        let here = match target.host() {
            Host::Name(name) => name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(&self.name),
            Host::V4(address) => address.is_loopback() || has(IpAddr::V4(*address)),
            Host::V6(address) => address.is_loopback() || has(IpAddr::V6(*address)),
        };
        here && self.ports.contains(&target.port())
    }
}

/// A setting that is valid but rarely intended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caution {
    /// Clients would be sent back here, in a loop.
    TargetIsThisServer(Target),
    /// No new login is possible, not even for the DBA.
    All,
    /// An exempt user that looks like `user@host`.
    UserWithHost(String),
}

impl fmt::Display for Caution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TargetIsThisServer(target) => write!(
                f,
                "{} {} points back to this server: clients would loop",
                Variable::Target.name(),
                Shown(&target.to_string())
            ),
            Self::All => write!(
                f,
                "{} is ALL: new local sessions are redirected too; keep this session open, or add your user to {} first",
                Variable::Mode.name(),
                Variable::ExemptUsers.name()
            ),
            Self::UserWithHost(name) => write!(
                f,
                "{}: {} exempts only a user with exactly that name; give the user name without the host, and put hosts in {}",
                Variable::ExemptUsers.name(),
                Shown(name),
                Variable::ExemptHosts.name()
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Caution, Mode, SettingError, Settings, ThisServer, Variable};

    fn with(values: &[(Variable, &str)]) -> Settings {
        values.iter().fold(Settings::default(), |s, (variable, value)| s.set(*variable, value.as_bytes()).unwrap())
    }

    #[test]
    fn a_mode_that_redirects_needs_a_target_and_keeps_it() {
        let off = Settings::default();
        for mode in ["ON", "ALL"] {
            let error = off.set(Variable::Mode, mode.as_bytes()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!(
                    "instant_failover_mode cannot be {mode} while instant_failover_target is empty; \
                     set instant_failover_target first, for example to 'db2.example.com:3306'"
                )
            );
            let on = with(&[(Variable::Target, "db2"), (Variable::Mode, mode)]);
            assert_eq!(on.set(Variable::Target, b""), Err(SettingError::TargetInUse(on.mode())));
            assert_eq!(on.set(Variable::Target, b"db3").unwrap().value(Variable::Target), "db3");
            assert_eq!(on.set(Variable::Mode, b"OFF").unwrap().set(Variable::Target, b"").unwrap(), off);
        }
    }

    #[test]
    fn every_value_is_taken_back_as_shown() {
        let settings = with(&[
            (Variable::Target, "[2001:DB8::0]:3307"),
            (Variable::Message, "100% at %s"),
            (Variable::ExemptUsers, "a, b"),
            (Variable::ExemptHosts, "10.0.0.0/8 ,::1"),
            (Variable::HoldTimeout, "30"),
            (Variable::Note, "by ann"),
            (Variable::Mode, "all"),
            (Variable::Drain, "1"),
        ]);
        let again = Variable::ALL
            .iter()
            .fold(Settings::default(), |s, &variable| s.set(variable, settings.value(variable).as_bytes()).unwrap());
        assert_eq!(again, settings);
        assert_eq!(again.mode(), Mode::All);
    }

    #[test]
    fn nothing_is_drained_in_off() {
        let off = Settings::default();
        let error = off.set(Variable::Drain, b"ON").unwrap_err();
        assert_eq!(
            error.to_string(),
            "instant_failover_drain cannot be ON while instant_failover_mode is OFF: clients would come straight back; \
             set instant_failover_mode to HOLD or ON first"
        );
        assert_eq!(off.set(Variable::Drain, b"OFF"), Ok(off.clone()));
        let held = with(&[(Variable::HoldTimeout, "20"), (Variable::Mode, "HOLD"), (Variable::Drain, "ON")]);
        assert!(held.drains());
        let ended = held.set(Variable::Mode, b"OFF").unwrap();
        assert!(!ended.drains() && ended.has_ended_drain(&held, Variable::Mode));
        assert_eq!(held.switched_off(), ended);
        assert_eq!(ended.value(Variable::HoldTimeout), "20");
        let on = held.set(Variable::Target, b"db2").unwrap().set(Variable::Mode, b"ON").unwrap();
        assert!(on.drains() && !on.has_ended_drain(&held, Variable::Mode));
        assert!(on.set(Variable::Mode, b"HOLD").unwrap().drains());
        let stopped = on.set(Variable::Drain, b"0").unwrap();
        assert!(!stopped.drains() && !stopped.has_ended_drain(&on, Variable::Drain));
        // HOLD needs no target, and what it leads to does.
        assert_eq!(held.set(Variable::Mode, b"ON"), Err(SettingError::NoTarget(Mode::On)));
    }

    #[test]
    fn what_begins_at_a_moment_does_not_begin_at_start() {
        let settings = with(&[(Variable::Target, "db2")]);
        let at_start =
            |variable, value: &str| settings.set_at_start(variable, value.as_bytes()).map_err(|e| e.to_string());
        let cure = "in an option file; use SET GLOBAL once the server runs";
        assert_eq!(at_start(Variable::Mode, "hold"), Err(format!("instant_failover_mode cannot be HOLD {cure}")));
        assert_eq!(at_start(Variable::Drain, "1"), Err(format!("instant_failover_drain cannot be ON {cure}")));
        let on = at_start(Variable::Mode, "ON").unwrap();
        assert_eq!(on.set_at_start(Variable::Drain, b"ON"), Err(SettingError::AtStart(Variable::Drain)));
        assert_eq!(on.set_at_start(Variable::Drain, b"0"), Ok(on.clone()));
        assert_eq!(on.value(Variable::Mode), "ON");
    }

    #[test]
    fn bytes_that_are_not_utf8_are_refused() {
        for variable in Variable::ALL {
            let error = Settings::default().set(variable, b"caf\xe9").unwrap_err().to_string();
            assert_eq!(error, format!("{}: 'caf\u{fffd}' is not UTF-8; use SET NAMES utf8mb4 first", variable.name()));
        }
    }

    #[test]
    fn targets_that_are_this_server() {
        let addresses = ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.5"].map(|address| address.parse().unwrap());
        let this_server = ThisServer::new(3306, Some(3308), "db1.example.com", addresses);
        for (target, own) in [
            ("localhost", true),
            ("LocalHost:3308", true),
            ("localhost:3307", false),
            ("127.0.0.1", true),
            ("127.9.9.9", true),
            ("[::1]", true),
            ("DB1.example.com", true),
            ("db1.example.com:3307", false),
            ("db1", false),
            ("192.0.2.1:3306", true),
            ("192.0.2.2:3306", false),
            ("[::ffff:192.0.2.1]", true),
            ("[::ffff:c000:201]:3308", true),
            ("[::ffff:127.9.9.9]", true),
            ("192.0.2.5", true),
            ("[::ffff:192.0.2.5]", true),
            ("[2001:DB8:0:0::1]", true),
            ("[2001:db8::1]:3308", true),
            ("[2001:db8::2]", false),
        ] {
            let settings = with(&[(Variable::Target, target)]);
            let cautions = settings.cautions(&[Variable::Target], &this_server);
            assert_eq!(cautions.len(), usize::from(own), "{target}: {cautions:?}");
            let on = settings.set(Variable::Mode, b"ON").unwrap();
            assert_eq!(on.cautions(&[Variable::Mode], &this_server), cautions);
            let all = settings.set(Variable::Mode, b"ALL").unwrap();
            assert_eq!(all.cautions(&[Variable::Mode], &this_server), [&cautions[..], &[Caution::All]].concat());
            assert_eq!(settings.cautions(&[Variable::Mode], &this_server), []);
        }
    }

    #[test]
    fn users_with_hosts() {
        let here = ThisServer::default();
        let users = with(&[(Variable::ExemptUsers, "repl@10.0.0.%")]);
        assert_eq!(
            users.cautions(&[Variable::ExemptUsers], &here),
            [Caution::UserWithHost("repl@10.0.0.%".to_owned())]
        );
        assert_eq!(with(&[(Variable::ExemptUsers, "repl")]).cautions(&[Variable::ExemptUsers], &here), []);
    }

    #[test]
    fn each_caution_comes_once_though_two_variables_give_it() {
        let here = ThisServer::new(3306, None, "", []);
        let settings =
            with(&[(Variable::Target, "localhost"), (Variable::ExemptUsers, "repl@10.0.0.1"), (Variable::Mode, "ALL")]);
        let expected = [
            Caution::TargetIsThisServer("localhost".parse().unwrap()),
            Caution::UserWithHost("repl@10.0.0.1".to_owned()),
            Caution::All,
        ];
        assert_eq!(settings.cautions(&Variable::ALL, &here), expected);
    }
}
