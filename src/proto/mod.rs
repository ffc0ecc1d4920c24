//! What clients ask and what servers answer, in types: opcodes, error codes, requests.
//!
//! Java: `ZooDefs.OpCode`, `KeeperException.Code`, the request records.

pub mod error;
pub mod request;

pub use error::ErrorCode;
pub use jute::op;
