//! Java's snapshot: the whole tree as one stream, sealed three times by a checksum over all bytes before.
//!
//! Read: every seal must hold, nothing may follow, and which sections follow the nodes is decided by the
//! bytes that are left, not by a setting as in Java, whose server refuses its own files when a switch has
//! moved. Written: always both sections, and the state of exactly one transaction, so that file name, digest
//! and last-zxid section agree.
//!
//! Java: `FileSnap`, `SerializeUtils`, `DataTree.serialize`, `SnapStream`; on-disk 3.

use std::collections::HashSet;
use std::io::{self, Read, Write};

use bytes::{Buf, Bytes, BytesMut};
use jute::Writer as JuteWriter;
use jute::records::data::StatPersisted;
use simd_adler32::Adler32;

use super::body::{Parser, TERMINATOR};
use super::load::kind;
use super::{LoadError, Tree, TreeRules};
use crate::acl::Acl;
use crate::id::{SessionId, Zxid};
use crate::path::{ALWAYS_STORED, ROOT};
use crate::txn::DIGEST_VERSION;

pub use super::body::{Body, Target};

const MAGIC: [u8; 4] = *b"ZKSN";
const VERSION: i32 = 2;
const DBID: i64 = -1;
/// A checksum, and what ends the nodes too.
const SEAL_LEN: usize = 13;
const DIGEST_LEN: usize = 20;
const LAST_ZXID_LEN: usize = 8;

/// How a snapshot file is packed; its name says which (`zookeeper.snapshot.compression.method`).
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Compression {
    #[default]
    Plain,
    Gz,
    Snappy,
}

impl Compression {
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Gz => ".gz",
            Self::Snappy => ".snappy",
        }
    }
}

/// Why a stream is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    #[error("it ends early, within {0}")]
    Short(&'static str),
    #[error("the magic number is {0:#x}")]
    BadMagic(u32),
    #[error("{0} is null or malformed")]
    Malformed(&'static str),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("seal {number} is {stored:#x}, the bytes before it sum to {actual:#x}")]
    Seal { number: u8, stored: u64, actual: u32 },
    #[error("{0} bytes follow the nodes, which no sections have")]
    Trailing(usize),
    #[error("reading it fails: {0}")]
    Io(#[from] io::Error),
}

impl SnapshotError {
    /// A writer that was stopped leaves this behind, and nothing else.
    pub fn is_torn(&self) -> bool {
        match self {
            Self::Short(_) => true,
            Self::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            // A part of the sections, which end with a seal.
            Self::Trailing(left) => *left < DIGEST_LEN + SEAL_LEN + LAST_ZXID_LEN + SEAL_LEN,
            _ => false,
        }
    }
}

/// The digest section: the tree's digest after the transaction `zxid`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DigestSection {
    pub zxid: Zxid,
    pub version: i32,
    pub digest: u64,
}

/// What stands in a snapshot besides sessions, lists and nodes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sections {
    pub digest: Option<DigestSection>,
    /// Since 3.9.0.
    pub last_zxid: Option<Zxid>,
    /// The last seal.
    pub seal: u32,
}

impl Sections {
    /// Whether the nodes may be of later transactions than those up to `zxid`, which the file is named after: Java writes
    /// them while it goes on. Before 3.6 a file does not say.
    pub fn may_be_ahead_of(&self, zxid: Zxid) -> bool {
        let said = self.last_zxid.max(self.known_digest().map(|digest| digest.zxid));
        said.is_none_or(|said| said > zxid)
    }

    /// The digest, unless it says "none known" (zxid 0, digest 0) or is of another version.
    pub fn known_digest(&self) -> Option<DigestSection> {
        self.digest.filter(|d| d.version == DIGEST_VERSION && (d.zxid, d.digest) != (Zxid::ZERO, 0))
    }
}

/// Only checks: what [`Loader`](super::Loader) would refuse, at 8 bytes per node. Owners are judged by the default rules, the
/// strictest.
#[derive(Default)]
pub struct Verifier {
    sessions: HashSet<SessionId>,
    acls: HashSet<i64>,
    nodes: HashSet<u64>,
    /// The first node whose list was not in the table: to be judged by what else the file says.
    unlisted: Option<LoadError>,
    pub node_count: u64,
}

impl Verifier {
    fn hash(path: &str) -> u64 {
        use std::hash::{BuildHasher, Hasher};
        let mut hasher = foldhash::quality::FixedState::default().build_hasher();
        hasher.write(path.as_bytes());
        hasher.finish()
    }

    pub fn take_unlisted(&mut self) -> Option<LoadError> {
        self.unlisted.take()
    }

    /// What is missing is known only at the end.
    pub fn finish(self) -> Result<(), LoadError> {
        let missing = ALWAYS_STORED.into_iter().find(|path| !self.nodes.contains(&Self::hash(path)));
        missing.map_or(Ok(()), |path| Err(LoadError::MissingBuiltIn(path)))
    }
}

impl Target for Verifier {
    fn session(&mut self, id: SessionId, _: i32) {
        self.sessions.insert(id);
    }

    fn acl(&mut self, id: i64, _: Vec<Acl>) -> Result<(), LoadError> {
        if super::acls::may_be_id(id) && self.acls.insert(id) { Ok(()) } else { Err(LoadError::AclId(id)) }
    }

    fn node(&mut self, path: &str, _: Option<&[u8]>, acl_id: i64, stat: StatPersisted) -> Result<(), LoadError> {
        self.node_count += 1;
        if acl_id != super::acls::OPEN_ID && !self.acls.contains(&acl_id) {
            if !super::acls::may_be_id(acl_id) {
                return Err(LoadError::AclId(acl_id));
            }
            self.unlisted.get_or_insert_with(|| LoadError::MissingAcl { path: path.into(), id: acl_id });
        }
        kind(path, stat.ephemeral_owner, &TreeRules::default(), |id| self.sessions.contains(&id))?;
        let path = if path.is_empty() { ROOT } else { path };
        let parent = crate::path::split_stored(path).map_err(|_| LoadError::MissingParent(path.into()))?;
        if path != ROOT && !self.nodes.contains(&Self::hash(parent)) {
            return Err(LoadError::MissingParent(path.into()));
        }
        if self.nodes.insert(Self::hash(path)) { Ok(()) } else { Err(LoadError::Duplicate(path.into())) }
    }
}

/// Reads a whole snapshot into `target`. What `target` took counts only if this succeeds.
pub fn read(stream: impl Read, compression: Compression, target: &mut impl Target) -> Result<Sections, SnapshotError> {
    match compression {
        Compression::Plain => read_plain(stream, target),
        // Of many members, so that bytes behind the first are not passed over.
        Compression::Gz => read_plain(flate2::read::MultiGzDecoder::new(stream), target),
        Compression::Snappy => read_plain(SnappyReader::new(stream), target),
    }
}

fn read_plain(stream: impl Read, target: &mut impl Target) -> Result<Sections, SnapshotError> {
    let mut input = Input::new(stream);
    let mut head = input.take(16, "the header")?;
    let magic = head.get_u32();
    if magic != u32::from_be_bytes(MAGIC) {
        return Err(SnapshotError::BadMagic(magic));
    }
    let mut body = Parser::new(usize::MAX);
    loop {
        let used = body.feed(&input.buffer, target)?;
        input.pass(used);
        if body.is_done() {
            break;
        }
        if input.more()? == 0 {
            return Err(SnapshotError::Short(body.wanted()));
        }
    }
    read_sections(input)
}

/// Seal 1 and what follows: nothing (3.5), the digest section (3.6), the last zxid too (3.9), or it alone
/// (3.9 with digests off).
fn read_sections(mut input: Input<impl Read>) -> Result<Sections, SnapshotError> {
    let mut sections = Sections { seal: input.seal(1)?, ..Sections::default() };
    let mut left = input.left()?;
    const ONLY_LAST_ZXID: usize = LAST_ZXID_LEN + SEAL_LEN;
    if left > ONLY_LAST_ZXID {
        let mut head = input.take(12, "the digest section")?;
        let (zxid, version) = (Zxid(head.get_i64()), head.get_i32());
        // Versions before 2 wrote hexadecimal text.
        let digest = match version {
            ..DIGEST_VERSION => {
                let len = input.take(4, "the digest")?.get_i32();
                input.take(usize::try_from(len).unwrap_or(0), "the digest")?;
                0
            }
            _ => input.take(DIGEST_LEN - 12, "the digest section")?.get_u64(),
        };
        sections.digest = Some(DigestSection { zxid, version, digest });
        sections.seal = input.seal(2)?;
        left = input.left()?;
    }
    if left == ONLY_LAST_ZXID {
        sections.last_zxid = Some(Zxid(input.take(LAST_ZXID_LEN, "the last-zxid section")?.get_i64()));
        sections.seal = input.seal(3)?;
        left = input.left()?;
    }
    if left == 0 { Ok(sections) } else { Err(SnapshotError::Trailing(left)) }
}

/// The stream, with the checksum of all that was taken from it.
struct Input<R> {
    stream: R,
    buffer: BytesMut,
    sum: Adler32,
}

const CHUNK: usize = 256 * 1024;

impl<R: Read> Input<R> {
    fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new(), sum: Adler32::new() }
    }

    /// Reads another piece. Grows by what is really there, 0 at the end of the stream.
    fn more(&mut self) -> Result<usize, SnapshotError> {
        let from = self.buffer.len();
        self.buffer.resize(from + CHUNK, 0);
        let read = loop {
            match self.stream.read(&mut self.buffer[from..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(from + *read.as_ref().unwrap_or(&0));
        Ok(read?)
    }

    /// Reads on until the buffer holds `len` bytes or the stream ends.
    fn fill(&mut self, len: usize) -> Result<(), SnapshotError> {
        while self.buffer.len() < len && self.more()? > 0 {}
        Ok(())
    }

    /// What was read from the front of the buffer, in place.
    fn pass(&mut self, len: usize) {
        self.sum.write(&self.buffer[..len]);
        self.buffer.advance(len);
    }

    fn take(&mut self, len: usize, what: &'static str) -> Result<Bytes, SnapshotError> {
        self.fill(len)?;
        if self.buffer.len() < len {
            return Err(SnapshotError::Short(what));
        }
        let bytes = self.buffer.split_to(len).freeze();
        self.sum.write(&bytes);
        Ok(bytes)
    }

    fn seal(&mut self, number: u8) -> Result<u32, SnapshotError> {
        let actual = self.sum.finish();
        let mut seal = self.take(SEAL_LEN, "a seal")?;
        let stored = seal.get_u64();
        if stored != u64::from(actual) {
            return Err(SnapshotError::Seal { number, stored, actual });
        }
        if seal[..] != TERMINATOR {
            return Err(SnapshotError::Malformed("the end of a seal"));
        }
        Ok(actual)
    }

    /// How many bytes are left, as far as it matters: sections are short.
    fn left(&mut self) -> Result<usize, SnapshotError> {
        self.fill(CHUNK)?;
        Ok(self.buffer.len())
    }
}

/// Writes a snapshot file.
pub struct Writer<W: Write> {
    out: Packer<W>,
    buffer: BytesMut,
    sum: Adler32,
}

impl<W: Write> Body for Writer<W> {
    fn put(&mut self, write: impl FnOnce(&mut JuteWriter<'_>)) -> io::Result<()> {
        write(&mut JuteWriter::durable(&mut self.buffer));
        if self.buffer.len() >= CHUNK / 2 { self.drain() } else { Ok(()) }
    }
}

impl<W: Write> Writer<W> {
    pub fn new(out: W, compression: Compression) -> io::Result<Self> {
        let out = match compression {
            Compression::Plain => Packer::Plain(out),
            Compression::Gz => Packer::Gz(flate2::write::GzEncoder::new(out, flate2::Compression::default())),
            Compression::Snappy => Packer::Snappy(SnappyWriter::new(out)?),
        };
        let mut writer = Self { out, buffer: BytesMut::with_capacity(CHUNK), sum: Adler32::new() };
        writer.put(|w| {
            w.raw(&MAGIC);
            w.int(VERSION);
            w.long(DBID);
        })?;
        Ok(writer)
    }

    fn drain(&mut self) -> io::Result<()> {
        self.sum.write(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    fn seal(&mut self) -> io::Result<u32> {
        self.drain()?;
        let seal = self.sum.finish();
        self.put(|w| {
            w.long(seal.into());
            w.raw(&TERMINATOR);
        })?;
        Ok(seal)
    }

    /// Seals the nodes and writes both sections. Returns the last seal and what was written to.
    pub fn finish(mut self, digest: DigestSection, last_zxid: Zxid) -> io::Result<(u32, W)> {
        self.put(|w| w.raw(&TERMINATOR))?;
        self.seal()?;
        self.put(|w| {
            w.long(digest.zxid.0);
            w.int(digest.version);
            w.long(digest.digest as i64);
        })?;
        self.seal()?;
        self.put(|w| w.long(last_zxid.0))?;
        let seal = self.seal()?;
        self.drain()?;
        Ok((seal, self.out.finish()?))
    }
}

/// Writes the snapshot of a tree as it is now. Returns the last seal and what was written to.
pub fn write_tree<W: Write>(tree: &Tree, out: W, compression: Compression) -> io::Result<(u32, W)> {
    let mut writer = Writer::new(out, compression)?;
    writer.tree(tree)?;
    let digest = tree.keeps_digest().then(|| tree.digest());
    writer.finish(digest_section(tree.last_zxid(), digest), tree.last_zxid())
}

/// The digest section of a state: "none known" if it is not, and for a fresh database, as Java has it.
pub fn digest_section(zxid: Zxid, digest: Option<u64>) -> DigestSection {
    match digest {
        Some(digest) if zxid > Zxid::ZERO => DigestSection { zxid, version: DIGEST_VERSION, digest },
        _ => DigestSection { zxid: Zxid::ZERO, version: DIGEST_VERSION, digest: 0 },
    }
}

enum Packer<W: Write> {
    Plain(W),
    Gz(flate2::write::GzEncoder<W>),
    Snappy(SnappyWriter<W>),
}

impl<W: Write> Packer<W> {
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.write_all(bytes),
            Self::Gz(out) => out.write_all(bytes),
            Self::Snappy(out) => out.write_all(bytes),
        }
    }

    fn finish(self) -> io::Result<W> {
        let mut out = match self {
            Self::Plain(out) => out,
            Self::Gz(out) => out.finish()?,
            Self::Snappy(out) => out.finish()?,
        };
        out.flush()?;
        Ok(out)
    }
}

// snappy-java's own framing, not the standard one: a header, then blocks with their lengths (on-disk 3.3).
const SNAPPY_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK: usize = 32 * 1024;
/// The header's first four bytes, where a block's length would stand.
const SNAPPY_MARK: u32 = u32::from_be_bytes([0x82, b'S', b'N', b'A']);
/// No writer makes blocks that unpack to more.
const SNAPPY_BLOCK_MAX: usize = 512 * 1024 * 1024;
/// What three bytes of a block unpack to at most: a copy of 64.
const SNAPPY_COPY: (usize, usize) = (3, 64);

struct SnappyWriter<W> {
    out: W,
    block: Vec<u8>,
}

impl<W: Write> SnappyWriter<W> {
    fn new(mut out: W) -> io::Result<Self> {
        out.write_all(&SNAPPY_HEADER)?;
        Ok(Self { out, block: Vec::with_capacity(SNAPPY_BLOCK) })
    }

    fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let (now, later) = bytes.split_at(bytes.len().min(SNAPPY_BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            bytes = later;
            if self.block.len() == SNAPPY_BLOCK {
                self.write_block()?;
            }
        }
        Ok(())
    }

    fn write_block(&mut self) -> io::Result<()> {
        let packed = snap::raw::Encoder::new().compress_vec(&self.block).map_err(io::Error::other)?;
        self.out.write_all(&(packed.len() as u32).to_be_bytes())?;
        self.out.write_all(&packed)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.block.is_empty() {
            self.write_block()?;
        }
        Ok(self.out)
    }
}

struct SnappyReader<R> {
    stream: R,
    started: bool,
    block: Bytes,
}

impl<R: Read> SnappyReader<R> {
    fn new(stream: R) -> Self {
        Self { stream, started: false, block: Bytes::new() }
    }

    /// Unpacks the next block; false at the end of the stream.
    fn next_block(&mut self) -> io::Result<bool> {
        let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        loop {
            let mut len = [0; 4];
            let mut first = self.stream.by_ref().take(4);
            let read = io::copy(&mut first, &mut &mut len[..])?;
            if read == 0 && self.started {
                return Ok(false);
            }
            if read < 4 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let len = u32::from_be_bytes(len);
            // A writer that appends to a stream writes the header again.
            if len == SNAPPY_MARK {
                let mut rest = [0; 12];
                self.stream.read_exact(&mut rest)?;
                if rest != SNAPPY_HEADER[4..] {
                    return Err(bad("an unknown snappy header"));
                }
                self.started = true;
                continue;
            }
            if !self.started {
                return Err(bad("no snappy header"));
            }
            let mut packed = Vec::new();
            self.stream.by_ref().take(len.into()).read_to_end(&mut packed)?;
            if packed.len() < len as usize {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let size = snap::raw::decompress_len(&packed).map_err(io::Error::other)?;
            // The size is only claimed, and is set aside before the block is unpacked.
            let possible = packed.len() / SNAPPY_COPY.0 * SNAPPY_COPY.1 + SNAPPY_COPY.1;
            if size > possible.min(SNAPPY_BLOCK_MAX) {
                return Err(bad("a snappy block of unreasonable size"));
            }
            self.block = snap::raw::Decoder::new().decompress_vec(&packed).map_err(io::Error::other)?.into();
            if !self.block.is_empty() {
                return Ok(true);
            }
        }
    }
}

impl<R: Read> Read for SnappyReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() && !self.next_block()? {
            return Ok(0);
        }
        let len = out.len().min(self.block.len());
        self.block.copy_to_slice(&mut out[..len]);
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::BUILT_IN;
    use crate::tree::Loader;

    /// A snapshot of nodes without data, each with an owner.
    fn snapshot_of(nodes: &[(&str, i64)]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), Compression::Plain).unwrap();
        writer.count(0).unwrap();
        writer.count(0).unwrap();
        for (path, owner) in nodes {
            let stat = StatPersisted { ephemeral_owner: *owner, ..StatPersisted::default() };
            writer.node(path, None, crate::tree::acls::OPEN_ID, &stat).unwrap();
        }
        writer.finish(digest_section(Zxid::ZERO, None), Zxid::ZERO).unwrap().1
    }

    #[test]
    fn a_snappy_block_is_not_believed_what_it_cannot_hold() {
        let unpack = |block: &[u8]| {
            let len = (block.len() as u32).to_be_bytes();
            let mut out = Vec::new();
            SnappyReader::new(&[&SNAPPY_HEADER[..], &len, block].concat()[..]).read_to_end(&mut out).map(|_| out)
        };
        // 1 MiB in five bytes; then as many of one byte as a block can hold.
        let error = unpack(b"\x80\x80\x40\0A").unwrap_err();
        assert_eq!(error.to_string(), "a snappy block of unreasonable size");
        let many = vec![b'A'; SNAPPY_BLOCK];
        let packed = snap::raw::Encoder::new().compress_vec(&many).unwrap();
        assert!(packed.len() * 20 < many.len());
        assert_eq!(unpack(&packed).unwrap(), many);
    }

    /// What a purge counts as a snapshot must be one that a start takes.
    #[test]
    fn the_verifier_refuses_what_the_loader_refuses() {
        #[track_caller]
        fn check(nodes: &[(&str, i64)], refusal: Option<LoadError>) {
            let file = snapshot_of(nodes);
            let mut loader = Loader::new(TreeRules::default());
            let loaded = read(&file[..], Compression::Plain, &mut loader)
                .and_then(|_| loader.finish(Zxid::ZERO).map(|_| ()).map_err(SnapshotError::from));
            let mut verifier = Verifier::default();
            let verified = read(&file[..], Compression::Plain, &mut verifier)
                .and_then(|_| verifier.finish().map_err(SnapshotError::from));
            let text = refusal.map(|refusal| refusal.to_string());
            assert_eq!(loaded.err().map(|error| error.to_string()), text);
            assert_eq!(verified.err().map(|error| error.to_string()), text);
        }
        let owner = 0xffff_0000_0000_0000_u64 as i64;
        let built_in = BUILT_IN.map(|path| (path, 0));
        check(&built_in, None);
        // From 3.4, and never asked for since.
        check(&built_in[..3], None);
        check(&built_in[..2], Some(LoadError::MissingBuiltIn(BUILT_IN[2])));
        check(&[("/", owner)], Some(LoadError::InvalidOwner { path: String::new(), owner }));
        let with = |path, owner| [&built_in[..], &[(path, owner)]].concat();
        check(&with("/a", owner), Some(LoadError::InvalidOwner { path: "/a".into(), owner }));
        check(&with("/a", 7), None);
        check(&with("/a/b", 0), Some(LoadError::MissingParent("/a/b".into())));
        check(&with("/a/", 0), Some(LoadError::MissingParent("/a/".into())));
        check(&with("//a", 0), Some(LoadError::MissingParent("//a".into())));
        check(&with("//", 0), Some(LoadError::MissingParent("//".into())));
        check(&with("/zookeeper", 0), Some(LoadError::Duplicate("/zookeeper".into())));
    }
}
