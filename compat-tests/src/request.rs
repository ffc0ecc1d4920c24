//! Bodies of requests, built field by field, so that a wrong one is as easy to write as a right one.

pub use jute::op;

/// One entry of an ACL list; `None` is null.
pub type Acl<'a> = (i32, Option<&'a str>, Option<&'a str>);

/// world:anyone, everything.
pub const OPEN: &[Acl<'static>] = &[(31, Some("world"), Some("anyone"))];

/// An entry without nulls.
pub const fn acl<'a>(perms: i32, scheme: &'a str, id: &'a str) -> Acl<'a> {
    (perms, Some(scheme), Some(id))
}

/// Bytes in the making.
#[derive(Clone, Debug, Default)]
pub struct Body(Vec<u8>);

impl Body {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub fn byte(self, v: u8) -> Self {
        self.raw(&[v])
    }

    pub fn bool(self, v: bool) -> Self {
        self.byte(v.into())
    }

    pub fn int(self, v: i32) -> Self {
        self.raw(&v.to_be_bytes())
    }

    pub fn long(self, v: i64) -> Self {
        self.raw(&v.to_be_bytes())
    }

    /// A string or buffer; `None` is null.
    pub fn buffer(self, v: Option<&[u8]>) -> Self {
        match v {
            None => self.int(-1),
            Some(bytes) => self.int(bytes.len() as i32).raw(bytes),
        }
    }

    pub fn text(self, v: &str) -> Self {
        self.buffer(Some(v.as_bytes()))
    }

    /// A null string, buffer or vector.
    pub fn null(self) -> Self {
        self.int(-1)
    }

    pub fn texts(self, v: &[&str]) -> Self {
        v.iter().fold(self.int(v.len() as i32), |body, text| body.text(text))
    }

    pub fn acls(self, v: &[Acl]) -> Self {
        v.iter().fold(self.int(v.len() as i32), |body, (perms, scheme, id)| {
            body.int(*perms).buffer(scheme.map(str::as_bytes)).buffer(id.map(str::as_bytes))
        })
    }
}

impl From<Body> for Vec<u8> {
    fn from(body: Body) -> Self {
        body.0
    }
}

/// create, create2, createContainer.
pub fn create(path: &str, data: &[u8], acl: &[Acl], flags: i32) -> Body {
    Body::new().text(path).buffer(Some(data)).acls(acl).int(flags)
}

/// A create with the open ACL and flags 0.
pub fn node(path: &str) -> Body {
    create(path, b"", OPEN, 0)
}

pub fn create_ttl(path: &str, flags: i32, ttl: i64) -> Body {
    create(path, b"", OPEN, flags).long(ttl)
}

/// delete, and check inside a multi.
pub fn versioned(path: &str, version: i32) -> Body {
    Body::new().text(path).int(version)
}

/// exists, getData, getChildren, getChildren2 with a watch.
pub fn watched(path: &str) -> Body {
    Body::new().text(path).bool(true)
}

/// exists, getData, getChildren, getChildren2 without one.
pub fn unwatched(path: &str) -> Body {
    Body::new().text(path).bool(false)
}

pub fn set_data(path: &str, data: &[u8], version: i32) -> Body {
    Body::new().text(path).buffer(Some(data)).int(version)
}

pub fn set_acl(path: &str, acl: &[Acl], version: i32) -> Body {
    Body::new().text(path).acls(acl).int(version)
}

/// getACL, sync, getAllChildrenNumber, getEphemerals.
pub fn path(path: &str) -> Body {
    Body::new().text(path)
}

pub fn auth(scheme: &str, data: &[u8]) -> Body {
    Body::new().int(0).text(scheme).buffer(Some(data))
}

pub fn set_watches(relative_zxid: i64, data: &[&str], exist: &[&str], child: &[&str]) -> Body {
    Body::new().long(relative_zxid).texts(data).texts(exist).texts(child)
}

/// addWatch, checkWatches, removeWatches.
pub fn watch_kind(path: &str, kind: i32) -> Body {
    Body::new().text(path).int(kind)
}

/// multi and multiRead, with the terminator.
pub fn multi(ops: impl IntoIterator<Item = (i32, Body)>) -> Body {
    unterminated(ops).int(-1).bool(true).int(-1)
}

/// multi and multiRead, without the terminator.
pub fn unterminated(ops: impl IntoIterator<Item = (i32, Body)>) -> Body {
    ops.into_iter().fold(Body::new(), |body, (op, inner)| body.int(op).bool(false).int(-1).raw(&inner.0))
}
