//! What a server may choose for itself: directories, limits, throttles, and the settings of its features.
//!
//! The fields hold what Java's server would act on, not what was written: a limit that Java takes for "off"
//! is `None`, a value that Java silently replaces is replaced here, with a notice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::error::{ConfigError, Notice};
use super::file::FileKeys;
use super::keys::{self, Place};
use super::membership::Endpoint;
use super::value::{decode_int, decode_long};

/// The settings of one server. Numbers that the `conf` word prints keep Java's type and meaning.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    // Directories and ports.
    pub data_dir: PathBuf,
    pub data_log_dir: PathBuf,
    /// `None` if no port for clients is configured; port 0 is any free one.
    pub client: Option<Endpoint>,
    /// -1: the system's default.
    pub client_port_listen_backlog: i32,
    pub data_dir_autocreate: bool,
    pub db_autocreate: bool,

    // Time.
    pub tick_time_ms: i32,
    /// 0 if unset, which only a standalone server may leave it.
    pub init_limit_ticks: i32,
    pub sync_limit_ticks: i32,
    pub min_session_timeout_ms: i32,
    pub max_session_timeout_ms: i32,

    // Connections and requests.
    /// Per client address; 0 or less: no limit.
    pub max_client_cnxns: i32,
    pub max_cnxns: Option<u32>,
    pub sessionless_cnxn_timeout_ms: u64,
    pub client_tcp_keep_alive: bool,
    pub connection_factory: ConnectionFactory,
    /// The longest frame and field that is accepted.
    pub jute_max_buffer_bytes: u32,
    /// What the server's own records may have above that.
    pub jute_extra_bytes: u32,
    /// A longer reply is an error for its request; `None`: no limit, as in Java.
    pub max_reply_bytes: Option<u64>,
    /// If the start would be refused for something behind exactly this zxid, that is set aside.
    pub give_up_after: Option<i64>,
    pub global_outstanding_limit: u32,
    pub large_requests: LargeRequests,
    pub request_throttle: RequestThrottle,
    pub connection_throttle: ConnectionThrottle,
    pub local_sessions_enabled: bool,
    pub local_sessions_upgrading_enabled: bool,
    pub read_only_mode_enabled: bool,
    /// Words that may be asked for: what the whitelist names, and what the scripts need.
    pub four_letter_words: FourLetterWords,
    pub enforce_quota: bool,

    // The log and the snapshots.
    pub snap_count: u32,
    /// The log size that forces a snapshot; `None`: none does.
    pub snap_size_limit_kb: Option<u64>,
    pub commit_log_count: u32,
    /// The share of a snapshot's size that a learner may be sent as log instead; `None`: never.
    pub snapshot_size_factor: Option<f64>,
    pub pre_alloc_size_kb: u64,
    /// The size at which a new log file is begun; `None`: only with a snapshot.
    pub txn_log_size_limit_kb: Option<u64>,
    pub force_sync: bool,
    pub fsync_warning_threshold_ms: u64,
    pub max_batch_size: u32,
    pub flush_delay_ms: u64,
    pub max_write_queue_poll_time_ms: u64,
    pub snapshot_compression: SnapshotCompression,
    pub snapshot_trust_empty: bool,
    pub serialize_last_processed_zxid: bool,
    /// How often old snapshots and logs are purged; `None`: never.
    pub autopurge_interval_hours: Option<u32>,
    pub autopurge_retain_count: u32,

    // The tree.
    pub digest_enabled: bool,
    pub close_session_txn_enabled: bool,
    pub extended_types_enabled: bool,
    pub emulate_353_ttl_nodes: bool,
    pub container_check_interval_ms: u32,
    pub container_max_per_minute: u32,
    /// How long an unused container may live; 0: for ever.
    pub container_max_never_used_interval_ms: u64,
    pub watch_manager: WatchManager,
    /// Accepted; there is no response cache.
    pub max_response_cache_entries: u32,
    pub max_get_children_response_cache_entries: u32,

    // Access.
    pub skip_acl: bool,
    pub digest_enabled_provider: bool,
    pub digest_alg: DigestAlg,
    /// `super:<digest>`.
    pub super_digest: Option<String>,
    /// The `ensemble` scheme is available.
    pub ensemble_provider: bool,
    pub ensemble_auth_names: BTreeSet<String>,
    /// Schemes of which a session must have used one; `None`: any session may do anything.
    pub enforce_auth_schemes: Option<BTreeSet<String>>,

    // Kept for what shows or serves them.
    pub admin: Admin,
    pub metrics: Metrics,
}

/// Which of Java's connection layers is imitated: it shows in `cons` and `dump`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ConnectionFactory {
    Nio,
    Netty,
}

/// Accepted for its name; there is one watch table.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WatchManager {
    Plain,
    Optimized,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SnapshotCompression {
    None,
    Gzip,
    Snappy,
}

/// The hash of the digest scheme's identities.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DigestAlg {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
    Sha3_224,
    Sha3_256,
    Sha3_384,
    Sha3_512,
}

/// What large requests may occupy together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LargeRequests {
    pub max_bytes: u32,
    /// From which size a request counts; `None`: none does.
    pub threshold_bytes: Option<u32>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestThrottle {
    /// `None`: off.
    pub max_requests: Option<u32>,
    pub drop_stale: bool,
    pub stale_connection_check: bool,
    pub stale_latency_check: bool,
    pub shutdown_timeout_ms: u64,
    /// Older requests get an error; `None`: off.
    pub throttled_op_wait_time_ms: Option<u32>,
}

/// The token bucket for new connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConnectionThrottle {
    /// `None`: off.
    pub tokens: Option<u32>,
    pub fill_time_ms: i32,
    pub fill_count: i32,
    /// Negative: no connection is dropped at random.
    pub freeze_time_ms: i32,
    pub drop_increase: f64,
    pub drop_decrease: f64,
    pub decrease_ratio: f64,
    pub weight_enabled: bool,
    pub global_session_weight: u32,
    pub local_session_weight: u32,
    pub renew_session_weight: u32,
}

/// The whitelist of four-letter words.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum FourLetterWords {
    All,
    Some(BTreeSet<String>),
}

impl FourLetterWords {
    pub fn allows(&self, word: &str) -> bool {
        match self {
            Self::All => true,
            Self::Some(words) => words.contains(word),
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Admin {
    pub enabled: bool,
    pub address: String,
    pub port: i32,
    pub idle_timeout_ms: i32,
    pub command_url: String,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Metrics {
    Default,
    Prometheus { host: String, port: u16, export_jvm_info: bool },
}

/// Reads typed values out of the system properties, as Java does: a bad value means the default. Java does
/// not say so; we do.
pub(super) struct Properties<'a> {
    pub(super) all: &'a BTreeMap<String, String>,
    pub(super) notices: &'a mut Vec<Notice>,
}

impl<'a> Properties<'a> {
    /// The value of `key`, under the name that its place gives it.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let name = match keys::look_up(key) {
            Some((Place::Property, _)) => format!("zookeeper.{key}"),
            Some((Place::File, _)) if keys::FILE_AND_PROPERTY.contains(&key) => format!("zookeeper.{key}"),
            Some((Place::CommandLine, _)) => key.to_owned(),
            other => unreachable!("{key} is read as a property, but the table says {other:?}"),
        };
        let bare = || if keys::BARE_ON_COMMAND_LINE.contains(&key) { self.all.get(key) } else { None };
        self.all.get(&name).or_else(bare).map(String::as_str)
    }

    fn number<T: Copy + std::fmt::Display>(&mut self, key: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let Some(text) = self.text(key) else { return default };
        parse(text).unwrap_or_else(|| {
            self.notices
                .push(Notice::warn(format!("{key}={text} is not a number in range, using the default {default}")));
            default
        })
    }

    pub(super) fn int(&mut self, key: &str, default: i32) -> i32 {
        self.number(key, default, decode_int)
    }

    pub(super) fn long(&mut self, key: &str, default: i64) -> i64 {
        self.number(key, default, decode_long)
    }

    fn double(&mut self, key: &str, default: f64) -> f64 {
        self.number(key, default, |text| text.trim().parse().ok())
    }

    /// What is not negative; below zero counts as zero.
    pub(super) fn count(&mut self, key: &str, default: i32) -> u32 {
        self.int(key, default).try_into().unwrap_or(0)
    }

    pub(super) fn millis(&mut self, key: &str, default: i64) -> u64 {
        self.long(key, default).try_into().unwrap_or(0)
    }

    /// A limit that is off at zero and below.
    fn limit(&mut self, key: &str, default: i32) -> Option<u32> {
        Some(self.count(key, default)).filter(|&limit| limit > 0)
    }

    fn size_limit_kb(&mut self, key: &str, default: i64) -> Option<u64> {
        Some(self.millis(key, default)).filter(|&limit| limit > 0)
    }

    /// `true` in any case; anything else is false.
    pub(super) fn is_true(&self, key: &str) -> bool {
        self.text(key).is_some_and(|text| text.eq_ignore_ascii_case("true"))
    }

    /// True unless it is set, to anything but `true` in any case.
    pub(super) fn is_true_by_default(&self, key: &str) -> bool {
        self.text(key).is_none_or(|text| text.eq_ignore_ascii_case("true"))
    }

    /// For the few switches that look for one exact word.
    pub(super) fn is_exactly(&self, key: &str, word: &str) -> bool {
        self.text(key) == Some(word)
    }

    fn names(&self, key: &str) -> BTreeSet<String> {
        self.text(key).into_iter().flat_map(|text| text.split(',')).map(|name| name.trim().to_owned()).collect()
    }
}

impl Node {
    pub(super) fn new(
        file: &FileKeys,
        client: Option<Endpoint>,
        properties: &mut Properties<'_>,
    ) -> Result<Self, ConfigError> {
        let p = properties;
        let connection_factory = connection_factory(p)?;
        let watch_manager = watch_manager(p)?;
        let digest_alg = digest_alg(p)?;
        let ensemble_provider = check_providers(p)?;
        let digest_enabled_provider = p.is_true_by_default("DigestAuthenticationProvider.enabled");
        let enforce_auth_schemes = enforced_schemes(p, digest_enabled_provider, ensemble_provider)?;
        let read_only_mode_enabled = p.is_true("readonlymode.enabled");
        if p.text("maxCnxns").is_none() {
            p.notices.push(Notice::warn("maxCnxns is not configured, using default value 0."));
        }
        let skip_acl = p.is_exactly("skipACL", "yes");
        if skip_acl {
            p.notices.push(Notice::info("zookeeper.skipACL==\"yes\", ACL checks will be skipped"));
        }
        let flush_delay_ms = p.millis("flushDelay", 0);
        let jute_max_buffer_bytes = p.count("jute.maxbuffer", 0xf_ffff);
        Ok(Self {
            data_dir: file.data_dir.clone(),
            data_log_dir: file.data_log_dir.clone(),
            client,
            client_port_listen_backlog: file.client_port_listen_backlog,
            data_dir_autocreate: p.is_true_by_default("datadir.autocreate"),
            db_autocreate: p.is_true_by_default("db.autocreate"),
            tick_time_ms: file.tick_time_ms,
            init_limit_ticks: file.init_limit_ticks,
            sync_limit_ticks: file.sync_limit_ticks,
            min_session_timeout_ms: file.min_session_timeout_ms,
            max_session_timeout_ms: file.max_session_timeout_ms,
            max_client_cnxns: file.max_client_cnxns,
            max_cnxns: p.limit("maxCnxns", 0),
            sessionless_cnxn_timeout_ms: p.count("nio.sessionlessCnxnTimeout", 10_000).into(),
            client_tcp_keep_alive: p.is_true("clientTcpKeepAlive"),
            connection_factory,
            jute_max_buffer_bytes,
            // Java: BinaryInputArchive.
            jute_extra_bytes: p
                .count("jute.maxbuffer.extrasize", i32::try_from(jute_max_buffer_bytes).unwrap_or(i32::MAX))
                .max(1024),
            max_reply_bytes: max_reply_bytes(p)?,
            give_up_after: give_up_after(p)?,
            global_outstanding_limit: p.count("globalOutstandingLimit", 1000),
            large_requests: large_requests(p),
            request_throttle: RequestThrottle {
                max_requests: p.limit("request_throttle_max_requests", 0),
                drop_stale: p.is_true_by_default("request_throttle_drop_stale"),
                stale_connection_check: p.is_true_by_default("request_stale_connection_check"),
                stale_latency_check: p.is_true("request_stale_latency_check"),
                shutdown_timeout_ms: p.count("request_throttler.shutdownTimeout", 10_000).into(),
                throttled_op_wait_time_ms: p.limit("throttled_op_wait_time", 0),
            },
            connection_throttle: connection_throttle(p),
            local_sessions_enabled: file.local_sessions_enabled,
            local_sessions_upgrading_enabled: file.local_sessions_upgrading_enabled,
            read_only_mode_enabled,
            four_letter_words: four_letter_words(p, read_only_mode_enabled),
            enforce_quota: p.is_true("enforceQuota"),
            snap_count: snap_count(p),
            snap_size_limit_kb: snap_size_limit_kb(p),
            commit_log_count: commit_log_count(p),
            snapshot_size_factor: snapshot_size_factor(p),
            pre_alloc_size_kb: p.millis("preAllocSize", 65_536),
            txn_log_size_limit_kb: p.size_limit_kb("txnLogSizeLimitInKb", -1),
            force_sync: !p.is_exactly("forceSync", "no"),
            fsync_warning_threshold_ms: p.millis("fsync.warningthresholdms", 1000),
            max_batch_size: p.count("maxBatchSize", 1000),
            flush_delay_ms,
            max_write_queue_poll_time_ms: p
                .millis("maxWriteQueuePollTime", i64::try_from(flush_delay_ms / 3).unwrap_or(i64::MAX)),
            snapshot_compression: snapshot_compression(p),
            snapshot_trust_empty: p.is_true("snapshot.trust.empty"),
            serialize_last_processed_zxid: p.is_true_by_default("serializeLastProcessedZxid.enabled"),
            autopurge_interval_hours: file.autopurge_interval_hours,
            autopurge_retain_count: file.autopurge_retain_count,
            digest_enabled: p.is_true_by_default("digest.enabled"),
            close_session_txn_enabled: p.is_true_by_default("closeSessionTxn.enabled"),
            extended_types_enabled: p.is_true("extendedTypesEnabled"),
            emulate_353_ttl_nodes: p.is_true("emulate353TTLNodes"),
            container_check_interval_ms: p.count("znode.container.checkIntervalMs", 60_000),
            container_max_per_minute: p.count("znode.container.maxPerMinute", 10_000),
            container_max_never_used_interval_ms: p.millis("znode.container.maxNeverUsedIntervalMs", 0),
            watch_manager,
            max_response_cache_entries: p.count("maxResponseCacheSize", 400),
            max_get_children_response_cache_entries: p.count("maxGetChildrenResponseCacheSize", 400),
            skip_acl,
            digest_enabled_provider,
            digest_alg,
            super_digest: p.text("DigestAuthenticationProvider.superDigest").map(str::to_owned),
            ensemble_provider,
            ensemble_auth_names: p.names("ensembleAuthName"),
            enforce_auth_schemes,
            admin: admin(p),
            metrics: file.metrics.clone(),
        })
    }
}

fn connection_factory(p: &Properties<'_>) -> Result<ConnectionFactory, ConfigError> {
    match p.text("serverCnxnFactory") {
        None | Some("org.apache.zookeeper.server.NIOServerCnxnFactory") => Ok(ConnectionFactory::Nio),
        Some("org.apache.zookeeper.server.NettyServerCnxnFactory") => Ok(ConnectionFactory::Netty),
        Some(other) => Err(ConfigError::unexpected(format!(
            "Couldn't instantiate {other}: serverCnxnFactory must be org.apache.zookeeper.server.NIOServerCnxnFactory \
             or org.apache.zookeeper.server.NettyServerCnxnFactory"
        ))),
    }
}

fn watch_manager(p: &Properties<'_>) -> Result<WatchManager, ConfigError> {
    match p.text("watchManagerName") {
        None | Some("org.apache.zookeeper.server.watch.WatchManager") => Ok(WatchManager::Plain),
        Some("org.apache.zookeeper.server.watch.WatchManagerOptimized") => Ok(WatchManager::Optimized),
        Some(other) => Err(ConfigError::unexpected(format!(
            "Couldn't instantiate {other}: watchManagerName must be org.apache.zookeeper.server.watch.WatchManager \
             or org.apache.zookeeper.server.watch.WatchManagerOptimized"
        ))),
    }
}

fn digest_alg(p: &Properties<'_>) -> Result<DigestAlg, ConfigError> {
    let Some(name) = p.text("DigestAuthenticationProvider.digestAlg") else { return Ok(DigestAlg::Sha1) };
    // The names and aliases of the JDK's own provider.
    match name.to_ascii_uppercase().as_str() {
        "SHA1" | "SHA-1" | "SHA" => Ok(DigestAlg::Sha1),
        "SHA-224" => Ok(DigestAlg::Sha224),
        "SHA-256" => Ok(DigestAlg::Sha256),
        "SHA-384" => Ok(DigestAlg::Sha384),
        "SHA-512" => Ok(DigestAlg::Sha512),
        "SHA3-224" => Ok(DigestAlg::Sha3_224),
        "SHA3-256" => Ok(DigestAlg::Sha3_256),
        "SHA3-384" => Ok(DigestAlg::Sha3_384),
        "SHA3-512" => Ok(DigestAlg::Sha3_512),
        _ => Err(ConfigError::unexpected(format!(
            "DigestAuthenticationProvider.digestAlg={name}: don't know this algorithm; SHA1, SHA-224, SHA-256, \
             SHA-384, SHA-512 and SHA3-224 to SHA3-512 are available"
        ))),
    }
}

const PROVIDERS: &str = "org.apache.zookeeper.server.auth.";

/// Refuses providers that are not built, and tells whether the `ensemble` scheme is asked for. A server that
/// started without a provider would refuse, or worse admit, clients that Java treats otherwise.
fn check_providers(p: &Properties<'_>) -> Result<bool, ConfigError> {
    let mut ensemble = false;
    for (name, class) in p.all.range("zookeeper.authProvider.".to_owned()..) {
        let Some(key) = name.strip_prefix("zookeeper.").filter(|key| key.starts_with("authProvider.")) else { break };
        match class.strip_prefix(PROVIDERS) {
            Some("DigestAuthenticationProvider" | "IPAuthenticationProvider") => {}
            Some("EnsembleAuthenticationProvider") => ensemble = true,
            _ => {
                return Err(ConfigError::invalid(format!(
                    "{key}={class}: this authentication provider is not built; remove the line, or use \
                     {PROVIDERS}{{Digest,IP,Ensemble}}AuthenticationProvider"
                )));
            }
        }
    }
    Ok(ensemble)
}

/// Java: AuthenticationHelper.
fn enforced_schemes(
    p: &Properties<'_>,
    digest_available: bool,
    ensemble_available: bool,
) -> Result<Option<BTreeSet<String>>, ConfigError> {
    if !p.is_true("enforce.auth.enabled") {
        return Ok(None);
    }
    if p.text("enforce.auth.schemes").is_none() {
        // Java's message has two blanks.
        return Err(ConfigError::usage(
            "zookeeper.enforce.auth.enabled is true zookeeper.enforce.auth.schemes must be  configured.",
        ));
    }
    let schemes = p.names("enforce.auth.schemes");
    for scheme in &schemes {
        match scheme.as_str() {
            "ip" => {}
            "digest" if digest_available => {}
            "ensemble" if ensemble_available => {}
            "sasl" | "x509" => {
                return Err(ConfigError::invalid(format!(
                    "enforce.auth.schemes={scheme}: this scheme is not built; remove it from the list"
                )));
            }
            _ => return Err(ConfigError::usage(format!("Authentication scheme {scheme} is not available."))),
        }
    }
    Ok(Some(schemes))
}

/// Our own key, so a bad value is an error.
fn max_reply_bytes(p: &Properties<'_>) -> Result<Option<u64>, ConfigError> {
    match p.text("zooid.maxReplyBytes") {
        None => Ok(None),
        Some(text) => match decode_long(text) {
            Some(bytes @ 1..) => Ok(Some(bytes as u64)),
            _ => Err(ConfigError::invalid(format!(
                "zooid.maxReplyBytes={text}: expected a positive number of bytes; leave it out for no limit"
            ))),
        },
    }
}

/// A zxid as the refusal prints it, with 0x, or in decimal.
fn give_up_after(p: &Properties<'_>) -> Result<Option<i64>, ConfigError> {
    match p.text("zooid.giveUpAfter") {
        None => Ok(None),
        Some(text) => match decode_long(text) {
            Some(zxid @ 0..) => Ok(Some(zxid)),
            _ => Err(ConfigError::invalid(format!(
                "zooid.giveUpAfter={text}: expected the zxid that the refusal of the start names, such as 0x6d"
            ))),
        },
    }
}

fn large_requests(p: &mut Properties<'_>) -> LargeRequests {
    const DEFAULT: i32 = 104_857_600;
    let max_bytes = p.limit("largeRequestMaxBytes", DEFAULT).unwrap_or(DEFAULT as u32);
    let threshold = p.int("largeRequestThreshold", -1);
    let threshold_bytes = u32::try_from(threshold).ok().filter(|&bytes| bytes > 0 && bytes <= max_bytes);
    if threshold_bytes.is_none() && threshold != -1 {
        p.notices.push(Notice::warn(format!("Invalid large request threshold {threshold}. Disabling it")));
    }
    LargeRequests { max_bytes, threshold_bytes }
}

/// Java: BlueThrottle.
fn connection_throttle(p: &mut Properties<'_>) -> ConnectionThrottle {
    let mut weight = |key: &str, default: u32, at_least: u32| {
        let configured = p.count(key, default as i32);
        let weight = if configured == 0 { default } else { configured.max(at_least) };
        if weight != configured {
            p.notices.push(Notice::warn(format!(
                "{key}={configured} is not above 0, or below connection_throttle_local_session_weight: {weight} is used"
            )));
        }
        weight
    };
    let local_session_weight = weight("connection_throttle_local_session_weight", 1, 0);
    let global_session_weight = weight("connection_throttle_global_session_weight", 3, local_session_weight);
    let renew_session_weight = weight("connection_throttle_renew_session_weight", 2, local_session_weight);
    ConnectionThrottle {
        tokens: p.limit("connection_throttle_tokens", 0),
        fill_time_ms: p.int("connection_throttle_fill_time", 1),
        fill_count: p.int("connection_throttle_fill_count", 1),
        freeze_time_ms: p.int("connection_throttle_freeze_time", -1),
        drop_increase: p.double("connection_throttle_drop_increase", 0.02),
        drop_decrease: p.double("connection_throttle_drop_decrease", 0.002),
        decrease_ratio: p.double("connection_throttle_decrease_ratio", 0.0),
        weight_enabled: p.is_true("connection_throttle_weight_enabled"),
        global_session_weight,
        local_session_weight,
        renew_session_weight,
    }
}

/// Java: FourLetterCommands.
fn four_letter_words(p: &Properties<'_>, read_only_mode_enabled: bool) -> FourLetterWords {
    let mut words = p.names("4lw.commands.whitelist");
    if words.contains("*") {
        return FourLetterWords::All;
    }
    words.remove("");
    words.insert("srvr".to_owned());
    if read_only_mode_enabled {
        words.insert("isro".to_owned());
    }
    FourLetterWords::Some(words)
}

fn snap_count(p: &mut Properties<'_>) -> u32 {
    let count = p.int("snapCount", 100_000);
    if count < 2 {
        p.notices.push(Notice::warn("SnapCount should be 2 or more. Now, snapCount is reset to 2"));
    }
    count.max(2) as u32
}

fn snap_size_limit_kb(p: &mut Properties<'_>) -> Option<u64> {
    let limit = p.long("snapSizeLimitInKb", 4_194_304);
    if limit == 0 {
        // Java divides by it and loses its log thread.
        p.notices.push(Notice::warn("snapSizeLimitInKb=0 is taken for no limit; write -1 to say so"));
    }
    u64::try_from(limit).ok().filter(|&limit| limit > 0)
}

fn snapshot_compression(p: &mut Properties<'_>) -> SnapshotCompression {
    match p.text("snapshot.compression.method") {
        Some("gz") => SnapshotCompression::Gzip,
        Some("snappy") => SnapshotCompression::Snappy,
        None | Some("") => SnapshotCompression::None,
        Some(other) => {
            let text =
                format!("snapshot.compression.method={other} is neither gz nor snappy, snapshots are not compressed");
            p.notices.push(Notice::warn(text));
            SnapshotCompression::None
        }
    }
}

/// Decimal digits only, and not below the default. Java: ZKDatabase.
fn commit_log_count(p: &mut Properties<'_>) -> u32 {
    p.number("commitLogCount", 500, super::value::parse_int).max(500) as u32
}

/// Negative switches it off; above 1 is the default. Java: ZKDatabase.snapshotSizeFactor.
fn snapshot_size_factor(p: &mut Properties<'_>) -> Option<f64> {
    const DEFAULT: f64 = 0.33;
    let factor = p.double("snapshotSizeFactor", DEFAULT);
    if factor > 1.0 {
        p.notices.push(Notice::warn(format!("snapshotSizeFactor={factor} is above 1, using the default {DEFAULT}")));
        return Some(DEFAULT);
    }
    Some(factor).filter(|&factor| factor >= 0.0)
}

fn admin(p: &mut Properties<'_>) -> Admin {
    Admin {
        enabled: !p.is_exactly("admin.enableServer", "false"),
        address: p.text("admin.serverAddress").unwrap_or("0.0.0.0").to_owned(),
        port: p.int("admin.serverPort", 8080),
        idle_timeout_ms: p.int("admin.idleTimeout", 30_000),
        command_url: p.text("admin.commandURL").unwrap_or("/commands").to_owned(),
    }
}
