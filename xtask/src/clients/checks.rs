//! What health checks and monitoring report in each mode. The tables in `docs/operations.md` document these.

use anyhow::{Result, ensure};

use super::{Notes, PASSWORD, USER, World};
use crate::common::script::Script;

/// Users that are exempt in some of the cases.
const EXEMPT: &str = "haproxy,exporter";

pub(super) fn check(world: &mut World, script: &mut Script, notes: &mut Notes) -> Result<()> {
    // HAProxy logs in without a password.
    for sql in ["CREATE USER haproxy", &format!("CREATE USER exporter IDENTIFIED BY '{PASSWORD}'")] {
        world.one.query(sql)?;
    }
    let told = format!("|Server is directing clients to the alternative server '{0}'.|{0}", world.db2.address());
    for mode in ["OFF", "ON", "ALL"] {
        world.set_mode(mode)?;
        for way in ["tcp", "socket"] {
            let is_redirected = mode == "ALL" || mode == "ON" && way == "tcp";
            // `ping` exits with 0 even after an error.
            let (ping, status) = if is_redirected {
                (told.as_str(), told.as_str())
            } else {
                ("exit 0: mysqld is alive", "exit 0: Uptime: ")
            };
            let answer = expect(script, &["admin", way, "ping"], mode, |text| text.contains(ping))?;
            ensure!(answer.starts_with("ok exit 0: "), "mode {mode}: ping says '{answer}'");
            let answer = expect(script, &["admin", way, "status"], mode, |text| text.contains(status))?;
            ensure!(answer.starts_with("ok exit 1: ") == is_redirected, "mode {mode}: status says '{answer}'");
        }
        let is_redirected = mode != "OFF";
        // All of it is after a `|`, where Nagios expects performance data.
        let critical = format!("ok exit 2: {told}");
        expect(script, &["nagios", "check_mysql"], mode, |text| {
            if is_redirected { text == critical } else { text.starts_with("ok exit 0: Uptime: ") }
        })?;
        let critical = format!("ok exit 2: QUERY CRITICAL: {told}");
        expect(script, &["nagios", "check_mysql_query", "-q", "SELECT 1"], mode, |text| {
            if is_redirected { text == critical } else { text.starts_with("ok exit 0: QUERY OK: ") }
        })?;
        haproxy(script, mode, !is_redirected)?;
        exporter(script, USER, mode, !is_redirected)?;
    }

    let before = world.one.query("SELECT @@instant_failover_exempt_users")?.concat().concat();
    world.one.query(&format!("SET GLOBAL instant_failover_exempt_users = '{before},{EXEMPT}'"))?;
    for mode in ["ON", "ALL"] {
        world.set_mode(mode)?;
        haproxy(script, mode, true)?;
        exporter(script, "exporter", mode, true)?;
    }
    world.one.query(&format!("SET GLOBAL instant_failover_exempt_users = '{before}'"))?;
    world.set_mode("OFF")?;
    notes
        .said
        .push("mariadb-admin, monitoring-plugins, HAProxy and mysqld_exporter report what is documented".to_owned());
    Ok(())
}

fn expect(script: &mut Script, words: &[&str], mode: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
    let text = script.ask(words)?.text;
    ensure!(wanted(&text), "mode {mode}: {words:?} says '{text}'");
    Ok(text)
}

/// Only the check with a user logs in.
fn haproxy(script: &mut Script, mode: &str, is_let_in: bool) -> Result<()> {
    let user = if is_let_in { "UP L7OK 0" } else { "DOWN L7STS 4196" };
    let wanted = format!("ok tcp UP L4OK, without-user UP L7OK 0, with-user {user}");
    expect(script, &["haproxy"], mode, |text| text == wanted).map(drop)
}

/// The mode is a metric only while it looks like a boolean.
fn exporter(script: &mut Script, user: &str, mode: &str, is_let_in: bool) -> Result<()> {
    let counters = [
        "account_redirects",
        "change_user_redirects",
        "drained",
        "exempted_hosts",
        "exempted_users",
        "held",
        "hold_timeouts",
        "holds",
        "hooked_plugins",
        "redirects",
        "redirects_extra_port",
        "redirects_socket",
        "redirects_tcp",
        "sessions",
        "sessions_busy",
        "sessions_in_transaction",
        "sessions_unknown",
    ];
    let mut wanted: Vec<_> =
        counters.iter().map(|counter| format!("mysql_global_status_instant_failover_{counter} ")).collect();
    wanted.extend(
        ["drain 0", "hold_timeout 10"].map(|variable| format!("mysql_global_variables_instant_failover_{variable}")),
    );
    match mode {
        "OFF" => wanted.push("mysql_global_variables_instant_failover_mode 0".to_owned()),
        "ON" => wanted.push("mysql_global_variables_instant_failover_mode 1".to_owned()),
        _ => {}
    }
    wanted.push("mysql_up 1".to_owned());
    if !is_let_in {
        wanted = vec!["mysql_up 0".to_owned()];
    }
    expect(script, &["exporter", user], mode, |text| {
        let metrics: Vec<_> = text.trim_start_matches("ok ").split(", ").collect();
        metrics.len() == wanted.len() && metrics.iter().zip(&wanted).all(|(metric, wanted)| metric.starts_with(wanted))
    })
    .map(drop)
}
