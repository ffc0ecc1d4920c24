//! zooid: a coordination server that speaks ZooKeeper's protocols and formats.
//!
//! Layers, each importing only those above it in this list (`tests/tidy.rs` checks it):
//!
//! 1. words: [`id`], [`path`], [`acl`], [`txn`], [`proto`]
//! 2. state: [`tree`]
//! 6. composition: [`bench`]

pub mod acl;
#[cfg(feature = "io")]
pub mod bench;
pub mod id;
pub mod path;
pub mod proto;
pub mod tree;
pub mod txn;
