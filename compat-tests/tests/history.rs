//! The checker of histories, checked: it accepts what a server did, and refuses whatever was broken by hand, for the
//! right reason.

mod story;

use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::history::check::{Figures, Property, Report, Sync, check};
use compat_tests::history::log::{self, Record, Txn};
use compat_tests::history::model;
use compat_tests::history::record::{Reader, Recording};
use compat_tests::history::{
    Calm, Dumped, Event, NODE_CREATED, NODE_DATA_CHANGED, NODE_DELETED, Operation, Outcome, Received, Refusal, Request,
    Watch,
};
use compat_tests::random::Random;
use compat_tests::{Server, Setup};

use story::{A, A2, B, C, D, D2, MILLISECOND, Story, story};

/// One server, killed under load and started again: everything it promises holds for one as for three.
#[test]
fn what_a_server_did_is_accepted() {
    let setup = Setup::standalone().line("tickTime", "200").line("preAllocSize", "1024");
    let mut server = Server::zooid(&setup);
    let recording = Recording::start(8, &[server.address()], 300, 1);
    for round in 0..5 {
        let written = recording.progress().written();
        let deadline = Instant::now() + Duration::from_secs(20);
        while recording.progress().written() < written + 500 {
            assert!(Instant::now() < deadline, "round {round}: no writes\n{}", server.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        server.restart();
    }
    let mut history = recording.finish();
    let mut reader = Reader::connect(0, server.address()).expect("the server serves");
    let deadline = Instant::now() + Duration::from_secs(20);
    let dump = loop {
        match reader.dump() {
            Ok(dump) => break dump,
            Err(why) => assert!(Instant::now() < deadline, "{why}"),
        }
    };
    history.dumps.push(dump);
    server.stop();
    history.logs.push(log::read(&server.data_dir()).expect("the log can be read"));
    let report = check(&history, Sync::Linearizable);
    accept(&report);
    let Figures { writes, reads, events, links, .. } = report.figures;
    assert!(writes > 2000 && reads > 2000 && events > 200 && links > 20, "{:?}", report.figures);
}

fn accept(report: &Report) {
    let violations: Vec<String> = report.violations.iter().map(|v| format!("{:?}: {}", v.property, v.what)).collect();
    assert!(violations.is_empty(), "{:?}\n{}", report.figures, violations.join("\n"));
    println!("{:?}", report.figures);
}

// ---- right histories ----

#[test]
fn a_right_history_is_accepted() {
    accept(&check(&story().history, Sync::Linearizable));
}

#[test]
fn a_request_without_an_answer_may_have_done_nothing() {
    let mut story = story();
    let link = story.session(0xf, 1, 4000);
    story.send(link, set("/r", "never", -1));
    accept(&check(&story.end().history, Sync::Linearizable));
}

#[test]
fn a_new_epoch_begins_with_one() {
    let mut story = story();
    story.new_epoch();
    // A leader that has nothing to tell yet stands before its first transaction.
    story.ask(B, Request::Ping);
    story.ask(B, set("/z", "new", -1));
    accept(&check(&story.end().history, Sync::Linearizable));
}

#[test]
fn a_member_may_have_lost_the_beginning_of_its_log() {
    let mut history = story().history;
    history.logs[1].drain(..7);
    accept(&check(&history, Sync::Linearizable));
}

#[test]
fn a_write_without_room_is_refused_without_a_place() {
    let mut story = story();
    let at = story.send(B, set("/r", "full", -1));
    let zxid = story.zxid();
    story.answer(B, at, zxid, model::OPERATION_TIMEOUT, Outcome::Nothing);
    accept(&check(&story.end().history, Sync::Linearizable));
}

/// A leader that was replaced and does not know it: Java's promise of `sync` allows it, the stronger one does not.
#[test]
fn a_sync_of_a_replaced_leader_is_a_matter_of_strictness() {
    let mut story = story();
    let reader = story.session(0xf, 2, 4000);
    let before = story.zxid();
    story.new_epoch();
    story.ask(B, set("/z", "elsewhere", -1));
    let at = story.send(reader, Request::Sync { path: "/".into() });
    story.answer(reader, at, before, 0, Outcome::Nothing);
    let history = story.end().history;
    accept(&check(&history, Sync::Sequential));
    assert_eq!(broken(&check(&history, Sync::Linearizable)), [Property::Y1]);
}

/// How long this thread has run; others may have the machine meanwhile.
fn on_the_processor() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells it");
    let nanos = text.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.expect("the first number is the time in nanoseconds"))
}

/// A million in an optimised build, which tests are when they run as a whole.
#[test]
fn a_million_operations_take_seconds() {
    let count = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };
    let mut story = story();
    let links: Vec<usize> = (0..8).map(|client| story.session(0x100 + client, client as usize % 3, 4000)).collect();
    story.ask(links[0], create("/many", "", 0));
    let mut random = Random(7);
    let watch = Watch::No;
    for _ in 0..count {
        let link = random.pick(&links);
        let path = format!("/many/{}", random.below(1000));
        let request = match random.below(10) {
            0..3 => set(&path, "some data, of the size that is usual in such places", -1),
            3 => create(&path, "", 0),
            4 => Request::Delete { path: path.into(), version: -1 },
            5 => Request::Multi(vec![set(&path, "in a multi", -1), set("/many", "in a multi", -1)]),
            6 => Request::Exists { path: path.into(), watch },
            _ => Request::GetData { path: path.into(), watch },
        };
        story.ask(link, request);
    }
    let history = story.end().history;
    let began = on_the_processor();
    let report = check(&history, Sync::Linearizable);
    let took = on_the_processor() - began;
    accept(&report);
    println!("{count} operations took {took:?}");
    assert!(took < Duration::from_secs(10), "{count} operations took {took:?}");
}

// ---- broken ones ----

type Breaking = fn(&mut Story);

/// What is broken, what the checker must say, and how it is broken.
const BROKEN: &[(&str, &[Property], Breaking)] = &[
    ("a read behind its zxid", &[Property::R1], |s| {
        let old = s.answer_of(B, "first read").outcome.clone();
        s.answer_mut(B, "second read").outcome = old;
    }),
    ("a read ahead of its zxid", &[Property::R1], |s| {
        let new = s.answer_of(B, "second read").outcome.clone();
        s.answer_mut(B, "first read").outcome = new;
    }),
    ("a read of a deleted node", &[Property::R1], |s| {
        let answer = s.answer_mut(B, "exists gone");
        (answer.err, answer.outcome) = (0, Outcome::Stat(Default::default()));
    }),
    ("a read that does not find what is there", &[Property::R1], |s| {
        let answer = s.answer_mut(B, "second read");
        (answer.err, answer.outcome) = (model::NO_NODE, Outcome::Nothing);
    }),
    ("a read of half a multi", &[Property::R1], |s| {
        let answer = s.answer_mut(B, "read of the multi");
        (answer.err, answer.outcome) = (model::NO_NODE, Outcome::Nothing);
    }),
    ("a child left out", &[Property::R1], |s| {
        let Outcome::Children(names, _) = &mut s.answer_mut(B, "children").outcome else { unreachable!() };
        names.pop();
    }),
    ("a child too many", &[Property::R1], |s| {
        let Outcome::Children(names, _) = &mut s.answer_mut(B, "children").outcome else { unreachable!() };
        names.push("zzz".into());
    }),
    ("rights that nobody gave", &[Property::R1], |s| {
        let Outcome::Acl(perms, _) = &mut s.answer_mut(B, "rights").outcome else { unreachable!() };
        *perms = model::ALL;
    }),
    ("another owner in a Stat", &[Property::R1], |s| {
        let Outcome::Stat(stat) = &mut s.answer_mut(B, "exists ephemeral").outcome else { unreachable!() };
        stat.ephemeral_owner = 0xb;
    }),
    ("another cversion in a Stat", &[Property::R1], |s| {
        let Outcome::Children(_, Some(stat)) = &mut s.answer_mut(B, "children").outcome else { unreachable!() };
        stat.cversion += 1;
    }),
    ("a read at a zxid that was never given", &[Property::R1], |s| {
        let zxid = s.zxid();
        s.answer_mut(B, "last read").zxid = zxid + 9;
    }),
    ("a zxid that falls", &[Property::R2], |s| {
        let (zxid, outcome) = (s.answer_of(B, "first read").zxid, s.answer_of(B, "first read").outcome.clone());
        let answer = s.answer_mut(B, "third read");
        (answer.zxid, answer.outcome) = (zxid, outcome);
    }),
    ("a server behind what the client had seen", &[Property::R2], |s| {
        let zxid = s.zxid();
        s.history.links[B].last_seen = zxid + 1;
    }),
    ("an acknowledged write that is lost", &[Property::D1, Property::R1, Property::D2], |s| {
        s.logs(|log| _ = log.pop());
    }),
    ("a write acknowledged at a zxid that it does not have", &[Property::D1, Property::R2], |s| {
        s.answer_mut(B, "last write").zxid += 1;
    }),
    ("two writes acknowledged at one zxid", &[Property::D1], |s| {
        let zxid = s.answer_of(A, "pipelined 1").zxid;
        s.answer_mut(A, "pipelined 2").zxid = zxid;
    }),
    // The acknowledgement itself shows what is asked for only later.
    ("a write before one that was acknowledged when it was sent", &[Property::W1, Property::R6], |s| {
        let (one, two) = (s.session(0xe, 0, 4000), s.session(0xf, 1, 4000));
        let (first, second) = (s.ask(one, set("/z", "1", -1)), s.ask(two, set("/z", "2", -1)));
        s.end_here();
        let times =
            |operation: &Operation| (operation.invoked, operation.answer.as_ref().expect("it was answered").returned);
        let first_times = times(&s.history.links[one].operations[first]);
        let second_times = times(&s.history.links[two].operations[second]);
        for (link, at, (invoked, returned)) in [(one, first, second_times), (two, second, first_times)] {
            let operation = &mut s.history.links[link].operations[at];
            operation.invoked = invoked;
            operation.answer.as_mut().expect("it was answered").returned = returned;
        }
    }),
    ("a request that takes effect twice", &[Property::W2], |s| {
        let last = s.last_record();
        s.log(Record { zxid: last.zxid + 1, ..last });
    }),
    // The second time is behind the session's end and its later requests.
    ("a request without an answer that takes effect twice", &[Property::W2, Property::R4, Property::E1], |s| {
        let record = s.record_of(A, "unknown");
        let zxid = s.zxid();
        s.log(Record { zxid: zxid + 1, ..record });
    }),
    ("an effect that nobody asked for", &[Property::W2], |s| {
        let last = s.last_record();
        s.log(Record { zxid: last.zxid + 1, cxid: 999, ..last });
    }),
    ("other data than was asked for", &[Property::W2], |s| {
        s.change_record(A, "third set", |record| {
            let Txn::SetData { data, .. } = &mut record.txn else { unreachable!() };
            *data = Bytes::from_static(b"z");
        });
    }),
    ("another error", &[Property::W3], |s| {
        s.change_record(B, "delete nothing", |record| record.txn = Txn::Error(model::NOT_EMPTY));
        s.answer_mut(B, "delete nothing").err = model::NOT_EMPTY;
    }),
    ("an error in the reply alone", &[Property::W3], |s| {
        s.answer_mut(B, "delete nothing").err = model::BAD_VERSION;
    }),
    ("a write refused that was in order", &[Property::W3, Property::R1, Property::D2], |s| {
        s.change_record(B, "last write", |record| record.txn = Txn::Error(model::BAD_VERSION));
        let answer = s.answer_mut(B, "last write");
        (answer.err, answer.outcome) = (model::BAD_VERSION, Outcome::Nothing);
    }),
    ("a write without the right to it", &[Property::W3, Property::T1, Property::D2], |s| {
        s.change_record(C, "guarded write", |record| {
            record.txn = Txn::SetData { path: "/a".into(), data: Bytes::from_static(b"mine"), version: 1 };
        });
        let answer = s.answer_mut(C, "guarded write");
        (answer.err, answer.outcome) = (0, Outcome::Stat(Default::default()));
    }),
    ("a write refused for want of room that happened", &[Property::W3], |s| {
        let answer = s.answer_mut(B, "last write");
        (answer.err, answer.outcome) = (model::OPERATION_TIMEOUT, Outcome::Nothing);
    }),
    ("replies out of turn", &[Property::R4], |s| {
        let at = s.position(B, "first ping");
        s.history.links[B].received.swap(at, at + 1);
    }),
    ("a reply that answers nothing", &[Property::R4], |s| s.history.oddities.push("a reply to nothing".into())),
    ("a connection's writes in another order", &[Property::R4, Property::R2], |s| {
        let (one, two) = (s.record_of(A, "pipelined 1"), s.record_of(A, "pipelined 2"));
        let (first, second) = (one.zxid, two.zxid);
        let swapped = |of: &Record, place: &Record| {
            let Txn::SetData { path, data, .. } = of.txn.clone() else { unreachable!() };
            let Txn::SetData { version, .. } = place.txn else { unreachable!() };
            Record { zxid: place.zxid, time: place.time, txn: Txn::SetData { path, data, version }, ..*of }
        };
        let (one, two) = (swapped(&one, &two), swapped(&two, &one));
        s.logs(|log| {
            for record in log {
                match record.zxid {
                    zxid if zxid == first => *record = two.clone(),
                    zxid if zxid == second => *record = one.clone(),
                    _ => {}
                }
            }
        });
        let (a, b) = (s.answer_of(A, "pipelined 1").clone(), s.answer_of(A, "pipelined 2").clone());
        *s.answer_mut(A, "pipelined 1") = b;
        *s.answer_mut(A, "pipelined 2") = a;
    }),
    ("a write left out before one that happened", &[Property::R4], |s| {
        let link = s.session(0xf, 1, 4000);
        s.send(link, set("/r", "left out", -1));
        let at = s.send(link, set("/z", "later", -1));
        s.happen(link, at);
        s.end_here();
    }),
    ("a read of what was asked for only later", &[Property::R6], |s| {
        let invoked = s.operation_mut(A, "second set").invoked;
        let operation = s.operation_mut(B, "second read");
        operation.invoked = invoked - MILLISECOND;
        operation.answer.as_mut().expect("it was answered").returned = invoked - MILLISECOND / 2;
    }),
    ("a sync that does not show what was acknowledged", &[Property::Y1], |s| {
        let zxid = s.answer_of(D, "before the sync").zxid;
        s.answer_mut(D, "sync").zxid = zxid;
    }),
    ("results of a multi that it did not have", &[Property::M1], |s| {
        let Outcome::Multi(results) = &mut s.answer_mut(A, "multi").outcome else { unreachable!() };
        results.swap(0, 1);
    }),
    ("a failed multi with no culprit", &[Property::M1], |s| {
        let Outcome::Multi(results) = &mut s.answer_mut(A, "failed multi").outcome else { unreachable!() };
        results[1].0 = 0;
    }),
    ("a failed multi of which a part happened", &[Property::M1, Property::D2], |s| {
        s.change_record(A, "failed multi", |record| {
            let set = Txn::SetData { path: "/y".into(), data: Bytes::from_static(b"no"), version: 1 };
            record.txn = Txn::Multi(vec![set, Txn::Check { path: "/r".into(), version: 99 }]);
        });
    }),
    ("a number that is given again", &[Property::Q1, Property::D2], |s| {
        s.change_record(A, "third in the queue", |record| {
            let Txn::Create { path, .. } = &mut record.txn else { unreachable!() };
            *path = "/q/n-0000000000".into();
        });
        s.answer_mut(A, "third in the queue").outcome = Outcome::Path("/q/n-0000000000".into());
    }),
    ("another name in the reply than in the log", &[Property::Q1], |s| {
        s.answer_mut(A, "third in the queue").outcome = Outcome::Path("/q/n-0000000007".into());
    }),
    ("another Stat in the reply to a write", &[Property::T1], |s| {
        let Outcome::Stat(stat) = &mut s.answer_mut(A, "second set").outcome else { unreachable!() };
        stat.mzxid -= 1;
    }),
    ("an ephemeral that outlives its session", &[Property::E1], |s| {
        s.change_record(A2, "close", |record| record.txn = Txn::CloseSession { paths: Vec::new() });
    }),
    ("a create of a session that is closed", &[Property::E1], |s| {
        let at = s.send(A2, create("/late", "", 0));
        s.happen(A2, at);
        s.end_here();
    }),
    ("a session that is opened twice", &[Property::E1], |s| {
        let zxid = s.zxid();
        let time = s.wall();
        s.log(Record { zxid: zxid + 1, session: 0xb, cxid: 0, time, txn: Txn::OpenSession { timeout_ms: 4000 } });
    }),
    ("a session that expires early", &[Property::E2], |s| {
        let closed = s.expiry_of(0xc);
        s.logs(|log| log.iter_mut().filter(|record| record.zxid == closed).for_each(|record| record.time -= 100));
    }),
    ("a session that never expires", &[Property::E3], |s| {
        let from = s.now();
        let tick = Duration::from_millis(200);
        s.history.calm = Some(Calm { from, to: from + 10_000 * MILLISECOND, tick });
    }),
    ("a session in place of another", &[Property::E4], |s| s.history.links[B].wanted = 0x77),
    ("an open session that is refused", &[Property::E4], |s| {
        let at = s.now();
        s.history.refusals.push(Refusal { client: 1, server: 2, session: 0xb, asked: at, refused: at + 1 });
    }),
    ("a write over the connection that a session has left", &[Property::E5], |s| {
        s.ask(D, set("/z", "from the old one", -1));
        s.end_here();
    }),
    ("an event behind what it tells of", &[Property::V1], |s| {
        let at = s.position(B, "second read");
        s.history.links[B].received.swap(at - 1, at);
    }),
    ("an event that does not come", &[Property::V3], |s| s.remove_event(NODE_DATA_CHANGED, "/r", 0)),
    ("an event of a lasting watch that does not come", &[Property::V3], |s| s.remove_event(NODE_DATA_CHANGED, "/r", 2)),
    ("an event that comes twice", &[Property::V4], |s| {
        let at = s.position(B, "second read");
        let event = s.history.links[B].received[at - 1].clone();
        s.history.links[B].received.insert(at, event);
    }),
    ("an event for nothing", &[Property::V4], |s| {
        let (at, zxid) = (s.now(), s.zxid());
        let event = Event { at, zxid, kind: NODE_DELETED, path: "/q".into() };
        s.history.links[B].received.push(Received::Event(event));
    }),
    ("an event of another kind", &[Property::V4], |s| {
        let at = s.position(B, "second read");
        let Received::Event(event) = &mut s.history.links[B].received[at - 1] else { unreachable!() };
        event.kind = NODE_CREATED;
    }),
    ("an event of another zxid", &[Property::V4], |s| {
        let at = s.position(B, "second read");
        let Received::Event(event) = &mut s.history.links[B].received[at - 1] else { unreachable!() };
        event.zxid -= 1;
    }),
    ("events in another order", &[Property::V2], |s| {
        let at = s.position(B, "ping behind two events");
        s.history.links[B].received.swap(at - 2, at - 1);
    }),
    ("a change missed between two connections", &[Property::V5], |s| {
        s.history.links[A2].received.retain(|received| matches!(received, Received::Answer(_)));
    }),
    ("a change told that was none", &[Property::V5], |s| {
        let event = Event { at: 0, zxid: -1, kind: NODE_DELETED, path: "/r".into() };
        s.history.links[A2].received.insert(0, Received::Event(event));
    }),
    ("an old change told to nobody who asked", &[Property::V5], |s| {
        let event = Event { at: 0, zxid: -1, kind: NODE_DELETED, path: "/r".into() };
        s.history.links[C].received.push(Received::Event(event));
    }),
    ("a member with another value", &[Property::D2], |s| {
        let node = s.history.dumps[1].nodes.get_mut("/r").expect("it is there");
        node.data = Bytes::from_static(b"other");
    }),
    ("a member with another time", &[Property::D2], |s| {
        s.history.dumps[2].nodes.get_mut("/r").expect("it is there").stat.mtime += 1;
    }),
    ("a member with a node too many", &[Property::D2], |s| {
        let node = Dumped { data: Bytes::new(), perms: model::ALL, stat: Default::default() };
        s.history.dumps[0].nodes.insert("/e".into(), node);
    }),
    ("a member that lags for ever", &[Property::D2], |s| {
        let last = s.last_record();
        s.history.dumps[1].zxid = last.zxid - 1;
        s.history.dumps[1].nodes.get_mut("/r").expect("it is there").data = Bytes::from_static(b"5");
        let before = s.dump_before_the_end();
        s.history.dumps[1].nodes = before;
    }),
    ("a hole in the log", &[Property::L1], |s| {
        let zxid = s.record_of_stranger();
        s.logs(|log| log.retain(|record| record.zxid != zxid));
    }),
    ("members with different logs", &[Property::L1], |s| {
        s.history.logs[1].last_mut().expect("it is not empty").time += 1;
    }),
    ("a log in which a zxid comes twice", &[Property::L1], |s| {
        let last = s.last_record();
        s.history.logs[2].push(last);
    }),
    ("an epoch that does not begin with one", &[Property::L1], |s| {
        s.new_epoch();
        s.skip_zxid();
        s.ask(D2, set("/z", "new", -1));
        s.end_here();
    }),
];

#[test]
fn whatever_is_broken_is_refused_for_the_right_reason() {
    let mut wrong = Vec::new();
    for (name, expected, breaking) in BROKEN {
        let mut story = story();
        breaking(&mut story);
        let report = check(&story.history, Sync::Linearizable);
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if broken(&report) != expected {
            let found: Vec<_> = report.violations.iter().map(|v| format!("    {:?}: {}", v.property, v.what)).collect();
            wrong.push(format!("{name}: expected {expected:?}\n{}", found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), BROKEN.len(), wrong.join("\n"));
    println!("{} broken histories refused", BROKEN.len());
}

fn broken(report: &Report) -> Vec<Property> {
    let mut properties: Vec<_> = report.violations.iter().map(|violation| violation.property).collect();
    properties.sort_unstable();
    properties.dedup();
    properties
}

fn set(path: &str, data: &'static str, version: i32) -> Request {
    Request::SetData { path: path.into(), data: Bytes::from_static(data.as_bytes()), version }
}

fn create(path: &str, data: &'static str, flags: i32) -> Request {
    let data = Bytes::from_static(data.as_bytes());
    Request::Create { path: path.into(), data, perms: model::ALL, flags, with_stat: false }
}
