//! How long until a server answers a request: with a session, from its tree. It may be starting, or be a member of an
//! ensemble that has lost its leader.

use std::io::ErrorKind;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};

use super::plain::{NO_NODE, Plain};
use super::report::Report;
use super::{Target, duration, wire};

#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    target: Target,
    /// The znode to ask for
    #[arg(long, default_value = "/")]
    path: String,
    /// Set the znode's data instead of reading them: then an ensemble must have a leader
    #[arg(long)]
    write: bool,
    /// When the server was started, in milliseconds since 1970; now, if not given
    #[arg(long)]
    since_ms: Option<f64>,
    /// Give up after this
    #[arg(long, default_value = "60s", value_parser = duration)]
    patience: Duration,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let mut servers = args.target.addresses()?.into_iter().cycle();
    let since = args.since_ms.unwrap_or_else(now_ms);
    let end = since + args.patience.as_secs_f64() * 1e3;
    let request = if args.write { wire::set(1, &args.path, b"ready") } else { wire::get(1, &args.path, false) };
    let mut patience = Duration::from_millis(50);
    loop {
        let server = servers.next().expect("one at least");
        let answer = Plain::open(server, patience).and_then(|mut plain| {
            let answer = plain.ask(&request)?;
            let waited = now_ms() - since;
            plain.close();
            Ok((answer, waited))
        });
        match answer {
            Ok((Ok(_), waited)) => return report(&args, waited),
            Ok((Err(NO_NODE), _)) => anyhow::bail!("the server answers, and has no {}", args.path),
            // A server may accept connections before it serves, and Java never answers some of those. So none is
            // waited for long, unless that turns out to be too short.
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => patience = patience * 5 / 4,
            _ => (),
        }
        ensure!(now_ms() < end, "no answer within {:?}", args.patience);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn report(args: &Args, waited_ms: f64) -> anyhow::Result<()> {
    let mut report = Report::new("ready");
    report.number("ready_ms", waited_ms, "ms");
    report.print(args.target.json);
    Ok(())
}

fn now_ms() -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("a clock before 1970");
    now.map_or(0.0, |now| now.as_secs_f64() * 1e3)
}
