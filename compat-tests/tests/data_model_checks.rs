//! The checks of section 13 of the data model, by number. Those that need an ensemble or look at files are
//! listed in `tests/checks.md`.
//!
//! They run against our server, and with `ZOOID_SERVER=java` against the reference.

use std::time::{Duration, Instant};

use compat_tests::check::{Shared, defect};
use compat_tests::raw::{Client, Connect, Connection, Next, Received, Session, frame, hex, request};
use compat_tests::request::{
    Acl, Body, OPEN, acl, auth, create, create_ttl, multi, node, op, path, set_acl, set_data, set_watches, unwatched,
    versioned, watch_kind, watched,
};
use compat_tests::{Server, Setup};
use jute::records::data;

const ANSWER: Duration = compat_tests::raw::ANSWER;

static DEFAULT: Shared = Shared::new(default_setup);

static EXTENDED: Shared = Shared::new(|| default_setup().flag("zookeeper.extendedTypesEnabled", "true"));

static QUOTA: Shared = Shared::new(|| default_setup().flag("zookeeper.enforceQuota", "true"));

static SUPER: Shared = Shared::new(|| {
    default_setup().flag("zookeeper.DigestAuthenticationProvider.superDigest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
});

/// Ticks of 500 ms; empty containers and old TTL nodes removed every second.
static FAST: Shared = Shared::new(|| {
    Setup::standalone()
        .line("tickTime", "500")
        .flag("znode.container.checkIntervalMs", "1000")
        .flag("zookeeper.extendedTypesEnabled", "true")
});

fn default_setup() -> Setup {
    Setup::standalone().line("maxSessionTimeout", "3600000").line("4lw.commands.whitelist", "*")
}

const BOB: &[Acl] = &[acl(31, "digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
const NOBODY: &[Acl] = &[acl(31, "digest", "x:y")];
const REFUSED: &str = "00000000000000000000000000000000000000100000000000000000000000000000000000";

fn fresh() -> Server {
    Server::under_test(&default_setup())
}

fn bob(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.ok(op::AUTH, auth("digest", b"bob:pw"));
    client
}

fn create_with(p: &str, acl: &[Acl]) -> Body {
    create(p, b"", acl, 0)
}

fn acls(c: &mut Client, p: &str) -> Vec<(i32, String, String)> {
    let body = c.ok(op::GET_ACL, path(p)).body;
    let list = jute::Reader::new(body).vector::<data::Acl>("acl").expect("getACL answers a list");
    let text = |t: Option<jute::Text>| t.unwrap_or_default().to_string();
    list.unwrap_or_default().into_iter().map(|e| (e.perms, text(e.scheme), text(e.id))).collect()
}

/// A number from `mntr`.
fn metric(server: &Server, name: &str) -> i64 {
    let answer = server.word("mntr").expect("mntr is answered");
    let line = answer.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix('\t'));
    let value = line.unwrap_or_else(|| panic!("no {name} in\n{answer}"));
    value.trim().parse::<f64>().unwrap_or_else(|e| panic!("{name} is {value}: {e}")) as i64
}

/// A ConnectRequest must be answered as one for a session that is not there.
fn refused(server: &Server, connect: &Connect) {
    let mut connection = Connection::open(server.address());
    connection.send(&connect.payload());
    let Received::Frame(answer) = connection.receive(ANSWER) else { panic!("no answer to {connect:?}") };
    assert_eq!(hex(&answer), REFUSED);
    assert_eq!(connection.receive(ANSWER), Received::Closed(vec![]));
}

/// An instant within so many milliseconds of another; the upper end leaves room for a busy machine.
fn between(began: Instant, from: u64, to: u64) {
    let lasted = began.elapsed();
    assert!(lasted >= Duration::from_millis(from), "after {lasted:?}, expected {from} ms or more");
    assert!(lasted <= Duration::from_millis(to + 1000), "after {lasted:?}, expected {to} ms or less");
}

mod initial_state {
    use super::*;

    #[test]
    fn d001_stats_of_the_initial_nodes() {
        let s = fresh();
        let mut c = Client::connect(&s);
        let root = c.stat("/");
        assert_eq!((root.version, root.cversion, root.num_children), (0, -1, 1));
        assert_eq!((root.czxid, root.mzxid, root.pzxid, root.ctime, root.mtime), (0, 0, 0, 0, 0));
        let stat = c.stat("/zookeeper");
        assert_eq!((stat.cversion, stat.num_children), (-2, 2));
        let stat = c.stat("/zookeeper/config");
        assert_eq!((stat.aversion, stat.data_length), (-1, 0));
    }

    #[test]
    fn d002_acls_of_the_initial_nodes() {
        let s = fresh();
        let mut c = Client::connect(&s);
        assert_eq!(acls(&mut c, "/zookeeper/config"), [(1, "world".into(), "anyone".into())]);
        assert_eq!(acls(&mut c, "/"), [(31, "world".into(), "anyone".into())]);
    }

    #[test]
    fn d003_the_first_create_is_transaction_2() {
        let s = fresh();
        let mut c = Client::connect(&s);
        assert_eq!(c.ok(op::CREATE, node("/a")).zxid, 2);
        let root = c.stat("/");
        assert_eq!((root.cversion, root.pzxid, root.mzxid), (0, 2, 0));
    }

    #[test]
    fn d004_counts_of_the_initial_tree() {
        let s = fresh();
        let mut c = Client::connect(&s);
        let mut below = |p| c.ok(op::GET_ALL_CHILDREN_NUMBER, path(p)).record::<i32>();
        assert_eq!((below("/"), below("/zookeeper")), (3, 2));
        assert_eq!(metric(&s, "zk_znode_count"), 5);
        assert_eq!(metric(&s, "zk_approximate_data_size"), 44);
    }

    #[test]
    fn d005_the_empty_path() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.ok(op::GET_DATA, unwatched("")).stat(), c.stat("/"));
            assert_eq!(c.err(op::CREATE, node("")), -8);
            assert_eq!(c.err(op::DELETE, versioned("", -1)), -8);
        });
    }

    #[test]
    fn d006_creating_the_root() {
        let s = fresh();
        let mut c = Client::connect(&s);
        assert_eq!(c.err(op::CREATE, node("/")), -110);
        c.create("/a");
        assert_eq!(c.ok(op::CREATE, create("/", b"", OPEN, 2)).path(), "/0000000001");
    }

    #[test]
    fn d007_when_a_path_is_checked() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d007");
            assert_eq!(c.err(op::CREATE, node("/d007/")), -8);
            assert_eq!(c.ok(op::CREATE, create("/d007/", b"", OPEN, 2)).path(), "/d007/0000000000");
            for (p, err) in [("/d007//b", -101), ("/d007nope/.", -101), ("/d007/.", -8)] {
                assert_eq!(c.err(op::CREATE, node(p)), err, "{p}");
            }
        });
    }

    #[test]
    fn d008_what_delete_makes_of_odd_paths() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d008");
            assert_eq!(c.err(op::DELETE, versioned("/d008/", -1)), -101);
            for p in ["/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config"] {
                assert_eq!(c.err(op::DELETE, versioned(p, -1)), -8, "{p}");
            }
        });
    }

    #[test]
    fn d009_characters_beyond_the_basic_plane() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::CREATE, node("/😀")), -8);
            assert_eq!(c.err(op::EXISTS, unwatched("/😀")), -101);
            let latin1 = Body::new().buffer(Some(b"/\xe9")).buffer(Some(b"")).acls(OPEN).int(0);
            assert_eq!(c.err(op::CREATE, latin1), -8);
            c.create("/é-d009");
        });
    }

    #[test]
    fn d010_a_nul_in_a_path() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::EXISTS, unwatched("/a\0b")), -8);
            assert_eq!(c.err(op::GET_DATA, unwatched("/a\0b")), -101);
        });
    }

    #[test]
    fn d011_null_data() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, path("/d011").null().acls(OPEN).int(0));
            let reply = c.ok(op::GET_DATA, unwatched("/d011"));
            assert_eq!((hex(&reply.body[..4]).as_str(), reply.stat().data_length), ("ffffffff", 0));
        });
    }
}

mod versions {
    use super::*;

    #[test]
    fn d012_children_count_in_cversion_and_pzxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d012");
            let sequential = || create("/d012/s-", b"", OPEN, 2);
            let first = c.ok(op::CREATE, sequential()).path();
            c.ok(op::CREATE, sequential());
            let z = c.ok(op::DELETE, versioned(&first, -1)).zxid;
            let stat = c.stat("/d012");
            assert_eq!((stat.cversion, stat.num_children, stat.pzxid), (3, 1, z));
            assert_eq!(c.ok(op::CREATE, sequential()).path(), "/d012/s-0000000002");
        });
    }

    #[test]
    fn d013_a_name_that_is_taken_uses_up_no_number() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d013");
            c.create("/d013/0000000001");
            for _ in 0..2 {
                assert_eq!(c.err(op::CREATE, create("/d013/", b"", OPEN, 2)), -110);
            }
        });
    }

    #[test]
    fn d014_a_wrong_version_before_children() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d014");
            c.create("/d014/k");
            assert_eq!(c.err(op::DELETE, versioned("/d014", 3)), -103);
        });
    }

    #[test]
    fn d015_only_writes_take_zxids() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let reply = c.call(op::SET_DATA, set_data("/d015", b"", -1));
            assert_eq!((reply.err, reply.zxid), (-101, z + 1));
            let reply = c.call(op::GET_DATA, unwatched("/d015"));
            assert_eq!((reply.err, reply.zxid), (-101, z + 1));
        });
    }

    #[test]
    fn d016_set_acl_moves_aversion_alone() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d016");
            let before = c.stat("/d016");
            let after = c.ok(op::SET_ACL, set_acl("/d016", OPEN, 0)).stat();
            assert_eq!(after, data::Stat { aversion: 1, ..before });
            assert_eq!(c.err(op::SET_ACL, set_acl("/d016", OPEN, 0)), -103);
        });
    }

    #[test]
    fn d017_a_super_user_changes_the_config_node() {
        SUPER.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::AUTH, auth("digest", b"super:test"));
            assert_eq!(c.ok(op::SET_ACL, set_acl("/zookeeper/config", OPEN, -1)).stat().aversion, 0);
            assert_eq!(c.ok(op::SET_DATA, set_data("/zookeeper/config", b"", -1)).stat().version, 1);
        });
    }

    #[test]
    fn d018_a_failed_create_takes_a_zxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ok(op::CREATE, node("/d018")).zxid;
            assert_eq!(c.err(op::CREATE, node("/d018")), -110);
            assert_eq!(c.ok(op::SET_DATA, set_data("/d018", b"", -1)).zxid, z + 2);
        });
    }
}

mod create_modes {
    use super::*;

    #[test]
    fn d019_flags_of_create() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::CREATE, create("/d019", b"", OPEN, 9)), -8);
            assert_eq!(c.err(op::CREATE, create("/d019", b"", OPEN, 5)), -6);
        });
        EXTENDED.run(|s| assert_eq!(Client::connect(s).err(op::CREATE, create("/d019", b"", OPEN, 5)), -8));
    }

    #[test]
    fn d020_ttls() {
        DEFAULT.run(|s| assert_eq!(Client::connect(s).err(op::CREATE_TTL, create_ttl("/d020", 5, 1000)), -6));
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.ok(op::CREATE_TTL, create_ttl("/d020", 5, 1000)).stat().ephemeral_owner, 0);
            for ttl in [0, -5, 1 << 40] {
                assert_eq!(c.err(op::CREATE_TTL, create_ttl("/d020x", 5, ttl)), -8, "ttl {ttl}");
            }
            c.ok(op::CREATE_TTL, create_ttl("/d020y", 5, (1 << 40) - 1));
            assert_eq!(c.err(op::CREATE_TTL, create_ttl("/d020x", 0, 5)), -8);
        });
    }

    #[test]
    fn d021_a_container_with_a_number() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d021");
            let reply = c.ok(op::CREATE_CONTAINER, create("/d021/c", b"", OPEN, 2));
            assert_eq!(reply.path(), "/d021/c0000000000");
        });
    }

    #[test]
    fn d022_who_takes_children() {
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/d022e", b"", OPEN, 1));
            assert_eq!(c.err(op::CREATE, node("/d022e/k")), -108);
            c.ok(op::CREATE_CONTAINER, create("/d022c", b"", OPEN, 4));
            c.ok(op::CREATE_TTL, create_ttl("/d022t", 5, 3_600_000));
            for p in ["/d022c/e", "/d022t/e"] {
                c.ok(op::CREATE, create(p, b"", OPEN, 1));
            }
        });
    }

    #[test]
    fn d023_opcodes_that_are_none() {
        DEFAULT.run(|s| {
            for code in [13, 0, 10, 99, -1] {
                let mut c = Client::connect(s);
                let reply = c.call(code, versioned("/", -1));
                assert_eq!((reply.zxid, reply.err), (-1, -6), "op {code}");
                c.expect_closed();
            }
        });
    }

    #[test]
    fn d024_a_container_goes_after_its_last_child() {
        FAST.run(|s| {
            let mut c = Client::connect(s);
            for p in ["/d024a", "/d024b"] {
                c.ok(op::CREATE_CONTAINER, create(p, b"", OPEN, 4));
            }
            c.create("/d024a/k");
            c.ok(op::EXISTS, watched("/d024a"));
            c.ok(op::DELETE, versioned("/d024a/k", -1));
            let began = Instant::now();
            assert_eq!(c.event(), (2, "/d024a".into()));
            between(began, 0, 1000);
            assert!(c.exists("/d024b"));
        });
    }

    #[test]
    fn d025_a_ttl_node_goes_when_old_and_empty() {
        FAST.run(|s| {
            let (mut c, mut clock) = (Client::connect(s), Client::connect(s));
            c.ok(op::CREATE_TTL, create_ttl("/d025", 5, 100));
            c.create("/d025/k");
            // A container that goes proves that a run has taken place after the TTL.
            clock.ok(op::CREATE_TTL, create_ttl("/d025clock", 5, 200));
            clock.ok(op::EXISTS, watched("/d025clock"));
            assert_eq!(clock.event(), (2, "/d025clock".into()));
            assert!(c.exists("/d025"));
            c.ok(op::EXISTS, watched("/d025"));
            c.ok(op::DELETE, versioned("/d025/k", -1));
            assert_eq!(c.event(), (2, "/d025".into()));
        });
    }

    /// What deleteContainer answers a client. We may refuse it as an unknown opcode instead (client-protocol
    /// 4.31), so this is for the reference alone; ours is in `defects.rs`.
    #[test]
    fn d026_delete_container_from_a_client() {
        let server = Server::java(&Setup::standalone());
        let mut c = Client::connect(&server);
        c.ok(op::CREATE, create("/d026e", b"", OPEN, 1));
        c.create("/d026");
        c.create("/d026/k");
        for (p, err) in [("/d026e", -103), ("/d026", -111), ("/d026nope", -101), ("/", -8)] {
            assert_eq!(c.err(op::DELETE_CONTAINER, path(p)), err, "{p}");
        }
    }
}

mod multis {
    use super::*;

    #[test]
    fn d027_a_multi_fails_as_a_whole() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let reply = c.ok(
                op::MULTI,
                multi([
                    (op::CREATE, node("/d027a")),
                    (op::DELETE, versioned("/d027nope", -1)),
                    (op::CREATE, node("/d027b")),
                ]),
            );
            assert_eq!((reply.outcomes(), reply.zxid), (vec![(-1, 0), (-1, -101), (-1, -2)], z + 1));
            assert!(!c.exists("/d027a"));
        });
    }

    #[test]
    fn d028_an_empty_multi_takes_a_zxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let reply = c.ok(op::MULTI, multi([]));
            assert_eq!((reply.outcomes(), reply.zxid), (vec![], z + 1));
        });
    }

    #[test]
    fn d029_a_failed_multi_uses_up_no_number() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d029");
            let sequential = || create("/d029/s", b"", OPEN, 2);
            c.ok(op::CREATE, sequential());
            c.ok(op::MULTI, multi([(op::CREATE, sequential()), (op::DELETE, versioned("/d029/nope", -1))]));
            assert_eq!(c.ok(op::CREATE, sequential()).path(), "/d029/s0000000001");
        });
    }

    #[test]
    fn d030_a_life_in_one_multi() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(
                op::MULTI,
                multi([
                    (op::CREATE, node("/d030")),
                    (op::SET_DATA, set_data("/d030", b"", 0)),
                    (op::SET_DATA, set_data("/d030", b"", 1)),
                    (op::DELETE, versioned("/d030", 2)),
                ]),
            );
            assert_eq!(reply.outcomes(), [(1, 0), (5, 0), (5, 0), (2, 0)]);
        });
    }

    #[test]
    fn d031_check_any_version() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for (p, outcome) in [("/", (13, 0)), ("/d031", (-1, -101))] {
                assert_eq!(c.ok(op::MULTI, multi([(op::CHECK, versioned(p, -1))])).outcomes(), [outcome]);
            }
        });
    }

    #[test]
    fn d032_what_a_multi_cannot_hold() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let bodies = [
                multi([(op::GET_DATA, unwatched("/"))]),
                multi([(op::CREATE, node("/d032")), (op::GET_DATA, unwatched("/"))]),
                multi([(77, versioned("/", -1))]),
            ];
            for body in bodies {
                let z = c.ping();
                let reply = c.call(op::MULTI, body);
                assert_eq!((reply.err, reply.zxid), (-5, z + 1));
            }
        });
    }

    #[test]
    fn d033_flags_4_in_a_multi_make_a_container() {
        FAST.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(op::MULTI, multi([(op::CREATE, create("/d033", b"", OPEN, 4))]));
            assert_eq!(reply.outcomes(), [(15, 0)]);
            c.create("/d033/k");
            c.ok(op::EXISTS, watched("/d033"));
            c.ok(op::DELETE, versioned("/d033/k", -1));
            assert_eq!(c.event(), (2, "/d033".into()));
        });
    }

    #[test]
    fn d034_multi_read() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(
                op::MULTI_READ,
                multi([
                    (op::GET_DATA, unwatched("/")),
                    (op::GET_DATA, unwatched("/d034")),
                    (op::GET_CHILDREN, unwatched("/zookeeper")),
                ]),
            );
            assert_eq!(reply.outcomes(), [(4, 0), (-1, -101), (8, 0)]);
        });
    }
}

mod pipelining {
    use super::*;

    #[test]
    fn d036_each_request_sees_those_before_it() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.send(op::CREATE, node("/d036"));
            c.send(op::CREATE, create("/d036/e", b"", OPEN, 1));
            c.send(op::CREATE, node("/d036/e/x"));
            c.send(op::DELETE, versioned("/d036", -1));
            c.send(op::SET_DATA, set_data("/d036", b"", 0));
            c.send(op::SET_DATA, set_data("/d036", b"", 0));
            assert_eq!([(); 6].map(|_| c.reply().err), [0, 0, -108, -111, 0, -103]);
        });
    }

    #[test]
    fn d037_a_generated_name_is_known_in_the_same_multi() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d037");
            let sequential = || (op::CREATE, create("/d037/s", b"", OPEN, 2));
            let delete = (op::DELETE, versioned("/d037/s0000000000", -1));
            let reply = c.ok(op::MULTI, multi([sequential(), sequential(), delete]));
            assert_eq!(reply.outcomes(), [(1, 0), (1, 0), (2, 0)]);
        });
    }

    /// Java may still answer the read with -112 (client-protocol 4.24), never with a result.
    #[test]
    fn d038_nothing_is_served_behind_the_end_of_a_session() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let exists = request(2, op::EXISTS, &Vec::from(unwatched("/")));
            c.send_bytes(&[frame(&request(1, op::CLOSE_SESSION, &[])), frame(&exists)].concat());
            let mut connection_ended = false;
            let reply = c.reply();
            assert_eq!((reply.xid, reply.err), (1, 0));
            while !connection_ended {
                match c.receive(ANSWER) {
                    Received::Closed(_) => connection_ended = true,
                    Received::Frame(answer) => assert_eq!(answer[12..], (-112i32).to_be_bytes()),
                    Received::Silence => panic!("the server did not close"),
                }
            }
        });
    }
}

mod digests {
    use super::*;

    #[test]
    fn d041_hash_lists_every_128th_transaction() {
        let s = fresh();
        let mut c = Client::connect(&s);
        c.create("/d041");
        while c.ok(op::SET_DATA, set_data("/d041", b"", -1)).zxid < 300 {}
        let answer = s.word("hash").expect("hash is answered");
        let zxids: Vec<_> = answer.lines().filter_map(|l| l.split(':').next()).collect();
        assert_eq!(zxids, ["80", "100"], "{answer}");
    }

    /// data-model 12b, 14.
    #[test]
    fn d041a_digests_may_be_switched_off_and_on() {
        let off = default_setup().flag("zookeeper.digest.enabled", "false");
        for (first, second) in [(default_setup(), off.clone()), (off, default_setup())] {
            defect(&first, |s| {
                Client::connect(s).create("/d041a");
                // A second start writes a snapshot of the first one's state.
                s.restart();
                s.restart_with(&second);
                assert!(Client::connect(s).exists("/d041a"));
            });
        }
    }
}

mod sessions {
    use super::*;

    #[test]
    fn d042_timeouts_follow_the_tick() {
        FAST.run(|s| {
            let negotiated = [100, -1, 1_000_000]
                .map(|time_out| Client::connect_as(s, &Connect { time_out, ..Connect::default() }).session.time_out);
            assert_eq!(negotiated, [1000, 1000, 10_000]);
        });
    }

    /// java.util.Random, as 7.1 spells it out.
    fn password(session: i64) -> Vec<u8> {
        const MASK: u64 = (1 << 48) - 1;
        let mut state = ((session as u64) ^ 0xb341_5c00 ^ 0x5_deec_e66d) & MASK;
        let mut word = || {
            state = state.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & MASK;
            ((state >> 16) as u32).to_le_bytes()
        };
        (0..4).flat_map(|_| word()).collect()
    }

    #[test]
    fn d043_passwords() {
        assert_eq!(hex(&password(1)), "054cc74a37327db215e702e20c73f005");
        assert_eq!(hex(&password(0x0100_0000_0000_0000)), "f22acd4a97e69d6d20a49bb638eadb38");
        assert_eq!(hex(&password(0x0100_0014_563e_0000)), "e079d82eed55c0d6be4f94a17ef094e8");
        DEFAULT.run(|s| {
            let c = Client::connect(s);
            assert_eq!(c.session.id >> 56, 1);
            assert_eq!(hex(&c.session.passwd), hex(&password(c.session.id)));
        });
    }

    #[test]
    fn d044_a_wrong_password_and_an_expired_session_look_alike() {
        FAST.run(|s| {
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.leave();
            let wrong = Session { passwd: vec![9; 16].into(), ..c.session.clone() };
            refused(s, &Connect::attach(&wrong));
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.expect_closed();
            refused(s, &Connect::attach(&c.session));
        });
    }

    #[test]
    fn d045_a_new_connection_negotiates_anew() {
        DEFAULT.run(|s| {
            let mut old = Client::connect(s);
            let new = Client::connect_as(s, &Connect { time_out: 7000, ..Connect::attach(&old.session) });
            assert_eq!((new.session.time_out, &new.session.passwd), (7000, &old.session.passwd));
            old.expect_closed();
        });
    }

    #[test]
    fn d046_a_client_from_the_future() {
        DEFAULT.run(|s| {
            let mut connection = Connection::open(s.address());
            connection.send(&Connect { last_zxid_seen: i64::MAX, ..Connect::default() }.payload());
            assert_eq!(connection.receive(ANSWER), Received::Closed(vec![]));
        });
    }

    #[test]
    fn d047_lengths_of_the_answer() {
        DEFAULT.run(|s| {
            for (read_only, length) in [(None, 36), (Some(0), 37)] {
                let mut connection = Connection::open(s.address());
                connection.send(&Connect { read_only, ..Connect::default() }.payload());
                let Received::Frame(answer) = connection.receive(ANSWER) else { panic!("no answer") };
                assert_eq!(answer.len(), length);
            }
        });
    }

    #[test]
    fn d048_ephemerals_go_a_timeout_after_their_client() {
        FAST.run(|s| {
            let mut other = Client::connect(s);
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.ok(op::CREATE, create("/d048", b"", OPEN, 1));
            other.ok(op::EXISTS, watched("/d048"));
            let began = Instant::now();
            c.ping();
            c.leave();
            assert_eq!(other.event(), (2, "/d048".into()));
            between(began, 1000, 1500);
        });
    }

    #[test]
    fn d049_an_idle_connection_ends_with_its_session() {
        FAST.run(|s| {
            let mut other = Client::connect(s);
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.ok(op::CREATE, create("/d049", b"", OPEN, 1));
            other.ok(op::EXISTS, watched("/d049"));
            c.expect_closed();
            assert_eq!(other.event(), (2, "/d049".into()));
        });
    }

    #[test]
    fn d054_ephemerals_by_the_start_of_their_name() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for p in ["/d054ep", "/d054x"] {
                c.ok(op::CREATE, create(p, b"", OPEN, 1));
            }
            let names: Vec<jute::Text> = c.ok(op::GET_EPHEMERALS, path("/d054e")).record();
            assert_eq!(names.iter().map(|n| n.as_str()).collect::<Vec<_>>(), ["/d054ep"]);
        });
    }
}

mod watches {
    use super::*;

    #[test]
    fn d055_the_event_comes_before_the_reply() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d055");
            c.ok(op::GET_DATA, watched("/d055"));
            c.send(op::SET_DATA, set_data("/d055", b"", -1));
            let Next::Event(event) = c.next_frame() else { panic!("the reply came first") };
            assert_eq!(c.reply().zxid, event.zxid);
        });
    }

    #[test]
    fn d056_who_hears_of_a_creation() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), Client::connect(s));
            assert_eq!(c.err(op::EXISTS, watched("/d056")), -101);
            assert_eq!(other.err(op::GET_DATA, watched("/d056")), -101);
            c.create("/d056");
            assert_eq!(c.events(), [(1, "/d056".into())]);
            assert_eq!(other.events(), []);
        });
    }

    #[test]
    fn d057_three_watches_one_deletion() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d057");
            for code in [op::GET_DATA, op::EXISTS, op::GET_CHILDREN] {
                c.ok(code, watched("/d057"));
            }
            c.ok(op::DELETE, versioned("/d057", -1));
            assert_eq!(c.events(), [(2, "/d057".into())]);
        });
    }

    #[test]
    fn d058_a_persistent_watch() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d058");
            c.ok(op::ADD_WATCH, watch_kind("/d058", 0));
            c.ok(op::SET_DATA, set_data("/d058", b"", -1));
            c.ok(op::SET_DATA, set_data("/d058", b"", -1));
            c.create("/d058/c");
            c.ok(op::SET_DATA, set_data("/d058/c", b"", -1));
            c.ok(op::DELETE, versioned("/d058/c", -1));
            c.ok(op::DELETE, versioned("/d058", -1));
            c.create("/d058");
            assert_eq!(c.events(), [3, 3, 4, 4, 2, 1].map(|kind| (kind, "/d058".to_string())));
        });
    }

    #[test]
    fn d059_a_recursive_watch() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d059");
            c.create("/d059/c");
            c.ok(op::ADD_WATCH, watch_kind("/d059", 1));
            c.create("/d059/c/e");
            c.ok(op::DELETE, versioned("/d059/c/e", -1));
            assert_eq!(c.events(), [1, 2].map(|kind| (kind, "/d059/c/e".to_string())));
        });
    }

    #[test]
    fn d060_all_modes_of_one_path_are_one_event() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d060");
            c.ok(op::ADD_WATCH, watch_kind("/d060", 0));
            c.ok(op::ADD_WATCH, watch_kind("/d060", 1));
            c.ok(op::GET_DATA, watched("/d060"));
            for _ in 0..2 {
                c.ok(op::SET_DATA, set_data("/d060", b"", -1));
                assert_eq!(c.events(), [(3, "/d060".into())]);
            }
        });
    }

    #[test]
    fn d061_a_multi_tells_of_each_child() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::ADD_WATCH, watch_kind("/", 0));
            let z = c.ok(op::MULTI, multi([(op::CREATE, node("/d061a")), (op::CREATE, node("/d061b"))])).zxid;
            let events: Vec<_> = c.whole_events().into_iter().map(|e| (e.kind, e.path, e.zxid)).collect();
            assert_eq!(events, [(4, "/".into(), z), (4, "/".into(), z)]);
        });
    }

    #[test]
    fn d062_a_watch_is_used_up_by_what_may_not_be_told() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            assert_eq!(c.err(op::EXISTS, watched("/d062")), -101);
            other.ok(op::CREATE, create_with("/d062", BOB));
            assert_eq!(c.events(), []);
            assert_eq!(c.err(op::CHECK_WATCHES, watch_kind("/d062", 2)), -121);
        });
    }

    #[test]
    fn d063_the_acl_of_the_changed_node_counts() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            other.ok(op::CREATE, create_with("/d063", BOB));
            c.ok(op::ADD_WATCH, watch_kind("/d063", 1));
            other.create("/d063/k");
            other.ok(op::SET_DATA, set_data("/d063/k", b"", -1));
            other.ok(op::SET_DATA, set_data("/d063", b"", -1));
            assert_eq!(c.events(), [(1, "/d063/k".into()), (3, "/d063/k".into())]);
        });
    }

    #[test]
    fn d064_the_parents_acl_counts_for_its_children() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            c.create("/d064");
            c.create("/d064/k");
            c.ok(op::GET_CHILDREN, watched("/d064"));
            other.ok(op::SET_ACL, set_acl("/d064", BOB, -1));
            other.ok(op::DELETE, versioned("/d064/k", -1));
            assert_eq!(c.events(), []);
        });
    }

    #[test]
    fn d065_catching_up_needs_no_permission() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            other.ok(op::CREATE, create_with("/d065", BOB));
            other.ok(op::CREATE, create_with("/d065/k", BOB));
            let list = &["/d065"][..];
            c.send_as(-8, op::SET_WATCHES, set_watches(0, &["/d065", "/d065nope"], list, list));
            let expected = [(3, "/d065"), (2, "/d065nope"), (1, "/d065"), (4, "/d065")];
            for (kind, p) in expected {
                let Next::Event(event) = c.next_frame() else { panic!("the reply came too soon") };
                assert_eq!((event.kind, event.path.as_str(), event.zxid), (kind, p, -1));
            }
            assert_eq!(c.reply().xid, -8);
        });
    }

    #[test]
    fn d066_persistent_watches_hear_of_later_changes_only() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d066");
            c.ok(op::SET_WATCHES2, set_watches(0, &[], &[], &[]).texts(&["/d066"]).texts(&["/d066"]));
            assert_eq!(c.events(), []);
            c.create("/d066/k");
            assert_eq!(c.events(), [(1, "/d066/k".into()), (4, "/d066".into())]);
        });
    }

    #[test]
    fn d067_modes_and_types() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::ADD_WATCH, watch_kind("/d067", 2)), -5);
            assert_eq!(c.err(op::ADD_WATCH, watch_kind("bad", 0)), 0);
            assert_eq!(c.err(op::REMOVE_WATCHES, watch_kind("/d067", 9)), -5);
            c.ok(op::ADD_WATCH, watch_kind("/d067", 0));
            assert_eq!(c.err(op::REMOVE_WATCHES, watch_kind("/d067", 2)), -121);
        });
    }

    #[test]
    fn d068_set_acl_is_silent() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d068");
            c.ok(op::ADD_WATCH, watch_kind("/d068", 0));
            c.ok(op::SET_ACL, set_acl("/d068", OPEN, -1));
            assert_eq!(c.events(), []);
        });
    }

    #[test]
    fn d069_the_end_of_a_session_is_one_transaction() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), Client::connect(s));
            for p in ["/d069a", "/d069b"] {
                c.ok(op::CREATE, create(p, b"", OPEN, 1));
                other.ok(op::EXISTS, watched(p));
            }
            other.ok(op::GET_CHILDREN, watched("/"));
            let z = c.close().zxid;
            let mut events: Vec<_> = other.whole_events().into_iter().map(|e| (e.kind, e.path, e.zxid)).collect();
            events.sort();
            assert_eq!(events, [(2, "/d069a".into(), z), (2, "/d069b".into(), z), (4, "/".into(), z)]);
        });
    }

    #[test]
    fn d070_watches_are_counted_by_table_and_path() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let before = metric(s, "zk_watch_count");
            c.create("/d070");
            c.ok(op::ADD_WATCH, watch_kind("/d070", 0));
            c.ok(op::ADD_WATCH, watch_kind("/d070", 1));
            c.ok(op::EXISTS, watched("/d070"));
            assert_eq!(metric(s, "zk_watch_count") - before, 2);
        });
    }
}

mod quotas {
    use super::*;

    fn quota(c: &mut Client, of: &str, limits: &str) {
        c.create(&format!("/zookeeper/quota{of}"));
        let limits_node = format!("/zookeeper/quota{of}/zookeeper_limits");
        c.ok(op::CREATE, create(&limits_node, limits.as_bytes(), OPEN, 0));
        c.ok(op::CREATE, create(&stats(of), b"count=0,bytes=0", OPEN, 0));
    }

    fn stats(of: &str) -> String {
        format!("/zookeeper/quota{of}/zookeeper_stats")
    }

    fn hard(count: i32, bytes: i32) -> String {
        format!("count=-1,bytes=-1=;byteHardLimit={bytes};countHardLimit={count}")
    }

    fn filled(p: &str, bytes: usize) -> Body {
        create(p, &vec![b'x'; bytes], OPEN, 0)
    }

    fn set(p: &str, bytes: usize, version: i32) -> Body {
        set_data(p, &vec![b'x'; bytes], version)
    }

    #[test]
    fn d071_creating_the_stats_counts_what_is_there() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, filled("/d071", 5));
            c.ok(op::CREATE, filled("/d071/k", 3));
            quota(&mut c, "/d071", "count=100,bytes=100");
            assert_eq!(c.data(&stats("/d071")), "count=2,bytes=8");
            assert_eq!(c.stat(&stats("/d071")).version, 0);
        });
    }

    #[test]
    fn d072_a_hard_limit_may_be_reached() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d072");
            c.create("/d072/a");
            quota(&mut c, "/d072", &hard(4, 20));
            let errors = ["/d072/b", "/d072/c", "/d072/d"].map(|p| c.err(op::CREATE, node(p)));
            assert_eq!(errors, [0, 0, -125]);
            assert_eq!(c.err(op::SET_DATA, set("/d072/a", 20, -1)), 0);
            assert_eq!(c.err(op::SET_DATA, set("/d072/a", 21, -1)), -125);
            assert_eq!(c.err(op::SET_DATA, set("/d072/a", 21, 77)), -125);
        });
    }

    #[test]
    fn d073_above_the_limit() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d073");
            c.ok(op::CREATE, filled("/d073/k", 30));
            quota(&mut c, "/d073", &hard(-1, 10));
            assert_eq!(c.err(op::SET_DATA, set("/d073/k", 20, -1)), -125);
            assert_eq!(c.err(op::SET_DATA, set("/d073/k", 30, -1)), 0);
            assert_eq!(c.err(op::DELETE, versioned("/d073/k", -1)), 0);
        });
    }

    #[test]
    fn d074_a_multi_may_overshoot() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            for p in ["/d074", "/d074/a", "/d074/b"] {
                c.create(p);
            }
            quota(&mut c, "/d074", &hard(4, -1));
            let creates = ["/d074/c", "/d074/d", "/d074/e"].map(|p| (op::CREATE, node(p)));
            assert_eq!(c.ok(op::MULTI, multi(creates)).outcomes(), [(1, 0), (1, 0), (1, 0)]);
            assert_eq!(c.data(&stats("/d074")), "count=6,bytes=0");
            assert_eq!(c.err(op::CREATE, node("/d074/f")), -125);
        });
    }

    #[test]
    fn d075_usage_changes_without_a_trace() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d075");
            quota(&mut c, "/d075", "count=100,bytes=100");
            let before = c.stat(&stats("/d075"));
            c.ok(op::GET_DATA, watched(&stats("/d075")));
            c.ok(op::CREATE, filled("/d075/k", 3));
            assert_eq!(c.data(&stats("/d075")), "count=2,bytes=3");
            let after = c.stat(&stats("/d075"));
            assert_eq!((after.version, after.mzxid, after.mtime), (before.version, before.mzxid, before.mtime));
            assert_eq!(c.events(), []);
        });
    }

    #[test]
    fn d076_usage_is_counted_again_with_new_stats_only() {
        QUOTA.run(|s| {
            let mut c = Client::connect(s);
            c.create("/d076");
            quota(&mut c, "/d076", "count=100,bytes=100");
            let limits = "/zookeeper/quota/d076/zookeeper_limits";
            c.ok(op::DELETE, versioned(limits, -1));
            c.create("/d076/a");
            assert_eq!(c.data(&stats("/d076")), "count=1,bytes=0");
            c.ok(op::CREATE, create(limits, b"count=100,bytes=100", OPEN, 0));
            assert_eq!(c.data(&stats("/d076")), "count=1,bytes=0");
            c.ok(op::DELETE, versioned(&stats("/d076"), -1));
            c.ok(op::CREATE, create(&stats("/d076"), b"count=0,bytes=0", OPEN, 0));
            assert_eq!(c.data(&stats("/d076")), "count=2,bytes=0");
        });
    }
}

mod acl_and_auth {
    use super::*;

    #[test]
    fn d077_what_is_no_acl() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let bad: [&[Acl]; 7] = [
                &[],
                &[acl(31, "foo", "x")],
                &[acl(31, "auth", "")],
                &[acl(31, "world", "x")],
                &[acl(31, "ip", "1.2.3.4/33")],
                &[acl(31, "digest", "a:b:c")],
                &[acl(31, "sasl", "x")],
            ];
            for list in bad {
                assert_eq!(c.err(op::CREATE, create_with("/d077", list)), -114, "{list:?}");
            }
            assert_eq!(c.err(op::CREATE, path("/d077").buffer(Some(b"")).null().int(0)), -114);
            c.ok(op::CREATE, create_with("/d077", &[acl(0, "world", "anyone")]));
            assert_eq!(c.err(op::EXISTS, unwatched("/d077")), -102);
        });
    }

    #[test]
    fn d078_a_bad_acl_before_a_missing_node() {
        DEFAULT.run(|s| {
            assert_eq!(Client::connect(s).err(op::SET_ACL, set_acl("/d078", &[acl(31, "foo", "x")], -1)), -114);
        });
    }

    #[test]
    fn d079_a_missing_permission_before_a_missing_node() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create_with("/d079", &[acl(23, "world", "anyone")]));
            assert_eq!(c.err(op::DELETE, versioned("/d079/k", -1)), -102);
        });
    }

    #[test]
    fn d080_who_sees_digests() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let with = |perms| [acl(31, "digest", "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="), acl(perms, "world", "anyone")];
            for (p, perms) in [("/d080r", 1), ("/d080a", 16), ("/d080w", 2)] {
                c.ok(op::CREATE, create_with(p, &with(perms)));
            }
            assert_eq!(acls(&mut c, "/d080r")[0].2, "u:x");
            assert_eq!(acls(&mut c, "/d080a")[0].2, "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=");
            assert_eq!(c.err(op::GET_DATA, unwatched("/d080a")), -102);
            assert_eq!(c.err(op::GET_ACL, path("/d080w")), -102);
        });
    }

    #[test]
    fn d081_auth_stands_for_each_digest_identity() {
        DEFAULT.run(|s| {
            let mut c = bob(s);
            c.ok(op::AUTH, auth("digest", b"u:p"));
            c.ok(op::CREATE, create_with("/d081", &[acl(21, "auth", "whatever")]));
            let mut list = acls(&mut c, "/d081");
            list.sort();
            let entry = |id: &str| (21, "digest".to_string(), id.to_string());
            assert_eq!(list, [entry("bob:ikIaKsbtGweaHnb/jKn7OHqbunM="), entry("u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ=")]);
        });
    }

    #[test]
    fn d082_schemes_of_auth() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::AUTH, auth("ip", b"")), 0);
            assert_eq!(c.err(op::AUTH, auth("digest", b"nocolon")), 0);
            assert_eq!(c.err(op::AUTH, auth("unknown", b"")), -115);
            c.expect_closed();
        });
    }

    #[test]
    fn d083_a_super_user() {
        SUPER.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create_with("/d083", NOBODY));
            assert_eq!(c.err(op::GET_DATA, unwatched("/d083")), -102);
            c.ok(op::AUTH, auth("digest", b"super:test"));
            c.ok(op::GET_DATA, unwatched("/d083"));
            let list: Vec<data::ClientInfo> = c.ok(op::WHO_AM_I, []).record();
            let text = |t: &Option<jute::Text>| t.clone().unwrap_or_default().to_string();
            assert!(list.iter().any(|i| text(&i.auth_scheme) == "super" && text(&i.user).is_empty()));
        });
    }

    #[test]
    fn d084_addresses() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create_with("/d084", &[acl(31, "ip", "127.0.0.0/8")]));
            c.ok(op::GET_DATA, unwatched("/d084"));
            assert_eq!(c.err(op::CREATE, create_with("/d084x", &[acl(31, "ip", "127.1")])), -114);
        });
    }

    #[test]
    fn d085_enforced_digest() {
        let setup = default_setup()
            .flag("zookeeper.enforce.auth.enabled", "true")
            .flag("zookeeper.enforce.auth.schemes", "digest");
        let s = Server::under_test(&setup);
        for (xid, code, body) in [(4, op::EXISTS, Vec::from(unwatched("/"))), (-2, op::PING, vec![])] {
            let mut c = Client::connect(&s);
            c.send_as(xid, code, body);
            let reply = c.reply();
            assert_eq!((reply.xid, reply.zxid, reply.err, reply.body.len()), (xid, 0, -124, 0));
            c.expect_closed();
        }
        let mut c = bob(&s);
        c.ok(op::EXISTS, unwatched("/"));
    }

    #[test]
    fn d086_names_of_ensembles() {
        let setup = default_setup()
            .flag("zookeeper.authProvider.ens", "org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider")
            .flag("zookeeper.ensembleAuthName", "foo,bar");
        let s = Server::under_test(&setup);
        let mut c = Client::connect(&s);
        c.ok(op::AUTH, auth("ensemble", b"bar"));
        c.ok(op::AUTH, auth("ensemble", b""));
        c.send(op::AUTH, auth("ensemble", b"zzz"));
        c.expect_closed();
    }
}

mod throttles {
    use super::*;

    #[test]
    fn d089_large_requests() {
        let setup = default_setup()
            .flag("zookeeper.largeRequestThreshold", "1000")
            .flag("zookeeper.largeRequestMaxBytes", "5000");
        let s = Server::under_test(&setup);
        let mut c = Client::connect(&s);
        c.ok(op::CREATE, create("/d089", &[b'x'; 2000], OPEN, 0));
        c.send(op::SET_DATA, set_data("/d089", &[b'x'; 6000], -1));
        c.expect_closed();
    }

    #[test]
    fn d090_tokens_for_connections() {
        let setup = default_setup()
            .flag("zookeeper.connection_throttle_tokens", "3")
            .flag("zookeeper.connection_throttle_fill_time", "3600000")
            .flag("zookeeper.connection_throttle_fill_count", "1");
        let s = Server::under_test(&setup);
        let _three = [(); 3].map(|_| Client::connect(&s));
        let mut fourth = Connection::open(s.address());
        fourth.send(&Connect::default().payload());
        assert_eq!(fourth.receive(ANSWER), Received::Closed(vec![]));
    }

    #[test]
    fn d091_throttled_requests_are_answered_in_order() {
        let setup = default_setup()
            .flag("zookeeper.request_throttle_max_requests", "1")
            .flag("zookeeper.request_throttle_stall_time", "5")
            .flag("zookeeper.throttled_op_wait_time", "5");
        let s = Server::under_test(&setup);
        let mut c = Client::connect(&s);
        c.create("/d091");
        let body = Vec::from(set_data("/d091", b"x", -1));
        let requests = 1000..4000;
        let bytes: Vec<u8> = requests.clone().flat_map(|i| frame(&request(i, op::SET_DATA, &body))).collect();
        c.send_bytes(&bytes);
        let replies: Vec<_> = requests.clone().map(|_| c.reply()).collect();
        assert!(replies.iter().map(|r| r.xid).eq(requests));
        assert!(replies.iter().all(|r| matches!(r.err, 0 | -127)));
        assert!(replies.iter().any(|r| r.err == -127), "nothing was throttled");
        let done = replies.iter().filter(|r| r.err == 0).count();
        let mut stat = c.call(op::EXISTS, unwatched("/d091"));
        while stat.err == -127 {
            stat = c.call(op::EXISTS, unwatched("/d091"));
        }
        assert_eq!(stat.stat().version as usize, done);
    }
}
