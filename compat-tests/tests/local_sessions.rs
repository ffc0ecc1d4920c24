//! Sessions that only their own server knows, and connections that only their own server has, against real ensembles.
//! quorum-protocol 7; client-protocol 2.5, 3.3.

use std::time::{Duration, Instant};

use compat_tests::Setup;
use compat_tests::ensemble::Ensemble;
use compat_tests::raw::{Connect, Received};
use compat_tests::request::{OPEN, create, op, set_data, unwatched};
use jute::records::proto::GetDataResponse;

/// A server answers alone that a local session may have no ephemeral, and that it is closed: in their turn.
#[test]
fn what_a_server_answers_alone_overtakes_nothing() {
    let mut ensemble = Ensemble::of("RRR", &Setup::ensemble().line("localSessionsEnabled", "true"));
    ensemble.start_led_by(3);
    for sid in [1, 3] {
        let mut c = ensemble.client(sid);
        let node = format!("/n{sid}");
        c.ok(op::CREATE, create(&node, b"", OPEN, 0));
        for round in 0..50 {
            let asked = [
                c.send(op::SET_DATA, set_data(&node, b"x", -1)),
                c.send(op::GET_DATA, unwatched(&node)),
                c.send(op::CREATE, create("/ephemeral", b"", OPEN, 1)),
                c.send(op::SET_DATA, set_data(&node, b"y", -1)),
            ];
            let replies: Vec<_> = asked.iter().map(|_| c.reply()).collect();
            assert_eq!(replies.iter().map(|reply| reply.xid).collect::<Vec<_>>(), asked);
            assert_eq!(replies.iter().map(|reply| reply.err).collect::<Vec<_>>(), [0, 0, -120, 0]);
            let read: GetDataResponse = replies[1].record();
            assert_eq!(read.stat.version, 2 * round + 1, "it reads what it has written");
        }
        let asked = [c.send(op::SET_DATA, set_data(&node, b"z", -1)), c.send(op::CLOSE_SESSION, Vec::new())];
        assert_eq!([c.reply().xid, c.reply().xid], asked);
    }
}

/// The session goes on through another server; what is left of it here does not stay as long as that does.
#[test]
fn a_connection_that_nothing_is_heard_on_is_closed() {
    let mut ensemble = Ensemble::of("RRR", &Setup::ensemble());
    ensemble.start_led_by(3);
    let brief = Connect { time_out: 2000, ..Connect::default() };
    let mut left = ensemble.attach(1, &brief);
    let mut goes_on = ensemble.attach(2, &Connect { time_out: 2000, ..Connect::attach(&left.session) });
    // The timeout, and up to ten seconds.
    let since = Instant::now();
    while left.receive(Duration::from_millis(100)) == Received::Silence {
        goes_on.ping();
        assert!(since.elapsed() < Duration::from_secs(60), "it is still open");
    }
    goes_on.expect_open();
}

/// All members have a larger buffer: what fits into it is a transaction like any other.
#[test]
fn a_raised_buffer_is_raised_for_logs_and_proposals() {
    let large = vec![7; 3 << 20];
    let setup = Setup::ensemble().flag("jute.maxbuffer", "4194304");
    for (letters, leader) in [("JJR", 2), ("JRR", 3)] {
        let mut ensemble = Ensemble::of(letters, &setup);
        ensemble.start_led_by(leader);
        let mut c = ensemble.client(3);
        c.ok(op::CREATE, create("/large", &large, OPEN, 0));
        ensemble.kill(3);
        ensemble.client(1).ok(op::SET_DATA, set_data("/large", &large, -1));
        ensemble.start(3);
        ensemble.wait_joined();
        ensemble.check_equal();
    }
}
