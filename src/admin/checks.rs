//! The checks of config-and-operations 8.2 on the words, and every answer against one that a Java server gave.
//!
//! The captures in `tests/fixtures/java-outputs` are taken apart by hand below: made from the same figures, our
//! text must be the same to the byte.

use std::collections::{BTreeMap, BTreeSet};

use super::four_letter::{Word, argument_bytes};
use super::metrics::{Figures, Gauges, QuotaFigures, Totals, add_quota, metrics, mntr};
use super::text::*;
use crate::config::FourLetterWords;
use crate::id::{SessionId, Zxid};
use crate::stats::{Fired, Measures, Namespaces, Replies, Runs, Summary};
use crate::tree::quota::Track;

macro_rules! java {
    ($name:literal) => {
        include_str!(concat!("../../tests/fixtures/java-outputs/4lw-", $name, ".txt"))
    };
}

const JAVA_VERSION: &str = "3.9.5-293c895a8d966a3ecb92872be4a1daf87d725da2, built on 2026-02-11 20:15 UTC";

fn latency(count: u64, sum: i64, min: i64, max: i64) -> Summary {
    Summary { count, sum, min, max }
}

fn standalone() -> Srvr<'static> {
    Srvr {
        version: JAVA_VERSION,
        latency_ms: latency(31, 113, 0, 29),
        received: 56,
        sent: 56,
        connections: 3,
        outstanding: 0,
        zxid: Zxid(0xf),
        state: ServerState::Standalone,
        nodes: 16,
        proposal_sizes: None,
    }
}

fn follower() -> Srvr<'static> {
    Srvr {
        latency_ms: latency(43, 140, 0, 13),
        received: 50,
        sent: 49,
        connections: 2,
        zxid: Zxid(0x1_0000_003b),
        state: ServerState::Follower,
        nodes: 18,
        ..standalone()
    }
}

fn leader() -> Srvr<'static> {
    Srvr {
        latency_ms: latency(23, 108, 0, 31),
        received: 31,
        sent: 31,
        connections: 3,
        state: ServerState::Leader,
        proposal_sizes: Some([85, 36, 127]),
        ..follower()
    }
}

fn observer() -> Srvr<'static> {
    let latency_ms = latency(44, 147, 0, 18);
    Srvr { latency_ms, received: 51, sent: 50, state: ServerState::Observer, ..follower() }
}

fn read_only() -> Srvr<'static> {
    Srvr {
        latency_ms: Summary::default(),
        received: 1,
        sent: 0,
        connections: 1,
        zxid: Zxid(0x1_0000_0172),
        state: ServerState::ReadOnly,
        ..follower()
    }
}

// config 8.2 #39, #40
#[test]
fn srvr_is_java_s_in_every_role() {
    for (figures, java, lines) in [
        (standalone(), java!("srvr"), 9),
        (follower(), java!("follower-srvr"), 9),
        (leader(), java!("leader-srvr"), 10),
        (observer(), java!("observer-srvr"), 9),
        (read_only(), java!("readonly-srvr"), 10),
    ] {
        assert_eq!(srvr(&figures), java);
        assert_eq!(java.lines().count(), lines);
        // grep Mode | cut -d' ' -f2
        let mode = java.lines().find(|line| line.contains("Mode")).unwrap().split(' ').nth(1).unwrap();
        assert_eq!(figures.state.name(), mode);
    }
}

fn asking(address: &str) -> Client {
    Client { address: address.to_owned(), interest: 0, queued: 0, received: 1, sent: 0, session: None }
}

fn client(address: &str, received: u64, sent: u64) -> Client {
    Client { interest: 1, received, sent, ..asking(address) }
}

#[test]
fn stat_is_java_s() {
    let figures = Srvr { received: 55, sent: 55, ..standalone() };
    let clients = [client("/127.0.0.1:45508", 6, 6), client("/127.0.0.1:45506", 4, 4), asking("/127.0.0.1:35144")];
    assert_eq!(stat(&figures, &clients), java!("stat"));
    let figures = Srvr { received: 30, sent: 30, ..leader() };
    let clients = [asking("/127.0.0.1:33078"), client("/127.0.0.1:50006", 4, 4), client("/127.0.0.1:50000", 19, 20)];
    assert_eq!(stat(&figures, &clients), java!("leader-stat"));
    let figures = Srvr { received: 49, sent: 48, ..follower() };
    let clients = [asking("/127.0.0.1:34400"), client("/127.0.0.1:45778", 43, 43)];
    assert_eq!(stat(&figures, &clients), java!("follower-stat"));
    let figures = Srvr { received: 50, sent: 49, ..observer() };
    let clients = [client("/127.0.0.1:52750", 44, 44), asking("/127.0.0.1:50666")];
    assert_eq!(stat(&figures, &clients), java!("observer-stat"));
    let figures = Srvr { received: 2, sent: 1, ..read_only() };
    assert_eq!(stat(&figures, &[asking("/127.0.0.1:46650")]), java!("readonly-stat"));
}

fn session(id: i64, last_op: &'static str, established_ms: i64, timeout_ms: i32) -> ClientSession {
    ClientSession {
        id: SessionId(id),
        last_op,
        established_ms,
        timeout_ms,
        last_cxid: None,
        last_zxid: Zxid(0xf),
        last_response_ms: 0,
        last_latency_ms: 0,
        latency_ms: Summary::default(),
    }
}

// config 8.2 #48
#[test]
fn cons_is_java_s() {
    let first = ClientSession {
        last_response_ms: 1_276_433,
        latency_ms: latency(6, 4, 0, 2),
        ..session(0x0100_0012_6695_0001, "PING", 1_795_360_218_733, 20_000)
    };
    let second = ClientSession {
        last_response_ms: 1_276_315,
        last_latency_ms: 1,
        latency_ms: latency(4, 4, 1, 1),
        ..session(0x0100_0012_6695_0000, "PING", 1_795_360_218_676, 30_000)
    };
    let clients = [
        Client { session: Some(first), ..client("/127.0.0.1:45508", 6, 6) },
        Client { session: Some(second), ..client("/127.0.0.1:45506", 4, 4) },
        asking("/127.0.0.1:53630"),
    ];
    assert_eq!(cons(&clients), java!("cons"));

    let learner = ClientSession {
        last_cxid: Some(0x2a),
        last_zxid: Zxid(0x1_0000_0035),
        last_response_ms: 1_898_499,
        last_latency_ms: 1,
        latency_ms: latency(43, 140, 0, 13),
        ..session(0x0100_001c_605d_0000, "GETD", 1_795_360_879_908, 30_000)
    };
    let clients = [asking("/127.0.0.1:34386"), Client { session: Some(learner), ..client("/127.0.0.1:45778", 43, 43) }];
    assert_eq!(cons(&clients), java!("follower-cons"));
    assert_eq!(cons(&[asking("/127.0.0.1:46696")]), java!("readonly-cons"));
}

#[test]
fn operations_have_java_s_short_names() {
    use crate::proto::op;
    for (name, ops) in [
        ("SESS", &[op::CREATE_SESSION][..]),
        ("CREA", &[op::CREATE, op::CREATE2, op::CREATE_CONTAINER, op::CREATE_TTL]),
        ("DELE", &[op::DELETE, op::DELETE_CONTAINER]),
        ("GETC", &[op::GET_CHILDREN, op::GET_CHILDREN2]),
        ("STW2", &[op::SET_WATCHES2]),
        ("HOMI", &[op::WHO_AM_I]),
        ("NA", &[op::AUTH, op::ERROR]),
    ] {
        ops.iter().for_each(|op| assert_eq!(last_op_name(*op), name));
    }
}

fn bucket<T>(at: &str, members: Vec<T>) -> Bucket<T> {
    Bucket { expires: format!("Sun Nov 22 {at} UTC 2026"), members }
}

fn connection(address: &str, session: i64) -> Vec<(String, SessionId)> {
    vec![(address.to_owned(), SessionId(session))]
}

fn owner(session: i64, path: &str) -> (SessionId, Vec<String>) {
    (SessionId(session), vec![path.to_owned()])
}

// config 8.2 #46
#[test]
fn dump_is_java_s() {
    let (one, two) = (0x0100_0012_6695_0000, 0x0100_0012_6695_0001);
    let standalone = Dump {
        local: None,
        sessions: KnownSessions::Tracked(vec![
            bucket("15:11:05", vec![]),
            bucket("15:11:09", vec![]),
            bucket("15:11:11", vec![]),
            bucket("15:11:19", vec![SessionId(two)]),
            bucket("15:11:29", vec![SessionId(one)]),
        ]),
        ephemerals: vec![owner(two, "/app/workers/w-2"), owner(one, "/app/workers/w-1")],
        connections: Some(vec![
            bucket("15:11:01", vec![]),
            bucket("15:11:11", connection("/127.0.0.1:53638", 0)),
            bucket("15:11:21", connection("/127.0.0.1:45508", two)),
            bucket("15:11:31", connection("/127.0.0.1:45506", one)),
        ]),
    };
    assert_eq!(dump(&standalone), java!("dump"));
    let local = vec![bucket("15:11:09", vec![SessionId(1)])];
    let leader = dump(&Dump { local: Some(local.clone()), ..standalone.clone() });
    let both = "SessionTracker dump:\nLocal Session Sets (1)/(1):\n1 expire at ";
    assert!(leader.starts_with(both) && leader.contains("\n\t0x1\nGlobal Session Sets (5)/(2):\n"), "{leader}");
    let netty = dump(&Dump { connections: None, ..standalone });
    assert!(netty.ends_with("\nConnections dump:\n"), "{netty}");

    let ids = [0x0100_001c_605d_0000, 0x0200_001c_6076_0000, 0x0200_001c_6076_0001, 0x0300_001c_6253_0000];
    let paths = ["/app/workers/f1", "/app/workers/w-1", "/app/workers/w-2", "/app/workers/o1"];
    let timeouts = [30_000, 30_000, 20_000, 30_000];
    let follower = Dump {
        local: None,
        sessions: KnownSessions::Global(ids.map(SessionId).into_iter().zip(timeouts).collect()),
        ephemerals: ids.into_iter().zip(paths).map(|(id, path)| owner(id, path)).collect(),
        connections: Some(vec![
            bucket("15:21:31", vec![]),
            bucket("15:21:41", connection("/127.0.0.1:34390", 0)),
            bucket("15:21:51", connection("/127.0.0.1:45778", ids[0])),
        ]),
    };
    assert_eq!(dump(&follower), java!("follower-dump"));
    let with_local = dump(&Dump { local: Some(local), ..follower });
    assert!(with_local.contains("\n\t0x1\nGlobal Sessions(4):\n"), "{with_local}");
}

// config 8.2 #45
#[test]
fn watches_are_listed_as_java_does() {
    let (one, two) = (SessionId(0x0100_0012_6695_0000), SessionId(0x0100_0012_6695_0001));
    assert_eq!(wchs(2, 2, 3), java!("wchs"));
    assert_eq!(wchc(&[(two, vec!["/app/config"]), (one, vec!["/app/missing", "/app/config"])]), java!("wchc"));
    assert_eq!(wchp(&[("/app/missing", vec![one]), ("/app/config", vec![one, two])]), java!("wchp"));
}

#[test]
fn the_short_answers_are_java_s() {
    assert_eq!(dirs(67_109_358, 67_109_358), java!("dirs"));
    assert_eq!(hash(&[(Zxid(0x1_0000_0080), 31_744_530_490), (Zxid(0x1_0000_0100), 28_766_643_160)]), java!("hash"));
    assert_eq!(hash(&[]), java!("leader-hash"));
}

#[test]
fn envi_has_java_s_keys_in_java_s_order() {
    let ours = envi(&super::environment::environment());
    let keys = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split_once('=').map_or(line, |(key, _)| key).to_owned()).collect()
    };
    assert_eq!(keys(&ours), keys(java!("envi")));
    // kazoo takes its idea of the server's version from this line: `[\d\.]*`.
    assert!(ours.contains("\nzookeeper.version=3.9.5-"), "{ours}");
    for key in ["os.memory.free", "os.memory.max", "os.memory.total"] {
        let value = ours.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap();
        assert!(value.strip_suffix("MB").is_some_and(|number| number.parse::<u64>().is_ok()), "{key}={value}");
    }
}

// config 8.2 #33, #37
#[test]
fn there_are_nineteen_words_and_no_others() {
    let names = "conf cons crst dirs dump envi gtmk hash isro mntr ruok srst srvr stat stmk wchc wchp wchs";
    for name in names.split(' ') {
        let word = Word::parse(name.as_bytes().try_into().unwrap()).unwrap();
        assert_eq!(word.name(), name);
    }
    assert_eq!(Word::parse(b"\xff\xf4\xff\xfd"), Some(Word::TelnetClose));
    for other in [b"RUOK", b"abcd", b"tenv", b"orst", b"lead", b"reqs", b"kill"] {
        assert_eq!(Word::parse(other), None);
    }
    assert_eq!(refusal("ruok"), java!("not-whitelisted-ruok"));
    assert_eq!(refusal("mntr"), java!("not-whitelisted-mntr"));
    assert_eq!(refusal("isro"), java!("not-whitelisted-isro"));
}

#[test]
fn only_an_allowed_stmk_waits_for_its_mask() {
    assert_eq!(argument_bytes(&FourLetterWords::All, b"stmk"), Some(8));
    assert_eq!(argument_bytes(&FourLetterWords::Some(BTreeSet::new()), b"stmk"), Some(0));
    assert_eq!(argument_bytes(&FourLetterWords::All, b"ruok"), Some(0));
    assert_eq!(argument_bytes(&FourLetterWords::All, b"\0\0\0\x2d"), None);
}

// config 8.2 #36, #38
#[test]
fn a_server_that_does_not_serve_says_so() {
    assert_eq!(Word::Stat.without_server().as_deref(), Some(java!("notserving-stat")));
    assert_eq!(Word::Mntr.without_server().as_deref(), Some(java!("notserving-mntr")));
    assert_eq!(Word::Hash.without_server().as_deref(), Some(java!("notserving-hash")));
    assert_eq!(Word::Isro.without_server().as_deref(), Some(java!("notserving-isro")));
    for word in [Word::Ruok, Word::Envi, Word::Gtmk, Word::Stmk] {
        assert_eq!(word.without_server(), None);
    }
}

// ---- mntr ----

fn our_mntr(measures: &Measures, quotas: BTreeMap<String, QuotaFigures>) -> String {
    mntr(&Figures {
        version: JAVA_VERSION,
        state: ServerState::Standalone,
        gauges: Gauges::default(),
        totals: Totals::default(),
        measures,
        quotas,
    })
}

/// With reads and writes below /app, as the Java server had.
fn measures_of_app() -> Measures {
    let mut measures = Measures::default();
    let (mut replies, mut written) = (Replies::default(), Namespaces::default());
    replies.read.add(&"/app/config".into(), 81);
    replies.read.add(&"/".into(), 69);
    written.add(&"/app".into(), 4);
    measures.add_replies(&replies);
    measures.on_applied(&Runs::default(), &written, &Fired::default(), 0);
    // No reply was counted, only what it showed.
    measures.response_sizes = Default::default();
    measures
}

fn keys(text: &str) -> Vec<&str> {
    text.lines().map(|line| line.split_once('\t').expect("key, tab, value").0).collect()
}

/// The first column of the table of what is left out, without the backquotes.
fn left_out() -> BTreeSet<&'static str> {
    let table = include_str!("../../tests/mntr-left-out.md");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once('`')).map(|(name, _)| name).collect()
}

/// The metric that a key shows one figure of.
fn metric(key: &str) -> &str {
    let name = key.strip_prefix("zk_").unwrap_or(key);
    let prefixes = ["avg_", "min_", "max_", "cnt_", "sum_", "p50_", "p95_", "p99_", "p999_"];
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
}

#[test]
fn mntr_has_java_s_keys_in_java_s_order_without_those_named() {
    let left_out = left_out();
    let is_left_out = |key: &str| left_out.contains(metric(key));
    let java: Vec<&str> = keys(java!("mntr")).into_iter().filter(|key| !is_left_out(key)).collect();
    let text = our_mntr(&measures_of_app(), BTreeMap::new());
    let ours = keys(&text);
    for (ours, java) in ours.iter().zip(&java) {
        assert_eq!(ours, java);
    }
    assert_eq!(ours.len(), java.len());
    let of_leader = keys(java!("leader-mntr")).into_iter().map(metric);
    // By server id, if it is of one learner.
    let of_learner = of_leader.clone().filter_map(|name| name.split_once('_').map(|(_, name)| name));
    let alone = keys(java!("mntr")).into_iter().map(metric);
    let all: BTreeSet<&str> = alone.chain(of_leader).chain(of_learner).collect();
    let unknown: Vec<_> = left_out.iter().filter(|name| !all.contains(*name)).collect();
    assert!(unknown.is_empty(), "left out, but Java has no such metric: {unknown:?}");
}

// config 8.2 #41, #43
#[test]
fn mntr_values_have_java_s_types() {
    let ours = our_mntr(&measures_of_app(), BTreeMap::new());
    let is_real = |value: &str| value.contains('.');
    let java: BTreeMap<&str, &str> = java!("mntr").lines().filter_map(|line| line.split_once('\t')).collect();
    for line in ours.lines() {
        let (key, value) = line.split_once('\t').unwrap();
        assert_eq!(is_real(value), is_real(java[key]), "{line}");
    }
    assert!(ours.starts_with(&format!("zk_version\t{JAVA_VERSION}\nzk_server_state\tstandalone\n")));
    assert!(ours.contains("\nzk_avg_latency\t0.0\n"));
    assert!(ours.contains("\nzk_last_client_response_size\t-1\n"), "no answer was sent yet");
}

#[test]
fn no_metric_stands_there_twice() {
    let ours = our_mntr(&Measures::default(), BTreeMap::new());
    let mut keys = keys(&ours);
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    assert_eq!(keys.len(), count);
}

#[test]
fn summaries_are_shown_as_java_does() {
    let mut measures = Measures::default();
    for (ms, times) in [(8, 14), (199, 1)] {
        measures.update_latency.add_many(ms, times);
    }
    // Microseconds inside, milliseconds outside: a fast disk does not look like none.
    measures.log.fsync.add(107_900);
    measures.log.fsync.add(100);
    let text = our_mntr(&measures, BTreeMap::new());
    for line in [
        "zk_avg_updatelatency\t20.7333",
        "zk_min_updatelatency\t8",
        "zk_max_updatelatency\t199",
        "zk_cnt_updatelatency\t15",
        "zk_sum_updatelatency\t311",
        "zk_p50_updatelatency\t8",
        "zk_p99_updatelatency\t199",
        "zk_avg_latency\t20.7333",
        "zk_avg_fsynctime\t54.0",
        "zk_min_fsynctime\t0",
        "zk_max_fsynctime\t107",
        "zk_cnt_fsynctime\t2",
        "zk_sum_fsynctime\t108",
    ] {
        assert!(text.lines().any(|other| other == line), "no line {line:?} in\n{text}");
    }
}

#[test]
fn quotas_are_summed_by_top_level_node() {
    let mut quotas = BTreeMap::new();
    let soft = Track { count: 10, bytes: 1000, ..Track::NONE };
    let hard = Track { count: 10, count_hard_limit: 20, ..Track::NONE };
    let used = Track { count: 3, bytes: 40, ..Track::NONE };
    add_quota(&mut quotas, "/app/a", Some(soft), Some(used));
    add_quota(&mut quotas, "/app/b", Some(hard), Some(used));
    let measures = Measures::default();
    let text = our_mntr(&measures, quotas.clone());
    for line in [
        "zk_app_quota_count_limit_per_namespace\t30",
        // -1 is added like a number, as in Java.
        "zk_app_quota_bytes_limit_per_namespace\t999",
        "zk_app_quota_count_usage_per_namespace\t6",
        "zk_app_quota_bytes_usage_per_namespace\t80",
    ] {
        assert!(text.lines().any(|other| other == line), "no line {line:?} in\n{text}");
    }
    let figures = Figures {
        version: "",
        state: ServerState::Standalone,
        gauges: Gauges::default(),
        totals: Totals::default(),
        measures: &measures,
        quotas,
    };
    assert_eq!(metrics(&figures).iter().filter(|metric| metric.key == Some("app")).count(), 4);
}

// config 7.2
#[test]
fn an_exceeded_quota_is_named_in_java_s_words() {
    use crate::prepare::{QuotaExceeded, QuotaOf, Strictness};
    let exceeded = QuotaExceeded {
        subject: "/app".into(),
        of: QuotaOf::Count,
        strictness: Strictness::Soft,
        current: 6,
        limit: 5,
    };
    assert_eq!(super::quota_text(&exceeded), "Quota exceeded: /app [current count=6, softCountLimit=5]");
    let exceeded = QuotaExceeded { of: QuotaOf::Bytes, strictness: Strictness::Hard, ..exceeded };
    assert_eq!(super::quota_text(&exceeded), "Quota exceeded: /app [current bytes=6, hardByteLimit=5]");
}
