//! Requests that wait because the server has enough in process already.
//!
//! With `request_throttle_max_requests` a request needs a slot from the moment it is handed on until its reply
//! is produced. It waits in a line of its own connection, which stands for one slot at a time in the line of
//! all connections: so requests of one client keep their order, slots are given out in the order in which
//! connections came to wait, and a client that sends thousands does not keep the others waiting for all of
//! them. A request that has waited longer than `throttled_op_wait_time` is told so instead of being executed.
//! Without the setting there is no line at all, and nothing on the way of a request looks at it.
//!
//! Java: `RequestThrottler`, one queue and one thread for the whole server, which sleeps while too many are in
//! process, and looks again when one is finished or after the stall time. Here a slot that becomes free goes to
//! the connection that waits, so there is nothing to look for again; the stall time has no effect. The number
//! of waits is one for each request that found no slot. New sessions pass without a slot: the connection
//! throttle is there for them. When the server stops, what waits is dropped: clients must expect that of any
//! server that ends.

use std::collections::{VecDeque, vec_deque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tokio_util::sync::PollSemaphore;

use crate::config::RequestThrottle;
use crate::session::Mono;

/// The slots, and what all lines need to know.
#[derive(Debug)]
pub struct Slots {
    pub rules: RequestThrottle,
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// Taken when none was free: so many are not given back.
    owed: AtomicUsize,
}

impl Slots {
    /// `None` if any number of requests may be in process.
    pub fn new(rules: RequestThrottle) -> Option<Self> {
        let max = (rules.max_requests? as usize).min(Semaphore::MAX_PERMITS);
        Some(Self {
            rules,
            free: Arc::new(Semaphore::new(max)),
            waiting: AtomicUsize::new(0),
            owed: AtomicUsize::new(0),
        })
    }

    pub fn give_back(&self, slots: usize) {
        let owed =
            self.owed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |owed| Some(owed.saturating_sub(slots)));
        self.free.add_permits(slots.saturating_sub(owed.expect("always a value")));
    }

    /// For requests that had given theirs back: at once, though others may have them now. They are of one connection.
    pub fn take_back(&self, slots: usize) {
        let had = self.free.forget_permits(slots);
        self.owed.fetch_add(slots - had, Ordering::Relaxed);
    }

    /// Requests in all lines.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a request that came at `arrived` has waited too long to be executed.
    pub fn is_overdue(&self, arrived: Mono, now: Mono) -> bool {
        self.rules.throttled_op_wait_time_ms.is_some_and(|limit| now - arrived > i64::from(limit))
    }
}

/// The line of one connection. It ends at the number of requests that a connection may have under way: then
/// the connection is not read.
#[derive(Debug)]
pub struct Line<'a, T> {
    slots: &'a Slots,
    stand: PollSemaphore,
    waits: bool,
    queue: VecDeque<T>,
}

/// A slot for the first in the line, and whether it had to wait for it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    AtOnce,
    AfterWaiting,
}

impl<'a, T> Line<'a, T> {
    pub fn new(slots: &'a Slots) -> Self {
        Self { slots, stand: PollSemaphore::new(slots.free.clone()), waits: false, queue: VecDeque::new() }
    }

    pub fn slots(&self) -> &'a Slots {
        self.slots
    }

    pub fn len(&self) -> usize {
        self.queue.len()
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub fn iter(&self) -> vec_deque::Iter<'_, T> {
        self.queue.iter()
    }

    pub fn extend(&mut self, requests: Vec<T>) {
        self.slots.waiting.fetch_add(requests.len(), Ordering::Relaxed);
        self.queue.extend(requests);
    }

    /// Stands for a slot; whoever gets one calls [`Line::take`]. Only while the line is not empty.
    pub fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Turn> {
        match self.stand.poll_acquire(cx) {
            Poll::Pending => {
                self.waits = true;
                Poll::Pending
            }
            Poll::Ready(slot) => {
                slot.expect("the slots are never closed").forget();
                let waited = std::mem::take(&mut self.waits);
                Poll::Ready(if waited { Turn::AfterWaiting } else { Turn::AtOnce })
            }
        }
    }

    /// The requests that have slots now: the one whose turn it is, and as many behind it as there are slots
    /// that nobody waits for.
    pub fn take(&mut self) -> Vec<T> {
        let behind = self.queue.len() - 1;
        let free = self.slots.free.available_permits().min(behind);
        let more = match self.slots.free.try_acquire_many(u32::try_from(free).unwrap_or(u32::MAX)) {
            Ok(slots) => {
                let more = slots.num_permits();
                slots.forget();
                more
            }
            // Someone else took them.
            Err(_) => 0,
        };
        self.slots.waiting.fetch_sub(1 + more, Ordering::Relaxed);
        self.queue.drain(..1 + more).collect()
    }

    pub fn clear(&mut self) {
        self.slots.waiting.fetch_sub(self.queue.len(), Ordering::Relaxed);
        self.queue.clear();
    }
}

impl<T> Drop for Line<'_, T> {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    fn slots(max: u32) -> Slots {
        let rules = RequestThrottle {
            max_requests: Some(max),
            drop_stale: true,
            stale_connection_check: true,
            stale_latency_check: false,
            shutdown_timeout_ms: 10_000,
            throttled_op_wait_time_ms: Some(5),
        };
        Slots::new(rules).unwrap()
    }

    fn turn(line: &mut Line<'_, u32>) -> Poll<Turn> {
        line.poll_turn(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn as_many_go_as_there_are_slots() {
        let slots = slots(3);
        let mut line = Line::new(&slots);
        line.extend(vec![1, 2, 3, 4, 5]);
        assert_eq!(slots.waiting(), 5);
        assert_eq!(turn(&mut line), Poll::Ready(Turn::AtOnce));
        assert_eq!(line.take(), [1, 2, 3]);
        assert_eq!(turn(&mut line), Poll::Pending);
        slots.give_back(1);
        assert_eq!(turn(&mut line), Poll::Ready(Turn::AfterWaiting));
        assert_eq!(line.take(), [4]);
        assert_eq!(slots.waiting(), 1);
        drop(line);
        assert_eq!(slots.waiting(), 0);
    }

    #[test]
    fn connections_take_turns() {
        let slots = slots(1);
        let (mut a, mut b) = (Line::new(&slots), Line::new(&slots));
        a.extend(vec![1, 2, 3]);
        b.extend(vec![10, 20]);
        assert!(turn(&mut a).is_ready());
        assert_eq!(a.take(), [1]);
        assert!(turn(&mut b).is_pending() && turn(&mut a).is_pending());
        slots.give_back(1);
        assert!(turn(&mut a).is_pending(), "b came first");
        assert!(turn(&mut b).is_ready());
        assert_eq!(b.take(), [10]);
        assert!(turn(&mut b).is_pending());
        slots.give_back(1);
        assert!(turn(&mut b).is_pending() && turn(&mut a).is_ready());
        assert_eq!(a.take(), [2]);
    }

    #[test]
    fn who_leaves_the_line_gives_up_the_place() {
        let slots = slots(1);
        let (mut a, mut b) = (Line::new(&slots), Line::new(&slots));
        a.extend(vec![1]);
        assert!(turn(&mut a).is_ready());
        assert_eq!(a.take(), [1]);
        let mut gone = Line::new(&slots);
        gone.extend(vec![7]);
        b.extend(vec![10]);
        assert!(turn(&mut gone).is_pending() && turn(&mut b).is_pending());
        slots.give_back(1);
        drop(gone);
        assert!(turn(&mut b).is_ready());
    }

    #[test]
    fn a_request_is_overdue_when_it_waited_longer_than_it_may() {
        let slots = slots(1);
        assert!(!slots.is_overdue(100, 105) && slots.is_overdue(100, 106));
    }
}
