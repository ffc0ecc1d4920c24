//! What comes in on the election port: a hello, and notifications.
//!
//! The first byte says how large the pieces are in which the rest arrives. However it arrives, the same is done;
//! and a notification that is understood is written, and understood again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use zooid::config::{Membership, MultiAddress};
use zooid::election::links::{Effect, LinkRules, Links};
use zooid::election::{Notification, wire};

use crate::bounded;
use crate::packets::piece;

pub fn election(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    // An effect for each notification, the smallest of which has five bytes.
    let whole = bounded((64 << 10) + 64 * bytes.len(), || effects(bytes, bytes.len()));
    assert_eq!(effects(bytes, piece(*how)), whole, "pieces make a difference");
    for effect in whole {
        if let Effect::Deliver { from: _, body } = effect {
            check(&body);
        }
    }
}

fn effects(bytes: &[u8], piece: usize) -> Vec<Effect> {
    let servers = (1..=3).map(|id| (format!("server.{id}"), format!("127.0.0.{id}:2888:3888;2181")));
    let membership = Membership::parse(&BTreeMap::from_iter(servers), MultiAddress::Allowed).expect("it is right");
    let mut links = Links::new(LinkRules {
        me: 2,
        membership: Arc::new(membership),
        multi_address: MultiAddress::Allowed,
        connect_ms: 1,
        handshake_ms: 1,
    });
    let mut out = Vec::new();
    let conn = links.on_accepted(0, &mut out);
    for piece in bytes.chunks(piece.max(1)) {
        links.on_bytes(0, conn, piece, &mut out);
    }
    out
}

fn check(body: &Bytes) {
    let Ok(read) = Notification::parse(body) else { return };
    let Some(state) = read.state else { return };
    let written = wire::write(state, &read.vote, &read.config);
    let again = Notification::parse(&written).expect("what was written is understood");
    assert_eq!((again.state, again.vote, again.config), (read.state, read.vote, read.config));
}
