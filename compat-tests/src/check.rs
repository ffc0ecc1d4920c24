//! Running the numbered checks: one server per configuration, one check at a time on each.

use std::panic::{self, AssertUnwindSafe};
use std::sync::{Mutex, OnceLock};

use crate::{Kind, Server, Setup};

/// A server that checks share. They take turns, since many watch zxids; each keeps to paths of its own.
pub struct Shared {
    setup: fn() -> Setup,
    server: OnceLock<Mutex<Server>>,
}

impl Shared {
    pub const fn new(setup: fn() -> Setup) -> Self {
        Self { setup, server: OnceLock::new() }
    }

    /// Runs a check, on a server that is started for the first.
    pub fn run(&self, check: impl FnOnce(&Server)) {
        let server = self.server.get_or_init(|| Mutex::new(Server::under_test(&(self.setup)())));
        // A check that failed says nothing about the next one.
        let mut server = server.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !server.is_alive() {
            server.restart();
        }
        check(&server);
    }
}

/// Runs a check where Java has a defect that is not copied, on a server of its own: ours must pass it, and
/// Java must not, or it is no defect.
pub fn defect(setup: &Setup, check: impl FnOnce(&mut Server)) {
    let mut server = Server::under_test(setup);
    match Kind::under_test() {
        Kind::Zooid => check(&mut server),
        Kind::Java(version) => {
            let outcome = panic::catch_unwind(AssertUnwindSafe(|| check(&mut server)));
            assert!(outcome.is_err(), "Java {version} passes: this is no defect of it");
        }
    }
}
