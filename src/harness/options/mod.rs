//! What the command line and the options file say.

mod file;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use instant_failover::failover::{Settings, Variable};
use nix::unistd::{Uid, User};

use super::accounts::{Accounts, Administrator};
use super::listeners::Places;
use super::shared::Configuration;
use super::tls;

/// Answers every new database connection with where to go instead, as a MariaDB server with the instant failover plugin
/// would, while that server is down.
///
/// Options are named as mariadbd's, and may be written with - or _. Where one is given twice, the last one counts; the
/// command line comes after the options file.
#[derive(Clone, Debug, Parser, PartialEq, Eq)]
#[command(name = "instant-failover-harness", version, args_override_self = true, max_term_width = 100)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(super) struct Options {
    /// Read options from the group [instant-failover-harness] of this my.cnf
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
    /// Say whether the options, and the files that they name, are right, and end
    #[arg(long)]
    validate_config: bool,

    /// Names or addresses to listen on, separated by commas; * is all of them
    #[arg(long, value_name = "ADDRESSES", default_value = "*", help_heading = "Ways in")]
    bind_address: String,
    /// The standard port; 0 takes a free one
    #[arg(long, value_name = "PORT", default_value_t = 3306, help_heading = "Ways in")]
    port: u16,
    /// Do not listen on TCP, only on --socket
    #[arg(long, help_heading = "Ways in")]
    skip_networking: bool,
    /// A second port, for administrators: mode ON leaves it alone
    #[arg(long, value_name = "PORT", help_heading = "Ways in")]
    extra_port: Option<u16>,
    /// A Unix socket, through which root and the user who runs this administer it
    #[arg(long, value_name = "FILE", help_heading = "Ways in")]
    socket: Option<PathBuf>,
    /// Seconds to wait for a port, or the socket, that another server is about to give up
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=3600), help_heading = "Ways in")]
    port_open_timeout: u32,

    /// OFF, ON (redirect who comes over TCP to the standard port) or ALL
    #[arg(long, value_name = "MODE", default_value = "OFF", help_heading = "Redirecting")]
    instant_failover_mode: String,
    /// Where clients are sent: host or host:port
    #[arg(long, value_name = "TARGET", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_target: String,
    /// What they are told; %s stands for the target
    #[arg(long, value_name = "TEXT", help_heading = "Redirecting")]
    instant_failover_message: Option<String>,
    /// Users who are never redirected, separated by commas
    #[arg(long, value_name = "USERS", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_exempt_users: String,
    /// Addresses and CIDR blocks that are never redirected, separated by commas
    #[arg(long, value_name = "BLOCKS", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_exempt_hosts: String,

    /// The certificate (and its chain), in PEM; without one, a self-signed one is made at start
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_key: Option<PathBuf>,
    /// Who signs the certificates that clients may have, in PEM
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_ca: Option<PathBuf>,
    /// Offer no TLS
    #[arg(long, help_heading = "TLS")]
    skip_ssl: bool,

    /// Who is let in when not redirected: a line for each, user name and password hash (*HEX)
    #[arg(long, value_name = "FILE", help_heading = "Who gets in")]
    accounts_file: Option<PathBuf>,
    /// For tests: let everybody in; only while nobody but this machine can come
    #[arg(long, help_heading = "Who gets in")]
    accept_any_login: bool,

    /// Seconds that a client may take to log in
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=31_536_000), help_heading = "Limits")]
    connect_timeout: u32,
    /// Connections at a time
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    max_connections: u32,

    /// Serve the counters to Prometheus on this port of 127.0.0.1
    #[arg(long, value_name = "PORT", help_heading = "Watching")]
    metrics: Option<u16>,
    /// error, warn, info (changes, and a summary under load) or debug (every connection)
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Watching")]
    log_level: tracing::level_filters::LevelFilter,
}

const AFTER_HELP: &str = "\
Signals: TERM stops listening, lets logins in flight finish and exits with 0. HUP reads the options file, the accounts \
file and the certificates again, without dropping anybody; what cannot be read changes nothing. What has been SET stays, \
unless the file says something new about it. Addresses, ports and the socket stay as they are until the next start.

Under systemd: sockets passed on are used instead of --bind-address, --port and --socket; one on --extra-port is the \
extra port.

Example, while the server that was here is upgraded:
  instant-failover-harness --socket=/run/mysqld/mysqld.sock \\
      --instant-failover-target=db2.example.com:3306 --instant-failover-mode=ON";

impl Options {
    /// Reads the command line, and the options file that it names.
    ///
    /// # Errors
    /// What is wrong, for a person to read; `--help` and `--version` are errors of this kind too.
    pub(super) fn read(arguments: &[OsString]) -> Result<Self, clap::Error> {
        let command_line: Vec<OsString> = arguments.iter().map(with_dashes).collect();
        let options = Self::try_parse_from(&command_line)?;
        let Some(file) = &options.defaults_file else { return Ok(options) };
        let wrong = |why: String| Self::command().error(clap::error::ErrorKind::ValueValidation, why);
        let mut all: Vec<OsString> = command_line.first().cloned().into_iter().collect();
        for line in file::read(file).map_err(wrong)? {
            // By itself, to be able to say where what is wrong stands.
            Self::try_parse_from([OsString::new(), line.argument.clone().into()])
                .map_err(|error| wrong(format!("{}: {}", line.place, first_line(&error))))?;
            all.push(line.argument.into());
        }
        all.extend(command_line.into_iter().skip(1));
        Self::from_arg_matches(&Self::command().try_get_matches_from(all)?)
    }

    pub(super) const fn log_level(&self) -> tracing::level_filters::LevelFilter {
        self.log_level
    }

    /// Whether to look at the options, and no more.
    pub(super) const fn validates_config(&self) -> bool {
        self.validate_config
    }

    /// Whether everybody is let in.
    pub(super) const fn accepts_any_login(&self) -> bool {
        self.accept_any_login
    }

    /// Where to listen.
    pub(super) fn places(&self) -> Places {
        Places {
            bind_addresses: self.bind_address.split(',').map(|name| name.trim().to_owned()).collect(),
            port: (!self.skip_networking).then_some(self.port),
            extra_port: self.extra_port.filter(|_| !self.skip_networking),
            socket: self.socket.clone(),
            metrics_port: self.metrics,
            patience: Duration::from_secs(self.port_open_timeout.into()),
        }
    }

    /// The settings, with the plugin's rules.
    ///
    /// # Errors
    /// What the plugin would say.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let value = |variable| match variable {
            Variable::Mode => Some(&self.instant_failover_mode),
            Variable::Target => Some(&self.instant_failover_target),
            Variable::Message => self.instant_failover_message.as_ref(),
            Variable::ExemptUsers => Some(&self.instant_failover_exempt_users),
            Variable::ExemptHosts => Some(&self.instant_failover_exempt_hosts),
        };
        let given = Variable::ALL.into_iter().filter_map(|variable| Some((variable, value(variable)?)));
        given.into_iter().try_fold(Settings::default(), |settings, (variable, value)| {
            settings.set(variable, value.as_bytes()).map_err(|error| error.to_string())
        })
    }

    /// Everything else that a reload may change, with the files that it names.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn configuration(&self, hostname: &str) -> Result<Configuration, String> {
        let mut accounts = Accounts::of(administrators());
        if let Some(file) = &self.accounts_file {
            accounts = accounts.read(file)?;
        }
        if self.accept_any_login {
            accounts = accounts.and_anybody();
        }
        let tls = match (&self.ssl_cert, &self.ssl_key) {
            _ if self.skip_ssl => None,
            (Some(certificate), Some(key)) => {
                Some(tls::Identity::Files { certificate: certificate.clone(), key: key.clone() })
            }
            (None, None) => Some(tls::Identity::SelfSigned(hostname.to_owned())),
            (Some(_), None) => return Err("--ssl-cert needs --ssl-key too".to_owned()),
            (None, Some(_)) => return Err("--ssl-key needs --ssl-cert too".to_owned()),
        };
        let tls = tls.map(|identity| tls::configure(&identity, self.ssl_ca.as_deref())).transpose()?;
        Ok(Configuration {
            accounts,
            tls,
            connect_timeout: Duration::from_secs(self.connect_timeout.into()),
            max_connections: self.max_connections,
        })
    }
}

/// What is wrong, without the usage after it.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// root, and the user that runs this program.
fn administrators() -> Vec<Administrator> {
    let mut administrators = vec![Administrator { uid: 0, name: "root".to_owned() }];
    let uid = Uid::effective();
    if let (false, Ok(Some(user))) = (uid.is_root(), User::from_uid(uid)) {
        administrators.push(Administrator { uid: uid.as_raw(), name: user.name });
    }
    administrators
}

/// The same option with `-` for every `_` in its name, as mariadbd takes it.
fn with_dashes(argument: &OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument.clone() };
    let Some(option) = text.strip_prefix("--") else { return argument.clone() };
    let (name, value) = option.split_at(option.find('=').unwrap_or(option.len()));
    format!("--{}{value}", name.replace('_', "-")).into()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::CommandFactory;

    use super::Options;

    #[test]
    fn manual_page_has_the_options() {
        let mut expected = String::new();
        for option in Options::command().get_arguments() {
            let _ = write!(expected, ".It Fl -{}", option.get_long().unwrap());
            if option.get_action().takes_values() {
                let _ = write!(expected, " Ns = Ns Ar {}", option.get_value_names().unwrap()[0]);
            }
            let _ = writeln!(expected, "\n{}.", option.get_help().unwrap());
            if let (false, [default]) = (option.is_hide_default_value_set(), option.get_default_values()) {
                let _ = writeln!(expected, "Default: {}.", default.display());
            }
        }
        let page = include_str!("../../../packaging/instant-failover-harness.8");
        let (_, rest) = page.split_once(".\\\" begin options\n").unwrap();
        let (options, _) = rest.split_once(".\\\" end options\n").unwrap();
        assert_eq!(options, expected, "in packaging/instant-failover-harness.8, write:\n{expected}");
    }
}
