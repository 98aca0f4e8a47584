//! Reads what is judged before a failover: what is left of the old primary, and the servers around it. Nothing is changed.

use std::collections::BTreeSet;

use crate::database::SqlError;
use crate::facts;
use crate::link::Link;
use crate::plan::failover::check::{Answer, Facts, answers};
use crate::plan::seen::{Around, Beside, Channel, Replica, Server};
use crate::probe::{self, Probe};
use crate::servers::{Entry, Servers, Way};
use crate::stand_in::StandInLink;
use crate::threads;

/// The servers around a primary that is dead.
pub struct Dead {
    /// The entry of the old primary.
    pub old: Entry,
    /// Its `server_id`, as its replicas know it; 0 if they do not.
    pub old_id: u32,
    /// Its other replicas, and servers that may be such: they do not answer.
    pub replicas: Vec<Link>,
    /// Names of servers that are left out if they do not answer.
    pub without: Vec<String>,
    /// The stand-in on its address.
    pub stand_in: Option<StandInLink>,
    /// Whether a command ends the old primary, or has done so.
    pub fenced: bool,
    /// Whether a switchover has promoted the new primary already.
    pub promoted: bool,
    /// Replicas of a server with the `server_id` of the old primary, which may be another one; and of one that nothing tells.
    unclear: Vec<String>,
    /// Servers that do not replicate from it.
    strangers: Vec<Stranger>,
    /// Of those that are left out, those that did not answer: they are not asked again, and need not be.
    silent: Vec<String>,
}

/// A server of the file that does not replicate from the old primary.
struct Stranger {
    entry: Entry,
    server: Server,
    /// What the file says of it and the old primary.
    same_cluster: Option<bool>,
}

impl Dead {
    /// Finds everything of the file that has to do with the old primary.
    #[must_use]
    pub fn find(servers: &Servers, old: Entry, old_id: u32, new: &Entry, without: Vec<String>) -> Self {
        let stand_in = servers.stand_in_for(&old.name).cloned().or_else(|| {
            // A stand-in on the same machine takes over the socket, too.
            let entry = matches!(old.way, Way::Socket(_)).then(|| old.clone())?;
            StandInLink::new(entry.clone()).look().map(|_| entry)
        });
        let others = servers.all().iter().filter(|entry| entry.name != old.name && entry.name != new.name);
        let links: Vec<Link> = others.map(|entry| Link::new(entry.clone(), true)).collect();
        let looked = looks(links, &old, old_id);
        let known = looked.iter().filter_map(|(_, server)| Some(server.as_ref()?.server_id));
        let known: BTreeSet<u32> = known.collect();
        // It has not connected since it restarted, or nobody knows the id of the old primary; and the file has no such address.
        let follows_unknown = |server: &Server| {
            let is_unknown = |id: u32| old_id == 0 && !known.contains(&id);
            let is_of_file =
                |channel: &Channel| servers.all().iter().any(|one| one.replication.is_at(&channel.address));
            server.channels.iter().any(|channel| channel.source.is_none_or(is_unknown) && !is_of_file(channel))
        };
        let mut replicas = Vec::new();
        let (mut unclear, mut strangers, mut silent) = (Vec::new(), Vec::new(), Vec::new());
        for (link, server) in looked {
            let Some(server) = server else {
                if old.same_cluster(&link.entry) != Some(false) {
                    let is_left_out = without.contains(&link.entry.name) && !link.is_taken();
                    silent.extend(is_left_out.then(|| link.entry.name.clone()));
                    replicas.push(link);
                }
                continue;
            };
            let is_replica = server.channel_from(old_id).map(|channel| old.is_source_of(channel, &link.entry));
            match is_replica {
                Some(Some(false)) => {}
                Some(known) => {
                    if known.is_none() {
                        unclear.push(link.entry.name.clone());
                    }
                    replicas.push(link);
                }
                None => {
                    let same_cluster = old.same_cluster(&link.entry);
                    let is_left_out = without.contains(&link.entry.name);
                    if same_cluster != Some(false) && !is_left_out && follows_unknown(&server) {
                        unclear.push(link.entry.name.clone());
                    }
                    strangers.push(Stranger { entry: link.entry, server, same_cluster });
                }
            }
        }
        Self {
            old,
            old_id,
            replicas,
            without,
            stand_in: stand_in.map(StandInLink::new),
            fenced: false,
            promoted: false,
            unclear,
            strangers,
            silent,
        }
    }

    /// What the servers around the old primary show.
    pub fn around(&mut self) -> Around {
        let links = std::mem::take(&mut self.replicas);
        let (silent, links): (Vec<_>, Vec<_>) =
            links.into_iter().partition(|link| self.silent.contains(&link.entry.name));
        let silent = silent.into_iter().map(|link| (link, None));
        let mut replicas = Vec::new();
        for (link, server) in silent.chain(looks(links, &self.old, self.old_id)) {
            let name = link.entry.name.clone();
            let is_taken = server.is_none() && link.is_taken();
            if server.is_none() && !is_taken && self.without.contains(&name) && !self.silent.contains(&name) {
                self.silent.push(name.clone());
            }
            replicas.push(Replica { name, server, is_taken });
            self.replicas.push(link);
        }
        Around { replicas, stand_in: self.stand_in.as_mut().and_then(StandInLink::look) }
    }

    /// Another server that may have become the primary.
    #[must_use]
    pub fn beside(&self, new: &Server) -> Option<Beside> {
        self.strangers.iter().find_map(|other| self.claim(&other.entry, &other.server, other.same_cluster, new))
    }

    fn claim(&self, entry: &Entry, server: &Server, same_cluster: Option<bool>, new: &Server) -> Option<Beside> {
        if server.replicates_from(self.old_id) {
            return None;
        }
        let claim = server.beside(&entry.name, &[new], same_cluster)?;
        // What only it has may be given up.
        let is_left_out = matches!(&claim, Beside::HasMore(name, _) if self.without.contains(name));
        (!is_left_out).then_some(claim)
    }

    /// The same, of all servers as they are now, also of those that were replicas, or did not answer. `has_restarted`: the new primary
    /// has, since this began; until then, only one that accepts writes counts among the replicas, and those that are left out are not
    /// asked again.
    #[must_use]
    pub fn beside_now(&self, new: &Server, has_restarted: bool) -> Option<Beside> {
        let strangers = self.strangers.iter().map(|other| (&other.entry, false));
        let all: Vec<_> = strangers.chain(self.replicas.iter().map(|link| (&link.entry, true))).collect();
        let look = |(entry, is_replica): (&Entry, bool)| {
            if !has_restarted && self.silent.contains(&entry.name) {
                return None;
            }
            let same_cluster = self.old.same_cluster(entry);
            let Some(server) = Link::new(entry.clone(), false).look(&self.old, Some(self.old_id)) else {
                let may_be_it = has_restarted && same_cluster != Some(false) && !self.without.contains(&entry.name);
                return may_be_it.then(|| Beside::Silent(entry.name.clone()));
            };
            if !is_replica || has_restarted {
                return self.claim(entry, &server, same_cluster, new);
            }
            // One that is writable by mistake is a replica still.
            let is_primary = !server.read_only && !server.channels.iter().any(Channel::is_active);
            is_primary.then(|| Beside::Writes(entry.name.clone()))
        };
        threads::each(all, look).into_iter().flatten().next()
    }

    /// Names of those that are left out, and did not answer.
    pub(crate) fn silent(&self) -> Vec<String> {
        self.silent.clone()
    }

    /// What answers at each address of the old primary.
    pub fn addresses(&mut self) -> Vec<(String, Answer)> {
        let mut ways = vec![self.old.way.clone()];
        let target = &self.old.target;
        let host = target.host().to_string();
        let tcp = [
            (host.trim_matches(['[', ']']).to_owned(), target.port()),
            (self.old.replication.host.clone(), self.old.replication.port),
        ];
        for (host, port) in tcp {
            let known = |way: &Way| matches!(way, Way::Tcp { host: other, port: other_port, .. } if *other == host && *other_port == port);
            if !ways.iter().any(known) {
                ways.push(Way::Tcp { host, port, tls: crate::servers::Tls::Off });
            }
        }
        let probes = threads::each(&ways, ask);
        ways.iter().zip(probes).map(|(way, probe)| (shown(way), self.answer(way, probe))).collect()
    }

    fn answer(&mut self, way: &Way, probe: Probe) -> Answer {
        match probe {
            Probe::Silent(why) => Answer::Silent(why),
            Probe::Hangs(why) => Answer::Hangs(why),
            Probe::Unknown(why) => Answer::Unknown(why),
            Probe::Refuses(why) => Answer::Server(why),
            Probe::Greets { .. } if self.stand_in.as_mut().is_some_and(|one| one.is_at(|| ask(way))) => Answer::StandIn,
            Probe::Greets { version, connection } => {
                Answer::Server(format!("version {version}, connection {connection}"))
            }
        }
    }

    /// Why the old primary may live, if anything says so now.
    pub fn lives(&mut self) -> Option<String> {
        let fenced = self.fenced;
        self.addresses().into_iter().find_map(|(address, answer)| match answer {
            Answer::Silent(_) | Answer::StandIn => None,
            Answer::Hangs(_) if fenced => None,
            Answer::Hangs(why) | Answer::Server(why) | Answer::Unknown(why) => Some(format!("{address}: {why}")),
        })
    }

    /// Everything that is judged.
    ///
    /// # Errors
    /// If the new primary does not answer.
    pub fn facts(&mut self, new: &mut Link) -> Result<Facts, SqlError> {
        let around = self.around();
        let replica = facts::server(new, &self.old, Some(self.old_id), 0)?;
        Ok(Facts {
            beside: self.beside(&replica.seen),
            old: self.old.name.clone(),
            old_id: self.old_id,
            new: new.entry.name.clone(),
            addresses: self.addresses(),
            fenced: self.fenced,
            replica: Some(replica),
            others: around.replicas,
            without: self.without.clone(),
            unclear: self.unclear.clone(),
            has_replication_user: new.entry.replication.user.is_some(),
            promoted: self.promoted,
            stand_in: self.stand_in.as_ref().map(|one| (one.entry.name.clone(), around.stand_in)),
        })
    }
}

/// What to say of a server that cannot be read, if its stand-in is what answers there.
#[must_use]
pub fn stands_in(servers: &Servers, entry: &Entry) -> Option<String> {
    let is_stand_in = match (servers.stand_in_for(&entry.name), &entry.way) {
        (Some(stand_in), way) if StandInLink::new(stand_in.clone()).is_at(|| ask(way)) => true,
        // One on the same machine takes over the socket, too.
        (_, Way::Socket(_)) => StandInLink::new(entry.clone()).look().is_some(),
        _ => false,
    };
    is_stand_in.then(|| answers(&shown(&entry.way), &entry.name))
}

/// All at once: each that is down takes seconds.
fn looks(links: Vec<Link>, old: &Entry, old_id: u32) -> Vec<(Link, Option<Server>)> {
    threads::each(links, |mut link| {
        let server = link.look(old, Some(old_id));
        (link, server)
    })
}

fn ask(way: &Way) -> Probe {
    match way {
        Way::Socket(path) => probe::socket(path),
        Way::Tcp { host, port, .. } => probe::tcp(host, *port),
    }
}

fn shown(way: &Way) -> String {
    match way {
        Way::Socket(path) => path.clone(),
        Way::Tcp { host, port, .. } => format!("{host}:{port}"),
    }
}
