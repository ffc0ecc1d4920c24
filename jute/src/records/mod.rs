//! The records of `zookeeper.jute`, module by module. `Option` marks what may be null on the wire.

pub mod data;
pub mod persistence;
pub mod proto;
pub mod quorum;
pub mod txn;
