//! Module `org.apache.zookeeper.proto`: what clients and servers say to each other.

use bytes::Bytes;

use crate::records::data::{Acl, ClientInfo, Stat};
use crate::{DecodeError, Reader, Record, Text, Writer, records};

records! {
    /// The first frame of a connection; `readOnly` follows unless the client is old, so it is not a field
    /// here (client-protocol 2.2).
    ConnectRequest { protocol_version: i32, last_zxid_seen: i64, time_out: i32, session_id: i64, passwd: Option<Bytes> }
    ConnectResponse { protocol_version: i32, time_out: i32, session_id: i64, passwd: Option<Bytes> }
    RequestHeader { xid: i32, op: i32 }
    ReplyHeader { xid: i32, zxid: i64, err: i32 }
    MultiHeader { op: i32, done: bool, err: i32 }
    CreateRequest { path: Option<Text>, data: Option<Bytes>, acl: Option<Vec<Acl>>, flags: i32 }
    CreateTtlRequest { path: Option<Text>, data: Option<Bytes>, acl: Option<Vec<Acl>>, flags: i32, ttl: i64 }
    DeleteRequest { path: Option<Text>, version: i32 }
    SetDataRequest { path: Option<Text>, data: Option<Bytes>, version: i32 }
    SetAclRequest { path: Option<Text>, acl: Option<Vec<Acl>>, version: i32 }
    CheckVersionRequest { path: Option<Text>, version: i32 }
    ReconfigRequest { joining: Option<Text>, leaving: Option<Text>, new_members: Option<Text>, cur_config_id: i64 }
    /// exists, getData, getChildren, getChildren2.
    PathWatchRequest { path: Option<Text>, watch: bool }
    /// getACL, sync, getAllChildrenNumber, getEphemerals.
    PathRequest { path: Option<Text> }
    SetWatches { relative_zxid: i64, data: Option<Vec<Option<Text>>>, exist: Option<Vec<Option<Text>>>, child: Option<Vec<Option<Text>>> }
    SetWatches2 {
        relative_zxid: i64, data: Option<Vec<Option<Text>>>, exist: Option<Vec<Option<Text>>>,
        child: Option<Vec<Option<Text>>>, persistent: Option<Vec<Option<Text>>>,
        persistent_recursive: Option<Vec<Option<Text>>>,
    }
    AddWatchRequest { path: Option<Text>, mode: i32 }
    /// checkWatches, removeWatches.
    WatcherTypeRequest { path: Option<Text>, watcher_type: i32 }
    AuthPacket { auth_type: i32, scheme: Option<Text>, auth: Option<Bytes> }
    SaslRequest { token: Option<Bytes> }
    WatcherEvent { event_type: i32, state: i32, path: Option<Text> }
    CreateResponse { path: Option<Text> }
    Create2Response { path: Option<Text>, stat: Stat }
    GetDataResponse { data: Option<Bytes>, stat: Stat }
    GetAclResponse { acl: Option<Vec<Acl>>, stat: Stat }
    GetChildrenResponse { children: Option<Vec<Option<Text>>> }
    GetChildren2Response { children: Option<Vec<Option<Text>>>, stat: Stat }
    WhoAmIResponse { client_info: Option<Vec<ClientInfo>> }
}

/// The end of a multi request and of its reply: type -1, done, error -1.
pub const MULTI_END: MultiHeader = MultiHeader { op: -1, done: true, err: -1 };

/// The readOnly byte behind a ConnectRequest: `None` when the client is too old to send it.
pub fn read_only_byte(r: &mut Reader) -> Result<Option<bool>, DecodeError> {
    if r.is_empty() { Ok(None) } else { bool::read(r).map(Some) }
}

/// Writes a reply frame: length, header, and what `body` appends.
pub fn write_frame(out: &mut bytes::BytesMut, header: &ReplyHeader, body: impl FnOnce(&mut Writer<'_>)) {
    let start = out.len();
    let mut w = Writer::new(out);
    w.int(0);
    header.write(&mut w);
    body(&mut w);
    let length = i32::try_from(out.len() - start - 4).expect("a reply above 2 GiB");
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
