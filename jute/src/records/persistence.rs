//! Module `org.apache.zookeeper.server.persistence`: the head of a log or snapshot file.

use crate::records;

records! {
    #[derive(Copy)]
    FileHeader { magic: i32, version: i32, dbid: i64 }
}
