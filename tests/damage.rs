//! Logs and snapshots byte by byte: what is written reads back, what Java wrote is written again to the byte,
//! and no damage whatever makes a reader invent or silently lose a transaction.

mod support;

use std::cell::Cell;
use std::convert::Infallible;
use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use jute::records::data::StatPersisted;
use support::sim::{Random, World};
use zooid::acl::Acl;
use zooid::id::{SessionId, Zxid};
use zooid::journal::{self, End, Scan, Source};
use zooid::proto::op;
use zooid::storage::{Options, recover};
use zooid::tree::snapshot::{self, Body, Compression, DigestSection, Sections, SnapshotError, Target, Writer};
use zooid::tree::stream::{self, SnapshotParser};
use zooid::tree::{LoadError, Loader, Tree, TreeRules};
use zooid::txn::{Header, Logged, Txn};

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/java-datadir")
}

/// All files of all sets whose names begin so, with their names.
fn files(prefix: &str) -> Vec<(String, Bytes)> {
    let mut found = Vec::new();
    for set in std::fs::read_dir(fixtures()).unwrap() {
        for dir in ["dataDir/version-2", "dataLogDir/version-2"] {
            let set = set.as_ref().unwrap().path();
            let Ok(entries) = std::fs::read_dir(set.join(dir)) else { continue };
            for entry in entries {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                if name.starts_with(prefix) {
                    let set = set.file_name().unwrap().to_str().unwrap();
                    found.push((format!("{set}/{name}"), std::fs::read(entry.path()).unwrap().into()));
                }
            }
        }
    }
    found.sort();
    found
}

// 82
#[test]
fn every_record_of_java_s_encodes_to_the_same_bytes() {
    let mut records = 0;
    for (name, file) in files("log.") {
        let mut scan = Scan::new(&file);
        while let Some(record) = scan.read().unwrap() {
            let logged = Logged::read(record.payload.clone()).unwrap();
            let mut out = BytesMut::new();
            journal::write_record(&logged.header, &logged.txn, logged.digest, journal::PAYLOAD_MAX, &mut out).unwrap();
            let original = file.slice(record.offset as usize..record.end() as usize);
            assert_eq!(out, original, "{name} at {}", record.offset);
            records += 1;
        }
    }
    assert!(records > 1500, "{records}");
}

/// What stands in a snapshot, in its order.
#[derive(Default)]
struct Parts {
    sessions: Vec<(SessionId, i32)>,
    acls: Vec<(i64, Vec<Acl>)>,
    nodes: Vec<(String, Option<Vec<u8>>, i64, StatPersisted)>,
}

impl Target for Parts {
    fn session(&mut self, id: SessionId, timeout_ms: i32) {
        self.sessions.push((id, timeout_ms));
    }

    fn acl(&mut self, id: i64, acl: Vec<Acl>) -> Result<(), LoadError> {
        self.acls.push((id, acl));
        Ok(())
    }

    fn node(&mut self, path: &str, data: Option<&[u8]>, acl_id: i64, stat: StatPersisted) -> Result<(), LoadError> {
        self.nodes.push((path.into(), data.map(<[u8]>::to_vec), acl_id, stat));
        Ok(())
    }
}

fn write(parts: &Parts, sections: &Sections, compression: Compression) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), compression).unwrap();
    writer.count(parts.sessions.len()).unwrap();
    for (id, timeout_ms) in &parts.sessions {
        writer.session(*id, *timeout_ms).unwrap();
    }
    writer.count(parts.acls.len()).unwrap();
    for (id, acl) in &parts.acls {
        writer.acl(*id, acl).unwrap();
    }
    for (path, data, acl_id, stat) in &parts.nodes {
        writer.node(path, data.as_deref(), *acl_id, stat).unwrap();
    }
    let digest = sections.digest.expect("every sample has one");
    writer.finish(digest, sections.last_zxid.unwrap_or(Zxid::ZERO)).unwrap().1
}

fn compression(name: &str) -> Compression {
    match name {
        name if name.ends_with(".gz") => Compression::Gz,
        name if name.ends_with(".snappy") => Compression::Snappy,
        _ => Compression::Plain,
    }
}

/// Unpacks as the formats are described, not with the code under test.
fn unpack(file: &[u8], compression: Compression) -> Vec<u8> {
    use std::io::Read;
    let mut unpacked = Vec::new();
    match compression {
        Compression::Plain => unpacked.extend_from_slice(file),
        Compression::Gz => {
            flate2::bufread::GzDecoder::new(file).read_to_end(&mut unpacked).unwrap();
        }
        Compression::Snappy => {
            let mut rest = &file[16..];
            while let Some((len, blocks)) = rest.split_first_chunk::<4>() {
                let (block, later) = blocks.split_at(u32::from_be_bytes(*len) as usize);
                unpacked.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
                rest = later;
            }
        }
    }
    unpacked
}

// 83
#[test]
fn every_snapshot_of_java_s_encodes_to_the_same_bytes() {
    let mut snapshots = 0;
    for (name, file) in files("snapshot.") {
        let mut parts = Parts::default();
        let compression = compression(&name);
        let sections = match snapshot::read(&file[..], compression, &mut parts) {
            Ok(sections) => sections,
            Err(error) if name == "fuzzy-3.9.5/snapshot.8c2" => {
                assert!(error.is_torn(), "{error}");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        let unpacked = unpack(&file, compression);
        let ours = write(&parts, &sections, Compression::Plain);
        // 3.8.0 ends before the last section, with its own seal.
        let end = if sections.last_zxid.is_some() { ours.len() } else { ours.len() - 21 };
        assert!(ours[..end] == unpacked, "{name}");
        snapshots += 1;
    }
    assert!(snapshots > 25, "{snapshots}");
}

// 80: what a tree is written to, it is read from
#[test]
fn a_tree_survives_every_kind_of_snapshot() {
    for (name, file) in files("snapshot.") {
        let load = |bytes: &[u8], compression| {
            let mut loader = Loader::new(TreeRules::default());
            snapshot::read(bytes, compression, &mut loader).and_then(|s| Ok((loader.finish(Zxid(0x77))?, s)))
        };
        let Ok((tree, _)) = load(&file, compression(&name)) else { continue };
        for compression in [Compression::Plain, Compression::Gz, Compression::Snappy] {
            let (_, written) = snapshot::write_tree(&tree, Vec::new(), compression).unwrap();
            let (again, sections) = load(&written, compression).unwrap();
            support::trees::assert_equal(&name, &tree, &again);
            assert_eq!(sections.last_zxid, Some(Zxid(0x77)));
            assert_eq!(sections.known_digest().map(|digest| digest.digest), Some(tree.digest()));
        }
    }
}

// 58, 60, 61, 69, 70, 71: every cut and every flipped bit of a snapshot is noticed
#[test]
fn no_damage_to_a_snapshot_passes() {
    let mut random = Random(58);
    for (name, file) in files("snapshot.").into_iter().filter(|(name, _)| name.contains("snapshot.13")) {
        let compression = compression(&name);
        let read = |bytes: &[u8]| snapshot::read(bytes, compression, &mut snapshot::Verifier::default());
        let whole = read(&file).unwrap();
        for len in 0..file.len() {
            match read(&file[..len]) {
                // Within the sections, what is left of one may look like another.
                Err(error) => {
                    let in_sections = compression != Compression::Plain || len > file.len() - 67;
                    assert!(error.is_torn() || in_sections, "{name}, {len}: {error}");
                }
                // At the ends of the older forms, which are whole snapshots.
                Ok(sections) => assert!(sections.last_zxid.is_none() && sections != whole, "{name} cut to {len}"),
            }
        }
        for _ in 0..4000 {
            let mut bytes = file.to_vec();
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
            match read(&bytes) {
                Err(_) => {}
                // Bytes that nothing depends on: version and dbid, and what gzip and snappy carry besides.
                Ok(sections) => {
                    assert!(at < 16 && sections == whole || compression != Compression::Plain, "{name} {at}")
                }
            }
        }
        let mut longer = file.to_vec();
        longer.extend_from_slice(b"garbage\0\0\0\x01/");
        assert!(read(&longer).is_err(), "{name}");
    }
}

// 69, 70
#[test]
fn odd_snapshots_are_rejected() {
    let file = std::fs::read(fixtures().join("std-3.9.5/dataDir/version-2/snapshot.13")).unwrap();
    let mut parts = Parts::default();
    let sections = snapshot::read(&file[..], Compression::Plain, &mut parts).unwrap();
    let read = |parts: &Parts| {
        let bytes = write(parts, &sections, Compression::Plain);
        let mut loader = Loader::new(TreeRules::default());
        let loaded = snapshot::read(&bytes[..], Compression::Plain, &mut loader);
        let mut verifier = snapshot::Verifier::default();
        let verified = snapshot::read(&bytes[..], Compression::Plain, &mut verifier);
        (loaded.err().map(|error| error.to_string()), verified.is_err() || verifier.take_unlisted().is_some())
    };
    let at = parts.nodes.iter().position(|node| node.0 == "/app").unwrap();
    assert_eq!(read(&parts), (None, false));

    let id = std::mem::replace(&mut parts.nodes[at].2, 99);
    assert_eq!(read(&parts), (Some("/app has access list 99, which is not in the table".into()), true));
    parts.nodes[at].2 = id;

    // Only building the tree knows which owners are sessions.
    let owner = 0xff00_0100_0000_0001_u64 as i64;
    parts.nodes[at].3.ephemeral_owner = owner;
    assert_eq!(read(&parts).0, Some("/app has the invalid owner 0xff00010000000001".into()));
    parts.nodes[at].3.ephemeral_owner = 0;

    parts.nodes[at].0 = "/elsewhere/app".into();
    assert_eq!(read(&parts), (Some("unable to find the parent of /elsewhere/app".into()), true));
    parts.nodes[at].0 = "/app".into();

    let twice = parts.nodes[at].clone();
    parts.nodes.push(twice);
    assert_eq!(read(&parts), (Some("/app stands twice".into()), true));
}

// 70: Java writes the lists first. One that comes while it writes the nodes is in the log alone.
#[test]
fn a_list_that_came_while_a_snapshot_was_written_is_taken_from_the_log() {
    let zxid = Zxid(0x636);
    let dir = fixtures().join("fuzzy-3.9.5/dataDir/version-2");
    let name = format!("snapshot.{:x}", zxid.0);
    let mut parts = Parts::default();
    let file = std::fs::read(dir.join(&name)).unwrap();
    let sections = snapshot::read(&file[..], Compression::Plain, &mut parts).unwrap();
    let open = |file: &[u8]| {
        let world = World::with_one_directory();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let other = entry.unwrap().file_name().into_string().unwrap();
            if other.starts_with("log.") {
                world.log.put(&other, &std::fs::read(dir.join(&other)).unwrap());
            }
        }
        world.snap.put(&name, file);
        recover(&world.disks(), &world.image, &Options::default())
    };
    let expected = open(&file).unwrap();
    // Made after the file's zxid, and there to stay.
    let is_later = |path: &str| expected.tree.find(path).is_some_and(|node| node.persisted().czxid > zxid.0);
    parts.nodes.iter_mut().find(|node| is_later(&node.0)).unwrap().2 = 99;
    let opened = open(&write(&parts, &sections, Compression::Plain)).unwrap();
    support::trees::assert_equal("with a list from the log", &expected.tree, &opened.tree);

    // A file that says that it is of one moment has all its lists.
    let digest = DigestSection { zxid, ..sections.digest.unwrap() };
    let consistent = Sections { digest: Some(digest), last_zxid: Some(zxid), ..sections };
    assert!(open(&write(&parts, &consistent, Compression::Plain)).is_err());
}

/// The stream of a SNAP, taken in pieces, and how much of `stream` was left over.
fn parse(stream: &[u8], mut piece: impl FnMut() -> usize) -> Result<Option<(Tree, usize)>, SnapshotError> {
    let mut parser = SnapshotParser::new(TreeRules::default(), 2 * 0xf_ffff);
    let (mut input, mut rest) = (BytesMut::new(), stream);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece().clamp(1, rest.len()));
        input.extend_from_slice(now);
        rest = later;
        if let Some(mut tree) = parser.feed(&mut input)? {
            tree.set_last_zxid(Zxid(0x77));
            return Ok(Some((tree, input.len() + rest.len())));
        }
    }
    Ok(None)
}

const SIGNATURE: &[u8] = b"\0\0\0\x0aBenWasHere";

/// What Java would stream of the trees in its snapshots: the file without its header, up to the first seal.
fn java_streams() -> Vec<(String, Vec<u8>, Tree)> {
    let mut streams = Vec::new();
    for (name, file) in files("snapshot.") {
        let mut loader = Loader::new(TreeRules::default());
        let Ok(sections) = snapshot::read(&file[..], compression(&name), &mut loader) else { continue };
        let sections = 13 + 20 + 13 + if sections.last_zxid.is_some() { 8 + 13 } else { 0 };
        let unpacked = unpack(&file, compression(&name));
        let stream = [&unpacked[16..unpacked.len() - sections], SIGNATURE].concat();
        streams.push((name, stream, loader.finish(Zxid(0x77)).unwrap()));
    }
    assert!(streams.len() > 25, "{}", streams.len());
    streams
}

/// quorum-protocol 5.7; 12.1, check 21.
#[test]
fn a_streamed_tree_arrives_whole_in_whatever_pieces() {
    let mut random = Random(21);
    for (name, java, tree) in java_streams() {
        let ours = stream::write_tree(&tree, Vec::new()).unwrap();
        for stream in [java, ours] {
            for most in [1, 7, 300, 1 << 20] {
                let followed = [&stream[..], b"\0\0\0\x04"].concat();
                let (arrived, left) =
                    parse(&followed, || 1 + random.below(most) as usize).unwrap().expect("it is whole");
                assert_eq!(left, 4, "{name}: what follows is left alone");
                support::trees::assert_equal(&name, &tree, &arrived);
            }
        }
    }
}

#[test]
fn no_cut_stream_passes_and_no_damage_harms() {
    let mut random = Random(22);
    let (_, stream, _) = java_streams().into_iter().find(|(name, ..)| name.contains("snapshot.13")).unwrap();
    for len in 0..stream.len() {
        assert!(parse(&stream[..len], || len).unwrap().is_none(), "cut to {len}");
    }
    for at in stream.len() - SIGNATURE.len()..stream.len() {
        let mut bytes = stream.clone();
        bytes[at] ^= 1;
        assert!(matches!(parse(&bytes, || 100), Err(SnapshotError::Malformed("the signature"))));
    }
    // There is no checksum: a changed byte may give another tree, but nothing worse.
    let mut refused = 0;
    for _ in 0..4000 {
        let mut bytes = stream.clone();
        bytes[random.below(stream.len() as u64) as usize] ^= 1 << random.below(8);
        refused += u32::from(!matches!(parse(&bytes, || 1000), Ok(Some(_))));
    }
    assert!(refused > 400, "{refused}");
}

#[test]
fn a_stream_s_length_is_refused_before_its_bytes_come() {
    for (stream, what) in [
        (&b"\0\0\0\0\0\0\0\0\0\x1f\xff\xff"[..], "a path"),
        (b"\0\0\0\0\0\0\0\0\xff\xff\xff\xff", "a path"),
        (b"\0\0\0\0\0\0\0\0\0\0\0\0\x7f\xff\xff\xff", "a node's data"),
        (b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\xff\xff\xff\xff", "an access list"),
        (b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x1f\0\x1f\xff\xff", "an access list"),
    ] {
        match parse(stream, || 1) {
            Err(SnapshotError::Malformed(found)) => assert_eq!(found, what),
            other => panic!("{what}: {:?}", other.err()),
        }
    }
    // A count is no length: what it counts is waited for.
    assert!(parse(b"\x7f\xff\xff\xff", || 1).unwrap().is_none());
    assert!(parse(b"\0\0\0\0\x7f\xff\xff\xff", || 1).unwrap().is_none());
}

#[test]
fn a_length_is_not_believed() {
    let file = b"ZKSN\0\0\0\x02\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0\0\0\x7f\xff\xff\xffabc";
    let result = snapshot::read(&file[..], Compression::Plain, &mut Parts::default());
    assert!(matches!(result, Err(SnapshotError::Short("a path"))));
}

/// What a reader makes of a log: the zxids, where they end, and how.
fn scan(file: &Bytes) -> (Vec<i64>, u64, End) {
    let mut scan = Scan::new(file);
    let mut zxids = Vec::new();
    while let Some(record) = scan.read().unwrap() {
        zxids.push(record.zxid.0);
    }
    let at = scan.position();
    (zxids, at, scan.end().unwrap())
}

// 89: random cuts and flipped bits in the sample logs
#[test]
fn damage_ends_in_a_prefix_or_a_refusal_and_in_nothing_else() {
    let mut random = Random(89);
    let (mut accepted, mut refused) = (0, 0);
    for (name, file) in files("log.") {
        let (whole, data_end, _) = scan(&file);
        for _ in 0..60 {
            let mut bytes = file[..(data_end as usize + 700).min(file.len())].to_vec();
            let cut = random.below(3) == 0;
            let at = 16 + random.below(data_end - 16) as usize;
            if cut {
                bytes.truncate(at);
            } else {
                bytes[at] ^= 1 << random.below(8);
            }
            let bytes = Bytes::from(bytes);
            let (zxids, end, how) = scan(&bytes);
            assert!(zxids.len() <= whole.len() && zxids == whole[..zxids.len()], "{name} {at}");
            assert!(end <= at as u64 || zxids.len() == whole.len(), "{name} {at}: read over the damage");
            if let End::Damaged(damage) = how {
                refused += 1;
                assert!(damage.behind.is_none_or(|behind| behind.first.0 > zxids.last().copied().unwrap_or(0)));
                continue;
            }
            accepted += 1;
            // Nothing valid may stand behind what is taken for the end.
            let behind = &bytes[end as usize..];
            for from in 1..behind.len() {
                let rest = Bytes::copy_from_slice(&[&journal::file_header(), &behind[from..]].concat());
                if let Some(record) = Scan::new(&rest).read().unwrap() {
                    panic!("{name} {at}: zxid {} stands behind the end {end}", record.zxid);
                }
            }
        }
    }
    assert!(accepted > 200 && refused > 200, "{accepted} accepted, {refused} refused");
}

// 10: a sector has not arrived, wherever the records around it begin within theirs
#[test]
fn a_lost_sector_among_records_is_told_from_a_flipped_bit() {
    let mut random = Random(11);
    let mut tried = 0;
    for padding in 0..512 {
        let mut file = BytesMut::from(&journal::file_header()[..]);
        for zxid in 1..=12_i64 {
            let mut payload: Vec<u8> = (0..64 + random.below(200)).map(|_| random.below(255) as u8 + 1).collect();
            payload.resize(payload.len() + if zxid == 1 { padding } else { 0 }, 1);
            payload[12..20].copy_from_slice(&zxid.to_be_bytes());
            journal::write_payload(&payload, &mut file);
        }
        let end = file.len();
        file.resize(end + 2000, 0);
        let whole = file.freeze();
        // Not the first one, in which the header is, nor the last, behind which nothing stands.
        for sector in 1..(end - 1) / 512 {
            let mut torn = whole.to_vec();
            torn[sector * 512..sector * 512 + 512].fill(0);
            match scan(&Bytes::from(torn)).2 {
                End::Damaged(damage) if damage.behind.is_some() => {
                    tried += 1;
                    assert!(damage.sector_missing, "padding {padding}, sector {sector}: {damage:?}");
                }
                End::Damaged(damage) => panic!("padding {padding}, sector {sector}: {damage:?}"),
                End::Clean | End::Torn | End::Holed => {}
            }
        }
    }
    assert!(tried > 1000, "{tried} with records behind");
}

// 10: a sector of the last record has not arrived, wherever the record begins within its sector
#[test]
fn a_lost_sector_of_the_last_record_is_told_from_a_flipped_bit() {
    let mut random = Random(10);
    let payload = |len: usize, zxid: i64| {
        let mut payload = vec![0; len];
        payload.iter_mut().for_each(|byte| *byte = random.below(255) as u8 + 1);
        payload[12..20].copy_from_slice(&zxid.to_be_bytes());
        payload
    };
    let mut payload = payload;
    for padding in 0..512 {
        let mut file = BytesMut::from(&journal::file_header()[..]);
        journal::write_payload(&payload(64 + padding, 1), &mut file);
        let at = file.len();
        journal::write_payload(&payload(1300, 2), &mut file);
        let end = file.len();
        file.resize(end + 2000, 0);
        let whole = file.freeze();
        assert_eq!(scan(&whole), (vec![1, 2], end as u64, End::Clean));
        for sector in at / 512..=(end - 1) / 512 {
            let mut torn = whole.to_vec();
            let (from, to) = ((sector * 512).max(at), (sector * 512 + 512).min(torn.len()));
            torn[from..to].fill(0);
            if torn == whole {
                continue;
            }
            let (zxids, stands, how) = scan(&Bytes::from(torn));
            assert_eq!((zxids, stands), (vec![1], at as u64));
            assert!(matches!(how, End::Torn | End::Holed), "padding {padding}, sector {sector}: {how:?}");
        }
        let mut flipped = whole.to_vec();
        flipped[at + 12 + 500] ^= 4;
        assert!(matches!(scan(&Bytes::from(flipped)).2, End::Damaged(_)));
    }
}

/// A file that knows how much was read of it.
struct Counted {
    file: Bytes,
    read: Cell<usize>,
}

impl Source for Counted {
    type Error = Infallible;

    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, Infallible> {
        let bytes = self.file.read(offset, len)?;
        self.read.set(self.read.get() + bytes.len());
        Ok(bytes)
    }
}

/// Clients choose what is in a log. After a crash, data in which a long record may start everywhere must not
/// keep a server from its start.
#[test]
fn data_full_of_starts_of_records_is_looked_through_in_time() {
    const SLOT: usize = 12;
    const SLOTS: usize = 40_000;
    // Each slot has the checksum "BBBB" and a length that leads to an end byte in one of the last slots.
    let data: Vec<u8> = (0..SLOTS)
        .flat_map(|slot| {
            let end = (SLOTS - 100 - slot % 4) * SLOT + 5;
            let len = end.saturating_sub((slot + 1) * SLOT) as u32;
            [[0; 4], *b"BBBB", len.to_be_bytes()].concat()
        })
        .collect();
    let header = Header { session: SessionId(1), cxid: 1, zxid: Zxid(1), time: 1 };
    let txn = Txn::SetData { op: op::SET_DATA, path: "/a".into(), data: Some(data.into()), version: 1 };
    let mut file = BytesMut::from(&journal::file_header()[..]);
    journal::write_record(&header, &txn, None, journal::PAYLOAD_MAX, &mut file).unwrap();
    file.truncate(file.len() - 100);
    let file = Counted { file: file.freeze(), read: Cell::new(0) };
    assert_eq!(Scan::new(&file).end(), Ok(End::Torn));
    assert!(file.read.get() < SLOTS * 4096, "{} bytes read for a file of {}", file.read.get(), file.size());
}
