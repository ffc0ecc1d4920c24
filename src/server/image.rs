//! The image's thread: keeps the image close behind the tree, writes snapshots from it, and purges.
//!
//! It takes the tree's lock for a few hundred nodes at a time, and never while it writes to the disk. An
//! image that fails is given up: the log and the last snapshot have everything, and the next start builds
//! it anew.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{error, info, warn};

use super::Shared;
use super::log::LogQueue;
use crate::disk::FsDisk;
use crate::id::Zxid;
use crate::storage::image::{Capture, Keeper, Progress};
use crate::storage::{Image, ImageError};
use crate::tree::snapshot::Compression;

/// What the thread is started with.
pub struct ImageTask<I> {
    pub image: I,
    pub keeper: Keeper,
    pub snapshots: FsDisk,
    pub compression: Compression,
    pub schedule: Schedule,
}

/// When a snapshot is due: the log since the last one is long, and larger than that was (design.md D9).
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    pub snap_count: u64,
    pub last: Zxid,
    pub last_bytes: u64,
    pub txns_since: u64,
    pub bytes_since: u64,
}

impl Schedule {
    pub fn is_due(&self, applied: u64, appended: u64) -> bool {
        self.txns_since + applied > self.snap_count && self.bytes_since + appended > 2 * self.last_bytes
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs until the server stops; then brings the image up to date.
pub fn run<I: Image>(shared: &Shared, queue: &Arc<LogQueue>, mut task: ImageTask<I>) {
    let started = Instant::now();
    let now_ms = || started.elapsed().as_millis() as u64;
    let mut capture = Capture::new();
    let mut saved = Zxid(-1);
    loop {
        let stopping = shared.stopped.load(Ordering::Acquire);
        if stopping || now_ms() >= task.keeper.next_write() && shared.tree.read().last_zxid() != saved {
            match write(shared, queue, &mut task, std::mem::take(&mut capture), now_ms()) {
                Ok(Written::All(zxid)) => saved = zxid,
                Ok(Written::Later(rest)) => capture = rest,
                Err(error) => {
                    error!(
                        "the image can't be written and is given up until the next start, which builds it anew: {error}"
                    );
                    return;
                }
            }
        }
        if stopping {
            if let Err(error) = task.image.flush() {
                warn!("the image could not be flushed; the next start replays more of the log: {error}");
            }
            return;
        }
        snapshot_if_due(shared, queue, &mut task);
        shared.wait_for_stop(LOOK_EVERY);
    }
}

enum Written {
    All(Zxid),
    /// Where the tree's last transaction stands in the log is not known yet.
    Later(Capture),
}

fn write<I: Image>(
    shared: &Shared,
    queue: &LogQueue,
    task: &mut ImageTask<I>,
    mut capture: Capture,
    now_ms: u64,
) -> Result<Written, ImageError> {
    while capture.take(&mut shared.tree.write()) == Progress::More {}
    let (batch, zxid) = {
        let mut tree = shared.tree.write();
        task.keeper.on_durable(&std::mem::take(&mut *queue.positions.lock()));
        match task.keeper.finish(capture, &mut tree) {
            Ok(batch) => (batch, tree.last_zxid()),
            Err(rest) => return Ok(Written::Later(rest)),
        }
    };
    task.image.write(&batch)?;
    if task.keeper.on_written(batch.bytes(), now_ms) {
        task.image.flush()?;
        task.keeper.on_flushed(now_ms);
    }
    Ok(Written::All(zxid))
}

fn snapshot_if_due<I: Image>(shared: &Shared, queue: &LogQueue, task: &mut ImageTask<I>) {
    let applied = shared.node_stats.lock().applied;
    let appended = queue.stats.lock().appended;
    if !task.schedule.is_due(applied, appended) {
        return;
    }
    // The file that is being written ends here, so that a purge can remove it one day.
    queue.request_roll();
    let started = Instant::now();
    match task.keeper.write_snapshot(&task.image, &task.snapshots, task.compression) {
        Ok(id) => {
            info!("Snapshot taken in {} ms: {}", started.elapsed().as_millis(), id.name);
            let Schedule { snap_count, .. } = task.schedule;
            // What was counted so far is in the snapshot, or nearly: counting starts anew from here.
            task.schedule = Schedule {
                snap_count,
                last: id.name.zxid,
                last_bytes: id.len,
                txns_since: 0u64.wrapping_sub(applied),
                bytes_since: 0u64.wrapping_sub(appended),
            };
        }
        Err(error) => {
            warn!("no snapshot could be written, which is tried again later; the log has everything: {error}");
            task.schedule.txns_since = 0u64.wrapping_sub(applied);
        }
    }
}
