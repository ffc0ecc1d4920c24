//! What an operator asks of the Node itself: its thread answers between two rounds.

use std::sync::mpsc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::node::Node;
use crate::server::Shared;

type Question = Box<dyn FnOnce(&mut Node) + Send>;

/// Bounded by the connections, which ask one question each and wait.
#[derive(Default)]
pub struct Questions {
    waiting: Mutex<Vec<Question>>,
}

/// A round of the Node takes milliseconds; after this one, it has stopped.
const PATIENCE: Duration = Duration::from_secs(2);

impl Questions {
    /// Waits for the Node's answer; `None` if it does not run any more. `look` only copies what it needs.
    pub fn ask<T: Send + 'static>(
        &self,
        shared: &Shared,
        look: impl FnOnce(&mut Node) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = mpsc::sync_channel(1);
        self.waiting.lock().push(Box::new(move |node| {
            // Who asked may have given up.
            let _ = answer.send(look(node));
        }));
        shared.inputs.wake();
        answered.recv_timeout(PATIENCE).ok()
    }

    /// Called by the Node's thread.
    pub fn answer(&self, node: &mut Node) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        for question in waiting {
            question(node);
        }
    }
}
