//! What a server finds out about itself from the membership lines and `myid`: whether it is on its own, who it
//! is, and where its clients connect.
//!
//! Java: `QuorumPeerConfig.setupQuorumPeerConfig`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::ensemble::{Ensemble, Mode};
use super::error::{ConfigError, Notice};
use super::file::{is_membership, parse_lines};
use super::membership::{Endpoint, Member, Membership, MultiAddress, Role};
use super::node::Node;
use super::value::parse_long;
use super::{Draft, Found};

/// What a server finds out about itself from the membership and `myid`.
pub(super) struct OwnMember {
    pub(super) mode: Mode,
    pub(super) server_id: Option<i64>,
    pub(super) role: Role,
    pub(super) client: Option<Endpoint>,
    pub(super) membership: Membership,
    pub(super) last_seen: Option<Membership>,
}

impl OwnMember {
    /// What the membership lines and `myid` decide, in Java's order of checks.
    ///
    /// Java: `QuorumPeerConfig.setupQuorumPeerConfig`.
    pub(super) fn parse(
        draft: &Draft,
        found: &Found,
        multi: MultiAddress,
        notices: &mut Vec<Notice>,
    ) -> Result<Self, ConfigError> {
        let file = &draft.file;
        let membership = match &file.dynamic_file {
            None => Membership::parse(&draft.lines, multi)?,
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
                    draft.wants().myid.display()
                )));
            }
        } else {
            notices.push(Notice::warn("Either no config or no quorum defined in config, running in standalone mode"));
        }
        let last_seen = match (&file.dynamic_file, &found.dynamic_next) {
            (Some(_), Some(bytes)) => Some(Membership::parse(&parse_lines(bytes)?, multi)?),
            _ => None,
        };
        Ok(Self { mode, server_id, role, client, membership, last_seen })
    }
}

/// Whether `server.N` lines may carry several addresses. The file cannot allow it: Java's parser of these
/// lines looks at the flag alone.
pub(super) fn multi_address(properties: &BTreeMap<String, String>) -> MultiAddress {
    match properties.get("zookeeper.multiAddress.enabled") {
        Some(text) if text.eq_ignore_ascii_case("true") => MultiAddress::Allowed,
        _ => MultiAddress::Refused,
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
/// cannot be told apart, so only their ports are compared; but no name stands for every address.
fn choose_client(from_file: Option<&Endpoint>, own: Option<&Member>) -> Result<Option<Endpoint>, ConfigError> {
    let from_line = own.and_then(|member| member.client.as_ref());
    if let (Some(file), Some(line), Some(own)) = (from_file, from_line, own) {
        let same_host = file.is_any_address() || !line.is_any_address() && may_be_same_host(&file.host, &line.host);
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

/// What Java finds wrong only when the member starts.
pub(super) fn check_own_id(ensemble: &Ensemble, node: &Node) -> Result<(), ConfigError> {
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
