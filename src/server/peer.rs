//! A member among the others: what its Node wishes of the network and of the storage, beyond what a server
//! does that is alone.
//!
//! Java: `QuorumPeer`, `QuorumCnxManager`, `Leader.LearnerCnxAcceptor`, `Learner`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tracing::{debug, error, info, warn};

use super::Shared;
use super::image::{ImageJob, Learners};
use super::log::{LogQueue, MemberJob, or_die};
use super::start::{self, ServerImage};
use crate::config::{self, Endpoint, Ensemble, Membership};
use crate::disk::{self, FileDisk};
use crate::election::links::{LinkRules as ElectionLinkRules, election_endpoints};
use crate::id::{LinkId, ServerId, Zxid};
use crate::net::election::{Deliver, ElectionNet, ElectionNetRules};
use crate::net::names::Names;
use crate::net::quorum::{LinkEvent, LinkRules, Links};
use crate::node::effect::PeerEffect;
use crate::node::input::{Input, PeerInput, Room, Truncation};
use crate::priority::yield_to_requests;
use crate::storage::image::{Keeper, Meta, View, write_stream};
use crate::storage::member::{Installed, LogPart, MemberStore, Truncated, read_log, read_log_part};
use crate::storage::{Position, Recovered, Start};
use crate::tree::{Tree, stream};
use crate::zab::PART_BYTES;
use crate::zab::packet::Packet;

/// Java: `ExitCode.UNABLE_TO_BIND_QUORUM_PORT`.
const EXIT_UNABLE_TO_BIND: i32 = 14;

/// The directories of a member.
pub type MemberFiles = MemberStore<Arc<FileDisk>, Arc<ServerImage>>;

/// On the log's thread: everything before it is durable.
pub fn carry_out(shared: &Shared, queue: &LogQueue, files: &mut MemberFiles, job: MemberJob) {
    let input = match job {
        MemberJob::SaveEpoch { file, epoch } => {
            or_die(files.save_epoch(file, epoch));
            info!(epoch, "{} saved", file.name());
            PeerInput::EpochSaved { file, epoch }
        }
        MemberJob::Truncate { target, applied } => {
            let _gate = shared.image.keep_out();
            PeerInput::Truncated(match or_die(files.truncate(target, applied)) {
                Truncated::NoBase => Truncation::NoBase,
                Truncated::Log { last, notices } => {
                    notices.iter().for_each(|notice| warn!("{notice}"));
                    queue.positions.lock().retain(|position| position.zxid <= last);
                    shared.image.ask(ImageJob::Truncated(last));
                    Truncation::Log { last }
                }
                Truncated::Reloaded { recovered, notices } => {
                    notices.iter().for_each(|notice| warn!("{notice}"));
                    queue.positions.lock().clear();
                    let keeper = Keeper::new(shared.config.ensemble.image_owner(), &recovered, 0);
                    let Recovered { tree, tail, .. } = *recovered;
                    replace_tree(shared, tree);
                    shared.image.ask(ImageJob::Reloaded(keeper));
                    Truncation::Reloaded { tail }
                }
            })
        }
        MemberJob::Install { tree, rest } => {
            let _gate = shared.image.keep_out();
            let install = || {
                yield_to_requests();
                files.install(&tree, &rest)
            };
            // Nothing else waits for the log's thread: this server serves nobody yet.
            let installed = thread::scope(|scope| scope.spawn(install).join()).expect("installing does not panic");
            let Installed { snapshot, last, records, image } = or_die(installed);
            info!("the leader's snapshot 0x{:x} has taken the place of everything before", snapshot.name.zxid);
            replace_tree(shared, *tree);
            shared.image.ask(match image {
                Ok(()) => ImageJob::Replaced(snapshot),
                Err(error) => ImageJob::Lost(snapshot, error),
            });
            *queue.positions.lock() = records;
            PeerInput::Installed { last }
        }
    };
    shared.inputs.push(Input::Peer(input));
}

fn replace_tree(shared: &Shared, tree: Tree) {
    let old = std::mem::replace(&mut *shared.tree.write(), tree);
    // It may take a while, and nobody need wait for it.
    drop(old);
}

/// The ways to the other members.
pub struct Peers {
    shared: Arc<Shared>,
    queue: Arc<LogQueue>,
    links: Arc<Links>,
    election: ElectionNet,
    logs: Arc<FileDisk>,
    /// Where the last part of the log ended that was read for a learner.
    parts: Arc<Mutex<BTreeMap<LinkId, Position>>>,
}

impl Peers {
    /// Opens the election port and connects to nobody yet.
    pub fn start(shared: &Arc<Shared>, queue: &Arc<LogQueue>, logs: &Arc<FileDisk>, runtime: &Handle) -> Self {
        let names = Names::default();
        let links = Links::new(link_rules(shared, &names), runtime.clone(), {
            let shared = shared.clone();
            Box::new(move |event| on_link_event(&shared, event))
        });
        let election = start_election(shared, names, runtime);
        Self {
            shared: shared.clone(),
            queue: queue.clone(),
            links,
            election,
            logs: logs.clone(),
            parts: Arc::default(),
        }
    }

    /// Where the image's thread sends snapshots.
    pub fn learners(&self) -> LearnerLinks {
        LearnerLinks { shared: self.shared.clone(), links: self.links.clone() }
    }

    /// The others need not wait until the process is gone.
    pub fn close(&self) {
        self.links.stop_listening();
        self.links.close_all();
    }

    /// What was queued goes out.
    pub fn flush(&self) {
        self.links.flush();
    }

    pub fn carry_out(&self, effect: PeerEffect) {
        match effect {
            PeerEffect::Vote { to, body } => self.election.send(to, body),
            PeerEffect::VoteAgain(votes) => self.election.resend(votes),
            PeerEffect::Listen => {
                let ensemble = &self.shared.config.ensemble;
                let own = quorum_addresses(&self.shared, ensemble.server_id.unwrap_or_default());
                self.links.listen(to_listen_on(ensemble, own));
            }
            PeerEffect::StopListening => {
                self.links.stop_listening();
                self.links.close_all();
            }
            PeerEffect::Dial { link, leader } => self.dial(link, leader),
            PeerEffect::Send { link, packet } => self.links.send(link, &packet),
            PeerEffect::CloseLink { link } => self.links.close(link),
            PeerEffect::SaveEpoch { file, epoch } => self.queue.ask(MemberJob::SaveEpoch { file, epoch }),
            PeerEffect::Truncate { target, applied } => self.queue.ask(MemberJob::Truncate { target, applied }),
            PeerEffect::Install { tree, rest } => self.queue.ask(MemberJob::Install { tree, rest }),
            PeerEffect::ReadLog { link, after, upto, in_parts } => self.read_log(link, after, upto, in_parts),
            PeerEffect::AwaitDrained { link } => self.links.await_drained(link),
            PeerEffect::SendSnapshot { link } => {
                if !self.shared.image.ask(ImageJob::Send(link)) {
                    self.learners().send_tree(link);
                }
            }
            PeerEffect::SaveConfig { members } => self.save_config(&members),
            PeerEffect::Serve { .. } | PeerEffect::StopServing => unreachable!("that is about clients"),
            PeerEffect::Exit { why } => {
                error!(
                    "exiting: the members of the ensemble have changed ({why}), and this server does not follow that while \
                     it runs; write the new server.N lines into its configuration and start it again"
                );
                start::end_process(start::EXIT_UNEXPECTED);
            }
        }
    }

    fn dial(&self, link: LinkId, leader: ServerId) {
        let (node, ensemble) = (&self.shared.config.node, &self.shared.config.ensemble);
        let ticks = ensemble.connect_limit_ticks(node.init_limit_ticks);
        let budget = Duration::from_millis((i64::from(ticks) * i64::from(node.tick_time_ms)).max(0) as u64);
        self.links.dial(link, quorum_addresses(&self.shared, leader), budget);
    }

    /// For the next start. A member that cannot write it down still knows it until it ends.
    fn save_config(&self, members: &Membership) {
        let Some(path) = &self.shared.config.path else { return };
        let me = self.shared.config.ensemble.server_id.expect("a member has a myid");
        let saved = std::fs::read(path).and_then(|text| {
            // The next start may be from another directory.
            let path = &std::fs::canonicalize(path)?.to_string_lossy().into_owned();
            let rewritten = config::rewrite(path, &String::from_utf8_lossy(&text), members, me);
            let backup = format!("{path}.bak");
            if !Path::new(&backup).exists() {
                disk::replace_file(&backup, &text)?;
            }
            let (dynamic, text) = (rewritten.dynamic, rewritten.text);
            disk::replace_file(&dynamic.0, dynamic.1.as_bytes())?;
            disk::replace_file(path, text.as_bytes())
        });
        match saved {
            Ok(()) => info!("{path} points to the list of members of version {:x} now", members.version),
            Err(error) => error!(
                "the list of members of version {:x} could not be written next to {path}, so the next start has an older \
                 one: {error}",
                members.version
            ),
        }
    }

    /// On a thread of its own: it may take a while.
    fn read_log(&self, link: LinkId, after: Zxid, upto: Zxid, in_parts: bool) {
        /// More than this goes faster as a snapshot.
        const MOST: u64 = 64 << 20;
        let (shared, logs, links, parts) =
            (self.shared.clone(), self.logs.clone(), self.links.clone(), self.parts.clone());
        let read = move || {
            yield_to_requests();
            let read = if in_parts {
                let known = parts.lock().remove(&link).filter(|position| position.zxid == after);
                let start = known.map_or(Start::Behind(after), Start::BehindRecord);
                read_log_part(&*logs, start, upto, PART_BYTES as u64).map(|part| {
                    part.map(|LogPart { entries, end }| {
                        let mut parts = parts.lock();
                        parts.retain(|link, _| links.contains(*link));
                        parts.extend(end.map(|end| (link, end)));
                        entries
                    })
                })
            } else {
                read_log(&*logs, after, upto, MOST)
            };
            let entries = read.unwrap_or_else(|error| {
                warn!("a learner is not sent what the log holds, because it can't be read: {error}");
                None
            });
            shared.inputs.push(Input::Peer(PeerInput::LogRead { link, entries }));
        };
        if let Err(error) = thread::Builder::new().name("zooid-history".to_owned()).spawn(read) {
            error!("no thread to read the log for a learner: {error}");
            self.shared.inputs.push(Input::Peer(PeerInput::LogRead { link, entries: None }));
        }
    }
}

fn quorum_addresses(shared: &Shared, server: ServerId) -> Vec<Endpoint> {
    let member = shared.config.ensemble.membership.members.get(&server);
    let addresses = member.into_iter().flat_map(|member| &member.addresses);
    addresses.map(|address| Endpoint { host: address.host.clone(), port: address.quorum_port }).collect()
}

/// The own addresses, or with `quorumListenOnAllIPs` their ports on every address.
fn to_listen_on(ensemble: &Ensemble, mut own: Vec<Endpoint>) -> Vec<Endpoint> {
    if ensemble.quorum_listen_on_all_ips {
        own.iter_mut().for_each(|endpoint| endpoint.host = "0.0.0.0".to_owned());
    }
    own.dedup();
    own
}

fn link_rules(shared: &Shared, names: &Names) -> LinkRules {
    let (node, ensemble) = (&shared.config.node, &shared.config.ensemble);
    let patience_ms = i64::from(node.tick_time_ms) * i64::from(node.init_limit_ticks);
    LinkRules {
        names: names.clone(),
        leader_nodelay: ensemble.leader_nodelay,
        follower_nodelay: ensemble.follower_nodelay,
        keep_alive: ensemble.tcp_keep_alive,
        max_buffer_bytes: node.jute_max_buffer_bytes as usize + node.jute_extra_bytes as usize,
        snapshot_patience: Duration::from_millis(patience_ms.max(0) as u64),
        retry_delay: Duration::from_millis(ensemble.leader_connect_delay_during_retry_ms.into()),
        max_queued_bytes: LinkRules::USUAL_QUEUED,
        max_unhandled_bytes: LinkRules::USUAL_UNHANDLED,
        tree: start::tree_rules(&shared.config),
    }
}

/// Opens the election port, without which this server is no member: the process ends if it can't be had.
fn start_election(shared: &Arc<Shared>, names: Names, runtime: &Handle) -> ElectionNet {
    let (node, ensemble) = (&shared.config.node, &shared.config.ensemble);
    let me = ensemble.server_id.expect("a member has a myid");
    let sync_limit_ms = i64::from(node.tick_time_ms) * i64::from(node.sync_limit_ticks);
    let own = ensemble.membership.members.get(&me).map(election_endpoints).unwrap_or_default();
    let listen = to_listen_on(ensemble, own);
    let rules = ElectionNetRules {
        names,
        links: ElectionLinkRules {
            me,
            membership: Arc::new(ensemble.membership.clone()),
            multi_address: ensemble.multi_address,
            connect_ms: ensemble.cnx_timeout_ms.into(),
            handshake_ms: ensemble.quorum_cnxn_timeout_ms.filter(|ms| *ms > 0).map_or(sync_limit_ms, i64::from),
        },
        listen,
        bind_attempts: ensemble.election_port_bind_attempts,
        tcp_keep_alive: ensemble.tcp_keep_alive,
        unacknowledged: Duration::from_millis(sync_limit_ms.max(0) as u64),
    };
    let deliver: Deliver = {
        let shared = shared.clone();
        Arc::new(move |from, body| shared.inputs.push_vote(Input::Peer(PeerInput::Notification { from, body })))
    };
    let (election, work) = ElectionNet::new(rules, deliver);
    runtime.spawn(async move {
        if let Err(failed) = work.await {
            error!("As I'm leaving the listener thread, I won't be able to participate in leader election any longer: {failed}");
            start::end_process(EXIT_UNABLE_TO_BIND);
        }
    });
    election
}

fn on_link_event(shared: &Shared, event: LinkEvent) {
    let weight = if let LinkEvent::Packets { packets, .. } = &event { packets.len() } else { 1 };
    let input = match event {
        LinkEvent::Listening { at } => return info!("learners are accepted at {at:?}"),
        LinkEvent::NotListening { why } => PeerInput::NotListening { why },
        LinkEvent::Up { link, peer } => {
            debug!(%link, %peer, "a link between learner and leader");
            PeerInput::LinkUp { link }
        }
        LinkEvent::Packets { link, packets, room } => {
            PeerInput::Packets { link, packets, room: Room(Some(Box::new(room))) }
        }
        LinkEvent::SyncProgress { link } => PeerInput::SyncProgress { link },
        LinkEvent::Drained { link } => PeerInput::Drained { link },
        LinkEvent::Snapshot { link, tree } => PeerInput::SnapshotReceived { link, tree },
        LinkEvent::Down { link, why: _ } => PeerInput::LinkDown { link },
    };
    shared.hand_in(&mut vec![Input::Peer(input)], weight);
}

/// Learners, as whoever has a snapshot for them sees them.
pub struct LearnerLinks {
    shared: Arc<Shared>,
    links: Arc<Links>,
}

/// A tree is handed over in pieces of so many bytes, each of which has its time.
const PIECE: usize = 1 << 20;

impl LearnerLinks {
    /// Of the tree, which waits while it is written.
    fn send_tree(&self, link: LinkId) {
        let (zxid, written) = {
            let tree = self.shared.tree.read();
            (tree.last_zxid(), stream::write_tree(&tree, Vec::new()))
        };
        self.send(link, zxid, move |out| written?.chunks(PIECE).try_for_each(|piece| out.write_all(piece)));
    }

    fn send(
        &self,
        link: LinkId,
        zxid: Zxid,
        write: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()> + Send + 'static,
    ) {
        info!(%link, "sending a snapshot of 0x{zxid:x} to a learner");
        let shared = self.shared.clone();
        self.links.send(link, &Packet::Snap { zxid });
        self.links.send_snapshot(link, move |out| {
            write(out)?;
            shared.inputs.push(Input::Peer(PeerInput::SnapshotSent { link, zxid }));
            Ok(())
        });
        self.links.flush();
    }
}

impl<V: View + Send + 'static> Learners<V> for LearnerLinks {
    fn send_view(&self, link: LinkId, view: V, meta: Meta) {
        self.send(link, meta.anchor.zxid(), move |out| write_stream(&view, &meta, out).map(drop));
    }

    fn send_tree(&self, link: LinkId) {
        LearnerLinks::send_tree(self, link);
    }
}
