//! The links between a leader and its learners: who is dialled, who is accepted, packets in and out, and the
//! snapshot that goes between them. Both ends are the same here; which packets make sense is for others to say.
//!
//! What always holds: the events of a link come in their order, `Up` first and nothing after `Down`; what is
//! sent goes out in the order of the calls, a snapshot included, or the link ends. Sending never waits. A peer
//! that does not read loses its link once too much is queued for it; one that sends faster than it is
//! listened to is not read meanwhile.
//!
//! Java: `Leader.LearnerCnxAcceptor`, `LearnerHandler`, `Learner.LeaderConnector`; quorum-protocol 5.2.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use foldhash::fast::RandomState;
use jute::DecodeError;
use parking_lot::{Mutex, RwLock};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, error, info, warn};

use super::listen::bind_peer_port;
use super::names::{Names, first_of};
use super::socket::write_all;
use crate::config::Endpoint;
use crate::id::{LinkId, Zxid};
use crate::priority::yield_to_requests;
use crate::tree::snapshot::SnapshotError;
use crate::tree::stream::SnapshotParser;
use crate::tree::{Tree, TreeRules};
use crate::zab::packet::{Packet, PacketReader, Side};

/// What links are told of the configuration.
#[derive(Clone, Debug)]
pub struct LinkRules {
    pub names: Names,
    pub leader_nodelay: bool,
    pub follower_nodelay: bool,
    pub keep_alive: bool,
    /// The longest buffer or string of a packet or snapshot: `jute.maxbuffer` and its extra.
    pub max_buffer_bytes: usize,
    /// How long the next bytes of a snapshot may take: `initLimit` ticks.
    pub snapshot_patience: Duration,
    /// Between two attempts at an address: `leaderConnectDelayDuringRetryMs`.
    pub retry_delay: Duration,
    /// What may be queued for a peer. While a snapshot streams, everything new waits behind it.
    pub max_queued_bytes: usize,
    /// What a peer may have sent that nobody has dealt with; beyond, it is not read.
    pub max_unhandled_bytes: usize,
    /// For the trees that leaders send.
    pub tree: TreeRules,
}

impl LinkRules {
    pub const USUAL_QUEUED: usize = 256 << 20;
    pub const USUAL_UNHANDLED: usize = 16 << 20;
}

/// What happens on links.
#[derive(Debug)]
pub enum LinkEvent {
    /// The leader's port is open.
    Listening { at: Vec<SocketAddr> },
    /// It could not be opened, on no address: there is no leading.
    NotListening { why: String },
    /// A peer was accepted, or a dial succeeded.
    Up { link: LinkId, peer: SocketAddr },
    /// All that one read brought.
    Packets { link: LinkId, packets: Vec<Packet>, room: Room },
    /// A learner has got something, but not all, of what follows a [`Packet::Snap`], which has come before; or a peer has
    /// taken some of what was queued for it.
    SyncProgress { link: LinkId },
    /// What was queued before [`Links::await_drained`] went out.
    Drained { link: LinkId },
    /// All of it.
    Snapshot { link: LinkId, tree: Box<Tree> },
    /// The link ended, or a dial failed; not because it was closed here.
    Down { link: LinkId, why: LinkEnd },
}

/// Takes events. Called by the tasks of links: it must not wait.
pub type Sink = Box<dyn Fn(LinkEvent) + Send + Sync>;

/// Why a link ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkEnd {
    #[error("the peer closed it")]
    Gone,
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("what came is no packet: {0}")]
    NoPacket(#[from] DecodeError),
    #[error("what came is no snapshot: {0}")]
    NoSnapshot(#[from] SnapshotError),
    #[error("the snapshot stood still for {} ms", .0.as_millis())]
    SnapshotStalled(Duration),
    #[error("the snapshot could not be read to its end")]
    SnapshotFailed,
    #[error("the peer has not said who it is, and others want its place")]
    Silent,
    #[error("the peer does not read: {0} bytes are queued for it")]
    TooSlow(usize),
    #[error("it could not be reached: {0}")]
    Unreachable(String),
}

/// The bytes of a batch, which make room for more when this is dropped: when the batch was dealt with.
pub struct Room {
    link: Arc<Link>,
    bytes: usize,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.link.unhandled.fetch_sub(self.bytes, Ordering::Relaxed);
        self.link.room.notify_one();
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Room").field(&self.bytes).finish()
    }
}

/// One link, shared by its task and those who send.
struct Link {
    id: LinkId,
    out: Mutex<Out>,
    /// There is something to send.
    wake: Notify,
    /// `out.ending` was set.
    ended: Notify,
    /// Bytes of packets that nobody has dealt with, and that there are fewer.
    unhandled: AtomicUsize,
    room: Notify,
    /// A whole packet has come.
    has_spoken: AtomicBool,
}

#[derive(Default)]
struct Out {
    /// While the link is up.
    socket: Option<Arc<OwnedWriteHalf>>,
    /// The task is at it, and what was queued later waits.
    sending: bool,
    queue: VecDeque<Piece>,
    /// In `queue` and on their way, snapshots apart.
    bytes: usize,
    /// Among those that the next flush wakes.
    woken: bool,
    ending: Option<Ending>,
    /// An empty buffer for the next packets.
    spare: BytesMut,
}

enum Piece {
    Packets(BytesMut),
    Snapshot(mpsc::Receiver<Chunk>),
    /// [`LinkEvent::Drained`] is to be told.
    Mark,
}

/// A part of a snapshot. Whoever writes it ends it, or it has failed.
enum Chunk {
    Bytes(Bytes),
    End,
}

#[derive(Clone, Copy)]
enum Ending {
    /// By us: nobody is told.
    Closed,
    TooSlow(usize),
    Silent,
}

/// A buffer that grew beyond this is not kept.
const SPARE: usize = 256 << 10;
/// Chunks of a snapshot between who reads it and who sends it.
const CHUNKS: usize = 8;

impl Link {
    fn new(id: LinkId) -> Arc<Self> {
        Arc::new(Self {
            id,
            out: Mutex::default(),
            wake: Notify::new(),
            ended: Notify::new(),
            unhandled: AtomicUsize::new(0),
            room: Notify::new(),
            has_spoken: AtomicBool::new(false),
        })
    }

    fn end(&self, out: &mut Out, ending: Ending) {
        out.ending.get_or_insert(ending);
        // Who writes a snapshot notices that nobody takes it.
        out.queue.clear();
        self.ended.notify_one();
    }

    /// Whether all that is queued went out. Who sends has it done before the link's task has woken up.
    fn send_at_once(&self) -> bool {
        let out = &mut *self.out.lock();
        let (Some(socket), false) = (&out.socket, out.sending) else { return false };
        out.woken = false;
        while let Some(Piece::Packets(buffer)) = out.queue.front_mut() {
            match socket.try_write(buffer) {
                // Why it does not go is for the task to find out.
                Err(_) => return false,
                Ok(sent) if sent < buffer.len() => {
                    out.bytes -= sent;
                    buffer.advance(sent);
                }
                Ok(sent) => {
                    out.bytes -= sent;
                    out.spare = kept(std::mem::take(buffer));
                    out.queue.pop_front();
                }
            }
        }
        out.queue.is_empty()
    }

    async fn ending(&self) -> Ending {
        loop {
            if let Some(ending) = self.out.lock().ending {
                return ending;
            }
            self.ended.notified().await;
        }
    }
}

/// All links of this server.
pub struct Links {
    rules: LinkRules,
    sink: Sink,
    runtime: Handle,
    links: RwLock<hashbrown::HashMap<LinkId, Arc<Link>, RandomState>>,
    /// Links that were sent something since the last flush.
    woken: Mutex<Vec<Arc<Link>>>,
    accepted: AtomicU64,
    listener: Mutex<Option<JoinHandle<()>>>,
}

/// The ids of accepted links begin here; those below are for whoever dials.
const ACCEPTED: u64 = 1 << 63;
/// Peers that are connected at most; more are refused.
const MAX_ACCEPTED: usize = 1024;
/// And of them those that have not said who they are, so that they leave files to the log.
const MAX_SILENT: usize = 64;
/// What a peer may send before it has said who it is.
const FIRST_PACKET: usize = 64 << 10;
/// Attempts at each address, as many as Java's,
const TRIES: u32 = 5;
/// and some at first that follow each other sooner: who is elected may open its port a moment after its voters come.
const SOONER: u32 = 4;
/// How often it is told that a peer takes what is written.
const PROGRESS_EVERY: Duration = Duration::from_millis(100);
/// More than this at once is written in pieces.
const PIECE: usize = 1 << 20;

impl Links {
    pub fn new(rules: LinkRules, runtime: Handle, sink: Sink) -> Arc<Self> {
        Arc::new(Self {
            rules,
            sink,
            runtime,
            links: RwLock::default(),
            woken: Mutex::default(),
            accepted: AtomicU64::new(0),
            listener: Mutex::default(),
        })
    }

    // ---- sending ----

    /// Queues a packet; it goes out after the next [`Links::flush`], if not before. Nothing happens if the link
    /// has ended.
    pub fn send(&self, link: LinkId, packet: &Packet) {
        self.queue(link, |out| {
            let buffer = match out.queue.back_mut() {
                Some(Piece::Packets(buffer)) => buffer,
                _ => {
                    out.queue.push_back(Piece::Packets(std::mem::take(&mut out.spare)));
                    let Some(Piece::Packets(buffer)) = out.queue.back_mut() else { unreachable!("just pushed") };
                    buffer
                }
            };
            let before = buffer.len();
            packet.write(buffer);
            out.bytes += buffer.len() - before;
        });
    }

    /// Queues a stream of any length: what `write` writes, on a thread of its own. It belongs behind a
    /// [`Packet::Snap`]; what is sent later goes out behind it. If `write` fails, the link ends.
    pub fn send_snapshot(&self, link: LinkId, write: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send + 'static) {
        let (chunks, pieces) = mpsc::channel(CHUNKS);
        // Before anybody hears from the thread: what is sent then belongs behind it.
        self.queue(link, |out| out.queue.push_back(Piece::Snapshot(pieces)));
        let work = move || {
            let mut pipe = Pipe { chunks };
            match write(&mut pipe) {
                // That nobody takes it is no failure: the link has ended.
                Ok(()) => drop(pipe.chunks.blocking_send(Chunk::End)),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) => error!("a snapshot for a learner could not be written: {error}"),
            }
        };
        if let Err(error) = thread::Builder::new().name("zooid-snap".to_owned()).spawn(work) {
            // The end of `chunks` that is gone says it.
            error!("no thread to write a snapshot: {error}");
        }
    }

    /// Whether the link has not ended.
    pub fn contains(&self, link: LinkId) -> bool {
        self.links.read().contains_key(&link)
    }

    /// [`LinkEvent::Drained`] tells when all that was sent before this went out, unless the link ends before.
    pub fn await_drained(&self, link: LinkId) {
        self.queue(link, |out| out.queue.push_back(Piece::Mark));
    }

    fn queue(&self, link: LinkId, add: impl FnOnce(&mut Out)) {
        let links = self.links.read();
        let Some(link) = links.get(&link) else { return };
        let mut out = link.out.lock();
        if out.ending.is_some() {
            return;
        }
        add(&mut out);
        if out.bytes > self.rules.max_queued_bytes {
            let bytes = out.bytes;
            return link.end(&mut out, Ending::TooSlow(bytes));
        }
        if !std::mem::replace(&mut out.woken, true) {
            self.woken.lock().push(link.clone());
        }
    }

    /// Sends what was queued, as far as the sockets take it; their tasks send the rest.
    pub fn flush(&self) {
        let woken = std::mem::take(&mut *self.woken.lock());
        for link in woken {
            if !link.send_at_once() {
                link.wake.notify_one();
            }
        }
    }

    /// Ends a link, or a dial. What is queued is not sent, and no `Down` follows; what was read already may
    /// still come.
    pub fn close(&self, link: LinkId) {
        if let Some(link) = self.links.read().get(&link) {
            link.end(&mut link.out.lock(), Ending::Closed);
        }
    }

    /// As [`Links::close`] for each there is.
    pub fn close_all(&self) {
        for link in self.links.read().values() {
            link.end(&mut link.out.lock(), Ending::Closed);
        }
    }

    // ---- connecting ----

    /// Opens the leader's port on those of the addresses that can be had, each of which `Listening` tells, or
    /// `NotListening` if there is none.
    pub fn listen(self: &Arc<Self>, addresses: Vec<Endpoint>) {
        let mut listener = self.listener.lock();
        let (links, before) = (self.clone(), listener.take());
        *listener = Some(self.runtime.spawn(async move {
            if let Some(before) = before {
                // Its sockets are closed when it has ended.
                before.abort();
                let _ = before.await;
            }
            links.accept(addresses).await;
        }));
    }

    /// Closes the leader's port. Links stay.
    pub fn stop_listening(&self) {
        if let Some(listener) = &*self.listener.lock() {
            listener.abort();
        }
    }

    async fn accept(self: Arc<Self>, addresses: Vec<Endpoint>) {
        let mut listeners = Vec::new();
        let mut failures = Vec::new();
        for address in &addresses {
            match bind_peer_port(address, &self.rules.names).await {
                Ok(listener) => listeners.push(listener),
                Err(error) => {
                    error!("Couldn't bind to {address}: {error}");
                    failures.push(format!("{address}: {error}"));
                }
            }
        }
        if listeners.is_empty() {
            return (self.sink)(LinkEvent::NotListening { why: failures.join(", ") });
        }
        let at = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        (self.sink)(LinkEvent::Listening { at });
        // They end with the set, and the set with this task.
        let mut accepting: JoinSet<()> =
            listeners.into_iter().map(|listener| self.clone().accept_from(listener)).collect();
        while accepting.join_next().await.is_some() {}
    }

    async fn accept_from(self: Arc<Self>, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                Err(error) => {
                    // Out of descriptors, or the peer gave up before it was accepted: neither is for ever.
                    error!("Exception while accepting follower: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if !self.make_room() {
            return warn!(%peer, "a learner is refused: {MAX_ACCEPTED} are connected");
        }
        if let Err(error) = self.set_up(&stream, self.rules.leader_nodelay) {
            return debug!(%peer, "the connection was gone before it was accepted: {error}");
        }
        let link = Link::new(LinkId(ACCEPTED | self.accepted.fetch_add(1, Ordering::Relaxed)));
        self.links.write().insert(link.id, link.clone());
        let links = self.clone();
        self.runtime.spawn(async move { links.serve(link, stream, peer, Side::Leader).await });
    }

    /// Whether there is room for one more, if need be in place of the one that has been silent for the longest among those
    /// that never said who they are.
    fn make_room(&self) -> bool {
        let links = self.links.read();
        let is_stranger = |link: &&Arc<Link>| {
            let is_up = || link.out.lock().ending.is_none();
            link.id.0 >= ACCEPTED && !link.has_spoken.load(Ordering::Relaxed) && is_up()
        };
        let strangers = links.values().filter(is_stranger);
        let (count, oldest) = strangers.fold((0, None), |(count, oldest): (usize, Option<&Arc<Link>>), link| {
            (count + 1, Some(oldest.filter(|oldest| oldest.id < link.id).unwrap_or(link)))
        });
        if count < MAX_SILENT && links.len() < MAX_ACCEPTED {
            return true;
        }
        let Some(oldest) = oldest else { return false };
        oldest.end(&mut oldest.out.lock(), Ending::Silent);
        true
    }

    fn set_up(&self, stream: &TcpStream, nodelay: bool) -> io::Result<()> {
        stream.set_nodelay(nodelay)?;
        socket2::SockRef::from(stream).set_keepalive(self.rules.keep_alive)
    }

    /// Connects to whichever of the leader's addresses answers first. `Up` or `Down` tells the outcome; the
    /// latter after `budget` at most.
    pub fn dial(self: &Arc<Self>, link: LinkId, addresses: Vec<Endpoint>, budget: Duration) {
        assert!(link.0 < ACCEPTED, "the id {link} is one of accepted links");
        let link = Link::new(link);
        self.links.write().insert(link.id, link.clone());
        let links = self.clone();
        self.runtime.spawn(async move {
            let connected = tokio::select! {
                biased;
                ending = link.ending() => Err(told(ending)),
                connected = connect(&addresses, &links.rules.names, links.rules.retry_delay, budget) => {
                    connected.map_err(|why| Some(LinkEnd::Unreachable(why)))
                }
            };
            let set_up = connected.and_then(|(stream, peer)| {
                links.set_up(&stream, links.rules.follower_nodelay).map_err(|error| Some(error.into()))?;
                Ok((stream, peer))
            });
            match set_up {
                Ok((stream, peer)) => links.serve(link, stream, peer, Side::Learner).await,
                Err(why) => links.bury(&link, why),
            }
        });
    }

    // ---- one link ----

    async fn serve(&self, link: Arc<Link>, stream: TcpStream, peer: SocketAddr, side: Side) {
        let (input, output) = stream.into_split();
        let output = Arc::new(output);
        link.out.lock().socket = Some(output.clone());
        (self.sink)(LinkEvent::Up { link: link.id, peer });
        let why = tokio::select! {
            biased;
            ending = link.ending() => told(ending),
            why = self.read(&link, input, side) => Some(why),
            why = self.write(&link, &output) => Some(why),
        };
        // With the last of them the socket is closed.
        link.out.lock().socket = None;
        drop(output);
        self.bury(&link, why);
    }

    /// The last of a link: `why` is for others to hear, unless they closed it meanwhile.
    fn bury(&self, link: &Link, why: Option<LinkEnd>) {
        self.links.write().remove(&link.id);
        let was_closed = {
            let mut out = link.out.lock();
            let before = out.ending;
            link.end(&mut out, Ending::Closed);
            matches!(before, Some(Ending::Closed))
        };
        match why.filter(|_| !was_closed) {
            None => debug!(link = %link.id, "a link between learner and leader was closed"),
            Some(why) => {
                info!(link = %link.id, "a link between learner and leader ended: {why}");
                (self.sink)(LinkEvent::Down { link: link.id, why });
            }
        }
    }

    /// Reads until the link ends, and says why.
    async fn read(&self, link: &Arc<Link>, input: OwnedReadHalf, side: Side) -> LinkEnd {
        let most = self.rules.max_buffer_bytes;
        let first = if side == Side::Leader { FIRST_PACKET.min(most) } else { most };
        let reader = PacketReader::new(side, first);
        let mut inbox = Inbox { links: self, link, side, bytes: BytesMut::new(), reader, snapshot: None };
        match inbox.run(input).await {
            Err(why) => why,
            Ok(never) => match never {},
        }
    }

    /// Writes what is queued until the link ends, and says why.
    async fn write(&self, link: &Link, output: &OwnedWriteHalf) -> LinkEnd {
        let patience = self.rules.snapshot_patience;
        let say = || {
            // A leader's business alone: who learns has little to send.
            if link.id.0 >= ACCEPTED {
                (self.sink)(LinkEvent::SyncProgress { link: link.id });
            }
        };
        let mut said = Instant::now();
        let mut progress = || {
            if said.elapsed() >= PROGRESS_EVERY {
                said = Instant::now();
                say();
            }
        };
        let sent = async {
            loop {
                let next = {
                    let mut out = link.out.lock();
                    out.woken = false;
                    let next = out.queue.pop_front();
                    out.sending = next.is_some();
                    next
                };
                match next {
                    None => link.wake.notified().await,
                    Some(Piece::Packets(buffer)) => {
                        for mut piece in buffer.chunks(PIECE) {
                            write_all(output, &mut piece).await?;
                            if buffer.len() > PIECE {
                                progress();
                            }
                        }
                        let mut out = link.out.lock();
                        out.bytes -= buffer.len();
                        out.spare = kept(buffer);
                    }
                    Some(Piece::Mark) => (self.sink)(LinkEvent::Drained { link: link.id }),
                    Some(Piece::Snapshot(mut chunks)) => loop {
                        match chunks.recv().await {
                            Some(Chunk::Bytes(mut bytes)) => {
                                // Recent transactions are kept for as long as it takes.
                                match tokio::time::timeout(patience, write_all(output, &mut bytes)).await {
                                    Ok(written) => written?,
                                    Err(_) => return Ok(LinkEnd::SnapshotStalled(patience)),
                                }
                                progress();
                            }
                            Some(Chunk::End) => break say(),
                            None => return Ok(LinkEnd::SnapshotFailed),
                        }
                    },
                }
            }
        };
        sent.await.unwrap_or_else(|error: io::Error| error.into())
    }
}

/// What others are told of an end that was not the peer's.
fn told(ending: Ending) -> Option<LinkEnd> {
    match ending {
        Ending::Closed => None,
        Ending::TooSlow(bytes) => Some(LinkEnd::TooSlow(bytes)),
        Ending::Silent => Some(LinkEnd::Silent),
    }
}

/// What one read takes at least and at most, about. Packets that are kept are views into what was read, so a
/// piece of memory is filled before there is another.
const READ_LEAST: usize = 4 << 10;
const READ: usize = 64 << 10;
/// Of a snapshot nothing is kept.
const READ_SNAPSHOT: usize = 256 << 10;

/// The reading half of a link.
struct Inbox<'a> {
    links: &'a Links,
    link: &'a Arc<Link>,
    side: Side,
    /// Read, and not yet understood.
    bytes: BytesMut,
    reader: PacketReader,
    /// Behind a SNAP.
    snapshot: Option<Unpacking>,
}

/// A snapshot that arrives. The tree is made of it on a thread of its own, because it takes seconds of a processor, and
/// requests come first.
struct Unpacking {
    zxid: Zxid,
    input: mpsc::Sender<BytesMut>,
    output: mpsc::Receiver<Unpacked>,
}

/// What was not of the snapshot any more, or is not whole yet; and the tree, once it is there.
type Unpacked = Result<(BytesMut, Option<Tree>), SnapshotError>;

impl Unpacking {
    fn begin(zxid: Zxid, mut parser: SnapshotParser) -> io::Result<Self> {
        let (input, mut pieces) = mpsc::channel::<BytesMut>(1);
        let (unpacked, output) = mpsc::channel(1);
        let work = move || {
            yield_to_requests();
            while let Some(mut bytes) = pieces.blocking_recv() {
                let tree = parser.feed(&mut bytes);
                if unpacked.blocking_send(tree.map(|tree| (bytes, tree))).is_err() {
                    break;
                }
            }
        };
        thread::Builder::new().name("zooid-unpack".to_owned()).spawn(work)?;
        Ok(Self { zxid, input, output })
    }

    async fn feed(&mut self, bytes: &mut BytesMut) -> Result<Option<Tree>, SnapshotError> {
        let sent = self.input.send(std::mem::take(bytes)).await;
        sent.expect("the thread takes pieces as long as this lives");
        let unpacked = self.output.recv().await.expect("each piece has an answer");
        let (rest, tree) = unpacked?;
        *bytes = rest;
        Ok(tree)
    }
}

impl Inbox<'_> {
    async fn run(&mut self, mut input: OwnedReadHalf) -> Result<std::convert::Infallible, LinkEnd> {
        let rules = &self.links.rules;
        loop {
            while self.link.unhandled.load(Ordering::Relaxed) > rules.max_unhandled_bytes {
                self.link.room.notified().await;
            }
            if self.snapshot.is_some() {
                self.bytes.reserve(READ_SNAPSHOT);
            } else if self.bytes.capacity() - self.bytes.len() < READ_LEAST {
                self.bytes.reserve(READ);
            }
            let read = input.read_buf(&mut self.bytes);
            let read = match &self.snapshot {
                None => read.await?,
                Some(_) => {
                    let in_time = tokio::time::timeout(rules.snapshot_patience, read).await;
                    in_time.map_err(|_| LinkEnd::SnapshotStalled(rules.snapshot_patience))??
                }
            };
            if read == 0 {
                return Err(LinkEnd::Gone);
            }
            self.understand().await?;
        }
    }

    /// Takes everything that is whole.
    async fn understand(&mut self) -> Result<(), LinkEnd> {
        let mut packets = Vec::new();
        let mut came = self.bytes.len();
        let outcome = loop {
            if let Some(unpacking) = &mut self.snapshot {
                let zxid = unpacking.zxid;
                let Some(mut tree) = unpacking.feed(&mut self.bytes).await? else {
                    (self.links.sink)(LinkEvent::SyncProgress { link: self.link.id });
                    break Ok(());
                };
                self.snapshot = None;
                came = self.bytes.len();
                tree.set_last_zxid(zxid);
                (self.links.sink)(LinkEvent::Snapshot { link: self.link.id, tree: Box::new(tree) });
            }
            match self.reader.next(&mut self.bytes) {
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
                Ok(Some(packet)) => {
                    if let (Packet::Snap { zxid }, Side::Learner) = (&packet, self.side) {
                        let LinkRules { tree, max_buffer_bytes, .. } = self.links.rules;
                        let parser = SnapshotParser::new(tree, max_buffer_bytes);
                        self.snapshot = Some(Unpacking::begin(*zxid, parser)?);
                    }
                    // It has said who it is.
                    self.reader.set_max(self.links.rules.max_buffer_bytes);
                    packets.push(packet);
                    if self.snapshot.is_some() {
                        self.hand_over(&mut packets, came - self.bytes.len());
                    }
                }
            }
        };
        self.hand_over(&mut packets, came - self.bytes.len());
        outcome
    }

    fn hand_over(&self, packets: &mut Vec<Packet>, bytes: usize) {
        if packets.is_empty() {
            return;
        }
        self.link.has_spoken.store(true, Ordering::Relaxed);
        self.link.unhandled.fetch_add(bytes, Ordering::Relaxed);
        let room = Room { link: self.link.clone(), bytes };
        (self.links.sink)(LinkEvent::Packets { link: self.link.id, packets: std::mem::take(packets), room });
    }
}

/// A buffer that was sent, for the next packets.
fn kept(mut buffer: BytesMut) -> BytesMut {
    if buffer.capacity() > SPARE {
        return BytesMut::new();
    }
    buffer.clear();
    buffer
}

/// The way of a snapshot from its thread to its link.
struct Pipe {
    chunks: mpsc::Sender<Chunk>,
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let chunk = Chunk::Bytes(Bytes::copy_from_slice(bytes));
        self.chunks.blocking_send(chunk).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// ---- addresses ----

type Connected = (TcpStream, SocketAddr);

/// The first connection to any of the addresses, or why there is none.
async fn connect(
    addresses: &[Endpoint],
    names: &Names,
    delay: Duration,
    budget: Duration,
) -> Result<Connected, String> {
    let attempts = addresses.iter().cloned().map(|address| (address, names.clone()));
    let attempts = attempts.map(|(address, names)| async move {
        let mut last = String::new();
        for attempt in 0..SOONER + TRIES {
            if attempt > 0 {
                tokio::time::sleep(delay / 2_u32.pow((SOONER + 1).saturating_sub(attempt))).await;
            }
            last = match connect_once(&address, &names).await {
                Ok(connected) => return Ok(connected),
                Err(why) => format!("{address}: {why}"),
            };
            warn!(attempt, "Unexpected exception when connecting to the leader, {last}");
        }
        Err(last)
    });
    let first = first_of::<Connected, String>(attempts.collect());
    match tokio::time::timeout(budget, first).await {
        Ok(first) => first.map_err(|failures| failures.join(", ")),
        Err(_) => Err(format!("no answer in {} ms", budget.as_millis())),
    }
}

async fn connect_once(address: &Endpoint, names: &Names) -> Result<Connected, String> {
    let found = names.addresses(address).await.map_err(|error| error.to_string())?;
    let attempts = found.into_iter().map(|peer| async move {
        let stream = TcpStream::connect(peer).await.map_err(|error| format!("{peer}: {error}"))?;
        Ok((stream, peer))
    });
    let first = first_of::<Connected, String>(attempts.collect()).await;
    first.map_err(|failures| if failures.is_empty() { "there is no address".to_owned() } else { failures.join(", ") })
}
