//! zooid: a coordination server that speaks ZooKeeper's protocols and formats.
//!
//! Layers, each importing only those above it in this list (`tests/tidy.rs` checks it):
//!
//! 1. words: [`id`], [`path`], [`acl`], [`auth`], [`txn`], [`journal`], [`proto`], [`config`], [`planted`],
//!    [`stats`]
//! 2. state: [`tree`], [`session`], [`order`], [`prepare`], [`throttle`], [`watch`]
//! 3. agreement: [`election`], [`storage`], [`zab`]
//! 4. the whole: [`node`]
//! 5. shells, with the feature `shell`: `net`, `admin`, `clock`, `disk`; with `io`: `image_rocksdb`
//! 6. composition: `server`, `bench`, and `main.rs`

pub mod acl;
pub mod auth;
pub mod config;
pub mod id;
pub mod journal;
pub mod path;
pub mod planted;
pub mod proto;
pub mod stats;
pub mod txn;

pub mod order;
pub mod prepare;
pub mod session;
pub mod throttle;
pub mod tree;
pub mod watch;

pub mod election;
pub mod storage;
pub mod zab;

pub mod node;

#[cfg(feature = "shell")]
pub mod admin;
#[cfg(feature = "shell")]
pub mod bench;
#[cfg(feature = "shell")]
pub mod clock;
#[cfg(feature = "shell")]
pub mod disk;
#[cfg(all(feature = "shell", not(feature = "io")))]
mod image_none;
#[cfg(feature = "io")]
pub mod image_rocksdb;
#[cfg(feature = "shell")]
pub mod net;
#[cfg(feature = "shell")]
mod priority;
#[cfg(feature = "shell")]
pub mod server;
