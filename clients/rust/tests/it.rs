//! Both drivers and both pools, with real servers.
//!
//! What all languages do alike is tested by `cargo xtask conformance`; here is what only Rust has.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "clippy recognises tests by their attribute, but not their helpers"
)]

use std::env;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use instant_failover_client::{Trust, mysql as blocking, mysql_async as asynchronous};
use mysql::prelude::Queryable as _;
use support::harness::Harness;
use support::server::Server;
use support::wire;
use tempfile::TempDir;

const PASSWORD: &str = "open sesame";

/// The stand-in redirects to a server, and both have certificates of the same authority.
struct World {
    home: TempDir,
    old: Harness,
    new: Server,
}

impl World {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let tls = certificate(home.path());
        let new = Server::start(&built("INSTANT_FAILOVER_SO"), &tls.each_ref().map(String::as_str)).unwrap();
        let mut root = new.root().unwrap();
        for sql in ["INSTALL SONAME 'instant_failover'", &format!("CREATE USER app IDENTIFIED BY '{PASSWORD}'")] {
            root.query(sql).unwrap();
        }
        let target = format!("--instant-failover-target=localhost:{}", new.address().port());
        let mut arguments = vec!["--instant-failover-mode=ON", target.as_str()];
        arguments.extend(tls.each_ref().map(String::as_str));
        let old = Harness::start(&built("INSTANT_FAILOVER_STANDIN"), &arguments).unwrap();
        Self { home, old, new }
    }

    fn authority(&self) -> PathBuf {
        self.home.path().join("authority.pem")
    }

    fn old_port(&self) -> u16 {
        self.old.address().port()
    }

    fn new_port(&self) -> u16 {
        self.new.address().port()
    }
}

fn opts(port: u16, ssl: Option<mysql::SslOpts>) -> mysql::OptsBuilder {
    mysql::OptsBuilder::new()
        .ip_or_hostname(Some("localhost"))
        .tcp_port(port)
        .user(Some("app"))
        .pass(Some(PASSWORD))
        .prefer_socket(false)
        .ssl_opts(ssl)
}

fn async_opts(port: u16, ssl: Option<mysql_async::SslOpts>) -> mysql_async::OptsBuilder {
    mysql_async::OptsBuilder::default()
        .ip_or_hostname("localhost")
        .tcp_port(port)
        .user(Some("app"))
        .pass(Some(PASSWORD))
        .prefer_socket(false)
        .ssl_opts(ssl)
}

/// A file that was built before.
fn built(variable: &str) -> PathBuf {
    let path = env::var_os(variable).unwrap_or_else(|| panic!("set {variable} to the path of the built file"));
    PathBuf::from(path)
}

/// An authority, and the server options for a certificate of localhost.
fn certificate(home: &Path) -> [String; 2] {
    let (authority_key, key) = (rcgen::KeyPair::generate().unwrap(), rcgen::KeyPair::generate().unwrap());
    let mut authority = rcgen::CertificateParams::new([]).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let leaf = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let write = |name: &str, text: String| {
        fs::write(home.join(name), text).unwrap();
        home.join(name).display().to_string()
    };
    write("authority.pem", root.pem());
    [
        format!("--ssl-cert={}", write("cert.pem", leaf.pem())),
        format!("--ssl-key={}", write("key.pem", key.serialize_pem())),
    ]
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn is_redirect(error: &mysql::Error, why: &str) -> bool {
    matches!(error, mysql::Error::MySqlError(error) if error.code == 4196 && error.message.contains(why))
}

fn is_async_redirect(error: &mysql_async::Error, why: &str) -> bool {
    matches!(error, mysql_async::Error::Server(error) if error.code == 4196 && error.message.contains(why))
}

#[test]
fn pools_begin_at_the_first_server_again() {
    let world = World::start();
    let manager = blocking::Manager::new(opts(world.old_port(), None));
    let pool = r2d2::Pool::builder().max_size(2).min_idle(Some(0)).build_unchecked(manager);
    let port: Option<u16> = pool.get().unwrap().query_first("SELECT @@port").unwrap();
    assert_eq!(port, Some(world.new_port()));
    // The connection is lost while it is idle; the pool makes another.
    let mut root = world.new.root().unwrap();
    root.query("KILL USER app").unwrap();
    let port: Option<u16> = pool.get().unwrap().query_first("SELECT @@port").unwrap();
    assert_eq!(port, Some(world.new_port()));
    assert_eq!(world.old.root().unwrap().status("Instant_failover_redirects").unwrap(), "2");

    runtime().block_on(async {
        use mysql_async::prelude::Queryable as _;
        let manager = asynchronous::Manager::new(async_opts(world.old_port(), None));
        let pool = asynchronous::Pool::builder(manager).max_size(2).build().unwrap();
        let port: Option<u16> = pool.get().await.unwrap().query_first("SELECT @@port").await.unwrap();
        assert_eq!(port, Some(world.new_port()));
        root.query("KILL USER app").unwrap();
        let port: Option<u16> = pool.get().await.unwrap().query_first("SELECT @@port").await.unwrap();
        assert_eq!(port, Some(world.new_port()));
    });
}

/// A transaction that is left open does not reach the next user of a pool.
#[test]
fn pools_reset_sessions() {
    let world = World::start();
    let manager = blocking::Manager::new(opts(world.old_port(), None)).trusting(Trust::Always);
    let pool = r2d2::Pool::builder().max_size(1).build(manager).unwrap();
    pool.get().unwrap().query_drop("SET @left = 1").unwrap();
    let left: Option<Option<u8>> = pool.get().unwrap().query_first("SELECT @left").unwrap();
    assert_eq!(left, Some(None));

    runtime().block_on(async {
        use mysql_async::prelude::Queryable as _;
        let manager = asynchronous::Manager::new(async_opts(world.old_port(), None)).trusting(Trust::Always);
        let pool = asynchronous::Pool::builder(manager).max_size(1).build().unwrap();
        pool.get().await.unwrap().query_drop("SET @left = 1").await.unwrap();
        let left: Option<Option<u8>> = pool.get().await.unwrap().query_first("SELECT @left").await.unwrap();
        assert_eq!(left, Some(None));
    });
}

/// Initial statements run on the last server, once, and their errors are no redirects.
#[test]
fn initial_statements() {
    let world = World::start();
    let (old, new) = (world.old_port(), world.new_port());
    let redirect = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 4196, MESSAGE_TEXT = '|text|localhost:{old}'");

    let initial = opts(old, None).init(vec!["SET @there = @@port"]);
    let mut conn = blocking::connect(initial).unwrap();
    assert_eq!(conn.query_first("SELECT @there").unwrap(), Some(world.new_port()));
    conn.reset().unwrap();
    assert_eq!(conn.query_first("SELECT @there").unwrap(), Some(world.new_port()));
    let error = blocking::connect(opts(new, None).init(vec![redirect.as_str()])).unwrap_err();
    assert!(is_redirect(&error, &format!("|text|localhost:{old}")), "{error}");

    runtime().block_on(async {
        use mysql_async::prelude::Queryable as _;
        let opts = async_opts(old, None).setup(vec!["SET @there = @@port"]);
        let mut conn = asynchronous::connect(opts).await.unwrap();
        assert_eq!(conn.query_first("SELECT @there").await.unwrap(), Some(world.new_port()));
        assert!(conn.reset().await.unwrap());
        assert_eq!(conn.query_first("SELECT @there").await.unwrap(), Some(world.new_port()));
        let opts = async_opts(new, None).init(vec![redirect.as_str()]);
        let error = asynchronous::connect(opts).await.unwrap_err();
        assert!(is_async_redirect(&error, &format!("|text|localhost:{old}")), "{error}");
    });
}

/// The kinds of TLS that the drivers have, and which of them are followed by default.
#[test]
fn tls() {
    let world = World::start();
    let old = world.old_port();
    let no_file = "give the file of the certificate authority";
    let ssl = mysql::SslOpts::default;
    let with_authority = || ssl().with_root_cert_path(Some(world.authority()));
    for (ssl, objection) in [
        (with_authority(), None),
        (with_authority().with_danger_accept_invalid_certs(true), None),
        (ssl().with_danger_accept_invalid_certs(true), None),
        // The name is part of the verification.
        (with_authority().with_danger_skip_domain_validation(true), Some("the server's certificate is not verified")),
    ] {
        let conn = blocking::connect(opts(old, Some(ssl.clone())));
        match (conn, objection) {
            (Ok(mut conn), None) => {
                let cipher: Option<(String, String)> = conn.query_first("SHOW STATUS LIKE 'Ssl_cipher'").unwrap();
                assert_ne!(cipher.unwrap().1, "", "{ssl:?}");
            }
            (Err(error), Some(why)) => assert!(is_redirect(&error, why), "{ssl:?}: {error}"),
            (conn, why) => panic!("{ssl:?}: {conn:?} instead of {why:?}"),
        }
    }
    // The driver's own authorities do not know this server.
    let error = blocking::connect(opts(old, Some(ssl()))).unwrap_err();
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");

    let early = before_the_greeting(world.new_port());
    for (ssl, why) in [
        (with_authority(), "it came before TLS"),
        (ssl().with_danger_accept_invalid_certs(true), "it came before TLS"),
        (ssl(), no_file),
    ] {
        let error = blocking::connect_trusting(opts(early, Some(ssl)), Trust::Always).unwrap_err();
        assert!(is_redirect(&error, why), "{error}");
    }
}

#[test]
fn tls_of_mysql_async() {
    let world = World::start();
    let old = world.old_port();
    let ssl = mysql_async::SslOpts::default;
    let file = || vec![world.authority().into()];
    let bytes = || vec![fs::read(world.authority()).unwrap().into(), world.authority().into()];
    runtime().block_on(async {
        use mysql_async::prelude::Queryable as _;
        for ssl in [
            ssl().with_root_certs(file()),
            ssl().with_root_certs(bytes()),
            ssl().with_root_certs(file()).with_danger_accept_invalid_certs(true),
            ssl().with_danger_accept_invalid_certs(true),
        ] {
            let mut conn = asynchronous::connect(async_opts(old, Some(ssl.clone()))).await.unwrap();
            let cipher: Option<(String, String)> = conn.query_first("SHOW STATUS LIKE 'Ssl_cipher'").await.unwrap();
            assert_ne!(cipher.unwrap().1, "", "{ssl:?}");
        }
        let early = before_the_greeting(world.new_port());
        for (ssl, why) in [
            (ssl().with_root_certs(file()), "it came before TLS"),
            (ssl().with_danger_accept_invalid_certs(true), "it came before TLS"),
            (ssl(), "give the file of the certificate authority"),
        ] {
            let opts = async_opts(early, Some(ssl));
            let error = asynchronous::connect_trusting(opts, Trust::Always).await.unwrap_err();
            assert!(is_async_redirect(&error, why), "{error}");
        }
    });
}

/// The cure that an error names is an option of its driver; where following is off, the error is the server's.
#[test]
fn not_followed() {
    let world = World::start();
    let (old, target) = (world.old_port(), format!("|localhost:{}", world.new_port()));
    let cases = |authority: &str| {
        [
            (Trust::Never, false, target.clone()),
            (Trust::Verified, false, format!("; set ssl_opts with SslOpts::{authority}, or Trust::Always)")),
            (
                Trust::Verified,
                true,
                format!("; set SslOpts::{authority} instead of with_danger_accept_invalid_certs, or Trust::Always)"),
            ),
        ]
    };
    for (trust, tls, end) in cases("with_root_cert_path") {
        let ssl = tls.then(|| mysql::SslOpts::default().with_danger_accept_invalid_certs(true));
        let error = blocking::connect_trusting(opts(old, ssl), trust).unwrap_err();
        assert!(matches!(&error, mysql::Error::MySqlError(error) if error.message.ends_with(&end)), "{error}");
    }
    runtime().block_on(async {
        for (trust, tls, end) in cases("with_root_certs") {
            let ssl = tls.then(|| mysql_async::SslOpts::default().with_danger_accept_invalid_certs(true));
            let error = asynchronous::connect_trusting(async_opts(old, ssl), trust).await.unwrap_err();
            assert!(matches!(&error, mysql_async::Error::Server(error) if error.message.ends_with(&end)), "{error}");
        }
    });
}

/// The port of a server that redirects before it greets, in plaintext.
fn before_the_greeting(target: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            let mut client = wire::Client::over(stream);
            let message = format!("|text|localhost:{target}");
            // A client may hang up first.
            let _ = client.write(&[&[0xff], &4196_u16.to_le_bytes()[..], message.as_bytes()].concat());
            let _ = client.read_to_end();
        }
    });
    port
}
