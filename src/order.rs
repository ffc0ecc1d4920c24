//! Who may go next. Replies reach a client in the order of its requests, yet a write takes a round of
//! agreement and a read does not: so a read waits behind the same client's writes, and behind no one else's.
//!
//! A write goes on its way at once. What is answered on the spot waits while an earlier write of the same
//! connection is under way, and runs the moment the last of those was applied, before anything later is: so it
//! sees all that its client did before it and nothing that its client did after.
//!
//! Java: `CommitProcessor`, which gets the same order from three queues, a map and a monitor.

use std::collections::VecDeque;

#[derive(Debug)]
enum Waiting<R, W> {
    Write(W),
    Read(R),
}

/// The order of one connection. `R` is a request that is answered on the spot, `W` what is remembered of a
/// write under way.
#[derive(Debug)]
pub struct Gate<R, W> {
    waiting: VecDeque<Waiting<R, W>>,
    reads: usize,
}

impl<R, W> Default for Gate<R, W> {
    fn default() -> Self {
        Self { waiting: VecDeque::new(), reads: 0 }
    }
}

impl<R, W> Gate<R, W> {
    /// Requests that have no reply yet.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Of those, the ones that wait to be answered on the spot.
    pub fn waiting_reads(&self) -> usize {
        self.reads
    }

    pub fn has_writes(&self) -> bool {
        self.waiting.len() > self.reads
    }

    /// Whether [`Gate::next_read`] has something to give.
    pub fn is_read_next(&self) -> bool {
        matches!(self.waiting.front(), Some(Waiting::Read(_)))
    }

    /// What waits to be answered on the spot.
    pub fn reads_mut(&mut self) -> impl Iterator<Item = &mut R> {
        self.waiting.iter_mut().filter_map(|waiting| match waiting {
            Waiting::Read(read) => Some(read),
            Waiting::Write(_) => None,
        })
    }

    /// A write went on its way.
    pub fn on_write(&mut self, write: W) {
        self.waiting.push_back(Waiting::Write(write));
    }

    /// Gives the request back if it may be answered now, and keeps it otherwise.
    pub fn on_read(&mut self, read: R) -> Option<R> {
        if self.is_empty() {
            return Some(read);
        }
        self.waiting.push_back(Waiting::Read(read));
        self.reads += 1;
        None
    }

    /// The oldest write was answered. [`Gate::next_read`] then gives what was waiting for it alone.
    pub fn on_write_answered(&mut self) -> W {
        match self.waiting.pop_front() {
            Some(Waiting::Write(write)) => write,
            Some(Waiting::Read(_)) => panic!("a write was answered while a read is next"),
            None => panic!("a write was answered that nobody waits for"),
        }
    }

    /// The next request that may be answered now.
    pub fn next_read(&mut self) -> Option<R> {
        match self.waiting.front()? {
            Waiting::Write(_) => None,
            Waiting::Read(_) => match self.waiting.pop_front() {
                Some(Waiting::Read(read)) => {
                    self.reads -= 1;
                    Some(read)
                }
                _ => unreachable!("it was a read"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_behind_its_own_write() {
        let mut gate = Gate::default();
        assert_eq!(gate.on_read("r0"), Some("r0"));
        gate.on_write("w");
        assert_eq!(gate.on_read("r1"), None);
        gate.on_write("w");
        assert_eq!(gate.on_read("r2"), None);
        assert_eq!(gate.next_read(), None);
        assert_eq!(gate.on_write_answered(), "w");
        assert_eq!(gate.next_read(), Some("r1"));
        assert_eq!(gate.next_read(), None, "r2 waits for the second write");
        assert_eq!(gate.on_write_answered(), "w");
        assert_eq!(gate.next_read(), Some("r2"));
        assert_eq!(gate.on_read("r3"), Some("r3"));
    }
}
