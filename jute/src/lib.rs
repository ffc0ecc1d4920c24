//! The codec of ZooKeeper: what `zookeeper.jute` declares, as Rust records, and nothing else.
//!
//! Two things always hold here. A length or count that came from outside is compared with the bytes that
//! are really there before anything is allocated for it. And what is written is what Java would write, so
//! that records read from a Java server encode to the same bytes.
//!
//! Java: `org.apache.jute` (`BinaryInputArchive`, `BinaryOutputArchive`) and the generated record classes.

mod error;
pub mod op;
mod reader;
mod record;
pub mod records;
mod text;
mod writer;

pub use error::DecodeError;
pub use reader::Reader;
pub use record::{Record, encode};
pub use text::Text;
pub use writer::Writer;
