//! Where a reply differs from Java's on purpose. What cannot be told from one reply is left out by the
//! generator instead, which names the defect there. Each has its test in `tests/defects.rs`.

use bytes::Bytes;
use jute::records::data::Acl;
use jute::records::proto::{CreateRequest, SetAclRequest};
use jute::{Reader, Record};

use super::reply::Parsed;
use crate::request::op;

/// A defect of Java that is not copied.
pub struct Deliberate {
    /// The test in `tests/defects.rs`.
    pub test: &'static str,
    pub defect: &'static str,
    /// Whether the defect explains these two replies to this request.
    explains: fn(op: i32, body: Reader, java: &Parsed, zooid: &Parsed) -> bool,
}

pub const DELIBERATE: &[Deliberate] = &[Deliberate {
    test: "a_null_id_in_an_acl_is_an_invalid_acl",
    defect: "an ACL entry with a null id runs Java into a null pointer: -5 instead of -114 (data-model 12b, 15)",
    explains: |op, body, java, zooid| {
        java.err == -5 && zooid.err == -114 && java.zxid == zooid.zxid && acl_with_null_id(op, body)
    },
}];

/// Whether an entry of the table explains why the two answered differently.
pub fn explains(request: &Bytes, java: &Bytes, zooid: &Bytes) -> bool {
    let mut body = Reader::new(request.clone());
    let (Ok(_xid), Ok(op)) = (body.int("xid"), body.int("op")) else { return false };
    let (Some(java), Some(zooid)) = (Parsed::new(op, java), Parsed::new(op, zooid)) else { return false };
    DELIBERATE.iter().any(|entry| (entry.explains)(op, body.clone(), &java, &zooid))
}

fn acl_with_null_id(op: i32, mut body: Reader) -> bool {
    let acl: Option<Vec<Acl>> = match op {
        op::CREATE | op::CREATE2 | op::CREATE_CONTAINER | op::CREATE_TTL => {
            CreateRequest::read(&mut body).ok().and_then(|r| r.acl)
        }
        op::SET_ACL => SetAclRequest::read(&mut body).ok().and_then(|r| r.acl),
        _ => None,
    };
    acl.is_some_and(|acl| acl.iter().any(|entry| entry.id.is_none()))
}
