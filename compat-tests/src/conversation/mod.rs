//! Random conversations, held with two servers, that must go alike.
//!
//! A [`Script`] is made from a seed ([`generate`]) and refers to what the server said earlier only through
//! [`Path::Seen`], [`Version::Current`] and the like, so that any part of it may be left out and the rest
//! still makes sense: that is what [`shrink`] does. [`run`] holds the conversation with one server and writes
//! down every frame. Only one connection has requests in flight at a time; a ping on each connection after
//! each batch collects the events, so the order of everything follows from the script.
//!
//! What may differ is masked in [`reply`]: times, session ids, the order of unordered lists. What differs on
//! purpose is in [`deliberate`].

pub mod deliberate;
mod generate;
mod reply;
mod run;
mod script;
mod shrink;

pub use generate::{Flavour, script};
pub use run::{Difference, Transcript, compare, run};
pub use script::{Script, Step};
pub use shrink::shrink;
