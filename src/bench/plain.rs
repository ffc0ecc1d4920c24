//! One session, one request at a time, for what is not measured.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::wire::{self, Reply, Session};

pub struct Plain {
    stream: TcpStream,
    frame: Vec<u8>,
}

/// What the server answered: the body, or an error code.
pub type Answer = Result<Vec<u8>, i32>;

pub const NO_NODE: i32 = -101;
pub const NODE_EXISTS: i32 = -110;

impl Plain {
    pub fn open(server: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, patience)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(patience))?;
        let mut plain = Self { stream, frame: Vec::new() };
        plain.stream.write_all(&wire::connect(10_000))?;
        plain.receive()?;
        match Session::of(&plain.frame) {
            Some(session) if session.timeout_ms > 0 => Ok(plain),
            _ => Err(io::Error::other("the server refused the session")),
        }
    }

    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.stream.write_all(request)?;
        loop {
            self.receive()?;
            let Some(reply) = Reply::of(&self.frame) else { return Err(io::ErrorKind::InvalidData.into()) };
            if reply.is_event() {
                continue;
            }
            return Ok(if reply.err == 0 { Ok(reply.body.to_vec()) } else { Err(reply.err) });
        }
    }

    /// Ends the session. Java often closes the connection without the reply that it owes.
    pub fn close(mut self) {
        let _ = self.ask(&wire::close_session());
    }

    fn receive(&mut self) -> io::Result<()> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        self.frame.resize(u32::from_be_bytes(length) as usize, 0);
        self.stream.read_exact(&mut self.frame)
    }
}
