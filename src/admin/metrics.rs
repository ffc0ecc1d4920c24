//! The one place where numbers get Java's names.
//!
//! [`metrics`] turns plain figures into a list of named values; [`mntr`] prints that list. What Java counts
//! and this server has no counterpart of is left out and named in `tests/mntr-left-out.md`; what merely can't
//! happen here yet is 0, as it is on a Java server to which it doesn't happen. The order is the one of a Java
//! server, whose own comes from a hash table.
//!
//! Java: `ServerMetrics`, `MonitorCommand`; config-and-operations 3.3, 5.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::java;
use super::text::ServerState;
use crate::id::ServerId;
use crate::node::stats::MemberCounts;
use crate::stats::{Distribution, Measures, Summary};
use crate::tree::quota::Track;

/// Everything that the metrics are made of.
#[derive(Clone, Debug)]
pub struct Figures<'a> {
    pub version: &'a str,
    pub state: ServerState,
    pub gauges: Gauges,
    pub totals: Totals,
    pub measures: &'a Measures,
    /// By top-level node.
    pub quotas: BTreeMap<String, QuotaFigures>,
}

/// What is so at the moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gauges {
    pub nodes: usize,
    pub data_bytes: i64,
    pub ephemerals: usize,
    pub watches: usize,
    pub sessions: usize,
    pub local_sessions: usize,
    pub connections: usize,
    pub outstanding: usize,
    /// Of a new connection.
    pub drop_probability: f64,
    pub uptime_ms: i64,
    /// -1 if unknown, as is the next.
    pub open_files: i64,
    pub max_files: i64,
    /// Participants of the ensemble; `None` standalone.
    pub quorum_size: Option<usize>,
    pub leading: Option<LeadingFigures>,
    /// Zeros standalone.
    pub member: MemberCounts,
    /// Whom an observer observes.
    pub observed: Option<ServerId>,
}

/// What is so on a leader.
#[derive(Clone, Copy, Debug, Default)]
pub struct LeadingFigures {
    pub learners: usize,
    pub synced_followers: usize,
    pub synced_non_voting_followers: usize,
    pub synced_observers: usize,
    pub pending_syncs: usize,
    pub uptime_ms: i64,
    /// Last, least, greatest; -1 before the first.
    pub proposal_sizes: [i32; 3],
}

/// What modules count without knowing of resets.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Totals {
    pub received: u64,
    pub sent: u64,
    pub bytes_received: u64,
    pub expired: u64,
    pub digest_mismatches: u64,
    pub changes_queued: u64,
    pub changes_removed: u64,
}

impl Totals {
    /// What came since `then`, which may have been taken a moment later than this.
    pub fn since(&self, then: &Self) -> Self {
        Self {
            received: self.received.saturating_sub(then.received),
            sent: self.sent.saturating_sub(then.sent),
            bytes_received: self.bytes_received.saturating_sub(then.bytes_received),
            expired: self.expired.saturating_sub(then.expired),
            digest_mismatches: self.digest_mismatches.saturating_sub(then.digest_mismatches),
            changes_queued: self.changes_queued.saturating_sub(then.changes_queued),
            changes_removed: self.changes_removed.saturating_sub(then.changes_removed),
        }
    }
}

/// Sums over the quotas below one top-level node; -1 is no limit.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QuotaFigures {
    pub count_limit: i64,
    pub bytes_limit: i64,
    pub count_usage: i64,
    pub bytes_usage: i64,
}

/// One metric. `key` is the member of a set, as the namespace of a quota.
#[derive(Clone, Debug)]
pub struct Metric<'a> {
    pub name: &'static str,
    pub key: Option<&'a str>,
    pub value: Value<'a>,
}

#[derive(Clone, Debug)]
pub enum Value<'a> {
    Gauge(i64),
    RealGauge(f64),
    Counter(u64),
    Basic(Summary, Unit),
    Advanced(&'a Distribution, Unit),
}

/// What the numbers of a summary are, and are shown as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// Shown as they are.
    Plain,
    /// Shown in milliseconds.
    Micros,
}

impl Unit {
    fn per_shown(self) -> i64 {
        match self {
            Self::Plain => 1,
            Self::Micros => 1000,
        }
    }
}

/// All metrics of a server, in order.
pub fn metrics<'a>(figures: &'a Figures<'_>) -> Vec<Metric<'a>> {
    let Figures { measures, quotas, .. } = figures;
    let mut all: Vec<Metric<'a>> = Vec::new();
    let mut put = |name, value| all.push(Metric { name, key: None, value });
    gauges(figures, &mut put);
    counters(figures, &mut put);
    basic_summaries(figures, &mut put);
    advanced_summaries(measures, &mut put);
    let by_namespace = [("read_per_namespace", &measures.read), ("write_per_namespace", &measures.written)];
    for (name, namespaces) in by_namespace {
        let sums = namespaces.iter();
        all.extend(sums.map(|(key, sum)| Metric { name, key: Some(key), value: Value::Basic(*sum, Unit::Plain) }));
    }
    let by_server = measures.ack_latency.iter();
    all.extend(by_server.map(|(server, ages)| Metric {
        name: "ack_latency",
        key: Some(server),
        value: Value::Advanced(ages, Unit::Plain),
    }));
    for (key, count) in &measures.quota_exceeded {
        let name = "quota_exceeded_error_per_namespace";
        all.push(Metric { name, key: Some(key), value: Value::Counter(*count) });
    }
    for (key, quota) in quotas {
        let values = [
            ("quota_count_limit_per_namespace", quota.count_limit),
            ("quota_bytes_limit_per_namespace", quota.bytes_limit),
            ("quota_count_usage_per_namespace", quota.count_usage),
            ("quota_bytes_usage_per_namespace", quota.bytes_usage),
        ];
        all.extend(values.map(|(name, value)| Metric { name, key: Some(key), value: Value::Gauge(value) }));
    }
    all
}

fn gauges<'a>(figures: &Figures<'_>, put: &mut impl FnMut(&'static str, Value<'a>)) {
    use Value::{Gauge, RealGauge};
    let Figures { gauges, measures, totals, .. } = figures;
    let latency = measures.latency();
    let sizes = measures.response_sizes;
    let size = |value| Gauge(sizes.last.map_or(-1, |_| i64::from(value)));
    put("ephemerals_count", Gauge(gauges.ephemerals as i64));
    put("num_alive_connections", Gauge(gauges.connections as i64));
    put("avg_latency", RealGauge(latency.mean()));
    put("outstanding_requests", Gauge(gauges.outstanding as i64));
    put("znode_count", Gauge(gauges.nodes as i64));
    put("global_sessions", Gauge(gauges.sessions as i64));
    // There is no TLS yet, so no connection could have used it and did not.
    put("non_mtls_remote_conn_count", Gauge(0));
    put("last_client_response_size", size(sizes.last.unwrap_or_default()));
    put("packets_sent", Gauge(totals.sent as i64));
    put("packets_received", Gauge(totals.received as i64));
    put("max_client_response_size", size(sizes.max));
    put("connection_drop_probability", RealGauge(gauges.drop_probability));
    put("watch_count", Gauge(gauges.watches as i64));
    put("auth_failed_count", Gauge(measures.auth_failed as i64));
    put("min_latency", Gauge(latency.min));
    put("max_file_descriptor_count", Gauge(gauges.max_files));
    put("approximate_data_size", Gauge(gauges.data_bytes));
    put("open_file_descriptor_count", Gauge(gauges.open_files));
    put("local_sessions", Gauge(gauges.local_sessions as i64));
    put("uptime", Gauge(gauges.uptime_ms));
    put("max_latency", Gauge(latency.max));
    put("outstanding_tls_handshake", Gauge(0));
    put("min_client_response_size", size(sizes.min));
    put("non_mtls_local_conn_count", Gauge(0));
    if let Some(size) = gauges.quorum_size {
        put("quorum_size", Gauge(size as i64));
    }
    if let Some(leading) = gauges.leading {
        let [last, least, greatest] = leading.proposal_sizes;
        put("learners", Gauge(leading.learners as i64));
        put("synced_followers", Gauge(leading.synced_followers as i64));
        put("synced_non_voting_followers", Gauge(leading.synced_non_voting_followers as i64));
        put("synced_observers", Gauge(leading.synced_observers as i64));
        put("pending_syncs", Gauge(leading.pending_syncs as i64));
        put("leader_uptime", Gauge(leading.uptime_ms));
        put("last_proposal_size", Gauge(last.into()));
        put("min_proposal_size", Gauge(least.into()));
        put("max_proposal_size", Gauge(greatest.into()));
    }
}

/// What can't happen on a server without TLS and admin commands.
const NEVER: u64 = 0;

fn counters<'a>(figures: &Figures<'_>, put: &mut impl FnMut(&'static str, Value<'a>)) {
    let Figures { measures, totals, gauges, .. } = figures;
    let member = gauges.member;
    let throttled = measures.throttled;
    let changes = measures.log.queued;
    let counters = [
        ("watch_bytes", measures.watch_bytes),
        ("stale_requests_dropped", throttled.stale_dropped),
        ("throttled_ops", throttled.overdue),
        ("insecure_admin_count", NEVER),
        ("connection_rejected", measures.connections_rejected),
        ("sessionless_connections_expired", measures.sessionless_expired),
        ("stale_requests", throttled.stale),
        ("connection_drop_count", measures.connections_dropped),
        ("bytes_received_count", totals.bytes_received),
        ("request_throttle_wait_count", throttled.waited),
        ("requests_not_forwarded_to_commit_processor", NEVER),
        ("prep_processor_request_queued", measures.requests),
        ("stale_replies", measures.stale_replies),
        ("response_bytes", measures.response_bytes),
        ("ensemble_auth_fail", measures.ensemble_auth.fail),
        ("diff_count", member.syncs.diffs),
        ("connection_revalidate_count", measures.revalidations),
        ("quit_leading_due_to_disloyal_voter", NEVER),
        // The first such error ends the process.
        ("unrecoverable_error_count", NEVER),
        ("unsuccessful_handshake", NEVER),
        ("commit_count", member.committed),
        ("outstanding_changes_queued", totals.changes_queued),
        ("ensemble_auth_skip", measures.ensemble_auth.skip),
        ("skip_learner_request_to_next_processor_count", NEVER),
        ("proposal_count", member.proposed),
        ("large_requests_rejected", throttled.large_rejected),
        ("outstanding_changes_removed", totals.changes_removed),
        ("restore_error_count", NEVER),
        ("cnxn_closed_without_zk_server_running", NEVER),
        ("looking_count", member.looking),
        ("snapshot_rate_limited_count", NEVER),
        ("learner_proposal_received_count", member.proposals_received),
        ("digest_mismatches_count", totals.digest_mismatches),
        ("ensemble_auth_success", measures.ensemble_auth.success),
        ("learner_commit_received_count", member.commits_received),
        ("snapshot_error_count", NEVER),
        ("connection_request_count", measures.connection_requests),
        ("snap_count", member.syncs.snaps),
        ("stale_sessions_expired", totals.expired),
        ("restore_rate_limited_count", NEVER),
        ("sync_processor_request_queued", changes),
        ("tls_handshake_exceeded", NEVER),
        ("revalidate_count", member.revalidated),
    ];
    for (name, value) in counters {
        put(name, Value::Counter(value));
    }
}

fn basic_summaries<'a>(figures: &Figures<'_>, put: &mut impl FnMut(&'static str, Value<'a>)) {
    const NEVER: Summary = Summary { count: 0, sum: 0, min: 0, max: 0 };
    let Figures { measures, gauges, .. } = figures;
    let (member, Measures { fired, log, .. }) = (gauges.member, measures);
    let summaries = [
        ("socket_closing_time", NEVER, Unit::Plain),
        ("leader_unavailable_time", member.leader_unavailable_ms, Unit::Plain),
        ("node_created_watch_count", fired.created, Unit::Plain),
        ("connection_token_deficit", measures.token_deficit, Unit::Plain),
        ("node_deleted_watch_count", fired.deleted, Unit::Plain),
        ("sync_processor_queue_size", log.queue_size, Unit::Plain),
        ("follower_sync_time", member.follower_sync_ms, Unit::Plain),
        ("prep_processor_queue_size", measures.requests_taken, Unit::Plain),
        ("fsynctime", log.fsync, Unit::Micros),
        ("inflight_snap_count", member.syncs.snaps_at_once, Unit::Plain),
        ("restore_time", NEVER, Unit::Plain),
        ("learner_request_processor_queue_size", NEVER, Unit::Plain),
        ("snapshottime", measures.snapshot_time_ms, Unit::Plain),
        ("unavailable_time", member.unavailable_ms, Unit::Plain),
        ("startup_txns_loaded", measures.replayed, Unit::Plain),
        ("prep_process_time", measures.prepare_time, Unit::Micros),
        ("dbinittime", measures.load_time_ms, Unit::Plain),
        ("inflight_diff_count", member.syncs.diffs_at_once, Unit::Plain),
        ("election_time", member.election_ms, Unit::Plain),
        ("sync_processor_batch_size", log.batch_size, Unit::Plain),
        ("node_children_watch_count", fired.children_changed, Unit::Plain),
        ("observer_sync_time", member.observer_sync_ms, Unit::Plain),
        ("node_changed_watch_count", fired.data_changed, Unit::Plain),
    ];
    for (name, summary, unit) in summaries {
        put(name, Value::Basic(summary, unit));
    }
}

fn advanced_summaries<'a>(measures: &'a Measures, put: &mut impl FnMut(&'static str, Value<'a>)) {
    static NEVER: Distribution = Distribution::new();
    let Measures { log, .. } = measures;
    let distributions = [
        ("jvm_pause_time_ms", &measures.pauses_ms, Unit::Plain),
        ("updatelatency", &measures.update_latency, Unit::Plain),
        ("readlatency", &measures.read_latency, Unit::Plain),
        ("quorum_ack_latency", &measures.quorum_ack_latency, Unit::Plain),
        ("om_commit_process_time_ms", &NEVER, Unit::Plain),
        ("commit_propagation_latency", &measures.commit_propagation_latency, Unit::Plain),
        ("proposal_ack_creation_latency", &measures.proposal_ack_creation_latency, Unit::Plain),
        ("proposal_latency", &measures.proposal_latency, Unit::Plain),
        ("om_proposal_process_time_ms", &NEVER, Unit::Plain),
        ("sync_processor_queue_and_flush_time_ms", &log.queue_and_flush_time, Unit::Micros),
        ("propagation_latency", &measures.propagation_latency, Unit::Plain),
        ("sync_processor_queue_time_ms", &log.queue_time, Unit::Micros),
        ("sync_processor_queue_flush_time_ms", &log.flush_time, Unit::Micros),
    ];
    for (name, distribution, unit) in distributions {
        put(name, Value::Advanced(distribution, unit));
    }
}

/// The answer of the word `mntr`.
pub fn mntr(figures: &Figures<'_>) -> String {
    let mut text = format!("zk_version\t{}\nzk_server_state\t{}\n", figures.version, figures.state.name());
    if let Some(state) = figures.state.peer_state() {
        write_line(&mut text, "", "peer_state", state);
    }
    if let Some(leader) = figures.gauges.observed {
        write_line(&mut text, "", "observer_master_id", leader);
    }
    for Metric { name, key, value } in metrics(figures) {
        let name = match key {
            None => name.to_owned(),
            Some(key) => format!("{key}_{name}"),
        };
        match value {
            Value::Gauge(value) => write_line(&mut text, "", &name, value),
            Value::RealGauge(value) => write_line(&mut text, "", &name, java::mean(value)),
            Value::Counter(value) => write_line(&mut text, "", &name, value),
            Value::Basic(summary, unit) => write_summary(&mut text, &name, &summary, unit),
            Value::Advanced(distribution, unit) => {
                write_summary(&mut text, &name, &distribution.summary, unit);
                for (prefix, permille) in [("p50_", 500), ("p95_", 950), ("p99_", 990), ("p999_", 999)] {
                    let value = distribution.quantile(permille);
                    write_line(&mut text, prefix, &name, (value + unit.per_shown() / 2) / unit.per_shown());
                }
            }
        }
    }
    text
}

fn write_summary(text: &mut String, name: &str, summary: &Summary, unit: Unit) {
    let per_shown = unit.per_shown();
    write_line(text, "avg_", name, java::mean(summary.mean() / per_shown as f64));
    write_line(text, "min_", name, summary.min / per_shown);
    write_line(text, "max_", name, summary.max / per_shown);
    write_line(text, "cnt_", name, summary.count);
    write_line(text, "sum_", name, summary.sum / per_shown);
}

fn write_line(text: &mut String, prefix: &str, name: &str, value: impl std::fmt::Display) {
    let _ = writeln!(text, "zk_{prefix}{name}\t{value}");
}

/// Adds the limits (or the usage) that a quota node holds to the figures of its namespace.
pub fn add_quota(
    quotas: &mut BTreeMap<String, QuotaFigures>,
    subject: &str,
    limits: Option<Track>,
    used: Option<Track>,
) {
    let Some(namespace) = subject.split('/').nth(1) else { return };
    let figures = quotas.entry(namespace.to_owned()).or_default();
    // A hard limit takes precedence.
    let limit = |hard: i64, soft: i64| if hard > -1 { hard } else { soft };
    if let Some(limits) = limits {
        figures.count_limit += limit(limits.count_hard_limit, limits.count);
        figures.bytes_limit += limit(limits.byte_hard_limit, limits.bytes);
    }
    if let Some(used) = used {
        figures.count_usage += used.count;
        figures.bytes_usage += used.bytes;
    }
}
