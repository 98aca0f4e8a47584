//! The command line and the options file.

mod file;

use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use failover::{Settings, Switch, Variable};
use nix::unistd::{Uid, User};
use tracing::info;

use super::accounts::{Accounts, Administrator};
use super::files::{self, When};
use super::listeners::Places;
use super::proxy::ProxyNetworks;
use super::shared::{Configuration, Version};
use super::tls::{self, Certified, Protocol};

/// The name of the program.
pub(super) const NAME: &str = "instant-failover-harness";

/// Redirects every new database connection to another server, as a MariaDB server with the instant failover plugin would,
/// while that server is down.
///
/// Options have the same names as in mariadbd, and can be written with - or _. If an option is given twice, the last value
/// counts; the command line takes precedence over the options file.
#[derive(Clone, Debug, Parser, PartialEq, Eq)]
#[command(name = "instant-failover-harness", args_override_self = true, max_term_width = 100)]
#[command(after_help = AFTER_HELP)]
#[expect(clippy::struct_excessive_bools, reason = "each is an option")]
pub(super) struct Options {
    /// Read options from the group [instant-failover-harness] of this my.cnf
    #[arg(long, value_name = "FILE")]
    defaults_file: Option<PathBuf>,
    /// Check the options and the files that they name, and exit
    #[arg(long)]
    validate_config: bool,

    /// Names or addresses to listen on, separated by commas; * means all addresses
    #[arg(long, value_name = "ADDRESSES", default_value = "*", help_heading = "Ways in")]
    bind_address: String,
    /// The standard port; 0 picks a free one
    #[arg(long, value_name = "PORT", default_value_t = 3306, help_heading = "Ways in")]
    port: u16,
    /// Do not listen on TCP, only on --socket
    #[arg(long, help_heading = "Ways in")]
    skip_networking: bool,
    /// A second port, for administrators; mode ON does not redirect it
    #[arg(long, value_name = "PORT", help_heading = "Ways in")]
    extra_port: Option<u16>,
    /// Unix socket to listen on; root and the user running the program administer it there
    #[arg(long, value_name = "FILE", help_heading = "Ways in")]
    socket: Option<PathBuf>,
    /// IP addresses and CIDR blocks of proxies that send PROXY headers, separated by commas; localhost for the socket, * for all
    #[arg(long, value_name = "NETWORKS", default_value = "", hide_default_value = true, help_heading = "Ways in")]
    proxy_protocol_networks: String,
    /// Length of the queue of connections waiting to be accepted; the system may limit it further
    #[arg(long, value_name = "NUMBER", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=65_535), help_heading = "Ways in")]
    back_log: u32,
    /// Seconds to wait for a port or socket that is still in use by a server that is shutting down
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=3600), help_heading = "Ways in")]
    port_open_timeout: u32,

    /// OFF, ON (redirect TCP connections to the standard port), ALL or HOLD (make those that ON would redirect wait)
    #[arg(long, value_name = "MODE", default_value = "OFF", help_heading = "Redirecting")]
    instant_failover_mode: String,
    /// Where to redirect clients: host or host:port
    #[arg(long, value_name = "TARGET", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_target: String,
    /// Text of the error that redirected clients get; %s is replaced by the target
    #[arg(long, value_name = "TEXT", help_heading = "Redirecting")]
    instant_failover_message: Option<String>,
    /// Users that are never redirected, separated by commas
    #[arg(long, value_name = "USERS", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_exempt_users: String,
    /// IP addresses and CIDR blocks that are never redirected, separated by commas
    #[arg(long, value_name = "BLOCKS", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_exempt_hosts: String,
    /// Seconds that HOLD lasts from the moment it is set, here from the start; then the mode becomes OFF
    #[arg(long, value_name = "SECONDS", default_value_t = failover::HoldTimeout::default().to_string(), help_heading = "Redirecting")]
    instant_failover_hold_timeout: String,
    /// Text without any effect, for the next administrator to read
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true, help_heading = "Redirecting")]
    instant_failover_note: String,
    /// OFF; only SET GLOBAL can set it to ON
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "ON", default_value = "OFF", value_name = "OFF", help_heading = "Redirecting")]
    instant_failover_drain: String,

    /// The certificate and its chain, in PEM format; without it, a self-signed one is generated at startup
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_cert: Option<PathBuf>,
    /// The private key of the certificate, in PEM format
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_key: Option<PathBuf>,
    /// CA certificates for verifying client certificates, in PEM format
    #[arg(long, value_name = "FILE", help_heading = "TLS")]
    ssl_ca: Option<PathBuf>,
    /// TLS versions to accept, separated by commas
    #[arg(long, value_name = "VERSIONS", default_value = "TLSv1.2,TLSv1.3", help_heading = "TLS")]
    tls_version: String,
    /// Cipher suites to accept, by their OpenSSL names, separated by colons; without it, all secure ones
    #[arg(long, value_name = "SUITES", help_heading = "TLS")]
    ssl_cipher: Option<String>,
    /// Refuse logins over TCP without TLS; redirects do not need TLS
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "ON", default_value = "OFF", value_name = "ON|OFF", value_parser = switch, action = clap::ArgAction::Set, help_heading = "TLS")]
    require_secure_transport: bool,
    /// Disable TLS
    #[arg(long, help_heading = "TLS")]
    skip_ssl: bool,

    /// Accounts for clients that are not redirected; each line is a user name and a password hash (*HEX) or no-password
    #[arg(long, value_name = "FILE", help_heading = "Who gets in")]
    accounts_file: Option<PathBuf>,
    /// Accept any login, for tests; only while listening on loopback addresses and Unix sockets alone
    #[arg(long, help_heading = "Who gets in")]
    accept_any_login: bool,

    /// Seconds after which a client that has not logged in is disconnected
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=31_536_000), help_heading = "Limits")]
    connect_timeout: u32,
    /// Seconds after which an idle session is disconnected
    #[arg(long, value_name = "SECONDS", default_value_t = 28_800, value_parser = clap::value_parser!(u32).range(1..=31_536_000), help_heading = "Limits")]
    wait_timeout: u32,
    /// Maximum number of simultaneous connections, not counting the extra port
    #[arg(long, value_name = "NUMBER", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), help_heading = "Limits")]
    max_connections: u32,
    /// Maximum number of simultaneous connections to the extra port
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100_000), help_heading = "Limits")]
    extra_max_connections: u32,

    /// With a value: the server version to announce to clients. Without a value: print the program's version
    #[arg(short = 'V', long, num_args = 0..=1, require_equals = true, value_name = "VERSION", default_missing_value = "", help_heading = "Watching")]
    version: Option<String>,

    /// Serve the counters for Prometheus on this port of this IP address (IPv6 in brackets), to anyone who can reach it; the default address is 127.0.0.1
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = metrics_address, help_heading = "Watching")]
    metrics: Option<SocketAddr>,
    /// error, warn, info (changes, and a summary under load) or debug (every connection as well)
    #[arg(long, value_name = "LEVEL", default_value = "info", help_heading = "Watching")]
    log_level: tracing::level_filters::LevelFilter,
}

/// ON and OFF as mariadbd accepts them.
fn switch(text: &str) -> Result<bool, &'static str> {
    match text.to_ascii_uppercase().as_str() {
        "ON" | "1" | "TRUE" => Ok(true),
        "OFF" | "0" | "FALSE" => Ok(false),
        _ => Err("give ON or OFF"),
    }
}

/// Where to serve the metrics.
fn metrics_address(text: &str) -> Result<SocketAddr, &'static str> {
    match text.parse() {
        Ok(port) => Ok((Ipv4Addr::LOCALHOST, port).into()),
        Err(_) => text.parse().map_err(|_| {
            "give a port, for 127.0.0.1, or an IP address and a port, such as 9105, 192.0.2.1:9105, [2001:db8::1]:9105, or [::]:9105 \
             for all addresses"
        }),
    }
}

const AFTER_HELP: &str = "\
Signals: TERM stops listening, lets logins in progress finish, ends those that are held and exits with 0. HUP rereads the options file, the \
accounts file and the certificates without closing connections; if anything in them is invalid, nothing changes. Values \
set by SET GLOBAL are kept, unless the file has changed them too. Changes of addresses, ports and the socket need a restart.

Under systemd: sockets that systemd passes are used instead of --bind-address, --port and --socket; one on --extra-port \
is the extra port.

Example, while the server at this address is upgraded:
  instant-failover-harness --socket=/run/mysqld/mysqld.sock \\
      --instant-failover-target=db2.example.com:3306 --instant-failover-mode=ON";

impl Options {
    /// Reads the command line and the options file that it names.
    ///
    /// # Errors
    /// What is wrong, for the user; `--help` is an error of this kind too.
    pub(super) fn read(arguments: &[OsString], when: When) -> Result<Self, clap::Error> {
        let command_line: Vec<OsString> = arguments.iter().map(with_dashes).collect();
        let options = Self::try_parse_from(&command_line)?;
        let Some(file) = &options.defaults_file else { return Ok(options) };
        let wrong = |why: String| Self::command().error(clap::error::ErrorKind::ValueValidation, why);
        let mut all: Vec<OsString> = command_line.first().cloned().into_iter().collect();
        for line in file::read(file, when).map_err(wrong)? {
            // Each option separately, so that an error can name its line.
            Self::try_parse_from([OsString::new(), line.argument.clone().into()])
                .map_err(|error| wrong(format!("{}: {}", line.place, first_line(&error))))?;
            if line.argument == "--version" {
                return Err(wrong(format!("{}: version needs a value", line.place)));
            }
            all.push(line.argument.into());
        }
        all.extend(command_line.into_iter().skip(1));
        Self::from_arg_matches(&Self::command().try_get_matches_from(all)?)
    }

    pub(super) const fn log_level(&self) -> tracing::level_filters::LevelFilter {
        self.log_level
    }

    /// Whether to only print the program's version.
    pub(super) fn prints_version(&self) -> bool {
        self.version.as_deref() == Some("")
    }

    /// Whether to only check the options.
    pub(super) const fn validates_config(&self) -> bool {
        self.validate_config
    }

    /// Whether any login is accepted.
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
            metrics: self.metrics,
            back_log: self.back_log,
            patience: Duration::from_secs(self.port_open_timeout.into()),
        }
    }

    /// The settings, checked by the plugin's rules.
    ///
    /// # Errors
    /// The plugin's error message.
    pub(super) fn settings(&self) -> Result<Settings, String> {
        let value = |variable| match variable {
            Variable::Mode => Some(&self.instant_failover_mode),
            Variable::Target => Some(&self.instant_failover_target),
            Variable::Message => self.instant_failover_message.as_ref(),
            Variable::ExemptUsers => Some(&self.instant_failover_exempt_users),
            Variable::ExemptHosts => Some(&self.instant_failover_exempt_hosts),
            Variable::HoldTimeout => Some(&self.instant_failover_hold_timeout),
            Variable::Note => Some(&self.instant_failover_note),
            Variable::Drain => Some(&self.instant_failover_drain),
        };
        if self.instant_failover_drain.parse().is_ok_and(Switch::is_on) {
            return Err(format!(
                "{0} cannot be ON at the start: no session is open yet; remove the option, and use SET GLOBAL {0} = ON later",
                Variable::Drain.name()
            ));
        }
        let given = Variable::ALL.into_iter().filter_map(|variable| Some((variable, value(variable)?)));
        given.into_iter().try_fold(Settings::default(), |settings, (variable, value)| {
            settings.set(variable, value.as_bytes()).map_err(|error| error.to_string())
        })
    }

    /// The networks from which PROXY headers are accepted.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub(super) fn proxy_networks(&self) -> Result<ProxyNetworks, String> {
        self.proxy_protocol_networks.parse().map_err(|why| format!("--proxy-protocol-networks: {why}"))
    }

    /// Everything else that a reload can change. The files are not read.
    ///
    /// # Errors
    /// Which option is wrong.
    pub(super) fn configuration(&self) -> Result<Configuration, String> {
        let protocol = self.protocol()?;
        let version = match &self.version {
            None => Version::default(),
            Some(version) => Version::new(version).map_err(|why| format!("--version: {why}"))?,
        };
        match (&self.ssl_cert, &self.ssl_key) {
            (Some(_), None) => return Err("--ssl-cert needs --ssl-key too".to_owned()),
            (None, Some(_)) => return Err("--ssl-key needs --ssl-cert too".to_owned()),
            _ => {}
        }
        Ok(Configuration {
            tls_version: protocol.shown_versions(),
            ssl_cipher: self.ssl_cipher.clone().unwrap_or_default(),
            require_secure_transport: self.require_secure_transport,
            version,
            connect_timeout: Duration::from_secs(self.connect_timeout.into()),
            wait_timeout: Duration::from_secs(self.wait_timeout.into()),
            max_connections: self.max_connections,
            extra_max_connections: self.extra_max_connections,
            ..Configuration::default()
        })
    }

    fn protocol(&self) -> Result<Protocol, String> {
        Protocol::new(&self.tls_version, self.ssl_cipher.as_deref())
    }

    /// The options file, if there is one.
    pub(super) fn defaults_file(&self) -> Option<&Path> {
        self.defaults_file.as_deref()
    }

    /// The accounts file, and the files with certificates and keys.
    fn named_files(&self) -> [Vec<&Path>; 2] {
        let tls = [&self.ssl_cert, &self.ssl_key, &self.ssl_ca].into_iter().filter(|_| !self.skip_ssl);
        [self.accounts_file.iter().map(PathBuf::as_path).collect(), tls.flatten().map(PathBuf::as_path).collect()]
    }
}

/// What was read from the files that the options name.
pub(super) struct Files {
    accounts: Arc<Accounts>,
    /// None where there is no TLS.
    tls: Option<Arc<rustls::ServerConfig>>,
    /// Kept across reloads: the administrators, and the generated certificate.
    administrators: Vec<Administrator>,
    self_signed: Option<Certified>,
}

impl Files {
    /// Reads all files that `options` name, at startup.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn read(options: &Options, hostname: &str) -> Result<Self, String> {
        let administrators = administrators();
        let mut files = Self { accounts: Arc::default(), tls: None, administrators, self_signed: None };
        files.accounts = files.read_accounts(options, When::Starting)?;
        files.tls = files.configure_tls(options, hostname, When::Starting)?;
        Ok(files)
    }

    /// The accounts that can log in.
    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Reads them again for a reload. A file that can be read only once, such as a pipe, keeps its contents.
    ///
    /// # Errors
    /// What is wrong with which file.
    pub(super) fn read_again(&self, before: &Options, options: &Options, hostname: &str) -> Result<Self, String> {
        // Such a file must be one that was read at startup.
        let [accounts_stay, tls_stays] = [0, 1].map(|index| {
            let (old, new) = (&before.named_files()[index], &options.named_files()[index]);
            let kept = new.iter().find(|file| files::is_read_once(file)).filter(|_| old == new);
            if let Some(file) = kept {
                info!("{} is not a regular file: keeping what was read from it at startup", file.display());
            }
            kept.is_some()
        });
        let mut files = Self {
            accounts: Arc::clone(&self.accounts),
            tls: self.tls.clone(),
            administrators: self.administrators.clone(),
            self_signed: self.self_signed.clone(),
        };
        if !accounts_stay {
            files.accounts = files.read_accounts(options, When::Reloading)?;
        }
        if !tls_stays {
            files.tls = files.configure_tls(options, hostname, When::Reloading)?;
        } else if before.protocol() != options.protocol() {
            return Err(
                "--tls-version and --ssl-cipher cannot change while the certificate is not a regular file; restart to change them".to_owned()
            );
        }
        Ok(files)
    }

    fn read_accounts(&self, options: &Options, when: When) -> Result<Arc<Accounts>, String> {
        let mut accounts = Accounts::of(self.administrators.clone());
        if let Some(file) = &options.accounts_file {
            accounts = accounts.read(file, when)?;
        }
        Ok(Arc::new(if options.accept_any_login { accounts.and_anybody() } else { accounts }))
    }

    fn configure_tls(
        &mut self,
        options: &Options,
        hostname: &str,
        when: When,
    ) -> Result<Option<Arc<rustls::ServerConfig>>, String> {
        if options.skip_ssl {
            return Ok(None);
        }
        let certified = match (&options.ssl_cert, &options.ssl_key) {
            (Some(certificate), Some(key)) => Certified::read(certificate, key, when)?,
            // Clients see the same certificate until the program ends.
            _ => match &self.self_signed {
                Some(made) => made.clone(),
                None => self.self_signed.insert(Certified::self_signed(hostname)?).clone(),
            },
        };
        tls::configure(certified, &options.protocol()?, options.ssl_ca.as_deref(), when).map(Some)
    }

    /// Adds the contents of the files to a configuration.
    pub(super) fn complete(&self, configuration: Configuration) -> Configuration {
        Configuration { accounts: Arc::clone(&self.accounts), tls: self.tls.clone(), ..configuration }
    }
}

/// The error message without the usage.
pub(super) fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned()
}

/// root and the user running this program.
fn administrators() -> Vec<Administrator> {
    let mut administrators = vec![Administrator { uid: 0, name: "root".to_owned() }];
    let uid = Uid::effective();
    if let (false, Ok(Some(user))) = (uid.is_root(), User::from_uid(uid)) {
        administrators.push(Administrator { uid: uid.as_raw(), name: user.name });
    }
    administrators
}

/// The same option with every `_` in its name replaced by `-`, as mariadbd allows.
fn with_dashes(argument: &OsString) -> OsString {
    let Some(text) = argument.to_str() else { return argument.clone() };
    let Some(option) = text.strip_prefix("--") else { return argument.clone() };
    let (name, value) = option.split_at(option.find('=').unwrap_or(option.len()));
    format!("--{}{value}", name.replace('_', "-")).into()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::{CommandFactory, Parser};

    use super::Options;

    #[test]
    fn places_for_the_metrics() {
        let read = |value: &str| Options::try_parse_from(["program", &format!("--metrics={value}")]);
        for (value, place) in [
            ("9105", "127.0.0.1:9105"),
            ("0", "127.0.0.1:0"),
            ("192.0.2.1:9105", "192.0.2.1:9105"),
            ("[2001:db8::1]:9105", "[2001:db8::1]:9105"),
            ("[::]:9105", "[::]:9105"),
        ] {
            assert_eq!(read(value).unwrap().metrics, Some(place.parse().unwrap()), "{value}");
        }
        for wrong in
            ["", "x", "-1", "65536", "192.0.2.1", "192.0.2.1:", "db1:9105", "::1:9105", "*:9105", "192.0.2.1:65536"]
        {
            let error = read(wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("'{wrong}'")) && error.contains("give a port"), "{wrong}: {error}");
        }
    }

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
        let page = include_str!("../../packaging/instant-failover-harness.8");
        let (_, rest) = page.split_once(".\\\" begin options\n").unwrap();
        let (options, _) = rest.split_once(".\\\" end options\n").unwrap();
        assert_eq!(options, expected, "in packaging/instant-failover-harness.8, write:\n{expected}");
    }
}
