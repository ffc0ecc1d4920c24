//! The checks of section 11 of the client protocol, by number. Those that need an ensemble, TLS or SASL are
//! listed in `tests/checks.md`.
//!
//! They run against our server, and with `ZOOID_SERVER=java` against the reference.

use std::time::{Duration, Instant};

use compat_tests::check::{Shared, defect};
use compat_tests::raw::{Client, Connect, Connection, Next, Received, Session, frame, hex, request};
use compat_tests::request::{
    Acl, Body, OPEN, acl, auth, create, create_ttl, multi, node, op, path, set_acl, set_data, set_watches,
    unterminated, unwatched, versioned, watch_kind, watched,
};
use compat_tests::{Server, Setup};

const ANSWER: Duration = compat_tests::raw::ANSWER;

/// The default configuration, except that sessions may last as long as the tests.
static DEFAULT: Shared = Shared::new(|| Setup::standalone().line("maxSessionTimeout", "3600000"));

/// The default configuration to the letter.
static STOCK: Shared = Shared::new(Setup::standalone);

/// TTL nodes, hard quotas, a super user, reconfiguration switched on.
static EXTENDED: Shared = Shared::new(|| {
    Setup::standalone()
        .line("maxSessionTimeout", "3600000")
        .line("reconfigEnabled", "true")
        .flag("zookeeper.extendedTypesEnabled", "true")
        .flag("zookeeper.enforceQuota", "true")
        .flag("zookeeper.DigestAuthenticationProvider.superDigest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
});

/// Ticks of 500 ms, and empty containers removed every second.
static FAST: Shared = Shared::new(|| {
    Setup::standalone()
        .line("tickTime", "500")
        .line("maxSessionTimeout", "3600000")
        .flag("znode.container.checkIntervalMs", "1000")
});

const BOB: &[Acl] = &[acl(31, "digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=")];
const NOBODY: &[Acl] = &[acl(31, "digest", "x:y")];
const REFUSED: &str = "00000000000000000000000000000000000000100000000000000000000000000000000000";

/// Sends bytes on a connection of its own; everything until the server closes.
fn told(server: &Server, bytes: &[u8]) -> String {
    let mut connection = Connection::open(server.address());
    connection.send_bytes(bytes);
    let all = connection.receive_to_end(ANSWER).expect("the server did not close");
    String::from_utf8_lossy(&all).into_owned()
}

/// The answer to a ConnectRequest, as a connection and the payload.
fn ask(server: &Server, payload: &[u8]) -> (Connection, Vec<u8>) {
    let mut connection = Connection::open(server.address());
    connection.send(payload);
    match connection.receive(ANSWER) {
        Received::Frame(answer) => (connection, answer.to_vec()),
        other => panic!("{other:?} instead of a ConnectResponse"),
    }
}

/// A ConnectRequest must be answered by a close without a byte.
fn closes(server: &Server, connect: &Connect) {
    assert_eq!(told(server, &frame(&connect.payload())), "");
}

/// A ConnectRequest must be answered as one for a session that is not there.
fn refused(server: &Server, connect: &Connect) {
    let (mut connection, answer) = ask(server, &connect.payload());
    assert_eq!(hex(&answer), REFUSED);
    assert_eq!(connection.receive(ANSWER), Received::Closed(vec![]));
}

/// The negotiated timeout for a requested one; the session is closed again.
fn negotiated(server: &Server, time_out: i32) -> i32 {
    Client::connect_as(server, &Connect { time_out, ..Connect::default() }).session.time_out
}

fn bob(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.ok(op::AUTH, auth("digest", b"bob:pw"));
    client
}

fn created(client: &mut Client, op: i32, body: Body) -> String {
    client.ok(op, body).path()
}

mod framing {
    use super::*;

    #[test]
    fn c001_a_frame_may_have_1048575_bytes() {
        DEFAULT.run(|s| {
            assert_eq!(told(s, &0x0010_0000_i32.to_be_bytes()), "");
            let mut c = Client::connect(s);
            // 8 header, 4 + 5 path, 4 data length, 27 ACL, 4 flags.
            let data = vec![b'x'; 1_048_575 - 8 - 9 - 4 - 27 - 4];
            let body: Vec<u8> = create("/c001", &data, OPEN, 0).into();
            assert_eq!(body.len() + 8, 0x000f_ffff);
            c.ok(op::CREATE, body);
            assert_eq!(c.stat("/c001").data_length as usize, data.len());
            c.ok(op::DELETE, versioned("/c001", -1));
        });
    }

    #[test]
    fn c002_a_length_below_one_header_closes() {
        DEFAULT.run(|s| {
            assert_eq!(told(s, &[0xff; 4]), "");
            assert_eq!(told(s, &[0; 4]), "");
            let mut c = Client::connect(s);
            c.send_bytes(&[0; 4]);
            c.expect_closed();
        });
    }

    #[test]
    fn c003_a_frame_of_three_bytes_closes() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.send_bytes(&frame(&[0; 3]));
            c.expect_closed();
        });
    }

    #[test]
    fn c004_bytes_behind_the_last_field_do_not_count() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(op::EXISTS, unwatched("/").raw(&[1, 2, 3, 4]));
            assert_eq!(reply.body.len(), 68);
        });
    }

    #[test]
    fn c005_a_missing_field_is_a_marshalling_error() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.call(op::EXISTS, path("/"));
            assert_eq!((reply.err, reply.body.len()), (-5, 0));
            c.expect_open();
        });
    }

    #[test]
    fn c006_any_byte_but_zero_is_true() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c006");
            c.ok(op::EXISTS, path("/c006").byte(2));
            c.ok(op::SET_DATA, set_data("/c006", b"x", -1));
            assert_eq!(c.events(), [(3, "/c006".into())]);
        });
    }

    #[test]
    fn c007_a_length_that_is_not_there_is_a_marshalling_error() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for length in [0x0030_0000, -2] {
                let reply = c.call(op::GET_DATA, Body::new().int(length));
                assert_eq!((reply.err, reply.body.len()), (-5, 0));
            }
            c.expect_open();
        });
    }

    #[test]
    fn c008_counts_of_vectors() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let mut watches = |body: Body| {
                c.send_as(-8, op::SET_WATCHES, body);
                let reply = c.reply();
                assert_eq!((reply.xid, reply.body.len()), (-8, 0));
                reply.err
            };
            assert_eq!(watches(Body::new().long(0).null().int(0).int(0)), -5);
            assert_eq!(watches(Body::new().long(0).int(-2).int(0).int(0)), 0);
            assert_eq!(watches(Body::new().long(0).int(i32::MAX).int(0).int(0)), -5);
        });
    }

    #[test]
    fn c009_a_supplementary_character_leaves_as_six_bytes() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(op::SYNC, path("/😀"));
            assert_eq!(hex(&reply.body), "000000072feda0bdedb880");
        });
    }

    #[test]
    fn c010_malformed_sequences_become_replacement_characters() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(op::SYNC, Body::new().buffer(Some(b"/\xff\xc0\x80a")));
            assert_eq!(hex(&reply.body), "0000000b2fefbfbdefbfbdefbfbd61");
        });
    }

    #[test]
    fn c011_an_auth_packet_that_ends_in_the_scheme_closes() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.send(op::AUTH, Body::new().int(0).int(6).raw(b"di"));
            c.expect_closed();
        });
    }

    #[test]
    fn c012_words_are_case_sensitive_and_need_permission() {
        DEFAULT.run(|s| {
            assert_eq!(told(s, b"RUOK"), "");
            assert_eq!(told(s, b"GET "), "");
            assert_eq!(told(s, b"ruok"), "ruok is not executed because it is not in the whitelist.\n");
            assert!(told(s, b"srvr").contains("Mode: standalone"));
        });
    }

    #[test]
    fn c013_the_telnet_close_sequence_is_a_word() {
        DEFAULT.run(|s| {
            let answer = told(s, &[0xff, 0xf4, 0xff, 0xfd]);
            assert_eq!(answer, "telnet close is not executed because it is not in the whitelist.\n");
        });
    }

    #[test]
    fn c014_there_are_no_words_behind_a_connect_request() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.send_bytes(b"ruok");
            c.expect_closed();
        });
    }
}

mod sessions {
    use super::*;

    #[test]
    fn c015_the_read_only_byte_is_answered_if_it_was_sent() {
        DEFAULT.run(|s| {
            let answer = ask(s, &Connect::default().payload()).1;
            assert_eq!((answer.len(), answer[36]), (37, 0));
            let old = Connect { read_only: None, ..Connect::default() };
            assert_eq!(ask(s, &old.payload()).1.len(), 36);
        });
    }

    #[test]
    fn c016_a_normal_server_is_never_read_only() {
        DEFAULT.run(|s| {
            let mut payload = Connect { read_only: Some(0xff), ..Connect::default() }.payload();
            payload.extend_from_slice(b"garbage");
            let answer = ask(s, &payload).1;
            assert_eq!((answer.len(), answer[36]), (37, 0));
        });
    }

    #[test]
    fn c017_version_and_password_of_a_new_session_do_not_matter() {
        DEFAULT.run(|s| {
            let connect = Connect { protocol_version: 999, passwd: None, ..Connect::default() };
            let answer = ask(s, &connect.payload()).1;
            assert_eq!((answer.len(), &answer[..4]), (37, &[0; 4][..]));
        });
    }

    #[test]
    fn c018_timeouts_are_clamped() {
        STOCK.run(|s| {
            let requested = [0, -5, 3999, 4000, 40_001, i32::MAX];
            assert_eq!(requested.map(|t| negotiated(s, t)), [4000, 4000, 4000, 4000, 40_000, 40_000]);
        });
    }

    #[test]
    fn c019_a_client_ahead_of_the_server_is_closed() {
        DEFAULT.run(|s| {
            closes(s, &Connect { last_zxid_seen: 1 << 60, ..Connect::default() });
            Client::connect_as(s, &Connect { last_zxid_seen: -5, ..Connect::default() }).expect_open();
        });
    }

    /// java.util.Random, as 2.10 spells it out.
    fn password(session: i64) -> [u8; 16] {
        const MASK: u64 = (1 << 48) - 1;
        let mut seed = ((session as u64) ^ 0xb341_5c00 ^ 0x5_deec_e66d) & MASK;
        let mut password = [0; 16];
        for word in password.chunks_exact_mut(4) {
            seed = seed.wrapping_mul(0x5_deec_e66d).wrapping_add(0xb) & MASK;
            word.copy_from_slice(&((seed >> 16) as u32).to_le_bytes());
        }
        password
    }

    #[test]
    fn c020_passwords_are_javas() {
        assert_eq!(hex(&password(0x0100_0011_c22b_0000)), "572a81e89862d2518d564937a1d09a13");
        assert_eq!(hex(&password(0x0100_0011_c22b_0018)), "be21b0e89805d82ae33e0fdc048af6aa");
        DEFAULT.run(|s| {
            let c = Client::connect(s);
            assert_eq!(hex(&c.session.passwd), hex(&password(c.session.id)));
        });
    }

    #[test]
    fn c021_standalone_session_ids_start_with_01_and_count() {
        DEFAULT.run(|s| {
            let (a, b) = (Client::connect(s), Client::connect(s));
            assert_eq!(a.session.id >> 56, 1);
            assert_eq!(b.session.id, a.session.id + 1);
        });
    }

    #[test]
    fn c022_a_session_moves_to_its_newest_connection() {
        DEFAULT.run(|s| {
            let mut old = Client::connect(s);
            let mut new = Client::connect_as(s, &Connect { time_out: 6000, ..Connect::attach(&old.session) });
            assert_eq!((new.session.id, &new.session.passwd), (old.session.id, &old.session.passwd));
            assert_eq!(new.session.time_out, 6000);
            old.expect_closed();
            new.expect_open();
        });
    }

    /// That the live connection is closed, too, is a defect: see `tests/defects.rs`.
    #[test]
    fn c023_a_wrong_password_is_refused_and_the_session_lives() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.leave();
            let wrong = Session { passwd: vec![9; 16].into(), ..c.session.clone() };
            refused(s, &Connect::attach(&wrong));
            Client::connect_as(s, &Connect::attach(&c.session)).expect_open();
        });
    }

    #[test]
    fn c024_an_unknown_session_is_refused_whatever_its_password() {
        DEFAULT.run(|s| {
            let id = 0x0123_4567_89ab_cdef;
            refused(s, &Connect { session_id: id, passwd: Some(password(id).to_vec()), ..Connect::default() });
        });
    }

    #[test]
    fn c025_a_closed_session_is_gone() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let session = c.session.clone();
            assert_eq!(c.close().zxid, z + 1);
            refused(s, &Connect::attach(&session));
        });
    }

    #[test]
    fn c026_requests_may_follow_the_connect_request_at_once() {
        DEFAULT.run(|s| {
            let mut connection = Connection::open(s.address());
            let exists: Vec<u8> = unwatched("/").into();
            connection
                .send_bytes(&[frame(&Connect::default().payload()), frame(&request(1, op::EXISTS, &exists))].concat());
            for length in [37, 16 + 68] {
                let Received::Frame(answer) = connection.receive(ANSWER) else { panic!("an answer is missing") };
                assert_eq!(answer.len(), length);
            }
        });
    }

    #[test]
    fn c028_an_idle_session_ends_between_timeout_and_a_tick_more() {
        FAST.run(|s| {
            let began = Instant::now();
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.expect_closed_within(Duration::from_secs(15));
            let lasted = began.elapsed();
            assert!(lasted >= Duration::from_millis(1000), "ended after {lasted:?}");
            // Half a second of tick, and the rest for a busy machine.
            assert!(lasted <= Duration::from_secs(10), "ended after {lasted:?}");
            refused(s, &Connect::attach(&c.session));
        });
    }
}

mod headers {
    use super::*;

    #[test]
    fn c030_a_ping_is_answered_with_its_own_xid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            c.send_as(77, op::PING, []);
            let reply = c.reply();
            assert_eq!((reply.xid, reply.zxid, reply.err, reply.body.len()), (-2, z, 0, 0));
        });
    }

    #[test]
    fn c031_xids_are_echoed() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for xid in [-5, 0, -2] {
                c.send_as(xid, op::EXISTS, unwatched("/"));
                assert_eq!(c.reply().xid, xid);
            }
        });
    }

    #[test]
    fn c032_a_failed_write_takes_a_zxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c032");
            let z = c.ping();
            let reply = c.call(op::CREATE, node("/c032"));
            assert_eq!((reply.err, reply.zxid), (-110, z + 1));
            assert_eq!(c.ping(), z + 1);
        });
    }

    #[test]
    fn c033_an_undecodable_write_takes_no_zxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let reply = c.call(op::CREATE, path("/c033"));
            assert_eq!((reply.err, reply.zxid, reply.body.len()), (-5, z, 0));
            assert_eq!(c.ok(op::CREATE, node("/c033")).zxid, z + 1);
        });
    }

    #[test]
    fn c034_an_unknown_opcode_is_answered_and_closes() {
        DEFAULT.run(|s| {
            for code in [99, 0, -1, op::CHECK] {
                let mut c = Client::connect(s);
                let reply = c.call(code, versioned("/", -1));
                assert_eq!((reply.err, reply.zxid, reply.body.len()), (-6, -1, 0), "op {code}");
                c.expect_closed();
                Client::connect_as(s, &Connect::attach(&c.session)).expect_open();
            }
        });
    }

    #[test]
    fn c035_auth_has_zxid_0() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.send_as(7, op::AUTH, auth("digest", b"bob:pw"));
            let reply = c.reply();
            assert_eq!((reply.xid, reply.zxid, reply.err, reply.body.len()), (7, 0, 0, 0));
        });
    }

    /// The reply to auth may overtake those of the creates; the creates stay in order among themselves.
    #[test]
    fn c036_auth_need_not_wait_its_turn() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c036");
            let body = |i| Vec::from(node(&format!("/c036/{i}")));
            let mut bytes: Vec<u8> = (100..150).flat_map(|i| frame(&request(i, op::CREATE, &body(i)))).collect();
            bytes.extend(frame(&request(-4, op::AUTH, &Vec::from(auth("digest", b"bob:pw")))));
            c.send_bytes(&bytes);
            let mut replies: Vec<_> = (0..51).map(|_| c.reply()).collect();
            assert!(replies.iter().all(|r| r.err == 0));
            replies.retain(|r| r.xid != -4);
            assert!(replies.iter().map(|r| r.xid).eq(100..150));
        });
    }

    #[test]
    fn c037_an_event_precedes_the_reply_of_its_cause() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c037");
            c.ok(op::GET_DATA, watched("/c037"));
            c.send(op::SET_DATA, set_data("/c037", b"x", -1));
            let Next::Event(event) = c.next_frame() else { panic!("the reply came first") };
            assert_eq!((event.kind, event.path.as_str()), (3, "/c037"));
            assert_eq!(c.reply().zxid, event.zxid);
        });
    }

    #[test]
    fn c038_empty_multis_succeed() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let z = c.ping();
            let reply = c.ok(op::MULTI, multi([]));
            assert_eq!((hex(&reply.body).as_str(), reply.zxid), ("ffffffff01ffffffff", z + 1));
            let reply = c.ok(op::MULTI_READ, multi([]));
            assert_eq!((hex(&reply.body).as_str(), reply.zxid), ("ffffffff01ffffffff", z + 1));
        });
    }
}

mod creating {
    use super::*;

    #[test]
    fn c039_a_fresh_tree() {
        STOCK.run(|s| {
            let mut c = Client::connect(s);
            let stat = c.stat("/");
            assert_eq!((stat.version, stat.cversion, stat.aversion, stat.num_children), (0, -1, 0, 1));
            assert_eq!((stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime), (0, 0, 0, 0, 0));
            let stat = c.stat("/zookeeper");
            assert_eq!((stat.cversion, stat.num_children), (-2, 2));
            assert_eq!(c.stat("/zookeeper/config").aversion, -1);
            let mut below = |p| c.ok(op::GET_ALL_CHILDREN_NUMBER, path(p)).record::<i32>();
            assert_eq!((below("/"), below(""), below("/zookeeper")), (3, 4, 2));
        });
    }

    #[test]
    fn c040_reads_of_the_empty_path_are_for_the_root() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.stat(""), c.stat("/"));
            c.ok(op::GET_CHILDREN, unwatched(""));
            assert_eq!(c.err(op::SET_DATA, set_data("", b"", -1)), -8);
            c.ok(op::SET_DATA, set_data("/", b"", -1));
        });
    }

    #[test]
    fn c041_paths_that_cannot_be_created() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c041");
            let cases = [
                ("a", -8),
                ("a/b", -101),
                ("", -8),
                ("/", -110),
                ("/c041/", -8),
                ("/c041/../x", -101),
                ("/..", -8),
                ("/...", 0),
            ];
            for (p, err) in cases {
                assert_eq!(c.err(op::CREATE, node(p)), err, "{p}");
            }
            c.ok(op::DELETE, versioned("/...", -1));
            assert_eq!(c.err(op::CREATE, Body::new().null().buffer(Some(b"")).acls(OPEN).int(0)), -5);
        });
    }

    #[test]
    fn c042_characters_that_cannot_be_created() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c042");
            let mut err = |name: &[u8]| {
                let p = [b"/c042/", name].concat();
                c.err(op::CREATE, Body::new().buffer(Some(&p)).buffer(Some(b"")).acls(OPEN).int(0))
            };
            for name in ["😀".as_bytes(), b"\xff\xfe", "\u{e000}".as_bytes(), "\u{fffd}".as_bytes(), b"\x7f", b"a\tb"]
            {
                assert_eq!(err(name), -8, "{}", hex(name));
            }
            for name in [" ".as_bytes(), "\u{a0}".as_bytes(), "\u{ffef}".as_bytes()] {
                assert_eq!(err(name), 0, "{}", hex(name));
            }
        });
    }

    #[test]
    fn c043_flags_that_are_none_or_need_ttl() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for flags in [7, -1] {
                assert_eq!(c.err(op::CREATE, create("/c043", b"", OPEN, flags)), -8);
            }
            assert_eq!(c.err(op::CREATE, create("/c043", b"", OPEN, 5)), -6);
        });
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            for code in [op::CREATE, op::CREATE2, op::CREATE_CONTAINER] {
                assert_eq!(c.err(code, create("/c043", b"", OPEN, 5)), -8, "op {code}");
            }
        });
    }

    /// A plain node stays when its last child goes; a container goes.
    #[test]
    fn c044_the_opcode_decides_what_is_a_container() {
        FAST.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c044p", b"", OPEN, 4));
            assert_eq!(c.ok(op::CREATE_CONTAINER, create("/c044c", b"", OPEN, 0)).stat().ephemeral_owner, 0);
            for parent in ["/c044p", "/c044c"] {
                c.create(&format!("{parent}/k"));
                c.ok(op::EXISTS, watched(parent));
                c.ok(op::DELETE, versioned(&format!("{parent}/k"), -1));
            }
            assert_eq!(c.event(), (2, "/c044c".into()));
            assert!(c.exists("/c044p"));
        });
    }

    #[test]
    fn c045_sequence_numbers_count_all_creates_of_the_parent() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c045");
            let sequential = || create("/c045/s", b"", OPEN, 2);
            for n in 0..3 {
                assert_eq!(created(&mut c, op::CREATE, sequential()), format!("/c045/s000000000{n}"));
            }
            c.ok(op::DELETE, versioned("/c045/s0000000001", -1));
            assert_eq!(created(&mut c, op::CREATE, sequential()), "/c045/s0000000003");
            assert_eq!(c.stat("/c045").cversion, 5);
            c.create("/c045/plain");
            assert_eq!(created(&mut c, op::CREATE, sequential()), "/c045/s0000000005");
        });
    }

    #[test]
    fn c046_the_suffix_comes_before_the_path_check() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c046");
            assert_eq!(created(&mut c, op::CREATE, create("/c046/", b"", OPEN, 2)), "/c046/0000000000");
            assert_eq!(created(&mut c, op::CREATE, create("/c046/..", b"", OPEN, 2)), "/c046/..0000000001");
        });
    }

    #[test]
    fn c047_an_acl_is_looked_at_before_the_parent() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let null_acl = |p: &str| path(p).buffer(Some(b"")).null().int(0);
            assert_eq!(c.err(op::CREATE, null_acl("/c047")), -114);
            assert_eq!(c.err(op::CREATE, create("/c047", b"", &[], 0)), -114);
            assert_eq!(c.err(op::CREATE, create("/c047missing/k", b"", &[], 0)), -114);
            c.ok(op::CREATE, create("/c047", b"", NOBODY, 0));
            assert_eq!(c.err(op::CREATE, create("/c047/k", b"", &[], 0)), -114);
        });
    }

    #[test]
    fn c048_what_a_parent_allows() {
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c048");
            c.create("/c048/k");
            c.ok(op::SET_ACL, set_acl("/c048", NOBODY, -1));
            assert_eq!(c.err(op::CREATE, node("/c048/k")), -102);
            c.ok(op::CREATE, create("/c048e", b"", OPEN, 1));
            assert_eq!(c.err(op::CREATE, node("/c048e/k")), -108);
            c.ok(op::CREATE_CONTAINER, create("/c048c", b"", OPEN, 4));
            c.create("/c048c/k");
            c.ok(op::CREATE_TTL, create_ttl("/c048t", 5, 3_600_000));
            c.create("/c048t/k");
        });
    }

    #[test]
    fn c049_null_data_stays_null() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, path("/c049").null().acls(OPEN).int(0));
            let reply = c.ok(op::GET_DATA, unwatched("/c049"));
            assert_eq!((hex(&reply.body[..4]).as_str(), reply.stat().data_length), ("ffffffff", 0));
        });
    }

    #[test]
    fn c050_ttls_have_a_range() {
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c050");
            for (ttl, err) in [(1, 0), (0, -8), (-1, -8), ((1 << 40) - 1, 0), (1 << 40, -8)] {
                let reply = c.call(op::CREATE_TTL, create_ttl(&format!("/c050/t{ttl}"), 5, ttl));
                assert_eq!(reply.err, err, "ttl {ttl}");
                if err == 0 {
                    assert_eq!(reply.body.len(), 4 + reply.path().len() + 68);
                    assert_eq!(reply.stat().ephemeral_owner, 0);
                }
            }
            assert_eq!(c.err(op::CREATE_TTL, create_ttl("/c050/t", 0, 5)), -8);
        });
        DEFAULT.run(|s| {
            assert_eq!(Client::connect(s).err(op::CREATE_TTL, create_ttl("/c050", 5, 1000)), -6);
        });
    }

    #[test]
    fn c051_a_plain_create_ttl_with_a_negative_ttl_stops_nobody() {
        defect(&Setup::standalone(), |s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::CREATE_TTL, create_ttl("/c051", 0, -1)), -8);
            c.expect_open();
        });
    }

    #[test]
    fn c052_a_used_container_goes_when_it_is_empty() {
        FAST.run(|s| {
            let mut c = Client::connect(s);
            for p in ["/c052used", "/c052never"] {
                c.ok(op::CREATE_CONTAINER, create(p, b"", OPEN, 4));
            }
            c.create("/c052used/k");
            c.ok(op::EXISTS, watched("/c052used"));
            c.ok(op::DELETE, versioned("/c052used/k", -1));
            assert_eq!(c.event(), (2, "/c052used".into()));
            assert!(c.exists("/c052never"));
        });
    }
}

mod changing {
    use super::*;

    #[test]
    fn c053_paths_that_cannot_be_deleted() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c053");
            let cases = [
                ("/", -8),
                ("/zookeeper", -8),
                ("/zookeeper/config", -8),
                ("", -8),
                ("/c053/", -101),
                ("//c053", -101),
                ("/c053\0", -8),
            ];
            for (p, err) in cases {
                assert_eq!(c.err(op::DELETE, versioned(p, -1)), err, "{p:?}");
            }
            assert_eq!(c.err(op::DELETE, Body::new().null().int(-1)), -5);
        });
    }

    #[test]
    fn c054_a_wrong_version_is_seen_before_children() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c054");
            c.create("/c054/k");
            assert_eq!(c.err(op::DELETE, versioned("/c054", 7)), -103);
            assert_eq!(c.err(op::DELETE, versioned("/c054", 0)), -111);
        });
    }

    #[test]
    fn c055_a_missing_permission_is_seen_before_a_missing_child() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c055", b"", &[acl(23, "world", "anyone")], 0));
            assert_eq!(c.err(op::DELETE, versioned("/c055/k", -1)), -102);
        });
    }

    #[test]
    fn c056_what_set_data_refuses() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c056");
            let cases = [("/c056", -2, -103), ("/c056", -1, 0), ("/c056nope/", -1, -8), ("/c056nope", -1, -101)];
            for (p, version, err) in cases {
                assert_eq!(c.err(op::SET_DATA, set_data(p, b"", version)), err, "{p} {version}");
            }
            assert_eq!(c.err(op::SET_DATA, Body::new().null().buffer(Some(b"")).int(-1)), -8);
        });
    }

    #[test]
    fn c057_set_acl_looks_at_path_acl_node_version() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::SET_ACL, set_acl("/c057missing", &[], -1)), -114);
            assert_eq!(c.err(op::SET_ACL, set_acl("/c057missing/", &[], -1)), -8);
            c.create("/c057");
            c.ok(op::GET_DATA, watched("/c057"));
            let before = c.stat("/c057");
            assert_eq!(c.err(op::SET_ACL, set_acl("/c057", OPEN, 5)), -103);
            let after = c.ok(op::SET_ACL, set_acl("/c057", OPEN, 0)).stat();
            assert_eq!((after.aversion, after.mzxid, after.mtime), (1, before.mzxid, before.mtime));
            assert_eq!(c.events(), []);
        });
    }

    #[test]
    fn c058_delete_container_respects_acls() {
        defect(&Setup::standalone(), |s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c058", b"", NOBODY, 0));
            c.ok(op::SET_ACL, set_acl("/", &[acl(23, "world", "anyone")], -1));
            c.send(op::DELETE_CONTAINER, path("/c058"));
            assert_ne!(c.reply().err, 0);
            assert!(Client::connect(s).exists_at_all("/c058"));
        });
    }

    trait ExistsAtAll {
        fn exists_at_all(&mut self, path: &str) -> bool;
    }

    impl ExistsAtAll for Client {
        /// Even if it may not be read.
        fn exists_at_all(&mut self, path: &str) -> bool {
            matches!(self.err(op::EXISTS, unwatched(path)), 0 | -102)
        }
    }
}

mod multis {
    use super::*;

    #[test]
    fn c059_a_multi_fails_as_a_whole() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c059");
            c.create("/c059/a");
            let z = c.ping();
            let reply = c.ok(
                op::MULTI,
                multi([
                    (op::CREATE, node("/c059/z")),
                    (op::CHECK, versioned("/c059/a", 55)),
                    (op::DELETE, versioned("/c059/a", -1)),
                    (op::CREATE, node("/c059/y")),
                ]),
            );
            assert_eq!(reply.outcomes(), [(-1, 0), (-1, -103), (-1, -2), (-1, -2)]);
            assert_eq!(reply.zxid, z + 1);
            assert_eq!(["z", "a", "y"].map(|k| c.exists(&format!("/c059/{k}"))), [false, true, false]);
        });
    }

    #[test]
    fn c060_sequence_numbers_in_a_multi() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c060");
            let sequential = || (op::CREATE, create("/c060/s", b"", OPEN, 2));
            let reply = c.ok(op::MULTI, multi([sequential(), sequential()]));
            assert_eq!(reply.outcomes(), [(1, 0), (1, 0)]);
            let reply = c.ok(op::MULTI, multi([sequential(), (op::DELETE, versioned("/c060/nope", -1))]));
            assert_eq!(reply.outcomes(), [(-1, 0), (-1, -101)]);
            assert_eq!(created(&mut c, op::CREATE, sequential().1), "/c060/s0000000002");
        });
    }

    #[test]
    fn c061_types_of_results() {
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(
                op::MULTI,
                multi([
                    (op::CREATE_CONTAINER, create("/c061c", b"", OPEN, 4)),
                    (op::CREATE2, node("/c061s")),
                    (op::CREATE, node("/c061p")),
                    (op::CREATE_TTL, create_ttl("/c061t", 5, 3_600_000)),
                    (op::CREATE_TTL, create_ttl("/c061n", 0, 100)),
                ]),
            );
            assert_eq!(reply.outcomes(), [(15, 0), (15, 0), (1, 0), (15, 0), (1, 0)]);
        });
    }

    #[test]
    fn c062_flags_in_a_multi() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for flags in [7, 5] {
                let reply = c.call(op::MULTI, multi([(op::CREATE, create("/c062", b"", OPEN, flags))]));
                assert_eq!((reply.err, reply.body.len()), (-5, 0));
            }
            let reply = c.ok(op::MULTI, multi([(op::CREATE_TTL, create_ttl("/c062", 7, 100))]));
            assert_eq!(reply.outcomes(), [(-1, -8)]);
        });
    }

    #[test]
    fn c063_what_a_multi_cannot_hold() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let undecodable = [
                multi([(op::SET_ACL, set_acl("/c063", OPEN, -1))]),
                multi([(op::GET_DATA, unwatched("/"))]),
                multi([(op::CREATE, node("/c063")), (op::GET_DATA, unwatched("/"))]),
            ];
            for body in undecodable {
                let z = c.ping();
                let reply = c.call(op::MULTI, body);
                assert_eq!((reply.err, reply.zxid, reply.body.len()), (-5, z + 1, 0));
            }
            let z = c.ping();
            let reply = c.call(op::MULTI, multi([(op::CREATE, path("/c063").buffer(Some(b"")).null().int(0))]));
            assert_eq!((reply.err, reply.zxid, reply.body.len()), (-5, z, 0));
            let reply = c.ok(op::MULTI, multi([(op::CREATE, create("/c063", b"", &[], 0))]));
            assert_eq!(reply.outcomes(), [(-1, -114)]);
        });
    }

    #[test]
    fn c064_terminators() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let check = || [(op::CHECK, versioned("/", -1))];
            assert_eq!(c.err(op::MULTI, unterminated(check()).int(5).bool(true).int(7)), 0);
            assert_eq!(c.err(op::MULTI, unterminated(check())), -5);
            assert_eq!(c.err(op::MULTI, multi(check()).raw(b"more")), 0);
        });
    }

    #[test]
    fn c065_what_check_refuses() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c065", b"", NOBODY, 0));
            for (p, err) in [("/c065", -102), ("/c065missing", -101), ("/c065/", -8)] {
                let reply = c.ok(op::MULTI, multi([(op::CHECK, versioned(p, -1))]));
                assert_eq!(reply.outcomes(), [(-1, err)], "{p}");
            }
        });
    }

    #[test]
    fn c066_operations_see_those_before_them() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(
                op::MULTI,
                multi([
                    (op::CREATE, node("/c066")),
                    (op::CREATE, node("/c066/k")),
                    (op::DELETE, versioned("/c066", -1)),
                ]),
            );
            assert_eq!(reply.outcomes(), [(-1, 0), (-1, 0), (-1, -111)]);
            let ephemeral = create("/c066e", b"", OPEN, 1);
            let reply = c.ok(op::MULTI, multi([(op::CREATE, ephemeral), (op::CREATE, node("/c066e/k"))]));
            assert_eq!(reply.outcomes(), [(-1, 0), (-1, -108)]);
            c.create("/c066");
            c.ok(op::SET_DATA, set_data("/c066", b"", 0));
            let set = |version| (op::SET_DATA, set_data("/c066", b"", version));
            let results = c.ok(op::MULTI, multi([set(1), set(2)])).results();
            assert_eq!(results.iter().map(|r| r.stat().version).collect::<Vec<_>>(), [2, 3]);
            assert_eq!(results[0].stat().mzxid, results[1].stat().mzxid);
        });
    }

    #[test]
    fn c067_a_multi_read_answers_each_by_itself() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c067");
            let reply = c.ok(
                op::MULTI_READ,
                multi([
                    (op::GET_DATA, watched("/c067")),
                    (op::GET_CHILDREN, watched("/zookeeper")),
                    (op::GET_DATA, watched("/c067nope")),
                    (op::GET_DATA, watched("/c067")),
                ]),
            );
            assert_eq!(reply.outcomes(), [(4, 0), (8, 0), (-1, -101), (4, 0)]);
            assert_eq!(c.err(op::CHECK_WATCHES, watch_kind("/c067", 3)), -121);
        });
    }

    #[test]
    fn c068_a_multi_read_reads() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::MULTI_READ, multi([(op::CREATE, node("/c068"))])), -5);
            assert_eq!(c.err(op::MULTI_READ, multi([(op::EXISTS, unwatched("/"))])), -5);
        });
    }
}

mod watches {
    use super::*;

    #[test]
    fn c069_exists_watches_what_is_not_there() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), Client::connect(s));
            assert_eq!(c.err(op::EXISTS, watched("/c069")), -101);
            let z = other.ok(op::CREATE, node("/c069")).zxid;
            let event = c.whole_event();
            assert_eq!((event.kind, event.path.as_str(), event.zxid), (1, "/c069", z));
        });
    }

    #[test]
    fn c070_get_data_does_not() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(c.err(op::GET_DATA, watched("/c070")), -101);
            c.create("/c070");
            assert_eq!(c.events(), []);
        });
    }

    #[test]
    fn c071_two_data_watches_are_one() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c071");
            c.ok(op::EXISTS, watched("/c071"));
            c.ok(op::GET_DATA, watched("/c071"));
            c.ok(op::SET_DATA, set_data("/c071", b"", -1));
            assert_eq!(c.events(), [(3, "/c071".into())]);
        });
    }

    #[test]
    fn c072_a_deletion_is_told_once() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c072");
            c.create("/c072/a");
            c.ok(op::GET_DATA, watched("/c072/a"));
            c.ok(op::GET_CHILDREN, watched("/c072/a"));
            c.ok(op::GET_CHILDREN, watched("/c072"));
            c.ok(op::DELETE, versioned("/c072/a", -1));
            assert_eq!(c.events(), [(2, "/c072/a".into()), (4, "/c072".into())]);
        });
    }

    #[test]
    fn c073_add_watch_answers_four_zeros() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            assert_eq!(hex(&c.ok(op::ADD_WATCH, watch_kind("/c073", 0)).body), "00000000");
            for mode in [2, -1] {
                assert_eq!(c.err(op::ADD_WATCH, watch_kind("/c073", mode)), -5);
            }
        });
    }

    #[test]
    fn c074_a_recursive_watch_tells_no_children() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c074");
            c.ok(op::ADD_WATCH, watch_kind("/c074", 1));
            c.create("/c074/c");
            c.create("/c074/c/d");
            c.ok(op::SET_DATA, set_data("/c074/c/d", b"", -1));
            c.ok(op::DELETE, versioned("/c074/c/d", -1));
            c.ok(op::DELETE, versioned("/c074/c", -1));
            let kinds: Vec<_> = c.events().into_iter().map(|e| e.0).collect();
            assert_eq!(kinds, [1, 1, 3, 2, 2]);
        });
    }

    #[test]
    fn c075_a_persistent_watch_outlives_its_node() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c075");
            c.ok(op::ADD_WATCH, watch_kind("/c075", 0));
            c.ok(op::DELETE, versioned("/c075", -1));
            c.create("/c075");
            c.create("/c075/k");
            assert_eq!(c.events(), [2, 1, 4].map(|kind| (kind, "/c075".to_string())));
        });
    }

    #[test]
    fn c076_modes_of_one_path_are_removed_one_by_one() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c076");
            for mode in [0, 1] {
                c.ok(op::ADD_WATCH, watch_kind("/c076", mode));
            }
            c.ok(op::GET_DATA, watched("/c076"));
            c.ok(op::GET_CHILDREN, watched("/c076"));
            let check =
                |c: &mut Client| [1, 2, 3, 4, 5].map(|kind| c.err(op::CHECK_WATCHES, watch_kind("/c076", kind)));
            assert_eq!(check(&mut c), [0; 5]);
            c.ok(op::REMOVE_WATCHES, watch_kind("/c076", 2));
            assert_eq!(check(&mut c), [0, -121, 0, 0, 0]);
            c.ok(op::REMOVE_WATCHES, watch_kind("/c076", 3));
            assert_eq!(check(&mut c), [-121; 5]);
        });
    }

    #[test]
    fn c077_watcher_types() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for (kind, err) in [(0, -5), (6, -5), (1, -121), (3, -121)] {
                assert_eq!(c.err(op::CHECK_WATCHES, watch_kind("/c077", kind)), err, "type {kind}");
            }
        });
    }

    /// Sends setWatches; its events, then its reply, which must come last.
    fn catch_up(c: &mut Client, op: i32, body: Body) -> Vec<(i32, String, i64)> {
        c.send_as(-8, op, body);
        let mut events = Vec::new();
        loop {
            match c.next_frame() {
                Next::Event(e) => events.push((e.kind, e.path, e.zxid)),
                Next::Reply(reply) => {
                    assert_eq!((reply.xid, reply.err, reply.body.len()), (-8, 0, 0));
                    return events;
                }
            }
        }
    }

    #[test]
    fn c078_set_watches_tells_what_was_missed() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c078");
            c.create("/c078/k");
            let lists = |zxid| set_watches(zxid, &["/c078", "/c078n1"], &["/c078", "/c078n2"], &["/c078", "/c078n3"]);
            let expected = [(3, "/c078"), (2, "/c078n1"), (1, "/c078"), (4, "/c078"), (2, "/c078n3")];
            assert_eq!(catch_up(&mut c, op::SET_WATCHES, lists(0)), expected.map(|(k, p)| (k, p.to_string(), -1)));
        });
    }

    #[test]
    fn c079_set_watches_arms_what_was_not() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c079");
            c.create("/c079/k");
            let z = c.ping();
            let lists = set_watches(z, &["/c079", "/c079n1"], &["/c079", "/c079n2"], &["/c079", "/c079n3"]);
            let expected = [(2, "/c079n1"), (1, "/c079"), (2, "/c079n3")];
            assert_eq!(catch_up(&mut c, op::SET_WATCHES, lists), expected.map(|(k, p)| (k, p.to_string(), -1)));
            c.create("/c079n2");
            c.create("/c079/j");
            c.ok(op::SET_DATA, set_data("/c079", b"", -1));
            assert_eq!(c.events(), [(1, "/c079n2".into()), (4, "/c079".into()), (3, "/c079".into())]);
        });
    }

    #[test]
    fn c080_persistent_watches_miss_nothing_at_once() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c080");
            let lists = set_watches(0, &[], &[], &[]).texts(&["/c080", "/c080n"]).texts(&["/c080", "/c080n"]);
            assert_eq!(catch_up(&mut c, op::SET_WATCHES2, lists), []);
            c.ok(op::SET_DATA, set_data("/c080", b"", -1));
            assert_eq!(c.events(), [(3, "/c080".into())]);
        });
    }

    #[test]
    fn c081_an_event_needs_the_permission_to_read() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            assert_eq!(c.err(op::EXISTS, watched("/c081")), -101);
            other.ok(op::CREATE, create("/c081", b"", BOB, 0));
            assert_eq!(c.events(), []);
            assert_eq!(c.err(op::CHECK_WATCHES, watch_kind("/c081", 2)), -121);
        });
    }

    #[test]
    fn c082_the_permission_counts_when_the_event_comes() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), bob(s));
            c.create("/c082");
            c.ok(op::GET_DATA, watched("/c082"));
            other.ok(op::SET_ACL, set_acl("/c082", BOB, -1));
            other.ok(op::SET_DATA, set_data("/c082", b"", -1));
            assert_eq!(c.events(), []);
            assert_eq!(c.err(op::CHECK_WATCHES, watch_kind("/c082", 2)), -121);
        });
    }

    #[test]
    fn c083_the_end_of_a_session_is_told_to_itself_first() {
        DEFAULT.run(|s| {
            let (mut c, mut other) = (Client::connect(s), Client::connect(s));
            c.create("/c083");
            c.ok(op::CREATE, create("/c083/e", b"", OPEN, 1));
            c.ok(op::EXISTS, watched("/c083/e"));
            other.ok(op::EXISTS, watched("/c083/e"));
            other.ok(op::GET_CHILDREN, watched("/c083"));
            c.send(op::CLOSE_SESSION, []);
            let Next::Event(event) = c.next_frame() else { panic!("the reply came first") };
            assert_eq!((event.kind, event.path.as_str()), (2, "/c083/e"));
            let z = c.reply().zxid;
            c.expect_closed();
            let events: Vec<_> = other.whole_events().into_iter().map(|e| (e.kind, e.path, e.zxid)).collect();
            assert_eq!(events, [(2, "/c083/e".into(), z), (4, "/c083".into(), z)]);
        });
    }

    #[test]
    fn c084_the_events_of_a_multi_share_its_zxid() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c084");
            c.ok(op::ADD_WATCH, watch_kind("/c084", 1));
            let z = c
                .ok(
                    op::MULTI,
                    multi([
                        (op::CREATE, node("/c084/b")),
                        (op::SET_DATA, set_data("/c084", b"", -1)),
                        (op::CREATE, node("/c084/a")),
                    ]),
                )
                .zxid;
            let events: Vec<_> = c.whole_events().into_iter().map(|e| (e.kind, e.path, e.zxid)).collect();
            let expected = [(1, "/c084/b"), (3, "/c084"), (1, "/c084/a")];
            assert_eq!(events, expected.map(|(kind, p)| (kind, p.to_string(), z)));
        });
    }
}

mod identities {
    use super::*;
    use jute::records::data;

    #[test]
    fn c085_what_auth_accepts() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for data in [&b"bob"[..], b"", b"bob:pw"] {
                c.ok(op::AUTH, auth("digest", data));
            }
            for body in [Body::new().int(0).text("digest").null(), auth("nosuch", b"x")] {
                let mut c = Client::connect(s);
                let reply = c.call(op::AUTH, body);
                assert_eq!((reply.err, reply.zxid, reply.body.len()), (-115, 0, 0));
                c.expect_closed();
                Client::connect_as(s, &Connect::attach(&c.session)).expect_open();
            }
        });
    }

    #[test]
    fn c086_a_server_without_sasl_answers_a_null_token() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let reply = c.ok(op::SASL, Body::new().buffer(Some(b"")));
            assert_eq!(hex(&reply.body), "ffffffff");
            c.expect_open();
            c.send(op::SASL, Body::new().null());
            c.expect_closed();
        });
    }

    /// Whether a create with this one ACL entry is accepted: its error.
    fn verdict(c: &mut Client, entry: Acl) -> i32 {
        let err = c.err(op::CREATE, create("/verdict", b"", &[entry], 0));
        if err == 0 {
            c.ok(op::DELETE, versioned("/verdict", -1));
        }
        err
    }

    #[test]
    fn c089_ids_of_acls() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let cases = [
                ("digest", ":x", 0),
                ("digest", "a:b:", 0),
                ("digest", "bob:", -114),
                ("digest", "a:b:c", -114),
                ("world", "foo", -114),
                ("super", "x", -114),
                ("sasl", "bob", -114),
                ("x509", "CN=a", -114),
                ("auth", "", -114),
            ];
            for (scheme, id, err) in cases {
                assert_eq!(verdict(&mut c, acl(31, scheme, id)), err, "{scheme}:{id}");
            }
            c.ok(op::AUTH, auth("digest", b"bob:pw"));
            assert_eq!(verdict(&mut c, (31, Some("auth"), None)), 0);
        });
    }

    #[test]
    fn c089_a_null_id_is_an_invalid_acl() {
        defect(&Setup::standalone(), |s| {
            assert_eq!(verdict(&mut Client::connect(s), (31, Some("world"), None)), -114);
        });
    }

    #[test]
    fn c090_addresses_in_acls() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            for id in ["1.2.3.4/33", "1.2.3", "localhost", "1.2.3.4/"] {
                assert_eq!(verdict(&mut c, acl(31, "ip", id)), -114, "{id}");
            }
            for id in ["1.2.3.4/0", "::1", "1.2.3.04"] {
                assert_eq!(verdict(&mut c, acl(31, "ip", id)), 0, "{id}");
            }
        });
    }

    fn acls(c: &mut Client, p: &str) -> Vec<(i32, String)> {
        let body = c.ok(op::GET_ACL, path(p)).body;
        let list = jute::Reader::new(body).vector::<data::Acl>("acl").expect("getACL answers a list");
        list.unwrap_or_default().iter().map(|e| (e.perms, e.id.clone().unwrap_or_default().to_string())).collect()
    }

    #[test]
    fn c091_permissions_are_stored_as_they_are() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c091a", b"", &[acl(0, "world", "anyone")], 0));
            c.ok(op::CREATE, create("/c091b", b"", &[acl(-1, "world", "anyone")], 0));
            assert_eq!(acls(&mut c, "/c091b"), [(-1, "anyone".into())]);
        });
    }

    #[test]
    fn c092_equal_entries_collapse() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let (all, read) = (acl(31, "world", "anyone"), acl(1, "world", "anyone"));
            c.ok(op::CREATE, create("/c092", b"", &[all, all, read], 0));
            assert_eq!(acls(&mut c, "/c092"), [(31, "anyone".into()), (1, "anyone".into())]);
        });
    }

    #[test]
    fn c093_digests_are_masked_without_admin() {
        DEFAULT.run(|s| {
            let (mut c, mut owner) = (Client::connect(s), bob(s));
            let with = |perms| [acl(31, "digest", "bob:ikIaKsbtGweaHnb/jKn7OHqbunM="), acl(perms, "world", "anyone")];
            owner.ok(op::CREATE, create("/c093r", b"", &with(1), 0));
            owner.ok(op::CREATE, create("/c093w", b"", &with(2), 0));
            owner.ok(op::CREATE, create("/c093a", b"", &with(16), 0));
            let full = "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=";
            assert_eq!(acls(&mut c, "/c093r")[0].1, "bob:x");
            assert_eq!(acls(&mut owner, "/c093r")[0].1, full);
            assert_eq!(c.err(op::GET_ACL, path("/c093w")), -102);
            assert_eq!(acls(&mut c, "/c093a")[0].1, full);
            assert_eq!(c.err(op::GET_DATA, unwatched("/c093a")), -102);
        });
    }

    #[test]
    fn c094_what_a_node_without_read_still_answers() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/c094", b"", &[acl(30, "world", "anyone")], 0));
            for code in [op::EXISTS, op::GET_DATA, op::GET_CHILDREN, op::GET_CHILDREN2] {
                assert_eq!(c.err(code, unwatched("/c094")), -102, "op {code}");
            }
            c.ok(op::GET_ACL, path("/c094"));
            c.ok(op::SYNC, path("/c094"));
            c.ok(op::ADD_WATCH, watch_kind("/c094", 0));
            c.ok(op::SET_DATA, set_data("/c094", b"", -1));
        });
    }

    #[test]
    fn c095_who_am_i() {
        let who = |c: &mut Client| {
            let list: Vec<data::ClientInfo> = c.ok(op::WHO_AM_I, []).record();
            let text = |t: &Option<jute::Text>| t.clone().unwrap_or_default().to_string();
            let mut list: Vec<_> = list.iter().map(|i| (text(&i.auth_scheme), text(&i.user))).collect();
            list.sort();
            list
        };
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        DEFAULT.run(|s| assert_eq!(who(&mut Client::connect(s)), [pair("ip", "127.0.0.1")]));
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::AUTH, auth("digest", b"super:test"));
            assert_eq!(who(&mut c), [pair("digest", "super"), pair("ip", "127.0.0.1"), pair("super", "")]);
        });
    }
}

mod limits {
    use super::*;

    /// Instead of check 88, until there is SASL: a server that started all the same would admit anyone.
    #[test]
    fn enforced_sasl_is_refused_at_start() {
        let key = "sessionRequireClientSASLAuth";
        let (code, log) = Server::refused(&Setup::standalone().flag(&format!("zookeeper.{key}"), "true"));
        assert_eq!(code, Some(2), "{log}");
        assert!(log.contains(&format!("{key}=true: not built yet")), "{log}");
    }

    #[test]
    fn c097_reconfig_needs_an_ensemble() {
        let body = || Body::new().null().text("1").null().long(-1);
        DEFAULT.run(|s| assert_eq!(Client::connect(s).err(op::RECONFIG, body()), -123));
        EXTENDED.run(|s| assert_eq!(Client::connect(s).err(op::RECONFIG, body()), -6));
    }

    #[test]
    fn c100_connections_of_one_address_are_limited() {
        let server = Server::under_test(&Setup::standalone().line("maxClientCnxns", "2"));
        let (mut a, mut b) = (Client::connect(&server), Client::connect(&server));
        assert_eq!(Connection::open(server.address()).receive(ANSWER), Received::Closed(vec![]));
        a.expect_open();
        b.expect_open();
    }

    #[test]
    fn c101_a_throttled_request_keeps_its_place() {
        let setup = Setup::standalone()
            .flag("zookeeper.request_throttle_max_requests", "1")
            .flag("zookeeper.request_throttle_stall_time", "5")
            .flag("zookeeper.throttled_op_wait_time", "5");
        let server = Server::under_test(&setup);
        let mut c = Client::connect(&server);
        c.create("/c101");
        let body = Vec::from(set_data("/c101", &[b'x'; 1000], -1));
        let requests = 1000..3000;
        let bytes: Vec<u8> = requests.clone().flat_map(|i| frame(&request(i, op::SET_DATA, &body))).collect();
        c.send_bytes(&bytes);
        let replies: Vec<_> = requests.clone().map(|_| c.reply()).collect();
        assert!(replies.iter().map(|r| r.xid).eq(requests));
        let done = replies.iter().filter(|r| r.err == 0).count();
        let throttled = replies.iter().filter(|r| r.err == -127 && r.body.is_empty()).count();
        assert_eq!(done + throttled, replies.len());
        assert!(throttled > 0, "nothing was throttled");
        c.expect_open();
        // The first request after a pause is not.
        let mut stat = c.call(op::EXISTS, unwatched("/c101"));
        while stat.err == -127 {
            stat = c.call(op::EXISTS, unwatched("/c101"));
        }
        assert_eq!(stat.stat().version as usize, done);
    }

    #[test]
    fn c102_hard_quotas() {
        EXTENDED.run(|s| {
            let mut c = Client::connect(s);
            c.create("/c102");
            c.create("/zookeeper/quota/c102");
            let limits = b"count=-1,bytes=-1=;byteHardLimit=10;countHardLimit=3";
            c.ok(op::CREATE, create("/zookeeper/quota/c102/zookeeper_limits", limits, OPEN, 0));
            c.ok(op::CREATE, create("/zookeeper/quota/c102/zookeeper_stats", b"count=0,bytes=0", OPEN, 0));
            let errors = ["/c102/a", "/c102/b", "/c102/c"].map(|p| c.err(op::CREATE, node(p)));
            assert_eq!(errors, [0, 0, -125]);
            assert_eq!(c.err(op::SET_DATA, set_data("/c102/a", &[b'x'; 11], 77)), -125);
        });
    }
}

/// What no numbered check has and the differential test has found.
mod oddities {
    use super::*;

    #[test]
    fn persistent_lists_of_set_watches_take_null_paths() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let with_null_in = |list: usize| {
                (0..5).fold(Body::new().long(0), |body, i| if i == list { body.int(1).null() } else { body.int(0) })
            };
            let errors = [0, 1, 2, 3, 4].map(|list| c.err(op::SET_WATCHES2, with_null_in(list)));
            assert_eq!(errors, [-5, -5, -5, 0, 0]);
        });
    }

    #[test]
    fn a_watch_on_the_null_path_is_one() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let on_null = |kind| Body::new().null().int(kind);
            assert_eq!(c.err(op::CHECK_WATCHES, on_null(3)), -121);
            c.ok(op::ADD_WATCH, on_null(0));
            assert_eq!(c.err(op::CHECK_WATCHES, on_null(3)), 0);
            assert_eq!(c.err(op::REMOVE_WATCHES, on_null(3)), 0);
            assert_eq!(c.err(op::CHECK_WATCHES, on_null(3)), -121);
        });
    }

    /// Java's `trim` takes away what is not above U+0020, and nothing else.
    #[test]
    fn a_blank_prefix_of_ephemerals_is_blank_as_java_sees_it() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            c.ok(op::CREATE, create("/blank", b"", OPEN, 1));
            let mut found = |prefix| c.ok(op::GET_EPHEMERALS, path(prefix)).record::<Vec<jute::Text>>().len();
            assert_eq!([" ", "\t \u{1}", " / ", "\u{a0}", "\u{85}", "\u{3000}"].map(&mut found), [1, 1, 1, 0, 0, 0]);
        });
    }

    /// A multi is decoded to its end before a path is looked at. What ends it first decides about the zxid: a
    /// null ACL takes none, unless the flags of that very operation are unknown; everything else takes one.
    #[test]
    fn the_first_thing_that_cannot_be_decoded_in_a_multi_decides() {
        DEFAULT.run(|s| {
            let mut c = Client::connect(s);
            let null_path = || (op::DELETE, Body::new().null().int(-1));
            let null_acl = |flags| (op::CREATE, path("/odd").buffer(Some(b"")).null().int(flags));
            let bad_flags = || (op::CREATE, create("/odd", b"", OPEN, 7));
            let ttl_flags = || (op::CREATE, create("/odd", b"", OPEN, 5));
            let unknown = || (op::EXISTS, unwatched("/"));
            let cases = [
                (multi([null_path()]), 1),
                (multi([null_path(), null_acl(0)]), 0),
                (multi([null_acl(5)]), 0),
                (multi([null_acl(7)]), 1),
                (multi([ttl_flags()]), 1),
                (multi([null_path(), ttl_flags()]), 1),
                (multi([ttl_flags(), null_acl(0)]), 1),
                (multi([bad_flags(), null_acl(0)]), 1),
                (multi([null_acl(0), bad_flags()]), 0),
                (multi([unknown(), null_acl(0)]), 1),
                (unterminated([null_acl(0)]), 0),
            ];
            for (i, (body, taken)) in cases.into_iter().enumerate() {
                let z = c.ping();
                let reply = c.call(op::MULTI, body);
                assert_eq!((reply.err, reply.zxid - z, reply.body.len()), (-5, taken, 0), "case {i}");
            }
        });
    }
}

/// Sections 2.13 and 7.1.
mod what_came_when {
    use super::*;

    #[test]
    fn a_read_that_waits_is_judged_without_what_is_proved_meanwhile() {
        DEFAULT.run(|s| {
            let mut owner = Client::connect(s);
            owner.ok(op::AUTH, auth("digest", b"bob:pw"));
            owner.ok(op::CREATE, create("/proved-later", b"", BOB, 0));
            let mut c = Client::connect(s);
            // In one piece: the read waits for the write, and the proof for nobody.
            let asked: [(i32, i32, Body); 3] = [
                (1, op::CREATE, node("/proved-later-w")),
                (2, op::GET_DATA, unwatched("/proved-later")),
                (-4, op::AUTH, auth("digest", b"bob:pw")),
            ];
            let asked = asked.map(|(xid, op, body)| frame(&request(xid, op, &Vec::from(body))));
            c.send_bytes(&asked.concat());
            let mut replies = [(); 3].map(|()| c.reply()).map(|reply| (reply.xid, reply.err));
            replies.sort_unstable();
            assert_eq!(replies, [(-4, 0), (1, 0), (2, -102)]);
            c.ok(op::GET_DATA, unwatched("/proved-later"));
        });
    }

    #[test]
    fn a_part_of_a_request_keeps_no_session_alive() {
        FAST.run(|s| {
            let mut c = Client::connect_as(s, &Connect { time_out: 1000, ..Connect::default() });
            c.send_bytes(&1000_i32.to_be_bytes());
            let until = Instant::now() + ANSWER;
            loop {
                assert!(Instant::now() < until, "the session lives on");
                c.send_bytes(&[0]);
                match c.receive(Duration::from_millis(100)) {
                    Received::Silence => {}
                    Received::Closed(_) => break,
                    Received::Frame(frame) => panic!("{} for half a request", hex(&frame)),
                }
            }
        });
    }
}
