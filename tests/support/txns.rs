//! Transactions of every kind, at random.

#![allow(dead_code)]

use bytes::Bytes;
use zooid::acl::Acl;
use zooid::id::{SessionId, Zxid};
use zooid::proto::op;
use zooid::tree::{Tree, Unwatched};
use zooid::txn::{Create, CreateKind, Header, Logged, Txn};

use super::sim::Random;

/// Makes up a transaction, and applies it.
pub fn invent(tree: &mut Tree, zxid: Zxid, random: &mut Random) -> Logged {
    let session = SessionId(0x100 + random.below(2) as i64);
    let header = Header { session, cxid: 1, zxid, time: zxid.0 * 1000 };
    let txn = if tree.sessions().contains_key(&session) {
        invent_txn(random, 3)
    } else {
        Txn::CreateSession { timeout_ms: 4000 }
    };
    tree.apply(&header, &txn, &mut Unwatched);
    let digest = (!matches!(txn, Txn::Error { .. })).then(|| tree.digest());
    Logged { header, txn, digest }
}

fn invent_txn(random: &mut Random, depth: u32) -> Txn {
    let mut name = |below: &str| format!("{below}/n{}", random.below(6));
    let mut path = name("");
    if random.below(3) == 0 {
        let below = path.clone();
        path = format!("{below}/n{}", random.below(6));
    }
    let path: jute::Text = path.into();
    let data = Some(Bytes::from(vec![b'd'; random.below(400) as usize]));
    match random.below(12) {
        0..5 => {
            let kind = match random.below(5) {
                0 => CreateKind::Create2 { ephemeral: true },
                1 => CreateKind::Container,
                2 => CreateKind::Ttl { ms: 77 },
                _ => CreateKind::Create { ephemeral: false },
            };
            let acl = if random.below(2) == 0 { Acl::open() } else { vec![Acl::new(1, "world", "anyone")] };
            Txn::Create(Create { kind, path, data, acl: Some(acl), parent_cversion: -1 })
        }
        5 => Txn::Delete { op: op::DELETE, path },
        6 | 7 => Txn::SetData { op: op::SET_DATA, path, data, version: random.below(9) as i32 },
        8 => {
            let acl = vec![Acl::new(random.below(31) as i32 + 1, "digest", "a:b")];
            Txn::SetAcl { path, acl: Some(acl), version: 3 }
        }
        9 => Txn::Error { code: -101 },
        10 if depth > 2 => Txn::CloseSession { paths: Some(Vec::new()) },
        _ if depth > 2 => Txn::Multi((0..3).map(|_| loop_until_member(random)).collect()),
        _ => Txn::Error { code: -103 },
    }
}

fn loop_until_member(random: &mut Random) -> Txn {
    loop {
        match invent_txn(random, 0) {
            Txn::Error { .. } => {}
            member => return member,
        }
    }
}
