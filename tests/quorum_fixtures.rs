//! What Java servers say to each other, read to the last byte and written again as it was: the recordings of
//! `fixtures/quorum`.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use support::trees;
use zooid::config::{Membership, MultiAddress, Role, parse_properties};
use zooid::election::Notification;
use zooid::election::links::{Effect, LinkRules, Links};
use zooid::election::wire::write as write_notification;
use zooid::id::{LinkId, Zxid};
use zooid::storage::epoch::Epochs;
use zooid::tree::stream::{SnapshotParser, write_tree};
use zooid::tree::{Tree, TreeRules, Unwatched};
use zooid::txn::Logged;
use zooid::zab::Effect as Wish;
use zooid::zab::learner::{Learner, LearnerRules, Want};
use zooid::zab::packet::{Packet, PacketReader, Side};

/// What one end of a connection said.
struct Recording {
    /// Scenario and file.
    name: String,
    bytes: Bytes,
}

/// All recordings of a kind of connection: those of the diallers, and those of the others.
fn recordings(port: &str) -> Vec<(Recording, End)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/quorum");
    let mut all = Vec::new();
    for scenario in fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
        for file in fs::read_dir(scenario.path()).unwrap().flatten() {
            let file = file.path();
            let name = file.file_name().unwrap().to_str().unwrap();
            let end = match file.extension().and_then(|extension| extension.to_str()) {
                Some("dialled") => End::Dialler,
                Some("answered") => End::Acceptor,
                _ => continue,
            };
            if name.contains(port) {
                let name = format!("{}/{name}", scenario.file_name().to_str().unwrap());
                all.push((Recording { name, bytes: fs::read(&file).unwrap().into() }, end));
            }
        }
    }
    assert!(!all.is_empty(), "no recordings of {port}");
    all
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Dialler,
    Acceptor,
}

/// The packets of a recording, each of which is written as it was read, and the tree that came with them.
/// `pieces` is how many bytes come at once.
fn packets(recording: &Recording, side: Side, pieces: usize) -> (Vec<Packet>, Option<Tree>) {
    let mut reader = PacketReader::new(side, PacketReader::USUAL_MAX);
    let mut input = BytesMut::new();
    let mut snapshot: Option<SnapshotParser> = None;
    let (mut packets, mut tree) = (Vec::new(), None);
    // Where the packet or stream in front begins.
    let mut at = 0;
    let mut arrived = 0;
    for piece in recording.bytes.chunks(pieces) {
        input.extend_from_slice(piece);
        arrived += piece.len();
        loop {
            if let Some(parser) = &mut snapshot {
                tree = parser.feed(&mut input).unwrap();
                let Some(tree) = &tree else { break };
                check_snapshot(recording, at..arrived - input.len(), tree);
                at = arrived - input.len();
                snapshot = None;
            }
            let packet = reader.next(&mut input).unwrap_or_else(|e| panic!("{}, at {at}: {e}", recording.name));
            let Some(packet) = packet else { break };
            let mut written = BytesMut::new();
            packet.write(&mut written);
            let end = arrived - input.len();
            assert_eq!(written, recording.bytes.slice(at..end), "{}, at {at}: {packet:?}", recording.name);
            at = end;
            if let Packet::Snap { .. } = packet {
                snapshot = Some(SnapshotParser::new(TreeRules::default(), PacketReader::USUAL_MAX));
            }
            packets.push(packet);
        }
    }
    assert_eq!(at, recording.bytes.len(), "{}: something is left", recording.name);
    (packets, tree)
}

/// A tree of Java's, written as we do: the nodes may come in another order, and are the same.
fn check_snapshot(recording: &Recording, range: std::ops::Range<usize>, tree: &Tree) {
    let written = write_tree(tree, Vec::new()).unwrap();
    assert_eq!(written.len(), range.len(), "{}: the snapshot has another length", recording.name);
    let mut input = BytesMut::from(&written[..]);
    let again = SnapshotParser::new(TreeRules::default(), PacketReader::USUAL_MAX).feed(&mut input).unwrap().unwrap();
    trees::assert_equal(&recording.name, tree, &again);
}

/// The variant's name.
fn kind(packet: &Packet) -> String {
    let text = format!("{packet:?}");
    text.split([' ', '(']).next().unwrap().to_owned()
}

#[test]
fn every_packet_is_written_as_it_was_read() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for (recording, end) in recordings("-quorum-") {
        let side = if end == End::Dialler { Side::Leader } else { Side::Learner };
        let (whole, _) = packets(&recording, side, usize::MAX);
        for pieces in [1, 7, 100] {
            assert_eq!(packets(&recording, side, pieces).0, whole, "{} in pieces of {pieces}", recording.name);
        }
        for packet in &whole {
            *kinds.entry(kind(packet)).or_default() += 1;
        }
    }
    let found: BTreeSet<&str> = kinds.keys().map(String::as_str).collect();
    let expected = BTreeSet::from([
        "Ack",
        "AckEpoch",
        "Commit",
        "Diff",
        "FollowerInfo",
        "Inform",
        "LeaderInfo",
        "NewLeader",
        "ObserverInfo",
        "Ping",
        "Proposal",
        "Request",
        "Revalidate",
        "Revalidated",
        "Snap",
        "Sync",
        "Trunc",
        "UpToDate",
    ]);
    assert_eq!(found, expected, "{kinds:?}");
}

/// A learner that begins with nothing or with a snapshot has, after each transaction, the tree that the leader
/// had when it proposed it.
#[test]
fn the_digests_of_the_leader_are_those_of_the_learner() {
    let mut compared = 0;
    for (recording, _) in recordings("-quorum-").into_iter().filter(|(_, end)| *end == End::Acceptor) {
        let (packets, snapshot) = packets(&recording, Side::Learner, usize::MAX);
        let begins_empty = packets.contains(&Packet::Diff { zxid: Zxid::ZERO });
        let Some(mut tree) = snapshot.or_else(|| begins_empty.then(|| Tree::new(TreeRules::default()))) else {
            continue;
        };
        for packet in packets {
            let (Packet::Proposal { txn, zxid } | Packet::Inform { txn, zxid }) = packet else { continue };
            let logged = Logged::read(txn.clone()).unwrap();
            let mut written = BytesMut::new();
            logged.write(&mut written);
            assert_eq!(written, txn, "{}: {logged:?}", recording.name);
            assert_eq!(logged.header.zxid, zxid);
            tree.apply(&logged.header, &logged.txn, &mut Unwatched);
            if let Some(digest) = logged.digest {
                assert_eq!(tree.digest(), digest, "{}: after {logged:?}", recording.name);
                compared += 1;
            }
        }
    }
    assert!(compared > 50, "{compared} digests were compared");
}

/// Every notification is written as it was read, and the hello in front of them is the one that we would say in
/// that server's place.
#[test]
fn every_notification_is_written_as_it_was_read() {
    let (mut notifications, mut announcements) = (0, 0);
    let mut states = BTreeSet::new();
    for (recording, end) in recordings("-election-") {
        let (from, to) = ends(&recording.name);
        let mut frames = recording.bytes.clone();
        if end == End::Dialler {
            let hello = frames.split_to(20 + i32::from_be_bytes(frames[16..20].try_into().unwrap()) as usize);
            check_hello(&recording.name, &hello, from, to);
            // Who has the smaller id says nothing more.
            announcements += usize::from(from < to);
            assert!(from > to || frames.is_empty(), "{}: {from} goes on", recording.name);
        }
        for body in bodies(&recording.name, frames) {
            let read = Notification::parse(&body).unwrap_or_else(|e| panic!("{}: {e}", recording.name));
            let state = read.state.unwrap_or_else(|| panic!("{}: no state in {read:?}", recording.name));
            assert_eq!(write_notification(state, &read.vote, &read.config), body, "{}: {read:?}", recording.name);
            let members = parse_properties(&read.config).unwrap();
            Membership::parse(&members, MultiAddress::Refused).unwrap();
            notifications += 1;
            states.insert(state as i32);
        }
    }
    assert!(notifications > 50 && announcements > 0, "{notifications} notifications, {announcements} announcements");
    assert_eq!(states.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3], "not all states were said");
}

/// Who dialled, and whom: `03-election-1-2`.
fn ends(name: &str) -> (i64, i64) {
    let file = name.rsplit('/').next().unwrap().split('.').next().unwrap();
    let mut parts = file.split('-').skip(2).map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap())
}

/// What stands between the lengths.
fn bodies(name: &str, mut frames: Bytes) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    while let Some(length) = frames.first_chunk() {
        let length = i32::from_be_bytes(*length) as usize;
        assert!(length + 4 <= frames.len(), "{name} ends within a notification");
        bodies.push(frames.split_to(4 + length).slice(4..));
    }
    // A connection may be replaced after the length of a notification; the recordings have no such one.
    assert!(frames.is_empty(), "{name}: {} bytes are left", frames.len());
    bodies
}

/// We say the same hello as the member that said this one.
fn check_hello(name: &str, hello: &Bytes, from: i64, to: i64) {
    let address = std::str::from_utf8(&hello[20..]).unwrap();
    let (host, port) = address.split_once(':').unwrap();
    let lines = [(from, host.to_owned(), port), (to, "127.0.0.1".to_owned(), "3888")];
    let lines = lines.map(|(sid, host, port)| (format!("server.{sid}"), format!("{host}:2888:{port}")));
    let membership = Arc::new(Membership::parse(&lines.into(), MultiAddress::Refused).unwrap());
    let rules =
        LinkRules { me: from, membership, multi_address: MultiAddress::Refused, connect_ms: 5000, handshake_ms: 5000 };
    let (mut links, mut out) = (Links::new(rules), Vec::new());
    links.send(0, to, Bytes::from_static(b"x"), &mut out);
    let Some(Effect::Dial { conn, .. }) = out.pop() else { panic!("{out:?} instead of a dial") };
    links.on_dialled(0, conn, &mut out);
    assert_eq!(out.first(), Some(&Effect::Write { conn, bytes: hello.clone() }), "{name}");
}

/// Our learner, told what a Java leader said to a Java learner, says what that learner said. What its clients
/// wanted is left out, and so are the answers to pings, which name their sessions.
#[test]
fn our_learner_says_what_javas_said() {
    let all = recordings("-quorum-");
    let mut kinds = BTreeSet::new();
    for (dialled, _) in all.iter().filter(|(_, end)| *end == End::Dialler) {
        let answered = dialled.name.replace("dialled", "answered");
        let (answered, _) = all.iter().find(|(recording, _)| recording.name == answered).unwrap();
        let (javas, _) = packets(dialled, Side::Leader, usize::MAX);
        let (leaders, _) = packets(answered, Side::Learner, usize::MAX);
        kinds.extend(leaders.get(1).map(kind));
        let ours = says(&javas, leaders);
        let is_agreement =
            |packet: &&Packet| !matches!(packet, Packet::Ping { .. } | Packet::Request(_) | Packet::Revalidate { .. });
        let javas: Vec<&Packet> = javas.iter().filter(is_agreement).collect();
        let ours: Vec<&Packet> = ours.iter().filter(is_agreement).collect();
        // The recording may end before the last answers, and before the epoch is acknowledged it breaks off.
        let most = ours.len().min(javas.len());
        assert_eq!(ours[..most], javas[..most], "{}", dialled.name);
        assert!(ours.len() - most <= 2 && javas.len() == most, "{}: {ours:?}, not {javas:?}", dialled.name);
    }
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), ["Diff", "Snap", "Trunc"]);
}

/// What our learner says to these words of a leader, in the place of the one that said `javas`.
fn says(javas: &[Packet], leaders: Vec<Packet>) -> Vec<Packet> {
    const LINK: LinkId = LinkId(1);
    let (role, accepted, info) = match &javas[0] {
        Packet::FollowerInfo { accepted, info } => (Role::Participant, *accepted, info),
        Packet::ObserverInfo { accepted, info } => (Role::Observer, *accepted, info),
        other => panic!("{other:?} comes first"),
    };
    // One that breaks off before has an empty history.
    let (last, current) = match javas.get(1) {
        Some(Packet::AckEpoch { last, current }) => (*last, current.unwrap_or(accepted)),
        None => (Zxid::ZERO, accepted),
        other => panic!("{other:?} comes second"),
    };
    let rules = LearnerRules {
        me: info.server.unwrap(),
        role,
        tick_ms: 500,
        init_limit_ticks: 40,
        sync_limit_ticks: 10,
        connect_limit_ticks: 40,
        config_version: info.config_version,
        level: None,
    };
    let epochs = Epochs { accepted, current, was_raised: false };
    let mut out = Vec::new();
    let mut learner = Learner::new(rules, 0, 1, LINK, epochs, last, Want::Cheapest, &mut out);
    let mut said = Vec::new();
    learner.on_connected(0, &mut out);
    carry_out(&mut learner, &mut out, &mut said);
    for packet in leaders {
        learner.on_packet(0, packet, &mut out);
        carry_out(&mut learner, &mut out, &mut said);
    }
    said
}

/// Storage that is done at once.
fn carry_out(learner: &mut Learner, out: &mut Vec<Wish>, said: &mut Vec<Packet>) {
    while !out.is_empty() {
        for wish in std::mem::take(out) {
            match wish {
                Wish::Send { packet, .. } => said.push(packet),
                Wish::SaveEpoch { file, epoch } => learner.on_epoch_saved(0, file, epoch, out),
                Wish::Append(entry) => learner.on_durable(0, entry.zxid, out),
                Wish::Truncate { target } => learner.on_truncated(0, Some(target), out),
                Wish::Install { upto, entries, rest } => {
                    let last = entries.iter().chain(&rest).next_back().map_or(upto, |entry| entry.zxid);
                    learner.on_installed(0, last, out);
                }
                Wish::Failed(fault) => panic!("{fault}"),
                _ => {}
            }
        }
    }
}
