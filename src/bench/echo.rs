//! The limit of the sockets: a server that does nothing but read frames and answer each with one of the size that a
//! real server would send. What a real one falls short of this is its own doing.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::host::{self, Usage};
use super::load;
use crate::proto::op;

/// What every server without meaning is told.
#[derive(clap::Args, Debug)]
pub struct Bare {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:2190")]
    pub listen: SocketAddr,
    /// Bytes of data in a get's answer
    #[arg(long, default_value_t = 100)]
    pub value_size: usize,
}

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    bare: Bare,
    /// Threads of the server
    #[arg(long, default_value_t = 2)]
    workers: usize,
    /// Only serve, for another process to measure, until killed
    #[arg(long)]
    serve: bool,
    /// How long to measure each load
    #[arg(long, short, default_value = "5s", value_parser = super::duration)]
    time: Duration,
    /// Report as JSON, one object per load
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(args.workers)
        .thread_name(THREAD)
        .enable_io()
        .build()?;
    let listener = runtime.block_on(TcpListener::bind(args.bare.listen))?;
    let server = serve(listener, Answers::new(args.bare.value_size));
    if args.serve {
        return runtime.block_on(server);
    }
    runtime.spawn(server);
    for (name, op, connections, in_flight) in [
        ("get 64 x 16", "get", 64, 16),
        ("get 16 x 1", "get", 16, 1),
        ("get 1 x 1", "get", 1, 1),
        ("set 64 x 16", "set", 64, 16),
        ("set 16 x 1", "set", 16, 1),
        ("set 1 x 1", "set", 1, 1),
    ] {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, args.bare.listen.port()));
        let load = load::Args::closed_loop(server, op, connections, in_flight, args.time)?;
        if !args.json {
            println!("\n{name}");
        }
        load::measure(&load, &|| Usage { cpu_seconds: host::named_threads_cpu_seconds(THREAD), resident_bytes: 0 })?
            .print(args.json);
    }
    Ok(())
}

const THREAD: &str = "echo-server";

async fn serve(listener: TcpListener, answers: Answers) -> anyhow::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let answers = answers.clone();
        // A connection that breaks is the client's affair.
        tokio::spawn(async move { converse(stream, answers).await.ok() });
    }
}

async fn converse(mut stream: TcpStream, answers: Answers) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut rx, mut tx) = (BytesMut::with_capacity(16 * 1024), Vec::with_capacity(16 * 1024));
    let (mut in_session, mut closes) = (false, false);
    while !closes && stream.read_buf(&mut rx).await? > 0 {
        while let Some(length) = rx.first_chunk::<4>().map(|length| u32::from_be_bytes(*length) as usize) {
            if rx.len() < 4 + length {
                break;
            }
            let frame = &rx[4..4 + length];
            match frame.first_chunk::<8>() {
                Some(header) if in_session => {
                    answers.append(header, &mut tx);
                    // Whoever closes first has the port in TIME_WAIT, and that is the server, as with real ones.
                    closes |= header[4..] == op::CLOSE_SESSION.to_be_bytes();
                }
                _ => tx.extend_from_slice(&answers.session),
            }
            in_session = true;
            rx.advance(4 + length);
        }
        stream.write_all(&tx).await?;
        tx.clear();
        rx.reserve(16 * 1024);
    }
    Ok(())
}

/// Frames with a valid header and zeros for a body.
#[derive(Clone)]
pub struct Answers {
    pub session: Bytes,
    /// That a znode with a short path has changed.
    pub event: Bytes,
    get: Bytes,
    /// Of set and exists: a stat.
    stat: Bytes,
    other: Bytes,
}

const STAT: usize = 68;
/// Type, state and a path of twelve bytes.
const EVENT: usize = 24;

impl Answers {
    pub fn new(value_size: usize) -> Self {
        let mut session = BytesMut::from(&frame(37)[..]);
        session[8..12].copy_from_slice(&30_000_i32.to_be_bytes());
        let mut event = BytesMut::from(&frame(16 + EVENT)[..]);
        event[4..8].copy_from_slice(&(-1_i32).to_be_bytes());
        Self {
            session: session.freeze(),
            event: event.freeze(),
            get: frame(16 + 4 + value_size + STAT),
            stat: frame(16 + STAT),
            other: frame(16),
        }
    }

    pub fn append(&self, header: &[u8; 8], out: &mut Vec<u8>) {
        let (xid, op) = header.split_at(4);
        let answer = match i32::from_be_bytes(op.try_into().expect("four of eight bytes")) {
            op::GET_DATA => &self.get,
            op::SET_DATA | op::EXISTS => &self.stat,
            _ => &self.other,
        };
        let start = out.len();
        out.extend_from_slice(answer);
        out[start + 4..start + 8].copy_from_slice(xid);
    }
}

/// Zeros, with their length before them.
pub fn frame(length: usize) -> Bytes {
    let mut frame = vec![0; 4 + length];
    frame[..4].copy_from_slice(&(length as u32).to_be_bytes());
    frame.into()
}
