//! The election port: sockets for [`Links`], which decides everything.
//!
//! One task owns the `Links`. Each connection has a task that reads and one that writes, and both report to it; so
//! a peer that reads slowly, or not at all, holds up nobody else. Names are resolved at every dial and every bind,
//! because a server may come back elsewhere.
//!
//! Java: `QuorumCnxManager` and its `Listener`, `SendWorker`, `RecvWorker`.

use std::collections::BTreeMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tracing::{debug, error, info, warn};

use super::listen;
use super::names::{Names, first_of};
use crate::config::{Endpoint, Membership};
use crate::election::links::{Conn, Effect, LinkRules, Links, Why};
use crate::id::ServerId;
use crate::session::Mono;

/// Notifications that the Node may be ahead of this task. Beyond, one is dropped, as the network may drop it.
const WAITING_SENDS: usize = 1024;
/// Events that connections may be ahead. Beyond, they read no further.
const WAITING_EVENTS: usize = 256;
/// How long what was written before a close may take to go out.
const LINGER: Duration = Duration::from_secs(5);
const READ_CHUNK: usize = 16 * 1024;
/// Between two attempts to bind.
const BIND_PAUSE: Duration = Duration::from_secs(1);

/// Where a notification goes that came from another server.
pub type Deliver = Arc<dyn Fn(ServerId, Bytes) + Send + Sync>;

#[derive(Clone, Debug)]
pub struct ElectionNetRules {
    pub links: LinkRules,
    pub names: Names,
    /// Where to listen: the own election addresses, or every address.
    pub listen: Vec<Endpoint>,
    /// How often binding is tried; `None`: for ever.
    pub bind_attempts: Option<u32>,
    pub tcp_keep_alive: bool,
    /// After how long a connection is given up whose other side acknowledges nothing.
    pub unacknowledged: Duration,
}

/// The way to the other servers. When the last clone is gone, all connections are closed.
#[derive(Clone, Debug)]
pub struct ElectionNet {
    commands: mpsc::Sender<Command>,
}

/// Nobody listens any more; this server could not be asked for its vote.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for elections on {endpoint} (tried {attempts} times, see electionPortBindRetry): {source}")]
pub struct BindFailed {
    pub endpoint: Endpoint,
    pub attempts: u32,
    pub source: io::Error,
}

#[derive(Debug)]
enum Command {
    Send { to: ServerId, body: Bytes },
    Resend(Vec<(ServerId, Bytes)>),
    Membership(Arc<Membership>),
}

enum Event {
    Accepted(TcpStream, SocketAddr),
    Dialled { conn: Conn, stream: TcpStream },
    Bytes { conn: Conn, bytes: Bytes },
    Written { conn: Conn },
    Closed { conn: Conn, error: Option<io::Error> },
}

impl ElectionNet {
    /// The handle, and the work that must run for it: it ends when all handles are dropped, or with an error when
    /// there is no listener left.
    pub fn new(
        rules: ElectionNetRules,
        deliver: Deliver,
    ) -> (Self, impl Future<Output = Result<(), BindFailed>> + Send + 'static) {
        let (commands, received) = mpsc::channel(WAITING_SENDS);
        let (events, reported) = mpsc::channel(WAITING_EVENTS);
        let hub = Hub {
            links: Links::new(rules.links.clone()),
            start: Instant::now(),
            rules: Arc::new(rules),
            deliver,
            events,
            sockets: BTreeMap::new(),
        };
        (Self { commands }, hub.run(received, reported))
    }

    /// One notification. It may be lost, as on the way.
    pub fn send(&self, to: ServerId, body: Bytes) {
        self.command(Command::Send { to, body });
    }

    /// Says these again if anything was delivered since, and else makes connections.
    pub fn resend(&self, messages: Vec<(ServerId, Bytes)>) {
        self.command(Command::Resend(messages));
    }

    pub fn set_membership(&self, membership: Arc<Membership>) {
        self.command(Command::Membership(membership));
    }

    fn command(&self, command: Command) {
        if let Err(error) = self.commands.try_send(command) {
            debug!("a word of the election was dropped: {error}");
        }
    }
}

/// What carries one connection. Dropping it ends it.
struct Socket {
    /// Bounded by `Links`, which has one piece under way.
    writer: Option<mpsc::UnboundedSender<Bytes>>,
    tasks: JoinSet<()>,
}

/// The task that owns the links.
struct Hub {
    links: Links,
    start: Instant,
    rules: Arc<ElectionNetRules>,
    deliver: Deliver,
    events: mpsc::Sender<Event>,
    sockets: BTreeMap<Conn, Socket>,
}

impl Hub {
    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        mut reported: mpsc::Receiver<Event>,
    ) -> Result<(), BindFailed> {
        let mut listeners = JoinSet::new();
        for endpoint in &self.rules.listen {
            listeners.spawn(listen(endpoint.clone(), self.rules.clone(), self.events.clone()));
        }
        loop {
            let mut out = Vec::new();
            let deadline = self.links.next_deadline().map(|at| self.start + Duration::from_millis(at as u64));
            tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.on_command(command, &mut out),
                    None => return Ok(()),
                },
                Some(event) = reported.recv() => self.on_event(event, &mut out),
                () = sleep_until(deadline) => self.links.on_time(self.now(), &mut out),
                Some(ended) = listeners.join_next() => match ended {
                    Ok(failed) if listeners.is_empty() => return Err(failed),
                    Ok(failed) => error!("{failed}"),
                    // It panicked, which only a defect does.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
            }
            self.carry_out(out);
        }
    }

    fn now(&self) -> Mono {
        self.start.elapsed().as_millis() as Mono
    }

    fn on_command(&mut self, command: Command, out: &mut Vec<Effect>) {
        let now = self.now();
        match command {
            Command::Send { to, body } => self.links.send(now, to, body, out),
            Command::Resend(messages) => self.links.resend(now, messages, out),
            Command::Membership(membership) => self.links.set_membership(membership),
        }
    }

    fn on_event(&mut self, event: Event, out: &mut Vec<Effect>) {
        let now = self.now();
        match event {
            Event::Accepted(stream, peer) => {
                if let Err(error) = set_options(&stream, &self.rules) {
                    debug!(%peer, "the connection was gone before it was accepted: {error}");
                    return;
                }
                let conn = self.links.on_accepted(now, out);
                debug!(%peer, conn = conn.0, "received connection request");
                self.carry(conn, stream);
            }
            Event::Dialled { conn, stream } => {
                // The dial may have been given up meanwhile.
                if self.sockets.contains_key(&conn) {
                    self.carry(conn, stream);
                    self.links.on_dialled(now, conn, out);
                }
            }
            Event::Bytes { conn, bytes } => self.links.on_bytes(now, conn, &bytes, out),
            Event::Written { conn } => self.links.on_written(conn, out),
            Event::Closed { conn, error } => {
                // Closed by us, if we don't know it any more.
                if self.sockets.remove(&conn).is_some() {
                    debug!(conn = conn.0, "connection closed: {error:?}");
                    self.links.on_closed(now, conn);
                }
            }
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Dial { conn, to, addresses } => {
                    let mut tasks = JoinSet::new();
                    tasks.spawn(dial(conn, to, addresses, self.rules.clone(), self.events.clone()));
                    self.sockets.insert(conn, Socket { writer: None, tasks });
                }
                Effect::Write { conn, bytes } => {
                    if let Some(writer) = self.sockets.get(&conn).and_then(|socket| socket.writer.as_ref()) {
                        // If the writer has failed, it has said so.
                        let _ = writer.send(bytes);
                    }
                }
                Effect::Close { conn, why } => {
                    log_close(conn, &why);
                    if let Some(socket) = self.sockets.remove(&conn) {
                        linger(socket);
                    }
                }
                Effect::Deliver { from, body } => (self.deliver)(from, body),
            }
        }
    }

    fn carry(&mut self, conn: Conn, stream: TcpStream) {
        let (read, write) = stream.into_split();
        let (writer, pieces) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let reader = tasks.spawn(read_all(conn, read, self.events.clone()));
        tasks.spawn(write_all(conn, write, pieces, reader, self.events.clone()));
        self.sockets.insert(conn, Socket { writer: Some(writer), tasks });
    }
}

fn log_close(conn: Conn, why: &Why) {
    match why {
        Why::Announced(_) | Why::DialledBack(_) | Why::Replaced(_) | Why::Late => debug!(conn = conn.0, "{why}"),
        _ => warn!(conn = conn.0, "closing an election connection: {why}"),
    }
}

/// What was written goes out still, then the connection ends, at the latest after [`LINGER`].
fn linger(mut socket: Socket) {
    if socket.writer.take().is_some() {
        tokio::spawn(tokio::time::timeout(LINGER, async move { while socket.tasks.join_next().await.is_some() {} }));
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => pending().await,
    }
}

async fn read_all(conn: Conn, mut stream: OwnedReadHalf, events: mpsc::Sender<Event>) {
    let mut buffer = BytesMut::with_capacity(READ_CHUNK);
    let error = loop {
        buffer.reserve(READ_CHUNK);
        match stream.read_buf(&mut buffer).await {
            Ok(0) => break None,
            Ok(_) => {
                if events.send(Event::Bytes { conn, bytes: buffer.split().freeze() }).await.is_err() {
                    return;
                }
            }
            Err(error) => break Some(error),
        }
    };
    let _ = events.send(Event::Closed { conn, error }).await;
}

/// Ends when nothing more is to be written, and ends the reading with it.
async fn write_all(
    conn: Conn,
    mut stream: OwnedWriteHalf,
    mut pieces: mpsc::UnboundedReceiver<Bytes>,
    reader: AbortHandle,
    events: mpsc::Sender<Event>,
) {
    while let Some(piece) = pieces.recv().await {
        let event = match stream.write_all(&piece).await {
            Ok(()) => Event::Written { conn },
            Err(error) => Event::Closed { conn, error: Some(error) },
        };
        if events.send(event).await.is_err() {
            break;
        }
    }
    let _ = stream.shutdown().await;
    reader.abort();
}

/// The first of all addresses that answers. `Links` says when it takes too long.
async fn dial(
    conn: Conn,
    to: ServerId,
    addresses: Vec<Endpoint>,
    rules: Arc<ElectionNetRules>,
    events: mpsc::Sender<Event>,
) {
    let mut attempts = JoinSet::new();
    for endpoint in addresses {
        let names = rules.names.clone();
        attempts.spawn(async move { connect(&endpoint, &names).await.map_err(|error| (endpoint, error)) });
    }
    let mut last = None;
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok(Ok(stream)) => {
                let event = match set_options(&stream, &rules) {
                    Ok(()) => Event::Dialled { conn, stream },
                    Err(error) => Event::Closed { conn, error: Some(error) },
                };
                let _ = events.send(event).await;
                return;
            }
            Ok(Err((endpoint, error))) => {
                debug!("cannot open channel to {to} at election address {endpoint}: {error}");
                last = Some(error);
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
    let _ = events.send(Event::Closed { conn, error: last }).await;
}

async fn connect(endpoint: &Endpoint, names: &Names) -> io::Result<TcpStream> {
    // All at once: one that swallows what is sent to it must not keep the others from being tried.
    let found = names.addresses(endpoint).await?;
    let connected = first_of(found.into_iter().map(TcpStream::connect).collect()).await;
    connected.map_err(|mut failures| {
        failures.pop().unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
    })
}

fn set_options(stream: &TcpStream, rules: &ElectionNetRules) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_keepalive(rules.tcp_keep_alive)?;
    // Nothing else shows that the other side is gone: there are no heartbeats. And after a partition the kernel may
    // wait two minutes before it tries again; a new connection is there at once.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(rules.unacknowledged))?;
    Ok(())
}

/// Accepts until the task is dropped, or binding has failed too often in a row.
async fn listen(endpoint: Endpoint, rules: Arc<ElectionNetRules>, events: mpsc::Sender<Event>) -> BindFailed {
    let mut attempts = 0;
    loop {
        attempts += 1;
        let source = match listen::bind_peer_port(&endpoint, &rules.names).await {
            Ok(listener) => {
                info!(%endpoint, "listening for elections");
                accept(&listener, &events).await;
                return BindFailed { endpoint, attempts, source: io::ErrorKind::BrokenPipe.into() };
            }
            Err(error) => error,
        };
        if rules.bind_attempts.is_some_and(|most| attempts >= most) {
            return BindFailed { endpoint, attempts, source };
        }
        error!("exception while listening to address {endpoint}: {source}");
        tokio::time::sleep(BIND_PAUSE).await;
    }
}

/// Until nobody wants the connections any more.
async fn accept(listener: &TcpListener, events: &mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                if events.send(Event::Accepted(stream, peer)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                // Out of descriptors, or the other side gave up before it was accepted: neither is for ever.
                error!("error accepting an election connection: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
