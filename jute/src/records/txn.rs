//! Module `org.apache.zookeeper.txn`: what the log and the proposals hold (data-model 2.6, on-disk 2.2).

use bytes::Bytes;

use crate::records::data::Acl;
use crate::{Text, records};

records! {
    TxnHeader { client_id: i64, cxid: i32, zxid: i64, time: i64, op: i32 }
    TxnDigest { version: i32, tree_digest: i64 }
    CreateTxn { path: Text, data: Option<Bytes>, acl: Option<Vec<Acl>>, ephemeral: bool, parent_cversion: i32 }
    /// As servers before 3.4 wrote it: recognised by its end.
    CreateTxnV0 { path: Text, data: Option<Bytes>, acl: Option<Vec<Acl>>, ephemeral: bool }
    CreateTtlTxn { path: Text, data: Option<Bytes>, acl: Option<Vec<Acl>>, parent_cversion: i32, ttl: i64 }
    CreateContainerTxn { path: Text, data: Option<Bytes>, acl: Option<Vec<Acl>>, parent_cversion: i32 }
    DeleteTxn { path: Text }
    /// setData and reconfig; `version` is the new one.
    SetDataTxn { path: Text, data: Option<Bytes>, version: i32 }
    CheckVersionTxn { path: Text, version: i32 }
    SetAclTxn { path: Text, acl: Option<Vec<Acl>>, version: i32 }
    CreateSessionTxn { time_out: i32 }
    CloseSessionTxn { paths_to_delete: Option<Vec<Text>> }
    ErrorTxn { err: i32 }
    /// One operation of a multi: its type and its encoded body.
    Txn { op: i32, data: Option<Bytes> }
    MultiTxn { txns: Option<Vec<Txn>> }
}
