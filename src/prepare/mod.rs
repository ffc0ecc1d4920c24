//! From a request and the tree as it will be to a transaction, or to the error that takes its place.
//!
//! Everything that could be decided differently elsewhere is decided here, once. Members of a multi, single
//! operations and the reaper's deletions go through the same checks; the order of the checks is Java's, since
//! clients can tell (data-model 2.2). Nothing is recorded before every check of an operation has passed.
//!
//! Java: `PrepRequestProcessor`.

mod overlay;

use std::sync::Arc;

use bytes::Bytes;
use jute::Text;
use jute::records::data::{Acl as WireAcl, StatPersisted};

use crate::acl::{self, AclRules, Identity};
use crate::id::{SessionId, Zxid};
use crate::path::{self, Path};
use crate::planted::{self, Bug};
use crate::proto::request::{Create, MultiOp, Write};
use crate::proto::{ErrorCode, op};
use crate::tree::quota::{self, Track};
use crate::tree::{CONTAINER_OWNER, Kind, TTL_MAX, TTL_OWNER, Tree, digest};
use crate::txn::{self, CreateKind, Txn};

pub use overlay::{Overlay, Pending};

/// The settings that decide whether a request is legal.
#[derive(Clone, Debug, Default)]
pub struct PrepareRules {
    pub acl: AclRules,
    /// `zookeeper.extendedTypesEnabled`: TTL nodes may be created.
    pub extended_types: bool,
    /// `zookeeper.enforceQuota`.
    pub enforce_quota: bool,
    /// `reconfigEnabled`.
    pub reconfig: bool,
    /// Bytes of paths that a closeSession lists at most, so that its record stays readable for Java; what is
    /// left out goes when it is applied.
    pub close_list_bytes: usize,
}

/// Where a request comes from and the place that its transaction gets.
#[derive(Clone, Debug)]
pub struct Context<'a> {
    pub session: SessionId,
    pub identities: &'a [Identity],
    pub zxid: Zxid,
    /// Milliseconds since 1970.
    pub time: i64,
    /// What the session check says: an error refuses the operation in its turn among the checks.
    pub session_check: Result<(), ErrorCode>,
    /// The request is the server's own: the reaper's.
    pub internal: bool,
}

/// A quota that a request would exceed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QuotaExceeded {
    pub subject: String,
    pub of: QuotaOf,
    pub strictness: Strictness,
    /// With the request.
    pub current: i64,
    pub limit: i64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum QuotaOf {
    Count,
    Bytes,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Strictness {
    /// The request passes.
    Soft,
    Hard,
}

#[derive(Debug)]
pub struct Preparer {
    rules: PrepareRules,
    overlay: Overlay,
    exceeded: Vec<QuotaExceeded>,
}

impl Preparer {
    pub fn new(rules: PrepareRules, tree: &Tree) -> Self {
        let mut overlay = Overlay::new(tree.seed());
        overlay.reset(tree);
        Self { rules, overlay, exceeded: Vec::new() }
    }

    /// The digest of the tree after everything prepared.
    pub fn digest(&self) -> u64 {
        self.overlay.digest()
    }

    /// The quotas that were found exceeded since the last call.
    pub fn take_exceeded(&mut self) -> impl Iterator<Item = QuotaExceeded> + '_ {
        self.exceeded.drain(..)
    }

    /// Changes of nodes prepared since the start.
    pub fn changes_queued(&self) -> u64 {
        self.overlay.queued()
    }

    /// Those of them that are applied, or taken back.
    pub fn changes_removed(&self) -> u64 {
        self.overlay.queued() - self.overlay.len() as u64
    }

    /// Everything up to `zxid` was applied.
    pub fn on_applied(&mut self, zxid: Zxid) {
        self.overlay.on_applied(zxid);
    }

    /// Forgets what was prepared and will not be applied.
    pub fn reset(&mut self, tree: &Tree) {
        self.overlay.reset(tree);
    }

    /// Takes back the transaction prepared last.
    pub fn roll_back(&mut self) {
        self.overlay.roll_back();
    }

    /// The transaction for a request; a refusal becomes an error transaction in the same place.
    pub fn prepare(&mut self, tree: &Tree, cx: &Context<'_>, write: &Write) -> Txn {
        self.overlay.begin();
        let refused = |error: ErrorCode| Txn::Error { code: error.code() };
        match write {
            Write::Multi(ops) => self.multi(tree, cx, ops),
            Write::BadMulti => refused(ErrorCode::Marshalling),
            single => self.single(tree, cx, single).unwrap_or_else(refused),
        }
    }

    fn single(&mut self, tree: &Tree, cx: &Context<'_>, write: &Write) -> Result<Txn, ErrorCode> {
        match write {
            Write::Create(create) => self.create(tree, cx, create),
            Write::Delete { path, version } => self.delete(tree, cx, path.as_ref(), *version),
            Write::DeleteContainer { path, seen } => self.delete_container(tree, cx, path, *seen),
            Write::SetData { path, data, version } => self.set_data(tree, cx, path.as_ref(), data.as_ref(), *version),
            Write::SetAcl { path, acl, version } => self.set_acl(tree, cx, path.as_ref(), acl.as_deref(), *version),
            Write::Reconfig(_) => {
                if !self.rules.reconfig {
                    return Err(ErrorCode::ReconfigDisabled);
                }
                cx.session_check?;
                Err(ErrorCode::Unimplemented)
            }
            Write::CloseSession => Ok(self.close_session(tree, cx)),
            Write::Multi(_) | Write::BadMulti => unreachable!("not a single operation"),
        }
    }

    fn multi(&mut self, tree: &Tree, cx: &Context<'_>, ops: &[MultiOp]) -> Txn {
        let mut members = Vec::with_capacity(ops.len());
        for (at, op) in ops.iter().enumerate() {
            match self.member(tree, cx, op) {
                Ok(member) => members.push(member),
                Err(error) => {
                    if !planted::is(Bug::MultiLeaks) {
                        self.overlay.roll_back();
                    }
                    members.push(Txn::Error { code: error.code() });
                    let after = Txn::Error { code: ErrorCode::RuntimeInconsistency.code() };
                    members.extend(ops[at + 1..].iter().map(|_| after.clone()));
                    break;
                }
            }
        }
        Txn::Multi(members)
    }

    fn member(&mut self, tree: &Tree, cx: &Context<'_>, op: &MultiOp) -> Result<Txn, ErrorCode> {
        match op {
            MultiOp::Create(create) => self.create(tree, cx, create),
            MultiOp::Delete { path, version } => self.delete(tree, cx, Some(path), *version),
            MultiOp::SetData { path, data, version } => self.set_data(tree, cx, Some(path), data.as_ref(), *version),
            MultiOp::Check { path, version } => self.check(tree, cx, path, *version),
        }
    }

    fn existing(&self, tree: &Tree, path: &str) -> Result<Pending, ErrorCode> {
        self.overlay.find(tree, path).ok_or(ErrorCode::NoNode)
    }

    fn authorise(&self, cx: &Context<'_>, node: &Pending, wanted: i32) -> Result<(), ErrorCode> {
        acl::authorise(&self.rules.acl, &node.acl, cx.identities, wanted)
    }

    fn create(&mut self, tree: &Tree, cx: &Context<'_>, create: &Create) -> Result<Txn, ErrorCode> {
        let mode = CreateMode::from_flags(create.flags).ok_or(ErrorCode::BadArguments)?;
        if mode.ttl && !self.rules.extended_types {
            return Err(ErrorCode::Unimplemented);
        }
        let ttl_fits = if mode.ttl { (1..=TTL_MAX).contains(&create.ttl) } else { create.ttl < 0 };
        // createTTL without a TTL mode stops a Java server (data-model 12b, row 2).
        if !ttl_fits || create.op == op::CREATE_TTL && !mode.ttl {
            return Err(ErrorCode::BadArguments);
        }
        cx.session_check?;
        let given = create.path.as_ref().ok_or(ErrorCode::Marshalling)?;
        let parent_path = path::split_parent(given)?;
        let acl = acl::fix_up(&self.rules.acl, create.acl.as_deref(), cx.identities)?;
        let parent = self.existing(tree, parent_path)?;
        self.authorise(cx, &parent, acl::CREATE)?;
        let cversion = parent.stat.cversion;
        let named = match mode.sequential {
            true if planted::is(Bug::SequenceByCount) => {
                Text::from(format!("{given}{}", sequence_suffix(parent.children as i32)))
            }
            true => Text::from(format!("{given}{}", sequence_suffix(cversion))),
            false => given.clone(),
        };
        let path = Path::parse(named)?.into_text();
        if self.overlay.find(tree, &path).is_some() {
            return Err(ErrorCode::NodeExists);
        }
        if parent.kind == Kind::Ephemeral {
            return Err(ErrorCode::NoChildrenForEphemerals);
        }
        let data = create.data.clone();
        let data_len = data.as_ref().map_or(0, Bytes::len);
        self.check_quota(tree, &path, 1, data_len as i64)?;

        let kind = match create.op {
            op::CREATE => CreateKind::Create { ephemeral: mode.ephemeral },
            op::CREATE2 => CreateKind::Create2 { ephemeral: mode.ephemeral },
            op::CREATE_CONTAINER => CreateKind::Container,
            _ => CreateKind::Ttl { ms: create.ttl },
        };
        let (node_kind, owner) = match kind {
            CreateKind::Create { ephemeral: true } | CreateKind::Create2 { ephemeral: true } => {
                (Kind::Ephemeral, cx.session.0)
            }
            CreateKind::Create { .. } | CreateKind::Create2 { .. } => (Kind::Persistent, 0),
            CreateKind::Container => (Kind::Container, CONTAINER_OWNER),
            CreateKind::Ttl { ms } => (Kind::Ttl, TTL_OWNER | ms),
        };
        // The tree moves the counter only upwards, so it stays at its largest value (data-model 1.3).
        let parent_cversion = cversion.wrapping_add(1);
        let mut grown = parent.clone();
        grown.children += 1;
        if parent_cversion > cversion {
            grown.stat.cversion = parent_cversion;
            grown.stat.pzxid = cx.zxid.0;
        }
        self.overlay.put(cx.zxid, parent_text(&path), Some(&parent), Some(grown));
        let zxid = cx.zxid.0;
        let node = Pending {
            stat: StatPersisted {
                czxid: zxid,
                mzxid: zxid,
                pzxid: zxid,
                ctime: cx.time,
                mtime: cx.time,
                ephemeral_owner: owner,
                ..StatPersisted::default()
            },
            kind: node_kind,
            children: 0,
            acl: Arc::from(acl.as_slice()),
            prefix_crc: digest::prefix_crc(&path, data.as_deref()),
            data_len,
        };
        self.overlay.put(cx.zxid, path.clone(), None, Some(node));
        Ok(Txn::Create(txn::Create { kind, path, data, acl: Some(acl), parent_cversion }))
    }

    fn delete(&mut self, tree: &Tree, cx: &Context<'_>, path: Option<&Text>, version: i32) -> Result<Txn, ErrorCode> {
        cx.session_check?;
        let path = path.ok_or(ErrorCode::Marshalling)?;
        let parent_path = deletable(path)?;
        let parent = self.existing(tree, parent_path)?;
        self.authorise(cx, &parent, acl::DELETE)?;
        let node = self.existing(tree, path)?;
        check_version(version, node.stat.version)?;
        if node.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        self.put_deletion(cx.zxid, path, &parent, &node);
        Ok(Txn::Delete { op: op::DELETE, path: path.clone() })
    }

    fn delete_container(
        &mut self,
        tree: &Tree,
        cx: &Context<'_>,
        path: &Text,
        seen: Option<Zxid>,
    ) -> Result<Txn, ErrorCode> {
        let parent_path = deletable(path)?;
        let node = self.existing(tree, path)?;
        if node.children > 0 {
            return Err(ErrorCode::NotEmpty);
        }
        // Meanwhile it may have been set, or another node may have its path; Java does not look.
        let seen = seen.filter(|_| !planted::is(Bug::RemovesUnseen));
        let has_changed =
            seen.is_some_and(|mzxid| node.stat.mzxid != mzxid.0 || !matches!(node.kind, Kind::Container | Kind::Ttl));
        if node.kind == Kind::Ephemeral || has_changed {
            return Err(ErrorCode::BadVersion);
        }
        let parent = self.existing(tree, parent_path)?;
        // Java lets any client delete any empty node this way (data-model 12b, row 6).
        if !cx.internal {
            self.authorise(cx, &parent, acl::DELETE)?;
        }
        self.put_deletion(cx.zxid, path, &parent, &node);
        Ok(Txn::Delete { op: op::DELETE_CONTAINER, path: path.clone() })
    }

    fn put_deletion(&mut self, zxid: Zxid, path: &Text, parent: &Pending, node: &Pending) {
        let mut shrunk = parent.clone();
        shrunk.children -= 1;
        shrunk.stat.pzxid = shrunk.stat.pzxid.max(zxid.0);
        self.overlay.put(zxid, parent_text(path), Some(parent), Some(shrunk));
        self.overlay.put(zxid, path.clone(), Some(node), None);
    }

    fn set_data(
        &mut self,
        tree: &Tree,
        cx: &Context<'_>,
        path: Option<&Text>,
        data: Option<&Bytes>,
        version: i32,
    ) -> Result<Txn, ErrorCode> {
        cx.session_check?;
        let path = Path::parse(path.ok_or(ErrorCode::BadArguments)?.clone())?;
        let node = self.existing(tree, &path)?;
        self.authorise(cx, &node, acl::WRITE)?;
        let data_len = data.map_or(0, Bytes::len);
        // Usage is that of the committed tree, and so is the length that the new one is compared with.
        let committed_len = tree.find(&path).and_then(|node| node.data()).map_or(0, <[u8]>::len);
        self.check_quota(tree, &path, 0, data_len as i64 - committed_len as i64)?;
        check_version(version, node.stat.version)?;
        let version = node.stat.version.wrapping_add(1);
        let mut changed = node.clone();
        changed.stat.version = version;
        changed.stat.mzxid = cx.zxid.0;
        changed.stat.mtime = cx.time;
        changed.prefix_crc = digest::prefix_crc(&path, data.map(|data| &data[..]));
        changed.data_len = data_len;
        let path = path.into_text();
        self.overlay.put(cx.zxid, path.clone(), Some(&node), Some(changed));
        Ok(Txn::SetData { op: op::SET_DATA, path, data: data.cloned(), version })
    }

    fn set_acl(
        &mut self,
        tree: &Tree,
        cx: &Context<'_>,
        path: Option<&Text>,
        acl: Option<&[WireAcl]>,
        version: i32,
    ) -> Result<Txn, ErrorCode> {
        cx.session_check?;
        let path = Path::parse(path.ok_or(ErrorCode::BadArguments)?.clone())?;
        let acl = acl::fix_up(&self.rules.acl, acl, cx.identities)?;
        let node = self.existing(tree, &path)?;
        self.authorise(cx, &node, acl::ADMIN)?;
        check_version(version, node.stat.aversion)?;
        let version = node.stat.aversion.wrapping_add(1);
        let mut changed = node.clone();
        changed.stat.aversion = version;
        if !planted::is(Bug::OldAclCounts) {
            changed.acl = Arc::from(acl.as_slice());
        }
        let path = path.into_text();
        self.overlay.put(cx.zxid, path.clone(), Some(&node), Some(changed));
        Ok(Txn::SetAcl { path, acl: Some(acl), version })
    }

    fn check(&self, tree: &Tree, cx: &Context<'_>, path: &Text, version: i32) -> Result<Txn, ErrorCode> {
        cx.session_check?;
        let path = Path::parse(path.clone())?;
        let node = self.existing(tree, &path)?;
        self.authorise(cx, &node, acl::READ)?;
        check_version(version, node.stat.version)?;
        Ok(Txn::Check { path: path.into_text(), version: node.stat.version.wrapping_add(1) })
    }

    /// Java leaves the parents' counts of children as they are, and so refuses to delete a parent that will
    /// be empty (data-model 12b, row 12); here they fall.
    fn close_session(&mut self, tree: &Tree, cx: &Context<'_>) -> Txn {
        let mut paths = self.overlay.ephemerals(tree, cx.session);
        for path in &paths {
            let parent_path = path::parent(path).expect("the root is no ephemeral");
            let parent = self.overlay.find(tree, parent_path).expect("an ephemeral has a parent");
            let node = self.overlay.find(tree, path).expect("an ephemeral that will be there");
            self.put_deletion(cx.zxid, path, &parent, &node);
        }
        let mut bytes = 0;
        let fits = paths.iter().take_while(|path| {
            bytes += path.len() + 4;
            bytes <= self.rules.close_list_bytes
        });
        paths.truncate(fits.count());
        Txn::CloseSession { paths: Some(paths) }
    }

    /// Limits and usage are those of the committed tree (data-model 9.3).
    fn check_quota(&mut self, tree: &Tree, path: &str, count: i64, bytes: i64) -> Result<(), ErrorCode> {
        if !self.rules.enforce_quota {
            return Ok(());
        }
        let Some(subject) = tree.quotas().nearest(path) else { return Ok(()) };
        let (Some(limits), Some(stats)) =
            (tree.find(&quota::limits_path(subject)), tree.find(&quota::stats_path(subject)))
        else {
            return Ok(());
        };
        let parse = |data: Option<&[u8]>| Track::parse(data.unwrap_or_default());
        let limits = parse(limits.data()).ok_or(ErrorCode::Marshalling)?;
        let used = parse(stats.data()).unwrap_or(Track { count: 0, bytes: 0, ..Track::NONE });
        let checks = [
            (QuotaOf::Count, count, used.count, limits.count, limits.count_hard_limit),
            (QuotaOf::Bytes, bytes, used.bytes, limits.bytes, limits.byte_hard_limit),
        ];
        for (of, difference, used, soft, hard) in checks {
            // A hard limit takes precedence; a soft one is worth a line in the log.
            let (limit, strictness) = if hard > -1 { (hard, Strictness::Hard) } else { (soft, Strictness::Soft) };
            let current = used + difference;
            if difference == 0 || limit < 0 || current <= limit {
                continue;
            }
            self.exceeded.push(QuotaExceeded { subject: subject.to_owned(), of, strictness, current, limit });
            if strictness == Strictness::Hard {
                return Err(ErrorCode::QuotaExceeded);
            }
        }
        Ok(())
    }
}

/// -1 is always a wildcard, even when the current version is -1.
fn check_version(expected: i32, current: i32) -> Result<(), ErrorCode> {
    if expected == -1 || expected == current { Ok(()) } else { Err(ErrorCode::BadVersion) }
}

/// The parent of a path that may be deleted.
fn deletable(path: &str) -> Result<&str, ErrorCode> {
    let parent = path::split_parent(path)?;
    if path::BUILT_IN.contains(&path) { Err(ErrorCode::BadArguments) } else { Ok(parent) }
}

/// The parent's path, sharing the bytes.
fn parent_text(path: &Text) -> Text {
    let parent = path::split_parent(path).expect("the path was split before");
    if parent == path::ROOT { Text::from_static("/") } else { path.slice(0, parent.len()) }
}

/// Java's `%010d`, whose width counts the sign.
fn sequence_suffix(number: i32) -> String {
    format!("{number:010}")
}

/// What the flags of a create say. They are an enumeration, not a set of bits.
struct CreateMode {
    ephemeral: bool,
    sequential: bool,
    ttl: bool,
}

impl CreateMode {
    fn from_flags(flags: i32) -> Option<Self> {
        let (ephemeral, sequential, ttl) = match flags {
            0 | 4 => (false, false, false),
            1 => (true, false, false),
            2 => (false, true, false),
            3 => (true, true, false),
            5 => (false, false, true),
            6 => (false, true, true),
            _ => return None,
        };
        Some(Self { ephemeral, sequential, ttl })
    }
}
