//! The stream behind a SNAP packet: the tree as a snapshot file has it, without header and seals, and a
//! signature at its end. Nothing else says that it is complete.
//!
//! A Java leader goes on while it writes: the stream may hold a part of what was committed meanwhile, and those
//! transactions follow it. So what such a part may lack is no fault: see [`Loader::of_stream`]. What a zooid
//! leader writes is the state of exactly one transaction.
//!
//! Java: `LearnerHandler`, `Learner.syncWithLeader`; quorum-protocol 5.7.

use std::io::{self, Write};

use bytes::{Buf, BytesMut};
use jute::Writer as JuteWriter;

use super::body::{Body, Parser, TERMINATOR};
use super::snapshot::SnapshotError;
use super::{Loader, Tree, TreeRules};
use crate::id::Zxid;

/// A string.
const SIGNATURE: [u8; 14] = *b"\0\0\0\x0aBenWasHere";

/// Builds the tree from the stream as it arrives.
pub struct SnapshotParser {
    body: Parser,
    /// Until it is done.
    loader: Option<Loader>,
}

impl SnapshotParser {
    /// `limit` is the length of the longest string or buffer that is believed.
    pub fn new(rules: TreeRules, limit: usize) -> Self {
        Self { body: Parser::new(limit), loader: Some(Loader::of_stream(rules)) }
    }

    /// Takes from the front of `input` what belongs to the stream. When all of it was there, returns the tree
    /// and leaves the rest; its zxid is the SNAP packet's, for the caller to set. Not to be called again then,
    /// nor after an error.
    pub fn feed(&mut self, input: &mut BytesMut) -> Result<Option<Tree>, SnapshotError> {
        let loader = self.loader.as_mut().expect("a stream ends once");
        let used = self.body.feed(input, loader)?;
        input.advance(used);
        if !self.body.is_done() {
            return Ok(None);
        }
        let Some(end) = input.first_chunk::<{ SIGNATURE.len() }>() else { return Ok(None) };
        if *end != SIGNATURE {
            return Err(SnapshotError::Malformed("the signature"));
        }
        input.advance(SIGNATURE.len());
        let loader = self.loader.take().expect("it was just there");
        Ok(Some(loader.finish(Zxid::ZERO)?))
    }
}

/// Bytes that are written at once, about.
const CHUNK: usize = 64 * 1024;

/// Writes a stream in pieces of moderate size.
pub struct Writer<W> {
    out: W,
    buffer: BytesMut,
}

impl<W: Write> Body for Writer<W> {
    fn put(&mut self, write: impl FnOnce(&mut JuteWriter<'_>)) -> io::Result<()> {
        write(&mut JuteWriter::durable(&mut self.buffer));
        if self.buffer.len() >= CHUNK { self.drain() } else { Ok(()) }
    }
}

impl<W: Write> Writer<W> {
    pub fn new(out: W) -> Self {
        Self { out, buffer: BytesMut::new() }
    }

    fn drain(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }

    /// Ends the nodes and signs. Returns what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.put(|w| {
            w.raw(&TERMINATOR);
            w.raw(&SIGNATURE);
        })?;
        self.drain()?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// Writes the stream of a tree as it is now.
pub fn write_tree<W: Write>(tree: &Tree, out: W) -> io::Result<W> {
    let mut writer = Writer::new(out);
    writer.tree(tree)?;
    writer.finish()
}

#[cfg(test)]
mod tests {
    use jute::Text;

    use super::*;
    use crate::acl::Acl;
    use crate::id::SessionId;
    use crate::path::BUILT_IN;
    use crate::tree::acls::OPEN_ID;
    use crate::tree::{StatPersisted, Unwatched};
    use crate::txn::{Create, CreateKind, Header, Txn};

    /// The built-in nodes, and `/a` with this list.
    fn stream_of(lists: &[(i64, Vec<Acl>)], list_of_a: i64) -> BytesMut {
        let mut writer = Writer::new(Vec::new());
        writer.count(0).unwrap();
        writer.count(lists.len()).unwrap();
        for (id, acl) in lists {
            writer.acl(*id, acl).unwrap();
        }
        let nodes = BUILT_IN.map(|path| (path, OPEN_ID)).into_iter().chain([("/a", list_of_a)]);
        for (path, list) in nodes {
            writer.node(path, Some(b"yo"), list, &StatPersisted::default()).unwrap();
        }
        BytesMut::from(&writer.finish().unwrap()[..])
    }

    fn parse(mut stream: BytesMut) -> Result<Tree, SnapshotError> {
        let tree = SnapshotParser::new(TreeRules::default(), 1 << 20).feed(&mut stream)?;
        Ok(tree.expect("it is whole"))
    }

    /// The bytes around the nodes (quorum-protocol 11.2).
    #[test]
    fn it_begins_and_ends_as_java_s() {
        let stream = stream_of(&[(1, vec![Acl::new(1, "world", "anyone")])], 1);
        let begin = b"\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x05world\0\0\0\x06anyone\0\0\0\0";
        assert!(stream.starts_with(begin));
        assert!(stream.ends_with(b"\0\0\0\x01/\0\0\0\x0aBenWasHere"));
    }

    #[test]
    fn a_list_that_the_stream_lacks_comes_with_its_transaction() {
        let mut tree = parse(stream_of(&[], 7)).unwrap();
        let list = |tree: &Tree| tree.find("/a").unwrap().acl().to_vec();
        assert_eq!(list(&tree), [Acl::new(0, "world", "anyone")], "nobody may do anything yet");
        let header = Header { session: SessionId(1), cxid: 1, zxid: Zxid(9), time: 0 };
        let acl = Acl::new(1, "ip", "127.0.0.1");
        let create = Create {
            kind: CreateKind::Create { ephemeral: false },
            path: Text::from("/a"),
            data: None,
            acl: Some(vec![acl.clone()]),
            parent_cversion: 1,
        };
        tree.apply(&header, &Txn::Create(create), &mut Unwatched);
        assert_eq!(list(&tree), [acl]);
        // No list ever has such an id.
        assert!(matches!(parse(stream_of(&[], 0)), Err(SnapshotError::Load(_))));
    }
}
