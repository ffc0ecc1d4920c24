//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing::error;
use zooid::config::{Config, Flags};
use zooid::server::start::{self, LogFormat};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A coordination server that speaks ZooKeeper's protocols and formats.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve in the foreground.
    Server {
        /// How log lines look.
        #[arg(long, value_enum, default_value = "text")]
        log_format: Format,
        /// `[-Dkey=value]... CONF`, or `[-Dkey=value]... PORT DATADIR [TICKTIME] [MAXCNXNS]`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Read the configuration, and `myid`, and say what the server would make of it; no port is opened, and no data read.
    Check {
        /// `[-Dkey=value]... CONF`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Put load on a server, this one or another, and measure it.
    Bench(Box<zooid::bench::Args>),
    /// Write a snapshot in Java's format from the directories of a server that is not running.
    Snapshot {
        /// `[-Dkey=value]... CONF`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

impl From<Format> for LogFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Text => Self::Text,
            Format::Json => Self::Json,
        }
    }
}

fn main() -> ExitCode {
    end_with_the_first_panic();
    keep_memory_small();
    let code = match Cli::parse().verb {
        Verb::Server { log_format, arguments } => {
            start::end_process(configured(log_format.into(), &arguments, start::serve))
        }
        Verb::Check { arguments } => configured(LogFormat::Text, &arguments, |config| start::check(&config)),
        Verb::Snapshot { arguments } => configured(LogFormat::Text, &arguments, |config| start::snapshot(&config)),
        Verb::Bench(args) => match zooid::bench::run(*args) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("zooid bench: {error:#}");
                1
            }
        },
    };
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Memory is what the tree takes, and little else. Huge pages double what a sparse heap occupies; the C++
/// heap of the image would otherwise keep an arena for each thread, and give nothing back. Measured with
/// a million znodes: 100 MB less.
fn keep_memory_small() {
    // SAFETY: no other thread runs yet, and the calls take no pointers.
    unsafe {
        libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0);
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10);
    }
}

/// An invariant that fails in one thread fails the whole server: what the others would go on to do rests on
/// a state that is wrong.
fn end_with_the_first_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::abort();
    }));
}

/// Reads the configuration that the arguments and the environment name, and does `act` with it.
fn configured(log_format: LogFormat, arguments: &[String], act: impl FnOnce(Config) -> i32) -> i32 {
    start::init_logging(log_format);
    let variable = |name| std::env::var(name).ok();
    let mut flags = Flags::from_variables(variable("SERVER_JVMFLAGS").as_deref(), variable("JVMFLAGS").as_deref());
    let arguments = flags.push_command_line(arguments);
    match start::read_config(arguments, &flags) {
        Ok((config, notices)) => {
            start::log_notices(&notices);
            act(config)
        }
        Err(failure) => {
            start::log_notices(&failure.notices);
            error!("{failure}");
            if let Some(line) = failure.stderr_line() {
                eprintln!("{line}");
            }
            failure.exit_code().into()
        }
    }
}
