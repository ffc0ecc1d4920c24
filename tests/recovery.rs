//! What a start makes of directories that a Java server has written, whole or damaged (on-disk 8).
//!
//! The sets in `fixtures/java-datadir` were written by Java 3.9.5 and 3.8.0; `expected.json` is what Java's
//! own loader made of each, node by node, and `cases.json` has the edits with the outcome that is wanted here.

mod support;

use std::path::PathBuf;

use base64::Engine;
use bytes::BytesMut;
use serde_json::Value;
use support::sim::World;
use support::trees;
use zooid::acl::Acl;
use zooid::id::{SessionId, Zxid};
use zooid::storage::image::{self, Keeper, Progress, StreamJob};
use zooid::storage::{Image, ImageState, Notice, Options, Recovered, Refusal, Replay, StorageError, recover};
use zooid::tree::snapshot::Compression;
use zooid::tree::stream::SnapshotParser;
use zooid::tree::{NodeRef, TreeRules};
use zooid::txn::{Header, Txn};

const SETS: [&str; 9] = [
    "std-3.9.5",
    "std-3.8.0",
    "gz-3.9.5",
    "gz-3.8.0",
    "snappy-3.9.5",
    "snappy-3.8.0",
    "fuzzy-3.9.5",
    "quorum-3.9.5",
    "trunc-3.9.5",
];

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir")
}

fn json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fixtures().join(name)).unwrap()).unwrap()
}

/// The files of a set, on disks in memory.
fn world(set: &str) -> World {
    let dir = fixtures().join(set);
    let own_logs = dir.join("dataLogDir").exists();
    let world = if own_logs { World::new() } else { World::with_one_directory() };
    for entry in std::fs::read_dir(dir.join("dataDir/version-2")).unwrap() {
        let entry = entry.unwrap();
        world.snap.put(entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
    }
    if own_logs {
        for entry in std::fs::read_dir(dir.join("dataLogDir/version-2")).unwrap() {
            let entry = entry.unwrap();
            world.log.put(entry.file_name().to_str().unwrap(), &std::fs::read(entry.path()).unwrap());
        }
    }
    world
}

fn open(world: &World, options: &Options) -> Result<Recovered, StorageError> {
    recover(&world.disks(), &world.image, options)
}

fn open_plainly(world: &World) -> Recovered {
    open(world, &Options::default()).unwrap_or_else(|error| panic!("{error}"))
}

/// Brings the image up to the recovered state, as a server does after its start.
fn fill_image(world: &World, recovered: &mut Recovered) {
    world.image.open().unwrap();
    fill_by(&mut Keeper::new(0, recovered, 0), world, recovered);
}

fn fill_by(keeper: &mut Keeper, world: &World, recovered: &mut Recovered) {
    let mut capture = keeper.begin();
    while capture.take(&mut recovered.tree) == Progress::More {}
    let batch = keeper.finish(capture, &mut recovered.tree).ok().expect("the anchor is known");
    world.image.write(&batch).unwrap();
    world.image.flush().unwrap();
}

/// Numbers of more than 32 bits are hexadecimal strings there.
fn long(value: &Value) -> i64 {
    match value.as_str() {
        Some(text) => u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap() as i64,
        None => value.as_i64().unwrap(),
    }
}

fn digest(value: &Value) -> u64 {
    value.as_str().map_or_else(|| value.as_u64().unwrap(), |text| text.parse().unwrap())
}

fn assert_node(expected: &Value, node: NodeRef<'_>) {
    let path = expected["path"].as_str().unwrap();
    let decode = |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap();
    assert_eq!(node.data(), expected["data"].as_str().map(decode).as_deref(), "data of {path}");
    let acl = expected["acl"].as_array().unwrap().iter().map(|acl| {
        let text = |key: &str| acl[key].as_str().unwrap();
        Acl::new(acl["perms"].as_i64().unwrap() as i32, text("scheme"), text("id"))
    });
    assert_eq!(node.acl()[..], acl.collect::<Vec<_>>(), "access list of {path}");
    let (stored, wire) = (&expected["stat_persisted"], &expected["stat_wire"]);
    let actual = node.persisted();
    let longs = [
        ("czxid", actual.czxid),
        ("mzxid", actual.mzxid),
        ("ctime", actual.ctime),
        ("mtime", actual.mtime),
        ("version", actual.version.into()),
        ("cversion", actual.cversion.into()),
        ("aversion", actual.aversion.into()),
        ("ephemeralOwner", actual.ephemeral_owner),
        ("pzxid", actual.pzxid),
    ];
    for (key, actual) in longs {
        assert_eq!(actual, long(&stored[key]), "stored {key} of {path}");
    }
    let stat = node.stat();
    let longs = [
        ("cversion", stat.cversion.into()),
        ("ephemeralOwner", stat.ephemeral_owner),
        ("dataLength", stat.data_length.into()),
        ("numChildren", stat.num_children.into()),
    ];
    for (key, actual) in longs {
        assert_eq!(actual, long(&wire[key]), "{key} of {path} on the wire");
    }
}

fn assert_expected(set: &str, recovered: &Recovered) {
    let expected = json(&format!("{set}/expected.json"));
    let tree = &recovered.tree;
    assert_eq!(recovered.last_zxid.0, long(&expected["last_processed_zxid"]), "{set}");
    assert_eq!(tree.last_zxid(), recovered.last_zxid, "{set}");
    assert_eq!(tree.digest(), digest(&expected["tree_digest"]), "{set}");
    let nodes = expected["nodes"].as_array().unwrap();
    assert_eq!(tree.node_count(), nodes.len(), "{set}");
    assert_eq!(tree.node_count() as u64 + 1, expected["node_count"].as_u64().unwrap(), "{set}");
    for expected in nodes {
        let path = expected["path"].as_str().unwrap();
        assert_node(expected, tree.find(path).unwrap_or_else(|| panic!("{set} lacks {path}")));
    }
    assert_sessions(&expected["sessions"], recovered);
    let paths = |value: &Value| {
        let mut paths: Vec<_> = value.as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect();
        paths.sort();
        paths
    };
    let sorted = |mut paths: Vec<String>| {
        paths.sort();
        paths
    };
    let ephemerals = expected["ephemerals"].as_object().unwrap();
    assert_eq!(tree.ephemeral_owners().len(), ephemerals.len(), "{set}");
    for (owner, expected) in ephemerals {
        let owner = SessionId(long(&Value::from(owner.as_str())));
        assert_eq!(sorted(tree.ephemerals(owner).collect()), paths(expected), "{set}");
    }
    assert_eq!(sorted(tree.containers().map(NodeRef::path).collect()), paths(&expected["containers"]), "{set}");
    assert_eq!(sorted(tree.ttl_nodes().map(NodeRef::path).collect()), paths(&expected["ttl_nodes"]), "{set}");
    assert_eq!(recovered.digest_check.mismatches(), 0, "{set}");
}

fn assert_sessions(expected: &Value, recovered: &Recovered) {
    let expected = expected.as_object().unwrap().iter();
    let mut expected: Vec<_> =
        expected.map(|(id, ms)| (SessionId(long(&Value::from(id.as_str()))), ms.as_i64().unwrap() as i32)).collect();
    expected.sort();
    let actual: Vec<_> = recovered.tree.sessions().iter().map(|(id, ms)| (*id, *ms)).collect();
    assert_eq!(actual, expected);
}

// 75, 60 (3.8 form), 6, 17, 87
#[test]
fn each_set_opens_as_java_opens_it() {
    for set in SETS {
        assert_expected(set, &open_plainly(&world(set)));
    }
}

// 75 (design.md D4)
#[test]
fn each_set_opens_to_the_same_state_with_an_image() {
    for set in SETS {
        let world = world(set);
        let mut first = open_plainly(&world);
        assert_eq!(first.image, ImageState::Empty);
        fill_image(&world, &mut first);
        let second = open_plainly(&world);
        assert_eq!(second.image, ImageState::Used { applied: first.last_zxid }, "{set}: {:?}", second.notices);
        assert_eq!(second.replayed, 0);
        assert_expected(set, &second);
        trees::assert_equal(set, &first.tree, &second.tree);
    }
}

#[test]
fn an_image_that_was_lost_while_the_server_ran_is_filled_with_everything_again() {
    for set in SETS {
        let world = world(set);
        let mut first = open_plainly(&world);
        let mut keeper = Keeper::new(0, &first, 0);
        world.image.open().unwrap();
        fill_by(&mut keeper, &world, &mut first);
        assert_eq!(first.tree.unsaved(), 0);
        world.image.destroy().unwrap();
        assert_eq!(first.tree.mark_unsaved(0), None, "it is one step");
        assert_eq!(first.tree.unsaved(), first.tree.node_count());
        keeper.on_emptied();
        fill_by(&mut keeper, &world, &mut first);
        let second = open_plainly(&world);
        assert_eq!(second.image, ImageState::Used { applied: first.last_zxid }, "{set}: {:?}", second.notices);
        trees::assert_equal(set, &first.tree, &second.tree);
    }
}

// on-disk 2.2: Java's error record of a request that does not decode repeats the zxid before, and a file that begins with
// it has that name. The transaction itself is the last one of the file before, and the snapshot is of the one before that.
#[test]
fn a_file_named_after_a_repeated_zxid_hides_nothing() {
    let expected = open_plainly(&world("std-3.9.5"));
    let world = world("std-3.9.5");
    world.snap.delete("snapshot.68");
    let (header, error) =
        (Header { session: SessionId(0x55), cxid: 1, zxid: Zxid(0x4f), time: 1000 }, Txn::Error { code: -5 });
    let mut file = BytesMut::from(&zooid::journal::file_header()[..]);
    zooid::journal::write_record(&header, &error, None, zooid::journal::PAYLOAD_MAX, &mut file).unwrap();
    file.extend_from_slice(&world.log.content("log.50").unwrap()[16..]);
    world.log.delete("log.50");
    world.log.put("log.4f", &file);
    let recovered = open_plainly(&world);
    trees::assert_equal("with 4f", &expected.tree, &recovered.tree);
    assert_eq!(recovered.digest_check.mismatches(), 0);

    // The name may have come to disk alone.
    for name in ["log.4f", "log.69"] {
        world.log.delete(name);
    }
    let expected = open_plainly(&world);
    assert_eq!(expected.last_zxid, Zxid(0x4f));
    for content in [&zooid::journal::file_header()[..], &[0; 4096]] {
        world.log.put("log.4f", content);
        assert_eq!(open_plainly(&world).last_zxid, Zxid(0x4f));
    }
}

/// A volume that is not mounted. Alone, a server would begin an older history; a member may be brought up to date by its
/// leader, but whoever runs it should hear of it.
#[test]
fn a_log_that_is_gone_is_missed_by_the_image() {
    for server in [0, 3] {
        let world = world("std-3.9.5");
        let replay = if server == 0 { Replay::All } else { Replay::Nothing };
        let options = Options { server, ..Options::default() };
        let mut recovered = open(&world, &options).unwrap();
        world.image.open().unwrap();
        fill_by(&mut Keeper::new(server, &recovered, 0), &world, &mut recovered);
        let image = recovered.tree.last_zxid();
        for name in world.log.names().iter().filter(|name| name.starts_with("log.")) {
            world.log.delete(name);
        }
        world.snap.delete("snapshot.68");
        let again = open(&world, &Options { replay, ..options });
        if server == 0 {
            let Err(StorageError::Refused(refusal)) = again else { panic!("it starts") };
            assert!(matches!(*refusal, Refusal::LogMissing { image: knows, .. } if knows == image), "{refusal}");
        } else {
            let again = again.unwrap();
            assert_eq!(again.last_zxid, Zxid(0x4e));
            let missed = Notice::ImageAhead { image, last: Zxid(0x4e) };
            assert!(again.notices.contains(&missed), "{:?}", again.notices);
        }
    }
}

/// quorum-protocol 12.1, check 21; design.md D9.
#[test]
fn a_learner_gets_the_image_s_state_as_a_stream() {
    for set in SETS {
        let world = world(set);
        let mut recovered = open_plainly(&world);
        world.image.open().unwrap();
        assert!(StreamJob::begin(&world.image).unwrap().is_none(), "an image without numbers is no state");
        fill_image(&world, &mut recovered);
        let job = StreamJob::begin(&world.image).unwrap().expect("it was filled");
        // What comes later is not in it.
        world.image.damage();
        let mut stream = Vec::new();
        job.write(&mut stream).unwrap();
        let mut parser = SnapshotParser::new(TreeRules::default(), usize::MAX);
        let mut tree = parser.feed(&mut BytesMut::from(&stream[..])).unwrap().expect("it is all there");
        tree.set_last_zxid(job.zxid());
        trees::assert_equal(set, &recovered.tree, &tree);
    }
}

// 77
#[test]
fn the_logs_alone_lead_from_the_empty_tree_to_the_same_state() {
    for set in ["std-3.9.5", "std-3.8.0"] {
        let world = world(set);
        for name in world.snap.names() {
            if name != "snapshot.0" {
                world.snap.delete(&name);
            }
        }
        let recovered = open_plainly(&world);
        assert_expected(set, &recovered);
        let has_mismatch = recovered.notices.iter().any(|n| matches!(n, Notice::DigestMismatch { .. }));
        assert!(!has_mismatch && recovered.replayed > 100);
    }
}

// 76
#[test]
fn a_fuzzy_snapshot_leads_to_the_same_state_as_a_consistent_one() {
    let world = world("fuzzy-3.9.5");
    world.snap.delete("snapshot.818");
    let recovered = open_plainly(&world);
    assert_expected("fuzzy-3.9.5", &recovered);
}

// A member's start applies nothing, so its image is as fuzzy as the snapshot was, and the next start must know.
#[test]
fn an_image_of_a_fuzzy_snapshot_says_so() {
    let world = world("fuzzy-3.9.5");
    ["snapshot.818", "snapshot.8c2"].into_iter().for_each(|name| world.snap.delete(name));
    let member = Options { replay: Replay::Nothing, server: 3, ..Options::default() };
    let mut recovered = open(&world, &member).unwrap();
    let (until, digest) = recovered.digest_check.fuzzy_until().expect("a snapshot that is fuzzy");
    assert!(until > recovered.tree.last_zxid() && until < recovered.last_zxid);
    assert!(!recovered.notices.iter().any(|notice| matches!(notice, Notice::DigestNeverReached { .. })));
    world.image.open().unwrap();
    fill_by(&mut Keeper::new(3, &recovered, 0), &world, &mut recovered);
    let again = open(&world, &member).unwrap();
    assert!(matches!(again.image, ImageState::Used { .. }), "{:?}", again.image);
    assert_eq!(again.digest_check.fuzzy_until(), Some((until, digest)));
    // Whoever takes over says of his snapshot what Java has said of this one.
    let view = world.image.view().unwrap();
    let meta = image::meta(&view).unwrap().unwrap();
    let mut snapshot = Vec::new();
    image::write_snapshot(&view, &meta, &mut snapshot, Compression::Plain).unwrap();
    let section = [&until.0.to_be_bytes()[..], &[0, 0, 0, 2], &digest.to_be_bytes()].concat();
    assert!(snapshot.windows(section.len()).any(|window| window == section));
    let mut replayed = open(&world, &Options { replay: Replay::All, ..member }).unwrap();
    assert_expected("fuzzy-3.9.5", &replayed);
    assert!(!replayed.notices.iter().any(|notice| matches!(notice, Notice::DigestMismatch { .. })));
    assert_eq!(replayed.digest_check.fuzzy_until(), None);
    // What has been applied behind it has its own digest.
    fill_by(&mut Keeper::new(3, &replayed, 0), &world, &mut replayed);
    assert_eq!(open(&world, &member).unwrap().digest_check.fuzzy_until(), None);
}

#[test]
fn a_member_does_not_apply_what_no_leader_has_confirmed() {
    let world = world("quorum-3.9.5");
    let options = Options { replay: Replay::Nothing, server: 3, ..Options::default() };
    let recovered = open(&world, &options).unwrap();
    assert_eq!(recovered.last_zxid, Zxid(0x2_0000_0006));
    assert_eq!(recovered.tree.last_zxid(), Zxid(0x1_0000_000a));
}

// ---- cases.json ----

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn apply_edit(world: &World, edit: &Value) {
    let disk_and_name = |path: &str| {
        let (dir, name) = path.split_once("/version-2/").unwrap();
        let disk = if dir == "dataLogDir" { &world.log } else { &world.snap };
        (disk.clone(), name.to_owned())
    };
    let (disk, name) = disk_and_name(edit["file"].as_str().unwrap());
    let number = |key: &str| edit[key].as_u64().unwrap() as usize;
    let hex = || bytes(edit["hex"].as_str().unwrap());
    match edit["op"].as_str().unwrap() {
        "patch" => disk.edit(&name, |file| {
            let (at, new) = (number("offset"), hex());
            file[at..at + new.len()].copy_from_slice(&new);
        }),
        "zero" => disk.edit(&name, |file| file[number("offset")..][..number("len")].fill(0)),
        "truncate" => disk.edit(&name, |file| file.truncate(number("len"))),
        "splice" => disk.edit(&name, |file| {
            let at = number("offset");
            file.splice(at..at + number("len"), hex());
        }),
        "write" => disk.put(&name, &hex()),
        "zerofile" => disk.put(&name, &vec![0; number("len")]),
        "copy" => disk_and_name(edit["to"].as_str().unwrap())
            .0
            .put(&disk_and_name(edit["to"].as_str().unwrap()).1, &disk.content(&name).unwrap()),
        "rename" => {
            let content = disk.content(&name).unwrap();
            disk.delete(&name);
            let (to_disk, to) = disk_and_name(edit["to"].as_str().unwrap());
            to_disk.put(&to, &content);
        }
        "delete" => disk.delete(&name),
        other => panic!("unknown edit {other}"),
    }
}

fn case_world(case: &Value) -> World {
    let world = world(case["base"].as_str().unwrap());
    for edit in case["edits"].as_array().unwrap() {
        apply_edit(&world, edit);
    }
    world
}

fn case_options(case: &Value) -> Options {
    let mut options = Options::default();
    for option in case["java_options"].as_array().into_iter().flatten() {
        match option.as_str().unwrap() {
            "-Dzookeeper.snapshot.trust.empty=true" => options.trust_empty = true,
            "-Dzookeeper.digest.enabled=false" => options.rules = TreeRules { digest: false, ..options.rules },
            "-Dzookeeper.extendedTypesEnabled=false" => {}
            other => panic!("unknown option {other}"),
        }
    }
    options
}

/// The notice that a warning in `cases.json` stands for.
fn has_warning(warning: &str, notices: &[Notice]) -> bool {
    notices.iter().any(|notice| match (warning.split([':', ';']).next().unwrap(), notice) {
        ("digest mismatch at 0x6e", Notice::DigestMismatch { zxid, .. }) => zxid.0 == 0x6e,
        ("digest mismatch", Notice::DigestMismatch { .. }) => true,
        ("duplicate zxid skipped", Notice::Repeated { zxid, .. }) => zxid.0 > 0,
        ("unexpected header", Notice::OddHeader { version: 9, dbid: 1234, .. }) => true,
        ("corrupt record below the snapshot", Notice::DamageBelowSnapshot { .. }) => true,
        ("corrupt snapshot skipped" | "unsealed snapshot skipped" | "trailing bytes", notice) => {
            matches!(notice, Notice::SnapshotUnusable { .. })
        }
        _ => false,
    })
}

// 1 to 8, 15 to 18, 20, 36 to 71, 76, 87: the 77 cases, each with the number of its row in tests/checks.md
#[test]
fn each_case_has_the_outcome_that_is_wanted() {
    let cases = json("cases.json");
    let cases = cases["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 77);
    let mut wrong = Vec::new();
    for case in cases {
        if let Err(what) = check_case(case) {
            wrong.push(format!("{} ({}): {what}", case["id"].as_str().unwrap(), case["title"].as_str().unwrap()));
        }
    }
    assert!(wrong.is_empty(), "{} cases:\n{}", wrong.len(), wrong.join("\n"));
}

fn check_case(case: &Value) -> Result<(), String> {
    let world = case_world(case);
    let options = case_options(case);
    let before = world.without_image();
    let want = &case["want"];
    // S22: opened with TTL support on, as its text allows: nothing here deletes TTL nodes at a start.
    let wants_open = want["result"] == "open" || case["id"] == "S22";
    let recovered = match (open(&world, &options), wants_open) {
        (Ok(recovered), true) => recovered,
        (Ok(recovered), false) => return Err(format!("opens {}, wanted {}", recovered.last_zxid, want["reason"])),
        (Err(error), true) => return Err(error.to_string()),
        (Err(StorageError::Refused(refusal)), false) => {
            assert_eq!(refusal.exit_code(), 1);
            assert_unchanged(&before, &world);
            return Ok(());
        }
        (Err(error), false) => return Err(format!("fails with {error} instead of a refusal")),
    };
    if case["id"] == "S22" {
        assert_eq!(recovered.tree.ttl_nodes().count(), 3);
        return Ok(());
    }
    if recovered.last_zxid.0 != long(&want["last_zxid"]) {
        return Err(format!("opens {}", recovered.last_zxid));
    }
    if options.rules.digest && !want["tree_digest"].is_null() && recovered.tree.digest() != digest(&want["tree_digest"])
    {
        return Err(format!("the digest is {}", recovered.tree.digest()));
    }
    let java = &case["java_3_9_5"];
    if !want["sessions_exactly"].is_null() {
        assert_eq!(recovered.tree.sessions().len(), want["sessions_exactly"].as_array().unwrap().len());
    } else if java["last_zxid"] == want["last_zxid"] && java["sessions"].is_object() {
        assert_sessions(&java["sessions"], &recovered);
    }
    if let Some(warning) = want["warn"].as_str()
        && !has_warning(warning, &recovered.notices)
    {
        return Err(format!("no warning about {warning}: {:?}", recovered.notices));
    }
    // What was done about it must hold at the next start too.
    let again = open(&world, &options).map_err(|error| format!("the second start: {error}"))?;
    trees::assert_equal(&case["id"].to_string(), &recovered.tree, &again.tree);
    Ok(())
}

/// A refusal leaves every file as it was.
fn assert_unchanged(before: &World, after: &World) {
    for (before, after) in [(&before.log, &after.log), (&before.snap, &after.snap)] {
        assert_eq!(before.names(), after.names());
        for name in before.names() {
            assert!(before.content(&name) == after.content(&name), "{name} was changed");
        }
    }
}

// 89, through a whole start: what opens is a state that the logs' own digests vouch for
#[test]
fn a_start_over_random_damage_gives_a_prefix_or_a_refusal() {
    let mut random = support::sim::Random(89);
    let (mut opened, mut refused) = (0, 0);
    let whole = open_plainly(&world("std-3.9.5")).last_zxid;
    for _ in 0..250 {
        let world = world("std-3.9.5");
        for name in ["snapshot.13", "snapshot.4e", "snapshot.68"] {
            world.snap.delete(name);
        }
        let names = world.log.names();
        let name = &names[random.below(names.len() as u64) as usize];
        world.log.edit(name, |file| {
            let at = random.below(6000) as usize;
            match random.below(3) {
                0 => file.truncate(at),
                1 => file[at] ^= 1 << random.below(8),
                _ => file[at..at + 512].fill(0),
            }
        });
        match open(&world, &Options::default()) {
            Ok(recovered) => {
                opened += 1;
                assert!(recovered.last_zxid <= whole);
                assert_eq!(recovered.digest_check.mismatches(), 0);
                let newest = name == "log.69";
                assert!(newest || recovered.last_zxid == whole, "{name}: {}", recovered.last_zxid);
            }
            Err(StorageError::Refused(_)) => refused += 1,
            Err(other) => panic!("{other}"),
        }
    }
    assert!(opened > 50 && refused > 50, "{opened} opened, {refused} refused");
}

// ---- starts without data (on-disk 4.2, 1.1) ----

// 65 (an empty directory is the only one that may start empty)
#[test]
fn an_empty_directory_starts_with_snapshot_0() {
    let world = World::new();
    let recovered = open_plainly(&world);
    assert_eq!(recovered.last_zxid, Zxid::ZERO);
    assert_eq!(world.snap.names(), ["snapshot.0"]);
    let java = std::fs::read(fixtures().join("std-3.9.5/dataDir/version-2/snapshot.0")).unwrap();
    assert_eq!(world.snap.content("snapshot.0").unwrap().len(), java.len());
    let again = open_plainly(&world);
    trees::assert_equal("again", &recovered.tree, &again.tree);
}

#[test]
fn without_autocreate_an_empty_directory_needs_the_marker() {
    let strict = Options { db_autocreate: false, ..Options::default() };
    let refusal = match open(&World::new(), &strict) {
        Err(StorageError::Refused(refusal)) => refusal,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it started"),
    };
    assert!(matches!(*refusal, Refusal::NotInitialized { .. }));

    let member = Options { replay: Replay::Nothing, ..strict };
    assert_eq!(open(&World::new(), &member).unwrap().last_zxid, Zxid(-1));

    let marked = World::new();
    marked.log_home.put("initialize", b"");
    assert_eq!(open(&marked, &strict).unwrap().last_zxid, Zxid::ZERO);
    assert!(marked.log_home.names().is_empty(), "the marker counts once");
}

// 72
#[test]
fn mixed_up_directories_are_refused_with_java_s_words() {
    let cases = [
        (
            true,
            "snapshot.foo",
            "Log directory has snapshot files. Check if dataLogDir and dataDir configuration is correct.",
        ),
        (false, "log.1", "Snapshot directory has log files. Check if dataLogDir and dataDir configuration is correct."),
    ];
    for (in_log, name, message) in cases {
        let world = World::new();
        let disk = if in_log { &world.log } else { &world.snap };
        disk.put(name, b"");
        let error = open(&world, &Options::default()).err().expect("refused");
        assert_eq!((error.to_string().as_str(), error.exit_code()), (message, 3));
    }
}

#[test]
fn missing_directories_are_made_only_if_they_may() {
    let strict = Options { make_directories: false, ..Options::default() };
    let error = open(&World::new(), &strict).err().expect("refused");
    assert_eq!(
        error.to_string(),
        "Missing data directory /log/version-2, automatic data directory creation is disabled \
         (zookeeper.datadir.autocreate is false). Please create this directory manually."
    );
    assert_eq!(error.exit_code(), 3);
}
