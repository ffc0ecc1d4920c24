//! Requests as bytes, made by the codec once and patched per request: an xid, the digits of a path, a value.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use jute::records::data::Acl;
use jute::records::proto::{
    ConnectRequest, CreateRequest, DeleteRequest, MULTI_END, MultiHeader, PathWatchRequest, RequestHeader,
    SetDataRequest,
};
use jute::{Record, Text, Writer};

use super::names::{Child, Names};
use crate::proto::op;

/// A frame that asks for a new session.
pub fn connect(session_timeout_ms: i32) -> Vec<u8> {
    let passwd = Some(Bytes::from_static(&[0; 16]));
    let request =
        ConnectRequest { protocol_version: 0, last_zxid_seen: 0, time_out: session_timeout_ms, session_id: 0, passwd };
    frame(|w| {
        request.write(w);
        w.bool(false);
    })
}

pub fn ping() -> Vec<u8> {
    request(-2, op::PING, |_| ())
}

/// No request of a load has it.
pub const CLOSE_XID: i32 = 0;

pub fn close_session() -> Vec<u8> {
    request(CLOSE_XID, op::CLOSE_SESSION, |_| ())
}

pub fn get(xid: i32, path: &str, watch: bool) -> Vec<u8> {
    request(xid, op::GET_DATA, |w| PathWatchRequest { path: text(path), watch }.write(w))
}

pub fn create(xid: i32, path: &str, data: &[u8]) -> Vec<u8> {
    request(xid, op::CREATE, |w| create_body(path, data, 0).write(w))
}

pub fn set(xid: i32, path: &str, data: &[u8]) -> Vec<u8> {
    request(xid, op::SET_DATA, |w| set_body(path, data).write(w))
}

/// What a reply begins with.
pub struct Reply<'a> {
    pub xid: i32,
    pub err: i32,
    pub body: &'a [u8],
}

impl<'a> Reply<'a> {
    /// `None` if the frame is too short to be a reply.
    pub fn of(frame: &'a [u8]) -> Option<Self> {
        let (xid, rest) = frame.split_first_chunk::<4>()?;
        let (_zxid, rest) = rest.split_first_chunk::<8>()?;
        let (err, body) = rest.split_first_chunk::<4>()?;
        Some(Self { xid: i32::from_be_bytes(*xid), err: i32::from_be_bytes(*err), body })
    }

    pub fn is_event(&self) -> bool {
        self.xid == -1
    }
}

/// What a server answers to [`connect`].
pub struct Session {
    /// Zero or less: refused.
    pub timeout_ms: i32,
}

impl Session {
    pub fn of(frame: &[u8]) -> Option<Self> {
        let timeout = frame.get(4..8)?.try_into().expect("four bytes");
        Some(Self { timeout_ms: i32::from_be_bytes(timeout) })
    }
}

/// A request for any of the znodes of a run.
pub struct Template {
    frame: Vec<u8>,
    /// Of each path: where the digits of its parent are.
    parents: Vec<usize>,
    parent_digits: usize,
    /// From the digits of the parent to those of the child, which may be none.
    to_child: usize,
    child_digits: usize,
    /// Where values are.
    values: Vec<Range<usize>>,
}

const XID_AT: usize = 4;

impl Template {
    pub fn get(names: &Names) -> Self {
        Self::of_key(names, op::GET_DATA, |path, w| PathWatchRequest { path: text(path), watch: false }.write(w))
    }

    pub fn exists(names: &Names) -> Self {
        Self::of_key(names, op::EXISTS, |path, w| PathWatchRequest { path: text(path), watch: false }.write(w))
    }

    pub fn children(names: &Names) -> Self {
        let path = names.parent(0);
        let body = request(0, op::GET_CHILDREN, |w| PathWatchRequest { path: text(&path), watch: false }.write(w));
        Self::new(body, names, &path, 0)
    }

    pub fn set(names: &Names) -> Self {
        let value = placeholder(names);
        Self::of_key(names, op::SET_DATA, |path, w| set_body(path, &value).write(w))
    }

    /// `count` sets in one request.
    pub fn multi(names: &Names, count: usize) -> Self {
        let value = placeholder(names);
        Self::of_key(names, op::MULTI, |path, w| {
            for _ in 0..count {
                MultiHeader { op: op::SET_DATA, done: false, err: -1 }.write(w);
                set_body(path, &value).write(w);
            }
            MULTI_END.write(w);
        })
    }

    pub fn create_key(names: &Names) -> Self {
        let value = placeholder(names);
        Self::of_key(names, op::CREATE, |path, w| create_body(path, &value, 0).write(w))
    }

    pub fn create_fresh(names: &Names) -> Self {
        let value = placeholder(names);
        Self::of_fresh(names, op::CREATE, |path, w| create_body(path, &value, 0).write(w))
    }

    pub fn create_ephemeral(names: &Names) -> Self {
        let value = placeholder(names);
        Self::of_fresh(names, op::CREATE, |path, w| create_body(path, &value, EPHEMERAL).write(w))
    }

    pub fn delete_fresh(names: &Names) -> Self {
        Self::of_fresh(names, op::DELETE, |path, w| DeleteRequest { path: text(path), version: -1 }.write(w))
    }

    fn of_key(names: &Names, op: i32, body: impl FnOnce(&str, &mut Writer<'_>)) -> Self {
        let path = names.child(0, Child::Key(0));
        Self::new(request(0, op, |w| body(&path, w)), names, &path, names.key_digits())
    }

    fn of_fresh(names: &Names, op: i32, body: impl FnOnce(&str, &mut Writer<'_>)) -> Self {
        let path = names.child(0, Child::Fresh(0));
        Self::new(request(0, op, |w| body(&path, w)), names, &path, names.fresh_digits())
    }

    fn new(frame: Vec<u8>, names: &Names, path: &str, child_digits: usize) -> Self {
        let parent_digits = names.parent_digits();
        let before_parent = names.parent(0).len() - parent_digits;
        let to_child = path.len() - child_digits - before_parent;
        let parents = positions(&frame, path.as_bytes()).map(|at| at + before_parent).collect();
        let size = names.value_size;
        let mut value = (size as u32).to_be_bytes().to_vec();
        value.extend(placeholder(names));
        let values = positions(&frame, &value).map(|at| at + 4..at + 4 + size).filter(|_| size > 0).collect();
        Self { frame, parents, parent_digits, to_child, child_digits, values }
    }

    /// Appends one request. `next` names the parent and the child of each path in it, and `value` fills each value.
    #[inline]
    pub fn append(
        &self,
        out: &mut Vec<u8>,
        xid: i32,
        mut next: impl FnMut() -> (u64, u64),
        mut value: impl FnMut(&mut [u8]),
    ) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        frame[XID_AT..XID_AT + 4].copy_from_slice(&xid.to_be_bytes());
        for &at in &self.parents {
            let (parent, child) = next();
            put_digits(&mut frame[at..at + self.parent_digits], parent);
            let at = at + self.to_child;
            put_digits(&mut frame[at..at + self.child_digits], child);
        }
        for range in &self.values {
            value(&mut frame[range.clone()]);
        }
    }
}

const EPHEMERAL: i32 = 1;

fn create_body(path: &str, data: &[u8], flags: i32) -> CreateRequest {
    let anyone = Acl { perms: 31, scheme: text("world"), id: text("anyone") };
    CreateRequest { path: text(path), data: Some(Bytes::copy_from_slice(data)), acl: Some(vec![anyone]), flags }
}

fn set_body(path: &str, data: &[u8]) -> SetDataRequest {
    SetDataRequest { path: text(path), data: Some(Bytes::copy_from_slice(data)), version: -1 }
}

fn text(s: &str) -> Option<Text> {
    Some(Text::from(s))
}

/// A value that, behind its length, occurs nowhere else in a request.
fn placeholder(names: &Names) -> Vec<u8> {
    vec![0xfe; names.value_size]
}

fn request(xid: i32, op: i32, body: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    frame(|w| {
        RequestHeader { xid, op }.write(w);
        body(w);
    })
}

fn frame(payload: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = BytesMut::new();
    let mut w = Writer::new(&mut out);
    w.int(0);
    payload(&mut w);
    let length = i32::try_from(out.len() - 4).expect("a request below 2 GiB");
    out[..4].copy_from_slice(&length.to_be_bytes());
    out.to_vec()
}

/// Where `part` begins in `whole`.
fn positions(whole: &[u8], part: &[u8]) -> impl Iterator<Item = usize> {
    whole.windows(part.len()).enumerate().filter(move |(_, w)| *w == part).map(|(at, _)| at)
}

/// `value` in decimal, filled with zeros on the left.
#[inline]
fn put_digits(out: &mut [u8], mut value: u64) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names { root: "/bench".into(), keys: 1_000, parents: 100, value_size: 5 }
    }

    fn filled(template: &Template, parent: u64, child: u64) -> Vec<u8> {
        let mut out = b"before".to_vec();
        template.append(&mut out, 7, || (parent, child), |value| value.copy_from_slice(b"hello"));
        out.split_off(6)
    }

    #[test]
    fn a_template_gives_what_the_codec_gives() {
        let path = names().child(42, Child::Key(142));
        assert_eq!(filled(&Template::get(&names()), 42, 142), get(7, &path, false));
        assert_eq!(filled(&Template::set(&names()), 42, 142), set(7, &path, b"hello"));
        assert_eq!(filled(&Template::create_key(&names()), 42, 142), create(7, &path, b"hello"));
        let path = names().child(42, Child::Fresh(u64::MAX));
        assert_eq!(filled(&Template::create_fresh(&names()), 42, u64::MAX), create(7, &path, b"hello"));
    }

    #[test]
    fn a_multi_has_each_path_and_value() {
        let template = Template::multi(&names(), 3);
        assert_eq!((template.parents.len(), template.values.len()), (3, 3));
        let mut key = 0;
        let mut out = Vec::new();
        let next = || {
            key += 1;
            (1, key)
        };
        template.append(&mut out, 7, next, |value| value.copy_from_slice(b"hello"));
        let set = |key| set(0, &names().child(1, Child::Key(key)), b"hello").split_off(12);
        for key in 1..=3 {
            assert_eq!(positions(&out, &set(key)).count(), 1, "{key}");
        }
    }

    #[test]
    fn children_are_asked_of_the_parent() {
        let out = filled(&Template::children(&names()), 42, 0);
        assert_eq!(positions(&out, b"/bench/p42\0").count(), 1);
    }
}
