//! The numbers that name things. Each has a type of its own, so that none is taken for another.

use std::fmt;

macro_rules! number {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $inner);

        impl fmt::LowerHex for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

number! {
    /// Position in the total order of transactions: the epoch in the high half, a counter in the low one.
    /// Compared signed, as Java compares it.
    ///
    /// ```
    /// # use zooid::id::Zxid;
    /// assert!(Zxid::new(2, 7) < Zxid::new(3, 0));
    /// assert_eq!(Zxid::new(2, 7).next(), Zxid::new(2, 8));
    /// ```
    Zxid(i64)
}
number! {
    /// A session, 0 for none. The top byte is the id of the server that made it.
    SessionId(i64)
}
number! {
    /// A connection of a client to this server, never reused within a process.
    ConnId(u64)
}
number! {
    /// A connection between a learner and its leader, never reused within a process.
    LinkId(u64)
}

/// A member of the ensemble: the number in its `server.N` line. Java's sid.
pub type ServerId = i64;

impl Zxid {
    pub const ZERO: Self = Self(0);

    pub const fn new(epoch: u32, counter: u32) -> Self {
        Self((epoch as i64) << 32 | counter as i64)
    }

    pub const fn epoch(self) -> u32 {
        (self.0 >> 32) as u32
    }

    pub const fn counter(self) -> u32 {
        self.0 as u32
    }

    /// The zxid that follows within the epoch. Panics when the epoch's counter is used up: the Node starts
    /// no transaction there.
    pub fn next(self) -> Self {
        assert!(self.counter() != u32::MAX, "the counter of epoch {:#x} is used up", self.epoch());
        Self(self.0 + 1)
    }

    /// True when `self` may stand right behind `previous` in a log: the next counter, or a later epoch.
    pub fn follows(self, previous: Self) -> bool {
        self.0 == previous.0.wrapping_add(1) || self.epoch() > previous.epoch()
    }
}

impl SessionId {
    pub const NONE: Self = Self(0);
}
