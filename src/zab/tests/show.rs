//! How the scripts write what roles wish for.

use std::sync::Arc;

use super::super::packet::{LearnerInfo, PROTOCOL, Packet};
use super::super::{Effect, Entry, FromLeader, FromLearner};
use crate::config::{Membership, MultiAddress, parse_properties};
use crate::id::{LinkId, Zxid};
use crate::storage::epoch::EpochFile;

/// Servers from 1 on: first those that vote, then observers.
pub fn membership(voters: usize, observers: usize) -> Arc<Membership> {
    let mut text = String::new();
    for id in 1..=voters + observers {
        let role = if id <= voters { "participant" } else { "observer" };
        text.push_str(&format!("server.{id}=h{id}:1:2:{role}\n"));
    }
    let properties = parse_properties(text.as_bytes()).unwrap();
    Arc::new(Membership::parse(&properties, MultiAddress::Refused).unwrap())
}

pub fn z(epoch: u32, counter: u32) -> Zxid {
    Zxid::new(epoch, counter)
}

pub fn entry(zxid: Zxid) -> Entry {
    Entry { zxid, txn: name(zxid).into() }
}

pub fn info(server: i64) -> LearnerInfo {
    LearnerInfo { server: Some(server), protocol: PROTOCOL, config_version: 0, mark: None }
}

pub fn proposal(zxid: Zxid) -> Packet {
    Packet::Proposal { zxid, txn: entry(zxid).txn }
}

pub fn inform(zxid: Zxid) -> Packet {
    Packet::Inform { zxid, txn: entry(zxid).txn }
}

pub fn commit(zxid: Zxid) -> Packet {
    Packet::Commit { zxid }
}

/// `2:1` for the first transaction of epoch 2.
pub fn name(zxid: Zxid) -> String {
    if zxid.0 < 0 { zxid.0.to_string() } else { format!("{}:{}", zxid.epoch(), zxid.counter()) }
}

pub fn packet(packet: &Packet) -> String {
    let kind = packet.name();
    match packet {
        Packet::FollowerInfo { accepted, .. } | Packet::ObserverInfo { accepted, .. } => format!("{kind} {accepted}"),
        Packet::LeaderInfo { epoch, mark } => {
            let differs = if mark.is_some_and(|mark| mark.differs) { " differs" } else { "" };
            format!("{kind} {epoch}{differs}")
        }
        Packet::AckEpoch { last, current: Some(current) } => format!("{kind} {} of {current}", name(*last)),
        Packet::AckEpoch { last, current: None } => format!("{kind} {} again", name(*last)),
        Packet::NewLeader { zxid, config } => {
            let config = if config.is_some() { "" } else { " without members" };
            format!("{kind} {}{config}", name(*zxid))
        }
        Packet::Diff { zxid }
        | Packet::Trunc { zxid }
        | Packet::Snap { zxid }
        | Packet::Proposal { zxid, .. }
        | Packet::Ack { zxid }
        | Packet::Commit { zxid }
        | Packet::Inform { zxid, .. }
        | Packet::Ping { zxid, .. } => format!("{kind} {}", name(*zxid)),
        _ => kind.to_owned(),
    }
}

pub fn effect(effect: &Effect) -> String {
    match effect {
        Effect::Dial { leader, .. } => format!("dial {leader}"),
        Effect::Send { link: LinkId(link), packet: what } => format!("{link} {}", packet(what)),
        Effect::Close { link: LinkId(link), why } => format!("{link} closed: {why}"),
        Effect::SaveEpoch { file: EpochFile::Accepted, epoch } => format!("save accepted {epoch}"),
        Effect::SaveEpoch { file: EpochFile::Current, epoch } => format!("save current {epoch}"),
        Effect::Append(entry) => format!("append {}", name(entry.zxid)),
        Effect::Truncate { target } => format!("truncate {}", name(*target)),
        Effect::Install { upto, entries, rest } => {
            let list =
                |entries: &[Entry]| entries.iter().map(|entry| format!(" {}", name(entry.zxid))).collect::<String>();
            format!("install {} with{}, then{}", name(*upto), list(entries), list(rest))
        }
        Effect::ReadLog { link: LinkId(link), after, upto, in_parts } => {
            let what = if *in_parts { "read some of" } else { "read" };
            format!("{link} {what} {} {}", name(*after), name(*upto))
        }
        Effect::AwaitDrained { link: LinkId(link) } => format!("{link} awaits drained"),
        Effect::SendSnapshot { link: LinkId(link) } => format!("{link} snapshot"),
        Effect::Established { epoch } => format!("established {epoch}"),
        Effect::Committed { zxid } => format!("committed {}", name(*zxid)),
        Effect::Serve { epoch, committed } => format!("serve {epoch} with {}", name(*committed)),
        Effect::FromLearner { from, message, .. } => {
            let message = match message {
                FromLearner::Request(_) => "request",
                FromLearner::Revalidate { .. } => "revalidate",
                FromLearner::Touched(_) => "touched",
                FromLearner::Gone => "gone",
            };
            format!("from {from}: {message}")
        }
        Effect::FromLeader(message) => match message {
            FromLeader::Revalidated { .. } => "revalidated".to_owned(),
            FromLeader::Synced => "synced".to_owned(),
            FromLeader::Ping { zxid } => format!("ping {}", name(*zxid)),
            FromLeader::Config { .. } => "members".to_owned(),
        },
        Effect::Disputed { by } => format!("disputed by {by:?}"),
        Effect::Failed(fault) => format!("failed: {fault}"),
    }
}
