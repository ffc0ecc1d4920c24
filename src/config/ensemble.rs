//! What only a member of an ensemble needs: the membership, and how it elects, joins and synchronises.

use super::error::Notice;
use super::file::FileKeys;
use super::membership::{Membership, MultiAddress, Role};
use super::node::Properties;
use super::own::OwnMember;

/// The settings of a member. A standalone server has them too and looks at `mode` alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Ensemble {
    pub mode: Mode,
    /// The content of `myid`, if there is such a file; never absent in a member of an ensemble.
    pub server_id: Option<i64>,
    /// The own role, by the own line in the membership.
    pub role: Role,
    pub membership: Membership,
    /// The proposed but perhaps not committed membership that an interrupted reconfiguration left behind.
    pub last_seen: Option<Membership>,
    /// Membership lines stand in a file of their own, whose path this is.
    pub dynamic_file: Option<String>,
    pub standalone_enabled: bool,
    pub reconfig_enabled: bool,
    /// An observer writes log and snapshots.
    pub sync_enabled: bool,
    /// 0: as `init_limit_ticks`.
    pub connect_to_learner_master_limit_ticks: i32,
    pub quorum_listen_on_all_ips: bool,
    pub leader_serves: bool,

    // Links between members.
    pub multi_address: MultiAddress,
    pub multi_address_reachability_check: bool,
    pub multi_address_reachability_timeout_ms: u32,
    pub tcp_keep_alive: bool,
    pub leader_nodelay: bool,
    pub follower_nodelay: bool,
    /// How long connecting to another member's election port may take.
    pub cnx_timeout_ms: u32,
    /// The read timeout of an election connection; `None`: `sync_limit_ticks` ticks.
    pub quorum_cnxn_timeout_ms: Option<u32>,
    /// How often binding the election port is tried; `None`: for ever.
    pub election_port_bind_attempts: Option<u32>,

    // Election and synchronisation.
    pub min_notification_interval_ms: u32,
    pub max_notification_interval_ms: u32,
    /// How long a leader waits for its quorum's epochs; `None`: `init_limit_ticks` ticks.
    pub max_time_to_wait_for_epoch_ms: Option<u32>,
    /// Leading fails if it is not positive.
    pub max_concurrent_snap_syncs: i32,
    pub max_concurrent_diff_syncs: i32,
    /// Every how many transactions `ack_latency` is measured.
    pub ack_logging_frequency: u32,
    pub leader_connect_delay_during_retry_ms: u32,
    pub observer_reconnect_delay_ms: u64,
    pub observer_election_delay_ms: u32,
    /// A leader sends a snapshot even where a diff would do.
    pub force_snapshot_sync: bool,
}

/// Whether the server is on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Mode {
    Standalone,
    Quorum,
}

impl Ensemble {
    /// Whose image of the tree counts: the own number, 0 standalone.
    pub fn image_owner(&self) -> i64 {
        match self.mode {
            Mode::Standalone => 0,
            Mode::Quorum => self.server_id.unwrap_or(0),
        }
    }

    /// How many ticks a learner may take to connect to its leader.
    pub fn connect_limit_ticks(&self, init_limit_ticks: i32) -> i32 {
        if self.connect_to_learner_master_limit_ticks > 0 {
            self.connect_to_learner_master_limit_ticks
        } else {
            init_limit_ticks
        }
    }

    pub(super) fn new(
        file: &FileKeys,
        own: OwnMember,
        multi_address: MultiAddress,
        properties: &mut Properties<'_>,
    ) -> Self {
        let p = properties;
        let snap_syncs = p.int("leader.maxConcurrentSnapSyncs", 10);
        let diff_syncs = p.int("leader.maxConcurrentDiffSyncs", 100);
        for (key, value) in
            [("leader.maxConcurrentSnapSyncs", snap_syncs), ("leader.maxConcurrentDiffSyncs", diff_syncs)]
        {
            if value <= 0 {
                let text = format!("{key}: maxConcurrentSyncs must be positive, was {value}; this server cannot lead");
                p.notices.push(Notice::error(text));
            }
        }
        let sync_enabled = match p.text("observer.syncEnabled") {
            Some(_) => p.is_true("observer.syncEnabled"),
            None => file.sync_enabled,
        };
        let max_time_to_wait_for_epoch_ms = u32::try_from(p.int("leader.maxTimeToWaitForEpoch", -1)).ok();
        let mut unbuilt = |what: &str| p.notices.push(Notice::unbuilt(what));
        if !sync_enabled && own.role == Role::Observer {
            unbuilt("syncEnabled=false, so this observer keeps a log and snapshots");
        }
        if max_time_to_wait_for_epoch_ms.is_some() {
            unbuilt("leader.maxTimeToWaitForEpoch");
        }
        if let Some(next) = &own.last_seen {
            unbuilt(&format!(
                "the end of a reconfiguration, to version {:x}: if it was broken off, a ZooKeeper leader ends it",
                next.version
            ));
        }
        Self {
            mode: own.mode,
            server_id: own.server_id,
            role: own.role,
            membership: own.membership,
            last_seen: own.last_seen,
            dynamic_file: file.dynamic_file.clone(),
            standalone_enabled: file.standalone_enabled,
            reconfig_enabled: file.reconfig_enabled,
            sync_enabled,
            connect_to_learner_master_limit_ticks: file.connect_to_learner_master_limit_ticks,
            quorum_listen_on_all_ips: file.quorum_listen_on_all_ips,
            leader_serves: !p.is_exactly("leaderServes", "no"),
            multi_address,
            multi_address_reachability_check: file
                .multi_address_reachability_check
                .unwrap_or_else(|| p.is_true_by_default("multiAddress.reachabilityCheckEnabled")),
            multi_address_reachability_timeout_ms: match file.multi_address_reachability_timeout_ms {
                Some(millis) => millis.try_into().unwrap_or(0),
                None => p.count("multiAddress.reachabilityCheckTimeoutMs", 1000),
            },
            tcp_keep_alive: p.is_true("tcpKeepAlive"),
            leader_nodelay: p.is_true_by_default("leader.nodelay"),
            follower_nodelay: p.is_true_by_default("follower.nodelay"),
            cnx_timeout_ms: p.count("cnxTimeout", 5000),
            quorum_cnxn_timeout_ms: u32::try_from(p.int("quorumCnxnTimeoutMs", -1)).ok(),
            election_port_bind_attempts: match p.int("electionPortBindRetry", 3) {
                0 => None,
                attempts => Some(u32::try_from(attempts).unwrap_or(3)),
            },
            min_notification_interval_ms: p.count("fastleader.minNotificationInterval", 200),
            max_notification_interval_ms: p.count("fastleader.maxNotificationInterval", 60_000),
            max_time_to_wait_for_epoch_ms,
            max_concurrent_snap_syncs: snap_syncs,
            max_concurrent_diff_syncs: diff_syncs,
            ack_logging_frequency: p.count("leader.ackLoggingFrequency", 1000),
            leader_connect_delay_during_retry_ms: p.count("leaderConnectDelayDuringRetryMs", 100),
            observer_reconnect_delay_ms: p.millis("observer.reconnectDelayMs", 0),
            observer_election_delay_ms: p.count("observer.election.DelayMs", 200),
            force_snapshot_sync: p.is_true("forceSnapshotSync"),
        }
    }
}
