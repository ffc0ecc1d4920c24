//! The four-letter words.

use crate::server::Shared;

/// The bytes that follow a word; `None` if this is none.
pub fn argument_bytes(word: &[u8; 4]) -> Option<usize> {
    match word {
        b"ruok" | b"srvr" => Some(0),
        _ => None,
    }
}

pub fn answer(_shared: &Shared, _word: &[u8; 4], _argument: &[u8]) -> String {
    "imok".to_owned()
}
