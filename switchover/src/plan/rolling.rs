//! One node after the other: what is seen of each, what must be so before one is taken out, and where its clients go.

use serde::{Deserialize, Serialize};

/// A node, as it shows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name in the file.
    pub name: String,
    /// Why it was not reached; empty if it was.
    pub problem: String,
    /// What it is part of.
    pub role: Role,
    /// Its plugin can drain.
    pub drains: bool,
    /// The value of `instant_failover_mode`; `None` without the plugin.
    pub mode: Option<failover::Mode>,
    /// The value of `instant_failover_target`.
    pub target: String,
    /// The value of `instant_failover_note`.
    pub note: String,
}

/// What a node is part of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// A Galera cluster.
    Galera {
        /// `wsrep_cluster_state_uuid`: the same on all nodes.
        cluster: String,
        /// `wsrep_cluster_size`
        size: u32,
        /// `wsrep_local_state_comment`; what it is doing is added if it does not serve.
        state: String,
        /// `wsrep_cluster_status` is `Primary`.
        is_primary: bool,
    },
    /// It replicates.
    Replica {
        /// `Master_Server_Id`
        source: String,
        /// Both threads run, and it is not behind.
        is_current: bool,
        /// What it says of that.
        state: String,
    },
    /// Neither.
    Alone,
}

impl Node {
    /// Of which nothing else is known.
    #[must_use]
    pub fn named(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            problem: String::new(),
            role,
            drains: false,
            mode: None,
            target: String::new(),
            note: String::new(),
        }
    }

    /// Whether it can serve clients.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.problem.is_empty()
            && match &self.role {
                Role::Galera { state, is_primary, .. } => *is_primary && state == "Synced",
                Role::Replica { is_current, .. } => *is_current,
                Role::Alone => false,
            }
    }

    /// Whether it is a node of a Galera cluster that has a quorum, with that node.
    #[must_use]
    pub fn is_in_primary_component(&self) -> bool {
        matches!(self.role, Role::Galera { is_primary: true, .. })
    }

    /// Whether both are nodes of one cluster, or replicas of one primary.
    #[must_use]
    pub fn is_beside(&self, other: &Self) -> bool {
        match (&self.role, &other.role) {
            // A node that has begun a cluster of its own is not in that of the others, though it has their data.
            (Role::Galera { cluster, size, .. }, Role::Galera { cluster: one, size: other, .. }) => {
                cluster == one && size == other
            }
            (Role::Replica { source, .. }, Role::Replica { source: same, .. }) => source == same,
            _ => false,
        }
    }

    /// What it says of itself.
    #[must_use]
    pub fn state(&self) -> String {
        if !self.problem.is_empty() {
            return self.problem.clone();
        }
        match &self.role {
            Role::Galera { state, is_primary: true, size, .. } => format!("{state}, in a cluster of {size}"),
            Role::Galera { state, .. } => format!("{state}, not in a primary component"),
            Role::Replica { state, .. } => state.clone(),
            Role::Alone => "neither in a Galera cluster nor a replica".to_owned(),
        }
    }
}

/// Where the clients of `nodes[current]` go while it is away; or why it must not be taken out. The first `named` are those to
/// restart; the others belong to them.
///
/// That is a node that has been done, or else the one that will be done last: so most clients move once.
///
/// # Errors
/// For the DBA, with what to do.
pub fn target(nodes: &[Node], named: usize, current: usize) -> Result<usize, String> {
    let Some(node) = nodes.get(current) else { return Err(format!("there is no node {current}")) };
    // The primary, and what replicates from another one, have nothing to do with replicas.
    let matters = |place: usize, other: &Node| {
        place < named || matches!(node.role, Role::Galera { .. }) || (other.is_ready() && node.is_beside(other))
    };
    let kept: Vec<usize> = (0..nodes.len()).filter(|&place| matters(place, &nodes[place])).collect();
    let nodes: Vec<&Node> = kept.iter().map(|&place| &nodes[place]).collect();
    if let Some(bad) = nodes.iter().find(|node| !node.is_ready()) {
        return Err(match bad.role {
            Role::Alone if bad.problem.is_empty() => {
                format!("{} is {}: to restart a primary, move its clients by a switchover first", bad.name, bad.state())
            }
            _ => format!("{} is not ready ({}): wait until it is, or fix it", bad.name, bad.state()),
        });
    }
    if let Some(other) = nodes.iter().find(|other| !node.is_beside(other)) {
        return Err(format!(
            "{} and {} do not belong together ({}; {})",
            node.name,
            other.name,
            node.state(),
            other.state()
        ));
    }
    if let Role::Galera { size, .. } = node.role
        && (size < 3 || size as usize > nodes.len())
    {
        return Err(if size < 3 {
            format!(
                "the cluster has {size} nodes: if one goes wrong while another is away, there is no quorum; add a node"
            )
        } else {
            format!("the cluster has {size} nodes, of which {} are known: name all of them in the file", nodes.len())
        });
    }
    for node in &nodes {
        match node.mode {
            None => return Err(format!("{} has no plugin: INSTALL SONAME 'instant_failover'", node.name)),
            Some(failover::Mode::Off) => {}
            Some(mode) if node.note == NOTIFY => {
                return Err(format!(
                    "{} is in mode {mode} by {NOTIFY}, which sets it to OFF after it is synced",
                    node.name
                ));
            }
            Some(mode) => {
                let by = if node.note.is_empty() { "no note says why".to_owned() } else { format!("'{}'", node.note) };
                return Err(format!("{} is in mode {mode} ({by}): set it to OFF if that is over", node.name));
            }
        }
    }
    let done = current.checked_sub(1);
    let last = kept.into_iter().rev().find(|&other| other != current);
    done.or(last).ok_or_else(|| format!("no other node can take the clients of {}: name two nodes at least", node.name))
}

/// What is known of a run: it is kept in a file before anything happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What identifies the run.
    pub id: String,
    /// Who began it, and when.
    pub by: String,
    /// The nodes to restart, in order.
    pub nodes: Vec<String>,
    /// How many are done.
    pub done: usize,
    /// What was done with the current one.
    pub stage: Stage,
    /// The values of `instant_failover_target` and `instant_failover_note` that the current one had.
    pub before: (String, String),
    /// Where its clients go.
    pub target: String,
    /// How it is done.
    pub how: How,
}

/// How far the current node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing has changed there.
    Ready,
    /// It redirects.
    Redirected,
    /// The command was started: from here on only forwards.
    Restarting,
}

/// How it is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct How {
    /// The command that restarts a node.
    pub restart: String,
    /// How long sessions may take to end, in seconds.
    pub max_drain: u64,
    /// How long the command may take, and then the node until it is ready, in seconds.
    pub max_wait: u64,
    /// Sessions that do not end are cut.
    pub force: bool,
    /// Mode ALL.
    pub all_connections: bool,
    /// How far a replica may be behind, in seconds.
    pub max_lag: u64,
}

impl Record {
    /// What is written into `instant_failover_note` of the current node.
    #[must_use]
    pub fn note(&self) -> String {
        format!("{PREFIX}{} {}", self.id, self.by)
    }

    /// The node that comes next, or that is away.
    #[must_use]
    pub fn current(&self) -> &str {
        self.nodes.get(self.done).map(String::as_str).unwrap_or_default()
    }

    /// How far it is.
    #[must_use]
    pub fn state(&self) -> String {
        let (node, target) = (self.current(), &self.target);
        let current = match self.stage {
            Stage::Ready => format!("{node} is next"),
            Stage::Redirected => format!("{node} redirects to {target}"),
            Stage::Restarting => format!("{node} is being restarted, and its clients are at {target}"),
        };
        format!("rolling restart by {}: {} of {} done, {current}", self.by, self.done, self.nodes.len())
    }
}

const PREFIX: &str = "rolling ";
/// What `galera-notify` writes into the note. It sees to the mode only while there is no other note.
pub(crate) const NOTIFY: &str = "galera-notify";

/// Who works on a node with this note: the id of the run, and who began it, and when. `None` if it is not about a rolling restart.
#[must_use]
pub fn noted(note: &str) -> Option<(&str, &str)> {
    note.strip_prefix(PREFIX)?.split_once(' ')
}

#[cfg(test)]
mod tests {
    use failover::Mode;

    use super::{Node, Record, Role, Stage, noted, target};

    fn node(name: &str) -> Node {
        let role = Role::Galera { cluster: "c".to_owned(), size: 3, state: "Synced".to_owned(), is_primary: true };
        Node { drains: true, mode: Some(Mode::Off), ..Node::named(name, role) }
    }

    fn cluster() -> Vec<Node> {
        ["g1", "g2", "g3"].map(node).into()
    }

    #[test]
    fn clients_go_where_nobody_sends_them_on() {
        let targets: Vec<_> = (0..3).map(|current| target(&cluster(), 3, current).unwrap()).collect();
        assert_eq!(targets, [2, 0, 1]);
        assert!(target(&cluster(), 3, 3).is_err());
    }

    #[test]
    fn nothing_is_taken_out_of_a_cluster_that_is_not_whole() {
        type Change = fn(&mut Vec<Node>);
        let cases: &[(Change, &str)] = &[
            (|nodes| nodes[2].problem = "no answer".to_owned(), "g3 is not ready (no answer)"),
            (
                |nodes| {
                    nodes[1].role = Role::Galera {
                        cluster: "c".to_owned(),
                        size: 3,
                        state: "Donor/Desynced".to_owned(),
                        is_primary: true,
                    };
                },
                "g2 is not ready (Donor/Desynced",
            ),
            (
                |nodes| {
                    nodes[0].role = Role::Galera {
                        cluster: "c".to_owned(),
                        size: 1,
                        state: "Synced".to_owned(),
                        is_primary: false,
                    };
                },
                "g1 is not ready (Synced, not in a primary component)",
            ),
            (|nodes| nodes[2].role = Role::Alone, "g3 is neither in a Galera cluster nor a replica"),
            (
                |nodes| {
                    nodes[2].role =
                        Role::Galera { cluster: "d".to_owned(), size: 3, state: "Synced".to_owned(), is_primary: true };
                },
                "g1 and g3 do not belong together",
            ),
            (
                |nodes| {
                    nodes[0].role =
                        Role::Galera { cluster: "c".to_owned(), size: 1, state: "Synced".to_owned(), is_primary: true };
                },
                "g1 and g2 do not belong together (Synced, in a cluster of 1; Synced, in a cluster of 3)",
            ),
            (|nodes| nodes.truncate(2), "has 3 nodes, of which 2 are known"),
            (|nodes| nodes[1].mode = None, "g2 has no plugin"),
            (|nodes| nodes[1].mode = Some(Mode::On), "g2 is in mode ON (no note says why)"),
            (
                |nodes| (nodes[1].mode, nodes[1].note) = (Some(Mode::On), "galera-notify".to_owned()),
                "g2 is in mode ON by galera-notify",
            ),
        ];
        for (change, expected) in cases {
            let mut nodes = cluster();
            change(&mut nodes);
            let why = target(&nodes, nodes.len(), 0).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        let mut two = cluster();
        two.truncate(2);
        for node in &mut two {
            if let Role::Galera { size, .. } = &mut node.role {
                *size = 2;
            }
        }
        assert!(target(&two, 2, 0).unwrap_err().contains("no quorum"));
    }

    #[test]
    fn a_note_says_who() {
        let record = Record {
            id: "5f3a".to_owned(),
            by: "ann@desk,14:03".to_owned(),
            nodes: vec!["g1".to_owned(), "g2".to_owned()],
            done: 1,
            stage: Stage::Restarting,
            before: <_>::default(),
            target: "g1:3306".to_owned(),
            how: super::How {
                restart: "true".to_owned(),
                max_drain: 1,
                max_wait: 1,
                force: false,
                all_connections: false,
                max_lag: 1,
            },
        };
        assert_eq!(noted(&record.note()), Some(("5f3a", "ann@desk,14:03")));
        assert_eq!(noted("galera-notify"), None);
        assert_eq!(
            record.state(),
            "rolling restart by ann@desk,14:03: 1 of 2 done, g2 is being restarted, and its clients are at g1:3306"
        );
    }

    #[test]
    fn replicas_take_each_others_clients() {
        let replica = |name: &str, is_current| Node {
            role: Role::Replica { source: "1".to_owned(), is_current, state: "2 s behind".to_owned() },
            ..node(name)
        };
        assert_eq!(target(&[replica("r1", true), replica("r2", true)], 2, 0), Ok(1));
        assert!(target(&[replica("r1", true), replica("r2", false)], 2, 0).unwrap_err().contains("2 s behind"));
        assert!(target(&[replica("r1", true)], 1, 0).unwrap_err().contains("name two nodes"));
        // In the file, the primary is beside them, and a third replica. One that is not ready takes no clients.
        let primary = || Node { role: Role::Alone, ..node("p") };
        let three = [replica("r1", true), replica("r2", true), primary(), replica("r3", true)];
        assert_eq!([0, 1].map(|current| target(&three, 2, current)), [Ok(3), Ok(0)]);
        assert_eq!(target(&[replica("r1", true), primary(), replica("r3", true), replica("r2", false)], 1, 0), Ok(2));
        assert!(target(&[replica("r1", true), primary()], 1, 0).unwrap_err().contains("name two nodes"));
        assert!(target(&[replica("r1", true), primary()], 2, 0).unwrap_err().contains("by a switchover first"));
    }
}
