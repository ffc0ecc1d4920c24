//! The image: the tree as rows of an ordered store, so that a start reads the state instead of replaying it.
//!
//! One batch holds everything that changed since the last, the new `applied_zxid` included, so the store is
//! at every moment the state of exactly one transaction, whatever a crash cuts off. It is believed only if
//! `version-2` vouches for it: the record of `applied_zxid` must stand in the log, at its place and with its
//! checksum, and the newest snapshot must be one that the image knows (a Java server that ran in between may
//! have changed the state without a transaction, on-disk 4.5, and writes a snapshot when it has).
//!
//! The tree is read under its lock a few hundred nodes at a time. A node that changes while chunks are taken
//! is taken again; the last chunk is taken together with removals, sessions, lists and numbers in one hold,
//! and at that moment every row collected so far is the present state of its node.
//!
//! design.md D4.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jute::records::data::StatPersisted;
use jute::{Reader, Record, Text, Writer};

use super::names::{LogName, SnapshotName};
use super::schedule::Roll;
use super::snapshots::{Pace, SnapshotId};
use super::{Position, snapshots};
use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::path::ROOT;
use crate::tree::snapshot::{self, Body, Compression};
use crate::tree::stream;
use crate::tree::{LoadError, Loader, NodeRef, Tree, TreeRules, read_stat};

/// An ordered store of rows that is a cache: its loss costs time only. What was written is there at once, but
/// safe from a crash only after `flush`; a crash takes whole batches, the newest first.
pub trait Image {
    /// A view of the rows as they are now, which later writes do not change.
    type View: View;

    /// Opens the store, making it if there is none.
    fn open(&self) -> Result<(), ImageError>;
    fn view(&self) -> Result<Self::View, ImageError>;
    /// Writes all rows of a batch, or none.
    fn write(&self, batch: &Batch) -> Result<(), ImageError>;
    fn flush(&self) -> Result<(), ImageError>;
    /// Removes the store, even one that does not open, and opens an empty one. Durable on return.
    fn destroy(&self) -> Result<(), ImageError>;
}

/// Takes a row, by key and value.
pub type TakeRow<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> Result<(), ImageError>;

pub trait View {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, ImageError>;
    /// Hands out all rows in the order of their keys, until `take` returns an error.
    fn scan(&self, take: TakeRow<'_>) -> Result<(), ImageError>;
}

macro_rules! image_by_reference {
    ($($pointer:ty),*) => {$(
        impl<I: Image + ?Sized> Image for $pointer {
            type View = I::View;
            fn open(&self) -> Result<(), ImageError> { (**self).open() }
            fn view(&self) -> Result<Self::View, ImageError> { (**self).view() }
            fn write(&self, batch: &Batch) -> Result<(), ImageError> { (**self).write(batch) }
            fn flush(&self) -> Result<(), ImageError> { (**self).flush() }
            fn destroy(&self) -> Result<(), ImageError> { (**self).destroy() }
        }
    )*};
}

image_by_reference!(&I, std::rc::Rc<I>, std::sync::Arc<I>);

/// Why the image cannot be used, or not be written.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ImageError {
    #[error("the store fails: {0}")]
    Store(String),
    #[error("a row does not decode: {0}")]
    Row(&'static str),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{what}: the numbers say {expected}, the rows {actual}")]
    Count { what: &'static str, expected: u64, actual: u64 },
}

/// Rows by key; `None` removes one. The last state of a row wins.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub rows: BTreeMap<Vec<u8>, Option<Bytes>>,
}

impl Batch {
    fn put(&mut self, key: Vec<u8>, value: impl Into<Bytes>) {
        self.rows.insert(key, Some(value.into()));
    }

    fn remove(&mut self, key: Vec<u8>) {
        self.rows.insert(key, None);
    }

    /// About how many bytes it writes.
    pub fn bytes(&self) -> u64 {
        let len = |(key, value): (&Vec<u8>, &Option<Bytes>)| key.len() + value.as_ref().map_or(0, Bytes::len);
        self.rows.iter().map(len).sum::<usize>() as u64
    }
}

// ---- rows ----

// The first byte orders the rows as loading needs them: sessions and lists before nodes.
const META: u8 = 0;
const SNAPSHOTS: u8 = 1;
const SESSION: u8 = 2;
const ACL: u8 = 3;
const NODE: u8 = 4;

const FORMAT: u32 = 1;

fn session_key(id: SessionId) -> Vec<u8> {
    let mut key = vec![SESSION];
    key.extend(id.0.to_be_bytes());
    key
}

fn acl_key(id: i64) -> Vec<u8> {
    let mut key = vec![ACL];
    key.extend(id.to_be_bytes());
    key
}

/// The path with the lowest byte for each slash, which puts a subtree in one piece right behind its root.
fn node_key(path: &str) -> Vec<u8> {
    let path = if path == ROOT { "" } else { path };
    let mut key = Vec::with_capacity(1 + path.len());
    key.push(NODE);
    key.extend(path.bytes().map(|b| if b == b'/' { 0 } else { b }));
    key
}

fn node_path(key: &[u8], path: &mut Vec<u8>) {
    path.clear();
    path.extend(key[1..].iter().map(|b| if *b == 0 { b'/' } else { *b }));
}

const NODE_HEAD: usize = 69;

fn node_row(node: NodeRef<'_>) -> Bytes {
    let data = node.data();
    let mut out = BytesMut::with_capacity(NODE_HEAD + data.map_or(0, <[u8]>::len));
    node.persisted().write(&mut Writer::durable(&mut out));
    out.put_i64(node.acl_id());
    out.put_u8(data.is_some().into());
    out.put_slice(data.unwrap_or_default());
    out.freeze()
}

fn read_node(value: &[u8]) -> Option<(StatPersisted, i64, Option<&[u8]>)> {
    let (mut head, data) = value.split_at_checked(NODE_HEAD)?;
    let stat = read_stat(&mut head);
    let acl_id = head.get_i64();
    Some((stat, acl_id, (head.get_u8() != 0).then_some(data)))
}

/// What the image is the state of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Anchor {
    /// Of this record of the log.
    Record(Position),
    /// Of a snapshot, and no record behind it.
    Snapshot(SnapshotId),
}

impl Anchor {
    pub fn zxid(&self) -> Zxid {
        match self {
            Self::Record(position) => position.zxid,
            Self::Snapshot(id) => id.name.zxid,
        }
    }
}

/// The row that says what all the others are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Meta {
    /// Whose image it is: a copied directory is no image of another server's.
    pub server: i64,
    pub anchor: Anchor,
    pub digest: Option<u64>,
    /// It was made from a snapshot of Java's that holds effects of what came behind it: up to this transaction, whose
    /// digest is known, the tree's digest is none of its own.
    pub fuzzy_until: Option<(Zxid, u64)>,
    pub sessions: u64,
    pub acls: u64,
    pub nodes: u64,
}

impl Meta {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u32(FORMAT);
        out.put_i64(self.server);
        match &self.anchor {
            Anchor::Record(position) => {
                out.put_u8(0);
                out.put_i64(position.file.0.0);
                out.put_u64(position.offset);
                out.put_i64(position.zxid.0);
                out.put_u32(position.checksum);
            }
            Anchor::Snapshot(id) => {
                out.put_u8(1);
                put_snapshot(&mut out, id);
            }
        }
        out.put_u8(self.digest.is_some().into());
        out.put_u64(self.digest.unwrap_or(0));
        for count in [self.sessions, self.acls, self.nodes] {
            out.put_u64(count);
        }
        if let Some((zxid, digest)) = self.fuzzy_until {
            out.put_i64(zxid.0);
            out.put_u64(digest);
        }
        sealed(out)
    }

    fn decode(row: Bytes) -> Option<Self> {
        let mut r = Reader::new(unsealed(row)?);
        let long = |r: &mut Reader| r.long("meta").ok();
        if r.int("format").ok()? as u32 != FORMAT {
            return None;
        }
        let server = long(&mut r)?;
        let anchor = match r.byte("anchor").ok()? {
            0 => Anchor::Record(Position {
                file: LogName(Zxid(long(&mut r)?)),
                offset: long(&mut r)? as u64,
                zxid: Zxid(long(&mut r)?),
                checksum: r.int("checksum").ok()? as u32,
            }),
            _ => Anchor::Snapshot(read_snapshot(&mut r)?),
        };
        let has_digest = r.bool("digest").ok()?;
        let digest = long(&mut r)? as u64;
        let mut count = || r.long("count").ok().map(|n| n as u64);
        let (sessions, acls, nodes) = (count()?, count()?, count()?);
        let fuzzy_until = match r.remaining() {
            0 => None,
            _ => Some((Zxid(long(&mut r)?), long(&mut r)? as u64)),
        };
        Some(Self { server, anchor, digest: has_digest.then_some(digest), fuzzy_until, sessions, acls, nodes })
    }
}

fn put_snapshot(out: &mut BytesMut, id: &SnapshotId) {
    out.put_i64(id.name.zxid.0);
    out.put_u8(match id.name.compression {
        Compression::Plain => 0,
        Compression::Gz => 1,
        Compression::Snappy => 2,
    });
    out.put_u64(id.len);
    out.put_u32(id.tail);
}

fn read_snapshot(r: &mut Reader) -> Option<SnapshotId> {
    let zxid = Zxid(r.long("zxid").ok()?);
    let compression = match r.byte("compression").ok()? {
        0 => Compression::Plain,
        1 => Compression::Gz,
        2 => Compression::Snappy,
        _ => return None,
    };
    let name = SnapshotName { zxid, compression };
    Some(SnapshotId { name, len: r.long("length").ok()? as u64, tail: r.int("tail").ok()? as u32 })
}

fn sealed(mut out: BytesMut) -> Bytes {
    let sum = crc32fast::hash(&out);
    out.put_u32(sum);
    out.freeze()
}

fn unsealed(mut row: Bytes) -> Option<Bytes> {
    let mut sum = row.split_off(row.len().checked_sub(4)?);
    (sum.get_u32() == crc32fast::hash(&row)).then_some(row)
}

// ---- reading ----

/// The row of numbers; `None` in an image that was never written.
pub fn meta(view: &impl View) -> Result<Option<Meta>, ImageError> {
    let Some(row) = view.get(&[META])? else { return Ok(None) };
    Meta::decode(row).map(Some).ok_or(ImageError::Row("the numbers"))
}

/// The snapshots that this image's server has read or written, oldest first.
pub fn known_snapshots(view: &impl View) -> Result<Vec<SnapshotId>, ImageError> {
    let Some(row) = view.get(&[SNAPSHOTS])? else { return Ok(Vec::new()) };
    let mut r = Reader::new(unsealed(row).ok_or(ImageError::Row("the snapshots"))?);
    let mut known = Vec::new();
    while !r.is_empty() {
        known.push(read_snapshot(&mut r).ok_or(ImageError::Row("the snapshots"))?);
    }
    Ok(known)
}

/// Keeps at most this many: no purge leaves more that matter.
const KNOWN_MAX: usize = 8;

/// Adds the snapshots that the image is to vouch for to a batch.
pub fn put_known_snapshots(batch: &mut Batch, known: &[SnapshotId]) {
    let mut out = BytesMut::new();
    for id in &known[known.len().saturating_sub(KNOWN_MAX)..] {
        put_snapshot(&mut out, id);
    }
    batch.put(vec![SNAPSHOTS], sealed(out));
}

/// Whether there is any row at all.
pub fn has_rows(view: &impl View) -> Result<bool, ImageError> {
    let mut found = false;
    // Refusing the first row ends the scan; whatever else the store has to say then is of no interest.
    let result = view.scan(&mut |_, _| {
        found = true;
        Err(ImageError::Row("one is enough"))
    });
    if found { Ok(true) } else { result.map(|()| false) }
}

/// Builds the tree from the rows, and compares it with what the numbers say.
pub fn load(view: &impl View, meta: &Meta, rules: TreeRules) -> Result<Tree, ImageError> {
    // The count is checked afterwards; until then it is only believed so far.
    let mut loader = Loader::of_rows(rules, meta.nodes.min(1 << 26) as usize);
    let mut counts = [0u64; 3];
    let mut path = Vec::new();
    view.scan(&mut |key, value| {
        match key.first() {
            Some(&SESSION) => {
                let (id, timeout) = (int64(&key[1..]), value.first_chunk::<4>());
                let (Some(id), Some(timeout)) = (id, timeout) else { return Err(ImageError::Row("a session")) };
                loader.session(SessionId(id), i32::from_be_bytes(*timeout));
                counts[0] += 1;
            }
            Some(&ACL) => {
                let list = Vec::<Acl>::read(&mut Reader::new(Bytes::copy_from_slice(value)));
                let (Some(id), Ok(list)) = (int64(&key[1..]), list) else {
                    return Err(ImageError::Row("an access list"));
                };
                loader.acl(id, list.iter().map(Acl::detach).collect())?;
                counts[1] += 1;
            }
            Some(&NODE) => {
                let (stat, acl_id, data) = read_node(value).ok_or(ImageError::Row("a node"))?;
                node_path(key, &mut path);
                let path = std::str::from_utf8(&path).map_err(|_| ImageError::Row("a path"))?;
                loader.node(path, data, acl_id, stat)?;
                counts[2] += 1;
            }
            _ => {}
        }
        Ok(())
    })?;
    let expected = [("sessions", meta.sessions), ("access lists", meta.acls), ("nodes", meta.nodes)];
    for ((what, expected), actual) in expected.into_iter().zip(counts) {
        if expected != actual {
            return Err(ImageError::Count { what, expected, actual });
        }
    }
    let mut tree = loader.finish(meta.anchor.zxid())?;
    if let Some(expected) = meta.digest.filter(|_| tree.keeps_digest())
        && expected != tree.digest()
    {
        return Err(ImageError::Count { what: "the digest", expected, actual: tree.digest() });
    }
    tree.mark_saved();
    Ok(tree)
}

fn int64(bytes: &[u8]) -> Option<i64> {
    bytes.try_into().ok().map(i64::from_be_bytes)
}

/// Writes the image's rows as a snapshot file: the state of exactly `meta.anchor.zxid()`.
pub fn write_snapshot<W: Write>(view: &impl View, meta: &Meta, out: W, compression: Compression) -> io::Result<u32> {
    let mut writer = snapshot::Writer::new(out, compression)?;
    write_rows(view, meta, &mut writer)?;
    let zxid = meta.anchor.zxid();
    let (of, digest) = meta.fuzzy_until.map_or((zxid, meta.digest), |(until, digest)| (until, Some(digest)));
    writer.finish(snapshot::digest_section(of, digest), zxid).map(|(seal, _)| seal)
}

/// Writes the image's rows as a leader sends them: the state of exactly `meta.anchor.zxid()`.
pub fn write_stream<W: Write>(view: &impl View, meta: &Meta, out: W) -> io::Result<W> {
    let mut writer = stream::Writer::new(out);
    write_rows(view, meta, &mut writer)?;
    writer.finish()
}

fn write_rows(view: &impl View, meta: &Meta, writer: &mut impl Body) -> io::Result<()> {
    let mut path = Vec::new();
    // Sessions and lists are announced when the first row of a later kind comes.
    let mut kind = SESSION;
    writer.count(meta.sessions as usize)?;
    let other = |what: &str| io::Error::other(what.to_owned());
    let mut failed = None;
    let result = view.scan(&mut |key, value| {
        let mut row = || -> io::Result<()> {
            let Some(&row_kind) = key.first().filter(|kind| **kind >= SESSION) else { return Ok(()) };
            if kind == SESSION && row_kind != SESSION {
                writer.count(meta.acls as usize)?;
                kind = row_kind;
            }
            match row_kind {
                SESSION => {
                    let (Some(id), Some(timeout)) = (int64(&key[1..]), value.first_chunk::<4>()) else {
                        return Err(other("a session's row does not decode"));
                    };
                    writer.session(SessionId(id), i32::from_be_bytes(*timeout))
                }
                ACL => {
                    let list = Vec::<Acl>::read(&mut Reader::new(Bytes::copy_from_slice(value)));
                    let (Some(id), Ok(list)) = (int64(&key[1..]), list) else {
                        return Err(other("an access list's row does not decode"));
                    };
                    writer.acl(id, &list)
                }
                _ => {
                    let (stat, acl_id, data) = read_node(value).ok_or_else(|| other("a node's row does not decode"))?;
                    node_path(key, &mut path);
                    let path = std::str::from_utf8(&path).map_err(|_| other("a path's row does not decode"))?;
                    writer.node(path, data, acl_id, &stat)
                }
            }
        };
        row().map_err(|error| {
            failed = Some(error);
            ImageError::Row("it could not be written on")
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    result.map_err(io::Error::other)
}

// ---- capturing ----

/// Collects what the image lacks, a chunk at a time.
pub struct Capture {
    /// Rows in the order in which they were taken, not yet in the batch.
    taken: Vec<(Vec<u8>, Option<Bytes>)>,
    batch: Batch,
    removed: VecDeque<Text>,
    chunks: usize,
    patience: usize,
    /// The image has no numbers yet, so nothing believes its rows: they may be written in parts.
    is_filling: bool,
    bytes: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Take another chunk, after others had the tree.
    More,
    /// What is left fits into the last hold: [`Capture::finish`].
    Last,
}

/// Nodes taken under one hold of the tree's lock.
const CHUNK: usize = 256;
/// A writer can make changes faster than they are taken: after so many chunks more than there was to take at
/// first, they grow.
const PATIENCE: usize = 64;
/// An empty image is filled in parts of about this many bytes, so that no copy of the whole tree is held.
const PART: usize = 4 << 20;

impl Capture {
    /// It is of everything, for an image that holds nothing.
    pub fn is_filling(&self) -> bool {
        self.is_filling
    }

    /// More changes while it goes on than it has taken: it must not rest.
    pub fn is_outrun(&self) -> bool {
        self.chunks >= self.patience
    }

    /// Takes some of what changed. The caller holds the tree's lock for this call only.
    pub fn take(&mut self, tree: &mut Tree) -> Progress {
        self.removed.extend(tree.take_removed());
        if self.chunks == 0 {
            self.patience = 2 * (tree.unsaved() + self.removed.len()) / CHUNK + PATIENCE;
        }
        self.chunks += 1;
        let limit = CHUNK << (self.chunks / self.patience).min(10);
        self.take_some(tree, limit);
        if tree.unsaved() + self.removed.len() <= limit { Progress::Last } else { Progress::More }
    }

    /// Puts what was taken in its place in the batch. Without the tree's lock: this is half of the work, and
    /// while it is done others have the tree.
    pub fn arrange(&mut self) {
        self.batch.rows.extend(self.taken.drain(..));
    }

    /// While an empty image is filled: what was taken so far, if it is worth a write. The caller writes it
    /// before it goes on.
    pub fn take_part(&mut self) -> Option<Batch> {
        if !self.is_filling || self.bytes < PART {
            return None;
        }
        self.arrange();
        self.bytes = 0;
        Some(std::mem::take(&mut self.batch))
    }

    fn take_some(&mut self, tree: &mut Tree, limit: usize) {
        for _ in 0..limit.min(self.removed.len()) {
            let path = self.removed.pop_front().expect("counted");
            // If it is there again, it is among the changed nodes, or was taken since.
            if tree.find(&path).is_none() {
                self.taken.push((node_key(&path), None));
            }
        }
        let Self { taken, bytes, .. } = self;
        tree.take_changed(limit, |path, node| {
            let row = node_row(node);
            *bytes += path.len() + row.len();
            taken.push((node_key(path), Some(row)));
        });
    }

    /// Takes the rest and closes the batch: it makes the image the state of the tree as it is now. Under the
    /// same hold as the numbers it goes by; `anchor` must be what the tree has applied last.
    fn finish(mut self, tree: &mut Tree, server: i64, anchor: Anchor, fuzzy_until: Option<(Zxid, u64)>) -> Batch {
        self.removed.extend(tree.take_removed());
        while tree.unsaved() + self.removed.len() > 0 {
            self.take_some(tree, usize::MAX);
        }
        self.arrange();
        for (id, timeout) in tree.take_changed_sessions() {
            match timeout {
                Some(ms) => self.batch.put(session_key(id), Bytes::copy_from_slice(&ms.to_be_bytes())),
                None => self.batch.remove(session_key(id)),
            }
        }
        for (id, list) in tree.take_changed_acls() {
            match list {
                Some(list) => {
                    let mut out = BytesMut::new();
                    Writer::durable(&mut out).vector(Some(&list));
                    self.batch.put(acl_key(id), out);
                }
                None => self.batch.remove(acl_key(id)),
            }
        }
        let meta = Meta {
            server,
            anchor,
            digest: tree.keeps_digest().then(|| tree.digest()),
            fuzzy_until,
            sessions: tree.sessions().len() as u64,
            acls: tree.acl_table().iter().len() as u64,
            nodes: tree.node_count() as u64,
        };
        self.batch.put(vec![META], meta.encode());
        self.batch
    }
}

/// When to capture and when to flush. Owns no clock: `now_ms` is any clock that only goes forward.
pub struct Keeper {
    server: i64,
    /// Records that are durable and may not be applied yet, and those applied since the last batch.
    positions: VecDeque<Position>,
    anchor: Option<Anchor>,
    known: Vec<SnapshotId>,
    /// See [`Meta`].
    fuzzy_until: Option<(Zxid, u64)>,
    /// The image has no numbers yet.
    is_filling: bool,
    written_at: u64,
    /// How long the last batch took to collect and write.
    took_ms: u64,
    flushed_at: u64,
    unflushed_txns: u64,
    unflushed_bytes: u64,
    roll: Roll,
}

/// How long the image lags behind the tree at least, so that changes of one node fall together.
const WRITE_EVERY_MS: u64 = 250;
/// And how many times as long as the last write took: under load the image takes a tenth of one core, and
/// the longer it waits, the more changes fall together.
const REST: u64 = 9;
/// Nodes of a batch at most, before it is written whatever the load: its memory is ours.
const BATCH_NODES: usize = 100_000;
const BATCH_BYTES: usize = 64 << 20;
const FLUSH_EVERY_MS: u64 = 60_000;
/// What a start replays at most, besides what was logged since the last batch: about a third of a second.
const FLUSH_TXNS: u64 = 250_000;
const FLUSH_BYTES: u64 = 32 << 20;
/// After so long without a batch the store's memory is given back, if it holds so much.
const QUIET_MS: u64 = 2_000;
const QUIET_BYTES: u64 = 1 << 20;

impl Keeper {
    /// For the image that `recover` has used or emptied.
    pub fn new(server: i64, recovered: &super::Recovered, now_ms: u64) -> Self {
        Self {
            server,
            positions: recovered.tail_positions.iter().copied().collect(),
            anchor: recovered.anchor,
            known: recovered.known_snapshots.clone(),
            fuzzy_until: recovered.digest_check.fuzzy_until(),
            is_filling: !matches!(recovered.image, super::ImageState::Used { .. }),
            written_at: now_ms,
            took_ms: 0,
            flushed_at: now_ms,
            unflushed_txns: 0,
            unflushed_bytes: 0,
            roll: Roll::new(server),
        }
    }

    /// Takes note of where records stand, in their order: what `LogWriter::sync` reported. Must have been
    /// told before the tree applies them.
    pub fn on_durable(&mut self, records: &[Position]) {
        self.positions.extend(records);
    }

    /// The tree has applied everything up to `zxid`: where the last of it stands is all that counts of it.
    /// To be called often, so that the list stays short.
    pub fn on_applied(&mut self, zxid: Zxid) {
        let upto = self.positions.partition_point(|position| position.zxid <= zxid);
        if let Some(position) = upto.checked_sub(1).map(|last| self.positions[last]) {
            self.anchor = Some(Anchor::Record(position));
        }
        self.positions.drain(..upto);
        self.unflushed_txns += upto as u64;
    }

    /// When a batch is due next, with `unsaved` nodes that the image lacks, and so many bytes in them; at once for an
    /// image that is empty, or when the batch gets large.
    pub fn next_write(&self, unsaved: usize, bytes: usize) -> u64 {
        if self.is_filling || unsaved >= BATCH_NODES || bytes >= BATCH_BYTES {
            self.written_at
        } else {
            self.written_at + WRITE_EVERY_MS.max(self.took_ms * REST)
        }
    }

    pub fn begin(&self) -> Capture {
        Capture {
            taken: Vec::new(),
            batch: Batch::default(),
            removed: VecDeque::new(),
            chunks: 0,
            patience: PATIENCE,
            is_filling: self.is_filling,
            bytes: 0,
        }
    }

    /// Closes a capture under the hold of its last chunk. `None`, and the capture goes on later, if where the
    /// tree's last transaction stands is not known yet.
    pub fn finish(&mut self, capture: Capture, tree: &mut Tree) -> Result<Batch, Capture> {
        let applied = tree.last_zxid();
        self.on_applied(applied);
        // A leader's epoch begins at a zxid without a record.
        let stands = self.anchor.filter(|a| a.zxid() == applied || applied.counter() == 0 && a.zxid() < applied);
        let Some(anchor) = stands else { return Err(capture) };
        self.fuzzy_until = self.fuzzy_until.filter(|(until, _)| *until > applied);
        let mut batch = capture.finish(tree, self.server, anchor, self.fuzzy_until);
        put_known_snapshots(&mut batch, &self.known);
        Ok(batch)
    }

    /// After a batch was written, for which work began at `begun_ms`. True if the image must be flushed now.
    pub fn on_written(&mut self, bytes: u64, begun_ms: u64, now_ms: u64) -> bool {
        self.written_at = now_ms;
        self.took_ms = now_ms.saturating_sub(begun_ms);
        self.is_filling = false;
        self.unflushed_bytes += bytes;
        // Many came while it was written.
        self.positions.shrink_to(0);
        self.unflushed_txns >= self.roll.of(FLUSH_TXNS)
            || self.unflushed_bytes >= self.roll.of(FLUSH_BYTES)
            || self.is_flush_overdue(now_ms)
    }

    fn is_flush_overdue(&self, now_ms: u64) -> bool {
        self.unflushed_bytes > 0 && now_ms.saturating_sub(self.flushed_at) >= self.roll.of(FLUSH_EVERY_MS)
    }

    /// Whether a flush costs nobody anything, because writes have ceased.
    pub fn is_quiet(&self, now_ms: u64) -> bool {
        self.unflushed_bytes >= QUIET_BYTES && now_ms.saturating_sub(self.written_at) >= QUIET_MS
    }

    pub fn on_flushed(&mut self, now_ms: u64) {
        self.flushed_at = now_ms;
        self.unflushed_txns = 0;
        self.unflushed_bytes = 0;
        self.roll.again();
    }

    /// Everything behind `target` was cut from the log, and the tree holds nothing of it: what is logged there
    /// later stands elsewhere.
    pub fn on_truncated(&mut self, target: Zxid) {
        self.positions.retain(|position| position.zxid <= target);
    }

    /// The tree was read anew, from image or snapshot and log: it had held what was cut from the log. Captures
    /// of the old tree are void.
    pub fn on_reloaded(&mut self, recovered: &super::Recovered, now_ms: u64) {
        *self = Self::new(self.server, recovered, now_ms);
    }

    /// The tree was replaced as a whole: by what a leader sent, kept as this snapshot. The image must have
    /// been destroyed before.
    pub fn on_replaced(&mut self, snapshot: SnapshotId) {
        self.positions.clear();
        self.anchor = Some(Anchor::Snapshot(snapshot));
        self.known = vec![snapshot];
        self.fuzzy_until = None;
        self.is_filling = true;
        (self.unflushed_txns, self.unflushed_bytes) = (0, 0);
    }

    /// The image had failed, was emptied, and lacks all of the tree. Captures begun before are void.
    pub fn on_emptied(&mut self) {
        self.is_filling = true;
        (self.unflushed_txns, self.unflushed_bytes) = (0, 0);
    }

    /// Begins a snapshot file of the image's present state; `None` if there is one already. The image is
    /// flushed first, so that no start finds it behind the snapshot.
    pub fn begin_snapshot<I: Image>(
        &self,
        image: &I,
        compression: Compression,
    ) -> Result<Option<SnapshotJob<I::View>>, ImageError> {
        if let Some(Anchor::Snapshot(id)) = self.anchor
            && self.known.contains(&id)
        {
            return Ok(None);
        }
        image.flush()?;
        let view = image.view()?;
        let meta = meta(&view)?.ok_or(ImageError::Row("the numbers"))?;
        let name = SnapshotName { zxid: meta.anchor.zxid(), compression };
        if self.known.iter().any(|known| known.name.zxid == name.zxid) {
            return Ok(None);
        }
        Ok(Some(SnapshotJob { view, meta, name }))
    }

    /// Gives a snapshot its name. The image knows of it before: a start then finds both, or only the image.
    pub fn finish_snapshot(
        &mut self,
        image: &impl Image,
        disk: &impl super::Disk,
        id: SnapshotId,
    ) -> Result<(), SnapshotFailure> {
        self.known.push(id);
        let excess = self.known.len().saturating_sub(KNOWN_MAX);
        self.known.drain(..excess);
        let mut batch = Batch::default();
        put_known_snapshots(&mut batch, &self.known);
        image.write(&batch)?;
        image.flush()?;
        Ok(snapshots::publish(disk, &id)?)
    }
}

/// A snapshot file to be written: from a view, so that neither tree nor image wait for it.
pub struct SnapshotJob<V> {
    view: V,
    meta: Meta,
    pub name: SnapshotName,
}

impl<V: View> SnapshotJob<V> {
    /// Writes the file under its temporary name, durably. For [`Keeper::finish_snapshot`].
    pub fn write(&self, disk: &impl super::Disk, pace: Pace<'_>) -> Result<SnapshotId, super::DiskError> {
        let Self { view, meta, name } = self;
        snapshots::prepare(disk, *name, pace, |out| write_snapshot(view, meta, out, name.compression).map(|_| ()))
    }
}

/// A state of the image that is sent to a learner: from a view, so that neither tree nor image wait for it.
pub struct StreamJob<V> {
    view: V,
    meta: Meta,
}

impl<V: View> StreamJob<V> {
    /// The image's present state; `None` if it was never written.
    pub fn begin<I: Image<View = V>>(image: &I) -> Result<Option<Self>, ImageError> {
        let view = image.view()?;
        Ok(meta(&view)?.map(|meta| Self { view, meta }))
    }

    /// What the SNAP packet says.
    pub fn zxid(&self) -> Zxid {
        self.meta.anchor.zxid()
    }

    pub fn write(&self, out: impl Write) -> io::Result<()> {
        write_stream(&self.view, &self.meta, out).map(|_| ())
    }
}

/// Why a snapshot could not be written. The server goes on without it, and says so.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum SnapshotFailure {
    #[error(transparent)]
    Image(#[from] ImageError),
    #[error(transparent)]
    Disk(#[from] super::DiskError),
}
