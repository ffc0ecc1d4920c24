//! Ensembles of Java servers and ours: any of them leads, follows, observes, falls behind, is killed and is
//! replaced, while clients write through all of them. Nothing acknowledged is lost, no session ends, and all
//! members hold the same.
//!
//! The letters say who is what: `J` is Java, `R` is ours, behind a `+` are observers. With `ZOOID_SERVER=java`
//! all of them are Java, which tells a fault of a test from one of the server.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use compat_tests::ensemble::{Data, Ensemble, Role, super_user};
use compat_tests::load::Load;
use compat_tests::raw::{Client, Connect, Session};
use compat_tests::recorder::{Port, Recorder, Rule, Sync};
use compat_tests::request::{Body, OPEN, create, multi, node, op, set_data};
use compat_tests::{Kind, Setup, java};

const CLIENTS: usize = 6;

fn java() -> Kind {
    Kind::Java(java::VERSION.into())
}

// ---- who is what, and who leads ----

#[test]
fn two_java_servers_follow_ours() {
    serves("JJR", 3);
}

#[test]
fn ours_follows_java_beside_java() {
    serves("RJJ", 3);
}

#[test]
fn ours_and_java_follow_ours() {
    serves("JRR", 3);
}

#[test]
fn two_of_ours_follow_java() {
    serves("RRJ", 3);
}

#[test]
fn three_of_ours() {
    serves("RRR", 3);
}

#[test]
fn ours_observes_java() {
    serves("JJ+R", 2);
}

#[test]
fn java_observes_ours() {
    serves("RR+J", 2);
}

#[test]
fn five_of_both_kinds() {
    serves("JRJRR", 5);
}

/// Clients write through every member, and every member then holds the same.
fn serves(letters: &str, leader: i64) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    ensemble.start_led_by(leader);
    let all: Vec<usize> = (0..ensemble.sids().len()).collect();
    let load = Load::start(&ensemble.addresses(), CLIENTS, 1);
    load.wait_for(1000, &all);
    let figures = load.finish();
    ensemble.check_equal();
    println!("{letters}: {figures:?}, {} digests compared", ensemble.check_digests());
}

// ---- older releases ----

/// It acknowledges proposals before NEWLEADER, when they overtake it.
#[test]
fn java_3_8_4_follows_ours() {
    older_java_follows("3.8.4");
}

/// It acknowledges what was committed long ago, once it may serve.
#[test]
fn java_3_9_2_follows_ours() {
    older_java_follows("3.9.2");
}

/// Two of them, which fall behind in every way under load.
fn older_java_follows(version: &str) {
    let older = Kind::Java(version.into());
    let kinds = [older.clone(), older, Kind::under_test()].map(|kind| (kind, Role::Voter));
    let mut ensemble = Ensemble::new(&Setup::ensemble(), kinds);
    ensemble.start_led_by(3);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 6);
    for (sid, data) in [(1, Data::Kept), (2, Data::Kept), (1, Data::Lost), (2, Data::Lost)] {
        load.wait_for(300, &[0, 1, 2]);
        ensemble.kill(sid);
        if data == Data::Lost {
            ensemble.lose_data(sid);
        }
        let others: Vec<usize> = (0..3).filter(|at| *at as i64 + 1 != sid).collect();
        load.wait_for(300, &others);
        ensemble.start(sid);
        ensemble.wait_joined();
    }
    load.wait_for(300, &[0, 1, 2]);
    let figures = load.finish();
    ensemble.wait_led_by(3);
    ensemble.check_equal();
    println!("{version}: {figures:?}, {} digests compared", ensemble.check_digests());
}

#[test]
fn ours_follows_java_3_8_4() {
    follows_older_java("3.8.4");
}

#[test]
fn ours_follows_java_3_9_2() {
    follows_older_java("3.9.2");
}

fn follows_older_java(version: &str) {
    let kinds = [Kind::under_test(), Kind::under_test(), Kind::Java(version.into())].map(|kind| (kind, Role::Voter));
    let mut ensemble = Ensemble::new(&Setup::ensemble(), kinds);
    ensemble.start_led_by(3);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 7);
    load.wait_for(300, &[0, 1, 2]);
    ensemble.kill(1);
    ensemble.lose_data(1);
    load.wait_for(300, &[1, 2]);
    ensemble.start(1);
    ensemble.wait_joined();
    load.wait_for(300, &[0, 1, 2]);
    let figures = load.finish();
    ensemble.wait_led_by(3);
    ensemble.check_equal();
    println!("{version}: {figures:?}, {} digests compared", ensemble.check_digests());
}

// ---- the ways to catch up ----

#[test]
fn ours_catches_up_with_java() {
    catches_up("RJJ", 1, 3);
}

#[test]
fn java_catches_up_with_ours() {
    catches_up("JRR", 1, 3);
}

#[test]
fn ours_catches_up_with_ours() {
    catches_up("RRR", 1, 3);
}

#[test]
fn our_observer_catches_up_with_java() {
    catches_up("JJ+R", 3, 2);
}

#[test]
fn an_observer_of_java_catches_up_with_ours() {
    catches_up("RR+J", 3, 2);
}

/// A member misses more and more, and the leader sends what it lacks: a few transactions, those of several
/// epochs, everything.
fn catches_up(letters: &str, learner: i64, leader: i64) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    let recorder = Recorder::before(&mut ensemble);
    ensemble.start_led_by(leader);
    let mut client = ensemble.client(leader);
    write(&mut client, "/a", 3);
    ensemble.wait_equal();
    // Starts it again; how it came to hold what the others do.
    let rejoins = |ensemble: &mut Ensemble| {
        ensemble.start(learner);
        ensemble.wait_joined();
        let sync = recorder.last_sync(learner).expect("it was brought up to date");
        ensemble.check_equal();
        // The session that has looked is closed everywhere.
        ensemble.wait_equal();
        sync
    };

    // Nothing was missed.
    ensemble.kill(learner);
    assert_eq!(rejoins(&mut ensemble), (Sync::Diff, 0));

    ensemble.kill(learner);
    write(&mut client, "/b", 20);
    assert_eq!(rejoins(&mut ensemble), (Sync::Diff, 20));

    // Over an epoch, in which the client has to come back.
    ensemble.kill(learner);
    write(&mut client, "/c", 5);
    let session = client.abandon();
    let others = ensemble.running();
    others.iter().for_each(|sid| ensemble.kill(*sid));
    ensemble.start_each(&others);
    ensemble.wait_led_by(leader);
    let mut client = ensemble.attach(leader, &Connect::attach(&session));
    write(&mut client, "/d", 5);
    assert_eq!(rejoins(&mut ensemble), (Sync::Diff, 10));

    // More than a leader keeps in memory (500): it may send what it has on disk, or everything.
    ensemble.kill(learner);
    write(&mut client, "/e", 700);
    let sync = rejoins(&mut ensemble);
    assert!([(Sync::Diff, 700), (Sync::Snap, 0)].contains(&sync), "{sync:?} for 700 transactions");

    // The directory is lost, and with it the member's memory of what it has promised.
    ensemble.kill(learner);
    ensemble.lose_data(learner);
    assert_eq!(rejoins(&mut ensemble), (Sync::Snap, 0));

    // It goes on from the snapshot.
    ensemble.kill(learner);
    write(&mut client, "/f", 2);
    assert_eq!(rejoins(&mut ensemble), (Sync::Diff, 2));
    client.close();
}

#[test]
fn ours_is_sent_much_by_java() {
    is_sent_much("RJJ");
}

#[test]
fn java_is_sent_much_by_ours() {
    is_sent_much("JRR");
}

#[test]
fn ours_is_sent_much_by_ours() {
    is_sent_much("RRR");
}

/// A tree of 10 MB goes to member 1, which has lost its own, while clients write to the others; and the link
/// breaks in the middle of the first attempt.
fn is_sent_much(letters: &str) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    let recorder = Recorder::before(&mut ensemble);
    ensemble.start_led_by(3);
    let mut client = ensemble.client(3);
    client.create("/much");
    let data = "x".repeat(2500);
    for some in 0..40 {
        let creates =
            (0..100).map(|number| (op::CREATE, create(&format!("/much/{some}-{number}"), data.as_bytes(), OPEN, 0)));
        client.ok(op::MULTI, multi(creates));
    }
    client.close();
    ensemble.kill(1);
    ensemble.lose_data(1);
    let load = Load::start(&ensemble.addresses()[1..], CLIENTS, 9);
    load.wait_for(300, &[0, 1]);
    recorder.rule(3, Port::Quorum, Rule::BreakAnswerAfter(4_000_000));
    ensemble.start(1);
    ensemble.wait("the link to break", || if recorder.broken() > 0 { Ok(()) } else { Err("it does not".into()) });
    recorder.rule(3, Port::Quorum, Rule::Carry);
    ensemble.wait_joined();
    assert_eq!(recorder.last_sync(1), Some((Sync::Snap, 0)));
    load.wait_for(300, &[0, 1]);
    let figures = load.finish();
    ensemble.check_equal();
    println!("{letters}: {figures:?}, {} digests compared", ensemble.check_digests());
}

fn write(client: &mut Client, path: &str, count: usize) {
    for number in 0..count {
        client.ok(op::CREATE, create(&format!("{path}-{number}"), path.as_bytes(), OPEN, 0));
    }
}

#[test]
fn ours_gives_up_what_java_never_heard_of() {
    gives_up("JJR");
}

#[test]
fn java_gives_up_what_ours_never_heard_of() {
    gives_up("RRJ");
}

#[test]
fn ours_gives_up_what_ours_never_heard_of() {
    gives_up("RRR");
}

/// Leader 3 has logged what nobody else has, and then follows 2: it must give it up, first when 2 has nothing
/// new, then when something new waits for its quorum, then when something new is committed.
fn gives_up(letters: &str) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    let recorder = Recorder::before(&mut ensemble);
    ensemble.start_led_by(3);
    let session = ensemble.client(3).abandon();

    let session = strand(&mut ensemble, &session, "/stranded-1");
    ensemble.start(3);
    ensemble.wait_joined();
    assert_eq!(recorder.last_sync(3), Some((Sync::Trunc, 0)), "{}", ensemble.logs());
    check_gone(&ensemble, &session, "/stranded-1");

    lead_again(&mut ensemble);
    let session = strand(&mut ensemble, &session, "/stranded-2");
    // It dials while all answer, and is heard when a proposal already waits.
    let mut client = ensemble.attach(2, &Connect::attach(&session));
    recorder.rule(2, Port::Quorum, Rule::Hold);
    ensemble.start(3);
    ensemble.wait("member 3 to dial", || if recorder.held() > 0 { Ok(()) } else { Err("it does not".into()) });
    ensemble.pause(1);
    client.send(op::CREATE, node("/waiting"));
    ensemble.wait_until_logged(2, "/waiting");
    recorder.rule(2, Port::Quorum, Rule::Carry);
    ensemble.wait_serving(3);
    ensemble.resume(1);
    assert_eq!(client.reply().err, 0, "the new quorum agrees");
    let session = client.abandon();
    assert_eq!(recorder.last_sync(3), Some((Sync::Trunc, 1)), "{}", ensemble.logs());
    check_gone(&ensemble, &session, "/stranded-2");

    lead_again(&mut ensemble);
    let session = strand(&mut ensemble, &session, "/stranded-3");
    let mut client = ensemble.attach(2, &Connect::attach(&session));
    client.create("/committed");
    let session = client.abandon();
    ensemble.start(3);
    ensemble.wait_joined();
    check_gone(&ensemble, &session, "/stranded-3");
}

/// Has 3 log a transaction that nobody else hears of. Afterwards 1 and 2 run, led by 2.
fn strand(ensemble: &mut Ensemble, session: &Session, path: &str) -> Session {
    let mut client = ensemble.attach(3, &Connect::attach(session));
    // What went before has reached both who are about to stand still.
    ensemble.wait_equal();
    ensemble.pause(1);
    ensemble.pause(2);
    client.send(op::CREATE, node(path));
    ensemble.wait_until_logged(3, path);
    [3, 2, 1].into_iter().for_each(|sid| ensemble.kill(sid));
    ensemble.start_each(&[1, 2]);
    ensemble.wait_led_by(2);
    ensemble.wait_joined();
    client.abandon()
}

/// Has 3 lead, which has what the others have.
fn lead_again(ensemble: &mut Ensemble) {
    [1, 2, 3].into_iter().for_each(|sid| ensemble.kill(sid));
    ensemble.start_led_by(3);
}

fn check_gone(ensemble: &Ensemble, session: &Session, path: &str) {
    ensemble.wait_joined();
    for sid in ensemble.sids() {
        let mut client = ensemble.attach(sid, &Connect::attach(session));
        assert!(!client.exists(path), "{path} is still there at {sid}\n{}", ensemble.logs());
        client.abandon();
    }
    ensemble.check_equal();
}

// ---- members come and go ----

#[test]
fn leaders_of_both_kinds_are_killed() {
    leaders_are_killed("JRJ", 4);
}

#[test]
fn leaders_of_ours_are_killed() {
    leaders_are_killed("RRR", 6);
}

/// Under load, again and again; who was killed comes back.
fn leaders_are_killed(letters: &str, times: usize) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    ensemble.start_led_by(3);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 2);
    for _ in 0..times {
        load.wait_for(300, &[0, 1, 2]);
        let leader = ensemble.wait_for_leader();
        ensemble.kill(leader);
        let others: Vec<usize> = (0..3).filter(|at| *at as i64 + 1 != leader).collect();
        load.wait_for(300, &others);
        ensemble.start(leader);
        ensemble.wait_joined();
    }
    end(letters, &ensemble, load);
}

#[test]
fn all_of_both_kinds_are_killed() {
    all_are_killed("JRR", 4);
}

#[test]
fn all_of_ours_are_killed() {
    all_are_killed("RRR", 6);
}

/// Everybody is served once more; then nothing is missing, and all members hold the same.
fn end(letters: &str, ensemble: &Ensemble, load: Load) {
    load.wait_for(300, &[0, 1, 2]);
    let figures = load.finish();
    ensemble.check_equal();
    println!("{letters}: {figures:?}, {} digests compared", ensemble.check_digests());
}

/// All at once and under load.
fn all_are_killed(letters: &str, times: usize) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    let all = ensemble.sids();
    ensemble.start_each(&all);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 10);
    for _ in 0..times {
        load.wait_for(500, &[0, 1, 2]);
        all.iter().for_each(|sid| ensemble.kill(*sid));
        ensemble.start_each(&all);
        ensemble.wait_joined();
    }
    end(letters, &ensemble, load);
}

#[test]
fn leaders_of_both_kinds_are_paused() {
    leaders_are_paused("JRJ", 3);
}

#[test]
fn leaders_of_ours_are_paused() {
    leaders_are_paused("RRR", 3);
}

/// A leader that is silent for so long that the others elect another one, and then goes on where it was: it must
/// not believe that it leads.
fn leaders_are_paused(letters: &str, times: usize) {
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    ensemble.start_led_by(3);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 8);
    for _ in 0..times {
        load.wait_for(300, &[0, 1, 2]);
        let leader = ensemble.wait_for_leader();
        ensemble.pause(leader);
        ensemble.wait_joined();
        let others: Vec<usize> = (0..3).filter(|at| *at as i64 + 1 != leader).collect();
        load.wait_for(300, &others);
        ensemble.resume(leader);
        ensemble.wait_joined();
    }
    end(letters, &ensemble, load);
}

#[test]
fn sessions_outlive_a_leader_of_java() {
    sessions_outlive_the_leader("RRJ");
}

#[test]
fn sessions_outlive_a_leader_of_ours() {
    sessions_outlive_the_leader("JRR");
}

/// A session and its ephemeral stay when the leader goes, wherever the client was; one whose client does not
/// come back ends, and not before its time.
fn sessions_outlive_the_leader(letters: &str) {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble());
    ensemble.start_led_by(3);
    let connect = Connect { time_out: TIMEOUT.as_millis() as i32, ..Connect::default() };
    let ephemeral = |sid: i64| format!("/of-{sid}");
    let clients: Vec<(i64, Client)> = [1, 2, 3]
        .into_iter()
        .map(|sid| {
            let mut client = ensemble.attach(sid, &connect);
            client.ok(op::CREATE, create(&ephemeral(sid), b"", OPEN, 1));
            (sid, client)
        })
        .collect();
    let mut lost = ensemble.attach(1, &connect);
    lost.ok(op::CREATE, create("/lost", b"", OPEN, 1));
    lost.abandon();
    let left = Instant::now();

    ensemble.kill(3);
    let sessions: Vec<(i64, Session)> = clients.into_iter().map(|(sid, client)| (sid, client.abandon())).collect();
    // Each comes back elsewhere.
    let elsewhere = |sid: i64| if sid == 1 { 2 } else { 1 };
    let mut clients: Vec<(i64, Client)> = sessions
        .into_iter()
        .map(|(sid, session)| {
            let again = Connect { time_out: connect.time_out, ..Connect::attach(&session) };
            (sid, ensemble.attach(elsewhere(sid), &again))
        })
        .collect();
    for (sid, client) in &mut clients {
        let owner = client.stat(&ephemeral(*sid)).ephemeral_owner;
        assert_eq!(owner, client.session.id, "the ephemeral of {sid} is another's");
        client.ok(op::SET_DATA, set_data(&ephemeral(*sid), b"still mine", -1));
    }

    // A new leader gives every session its full time, and those that speak have it again and again.
    ensemble.wait("the lost session to end", || {
        clients.iter_mut().for_each(|(_, client)| _ = client.ping());
        if clients[0].1.exists("/lost") { Err("it has not".into()) } else { Ok(()) }
    });
    assert!(left.elapsed() >= TIMEOUT, "it ended {:?} after its client had gone", left.elapsed());
    for (sid, client) in &mut clients {
        assert!(client.exists(&ephemeral(*sid)), "the ephemeral of {sid} went with another's session");
    }
    ensemble.start(3);
    ensemble.wait_joined();
    ensemble.check_equal();
}

// ---- replacement ----

#[test]
fn members_are_replaced_one_by_one_and_back() {
    are_replaced(&Setup::ensemble(), Ensemble::stop, Data::Kept);
}

#[test]
fn members_are_replaced_on_new_disks_and_back() {
    are_replaced(&Setup::ensemble(), Ensemble::stop, Data::Lost);
}

#[test]
fn killed_members_are_replaced_and_back() {
    are_replaced(&Setup::ensemble(), Ensemble::kill, Data::Kept);
}

/// With the membership in a file of its own, which servers write.
#[test]
fn members_that_may_be_reconfigured_are_replaced_and_back() {
    are_replaced(&reconfigurable(), Ensemble::stop, Data::Kept);
}

/// Ours does not carry out a reconfiguration: it ends, the others go on, and with the new list it is back.
#[test]
fn ours_ends_when_the_members_change() {
    let mut ensemble = Ensemble::of("RJJ", &reconfigurable());
    ensemble.start_led_by(3);
    let mut client = super_user(ensemble.server(3));
    let joining = "server.4=127.0.0.1:21000:21001:observer;127.0.0.1:20000";
    client.ok(op::RECONFIG, Body::new().text(joining).null().null().long(-1));
    let ended = ensemble.wait_for_end(1);
    assert_ne!(ended.code, Some(0));
    assert!(ended.log.contains("reconfiguration"), "{}", ended.log);
    client.create("/after");
    client.close();

    // What MIGRATION.md says is to be done: another member's list, under the same name.
    let files = fs::read_dir(ensemble.directory_of(2)).expect("a directory").flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    let newest = names.filter(|name| name.starts_with("zoo.cfg.dynamic.")).max().expect("Java has written one");
    let own = ensemble.directory_of(1).to_owned();
    fs::copy(ensemble.directory_of(2).join(&newest), own.join(&newest)).expect("it can be copied");
    let config = fs::read_to_string(own.join("zoo.cfg")).expect("there is a zoo.cfg");
    let others = config.lines().filter(|line| !line.starts_with("dynamicConfigFile="));
    let lines: Vec<&str> = others.collect();
    let pointer = format!("dynamicConfigFile={}", own.join(&newest).display());
    fs::write(own.join("zoo.cfg"), format!("{}\n{pointer}\n", lines.join("\n"))).expect("it can be written");
    ensemble.start(1);
    ensemble.wait_joined();
    ensemble.check_equal();
}

fn reconfigurable() -> Setup {
    Setup::ensemble().line("reconfigEnabled", "true").line("standaloneEnabled", "false")
}

/// From Java to ours and back under load, one member at a time; MIGRATION.md has the same by hand.
fn are_replaced(setup: &Setup, end: fn(&mut Ensemble, i64), data: Data) {
    let mut ensemble = Ensemble::of("JJJ", setup);
    ensemble.start_led_by(3);
    let load = Load::start(&ensemble.addresses(), CLIENTS, 3);
    for kind in [Kind::under_test(), java()] {
        for sid in 1..=3 {
            load.wait_for(200, &[0, 1, 2]);
            end(&mut ensemble, sid);
            ensemble.replace(sid, kind.clone(), data);
            ensemble.start(sid);
            ensemble.wait_joined();
            ensemble.check_digests();
        }
    }
    load.wait_for(200, &[0, 1, 2]);
    let figures = load.finish();
    ensemble.check_equal();
    println!("{figures:?}, {} digests compared", ensemble.check_digests());
}

/// All stop, and other servers start on their directories: those who begin must agree on who is the most recent.
#[test]
fn all_are_replaced_at_once_and_back() {
    all_are_replaced(&Setup::ensemble());
}

#[test]
fn all_that_may_be_reconfigured_are_replaced_at_once_and_back() {
    all_are_replaced(&reconfigurable());
}

fn all_are_replaced(setup: &Setup) {
    let mut ensemble = Ensemble::of("JJJ", setup);
    ensemble.start_led_by(3);
    let ours = Kind::under_test();
    // The last has ours as the largest of two kinds.
    let next = [[&ours, &ours, &ours], [&java(), &java(), &java()], [&java(), &java(), &ours]];
    for (seed, kinds) in (4..).zip(next) {
        let load = Load::start(&ensemble.addresses(), CLIENTS, seed);
        load.wait_for(300, &[0, 1, 2]);
        let seen = load.finish();
        ensemble.check_equal();
        let tree = ensemble.tree(3);
        ensemble.stop_all();
        for (sid, kind) in (1..).zip(kinds) {
            ensemble.replace(sid, kind.clone(), Data::Kept);
        }
        ensemble.start_led_by(3);
        assert_eq!(tree.difference(&ensemble.tree(1)), None, "after {seen:?}\n{}", ensemble.logs());
        ensemble.check_equal();
    }
}

// ---- client software ----

#[test]
fn kazoo_outlives_a_leader() {
    outlives_a_leader("kazoo");
}

#[test]
fn curator_outlives_a_leader() {
    outlives_a_leader("curator");
}

#[test]
fn client_software_at_our_follower_of_java() {
    client_software("RJJ", 1, 3);
}

#[test]
fn client_software_at_a_java_follower_of_ours() {
    client_software("JRR", 1, 3);
}

#[test]
fn client_software_at_our_observer_of_java() {
    client_software("JJ+R", 3, 2);
}

#[test]
fn client_software_at_our_leader_of_java() {
    client_software("JJR", 3, 3);
}

/// The cases of `scripts/compat` that need no server of their own, against one member and an empty tree.
fn client_software(letters: &str, member: i64, leader: i64) {
    const SCRIPT: &str = r#"source "$CLIENTS/lib.sh"; source "$CLIENTS/$CASE/case.sh"; prepare >&2; run"#;
    let mut ensemble = Ensemble::of(letters, &Setup::ensemble().line("extendedTypesEnabled", "true"));
    ensemble.start_led_by(leader);
    let address = ensemble.server(member).address();
    for case in ["kazoo", "curator", "javalock", "cclient", "go", "node"] {
        let work = ensemble.directory().join(case);
        fs::create_dir(&work).expect("a directory for the case");
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", SCRIPT])
            .env("CLIENTS", Path::new(env!("CARGO_MANIFEST_DIR")).join("clients"))
            .env("CASE", case)
            .env("WORK", &work)
            .env("ZK", address.to_string())
            .env("ZK_HOST", address.ip().to_string())
            .env("ZK_PORT", address.port().to_string())
            .stdin(Stdio::null())
            .output()
            .expect("cannot run bash");
        let text = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
        assert!(output.status.success(), "{case}: {}\n{}\n{}", output.status, text.join("\n"), ensemble.logs());
        ensemble.check_equal();
        ensemble.clear(leader);
    }
}

/// Clients that hold locks and ephemerals while the leader is killed, and again when it is back.
fn outlives_a_leader(client: &str) {
    let mut ensemble = Ensemble::of("RRR", &Setup::ensemble());
    ensemble.start_led_by(3);
    let servers: Vec<String> = ensemble.addresses().iter().map(SocketAddr::to_string).collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("clients/failover/run");
    let mut process = Command::new(&script)
        .args([client, &servers.join(",")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot run {}: {e}", script.display()));
    let mut said = BufReader::new(process.stdout.take().expect("it is piped")).lines();
    let mut next = || said.next().transpose().expect("it says text");
    assert_eq!(next().as_deref(), Some("ready"), "{client} does not get to work");
    for _ in 0..2 {
        let leader = ensemble.wait_for_leader();
        ensemble.kill(leader);
        ensemble.wait_joined();
        ensemble.start(leader);
        ensemble.wait_joined();
    }
    process.stdin.take().expect("it is piped").write_all(b"over\n").expect("it listens");
    while let Some(line) = next() {
        println!("{client}: {line}");
    }
    let status = process.wait().expect("it ends");
    assert!(status.success(), "{client}: {status}\n{}", ensemble.logs());
    ensemble.check_equal();
}
