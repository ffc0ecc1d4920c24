//! Who belongs to the ensemble and what a quorum of it is: the `server.N`, `group.G` and `weight.S` lines,
//! which look alike in the static file, in the dynamic file and in `/zookeeper/config`.
//!
//! Names are kept as they were written: a name is resolved at every connection attempt, never here.
//!
//! Java: `QuorumPeer.QuorumServer`, `QuorumMaj`, `QuorumHierarchical`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::error::ConfigError;
use super::properties::trim;
use super::value::{parse_int, parse_long};

/// A membership: the servers, the rule by which some of them are a quorum, and the zxid that made it so.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Membership {
    pub members: BTreeMap<i64, Member>,
    pub rule: QuorumRule,
    /// The zxid of the reconfiguration; 0 for one that was written by hand.
    pub version: i64,
}

/// Which sets of participants decide.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum QuorumRule {
    /// More than half of the participants.
    Majority,
    /// More than half of the weight in more than half of the groups, not counting groups without weight.
    Hierarchical {
        /// The group of each server.
        groups: BTreeMap<i64, i64>,
        /// The weight of each participant, and of whom else the file gives one.
        weights: BTreeMap<i64, i64>,
    },
}

/// One `server.N` line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Member {
    pub id: i64,
    /// At least one; more only with the multi-address feature. Sorted by host.
    pub addresses: Vec<MemberAddress>,
    pub role: Role,
    /// Where clients find it, if the line says so.
    pub client: Option<Endpoint>,
}

/// Where the other members find a member.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MemberAddress {
    pub host: String,
    pub quorum_port: u16,
    pub election_port: u16,
}

/// A host, by name or in the canonical form of its address, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    pub host: String,
    pub port: u16,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Participant,
    Observer,
}

/// Whether a `server.N` line may carry several addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MultiAddress {
    Allowed,
    Refused,
}

impl Membership {
    /// Reads the lines of a membership out of `properties` and passes over all other keys.
    pub fn parse(properties: &BTreeMap<String, String>, multi: MultiAddress) -> Result<Self, ConfigError> {
        let mut members = BTreeMap::new();
        let mut groups = BTreeMap::new();
        let mut weights = BTreeMap::new();
        let mut hierarchical = false;
        let mut version = 0;
        for (key, value) in properties {
            if let Some(id) = key.strip_prefix("server.") {
                let id = parse_id(key, id)?;
                members.insert(id, Member::parse(id, value, multi)?);
            } else if key.starts_with("group") {
                hierarchical = true;
                let group = parse_id(key, after_dot(key))?;
                for id in java_split(value, ':') {
                    let id = parse_id(key, id)?;
                    if groups.insert(id, group).is_some() {
                        return Err(ConfigError::invalid(format!("{key}: Server {id} is in multiple groups")));
                    }
                }
            } else if key.starts_with("weight") {
                hierarchical = true;
                weights.insert(parse_id(key, after_dot(key))?, parse_id(key, value)?);
            } else if key == "version" {
                version = i64::from_str_radix(value, 16).map_err(|_| not_a_number(key, value))?;
            }
        }
        let rule = if hierarchical {
            check_groups(&members, &groups, &mut weights)?;
            QuorumRule::Hierarchical { groups, weights }
        } else {
            QuorumRule::Majority
        };
        Ok(Self { members, rule, version })
    }

    pub fn participants(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.role == Role::Participant)
    }

    pub fn observers(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| member.role == Role::Observer)
    }

    /// Whether the server has a voice in elections and commits.
    pub fn is_voter(&self, id: i64) -> bool {
        self.members.get(&id).is_some_and(|member| member.role == Role::Participant)
    }

    /// How much a server's voice counts. Without weights all count alike, even that of a stranger.
    pub fn weight(&self, id: i64) -> i64 {
        match &self.rule {
            QuorumRule::Majority => 1,
            QuorumRule::Hierarchical { weights, .. } => weights.get(&id).copied().unwrap_or(0),
        }
    }

    /// Whether the two differ in nothing but, perhaps, their version.
    pub fn has_same_members(&self, other: &Self) -> bool {
        self.members == other.members && self.rule == other.rule
    }

    /// Whether the servers in `ids` decide for all.
    pub fn is_quorum(&self, ids: &BTreeSet<i64>) -> bool {
        match &self.rule {
            QuorumRule::Majority => {
                let voters = self.participants().count();
                self.participants().filter(|member| ids.contains(&member.id)).count() > voters / 2
            }
            QuorumRule::Hierarchical { groups, weights } => {
                let mut totals: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
                for (id, group) in groups {
                    let weight = weights.get(id).copied().unwrap_or(0);
                    // Weights are whatever the file says, and Java's sums wrap.
                    let (all, present) = totals.entry(*group).or_default();
                    *all = all.wrapping_add(weight);
                    if ids.contains(id) {
                        *present = present.wrapping_add(weight);
                    }
                }
                totals.retain(|_, (all, _)| *all != 0);
                let won = totals.values().filter(|(all, present)| *present > all / 2).count();
                won > totals.len() / 2
            }
        }
    }
}

/// Every participant needs a group, and whoever is in a group needs a weight; participants have 1 by default.
fn check_groups(
    members: &BTreeMap<i64, Member>,
    groups: &BTreeMap<i64, i64>,
    weights: &mut BTreeMap<i64, i64>,
) -> Result<(), ConfigError> {
    for member in members.values().filter(|member| member.role == Role::Participant) {
        let id = member.id;
        if !groups.contains_key(&id) {
            // Java's message lacks the blank too.
            return Err(ConfigError::invalid(format!("Server {id}is not in a group")));
        }
        weights.entry(id).or_insert(1);
    }
    match groups.keys().find(|id| !weights.contains_key(id)) {
        // Java ends with a null pointer here (QuorumHierarchical.computeGroupWeight).
        Some(id) => Err(ConfigError::unexpected(format!(
            "group.{}: server {id} is neither a participant nor has a weight; remove it or add server.{id}",
            groups[id]
        ))),
        None => Ok(()),
    }
}

impl Member {
    /// Parses the value of a `server.N` line: `<addr>[|<addr>…][;[<host>:]<port>]`, where an `<addr>` is
    /// `<host>:<quorum port>:<election port>[:<role>]`.
    pub fn parse(id: i64, value: &str, multi: MultiAddress) -> Result<Self, ConfigError> {
        let key = format!("server.{id}");
        let wrong_form = || {
            ConfigError::invalid(format!(
                "{key}: {value} does not have the form server_config or server_config;client_config where \
                 server_config is the pipe separated list of host:port:port or host:port:port:type and \
                 client_config is port or host:port"
            ))
        };
        let halves = java_split(value, ';');
        let client = match halves[..] {
            [_, client] => match split_host(&key, client)?[..] {
                [port] => Some(Endpoint::parse(&key, "0.0.0.0", port)?),
                [host, port] => Some(Endpoint::parse(&key, host, port)?),
                _ => return Err(wrong_form()),
            },
            _ => None,
        };
        let Some(servers) = halves.first().map(|half| java_split(half, '|')) else { return Err(wrong_form()) };
        if servers.len() > 1 && multi == MultiAddress::Refused {
            return Err(ConfigError::invalid(format!(
                "Multiple address feature is disabled, but multiple addresses were specified for sid {id} (it is \
                 enabled by -Dzookeeper.multiAddress.enabled=true and not by a line in the file)"
            )));
        }
        let mut addresses = Vec::with_capacity(servers.len());
        let mut role = None;
        for server in servers {
            let parts = split_host(&key, server)?;
            let (host, quorum_port, election_port, named_role) = match parts[..] {
                [host, quorum, election] => (host, quorum, election, None),
                [host, quorum, election, role] => (host, quorum, election, Some(Role::parse(&key, role)?)),
                _ => return Err(wrong_form()),
            };
            if halves.len() > 2 {
                return Err(wrong_form());
            }
            let quorum = Endpoint::parse(&key, host, quorum_port)?;
            let election = Endpoint::parse(&key, host, election_port)?;
            if quorum.port == election.port {
                return Err(ConfigError::invalid(format!(
                    "Client and election port must be different! Please update the configuration file on server.{id}"
                )));
            }
            if let (Some(first), Some(other)) = (role, named_role)
                && first != other
            {
                return Err(ConfigError::invalid(format!(
                    "{key}: Multiple addresses should have similar roles: {first} vs {other}"
                )));
            }
            role = role.or(named_role);
            addresses.push(MemberAddress { host: quorum.host, quorum_port: quorum.port, election_port: election.port });
        }
        if addresses.is_empty() {
            return Err(wrong_form());
        }
        addresses.sort_by(|a, b| a.host.cmp(&b.host));
        Ok(Self { id, addresses, role: role.unwrap_or(Role::Participant), client })
    }
}

impl Role {
    pub(super) fn parse(key: &str, text: &str) -> Result<Self, ConfigError> {
        match trim(text).to_lowercase().as_str() {
            "participant" => Ok(Self::Participant),
            "observer" => Ok(Self::Observer),
            _ => Err(ConfigError::invalid(format!("{key}: Unrecognised peertype: {text}"))),
        }
    }
}

impl Endpoint {
    fn parse(key: &str, host: &str, port: &str) -> Result<Self, ConfigError> {
        let Some(number) = parse_int(port) else {
            return Err(ConfigError::invalid(format!("{key}: Address unresolved: {host}:{port}")));
        };
        Ok(Self { host: canonical_host(host), port: parse_port(key, number)? })
    }

    /// Where a server says it is when it dials: `host:port`, the host in brackets if it has colons in it.
    pub fn parse_announced(text: &str) -> Result<Self, ConfigError> {
        match split_host("address", text)?[..] {
            [host, port] => Self::parse("address", host, port),
            _ => Err(ConfigError::invalid(format!("address: {text} does not have the form host:port"))),
        }
    }

    /// Whether this is every address of the machine and not a particular one.
    pub fn is_any_address(&self) -> bool {
        self.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
    }
}

/// A port in Java's range; `InetSocketAddress` refuses others.
pub(super) fn parse_port(key: &str, number: i32) -> Result<u16, ConfigError> {
    u16::try_from(number).map_err(|_| ConfigError::invalid(format!("{key}: port out of range:{number}")))
}

/// An address as Java prints it: IPv6 in eight groups without leading zeros, an IPv4 address inside IPv6 as
/// IPv4. A name stays as it is.
pub(super) fn canonical_host(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(v4)) => v4.to_string(),
        Ok(IpAddr::V6(v6)) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.to_string(),
            None => spelled_out(v6),
        },
        // Java resolves the empty name to the loopback address and then prints its name.
        Err(_) if host.is_empty() => "localhost".to_owned(),
        Err(_) => host.to_owned(),
    }
}

fn spelled_out(address: Ipv6Addr) -> String {
    address.segments().map(|group| format!("{group:x}")).join(":")
}

/// Splits `host:a:b` at the colons, taking a host in brackets as one part.
///
/// Java: `ConfigUtils.getHostAndPort`.
fn split_host<'a>(key: &str, text: &'a str) -> Result<Vec<&'a str>, ConfigError> {
    let Some(bracketed) = text.strip_prefix('[') else { return Ok(java_split(text, ':')) };
    let Some((host, rest)) = bracketed.split_once(']') else {
        return Err(ConfigError::invalid(format!("{key}: {text} starts with '[' but has no matching ']:'")));
    };
    // Java passes over whatever single character follows the bracket.
    let mut rest = rest.chars();
    let mut parts = vec![host];
    if rest.next().is_some() {
        if rest.as_str().is_empty() {
            return Err(ConfigError::invalid(format!("{key}: {text} doesn't have a port after colon")));
        }
        parts.extend(java_split(rest.as_str(), ':'));
    }
    Ok(parts)
}

/// Java's `String.split`: empty parts at the end do not count.
fn java_split(text: &str, separator: char) -> Vec<&str> {
    let mut parts: Vec<&str> = text.split(separator).collect();
    if parts.len() > 1 {
        let kept = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
        parts.truncate(kept);
    }
    parts
}

fn after_dot(key: &str) -> &str {
    key.split_once('.').map_or(key, |(_, rest)| rest)
}

fn parse_id(key: &str, text: &str) -> Result<i64, ConfigError> {
    parse_long(text).ok_or_else(|| not_a_number(key, text))
}

pub(super) fn not_a_number(key: &str, text: &str) -> ConfigError {
    ConfigError::invalid(format!("{key}: For input string: \"{text}\" (expected a decimal number in range)"))
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Participant => "PARTICIPANT",
            Self::Observer => "OBSERVER",
        })
    }
}

/// Host and port, the host in brackets if it has colons in it.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", Bracketed(&self.host), self.port)
    }
}

/// The canonical value of a `server.N` line, as it stands in `/zookeeper/config`.
impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, address) in self.addresses.iter().enumerate() {
            let bar = if i == 0 { "" } else { "|" };
            write!(f, "{bar}{}:{}:{}", Bracketed(&address.host), address.quorum_port, address.election_port)?;
        }
        f.write_str(match self.role {
            Role::Participant => ":participant",
            Role::Observer => ":observer",
        })?;
        match &self.client {
            Some(client) => write!(f, ";{client}"),
            None => Ok(()),
        }
    }
}

/// The canonical lines, as they stand in `/zookeeper/config`, and no newline behind the version.
impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (id, member) in &self.members {
            writeln!(f, "server.{id}={member}")?;
        }
        if let QuorumRule::Hierarchical { groups, weights } = &self.rule {
            let mut members_of: BTreeMap<i64, Vec<String>> = BTreeMap::new();
            for (id, group) in groups {
                members_of.entry(*group).or_default().push(id.to_string());
            }
            for (group, ids) in members_of {
                writeln!(f, "group.{group}={}", ids.join(":"))?;
            }
            for (id, weight) in weights {
                writeln!(f, "weight.{id}={weight}")?;
            }
        }
        write!(f, "version={:x}", self.version)
    }
}

struct Bracketed<'a>(&'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.contains(':') { write!(f, "[{}]", self.0) } else { f.write_str(self.0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn canonical(value: &str, expected: &str) {
        assert_eq!(Member::parse(1, value, MultiAddress::Allowed).unwrap().to_string(), expected);
    }

    #[track_caller]
    fn refused(value: &str, expected: &str) {
        let error = Member::parse(1, value, MultiAddress::Refused).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.message.contains(expected), "{}", error.message);
    }

    fn membership(text: &str) -> Result<Membership, ConfigError> {
        let properties = super::super::parse_properties(text.as_bytes()).unwrap();
        Membership::parse(&properties, MultiAddress::Refused)
    }

    #[test]
    fn a_server_line_has_a_canonical_form() {
        canonical("a:2888:3888", "a:2888:3888:participant");
        canonical("a:2888:3888:OBSERVER;2181", "a:2888:3888:observer;0.0.0.0:2181");
        canonical("a:2888:3888;b:2181", "a:2888:3888:participant;b:2181");
        canonical("[::1]:2888:3888;[::ffff:1.2.3.4]:1", "[0:0:0:0:0:0:0:1]:2888:3888:participant;1.2.3.4:1");
        canonical("b:1:2|a:3:4:observer", "a:3:4|b:1:2:observer");
        canonical("a:1:2:;", "a:1:2:participant");
    }

    // config 8.1 #22
    #[test]
    fn a_malformed_server_line_is_refused() {
        refused(
            "a:1:1",
            "Client and election port must be different! Please update the configuration file on server.1",
        );
        for value in ["a:1", "a", "", ";", "a:1:2:participant:x", "a:1:2;b:1:c", "a:1:2;3;4", "|"] {
            let error = Member::parse(1, value, MultiAddress::Allowed).unwrap_err();
            assert!(error.message.contains("does not have the form server_config or"), "{value}: {}", error.message);
        }
        refused("a:1:2:voter", "Unrecognised peertype: voter");
        refused("a:x:2", "Address unresolved: a:x");
        refused("a:1:2;c:x", "Address unresolved: c:x");
        refused("a:1:70000", "port out of range:70000");
        refused("[::1:1:2", "starts with '[' but has no matching ']:'");
        refused("[::1]:", "doesn't have a port after colon");
        refused("a:1:2|b:1:2", "Multiple address feature is disabled, but multiple addresses were specified for sid 1");
        let error = Member::parse(1, "a:1:2:observer|b:1:2:participant", MultiAddress::Allowed).unwrap_err();
        assert!(error.message.contains("similar roles: OBSERVER vs PARTICIPANT"), "{}", error.message);
    }

    #[test]
    fn ids_are_any_64_bit_numbers() {
        let members = membership("server.-5=a:1:2\nserver.9223372036854775807=b:1:2").unwrap().members;
        assert_eq!(members.into_keys().collect::<Vec<_>>(), [-5, i64::MAX]);
        let error = membership("server.x=a:1:2").unwrap_err();
        assert!(error.message.contains("server.x: For input string: \"x\""), "{}", error.message);
    }

    #[test]
    fn groups_and_weights_make_it_hierarchical() {
        let text = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2:observer\ngroup.1=1\ngroup.2=2\nweight.2=3";
        let printed = membership(text).unwrap().to_string();
        let expected = "server.1=a:1:2:participant\nserver.2=b:1:2:participant\nserver.3=c:1:2:observer\n\
                        group.1=1\ngroup.2=2\nweight.1=1\nweight.2=3\nversion=0";
        assert_eq!(printed, expected);
        let ungrouped = membership("server.1=a:1:2\ngroup.1=2").unwrap_err();
        assert_eq!(ungrouped.message, "Server 1is not in a group");
        let twice = membership("server.1=a:1:2\ngroup.1=1\ngroup.2=1").unwrap_err();
        assert!(twice.message.contains("Server 1 is in multiple groups"), "{}", twice.message);
        assert_eq!(membership("server.1=a:1:2\ngroup.1=1:2").unwrap_err().exit_code(), 1);
    }

    #[test]
    fn a_quorum_is_counted_in_every_group() {
        // Three groups of three, the last one without weight: two groups of two decide.
        let mut text =
            String::from("group.1=1:2:3\ngroup.2=4:5:6\ngroup.3=7:8:9\nweight.7=0\nweight.8=0\nweight.9=0\n");
        for id in 1..=9 {
            text.push_str(&format!("server.{id}=h{id}:1:2\n"));
        }
        let membership = membership(&text).unwrap();
        for bits in 0..512u32 {
            let ids: BTreeSet<i64> = (1..=9).filter(|id| bits >> (id - 1) & 1 == 1).collect();
            let expected = (bits & 0b111).count_ones() >= 2 && (bits >> 3 & 0b111).count_ones() >= 2;
            assert_eq!(membership.is_quorum(&ids), expected, "{ids:?}");
        }
    }

    #[test]
    fn a_majority_is_of_participants_alone() {
        let membership = membership("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2:observer").unwrap();
        assert!(membership.is_quorum(&BTreeSet::from([1, 2])));
        assert!(!membership.is_quorum(&BTreeSet::from([1, 3])));
    }
}
