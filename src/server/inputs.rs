//! What waits for the Node, and whose turn it is to let the Node take it.
//!
//! The Node has a thread of its own, but waking that for a single request takes longer than the request itself. So
//! whoever brings little while nobody is at it may take the turn. What always holds: one at most has the turn, and
//! what was pushed is seen by whoever has it, or the Node's thread is called.

use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::node::input::Input;

/// Connections stop reading before this grows: each has a bounded number of requests under way. So do links. Election
/// connections don't, but what they bring has a bound.
#[derive(Debug)]
pub struct Inputs {
    waiting: Mutex<Waiting>,
    /// The Node's thread is called, or has to look at the clock earlier than it thought.
    called: Condvar,
}

#[derive(Debug)]
struct Waiting {
    inputs: Vec<Input>,
    /// Of those, notifications of elections.
    votes: usize,
    /// When what came of late will have had [`EACH`] for each.
    booked: Instant,
    turn: Turn,
    /// Someone wants the Node to look around, though nothing may have arrived.
    nudged: bool,
    /// When the Node's thread must have a look, even if nothing arrives.
    look_by: Instant,
    /// Until when it sleeps if nobody calls it.
    sleeps_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Turn {
    Free,
    Taken,
    /// It is the Node's thread's, which may still have to wake up.
    Called,
}

/// Notifications that wait at most (Java: `QuorumCnxManager.RECV_CAPACITY`, of which the oldest go).
const MOST_VOTES: usize = 100;
/// More requests, packets or transactions than this are never dealt with in passing.
const FEW: usize = 4;
/// Nor is anything while more of them come than one in this time: what gathers while the Node's thread wakes up then
/// costs less together, and has one sync of the log instead of several.
const EACH: Duration = Duration::from_micros(50);
/// So much of that may have come at once,
const BURST: Duration = Duration::from_micros(400);
/// and so soon is a time of many over.
const LONGEST_BURST: Duration = Duration::from_millis(2);
/// How long the Node's thread sleeps while another has the turn, who calls it if there is a reason to.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

impl Default for Inputs {
    /// The first turn is the Node's thread's, as soon as there is one.
    fn default() -> Self {
        let (now, turn) = (Instant::now(), Turn::Called);
        let waiting = Waiting {
            inputs: Vec::new(),
            votes: 0,
            booked: now,
            turn,
            nudged: false,
            look_by: now,
            sleeps_until: None,
        };
        Self { waiting: Mutex::new(waiting), called: Condvar::new() }
    }
}

impl Waiting {
    /// Takes note of what comes, and says whether it is little at a time of few.
    fn book(&mut self, weight: usize) -> bool {
        let now = Instant::now();
        let is_light = weight <= FEW && self.booked <= now + BURST;
        let booked = self.booked.max(now) + EACH * weight as u32;
        self.booked = booked.min(now + LONGEST_BURST);
        is_light
    }
}

impl Inputs {
    /// A notification of an election. Who has a vote repeats it, so those above [`MOST_VOTES`] are dropped.
    pub fn push_vote(&self, input: Input) {
        let mut waiting = self.waiting.lock();
        if waiting.votes < MOST_VOTES {
            waiting.votes += 1;
            waiting.inputs.push(input);
            self.call(&mut waiting);
        }
    }

    pub fn push(&self, input: Input) {
        let mut waiting = self.waiting.lock();
        waiting.inputs.push(input);
        self.call(&mut waiting);
    }

    /// True if the caller has the turn now. `weight` is that of all inputs, in requests, packets or transactions.
    pub fn push_all(&self, inputs: &mut Vec<Input>, weight: usize) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.inputs.append(inputs);
        let is_light = waiting.book(weight);
        if waiting.turn == Turn::Free && is_light {
            waiting.turn = Turn::Taken;
            return true;
        }
        self.call(&mut waiting);
        false
    }

    /// The Node is to look around, whatever waits.
    pub fn wake(&self) {
        let mut waiting = self.waiting.lock();
        waiting.nudged = true;
        self.call(&mut waiting);
    }

    /// Whoever has the turn looks again before he gives it back; else it is the Node's thread that looks.
    fn call(&self, waiting: &mut Waiting) {
        if waiting.turn == Turn::Free {
            waiting.turn = Turn::Called;
            self.called.notify_one();
        }
    }

    /// Everything that waits, for whoever has the turn.
    pub fn take(&self, into: &mut Vec<Input>) {
        let mut waiting = self.waiting.lock();
        waiting.nudged = false;
        waiting.votes = 0;
        std::mem::swap(&mut waiting.inputs, into);
    }

    /// Whatever came meanwhile is for the Node's thread, and so is the clock at `look_by`.
    pub fn end_turn(&self, look_by: Instant) {
        let mut waiting = self.waiting.lock();
        assert_eq!(waiting.turn, Turn::Taken, "who gives the turn back has it");
        waiting.look_by = look_by;
        waiting.turn = Turn::Free;
        if waiting.nudged || !waiting.inputs.is_empty() {
            self.call(&mut waiting);
        } else if waiting.sleeps_until.is_some_and(|until| until > look_by) {
            self.called.notify_one();
        }
    }

    /// For the Node's thread: it has the turn when this returns.
    pub fn wait_for_turn(&self) {
        let mut waiting = self.waiting.lock();
        loop {
            let now = Instant::now();
            let until = match waiting.turn {
                Turn::Called => break,
                Turn::Free if waiting.look_by <= now => break,
                Turn::Free => waiting.look_by,
                Turn::Taken => now + LONGEST_SLEEP,
            };
            waiting.sleeps_until = Some(until);
            self.called.wait_until(&mut waiting, until);
            waiting.sleeps_until = None;
        }
        waiting.turn = Turn::Taken;
    }

    pub fn len(&self) -> usize {
        self.waiting.lock().inputs.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
