//! The answers of the four-letter words, from plain data to Java's lines, byte for byte.
//!
//! Scripts and agents take these lines apart with patterns, so blanks, empty lines and the absence of a last
//! newline matter. Java: the classes in `server.command`; config-and-operations 3.2.

use std::fmt::Write;

use super::java;
use crate::id::{SessionId, Zxid};
use crate::stats::Summary;

/// What most words answer while there is no server behind the port; all but one of them add a newline.
pub const NOT_SERVING: &str = "This ZooKeeper instance is not currently serving requests";

pub fn refusal(word: &str) -> String {
    format!("{word} is not executed because it is not in the whitelist.\n")
}

/// What a server is at the moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ServerState {
    Standalone,
    Leader,
    Follower,
    Observer,
    ReadOnly,
}

impl ServerState {
    pub fn name(self) -> &'static str {
        match self {
            Self::Standalone => "standalone",
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Observer => "observer",
            Self::ReadOnly => "read-only",
        }
    }

    /// The role in more words, for a member that has one. Java names stages before the broadcast too, in which no
    /// word is answered.
    pub fn peer_state(self) -> Option<&'static str> {
        match self {
            Self::Standalone | Self::ReadOnly => None,
            Self::Leader => Some("leading - broadcast"),
            Self::Follower => Some("following - broadcast"),
            Self::Observer => Some("observing - broadcast"),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Srvr<'a> {
    pub version: &'a str,
    pub latency_ms: Summary,
    pub received: u64,
    pub sent: u64,
    pub connections: usize,
    pub outstanding: usize,
    pub zxid: Zxid,
    pub state: ServerState,
    pub nodes: usize,
    /// Of a leader: last, least, greatest; -1 before the first.
    pub proposal_sizes: Option<[i32; 3]>,
}

pub fn srvr(figures: &Srvr<'_>) -> String {
    let mut text = String::new();
    write_head(&mut text, figures);
    write_figures(&mut text, figures);
    text
}

pub fn stat(figures: &Srvr<'_>, clients: &[Client]) -> String {
    let mut text = String::new();
    write_head(&mut text, figures);
    text.push_str("Clients:\n");
    for client in clients {
        client.write_brief(&mut text);
        text.push_str(")\n");
    }
    text.push('\n');
    write_figures(&mut text, figures);
    text
}

fn write_head(text: &mut String, figures: &Srvr<'_>) {
    let _ = writeln!(text, "Zookeeper version: {}", figures.version);
    if figures.state == ServerState::ReadOnly {
        text.push_str("READ-ONLY mode; serving only read-only clients\n");
    }
}

fn write_figures(text: &mut String, figures: &Srvr<'_>) {
    let Srvr { latency_ms, received, sent, connections, outstanding, zxid, state, nodes, .. } = figures;
    let Summary { min, max, .. } = latency_ms;
    let _ = write!(
        text,
        "Latency min/avg/max: {min}/{}/{max}\nReceived: {received}\nSent: {sent}\nConnections: {connections}\n\
         Outstanding: {outstanding}\nZxid: 0x{zxid:x}\nMode: {}\nNode count: {nodes}\n",
        java::mean(latency_ms.mean()),
        state.name(),
    );
    if let Some([last, min, max]) = figures.proposal_sizes {
        let _ = writeln!(text, "Proposal sizes last/min/max: {last}/{min}/{max}");
    }
}

/// A connection as `cons` and `stat` show it.
#[derive(Clone, Debug)]
pub struct Client {
    /// As Java prints an address: a slash, and nothing before it.
    pub address: String,
    /// What its socket is waited for: 1 to be read, 4 to be written; 0 for the connection that asks.
    pub interest: u8,
    pub queued: usize,
    pub received: u64,
    pub sent: u64,
    pub session: Option<ClientSession>,
}

#[derive(Clone, Copy, Debug)]
pub struct ClientSession {
    pub id: SessionId,
    pub last_op: &'static str,
    pub established_ms: i64,
    pub timeout_ms: i32,
    pub last_cxid: Option<i32>,
    pub last_zxid: Zxid,
    pub last_response_ms: i64,
    pub last_latency_ms: i64,
    pub latency_ms: Summary,
}

impl Client {
    fn write_brief(&self, text: &mut String) {
        let Self { address, interest, queued, received, sent, .. } = self;
        let _ = write!(text, " {address}[{interest:x}](queued={queued},recved={received},sent={sent}");
    }
}

pub fn cons(clients: &[Client]) -> String {
    let mut text = String::new();
    for client in clients {
        client.write_brief(&mut text);
        if let Some(session) = &client.session {
            let ClientSession { id, last_op, established_ms, timeout_ms, .. } = session;
            let _ = write!(text, ",sid=0x{id:x},lop={last_op},est={established_ms},to={timeout_ms}");
            if let Some(cxid) = session.last_cxid {
                let _ = write!(text, ",lcxid=0x{cxid:x}");
            }
            let Summary { count, sum, min, max } = session.latency_ms;
            let _ = write!(
                text,
                ",lzxid=0x{:x},lresp={},llat={},minlat={min},avglat={},maxlat={max}",
                session.last_zxid,
                session.last_response_ms,
                session.last_latency_ms,
                sum / count.max(1) as i64,
            );
        }
        text.push_str(")\n");
    }
    text.push('\n');
    text
}

/// The name that `lop` has for an operation (Java: `FinalRequestProcessor`).
pub fn last_op_name(op: i32) -> &'static str {
    use crate::proto::op;
    match op {
        op::CREATE_SESSION => "SESS",
        op::CLOSE_SESSION => "CLOS",
        op::PING => "PING",
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => "CREA",
        op::DELETE | op::DELETE_CONTAINER => "DELE",
        op::SET_DATA => "SETD",
        op::SET_ACL => "SETA",
        op::RECONFIG => "RECO",
        op::MULTI => "MULT",
        op::MULTI_READ => "MLTR",
        op::CHECK => "CHEC",
        op::SYNC => "SYNC",
        op::EXISTS => "EXIS",
        op::GET_DATA => "GETD",
        op::GET_CHILDREN | op::GET_CHILDREN2 => "GETC",
        op::GET_ACL => "GETA",
        op::GET_ALL_CHILDREN_NUMBER => "GETACN",
        op::GET_EPHEMERALS => "GETE",
        op::SET_WATCHES => "SETW",
        op::SET_WATCHES2 => "STW2",
        op::ADD_WATCH => "ADDW",
        op::CHECK_WATCHES => "CHKW",
        op::REMOVE_WATCHES => "REMW",
        op::WHO_AM_I => "HOMI",
        _ => "NA",
    }
}

/// What expires together, and when, as text.
#[derive(Clone, Debug)]
pub struct Bucket<T> {
    pub expires: String,
    pub members: Vec<T>,
}

/// The sessions that a server knows.
#[derive(Clone, Debug)]
pub enum KnownSessions {
    /// Who decides about expiry knows when each expires.
    Tracked(Vec<Bucket<SessionId>>),
    /// A learner knows their timeouts.
    Global(Vec<(SessionId, i32)>),
}

#[derive(Clone, Debug)]
pub struct Dump {
    /// Of this server alone, if there may be such.
    pub local: Option<Vec<Bucket<SessionId>>>,
    pub sessions: KnownSessions,
    pub ephemerals: Vec<(SessionId, Vec<String>)>,
    /// Addresses and sessions; `None` with Netty, which has no such list.
    pub connections: Option<Vec<Bucket<(String, SessionId)>>>,
}

pub fn dump(dump: &Dump) -> String {
    let mut text = "SessionTracker dump:\n".to_owned();
    let write_session = |text: &mut String, session: &SessionId| {
        let _ = writeln!(text, "\t0x{session:x}");
    };
    if let Some(buckets) = &dump.local {
        write_buckets(&mut text, "Local Session Sets", buckets, write_session);
    }
    match &dump.sessions {
        KnownSessions::Tracked(buckets) => {
            let title = if dump.local.is_some() { "Global Session Sets" } else { "Session Sets" };
            write_buckets(&mut text, title, buckets, write_session);
        }
        KnownSessions::Global(sessions) => {
            let _ = writeln!(text, "Global Sessions({}):", sessions.len());
            for (session, timeout_ms) in sessions {
                let _ = writeln!(text, "0x{session:x}\t{timeout_ms}ms");
            }
        }
    }
    let _ = write!(text, "ephemeral nodes dump:\nSessions with Ephemerals ({}):\n", dump.ephemerals.len());
    for (session, paths) in &dump.ephemerals {
        let _ = writeln!(text, "0x{session:x}:");
        write_paths(&mut text, paths);
    }
    text.push_str("Connections dump:\n");
    if let Some(buckets) = &dump.connections {
        write_buckets(&mut text, "Connections Sets", buckets, |text, (address, session)| {
            let _ = writeln!(text, "\tip: {address} sessionId: 0x{session:x}");
        });
    }
    text
}

fn write_buckets<T>(text: &mut String, title: &str, buckets: &[Bucket<T>], write: impl Fn(&mut String, &T)) {
    let members: usize = buckets.iter().map(|bucket| bucket.members.len()).sum();
    let _ = writeln!(text, "{title} ({})/({members}):", buckets.len());
    for Bucket { expires, members } in buckets {
        let _ = writeln!(text, "{} expire at {expires}:", members.len());
        members.iter().for_each(|member| write(text, member));
    }
}

fn write_paths(text: &mut String, paths: &[impl AsRef<str>]) {
    for path in paths {
        let _ = writeln!(text, "\t{}", path.as_ref());
    }
}

pub fn wchs(connections: usize, paths: usize, watches: usize) -> String {
    format!("{connections} connections watching {paths} paths\nTotal watches:{watches}\n")
}

/// Watches by session.
pub fn wchc(by_session: &[(SessionId, Vec<impl AsRef<str>>)]) -> String {
    let mut text = String::new();
    for (session, paths) in by_session {
        let _ = writeln!(text, "0x{session:x}");
        write_paths(&mut text, paths);
    }
    text.push('\n');
    text
}

/// Watches by path.
pub fn wchp(by_path: &[(impl AsRef<str>, Vec<SessionId>)]) -> String {
    let mut text = String::new();
    for (path, sessions) in by_path {
        let _ = writeln!(text, "{}", path.as_ref());
        for session in sessions {
            let _ = writeln!(text, "\t0x{session:x}");
        }
    }
    text.push('\n');
    text
}

pub fn dirs(data_bytes: u64, log_bytes: u64) -> String {
    format!("datadir_size: {data_bytes}\nlogdir_size: {log_bytes}\n")
}

/// Digests of the tree, oldest first; Java's are signed.
pub fn hash(digests: &[(Zxid, u64)]) -> String {
    let mut text = String::new();
    for (zxid, digest) in digests {
        let _ = writeln!(text, "{zxid:x}: {}", *digest as i64);
    }
    text
}

pub fn envi(environment: &[(&str, String)]) -> String {
    let mut text = "Environment:\n".to_owned();
    for (key, value) in environment {
        let _ = writeln!(text, "{key}={value}");
    }
    text
}
