//! The log's thread: everything that queued while the last sync ran goes out with the next one.
//!
//! After the first failed write or sync nothing more is acknowledged and the process ends: what the page
//! cache says afterwards is not to be trusted. A full disk is the exception, because room is made before a
//! batch is written: then the Node hears of it, and again when there is room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

use super::start::{self, ServerImage};
use super::{Shared, peer};
use crate::disk::FileDisk;
use crate::id::Zxid;
use crate::node::input::Input;
use crate::stats::LogFlush;
use crate::storage::epoch::EpochFile;
use crate::storage::{LogName, Position, StorageError, Writer};
use crate::tree::Tree;
use crate::zab::Entry;

/// What the storage is to do, in the order in which it was asked.
enum Job {
    Append(Batch),
    /// What only a member asks for.
    Member(MemberJob),
    /// The Node knows that the disk was full: what comes now goes on from what is durable.
    GoOn,
}

struct Batch {
    first: Zxid,
    last: Zxid,
    records: Bytes,
    queued: Instant,
}

impl Batch {
    /// Takes the batches that stand behind it, so that all of them are one write, and says how many it is now.
    fn join(&mut self, behind: &mut VecDeque<Job>) -> u64 {
        let mut batches = 1;
        while let Some(Job::Append(next)) = behind.pop_front_if(|job| matches!(job, Job::Append(_))) {
            let mut records = BytesMut::from(std::mem::take(&mut self.records));
            records.extend_from_slice(&next.records);
            (self.last, self.records) = (next.last, records.freeze());
            batches += 1;
        }
        batches
    }
}

/// Each is carried out once everything before it is durable, and answered.
pub enum MemberJob {
    SaveEpoch { file: EpochFile, epoch: i64 },
    Truncate { target: Zxid, applied: Zxid },
    Install { tree: Box<Tree>, rest: Vec<Entry> },
}

/// What waits for the log. Bounded by what connections may have under way.
#[derive(Default)]
pub struct LogQueue {
    waiting: Mutex<VecDeque<Job>>,
    arrived: Condvar,
    stopping: AtomicBool,
    /// The next record shall begin a new file.
    roll: AtomicBool,
    /// Where durable records stand, for the image; told before the Node hears that they are durable.
    pub positions: Mutex<Vec<Position>>,
    pub stats: Mutex<LogStats>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct LogStats {
    pub syncs: u64,
    pub sync_time: Duration,
    pub max_sync: Duration,
    pub slow_syncs: u64,
    /// Bytes of records since the start.
    pub appended: u64,
}

impl LogQueue {
    /// The log hears of it with the next [`LogQueue::flush`], if not before.
    pub fn append(&self, first: Zxid, last: Zxid, records: Bytes) {
        let batch = Batch { first, last, records, queued: Instant::now() };
        self.waiting.lock().push_back(Job::Append(batch));
    }

    pub fn flush(&self) {
        if !self.waiting.lock().is_empty() {
            self.arrived.notify_one();
        }
    }

    pub fn go_on(&self) {
        self.push(Job::GoOn);
    }

    pub fn ask(&self, job: MemberJob) {
        self.push(Job::Member(job));
    }

    fn push(&self, job: Job) {
        self.waiting.lock().push_back(job);
        self.arrived.notify_one();
    }

    pub fn request_roll(&self) {
        self.roll.store(true, Ordering::Relaxed);
    }

    pub fn stop(&self) {
        // Not between a look at it and the sleep that follows.
        let _waiting = self.waiting.lock();
        self.stopping.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// All that waits; nothing after a second, or once the server stops.
    fn take(&self) -> VecDeque<Job> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() && !self.stopping.load(Ordering::Acquire) {
            self.arrived.wait_for(&mut waiting, MARK_DELAY);
        }
        std::mem::take(&mut waiting)
    }
}

/// How far behind the mark of what is durable may be.
const MARK_DELAY: Duration = Duration::from_secs(1);

/// Who writes the log.
pub type Storage = Writer<Arc<FileDisk>, Arc<ServerImage>>;

/// Writes until the server stops and nothing waits.
pub fn run(shared: &Shared, queue: &LogQueue, mut storage: Storage) {
    let mut full = false;
    // What the Node had sent before it heard of a full disk never happened.
    let mut dropping = false;
    let mut marked = Instant::now();
    loop {
        let mut jobs = queue.take();
        if jobs.is_empty() && queue.stopping.load(Ordering::Acquire) {
            or_die(storage.write_durable_mark());
            return;
        }
        if queue.roll.swap(false, Ordering::Relaxed) {
            let durable = or_die(storage.roll());
            report(shared, queue, durable.zxid, durable.records);
        }
        let began = Instant::now();
        let mut flush = LogFlush::default();
        while let Some(job) = jobs.pop_front() {
            let mut batch = match job {
                Job::Append(batch) => batch,
                Job::Member(job) => {
                    sync(shared, queue, &mut storage, began, &mut flush);
                    peer::carry_out(shared, queue, storage.member(), job);
                    continue;
                }
                Job::GoOn => {
                    dropping = false;
                    continue;
                }
            };
            if dropping {
                continue;
            }
            if flush.batches == 0 {
                flush.waited = began - batch.queued;
            }
            flush.batches += batch.join(&mut jobs);
            let Batch { first, last, records, .. } = batch;
            let before = storage.file();
            match storage.append(first, last, &records) {
                Ok(()) => {
                    flush.transactions += (last.0 - first.0) as u64 + 1;
                    report_new_file(before, storage.file());
                }
                Err(StorageError::Full(error)) => {
                    warn!("{error}");
                    (full, dropping) = (true, true);
                    sync(shared, queue, &mut storage, began, &mut flush);
                    shared.inputs.push(Input::LogFull);
                }
                Err(error) => die(&error),
            }
        }
        sync(shared, queue, &mut storage, began, &mut flush);
        if marked.elapsed() >= MARK_DELAY {
            marked = Instant::now();
            or_die(storage.write_durable_mark());
            if full && or_die(storage.has_room().map_err(StorageError::from)) {
                full = false;
                shared.inputs.push(Input::LogRoom);
            }
        }
    }
}

fn report_new_file(before: Option<(LogName, u64)>, after: Option<(LogName, u64)>) {
    if let Some((name, _)) = after
        && before.is_none_or(|(before, _)| before != name)
    {
        info!("Creating new log file: {name}");
    }
}

/// Makes durable what was appended since `began`.
fn sync(shared: &Shared, queue: &LogQueue, writer: &mut Storage, began: Instant, flush: &mut LogFlush) {
    if flush.batches == 0 {
        return;
    }
    let file_bytes = writer.file().map_or(0, |(_, bytes)| bytes);
    let started = Instant::now();
    let durable = or_die(writer.sync());
    let took = started.elapsed();
    let slow = took >= Duration::from_millis(shared.config.node.fsync_warning_threshold_ms);
    if slow {
        warn!(
            "fsync-ing the write ahead log in SyncThread took {}ms which will adversely effect operation \
             latency.File size is {file_bytes} bytes. See the ZooKeeper troubleshooting guide",
            took.as_millis()
        );
    }
    {
        let mut stats = queue.stats.lock();
        stats.syncs += 1;
        stats.sync_time += took;
        stats.max_sync = stats.max_sync.max(took);
        stats.slow_syncs += u64::from(slow);
        stats.appended = writer.appended();
    }
    (flush.sync, flush.took) = (took, began.elapsed());
    shared.counters.measures.lock().log.on_flushed(flush);
    // After a full disk the same round may go on.
    *flush = LogFlush::default();
    report(shared, queue, durable.zxid, durable.records);
}

pub fn report(shared: &Shared, queue: &LogQueue, zxid: Zxid, records: Vec<Position>) {
    // While something waits to be written, this thread has better things to do than what the Node does.
    let (input, weight, is_idle) = (Input::Durable(zxid), records.len(), queue.waiting.lock().is_empty());
    queue.positions.lock().extend(records);
    match is_idle {
        true => shared.hand_in(&mut vec![input], weight),
        false => shared.inputs.push(input),
    }
}

pub fn or_die<T>(result: Result<T, StorageError>) -> T {
    result.unwrap_or_else(|error| die(&error))
}

/// Nothing is acknowledged any more, so the process ends: another start reads what is really there.
fn die(error: &StorageError) -> ! {
    error!(
        "Severe unrecoverable error, exiting: {error}. No write that was not acknowledged is promised; start again once the device works"
    );
    start::end_process(start::EXIT_STORAGE);
}
