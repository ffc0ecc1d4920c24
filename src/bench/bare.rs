//! The limit of the machine beneath a whole request: a server of one thread, without a runtime and without meaning,
//! that does what no server can do without. It accepts, reads, answers with frames of the right size, and tells watchers
//! of a set. With a directory it writes and syncs each set first. As one of three it asks a leader, which proposes each
//! set to it and to another follower; all three write and sync it, and the leader says when it has, so that a follower that
//! has it too knows two of three. Leader and other follower are threads of this process.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::Context;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use super::echo::{Answers, Bare, frame};
use super::pool::split_frame;
use super::sync;
use crate::net::listen::raise_open_files;
use crate::proto::op;

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    bare: Bare,
    /// Write and sync each set in a file here
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Be a follower of three
    #[arg(long, requires = "dir")]
    three: bool,
}

/// Serves until the process is killed.
pub fn run(args: Args) -> anyhow::Result<()> {
    raise_open_files();
    let log = |number| args.dir.as_deref().map(|dir| Log::create(dir, number)).transpose();
    let mut server = Server::new(&args, log(1)?)?;
    if let (true, Some(second), Some(third)) = (args.three, log(2)?, log(3)?) {
        let (ours, to_us) = link()?;
        let (theirs, to_them) = link()?;
        thread::Builder::new().name("leader".into()).spawn(move || lead([to_us, to_them], second))?;
        thread::Builder::new().name("follower".into()).spawn(move || follow(theirs, third))?;
        server.leader = Some(server.take(ours)?);
    }
    loop {
        server.turn()?;
    }
}

/// The first byte of a frame between members: what it is.
const REQUEST: u8 = 1;
const PROPOSAL: u8 = 2;
const ACK: u8 = 3;
const COMMIT: u8 = 4;
/// Bytes of such a frame besides a transaction: type, zxid, no data, no identities.
const PACKET: usize = 20;

const LISTENER: Token = Token(0);

struct Server {
    poll: Poll,
    events: Events,
    listener: TcpListener,
    /// By token less one.
    conns: Vec<Option<Conn>>,
    /// Where there is none any more.
    free: Vec<usize>,
    /// Which of them is the link to the leader.
    leader: Option<usize>,
    log: Option<Log>,
    /// Answers to what the leader was asked.
    waiting: VecDeque<(usize, Vec<u8>)>,
    watchers: Vec<usize>,
    answers: Answers,
    scratch: Vec<u8>,
}

impl Server {
    fn new(args: &Args, log: Option<Log>) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let mut listener =
            TcpListener::bind(args.bare.listen).with_context(|| format!("cannot listen on {}", args.bare.listen))?;
        // As many may wait as the system allows, not the 128 that were asked for.
        socket2::SockRef::from(&listener).listen(i32::MAX)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        Ok(Self {
            poll,
            events: Events::with_capacity(1024),
            listener,
            conns: Vec::new(),
            free: Vec::new(),
            leader: None,
            log,
            waiting: VecDeque::new(),
            watchers: Vec::new(),
            answers: Answers::new(args.bare.value_size),
            scratch: vec![0; SCRATCH],
        })
    }

    fn take(&mut self, mut stream: TcpStream) -> io::Result<usize> {
        stream.set_nodelay(true)?;
        let at = self.free.pop().unwrap_or_else(|| {
            self.conns.push(None);
            self.conns.len() - 1
        });
        self.poll.registry().register(&mut stream, Token(at + 1), Interest::READABLE)?;
        self.conns[at] = Some(Conn::new(stream));
        Ok(at)
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        wait(&mut self.poll, &mut events)?;
        for event in &events {
            match event.token() {
                LISTENER => self.accept()?,
                Token(token) => self.serve(token - 1)?,
            }
        }
        self.events = events;
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => self.take(stream)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) => return Err(e),
            };
        }
    }

    /// A connection that ends is the client's affair, the link to the leader is not.
    fn serve(&mut self, at: usize) -> io::Result<()> {
        // It may have ended since the event.
        let Some(mut conn) = self.conns[at].take() else { return Ok(()) };
        let mut scratch = std::mem::take(&mut self.scratch);
        let served = conn.read(&mut scratch, |conn, frame| self.on_frame(at, conn, frame));
        self.scratch = scratch;
        match served {
            Ok(()) => self.conns[at] = Some(conn),
            Err(e) if self.leader == Some(at) => return Err(e),
            Err(_) => self.free.push(at),
        }
        Ok(())
    }

    fn on_frame(&mut self, at: usize, conn: &mut Conn, frame: &[u8]) -> io::Result<()> {
        if self.leader == Some(at) {
            return self.on_packet(conn, frame);
        }
        let Some(header) = frame.first_chunk::<8>().filter(|_| conn.in_session) else {
            conn.in_session = true;
            return conn.send(&self.answers.session);
        };
        let mut answer = Vec::new();
        self.answers.append(header, &mut answer);
        match i32::from_be_bytes(*header.last_chunk().expect("four of eight bytes")) {
            // The watch is the last byte.
            op::GET_DATA if frame.last() == Some(&1) => self.watchers.push(at),
            op::SET_DATA => {
                if let Some(leader) = self.leader {
                    self.waiting.push_back((at, answer));
                    return self.send(leader, &packet(REQUEST, frame));
                }
                if let Some(log) = &mut self.log {
                    log.append(frame)?;
                }
                let event = self.answers.event.clone();
                for watcher in std::mem::take(&mut self.watchers) {
                    self.send(watcher, &event)?;
                }
            }
            op::CLOSE_SESSION => {
                conn.send(&answer)?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            _ => {}
        }
        conn.send(&answer)
    }

    fn on_packet(&mut self, leader: &mut Conn, packet: &[u8]) -> io::Result<()> {
        match (packet[0], &mut self.log) {
            (PROPOSAL, Some(log)) => {
                log.append(packet)?;
                leader.send(&self::packet(ACK, &[]))
            }
            _ => {
                let (asked, answer) = self.waiting.pop_front().expect("what is committed was asked for");
                self.send(asked, &answer)
            }
        }
    }

    fn send(&mut self, at: usize, frame: &[u8]) -> io::Result<()> {
        self.conns[at].as_mut().map_or(Ok(()), |conn| conn.send(frame))
    }
}

struct Conn {
    stream: TcpStream,
    in_session: bool,
    /// The start of a frame whose rest has yet to come.
    rest: Vec<u8>,
}

const SCRATCH: usize = 64 * 1024;

impl Conn {
    fn new(stream: TcpStream) -> Self {
        Self { stream, in_session: false, rest: Vec::new() }
    }

    /// Reads once what there is, as far as `scratch` goes.
    fn read(
        &mut self,
        scratch: &mut [u8],
        mut on_frame: impl FnMut(&mut Self, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let held = self.rest.len();
        scratch[..held].copy_from_slice(&self.rest);
        let read = match self.stream.read(&mut scratch[held..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) => return Err(e),
        };
        let mut rest = &scratch[..held + read];
        while let Some((frame, behind)) = split_frame(rest) {
            on_frame(self, frame)?;
            rest = behind;
        }
        self.rest.clear();
        self.rest.extend_from_slice(rest);
        Ok(())
    }

    /// What the socket does not take at once is an error: so much is not measured here.
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.stream.write_all(frame)
    }
}

fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok(()),
        other => other,
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = frame(PACKET + body.len()).to_vec();
    packet[4] = kind;
    packet[4 + PACKET..].copy_from_slice(body);
    packet
}

fn link() -> io::Result<(TcpStream, TcpStream)> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let one = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (other, _) = listener.accept()?;
    for end in [&one, &other] {
        end.set_nodelay(true)?;
        end.set_nonblocking(true)?;
    }
    Ok((TcpStream::from_std(one), TcpStream::from_std(other)))
}

/// Proposes what the first link asks for, and says when it has it itself.
fn lead(links: [TcpStream; 2], mut log: Log) -> io::Result<()> {
    let (mut poll, mut events, mut scratch) = (Poll::new()?, Events::with_capacity(16), vec![0; SCRATCH]);
    let mut links = links.map(Conn::new);
    for (at, link) in links.iter_mut().enumerate() {
        poll.registry().register(&mut link.stream, Token(at), Interest::READABLE)?;
    }
    loop {
        wait(&mut poll, &mut events)?;
        for event in &events {
            let Token(at) = event.token();
            let mut asked = Vec::new();
            links[at].read(&mut scratch, |_, packet| {
                if packet[0] == REQUEST {
                    asked.push(packet[PACKET..].to_vec());
                }
                Ok(())
            })?;
            for request in asked {
                // For the others first, whose disks work while the own one does.
                let proposal = packet(PROPOSAL, &request);
                links.iter_mut().try_for_each(|link| link.send(&proposal))?;
                log.append(&proposal)?;
                links.iter_mut().try_for_each(|link| link.send(&packet(COMMIT, &[])))?;
            }
        }
    }
}

/// Writes, syncs and acknowledges what is proposed, until the leader has ended.
fn follow(leader: TcpStream, mut log: Log) -> io::Result<()> {
    let leader = std::net::TcpStream::from(leader);
    leader.set_nonblocking(false)?;
    let (mut input, mut output) = (BufReader::new(leader.try_clone()?), leader);
    let (mut length, mut body) = ([0; 4], Vec::new());
    loop {
        input.read_exact(&mut length)?;
        body.resize(u32::from_be_bytes(length) as usize, 0);
        input.read_exact(&mut body)?;
        if body[0] == PROPOSAL {
            log.append(&body)?;
            output.write_all(&packet(ACK, &[]))?;
        }
    }
}

/// A file as long as it will be, written round and round.
struct Log {
    file: File,
    at: u64,
}

const LOG_BYTES: u64 = 16 << 20;

impl Log {
    fn create(dir: &Path, number: usize) -> anyhow::Result<Self> {
        let path = dir.join(format!("bare-log.{number}"));
        let opened = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        let file = opened.with_context(|| format!("cannot create {}", path.display()))?;
        sync::write_zeros(&file, LOG_BYTES)?;
        Ok(Self { file, at: 0 })
    }

    fn append(&mut self, record: &[u8]) -> io::Result<()> {
        let length = record.len() as u64;
        if self.at + length > LOG_BYTES {
            self.at = 0;
        }
        self.file.write_all_at(record, self.at)?;
        self.file.sync_data()?;
        self.at += length;
        Ok(())
    }
}
