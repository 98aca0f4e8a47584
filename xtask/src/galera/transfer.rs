//! State transfers that log in to the donor.

use std::fs;

use anyhow::{Result, ensure};

use super::cluster::{Cluster, Node};
use super::{all_serve, is_served};

/// `mariadb-backup` logs in to the donor on the Unix socket, as `wsrep_sst_auth` says. The other two methods log in to nothing
/// (`rsync`), or to the joiner (`mysqldump`).
const METHOD: &[&str] = &["--wsrep-sst-method=mariabackup", "--wsrep-sst-donor=node2"];

pub(super) fn mariabackup(cluster: &mut Cluster) -> Result<()> {
    let [first, second, third] = &mut cluster.nodes;
    let target = first.address();
    for (mode, exempt, works) in [("ON", "root", true), ("ALL", "root", false), ("ALL", "root,sst", true)] {
        third.stop()?;
        third.forget_data()?;
        second.set(&format!(
            "instant_failover_exempt_users = '{exempt}', instant_failover_target = '{target}', instant_failover_mode = '{mode}'"
        ))?;
        if works {
            third.run(METHOD)?;
        } else {
            third.begin(METHOD)?;
            third.wait_for_end()?;
            says(second, third)?;
        }
        ensure!(second.mode()? == format!("{mode} {target}"), "{mode}: the donor's mode is {}", second.mode()?);
        second.wait_until("synced", Node::is_synced)?;
        is_served(first)?;
    }
    second.set("instant_failover_mode = 'OFF', instant_failover_target = '', instant_failover_exempt_users = ''")?;
    all_serve(cluster)
}

/// Where it is said why the transfer failed.
fn says(donor: &Node, joiner: &Node) -> Result<()> {
    let log = donor.dir().join("data/mariabackup.backup.log");
    let text = fs::read_to_string(&log)?;
    ensure!(text.contains("Server is directing clients to the alternative server"), "{} has {text}", log.display());
    let names = donor.whole_error_log().contains(&log.display().to_string());
    ensure!(names, "the donor does not name that file: {}", donor.error_log());
    let ends = joiner.whole_error_log().contains("Will never receive state");
    ensure!(ends, "the other node says {}", joiner.error_log());
    Ok(())
}
