//! Which answers a client may get, and when. Pure: no server, no clock.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Instant;

/// The error of a redirect.
pub(super) const REDIRECT: u16 = 4196;
/// "Access denied".
pub(super) const ACCESS_DENIED: u16 = 1045;
/// "Access denied", by a plugin that asks for no password.
const ACCESS_DENIED_NO_PASSWORD: u16 = 1698;
/// "Plugin is not loaded".
const NOT_LOADED: u16 = 1524;

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Tcp,
    ExtraPort,
    Socket,
}

impl Way {
    pub(super) const ALL: [Self; 3] = [Self::Tcp, Self::ExtraPort, Self::Socket];
}

/// How an account is identified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Account {
    Native,
    /// The same, with REQUIRE SSL.
    NeedsTls,
    Ed25519,
    /// The password is correct for the second method only.
    Ed25519OrNative,
    /// The same in reverse order.
    NativeOrEd25519,
    UnixSocket,
    /// Via our plugin, with its own target.
    Moved,
    /// Via our plugin, without a target.
    MovedAlong,
    /// No such account exists.
    Unknown,
}

impl Account {
    pub(super) const ALL: [Self; 9] = [
        Self::Native,
        Self::NeedsTls,
        Self::Ed25519,
        Self::Ed25519OrNative,
        Self::NativeOrEd25519,
        Self::UnixSocket,
        Self::Moved,
        Self::MovedAlong,
        Self::Unknown,
    ];

    /// Whether a client must know ed25519 to log in.
    pub(super) fn takes_ed25519(self) -> bool {
        matches!(self, Self::Ed25519 | Self::NativeOrEd25519)
    }
}

/// A login attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) account: Account,
    /// Whether the password is right.
    pub(super) right: bool,
    pub(super) way: Way,
    /// The client's address, if it connects over TCP.
    pub(super) from: Ipv4Addr,
    pub(super) tls: bool,
    /// Whether an open session changes its user.
    pub(super) changes_user: bool,
}

/// How a login ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Outcome {
    LetIn,
    /// Let in, and then disconnected before it had said anything.
    Ended,
    /// The whole message.
    Redirected(String),
    /// Another error.
    Refused(u16),
    /// The server closed the connection without an answer.
    HungUp,
    /// Something that is never correct.
    Strange(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LetIn => f.write_str("accepted"),
            Self::Ended => f.write_str("accepted, and then disconnected"),
            Self::Redirected(message) => write!(f, "redirected by \"{message}\""),
            Self::Refused(code) => write!(f, "error {code}"),
            Self::HungUp => f.write_str("hung up on"),
            Self::Strange(what) => write!(f, "strange: {what}"),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Off,
    On,
    All,
    Hold,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "OFF",
            Self::On => "ON",
            Self::All => "ALL",
            Self::Hold => "HOLD",
        })
    }
}

/// The settings of the plugin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    /// Empty if there is none.
    pub(super) target: String,
    pub(super) text: String,
    pub(super) exempt_users: Vec<String>,
    /// Address and length of the prefix.
    pub(super) exempt_hosts: Vec<(Ipv4Addr, u8)>,
    pub(super) drain: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            target: String::new(),
            text: "Server is directing clients to the alternative server '%s'.".to_owned(),
            exempt_users: Vec::new(),
            exempt_hosts: Vec::new(),
            drain: false,
        }
    }
}

impl Settings {
    fn redirects(&self, login: &Login) -> bool {
        let wanted = match self.mode {
            Mode::Off | Mode::Hold => false,
            Mode::On => login.way == Way::Tcp,
            Mode::All => true,
        };
        wanted && !self.exempts(login)
    }

    /// Whether a login waits, once its password is found right, until the settings change.
    fn holds(&self, login: &Login) -> bool {
        self.mode == Mode::Hold && login.way == Way::Tcp && !self.exempts(login) && !login.changes_user
    }

    /// Whether the session of this login is ended.
    fn drains(&self, login: &Login) -> bool {
        let new = Login { changes_user: false, ..login.clone() };
        self.drain && (self.redirects(&new) || self.holds(&new))
    }

    fn exempts(&self, login: &Login) -> bool {
        let inside = |&(network, length): &(Ipv4Addr, u8)| {
            let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
            network.to_bits() & mask == login.from.to_bits() & mask
        };
        self.exempt_users.contains(&login.user) || (login.way != Way::Socket && self.exempt_hosts.iter().any(inside))
    }

    fn redirect_to(&self, target: &str) -> Outcome {
        Outcome::Redirected(format!("|{}|{target}", self.text.replace("%s", target)))
    }
}

/// Everything that decides how a login ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// The settings of our plugin; none if it is not installed.
    pub(super) settings: Option<Settings>,
    /// Whether the server knows ed25519.
    pub(super) ed25519: bool,
}

impl State {
    /// How this login may end.
    pub(super) fn outcomes(&self, login: &Login) -> Vec<Outcome> {
        let mut outcomes = self.answers(login);
        if self.drains(login) {
            outcomes.push(Outcome::Ended);
        }
        outcomes
    }

    fn answers(&self, login: &Login) -> Vec<Outcome> {
        let stock = self.stock(login);
        let not_loaded = Outcome::Refused(NOT_LOADED);
        match (self.redirect(login), login.account) {
            // Those whose password is right wait, and so do those that would be redirected or refused in any other mode.
            (None, Account::MovedAlong) if self.holds(login) => Vec::new(),
            (None, _) if self.holds(login) => stock.into_iter().filter(|outcome| *outcome != Outcome::LetIn).collect(),
            (None, _) => stock,
            // The missing plugin decides, whatever the methods before it say.
            (Some(_), Account::Ed25519 | Account::NativeOrEd25519) if !self.ed25519 => stock,
            (Some(redirect), Account::Unknown) if stock.contains(&not_loaded) => vec![redirect, not_loaded],
            (Some(redirect), _) => vec![redirect],
        }
    }

    /// Whether the session of this login is ended.
    pub(super) fn drains(&self, login: &Login) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.drains(login))
    }

    fn holds(&self, login: &Login) -> bool {
        self.settings.as_ref().is_some_and(|settings| settings.holds(login))
    }

    /// How our plugin ends the login; none if it leaves the login alone.
    fn redirect(&self, login: &Login) -> Option<Outcome> {
        let settings = self.settings.as_ref()?;
        match login.account {
            Account::Moved => Some(settings.redirect_to(&own_target(&login.user))),
            // In any mode but HOLD.
            Account::MovedAlong if settings.holds(login) => None,
            Account::MovedAlong => (!settings.target.is_empty()).then(|| settings.redirect_to(&settings.target)),
            _ => settings.redirects(login).then(|| settings.redirect_to(&settings.target)),
        }
    }

    /// How it may end without our plugin.
    fn stock(&self, login: &Login) -> Vec<Outcome> {
        let password = |right| vec![if right { Outcome::LetIn } else { Outcome::Refused(ACCESS_DENIED) }];
        match login.account {
            Account::Ed25519 | Account::NativeOrEd25519 if !self.ed25519 => vec![Outcome::Refused(NOT_LOADED)],
            Account::Native | Account::Ed25519 | Account::Ed25519OrNative | Account::NativeOrEd25519 => {
                password(login.right)
            }
            Account::NeedsTls => password(login.right && login.tls),
            Account::UnixSocket if login.way == Way::Socket => vec![Outcome::LetIn],
            Account::UnixSocket => vec![Outcome::Refused(ACCESS_DENIED), Outcome::Refused(ACCESS_DENIED_NO_PASSWORD)],
            Account::Moved if self.settings.is_none() => vec![Outcome::Refused(NOT_LOADED)],
            // The server may still use a plugin that it is about to remove, and that has no target any more.
            Account::MovedAlong if self.settings.is_none() => {
                vec![Outcome::Refused(NOT_LOADED), Outcome::Refused(ACCESS_DENIED)]
            }
            // For an unknown user the server pretends to check another account.
            Account::Unknown if self.settings.is_none() || !self.ed25519 => {
                vec![Outcome::Refused(ACCESS_DENIED), Outcome::Refused(NOT_LOADED)]
            }
            Account::Moved | Account::MovedAlong | Account::Unknown => vec![Outcome::Refused(ACCESS_DENIED)],
        }
    }
}

/// The target of an account with its own target.
pub(super) fn own_target(user: &str) -> String {
    format!("{}.example.com:7007", user.replace('_', "-"))
}

/// Returns an error if none of these states allows the outcome; otherwise, whether our plugin may have redirected the
/// login although the client did not see it.
pub(super) fn judge(states: &[State], login: &Login, seen: &Outcome) -> Result<bool, String> {
    let allowed: Vec<Outcome> = states.iter().flat_map(|state| state.outcomes(login)).collect();
    // Only who was let in can be disconnected.
    let possible = *seen != Outcome::Ended || allowed.contains(&Outcome::LetIn);
    if !possible || !allowed.contains(seen) {
        let mut allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        allowed.sort();
        allowed.dedup();
        return Err(format!("{login:?}: {seen}; allowed was: {}", allowed.join(", ")));
    }
    let redirected = matches!(seen, Outcome::Redirected(_));
    Ok(!redirected && states.iter().any(|state| state.redirect(login).is_some()))
}

/// Which states may have applied when. While a statement runs, the server may be in the state before, the state after, or
/// any state between them.
#[derive(Debug)]
pub(super) struct History(Vec<Era>);

#[derive(Debug)]
struct Era {
    state: State,
    from: Instant,
    until: Option<Instant>,
}

impl History {
    pub(super) fn new(state: State, from: Instant) -> Self {
        Self(vec![Era { state, from, until: None }])
    }

    /// A statement is about to be sent that passes through these states and ends in the last one.
    pub(super) fn begin(&mut self, states: Vec<State>, now: Instant) {
        self.0.extend(states.into_iter().map(|state| Era { state, from: now, until: None }));
    }

    /// The statement has returned: the last state applies.
    pub(super) fn settle(&mut self, now: Instant) {
        for era in self.0.iter_mut().rev().skip(1).take_while(|era| era.until.is_none()) {
            era.until = Some(now);
        }
    }

    /// The states that may have applied at any time between two instants.
    pub(super) fn between(&self, from: Instant, until: Instant) -> Vec<State> {
        let recent = self.0.iter().rev().take_while(|era| era.until.is_none_or(|end| end >= from));
        recent.filter(|era| era.from <= until).map(|era| era.state.clone()).collect()
    }

    /// The state after the last statement.
    pub(super) fn last(&self) -> State {
        self.0.last().map(|era| era.state.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn login(account: Account, right: bool) -> Login {
        let from = Ipv4Addr::new(127, 0, 0, 4);
        Login { user: "app".to_owned(), account, right, way: Way::Tcp, from, tls: false, changes_user: false }
    }

    fn state(mode: Mode, number: u32) -> State {
        let target = format!("host{number}:{number}");
        State {
            settings: Some(Settings { mode, target, text: "to %s".to_owned(), ..Settings::default() }),
            ed25519: true,
        }
    }

    fn redirect(target: &str) -> Outcome {
        Outcome::Redirected(format!("|to {target}|{target}"))
    }

    #[test]
    fn ways_and_modes() {
        for (mode, redirected) in
            [(Mode::Off, &[][..]), (Mode::On, &[Way::Tcp]), (Mode::All, &[Way::Tcp, Way::ExtraPort, Way::Socket])]
        {
            for way in Way::ALL {
                for (right, stock) in [(true, Outcome::LetIn), (false, Outcome::Refused(1045))] {
                    let login = Login { way, ..login(Account::Native, right) };
                    let expected = if redirected.contains(&way) { redirect("host1:1") } else { stock };
                    assert_eq!(state(mode, 1).outcomes(&login), [expected], "{mode} {login:?}");
                }
            }
        }
    }

    #[test]
    fn hold_and_drain() {
        let right = login(Account::Native, true);
        let wrong = login(Account::Native, false);
        let hold = state(Mode::Hold, 1);
        assert_eq!(hold.outcomes(&right), []);
        assert_eq!(hold.outcomes(&wrong), [Outcome::Refused(1045)]);
        assert_eq!(hold.outcomes(&login(Account::MovedAlong, false)), []);
        assert_eq!(hold.outcomes(&login(Account::Moved, false)), [redirect("app.example.com:7007")]);
        for not_held in [
            Login { way: Way::Socket, ..right.clone() },
            Login { way: Way::ExtraPort, ..right.clone() },
            Login { changes_user: true, ..right.clone() },
        ] {
            assert_eq!(hold.outcomes(&not_held), [Outcome::LetIn]);
        }
        let ask = |states: &[&State], login: &Login, seen: &Outcome| {
            judge(&states.iter().copied().cloned().collect::<Vec<_>>(), login, seen).is_ok()
        };
        let (off, on) = (state(Mode::Off, 1), state(Mode::On, 1));
        assert!(!ask(&[&hold], &right, &Outcome::LetIn) && ask(&[&hold, &off], &right, &Outcome::LetIn));
        assert!(!ask(&[&hold], &right, &redirect("host1:1")) && ask(&[&hold, &on], &right, &redirect("host1:1")));
        for mode in [Mode::Hold, Mode::On, Mode::All] {
            let mut drain = state(mode, 1);
            assert!(!ask(&[&off, &drain], &right, &Outcome::Ended));
            drain.settings.as_mut().unwrap().drain = true;
            assert!(ask(&[&off, &drain], &right, &Outcome::Ended));
            assert!(!ask(&[&drain], &right, &Outcome::Ended), "nobody can have been let in");
            let local = Login { way: Way::Socket, ..right.clone() };
            assert_eq!(ask(&[&off, &drain], &local, &Outcome::Ended), mode == Mode::All);
        }
    }

    #[test]
    fn exempt_users_and_hosts() {
        let exempt = |users: &[&str], hosts: &[(Ipv4Addr, u8)]| {
            let mut state = state(Mode::All, 1);
            let settings = state.settings.as_mut().unwrap();
            settings.exempt_users = users.iter().map(ToString::to_string).collect();
            settings.exempt_hosts = hosts.to_vec();
            state
        };
        let host = |last| Ipv4Addr::new(127, 0, 0, last);
        let wrong = login(Account::Native, false);
        for (state, exempt) in [
            (exempt(&["app"], &[]), true),
            (exempt(&["apple", "ap"], &[]), false),
            (exempt(&[], &[(host(4), 32)]), true),
            (exempt(&[], &[(host(5), 32)]), false),
            (exempt(&[], &[(host(5), 31)]), true),
            (exempt(&[], &[(host(9), 0)]), true),
        ] {
            let expected = if exempt { Outcome::Refused(1045) } else { redirect("host1:1") };
            assert_eq!(state.outcomes(&wrong), [expected], "{state:?}");
        }
        // A client on the socket has no address.
        let local = Login { way: Way::Socket, ..wrong };
        assert_eq!(exempt(&[], &[(host(4), 32)]).outcomes(&local), [redirect("host1:1")]);
        assert_eq!(exempt(&["app"], &[]).outcomes(&local), [Outcome::Refused(1045)]);
    }

    #[test]
    fn accounts_via_our_plugin() {
        let (moved, along) = (login(Account::Moved, false), login(Account::MovedAlong, false));
        for mode in [Mode::Off, Mode::On, Mode::All] {
            assert_eq!(state(mode, 1).outcomes(&moved), [redirect("app.example.com:7007")]);
            assert_eq!(state(mode, 1).outcomes(&along), [redirect("host1:1")]);
        }
        let no_target = State { settings: Some(Settings::default()), ed25519: true };
        assert_eq!(no_target.outcomes(&along), [Outcome::Refused(1045)]);
        assert_eq!(State::default().outcomes(&moved), [Outcome::Refused(1524)]);
        assert_eq!(State::default().outcomes(&along), [Outcome::Refused(1524), Outcome::Refused(1045)]);
    }

    #[test]
    fn a_method_that_is_not_there() {
        let without = State { ed25519: false, ..state(Mode::Off, 1) };
        for account in [Account::Ed25519, Account::NativeOrEd25519] {
            assert_eq!(without.outcomes(&login(account, true)), [Outcome::Refused(1524)]);
            assert_eq!(state(Mode::Off, 1).outcomes(&login(account, true)), [Outcome::LetIn]);
        }
        assert_eq!(without.outcomes(&login(Account::Ed25519OrNative, true)), [Outcome::LetIn]);
        // If another method exists, the login is redirected. If the last one is missing, the client gets that error.
        let on = State { ed25519: false, ..state(Mode::On, 1) };
        assert_eq!(on.outcomes(&login(Account::Ed25519OrNative, true)), [redirect("host1:1")]);
        let last = login(Account::NativeOrEd25519, true);
        assert_eq!(on.outcomes(&last), [Outcome::Refused(1524)]);
        assert_eq!(judge(&[on], &last, &Outcome::Refused(1524)), Ok(true));
    }

    #[test]
    fn the_judgement() {
        let wrong = login(Account::Native, false);
        let (off, on) = (state(Mode::Off, 1), state(Mode::On, 2));
        let judge = |states: &[&State], seen: &Outcome| {
            judge(&states.iter().copied().cloned().collect::<Vec<_>>(), &wrong, seen).map_err(drop)
        };
        assert_eq!(judge(&[&off], &Outcome::Refused(1045)), Ok(false));
        assert_eq!(judge(&[&off, &on], &Outcome::Refused(1045)), Ok(true));
        assert_eq!(judge(&[&off, &on], &redirect("host2:2")), Ok(false));
        // No state allows: a redirect, a mixed target, half a message, the wrong one of two, access, no answer.
        for (states, seen) in [
            (&[&off][..], redirect("host1:1")),
            (&[&off, &on], redirect("host1:2")),
            (&[&off, &on], Outcome::Redirected("|to host2:2|host2:".to_owned())),
            (&[&off, &on], redirect("host1:1")),
            (&[&on], Outcome::Refused(1045)),
            (&[&off, &on], Outcome::LetIn),
            (&[&off, &on], Outcome::HungUp),
            (&[&off, &on], Outcome::Refused(1129)),
        ] {
            assert_eq!(judge(states, &seen), Err(()), "{seen}");
        }
    }

    #[test]
    fn what_may_have_been_in_force() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut history = History::new(state(Mode::Off, 0), at(0));
        history.begin(vec![state(Mode::Off, 1), state(Mode::On, 1)], at(10));
        let numbers = |history: &History, from, until| {
            let states = history.between(at(from), at(until)).into_iter().rev();
            states.map(|state| state.settings.map(|s| format!("{} {}", s.mode, s.target)).unwrap()).collect::<Vec<_>>()
        };
        assert_eq!(numbers(&history, 1, 9), ["OFF host0:0"]);
        // Not yet returned: any of the three.
        assert_eq!(numbers(&history, 100, 101), ["OFF host0:0", "OFF host1:1", "ON host1:1"]);
        history.settle(at(12));
        assert_eq!(numbers(&history, 1, 9), ["OFF host0:0"]);
        assert_eq!(numbers(&history, 1, 10), ["OFF host0:0", "OFF host1:1", "ON host1:1"]);
        assert_eq!(numbers(&history, 12, 13), ["OFF host0:0", "OFF host1:1", "ON host1:1"]);
        assert_eq!(numbers(&history, 13, 14), ["ON host1:1"]);
        history.begin(vec![state(Mode::On, 2)], at(20));
        history.settle(at(21));
        assert_eq!(numbers(&history, 13, 19), ["ON host1:1"]);
        assert_eq!(numbers(&history, 5, 20), ["OFF host0:0", "OFF host1:1", "ON host1:1", "ON host2:2"]);
        assert_eq!(numbers(&history, 22, 23), ["ON host2:2"]);
        assert_eq!(history.last(), state(Mode::On, 2));
    }
}
