//! The standalone server as a process: options, signals, systemd, limits.

mod hold;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::child;
use support::harness::Harness;
use support::packages::is_root;
use support::wire::{CLIENT_SSL, Client, Error, Reply, handshake_response, packet};

use crate::lifecycle::like_systemd;
use crate::{harness, redirect_to, wait_until};

const REDIRECT: [&str; 2] = ["--instant-failover-target=db2", "--instant-failover-mode=ON"];

fn start(options: &[&str]) -> Harness {
    Harness::start(&harness(), options).unwrap()
}

fn reply(address: SocketAddr, user: &str) -> Reply {
    Client::connect(address).unwrap().log_in(user, b"").unwrap().reply
}

fn error_of(reply: Reply) -> Error {
    match reply {
        Reply::Err(error) => error,
        other => panic!("{other:?}"),
    }
}

/// Runs it to its end, which must come by itself.
fn run(options: &[&str]) -> Output {
    Command::new(harness()).args(options).stdin(Stdio::null()).output().unwrap()
}

#[test]
fn wrong_options_are_refused_with_what_would_be_right() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let typo = file("typo.cnf", "[instant-failover-harness]\nport=0\nsockt=/x\n");
    let value = file("value.cnf", "[mysqld]\nno_such\n[instant-failover-harness]\nport=many\n");
    let precious = file("precious", "data");
    let garbage = file("garbage.pem", "nonsense");
    for (options, expected) in [
        (vec!["--port=70000"], "invalid value '70000' for '--port <PORT>'"),
        (vec!["--prot=1"], "unexpected argument '--prot'"),
        (
            vec!["--instant-failover-mode=ON"],
            "instant_failover_mode cannot be ON while instant_failover_target is empty",
        ),
        (
            vec!["--instant-failover-mode=HOLD", "--instant-failover-drain"],
            "instant_failover_drain cannot be ON at the start: no session is open yet; remove the option, and use SET GLOBAL",
        ),
        (vec!["--instant-failover-drain=maybe"], "instant_failover_drain: 'maybe' is not a boolean; give ON or OFF"),
        (
            vec!["--instant-failover-hold-timeout=0"],
            "instant_failover_hold_timeout: '0' is not a timeout; give whole seconds from 1 to 3600",
        ),
        (vec!["--instant-failover-target=a b"], "instant_failover_target: 'a b'"),
        (vec!["--instant_failover_exempt_hosts=10.0.0.0/33"], "instant_failover_exempt_hosts: '10.0.0.0/33'"),
        (vec!["--ssl-cert=/none"], "--ssl-cert needs --ssl-key too"),
        (vec!["--ssl-cert=/none", "--ssl-key=/none"], "--ssl-cert /none: "),
        (vec!["--ssl-cert", &garbage, "--ssl-key", &garbage], "no certificate found"),
        (vec!["--accounts-file=/none"], "accounts file /none: No such file"),
        (vec!["--defaults-file", &typo], "typo.cnf, line 3: unexpected argument '--sockt'"),
        (vec!["--defaults-file", &value], "value.cnf, line 4: invalid value 'many'"),
        (vec!["--defaults-file=/none"], "--defaults-file /none: No such file"),
        (vec!["--bind-address=192.0.2.1"], "cannot listen on 192.0.2.1:0"),
        (vec!["--bind-address=127.0.0.1", "--socket", &precious], "/precious: Address already in use"),
        (vec!["--accept-any-login"], "--accept-any-login is allowed only on"),
        (vec!["--skip-networking"], "nothing to listen on"),
        (
            vec!["--proxy-protocol-networks=10.0.0.0/33"],
            "--proxy-protocol-networks: '10.0.0.0/33' is not an IP address",
        ),
        (vec!["--tls-version=TLSv1.1"], "--tls-version: 'TLSv1.1' is not supported; give TLSv1.2, TLSv1.3, or both"),
        (vec!["--ssl-cipher=HIGH"], "--ssl-cipher: 'HIGH' is not supported; give names from TLS_"),
        (vec!["--version=eleven"], "--version: 'eleven' is not a version; give the output of SELECT VERSION()"),
        (vec!["--back-log=0"], "invalid value '0' for '--back-log <NUMBER>'"),
        (vec!["--require-secure-transport=MAYBE"], "give ON or OFF"),
        (vec!["--accounts-file=/dev/zero"], "accounts file /dev/zero: the file is larger than 16777216 bytes"),
        (vec!["--defaults-file=/"], "--defaults-file /: Is a directory"),
    ] {
        let options =
            [if options.iter().any(|option| option.contains("port=")) { vec![] } else { vec!["--port=0"] }, options];
        let output = run(&options.concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{options:?}");
        assert!(said.contains(expected), "{options:?}: {said}");
        assert_eq!(output.stdout, b"", "{options:?}");
    }
    assert_eq!(fs::read(precious).unwrap(), b"data");
}

#[test]
fn options_are_validated_without_listening() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = taken.local_addr().unwrap();
    let port = format!("--port={}", address.port());
    let options = [&["--bind-address=127.0.0.1", &port], &REDIRECT[..]].concat();
    let right = run(&[&options[..], &["--validate-config"]].concat());
    assert_eq!(right.stdout, b"instant-failover-harness: configuration is valid: mode ON, target 'db2'\n");
    assert!(right.status.success());
    assert!(right.stderr.is_empty(), "{right:?}");
    // Nobody could wait.
    let hold = run(&["--instant-failover-mode=HOLD", "--validate-config"]);
    let said = String::from_utf8_lossy(&hold.stderr);
    assert!(hold.status.success() && said.contains("mode HOLD without an account"), "{said}");
    let started = run(&options);
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(said.contains(&format!("cannot listen on {address}: Address already in use")), "{said}");
    for wrong in [vec!["--instant-failover-mode=ON"], vec!["--accounts-file=/none"], vec!["--port=70000"]] {
        let output = run(&[&wrong[..], &["--validate-config"]].concat());
        assert!(!output.status.success() && output.stdout.is_empty(), "{wrong:?}: {output:?}");
    }
}

#[test]
fn takes_over_from_a_server_that_stops() {
    let mut old = start(&[]);
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let file = File::create(&log).unwrap();
    let mut new = Command::new(harness());
    new.args(REDIRECT)
        .args(["--bind-address=127.0.0.1", "--port-open-timeout=20"])
        .arg(format!("--port={}", old.address().port()))
        .arg(format!("--socket={}", old.socket().display()))
        .stdin(Stdio::null())
        .stdout(file.try_clone().unwrap())
        .stderr(file);
    let mut new = child::spawn(&mut new).unwrap();
    let says = |what: &str| wait_until(what, || fs::read_to_string(&log).unwrap().contains(what));
    says(&format!("waiting for {}", old.address()));
    assert!(matches!(old.root().unwrap().query("SELECT @@instant_failover_mode"), Ok(rows) if rows == [["OFF"]]));
    old.stop().unwrap();
    says("ready, listening on");
    assert_eq!(reply(old.address(), "app"), redirect_to("db2"));
    assert!(matches!(old.root().unwrap().query("SELECT @@instant_failover_mode"), Ok(rows) if rows == [["ON"]]));
    child::stop(&mut new).unwrap();
    assert!(!old.socket().exists());
}

#[test]
fn help_and_version() {
    let help = String::from_utf8(run(&["--help"]).stdout).unwrap();
    for option in ["--bind-address", "--extra-port", "--instant-failover-exempt-hosts", "--defaults-file", "HUP"] {
        assert!(help.contains(option), "{option}: {help}");
    }
    assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
    assert!(String::from_utf8(run(&["--version"]).stdout).unwrap().starts_with("instant-failover-harness 0."));
}

#[test]
fn the_command_line_comes_after_the_options_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("my.cnf");
    fs::write(&file, "[instant-failover-harness]\ninstant_failover_target = db2\ninstant_failover_mode = on\n")
        .unwrap();
    let file = format!("--defaults-file={}", file.display());
    let server = start(&[&file, "--instant_failover_target=db3"]);
    assert_eq!(reply(server.address(), "app"), redirect_to("db3"));
    assert_eq!(error_of(reply(server.extra_address(), "app")).code, 1045);
}

#[test]
fn a_stop_lets_logins_in_flight_finish() {
    let mut server = start(&REDIRECT);
    let mut greeted = Client::connect(server.address()).unwrap();
    greeted.greeting().unwrap();
    let mut session = server.root().unwrap();
    server.signal(libc::SIGTERM);
    wait_until("the port to be closed", || TcpStream::connect(server.address()).is_err());
    assert!(session.query("SELECT 1").is_err(), "the session went on");
    greeted.write(&handshake_response("app", b"", 0)).unwrap();
    assert_eq!(greeted.reply().unwrap().reply, redirect_to("db2"));
    // Without a second signal, which would end it at once.
    wait_until("it has ended", || !server.is_running());
    assert!(!server.socket().exists());
    assert!(server.error_log().contains("stopped after 1 redirects"), "{}", server.error_log());
}

#[test]
fn a_stop_does_not_wait_for_ever() {
    let mut server = start(&["--connect-timeout=2"]);
    let mut silent = Client::connect(server.address()).unwrap();
    silent.greeting().unwrap();
    let since = Instant::now();
    server.stop().unwrap();
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
}

#[test]
fn reloading_changes_what_the_file_changes() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my.cnf");
    let write = |text: &str| fs::write(&path, format!("[instant-failover-harness]\n{text}")).unwrap();
    write("instant_failover_target=db2\n");
    let server = start(&[&format!("--defaults-file={}", path.display())]);
    let mut session = server.root().unwrap();
    let reloads = |server: &Harness, what: &str, times: usize| {
        server.signal(libc::SIGHUP);
        wait_until(what, || server.error_log().matches(what).count() == times);
    };

    // What an administrator has set stays, as long as the file says nothing new about it.
    session.query("SET GLOBAL instant_failover_mode = ON").unwrap();
    reloads(&server, "INFO reloaded", 1);
    assert_eq!(reply(server.address(), "app"), redirect_to("db2"));

    write("instant_failover_target=db3\nmax-connections=123\n");
    reloads(&server, "INFO reloaded", 2);
    assert_eq!(reply(server.address(), "app"), redirect_to("db3"));
    assert!(server.error_log().contains("instant_failover_target changed from 'db2' to 'db3' by the options file"));
    assert_eq!(session.query("SELECT @@max_connections, @@instant_failover_mode").unwrap(), [["123", "ON"]]);

    for (text, why) in [
        ("instant_failover_target=d b\n", "'d b'"),
        ("instant_failover_target=\n", "instant_failover_target cannot be empty"),
        ("prot=1\n", "line 2: unexpected argument '--prot'"),
        ("accounts-file=/none\n", "accounts file /none"),
    ] {
        write(text);
        let times = server.error_log().matches("reload failed").count() + 1;
        reloads(&server, "reload failed, nothing was changed", times);
        assert!(server.error_log().lines().last().unwrap().contains(why), "{why}: {}", server.error_log());
        assert_eq!(reply(server.address(), "app"), redirect_to("db3"));
    }
    // Mode and target, together in both directions.
    for (n, (text, mode)) in
        [("instant_failover_target=db4\ninstant_failover_mode=ON\n", "ON"), ("", "OFF")].into_iter().enumerate()
    {
        write(text);
        reloads(&server, "INFO reloaded", 3 + n);
        assert_eq!(session.query("SELECT @@instant_failover_mode").unwrap(), [[mode]], "{text}");
    }
    // The session has been there all the time.
    assert_eq!(session.query("SELECT 1").unwrap(), [["1"]]);
}

/// Options with the longest values, and with those that are longer by one, each with what is said of it.
fn bounds() -> Vec<(String, String, &'static str)> {
    let target = format!("{0}.{0}.{0}.{1}:65535", "a".repeat(63), "b".repeat(61));
    let list = |entry: &str, times| vec![entry; times].join(",");
    [
        ("target", target.clone(), target + "0", "it has 260 bytes, but a target has at most 259"),
        ("message", "x".repeat(511), "y".repeat(512), "it has 512 bytes, but an error message holds at most 511"),
        ("exempt_users", list("u", 5000), list("v", 5001), "the list has 5001 entries, but at most 5000 are allowed"),
        ("note", "n".repeat(400), "m".repeat(401), "it has 401 characters; give at most 400"),
        ("exempt_users", "u".repeat(128), "v".repeat(129), "has more than 128 characters"),
        (
            "exempt_hosts",
            list("::2", 5000),
            list("::3", 5001),
            "the list has 5001 entries, but at most 5000 are allowed",
        ),
    ]
    .map(|(name, longest, longer, why)| {
        let option = |value| format!("instant_failover_{name}={value}");
        (option(longest), option(longer), why)
    })
    .to_vec()
}

#[test]
fn values_longer_than_anybody_needs_are_refused_every_way() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my.cnf");
    let write = |text: &str| fs::write(&path, format!("[instant-failover-harness]\n{text}\n")).unwrap();
    let file = format!("--defaults-file={}", path.display());
    for (longest, longer, why) in bounds() {
        write("");
        assert!(run(&[&format!("--{longest}"), "--validate-config"]).status.success(), "{why}");
        let refused = run(&[&format!("--{longer}"), "--validate-config"]);
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{refused:?}");

        write(&longer);
        let refused = run(&[&file, "--validate-config"]);
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{refused:?}");

        write(&longest);
        let server = start(&[&file]);
        let mut session = server.root().unwrap();
        let (variable, value) = longest.split_once('=').unwrap();
        let has_the_longest = |session: &mut support::wire::Session| {
            assert!(session.query(&format!("SELECT @@{variable}")).unwrap() == [[value]], "{why}");
        };
        has_the_longest(&mut session);
        let set = |option: &str| option.replacen('=', " = '", 1);
        let error = session.query(&format!("SET GLOBAL {}'", set(&longer))).unwrap_err().downcast::<Error>().unwrap();
        assert!(error.code == 1231 && error.message.contains(why), "{error:?}");
        has_the_longest(&mut session);
        session.query(&format!("SET GLOBAL {}'", set(&longest))).unwrap();

        write(&longer);
        server.signal(libc::SIGHUP);
        wait_until("the reload", || server.error_log().contains("reload failed, nothing was changed"));
        assert!(server.error_log().contains(why), "{}", server.error_log());
        has_the_longest(&mut session);
        assert!(server.error_log().lines().all(|line| line.len() < 700), "{}", server.error_log());
    }
}

#[test]
fn each_caution_comes_once_at_start_and_at_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("my.cnf");
    let write = |text: &str| fs::write(&path, format!("[instant-failover-harness]\n{text}\n")).unwrap();
    // Its own port is not known before it listens.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let settings = |host| {
        let target = format!("instant_failover_target={host}:{port}");
        write(&format!("{target}\ninstant_failover_exempt_users=repl@10.0.0.1\ninstant_failover_mode=ON"));
    };
    settings("localhost");
    let server = start(&[&format!("--defaults-file={}", path.display()), &format!("--port={port}")]);
    let times = |what: &str| server.error_log().matches(what).count();
    assert_eq!(times("WARN instant_failover_target 'localhost:"), 1, "{}", server.error_log());
    assert_eq!(times("WARN instant_failover_exempt_users: 'repl@10.0.0.1'"), 1, "{}", server.error_log());

    server.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    write("");
    server.signal(libc::SIGHUP);
    wait_until("the reload", || times("INFO reloaded") == 1);
    // Target and mode are both reason for it.
    settings("[::ffff:127.0.0.1]");
    server.signal(libc::SIGHUP);
    wait_until("the reload", || times("INFO reloaded") == 2);
    assert_eq!(times("WARN instant_failover_target '127.0.0.1:"), 1, "{}", server.error_log());

    let mut session = server.root().unwrap();
    let sql = format!("SET GLOBAL instant_failover_target = 'localhost:{port}', instant_failover_mode = 'ON'");
    session.query(&sql).unwrap();
    assert_eq!(session.query("SHOW WARNINGS").unwrap().len(), 1);

    // Only administrators have an account.
    session.query("SET GLOBAL instant_failover_mode = 'HOLD'").unwrap();
    let warnings = session.query("SHOW WARNINGS").unwrap();
    assert!(matches!(&warnings[..], [warning] if warning[2].contains("no client waits")), "{warnings:?}");
    session.query("SET GLOBAL instant_failover_mode = 'OFF'").unwrap();
    let accounts = directory.path().join("accounts");
    fs::write(&accounts, "app no-password\n").unwrap();
    write(&format!("accounts-file={}\ninstant_failover_mode=HOLD", accounts.display()));
    server.signal(libc::SIGHUP);
    wait_until("the reload", || times("INFO reloaded") == 3);
    assert_eq!(session.query("SELECT @@instant_failover_mode").unwrap(), [["HOLD"]]);
    assert_eq!(times("no client waits"), 0, "{}", server.error_log());
}

#[test]
fn reloading_takes_new_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    let renew = || {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        fs::write(&cert, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        made.cert.der().to_vec()
    };
    let first = renew();
    let server = start(&[&format!("--ssl-cert={}", cert.display()), &format!("--ssl-key={}", key.display())]);
    assert_eq!(certificate_of(&server), first);
    let second = renew();
    assert_eq!(certificate_of(&server), first);
    server.signal(libc::SIGHUP);
    wait_until("reloaded", || server.error_log().contains("INFO reloaded"));
    assert_eq!(certificate_of(&server), second);
    fs::write(&key, "nonsense").unwrap();
    server.signal(libc::SIGHUP);
    wait_until("not reloaded", || server.error_log().contains("reload failed"));
    assert_eq!(certificate_of(&server), second);
}

#[test]
fn all_addresses_that_are_named() {
    let server = start(&[&REDIRECT[..], &["--bind-address=127.0.0.1, ::1"]].concat());
    let port = server.address().port();
    assert!(server.ready().contains(&format!("[::1]:{port}")), "{}", server.ready());
    for address in ["127.0.0.1", "::1"] {
        assert_eq!(reply((address.parse::<std::net::IpAddr>().unwrap(), port).into(), "app"), redirect_to("db2"));
    }
    // A client of IPv4 on a socket for both is one of IPv4.
    let server = start(&[&REDIRECT[..], &["--bind-address=*", "--instant-failover-exempt-hosts=127.0.0.0/8"]].concat());
    let port: u16 = server.ready().split_once("[::]:").unwrap().1.split(',').next().unwrap().parse().unwrap();
    let denied = error_of(reply((Ipv4Addr::LOCALHOST, port).into(), "app"));
    assert_eq!(denied.message, "Access denied for user 'app'@'127.0.0.1' (using password: NO)");
}

#[test]
fn versions_of_tls_and_certificates_of_clients() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let ca = directory.path().join("ca.pem");
    fs::write(&ca, &authority.pem).unwrap();
    let server = start(&[&REDIRECT[..], &[&format!("--ssl-ca={}", ca.display())]].concat());
    let answer = |versions: &[&'static rustls::SupportedProtocolVersion], certificate: Option<ClientCertificate>| {
        let mut client = Client::connect(server.address()).unwrap();
        client.greeting().unwrap();
        let response = handshake_response("app", b"", CLIENT_SSL);
        client.write(&response[..32]).unwrap();
        let mut client = client.upgrade(|stream| Box::new(crate::wire_format::tls_with(stream, versions, certificate)));
        client.write(&response)?;
        client.read()
    };
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        for certificate in [None, Some(authority.sign())] {
            let answer = answer(&[version], certificate).unwrap();
            assert!(answer.ends_with(b"|db2"), "{}", answer.escape_ascii());
        }
        assert!(answer(&[version], Some(Authority::new().sign())).is_err(), "{version:?}");
    }
}

/// An authority that signs certificates.
struct Authority {
    pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

type ClientCertificate = (Vec<u8>, Vec<u8>);

impl Authority {
    fn new() -> Self {
        let mut parameters = rcgen::CertificateParams::new([]).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(parameters, key) }
    }

    /// A certificate and its key.
    fn sign(&self) -> ClientCertificate {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["client".to_owned()]).unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().der().to_vec(), key.serialize_der())
    }
}

/// As in mariadbd, a socket that systemd has named `extra` is an extra port.
#[test]
fn the_extra_port_that_systemd_opened() {
    let (_directory, program) = like_systemd(&harness());
    let mut server = Harness::start(&program, &[&REDIRECT[..], &["--accept-any-login"]].concat()).unwrap();
    assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
    assert_eq!(reply(server.extra_address(), "app"), Reply::Ok);
    server.stop().unwrap();
}

/// Takes over a port that another process has opened, and notifies that process.
#[test]
fn systemd() {
    let directory = tempfile::tempdir().unwrap();
    let notify = directory.path().join("notify");
    let told = UnixDatagram::bind(&notify).unwrap();
    told.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut message = [0; 512];
        let length = told.recv(&mut message).unwrap();
        String::from_utf8_lossy(&message[..length]).into_owned()
    };

    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // A client connects before the server is there, and waits.
    let mut early = Client::connect(address).unwrap();
    let descriptor = listener.as_raw_fd();
    let mut command = Command::new("sh");
    command
        .args(["-c", "LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" \"$@\""])
        .arg(harness())
        .args(REDIRECT)
        .env("NOTIFY_SOCKET", &notify)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    // SAFETY: dup2 is safe to call between fork and exec; the descriptor is open in the parent, and so in the child.
    unsafe {
        command.pre_exec(move || if libc::dup2(descriptor, 3) == 3 { Ok(()) } else { Err(io::Error::last_os_error()) });
    }
    let mut child = command.spawn().unwrap();
    assert!(hear().starts_with("READY=1\nSTATUS=mode ON, target 'db2'"));
    early.greeting().unwrap();
    early.write(&handshake_response("app", b"", 0)).unwrap();
    assert_eq!(early.reply().unwrap().reply, redirect_to("db2"));

    let pid = libc::pid_t::try_from(child.id()).unwrap();
    // SAFETY: our own child, which has not been waited for.
    let signal = |number| assert_eq!(unsafe { libc::kill(pid, number) }, 0);
    signal(libc::SIGHUP);
    let reloading = hear();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(hear().starts_with("READY=1"));
    signal(libc::SIGTERM);
    assert!(hear().starts_with("STOPPING=1"));
    assert!(child.wait().unwrap().success());
    // The port is still open for the next client.
    TcpStream::connect(address).unwrap();
}

#[test]
fn only_oneself_administers() {
    let server = start(&[]);
    assert_eq!(server.root().unwrap().query("SELECT 1").unwrap(), [["1"]]);
    for user in ["mysql", "", "nobody"] {
        let reply = Client::connect_socket(&server.socket()).unwrap().log_in(user, b"").unwrap().reply;
        assert_eq!(error_of(reply).code, 1045, "{user}");
    }
    assert_eq!(error_of(reply(server.address(), "root")).code, 1045);
    if is_root() {
        // Another user of this machine claims to be root.
        let mut command = support::server::client();
        command.args(["--user=root", "--execute=SELECT 1"]).arg(format!("--socket={}", server.socket().display()));
        // A user who may read the directory of the socket and has no account.
        fs::set_permissions(server.socket().parent().unwrap(), std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .unwrap();
        let output = command.uid(65534).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("1045 (28000): Access denied for user 'root'@'localhost'"), "{said}");
    }
}

#[test]
fn anybody_is_let_in_only_if_asked_for() {
    let server = start(&["--accept-any-login", "--bind-address=127.0.0.1"]);
    assert_eq!(reply(server.address(), "whoever"), Reply::Ok);
}

#[test]
fn too_many_connections() {
    let server = start(&["--max-connections=3"]);
    let greeted: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Client::connect(server.address()).unwrap();
            client.greeting().unwrap();
            client
        })
        .collect();
    let mut fourth = Client::connect(server.address()).unwrap();
    // As mariadbd: without an SQLSTATE, because the client has not said what it can read.
    assert_eq!(fourth.read_to_end().unwrap(), packet(0, b"\xff\x10\x04Too many connections"));
    drop(greeted);
    wait_until("there is room again", || Client::connect(server.address()).unwrap().greeting().is_ok());
}

#[test]
fn long_packets_are_refused_before_they_come() {
    let server = start(&REDIRECT);
    let mut client = Client::connect(server.address()).unwrap();
    client.greeting().unwrap();
    // Its header alone: one byte more than 8 KiB.
    client.write_raw(&[1, 0x20, 0, 1]).unwrap();
    let answer = client.read_any().unwrap();
    assert!(answer.starts_with(b"\xff\x81\x04#08S01Got a packet bigger than"), "{}", answer.escape_ascii());
    assert_eq!(client.read_to_end().unwrap(), b"");
}

/// Clients that send a byte now and then end at the deadline, and block no other client.
#[test]
fn slow_clients() {
    let server = start(&[&REDIRECT[..], &["--connect-timeout=3"]].concat());
    let login = packet(1, &handshake_response("app", &[7; 20], 0));
    let since = Instant::now();
    let mut slow: Vec<_> = (0..200).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut sent = 0;
    while since.elapsed() < Duration::from_secs(6) {
        for client in &mut slow {
            // Fails once the server has closed it.
            let _ = client.write(&login[sent..=sent]);
        }
        sent += 1;
        assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
        thread::sleep(Duration::from_millis(100));
    }
    assert!(sent < login.len());
    let mut root = server.root().unwrap();
    wait_until("all are closed", || root.status("Threads_connected").unwrap() == "1");
    assert_eq!(root.status("Aborted_connects").unwrap(), "200");
}

#[test]
fn ten_thousand_idle_connections_in_little_memory() {
    const CLIENTS: usize = 10_000;
    /// In kB.
    const MAX_MEMORY: u64 = 200 * 1024;
    let _alone = many_descriptors(CLIENTS as u64);
    let server = start(&["--max-connections=20000", "--connect-timeout=600"]);
    let memory = || -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = memory();
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    let mut root = server.root().unwrap();
    wait_until("all are there", || root.status("Threads_connected").unwrap() == (CLIENTS + 1).to_string());
    // Each sends the first half of a login, which has to be kept.
    let login = packet(1, &handshake_response("app", &[7; 20], 0));
    for client in &mut clients {
        client.write_all(&login[..login.len() / 2]).unwrap();
    }
    assert_eq!(root.query("SELECT 1").unwrap(), [["1"]]);
    let (after, each) = (memory(), (memory() - before) * 1024 / CLIENTS as u64);
    println!("10,000 idle connections: {before} kB before, {after} kB after, {each} bytes each");
    assert!(after < MAX_MEMORY, "{after} kB");
    for client in &mut clients {
        client.write_all(&login[login.len() / 2..]).unwrap();
    }
    let mut greeting = [0; 4];
    clients.pop().unwrap().read_exact(&mut greeting).unwrap();
    drop(clients);
    wait_until("all are gone", || root.status("Threads_connected").unwrap() == "1");
}

/// Lets this process have `number` descriptors more than the other tests need, as long as the value lives.
fn many_descriptors(number: u64) -> std::sync::MutexGuard<'static, ()> {
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let alone = ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let number = number + 2000;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a pointer to a limit of our own, for the time of the call.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    if limit.rlim_cur < number {
        limit.rlim_cur = number.min(limit.rlim_max);
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    }
    alone
}

/// A plain redirect costs no heap, and nothing is lost on the way: counted by valgrind, with the program as it is shipped.
#[test]
fn redirects_allocate_nothing() {
    const REDIRECTS: u64 = 1000;
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("valgrind.log");
    let program = directory.path().join("under-valgrind");
    let script = "#!/bin/sh\nexec valgrind --leak-check=full --log-file=LOG PROGRAM \"$@\"\n";
    let script = script.replace("LOG", &log.display().to_string()).replace("PROGRAM", &harness().display().to_string());
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let allocations = |redirects: u64| -> u64 {
        let mut server = Harness::start(&program, &REDIRECT).unwrap();
        for _ in 0..redirects {
            assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
        }
        server.stop().unwrap();
        let log = fs::read_to_string(&log).unwrap();
        assert!(log.contains("ERROR SUMMARY: 0 errors"), "{log}");
        let (_, usage) = log.split_once("total heap usage: ").unwrap();
        usage.split_once(" allocs").unwrap().0.replace(',', "").parse().unwrap()
    };
    let few = allocations(REDIRECTS / 10);
    let many = allocations(REDIRECTS / 10 + REDIRECTS);
    let more = many.saturating_sub(few);
    println!("{REDIRECTS} more redirects: {more} more allocations");
    // A line in the log now and then, perhaps.
    assert!(more < REDIRECTS / 10, "{more}");
}

#[test]
fn prometheus() {
    // Another address of this machine, as another machine would use it.
    let place = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap().local_addr().unwrap();
    let server = start(&[&REDIRECT[..], &[&format!("--metrics={place}")]].concat());
    assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
    let ask = |request: &str| {
        let mut http = TcpStream::connect(place).unwrap();
        http.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        http.read_to_string(&mut answer).unwrap();
        answer
    };
    let metrics = ask("GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(metrics.starts_with("HTTP/1.1 200 OK\r\n"), "{metrics}");
    assert!(metrics.contains("\ninstant_failover_harness_redirects_total 1\n"), "{metrics}");
    assert!(metrics.contains("\ninstant_failover_harness_mode{mode=\"ON\"} 1\n"), "{metrics}");
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE instant_failover_harness_")) {
        let (name, _) = name.split_once(' ').unwrap();
        let document = include_str!("../../docs/standalone.md");
        assert!(document.contains(&format!("`{name}`")), "docs/standalone.md does not have {name}");
    }
    assert!(ask("GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404"));
    assert!(ask("POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405"));
    assert!(ask("nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    assert!(ask(&format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000))).starts_with("HTTP/1.1 431"));
}

/// Clients are redirected, even if the metrics cannot be served. Waiting for their port has a limit of its own.
#[test]
fn metrics_without_a_place() {
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let taken = other.local_addr().unwrap();
    let nobodys = SocketAddr::from(([192, 0, 2, 1], taken.port()));
    for (place, why) in [(taken, "Address already in use"), (nobodys, "Cannot assign requested address")] {
        let metrics = format!("--metrics={place}");
        let server = start(&[&REDIRECT[..], &[&metrics, "--port-open-timeout=3600"]].concat());
        assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
        let log = server.error_log();
        let warning = log.lines().find(|line| line.contains("without --metrics")).unwrap_or(&log);
        assert!(warning.contains("WARN") && warning.contains(&format!("cannot listen on {place}: {why}")), "{warning}");
        assert!(!server.ready().contains("/metrics"), "{}", server.ready());
    }
}

/// By default there is no line for a connection, but one for a second with many.
#[test]
fn the_log_sums_up() {
    let server = start(&REDIRECT);
    for _ in 0..1000 {
        reply(server.address(), "app");
    }
    wait_until("a summary", || server.error_log().contains("summary redirected="));
    assert!(server.error_log().lines().count() < 10, "{}", server.error_log());
}

/// Starts it as it is, and waits until it has said something.
fn spawn_and_hear(options: &[&str], what: &str) -> std::process::Child {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let mut command = Command::new(harness());
    command.arg("--bind-address=127.0.0.1").args(options).stdin(Stdio::null()).stdout(Stdio::null());
    let child = child::spawn(command.stderr(File::create(&log).unwrap())).unwrap();
    wait_until(what, || fs::read_to_string(&log).unwrap().contains(what));
    child
}

/// It ends at once, and well.
fn ends_on(signal: libc::c_int, mut child: std::process::Child, what: &str) {
    let since = Instant::now();
    child::signal(&child, signal);
    wait_until(what, || child.try_wait().unwrap().is_some());
    assert!(since.elapsed() < Duration::from_secs(3), "{what}: {:?}", since.elapsed());
    assert!(child.wait().unwrap().success(), "{what}");
}

/// A socket whose server accepts no connection, and whose backlog is full.
fn wedged(path: &std::path::Path) -> (socket2::Socket, Vec<socket2::Socket>) {
    let socket = || socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    let address = socket2::SockAddr::unix(path).unwrap();
    let server = socket();
    server.bind(&address).unwrap();
    server.listen(0).unwrap();
    let mut clients = Vec::new();
    loop {
        let client = socket();
        client.set_nonblocking(true).unwrap();
        match client.connect(&address) {
            Ok(()) => clients.push(client),
            Err(_) => return (server, clients),
        }
    }
}

#[test]
fn a_signal_ends_every_wait_while_starting() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = format!("--port={}", taken.local_addr().unwrap().port());
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _wedged = wedged(&socket);
    let socket_option = format!("--socket={}", socket.display());
    for signal in [libc::SIGTERM, libc::SIGINT] {
        let child = spawn_and_hear(&[&port, "--port-open-timeout=60"], "waiting for 127.0.0.1");
        ends_on(signal, child, "a port that is taken");
        let child = spawn_and_hear(&["--port=0", &socket_option, "--port-open-timeout=60"], "waiting for --socket");
        ends_on(signal, child, "a socket whose server is wedged");
    }
    assert!(socket.exists(), "the socket of another server is gone");
    // Nothing ever writes to it.
    let pipe = make_pipe(directory.path());
    for option in ["--accounts-file", "--ssl-ca", "--defaults-file"] {
        let child = child::spawn(
            Command::new(harness()).args(["--bind-address=127.0.0.1", "--port=0"]).arg(format!("{option}={pipe}")),
        );
        thread::sleep(Duration::from_millis(500));
        let mut child = child.unwrap();
        assert!(child.try_wait().unwrap().is_none(), "{option}");
        child::signal(&child, libc::SIGTERM);
        wait_until(option, || child.try_wait().unwrap().is_some());
    }
}

fn make_pipe(directory: &std::path::Path) -> String {
    let pipe = directory.join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    pipe.display().to_string()
}

#[test]
fn a_wedged_server_on_the_socket_is_not_waited_for_beyond_the_limit() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let _wedged = wedged(&socket);
    let since = Instant::now();
    let output = run(&["--port=0", &format!("--socket={}", socket.display()), "--port-open-timeout=1"]);
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("cannot listen on --socket {}: another server is listening on it", socket.display());
    assert!(said.contains(&expected), "{said}");
}

#[test]
fn a_second_signal_ends_a_stop_that_waits_for_logins() {
    let server = start(&["--connect-timeout=600"]);
    let mut silent = Client::connect(server.address()).unwrap();
    silent.greeting().unwrap();
    server.signal(libc::SIGTERM);
    wait_until("stopping", || server.error_log().contains("INFO stopping"));
    let mut server = server;
    thread::sleep(Duration::from_millis(300));
    assert!(server.is_running());
    server.signal(libc::SIGTERM);
    wait_until("stopped", || !server.is_running());
}

/// A pipe has been read to its end by then, and would be waited for.
#[test]
fn a_reload_keeps_what_cannot_be_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = make_pipe(directory.path());
    let text = format!("{pipe}.text");
    fs::write(&text, "app no-password\n").unwrap();
    let writer = Command::new("sh").args(["-c", "cat \"$0.text\" > \"$0\"", &pipe]).spawn();
    let server = start(&[&format!("--accounts-file={pipe}")]);
    assert!(writer.unwrap().wait().unwrap().success());
    assert_eq!(reply(server.address(), "app"), Reply::Ok);
    for times in 1..=2 {
        server.signal(libc::SIGHUP);
        wait_until("reloaded", || server.error_log().matches("INFO reloaded").count() == times);
        assert_eq!(reply(server.address(), "app"), Reply::Ok);
    }
    assert!(server.error_log().contains("is not a regular file: keeping what was read from it at startup"));
    let mut server = server;
    server.stop().unwrap();
}

#[test]
fn a_reload_refuses_a_pipe_that_a_new_option_names() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = make_pipe(directory.path());
    let path = directory.path().join("my.cnf");
    fs::write(&path, "[instant-failover-harness]\n").unwrap();
    let mut server = start(&[&format!("--defaults-file={}", path.display())]);
    fs::write(&path, format!("[instant-failover-harness]\naccounts-file={pipe}\n")).unwrap();
    server.signal(libc::SIGHUP);
    wait_until("not reloaded", || server.error_log().contains("pipe: not a regular file"));
    server.stop().unwrap();
}

/// `systemd` may be too busy to listen.
#[test]
fn a_full_notify_socket_is_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let notify = directory.path().join("notify");
    let _full = UnixDatagram::bind(&notify).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(&[0; 100], &notify).is_ok() {}
    let log = directory.path().join("log");
    let mut command = Command::new(harness());
    command.args(["--bind-address=127.0.0.1", "--port=0"]).env("NOTIFY_SOCKET", &notify).stdout(Stdio::null());
    let mut child = child::spawn(command.stderr(File::create(&log).unwrap())).unwrap();
    wait_until("a warning", || fs::read_to_string(&log).unwrap().contains("cannot notify systemd"));
    child::stop(&mut child).unwrap();
}

/// The certificate that the server shows to a client.
fn certificate_of(server: &Harness) -> Vec<u8> {
    let mut client = Client::connect(server.address()).unwrap();
    client.greeting().unwrap();
    let response = handshake_response("app", b"", CLIENT_SSL);
    client.write(&response[..32]).unwrap();
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut client = client.upgrade(|stream| Box::new(crate::wire_format::tls_noting(stream, &seen)));
    client.write(&response).unwrap();
    client.read().unwrap();
    seen.lock().unwrap().clone()
}

#[test]
fn a_self_signed_certificate_stays_across_reloads() {
    let server = start(&[]);
    let before = certificate_of(&server);
    server.signal(libc::SIGHUP);
    wait_until("reloaded", || server.error_log().contains("INFO reloaded"));
    assert_eq!(certificate_of(&server), before);
}

/// No client can put a line of its own into the log, move the cursor or change the direction of the text.
#[test]
fn no_client_forges_a_line_of_the_log() {
    let server = start(&["--accept-any-login", "--log-level=debug"]);
    let user = "x\n2026-01-01T00:00:00Z  INFO forged\r\x1b[2Jby \u{202e}root\u{2028}\u{9b}y";
    let mut session = Client::connect(server.address()).unwrap().log_in(user, b"").unwrap().session().unwrap();
    session.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
    let _ = session.query("SET GLOBAL instant_failover_target = 'a\nINFO forged'");
    let _ = session.query("FORGED\n2026-01-01T00:00:00Z  INFO forged");
    wait_until("a change", || server.error_log().contains("instant_failover_target changed"));
    let log = server.error_log();
    for line in log.lines() {
        assert!(line.starts_with("20") && !line.starts_with("2026-01-01"), "{line}");
    }
    assert!(log.contains("by x\\n2026-01-01"), "{log}");
    assert!(!log.contains(['\r', '\x1b', '\u{202e}', '\u{2028}', '\u{9b}']), "{log}");
}

/// With no descriptor left, accepting fails ten times a second in each thread.
#[test]
fn the_log_does_not_grow_faster_under_load() {
    let server = start(&[]);
    let few = libc::rlimit { rlim_cur: 60, rlim_max: 60 };
    let pid = libc::pid_t::try_from(server.pid()).unwrap();
    // SAFETY: a limit of our own, for the time of the call; the process is our child, which has not been waited for.
    assert_eq!(unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const few, std::ptr::null_mut()) }, 0);
    let clients: Vec<_> = (0..150).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    wait_until("it fails", || server.error_log().contains("accept failed; retrying in 100ms"));
    let since = Instant::now();
    thread::sleep(Duration::from_secs(4));
    let lines = server.error_log().matches("accept failed").count() as u64;
    assert!(lines <= since.elapsed().as_secs() + 2, "{}", server.error_log());
    assert!(server.error_log().contains("similar messages suppressed)"), "{}", server.error_log());
    drop(clients);
}

/// 10,000 clients that have not logged in, each with as much as it can make the server keep.
#[test]
fn memory_before_a_login_is_bounded() {
    const CLIENTS: usize = 10_000;
    let _alone = many_descriptors(CLIENTS as u64);
    for (what, begin, most) in [
        // In kB. One byte less than the packet has.
        ("plain", packet(1, &[b'x'; 8192])[..8195].to_vec(), 110 * 1024),
        // A handshake message of 60,000 bytes, in a record and a part of another: nearly all that TLS may take.
        (
            "TLS",
            [
                packet(1, &handshake_response("app", b"", CLIENT_SSL)[..32]),
                [b"\x16\x03\x01\x3e\x80\x01\0\xea\x5c".as_slice(), &[0; 15_996]].concat(),
                [b"\x16\x03\x01\x3e\x80".as_slice(), &[0; 8_500]].concat(),
            ]
            .concat(),
            320 * 1024,
        ),
    ] {
        let server = start(&["--max-connections=20000", "--connect-timeout=600"]);
        let memory = || -> u64 {
            let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
            let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        let before = memory();
        let mut clients: Vec<TcpStream> = Vec::new();
        for _ in 0..CLIENTS {
            let mut client = TcpStream::connect(server.address()).unwrap();
            client.write_all(&begin).unwrap();
            clients.push(client);
        }
        let mut root = server.root().unwrap();
        wait_until("all are there", || root.status("Threads_connected").unwrap() == (CLIENTS + 1).to_string());
        // Until all that was sent has been read.
        let mut last = 0;
        wait_until("it grows no more", || {
            thread::sleep(Duration::from_millis(300));
            std::mem::replace(&mut last, memory()) == last
        });
        let (after, each) = (memory(), (memory() - before) * 1024 / CLIENTS as u64);
        println!("10,000 logins that are not whole, {what}: {before} kB before, {after} kB after, {each} bytes each");
        assert!(after < most, "{what}: {after} kB");
    }
}

#[test]
fn more_tls_than_a_login_needs_is_refused() {
    let server = start(&REDIRECT);
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(&packet(1, &handshake_response("app", b"", CLIENT_SSL)[..32])).unwrap();
    // A handshake message of 60,000 bytes in records of 16,000.
    let record = |bytes: &[u8]| [&[0x16, 3, 1][..], &u16::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    let mut message = vec![0; 16_000];
    message[..4].copy_from_slice(&[1, 0, 0xea, 0x5c]);
    let sent = [record(&message), record(&[0; 16_000])].concat();
    let _ = client.write_all(&sent);
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut rest = Vec::new();
    // Reset or closed, but not left waiting for the rest.
    if let Err(error) = client.read_to_end(&mut rest) {
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}

#[test]
fn the_extra_port_has_places_of_its_own() {
    let server = start(&["--max-connections=2", "--extra-max-connections=1"]);
    let greeted = |address| {
        let mut client = Client::connect(address).unwrap();
        client.greeting().map(|_| client)
    };
    let _two = [greeted(server.address()).unwrap(), greeted(server.address()).unwrap()];
    assert!(greeted(server.address()).is_err());
    let extra = greeted(server.extra_address()).unwrap();
    assert!(greeted(server.extra_address()).is_err());
    drop(extra);
    wait_until("there is room again", || greeted(server.extra_address()).is_ok());
}

#[test]
fn clients_are_told_the_version_that_is_asked_for() {
    for (option, greeting, shown) in [
        ("--version=11.8.3-MariaDB-deb13", "11.8.3-MariaDB-deb13", "11.8.3-MariaDB-deb13"),
        ("--version=10.5.23-MariaDB", "5.5.5-10.5.23-MariaDB", "10.5.23-MariaDB"),
    ] {
        let server = start(&[option]);
        let packet = Client::connect(server.address()).unwrap().greeting().unwrap();
        assert!(packet[1..].starts_with(&[greeting.as_bytes(), b"\0"].concat()), "{}", packet.escape_ascii());
        assert_eq!(server.root().unwrap().query("SELECT @@version, VERSION()").unwrap(), [[shown, shown]]);
    }
}

#[test]
fn nobody_is_let_in_in_clear_if_tls_is_required() {
    let directory = tempfile::tempdir().unwrap();
    let accounts = directory.path().join("accounts");
    fs::write(&accounts, "app no-password\n").unwrap();
    let accounts = format!("--accounts-file={}", accounts.display());
    let server = start(&[&accounts, "--require-secure-transport", "--tls-version=TLSv1.3"]);
    assert_eq!(error_of(reply(server.address(), "app")).code, 1045);
    assert_eq!(Client::connect_socket(&server.socket()).unwrap().log_in("app", b"").unwrap().reply, Reply::Ok);
    let answer = |versions: &[&'static rustls::SupportedProtocolVersion]| {
        let mut client = Client::connect(server.address()).unwrap();
        client.greeting().unwrap();
        let response = handshake_response("app", b"", CLIENT_SSL);
        client.write(&response[..32]).unwrap();
        let mut client = client.upgrade(|stream| Box::new(crate::wire_format::tls_with(stream, versions, None)));
        client.write(&response)?;
        client.read()
    };
    assert_eq!(answer(&[&rustls::version::TLS13]).unwrap()[0], 0);
    assert!(answer(&[&rustls::version::TLS12]).is_err());
    let mut root = server.root().unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = 'ON'").unwrap();
    assert_eq!(reply(server.address(), "app"), redirect_to("db2"));
}
