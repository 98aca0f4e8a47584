//! A bug in our code: the server stays up, and does what it would do without the plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use support::build::Flavour;
use support::project_root;
use support::server::{POOL, Server};
use support::wire::{Client, Reply, Session};

use crate::{built, is_access_denied, log_in, redirect_to, wait_until};

fn server(arguments: &[&str]) -> Server {
    Server::start(&built("INSTANT_FAILOVER_PANIC_SO", Flavour::PanicInjection.library()), arguments).unwrap()
}

#[test]
fn in_every_callback() {
    let mut server = server(&[]);
    let inject = |callback: &str| server.inject_panic(callback).unwrap();
    inject("");
    let mut root = server.root().unwrap();
    root.query("CREATE USER app, locked IDENTIFIED BY 'secret'").unwrap();
    root.query("INSTALL SONAME 'auth_ed25519'").unwrap();
    root.query("CREATE USER ed IDENTIFIED VIA ed25519 USING PASSWORD('secret')").unwrap();

    for place in ["ifo_rs_init", "end of init"] {
        inject(place);
        let error = root.query("INSTALL SONAME 'instant_failover'").unwrap_err().to_string();
        assert!(error.contains("initialization function failed"), "{error}");
        assert_eq!(log_in(&server, "app"), Reply::Ok);
    }
    inject("");
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("CREATE USER moved IDENTIFIED VIA instant_failover USING 'db9'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));

    // A new connection, whose account is not yet known.
    inject("gate");
    assert_eq!(log_in(&server, "app"), Reply::Ok);
    assert!(is_access_denied(&log_in(&server, "locked")));
    // The search for plugins: even if it fails, all clients are redirected.
    inject("search");
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));
    // An account that is known from the start: the server continues and asks for the password in its own way.
    inject("login");
    assert_eq!(log_in(&server, "ed"), Reply::Switch("client_ed25519".to_owned()));
    inject("ifo_rs_account_login");
    assert!(is_access_denied(&log_in(&server, "moved")));
    inject("");
    assert_eq!(log_in(&server, "ed"), redirect_to("db2"));
    assert_eq!(log_in(&server, "moved"), redirect_to("db9"));

    let mut refused = |callback, sql: &str| {
        inject(callback);
        let error = root.query(sql).unwrap_err().to_string();
        inject("");
        error
    };
    let error = refused("ifo_rs_check", "SET GLOBAL instant_failover_target = 'db3'");
    assert!(error.starts_with("ERROR 1231"), "{error}");
    let error = refused("ifo_rs_update", "SET GLOBAL instant_failover_target = 'db3'");
    assert!(error.contains("nothing was changed"), "{error}");
    let error = refused("ifo_rs_update_number", "SET GLOBAL instant_failover_hold_timeout = 60");
    assert!(error.contains("nothing was changed"), "{error}");
    refused("ifo_rs_account_check", "CREATE USER wrong IDENTIFIED VIA instant_failover USING 'db9'");
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));

    let last = "Instant_failover_last_redirect";
    assert_ne!(root.status(last).unwrap(), "");
    inject("ifo_rs_last_redirect");
    assert_eq!(root.status(last).unwrap(), "");
    inject("ifo_rs_count_sessions");
    assert_eq!(root.status("Instant_failover_sessions").unwrap(), "0");

    // Whatever happens in deinit, later logins are not affected by the plugin.
    for place in ["ifo_rs_deinit", "leave"] {
        inject(place);
        root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
        assert_eq!(log_in(&server, "app"), Reply::Ok);
        inject("");
        root.query("INSTALL SONAME 'instant_failover'").unwrap();
        root.query("SET GLOBAL instant_failover_target = 'db2', instant_failover_mode = ON").unwrap();
        assert_eq!(log_in(&server, "app"), redirect_to("db2"));
    }
    assert!(server.is_running());
    let log = server.error_log();
    assert_eq!(log.matches("internal error in ifo_rs_init").count(), 1, "{log}");
    assert_eq!(log.matches("internal error in").count(), 1, "{log}");
    assert!(!log.contains("panicked at") || log.matches("panicked at").count() == 1, "{log}");
    server.stop().unwrap();
}

/// With a server each: only its first panic is logged.
#[test]
fn alone_in_a_server() {
    type What = fn(&Server, &mut Session, &mut Session);
    let nothing: What = |_, _, _| {};
    let drain: What = |server, root, _| {
        wait_until("a panic", || {
            let mut app = Client::connect(server.address()).unwrap().log_in("app", b"").unwrap().session().unwrap();
            app.query("BEGIN").unwrap();
            hold_and_drain(root);
            assert_eq!(app.query("SELECT 1").unwrap(), [["1"]]);
            app.query("COMMIT").unwrap();
            // A session is ended only once it has been quiet for a while.
            let has_panicked = (0..30).any(|_| {
                thread::sleep(Duration::from_millis(100));
                has_panicked(server)
            });
            root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
            has_panicked
        });
    };
    let cases: &[(&str, &[&str], What, What)] = &[
        ("hook", &[], nothing, is_refused),
        ("read_packet", &[], redirect, is_refused),
        ("register", &[], nothing, |server, _, _| assert_eq!(log_in(server, "app"), Reply::Ok)),
        ("hold", &[], hold, |server, _, _| assert_eq!(log_in(server, "app"), Reply::Ok)),
        ("keeper", &[], hold, redirect),
        ("drain", &[], nothing, drain),
        ("ifo_rs_before_wait", &[], has_drained, answers),
        ("ifo_rs_after_wait", &[], has_drained, answers),
        ("ifo_rs_session_begins", &[POOL], nothing, |server, root, _| {
            hold_and_drain(root);
            wait_until("a panic", || {
                server.root().unwrap().query("SELECT 1").unwrap();
                has_panicked(server)
            });
        }),
        ("ifo_rs_session_ends", &[POOL], nothing, drain),
        ("ifo_rs_session_goes_on", &[POOL], nothing, drain),
        ("ifo_rs_command_done", &[POOL], nothing, drain),
        ("ifo_rs_audit_init", &[POOL], nothing, |server, root, app| {
            root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
            let error = root.query("INSTALL SONAME 'instant_failover'").unwrap_err().to_string();
            assert!(error.contains("'instant_failover_sessions'"), "{error}");
            server.inject_panic("").unwrap();
            root.query("INSTALL PLUGIN instant_failover_sessions SONAME 'instant_failover'").unwrap();
            reinstall(server, root, app);
        }),
        // The redirect can be installed again, the drains of a pool cannot.
        ("ifo_rs_audit_deinit", &[POOL], nothing, |_, root, _| {
            root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
            root.query("INSTALL PLUGIN instant_failover SONAME 'instant_failover'").unwrap();
            root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
        }),
        ("step", &[], nothing, reinstall),
    ];
    for (place, arguments, before, what) in cases {
        // Shown if it fails.
        println!("{place}");
        let mut server = server(arguments);
        let mut root = server.root().unwrap();
        root.query("CREATE USER app").unwrap();
        root.query("INSTALL SONAME 'instant_failover'").unwrap();
        root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
        let mut app = Client::connect(server.address()).unwrap().log_in("app", b"").unwrap().session().unwrap();
        before(&server, &mut root, &mut app);
        server.inject_panic(place).unwrap();
        what(&server, &mut root, &mut app);
        wait_until(place, || server.error_log().contains(&format!("internal error in {place} ")));
        server.inject_panic("").unwrap();
        root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
        assert_eq!(log_in(&server, "app"), redirect_to("db2"), "{place}");
        root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
        assert_eq!(log_in(&server, "app"), Reply::Ok, "{place}");
        drop(app);
        root.query("UNINSTALL PLUGIN instant_failover").unwrap();
        server.stop().unwrap();
    }
}

fn has_panicked(server: &Server) -> bool {
    server.error_log().contains("internal error in")
}

fn redirect(_: &Server, root: &mut Session, _: &mut Session) {
    root.query("SET GLOBAL instant_failover_mode = ON").unwrap();
}

fn hold(_: &Server, root: &mut Session, _: &mut Session) {
    root.query("SET GLOBAL instant_failover_mode = HOLD").unwrap();
}

fn hold_and_drain(root: &mut Session) {
    root.query("SET GLOBAL instant_failover_mode = HOLD, instant_failover_drain = ON").unwrap();
}

fn has_drained(_: &Server, root: &mut Session, app: &mut Session) {
    app.query("BEGIN").unwrap();
    hold_and_drain(root);
    root.query("SET GLOBAL instant_failover_mode = OFF").unwrap();
}

fn reinstall(_: &Server, root: &mut Session, _: &mut Session) {
    root.query("UNINSTALL SONAME 'instant_failover'").unwrap();
    root.query("INSTALL SONAME 'instant_failover'").unwrap();
    root.query("SET GLOBAL instant_failover_target = 'db2'").unwrap();
}

/// A server that has the next command already does not wait for it.
fn answers(server: &Server, _: &mut Session, app: &mut Session) {
    wait_until("a panic", || {
        assert_eq!(app.query("SELECT 1").unwrap(), [["1"]]);
        has_panicked(server)
    });
}

/// Nothing of the client may have been read: the error can come in the place of the greeting.
fn is_refused(server: &Server, _: &mut Session, _: &mut Session) {
    let reply = Client::connect(server.address()).unwrap().log_in("app", b"").map(|logged_in| logged_in.reply);
    assert!(reply.as_ref().is_err() || reply.as_ref().is_ok_and(is_access_denied), "{reply:?}");
}

/// Each place in which a panic is caught is in a test, here or in `client_by_default`.
#[test]
fn everywhere() {
    let tests = [include_str!("panics.rs"), include_str!("client_by_default.rs")].concat();
    let mut places = Vec::new();
    for file in sources(&project_root().join("src")) {
        let text = fs::read_to_string(file).unwrap();
        let after = |mark: &'static str| text.split(mark).skip(1).map(|rest| rest.split(['"', '(', '<', ' ']).next());
        places.extend(
            [" export fn ", " pointer fn ", "catch(\""].into_iter().flat_map(after).flatten().map(str::to_owned),
        );
    }
    assert!(places.len() > 30, "{places:?}");
    places.retain(|place| !place.starts_with('$') && !tests.contains(&format!("\"{place}\"")));
    assert!(places.is_empty(), "{places:?}");
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}
