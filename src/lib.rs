//! zooid: a coordination server that speaks ZooKeeper's protocols and formats.
//!
//! Layers, each importing only those above it in this list (`tests/tidy.rs` checks it):
//!
//! 1. words: [`id`], [`path`], [`acl`], [`txn`], [`journal`], [`proto`]
//! 2. state: [`tree`]
//! 3. agreement: [`storage`]
//! 5. shells: `disk`, `image_rocksdb`

pub mod acl;
#[cfg(feature = "io")]
pub mod disk;
pub mod id;
#[cfg(feature = "io")]
pub mod image_rocksdb;
pub mod journal;
pub mod path;
pub mod proto;
pub mod storage;
pub mod tree;
pub mod txn;
