//! The limit of the disk: a small write and an fdatasync in a file that is already as long as it will be, as a
//! transaction log does it.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::duration;
use super::report::{Progress, Report, histogram};

#[derive(clap::Args, Debug)]
pub struct Args {
    /// On the device to measure
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// Bytes per write
    #[arg(long, default_value_t = 512)]
    size: usize,
    /// Bytes to preallocate; the writes go round in them
    #[arg(long, default_value_t = 64 << 20)]
    file_size: u64,
    /// Preallocate by fallocate alone: then each first write of a block also turns it from reserved to written
    #[arg(long)]
    reserve_only: bool,
    /// Pause between writes, to probe alongside another load
    #[arg(long, default_value = "0s", value_parser = duration)]
    interval: Duration,
    /// How long
    #[arg(long, short, default_value = "3s", value_parser = duration)]
    time: Duration,
    /// Report as one JSON object on standard output
    #[arg(long)]
    json: bool,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(args: Args) -> anyhow::Result<()> {
    let path = args.dir.join(format!("zooid-bench-{}.tmp", std::process::id()));
    let measured = OpenOptions::new().create_new(true).write(true).open(&path);
    let file = measured.with_context(|| format!("cannot create {}", path.display()))?;
    let report = measure(&args, &file);
    std::fs::remove_file(&path)?;
    report?.print(args.json);
    Ok(())
}

fn measure(args: &Args, file: &File) -> anyhow::Result<Report> {
    preallocate(args, file)?;
    let block = vec![0x5a; args.size];
    let mut latency = histogram();
    let progress = Progress::new(args.quiet);
    let start = Instant::now();
    let mut shown = start;
    let mut at = 0;
    while start.elapsed() < args.time {
        let began = Instant::now();
        file.write_all_at(&block, at)?;
        file.sync_data()?;
        latency.saturating_record(began.elapsed().as_nanos() as u64);
        at = if at + 2 * args.size as u64 > args.file_size { 0 } else { at + args.size as u64 };
        if shown.elapsed() > Duration::from_secs(1) {
            shown = Instant::now();
            progress.show(start.elapsed(), &format!("{} syncs", latency.len()));
        }
        std::thread::sleep(args.interval);
    }
    progress.done();
    let mut report = Report::new("fdatasync");
    report.given("size", args.size);
    report.number("syncs", latency.len() as f64, "");
    report.latency("latency", &latency);
    Ok(report)
}

fn preallocate(args: &Args, file: &File) -> anyhow::Result<()> {
    if args.reserve_only {
        let length = args.file_size.try_into().context("too long a file")?;
        // SAFETY: the descriptor is open, and nothing else is passed but numbers.
        let code = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) };
        anyhow::ensure!(code == 0, std::io::Error::from_raw_os_error(code));
        return Ok(file.sync_all()?);
    }
    Ok(write_zeros(file, args.file_size)?)
}

/// Makes a file as long as it will be.
pub fn write_zeros(file: &File, length: u64) -> std::io::Result<()> {
    let zeros = vec![0; 1 << 20];
    for at in (0..length).step_by(zeros.len()) {
        let piece = zeros.len().min((length - at) as usize);
        file.write_all_at(&zeros[..piece], at)?;
    }
    file.sync_all()
}
