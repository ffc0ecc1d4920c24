//! Module `org.apache.zookeeper.server.quorum`: what servers say to each other.

use bytes::Bytes;

use crate::records;
use crate::records::data::Id;

records! {
    LearnerInfo { server_id: i64, protocol_version: i32, config_version: i64 }
    QuorumPacket { op: i32, zxid: i64, data: Option<Bytes>, auth_info: Option<Vec<Id>> }
}
