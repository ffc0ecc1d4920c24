//! Where Java ZooKeeper 3.9.5 has a defect and we do the safe thing: one test for each, by what should happen.
//! With `ZOOID_SERVER=java` each test must fail inside, which proves that the defect is there.
//!
//! Defects that show only in an ensemble, in files or in digests are tested where those are.

use compat_tests::check::defect;
use compat_tests::raw::{Client, Connect, Received, Session};
use compat_tests::request::{
    Body, acl, auth, create, create_ttl, multi, node, op, path, set_acl, set_data, unwatched, versioned, watch_kind,
    watched,
};
use compat_tests::{Server, Setup};

const NOBODY: &[compat_tests::request::Acl] = &[acl(31, "digest", "x:y")];

/// The server serves, and does so again after a restart from what it has on disk.
fn survives(server: &mut Server) {
    Client::connect(server).expect_open();
    server.restart();
    Client::connect(server).expect_open();
}

/// data-model 12b, 2; client-protocol 4.31.
#[test]
fn create_ttl_with_plain_flags_and_negative_ttl_is_bad_arguments() {
    for extended in ["false", "true"] {
        defect(&Setup::standalone().flag("zookeeper.extendedTypesEnabled", extended), |s| {
            let mut c = Client::connect(s);
            for flags in 0..=4 {
                assert_eq!(c.err(op::CREATE_TTL, create_ttl("/t", flags, -1)), -8, "flags {flags}");
            }
            survives(s);
        });
    }
}

/// data-model 12b, 3.
#[test]
fn a_quota_on_the_root_is_a_node_and_no_quota() {
    defect(&Setup::standalone().flag("zookeeper.enforceQuota", "true"), |s| {
        let mut c = Client::connect(s);
        let limits = b"count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=1";
        c.ok(op::CREATE, create("/zookeeper/quota/zookeeper_limits", limits, compat_tests::request::OPEN, 0));
        for p in ["/a", "/b", "/c"] {
            c.create(p);
        }
        c.ok(op::DELETE, versioned("/zookeeper/quota/zookeeper_limits", -1));
        survives(s);
    });
}

/// data-model 12b, 4.
#[test]
fn a_node_named_like_a_limit_elsewhere_can_be_deleted() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        for p in ["/zookeeperx", "/zookeeperx/zookeeper_limits"] {
            c.create(p);
        }
        c.ok(op::DELETE, versioned("/zookeeperx/zookeeper_limits", -1));
        survives(s);
    });
}

/// data-model 12b, 5.
#[test]
fn usage_that_is_no_number_does_not_stop_writes() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        c.create("/q");
        quota_on_q(&mut c, b"count=100,bytes=-1");
        c.ok(op::SET_DATA, set_data("/zookeeper/quota/q/zookeeper_stats", b"rubbish", -1));
        c.create("/q/a");
        c.ok(op::SET_DATA, set_data("/q/a", b"x", -1));
        c.ok(op::DELETE, versioned("/q/a", -1));
        survives(s);
    });
}

fn quota_on_q(c: &mut Client, limits: &[u8]) {
    c.create("/zookeeper/quota/q");
    let open = compat_tests::request::OPEN;
    c.ok(op::CREATE, create("/zookeeper/quota/q/zookeeper_limits", limits, open, 0));
    c.ok(op::CREATE, create("/zookeeper/quota/q/zookeeper_stats", b"count=0,bytes=0", open, 0));
}

/// data-model 12b, 15.
#[test]
fn usage_that_is_null_does_not_stop_writes() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        c.create("/q");
        quota_on_q(&mut c, b"count=100,bytes=-1");
        c.ok(op::SET_DATA, path("/zookeeper/quota/q/zookeeper_stats").null().int(-1));
        c.create("/q/a");
        survives(s);
    });
}

/// data-model 12b, 6; client-protocol 4.31.
#[test]
fn delete_container_does_not_bypass_acls() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        c.create("/p");
        c.ok(op::CREATE, create("/p/k", b"", NOBODY, 0));
        c.ok(op::SET_ACL, set_acl("/p", &[acl(1, "world", "anyone")], -1));
        c.send(op::DELETE_CONTAINER, path("/p/k"));
        assert_ne!(c.reply().err, 0);
        assert_eq!(Client::connect(s).err(op::EXISTS, unwatched("/p/k")), -102);
    });
}

/// data-model 12b, 7; client-protocol 2.8.
#[test]
fn a_wrong_password_does_not_close_the_owners_connection() {
    defect(&Setup::standalone(), |s| {
        let mut owner = Client::connect(s);
        let thief = Session { passwd: vec![9; 16].into(), ..owner.session.clone() };
        let mut connection = compat_tests::raw::Connection::open(s.address());
        connection.send(&Connect::attach(&thief).payload());
        let Received::Frame(answer) = connection.receive(compat_tests::raw::ANSWER) else { panic!("no refusal") };
        assert_eq!(Session::parse(&answer).expect("a refusal").time_out, 0);
        owner.expect_open();
    });
}

/// data-model 12b, 10: `WatchManagerOptimized` loses a NodeDeleted or sends it twice.
#[test]
fn the_optimized_watch_manager_tells_each_deletion_once() {
    let setup = Setup::standalone()
        .flag("zookeeper.watchManagerName", "org.apache.zookeeper.server.watch.WatchManagerOptimized");
    defect(&setup, |s| {
        let (mut child_only, mut both) = (Client::connect(s), Client::connect(s));
        for round in 0..4 {
            let p = format!("/d{round}");
            both.create(&p);
            child_only.ok(op::GET_CHILDREN, watched(&p));
            both.ok(op::GET_CHILDREN, watched(&p));
            both.ok(op::GET_DATA, watched(&p));
            both.ok(op::DELETE, versioned(&p, -1));
            assert_eq!(both.events(), [(2, p.clone())]);
            assert_eq!(child_only.events(), [(2, p)]);
        }
        both.ok(op::ADD_WATCH, watch_kind("/d", 1));
    });
}

/// data-model 12b, 15.
#[test]
fn a_null_id_in_an_acl_is_an_invalid_acl() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        for scheme in ["world", "digest", "ip"] {
            let z = c.ping();
            let reply = c.call(op::CREATE, create("/n", b"", &[(31, Some(scheme), None)], 0));
            assert_eq!((reply.err, reply.zxid), (-114, z + 1), "{scheme}");
        }
        c.create("/n");
        assert_eq!(c.err(op::SET_ACL, set_acl("/n", &[(31, Some("world"), None)], -1)), -114);
        let member = (op::CREATE, create("/m", b"", &[(31, Some("world"), None)], 0));
        assert_eq!(c.ok(op::MULTI, multi([member])).outcomes(), [(-1, -114)]);
    });
}

/// Java's record of a pending setACL keeps the old list, so what is pipelined behind it may be judged by that.
#[test]
fn a_pipelined_set_acl_counts_for_the_next_request() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        // By chance the first write may be applied before the second is prepared.
        for round in 0..50 {
            let p = format!("/p{round}");
            c.create(&p);
            c.send(op::SET_ACL, set_acl(&p, &[acl(29, "world", "anyone")], -1));
            c.send(op::SET_DATA, set_data(&p, b"x", -1));
            assert_eq!([c.reply().err, c.reply().err], [0, -102], "round {round}");
        }
    });
}

/// data-model 12b, 8: a createContainer with the flags of an ephemeral makes a container, which takes children,
/// also while it is pending.
#[test]
fn a_pending_container_takes_children_whatever_its_flags() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        let reply = c.ok(
            op::MULTI,
            multi([
                (op::CREATE_CONTAINER, create("/c", b"", compat_tests::request::OPEN, 1)),
                (op::CREATE, node("/c/k")),
            ]),
        );
        assert_eq!(reply.outcomes(), [(15, 0), (1, 0)]);
    });
}

/// data-model 12b, 9: the root is one node, also while changes of it are pending.
#[test]
fn a_pipelined_set_acl_of_the_root_counts_for_creates() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        for round in 0..50 {
            c.send(op::SET_ACL, set_acl("/", &[acl(27, "world", "anyone")], -1));
            c.send(op::CREATE, node(&format!("/r{round}")));
            assert_eq!([c.reply().err, c.reply().err], [0, -102], "round {round}");
            c.ok(op::SET_ACL, set_acl("/", compat_tests::request::OPEN, -1));
        }
    });
}

/// client-protocol 3.4: -5 with the last zxid, and the write behind it takes the next. Java does the same in
/// standalone; what it does to its log and to an ensemble is the defect.
#[test]
fn an_undecodable_write_takes_no_zxid() {
    let mut server = Server::under_test(&Setup::standalone());
    let mut c = Client::connect(&server);
    let z = c.ping();
    for (code, body) in [
        (op::CREATE, path("/u")),
        (op::SET_DATA, path("/u").int(-2)),
        (op::DELETE, path("/u")),
        (op::SET_ACL, path("/u").int(1).int(31)),
        (op::DELETE_CONTAINER, Body::new().null()),
        (op::MULTI, multi([(op::CREATE, path("/u").buffer(Some(b"")).null().int(0))])),
    ] {
        let reply = c.call(code, body);
        assert_eq!((reply.err, reply.zxid, reply.body.len()), (-5, z, 0), "op {code}");
    }
    assert_eq!(c.ok(op::CREATE, node("/u")).zxid, z + 1);
    drop(c);
    survives(&mut server);
}

/// No defect of its own in data-model 12b: a connection's identities have no end there, and each of its writes takes all of
/// them to the leader.
#[test]
fn the_identities_of_a_connection_have_an_end() {
    defect(&Setup::standalone(), |s| {
        let mut c = Client::connect(s);
        // The same again is nothing new.
        for _ in 0..3000 {
            c.ok(op::AUTH, auth("digest", b"bob:pw"));
        }
        let proved = (0..10_000).take_while(|at| c.err(op::AUTH, auth("digest", format!("{at}:pw").as_bytes())) == 0);
        let proved = proved.count();
        assert!((100..10_000).contains(&proved), "{proved} identities");
        c.expect_closed();
        let mut c = Client::connect(s);
        assert_eq!(c.err(op::AUTH, auth("digest", &[b'x'; 100_000])), -115);
        c.expect_closed();
        survives(s);
    });
}
