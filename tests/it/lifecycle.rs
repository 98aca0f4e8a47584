//! Coming and going under load, and servers that are not what we expect.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, thread};

use xtask::server::Server;
use xtask::wire::Reply;

use crate::{answer, greeted, is_access_denied, library, log_in, redirect_to, server_with_plugin};

#[test]
fn uninstalled_while_logins_hang_in_the_hook() {
    let mut server = server_with_plugin();
    let mut root = server.root().unwrap();
    root.query("CREATE USER locked IDENTIFIED BY 'secret'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    let waiting: Vec<_> = (0..16).map(|_| greeted(&server)).collect();
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    // They are still inside our code; what it decides now is what the server decides.
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

/// A login that began before its plugin was there does not get past the redirect: neither one that began under mode ON,
/// nor one that began under OFF.
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
    compile_many_plugins(PLUGINS, &server.plugin_dir().join("many.so"));
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
    let lines: Vec<_> = log.lines().filter(|line| line.contains("is one more than the 256")).collect();
    assert_eq!(lines.len(), 1, "{log}");
    assert!(lines[0].contains("plugin 'many253'"), "{}", lines[0]);
    // Gone again, every one works.
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    for n in 0..PLUGINS {
        assert_eq!(log_in(&server, &format!("user{n}")), Reply::Ok, "user{n}");
    }
    server.stop().unwrap();
}

fn compile_many_plugins(number: usize, library: &Path) {
    let include = Command::new("mariadb_config").arg("--variable=pkgincludedir").output().unwrap();
    let include = Path::new(String::from_utf8_lossy(&include.stdout).trim()).join("server");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/many_plugins.c");
    let generated = library.with_extension("h");
    let list: Vec<_> = (0..number).map(|n| format!("PLUGIN({n})\n")).collect();
    fs::write(&generated, list.concat()).unwrap();
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-Wall", "-DMYSQL_DYNAMIC_PLUGIN", "-Wl,-z,relro,-z,now"])
        .arg("-isystem")
        .arg(include);
    cc.arg(format!("-DPLUGINS=\"{}\"", generated.display())).arg(source).arg("-o").arg(library);
    xtask::run(&mut cc).unwrap();
}

/// A server that lacks a function we need: a copy of this machine's, in which that function has another name.
#[test]
fn refused_where_the_server_lacks_a_function() {
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("mariadbd");
    let mut bytes = fs::read(xtask::server::mariadbd()).unwrap();
    let name = b"\0thd_query_id\0";
    let places: Vec<_> = (0..bytes.len() - name.len()).filter(|&at| bytes[at..].starts_with(name)).collect();
    assert!(!places.is_empty());
    for at in places {
        bytes[at + name.len() - 2] = b'X';
    }
    fs::write(&program, bytes).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();

    let mut server = Server::start_program(&program, &library(), &[]).unwrap();
    let mut root = server.root().unwrap();
    root.query("CREATE USER app").unwrap();
    let error = root.query("INSTALL SONAME 'instant_failover'").unwrap_err().to_string();
    assert!(error.contains("initialization function failed"), "{error}");
    let log = server.error_log();
    assert!(log.contains("instant_failover: this server does not export thd_query_id;"), "{log}");
    assert_eq!(log_in(&server, "app"), Reply::Ok);
    server.stop().unwrap();
}
