//! A bug in our code: the server stays up, and does what it would do without the plugin.

use std::fs;

use support::build::Flavour;
use support::server::Server;
use support::wire::Reply;

use crate::{built, is_access_denied, log_in, redirect_to};

#[test]
fn in_every_callback() {
    let directory = tempfile::tempdir().unwrap();
    let wanted = directory.path().join("panic");
    let inject = |callback: &str| fs::write(&wanted, callback).unwrap();
    inject("");
    // SAFETY: mariadbd inherits it; no other thread of this process changes the environment.
    unsafe { std::env::set_var("INSTANT_FAILOVER_PANIC", &wanted) };
    let mut server =
        Server::start(&built("INSTANT_FAILOVER_PANIC_SO", Flavour::PanicInjection.library()), &[]).unwrap();
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
    refused("ifo_rs_account_check", "CREATE USER wrong IDENTIFIED VIA instant_failover USING 'db9'");
    assert_eq!(log_in(&server, "app"), redirect_to("db2"));

    let last = "Instant_failover_last_redirect";
    assert_ne!(root.status(last).unwrap(), "");
    inject("ifo_rs_last_redirect");
    assert_eq!(root.status(last).unwrap(), "");

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
