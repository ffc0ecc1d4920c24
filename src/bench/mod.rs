//! `zooid bench`: a load generator for any server that speaks ZooKeeper's client protocol, and probes of what the
//! bare machine can do.
//!
//! It shares the machine with the server it measures, so it must cost little: one or two threads, sockets that never
//! block, many frames per system call, requests copied from templates, nothing allocated per request. What it does
//! cost is in every report, because a generator that is itself the bottleneck measures itself.
//!
//! - [`load`]: operations in a closed loop or at a fixed rate
//! - [`fill`]: many znodes, fast
//! - [`sessions`]: connection storms, idle sessions
//! - [`fanout`]: one change, many watchers
//! - [`ready`]: how long until a server that is starting answers, or one whose ensemble elects
//! - [`echo`], [`bare`], [`sync`]: the limits of the machine, a bare server with a runtime and one without, and a bare
//!   fdatasync
//!
//! Below them: [`pool`] moves frames ([`plain`] does where nothing is measured), [`wire`] makes them, [`names`] says where the znodes are, [`host`] asks the
//! operating system, [`report`] presents.

mod bare;
mod echo;
mod fanout;
mod fill;
mod host;
mod load;
mod names;
mod plain;
mod pool;
mod ready;
mod report;
mod sessions;
mod sync;
mod wire;

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, bail};

/// Measure a ZooKeeper-compatible server, or the machine beneath it.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand, Debug)]
enum What {
    /// Operations over many connections, in a closed loop or at a fixed rate
    Load(load::Args),
    /// Create many znodes under some parents, pipelined
    Fill(fill::Args),
    /// Open many sessions, as fast as the server accepts them
    Connect(sessions::ConnectArgs),
    /// Hold idle sessions and see what each costs
    Idle(sessions::IdleArgs),
    /// One znode, many watchers: how long until the last has heard of a change
    Watch(fanout::Args),
    /// Wait until one of the servers answers a request
    Ready(ready::Args),
    /// A bare echo server of the same frames: what the sockets of this machine allow
    Echo(echo::Args),
    /// A bare server of one thread, to be measured by others: what a whole request costs at least, its sync included
    Bare(bare::Args),
    /// One small write and one fdatasync, repeated: what the disk of this machine allows
    Fdatasync(sync::Args),
}

pub fn run(args: Args) -> anyhow::Result<()> {
    match args.what {
        What::Load(args) => load::run(args),
        What::Fill(args) => fill::run(args),
        What::Connect(args) => sessions::connect(args),
        What::Idle(args) => sessions::idle(args),
        What::Watch(args) => fanout::run(args),
        What::Ready(args) => ready::run(args),
        What::Echo(args) => echo::run(args),
        What::Bare(args) => bare::run(args),
        What::Fdatasync(args) => sync::run(args),
    }
}

/// The server under test and how to report on it.
#[derive(clap::Args, Clone, Debug)]
struct Target {
    /// Servers, separated by commas; connections are spread over them
    #[arg(long, short, default_value = "127.0.0.1:2181")]
    server: String,
    /// Process ids of the servers, separated by commas, to report their CPU time and memory
    #[arg(long, value_delimiter = ',')]
    pid: Vec<u32>,
    /// Session timeout to ask for
    #[arg(long, default_value = "30s", value_parser = duration)]
    session_timeout: Duration,
    /// Report as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

impl Target {
    fn addresses(&self) -> anyhow::Result<Vec<SocketAddr>> {
        let mut found = Vec::new();
        for server in self.server.split(',') {
            let address = server.to_socket_addrs().with_context(|| format!("no such server: {server}"))?.next();
            found.push(address.with_context(|| format!("no address for {server}"))?);
        }
        Ok(found)
    }

    fn session_timeout_ms(&self) -> i32 {
        i32::try_from(self.session_timeout.as_millis()).unwrap_or(i32::MAX)
    }
}

/// `10s`, `250ms`, `100us`, `2m`; a bare number is seconds.
fn duration(text: &str) -> anyhow::Result<Duration> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().with_context(|| format!("no duration: {text}"))?;
    let seconds = match &text[digits.len()..] {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" | "" => number,
        "m" => number * 60.0,
        unit => bail!("unknown unit: {unit}"),
    };
    Duration::try_from_secs_f64(seconds).with_context(|| format!("no duration: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_or_is_in_seconds() {
        for (text, ms) in [("10s", 10_000), ("250ms", 250), ("2m", 120_000), ("1.5", 1_500)] {
            assert_eq!(duration(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        assert!(duration("10 parsecs").is_err());
        assert!(duration("-1s").is_err());
    }
}
