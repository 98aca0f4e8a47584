//! Settings prepared for use.

use super::connection::{Connection, WayIn};
use super::message::Message;
use super::mode::Mode;
use super::settings::Settings;
use super::target::Target;

/// What is in force: one immutable value, shared by all logins and swapped whole when a setting changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    settings: Settings,
    /// The message for the target; `Some` exactly if there is a target.
    message: Option<Message>,
}

/// The decision about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Not redirected: the server continues as it would without us.
    Serve,
    /// It would be redirected, but is exempt: the server continues as it would without us.
    Exempt(Exemption),
    /// Redirected to another server.
    Redirect(Redirect<'a>),
    /// It waits, once it has authenticated, until the policy is another one that decides anew. An open session that changes
    /// its user does not wait.
    Hold,
}

/// Why a connection is exempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exemption {
    /// Its user is named in `instant_failover_exempt_users`.
    User,
    /// Its address lies in `instant_failover_exempt_hosts`.
    Host,
}

/// What a redirected connection is told, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redirect<'a> {
    /// What to send.
    pub message: &'a Message,
    /// How the connection came in.
    pub way_in: WayIn,
}

impl Policy {
    /// The policy for these settings.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let message = settings.target.as_ref().map(|target| Message::new(&settings.text, target));
        Self { settings, message }
    }

    /// The settings in force.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Decides about a new connection whose user is known.
    #[must_use]
    pub fn verdict(&self, connection: &Connection<'_>) -> Verdict<'_> {
        let way_in = connection.transport.way_in();
        let wanted = match self.settings.mode {
            Mode::Off => false,
            Mode::On | Mode::Hold => way_in == WayIn::Tcp,
            Mode::All => true,
        };
        let verdict = match &self.message {
            _ if !wanted => return Verdict::Serve,
            _ if self.settings.mode == Mode::Hold => Verdict::Hold,
            Some(message) => Verdict::Redirect(Redirect { message, way_in }),
            None => return Verdict::Serve,
        };
        self.exemption(connection).map_or(verdict, Verdict::Exempt)
    }

    /// Whether a drain ends the session of this connection: one that would be redirected or held if it came now.
    #[must_use]
    pub fn drains(&self, connection: &Connection<'_>) -> bool {
        matches!(self.verdict(connection), Verdict::Redirect(_) | Verdict::Hold)
    }

    /// Whether the login of an account with this target of its own, or none, waits. The server's target may change meanwhile,
    /// its own does not.
    #[must_use]
    pub fn holds_account(&self, target: Option<&Target>, connection: &Connection<'_>) -> bool {
        target.is_none() && self.verdict(connection) == Verdict::Hold
    }

    /// The message for an account: with the account's own target if it has one, else with the server's. `None` if neither
    /// has a target.
    #[must_use]
    pub fn account_message(&self, target: Option<&Target>) -> Option<Message> {
        target.map_or_else(|| self.message.clone(), |target| Some(Message::new(&self.settings.text, target)))
    }

    fn exemption(&self, connection: &Connection<'_>) -> Option<Exemption> {
        if self.settings.exempt_users.contains(connection.user) {
            Some(Exemption::User)
        } else if connection.address.is_some_and(|address| self.settings.exempt_hosts.contains(address)) {
            Some(Exemption::Host)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::connection::Transport;
    use super::super::settings::Variable;
    use super::{Connection, Exemption, Policy, Settings, Verdict, WayIn};

    fn policy(mode: &str) -> Policy {
        let settings = [
            (Variable::Target, "db2:3307"),
            (Variable::ExemptUsers, "repl"),
            (Variable::ExemptHosts, "10.0.0.0/8"),
            (Variable::Mode, mode),
        ]
        .iter()
        .fold(Settings::default(), |s, (variable, value)| s.set(*variable, value.as_bytes()).unwrap());
        Policy::new(settings)
    }

    /// Every cell of mode × way in × exemption.
    #[test]
    fn verdicts() {
        #[derive(Clone, Copy, Debug, PartialEq)]
        enum Is {
            Served,
            Redirected(WayIn),
            Exempt(Exemption),
            Held,
        }
        use Is::{Held, Redirected, Served};
        use WayIn::{ExtraPort, Socket, Tcp};
        const USER: Is = Is::Exempt(Exemption::User);
        const HOST: Is = Is::Exempt(Exemption::Host);

        let standard = Transport::Tcp { extra: false };
        let extra = Transport::Tcp { extra: true };
        let local = Transport::Local;

        // Columns: not exempt, an exempt user, an exempt host, both.
        for (mode, transport, expected) in [
            ("OFF", standard, [Served, Served, Served, Served]),
            ("OFF", extra, [Served, Served, Served, Served]),
            ("OFF", local, [Served, Served, Served, Served]),
            ("ON", standard, [Redirected(Tcp), USER, HOST, USER]),
            ("ON", extra, [Served, Served, Served, Served]),
            ("ON", local, [Served, Served, Served, Served]),
            ("ALL", standard, [Redirected(Tcp), USER, HOST, USER]),
            ("ALL", extra, [Redirected(ExtraPort), USER, HOST, USER]),
            ("ALL", local, [Redirected(Socket), USER, Redirected(Socket), USER]),
            ("HOLD", standard, [Held, USER, HOST, USER]),
            ("HOLD", extra, [Served, Served, Served, Served]),
            ("HOLD", local, [Served, Served, Served, Served]),
        ] {
            let policy = policy(mode);
            let cells = [("app", "192.0.2.9"), ("repl", "192.0.2.9"), ("app", "10.1.2.3"), ("repl", "10.1.2.3")];
            for ((user, address), expected) in cells.into_iter().zip(expected) {
                let address = (transport != local).then(|| address.parse().unwrap());
                let connection = Connection { transport, user: user.as_bytes(), address };
                let verdict = match policy.verdict(&connection) {
                    Verdict::Serve => Served,
                    Verdict::Exempt(exemption) => Is::Exempt(exemption),
                    Verdict::Hold => Held,
                    Verdict::Redirect(redirect) => {
                        assert!(redirect.message.as_bytes().ends_with(b"|db2:3307"));
                        Redirected(redirect.way_in)
                    }
                };
                assert_eq!(verdict, expected, "{mode} {connection:?}");
                assert_eq!(policy.drains(&connection), matches!(expected, Redirected(_) | Held));
            }
        }
    }

    #[test]
    fn accounts_with_a_target_of_their_own() {
        let own = "db9".parse().unwrap();
        let off = policy("OFF");
        assert!(off.account_message(Some(&own)).unwrap().as_bytes().ends_with(b"'db9'.|db9"));
        assert!(off.account_message(None).unwrap().as_bytes().ends_with(b"|db2:3307"));
        assert_eq!(Policy::default().account_message(None), None);
        assert!(Policy::default().account_message(Some(&own)).is_some());
        let connection = |extra| Connection { transport: Transport::Tcp { extra }, user: b"app", address: None };
        assert!(!off.holds_account(None, &connection(false)));
        assert!(policy("HOLD").holds_account(None, &connection(false)));
        assert!(!policy("HOLD").holds_account(None, &connection(true)));
        assert!(!policy("HOLD").holds_account(Some(&own), &connection(false)));
    }

    #[test]
    fn hold_needs_no_target() {
        let policy = Policy::new(Settings::default().set(Variable::Mode, b"HOLD").unwrap());
        let connection = Connection { transport: Transport::Tcp { extra: false }, user: b"app", address: None };
        assert_eq!(policy.verdict(&connection), Verdict::Hold);
    }
}
