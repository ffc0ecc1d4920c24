//! What a server refuses or lets wait when there is too much of it: beyond the numbered checks, what clients
//! can hold it to. They run against our server, and with `ZOOID_SERVER=java` against the reference.

use std::time::{Duration, Instant};

use compat_tests::raw::{ANSWER, Client, Connect, Connection, Received, Reply, frame, request};
use compat_tests::request::{OPEN, create, op, set_data, unwatched};
use compat_tests::{Server, Setup};

fn setup(flags: &[(&str, &str)]) -> Setup {
    let words = Setup::standalone().line("4lw.commands.whitelist", "*");
    flags.iter().fold(words, |setup, (key, value)| setup.flag(&format!("zookeeper.{key}"), value))
}

/// A metric of the word `mntr`.
fn metric(server: &Server, name: &str) -> f64 {
    let text = server.word("mntr").expect("mntr is answered");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("zk_{name}\t")));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
}

fn await_metric(server: &Server, name: &str, expected: f64) {
    let deadline = Instant::now() + ANSWER;
    while metric(server, name) != expected {
        assert!(Instant::now() < deadline, "{name} is {}, not {expected}", metric(server, name));
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// setData of `path` with each of these xids, in one piece.
fn many(path: &str, xids: std::ops::Range<i32>) -> Vec<u8> {
    let body = Vec::from(set_data(path, b"x", -1));
    xids.flat_map(|xid| frame(&request(xid, op::SET_DATA, &body))).collect()
}

/// A client whose process dies: it says no farewell and reads nothing more.
struct Abrupt(Connection);

impl Abrupt {
    fn connect(server: &Server) -> Self {
        Self::connect_for(server, Connect::default().time_out)
    }

    fn connect_for(server: &Server, time_out: i32) -> Self {
        let mut connection = Connection::open(server.address());
        connection.send(&Connect { time_out, ..Connect::default() }.payload());
        assert!(matches!(connection.receive(ANSWER), Received::Frame(_)), "no session");
        Self(connection)
    }

    fn receive_reply(&mut self) -> Reply {
        match self.0.receive(ANSWER) {
            Received::Frame(payload) => Reply::parse(payload),
            other => panic!("{other:?} where a reply should come"),
        }
    }

    fn send_bytes(&mut self, bytes: &[u8]) {
        self.0.send_bytes(bytes);
    }
}

#[test]
fn many_clients_share_one_slot_and_each_keeps_its_order() {
    const MOST: i32 = 1300;
    let server = Server::under_test(&setup(&[("request_throttle_max_requests", "1")]));
    let mut clients: Vec<_> = (0..4).map(|_| Client::connect(&server)).collect();
    for (at, c) in clients.iter_mut().enumerate() {
        let path = format!("/t{at}");
        c.create(&path);
        let mut bytes = many(&path, 1000..MOST);
        bytes.extend(frame(&request(MOST, op::EXISTS, &Vec::from(unwatched(&path)))));
        c.send_bytes(&bytes);
    }
    for c in &mut clients {
        for xid in 1000..MOST {
            let reply = c.reply();
            assert_eq!((reply.xid, reply.err), (xid, 0));
        }
        assert_eq!(c.reply().stat().version, MOST - 1000, "it sees all that the client did before");
    }
    await_metric(&server, "outstanding_requests", 0.0);
    assert!(metric(&server, "request_throttle_wait_count") > 0.0);
    assert_eq!(metric(&server, "throttled_ops"), 0.0);
}

#[test]
fn pings_and_the_end_of_a_session_are_never_throttled() {
    let flags = [("request_throttle_max_requests", "1"), ("throttled_op_wait_time", "5")];
    let server = Server::under_test(&setup(&flags));
    let mut c = Client::connect(&server);
    c.create("/pings");
    let mut bytes = Vec::new();
    for from in (1000..3000).step_by(100) {
        bytes.extend(many("/pings", from..from + 100));
        bytes.extend(frame(&request(-2, op::PING, &[])));
    }
    bytes.extend(frame(&request(9000, op::CLOSE_SESSION, &[])));
    c.send_bytes(&bytes);
    let replies: Vec<_> = (0..2021).map(|_| c.reply()).collect();
    c.expect_closed();
    let throttled = replies.iter().filter(|reply| reply.err == -127).count();
    assert!(throttled > 0, "nothing was throttled");
    assert_eq!(metric(&server, "throttled_ops"), throttled as f64);
    assert_eq!(replies.iter().filter(|reply| reply.xid == -2 && reply.err == 0).count(), 20);
    assert_eq!((replies[2020].xid, replies[2020].err), (9000, 0));
    let own = replies.iter().filter(|reply| reply.xid > 0).map(|reply| reply.xid);
    assert!(own.eq((1000..3000).chain([9000])), "each is answered in its place");
    // A throttled reply has the last zxid that the server processed, and takes none.
    assert!(replies.windows(2).all(|pair| pair[1].zxid - pair[0].zxid <= 1));
}

#[test]
fn what_a_client_leaves_in_the_line_is_dropped() {
    let server = Server::under_test(&setup(&[("request_throttle_max_requests", "1")]));
    let mut c = Client::connect(&server);
    c.create("/left");
    let mut gone = Abrupt::connect(&server);
    gone.send_bytes(&many("/left", 1000..1900));
    assert_eq!(gone.receive_reply().xid, 1000, "it is being served");
    drop(gone);
    await_metric(&server, "stale_requests_dropped", 1.0);
    await_metric(&server, "outstanding_requests", 0.0);
    assert!((1..900).contains(&c.stat("/left").version));
    c.create("/left/later");
}

#[test]
fn what_a_client_leaves_in_the_line_is_done_if_it_must_not_be_dropped() {
    let flags = [("request_throttle_max_requests", "1"), ("request_throttle_drop_stale", "false")];
    let server = Server::under_test(&setup(&flags));
    let mut c = Client::connect(&server);
    c.create("/left");
    let mut gone = Abrupt::connect(&server);
    gone.send_bytes(&many("/left", 1000..1300));
    assert_eq!(gone.receive_reply().xid, 1000, "it is being served");
    gone.0.half_close();
    let deadline = Instant::now() + ANSWER;
    while c.stat("/left").version < 300 {
        assert!(Instant::now() < deadline, "only {} of 300 were done", c.stat("/left").version);
    }
    await_metric(&server, "outstanding_requests", 0.0);
}

#[test]
fn a_request_older_than_its_session_ends_the_connection() {
    let flags = [("request_throttle_max_requests", "1"), ("request_stale_latency_check", "true")];
    let setup = setup(&flags).line("tickTime", "100").line("minSessionTimeout", "20");
    let server = Server::under_test(&setup);
    let mut c = Client::connect(&server);
    c.create("/old");
    let mut late = Abrupt::connect_for(&server, 20);
    late.send_bytes(&many("/old", 1000..1900));
    let mut done = 0;
    while let Received::Frame(payload) = late.0.receive(ANSWER) {
        let reply = Reply::parse(payload);
        assert_eq!((reply.xid, reply.err), (1000 + done, 0));
        done += 1;
    }
    assert!(done < 900, "nothing was late");
    assert_eq!(metric(&server, "stale_requests_dropped"), 1.0);
    await_metric(&server, "outstanding_requests", 0.0);
    assert!((done..900).contains(&c.stat("/old").version), "what was answered was done, and not all");
}

#[test]
fn large_requests_give_their_room_back() {
    let flags = [("largeRequestThreshold", "1000"), ("largeRequestMaxBytes", "5000")];
    let server = Server::under_test(&setup(&flags));
    let mut c = Client::connect(&server);
    c.create("/large");
    for _ in 0..20 {
        c.ok(op::SET_DATA, set_data("/large", &[b'x'; 3000], -1));
        assert_eq!(c.err(op::CREATE, create("/large", &[b'x'; 3000], OPEN, 0)), -110, "an error gives it back too");
    }
    assert_eq!(metric(&server, "large_requests_rejected"), 0.0);
    // Of the length alone, the rest is not waited for.
    let mut greedy = Client::connect(&server);
    greedy.send_bytes(&6000i32.to_be_bytes());
    greedy.expect_closed();
    assert_eq!(metric(&server, "large_requests_rejected"), 1.0);
    // Who only announces a large request holds no room.
    let mut tease = Connection::open(server.address());
    tease.send_bytes(&4000i32.to_be_bytes());
    for _ in 0..20 {
        c.ok(op::SET_DATA, set_data("/large", &[b'x'; 4000], -1));
    }
}

#[test]
fn tokens_of_connections_come_back_and_refusals_are_counted() {
    let flags = [
        ("connection_throttle_tokens", "2"),
        ("connection_throttle_fill_time", "3000"),
        ("connection_throttle_fill_count", "2"),
    ];
    let server = Server::under_test(&setup(&flags));
    let _two = [(); 2].map(|_| Client::connect(&server));
    let mut third = Connection::open(server.address());
    third.send(&Connect::default().payload());
    assert_eq!(third.receive(ANSWER), Received::Closed(vec![]));
    assert_eq!(metric(&server, "connection_rejected"), 1.0);
    assert_eq!(metric(&server, "max_connection_token_deficit"), 2.0);
    assert_eq!(metric(&server, "connection_request_count"), 2.0);
    let deadline = Instant::now() + ANSWER;
    loop {
        let mut again = Connection::open(server.address());
        again.send(&Connect::default().payload());
        if matches!(again.receive(ANSWER), Received::Frame(_)) {
            break;
        }
        assert!(Instant::now() < deadline, "no token came back");
    }
}
