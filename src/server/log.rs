//! The log's thread: everything that queued while the last sync ran goes out with the next one.
//!
//! After the first failed write or sync nothing more is acknowledged and the process ends: what the page
//! cache says afterwards is not to be trusted. A full disk is the exception, because room is made before a
//! batch is written: then the Node hears of it, and again when there is room.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use tracing::{error, info, warn};

use super::Shared;
use crate::disk::FileDisk;
use crate::id::Zxid;
use crate::node::input::Input;
use crate::stats::LogFlush;
use crate::storage::{LogName, LogWriter, Position, StorageError};

struct Batch {
    first: Zxid,
    last: Zxid,
    records: Bytes,
    queued: Instant,
}

/// What waits for the log. Bounded by what connections may have under way.
#[derive(Default)]
pub struct LogQueue {
    waiting: Mutex<VecDeque<Batch>>,
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
    pub fn append(&self, first: Zxid, last: Zxid, records: Bytes) {
        self.waiting.lock().push_back(Batch { first, last, records, queued: Instant::now() });
        self.arrived.notify_one();
    }

    pub fn request_roll(&self) {
        self.roll.store(true, Ordering::Relaxed);
    }

    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.arrived.notify_one();
    }

    /// All that waits; nothing after a second, or once the server stops.
    fn take(&self) -> VecDeque<Batch> {
        let mut waiting = self.waiting.lock();
        if waiting.is_empty() && !self.stopping.load(Ordering::Acquire) {
            self.arrived.wait_for(&mut waiting, MARK_DELAY);
        }
        std::mem::take(&mut waiting)
    }
}

/// How far behind the mark of what is durable may be.
const MARK_DELAY: Duration = Duration::from_secs(1);

/// Writes until the server stops and nothing waits.
pub fn run(shared: &Shared, queue: &LogQueue, mut writer: LogWriter<FileDisk>) {
    let mut full = false;
    let mut marked = Instant::now();
    loop {
        let batches = queue.take();
        let idle = batches.is_empty();
        if idle && queue.stopping.load(Ordering::Acquire) {
            or_die(writer.write_durable_mark());
            return;
        }
        if queue.roll.swap(false, Ordering::Relaxed) {
            let durable = or_die(writer.roll());
            report(shared, queue, durable.zxid, durable.records);
        }
        let began = Instant::now();
        let mut flush = LogFlush {
            batches: batches.len() as u64,
            waited: batches.front().map_or(Duration::ZERO, |oldest| began - oldest.queued),
            ..LogFlush::default()
        };
        for Batch { first, last, records, .. } in batches {
            // After a full disk the Node starts again behind what is durable; what it had sent before it
            // heard of that never happened.
            if full && first != writer.last().next() {
                continue;
            }
            let before = writer.file();
            match writer.append(first, last, &records) {
                Ok(()) => {
                    full = false;
                    flush.transactions += (last.0 - first.0) as u64 + 1;
                    report_new_file(before, writer.file());
                }
                Err(StorageError::Full(error)) => {
                    warn!("{error}");
                    full = true;
                    sync(shared, queue, &mut writer, began, &mut flush);
                    shared.inputs.push(Input::LogFull);
                }
                Err(error) => die(&error),
            }
        }
        if !idle {
            sync(shared, queue, &mut writer, began, &mut flush);
        }
        if marked.elapsed() >= MARK_DELAY {
            marked = Instant::now();
            or_die(writer.write_durable_mark());
            if full && or_die(writer.has_room().map_err(StorageError::from)) {
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
fn sync(shared: &Shared, queue: &LogQueue, writer: &mut LogWriter<FileDisk>, began: Instant, flush: &mut LogFlush) {
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

fn report(shared: &Shared, queue: &LogQueue, zxid: Zxid, records: Vec<Position>) {
    queue.positions.lock().extend(records);
    shared.inputs.push(Input::Durable(zxid));
}

fn or_die<T>(result: Result<T, StorageError>) -> T {
    result.unwrap_or_else(|error| die(&error))
}

/// Nothing is acknowledged any more, so the process ends: another start reads what is really there.
fn die(error: &StorageError) -> ! {
    error!(
        "Severe unrecoverable error, exiting: {error}. No write that was not acknowledged is promised; start again once the device works"
    );
    std::process::exit(super::start::EXIT_STORAGE);
}
