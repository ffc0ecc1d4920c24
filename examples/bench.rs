//! `zooid bench` by itself, until the binary has the verb.

use clap::Parser;

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: zooid::bench::Args,
}

fn main() -> anyhow::Result<()> {
    zooid::bench::run(Cli::parse().args)
}
