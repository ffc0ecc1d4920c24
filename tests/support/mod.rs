//! Disks and stores in memory, which can be cut off at any operation and forget what was not synced.

pub mod sim;
pub mod trees;
pub mod txns;
