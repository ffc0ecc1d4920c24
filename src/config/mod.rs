//! The text of `zoo.cfg`, of its dynamic file and of `myid`, and `-D` flags, to one [`Config`].
//!
//! Java spreads its settings over a parser, system properties and the static fields of whoever reads them,
//! and keeps silent about a key that nobody reads. Here everything is read once, by a function without files,
//! environment or clock: so the whole behaviour, the messages and exit codes included, is tested in
//! memory, and a key that cannot act is named. The rules for what wins are Java's: a line of the file replaces
//! a flag, a flag replaces the default.
//!
//! Which files there are to read depends on the first one. So parsing has two steps: [`Draft::parse`] takes
//! the config file, [`Draft::wants`] says what else the caller must look for, [`Draft::finish`] takes what it
//! found.
//!
//! ```
//! use zooid::config::{Draft, Flags, Found};
//!
//! let draft = Draft::parse("/etc/zoo.cfg", b"dataDir=/data\nclientPort=2181\n", &Flags::default()).unwrap();
//! assert_eq!(draft.wants().myid, std::path::Path::new("/data/myid"));
//! let (config, notices) = draft.finish(&Found::default()).unwrap();
//! assert_eq!(config.node.client.unwrap().to_string(), "0.0.0.0:2181");
//! assert!(notices.iter().any(|notice| notice.text == "clientPortAddress is 0.0.0.0:2181"));
//! ```
//!
//! Java: `QuorumPeerConfig`, `ServerConfig`, and the `System.getProperty` calls of all classes.

#[cfg(test)]
mod checks;
mod conf;
mod ensemble;
mod error;
mod flags;
mod keys;
mod membership;
mod node;
mod properties;
mod value;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

pub use conf::Figures;
pub use ensemble::{Ensemble, Mode};
pub use error::{ConfigError, ErrorKind, Level, Notice};
pub use flags::Flags;
pub use membership::{Endpoint, Member, MemberAddress, Membership, MultiAddress, QuorumRule, Role};
pub use node::{
    Admin, ConnectionFactory, ConnectionThrottle, DigestAlg, FourLetterWords, LargeRequests, Metrics, Node,
    RequestThrottle, SnapshotCompression, WatchManager,
};
pub use properties::{MalformedEscape, parse_properties};

use membership::{canonical_host, not_a_number, parse_port};
use node::Properties;
use value::{parse_int, parse_long};

/// Everything that was configured. It does not change while the server runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub ensemble: Ensemble,
    pub node: Node,
    /// The file it came from; `None` for the command line form without a file.
    pub path: Option<String>,
    /// The text of that file, as the AdminServer shows it.
    pub initial_text: Option<String>,
    /// All system properties as Java would have them, the unknown ones included.
    pub system_properties: BTreeMap<String, String>,
}

/// A config file that has been read, while the files it points to have not.
#[derive(Clone, Debug)]
pub struct Draft {
    path: String,
    text: String,
    lines: BTreeMap<String, String>,
    properties: BTreeMap<String, String>,
    file: FileKeys,
    notices: Vec<Notice>,
}

/// The files to look for. Each of them may be missing; only some of them must not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Wants {
    pub myid: PathBuf,
    pub dynamic: Option<PathBuf>,
    pub dynamic_next: Option<PathBuf>,
}

/// The bytes of the files that [`Draft::wants`] named; `None` for one that is not there, or is no file.
#[derive(Clone, Debug, Default)]
pub struct Found {
    pub myid: Option<Vec<u8>>,
    pub dynamic: Option<Vec<u8>>,
    pub dynamic_next: Option<Vec<u8>>,
}

/// The keys of the file that have fields, parsed and checked against each other.
#[derive(Clone, Debug)]
struct FileKeys {
    data_dir: PathBuf,
    data_log_dir: PathBuf,
    client: Option<Endpoint>,
    client_port_listen_backlog: i32,
    tick_time_ms: i32,
    init_limit_ticks: i32,
    sync_limit_ticks: i32,
    connect_to_learner_master_limit_ticks: i32,
    max_client_cnxns: i32,
    min_session_timeout_ms: i32,
    max_session_timeout_ms: i32,
    local_sessions_enabled: bool,
    local_sessions_upgrading_enabled: bool,
    peer_type: Role,
    standalone_enabled: bool,
    reconfig_enabled: bool,
    quorum_listen_on_all_ips: bool,
    sync_enabled: bool,
    dynamic_file: Option<String>,
    autopurge_interval_hours: Option<u32>,
    autopurge_retain_count: u32,
    multi_address_reachability_check: Option<bool>,
    multi_address_reachability_timeout_ms: Option<i32>,
    metrics: Metrics,
    /// Settings whose loss would leave something unprotected, as they were written.
    refused: Vec<String>,
    secure_client_port: i32,
}

impl Draft {
    /// Parses the config file. `path` is the path as it was given; messages name it.
    pub fn parse(path: &str, bytes: &[u8], flags: &Flags) -> Result<Self, ConfigError> {
        let mut notices = vec![Notice::info(format!("Reading configuration from: {path}"))];
        check_path(path, &mut notices);
        let parsed = parse_lines(bytes).and_then(|lines| {
            notices.extend(keys::notices(&lines, flags));
            let file = FileKeys::parse(&lines, &mut notices)?;
            Ok((lines, file))
        });
        let (lines, file) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Err(ConfigError { notices, ..error.in_file(path) }),
        };
        let mut properties = flags.properties.clone();
        for (key, value) in &lines {
            // Java sets no property for the keys that its parser knows, except for the membership.
            let is_members = is_membership(key);
            if is_members || !matches!(keys::look_up(key), Some((keys::Place::File, _))) {
                properties.insert(format!("zookeeper.{key}"), value.clone());
            }
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        Ok(Self { path: path.to_owned(), text, lines, properties, file, notices })
    }

    /// The files that [`Draft::finish`] needs the contents of.
    pub fn wants(&self) -> Wants {
        let dynamic = self.file.dynamic_file.as_ref().map(PathBuf::from);
        let dynamic_next = dynamic.as_ref().map(|_| PathBuf::from(format!("{}.dynamic.next", self.path)));
        Wants { myid: self.file.data_dir.join("myid"), dynamic, dynamic_next }
    }

    /// Parses what the other files held and puts everything together.
    pub fn finish(mut self, found: &Found) -> Result<(Config, Vec<Notice>), ConfigError> {
        let mut notices = std::mem::take(&mut self.notices);
        match self.assemble(found, &mut notices) {
            Ok(config) => Ok((config, notices)),
            Err(error) => Err(ConfigError { notices, ..error }),
        }
    }

    fn assemble(self, found: &Found, notices: &mut Vec<Notice>) -> Result<Config, ConfigError> {
        let multi = multi_address(&self.properties);
        // The membership may stand in a file of its own, and then that is the file to blame.
        let blamed = self.file.dynamic_file.clone().unwrap_or_else(|| self.path.clone());
        let member = self.parse_member(found, multi, notices).map_err(|error| error.in_file(&blamed))?;
        let Self { path, text, lines, properties: all, file, .. } = self;
        refuse(&file, &all)?;
        let mut properties = Properties { all: &all, notices };
        let node = Node::new(
            node::FileValues {
                data_dir: file.data_dir,
                data_log_dir: file.data_log_dir,
                client: member.client,
                client_port_listen_backlog: file.client_port_listen_backlog,
                tick_time_ms: file.tick_time_ms,
                init_limit_ticks: file.init_limit_ticks,
                sync_limit_ticks: file.sync_limit_ticks,
                min_session_timeout_ms: file.min_session_timeout_ms,
                max_session_timeout_ms: file.max_session_timeout_ms,
                max_client_cnxns: file.max_client_cnxns,
                local_sessions_enabled: file.local_sessions_enabled,
                local_sessions_upgrading_enabled: file.local_sessions_upgrading_enabled,
                autopurge_interval_hours: file.autopurge_interval_hours,
                autopurge_retain_count: file.autopurge_retain_count,
                metrics: file.metrics,
            },
            &mut properties,
        )?;
        let ensemble = Ensemble::new(
            ensemble::FileValues {
                mode: member.mode,
                server_id: member.server_id,
                role: member.role,
                membership: member.membership,
                last_seen: member.last_seen,
                dynamic_file: file.dynamic_file,
                standalone_enabled: file.standalone_enabled,
                reconfig_enabled: file.reconfig_enabled,
                sync_enabled: file.sync_enabled,
                connect_to_learner_master_limit_ticks: file.connect_to_learner_master_limit_ticks,
                quorum_listen_on_all_ips: file.quorum_listen_on_all_ips,
                multi_address: match lines.get("multiAddress.enabled") {
                    Some(text) if text.eq_ignore_ascii_case("true") => MultiAddress::Allowed,
                    Some(_) => MultiAddress::Refused,
                    None => multi,
                },
                multi_address_reachability_check: file.multi_address_reachability_check,
                multi_address_reachability_timeout_ms: file.multi_address_reachability_timeout_ms,
            },
            &mut properties,
        );
        check_own_id(&ensemble, &node)?;
        Ok(Config { ensemble, node, path: Some(path), initial_text: Some(text), system_properties: all })
    }

    /// What the membership lines and `myid` decide, in Java's order of checks.
    ///
    /// Java: `QuorumPeerConfig.setupQuorumPeerConfig`.
    fn parse_member(
        &self,
        found: &Found,
        multi: MultiAddress,
        notices: &mut Vec<Notice>,
    ) -> Result<OwnMember, ConfigError> {
        let file = &self.file;
        let membership = match &file.dynamic_file {
            None => Membership::parse(&self.lines, multi)?,
            Some(path) => parse_dynamic(path, found.dynamic.as_deref(), multi)?,
        };
        let mode = decide_mode(&membership, file.standalone_enabled, notices)?;
        let server_id = found.myid.as_deref().map(parse_myid).transpose()?;
        let own = server_id.and_then(|id| membership.members.get(&id));
        let client = choose_client(file.client.as_ref(), own)?;
        let role = own.map_or(Role::Participant, |member| member.role);
        if role != file.peer_type {
            notices.push(Notice::warn(format!(
                "Peer type from servers list ({role}) doesn't match peerType ({}). Defaulting to servers list.",
                file.peer_type
            )));
        }
        if mode == Mode::Quorum {
            for (key, ticks) in [("initLimit", file.init_limit_ticks), ("syncLimit", file.sync_limit_ticks)] {
                if ticks == 0 {
                    return Err(ConfigError::invalid(format!("{key} is not set")));
                }
            }
            if server_id.is_none() {
                return Err(ConfigError::invalid(format!(
                    "myid file is missing (expected {} with the N of this server's server.N line)",
                    self.wants().myid.display()
                )));
            }
        } else {
            notices.push(Notice::warn("Either no config or no quorum defined in config, running in standalone mode"));
        }
        let last_seen = match (&file.dynamic_file, &found.dynamic_next) {
            (Some(_), Some(bytes)) => Some(Membership::parse(&parse_lines(bytes)?, multi)?),
            _ => None,
        };
        Ok(OwnMember { mode, server_id, role, client, membership, last_seen })
    }
}

/// What a server finds out about itself from the membership and `myid`.
struct OwnMember {
    mode: Mode,
    server_id: Option<i64>,
    role: Role,
    client: Option<Endpoint>,
    membership: Membership,
    last_seen: Option<Membership>,
}

impl Config {
    /// The command line form without a file: `PORT DATADIR [TICKTIME] [MAXCNXNS]`. A single argument is the
    /// path of a config file and does not belong here.
    pub fn from_arguments(arguments: &[String], flags: &Flags) -> Result<(Self, Vec<Notice>), ConfigError> {
        let mut notices = keys::notices(&BTreeMap::new(), flags);
        match Self::parse_arguments(arguments, flags, &mut notices) {
            Ok(config) => Ok((config, notices)),
            Err(error) => Err(ConfigError { notices, ..error }),
        }
    }

    fn parse_arguments(arguments: &[String], flags: &Flags, notices: &mut Vec<Notice>) -> Result<Self, ConfigError> {
        if !(2..=4).contains(&arguments.len()) {
            return Err(ConfigError::usage(format!("Invalid number of arguments:[{}]", arguments.join(", "))));
        }
        let number = |name: &str, at: usize, default: i32| match arguments.get(at) {
            None => Ok(default),
            Some(text) => parse_int(text).ok_or_else(|| ConfigError::usage(not_a_number(name, text).message)),
        };
        let port = parse_port("port", number("port", 0, 0)?).map_err(|error| ConfigError::usage(error.message))?;
        let lines = BTreeMap::from([("dataDir".to_owned(), "/".to_owned())]);
        let mut file = FileKeys::parse(&lines, &mut Vec::new())?;
        file.data_dir = PathBuf::from(normalized_path(&arguments[1]));
        file.data_log_dir = file.data_dir.clone();
        file.tick_time_ms = number("ticktime", 2, 3000)?;
        file.max_client_cnxns = number("maxcnxns", 3, 0)?;
        file.min_session_timeout_ms = file.tick_time_ms.wrapping_mul(2);
        file.max_session_timeout_ms = file.tick_time_ms.wrapping_mul(20);
        // Unlike in a file, port 0 is any free one here.
        file.client = Some(Endpoint { host: ANY_ADDRESS.to_owned(), port });
        let draft = Draft {
            path: String::new(),
            text: String::new(),
            lines,
            properties: flags.properties.clone(),
            file,
            notices: Vec::new(),
        };
        let config = draft.assemble(&Found::default(), notices)?;
        Ok(Self { path: None, initial_text: None, ..config })
    }
}

/// The address of a server that listens on all of them.
const ANY_ADDRESS: &str = "0.0.0.0";

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
    fn parse(lines: &BTreeMap<String, String>, notices: &mut Vec<Notice>) -> Result<Self, ConfigError> {
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
        let client_port = keys.int("clientPort", 0)?;
        let secure_client_port = keys.int("secureClientPort", 0)?;
        let observer_master_port = keys.int("observerMasterPort", 0)?;
        let standalone_enabled = keys.optional_flag("standaloneEnabled")?.unwrap_or(true);
        let sync_enabled = keys.optional_flag("syncEnabled")?.unwrap_or(true);
        // Read by nobody here, but a bad value stops Java too.
        keys.int("quorum.cnxn.threads.size", 0)?;
        keys.is_true("jvm.pause.monitor")?;
        for key in ["jvm.pause.info-threshold.ms", "jvm.pause.warn-threshold.ms", "jvm.pause.sleep.time.ms"] {
            keys.check_long(key)?;
        }
        for key in ["multiAddress.enabled", "sslQuorumReloadCertFiles"] {
            keys.is_true(key)?;
        }
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

fn parse_lines(bytes: &[u8]) -> Result<BTreeMap<String, String>, ConfigError> {
    parse_properties(bytes).map_err(|error| ConfigError::invalid(error.to_string()))
}

fn is_membership(key: &str) -> bool {
    ["server.", "group", "weight"].iter().any(|prefix| key.starts_with(prefix))
}

/// Whether `server.N` lines may carry several addresses. The file cannot allow it: Java's parser of these
/// lines looks at the flag alone.
fn multi_address(properties: &BTreeMap<String, String>) -> MultiAddress {
    match properties.get("zookeeper.multiAddress.enabled") {
        Some(text) if text.eq_ignore_ascii_case("true") => MultiAddress::Allowed,
        _ => MultiAddress::Refused,
    }
}

/// A path as `java.io.File` keeps it: no double slashes, none at the end.
fn normalized_path(text: &str) -> String {
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
fn check_path(path: &str, notices: &mut Vec<Notice>) {
    if !path.starts_with('/') && !path.starts_with("./") {
        notices.push(Notice::warn(format!("{path} is relative. Prepend ./ to indicate that you're sure!")));
    }
}

/// The listening address of `<key>` and `<key>Address`. Port 0 means that the key is not there.
fn parse_client(
    key: &str,
    port: i32,
    address: Option<&str>,
    notices: &mut Vec<Notice>,
) -> Result<Option<Endpoint>, ConfigError> {
    if port == 0 {
        notices.push(Notice::info(format!("{key} is not set")));
        return match address {
            Some(_) => Err(ConfigError::invalid(format!("{key}Address is set but {key} is not set"))),
            None => Ok(None),
        };
    }
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
            notices.push(Notice::warn(format!(
                "not built yet, the server starts without: metricsProvider.className={class}"
            )));
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

/// The membership in a dynamic file: nothing but `server.*`, `group*` and `weight*`, and the version in the
/// file's name.
fn parse_dynamic(path: &str, bytes: Option<&[u8]>, multi: MultiAddress) -> Result<Membership, ConfigError> {
    let Some(bytes) = bytes else {
        return Err(ConfigError::invalid(format!("{path} (No such file or directory)")));
    };
    let lines = parse_lines(bytes)?;
    if lines.contains_key("version") {
        return Err(ConfigError::invalid("dynamic file shouldn't have version inside"));
    }
    if let Some(key) = lines.keys().find(|key| !is_membership(key)) {
        return Err(ConfigError::invalid(format!("Unrecognised parameter: {key}")));
    }
    let suffix = path.rsplit_once('.').map(|(_, suffix)| suffix);
    let version = suffix.and_then(|hex| i64::from_str_radix(hex, 16).ok()).unwrap_or(0);
    Ok(Membership { version, ..Membership::parse(&lines, multi)? })
}

/// Whether the members make an ensemble.
///
/// Java: `QuorumPeerConfig.parseDynamicConfig` and `isDistributed`.
fn decide_mode(
    membership: &Membership,
    standalone_enabled: bool,
    notices: &mut Vec<Notice>,
) -> Result<Mode, ConfigError> {
    let has_observers = membership.observers().next().is_some();
    match membership.participants().count() {
        0 if !standalone_enabled => {
            Err(ConfigError::invalid("standaloneEnabled = false then number of participants should be >0"))
        }
        0 if has_observers => Err(ConfigError::invalid("Observers w/o participants is an invalid configuration")),
        0 => Ok(Mode::Standalone),
        1 if standalone_enabled => {
            notices.push(Notice::error("Invalid configuration, only one server specified (ignoring)"));
            if has_observers {
                return Err(ConfigError::invalid("Observers w/o quorum is an invalid configuration"));
            }
            Ok(Mode::Standalone)
        }
        participants => {
            if participants <= 2 {
                notices.push(Notice::warn("No server failure will be tolerated. You need at least 3 servers."));
            } else if participants % 2 == 0 {
                notices.push(Notice::warn("Non-optimal configuration, consider an odd number of servers."));
            }
            Ok(Mode::Quorum)
        }
    }
}

/// The first line of `myid`, which Java does not trim.
fn parse_myid(bytes: &[u8]) -> Result<i64, ConfigError> {
    let text = String::from_utf8_lossy(bytes);
    // Of an empty file Java reads no line at all, and says so.
    let line = if text.is_empty() { "null" } else { text.split(['\n', '\r']).next().unwrap_or_default() };
    parse_long(line).ok_or_else(|| {
        ConfigError::invalid(format!("serverid {line} is not a number (myid must hold nothing else on its first line)"))
    })
}

/// Where clients connect: the own `server.N` line goes before `clientPort`, and must not contradict it.
///
/// Java: `QuorumPeerConfig.setupClientPort`, which compares resolved addresses. Here a name and an address
/// cannot be told apart, so only their ports are compared.
fn choose_client(from_file: Option<&Endpoint>, own: Option<&Member>) -> Result<Option<Endpoint>, ConfigError> {
    let from_line = own.and_then(|member| member.client.as_ref());
    if let (Some(file), Some(line), Some(own)) = (from_file, from_line, own) {
        let same_host = file.is_any_address() || may_be_same_host(&file.host, &line.host);
        if file.port != line.port || !same_host {
            return Err(ConfigError::invalid(format!(
                "client address for this server (id = {}) in static config file is {file} is different from client \
                 address found in dynamic file: {line}",
                own.id
            )));
        }
    }
    Ok(from_line.or(from_file).cloned())
}

fn may_be_same_host(a: &str, b: &str) -> bool {
    let is_name = |host: &str| host.parse::<IpAddr>().is_err();
    match (is_name(a), is_name(b)) {
        (true, true) => a.eq_ignore_ascii_case(b),
        (false, false) => a == b,
        _ => true,
    }
}

/// Refuses settings that protect something and are not built: who wrote them must not find out later.
fn refuse(file: &FileKeys, properties: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    let property = |key: &str| properties.get(&format!("zookeeper.{key}")).map(String::as_str);
    if file.secure_client_port != 0 {
        return Err(match property("serverCnxnFactory") {
            Some("org.apache.zookeeper.server.NettyServerCnxnFactory") => ConfigError::invalid(format!(
                "secureClientPort={}: TLS is not built yet; remove the line to serve without TLS",
                file.secure_client_port
            )),
            _ => ConfigError::unexpected("secureClientPort: SSL isn't supported in NIOServerCnxn"),
        });
    }
    let mut refused = file.refused.clone();
    for key in ["sessionRequireClientSASLAuth", "client.portUnification", "audit.enable"] {
        if property(key).is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            refused.push(format!("{key}=true"));
        }
    }
    if refused.is_empty() {
        return Ok(());
    }
    Err(ConfigError::invalid(format!(
        "{}: not built yet, and the server would run without what this protects; remove it to start all the same",
        refused.join(", ")
    )))
}

/// What Java finds wrong only when the member starts.
fn check_own_id(ensemble: &Ensemble, node: &Node) -> Result<(), ConfigError> {
    let (Mode::Quorum, Some(id)) = (ensemble.mode, ensemble.server_id) else { return Ok(()) };
    if node.extended_types_enabled && id > 254 {
        return Err(ConfigError::unexpected(format!(
            "extendedTypesEnabled is true but Server ID is too large. Cannot be larger than 254 (myid is {id})"
        )));
    }
    if !ensemble.membership.members.contains_key(&id) {
        return Err(ConfigError::unexpected(format!("My id {id} not in the peer list")));
    }
    Ok(())
}

/// Where the data of a directory from the configuration lie.
pub fn version_dir(directory: &Path) -> PathBuf {
    directory.join("version-2")
}
