//! Installing and uninstalling under load, and unusual servers.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use support::server::Server;
use support::wire::{Client, Reply};

use crate::switch::StopOnDrop;
use crate::{answer, greeted, is_access_denied, library, log_in, redirect_to, server_with_plugin};

#[test]
fn uninstalled_while_logins_hang_in_the_hook() {
    let mut server = server_with_plugin();
    let mut root = server.root().unwrap();
    root.query("CREATE USER locked IDENTIFIED BY 'secret'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let waiting: Vec<_> = (0..16).map(|_| greeted(&server)).collect();
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    // They are still inside our code, which must now leave the decision to the server.
    for (n, client) in waiting.into_iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(answer(client, "app").reply, Reply::Ok);
        } else {
            assert!(is_access_denied(&answer(client, "locked").reply));
        }
    }
    assert_eq!(log_in(&server, "app"), Reply::Ok);
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db3', instant_failover_mode = ON").unwrap();
    assert_eq!(log_in(&server, "app"), redirect_to("db3"));
    assert!(server.is_running());
    server.stop().unwrap();
}

#[test]
fn installed_and_uninstalled_over_and_over_while_clients_come() {
    let mut server = server_with_plugin();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let reply = log_in(&server, "app");
                    assert!(reply == Reply::Ok || reply == redirect_to("db2"), "{reply:?}");
                }
            });
        }
        let mut root = server.root().unwrap();
        for _ in 0..60 {
            root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
            root.query("INSTALL SONAME 'auth_ed25519'").unwrap();
            root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
            root.query("UNINSTALL SONAME 'auth_ed25519'").unwrap();
            root.query("INSTALL SONAME 'instant_failover'").unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(server.is_running());
    server.stop().unwrap();
}

/// A login that began before its plugin was installed is redirected, whether it began in mode ON or in mode OFF.
#[test]
fn a_plugin_installed_while_a_login_waits() {
    let mut server = Server::start(&library(), &["--plugin-maturity=unknown"]).unwrap();
    let mut root = server.root().unwrap();
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
    for (mode, soname, plugin) in [("ON", "auth_ed25519", "ed25519"), ("OFF", "auth_test_plugin", "test_plugin_server")]
    {
        root.query(&format!("SET GLOBAL instant_failover_mode = {mode}")).unwrap();
        let waiting = greeted(&server);
        root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
        root.query(&format!("INSTALL SONAME '{soname}'")).unwrap();
        root.query(&format!("CREATE USER {plugin} IDENTIFIED VIA {plugin}")).unwrap();
        assert_eq!(answer(waiting, plugin).reply, redirect_to("db2"), "{plugin}");
    }
    server.stop().unwrap();
}

/// A library with more authentication plugins than can be hooked.
#[test]
fn more_plugins_than_slots() {
    const SLOTS: usize = 256;
    const PLUGINS: usize = SLOTS + 6;
    let mut server = server_with_plugin();
    compile_many_plugins(PLUGINS, &server.plugin_dir().join("many.so"), &[]);
    let mut root = server.root().unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    root.query("INSTALL SONAME 'many'").unwrap();
    for n in 0..PLUGINS {
        root.query(&format!("CREATE USER user{n} IDENTIFIED VIA many{n}")).unwrap();
    }
    let redirected = (0..PLUGINS).filter(|n| log_in(&server, &format!("user{n}")) == redirect_to("db2")).count();
    let builtin = 3; // mysql_native_password, mysql_old_password, unix_socket
    assert_eq!(redirected, SLOTS - builtin);
    assert_eq!(root.status("Instant_failover_hooked_plugins").unwrap(), SLOTS.to_string());
    let log = server.error_log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("at most 256 authentication plugins")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("plugin 'many253'"), "{}", lines[0]);
    // After uninstalling, all accounts work.
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    for n in 0..PLUGINS {
        assert_eq!(log_in(&server, &format!("user{n}")), Reply::Ok, "user{n}");
    }
    server.stop().unwrap();
}

fn compile_many_plugins(number: usize, library: &Path, flags: &[&str]) {
    let include = Command::new("mariadb_config").arg("--variable=pkgincludedir").output().unwrap();
    let include = Path::new(String::from_utf8_lossy(&include.stdout).trim()).join("server");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/many_plugins.c");
    let generated = library.with_extension("h");
    let list: Vec<_> = (0..number).map(|n| format!("PLUGIN({n})\n")).collect();
    fs::write(&generated, list.concat()).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-DMYSQL_DYNAMIC_PLUGIN", "-Wl,-z,relro,-z,now"])
        .args(flags)
        .arg("-isystem")
        .arg(include);
    cc.arg(format!("-DPLUGINS=\"{}\"", generated.display())).arg(source).arg("-o").arg(library);
    support::run(&mut cc).unwrap();
}

/// Starts a server that does not export `function`: a copy of this machine's, in which it has another name.
fn start_without(function: &str) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mariadbd");
    let mut bytes = fs::read(support::system::mariadbd()).unwrap();
    let name = format!("\0{function}\0");
    let name = name.as_bytes();
    let places: Vec<_> = (0..bytes.len() - name.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + name.len() - 2] = b'X';
    }
    fs::write(&program, bytes).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    Server::start_program(&program, &library(), &[]).unwrap()
}

/// The plugin then cannot tell which plugins are installed, and treats all as installed.
#[test]
fn redirects_where_the_server_does_not_export_plugin_status() {
    let mut server = start_without("_Z13plugin_statusPKcmi");
    let mut root = server.root().unwrap();
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("INSTALL SONAME 'auth_ed25519'").unwrap();
    root.query("CREATE USER native, ed IDENTIFIED VIA ed25519 USING PASSWORD('p')").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    for user in ["native", "ed"] {
        assert_eq!(log_in(&server, user), redirect_to("db2"), "{user}");
    }
    root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
    assert_eq!(log_in(&server, "native"), Reply::Ok);
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    assert_eq!(log_in(&server, "native"), Reply::Ok);
    server.stop().unwrap();
}

#[test]
fn refused_where_the_server_lacks_a_function() {
    let mut server = start_without("thd_query_id");
    let mut root = server.root().unwrap();
    root.query("CREATE USER app").unwrap();
    let error = root.query("INSTALL SONAME 'instant_failover'").unwrap_err().to_string();
    assert!(error.contains("initialization function failed"), "{error}");
    let log = server.error_log();
    assert!(log.contains("instant_failover: this server does not export thd_query_id;"), "{log}");
    assert_eq!(log_in(&server, "app"), Reply::Ok);
    server.stop().unwrap();
}

/// A program that opens sockets and passes them to mariadbd as systemd does: the standard port on `127.0.0.1` and `::1`, the
/// extra port on both (the same port is a standard port on `127.0.0.2`), and the Unix socket.
const LIKE_SYSTEMD: &str = r"#!/usr/bin/perl
use strict;
use warnings;
use IO::Socket::IP;
use IO::Socket::UNIX;
use POSIX ();

my %option = map { /^--(socket|port|extra-port)=(.*)/ ? ($1 => $2) : () } @ARGV;
my @program = grep { !/^--(extra-port|bind-address)=/ } @ARGV;
my @sockets = ([mariadb => IO::Socket::UNIX->new(Local => $option{socket}, Listen => 9)]);
for (['mariadb', '127.0.0.1', 'port'], ['extra', '127.0.0.1', 'extra-port'], ['mariadb', '127.0.0.2', 'extra-port'],
     ['mariadb', '::1', 'port'], ['extra', '::1', 'extra-port']) {
    my ($name, $host, $port) = @$_;
    push @sockets, [$name => IO::Socket::IP->new(LocalHost => $host, LocalPort => $option{$port}, Listen => 9, V6Only => 1)];
}
# Move them out of the way first, then to their final numbers.
my @moved = map { POSIX::dup2(fileno $_->[1], 50 + fileno $_->[1]) } @sockets;
POSIX::dup2($moved[$_], 3 + $_) for 0 .. $#moved;
$ENV{LISTEN_FDS} = @moved;
$ENV{LISTEN_FDNAMES} = join ':', map { $_->[0] } @sockets;
$ENV{LISTEN_PID} = $$;
exec $ENV{PROGRAM}, @program;
";

/// A script that starts `program` this way; removed with the directory.
pub(crate) fn like_systemd(program: &Path) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("like-systemd");
    fs::write(&script, LIKE_SYSTEMD.replace("$ENV{PROGRAM}", &format!("'{}'", program.display()))).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, script)
}

/// `extra_port` is 0 in this case; the extra port is recognised by the name that systemd gave its socket.
#[test]
fn the_extra_port_that_systemd_opened() {
    let (_directory, program) = like_systemd(&support::system::mariadbd());
    let options = [
        "--plugin-load-add=instant_failover",
        "--instant-failover-target=db2",
        "--instant-failover-mode=ON",
        "--extra-max-connections=10",
    ];
    let mut server = Server::start_program(&program, &library(), &options).unwrap();
    let mut root = server.root().unwrap();
    root.query("CREATE USER app").unwrap();
    assert_eq!(root.query("SELECT @@extra_port").unwrap(), [["0"]], "{}", server.error_log());
    let (standard, extra) = (server.address().port(), server.extra_address().port());
    let log_in = |host: &str, port| {
        Client::connect((host.parse::<IpAddr>().unwrap(), port).into()).unwrap().log_in("app", b"").unwrap().reply
    };
    for _ in 0..2 {
        for (host, port, served) in [
            ("127.0.0.1", standard, false),
            ("127.0.0.1", extra, true),
            ("127.0.0.2", extra, false),
            ("::1", standard, false),
            ("::1", extra, true),
        ] {
            let expected = if served { Reply::Ok } else { redirect_to("db2") };
            assert_eq!(log_in(host, port), expected, "{host} {port}");
        }
        // The same if the plugin is installed later.
        root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
        root.query("INSTALL SONAME 'instant_failover'").unwrap();
        root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    }
    // In mode ALL the extra port is redirected, too.
    root.query("SET GLOBAL instant_failover_mode = ALL").unwrap();
    assert_eq!(log_in("::1", extra), redirect_to("db2"));
    assert_eq!(root.status("Instant_failover_redirects_extra_port").unwrap(), "1");
    server.stop().unwrap();
}

/// `information_schema.ALL_PLUGINS` makes the server load every library in its plugin directory for a moment. Those that are
/// not installed must not be hooked or kept loaded.
#[test]
fn libraries_that_are_listed_and_not_installed() {
    let mut server = Server::start(&library(), &["--plugin-maturity=unknown"]).unwrap();
    let mut root = server.root().unwrap();
    root.query("CREATE USER app").unwrap();
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("INSTALL SONAME 'auth_ed25519'").unwrap();
    root.query("CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('secret')").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let hooked = root.status("Instant_failover_hooked_plugins").unwrap();
    let loaded = || {
        let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid())).unwrap();
        let libraries = maps.lines().filter_map(|line| line.rsplit('/').next().filter(|_| line.contains("/plugin/")));
        // C++ libraries may stay loaded on their own.
        let plugins = libraries.filter(|name| name.contains("auth") || name.contains("dialog"));
        plugins.map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let before = loaded();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for user in ["app", "ed"] {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(log_in(server, user), redirect_to("db2"));
                }
            });
        }
        // Even if something here fails: the clients must stop.
        let _stop = StopOnDrop(&stop);
        for _ in 0..200 {
            // Another server that starts on this machine may remove this one's temporary tables.
            let _ = root.query("SELECT COUNT(*) FROM information_schema.ALL_PLUGINS");
        }
    });
    // The last search may have run while one of them was loaded.
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));
    assert_eq!(root.status("Instant_failover_hooked_plugins").unwrap(), hooked);
    assert_eq!(loaded(), before);
    // A plugin that is installed afterwards is found.
    root.query("INSTALL SONAME 'dialog_examples'").unwrap();
    root.query("CREATE USER dialog IDENTIFIED VIA three_attempts USING 'secret'").unwrap();
    assert_eq!(log_in(&server, "dialog"), redirect_to("db2"));
    server.stop().unwrap();
}

/// A library that stays loaded after being listed is hooked when it is installed, although nothing is loaded then.
#[test]
fn a_library_that_was_loaded_before_it_is_installed() {
    let mut server = server_with_plugin();
    compile_many_plugins(2, &server.plugin_dir().join("many.so"), &["-Wl,-z,nodelete"]);
    let mut root = server.root().unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    root.query("SELECT COUNT(*) FROM information_schema.ALL_PLUGINS").unwrap();
    let hooked = root.status("Instant_failover_hooked_plugins").unwrap();
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));
    assert_eq!(root.status("Instant_failover_hooked_plugins").unwrap(), hooked);
    root.query("INSTALL SONAME 'many'").unwrap();
    root.query("CREATE USER many IDENTIFIED VIA many1").unwrap();
    assert_eq!(log_in(&server, "many"), redirect_to("db2"));
    server.stop().unwrap();
}

/// What is missing is named, with what to do; everything else works.
#[test]
fn holds_and_drains_only_where_the_server_has_what_that_needs() {
    for (missing, hold, drain) in [("thd_kill_level", false, true), ("vio_set_wait_callback", true, false)] {
        let mut server = start_without(missing);
        let mut root = server.root().unwrap();
        root.query("CREATE USER app").unwrap();
        root.query("INSTALL SONAME 'instant_failover'").unwrap();
        root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
        assert_eq!(log_in(&server, "app"), redirect_to("db2"));
        for (what, works) in [("drain = ON", drain), ("mode = HOLD", hold)] {
            let before = root.query("SHOW GLOBAL VARIABLES LIKE 'instant_failover_%'").unwrap();
            let outcome = root.query(&format!("SET GLOBAL instant_failover_{what}"));
            assert_eq!(outcome.is_ok(), works, "{missing}: {what}");
            if let Err(error) = outcome {
                let says = format!("this server does not export {missing}; ");
                assert!(error.to_string().contains(&says), "{error}");
                assert_eq!(root.query("SHOW GLOBAL VARIABLES LIKE 'instant_failover_%'").unwrap(), before);
            }
        }
        root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
        assert_eq!(log_in(&server, "app"), Reply::Ok);
        root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
        server.stop().unwrap();
    }
}
