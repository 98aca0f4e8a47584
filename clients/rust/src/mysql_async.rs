//! The crate `mysql_async`.

use std::path::PathBuf;

use ::mysql_async::{Conn, Error, Opts, OptsBuilder, Result, ServerError, SslOpts};
use failover::{Peer, Target, Trust};

use crate::attempt::Attempt;
use crate::witness::{NO_AUTHORITY, Witness};

/// Connects as `opts` say, then to where the server says. Replaces `Conn::new`.
///
/// All options apply to each server: the certificate is checked against the host of that server, unless they override that
/// name. The target of a redirect is reached over TCP. The driver has no timeout; `tokio::time::timeout` around this limits all of it.
///
/// # Errors
/// Those of `Conn::new`. A redirect that is not followed is [`Error::Server`] with the server's code, 4196; the message says why, unless
/// following is off.
pub async fn connect(opts: impl Into<Opts>) -> Result<Conn> {
    follow(&opts.into(), None).await
}

/// The same, but follows the servers that `trust` says, not those that the environment says.
///
/// # Errors
/// Those of [`connect`].
pub async fn connect_trusting(opts: impl Into<Opts>, trust: Trust) -> Result<Conn> {
    follow(&opts.into(), Some(trust)).await
}

async fn follow(opts: &Opts, trust: Option<Trust>) -> Result<Conn> {
    let mut attempt = Attempt::new(origin(opts), trust);
    let mut here = opts.clone();
    loop {
        let mut error = match Conn::new(here.clone()).await {
            Err(Error::Server(error)) => error,
            other => return other,
        };
        if !attempt.is_redirect(error.code, &error.message) {
            return Err(with(error, |message| attempt.with_chain(message)));
        }
        if let Some(objection) = attempt.objection(peer(&here), "with_root_certs") {
            return Err(with(error, |message| attempt.not_followed(message, &objection)));
        }
        if uses_tls(&here) || !here.init().is_empty() || !here.setup().is_empty() {
            error = match confirm(&here).await {
                Ok(Confirmed::ByRedirect(confirmed)) => confirmed,
                // It was the error of an initial statement, or the server has just stopped redirecting.
                Ok(Confirmed::Accepted) => return Conn::new(here).await,
                Ok(Confirmed::Other(error)) => return Err(error),
                Err(objection) => return Err(with(error, |message| attempt.not_followed(message, &objection))),
            };
        }
        match attempt.go_on(error.code, &error.message) {
            Ok(target) => here = at(opts, &target),
            Err(message) => return Err(ServerError { message, ..error }.into()),
        }
    }
}

/// An error with another message.
fn with(error: ServerError, change: impl FnOnce(&str) -> String) -> Error {
    ServerError { message: change(&error.message), ..error }.into()
}

/// What came of a second attempt.
enum Confirmed {
    /// The login was refused, inside TLS if the program uses TLS.
    ByRedirect(ServerError),
    Accepted,
    Other(Error),
}

/// Tries the same server again, without initial statements, and finds out whether its error comes inside TLS.
///
/// The error says why that cannot be known, or that it does not.
async fn confirm(opts: &Opts) -> std::result::Result<Confirmed, String> {
    let bare = OptsBuilder::from_opts(opts.clone()).init(Vec::<String>::new()).setup(Vec::<String>::new());
    let Some(ssl) = opts.ssl_opts().filter(|_| uses_tls(opts)) else {
        return Ok(try_once(bare).await);
    };
    let unread = |error| format!("cannot read the certificate authority: {error}");
    let authority = match ssl.root_certs().first() {
        Some(root) => root.read().await.map_err(unread)?.into_owned(),
        None if ssl.accept_invalid_certs() => NO_AUTHORITY.into(),
        None => return Err(NO_FILE.to_owned()),
    };
    let witness =
        Witness::new(authority).map_err(|error| format!("cannot tell whether it came inside TLS: {error}"))?;
    let mut roots = ssl.root_certs().get(1..).unwrap_or_default().to_vec();
    roots.push(PathBuf::from(witness.path()).into());
    let ssl: SslOpts = ssl.clone().with_root_certs(roots);
    let confirmed = try_once(bare.ssl_opts(ssl)).await;
    // The driver returns errors of TLS as others.
    match (confirmed, witness.was_read()) {
        (Confirmed::ByRedirect(_), false) => Err("it came before TLS".to_owned()),
        (confirmed, _) => Ok(confirmed),
    }
}

const NO_FILE: &str =
    "cannot tell whether it came inside TLS; give the file of the certificate authority (SslOpts::with_root_certs)";

async fn try_once(opts: OptsBuilder) -> Confirmed {
    match Conn::new(opts).await {
        Ok(conn) => {
            // Whether it says goodbye does not matter.
            let _ = conn.disconnect().await;
            Confirmed::Accepted
        }
        Err(Error::Server(error)) => Confirmed::ByRedirect(error),
        Err(other) => Confirmed::Other(other),
    }
}

/// Through a socket, this driver uses no TLS.
fn uses_tls(opts: &Opts) -> bool {
    opts.ssl_opts().is_some() && opts.socket().is_none()
}

/// What is known of the server by the end of the login.
fn peer(opts: &Opts) -> Peer {
    let ssl = opts.ssl_opts().filter(|ssl| !ssl.accept_invalid_certs());
    let verified = uses_tls(opts) && ssl.is_some_and(|ssl| !ssl.skip_domain_validation());
    Peer { tls: uses_tls(opts), verification_asked: ssl.is_some(), verified }
}

/// The first server, as the target of a redirect back to it would be written.
fn origin(opts: &Opts) -> String {
    if let Some(socket) = opts.socket() {
        return socket.to_owned();
    }
    let host = opts.ip_or_hostname();
    let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() };
    format!("{host}:{}", opts.tcp_port())
}

/// The caller's options, for the target of a redirect.
fn at(opts: &Opts, target: &Target) -> Opts {
    // This driver takes an IPv6 address without brackets.
    let host = target.host().to_string();
    OptsBuilder::from_opts(opts.clone())
        .ip_or_hostname(host.trim_matches(['[', ']']))
        .tcp_port(target.port())
        .resolved_ips(None::<Vec<_>>)
        .socket(None::<String>)
        // Nor may it change to the socket that the server names.
        .prefer_socket(false)
        .into()
}

/// A pool of deadpool whose connections follow.
#[cfg(feature = "deadpool")]
pub type Pool = deadpool::managed::Pool<Manager>;

/// Makes the connections of a [`Pool`].
#[cfg(feature = "deadpool")]
#[derive(Clone, Debug)]
pub struct Manager {
    opts: Opts,
    trust: Option<Trust>,
}

#[cfg(feature = "deadpool")]
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

#[cfg(feature = "deadpool")]
impl deadpool::managed::Manager for Manager {
    type Type = Conn;
    type Error = Error;

    async fn create(&self) -> Result<Conn> {
        follow(&self.opts, self.trust).await
    }

    /// Resets the session: a transaction that the last user left open is rolled back.
    async fn recycle(
        &self,
        conn: &mut Conn,
        _: &deadpool::managed::Metrics,
    ) -> deadpool::managed::RecycleResult<Error> {
        if conn.reset().await? {
            Ok(())
        } else {
            Err(deadpool::managed::RecycleError::message("the server cannot reset"))
        }
    }
}
