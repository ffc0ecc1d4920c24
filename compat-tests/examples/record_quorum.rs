//! Records what three Java servers and an observer say to each other, for `tests/fixtures/quorum`:
//!
//! ```sh
//! cargo run -p compat-tests --example record_quorum [SCENARIO...]
//! ```
//!
//! Each scenario drives a fresh ensemble to what its name says and fails if it did not come to that.

use std::fs;
use std::path::Path;

use compat_tests::Setup;
use compat_tests::ensemble::Ensemble;
use compat_tests::raw::{Client, Connect, Session};
use compat_tests::recorder::{Port, Recorder, Rule};
use compat_tests::request::{self, OPEN, acl, create, multi, node, op, path, set_acl, set_data, versioned};

/// What a packet begins with.
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;

/// Writes what it recorded into the directory.
type Scenario = fn(&Path);

const SCENARIOS: &[(&str, Scenario)] = &[
    ("election", election),
    ("broadcast", broadcast),
    ("diff", diff),
    ("diff-over-epochs", diff_over_epochs),
    ("trunc", trunc),
    ("trunc-and-more", trunc_and_more),
    ("snap", snap),
    ("observer-diff", observer_diff),
    ("observer-snap", observer_snap),
    ("failed-epoch", failed_epoch),
];

fn main() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/quorum");
    let asked: Vec<String> = std::env::args().skip(1).collect();
    for (name, scenario) in SCENARIOS {
        if asked.is_empty() || asked.iter().any(|asked| asked == name) {
            scenario(&fixtures.join(name));
            println!("{name}");
        }
    }
}

/// Java servers and the relays in front of them.
fn ensemble(letters: &str) -> (Ensemble, Recorder) {
    ensemble_with(letters, Setup::ensemble())
}

fn ensemble_with(letters: &str, setup: Setup) -> (Ensemble, Recorder) {
    let mut ensemble = Ensemble::of(letters, &setup.flag("zookeeper.extendedTypesEnabled", "true"));
    let recorder = Recorder::before(&mut ensemble);
    (ensemble, recorder)
}

/// From nothing: they elect 3, and the others join it.
fn election(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    ensemble.start_led_by(3);
    ensemble.wait_equal();
    recorder.save(to, 0).expect("cannot save");
}

/// Everything that clients of a follower and of an observer make them say: 1 follows, 4 observes.
fn broadcast(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ+J");
    ensemble.start_led_by(3);
    for sid in [1, 4] {
        let mut client = ensemble.client(sid);
        let home = format!("/by-{sid}");
        let at = |name: &str| format!("{home}/{name}");
        client.create(&home);
        client.ok(op::CREATE2, create(&at("a"), b"1", OPEN, 0));
        client.ok(op::CREATE, create(&at("ephemeral-"), "\u{fc}".as_bytes(), OPEN, 3));
        client.ok(op::CREATE_CONTAINER, create(&at("container"), b"", OPEN, 4));
        client.ok(op::CREATE_TTL, request::create_ttl(&at("ttl"), 5, 86_400_000));
        client.ok(op::SET_DATA, set_data(&at("a"), b"2", -1));
        client.ok(op::SET_ACL, set_acl(&at("a"), &[acl(31, "world", "anyone"), acl(1, "ip", "10.0.0.1")], -1));
        client.ok(op::DELETE, versioned(&at("a"), -1));
        let parts = [(op::CREATE, node(&at("b"))), (op::SET_DATA, set_data(&at("b"), b"3", 0))];
        client.ok(op::MULTI, multi(parts));
        // Failures are transactions too.
        assert_eq!(client.err(op::CREATE, node(&home)), -110);
        let parts =
            [(op::CHECK, versioned(&home, -1)), (op::CREATE, node(&at("b"))), (op::DELETE, versioned("/x", -1))];
        assert_ne!(client.call(op::MULTI, multi(parts)).outcomes()[1].1, 0);
        client.ok(op::SYNC, path("/"));

        // The session goes to the other learner, and one that nobody has is refused.
        let session = client.abandon();
        let other = if sid == 1 { 4 } else { 1 };
        let moved = ensemble.attach(other, &Connect::attach(&session));
        let unknown = Connect { session_id: 0x0500_0000_0000_0001, ..Connect::default() };
        assert!(Client::try_connect_as(ensemble.server(other), &unknown).is_err(), "no such session");
        moved.close();
    }
    ensemble.wait_equal();
    recorder.save(to, 0).expect("cannot save");
}

/// A member that missed some transactions of its own epoch.
fn diff(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    ensemble.start_led_by(3);
    write(&ensemble, 3, "before", 3);
    ensemble.wait_equal();
    ensemble.kill(1);
    write(&ensemble, 3, "missed", 5);
    let first = recorder.connections();
    ensemble.start(1);
    ensemble.wait_joined();
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-1-3", DIFF);
}

/// A member that missed some transactions of its own epoch and all of the next one.
fn diff_over_epochs(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    ensemble.start_led_by(3);
    write(&ensemble, 3, "before", 1);
    ensemble.wait_equal();
    ensemble.kill(1);
    write(&ensemble, 3, "missed", 2);
    ensemble.kill(3);
    ensemble.kill(2);
    ensemble.start_each(&[2, 3]);
    ensemble.wait_joined();
    write(&ensemble, 3, "missed-too", 2);
    let first = recorder.connections();
    ensemble.start(1);
    ensemble.wait_joined();
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-1-3", DIFF);
}

/// A former leader that has transactions nobody else has.
fn trunc(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    strand_the_leader(&mut ensemble);
    ensemble.start_each(&[1, 2]);
    ensemble.wait_led_by(2);
    let first = recorder.connections();
    ensemble.start(3);
    ensemble.wait_joined();
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-3-2", TRUNC);
}

/// The same, and the new leader has proposed something that waits for a quorum.
fn trunc_and_more(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    let session = strand_the_leader(&mut ensemble);
    ensemble.start_each(&[1, 2]);
    ensemble.wait_led_by(2);
    ensemble.wait_joined();
    // A new session would be a transaction, and with one of its own epoch the leader sends a snapshot.
    let mut client = ensemble.attach(2, &Connect::attach(&session));
    // So that the proposal waits no longer than the leader is patient with a silent follower.
    recorder.rule(2, Port::Quorum, Rule::Hold);
    let first = recorder.connections();
    ensemble.start(3);
    ensemble.wait("member 3 to dial", || if recorder.held() > 0 { Ok(()) } else { Err("it does not".into()) });
    ensemble.pause(1);
    client.send(op::CREATE, node("/waiting"));
    ensemble.wait_until_logged(2, "/waiting");
    recorder.rule(2, Port::Quorum, Rule::Carry);
    ensemble.wait_serving(3);
    ensemble.resume(1);
    assert_eq!(client.reply().err, 0, "the new quorum agrees");
    client.close();
    ensemble.wait_joined();
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-3-2", TRUNC);
}

/// A member that has nothing joins those that have transactions, a session and access lists.
fn snap(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJJ");
    ensemble.start_each(&[2, 3]);
    ensemble.wait_led_by(3);
    let mut client = ensemble.client(3);
    client.create("/a");
    client.ok(op::CREATE, create("/a/b", "\u{10348}".as_bytes(), &[acl(1, "world", "anyone")], 0));
    client.ok(op::CREATE, create("/a/ephemeral", b"", OPEN, 1));
    let first = recorder.connections();
    ensemble.start(1);
    ensemble.wait_joined();
    client.ok(op::SET_DATA, set_data("/a", b"later", -1));
    client.close();
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-1-3", SNAP);
}

/// An observer that missed some transactions, and then hears of others.
fn observer_diff(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJ+J");
    ensemble.start_each(&[1, 2, 3]);
    ensemble.wait_joined();
    ensemble.wait_equal();
    ensemble.kill(3);
    write(&ensemble, 2, "missed", 3);
    let first = recorder.connections();
    ensemble.start(3);
    ensemble.wait_joined();
    write(&ensemble, 2, "heard", 2);
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-3-2", DIFF);
}

/// An observer that has nothing.
fn observer_snap(to: &Path) {
    let (mut ensemble, recorder) = ensemble("JJ+J");
    ensemble.start_each(&[1, 2]);
    ensemble.wait_led_by(2);
    write(&ensemble, 2, "before", 3);
    let first = recorder.connections();
    ensemble.start(3);
    ensemble.wait_joined();
    write(&ensemble, 2, "heard", 2);
    ensemble.wait_equal();
    recorder.save(to, first).expect("cannot save");
    must_have(to, "quorum-3-2", SNAP);
}

/// The learners accept an epoch, and their acknowledgements of it do not arrive: in the next one they answer
/// with an epoch that they have accepted before, or the leader chooses a higher one.
fn failed_epoch(to: &Path) {
    const FOLLOWER_INFO: usize = 40;
    let (mut ensemble, recorder) = ensemble_with("JJJ", Setup::ensemble().line("initLimit", "6"));
    recorder.rule(3, Port::Quorum, Rule::BreakAfter(FOLLOWER_INFO));
    ensemble.start_each(&[1, 3]);
    ensemble.wait("an epoch to be accepted", || match recorder.broken() {
        0 => Err("no connection was broken off".into()),
        _ => Ok(()),
    });
    recorder.rule(3, Port::Quorum, Rule::Carry);
    ensemble.wait_led_by(3);
    ensemble.wait_joined();
    ensemble.wait_equal();
    recorder.save(to, 0).expect("cannot save");
}

/// Leader 3 logs a transaction that 1 and 2 never hear of; then nobody runs. A session that all know.
fn strand_the_leader(ensemble: &mut Ensemble) -> Session {
    ensemble.start_led_by(3);
    write(ensemble, 3, "before", 3);
    ensemble.wait_equal();
    let mut client = ensemble.client(3);
    ensemble.pause(1);
    ensemble.pause(2);
    client.send(op::CREATE, node("/stranded"));
    ensemble.wait_until_logged(3, "/stranded");
    [3, 2, 1].into_iter().for_each(|sid| ensemble.kill(sid));
    client.abandon()
}

fn write(ensemble: &Ensemble, sid: i64, name: &str, count: usize) {
    let mut client = ensemble.client(sid);
    for number in 0..count {
        client.ok(op::CREATE, create(&format!("/{name}-{number}"), name.as_bytes(), OPEN, 0));
    }
    client.close();
}

/// The named connection must have a packet of this type, which its other end sent.
fn must_have(directory: &Path, name: &str, kind: i32) {
    let found = fs::read_dir(directory).expect("it was saved").flatten().any(|entry| {
        let file = entry.file_name().to_string_lossy().into_owned();
        let bytes = fs::read(entry.path()).expect("it was saved");
        // LEADERINFO is 24 bytes and comes first.
        file.contains(name) && file.ends_with(".answered") && bytes.get(24..28) == Some(&kind.to_be_bytes())
    });
    assert!(found, "no packet of type {kind} in {name} of {}", directory.display());
}
