//! Strings that share the bytes they were read from.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

use bytes::Bytes;

/// An immutable string that may be a view into the frame it was read from: cloning copies no bytes.
///
/// It holds valid UTF-8. Bytes that are not are replaced as Java's decoder does it (client-protocol 1.3).
#[derive(Clone, Default)]
pub struct Text(Bytes);

impl Text {
    pub const fn from_static(text: &'static str) -> Self {
        Self(Bytes::from_static(text.as_bytes()))
    }

    /// Takes bytes as Java's `new String(bytes, UTF_8)` does: malformed sequences become U+FFFD.
    pub fn from_java_bytes(bytes: Bytes) -> Self {
        if std::str::from_utf8(&bytes).is_ok() {
            return Self(bytes);
        }
        // The lossy decoder of the standard library replaces each maximal malformed part once, as Java's
        // does, encoded surrogates excepted: Java gives one replacement for the three bytes of each, and for
        // the two that are left of one that is cut.
        let mut text = String::with_capacity(bytes.len() + 8);
        let mut rest: &[u8] = &bytes;
        while !rest.is_empty() {
            let surrogate = rest.windows(2).position(|w| w[0] == 0xed && matches!(w[1], 0xa0..=0xbf));
            let end = surrogate.unwrap_or(rest.len());
            text.push_str(&String::from_utf8_lossy(&rest[..end]));
            rest = &rest[end..];
            if surrogate.is_some() {
                text.push('\u{fffd}');
                let whole = rest.get(2).is_some_and(|byte| byte & 0xc0 == 0x80);
                rest = &rest[if whole { 3 } else { 2 }..];
            }
        }
        Self(Bytes::from(text))
    }

    pub fn as_str(&self) -> &str {
        // SAFETY: every constructor checks or replaces.
        unsafe { std::str::from_utf8_unchecked(&self.0) }
    }

    /// A copy in an allocation of its own, which no longer holds the frame.
    pub fn detach(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The part from byte `from` up to byte `to`, sharing the bytes. Panics off a character boundary.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        let part = &self.as_str()[from..to];
        Self(self.0.slice_ref(part.as_bytes()))
    }
}

impl Deref for Text {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for Text {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Text {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self(Bytes::from(text))
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl PartialEq<str> for Text {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Text {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_str(), f)
    }
}
