//! Requests to bytes, and bytes to what they answer.

use jute::records::data::{Acl, Stat};
use jute::{DecodeError, Reader, Record, Text};

use super::{Mode, Outcome, Request, Rewatch, Watch};
use crate::raw::Reply;
use crate::request::{self, Body, acl, op, set_data, versioned};

/// The xids that clients use for what is not numbered.
pub const PING_XID: i32 = -2;
pub const SET_WATCHES_XID: i32 = -8;

pub fn encode(request: &Request) -> (i32, Body) {
    let watched = |path: &Text, watch: &Watch| Body::new().text(path).bool(*watch == Watch::Yes);
    match request {
        Request::Create { path, data, perms, flags, with_stat } => {
            let body = request::create(path, data, &[acl(*perms, "world", "anyone")], *flags);
            (if *with_stat { op::CREATE2 } else { op::CREATE }, body)
        }
        Request::Delete { path, version } => (op::DELETE, versioned(path, *version)),
        Request::SetData { path, data, version } => (op::SET_DATA, set_data(path, data, *version)),
        Request::SetAcl { path, perms, version } => {
            (op::SET_ACL, Body::new().text(path).acls(&[acl(*perms, "world", "anyone")]).int(*version))
        }
        Request::Check { path, version } => (op::CHECK, versioned(path, *version)),
        Request::Multi(parts) => (op::MULTI, request::multi(parts.iter().map(encode))),
        Request::Exists { path, watch } => (op::EXISTS, watched(path, watch)),
        Request::GetData { path, watch } => (op::GET_DATA, watched(path, watch)),
        Request::GetAcl { path } => (op::GET_ACL, Body::new().text(path)),
        Request::GetChildren { path, watch, with_stat } => {
            (if *with_stat { op::GET_CHILDREN2 } else { op::GET_CHILDREN }, watched(path, watch))
        }
        Request::AddWatch { path, mode } => {
            (op::ADD_WATCH, request::watch_kind(path, i32::from(*mode == Mode::Recursive)))
        }
        Request::SetWatches(Rewatch { relative, data, exist, child, persistent, recursive }) => {
            let lists = [data, exist, child, persistent, recursive];
            let body = lists.into_iter().fold(Body::new().long(*relative), |body, list| {
                body.texts(&list.iter().map(|path| &**path).collect::<Vec<_>>())
            });
            (op::SET_WATCHES2, body)
        }
        Request::Sync { path } => (op::SYNC, Body::new().text(path)),
        Request::Ping => (op::PING, Body::new()),
        Request::CloseSession => (op::CLOSE_SESSION, Body::new()),
    }
}

/// What the reply to a request says behind its header.
pub fn decode(request: &Request, reply: &Reply) -> Result<Outcome, String> {
    if reply.err != 0 {
        return if reply.body.is_empty() { Ok(Outcome::Nothing) } else { Err(format!("{reply:?} has a body")) };
    }
    if let Request::Multi(parts) = request {
        let results = reply.results();
        if results.len() != parts.len() {
            return Err(format!("{reply:?} has {} results for {} requests", results.len(), parts.len()));
        }
        let outcome = |(part, result): (&Request, crate::raw::MultiResult)| match result.op {
            -1 => Ok((result.err, Outcome::Nothing)),
            _ => whole(part, &result.body).map(|outcome| (result.err, outcome)),
        };
        return Ok(Outcome::Multi(parts.iter().zip(results).map(outcome).collect::<Result<_, _>>()?));
    }
    whole(request, &reply.body)
}

/// Takes apart a body, which must hold what the request asks for and nothing else.
fn whole(request: &Request, body: &bytes::Bytes) -> Result<Outcome, String> {
    let mut r = Reader::new(body.clone());
    let outcome = outcome(request, &mut r).map_err(|e| format!("{e} in the answer to {request:?}"))?;
    if r.is_empty() { Ok(outcome) } else { Err(format!("{} bytes too many answer {request:?}", r.remaining())) }
}

fn outcome(request: &Request, r: &mut Reader) -> Result<Outcome, DecodeError> {
    Ok(match request {
        Request::Create { with_stat, .. } => {
            let path = r.text("path")?.unwrap_or_default();
            if *with_stat { Outcome::PathAndStat(path, Stat::read(r)?) } else { Outcome::Path(path) }
        }
        Request::SetData { .. } | Request::SetAcl { .. } | Request::Exists { .. } => Outcome::Stat(Stat::read(r)?),
        Request::GetData { .. } => {
            let data = r.buffer("data")?.unwrap_or_default();
            Outcome::Data(data, Stat::read(r)?)
        }
        Request::GetAcl { .. } => {
            let list = r.vector::<Acl>("acl")?;
            // A list that nobody asked for cannot be told from no rights; both are wrong.
            let perms = super::log::perms(list.as_deref()).unwrap_or_default();
            Outcome::Acl(perms, Stat::read(r)?)
        }
        Request::GetChildren { with_stat, .. } => {
            let children = r.vector::<Option<Text>>("children")?.unwrap_or_default();
            let mut children: Vec<Text> = children.into_iter().flatten().collect();
            children.sort();
            Outcome::Children(children, if *with_stat { Some(Stat::read(r)?) } else { None })
        }
        Request::Sync { .. } => {
            r.text("path")?;
            Outcome::Nothing
        }
        // An error of its own, which is 0 (Java: ErrorResponse).
        Request::AddWatch { .. } => match r.int("err")? {
            0 => Outcome::Nothing,
            err => Outcome::Multi(vec![(err, Outcome::Nothing)]),
        },
        Request::Delete { .. }
        | Request::Check { .. }
        | Request::Multi(_)
        | Request::SetWatches(_)
        | Request::Ping
        | Request::CloseSession => Outcome::Nothing,
    })
}
