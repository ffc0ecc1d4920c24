//! Who may do what. One check serves every operation and every delivered event, so none can be forgotten.
//!
//! Java: `ZooKeeperServer.checkACL`, `PrepRequestProcessor.fixupACL`, the authentication providers.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jute::Text;

use crate::proto::ErrorCode;

pub const READ: i32 = 1;
pub const WRITE: i32 = 2;
pub const CREATE: i32 = 4;
pub const DELETE: i32 = 8;
pub const ADMIN: i32 = 16;
pub const ALL: i32 = 31;

jute::records! {
    /// One entry of a stored access list. `perms` is kept as the client gave it.
    #[derive(Hash)]
    Acl { perms: i32, scheme: Text, id: Text }
    /// One identity of a connection.
    #[derive(Hash)]
    Identity { scheme: Text, id: Text }
}

impl Identity {
    /// As it is sent to a leader.
    pub fn bytes(&self) -> usize {
        8 + self.scheme.len() + self.id.len()
    }
}

impl Acl {
    /// The same, which keeps alive no buffer that it was read from.
    pub fn detach(&self) -> Self {
        Self { perms: self.perms, scheme: self.scheme.detach(), id: self.id.detach() }
    }

    pub fn new(perms: i32, scheme: &str, id: &str) -> Self {
        Self { perms, scheme: scheme.into(), id: id.into() }
    }

    /// `world:anyone` with all rights.
    pub fn open() -> Vec<Self> {
        vec![Self::new(ALL, "world", "anyone")]
    }
}

/// The rules of this server that the checks depend on.
#[derive(Clone, Debug)]
pub struct AclRules {
    /// `zookeeper.skipACL=yes`: every check passes.
    pub skip: bool,
    /// The digest scheme is registered (`DigestAuthenticationProvider.enabled`).
    pub digest: bool,
}

impl Default for AclRules {
    fn default() -> Self {
        Self { skip: false, digest: true }
    }
}

/// Passes when one of `identities` holds any bit of `wanted` in `acl`.
///
/// An empty list lets everyone in, and so does the scheme `super` (client-protocol 8.4).
pub fn authorise(rules: &AclRules, acl: &[Acl], identities: &[Identity], wanted: i32) -> Result<(), ErrorCode> {
    let held = |entry: &Acl| {
        entry.perms & wanted != 0
            && (entry.scheme == "world" && entry.id == "anyone"
                || identities.iter().any(|identity| identity.scheme == entry.scheme && matches(rules, entry, identity)))
    };
    if rules.skip
        || acl.is_empty()
        || acl.iter().any(held)
        || identities.iter().any(|identity| identity.scheme == "super")
    {
        Ok(())
    } else {
        Err(ErrorCode::NoAuth)
    }
}

fn matches(rules: &AclRules, entry: &Acl, identity: &Identity) -> bool {
    match entry.scheme.as_str() {
        "digest" => rules.digest && entry.id == identity.id,
        "ip" => IpBlock::parse(&entry.id).is_some_and(|block| block.holds(&identity.id)),
        _ => false,
    }
}

/// Entries that are compared with each other without further ado.
const FEW: usize = 16;
/// Entries that `auth` may make of a list: each stands for all that its client has proved. No record takes as many.
const MOST: usize = 1 << 16;

/// The list as it is stored: duplicates dropped, `auth` replaced by the identities that prove someone
/// (client-protocol 8.2). Anything invalid refuses the whole list.
pub fn fix_up(
    rules: &AclRules,
    acl: Option<&[jute::records::data::Acl]>,
    identities: &[Identity],
) -> Result<Vec<Acl>, ErrorCode> {
    let wanted = acl.unwrap_or_default();
    let mut fixed: Vec<Acl> = Vec::with_capacity(wanted.len().min(FEW));
    let mut seen = HashSet::new();
    for (at, entry) in wanted.iter().enumerate() {
        // A frame has room for tens of thousands.
        let stood_before = match wanted.len() <= FEW {
            true => wanted[..at].contains(entry),
            false => !seen.insert((entry.perms, entry.scheme.as_deref(), entry.id.as_deref())),
        };
        if stood_before {
            continue;
        }
        let Some(scheme) = &entry.scheme else { return Err(ErrorCode::InvalidAcl) };
        if *scheme == "auth" {
            let before = fixed.len();
            // digest is the one registered scheme whose identities count as authenticated.
            fixed.extend(identities.iter().filter(|i| rules.digest && i.scheme == "digest").map(|identity| Acl {
                perms: entry.perms,
                scheme: identity.scheme.clone(),
                id: identity.id.clone(),
            }));
            if fixed.len() == before || fixed.len() > MOST {
                return Err(ErrorCode::InvalidAcl);
            }
            continue;
        }
        // Java meets a null id with a null pointer and answers MarshallingError; InvalidACL is what it means
        // (data-model 12b, row 15).
        let Some(id) = &entry.id else { return Err(ErrorCode::InvalidAcl) };
        let valid = match scheme.as_str() {
            "world" => *id == "anyone",
            "digest" => rules.digest && is_digest_id(id),
            "ip" => IpBlock::parse(id).is_some(),
            _ => false,
        };
        if !valid {
            return Err(ErrorCode::InvalidAcl);
        }
        // The list outlives the frame that it came in.
        fixed.push(Acl { perms: entry.perms, scheme: scheme.detach(), id: id.detach() });
    }
    if fixed.is_empty() { Err(ErrorCode::InvalidAcl) } else { Ok(fixed) }
}

/// Two parts by Java's `split(":")`, for which trailing empty parts do not count.
fn is_digest_id(id: &str) -> bool {
    let parts: Vec<&str> = id.split(':').collect();
    let counted = parts.iter().rposition(|part| !part.is_empty()).map_or(0, |last| last + 1);
    counted == 2
}

/// What a reader without ADMIN sees of an entry: a digest without its hash (client-protocol 8.5).
pub fn masked(entry: &Acl) -> Acl {
    match (entry.scheme.as_str(), entry.id.find(':')) {
        ("digest", Some(colon)) => Acl { id: Text::from(format!("{}:x", &entry.id[..colon])), ..entry.clone() },
        _ => entry.clone(),
    }
}

/// An address with the number of leading bits that count (client-protocol 8.3).
struct IpBlock {
    address: IpAddr,
    bits: u32,
}

impl IpBlock {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address = parse_address(address)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            // Rust takes a leading plus as Java does.
            Some(bits) => bits.parse().ok().filter(|bits| *bits <= most)?,
        };
        Some(Self { address, bits })
    }

    fn holds(&self, peer: &str) -> bool {
        let same = |ours: u128, theirs: u128, width: u32| self.bits == 0 || (ours ^ theirs) >> (width - self.bits) == 0;
        match (self.address, parse_address(peer)) {
            (IpAddr::V4(ours), Some(IpAddr::V4(theirs))) => same(ours.to_bits().into(), theirs.to_bits().into(), 32),
            (IpAddr::V6(ours), Some(IpAddr::V6(theirs))) => same(ours.to_bits(), theirs.to_bits(), 128),
            _ => false,
        }
    }
}

/// Java's own parser: laxer than the usual one for IPv4 (`1.2.3.04`, `+1.2.3.4`), stricter for IPv6 (no
/// embedded IPv4, no zone).
fn parse_address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return if text.contains('.') { None } else { text.parse::<Ipv6Addr>().ok().map(IpAddr::V6) };
    }
    let octets: Vec<u8> = text.split('.').map(|part| part.parse().ok()).collect::<Option<_>>()?;
    <[u8; 4]>::try_from(octets).ok().map(|octets| IpAddr::V4(Ipv4Addr::from(octets)))
}

/// An address as Java prints it: IPv6 in eight groups without `::`, mapped IPv4 as IPv4.
pub fn address_text(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|group| format!("{group:x}")).join(":"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(scheme: Option<&str>, id: Option<&str>) -> jute::records::data::Acl {
        jute::records::data::Acl { perms: ALL, scheme: scheme.map(Text::from), id: id.map(Text::from) }
    }

    fn fix(scheme: &str, id: &str) -> bool {
        fix_up(&AclRules::default(), Some(&[entry(Some(scheme), Some(id))]), &[]).is_ok()
    }

    // client-protocol 11 #89, #90; data-model 13 #77, #84
    #[test]
    fn which_entries_a_default_server_takes() {
        for id in [":x", "a:b:", "bob:hash"] {
            assert!(fix("digest", id), "{id}");
        }
        for id in ["bob", "bob:", ":", "a:b:c", ""] {
            assert!(!fix("digest", id), "{id}");
        }
        for id in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/+8", "::1", "1.2.3.04", "+1.2.3.4", "1:2:3:4:5:6:7:8/128"] {
            assert!(fix("ip", id), "{id}");
        }
        for id in ["1.2.3.4/33", "1.2.3", "localhost", "1.2.3.4/", "127.1", "::1%lo", "::1.2.3.4", "256.1.1.1", ""] {
            assert!(!fix("ip", id), "{id}");
        }
        assert!(fix("world", "anyone"));
        for (scheme, id) in [("world", "foo"), ("super", "x"), ("sasl", "bob"), ("x509", "CN=a"), ("auth", "")] {
            assert!(!fix(scheme, id), "{scheme}:{id}");
        }
    }

    #[test]
    fn nulls_are_an_invalid_acl() {
        for acl in [entry(None, Some("x")), entry(Some("world"), None), entry(Some("digest"), None)] {
            assert_eq!(fix_up(&AclRules::default(), Some(&[acl]), &[]), Err(ErrorCode::InvalidAcl));
        }
        assert_eq!(fix_up(&AclRules::default(), None, &[]), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix_up(&AclRules::default(), Some(&[]), &[]), Err(ErrorCode::InvalidAcl));
    }

    #[test]
    fn long_lists_cost_what_they_are_long() {
        let ids = |count: usize| (0..count).map(|at| format!("{at}:x"));
        let entries = |scheme, count| ids(count).map(|id| entry(Some(scheme), Some(&id))).collect::<Vec<_>>();
        // Would take seconds if each were compared with all before it.
        let twice = [entries("digest", 50_000), entries("digest", 50_000)].concat();
        let fixed = fix_up(&AclRules::default(), Some(&twice), &[]).unwrap();
        assert_eq!(fixed.len(), 50_000);
        // And gigabytes, if every entry became all that its client has proved.
        let identities: Vec<_> =
            ids(800).map(|id| Identity { scheme: "digest".into(), id: id.as_str().into() }).collect();
        let wanted = entries("auth", 50_000);
        assert_eq!(fix_up(&AclRules::default(), Some(&wanted), &identities), Err(ErrorCode::InvalidAcl));
        assert_eq!(fix_up(&AclRules::default(), Some(&wanted[..20]), &identities).unwrap().len(), 16_000);
    }

    #[test]
    fn masks_compare_the_leading_bits_of_the_same_family() {
        let block = |text| IpBlock::parse(text).unwrap();
        assert!(block("10.0.0.0/8").holds("10.9.8.7"));
        assert!(!block("10.0.0.0/8").holds("11.0.0.1"));
        assert!(block("0.0.0.0/0").holds("9.9.9.9"));
        assert!(!block("0.0.0.0/0").holds("0:0:0:0:0:0:0:1"));
        assert!(block("::1").holds("0:0:0:0:0:0:0:1"));
    }

    #[test]
    fn addresses_print_as_java_prints_them() {
        assert_eq!(address_text("::1".parse().unwrap()), "0:0:0:0:0:0:0:1");
        assert_eq!(address_text("::ffff:127.0.0.1".parse().unwrap()), "127.0.0.1");
    }
}
