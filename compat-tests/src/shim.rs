//! A look over the server's shoulder: a library loaded into the process (`shim/shim.c`) writes down in one
//! order what it does to its log and what it says to its clients, and lets the disk fail, hang or lie.
//!
//! From the trace follows what was promised too early: [`Trace::judge`] knows of each record when a completed
//! sync covered it and the name of its file, and reads the zxid out of every reply. And it follows what a
//! power cut may leave: [`Trace::cut_power`] takes away sectors that no completed sync covers.
//!
//! The library is part of the test. It is built with `cc`, and a server that was not linked with the C
//! library dynamically would not be seen; the tests notice, since a trace without replies proves nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Buf;

use crate::Setup;
use crate::random::Random;

/// Sparse, so what is not written costs nothing.
const TRACE_BYTES: u64 = 512 << 20;
/// The page of switches before the records.
const HEAD_BYTES: u64 = 4096;
/// A record without its payload.
const RECORD_BYTES: usize = 32;
const SECTOR: usize = 512;

/// Syncs that a disk may leave out though it says that they are done, or may take for ever to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Syncs {
    /// Of logs.
    Data = 1,
    /// Of their directory.
    Directory = 2,
}

/// What shall fail once, with EIO.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failing {
    Sync = 24,
    Write = 28,
    DirectorySync = 32,
}

/// Offsets of the other switches.
const FULL: u64 = 8;
const LIE: u64 = 12;
const HANG: u64 = 16;
const HUNG: u64 = 20;

/// The library, and the trace of one server at a time.
pub struct Shim {
    directory: PathBuf,
    file: File,
    room: u64,
    /// What files that outlive a process held before it began.
    before: BTreeMap<String, Vec<u8>>,
}

impl Shim {
    pub fn new() -> Self {
        Self::with_room(TRACE_BYTES)
    }

    /// The switches alone: nothing is written down.
    pub fn without_trace() -> Self {
        Self::with_room(HEAD_BYTES)
    }

    fn with_room(room: u64) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("zooid-shim-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("cannot create the shim's directory");
        let path = directory.join("trace");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
        let file = file.expect("cannot create the shim's trace");
        let mut shim = Self { directory, file, room, before: BTreeMap::new() };
        shim.begin(None);
        shim
    }

    /// The setup of a server that is watched.
    pub fn watch(&self, setup: &Setup) -> Setup {
        self.environment().into_iter().fold(setup.clone(), |setup, (key, value)| setup.environment(key, &value))
    }

    /// What the environment of a process says that is watched.
    pub fn environment(&self) -> [(&'static str, String); 2] {
        let library = library().to_str().expect("the target directory has a name in UTF-8");
        let trace = self.directory.join("trace");
        let trace = trace.to_str().expect("the temporary directory has a name in UTF-8");
        [("LD_PRELOAD", library.into()), ("ZOOID_SHIM_TRACE", trace.into())]
    }

    /// An empty trace and no switch set, while no server writes to it.
    pub fn begin(&mut self, data_dir: Option<&Path>) {
        let made = self.file.set_len(0).and_then(|()| self.file.set_len(self.room));
        made.expect("cannot make room for the trace");
        self.file.write_all_at(&HEAD_BYTES.to_le_bytes(), 0).expect("cannot write to the trace");
        self.before.clear();
        let mark = data_dir.map(|dir| dir.join("version-2/durable.zooid"));
        if let Some(path) = mark
            && let Ok(bytes) = fs::read(&path)
        {
            self.before.insert(path.to_str().expect("a path in UTF-8").to_owned(), bytes);
        }
    }

    /// Such syncs are not done, though they succeed.
    pub fn lie(&self, syncs: Syncs) {
        self.switch(LIE, syncs as u32);
    }

    /// The `nth` such act from now fails.
    pub fn fail(&self, what: Failing, nth: u32) {
        self.switch(what as u64, nth);
    }

    /// No such sync is done until [`let_go`](Self::let_go).
    pub fn hang(&self, syncs: Syncs) {
        self.switch(HANG, syncs as u32);
    }

    pub fn let_go(&self) {
        self.switch(HANG, 0);
    }

    /// Waits until a sync hangs; false if none does.
    pub fn wait_for_hung(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.read_switch(HUNG) == 0 {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        true
    }

    fn switch(&self, offset: u64, value: u32) {
        self.file.write_all_at(&value.to_le_bytes(), offset).expect("cannot write to the trace");
    }

    fn read_switch(&self, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, offset).expect("cannot read the trace");
        u32::from_le_bytes(bytes)
    }

    /// What the server did so far.
    pub fn trace(&self) -> Trace {
        assert!(self.read_switch(FULL) == 0, "the trace of {TRACE_BYTES} bytes is full");
        let mut end = [0; 8];
        self.file.read_exact_at(&mut end, 0).expect("cannot read the trace");
        let mut bytes = vec![0; (u64::from_le_bytes(end) - HEAD_BYTES) as usize];
        self.file.read_exact_at(&mut bytes, HEAD_BYTES).expect("cannot read the trace");
        let mut trace = Trace::default();
        trace.files.extend(self.before.iter().map(|(path, held)| {
            (path.clone(), FileTrace { synced: held.clone(), named: Some(0), known: true, ..FileTrace::default() })
        }));
        let mut at = 0;
        while at < bytes.len() {
            let event = Event::parse(at as u64 + HEAD_BYTES, &bytes[at..]);
            at += event.size;
            trace.take(&event);
        }
        trace
    }
}

impl Default for Shim {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The library, built once for this test process.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a file");
        let directory = test.parent().expect("and the file a directory");
        let library = directory.join(format!("zooid-shim-{}.so", std::process::id()));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("shim/shim.c");
        let built = Command::new("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .unwrap_or_else(|e| panic!("cannot run cc, which builds {}: {e}", source.display()));
        let errors = String::from_utf8_lossy(&built.stderr);
        assert!(built.status.success(), "cc refuses {}:\n{errors}", source.display());
        // One name for all test processes, taken over in one step.
        let shared = directory.join("zooid-shim.so");
        fs::rename(&library, &shared).expect("cannot name the shim");
        shared
    })
}

/// One record of the trace.
struct Event<'a> {
    /// Where it stands, which is its place in time.
    at: u64,
    size: usize,
    kind: u32,
    fd: i32,
    /// Of the call; `None` when the process ended before it returned.
    result: Option<i64>,
    offset: u64,
    payload: &'a [u8],
}

mod kind {
    pub const OPEN: u32 = 1;
    pub const WRITE: u32 = 2;
    pub const WRITTEN: u32 = 3;
    pub const SYNC: u32 = 4;
    pub const SYNCED: u32 = 5;
    pub const DIR_SYNC: u32 = 6;
    pub const DIR_SYNCED: u32 = 7;
    pub const SEND: u32 = 8;
    pub const ACCEPT: u32 = 9;
    pub const CLOSE: u32 = 10;
    pub const TRUNCATE: u32 = 11;
    pub const UNLINK: u32 = 12;
    pub const FAILED: u32 = 13;
}

impl<'a> Event<'a> {
    fn parse(at: u64, bytes: &'a [u8]) -> Self {
        let mut head = &bytes[..RECORD_BYTES];
        let size = head.get_u32_le() as usize;
        let kind = head.get_u32_le();
        let fd = head.get_i32_le();
        let length = head.get_u32_le() as usize;
        let result = Some(head.get_i64_le()).filter(|result| *result != i64::MIN);
        let offset = head.get_u64_le();
        Self { at, size, kind, fd, result, offset, payload: &bytes[RECORD_BYTES..RECORD_BYTES + length] }
    }
}

/// What a watched server did, and which of its promises came too early.
#[derive(Default)]
pub struct Trace {
    files: BTreeMap<String, FileTrace>,
    descriptors: HashMap<i32, Descriptor>,
    /// Log records in the order of the log, those that are durable taken away from the front.
    records: VecDeque<LogRecord>,
    /// Everything up to this zxid is durable; `None` before the first record.
    durable: Option<i64>,
    /// The highest zxid that a reply has shown.
    shown: i64,
    /// Sessions that were answered without a record of their making: they were there before, or else.
    attached: BTreeSet<i64>,
    /// Syncs of the directory that have begun: where.
    dir_syncs: BTreeSet<u64>,
    /// Where the first failure was injected.
    failed: Option<u64>,
    replies: usize,
    violations: Vec<String>,
}

/// What a trace proves.
#[derive(Debug)]
pub struct Judgement {
    /// Replies that were compared with the log.
    pub replies: usize,
    /// Log files that were begun.
    pub files: usize,
    /// What was promised before it was durable.
    pub violations: Vec<String>,
}

enum Descriptor {
    /// Of a log or a mark, by path.
    File(String),
    Client(Stream),
}

/// What was sent on a connection and is no whole frame.
#[derive(Default)]
struct Stream {
    bytes: Vec<u8>,
    /// How much of a frame that was read already is still to come.
    skip: usize,
    frames: usize,
    /// A four-letter word's answer.
    is_text: bool,
}

struct LogRecord {
    zxid: i64,
    path: String,
    /// Where it ends.
    end: u64,
    /// The session that it makes.
    makes: Option<i64>,
}

#[derive(Default)]
struct FileTrace {
    /// What a completed sync covers.
    synced: Vec<u8>,
    writes: Vec<Written>,
    /// Begun syncs: where, and that they have ended.
    syncs: BTreeSet<u64>,
    created: u64,
    /// Where the directory's sync ended that covers its name.
    named: Option<u64>,
    /// All that it holds was written while we watched, or before and is known.
    known: bool,
    /// The log's bytes in the order of writing, from `parsed` on.
    unparsed: Vec<u8>,
    parsed: u64,
    is_removed: bool,
}

/// A write that no sync covers yet.
struct Written {
    at: u64,
    offset: usize,
    bytes: Vec<u8>,
    /// Where it was over.
    done: Option<u64>,
}

impl Trace {
    pub fn judge(&self) -> Judgement {
        Judgement {
            replies: self.replies,
            files: self.files.iter().filter(|(path, file)| is_log(path) && file.known).count(),
            violations: self.violations.clone(),
        }
    }

    /// Whether something failed as it was told to.
    pub fn has_failed(&self) -> bool {
        self.failed.is_some()
    }

    fn take(&mut self, event: &Event) {
        match event.kind {
            kind::OPEN => self.on_open(event),
            kind::CLOSE => _ = self.descriptors.remove(&event.fd),
            kind::ACCEPT => _ = self.descriptors.insert(event.fd, Descriptor::Client(Stream::default())),
            kind::WRITE => self.on_write(event),
            kind::WRITTEN => {
                if let Some(file) = self.file(event.fd)
                    && let Some(write) = file.writes.iter_mut().find(|write| write.at == event.offset)
                    && event.result == Some(write.bytes.len() as i64)
                {
                    write.done = Some(event.at);
                }
            }
            kind::SYNC => {
                if let Some(file) = self.file(event.fd) {
                    file.syncs.insert(event.at);
                }
            }
            kind::SYNCED if event.result == Some(0) => {
                if let Some(file) = self.file(event.fd) {
                    file.on_synced(event.offset);
                    self.advance();
                }
            }
            kind::DIR_SYNC => _ = self.dir_syncs.insert(event.at),
            kind::DIR_SYNCED if event.result == Some(0) => {
                for file in self.files.values_mut().filter(|file| file.created < event.offset) {
                    file.named.get_or_insert(event.at);
                }
                self.advance();
            }
            kind::SEND => self.on_send(event),
            kind::TRUNCATE => {
                if let Some(file) = self.file(event.fd) {
                    // Repairs of a start, and the probe for room: never of what is judged.
                    file.known = false;
                }
            }
            kind::UNLINK => {
                let path = String::from_utf8_lossy(event.payload).into_owned();
                if let Some(file) = self.files.get_mut(&path) {
                    file.is_removed = true;
                }
            }
            kind::FAILED => _ = self.failed.get_or_insert(event.at),
            _ => {}
        }
    }

    fn file(&mut self, fd: i32) -> Option<&mut FileTrace> {
        match self.descriptors.get(&fd) {
            Some(Descriptor::File(path)) => self.files.get_mut(path),
            _ => None,
        }
    }

    fn on_open(&mut self, event: &Event) {
        const O_CREAT: u64 = 0o100;
        const O_TRUNC: u64 = 0o1000;
        let path = String::from_utf8_lossy(event.payload).into_owned();
        if !is_log(&path) && !path.ends_with("/durable.zooid") {
            return;
        }
        let made = event.offset & O_TRUNC != 0 || event.offset & O_CREAT != 0 && !self.files.contains_key(&path);
        if made {
            let file = FileTrace { created: event.at, known: true, ..FileTrace::default() };
            self.files.insert(path.clone(), file);
        }
        self.files.entry(path.clone()).or_default();
        self.descriptors.insert(event.fd, Descriptor::File(path));
    }

    fn on_write(&mut self, event: &Event) {
        let Some(Descriptor::File(path)) = self.descriptors.get(&event.fd) else { return };
        let path = path.clone();
        let file = self.files.get_mut(&path).expect("an open file is known");
        let offset = event.offset;
        let bytes = event.payload.to_vec();
        file.writes.push(Written { at: event.at, offset: offset as usize, bytes, done: None });
        if !is_log(&path) || !file.known {
            return;
        }
        // The log grows at its end, and so in the order of zxids.
        assert_eq!(offset, file.parsed + file.unparsed.len() as u64, "a write to {path} that is not at its end");
        file.unparsed.extend_from_slice(event.payload);
        for record in file.parse(&path) {
            if record.zxid <= self.shown {
                let zxid = record.zxid;
                self.violations.push(format!("0x{zxid:x} was shown before its record was written"));
            }
            if let Some(session) = record.makes
                && self.attached.contains(&session)
            {
                self.violations.push(format!("session 0x{session:x} was answered before its record was written"));
            }
            self.durable.get_or_insert(record.zxid - 1);
            self.records.push_back(record);
        }
    }

    /// Takes note of records that are durable now.
    fn advance(&mut self) {
        while let Some(record) = self.records.front() {
            let file = &self.files[&record.path];
            if file.synced.len() < record.end as usize || file.named.is_none() {
                return;
            }
            self.durable = Some(record.zxid);
            self.records.pop_front();
        }
    }

    fn on_send(&mut self, event: &Event) {
        let Some(Descriptor::Client(stream)) = self.descriptors.get_mut(&event.fd) else { return };
        // A send that was cut off by the end may have left as a whole.
        let sent = event.result.map_or(event.payload.len(), |result| result.max(0) as usize);
        let replies = stream.take(&event.payload[..sent]);
        for reply in replies {
            self.replies += 1;
            match reply {
                Sent::Session(session) => self.on_session_answered(session),
                Sent::Zxid(zxid) => self.on_shown(zxid),
            }
        }
    }

    fn on_session_answered(&mut self, session: i64) {
        match self.records.iter().find(|record| record.makes == Some(session)) {
            Some(record) => self
                .violations
                .push(format!("session 0x{session:x} was answered before its record 0x{:x} was durable", record.zxid)),
            None => _ = self.attached.insert(session),
        }
    }

    fn on_shown(&mut self, zxid: i64) {
        self.shown = self.shown.max(zxid);
        let Some(durable) = self.durable.filter(|durable| zxid > *durable) else { return };
        let Some(record) = self.records.front() else { return };
        let file = &self.files[&record.path];
        let why = match file.synced.len() < record.end as usize {
            true => "its data".to_owned(),
            false => format!("the name of {}", record.path),
        };
        self.violations.push(format!("0x{zxid:x} was shown, but durable was 0x{durable:x}: not synced was {why}"));
    }

    /// Takes away sectors of the files of a server that is dead, and names, which no completed sync covers.
    /// Returns how many sectors and files went.
    pub fn cut_power(&self, random: &mut Random, fate: Fate) -> io::Result<Lost> {
        let mut lost = Lost::default();
        for (path, file) in &self.files {
            if !file.known || file.is_removed || !Path::new(path).exists() {
                continue;
            }
            if file.named.is_none() && fate.strikes(random) {
                fs::remove_file(path)?;
                lost.files += 1;
                continue;
            }
            let target = OpenOptions::new().read(true).write(true).open(path)?;
            let sectors: BTreeSet<usize> = file.writes.iter().flat_map(Written::sectors).collect();
            for sector in sectors {
                let (from, to) = (sector * SECTOR, (sector + 1) * SECTOR);
                let mut now = [0; SECTOR];
                let there = target.read_at(&mut now, from as u64)?;
                let mut survives = [0; SECTOR];
                let synced = file.synced.get(from..to.min(file.synced.len())).unwrap_or_default();
                survives[..synced.len()].copy_from_slice(synced);
                if now != survives && fate.strikes(random) {
                    target.write_all_at(&survives[..there], from as u64)?;
                    lost.sectors += 1;
                }
            }
        }
        Ok(lost)
    }
}

/// What becomes of what is not synced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    All,
    Some,
}

impl Fate {
    fn strikes(self, random: &mut Random) -> bool {
        self == Self::All || random.percent(50)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Lost {
    pub sectors: usize,
    pub files: usize,
}

impl Written {
    fn sectors(&self) -> std::ops::Range<usize> {
        self.offset / SECTOR..(self.offset + self.bytes.len()).div_ceil(SECTOR)
    }
}

impl FileTrace {
    /// A sync that began at `began` is over: it covers what was written before.
    fn on_synced(&mut self, began: u64) {
        if !self.syncs.remove(&began) {
            return;
        }
        let covered = |write: &mut Written| write.done.is_some_and(|done| done < began);
        for write in self.writes.extract_if(.., covered) {
            let end = write.offset + write.bytes.len();
            if self.synced.len() < end {
                self.synced.resize(end, 0);
            }
            self.synced[write.offset..end].copy_from_slice(&write.bytes);
        }
    }

    /// The whole records among what was written.
    fn parse(&mut self, path: &str) -> Vec<LogRecord> {
        const HEADER: usize = 16;
        const CREATE_SESSION: i32 = -10;
        let mut records = Vec::new();
        let mut rest = &self.unparsed[..];
        if self.parsed == 0 && rest.len() >= HEADER {
            rest.advance(HEADER);
        }
        // Checksum, length, payload, end byte; the payload starts with client, cxid, zxid, time and type.
        while let Some(mut head) = rest.get(..44) {
            head.advance(8);
            let length = head.get_u32() as usize;
            let session = head.get_i64();
            head.advance(4);
            let zxid = head.get_i64();
            head.advance(8);
            let makes = (head.get_i32() == CREATE_SESSION).then_some(session);
            if rest.len() < 13 + length {
                break;
            }
            rest.advance(13 + length);
            let end = self.parsed + (self.unparsed.len() - rest.len()) as u64;
            records.push(LogRecord { zxid, path: path.to_owned(), end, makes });
        }
        let taken = self.unparsed.len() - rest.len();
        self.unparsed.drain(..taken);
        self.parsed += taken as u64;
        records
    }
}

enum Sent {
    Session(i64),
    Zxid(i64),
}

impl Stream {
    /// What the next bytes promise.
    fn take(&mut self, mut bytes: &[u8]) -> Vec<Sent> {
        const LONGEST: usize = 64 << 20;
        let mut sent = Vec::new();
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        bytes = &bytes[skipped..];
        self.bytes.extend_from_slice(bytes);
        let mut rest = &self.bytes[..];
        while !self.is_text && rest.len() >= 20 {
            let mut head = rest;
            let length = head.get_u32() as usize;
            if length > LONGEST {
                self.is_text = true;
                break;
            }
            match self.frames {
                0 => sent.push(Sent::Session((&head[8..]).get_i64())),
                _ => sent.push(Sent::Zxid((&head[4..]).get_i64())),
            }
            self.frames += 1;
            let here = (4 + length).min(rest.len());
            self.skip = 4 + length - here;
            rest = &rest[here..];
        }
        let taken = if self.is_text { self.bytes.len() } else { self.bytes.len() - rest.len() };
        self.bytes.drain(..taken);
        sent
    }
}

fn is_log(path: &str) -> bool {
    path.contains("/version-2/log.")
}
