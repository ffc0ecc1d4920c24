//! A notification: the only thing that servers say to each other in an election. It names no sender: that is
//! whoever the connection belongs to.
//!
//! Every format that was ever sent is understood, the last one is written. What cannot be understood is dropped
//! and the connection kept, because the next notification may be better.
//!
//! Java: `FastLeaderElection.buildMsg` and `WorkerReceiver`; quorum-protocol 3.1, 3.2.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::vote::{PeerState, Vote};
use crate::id::{ServerId, Zxid};

/// The format that is written: with the sender's member list.
const VERSION: i32 = 2;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Notification {
    /// `None` for a number that means nothing. Only a voter is expected to make sense here.
    pub state: Option<PeerState>,
    pub vote: Vote,
    pub version: i32,
    /// The sender's member list, as text; empty if the format has none.
    pub config: Bytes,
}

/// Why a notification was dropped.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Malformed {
    #[error("a notification has at least 28 bytes, not {0}")]
    Short(usize),
    #[error("the notification of {0} bytes ends within a field")]
    Cut(usize),
    #[error("a notification of {size} bytes cannot hold a member list of {claimed}")]
    Config { size: usize, claimed: i32 },
}

impl Notification {
    pub fn parse(body: &Bytes) -> Result<Self, Malformed> {
        let size = body.len();
        if size < 28 {
            return Err(Malformed::Short(size));
        }
        let cut = |_| Malformed::Cut(size);
        let mut rest = body.clone();
        let state = PeerState::from_wire(rest.try_get_i32().map_err(cut)?);
        let leader: ServerId = rest.try_get_i64().map_err(cut)?;
        let zxid = Zxid(rest.try_get_i64().map_err(cut)?);
        let round = rest.try_get_i64().map_err(cut)?;
        // Before there was an epoch in it, the zxid's had to do.
        let peer_epoch = if size == 28 { zxid.0 >> 32 } else { rest.try_get_i64().map_err(cut)? };
        // What is there in 40 bytes is not looked at: Java takes them for a format without a version.
        let version = if size == 28 || size == 40 { 0 } else { rest.try_get_i32().map_err(cut)? };
        let config = if version < 2 {
            Bytes::new()
        } else {
            let claimed = rest.try_get_i32().map_err(cut)?;
            match usize::try_from(claimed) {
                Ok(length) if length <= rest.len() => rest.split_to(length),
                _ => return Err(Malformed::Config { size, claimed }),
            }
        };
        Ok(Self { state, vote: Vote { leader, zxid, round, peer_epoch }, version, config })
    }
}

/// The body of a notification; its length goes before it on the wire.
pub fn write(state: PeerState, vote: &Vote, config: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(44 + config.len());
    body.put_i32(state as i32);
    body.put_i64(vote.leader);
    body.put_i64(vote.zxid.0);
    body.put_i64(vote.round);
    body.put_i64(vote.peer_epoch);
    body.put_i32(VERSION);
    // A member list is read from a file, and far below 2 GiB.
    body.put_i32(config.len() as i32);
    body.put_slice(config);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181\n\
                          server.2=127.0.0.2:2888:3888:participant;127.0.0.2:2181\n\
                          server.3=127.0.0.3:2888:3888:participant;127.0.0.3:2181\nversion=0";

    fn body(fields: &[&[u8]]) -> Bytes {
        Bytes::from(fields.concat())
    }

    // quorum-protocol 11.1: what a 3.9.5 server 1 sent for itself.
    #[test]
    fn the_bytes_are_those_of_java() {
        let vote = Vote { leader: 1, zxid: Zxid(0), round: 1, peer_epoch: 0 };
        let written = write(PeerState::Looking, &vote, CONFIG.as_bytes());
        let mut expected = vec![0; 4];
        expected.extend([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
        expected.extend([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0xb1]);
        expected.extend(CONFIG.as_bytes());
        assert_eq!(written, expected);
        assert_eq!(written.len(), 221);
        let read = Notification::parse(&written).unwrap();
        assert_eq!((read.state, read.vote, read.version), (Some(PeerState::Looking), vote, 2));
        assert_eq!(read.config, CONFIG);
    }

    // Checks 6, 8, 9.
    #[test]
    fn every_format_is_read_and_others_dropped() {
        let zxid: &[u8] = &[0, 0, 0, 5, 0, 0, 0, 9];
        let old = [&[0, 0, 0, 1], &2i64.to_be_bytes()[..], zxid, &7i64.to_be_bytes()].concat();
        let with_epoch = [&old[..], &6i64.to_be_bytes()].concat();
        let parse = |tail: &[&[u8]]| Notification::parse(&body(&[&[&with_epoch[..]], tail].concat()));

        let read = Notification::parse(&body(&[&old])).unwrap();
        assert_eq!(read.vote, Vote { leader: 2, zxid: Zxid::new(5, 9), round: 7, peer_epoch: 5 });
        assert_eq!((read.state, read.version), (Some(PeerState::Following), 0));

        let read = parse(&[&[0, 0, 0, 9]]).unwrap();
        assert_eq!((read.vote.peer_epoch, read.version), (6, 0), "40 bytes have no version");
        let read = parse(&[&[0, 0, 0, 1], &[9, 9, 9, 9]]).unwrap();
        assert_eq!((read.version, &read.config[..]), (1, &b""[..]), "version 1 has no member list");
        let read = parse(&[&[0, 0, 0, 2], &[0; 4]]).unwrap();
        assert_eq!((read.version, &read.config[..]), (2, &b""[..]), "the member list may be empty");
        let read = parse(&[&[0, 0, 0, 3], &[0, 0, 0, 2], b"ab", b"beyond"]).unwrap();
        assert_eq!((read.version, &read.config[..]), (3, &b"ab"[..]), "what comes behind is for later versions");

        for size in 0..28 {
            assert_eq!(Notification::parse(&body(&[&old[..size]])), Err(Malformed::Short(size)));
        }
        for size in 29..40 {
            let all = [&with_epoch[..], &[0; 4]].concat();
            assert_eq!(Notification::parse(&body(&[&all[..size]])), Err(Malformed::Cut(size)));
        }
        assert_eq!(parse(&[&[0, 0, 0, 2], &[0, 0]]), Err(Malformed::Cut(42)));
        assert_eq!(parse(&[&[0, 0, 0, 2], &[0, 0, 0, 3], b"ab"]), Err(Malformed::Config { size: 46, claimed: 3 }));
        assert_eq!(parse(&[&[0, 0, 0, 2], &[0xff; 4]]), Err(Malformed::Config { size: 44, claimed: -1 }));
    }

    #[test]
    fn states_are_numbered_as_in_java() {
        let vote = Vote { leader: 1, zxid: Zxid(0), round: 1, peer_epoch: 0 };
        for (number, state) in
            [PeerState::Looking, PeerState::Following, PeerState::Leading, PeerState::Observing].into_iter().enumerate()
        {
            let written = write(state, &vote, b"");
            assert_eq!(written[3] as usize, number);
            assert_eq!(Notification::parse(&written).unwrap().state, Some(state));
        }
        assert_eq!((PeerState::from_wire(4), PeerState::from_wire(-1)), (None, None));
    }
}
