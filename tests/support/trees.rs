//! Trees as text, so that two can be compared and a difference be read.

#![allow(dead_code)]

use base64::Engine;
use zooid::tree::{Kind, Tree};

/// Everything in a tree that a client or a later transaction could see, one line each, in order.
pub fn lines(tree: &Tree) -> Vec<String> {
    let mut lines: Vec<String> = tree
        .walk()
        .map(|(path, node)| {
            let data = node.data().map(|data| base64::engine::general_purpose::STANDARD.encode(data));
            let acl: Vec<String> =
                node.acl().iter().map(|acl| format!("{}:{}:{}", acl.perms, acl.scheme, acl.id)).collect();
            let kind = node.kind();
            format!("{path} {data:?} {acl:?} {:?} {:?} {kind:?}", node.persisted(), node.stat())
        })
        .collect();
    lines.sort();
    lines.extend(tree.sessions().iter().map(|(id, timeout)| format!("session {id} {timeout}")));
    let count = |kind| tree.walk().filter(|(_, node)| node.kind() == kind).count();
    assert_eq!(tree.ephemeral_count(), count(Kind::Ephemeral));
    lines.push(format!("zxid {} digest {} nodes {}", tree.last_zxid(), tree.digest(), tree.node_count()));
    lines.push(format!("bytes {} quotas {:?}", tree.data_size(), tree.quotas()));
    lines
}

/// Panics with the first difference.
pub fn assert_equal(what: &str, left: &Tree, right: &Tree) {
    let (left, right) = (lines(left), lines(right));
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right, "{what}");
    }
    assert_eq!(left.len(), right.len(), "{what}");
}
