//! What is answered on the spot, from the tree as it is: reads, pings, everything about watches.
//!
//! These run on the connection's own task, many at a time, and never while a write is being applied. The
//! reply is encoded before the lock on the tree is released, so an event always follows the reply that armed
//! its watch, and precedes every reply that shows its change (design.md D5).
//!
//! Java: `FinalRequestProcessor`.

use std::ops::DerefMut;

use bytes::BytesMut;
use jute::records::proto::{MULTI_END, MultiHeader, ReplyHeader, write_frame};
use jute::{Record, Text, Writer};

use super::reply::{CATCH_UP, PING_XID, write_event, write_header};
use crate::acl::{self, AclRules, Identity};
use crate::id::{ConnId, SessionId};
use crate::proto::request::{MultiReadOp, Read, SetWatches, WatchList};
use crate::proto::{ErrorCode, op};
use crate::tree::{NodeRef, Tree};
use crate::watch::{EventType, Table, WatchTable, WatcherType};

/// Bytes of a multiRead's reply at most, but for the last of its operations.
const MULTI_READ_MOST: usize = 128 << 20;

/// Who reads.
#[derive(Clone, Copy)]
pub struct Reader<'a> {
    pub conn: ConnId,
    pub session: SessionId,
    pub identities: &'a [Identity],
    pub rules: &'a AclRules,
    /// Bytes of a reply at most, header included (`zooid.maxReplyBytes`).
    pub max_reply: usize,
}

/// Appends the reply to `out`. `watches` locks the table, and is called only when it is needed.
pub fn answer<W: DerefMut<Target = WatchTable>>(
    out: &mut BytesMut,
    tree: &Tree,
    watches: impl Fn() -> W,
    reader: Reader<'_>,
    xid: i32,
    read: &Read,
) {
    let start = out.len();
    let zxid = tree.last_zxid();
    let at = Place { tree, reader };
    let header = ReplyHeader { xid, zxid: zxid.0, err: 0 };
    let result = match read {
        Read::Ping => {
            write_header(out, PING_XID, zxid, 0);
            Ok(())
        }
        Read::Exists { path, watch } => at.exists(path, *watch, watches).map(|node| {
            write_frame(out, &header, |w| node.stat().write(w));
        }),
        Read::GetData { path, watch } => at.readable(path).map(|node| {
            if *watch {
                watches().add(Table::Data, path, reader.conn);
            }
            write_frame(out, &header, |w| {
                w.buffer(node.data());
                node.stat().write(w);
            });
        }),
        Read::GetChildren { path, watch } | Read::GetChildren2 { path, watch } => at.readable(path).map(|node| {
            if *watch {
                watches().add(Table::Child, path, reader.conn);
            }
            write_frame(out, &header, |w| {
                write_children(w, node);
                if matches!(read, Read::GetChildren2 { .. }) {
                    node.stat().write(w);
                }
            });
        }),
        Read::GetAcl { path } => at.acl(path).map(|(list, node)| {
            write_frame(out, &header, |w| {
                w.vector(Some(&list));
                node.stat().write(w);
            });
        }),
        Read::GetAllChildrenNumber { path } => at.readable(path).map(|node| {
            // Java counts the paths that begin with path + "/", and the root's second name, "/", is one of
            // those for the path "".
            let count = node.descendants() + usize::from(path.is_empty());
            write_frame(out, &header, |w| w.int(count as i32));
        }),
        Read::GetEphemerals { prefix } => {
            // Java's trim takes every character up to the blank, and no other.
            let trimmed = |prefix: &str| prefix.trim_matches(|c| c <= ' ').to_owned();
            let prefix = prefix.as_deref().filter(|p| !matches!(trimmed(p).as_str(), "" | "/")).unwrap_or_default();
            let paths: Vec<Text> =
                tree.ephemerals(reader.session).filter(|path| path.starts_with(prefix)).map(Text::from).collect();
            write_frame(out, &header, |w| w.vector(Some(&paths)));
            Ok(())
        }
        Read::Sync { path } => {
            write_frame(out, &header, |w| w.text(path.as_deref()));
            Ok(())
        }
        Read::MultiRead(ops) => match ops {
            Err(error) => Err(*error),
            Ok(ops) => {
                let mut read = Ok(());
                write_frame(out, &header, |w| read = at.multi_read(w, ops));
                if read.is_err() {
                    out.truncate(start);
                }
                read
            }
        },
        Read::SetWatches(set) => at.set_watches(out, set, watches).map(|()| write_header(out, xid, zxid, 0)),
        Read::AddWatch { path, mode } => add_watch(watches, path.as_ref(), reader.conn, *mode).map(|()| {
            write_frame(out, &header, |w| w.int(0));
        }),
        Read::CheckWatches { path, watcher_type } => match WatcherType::from_wire(*watcher_type) {
            None => Err(ErrorCode::Marshalling),
            Some(watcher) if watches().contains(watched(path.as_ref()), reader.conn, watcher) => Ok(()),
            Some(_) => Err(ErrorCode::NoWatcher),
        }
        .map(|()| write_header(out, xid, zxid, 0)),
        Read::RemoveWatches { path, watcher_type } => match WatcherType::from_wire(*watcher_type) {
            None => Err(ErrorCode::Marshalling),
            Some(watcher) if watches().remove(watched(path.as_ref()), reader.conn, watcher) => Ok(()),
            Some(_) => Err(ErrorCode::NoWatcher),
        }
        .map(|()| write_header(out, xid, zxid, 0)),
        Read::WhoAmI => {
            write_frame(out, &header, |w| write_identities(w, reader.identities));
            Ok(())
        }
    };
    match result {
        Err(error) => write_header(out, xid, zxid, error.code()),
        // Never a disconnect loop: the one request that asks for too much hears that it can't have it.
        Ok(()) if out.len() - start > reader.max_reply => {
            out.truncate(start);
            write_header(out, xid, zxid, ErrorCode::Marshalling.code());
        }
        Ok(()) => {}
    }
}

/// The node that a reply shows, and how many bytes of it: path, data or names of children, and the Stat. Java
/// counts the Stat whether it is sent or not (`DataTree.updateReadStat`); multiReads are not looked into.
pub fn shown<'a>(read: &'a Read, reply: &[u8]) -> Option<(&'a Text, i64)> {
    const HEADER: usize = 4 + 16;
    const STAT: usize = 68;
    const COUNT: usize = 4;
    let (err, body) = (reply.get(16..HEADER)?, &reply[HEADER..]);
    if err != [0; 4] {
        return None;
    }
    let bytes = match read {
        Read::Exists { .. } => STAT,
        Read::GetData { .. } => body.len() - COUNT,
        Read::GetChildren { .. } | Read::GetChildren2 { .. } => {
            let count = u32::from_be_bytes(*body.first_chunk()?) as usize;
            let stat = if matches!(read, Read::GetChildren2 { .. }) { STAT } else { 0 };
            body.len() - stat - COUNT - COUNT * count + STAT
        }
        _ => return None,
    };
    let (Read::Exists { path, .. }
    | Read::GetData { path, .. }
    | Read::GetChildren { path, .. }
    | Read::GetChildren2 { path, .. }) = read
    else {
        return None;
    };
    Some((path, (path.len() + bytes) as i64))
}

#[derive(Clone, Copy)]
struct Place<'a> {
    tree: &'a Tree,
    reader: Reader<'a>,
}

impl<'a> Place<'a> {
    fn authorise(&self, node: NodeRef<'_>, wanted: i32) -> Result<(), ErrorCode> {
        acl::authorise(self.reader.rules, node.acl(), self.reader.identities, wanted)
    }

    fn readable(&self, path: &str) -> Result<NodeRef<'a>, ErrorCode> {
        let node = self.tree.find(path).ok_or(ErrorCode::NoNode)?;
        self.authorise(node, acl::READ)?;
        Ok(node)
    }

    /// A missing node can be watched too: that is how one waits for it.
    fn exists<W: DerefMut<Target = WatchTable>>(
        &self,
        path: &Text,
        watch: bool,
        watches: impl Fn() -> W,
    ) -> Result<NodeRef<'a>, ErrorCode> {
        if path.contains('\0') {
            return Err(ErrorCode::BadArguments);
        }
        let node = match self.readable(path) {
            Err(error) if error != ErrorCode::NoNode => return Err(error),
            other => other,
        };
        if watch {
            watches().add(Table::Data, path, self.reader.conn);
        }
        node
    }

    fn acl(&self, path: &str) -> Result<(Vec<acl::Acl>, NodeRef<'a>), ErrorCode> {
        let node = self.tree.find(path).ok_or(ErrorCode::NoNode)?;
        self.authorise(node, acl::READ | acl::ADMIN)?;
        let list = match self.authorise(node, acl::ADMIN) {
            Ok(()) => node.acl().to_vec(),
            Err(_) => node.acl().iter().map(acl::masked).collect(),
        };
        Ok((list, node))
    }

    /// Each operation by itself: an error is that one's result. A few bytes of a request may ask for all of a znode
    /// again and again, so what is too much as a whole is an error of the whole.
    fn multi_read(&self, w: &mut Writer<'_>, ops: &[MultiReadOp]) -> Result<(), ErrorCode> {
        let most = w.len() + self.reader.max_reply.min(MULTI_READ_MOST);
        for read in ops {
            if w.len() > most {
                return Err(ErrorCode::Marshalling);
            }
            let (MultiReadOp::GetData { path } | MultiReadOp::GetChildren { path }) = read;
            match (read, self.readable(path)) {
                (_, Err(error)) => {
                    let err = error.code();
                    MultiHeader { op: op::ERROR, done: false, err }.write(w);
                    w.int(err);
                }
                (MultiReadOp::GetData { .. }, Ok(node)) => {
                    MultiHeader { op: op::GET_DATA, done: false, err: 0 }.write(w);
                    w.buffer(node.data());
                    node.stat().write(w);
                }
                (MultiReadOp::GetChildren { .. }, Ok(node)) => {
                    MultiHeader { op: op::GET_CHILDREN, done: false, err: 0 }.write(w);
                    write_children(w, node);
                }
            }
        }
        MULTI_END.write(w);
        Ok(())
    }

    /// Arms each watch, or says at once what happened since `relative_zxid` (client-protocol 6.6).
    fn set_watches<W: DerefMut<Target = WatchTable>>(
        &self,
        out: &mut BytesMut,
        set: &SetWatches,
        watches: impl Fn() -> W,
    ) -> Result<(), ErrorCode> {
        let mut table = watches();
        let conn = self.reader.conn;
        for (list, paths) in &set.lists {
            let persistent = matches!(list, WatchList::Persistent | WatchList::PersistentRecursive);
            for path in paths.as_ref().ok_or(ErrorCode::Marshalling)? {
                // The persistent lists are armed without a look at the tree, so a null path passes there.
                let path = match path {
                    None if persistent => &NULL_PATH,
                    path => path.as_ref().ok_or(ErrorCode::Marshalling)?,
                };
                let node = self.tree.find(path).map(|node| node.persisted());
                let overdue = match (list, node) {
                    (WatchList::Data | WatchList::Child, None) => Some(EventType::Deleted),
                    (WatchList::Data, Some(stat)) if stat.mzxid > set.relative_zxid => Some(EventType::DataChanged),
                    (WatchList::Child, Some(stat)) if stat.pzxid > set.relative_zxid => {
                        Some(EventType::ChildrenChanged)
                    }
                    (WatchList::Exist, Some(_)) => Some(EventType::Created),
                    _ => None,
                };
                match (overdue, list) {
                    (Some(event), _) => write_event(out, CATCH_UP, event, path),
                    (None, WatchList::Data | WatchList::Exist) => table.add(Table::Data, path, conn),
                    (None, WatchList::Child) => table.add(Table::Child, path, conn),
                    (None, WatchList::Persistent) => table.add_persistent(path, conn),
                    (None, WatchList::PersistentRecursive) => table.add_recursive(path, conn),
                }
            }
        }
        Ok(())
    }
}

fn add_watch<W: DerefMut<Target = WatchTable>>(
    watches: impl Fn() -> W,
    path: Option<&Text>,
    conn: ConnId,
    mode: i32,
) -> Result<(), ErrorCode> {
    let path = path.unwrap_or(&NULL_PATH);
    match mode {
        0 => watches().add_persistent(path, conn),
        1 => watches().add_recursive(path, conn),
        _ => return Err(ErrorCode::Marshalling),
    }
    Ok(())
}

/// What stands for the null path among watched paths: Java keeps watches on it, which never fire. No path
/// that is looked up or triggered looks like this one.
static NULL_PATH: Text = Text::from_static("\0null");

fn watched(path: Option<&Text>) -> &Text {
    path.unwrap_or(&NULL_PATH)
}

fn write_children(w: &mut Writer<'_>, node: NodeRef<'_>) {
    let children = node.children();
    w.count(children.len());
    for name in children {
        w.text(Some(name));
    }
}

/// The user of a digest is what stands before the colon; the scheme `super` has no user.
fn write_identities(w: &mut Writer<'_>, identities: &[Identity]) {
    w.count(identities.len());
    for Identity { scheme, id } in identities {
        let user = match scheme.as_str() {
            "digest" => id.split(':').next().unwrap_or_default(),
            "super" => "",
            _ => id,
        };
        w.text(Some(scheme));
        w.text(Some(user));
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::acl::Acl;
    use crate::id::Zxid;
    use crate::tree::{TreeRules, Unwatched};
    use crate::txn::{Create, CreateKind, Header, Txn};

    // config 5.3: read_per_namespace
    #[test]
    fn what_a_reply_shows_is_what_java_counts() {
        let mut tree = Tree::new(TreeRules::default());
        for (counter, path, data) in [(1, "/app", &b""[..]), (2, "/app/config", b"ab"), (3, "/app/x", b"")] {
            let header = Header { session: SessionId(7), cxid: 0, zxid: Zxid::new(0, counter), time: 0 };
            let create = Create {
                kind: CreateKind::Create { ephemeral: false },
                path: path.into(),
                data: Some(data.to_vec().into()),
                acl: Some(Acl::open()),
                parent_cversion: -1,
            };
            tree.apply(&header, &Txn::Create(create), &mut Unwatched);
        }
        let watches = RefCell::new(WatchTable::default());
        let rules = AclRules { skip: false, digest: true };
        let shown_by = |read: Read| {
            let mut out = BytesMut::new();
            let reader = Reader {
                conn: ConnId(1),
                session: SessionId(7),
                identities: &[],
                rules: &rules,
                max_reply: usize::MAX,
            };
            answer(&mut out, &tree, || watches.borrow_mut(), reader, 1, &read);
            shown(&read, &out).map(|(path, bytes)| (path.to_string(), bytes))
        };
        let path = || Text::from("/app/config");
        let app = || Text::from("/app");
        let config = "/app/config".to_owned();
        assert_eq!(shown_by(Read::GetData { path: path(), watch: false }), Some((config.clone(), 11 + 2 + 68)));
        assert_eq!(shown_by(Read::Exists { path: path(), watch: false }), Some((config, 11 + 68)));
        let children = Some(("/app".to_owned(), 4 + 6 + 1 + 68));
        assert_eq!(shown_by(Read::GetChildren { path: app(), watch: false }), children);
        assert_eq!(shown_by(Read::GetChildren2 { path: app(), watch: false }), children);
        assert_eq!(shown_by(Read::GetData { path: "/none".into(), watch: false }), None);
        assert_eq!(shown_by(Read::Ping), None);
    }
}
