//! What leader and learner say to each other. A stream of these, nothing between them, but for the snapshot
//! that follows SNAP.
//!
//! A packet is four fields of Java's: type, zxid, data, identities. Two types say different things in the two
//! directions, so whoever reads says which end it is ([`Side`]). A length is checked when it is read, long
//! before the bytes that it claims, and nothing is set aside for it; what a type does not use is passed over,
//! as Java does.
//!
//! Java: `QuorumPacket`, `LearnerInfo`, the constants of `Leader`; quorum-protocol 5.1.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jute::records::data::Id;
use jute::{DecodeError, Reader, Writer};

use crate::id::{ServerId, Zxid};

/// One packet, by what it means. Data that is null or of fixed content is left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Packet {
    /// The first word of a follower.
    FollowerInfo {
        accepted: i64,
        info: LearnerInfo,
    },
    /// The first word of an observer.
    ObserverInfo {
        accepted: i64,
        info: LearnerInfo,
    },
    LeaderInfo {
        epoch: i64,
        mark: Option<Mark>,
    },
    /// `current` is `None` if the epoch had been accepted before: then the learner is not counted.
    AckEpoch {
        last: Zxid,
        current: Option<i64>,
    },
    Diff {
        zxid: Zxid,
    },
    Trunc {
        zxid: Zxid,
    },
    /// The snapshot stream follows, right behind the packet.
    Snap {
        zxid: Zxid,
    },
    Proposal {
        zxid: Zxid,
        txn: Bytes,
    },
    Ack {
        zxid: Zxid,
    },
    Commit {
        zxid: Zxid,
    },
    /// A committed transaction, for an observer.
    Inform {
        zxid: Zxid,
        txn: Bytes,
    },
    NewLeader {
        zxid: Zxid,
        config: Option<Bytes>,
    },
    UpToDate,
    /// From the leader without data; from a learner with its touched sessions. An answer with null data is a
    /// fault (quorum-protocol 6.8).
    Ping {
        zxid: Zxid,
        touched: Option<Vec<Touched>>,
    },
    /// A learner asks whether a session lives.
    Revalidate {
        session: i64,
        timeout_ms: i32,
    },
    Revalidated {
        session: i64,
        valid: bool,
    },
    Request(Forwarded),
    /// The answer to a forwarded sync; they come in the order of the requests.
    Sync,
    /// A reconfiguration is committed and takes effect: `leader` is the one who shall lead.
    CommitAndActivate {
        zxid: Zxid,
        leader: ServerId,
    },
    InformAndActivate {
        zxid: Zxid,
        leader: ServerId,
        txn: Bytes,
    },
    /// A type that nobody here knows; skipped (quorum-protocol 5.1).
    Unknown {
        op: i32,
    },
}

impl Packet {
    /// The name of its type.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::FollowerInfo { .. } => "FOLLOWERINFO",
            Self::ObserverInfo { .. } => "OBSERVERINFO",
            Self::LeaderInfo { .. } => "LEADERINFO",
            Self::AckEpoch { .. } => "ACKEPOCH",
            Self::Diff { .. } => "DIFF",
            Self::Trunc { .. } => "TRUNC",
            Self::Snap { .. } => "SNAP",
            Self::Proposal { .. } => "PROPOSAL",
            Self::Ack { .. } => "ACK",
            Self::Commit { .. } => "COMMIT",
            Self::Inform { .. } => "INFORM",
            Self::NewLeader { .. } => "NEWLEADER",
            Self::UpToDate => "UPTODATE",
            Self::Ping { .. } => "PING",
            Self::Revalidate { .. } | Self::Revalidated { .. } => "REVALIDATE",
            Self::Request(_) => "REQUEST",
            Self::Sync => "SYNC",
            Self::CommitAndActivate { .. } => "COMMITANDACTIVATE",
            Self::InformAndActivate { .. } => "INFORMANDACTIVATE",
            Self::Unknown { .. } => "UNKNOWN",
        }
    }
}

/// Who a learner is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LearnerInfo {
    /// `None`: a packet without data, which Java gives a number of its own choice.
    pub server: Option<ServerId>,
    /// 0x10000 for all that speak this protocol.
    pub protocol: i32,
    pub config_version: i64,
    pub mark: Option<Mark>,
}

/// What only a zooid says (design.md D16); Java ignores what stands behind its own fields.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    pub level: FeatureLevel,
    /// Of a learner: its tree is not what this leader's transactions make of it. Of a leader: another of its learners
    /// has said so lately.
    pub differs: bool,
}

/// What a zooid can do.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct FeatureLevel(pub u32);

/// A session that a learner has heard of since it was last asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Touched {
    pub session: i64,
    pub timeout_ms: i32,
}

/// A client's request that only the leader can put in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Forwarded {
    pub session: i64,
    pub cxid: i32,
    pub op: i32,
    /// The request record as the client sent it.
    pub body: Bytes,
    /// The identities of the client; null for createSession and closeSession.
    pub identities: Option<Vec<Id>>,
}

/// Which end of a link reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    Leader,
    Learner,
}

mod op {
    pub const REQUEST: i32 = 1;
    pub const PROPOSAL: i32 = 2;
    pub const ACK: i32 = 3;
    pub const COMMIT: i32 = 4;
    pub const PING: i32 = 5;
    pub const REVALIDATE: i32 = 6;
    pub const SYNC: i32 = 7;
    pub const INFORM: i32 = 8;
    pub const COMMIT_AND_ACTIVATE: i32 = 9;
    pub const NEW_LEADER: i32 = 10;
    pub const FOLLOWER_INFO: i32 = 11;
    pub const UP_TO_DATE: i32 = 12;
    pub const DIFF: i32 = 13;
    pub const TRUNC: i32 = 14;
    pub const SNAP: i32 = 15;
    pub const OBSERVER_INFO: i32 = 16;
    pub const LEADER_INFO: i32 = 17;
    pub const ACK_EPOCH: i32 = 18;
    pub const INFORM_AND_ACTIVATE: i32 = 19;
}

/// The protocol that all since 3.4 speak; a learner of an older one sends less, or nothing.
pub const PROTOCOL: i32 = 0x1_0000;
const OLDEST_PROTOCOL: i32 = 1;
const NO_ZXID: i64 = -1;

/// "I am a zooid", in front of the rest of a [`Mark`].
const MARK: [u8; 4] = *b"zooi";
const MARK_LEN: usize = 8;
/// In the four bytes behind that, beside the feature level.
const DIFFERS: u32 = 1 << 31;
/// Java's part of [`LearnerInfo`].
const LEARNER_INFO_LEN: usize = 20;
const TOUCHED_LEN: usize = 12;

impl FeatureLevel {
    /// An ACK and a COMMIT stand for all that was proposed before them as well, so that a batch has one of each.
    /// Java wants one for every proposal.
    pub const CUMULATIVE: Self = Self(1);
    /// A COMMIT also comes to a learner whose own ACK is all that a quorum lacks: it speaks of what the learner's log
    /// holds, and nothing else is applied. Java applies what it has only in memory.
    pub const AHEAD: Self = Self(2);

    /// Whether both ends of a link are that far.
    pub fn is_of_both(self, one: Option<Self>, other: Option<Self>) -> bool {
        one.min(other) >= Some(self)
    }
}

impl Mark {
    fn write(mark: Option<Self>, out: &mut BytesMut) {
        if let Some(Self { level, differs }) = mark {
            out.put_slice(&MARK);
            out.put_u32(level.0 | if differs { DIFFERS } else { 0 });
        }
    }

    /// Behind what Java reads there may be anything, which is then no mark.
    fn read(rest: &[u8]) -> Option<Self> {
        let (word, rest) = rest.split_first_chunk::<4>()?;
        let said = u32::from_be_bytes(*rest.first_chunk()?);
        (*word == MARK).then_some(Self { level: FeatureLevel(said & !DIFFERS), differs: said & DIFFERS != 0 })
    }

    const fn len(mark: Option<Self>) -> usize {
        if mark.is_some() { MARK_LEN } else { 0 }
    }
}

impl LearnerInfo {
    fn write(&self, out: &mut BytesMut) {
        let Some(server) = self.server else { return out.put_i32(-1) };
        out.put_i32((LEARNER_INFO_LEN + Mark::len(self.mark)) as i32);
        out.put_i64(server);
        out.put_i32(self.protocol);
        out.put_i64(self.config_version);
        Mark::write(self.mark, out);
    }

    /// Older learners send a part of it, or null.
    fn read(data: Option<Bytes>) -> Result<Self, DecodeError> {
        let mut info = Self { server: None, protocol: OLDEST_PROTOCOL, config_version: 0, mark: None };
        let Some(data) = data else { return Ok(info) };
        let mut r = Reader::new(data);
        info.server = Some(r.long("a learner's server id")?);
        if r.remaining() >= 4 {
            info.protocol = r.int("a learner's protocol")?;
        }
        if r.remaining() >= 8 {
            info.config_version = r.long("a learner's config version")?;
            info.mark = Mark::read(&r.rest());
        }
        Ok(info)
    }
}

fn put_head(out: &mut BytesMut, op: i32, zxid: i64) {
    out.put_i32(op);
    out.put_i64(zxid);
}

/// A packet that is only type and zxid.
fn put_bare(out: &mut BytesMut, op: i32, zxid: i64) {
    out.reserve(BARE_LEN);
    put_head(out, op, zxid);
    put_null(out);
    put_null(out);
}

/// A packet with data that lies there already, behind `lead`.
fn put_data(out: &mut BytesMut, op: i32, zxid: i64, lead: &[u8], data: &[u8]) {
    out.reserve(BARE_LEN + lead.len() + data.len());
    put_head(out, op, zxid);
    put_len(out, lead.len() + data.len());
    out.put_slice(lead);
    out.put_slice(data);
    put_null(out);
}

fn put_len(out: &mut BytesMut, len: usize) {
    out.put_i32(i32::try_from(len).expect("a packet's data is far below 2 GiB"));
}

fn put_null(out: &mut BytesMut) {
    out.put_i32(-1);
}

impl Packet {
    /// Appends the packet as Java writes it.
    pub fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Proposal { zxid, txn } => put_data(out, op::PROPOSAL, zxid.0, &[], txn),
            Self::Ack { zxid } => put_bare(out, op::ACK, zxid.0),
            Self::Commit { zxid } => put_bare(out, op::COMMIT, zxid.0),
            Self::Inform { zxid, txn } => put_data(out, op::INFORM, zxid.0, &[], txn),
            Self::Ping { zxid, touched: None } => put_bare(out, op::PING, zxid.0),
            Self::Ping { zxid, touched: Some(touched) } => {
                out.reserve(BARE_LEN + touched.len() * TOUCHED_LEN);
                put_head(out, op::PING, zxid.0);
                put_len(out, touched.len() * TOUCHED_LEN);
                for Touched { session, timeout_ms } in touched {
                    out.put_i64(*session);
                    out.put_i32(*timeout_ms);
                }
                put_null(out);
            }
            Self::Sync => put_bare(out, op::SYNC, 0),
            Self::UpToDate => put_bare(out, op::UP_TO_DATE, NO_ZXID),
            Self::Diff { zxid } => put_bare(out, op::DIFF, zxid.0),
            Self::Trunc { zxid } => put_bare(out, op::TRUNC, zxid.0),
            Self::Snap { zxid } => put_bare(out, op::SNAP, zxid.0),
            Self::Unknown { op } => put_bare(out, *op, 0),
            Self::NewLeader { zxid, config: None } => put_bare(out, op::NEW_LEADER, zxid.0),
            Self::NewLeader { zxid, config: Some(config) } => put_data(out, op::NEW_LEADER, zxid.0, &[], config),
            Self::FollowerInfo { accepted, info } => {
                put_head(out, op::FOLLOWER_INFO, accepted << 32);
                info.write(out);
                put_null(out);
            }
            Self::ObserverInfo { accepted, info } => {
                put_head(out, op::OBSERVER_INFO, accepted << 32);
                info.write(out);
                put_null(out);
            }
            Self::LeaderInfo { epoch, mark } => {
                put_head(out, op::LEADER_INFO, epoch << 32);
                put_len(out, 4 + Mark::len(*mark));
                out.put_i32(PROTOCOL);
                Mark::write(*mark, out);
                put_null(out);
            }
            Self::AckEpoch { last, current } => {
                // Epochs are what a zxid has room for.
                let current = current.unwrap_or(-1) as i32;
                put_data(out, op::ACK_EPOCH, last.0, &[], &current.to_be_bytes());
            }
            Self::Revalidate { session, timeout_ms } => {
                put_data(out, op::REVALIDATE, NO_ZXID, &session.to_be_bytes(), &timeout_ms.to_be_bytes());
            }
            Self::Revalidated { session, valid } => {
                put_data(out, op::REVALIDATE, NO_ZXID, &session.to_be_bytes(), &[(*valid).into()]);
            }
            Self::CommitAndActivate { zxid, leader } => {
                put_data(out, op::COMMIT_AND_ACTIVATE, zxid.0, &leader.to_be_bytes(), &[]);
            }
            Self::InformAndActivate { zxid, leader, txn } => {
                put_data(out, op::INFORM_AND_ACTIVATE, zxid.0, &leader.to_be_bytes(), txn);
            }
            Self::Request(Forwarded { session, cxid, op, body, identities }) => {
                out.reserve(BARE_LEN + REQUEST_HEAD + body.len());
                put_head(out, op::REQUEST, NO_ZXID);
                put_len(out, REQUEST_HEAD + body.len());
                out.put_i64(*session);
                out.put_i32(*cxid);
                out.put_i32(*op);
                out.put_slice(body);
                Writer::durable(out).vector(identities.as_deref());
            }
        }
    }
}

/// Session, cxid and op of a forwarded request.
const REQUEST_HEAD: usize = 16;
/// Type, zxid, and the length of the data.
const HEAD_LEN: usize = 16;
/// The smallest packet: no data, no identities.
const BARE_LEN: usize = 20;

/// Takes packets out of what has arrived.
///
/// Of a packet that is not all there, only the lengths that are missing are looked for again: a large one that
/// arrives in small pieces costs no more than one that arrives whole.
#[derive(Clone, Debug)]
pub struct PacketReader {
    side: Side,
    /// The largest buffer or string, and the largest sum of all identities: more than that no honest peer
    /// has.
    max: usize,
    /// Nothing can be decided before so many bytes are there.
    wanted: usize,
    reached: Reached,
}

/// How far the lengths of the packet in front are known.
#[derive(Clone, Copy, Debug)]
enum Reached {
    Nothing,
    /// The data ends here.
    Data {
        end: usize,
    },
    /// The identities begin at `begin`, and what is left of their strings at `at`.
    Identities {
        begin: usize,
        at: usize,
        left: u32,
    },
}

impl PacketReader {
    /// What Java allows by default: `jute.maxbuffer` and as much again.
    pub const USUAL_MAX: usize = 2 * 0xf_ffff;

    /// `max` bounds what one packet may carry: `jute.maxbuffer` and `jute.maxbuffer.extrasize` together.
    pub fn new(side: Side, max: usize) -> Self {
        Self { side, max, wanted: HEAD_LEN, reached: Reached::Nothing }
    }

    /// From the next packet on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }

    /// The next packet, or `None` until more has arrived. After an error the stream is of no more use.
    pub fn next(&mut self, input: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(len) = self.whole(input)? else { return Ok(None) };
        (self.wanted, self.reached) = (HEAD_LEN, Reached::Nothing);
        let mut head = &input[..HEAD_LEN];
        let (op, zxid, data_len) = (head.get_i32(), Zxid(head.get_i64()), head.get_i32());
        // What has nothing but a zxid is most of what is read, and needs no view.
        let bare = match op {
            op::ACK => Some(Packet::Ack { zxid }),
            op::COMMIT => Some(Packet::Commit { zxid }),
            op::PING if self.side == Side::Learner => Some(Packet::Ping { zxid, touched: None }),
            _ => None,
        };
        if let Some(packet) = bare {
            input.advance(len);
            return Ok(Some(packet));
        }
        let mut frame = input.split_to(len).freeze();
        frame.advance(HEAD_LEN);
        let data = (data_len >= 0).then(|| frame.split_to(data_len as usize));
        decode(self.side, op, zxid, data, frame).map(Some)
    }

    /// The length of the packet in front, once all of it is there.
    fn whole(&mut self, input: &[u8]) -> Result<Option<usize>, DecodeError> {
        loop {
            if input.len() < self.wanted {
                return Ok(None);
            }
            let int = |at: usize| i32::from_be_bytes(*input[at..].first_chunk().expect("it was waited for"));
            (self.reached, self.wanted) = match self.reached {
                Reached::Nothing => {
                    let end = HEAD_LEN + self.length("a packet's data", int(HEAD_LEN - 4))?;
                    (Reached::Data { end }, end + 4)
                }
                Reached::Data { end } => {
                    // As for Java, every count below 1 is none at all. Each identity is two strings.
                    let left = 2 * int(end).max(0).unsigned_abs();
                    let begin = end + 4;
                    (Reached::Identities { begin, at: begin, left }, if left == 0 { begin } else { begin + 4 })
                }
                Reached::Identities { at, left: 0, .. } => return Ok(Some(at)),
                Reached::Identities { begin, at, left } => {
                    // A string ends where the next one's length stands.
                    let end = self.wanted + self.length("an identity", int(at))?;
                    if end - begin > self.max {
                        return Err(DecodeError::Length { what: "a packet's identities", length: int(begin - 4) });
                    }
                    let left = left - 1;
                    (Reached::Identities { begin, at: end, left }, if left == 0 { end } else { end + 4 })
                }
            };
        }
    }

    /// How many bytes a buffer or string of this length has.
    fn length(&self, what: &'static str, length: i32) -> Result<usize, DecodeError> {
        match length {
            -1 => Ok(0),
            0.. if length as usize <= self.max => Ok(length as usize),
            _ => Err(DecodeError::Length { what, length }),
        }
    }
}

/// What the fields of a packet mean to `side`. `identities` is their vector.
fn decode(side: Side, op: i32, zxid: Zxid, data: Option<Bytes>, identities: Bytes) -> Result<Packet, DecodeError> {
    // The epoch of a promise is all that its zxid says.
    let epoch = zxid.0 >> 32;
    let reader = |what| data.clone().map(Reader::new).ok_or(DecodeError::Null { what });
    Ok(match (op, side) {
        (op::PROPOSAL, _) => Packet::Proposal { zxid, txn: data.ok_or(DecodeError::Null { what: "a proposal" })? },
        (op::INFORM, _) => Packet::Inform { zxid, txn: data.ok_or(DecodeError::Null { what: "an inform" })? },
        (op::ACK, _) => Packet::Ack { zxid },
        (op::COMMIT, _) => Packet::Commit { zxid },
        (op::PING, Side::Learner) => Packet::Ping { zxid, touched: None },
        (op::PING, Side::Leader) => {
            let mut r = reader("the sessions of a ping")?;
            let mut touched = Vec::with_capacity(r.remaining() / TOUCHED_LEN);
            while !r.is_empty() {
                touched.push(Touched { session: r.long("a session")?, timeout_ms: r.int("a session's timeout")? });
            }
            Packet::Ping { zxid, touched: Some(touched) }
        }
        (op::REVALIDATE, Side::Leader) => {
            let mut r = reader("the session to revalidate")?;
            Packet::Revalidate { session: r.long("a session")?, timeout_ms: r.int("a session's timeout")? }
        }
        (op::REVALIDATE, Side::Learner) => {
            let mut r = reader("the session that was revalidated")?;
            Packet::Revalidated { session: r.long("a session")?, valid: r.bool("whether it is valid")? }
        }
        (op::REQUEST, _) => {
            let mut r = reader("a request")?;
            let (session, cxid, op) = (r.long("a session")?, r.int("a cxid")?, r.int("an op")?);
            let identities = Reader::new(identities).vector::<Id>("identities")?;
            Packet::Request(Forwarded { session, cxid, op, body: r.rest(), identities })
        }
        (op::SYNC, _) => Packet::Sync,
        (op::COMMIT_AND_ACTIVATE, _) => {
            Packet::CommitAndActivate { zxid, leader: reader("the next leader")?.long("the next leader")? }
        }
        (op::INFORM_AND_ACTIVATE, _) => {
            let mut r = reader("the next leader")?;
            Packet::InformAndActivate { zxid, leader: r.long("the next leader")?, txn: r.rest() }
        }
        (op::NEW_LEADER, _) => Packet::NewLeader { zxid, config: data },
        (op::FOLLOWER_INFO, _) => Packet::FollowerInfo { accepted: epoch, info: LearnerInfo::read(data)? },
        (op::OBSERVER_INFO, _) => Packet::ObserverInfo { accepted: epoch, info: LearnerInfo::read(data)? },
        (op::UP_TO_DATE, _) => Packet::UpToDate,
        (op::DIFF, _) => Packet::Diff { zxid },
        (op::TRUNC, _) => Packet::Trunc { zxid },
        (op::SNAP, _) => Packet::Snap { zxid },
        (op::LEADER_INFO, _) => {
            let mut r = reader("the leader's protocol")?;
            // Java writes the protocol down and looks at it no more.
            r.int("the leader's protocol")?;
            Packet::LeaderInfo { epoch, mark: Mark::read(&r.rest()) }
        }
        (op::ACK_EPOCH, _) => {
            let current = reader("the current epoch")?.int("the current epoch")?;
            Packet::AckEpoch { last: zxid, current: (current != -1).then_some(current.into()) }
        }
        _ => Packet::Unknown { op },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    fn written(packet: &Packet) -> Vec<u8> {
        let mut out = BytesMut::new();
        packet.write(&mut out);
        out.to_vec()
    }

    fn reader(side: Side) -> PacketReader {
        PacketReader::new(side, PacketReader::USUAL_MAX)
    }

    fn read(side: Side, bytes: &[u8]) -> Result<Option<Packet>, DecodeError> {
        reader(side).next(&mut BytesMut::from(bytes))
    }

    const CONFIG: &str = "server.1=127.0.0.1:2888:3888:participant;127.0.0.1:2181\n\
        server.2=127.0.0.2:2888:3888:participant;127.0.0.2:2181\n\
        server.3=127.0.0.3:2888:3888:participant;127.0.0.3:2181\nversion=0";
    const CREATE_SESSION: &str = "01000012e9df0001 00000000 0000000100000005 000001a203d02142 fffffff6 00002710 \
        00000002 00000001dd3bd417";
    const CREATE: &str = "01000012e9df0001 00000001 0000000100000006 000001a203d02147 00000001 00000002 2f62 00000002 \
        4231 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00 00000002 00000002 00000001c27374d9";
    const CLOSE_SESSION: &str =
        "01000012e9df0001 00000002 0000000100000007 000001a203d0214c fffffff5 00000000 00000002 00000001c27374d9";
    const CREATE_REQUEST: &str =
        "00000002 2f63 00000002 4331 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000000";
    const IDENTITIES: &str = "00000001 00000002 6970 00000009 3132372e302e302e31";

    const SESSION: i64 = 0x0300_0014_318a_0000;

    /// What a 3.9.5 ensemble said (quorum-protocol 11.2), and who read it.
    fn conversation() -> Vec<(Side, String, Packet)> {
        use Side::{Leader, Learner};
        let zxid = |counter| Zxid::new(1, counter);
        let txn = |hex: &str| Bytes::from(bytes(hex));
        let proposal = |counter, hex: &str| Packet::Proposal { zxid: zxid(counter), txn: txn(hex) };
        let commit = |counter| Packet::Commit { zxid: zxid(counter) };
        let info = LearnerInfo { server: Some(3), protocol: PROTOCOL, config_version: 0, mark: None };
        let request = |cxid, op, body: &str, identities| {
            Packet::Request(Forwarded { session: SESSION, cxid, op, body: txn(body), identities })
        };
        let ip = || Some(vec![Id { scheme: Some("ip".into()), id: Some("127.0.0.1".into()) }]);
        let config: String = CONFIG.bytes().map(|byte| format!("{byte:02x}")).collect();
        let listed = [
            (
                Leader,
                "0000000b 0000000100000000 00000014 0000000000000003 00010000 0000000000000000 ffffffff".to_owned(),
                Packet::FollowerInfo { accepted: 1, info },
            ),
            (
                Learner,
                "00000011 0000000100000000 00000004 00010000 ffffffff".to_owned(),
                Packet::LeaderInfo { epoch: 1, mark: None },
            ),
            (
                Leader,
                "00000012 0000000100000004 00000004 ffffffff ffffffff".to_owned(),
                Packet::AckEpoch { last: zxid(4), current: None },
            ),
            (Learner, "0000000d 0000000100000007 ffffffff ffffffff".to_owned(), Packet::Diff { zxid: zxid(7) }),
            (
                Learner,
                format!("00000002 0000000100000005 00000030 {CREATE_SESSION} ffffffff"),
                proposal(5, CREATE_SESSION),
            ),
            (Learner, "00000004 0000000100000005 ffffffff ffffffff".to_owned(), commit(5)),
            (Learner, format!("00000002 0000000100000006 00000058 {CREATE} ffffffff"), proposal(6, CREATE)),
            (Learner, "00000004 0000000100000006 ffffffff ffffffff".to_owned(), commit(6)),
            (
                Learner,
                format!("00000002 0000000100000007 00000030 {CLOSE_SESSION} ffffffff"),
                proposal(7, CLOSE_SESSION),
            ),
            (Learner, "00000004 0000000100000007 ffffffff ffffffff".to_owned(), commit(7)),
            (
                Learner,
                format!("0000000a 0000000100000000 000000b1 {config} ffffffff"),
                Packet::NewLeader { zxid: zxid(0), config: Some(Bytes::from_static(CONFIG.as_bytes())) },
            ),
            (Leader, "00000003 0000000100000000 ffffffff ffffffff".to_owned(), Packet::Ack { zxid: zxid(0) }),
            (Learner, "0000000c ffffffffffffffff ffffffff ffffffff".to_owned(), Packet::UpToDate),
            (
                Learner,
                "00000005 0000000100000007 ffffffff ffffffff".to_owned(),
                Packet::Ping { zxid: zxid(7), touched: None },
            ),
            (
                Leader,
                "00000005 0000000100000007 00000000 ffffffff".to_owned(),
                Packet::Ping { zxid: zxid(7), touched: Some(Vec::new()) },
            ),
            (
                Leader,
                "00000001 ffffffffffffffff 00000014 03000014318a0000 00000000 fffffff6 00002710 ffffffff".to_owned(),
                request(0, -10, "00002710", None),
            ),
            (
                Leader,
                format!(
                    "00000001 ffffffffffffffff 0000003b 03000014318a0000 00000001 00000001 {CREATE_REQUEST} {IDENTITIES}"
                ),
                request(1, 1, CREATE_REQUEST, ip()),
            ),
            (
                Leader,
                format!(
                    "00000001 ffffffffffffffff 00000016 03000014318a0000 00000002 00000009 00000002 2f63 {IDENTITIES}"
                ),
                request(2, 9, "00000002 2f63", ip()),
            ),
            (Learner, "00000007 0000000000000000 ffffffff ffffffff".to_owned(), Packet::Sync),
            (
                Leader,
                "00000005 0000000100000009 0000000c 03000014318a0000 00002710 ffffffff".to_owned(),
                Packet::Ping { zxid: zxid(9), touched: Some(vec![Touched { session: SESSION, timeout_ms: 10_000 }]) },
            ),
            (Learner, "0000000f 0000000100000004 ffffffff ffffffff".to_owned(), Packet::Snap { zxid: zxid(4) }),
            (
                Learner,
                "00000009 0000000100000008 00000008 0000000000000001 ffffffff".to_owned(),
                Packet::CommitAndActivate { zxid: zxid(8), leader: 1 },
            ),
        ];
        listed.into()
    }

    /// The packets that the conversation lacks.
    fn others() -> Vec<(Side, Packet)> {
        use Side::{Leader, Learner};
        let zxid = Zxid::new(2, 3);
        let mark = Some(Mark { level: FeatureLevel(7), differs: true });
        let info = |server, protocol, mark| LearnerInfo { server, protocol, config_version: 0x1_0000_0008, mark };
        let null = LearnerInfo { server: None, protocol: OLDEST_PROTOCOL, config_version: 0, mark: None };
        vec![
            (Leader, Packet::FollowerInfo { accepted: 0x7fff_ffff, info: info(Some(-1), PROTOCOL, mark) }),
            (Leader, Packet::FollowerInfo { accepted: -1, info: null }),
            (Leader, Packet::ObserverInfo { accepted: 0, info: info(Some(255), OLDEST_PROTOCOL, None) }),
            (Learner, Packet::LeaderInfo { epoch: 3, mark }),
            (Leader, Packet::AckEpoch { last: Zxid(-1), current: Some(2) }),
            (Learner, Packet::Trunc { zxid }),
            (Learner, Packet::Inform { zxid, txn: Bytes::from_static(b"txn") }),
            (Learner, Packet::InformAndActivate { zxid, leader: 9, txn: Bytes::from_static(b"txn") }),
            (Learner, Packet::InformAndActivate { zxid, leader: 9, txn: Bytes::new() }),
            (Learner, Packet::NewLeader { zxid, config: None }),
            (Leader, Packet::Revalidate { session: SESSION, timeout_ms: -5 }),
            (Learner, Packet::Revalidated { session: SESSION, valid: true }),
            (Learner, Packet::Revalidated { session: SESSION, valid: false }),
            (
                Leader,
                Packet::Request(Forwarded {
                    session: 1,
                    cxid: -4,
                    op: 14,
                    body: Bytes::new(),
                    identities: Some(vec![
                        Id { scheme: None, id: Some("".into()) },
                        Id { scheme: Some("x509".into()), id: None },
                        Id { scheme: Some("digest".into()), id: Some("ü🐘:".into()) },
                    ]),
                }),
            ),
            (
                Leader,
                Packet::Request(Forwarded { session: 1, cxid: 2, op: 3, body: Bytes::new(), identities: Some(vec![]) }),
            ),
            (Learner, Packet::Unknown { op: 99 }),
        ]
    }

    fn all() -> Vec<(Side, Packet)> {
        conversation().into_iter().map(|(side, _, packet)| (side, packet)).chain(others()).collect()
    }

    #[test]
    fn what_a_java_ensemble_said_is_read_and_written_to_the_byte() {
        for (side, hex, packet) in conversation() {
            assert_eq!(read(side, &bytes(&hex)).as_ref(), Ok(&Some(packet.clone())), "{hex}");
            assert_eq!(written(&packet), bytes(&hex), "{packet:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        for (side, packet) in all() {
            assert_eq!(read(side, &written(&packet)), Ok(Some(packet)));
        }
    }

    /// quorum-protocol 12.1, check 24.
    #[test]
    fn the_answer_to_a_revalidation_is_nine_bytes() {
        let answer = written(&Packet::Revalidated { session: SESSION, valid: false });
        assert_eq!(answer, bytes("00000006 ffffffffffffffff 00000009 03000014318a0000 00 ffffffff"));
    }

    #[test]
    fn a_packet_comes_out_at_its_last_byte_however_it_arrives() {
        for piece in [1, 2, 3, 7] {
            for side in [Side::Leader, Side::Learner] {
                let (mut reader, mut input, mut got) = (reader(side), BytesMut::new(), Vec::new());
                let packets: Vec<Packet> =
                    all().into_iter().filter(|(reads, _)| *reads == side).map(|(_, packet)| packet).collect();
                for packet in &packets {
                    let bytes = written(packet);
                    for (at, part) in bytes.chunks(piece).enumerate() {
                        input.extend_from_slice(part);
                        let next = reader.next(&mut input).unwrap();
                        assert_eq!(next.is_some(), (at + 1) * piece >= bytes.len(), "{packet:?}");
                        got.extend(next);
                    }
                    assert!(input.is_empty());
                }
                assert_eq!(got, packets);
            }
        }
    }

    #[test]
    fn many_packets_of_one_read_come_out_in_order() {
        let (mut input, mut reader) = (BytesMut::new(), reader(Side::Learner));
        let packets: Vec<Packet> = conversation()
            .into_iter()
            .filter(|(side, ..)| *side == Side::Learner)
            .map(|(_, _, packet)| packet)
            .collect();
        packets.iter().for_each(|packet| packet.write(&mut input));
        for packet in packets {
            assert_eq!(reader.next(&mut input), Ok(Some(packet)));
        }
        assert_eq!((reader.next(&mut input), input.len()), (Ok(None), 0));
    }

    /// quorum-protocol 12.1, check 27.
    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        let head = |length: i32| [&bytes("00000002 0000000100000005")[..], &length.to_be_bytes()].concat();
        for length in [PacketReader::USUAL_MAX as i32 + 1, i32::MAX, -2, i32::MIN] {
            let refused = Err(DecodeError::Length { what: "a packet's data", length });
            assert_eq!(read(Side::Learner, &head(length)), refused);
        }
        let whole = [head(2_097_150), vec![7; 2_097_150], vec![0xff; 4]].concat();
        let Ok(Some(Packet::Proposal { txn, .. })) = read(Side::Learner, &whole) else { panic!("it is allowed") };
        assert_eq!(txn.len(), 2_097_150);
    }

    #[test]
    fn hostile_identities_are_refused_where_they_show() {
        let with = |identities: &str| {
            let head = "00000001 ffffffffffffffff 00000010 03000014318a0000 00000002 00000009";
            read(Side::Leader, &bytes(&format!("{head} {identities}")))
        };
        let refused = |what, length| Err(DecodeError::Length { what, length });
        // A count alone costs nothing, and is waited for.
        assert_eq!(with("7fffffff"), Ok(None));
        assert_eq!(with("7fffffff 00000002 6970"), Ok(None));
        assert_eq!(with("00000001 fffffffe"), refused("an identity", -2));
        assert_eq!(with("00000001 00000000 001fffff"), refused("an identity", 0x1f_ffff));
        // Many short ones may not add up to more than one long one.
        let many = "00000000".repeat(PacketReader::USUAL_MAX / 4 + 1);
        assert_eq!(with(&format!("7fffffff {many}")), refused("a packet's identities", i32::MAX));
        // Java's count below 1 is none.
        assert!(
            matches!(with("ffffff00"), Ok(Some(Packet::Request(Forwarded { identities: Some(none), .. }))) if none.is_empty())
        );
    }

    #[test]
    fn data_that_is_too_short_for_its_type_is_a_fault() {
        #[track_caller]
        fn check(side: Side, op: i32, too_short: i32) {
            let data = if too_short == -1 { "ffffffff".to_owned() } else { format!("{too_short:08x}") };
            let hex = format!("{op:08x} 0000000100000000 {data} {} ffffffff", "00".repeat(too_short.max(0) as usize));
            assert!(read(side, &bytes(&hex)).is_err(), "{hex}");
        }
        use Side::{Leader, Learner};
        for (side, op, least) in [
            (Leader, op::REQUEST, 16),
            (Leader, op::ACK_EPOCH, 4),
            (Leader, op::REVALIDATE, 12),
            (Learner, op::REVALIDATE, 9),
            (Learner, op::LEADER_INFO, 4),
            (Learner, op::COMMIT_AND_ACTIVATE, 8),
            (Learner, op::INFORM_AND_ACTIVATE, 8),
        ] {
            check(side, op, -1);
            check(side, op, 0);
            check(side, op, least - 1);
        }
        check(Learner, op::PROPOSAL, -1);
        check(Learner, op::INFORM, -1);
        // Java's leader fails over a learner's ping without data, and over half a session.
        check(Leader, op::PING, -1);
        check(Leader, op::PING, 13);
        check(Leader, op::FOLLOWER_INFO, 7);
    }

    /// What a type has no use for is not looked at, and a type that nobody knows is passed over whole
    /// (quorum-protocol 12.1, check 25).
    #[test]
    fn what_is_of_no_use_is_passed_over() {
        for (op, packet) in [
            (op::ACK, Packet::Ack { zxid: Zxid(5) }),
            (op::COMMIT, Packet::Commit { zxid: Zxid(5) }),
            (op::UP_TO_DATE, Packet::UpToDate),
            (op::SYNC, Packet::Sync),
            (op::PING, Packet::Ping { zxid: Zxid(5), touched: None }),
            (99, Packet::Unknown { op: 99 }),
        ] {
            let hex = format!("{op:08x} 0000000000000005 00000003 616263 {IDENTITIES} 00000004");
            let (mut input, mut reader) = (BytesMut::from(&bytes(&hex)[..]), reader(Side::Learner));
            assert_eq!(reader.next(&mut input), Ok(Some(packet)));
            assert_eq!(input.to_vec(), [0, 0, 0, 4]);
        }
    }

    /// quorum-protocol 12.1, checks 14 and 17.
    #[test]
    fn a_learner_may_say_less_of_itself_or_more() {
        let info = |data: &str| {
            let len = bytes(data).len();
            let hex = format!("0000000b 0000000100000000 {len:08x} {data} ffffffff");
            match read(Side::Leader, &bytes(&hex)) {
                Ok(Some(Packet::FollowerInfo { accepted: 1, info })) => info,
                other => panic!("{other:?}"),
            }
        };
        let full = LearnerInfo { server: Some(3), protocol: PROTOCOL, config_version: 9, mark: None };
        let java = "0000000000000003 00010000 0000000000000009";
        assert_eq!(info(&java[..16]), LearnerInfo { protocol: OLDEST_PROTOCOL, config_version: 0, ..full });
        assert_eq!(info(&java[..25]), LearnerInfo { config_version: 0, ..full });
        assert_eq!(info(java), full);
        let mark = Mark { level: FeatureLevel(2), differs: false };
        let marked = LearnerInfo { mark: Some(mark), ..full };
        let differs = LearnerInfo { mark: Some(Mark { differs: true, ..mark }), ..full };
        assert_eq!(info(&format!("{java} 7a6f6f69 80000002")), differs);
        assert_eq!(info(&format!("{java} 7a6f6f69 00000002")), marked);
        assert_eq!(info(&format!("{java} 7a6f6f69 00000002 00")), marked);
        assert_eq!(info(&format!("{java} 7a6f6f6a 00000002")), full);
        assert_eq!(info(&format!("{java} 7a6f6f69 000000")), full);
        let zooid = written(&Packet::ObserverInfo { accepted: 1, info: marked });
        assert_eq!(zooid, bytes(&format!("00000010 0000000100000000 0000001c {java} 7a6f6f69 00000002 ffffffff")));
        let leader = written(&Packet::LeaderInfo { epoch: 1, mark: Some(mark) });
        assert_eq!(leader, bytes("00000011 0000000100000000 0000000c 00010000 7a6f6f69 00000002 ffffffff"));
    }
}
