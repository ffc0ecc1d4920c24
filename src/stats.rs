//! Plain numbers that modules count in. `admin` gives them names and sends them out.
//!
//! Counting must cost next to nothing where requests run. So a batch of requests is tallied in a struct of its
//! own, without locks, and merged into [`Measures`] once; nothing here is shared but that.

use std::collections::BTreeMap;
use std::time::Duration;

use jute::Text;

use crate::id::ServerId;

/// How many samples, their sum, the least and the greatest. Both are 0 as long as there is none, as for Java.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Summary {
    pub count: u64,
    pub sum: i64,
    pub min: i64,
    pub max: i64,
}

impl Summary {
    pub fn add(&mut self, value: i64) {
        self.add_many(value, 1);
    }

    pub fn add_many(&mut self, value: i64, times: u64) {
        self.merge(&Self { count: times, sum: value * times as i64, min: value, max: value });
    }

    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        self.count += other.count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    pub fn mean(&self) -> f64 {
        if self.count == 0 { 0.0 } else { self.sum as f64 / self.count as f64 }
    }
}

/// A [`Summary`] that also knows quantiles, of values from 0 on: exact below 64, to 3 % above.
#[derive(Clone, Debug, Default)]
pub struct Distribution {
    pub summary: Summary,
    /// Samples by size: each below 64 has a bucket, each power of two above has 32.
    buckets: Vec<u64>,
}

const EXACT: u64 = 64;
const STEPS: usize = 32;

impl Distribution {
    pub const fn new() -> Self {
        Self { summary: Summary { count: 0, sum: 0, min: 0, max: 0 }, buckets: Vec::new() }
    }

    pub fn add(&mut self, value: i64) {
        self.add_many(value, 1);
    }

    pub fn add_many(&mut self, value: i64, times: u64) {
        if times == 0 {
            return;
        }
        self.summary.add_many(value, times);
        let at = bucket(value.max(0) as u64);
        if self.buckets.len() <= at {
            self.buckets.resize(at + 1, 0);
        }
        self.buckets[at] += times;
    }

    pub fn add_runs(&mut self, runs: &Runs) {
        for (value, times) in runs.iter() {
            self.add_many(value, times);
        }
    }

    pub fn merge(&mut self, other: &Self) {
        self.summary.merge(&other.summary);
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own += other;
        }
    }

    /// The value that `permille` of a thousand samples do not exceed; 0 without samples.
    pub fn quantile(&self, permille: u64) -> i64 {
        let rank = (self.summary.count * permille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return (greatest(at) as i64).clamp(self.summary.min, self.summary.max);
            }
        }
        0
    }
}

fn bucket(value: u64) -> usize {
    if value < EXACT {
        return value as usize;
    }
    let shift = value.ilog2() - STEPS.ilog2();
    STEPS * shift as usize + (value >> shift) as usize
}

/// The greatest value of a bucket.
fn greatest(bucket: usize) -> u64 {
    if bucket < EXACT as usize {
        return bucket as u64;
    }
    let shift = bucket / STEPS - 1;
    (((bucket - STEPS * shift) as u64 + 1) << shift) - 1
}

/// Values as they come, equal neighbours counted together: what one batch adds to a distribution.
#[derive(Clone, Debug, Default)]
pub struct Runs {
    now: (i64, u64),
    /// Empty for most batches.
    before: Vec<(i64, u64)>,
}

impl Runs {
    pub fn add(&mut self, value: i64) {
        if self.now.0 != value {
            if self.now.1 > 0 {
                self.before.push(self.now);
            }
            self.now = (value, 0);
        }
        self.now.1 += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = (i64, u64)> + '_ {
        let now = Some(self.now).filter(|(_, times)| *times > 0);
        self.before.iter().copied().chain(now)
    }
}

/// How old transactions were when something happened to them, in milliseconds since their leader made them and by the
/// wall clocks of both servers (Java: `Request.logLatency`). Of a member of an ensemble.
#[derive(Clone, Debug, Default)]
pub struct Ages {
    /// A follower was told.
    pub proposed: Runs,
    /// Its log, or a leader's own, holds it.
    pub acknowledged: Runs,
    /// A quorum's logs hold it: on the leader.
    pub agreed: Runs,
    /// A learner was told that.
    pub committed: Runs,
    /// A server's log holds it, of every so many: on the leader.
    pub acked_by: Vec<(ServerId, i64)>,
}

impl Ages {
    pub fn is_empty(&self) -> bool {
        let Self { proposed, acknowledged, agreed, committed, acked_by } = self;
        let runs = [proposed, acknowledged, agreed, committed];
        acked_by.is_empty() && runs.iter().all(|runs| runs.iter().next().is_none())
    }
}

/// Bytes by top-level node, as one batch adds them: most of its requests look at the same one. A name may
/// stand there again, when the batch has many.
#[derive(Clone, Debug, Default)]
pub struct Namespaces {
    now: Option<(Text, Summary)>,
    /// Empty for most batches.
    before: Vec<(Text, Summary)>,
}

impl Namespaces {
    /// The root belongs to none.
    pub fn add(&mut self, path: &Text, bytes: i64) {
        let Some(below_root) = path.strip_prefix('/') else { return };
        if let Some((now, summary)) = &mut self.now
            && let Some(rest) = below_root.strip_prefix(now.as_str())
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return summary.add(bytes);
        }
        let length = below_root.bytes().position(|byte| byte == b'/').unwrap_or(below_root.len());
        let namespace = &below_root[..length];
        if namespace.is_empty() {
            return;
        }
        for (other, summary) in self.before.iter_mut().rev().take(LOOK_BACK) {
            if other.as_str() == namespace {
                return summary.add(bytes);
            }
        }
        let first = Summary { count: 1, sum: bytes, min: bytes, max: bytes };
        self.before.extend(self.now.replace((path.slice(1, 1 + length), first)));
    }

    fn merge_into(&self, all: &mut BTreeMap<Box<str>, Summary>) {
        for (namespace, summary) in self.before.iter().chain(&self.now) {
            let is_full = all.len() >= MAX_NAMESPACES;
            match all.get_mut(namespace.as_str()) {
                Some(sum) => sum.merge(summary),
                // Clients choose the names: past this many, new ones are not told apart from nothing.
                None if is_full => {}
                None => {
                    all.insert(namespace.as_str().into(), *summary);
                }
            }
        }
    }
}

const LOOK_BACK: usize = 8;
pub const MAX_NAMESPACES: usize = 1000;

/// Bytes of replies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sizes {
    /// `None` before the first.
    pub last: Option<i32>,
    pub min: i32,
    pub max: i32,
}

impl Sizes {
    pub fn add(&mut self, bytes: usize) {
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        self.merge(&Self { last: Some(bytes), min: bytes, max: bytes });
    }

    pub fn merge(&mut self, other: &Self) {
        if other.last.is_none() {
            return;
        }
        if self.last.is_none() {
            *self = *other;
            return;
        }
        self.last = other.last;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// What one batch of replies and events adds.
#[derive(Clone, Debug, Default)]
pub struct Replies {
    /// Milliseconds from the arrival of a request to its answer.
    reads: Runs,
    updates: Runs,
    sizes: Sizes,
    response_bytes: u64,
    watch_bytes: u64,
    /// Replies whose connection was gone.
    pub stale: u64,
    /// Bytes of paths, data and stats that were read.
    pub read: Namespaces,
}

impl Replies {
    pub fn is_empty(&self) -> bool {
        self.sizes.last.is_none() && self.stale == 0
    }

    /// A request was answered that changes nothing, with a frame of so many bytes.
    pub fn add_read(&mut self, ms: i64, frame_bytes: usize) {
        self.reads.add(ms);
        self.add_frame(frame_bytes);
    }

    /// A change was answered.
    pub fn add_update(&mut self, ms: i64, frame_bytes: usize) {
        self.updates.add(ms);
        self.add_frame(frame_bytes);
    }

    pub fn add_event(&mut self, frame_bytes: usize) {
        self.watch_bytes += self.add_size(frame_bytes);
    }

    fn add_frame(&mut self, frame_bytes: usize) {
        self.response_bytes += self.add_size(frame_bytes);
    }

    /// Java counts a frame without its length here.
    fn add_size(&mut self, frame_bytes: usize) -> u64 {
        let bytes = frame_bytes.saturating_sub(4);
        self.sizes.add(bytes);
        bytes as u64
    }
}

/// How many connections one event of each kind was told to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fired {
    pub created: Summary,
    pub deleted: Summary,
    pub data_changed: Summary,
    pub children_changed: Summary,
}

impl Fired {
    pub fn merge(&mut self, other: &Self) {
        self.created.merge(&other.created);
        self.deleted.merge(&other.deleted);
        self.data_changed.merge(&other.data_changed);
        self.children_changed.merge(&other.children_changed);
    }
}

/// One write and sync of the log.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogFlush {
    pub transactions: u64,
    /// Batches that went out together.
    pub batches: u64,
    /// How long the oldest of them had waited.
    pub waited: Duration,
    /// From the first byte to the end of the sync.
    pub took: Duration,
    /// The sync alone.
    pub sync: Duration,
}

/// What the log's thread measures. Times in microseconds.
#[derive(Clone, Debug, Default)]
pub struct LogMeasures {
    pub fsync: Summary,
    pub batch_size: Summary,
    pub queue_size: Summary,
    pub queued: u64,
    pub queue_time: Distribution,
    pub flush_time: Distribution,
    pub queue_and_flush_time: Distribution,
}

impl LogMeasures {
    pub fn on_flushed(&mut self, flush: &LogFlush) {
        let us = |duration: Duration| duration.as_micros() as i64;
        self.fsync.add(us(flush.sync));
        self.batch_size.add(flush.transactions as i64);
        self.queue_size.add(flush.batches as i64);
        self.queued += flush.transactions;
        self.queue_time.add(us(flush.waited));
        self.flush_time.add(us(flush.took));
        self.queue_and_flush_time.add(us(flush.waited + flush.took));
    }

    fn merge(&mut self, other: &Self) {
        self.fsync.merge(&other.fsync);
        self.batch_size.merge(&other.batch_size);
        self.queue_size.merge(&other.queue_size);
        self.queued += other.queued;
        self.queue_time.merge(&other.queue_time);
        self.flush_time.merge(&other.flush_time);
        self.queue_and_flush_time.merge(&other.queue_and_flush_time);
    }
}

/// Everything that is counted and can be reset by the word `srst`: since then, or since the start.
#[derive(Clone, Debug, Default)]
pub struct Measures {
    // Requests and replies.
    pub read_latency: Distribution,
    pub update_latency: Distribution,
    pub propagation_latency: Distribution,
    pub proposal_latency: Distribution,
    pub proposal_ack_creation_latency: Distribution,
    pub quorum_ack_latency: Distribution,
    /// By server id, as `mntr` shows it.
    pub ack_latency: BTreeMap<Box<str>, Distribution>,
    pub commit_propagation_latency: Distribution,
    pub response_sizes: Sizes,
    pub response_bytes: u64,
    pub watch_bytes: u64,
    pub stale_replies: u64,
    pub fired: Fired,
    /// By top-level node: paths, data and stats that were read, paths and data that were written, in bytes.
    pub read: BTreeMap<Box<str>, Summary>,
    pub written: BTreeMap<Box<str>, Summary>,
    /// Requests that a hard quota refused.
    pub quota_exceeded: BTreeMap<Box<str>, u64>,

    // Connections.
    pub connection_requests: u64,
    pub revalidations: u64,
    pub connections_dropped: u64,
    pub connections_rejected: u64,
    pub sessionless_expired: u64,
    pub auth_failed: u64,
    pub ensemble_auth: EnsembleAuth,
    /// Tokens that were out when a connection was let in.
    pub token_deficit: Summary,
    pub throttled: Throttled,

    // The Node.
    pub requests: u64,
    /// Requests taken at once.
    pub requests_taken: Summary,
    /// Microseconds of each request.
    pub prepare_time: Summary,
    pub pauses_ms: Distribution,

    // The disk.
    pub log: LogMeasures,
    pub snapshot_time_ms: Summary,
    /// Of the image or the snapshot, and of the log behind it.
    pub load_time_ms: Summary,
    pub replayed: Summary,
}

/// How claims to know the ensemble's name ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct EnsembleAuth {
    pub success: u64,
    pub skip: u64,
    pub fail: u64,
}

/// Requests that had to wait, or worse.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Throttled {
    pub waited: u64,
    /// Waited so long that they were answered with ThrottledOp.
    pub overdue: u64,
    /// Handed on although nobody waits for them any more.
    pub stale: u64,
    pub stale_dropped: u64,
    pub large_rejected: u64,
}

impl Throttled {
    pub fn merge(&mut self, other: &Self) {
        self.waited += other.waited;
        self.overdue += other.overdue;
        self.stale += other.stale;
        self.stale_dropped += other.stale_dropped;
        self.large_rejected += other.large_rejected;
    }
}

impl Measures {
    pub fn add_replies(&mut self, replies: &Replies) {
        self.read_latency.add_runs(&replies.reads);
        self.update_latency.add_runs(&replies.updates);
        self.response_sizes.merge(&replies.sizes);
        self.response_bytes += replies.response_bytes;
        self.watch_bytes += replies.watch_bytes;
        self.stale_replies += replies.stale;
        replies.read.merge_into(&mut self.read);
    }

    /// The Node took `count` requests at once, which kept it busy for `took`.
    pub fn on_requests(&mut self, count: u64, took: Duration) {
        self.requests += count;
        self.requests_taken.add(count as i64);
        let each = took.as_micros() as i64 / count.max(1) as i64;
        self.prepare_time.add_many(each, count);
    }

    /// Transactions were applied at `wall_ms` that were created at the times in `created`.
    pub fn on_applied(&mut self, created: &Runs, written: &Namespaces, fired: &Fired, wall_ms: i64) {
        for (time, times) in created.iter() {
            self.propagation_latency.add_many((wall_ms - time).max(0), times);
        }
        written.merge_into(&mut self.written);
        self.fired.merge(fired);
    }

    pub fn on_aged(&mut self, ages: &Ages) {
        self.proposal_latency.add_runs(&ages.proposed);
        self.proposal_ack_creation_latency.add_runs(&ages.acknowledged);
        self.quorum_ack_latency.add_runs(&ages.agreed);
        self.commit_propagation_latency.add_runs(&ages.committed);
        for (server, age) in &ages.acked_by {
            self.ack_latency.entry(server.to_string().into()).or_default().add(*age);
        }
    }

    /// Milliseconds over all requests.
    pub fn latency(&self) -> Summary {
        let mut all = self.read_latency.summary;
        all.merge(&self.update_latency.summary);
        all
    }

    pub fn merge(&mut self, other: &Self) {
        self.read_latency.merge(&other.read_latency);
        self.update_latency.merge(&other.update_latency);
        self.propagation_latency.merge(&other.propagation_latency);
        self.proposal_latency.merge(&other.proposal_latency);
        self.proposal_ack_creation_latency.merge(&other.proposal_ack_creation_latency);
        self.quorum_ack_latency.merge(&other.quorum_ack_latency);
        for (server, distribution) in &other.ack_latency {
            self.ack_latency.entry(server.clone()).or_default().merge(distribution);
        }
        self.commit_propagation_latency.merge(&other.commit_propagation_latency);
        self.response_sizes.merge(&other.response_sizes);
        self.response_bytes += other.response_bytes;
        self.watch_bytes += other.watch_bytes;
        self.stale_replies += other.stale_replies;
        self.fired.merge(&other.fired);
        for (own, other) in [(&mut self.read, &other.read), (&mut self.written, &other.written)] {
            for (namespace, summary) in other {
                own.entry(namespace.clone()).or_default().merge(summary);
            }
        }
        for (namespace, count) in &other.quota_exceeded {
            *self.quota_exceeded.entry(namespace.clone()).or_default() += count;
        }
        self.connection_requests += other.connection_requests;
        self.revalidations += other.revalidations;
        self.connections_dropped += other.connections_dropped;
        self.connections_rejected += other.connections_rejected;
        self.sessionless_expired += other.sessionless_expired;
        self.auth_failed += other.auth_failed;
        self.ensemble_auth.success += other.ensemble_auth.success;
        self.ensemble_auth.skip += other.ensemble_auth.skip;
        self.ensemble_auth.fail += other.ensemble_auth.fail;
        self.token_deficit.merge(&other.token_deficit);
        self.throttled.merge(&other.throttled);
        self.requests += other.requests;
        self.requests_taken.merge(&other.requests_taken);
        self.prepare_time.merge(&other.prepare_time);
        self.pauses_ms.merge(&other.pauses_ms);
        self.log.merge(&other.log);
        self.snapshot_time_ms.merge(&other.snapshot_time_ms);
        self.load_time_ms.merge(&other.load_time_ms);
        self.replayed.merge(&other.replayed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_in_its_bucket() {
        let powers = (0..62).flat_map(|bit| [(1u64 << bit) - 1, 1 << bit, (1 << bit) + 1]);
        for value in (0..5000).chain(powers) {
            let at = bucket(value);
            assert!(value <= greatest(at), "{value}");
            assert!(at == 0 || value > greatest(at - 1), "{value}");
            assert!(greatest(at) - value <= value / STEPS as u64, "{value} is too far from {}", greatest(at));
        }
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let mut distribution = Distribution::default();
        assert_eq!(distribution.quantile(500), 0);
        let mut samples: Vec<i64> = (0..1000).map(|i| (i * 7919) % 997).collect();
        samples.iter().for_each(|sample| distribution.add(*sample));
        samples.sort_unstable();
        for permille in [1, 500, 950, 990, 999, 1000] {
            let exact = samples[permille as usize - 1];
            let found = distribution.quantile(permille);
            assert!(found >= exact && found <= exact + exact / 32, "{permille}: {found}, exactly {exact}");
        }
        assert_eq!(distribution.quantile(1000), 996, "never above the greatest");
    }

    #[test]
    fn runs_and_namespaces_lose_nothing() {
        let mut runs = Runs::default();
        assert_eq!(runs.iter().count(), 0);
        [0, 0, 5, 0, 5, 5].iter().for_each(|value| runs.add(*value));
        assert_eq!(runs.iter().collect::<Vec<_>>(), [(0, 2), (5, 1), (0, 1), (5, 2)]);

        let mut measures = Measures::default();
        let mut replies = Replies::default();
        for round in 0..3 {
            // A name that begins like another one is not that one.
            for node in 0..20 {
                replies.read.add(&format!("/n{node}/below").as_str().into(), round);
            }
        }
        for outside in ["/", "", "relative"] {
            replies.read.add(&outside.into(), 1);
        }
        measures.add_replies(&replies);
        assert_eq!(measures.read.len(), 20);
        let expected = Summary { count: 3, sum: 3, min: 0, max: 2 };
        assert!(measures.read.values().all(|summary| *summary == expected), "{:?}", measures.read);
    }

    #[test]
    fn a_summary_without_samples_is_zero() {
        let mut summary = Summary::default();
        assert_eq!((summary.min, summary.max, summary.mean()), (0, 0, 0.0));
        summary.add(7);
        summary.add_many(3, 3);
        assert_eq!(summary, Summary { count: 4, sum: 16, min: 3, max: 7 });
    }

    #[test]
    fn two_halves_merge_to_the_whole() {
        let (mut whole, mut a, mut b) = (Measures::default(), Measures::default(), Measures::default());
        for (at, bytes) in [(1, 20), (5, 90), (2, 30), (70, 40)] {
            let mut replies = Replies::default();
            replies.add_read(at, bytes);
            replies.add_update(2 * at, bytes);
            replies.add_event(bytes);
            whole.add_replies(&replies);
            if at < 3 { &mut a } else { &mut b }.add_replies(&replies);
        }
        a.merge(&b);
        assert_eq!(a.latency(), whole.latency());
        assert_eq!((a.response_bytes, a.watch_bytes), (whole.response_bytes, whole.watch_bytes));
        assert_eq!((a.response_sizes.min, a.response_sizes.max), (16, 86));
        assert_eq!(a.read_latency.quantile(500), whole.read_latency.quantile(500));
    }
}
