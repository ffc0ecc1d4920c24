//! Clients at work on an ensemble while its members come and go. Each keeps books ([`Ledger`]); when its server
//! is gone it goes to the next one with its session, has that show everything agreed on, and compares.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::ensemble::PATIENCE;
use crate::ledger::{Ledger, Numbered, Refusal};
use crate::server::pause;

const MOST_CLIENTS: usize = 100;
/// After so many answers a client goes to the next server though its own is there.
const STAY: u64 = 500;

/// The clients, on threads of their own.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<Ledger, String>>>,
}

#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// By server, in the order of the addresses.
    answers: Vec<u64>,
    moves: u64,
    failed: Option<String>,
}

/// What the clients saw.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Figures {
    /// Answers by server, in the order of their addresses.
    pub answers: Vec<u64>,
    /// Writes that were acknowledged, and all of which are there.
    pub written: usize,
    /// How often a client went to another server.
    pub moves: u64,
}

impl Load {
    /// `clients` of them, spread over the servers. Two loads on one ensemble need two seeds.
    pub fn start(addresses: &[SocketAddr], clients: usize, seed: u64) -> Self {
        let shared = Arc::<Shared>::default();
        shared.state.lock().expect("no holder panics").answers = vec![0; addresses.len()];
        let client = |id| {
            let (shared, addresses) = (Arc::clone(&shared), addresses.to_vec());
            thread::spawn(move || {
                let id = id + MOST_CLIENTS * seed as usize;
                let mut ledger = Ledger::new(id, id as u64);
                let outcome = shared.run(&mut ledger, &addresses, id);
                if let Err(why) = outcome {
                    shared.state.lock().expect("no holder panics").failed.get_or_insert_with(|| why.clone());
                    shared.changed.notify_all();
                    return Err(format!("client {id}: {why}"));
                }
                Ok(ledger)
            })
        };
        let clients = (0..clients).map(client).collect();
        Self { shared, clients }
    }

    /// Waits for so many more answers from each of these servers, by their place among the addresses.
    pub fn wait_for(&self, more: u64, servers: &[usize]) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.state.lock().expect("no holder panics");
        let targets: Vec<(usize, u64)> = servers.iter().map(|at| (*at, state.answers[*at] + more)).collect();
        loop {
            let waits = targets.iter().find(|(at, target)| state.answers[*at] < *target);
            let left = deadline.saturating_duration_since(Instant::now());
            let failure = match (&state.failed, waits) {
                (Some(why), _) => Some(format!("a client has failed: {why}")),
                (None, None) => return,
                (None, Some((at, target))) if left.is_zero() => {
                    Some(format!("waited {PATIENCE:?} for {target} answers of server {at}: {:?}", state.answers))
                }
                (None, Some(_)) => None,
            };
            if let Some(failure) = failure {
                drop(state);
                panic!("{failure}");
            }
            state = self.shared.changed.wait_timeout(state, left).expect("no holder panics").0;
        }
    }

    /// Ends it, and checks what the clients have written down against each other. Each has compared its own
    /// nodes with what is there before it ended.
    pub fn finish(self) -> Figures {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let mut ledgers: Vec<Ledger> = self
            .clients
            .into_iter()
            .map(|client| client.join().expect("a client panicked").unwrap_or_else(|why| panic!("{why}")))
            .collect();
        let mut written: Vec<i64> = ledgers.iter().flat_map(|ledger| ledger.written.iter().copied()).collect();
        written.sort_unstable();
        if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
            panic!("two writes have the zxid 0x{:x}", pair[0]);
        }
        let mut numbered: Vec<Numbered> = ledgers.iter().flat_map(|ledger| ledger.numbered.iter().copied()).collect();
        numbered.sort_unstable();
        numbered.dedup();
        if let Some(pair) = numbered.windows(2).find(|pair| pair[0].number >= pair[1].number) {
            panic!("{:?} after {:?}", pair[1], pair[0]);
        }
        check_shared(&mut ledgers);
        ledgers.into_iter().for_each(|ledger| ledger.close().unwrap_or_else(|why| panic!("{why}")));
        let state = self.shared.state.lock().expect("no holder panics");
        Figures { answers: state.answers.clone(), written: written.len(), moves: state.moves }
    }
}

/// The node that all write holds the last acknowledged write, or a later one without an answer.
fn check_shared(ledgers: &mut [Ledger]) {
    let last = ledgers.iter().filter_map(|ledger| ledger.shared.clone()).max();
    let reader = ledgers.first_mut().expect("there are clients");
    let (zxid, data) = reader.draw_a_line().and_then(|()| reader.read_shared()).unwrap_or_else(|why| panic!("{why}"));
    let is_pending = ledgers.iter().any(|ledger| ledger.shared_pending.contains(&data));
    let is_right = match &last {
        Some((written, expected)) if *written == zxid => data == *expected,
        Some((written, _)) if *written > zxid => false,
        _ => data.is_empty() || is_pending,
    };
    assert!(is_right, "the shared node is 0x{zxid:x} {data}, the last acknowledged write was {last:?}");
}

impl Shared {
    /// One client's life.
    fn run(&self, ledger: &mut Ledger, addresses: &[SocketAddr], first: usize) -> Result<(), String> {
        let mut at = first % addresses.len();
        loop {
            at = self.connect(ledger, addresses, at)?;
            let settled = ledger.draw_a_line().and_then(|()| ledger.settle());
            match settled {
                Ok(_) => {}
                // It went before it had shown everything; the next one will.
                Err(_) if ledger.has_lost_connection() => continue,
                Err(why) => return Err(why),
            }
            if self.is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let here = Cell::new(0);
            let goes_on = |answers| {
                self.state.lock().expect("no holder panics").answers[at] += answers;
                self.changed.notify_all();
                here.set(here.get() + answers);
                here.get() < STAY && !self.is_over.load(Ordering::Relaxed)
            };
            match ledger.work_while(8, &goes_on) {
                // A server that is silent may have been stopped by the test.
                Ok(()) | Err(Refusal::NotNow(_)) => {}
                Err(Refusal::Wrong(why)) => return Err(why),
            }
            at = (at + 1) % addresses.len();
        }
    }

    /// Connects to one of the servers, `at` first.
    fn connect(&self, ledger: &mut Ledger, addresses: &[SocketAddr], at: usize) -> Result<usize, String> {
        const SHORT_OF_EXPIRY: Duration = Duration::from_secs(55);
        let deadline = Instant::now() + SHORT_OF_EXPIRY;
        for at in (0..addresses.len()).cycle().skip(at) {
            match ledger.connect_to(addresses[at]) {
                Ok(()) => {
                    self.state.lock().expect("no holder panics").moves += 1;
                    return Ok(at);
                }
                Err(Refusal::Wrong(why)) => return Err(why),
                Err(Refusal::NotNow(why)) if Instant::now() > deadline => return Err(why),
                Err(Refusal::NotNow(_)) => pause(),
            }
        }
        Err("there are no servers".into())
    }
}
