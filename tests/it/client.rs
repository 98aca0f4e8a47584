//! The client plugin in a program on Connector/C (`tests/fixtures/client.c`), with real servers as targets.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::{fs, thread};

use support::server::Server;
use support::system::System;
use tempfile::TempDir;

use crate::{library, log_in, redirect_to, server_with_plugin};

/// The program, next to a directory with the plugins of Connector/C and ours.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("client");
        let _ = fs::remove_dir_all(&directory);
        System::this().install_client_plugins(&directory.join("plugin"), &library()).unwrap();
        let config = |option| support::output(Command::new("mariadb_config").arg(option)).unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = directory.join("client");
        let mut cc = Command::new("cc");
        cc.args(["-g", "-Wall", "-Wextra", "-Werror", "-pthread"]).arg("-I").arg(root.join("c-shim/compat"));
        cc.args(config("--cflags").split_whitespace())
            .arg(root.join("tests/fixtures/client.c"))
            .arg("-o")
            .arg(&program);
        cc.args(config("--libs").split_whitespace());
        support::run(&mut cc).unwrap();
        program
    })
}

/// Runs the program against `server`, using the plugin.
fn client(through: &[&str], scenario: &str, server: &Server, count: u32) -> Command {
    let program = program();
    let mut words = through.iter().map(Path::new).chain([program]);
    let mut command = Command::new(words.next().unwrap());
    command
        .args(words)
        .arg(scenario)
        .arg(format!("instant_failover://{}", server.address().ip()))
        .arg(server.address().port().to_string())
        .arg(count.to_string())
        .env("MARIADB_PLUGIN_DIR", program.with_file_name("plugin"));
    command
}

/// The lines that a command prints.
fn lines(mut command: Command) -> Vec<String> {
    support::output(&mut command).unwrap().lines().map(str::to_owned).collect()
}

/// Makes the program fail on leaks and memory errors.
pub(crate) const VALGRIND: &[&str] =
    &["valgrind", "--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99"];

pub(crate) fn port(server: &Server) -> String {
    format!("port {}", server.address().port())
}

pub(crate) fn redirect(from: &Server, to: &Server) {
    let sql = format!("SET GLOBAL instant_failover_target = '{}', instant_failover_mode = ON", to.address());
    from.root().unwrap().query(&sql).unwrap();
}

pub(crate) fn redirect_loop(chain: &[&Server]) -> String {
    let chain: Vec<_> = chain.iter().map(|server| server.address().to_string()).collect();
    format!("error 4196 Redirect loop: {}", chain.join(" -> "))
}

#[test]
fn a_thousand_follows_and_a_thousand_circles_leave_nothing_behind() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    assert_eq!(lines(client(VALGRIND, "many", &one, 1000)), [port(&two), "left open 0".to_owned()]);
    redirect(&two, &one);
    let expected = [redirect_loop(&[&one, &two, &one]), "left open 0".to_owned()];
    assert_eq!(lines(client(VALGRIND, "many", &one, 1000)), expected);
    // Each server redirected each attempt exactly once.
    let told = |server: &Server| server.root().unwrap().status("Instant_failover_redirects").unwrap();
    assert_eq!((told(&one), told(&two)), ("2000".to_owned(), "1000".to_owned()));
}

#[test]
fn thirty_two_threads_at_once() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    // Connector/C fails if two threads load a plugin at the same time. This loads it at the start.
    let mut command = client(VALGRIND, "threads", &one, 10);
    command.env("LIBMYSQL_PLUGINS", "instant_failover");
    let arrivals = lines(command);
    assert_eq!(arrivals, vec![port(&two); 320]);
}

#[test]
fn without_blocking() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    let expected = [port(&two), "waited yes".to_owned()];
    assert_eq!(lines(client(VALGRIND, "nonblocking", &one, 20)), expected);
    redirect(&two, &one);
    let expected = [redirect_loop(&[&one, &two, &one]), "waited yes".to_owned()];
    assert_eq!(lines(client(VALGRIND, "nonblocking", &one, 20)), expected);
}

/// The program in its scenario `reconnect`: it connects, and again each time it is told that the connection is lost.
pub(crate) struct Reconnecting {
    process: Child,
    input: ChildStdin,
    seen: Lines<BufReader<ChildStdout>>,
}

impl Reconnecting {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, input, seen: BufReader::new(output).lines() }
    }

    /// What it says of the connection that it has just made.
    pub(crate) fn next(&mut self) -> String {
        self.seen.next().unwrap().unwrap()
    }

    /// Loses the connection, and returns what it says of the next one.
    pub(crate) fn lose(&mut self) -> String {
        self.input.write_all(b"\n").unwrap();
        self.next()
    }

    /// Ends it, which must succeed.
    pub(crate) fn end(self) {
        let Self { mut process, input, .. } = self;
        drop(input);
        assert!(process.wait().unwrap().success());
    }
}

/// A lost connection is reopened starting from the server that the program named, not from the last redirect target.
#[test]
fn reconnecting_begins_at_the_origin() {
    let servers = [server_with_plugin(), server_with_plugin(), server_with_plugin()];
    let [one, two, three] = &servers;
    redirect(one, two);
    let mut program = Reconnecting::start(client(VALGRIND, "reconnect", one, 4));
    assert_eq!(program.next(), port(two));
    redirect(one, three);
    assert_eq!(program.lose(), port(three));
    one.root().unwrap().query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    assert_eq!(program.lose(), port(one));
    // No target works: the connection stays lost, and can be retried.
    redirect(one, one);
    assert_eq!(program.lose(), redirect_loop(&[one, one]));
    redirect(one, two);
    // Connector/C retries on the next command only if the handle still has its reconnect option.
    assert_eq!(program.lose(), port(two));
    program.end();
}

#[test]
fn a_handle_can_be_used_again_after_a_failure() {
    let one = server_with_plugin();
    redirect(&one, &one);
    assert_eq!(lines(client(VALGRIND, "again", &one, 3)), vec![redirect_loop(&[&one, &one]); 3]);
}

#[test]
fn a_program_can_opt_out() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    let target = two.address().to_string();
    let support::wire::Reply::Err(plain) = redirect_to(&target) else { unreachable!() };
    let told = format!("error 4196 {}", plain.message);
    assert_eq!(lines(client(VALGRIND, "opt_out", &one, 1)), [told.clone(), port(&two)]);
    let mut command = client(&[], "many", &one, 1);
    command.env("INSTANT_FAILOVER_FOLLOW", "0");
    assert_eq!(lines(command), [told.clone(), "left open 0".to_owned()]);
    // Opting in again does not override the environment.
    let mut command = client(VALGRIND, "opt_out", &one, 1);
    command.env("INSTANT_FAILOVER_FOLLOW", "never");
    assert_eq!(lines(command), [told.clone(), told]);
}

/// A server with TLS and a new certificate, the fingerprint, and the directory that must live as long.
pub(crate) fn server_with_tls() -> (Server, String, TempDir) {
    let files = TempDir::new().unwrap();
    let path = |name: &str| files.path().join(name);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    fs::write(path("cert.pem"), made.cert.pem()).unwrap();
    fs::write(path("key.pem"), made.signing_key.serialize_pem()).unwrap();
    fs::write(path("cert.der"), made.cert.der()).unwrap();
    let sum = support::output(Command::new("sha1sum").arg(path("cert.der"))).unwrap();
    (server_with_certificate(&files), sum[..40].to_uppercase(), files)
}

/// Another server with that certificate.
pub(crate) fn server_with_certificate(files: &TempDir) -> Server {
    let arguments =
        ["cert", "key"].map(|what| format!("--ssl-{what}={}", files.path().join(format!("{what}.pem")).display()));
    let [cert, key] = &arguments;
    // A client under valgrind takes its time.
    let server = Server::start(&library(), &[cert, key, "--connect-timeout=60"]).unwrap();
    let mut root = server.root().unwrap();
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("CREATE USER app").unwrap();
    server
}

#[test]
fn a_server_without_tls_behind_one_with_tls_leaves_the_options_as_they_were() {
    let (one, _, _files) = server_with_tls();
    let two = Server::start(&library(), &["--skip-ssl"]).unwrap();
    redirect(&one, &two);
    let refused = format!(
        "error 2026 SSL connection error: redirected from a server with TLS to one without; disable TLS to allow this \
         (redirected: {} -> {})",
        one.address(),
        two.address()
    );
    let options = "enforce 1, fingerprint none".to_owned();
    let expected = [refused.clone(), options.clone(), refused, options.clone()];
    assert_eq!(lines(client(VALGRIND, "tls", &one, 2)), expected);
    let (three, _, _more_files) = server_with_tls();
    redirect(&one, &three);
    assert_eq!(lines(client(VALGRIND, "tls", &one, 1)), [port(&three), options]);
}

/// A fingerprint verifies as well as an authority does, and applies to every server on the way.
#[test]
fn a_fingerprint_verifies_each_server() {
    let (one, fingerprint, files) = server_with_tls();
    let with = |fingerprint: &str| {
        let mut command = client(&[], "tls", &one, 1);
        command.env("CLIENT_FINGERPRINT", fingerprint).env("INSTANT_FAILOVER_FOLLOW", "verified");
        lines(command)
    };
    let two = server_with_certificate(&files);
    redirect(&one, &two);
    assert_eq!(with(&fingerprint), [port(&two), format!("enforce 1, fingerprint {fingerprint}")]);
    let (three, other, _more_files) = server_with_tls();
    redirect(&one, &three);
    for wrong in [&fingerprint, &other] {
        let told = with(wrong);
        assert!(told[0].starts_with("error 2026 ") && told[1].ends_with(wrong), "{told:?}");
    }
    // Without a fingerprint nothing is verified, and `verified` follows no redirect.
    let mut command = client(&[], "tls", &one, 1);
    command.env("INSTANT_FAILOVER_FOLLOW", "verified");
    let told = lines(command);
    assert!(told[0].contains(" (not followed: the server's certificate is not verified "), "{told:?}");
}

/// The servers' settings change while clients are being redirected: each client arrives, or reports an error.
#[test]
fn while_everything_changes() {
    let (one, two) = (server_with_plugin(), server_with_plugin());
    redirect(&one, &two);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(|| lines(client(&[], "many", &one, 200)))).collect();
        let (mut root_one, mut root_two) = (one.root().unwrap(), two.root().unwrap());
        for n in 0..50 {
            let mode = if n % 2 == 0 { "OFF" } else { "ON" };
            root_one.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
            root_two.query(&format!("SET GLOBAL instant_failover_exempt_users = 'x{n}'")).unwrap();
        }
        for client in clients {
            let lines = client.join().unwrap();
            assert!(lines[0] == port(&one) || lines[0] == port(&two), "{lines:?}");
            assert_eq!(lines[1], "left open 0");
        }
    });
    assert_eq!(log_in(&one, "app"), redirect_to(&two.address().to_string()));
}
