//! Module `org.apache.zookeeper.data`.

use crate::{Text, records};

records! {
    /// One entry of an access list. `perms` is stored and returned unchecked.
    Acl { perms: i32, scheme: Option<Text>, id: Option<Text> }
    /// An identity.
    Id { scheme: Option<Text>, id: Option<Text> }
    /// What `whoAmI` answers for one identity.
    ClientInfo { auth_scheme: Option<Text>, user: Option<Text> }
    /// The Stat that clients see, 68 bytes.
    #[derive(Copy, Default)]
    Stat {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32, cversion: i32, aversion: i32,
        ephemeral_owner: i64, data_length: i32, num_children: i32, pzxid: i64,
    }
    /// The stat that is stored, 60 bytes: `cversion` counts child creations only.
    #[derive(Copy, Default)]
    StatPersisted {
        czxid: i64, mzxid: i64, ctime: i64, mtime: i64, version: i32, cversion: i32, aversion: i32,
        ephemeral_owner: i64, pzxid: i64,
    }
}
