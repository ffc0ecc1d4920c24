//! Many connections on one thread. The pool moves bytes: it opens sessions, reads as much as there is with one call,
//! hands out the frames, and writes what was appended to a connection with one call. What frames mean is the
//! [`Client`]'s business.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Protocol, Socket, Type};

use super::{host, wire};
use crate::net::listen::raise_open_files;

/// What a user of the pool does about what happens. Times are nanoseconds since the pool's start of time; what is
/// appended to `out` is sent when everything that arrived together has been handled.
pub trait Client {
    fn on_session(&mut self, conn: usize, now: u64, out: &mut Vec<u8>);
    fn on_frame(&mut self, conn: usize, now: u64, frame: &[u8], out: &mut Vec<u8>);
    fn on_lost(&mut self, conn: usize, why: io::Error);
}

pub struct Pool {
    poll: Poll,
    events: Events,
    servers: Vec<SocketAddr>,
    connect: Vec<u8>,
    conns: Vec<Conn>,
    /// Where every read goes. A connection keeps only the start of a frame that is not complete, so that ten thousand
    /// idle ones cost little.
    scratch: Vec<u8>,
    start: Instant,
}

#[derive(Default)]
struct Conn {
    stream: Option<TcpStream>,
    in_session: bool,
    /// The start of a frame whose rest has yet to come.
    rx: Vec<u8>,
    tx: Vec<u8>,
    /// How much of `tx` is written.
    sent: usize,
}

/// Below the 28,232 ports that Linux has for outgoing connections from one address to one server.
const CONNS_PER_SOURCE: usize = 25_000;

impl Pool {
    pub fn new(servers: Vec<SocketAddr>, session_timeout_ms: i32, start: Instant) -> io::Result<Self> {
        raise_open_files();
        Ok(Self {
            poll: Poll::new()?,
            events: Events::with_capacity(1024),
            servers,
            connect: wire::connect(session_timeout_ms),
            conns: Vec::new(),
            scratch: vec![0; 256 * 1024],
            start,
        })
    }

    pub fn now(&self) -> u64 {
        since(self.start)
    }

    pub fn len(&self) -> usize {
        self.conns.len()
    }

    /// Begins a connection; [`Client::on_session`] will tell when the server has accepted it.
    pub fn open(&mut self) -> io::Result<()> {
        self.conns.push(Conn::default());
        self.reopen(self.conns.len() - 1)
    }

    /// Begins again where a connection was lost.
    pub fn reopen(&mut self, conn: usize) -> io::Result<()> {
        let server = self.servers[conn % self.servers.len()];
        let mut stream = dial(server, conn / self.servers.len() / CONNS_PER_SOURCE)?;
        self.poll.registry().register(&mut stream, Token(conn), Interest::READABLE | Interest::WRITABLE)?;
        let it = &mut self.conns[conn];
        *it = Conn { stream: Some(stream), tx: self.connect.clone(), ..Conn::default() };
        // To the same machine it is established by now, and need not be waited for. If not, its events will say so.
        let _ = it.flush();
        Ok(())
    }

    /// What is appended here goes out with the next [`Self::flush`].
    pub fn out(&mut self, conn: usize) -> &mut Vec<u8> {
        &mut self.conns[conn].tx
    }

    pub fn flush(&mut self, conn: usize, client: &mut impl Client) {
        let it = &mut self.conns[conn];
        if let Err(why) = it.flush() {
            it.stream = None;
            client.on_lost(conn, why);
        }
    }

    pub fn send(&mut self, conn: usize, frame: &[u8], client: &mut impl Client) {
        self.out(conn).extend_from_slice(frame);
        self.flush(conn, client);
    }

    /// Waits, at most for `wait`, and handles what has happened.
    pub fn turn(&mut self, wait: Duration, client: &mut impl Client) -> io::Result<()> {
        // epoll waits for whole milliseconds.
        let wait = if wait.subsec_nanos().is_multiple_of(1_000_000) {
            wait
        } else {
            host::wait_readable(self.poll.as_raw_fd(), wait)?;
            Duration::ZERO
        };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => return Ok(()),
            other => other?,
        }
        for event in &self.events {
            let Token(conn) = event.token();
            let it = &mut self.conns[conn];
            let mut outcome = Ok(());
            if event.is_readable() {
                outcome = it.receive(conn, event.is_read_closed(), &mut self.scratch, self.start, client);
            }
            if let Err(why) = outcome.and_then(|()| it.flush()) {
                it.stream = None;
                client.on_lost(conn, why);
            }
        }
        Ok(())
    }

    /// Turns until `done`, for at most a minute.
    pub fn turn_until<C: Client>(&mut self, client: &mut C, done: impl Fn(&C) -> bool) -> io::Result<()> {
        let end = self.now() + 60_000_000_000;
        while !done(client) {
            self.turn(Duration::from_millis(100), client)?;
            if self.now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        Ok(())
    }

    /// Ends every session properly, so that the server need not expire it, and waits for that a little.
    pub fn close(mut self) -> io::Result<()> {
        let mut closing = Closing { open: self.conns.iter().map(|it| it.in_session && it.stream.is_some()).collect() };
        let bye = wire::close_session();
        for conn in 0..self.conns.len() {
            if closing.open[conn] {
                self.send(conn, &bye, &mut closing);
            }
        }
        let end = self.now() + 10_000_000_000;
        while closing.open.contains(&true) && self.now() < end {
            self.turn(Duration::from_millis(100), &mut closing)?;
        }
        Ok(())
    }
}

struct Closing {
    open: Vec<bool>,
}

impl Client for Closing {
    fn on_session(&mut self, _: usize, _: u64, _: &mut Vec<u8>) {}

    fn on_frame(&mut self, conn: usize, _: u64, frame: &[u8], _: &mut Vec<u8>) {
        if wire::Reply::of(frame).is_some_and(|reply| reply.xid == wire::CLOSE_XID) {
            self.open[conn] = false;
        }
    }

    fn on_lost(&mut self, conn: usize, _: io::Error) {
        self.open[conn] = false;
    }
}

impl Conn {
    fn flush(&mut self) -> io::Result<()> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while self.sent < self.tx.len() {
            match stream.write(&self.tx[self.sent..]) {
                Ok(n) => self.sent += n,
                // The next event says when to go on.
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected) => return Ok(()),
                Err(e) => return Err(e),
            }
        }
        self.tx.clear();
        self.sent = 0;
        Ok(())
    }

    fn receive(
        &mut self,
        conn: usize,
        ends: bool,
        scratch: &mut Vec<u8>,
        start: Instant,
        client: &mut impl Client,
    ) -> io::Result<()> {
        loop {
            let Some(stream) = &mut self.stream else { return Ok(()) };
            let held = self.rx.len();
            if held == scratch.len() {
                scratch.resize(2 * held, 0);
            }
            scratch[..held].copy_from_slice(&self.rx);
            let read = match stream.read(&mut scratch[held..]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
            let filled = held + read;
            // One look at the clock serves all that arrived together.
            let now = since(start);
            let mut rest = &scratch[..filled];
            while let Some((frame, behind)) = split_frame(rest) {
                self.on_frame(conn, now, frame, client)?;
                rest = behind;
            }
            self.rx.clear();
            self.rx.extend_from_slice(rest);
            // A short read has emptied the socket; whatever comes later is a new event. Only an end that came with the
            // data has to be read as well.
            if filled < scratch.len() && !ends {
                return Ok(());
            }
        }
    }

    fn on_frame(&mut self, conn: usize, now: u64, frame: &[u8], client: &mut impl Client) -> io::Result<()> {
        if self.in_session {
            client.on_frame(conn, now, frame, &mut self.tx);
            return Ok(());
        }
        match wire::Session::of(frame) {
            Some(session) if session.timeout_ms > 0 => {
                self.in_session = true;
                client.on_session(conn, now, &mut self.tx);
                Ok(())
            }
            _ => Err(io::Error::other("the server refused the session")),
        }
    }
}

#[inline]
pub fn split_frame(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
}

fn dial(server: SocketAddr, source: usize) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    if source > 0 && server.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
        // Every 127.x.x.x is this machine, and each has its own ports.
        let address = u32::from(Ipv4Addr::LOCALHOST) + u32::try_from(source).expect("few source addresses");
        socket.bind(&SocketAddr::from((Ipv4Addr::from(address), 0)).into())?;
    }
    match socket.connect(&server.into()) {
        Err(e) if e.raw_os_error() != Some(libc::EINPROGRESS) => return Err(e),
        _ => (),
    }
    Ok(TcpStream::from_std(socket.into()))
}

#[inline]
pub fn since(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_split_off_once_it_is_complete() {
        assert_eq!(split_frame(&[0, 0, 0]), None);
        assert_eq!(split_frame(&[0, 0, 0, 2, 7]), None);
        assert_eq!(split_frame(&[0, 0, 0, 2, 7, 8, 9]), Some((&[7, 8][..], &[9][..])));
        assert_eq!(split_frame(&[0xff, 0xff, 0xff, 0xff, 1]), None);
    }
}
