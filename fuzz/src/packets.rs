//! What a peer sends over the quorum port, to either end: packets, and the snapshot behind a SNAP.
//!
//! The first byte says which end reads, and how large the pieces are in which the rest arrives. However it
//! arrives, the same comes out; and what comes out is written, and comes out again.

use std::fmt::Debug;

use bytes::BytesMut;
use zooid::tree::stream::{SnapshotParser, write_tree};
use zooid::tree::{Tree, TreeRules};
use zooid::zab::packet::{PacketReader, Side};

use crate::snapshot::content;
use crate::{bounded, of_views};

pub fn packets(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let side = if how & 1 == 0 { Side::Leader } else { Side::Learner };
    let read = |bytes: &[u8], piece| {
        let mut reader = PacketReader::new(side, PacketReader::USUAL_MAX);
        arrive(bytes, piece, |input| reader.next(input))
    };
    let (packets, end) = bounded(16 * 1024 + of_views(bytes), || read(bytes, bytes.len()));
    assert_eq!(read(bytes, piece(*how)), (packets.clone(), end), "pieces make a difference");
    let mut written = BytesMut::new();
    packets.iter().for_each(|packet| packet.write(&mut written));
    // Of one that nobody knows, only the type is kept.
    assert_eq!(read(&written, written.len()), (packets, None), "other packets were read than were written");
}

pub fn stream(input: &[u8]) {
    let Some((how, bytes)) = input.split_first() else { return };
    let whole = bounded((1 << 20) + 48 * bytes.len(), || parse(bytes, bytes.len()));
    let in_pieces = parse(bytes, piece(*how));
    match (&whole, &in_pieces) {
        (Ok((tree, left)), Ok((again, left_again))) => {
            assert_eq!((tree.as_ref().map(content), left), (again.as_ref().map(content), left_again));
        }
        // Which of several faults is found does not depend on it either.
        (Err(error), Err(again)) => assert_eq!(error, again),
        _ => panic!("pieces make a difference: {:?} and {:?}", whole.err(), in_pieces.err()),
    }
    let Ok((Some(tree), _)) = whole else { return };
    let written = write_tree(&tree, Vec::new()).expect("a Vec takes all");
    let Ok((Some(again), 0)) = parse(&written, written.len()) else { panic!("what was written does not load") };
    assert_eq!((again.digest(), again.sessions()), (tree.digest(), tree.sessions()));
    assert!(content(&again) == content(&tree), "another tree was read than was written");
}

/// From single bytes up to some thousand.
pub(crate) fn piece(how: u8) -> usize {
    1 << (how >> 1 & 15)
}

/// All that comes out of `bytes`, and the fault that ends it.
fn arrive<T, E: Debug>(
    bytes: &[u8],
    piece: usize,
    mut next: impl FnMut(&mut BytesMut) -> Result<Option<T>, E>,
) -> (Vec<T>, Option<E>) {
    let (mut input, mut out) = (BytesMut::new(), Vec::new());
    for piece in bytes.chunks(piece.max(1)) {
        input.extend_from_slice(piece);
        loop {
            match next(&mut input) {
                Ok(Some(item)) => out.push(item),
                Ok(None) => break,
                Err(error) => return (out, Some(error)),
            }
        }
    }
    (out, None)
}

/// The tree and how many bytes follow it; or the fault.
fn parse(bytes: &[u8], piece: usize) -> Result<(Option<Tree>, usize), String> {
    let mut parser = SnapshotParser::new(TreeRules::default(), PacketReader::USUAL_MAX);
    let (mut input, mut rest) = (BytesMut::new(), bytes);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(piece.clamp(1, rest.len()));
        input.extend_from_slice(now);
        rest = later;
        if let Some(tree) = parser.feed(&mut input).map_err(|error| error.to_string())? {
            return Ok((Some(tree), input.len() + rest.len()));
        }
    }
    Ok((None, 0))
}
