//! The member list in a file of its own: what a server writes down when the ensemble's list has a newer version
//! than its configuration.
//!
//! The version stands in the name of the file and nowhere else, so the file is never changed, only followed by
//! another one; the configuration points to it and holds no member any more. A start reads both.
//!
//! Java: `QuorumPeerConfig.writeDynamicConfig`, `editStaticConfig`; quorum-protocol 8.3.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::file::is_membership;
use super::{Membership, parse_properties};
use crate::id::ServerId;

/// What is to be written, the first file before the second.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rewritten {
    /// Path and text of the file with the members.
    pub dynamic: (String, String),
    /// The new text of the configuration itself.
    pub text: String,
}

/// Moves the members out of the configuration `text`, which stands at `path`, and the client port of member `me` with
/// them if its line has one.
pub fn rewrite(path: &str, text: &str, members: &Membership, me: ServerId) -> Rewritten {
    let mut lines: Vec<String> = members.to_string().lines().map(str::to_owned).collect();
    // The version is last.
    lines.pop();
    lines.sort_unstable();
    let dynamic_path = format!("{path}.dynamic.{:x}", members.version);
    let has_client = members.members.get(&me).is_some_and(|member| member.client.is_some());
    let mut kept = String::new();
    for (key, value) in parse_properties(text.as_bytes()).unwrap_or_default() {
        let moves = is_membership(&key) || key.starts_with("dynamicConfigFile") || key.starts_with("peerType");
        if !(moves || has_client && key.starts_with("clientPort")) {
            let _ = writeln!(kept, "{}={}", escaped(&key), escaped(&value));
        }
    }
    let _ = writeln!(kept, "dynamicConfigFile={}", escaped(&dynamic_path));
    Rewritten { dynamic: (dynamic_path, lines.join("\n")), text: kept }
}

/// So that reading gives the same text again.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (at, c) in text.chars().enumerate() {
        match c {
            '\\' => out.push_str("\\\\"),
            '=' | ':' | '#' | '!' if at == 0 => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) > 0x7e => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// A member list as text, with its version.
pub fn parse_members(text: &[u8], multi: super::MultiAddress) -> Result<Membership, String> {
    let lines: BTreeMap<String, String> = parse_properties(text).map_err(|error| error.to_string())?;
    if let Some(key) = lines.keys().find(|key| !is_membership(key) && *key != "version") {
        return Err(format!("Unrecognised parameter: {key}"));
    }
    Membership::parse(&lines, multi).map_err(|error| error.message)
}

#[cfg(test)]
mod tests {
    use super::super::MultiAddress;
    use super::*;

    #[test]
    fn members_move_into_a_file_named_after_their_version() {
        let text = "# mine\ntickTime 2000\ndataDir=/data\\\\x\nclientPort=2181\npeerType=observer\n\
                    server.2=b:1:2;2182\nserver.1=a:1:2;2181\ngroup.1=1:2\n";
        let list = b"server.2=b:1:2;2182\nserver.1=a:1:2;2181\nversion=1f00000000";
        let members = parse_members(list, MultiAddress::Refused).unwrap();
        let Rewritten { dynamic: (path, members), text } = rewrite("/etc/zoo.cfg", text, &members, 2);
        assert_eq!(path, "/etc/zoo.cfg.dynamic.1f00000000");
        let expected = "server.1=a:1:2:participant;0.0.0.0:2181\nserver.2=b:1:2:participant;0.0.0.0:2182";
        assert_eq!(members, expected);
        let expected = "dataDir=/data\\\\x\ntickTime=2000\ndynamicConfigFile=/etc/zoo.cfg.dynamic.1f00000000\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn the_client_port_stays_if_the_own_line_names_none() {
        let list = b"server.1=a:1:2\nserver.2=b:1:2;2181\nversion=5";
        let members = parse_members(list, MultiAddress::Refused).unwrap();
        let text = rewrite("zoo.cfg", "clientPort=2181\nserver.1=a:1:2\n", &members, 1).text;
        assert_eq!(text, "clientPort=2181\ndynamicConfigFile=zoo.cfg.dynamic.5\n");
    }

    #[test]
    fn what_is_no_member_list_is_refused() {
        assert!(parse_members(b"tickTime=5", MultiAddress::Refused).unwrap_err().contains("tickTime"));
        assert!(parse_members(b"server.x=a:1:2", MultiAddress::Refused).is_err());
        assert!(parse_members(b"\\u12", MultiAddress::Refused).is_err());
    }
}
