//! The image's thread: keeps the image close behind the tree, writes snapshots from it, and purges.
//!
//! It takes the tree's lock for a few hundred nodes at a time, and never while it writes to the disk. An
//! image that fails is emptied and filled again after a while: the log and the last snapshot have everything, but
//! without it there are no new snapshots.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tracing::{error, info, warn};

use super::Shared;
use super::log::LogQueue;
use crate::disk::FileDisk;
use crate::id::{LinkId, Zxid};
use crate::priority::yield_to_requests;
use crate::storage::image::{Capture, Keeper, Meta, Progress, meta};
use crate::storage::purge::{Plan, Purger};
use crate::storage::schedule::SnapshotSchedule;
use crate::storage::{DiskError, Image, ImageError, Pace, SnapshotId, StorageError, discard_snapshot};
use crate::tree::snapshot::Compression;

/// What others want of the image's thread.
pub enum ImageJob {
    /// The Store has another tree now: the one of this snapshot. The image is empty.
    Replaced(SnapshotId),
    /// The Store has another tree now, the one of this snapshot, and the image could not be emptied for it.
    Lost(SnapshotId, ImageError),
    /// The Store has another tree now: the one that was read again from the disk.
    Reloaded(Keeper),
    /// The log ends here now; the tree holds nothing behind it.
    Truncated(Zxid),
    /// A learner wants the state of now, or of later.
    Send(LinkId),
}

/// How others reach the image's thread.
#[derive(Default)]
pub struct ImageDesk {
    jobs: Mutex<Vec<ImageJob>>,
    /// Held while the tree is captured, and while snapshots get their names or are removed: what they are of is
    /// not replaced meanwhile.
    gate: Mutex<()>,
    is_staffed: AtomicBool,
}

impl ImageDesk {
    /// False if there is no image, so that nobody would do it.
    pub fn ask(&self, job: ImageJob) -> bool {
        let mut jobs = self.jobs.lock();
        let is_staffed = self.is_staffed.load(Ordering::Acquire);
        if is_staffed {
            jobs.push(job);
        }
        is_staffed
    }

    /// The tree may be replaced while the guard lives.
    pub fn keep_out(&self) -> MutexGuard<'_, ()> {
        self.gate.lock()
    }

    /// The thread will take what is asked.
    pub fn open(&self) {
        self.is_staffed.store(true, Ordering::Release);
    }

    fn take(&self) -> Vec<ImageJob> {
        std::mem::take(&mut *self.jobs.lock())
    }
}

/// Where a snapshot for a learner goes.
pub trait Learners<V> {
    /// Streams the state of `meta`'s anchor.
    fn send_view(&self, link: LinkId, view: V, meta: Meta);
    /// Does without an image.
    fn send_tree(&self, link: LinkId);
}

/// What is done besides keeping the image: snapshots for Java's sake, and their removal.
pub struct Upkeep {
    pub snapshots: Arc<FileDisk>,
    pub logs: Arc<FileDisk>,
    pub compression: Compression,
    pub schedule: SnapshotSchedule,
    /// Snapshots that a purge keeps.
    pub retain: usize,
    /// `None`: nothing is ever purged.
    pub purge_every: Option<Duration>,
}

/// A snapshot that is being written.
struct Writing {
    thread: JoinHandle<Result<SnapshotId, DiskError>>,
    started: Instant,
    /// It is not of this tree any more.
    given_up: Arc<AtomicBool>,
}

/// What may go is found out on a thread of its own, because everything that is to stay is read for it. Only the removal
/// keeps others out.
enum Purge {
    Rests,
    /// A snapshot is written first, so that the oldest that stays is as new as can be.
    AwaitsSnapshot,
    Plans {
        thread: JoinHandle<(Purger, Result<Plan, StorageError>)>,
        /// The tree or the end of the log is not what it was when this began.
        is_void: bool,
    },
}

/// What was captured so far is void.
struct OtherTree;

/// What the thread is started with.
pub struct ImageTask<I: Image> {
    image: I,
    /// `None` standalone.
    learners: Option<Box<dyn Learners<I::View> + Send>>,
    keeper: Keeper,
    upkeep: Upkeep,
    purger: Purger,
    purged_at: Option<Instant>,
    purge: Purge,
    writing: Option<Writing>,
    /// What was logged when the schedule was last told.
    logged_txns: u64,
    logged_bytes: u64,
}

impl<I: Image> ImageTask<I>
where
    I::View: Send + 'static,
{
    pub fn new(image: I, keeper: Keeper, upkeep: Upkeep, learners: Option<Box<dyn Learners<I::View> + Send>>) -> Self {
        let purger = Purger::default();
        Self {
            image,
            learners,
            keeper,
            upkeep,
            purger,
            purged_at: None,
            purge: Purge::Rests,
            writing: None,
            logged_txns: 0,
            logged_bytes: 0,
        }
    }

    /// Tells the schedule what was logged since it was last told.
    fn count(&mut self, shared: &Shared, queue: &LogQueue) {
        let (txns, bytes) = (shared.node_stats.lock().applied, queue.stats.lock().appended);
        self.upkeep.schedule.on_logged(txns - self.logged_txns, bytes - self.logged_bytes);
        (self.logged_txns, self.logged_bytes) = (txns, bytes);
    }

    /// Begins a snapshot on a thread of its own, from a view of the image: nothing waits for it.
    fn begin_snapshot(&mut self, queue: &LogQueue) {
        if self.writing.is_some() {
            return;
        }
        let job = match self.keeper.begin_snapshot(&self.image, self.upkeep.compression) {
            Ok(Some(job)) => job,
            Ok(None) => return self.upkeep.schedule.on_snapshot(0),
            Err(error) => return self.on_no_snapshot(&error),
        };
        // The file that is being written ends here, so that a purge can remove it one day.
        queue.request_roll();
        self.upkeep.schedule.on_snapshot(u64::MAX / 2);
        let disk = self.upkeep.snapshots.clone();
        let given_up = Arc::default();
        let go_on = unhurried(Arc::clone(&given_up));
        let write = move || job.write(&*disk, Pace::Leisurely(&go_on));
        let spawned = thread::Builder::new().name("zooid-snapshot".to_owned()).spawn(write);
        match spawned {
            Ok(thread) => self.writing = Some(Writing { thread, started: Instant::now(), given_up }),
            Err(error) => self.on_no_snapshot(&error),
        }
    }

    /// Gives a snapshot that is complete its name.
    fn finish_snapshot(&mut self, shared: &Shared) {
        let Some(Writing { thread, started, .. }) = self.writing.take_if(|writing| writing.thread.is_finished()) else {
            return;
        };
        let finished = match thread.join().expect("the snapshot's thread does not panic") {
            Ok(id) => {
                let finished = self.keeper.finish_snapshot(&self.image, &*self.upkeep.snapshots, id);
                finished.inspect_err(|_| self.discard(&id)).map(|()| id)
            }
            Err(error) => Err(error.into()),
        };
        match finished {
            Ok(id) => {
                let took_ms = started.elapsed().as_millis();
                info!(bytes = id.len, "Snapshotting: 0x{:x} to {}", id.name.zxid, id.name);
                info!("Snapshot taken in {took_ms} ms");
                shared.counters.measures.lock().snapshot_time_ms.add(took_ms as i64);
                self.upkeep.schedule.on_snapshot(id.len);
            }
            Err(error) => self.on_no_snapshot(&error),
        }
    }

    /// A snapshot that is being written is of a tree or an image that is no more.
    fn give_up_snapshot(&mut self) {
        if let Some(Writing { thread, given_up, .. }) = self.writing.take() {
            given_up.store(true, Ordering::Relaxed);
            if let Ok(id) = thread.join().expect("the snapshot's thread does not panic") {
                self.discard(&id);
            }
            self.upkeep.schedule.on_snapshot(0);
        }
        self.give_up_purge();
    }

    /// What was found out about the files holds no longer. The purge begins again.
    fn give_up_purge(&mut self) {
        match &mut self.purge {
            Purge::Plans { is_void, .. } => *is_void = true,
            rests => *rests = Purge::Rests,
        }
    }

    /// A snapshot that is complete and is to have no name. It may take up the very room that was missing.
    fn discard(&self, id: &SnapshotId) {
        if let Err(error) = discard_snapshot(&*self.upkeep.snapshots, id) {
            warn!("{}.tmp stays until the next start: {error}", id.name);
        }
    }

    /// Does what others asked for. `None`: the tree is the same as before.
    fn take_jobs(&mut self, shared: &Shared, wanted: &mut Vec<LinkId>) -> Result<Option<OtherTree>, ImageError> {
        let (mut other, mut lost) = (None, None);
        for job in shared.image.take() {
            match job {
                ImageJob::Send(link) => wanted.push(link),
                ImageJob::Truncated(last) => {
                    self.keeper.on_truncated(last);
                    self.give_up_purge();
                }
                ImageJob::Reloaded(keeper) => {
                    self.give_up_snapshot();
                    self.keeper = keeper;
                    other = Some(OtherTree);
                }
                ImageJob::Replaced(id) => {
                    self.on_replaced(id);
                    (other, lost) = (Some(OtherTree), None);
                }
                ImageJob::Lost(id, error) => {
                    self.on_replaced(id);
                    lost = Some(error);
                }
            }
        }
        lost.map_or(Ok(other), Err)
    }

    fn on_replaced(&mut self, id: SnapshotId) {
        self.give_up_snapshot();
        self.keeper.on_replaced(id);
        self.upkeep.schedule.on_snapshot(id.len);
    }

    /// Learners don't wait for an image that is not there.
    fn send_tree(&self, links: &mut Vec<LinkId>) {
        if let Some(learners) = &self.learners {
            links.drain(..).for_each(|link| learners.send_tree(link));
        }
    }

    /// Streams the image, which holds the present state.
    fn send(&self, links: &mut Vec<LinkId>) -> Result<(), ImageError> {
        let Some(learners) = self.learners.as_ref().filter(|_| !links.is_empty()) else { return Ok(()) };
        while let Some(&link) = links.last() {
            let view = self.image.view()?;
            let meta = meta(&view)?.ok_or(ImageError::Row("the numbers"))?;
            links.pop();
            learners.send_view(link, view, meta);
        }
        Ok(())
    }

    fn on_no_snapshot(&mut self, error: &dyn std::fmt::Display) {
        warn!("no snapshot could be written; that is tried again later, and the log has everything: {error}");
        self.upkeep.schedule.on_snapshot(0);
    }

    /// Purges when it is time. Without an image no snapshot is written before.
    fn purge_if_due(&mut self, queue: Option<&LogQueue>) {
        let Some(every) = self.upkeep.purge_every else { return };
        if matches!(self.purge, Purge::Rests) && self.purged_at.is_none_or(|at| at.elapsed() >= every) {
            info!("Purge task started.");
            if let Some(queue) = queue.filter(|_| self.upkeep.schedule.is_due_before_purge()) {
                self.begin_snapshot(queue);
            }
            self.purge = Purge::AwaitsSnapshot;
        }
        if matches!(self.purge, Purge::AwaitsSnapshot) && self.writing.is_none() {
            self.plan_purge();
        }
        if matches!(&self.purge, Purge::Plans { thread, .. } if thread.is_finished())
            && let Purge::Plans { thread, is_void } = std::mem::replace(&mut self.purge, Purge::Rests)
        {
            let (purger, plan) = thread.join().expect("planning a purge does not panic");
            self.purger = purger;
            if !is_void {
                self.purged_at = Some(Instant::now());
                self.remove_old(plan);
            }
        }
    }

    fn plan_purge(&mut self) {
        let Upkeep { logs, snapshots, retain, .. } = &self.upkeep;
        let (logs, snapshots, retain) = (logs.clone(), snapshots.clone(), *retain);
        let mut purger = std::mem::take(&mut self.purger);
        let plan = move || {
            let plan = purger.plan(&logs, &snapshots, retain);
            (purger, plan)
        };
        self.purge = match thread::Builder::new().name("zooid-purge".to_owned()).spawn(plan) {
            Ok(thread) => Purge::Plans { thread, is_void: false },
            Err(error) => {
                warn!("nothing was purged: {error}");
                self.purged_at = Some(Instant::now());
                Purge::Rests
            }
        };
    }

    fn remove_old(&self, plan: Result<Plan, StorageError>) {
        let Upkeep { logs, snapshots, .. } = &self.upkeep;
        match plan.and_then(|plan| plan.carry_out(logs, snapshots)) {
            Ok(purged) => {
                for name in &purged.removed {
                    info!("Removing file: {name}");
                }
                for (name, why) in &purged.unusable {
                    warn!("{name} does not count as a snapshot: {why}");
                }
                if let Some(why) = &purged.kept_all {
                    error!("nothing was purged, because what would stay does not lead to the end of the log: {why}");
                }
                info!("Purge task completed.");
            }
            Err(error) => warn!("nothing was purged: {error}"),
        }
    }
}

/// Nobody waits for a snapshot, nor for an image to be filled, but everybody for the disk and the processors: after each
/// piece the thread rests so many times as long as the piece took,
const REST: u32 = 3;
/// and no longer than this.
const LONGEST_REST: Duration = Duration::from_millis(200);

fn unhurried(given_up: Arc<AtomicBool>) -> impl Fn() -> bool {
    let since = Cell::new(Instant::now());
    move || {
        thread::sleep((since.get().elapsed() * REST).min(LONGEST_REST));
        since.set(Instant::now());
        !given_up.load(Ordering::Relaxed)
    }
}

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long an image that has failed is left alone: as long as a disk may take to have room again, and longer if it
/// soon fails again.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Runs until the server stops; then brings the image up to date. `missing` says why there is none yet.
pub fn run<I: Image>(shared: &Shared, queue: &LogQueue, mut task: ImageTask<I>, mut missing: Option<String>)
where
    I::View: Send + 'static,
{
    yield_to_requests();
    let (mut wanted, mut wait, mut since) = (Vec::new(), FIRST_WAIT, Instant::now());
    // One clock for the keeper, however often its image fails.
    let started = Instant::now();
    let now_ms = || started.elapsed().as_millis() as u64;
    loop {
        let error = match missing.take() {
            Some(why) => why,
            None => match keep(shared, queue, &mut task, &mut wanted, &now_ms) {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
        };
        wait = if since.elapsed() > LONGEST_WAIT { FIRST_WAIT } else { wait };
        error!(
            "the image can't be written; it is emptied and filled again in {wait:?}, and until then no snapshot is \
             written: {error}"
        );
        if regain(shared, queue, &mut task, &mut wanted, wait).is_none() {
            return;
        }
        (wait, since) = ((wait * 2).min(LONGEST_WAIT), Instant::now());
    }
}

/// Waits, and makes an empty image that lacks everything. `None`: the server stops.
fn regain<I: Image>(
    shared: &Shared,
    queue: &LogQueue,
    task: &mut ImageTask<I>,
    wanted: &mut Vec<LinkId>,
    mut wait: Duration,
) -> Option<()>
where
    I::View: Send + 'static,
{
    task.give_up_snapshot();
    let mut since = Instant::now();
    while !shared.stopped.load(Ordering::Acquire) {
        let gate = shared.image.keep_out();
        // That it could not be emptied is known by now.
        let _ = task.take_jobs(shared, wanted);
        task.send_tree(wanted);
        task.keeper.on_durable(&std::mem::take(&mut *queue.positions.lock()));
        let applied = {
            let mut tree = shared.tree.write();
            tree.forget_changes();
            tree.last_zxid()
        };
        task.keeper.on_applied(applied);
        task.count(shared, queue);
        task.purge_if_due(None);
        if since.elapsed() >= wait {
            match task.image.destroy() {
                Ok(()) => {
                    let mut next = Some(0);
                    while let Some(from) = next {
                        next = shared.tree.write().mark_unsaved(from);
                    }
                    task.keeper.on_emptied();
                    info!("the image is filled again");
                    return Some(());
                }
                Err(error) => {
                    (wait, since) = ((wait * 2).min(LONGEST_WAIT), Instant::now());
                    warn!("the image can't be emptied, which is tried again in {wait:?}: {error}");
                }
            }
        }
        drop(gate);
        shared.wait_for_stop(LOOK_EVERY);
    }
    None
}

/// `wanted` are the learners that wait for a snapshot.
fn keep<I: Image>(
    shared: &Shared,
    queue: &LogQueue,
    task: &mut ImageTask<I>,
    wanted: &mut Vec<LinkId>,
    now_ms: &dyn Fn() -> u64,
) -> Result<(), ImageError>
where
    I::View: Send + 'static,
{
    let mut capture = task.keeper.begin();
    let mut saved = Zxid(-1);
    loop {
        let mut rest = LOOK_EVERY;
        let stopping = shared.stopped.load(Ordering::Acquire);
        let gate = shared.image.keep_out();
        if let Some(OtherTree) = task.take_jobs(shared, wanted)? {
            capture = task.keeper.begin();
            saved = Zxid(-1);
        }
        task.keeper.on_durable(&std::mem::take(&mut *queue.positions.lock()));
        let (applied, unsaved, bytes) = {
            let tree = shared.tree.read();
            (tree.last_zxid(), tree.unsaved(), tree.unsaved_bytes())
        };
        task.keeper.on_applied(applied);
        let is_due = now_ms() >= task.keeper.next_write(unsaved, bytes) || !wanted.is_empty();
        if (stopping || is_due) && applied != saved {
            let next = task.keeper.begin();
            let began = Instant::now();
            match write(shared, queue, task, std::mem::replace(&mut capture, next), now_ms)? {
                Written::All(zxid) => {
                    saved = zxid;
                    capture = task.keeper.begin();
                }
                Written::Later(more) => capture = more,
                Written::Part(more) => {
                    let hurries = !wanted.is_empty() || more.is_outrun();
                    rest = if hurries { Duration::ZERO } else { (began.elapsed() * REST).min(LONGEST_REST) };
                    capture = more;
                }
            }
        } else if task.keeper.is_quiet(now_ms()) {
            flush(task, now_ms())?;
        }
        if saved >= applied {
            task.send(wanted)?;
        }
        if stopping {
            if let Err(error) = task.image.flush() {
                warn!("the image could not be flushed; the next start replays more of the log: {error}");
            }
            return Ok(());
        }
        task.count(shared, queue);
        task.finish_snapshot(shared);
        // An image that is not filled yet has no state to be written down.
        if !capture.is_filling() {
            if task.upkeep.schedule.is_due() {
                task.begin_snapshot(queue);
            }
            task.purge_if_due(Some(queue));
        }
        drop(gate);
        shared.wait_for_stop(rest);
    }
}

/// A batch is tens of megabytes in small blocks, and the allocator waits for further calls of this thread
/// before it gives up what was freed of it: those come with the next batch, or never.
fn give_memory_back() {
    // SAFETY: no pointers, and it may be called at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

enum Written {
    All(Zxid),
    /// Where the tree's last transaction stands in the log is not known yet.
    Later(Capture),
    /// Of an image that is being filled, and everybody else has a turn before it goes on.
    Part(Capture),
}

fn write<I: Image>(
    shared: &Shared,
    queue: &LogQueue,
    task: &mut ImageTask<I>,
    mut capture: Capture,
    now_ms: &dyn Fn() -> u64,
) -> Result<Written, ImageError> {
    let begun_ms = now_ms();
    while capture.take(&mut shared.tree.write()) == Progress::More {
        if capture.is_filling() && shared.stopped.load(Ordering::Acquire) {
            // Nobody would wait so long; the next start reads snapshot and log, as this one has.
            return Ok(Written::Later(capture));
        }
        capture.arrange();
        if let Some(part) = capture.take_part() {
            task.image.write(&part)?;
            return Ok(Written::Part(capture));
        }
    }
    let (batch, zxid) = {
        let mut tree = shared.tree.write();
        task.keeper.on_durable(&std::mem::take(&mut *queue.positions.lock()));
        match task.keeper.finish(capture, &mut tree) {
            Ok(batch) => (batch, tree.last_zxid()),
            Err(rest) => return Ok(Written::Later(rest)),
        }
    };
    task.image.write(&batch)?;
    let bytes = batch.bytes();
    drop(batch);
    give_memory_back();
    if task.keeper.on_written(bytes, begun_ms, now_ms()) {
        flush(task, now_ms())?;
    }
    Ok(Written::All(zxid))
}

fn flush<I: Image>(task: &mut ImageTask<I>, now_ms: u64) -> Result<(), ImageError> {
    task.image.flush()?;
    task.keeper.on_flushed(now_ms);
    Ok(())
}
