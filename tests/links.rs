//! The links between a leader and its learners, over real sockets of this machine.

#![cfg(feature = "shell")]

mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use support::sim::Random;
use zooid::acl::Acl;
use zooid::config::Endpoint;
use zooid::id::{LinkId, SessionId, Zxid};
use zooid::net::names::Names;
use zooid::net::quorum::{LinkEnd, LinkEvent, LinkRules, Links};
use zooid::tree::{Tree, TreeRules, Unwatched, stream};
use zooid::txn::{Create, CreateKind, Header, Txn};
use zooid::zab::packet::{Forwarded, LearnerInfo, PROTOCOL, Packet, PacketReader, Touched};

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn rules() -> LinkRules {
    LinkRules {
        names: Names::default(),
        leader_nodelay: true,
        follower_nodelay: true,
        keep_alive: true,
        max_buffer_bytes: PacketReader::USUAL_MAX,
        snapshot_patience: PATIENCE,
        retry_delay: Duration::from_millis(1),
        max_queued_bytes: LinkRules::USUAL_QUEUED,
        max_unhandled_bytes: LinkRules::USUAL_UNHANDLED,
        tree: TreeRules::default(),
    }
}

/// A server's links, and what happens on them.
struct Server {
    links: Arc<Links>,
    events: mpsc::Receiver<LinkEvent>,
    _runtime: tokio::runtime::Runtime,
}

impl Server {
    fn new(rules: LinkRules) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (sender, events) = mpsc::channel();
        // A test that is over listens no more.
        let sink = Box::new(move |event| drop(sender.send(event)));
        Self { links: Links::new(rules, runtime.handle().clone(), sink), events, _runtime: runtime }
    }

    /// What happens next, but for progress.
    #[track_caller]
    fn next(&self) -> LinkEvent {
        loop {
            match self.events.recv_timeout(PATIENCE).expect("something happens") {
                LinkEvent::SyncProgress { .. } => {}
                event => return event,
            }
        }
    }

    #[track_caller]
    fn listen(&self) -> SocketAddr {
        self.links.listen(vec![endpoint(([127, 0, 0, 1], 0).into())]);
        match self.next() {
            LinkEvent::Listening { at } => at[0],
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn up(&self) -> LinkId {
        match self.next() {
            LinkEvent::Up { link, .. } => link,
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn down(&self) -> LinkEnd {
        match self.next() {
            LinkEvent::Down { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    /// So many packets that come next, dealt with at once.
    #[track_caller]
    fn packets(&self, count: usize) -> Vec<Packet> {
        let mut got = Vec::new();
        while got.len() < count {
            match self.next() {
                LinkEvent::Packets { packets, .. } => got.extend(packets),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(got.len(), count);
        got
    }

    fn send(&self, link: LinkId, packets: &[Packet]) {
        packets.iter().for_each(|packet| self.links.send(link, packet));
        self.links.flush();
    }
}

fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint { host: address.ip().to_string(), port: address.port() }
}

const DIALLED: LinkId = LinkId(7);

/// A leader and a learner, connected.
fn pair(leader: LinkRules, learner: LinkRules) -> (Server, LinkId, Server) {
    let (leader, learner) = (Server::new(leader), Server::new(learner));
    let at = leader.listen();
    learner.links.dial(DIALLED, vec![endpoint(at)], PATIENCE);
    assert_eq!(learner.up(), DIALLED);
    let link = leader.up();
    (leader, link, learner)
}

/// A leader, and a socket that is connected to it.
fn leader_and_socket(rules: LinkRules) -> (Server, LinkId, TcpStream) {
    let leader = Server::new(rules);
    let socket = TcpStream::connect(leader.listen()).unwrap();
    let link = leader.up();
    (leader, link, socket)
}

/// A learner, and the socket that it has dialled.
fn learner_and_socket(rules: LinkRules) -> (Server, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let learner = Server::new(rules);
    learner.links.dial(DIALLED, vec![endpoint(listener.local_addr().unwrap())], PATIENCE);
    let (socket, _) = listener.accept().unwrap();
    assert_eq!(learner.up(), DIALLED);
    (learner, socket)
}

fn proposal(counter: u32, len: usize) -> Packet {
    Packet::Proposal { zxid: Zxid::new(1, counter), txn: vec![counter as u8; len].into() }
}

fn bytes(packets: &[Packet]) -> Vec<u8> {
    let mut out = BytesMut::new();
    packets.iter().for_each(|packet| packet.write(&mut out));
    out.to_vec()
}

/// A tree of this many nodes, besides the built-in ones.
fn tree(nodes: usize) -> Tree {
    let mut tree = Tree::new(TreeRules::default());
    for n in 0..nodes {
        let header = Header { session: SessionId(1), cxid: 0, zxid: Zxid::new(1, n as u32 + 1), time: 1 };
        let create = Create {
            kind: CreateKind::Create { ephemeral: false },
            path: if n < 100 { format!("/n{n}") } else { format!("/n{}/n{n}", n % 100) }.into(),
            data: Some(Bytes::from(vec![b'x'; 50])),
            acl: Some(Acl::open()),
            parent_cversion: -1,
        };
        tree.apply(&header, &Txn::Create(create), &mut Unwatched);
    }
    tree
}

#[test]
fn packets_go_both_ways_in_their_order() {
    let (leader, link, learner) = pair(rules(), rules());
    let info = LearnerInfo { server: Some(3), protocol: PROTOCOL, config_version: 0, mark: None };
    let hello = [Packet::FollowerInfo { accepted: 1, info }];
    learner.send(DIALLED, &hello);
    assert_eq!(leader.packets(1), hello);
    let down: Vec<Packet> = (1..=10_000).map(|counter| proposal(counter, counter as usize % 300)).collect();
    let up: Vec<Packet> = (1..=10_000).map(|counter| Packet::Ack { zxid: Zxid::new(1, counter) }).collect();
    for (down, up) in down.chunks(37).zip(up.chunks(37)) {
        leader.send(link, down);
        learner.send(DIALLED, up);
    }
    assert_eq!(learner.packets(down.len()), down);
    assert_eq!(leader.packets(up.len()), up);
    // The same words, said by the two ends.
    learner
        .send(DIALLED, &[Packet::Ping { zxid: Zxid(5), touched: Some(vec![Touched { session: 1, timeout_ms: 2 }]) }]);
    leader.send(link, &[Packet::Ping { zxid: Zxid(5), touched: None }]);
    assert!(matches!(leader.packets(1)[..], [Packet::Ping { touched: Some(_), .. }]));
    assert!(matches!(learner.packets(1)[..], [Packet::Ping { touched: None, .. }]));
    // Who closes hears no more of the link; the other end does, once.
    learner.links.close(DIALLED);
    assert!(matches!(leader.down(), LinkEnd::Gone | LinkEnd::Io(_)));
    leader.links.send(link, &Packet::Sync);
    learner.links.dial(LinkId(8), vec![], PATIENCE);
    match learner.next() {
        LinkEvent::Down { link, why: LinkEnd::Unreachable(_) } => assert_eq!(link, LinkId(8)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_snapshot_streams_while_packets_queue_behind_it() {
    let (leader, link, learner) = pair(rules(), rules());
    let tree = Arc::new(tree(100_000));
    let snap = Packet::Snap { zxid: Zxid::new(1, 99_000) };
    let before = [Packet::LeaderInfo { epoch: 2, mark: None }, snap];
    before.iter().for_each(|packet| leader.links.send(link, packet));
    let streamed = tree.clone();
    leader.links.send_snapshot(link, move |out| stream::write_tree(&streamed, out).map(|_| ()));
    let behind: Vec<Packet> = (1..=2000).map(|counter| proposal(counter, 100)).collect();
    for some in behind.chunks(100) {
        leader.send(link, some);
    }
    assert_eq!(learner.packets(2), before);
    let arrived = match learner.next() {
        LinkEvent::Snapshot { link: DIALLED, tree } => tree,
        other => panic!("{other:?}"),
    };
    assert_eq!(arrived.last_zxid(), Zxid::new(1, 99_000));
    assert_eq!((arrived.digest(), arrived.node_count()), (tree.digest(), tree.node_count()));
    assert_eq!(learner.packets(behind.len()), behind);
    // And another one, on the same link.
    leader.links.send(link, &Packet::Snap { zxid: Zxid(9) });
    leader.links.send_snapshot(link, move |out| stream::write_tree(&tree, out).map(|_| ()));
    leader.send(link, &behind[..1]);
    assert_eq!(learner.packets(1), [Packet::Snap { zxid: Zxid(9) }]);
    assert!(matches!(learner.next(), LinkEvent::Snapshot { tree, .. } if tree.last_zxid() == Zxid(9)));
    assert_eq!(learner.packets(1), behind[..1]);
}

#[test]
fn segments_may_end_anywhere() {
    let mut random = Random(5);
    let tree = tree(300);
    let behind = [proposal(1, 10_000), Packet::Commit { zxid: Zxid::new(1, 1) }, Packet::UpToDate];
    let snap = [Packet::Snap { zxid: Zxid::new(1, 300) }];
    let stream = [bytes(&snap), stream::write_tree(&tree, Vec::new()).unwrap(), bytes(&behind)].concat();
    for most in [1, 20, 3000] {
        let (learner, mut socket) = learner_and_socket(rules());
        socket.set_nodelay(true).unwrap();
        let mut rest = &stream[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at((1 + random.below(most) as usize).min(rest.len()));
            socket.write_all(now).unwrap();
            rest = later;
        }
        assert_eq!(learner.packets(1), snap);
        match learner.next() {
            LinkEvent::Snapshot { tree: arrived, .. } => support::trees::assert_equal("in segments", &tree, &arrived),
            other => panic!("{other:?}"),
        }
        assert_eq!(learner.packets(behind.len()), behind);
        drop(socket);
        assert!(matches!(learner.down(), LinkEnd::Gone));
    }
}

#[test]
fn a_peer_that_does_not_read_loses_its_link() {
    let (leader, link, _socket) = leader_and_socket(LinkRules { max_queued_bytes: 1 << 20, ..rules() });
    let mut counter = 0;
    let end = loop {
        counter += 1;
        leader.send(link, &[proposal(counter, 10_000)]);
        match leader.events.try_recv() {
            Ok(LinkEvent::Down { why, .. }) => break why,
            Ok(other) => panic!("{other:?}"),
            Err(_) => {}
        }
    };
    assert!(matches!(end, LinkEnd::TooSlow(bytes) if bytes > 1 << 20 && bytes < 2 << 20), "{end}");
}

#[test]
fn closing_a_link_ends_the_snapshot_that_nobody_takes() {
    let (leader, link, _socket) = leader_and_socket(rules());
    let (told, ended) = mpsc::channel();
    leader.links.send(link, &Packet::Snap { zxid: Zxid(1) });
    leader.links.send_snapshot(link, move |out| {
        let (chunk, mut written) = (vec![0; 64 << 10], 0);
        let error = loop {
            match out.write_all(&chunk) {
                Ok(()) => written += chunk.len(),
                Err(error) => break error,
            }
            // The sockets are full long before, and the rest is pressed back.
            if written == 64 << 20 {
                told.send(None).unwrap();
            }
        };
        told.send(Some(error.kind())).unwrap();
        Err(error)
    });
    leader.links.flush();
    leader.links.close(link);
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(Some(io::ErrorKind::BrokenPipe)));
}

#[test]
fn a_snapshot_that_cannot_be_read_ends_the_link() {
    let (leader, link, mut socket) = leader_and_socket(rules());
    let snap = Packet::Snap { zxid: Zxid(1) };
    leader.links.send(link, &snap);
    leader.links.send_snapshot(link, |out| {
        out.write_all(b"some of it")?;
        Err(io::Error::other("the image is gone"))
    });
    leader.send(link, &[Packet::UpToDate]);
    assert!(matches!(leader.down(), LinkEnd::SnapshotFailed));
    let mut got = Vec::new();
    socket.read_to_end(&mut got).unwrap();
    assert_eq!(got, [&bytes(&[snap])[..], b"some of it"].concat(), "nothing follows half a snapshot");
}

#[test]
fn a_snapshot_that_stands_still_is_given_up() {
    let patience = Duration::from_millis(30);
    let (learner, mut socket) = learner_and_socket(LinkRules { snapshot_patience: patience, ..rules() });
    let snap = [Packet::Snap { zxid: Zxid(1) }];
    socket.write_all(&[&bytes(&snap)[..], &[0, 0, 0, 1, 0, 0]].concat()).unwrap();
    assert_eq!(learner.packets(1), snap);
    assert!(matches!(learner.events.recv_timeout(PATIENCE), Ok(LinkEvent::SyncProgress { link: DIALLED })));
    assert!(matches!(learner.down(), LinkEnd::SnapshotStalled(given) if given == patience));
}

/// How long a peer may take to deal with what it was sent is counted from when it had it.
#[test]
fn a_leader_hears_when_a_peer_has_taken_a_snapshot() {
    let (leader, link, mut socket) = leader_and_socket(rules());
    let snap = Packet::Snap { zxid: Zxid(1) };
    let length = bytes(std::slice::from_ref(&snap)).len() + (64 << 20);
    leader.links.send(link, &snap);
    leader.links.send_snapshot(link, |out| (0..64).try_for_each(|_| out.write_all(&[7; 1 << 20])));
    leader.links.flush();
    let mut got = vec![0; length];
    socket.read_exact(&mut got).unwrap();
    assert!(matches!(leader.events.recv_timeout(PATIENCE), Ok(LinkEvent::SyncProgress { link: at }) if at == link));
}

/// Also what is sent as soon as its last byte was handed over.
#[test]
fn nothing_comes_between_a_snap_and_its_snapshot() {
    let (leader, link, mut socket) = leader_and_socket(rules());
    let snap = [Packet::Snap { zxid: Zxid(1) }];
    let expected = [&bytes(&snap)[..], b"a small snapshot", &bytes(&[Packet::UpToDate])].concat();
    for round in 0..1000 {
        leader.links.send(link, &snap[0]);
        let links = leader.links.clone();
        leader.links.send_snapshot(link, move |out| {
            out.write_all(b"a small snapshot")?;
            links.send(link, &Packet::UpToDate);
            links.flush();
            Ok(())
        });
        leader.links.flush();
        let mut got = vec![0; expected.len()];
        socket.read_exact(&mut got).unwrap();
        assert_eq!(got, expected, "round {round}");
    }
}

/// What is sent in parts goes no faster than it is taken.
#[test]
fn a_leader_hears_when_what_it_has_sent_went_out() {
    let (leader, link, mut socket) = leader_and_socket(rules());
    let before: Vec<Packet> = (1..64).map(|counter| proposal(counter, 1 << 20)).collect();
    leader.send(link, &before);
    leader.links.await_drained(link);
    leader.send(link, &[Packet::UpToDate]);
    let drained = |event: &LinkEvent| matches!(event, LinkEvent::Drained { link: at } if *at == link);
    assert!(!leader.events.try_iter().any(|event| drained(&event)), "no socket holds as much");
    let mut got = vec![0; bytes(&before).len() + bytes(&[Packet::UpToDate]).len()];
    socket.read_exact(&mut got).unwrap();
    while !drained(&leader.next()) {}
}

/// Who says nothing keeps nobody out, and is lent little memory.
#[test]
fn strangers_make_room_for_a_learner() {
    let leader = Server::new(rules());
    let at = leader.listen();
    let silent: Vec<TcpStream> = (0..1100).map(|_| TcpStream::connect(at).unwrap()).collect();
    let mut learner = TcpStream::connect(at).unwrap();
    let hello = [Packet::Ack { zxid: Zxid(1) }];
    learner.write_all(&bytes(&hello)).unwrap();
    let (mut up, mut evicted) = (0, 0);
    loop {
        match leader.next() {
            LinkEvent::Up { .. } => up += 1,
            LinkEvent::Down { why: LinkEnd::Silent, .. } => evicted += 1,
            LinkEvent::Packets { packets, .. } => break assert_eq!(packets, hello),
            other => panic!("{other:?}"),
        }
    }
    assert!(up - evicted <= 65, "{up} came, {evicted} had to go");
    drop(silent);

    let (leader, _, mut socket) = leader_and_socket(rules());
    let body = vec![0; 100_000];
    let large = Packet::Request(Forwarded { session: 1, cxid: 2, op: 1, body: body.into(), identities: None });
    socket.write_all(&bytes(&[large])).unwrap();
    assert!(matches!(leader.down(), LinkEnd::NoPacket(_)));
}

#[test]
fn garbage_ends_the_link_behind_what_was_right() {
    let (leader, _, mut socket) = leader_and_socket(rules());
    let right = [Packet::Ack { zxid: Zxid(1) }, Packet::Ack { zxid: Zxid(2) }];
    socket.write_all(&[&bytes(&right)[..], b"GET / HTTP/1.1\r\n\r\n"].concat()).unwrap();
    assert_eq!(leader.packets(2), right);
    assert!(matches!(leader.down(), LinkEnd::NoPacket(_)));

    let (learner, mut socket) = learner_and_socket(rules());
    let snap = [Packet::Snap { zxid: Zxid(1) }];
    let no_tree = b"\0\0\0\0\0\0\0\0\0\0\0\x01/\0\0\0\x0aBenWasHere";
    socket.write_all(&[&bytes(&snap)[..], no_tree].concat()).unwrap();
    assert_eq!(learner.packets(1), snap);
    assert!(matches!(learner.down(), LinkEnd::NoSnapshot(_)));
}

/// What nobody deals with is not read without end: it is pressed back to who sends it.
#[test]
fn a_peer_that_is_not_listened_to_is_not_read() {
    let limit = 100_000;
    let (leader, _, mut socket) = leader_and_socket(LinkRules { max_unhandled_bytes: limit, ..rules() });
    let request =
        Packet::Request(Forwarded { session: 1, cxid: 2, op: 1, body: vec![0; 5000].into(), identities: None });
    let request = bytes(&[request]);
    let many = request.repeat(20);
    socket.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut written = 0;
    while let Ok(more) = socket.write(&many[written % many.len()..]) {
        written += more;
        assert!(written < 256 << 20, "all of it is taken");
    }
    let mut held = Vec::new();
    let (mut count, mut batch) = (0, 0);
    while count * request.len() <= limit {
        match leader.next() {
            LinkEvent::Packets { packets, room, .. } => {
                batch = packets.len();
                count += batch;
                held.push(room);
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(leader.events.try_recv().is_err());
    assert!((count - batch) * request.len() <= limit, "it was read beyond the limit");
    // Once there is room it is read to the end.
    held.clear();
    leader.packets(written / request.len() - count);
}

#[test]
fn the_first_address_that_answers_is_taken() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (leader, learner) = (Server::new(rules()), Server::new(rules()));
    let at = leader.listen();
    let unknown = Endpoint { host: "no-such-host.invalid".to_owned(), port: 1 };
    learner.links.dial(DIALLED, vec![endpoint(nobody), unknown, endpoint(at)], PATIENCE);
    match learner.next() {
        LinkEvent::Up { link: DIALLED, peer } => assert_eq!(peer, at),
        other => panic!("{other:?}"),
    }
    leader.up();
    learner.links.dial(LinkId(8), vec![endpoint(nobody)], PATIENCE);
    match learner.down() {
        LinkEnd::Unreachable(why) => assert!(why.contains(&nobody.to_string()), "{why}"),
        other => panic!("{other:?}"),
    }
    // A dial that takes too long for whoever wants it.
    let late = Server::new(LinkRules { retry_delay: PATIENCE, ..rules() });
    late.links.dial(LinkId(1), vec![endpoint(nobody)], Duration::from_millis(20));
    assert!(matches!(late.down(), LinkEnd::Unreachable(why) if why == "no answer in 20 ms"));
    // One that is closed is not heard of again.
    late.links.dial(LinkId(2), vec![endpoint(nobody)], PATIENCE);
    late.links.close(LinkId(2));
    late.links.dial(LinkId(3), vec![], PATIENCE);
    assert!(matches!(late.next(), LinkEvent::Down { link: LinkId(3), .. }));
}

#[test]
fn a_leader_that_stops_gives_its_port_back_and_keeps_its_links() {
    let (leader, link, learner) = pair(rules(), rules());
    let first = leader.listen();
    let taken = Server::new(rules());
    taken.links.listen(vec![endpoint(first)]);
    match taken.next() {
        LinkEvent::NotListening { why } => assert!(why.contains(&first.to_string()), "{why}"),
        other => panic!("{other:?}"),
    }
    leader.links.stop_listening();
    leader.links.listen(vec![endpoint(first)]);
    assert!(matches!(leader.next(), LinkEvent::Listening { at } if at == [first]));
    leader.send(link, &[Packet::UpToDate]);
    assert_eq!(learner.packets(1), [Packet::UpToDate]);
    leader.links.close_all();
    assert!(matches!(learner.down(), LinkEnd::Gone | LinkEnd::Io(_)));
    assert!(learner.events.try_recv().is_err());
}
