//! Every key that Java's server knows: where it may be written, and what becomes of it here.
//!
//! A key has one right place, and Java says nothing when it stands in a wrong one. This table is what lets
//! us say it. It also decides what a start says about keys that act on nothing.

use std::collections::BTreeMap;

use super::error::{Level, Notice};
use super::flags::Flags;
use Fate::{Acted, Ignored, Unbuilt};
use Place::{CommandLine, File, Property};

/// Where Java reads a key from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Place {
    /// The file only; `-Dzookeeper.<key>` has no effect.
    File,
    /// The system property `zookeeper.<key>`, which the file sets when it has a line `<key>=`.
    Property,
    /// The system property `<key>`; a line in the file sets another one and has no effect.
    CommandLine,
}

/// What becomes of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It has a field in the configuration, or decides whether the server may start.
    Acted,
    /// It steers something that only a JVM, or only Java's server inside, has.
    Ignored,
    /// It steers something that is not built yet and without which the server does its work all the same.
    Unbuilt,
}

/// What is to be said about the keys themselves: those in a wrong place and those that nobody knows one by
/// one, those without effect in one line.
pub(super) fn notices(file: &BTreeMap<String, String>, flags: &Flags) -> Vec<Notice> {
    let admin_server = file.get("admin.enableServer").or_else(|| flags.properties.get("zookeeper.admin.enableServer"));
    let mut found = Found { admin_disabled: admin_server.is_some_and(|text| text == "false"), ..Found::default() };
    match admin_server.map(String::as_str) {
        Some("false") => {}
        // It was asked for, and something may be about to ask it.
        Some(_) => found.notices.push(Notice::unbuilt(format_args!("{NO_ADMIN_SERVER} (admin.enableServer)"))),
        None => found.notices.push(Notice { level: Level::Info, ..Notice::unbuilt(NO_ADMIN_SERVER) }),
    }
    for key in file.keys() {
        found.add_line(key);
    }
    for name in flags.properties.keys() {
        found.add_flag(name);
    }
    found.ignored.extend(flags.for_a_jvm.iter().cloned());
    found.into_notices()
}

const NO_ADMIN_SERVER: &str = "AdminServer; nothing listens on its port";

#[derive(Default)]
struct Found {
    notices: Vec<Notice>,
    ignored: Vec<String>,
    unbuilt: Vec<String>,
    /// Nobody misses the settings of an AdminServer that is off.
    admin_disabled: bool,
}

impl Found {
    fn add_line(&mut self, key: &str) {
        match (look_up(key), key.strip_prefix("zookeeper.")) {
            (Some((Place::File | Place::Property, fate)), _) => self.add(fate, key.to_owned()),
            (Some((Place::CommandLine, _)), _) => {
                self.warn(format!("{key} has no effect in the file: pass it as -D{key}=value in SERVER_JVMFLAGS"));
            }
            (None, Some(bare)) if look_up(bare).is_some() => {
                self.warn(format!("{key} has no effect in the file: write it as {bare}"));
            }
            (None, _) => self.warn(format!("{key} in the file is a key that this server does not know")),
        }
    }

    fn add_flag(&mut self, name: &str) {
        let Some(key) = name.strip_prefix("zookeeper.") else { return self.add_bare_flag(name) };
        match look_up(key) {
            Some((Place::Property, fate)) => self.add(fate, format!("-D{name}")),
            Some((Place::File, fate)) if FILE_AND_PROPERTY.contains(&key) => self.add(fate, format!("-D{name}")),
            Some((Place::File, _)) => self.warn(format!("-D{name} has no effect: write {key} into the file")),
            Some((Place::CommandLine, _)) => self.warn(format!("-D{name} has no effect: the flag is -D{key}")),
            None => self.warn(format!("-D{name} is a flag that this server does not know")),
        }
    }

    fn add_bare_flag(&mut self, name: &str) {
        match look_up(name) {
            Some((Place::CommandLine, fate)) => self.add(fate, format!("-D{name}")),
            Some((_, fate)) if BARE_ON_COMMAND_LINE.contains(&name) => self.add(fate, format!("-D{name}")),
            Some((Place::Property, _)) => self.warn(format!("-D{name} has no effect: the flag is -Dzookeeper.{name}")),
            // A property of the JVM or of some library in it.
            Some((Place::File, _)) | None => self.ignored.push(format!("-D{name}")),
        }
    }

    fn add(&mut self, fate: Fate, spelling: String) {
        match fate {
            Fate::Acted => {}
            Fate::Ignored => self.ignored.push(spelling),
            Fate::Unbuilt if self.admin_disabled && spelling.contains("admin.") => {}
            Fate::Unbuilt => self.unbuilt.push(spelling),
        }
    }

    fn warn(&mut self, text: String) {
        self.notices.push(Notice::warn(text));
    }

    fn into_notices(mut self) -> Vec<Notice> {
        if !self.unbuilt.is_empty() {
            self.notices.push(Notice::unbuilt(self.unbuilt.join(", ")));
        }
        if !self.ignored.is_empty() {
            let text = format!("ignored, because it has no meaning in this server: {}", self.ignored.join(", "));
            self.notices.push(Notice::info(text));
        }
        self.notices
    }
}

/// The fate of `key` at the place where it would have an effect.
pub(super) fn look_up(key: &str) -> Option<(Place, Fate)> {
    let exact = KEYS.iter().find_map(|&(place, fate, keys)| keys.contains(&key).then_some((place, fate)));
    exact.or_else(|| {
        FAMILIES.iter().find(|(_, _, prefix)| key.starts_with(prefix)).map(|&(place, fate, _)| (place, fate))
    })
}

/// Keys that also count in their bare spelling on the command line, next to `zookeeper.<key>`.
pub(super) const BARE_ON_COMMAND_LINE: &[&str] = &[
    "fsync.warningthresholdms",
    "learner.asyncSending",
    "learner.closeSocketAsync",
    "leader.closeSocketAsync",
    "zooid.giveUpAfter",
    "zooid.maxReplyBytes",
];

/// Keys of the file of which Java also reads `-Dzookeeper.<key>`.
pub(super) const FILE_AND_PROPERTY: &[&str] =
    &["multiAddress.enabled", "multiAddress.reachabilityCheckEnabled", "multiAddress.reachabilityCheckTimeoutMs"];

#[rustfmt::skip]
const KEYS: &[(Place, Fate, &[&str])] = &[
    (File, Acted, &[
        "dataDir", "dataLogDir", "clientPort", "clientPortAddress", "secureClientPort", "secureClientPortAddress",
        "clientPortListenBacklog", "tickTime", "initLimit", "syncLimit", "connectToLearnerMasterLimit",
        "maxClientCnxns", "minSessionTimeout", "maxSessionTimeout", "localSessionsEnabled",
        "localSessionsUpgradingEnabled", "electionAlg", "peerType", "dynamicConfigFile", "standaloneEnabled",
        "reconfigEnabled", "observerMasterPort", "oraclePath", "quorumListenOnAllIPs", "syncEnabled",
        "multiAddress.enabled",
        "autopurge.snapRetainCount", "autopurge.purgeInterval",
        "quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl",
        "sslQuorum", "portUnification", "metricsProvider.className", "version",
    ]),
    (File, Ignored, &[
        "quorum.cnxn.threads.size", "jvm.pause.monitor", "jvm.pause.info-threshold.ms",
        "jvm.pause.warn-threshold.ms", "jvm.pause.sleep.time.ms",
        // All addresses are dialled at once.
        "multiAddress.reachabilityCheckEnabled", "multiAddress.reachabilityCheckTimeoutMs",
    ]),
    (File, Unbuilt, &[
        "quorum.auth.learner.saslLoginContext", "quorum.auth.server.saslLoginContext",
        "quorum.auth.kerberos.servicePrincipal", "sslQuorumReloadCertFiles",
    ]),
    (Property, Acted, &[
        "maxCnxns", "globalOutstandingLimit", "preAllocSize", "snapCount", "commitLogCount", "snapSizeLimitInKb",
        "txnLogSizeLimitInKb", "snapshotSizeFactor", "maxResponseCacheSize", "maxGetChildrenResponseCacheSize",
        "fsync.warningthresholdms", "forceSync",
        "enforceQuota", "skipACL", "digest.enabled",
        "snapshot.compression.method", "snapshot.trust.empty",
        "largeRequestMaxBytes", "largeRequestThreshold",
        "request_throttle_max_requests", "request_throttle_drop_stale", "request_stale_connection_check",
        "request_stale_latency_check",
        "throttled_op_wait_time",
        "connection_throttle_tokens", "connection_throttle_fill_time", "connection_throttle_fill_count",
        "connection_throttle_freeze_time", "connection_throttle_drop_increase",
        "connection_throttle_drop_decrease", "connection_throttle_decrease_ratio",
        "connection_throttle_weight_enabled", "connection_throttle_global_session_weight",
        "connection_throttle_local_session_weight", "connection_throttle_renew_session_weight",
        "nio.sessionlessCnxnTimeout", "serverCnxnFactory", "clientTcpKeepAlive", "jute.maxbuffer.extrasize",
        "extendedTypesEnabled", "emulate353TTLNodes",
        "cnxTimeout", "quorumCnxnTimeoutMs", "electionPortBindRetry", "fastleader.minNotificationInterval",
        "fastleader.maxNotificationInterval", "tcpKeepAlive", "leaderServes", "leader.maxConcurrentSnapSyncs",
        "leader.maxConcurrentDiffSyncs", "leader.maxTimeToWaitForEpoch",
        "leaderConnectDelayDuringRetryMs", "forceSnapshotSync",
        "observer.syncEnabled", "datadir.autocreate", "db.autocreate",
        "watchManagerName", "DigestAuthenticationProvider.enabled", "DigestAuthenticationProvider.superDigest",
        "DigestAuthenticationProvider.digestAlg", "ensembleAuthName", "sessionRequireClientSASLAuth",
        "enforce.auth.enabled", "enforce.auth.schemes", "client.portUnification", "4lw.commands.whitelist",
        "audit.enable", "admin.enableServer", "leader.ackLoggingFrequency",
        // Ours. It has the form of Java's keys, so that a file with it still starts a Java server.
        "zooid.giveUpAfter",
        "zooid.maxReplyBytes",
    ]),
    (Property, Ignored, &[
        "intBufferStartingSizeBytes", "nio.numSelectorThreads", "nio.numWorkerThreads", "nio.directBufferBytes",
        "nio.shutdownTimeout", "commitProcessor.numWorkerThreads", "commitProcessor.shutdownTimeout",
        "commitProcessor.maxReadBatchSize", "commitProcessor.maxCommitBatchSize",
        "netty.advancedFlowControl.enabled", "netty.server.outstandingHandshake.limit",
        "netty.server.earlyDropSecureConnectionHandshakes", "learner.asyncSending", "learner.closeSocketAsync",
        "leader.closeSocketAsync", "follower.skipLearnerRequestToNextProcessor",
        "forward_learner_requests_to_commit_processor_disabled", "watcherCleanThreadsNum",
        "watcherCleanThreshold", "watcherCleanIntervalInSeconds", "maxInProcessingDeadWatchers",
        "bitHashCacheSize", "messageTracker.Enabled", "messageTracker.BufferSize", "client.secure",
        "request_throttle_stall_time", "enableEagerACLCheck", "request_throttler.shutdownTimeout",
        // A batch is what came while the disk was at work.
        "flushDelay", "maxWriteQueuePollTime", "maxBatchSize",
        // Both are always on: whoever does not know what they add passes over it.
        "closeSessionTxn.enabled", "serializeLastProcessedZxid.enabled",
        "observer.reconnectDelayMs", "observer.election.DelayMs",
        "log.dir", "log.file", "root.logger", "jmx.log4j.disable", "jmx.log4j.mbean", "kinit",
        "ssl.context.supplier.class", "ssl.sslProvider", "controllerPort", "fips-mode",
    ]),
    (Property, Unbuilt, &[
        "observerMaster.sizeLimit", "X509AuthenticationProvider.superUser", "superUser", "allowSaslFailedClients",
        "sasl.serverconfig", "letAnySaslUserDoX", "SASLAuthenticationProvider.superPassword",
        "security.auth_to_local", "requireKerberosConfig", "server.realm", "client.certReload",
        "IPAuthenticationProvider.usexforwardedfor", "audit.impl.class",
    ]),
    (CommandLine, Acted, &[
        "jute.maxbuffer", "znode.container.checkIntervalMs", "znode.container.maxPerMinute",
        "znode.container.maxNeverUsedIntervalMs", "readonlymode.enabled", "leader.nodelay", "follower.nodelay",
    ]),
    (CommandLine, Ignored, &["jdk.tls.rejectClientInitiatedRenegotiation"]),
    (CommandLine, Unbuilt, &["java.security.auth.login.config"]),
];

const FAMILIES: &[(Place, Fate, &str)] = &[
    (File, Acted, "server."),
    (File, Acted, "group"),
    (File, Acted, "weight"),
    (File, Unbuilt, "metricsProvider."),
    (Property, Acted, "authProvider."),
    (Property, Unbuilt, "admin."),
    (Property, Unbuilt, "superUser."),
    (Property, Unbuilt, "ssl."),
    (Property, Unbuilt, "kerberos."),
    (Property, Ignored, "pathStats."),
    (Property, Ignored, "test."),
    (Property, Ignored, "testingonly."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_in_the_table_once() {
        let mut keys: Vec<&str> = KEYS.iter().flat_map(|(_, _, keys)| keys.iter().copied()).collect();
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    #[test]
    fn a_key_that_acts_is_read_somewhere() {
        let sources = [
            include_str!("mod.rs"),
            include_str!("file.rs"),
            include_str!("own.rs"),
            include_str!("node.rs"),
            include_str!("ensemble.rs"),
            include_str!("membership.rs"),
        ];
        for (_, _, keys) in KEYS.iter().filter(|(_, fate, _)| *fate == Acted) {
            for key in *keys {
                let quoted = format!("\"{key}\"");
                assert!(sources.iter().any(|source| source.contains(&quoted)), "{key} acts on nothing");
            }
        }
    }

    #[test]
    fn a_key_by_its_own_name_goes_before_its_family() {
        assert_eq!(look_up("admin.enableServer"), Some((Property, Acted)));
        assert_eq!(look_up("admin.serverPort"), Some((Property, Unbuilt)));
        assert_eq!(look_up("server.realm"), Some((Property, Unbuilt)));
        assert_eq!(look_up("server.1"), Some((File, Acted)));
        assert_eq!(look_up("requestThrottleLimit"), None);
    }
}
