//! The lines of the config file that Java's parser itself knows: parsed, defaulted and checked against each
//! other. A bad value here stops the server, and the error names its key.
//!
//! Java: `QuorumPeerConfig.parseProperties`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::error::{ConfigError, Notice};
use super::membership::{Endpoint, MultiAddress, Role, canonical_host, not_a_number, parse_port};
use super::node::Metrics;
use super::properties::parse_properties;
use super::value::{parse_int, parse_long};

/// The keys of the file that have fields, parsed and checked against each other.
#[derive(Clone, Debug)]
pub(super) struct FileKeys {
    pub(super) data_dir: PathBuf,
    pub(super) data_log_dir: PathBuf,
    pub(super) client: Option<Endpoint>,
    pub(super) client_port_listen_backlog: i32,
    pub(super) tick_time_ms: i32,
    pub(super) init_limit_ticks: i32,
    pub(super) sync_limit_ticks: i32,
    pub(super) connect_to_learner_master_limit_ticks: i32,
    pub(super) max_client_cnxns: i32,
    pub(super) min_session_timeout_ms: i32,
    pub(super) max_session_timeout_ms: i32,
    pub(super) local_sessions_enabled: bool,
    pub(super) local_sessions_upgrading_enabled: bool,
    pub(super) peer_type: Role,
    pub(super) standalone_enabled: bool,
    pub(super) reconfig_enabled: bool,
    pub(super) quorum_listen_on_all_ips: bool,
    pub(super) sync_enabled: bool,
    pub(super) dynamic_file: Option<String>,
    pub(super) autopurge_interval_hours: Option<u32>,
    pub(super) autopurge_retain_count: u32,
    pub(super) multi_address: Option<MultiAddress>,
    pub(super) multi_address_reachability_check: Option<bool>,
    pub(super) multi_address_reachability_timeout_ms: Option<i32>,
    pub(super) metrics: Metrics,
    /// Settings whose loss would leave something unprotected, as they were written.
    pub(super) refused: Vec<String>,
    pub(super) secure_client_port: Option<i32>,
}

/// The address of a server that listens on all of them.
pub(super) const ANY_ADDRESS: &str = "0.0.0.0";

const PROMETHEUS: &str = "org.apache.zookeeper.metrics.prometheus.PrometheusMetricsProvider";

/// Typed access to the lines of the file: here a bad value is an error that names the key.
struct Lines<'a>(&'a BTreeMap<String, String>);

impl<'a> Lines<'a> {
    fn text(&self, key: &str) -> Option<&'a str> {
        self.0.get(key).map(String::as_str)
    }

    fn int(&self, key: &str, default: i32) -> Result<i32, ConfigError> {
        self.text(key).map_or(Ok(default), |text| parse_int(text).ok_or_else(|| not_a_number(key, text)))
    }

    fn optional_int(&self, key: &str) -> Result<Option<i32>, ConfigError> {
        self.text(key).map(|text| parse_int(text).ok_or_else(|| not_a_number(key, text))).transpose()
    }

    fn check_long(&self, key: &str) -> Result<(), ConfigError> {
        match self.text(key) {
            Some(text) if parse_long(text).is_none() => Err(not_a_number(key, text)),
            _ => Ok(()),
        }
    }

    fn optional_flag(&self, key: &str) -> Result<Option<bool>, ConfigError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        if text.eq_ignore_ascii_case("true") {
            Ok(Some(true))
        } else if text.eq_ignore_ascii_case("false") {
            Ok(Some(false))
        } else {
            Err(ConfigError::invalid(format!("Invalid option {text} for {key}. Choose 'true' or 'false.'")))
        }
    }

    fn is_true(&self, key: &str) -> Result<bool, ConfigError> {
        Ok(self.optional_flag(key)?.unwrap_or(false))
    }

    fn directory(&self, key: &str, notices: &mut Vec<Notice>) -> Result<Option<PathBuf>, ConfigError> {
        let Some(text) = self.text(key) else { return Ok(None) };
        let path = normalized_path(text);
        if path.len() < 2 && path != "/" {
            // Java looks at the first two characters of a relative path.
            return Err(ConfigError::unexpected(format!(
                "{key}={text}: a relative path needs at least two characters; write ./{text}"
            )));
        }
        check_path(&path, notices);
        Ok(Some(PathBuf::from(path)))
    }
}

impl FileKeys {
    /// Java: `QuorumPeerConfig.parseProperties`, in its order of checks.
    pub(super) fn parse(lines: &BTreeMap<String, String>, notices: &mut Vec<Notice>) -> Result<Self, ConfigError> {
        let keys = Lines(lines);
        let election_alg = keys.int("electionAlg", 3)?;
        if election_alg != 3 {
            return Err(ConfigError::invalid("Invalid electionAlg value. Only 3 is supported."));
        }
        let dynamic_file = keys.text("dynamicConfigFile").map(str::to_owned);
        if let (Some(_), Some(key)) = (&dynamic_file, lines.keys().find(|key| is_membership(key))) {
            return Err(ConfigError::invalid(format!("parameter: {key} must be in a separate dynamic config file")));
        }
        let peer_type = keys.text("peerType").map_or(Ok(Role::Participant), |text| Role::parse("peerType", text))?;
        let tick_time_ms = keys.int("tickTime", 3000)?;
        let min_session_timeout_ms = keys.int("minSessionTimeout", -1)?;
        let max_session_timeout_ms = keys.int("maxSessionTimeout", -1)?;
        let retain_count = keys.int("autopurge.snapRetainCount", 3)?;
        let purge_interval = keys.int("autopurge.purgeInterval", 0)?;
        let client_port = keys.optional_int("clientPort")?;
        let secure_client_port = keys.optional_int("secureClientPort")?;
        let observer_master_port = keys.int("observerMasterPort", 0)?;
        let standalone_enabled = keys.optional_flag("standaloneEnabled")?.unwrap_or(true);
        let sync_enabled = keys.optional_flag("syncEnabled")?.unwrap_or(true);
        // Read by nobody here, but a bad value stops Java too.
        keys.int("quorum.cnxn.threads.size", 0)?;
        keys.is_true("jvm.pause.monitor")?;
        for key in ["jvm.pause.info-threshold.ms", "jvm.pause.warn-threshold.ms", "jvm.pause.sleep.time.ms"] {
            keys.check_long(key)?;
        }
        keys.is_true("sslQuorumReloadCertFiles")?;
        let data_dir = keys.directory("dataDir", notices)?;
        let data_log_dir = keys.directory("dataLogDir", notices)?;

        let enable_sasl = keys.is_true("quorum.auth.enableSasl")?;
        let learner_require_sasl = keys.is_true("quorum.auth.learnerRequireSasl")?;
        let server_require_sasl = keys.is_true("quorum.auth.serverRequireSasl")?;
        let cannot_enable = |disabled: &str, wanted: &str| {
            Err(ConfigError::invalid(format!("{disabled} is disabled, so cannot enable {wanted}")))
        };
        if server_require_sasl && !enable_sasl {
            return cannot_enable("quorum.auth.enableSasl", "quorum.auth.serverRequireSasl");
        }
        if learner_require_sasl && !enable_sasl {
            return cannot_enable("quorum.auth.enableSasl", "quorum.auth.learnerRequireSasl");
        }
        if server_require_sasl && !learner_require_sasl {
            return cannot_enable("quorum.auth.learnerRequireSasl", "quorum.auth.serverRequireSasl");
        }
        if retain_count < 3 {
            notices.push(Notice::warn(format!("Invalid autopurge.snapRetainCount: {retain_count}. Defaulting to 3")));
        }
        let Some(data_dir) = data_dir else {
            return Err(ConfigError::invalid("dataDir is not set"));
        };
        let client = parse_client("clientPort", client_port, keys.text("clientPortAddress"), notices)?;
        parse_client("secureClientPort", secure_client_port, keys.text("secureClientPortAddress"), notices)?;
        if observer_master_port <= 0 {
            notices.push(Notice::info("observerMasterPort is not set"));
        }
        if tick_time_ms == 0 {
            return Err(ConfigError::invalid("tickTime is not set"));
        }
        let or_ticks = |timeout_ms, ticks| if timeout_ms == -1 { tick_time_ms.wrapping_mul(ticks) } else { timeout_ms };
        let min_session_timeout_ms = or_ticks(min_session_timeout_ms, 2);
        let max_session_timeout_ms = or_ticks(max_session_timeout_ms, 20);
        if min_session_timeout_ms > max_session_timeout_ms {
            return Err(ConfigError::invalid(format!(
                "minSessionTimeout must not be larger than maxSessionTimeout ({min_session_timeout_ms} ms and \
                 {max_session_timeout_ms} ms; unset, they are 2 and 20 ticks of {tick_time_ms} ms)"
            )));
        }
        let metrics = parse_metrics(&keys, notices)?;

        let mut refused = Vec::new();
        for key in ["quorum.auth.enableSasl", "sslQuorum", "portUnification"] {
            if keys.is_true(key)? {
                refused.push(format!("{key}=true"));
            }
        }
        if observer_master_port > 0 {
            refused.push(format!("observerMasterPort={observer_master_port}"));
        }
        if let Some(path) = keys.text("oraclePath") {
            refused.push(format!("oraclePath={path}"));
        }
        Ok(Self {
            data_log_dir: data_log_dir.unwrap_or_else(|| data_dir.clone()),
            data_dir,
            client,
            client_port_listen_backlog: keys.int("clientPortListenBacklog", -1)?,
            tick_time_ms,
            init_limit_ticks: keys.int("initLimit", 0)?,
            sync_limit_ticks: keys.int("syncLimit", 0)?,
            connect_to_learner_master_limit_ticks: keys.int("connectToLearnerMasterLimit", 0)?,
            max_client_cnxns: keys.int("maxClientCnxns", 60)?,
            min_session_timeout_ms,
            max_session_timeout_ms,
            local_sessions_enabled: keys.is_true("localSessionsEnabled")?,
            local_sessions_upgrading_enabled: keys.is_true("localSessionsUpgradingEnabled")?,
            peer_type,
            standalone_enabled,
            reconfig_enabled: keys.is_true("reconfigEnabled")?,
            quorum_listen_on_all_ips: keys.is_true("quorumListenOnAllIPs")?,
            sync_enabled,
            dynamic_file,
            autopurge_interval_hours: u32::try_from(purge_interval).ok().filter(|&hours| hours > 0),
            autopurge_retain_count: retain_count.max(3) as u32,
            multi_address: keys.optional_flag("multiAddress.enabled")?.map(|enabled| match enabled {
                true => MultiAddress::Allowed,
                false => MultiAddress::Refused,
            }),
            multi_address_reachability_check: keys.optional_flag("multiAddress.reachabilityCheckEnabled")?,
            multi_address_reachability_timeout_ms: match keys.text("multiAddress.reachabilityCheckTimeoutMs") {
                Some(_) => Some(keys.int("multiAddress.reachabilityCheckTimeoutMs", 0)?),
                None => None,
            },
            metrics,
            refused,
            secure_client_port,
        })
    }
}

pub(super) fn parse_lines(bytes: &[u8]) -> Result<BTreeMap<String, String>, ConfigError> {
    parse_properties(bytes).map_err(|error| ConfigError::invalid(error.to_string()))
}

pub(super) fn is_membership(key: &str) -> bool {
    ["server.", "group", "weight"].iter().any(|prefix| key.starts_with(prefix))
}

/// A path as `java.io.File` keeps it: no double slashes, none at the end.
pub(super) fn normalized_path(text: &str) -> String {
    let mut path = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '/' || !path.ends_with('/') {
            path.push(c);
        }
    }
    if path.len() > 1 && path.ends_with('/') {
        path.pop();
    }
    path
}

/// Java: `VerifyingFileFactory`.
pub(super) fn check_path(path: &str, notices: &mut Vec<Notice>) {
    if !path.starts_with('/') && !path.starts_with("./") {
        notices.push(Notice::warn(format!("{path} is relative. Prepend ./ to indicate that you're sure!")));
    }
}

/// The listening address of `<key>` and `<key>Address`. Port 0 is any free port.
fn parse_client(
    key: &str,
    port: Option<i32>,
    address: Option<&str>,
    notices: &mut Vec<Notice>,
) -> Result<Option<Endpoint>, ConfigError> {
    let Some(port) = port else {
        notices.push(Notice::info(format!("{key} is not set")));
        return match address {
            Some(_) => Err(ConfigError::invalid(format!("{key}Address is set but {key} is not set"))),
            None => Ok(None),
        };
    };
    let host = canonical_host(address.unwrap_or(ANY_ADDRESS));
    let endpoint = Endpoint { host, port: parse_port(key, port)? };
    notices.push(Notice::info(format!("{key}Address is {endpoint}")));
    Ok(Some(endpoint))
}

fn parse_metrics(keys: &Lines<'_>, notices: &mut Vec<Notice>) -> Result<Metrics, ConfigError> {
    const DEFAULT: &str = "org.apache.zookeeper.metrics.impl.DefaultMetricsProvider";
    let class = keys.text("metricsProvider.className").unwrap_or(DEFAULT);
    notices.push(Notice::info(format!("metricsProvider.className is {class}")));
    match class {
        DEFAULT | "org.apache.zookeeper.metrics.impl.NullMetricsProvider" => Ok(Metrics::Default),
        PROMETHEUS => {
            notices.push(Notice::unbuilt(format_args!("metricsProvider.className={class}")));
            let key = "metricsProvider.httpPort";
            // Java meets a bad port only when it starts the provider, so the usage line is what it prints.
            let usage = |error: ConfigError| ConfigError::usage(error.message);
            let port = keys.int(key, 7000).and_then(|port| parse_port(key, port)).map_err(usage)?;
            Ok(Metrics::Prometheus {
                host: keys.text("metricsProvider.httpHost").unwrap_or(ANY_ADDRESS).to_owned(),
                port,
                export_jvm_info: keys
                    .text("metricsProvider.exportJvmInfo")
                    .is_none_or(|text| text.eq_ignore_ascii_case("true")),
            })
        }
        _ => Err(ConfigError::invalid(format!(
            "metricsProvider.className={class}: metrics provider class was not found (known are {DEFAULT} and {PROMETHEUS})"
        ))),
    }
}
