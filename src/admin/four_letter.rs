//! The four-letter words: which there are, who may ask, and where the numbers come from.
//!
//! A connection whose first four bytes are a word gets one answer and is closed. The lines themselves are
//! made in [`super::text`] and [`super::metrics`], from plain data that is gathered here, each lock for as
//! long as it takes to copy what is under it.
//!
//! Java: `FourLetterCommands`, `CommandExecutor`; config-and-operations 3.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use tracing::info;

use super::metrics::{self, Figures, Gauges, LeadingFigures, Totals};
use super::text::{self, Bucket, Client, ClientSession, Dump, KnownSessions, ServerState, Srvr};
use super::{environment, java::LocalTime};
use crate::clock;
use crate::config::{self, ConnectionFactory, FourLetterWords, version_dir};
use crate::id::{ConnId, SessionId, Zxid};
use crate::net::conn::{Conn, ConnStats};
use crate::node::Duty;
use crate::node::stats::{NodeStats, RoleKind};
use crate::server::Shared;
use crate::session::{Mono, SessionTable};
use crate::tree::quota::{self, Track};

/// One of the words.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    Conf,
    Cons,
    Crst,
    Dirs,
    Dump,
    Envi,
    Gtmk,
    Hash,
    Isro,
    Mntr,
    Ruok,
    Srst,
    Srvr,
    Stat,
    Stmk,
    Wchc,
    Wchp,
    Wchs,
    /// What telnet sends when its user interrupts it.
    TelnetClose,
}

impl Word {
    pub fn parse(bytes: &[u8; 4]) -> Option<Self> {
        Some(match bytes {
            b"conf" => Self::Conf,
            b"cons" => Self::Cons,
            b"crst" => Self::Crst,
            b"dirs" => Self::Dirs,
            b"dump" => Self::Dump,
            b"envi" => Self::Envi,
            b"gtmk" => Self::Gtmk,
            b"hash" => Self::Hash,
            b"isro" => Self::Isro,
            b"mntr" => Self::Mntr,
            b"ruok" => Self::Ruok,
            b"srst" => Self::Srst,
            b"srvr" => Self::Srvr,
            b"stat" => Self::Stat,
            b"stmk" => Self::Stmk,
            b"wchc" => Self::Wchc,
            b"wchp" => Self::Wchp,
            b"wchs" => Self::Wchs,
            b"\xff\xf4\xff\xfd" => Self::TelnetClose,
            _ => return None,
        })
    }

    /// Its name in the whitelist.
    pub fn name(self) -> &'static str {
        match self {
            Self::Conf => "conf",
            Self::Cons => "cons",
            Self::Crst => "crst",
            Self::Dirs => "dirs",
            Self::Dump => "dump",
            Self::Envi => "envi",
            Self::Gtmk => "gtmk",
            Self::Hash => "hash",
            Self::Isro => "isro",
            Self::Mntr => "mntr",
            Self::Ruok => "ruok",
            Self::Srst => "srst",
            Self::Srvr => "srvr",
            Self::Stat => "stat",
            Self::Stmk => "stmk",
            Self::Wchc => "wchc",
            Self::Wchp => "wchp",
            Self::Wchs => "wchs",
            Self::TelnetClose => "telnet close",
        }
    }

    /// The answer while there is no server behind the port; `None` for words that do without one.
    pub(super) fn without_server(self) -> Option<String> {
        match self {
            Self::Ruok | Self::Envi | Self::Gtmk | Self::Stmk | Self::TelnetClose => None,
            Self::Isro => Some("null".to_owned()),
            Self::Hash => Some(text::NOT_SERVING.to_owned()),
            _ => Some(format!("{}\n", text::NOT_SERVING)),
        }
    }
}

/// How many bytes follow the word that begins a connection; `None` if its first four bytes are none. A word
/// that is refused anyway is not waited for.
pub fn argument_bytes(allowed: &FourLetterWords, bytes: &[u8; 4]) -> Option<usize> {
    let word = Word::parse(bytes)?;
    Some(if word == Word::Stmk && allowed.allows(word.name()) { 8 } else { 0 })
}

/// The answer to the word that `asking` sent. Takes locks, so the caller holds none.
pub fn answer(shared: &Shared, asking: &Conn, word: &[u8; 4], argument: &[u8]) -> String {
    let Some(word) = Word::parse(word) else { return String::new() };
    asking.state.lock().stats.received += 1;
    shared.counters.received.fetch_add(1, Ordering::Relaxed);
    let answer = if shared.config.node.four_letter_words.allows(word.name()) {
        info!("Processing {} command from {}", word.name(), asking.peer_text());
        execute(shared, asking, word, argument)
    } else {
        text::refusal(word.name())
    };
    shared.counters.sent.fetch_add(1, Ordering::Relaxed);
    answer
}

fn execute(shared: &Shared, asking: &Conn, word: Word, argument: &[u8]) -> String {
    if !is_serving(shared)
        && let Some(answer) = word.without_server()
    {
        return answer;
    }
    let not_serving = || word.without_server().unwrap_or_default();
    match word {
        Word::Conf => conf(shared),
        Word::Cons => text::cons(&clients(shared, asking.id)),
        Word::Crst => {
            for conn in shared.registry.all() {
                conn.state.lock().stats = ConnStats { last_zxid: Zxid(-1), ..ConnStats::default() };
            }
            "Connection stats reset.\n".to_owned()
        }
        Word::Dirs => {
            let (data, log) = directory_sizes(shared);
            text::dirs(data, log)
        }
        Word::Dump => dump(shared).map_or_else(not_serving, |dump| text::dump(&dump)),
        Word::Envi => text::envi(&environment::environment()),
        Word::Gtmk => shared.admin.trace_mask.load(Ordering::Relaxed).to_string(),
        Word::Stmk => {
            // Kept and shown; what is traced here is not chosen by it.
            let mask = argument.try_into().map_or(0, i64::from_be_bytes);
            shared.admin.trace_mask.store(mask, Ordering::Relaxed);
            mask.to_string()
        }
        Word::Hash => {
            let digests = shared.admin.questions.ask(shared, |node| node.digests().log().collect::<Vec<_>>());
            digests.map_or_else(not_serving, |digests| text::hash(&digests))
        }
        Word::Isro => if shared.is_read_only() { "ro" } else { "rw" }.to_owned(),
        Word::Mntr => mntr(shared),
        Word::Ruok => "imok".to_owned(),
        Word::Srst => {
            super::reset(shared);
            "Server stats reset.\n".to_owned()
        }
        Word::Srvr => text::srvr(&srvr(shared, &environment::version())),
        Word::Stat => text::stat(&srvr(shared, &environment::version()), &clients(shared, asking.id)),
        Word::Wchc => wchc(shared),
        Word::Wchp => wchp(shared),
        Word::Wchs => {
            let (connections, paths, watches) = shared.watches.lock().data_summary();
            text::wchs(connections, paths, watches)
        }
        Word::TelnetClose => String::new(),
    }
}

fn is_serving(shared: &Shared) -> bool {
    shared.is_serving() && !shared.is_stopping()
}

fn state(stats: &NodeStats) -> ServerState {
    match stats.role.map(|role| role.kind) {
        None => ServerState::Standalone,
        Some(RoleKind::Leading) => ServerState::Leader,
        Some(RoleKind::Following) => ServerState::Follower,
        Some(RoleKind::Observing) => ServerState::Observer,
        Some(RoleKind::Looking) => ServerState::ReadOnly,
    }
}

fn srvr<'a>(shared: &Shared, version: &'a str) -> Srvr<'a> {
    let (zxid, nodes) = {
        let tree = shared.tree.read();
        (tree.last_zxid(), tree.node_count() + 1)
    };
    let totals = totals(shared);
    let stats = *shared.node_stats.lock();
    let latency_ms = shared.counters.measures.lock().latency();
    Srvr {
        version,
        latency_ms,
        received: totals.received,
        sent: totals.sent,
        connections: shared.registry.len(),
        outstanding: shared.counters.outstanding.load(Ordering::Relaxed),
        zxid,
        state: state(&stats),
        nodes,
        proposal_sizes: stats.role.and_then(|role| role.leading).map(|leading| leading.proposal_sizes),
    }
}

/// What was counted since the last reset.
fn totals(shared: &Shared) -> Totals {
    super::totals(shared).since(&shared.admin.totals_at_reset.lock())
}

fn clients(shared: &Shared, asking: ConnId) -> Vec<Client> {
    shared.registry.all().iter().map(|conn| client(conn, asking)).collect()
}

fn client(conn: &Conn, asking: ConnId) -> Client {
    const READ: u8 = 1;
    const WRITE: u8 = 4;
    let state = conn.state.lock();
    let stats = &state.stats;
    let interest = match (conn.id == asking, state.out.is_empty()) {
        (true, _) => 0,
        (false, true) => READ,
        (false, false) => READ | WRITE,
    };
    let session = Some(conn.session()).filter(|session| *session != SessionId::NONE).map(|id| ClientSession {
        id,
        last_op: stats.last_op.map_or("NA", text::last_op_name),
        established_ms: conn.established_ms,
        timeout_ms: conn.timeout_ms.load(Ordering::Relaxed),
        last_cxid: stats.last_cxid,
        last_zxid: stats.last_zxid,
        last_response_ms: stats.last_response_ms,
        last_latency_ms: stats.last_latency_ms,
        latency_ms: stats.latency_ms,
    });
    Client {
        address: conn.peer_text(),
        interest,
        queued: state.gate.len(),
        received: stats.received,
        sent: stats.sent,
        session,
    }
}

fn conf(shared: &Shared) -> String {
    let (data_dir_bytes, data_log_dir_bytes) = directory_sizes(shared);
    let working_dir = std::env::current_dir().unwrap_or_default();
    let figures = config::Figures {
        client_port: shared.client_port.map_or(-1, Into::into),
        working_dir: &working_dir,
        data_dir_bytes,
        data_log_dir_bytes,
    };
    // Not held while the Node is asked, which may be waiting for it.
    let role = shared.node_stats.lock().role;
    match role {
        None => shared.config.conf_standalone(figures),
        Some(_) if shared.is_read_only() => shared.config.conf_read_only(figures),
        Some(_) => {
            // The ensemble may have a newer version of it than the configuration.
            let members = shared.admin.questions.ask(shared, |node| node.membership().cloned()).flatten();
            let members = members.as_deref().unwrap_or(&shared.config.ensemble.membership);
            shared.config.conf_member(figures, members)
        }
    }
}

fn directory_sizes(shared: &Shared) -> (u64, u64) {
    let node = &shared.config.node;
    let size = |dir: &Path| environment::directory_bytes(&version_dir(dir));
    (size(&node.data_dir), size(&node.data_log_dir))
}

fn dump(shared: &Shared) -> Option<Dump> {
    let (orders, buckets, local) = shared.admin.questions.ask(shared, |node| {
        let buckets = |table: &SessionTable| -> Vec<(Mono, Vec<SessionId>)> {
            table.buckets().map(|(deadline, sessions)| (deadline, sessions.iter().copied().collect())).collect()
        };
        (node.duty() == Duty::Order, buckets(node.sessions()), node.local_sessions().map(buckets))
    })?;
    let local = local.map(|buckets| at_wall_time(shared, buckets));
    let sessions = if orders {
        KnownSessions::Tracked(at_wall_time(shared, buckets))
    } else {
        // Only a leader knows when they end.
        KnownSessions::Global(shared.tree.read().sessions().iter().map(|(id, timeout)| (*id, *timeout)).collect())
    };
    let ephemerals = {
        let tree = shared.tree.read();
        let owners = tree.ephemeral_owners().into_iter();
        owners.map(|owner| (owner, tree.ephemerals(owner).collect())).collect()
    };
    let connections = match shared.config.node.connection_factory {
        ConnectionFactory::Nio => Some(at_wall_time(shared, connection_buckets(shared))),
        ConnectionFactory::Netty => None,
    };
    Some(Dump { local, sessions, ephemerals, connections })
}

/// Connections by the moment at which they are given up if nothing is heard of them.
fn connection_buckets(shared: &Shared) -> Vec<(Mono, Vec<(String, SessionId)>)> {
    let fresh_ms = shared.config.node.sessionless_cnxn_timeout_ms as Mono;
    let mut buckets: BTreeMap<Mono, Vec<(String, SessionId)>> = BTreeMap::new();
    for conn in shared.registry.all() {
        buckets.entry(conn.given_up_at(fresh_ms)).or_default().push((conn.peer_text(), conn.session()));
    }
    buckets.into_iter().collect()
}

fn at_wall_time<T>(shared: &Shared, buckets: Vec<(Mono, Vec<T>)>) -> Vec<Bucket<T>> {
    let (wall_ms, mono) = (clock::wall_ms(), shared.clock.mono());
    let at = |deadline: Mono| -> LocalTime { clock::local_time(wall_ms + deadline - mono) };
    let buckets = buckets.into_iter();
    buckets.map(|(deadline, members)| Bucket { expires: at(deadline).to_string(), members }).collect()
}

fn wchc(shared: &Shared) -> String {
    let watches: Vec<(ConnId, Vec<jute::Text>)> = {
        let table = shared.watches.lock();
        table.data_by_conn().map(|(conn, paths)| (conn, paths.cloned().collect())).collect()
    };
    let session = sessions_by_conn(shared);
    let by_session: Vec<_> = watches.into_iter().map(|(conn, paths)| (session(conn), paths)).collect();
    text::wchc(&by_session)
}

fn wchp(shared: &Shared) -> String {
    let watches: Vec<(jute::Text, Vec<ConnId>)> = {
        let table = shared.watches.lock();
        table.data_by_path().map(|(path, conns)| (path.clone(), conns.collect())).collect()
    };
    let session = sessions_by_conn(shared);
    let by_path: Vec<_> =
        watches.into_iter().map(|(path, conns)| (path, conns.into_iter().map(&session).collect())).collect();
    text::wchp(&by_path)
}

fn sessions_by_conn(shared: &Shared) -> impl Fn(ConnId) -> SessionId {
    let sessions: BTreeMap<ConnId, SessionId> =
        shared.registry.lock().values().map(|conn| (conn.id, conn.session())).collect();
    move |conn| sessions.get(&conn).copied().unwrap_or(SessionId::NONE)
}

fn mntr(shared: &Shared) -> String {
    let version = environment::version();
    let stats = *shared.node_stats.lock();
    // Not held while the files of the process are counted: a round waits for it.
    let watches = shared.watches.lock().count();
    let mut gauges = Gauges {
        watches,
        sessions: stats.sessions,
        local_sessions: stats.local_sessions,
        connections: shared.registry.len(),
        outstanding: shared.counters.outstanding.load(Ordering::Relaxed),
        drop_probability: shared.connection_tokens.as_ref().map_or(0.0, |tokens| tokens.lock().drop_probability()),
        uptime_ms: shared.clock.mono() - stats.role.map_or(0, |role| role.since),
        open_files: environment::open_files().unwrap_or(-1),
        max_files: environment::max_files().unwrap_or(-1),
        quorum_size: stats
            .role
            .filter(|role| role.kind != RoleKind::Looking)
            .map(|_| shared.config.ensemble.membership.participants().count()),
        member: stats.role.map(|role| role.counts).unwrap_or_default(),
        observed: stats.role.filter(|role| role.kind == RoleKind::Observing).and_then(|role| role.leader),
        leading: stats.role.and_then(|role| role.leading.map(|leading| (role, leading))).map(|(role, leading)| {
            LeadingFigures {
                learners: leading.learners,
                synced_followers: leading.synced_followers,
                synced_non_voting_followers: leading.synced_non_voting_followers,
                synced_observers: leading.synced_observers,
                pending_syncs: leading.pending_syncs,
                uptime_ms: shared.clock.mono() - role.since,
                proposal_sizes: leading.proposal_sizes,
            }
        }),
        ..Gauges::default()
    };
    let mut quotas = BTreeMap::new();
    {
        let tree = shared.tree.read();
        if stats.role.is_some() {
            // Only a leader tracks them, but every server knows of them.
            gauges.sessions = tree.sessions().len();
        }
        gauges.nodes = tree.node_count() + 1;
        gauges.data_bytes = tree.data_size();
        gauges.ephemerals = tree.ephemeral_count();
        let track = |path: &str| Track::parse(tree.find(path)?.data()?);
        for subject in tree.quotas().iter() {
            let (limits, used) = (track(&quota::limits_path(subject)), track(&quota::stats_path(subject)));
            metrics::add_quota(&mut quotas, subject, limits, used);
        }
    }
    let measures = shared.counters.measures.lock().clone();
    metrics::mntr(&Figures {
        version: &version,
        state: state(&stats),
        gauges,
        totals: totals(shared),
        measures: &measures,
        quotas,
    })
}
