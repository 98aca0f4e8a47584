//! The crate `mysql`.

use std::fs;
use std::path::PathBuf;

use ::mysql::{Conn, Error, MySqlError, Opts, OptsBuilder, Result, SslOpts};
use failover::{Peer, Target, Trust};

use crate::attempt::Attempt;
use crate::witness::{NO_AUTHORITY, Witness};

/// Connects as `opts` say, then to where the server says. Replaces `Conn::new`.
///
/// All options apply to each server: the certificate is checked against the host of that server. The target of a redirect is
/// reached over TCP.
///
/// # Errors
/// Those of `Conn::new`. A redirect that is not followed is [`Error::MySqlError`] with the server's code, 4196; the message says
/// why, unless following is off.
pub fn connect<T, E>(opts: T) -> Result<Conn>
where
    Opts: TryFrom<T, Error = E>,
    Error: From<E>,
{
    follow(&Opts::try_from(opts)?, None)
}

/// The same, but follows the servers that `trust` says, not those that the environment says.
///
/// # Errors
/// Those of [`connect`].
pub fn connect_trusting<T, E>(opts: T, trust: Trust) -> Result<Conn>
where
    Opts: TryFrom<T, Error = E>,
    Error: From<E>,
{
    follow(&Opts::try_from(opts)?, Some(trust))
}

fn follow(opts: &Opts, trust: Option<Trust>) -> Result<Conn> {
    let mut attempt = Attempt::new(origin(opts), trust);
    let mut here = opts.clone();
    loop {
        let mut error = match Conn::new(here.clone()) {
            Err(Error::MySqlError(error)) => error,
            other => return other,
        };
        if !attempt.is_redirect(error.code, &error.message) {
            return Err(with(error, |message| attempt.with_chain(message)));
        }
        if let Some(objection) = attempt.objection(peer(&here), "with_root_cert_path") {
            return Err(with(error, |message| attempt.not_followed(message, &objection)));
        }
        if uses_tls(&here) || !here.get_init().is_empty() {
            error = match confirm(&here) {
                Ok(Confirmed::ByRedirect(confirmed)) => confirmed,
                // It was the error of an initial statement, or the server has just stopped redirecting.
                Ok(Confirmed::Accepted) => return Conn::new(here),
                Ok(Confirmed::Other(error)) => return Err(error),
                Err(objection) => return Err(with(error, |message| attempt.not_followed(message, &objection))),
            };
        }
        match attempt.go_on(error.code, &error.message) {
            Ok(target) => here = at(opts, &target),
            Err(message) => return Err(MySqlError { message, ..error }.into()),
        }
    }
}

/// An error with another message.
fn with(error: MySqlError, change: impl FnOnce(&str) -> String) -> Error {
    MySqlError { message: change(&error.message), ..error }.into()
}

/// What came of a second attempt.
enum Confirmed {
    /// The login was refused, inside TLS if the program uses TLS.
    ByRedirect(MySqlError),
    Accepted,
    Other(Error),
}

/// Tries the same server again, without initial statements, and finds out whether its error comes inside TLS.
///
/// The error says why that cannot be known, or that it does not.
fn confirm(opts: &Opts) -> std::result::Result<Confirmed, String> {
    let bare = OptsBuilder::from_opts(opts.clone()).init(Vec::<String>::new());
    let Some(ssl) = opts.get_ssl_opts().filter(|_| uses_tls(opts)) else {
        return Ok(Confirmed::from(Conn::new(bare)));
    };
    let authority = match ssl.root_cert_path() {
        Some(path) => fs::read(path).map_err(|error| format!("cannot read '{}': {error}", path.display()))?,
        None if ssl.accept_invalid_certs() => NO_AUTHORITY.into(),
        None => return Err(NO_FILE.to_owned()),
    };
    let witness =
        Witness::new(authority).map_err(|error| format!("cannot tell whether it came inside TLS: {error}"))?;
    let ssl: SslOpts = ssl.clone().with_root_cert_path(Some(PathBuf::from(witness.path())));
    let result = Conn::new(bare.ssl_opts(ssl));
    // The driver returns errors of TLS as others.
    match (Confirmed::from(result), witness.was_read()) {
        (Confirmed::ByRedirect(_), false) => Err("it came before TLS".to_owned()),
        (confirmed, _) => Ok(confirmed),
    }
}

const NO_FILE: &str =
    "cannot tell whether it came inside TLS; give the file of the certificate authority (SslOpts::with_root_cert_path)";

impl From<Result<Conn>> for Confirmed {
    fn from(result: Result<Conn>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(Error::MySqlError(error)) => Self::ByRedirect(error),
            Err(other) => Self::Other(other),
        }
    }
}

/// Through a socket, this driver uses no TLS.
fn uses_tls(opts: &Opts) -> bool {
    opts.get_ssl_opts().is_some() && opts.get_socket().is_none()
}

/// What is known of the server by the end of the login.
fn peer(opts: &Opts) -> Peer {
    let ssl = opts.get_ssl_opts().filter(|ssl| !ssl.accept_invalid_certs());
    let verified = uses_tls(opts) && ssl.is_some_and(|ssl| !ssl.skip_domain_validation());
    Peer { tls: uses_tls(opts), verification_asked: ssl.is_some(), verified }
}

/// The first server, as the target of a redirect back to it would be written.
fn origin(opts: &Opts) -> String {
    let tcp = || format!("{}:{}", opts.get_ip_or_hostname(), opts.get_tcp_port());
    opts.get_socket().map_or_else(tcp, str::to_owned)
}

/// The caller's options, for the target of a redirect.
fn at(opts: &Opts, target: &Target) -> Opts {
    OptsBuilder::from_opts(opts.clone())
        .ip_or_hostname(Some(target.host().to_string()))
        .tcp_port(target.port())
        .socket(None::<String>)
        // Nor may it change to the socket that the server names.
        .prefer_socket(false)
        .into()
}

/// Makes the connections of an `r2d2::Pool`.
#[cfg(feature = "r2d2")]
#[derive(Clone, Debug)]
pub struct Manager {
    opts: Opts,
    trust: Option<Trust>,
}

#[cfg(feature = "r2d2")]
impl Manager {
    /// Each connection begins at the server of `opts`.
    pub fn new(opts: impl Into<Opts>) -> Self {
        Self { opts: opts.into(), trust: None }
    }

    /// Follows the servers that `trust` says, not those that the environment says.
    #[must_use]
    pub fn trusting(self, trust: Trust) -> Self {
        Self { trust: Some(trust), ..self }
    }
}

#[cfg(feature = "r2d2")]
impl r2d2::ManageConnection for Manager {
    type Connection = Conn;
    type Error = Error;

    fn connect(&self) -> Result<Conn> {
        follow(&self.opts, self.trust)
    }

    /// Resets the session: a transaction that the last user left open is rolled back.
    fn is_valid(&self, conn: &mut Conn) -> Result<()> {
        conn.reset()
    }

    fn has_broken(&self, _: &mut Conn) -> bool {
        // Only the server knows; `is_valid` asks it before the connection is lent again.
        false
    }
}
