//! The server against Apache ZooKeeper: the same bytes in, the same bytes out.
//!
//! Both servers are processes behind one [`Server`]; clients are plain sockets ([`raw`]), so that nothing
//! stands between a test and the wire. Seven kinds of test use them:
//!
//! - `tests/differential.rs`: seeded conversations with a Java server and with ours, compared byte by byte;
//! - `tests/protocol_checks.rs`, `tests/data_model_checks.rs`: the checks of the two specifications, by number;
//! - `tests/defects.rs`: where we differ from Java on purpose, each defect by name;
//! - `tests/crash.rs`: kills and power cuts under load, and what must be there afterwards;
//! - `tests/faults.rs`: full and failing disks, damaged logs, and clients that mean harm;
//! - `tests/election.rs`: our elections among Java servers;
//! - `tests/mixed.rs`: whole ensembles of both ([`ensemble`]), under load ([`load`]).
//!
//! Crashes and faults look over the server's shoulder with a library loaded into it ([`shim`]).
//!
//! Nothing sleeps: every wait is for an event and ends, at the latest, at a deadline with a message.

pub mod check;
pub mod conversation;
pub mod ensemble;
pub mod history;
pub mod hosts;
pub mod java;
pub mod ledger;
pub mod load;
pub mod random;
pub mod raw;
pub mod recorder;
pub mod request;
mod server;
pub mod shim;
pub mod zooid;

pub use server::{Ended, Kind, Server, Setup};
