//! The library as a file: its exports, its imports and its contents.

use std::collections::BTreeSet;
use std::process::Command;

use crate::library;

/// The allowed exports: symbols that the server and Connector/C look up, and Rust functions that our C code calls.
const EXPORTS: &[&str] = &[
    "_maria_plugin_declarations_",
    "_maria_plugin_interface_version_",
    "_maria_sizeof_struct_st_plugin_",
    "_mysql_client_plugin_declaration_",
    "ifo_rs_account_check",
    "ifo_rs_account_login",
    "ifo_rs_after_wait",
    "ifo_rs_audit_deinit",
    "ifo_rs_audit_init",
    "ifo_rs_before_wait",
    "ifo_rs_check",
    "ifo_rs_client_begin",
    "ifo_rs_client_close",
    "ifo_rs_client_connect",
    "ifo_rs_client_init",
    "ifo_rs_client_options",
    "ifo_rs_client_read",
    "ifo_rs_client_reconnect",
    "ifo_rs_client_refused",
    "ifo_rs_client_was_read",
    "ifo_rs_command_done",
    "ifo_rs_count_sessions",
    "ifo_rs_deinit",
    "ifo_rs_init",
    "ifo_rs_last_redirect",
    "ifo_rs_session_begins",
    "ifo_rs_session_ends",
    "ifo_rs_session_goes_on",
    "ifo_rs_update",
    "ifo_rs_update_number",
];

/// The server functions that we use. MariaDB 10.5.23, 10.11.19 and 11.8.6 export all of them.
const SERVER: &[&str] = &[
    // Optional: OpenSSL's. Without it, threads keep nothing for TLS.
    "OPENSSL_thread_stop",
    // Optional: without it, every plugin counts as installed.
    "_Z13plugin_statusPKcmi",
    // One of these two; without them, values must be ASCII.
    "_ZN4Item23const_charset_converterEP3THDPK15charset_info_stbPKc",
    "_ZN4Item23const_charset_converterEP3THDPK15charset_info_stbRK17Lex_ident_routine",
    "_current_thd",
    // HOLD needs it.
    "abort_loop",
    "glob_hostname",
    // A drain in a pool of threads needs it.
    "global_plugin_version",
    // HOLD needs it.
    "max_connections",
    "my_charset_utf8mb4_general_ci",
    "my_message",
    "my_printf_error",
    // A drain in a pool of threads needs it.
    "mysql_global_audit_mask",
    "mysql_mandatory_plugins",
    "mysql_optional_plugins",
    "mysqld_extra_port",
    "mysqld_port",
    // HOLD needs it.
    "set_thd_proc_info",
    "thd_client_host",
    "thd_client_ip",
    "thd_current_command",
    "thd_get_thread_id",
    // A drain needs it.
    "thd_get_xid",
    // HOLD needs it.
    "thd_kill_level",
    "thd_query_id",
    // A drain needs it.
    "thd_start_utime",
    "thd_strmake",
    // A drain needs it.
    "thd_test_options",
    "thd_user_name",
    // HOLD and a drain need it.
    "thd_wait_begin",
    // HOLD and a drain need it.
    "thd_wait_end",
    // A drain needs it.
    "thread_handling",
    // Optional: with a pool of threads, HOLD leaves half of them.
    "threadpool_max_threads",
    // A drain needs it.
    "vio_set_wait_callback",
];

/// The oldest glibc that has everything we import. Debian 10 has 2.28.
const OLDEST_GLIBC: (u32, u32) = (2, 18);

/// The output of `nm` for the library's dynamic symbols: each line as words.
fn symbols(option: &str) -> Vec<Vec<String>> {
    let output = support::output(Command::new("nm").args(["--dynamic", option]).arg(library())).unwrap();
    output.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn exports_what_is_listed_and_nothing_else() {
    let exported: Vec<_> = symbols("--defined-only").into_iter().filter_map(|mut words| words.pop()).collect();
    assert_eq!(exported, EXPORTS);
    assert!(EXPORTS.is_sorted());
}

#[test]
fn needs_of_the_server_only_what_is_listed_and_can_do_without() {
    let mut wanted = BTreeSet::new();
    for words in symbols("--undefined-only") {
        let [kind, name] = words.as_slice() else { panic!("{words:?}") };
        if !name.contains('@') && !name.starts_with("__gmon") && !name.starts_with("_ITM") && !name.starts_with("__cxa")
        {
            assert_eq!(kind, "w", "{name} must be weak, so that the library loads and can report what is missing");
            wanted.insert(name.clone());
        }
    }
    assert_eq!(wanted.iter().map(String::as_str).collect::<Vec<_>>(), SERVER);
}

/// The loader requires every listed version, even those of weak symbols.
#[test]
fn loads_with_an_old_glibc() {
    let versions = support::output(Command::new("readelf").args(["--version-info", "--wide"]).arg(library())).unwrap();
    let wanted = versions.split_whitespace().filter_map(|word| word.strip_prefix("GLIBC_")).map(|version| {
        let mut numbers = version.split('.').map(|number| number.parse().unwrap());
        (numbers.next().unwrap(), numbers.next().unwrap())
    });
    assert_eq!(wanted.max(), Some(OLDEST_GLIBC), "see c-shim/old_glibc.c");
}

#[test]
fn is_never_unmapped_and_holds_no_server_side_crate() {
    let dynamic = support::output(Command::new("readelf").arg("--dynamic").arg(library())).unwrap();
    assert!(dynamic.contains("NODELETE"), "{dynamic}");
    let bytes = std::fs::read(library()).unwrap();
    for name in ["tokio", "rustls", "sqlparser", "mysql_common", "tracing"] {
        assert!(!bytes.windows(name.len()).any(|window| window == name.as_bytes()), "{name}");
    }
}
