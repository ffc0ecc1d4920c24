//! Sockets. Nothing here decides anything about znodes: it reads, decodes, asks the Node or the Store, and
//! carries bytes back.

pub mod client;
pub mod conn;
pub mod election;
pub mod line;
pub mod listen;
pub mod names;
pub mod quorum;
mod socket;
