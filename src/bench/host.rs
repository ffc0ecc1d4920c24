//! What the operating system says: CPU time and memory of processes, limits, short waits.

use std::fs;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// CPU time and memory of some processes together, at one moment.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// User and system time since each started. The kernel counts in ticks, usually of 10 ms.
    pub cpu_seconds: f64,
    pub resident_bytes: u64,
}

impl Usage {
    /// A process that has gone counts nothing: the report then shows it by a lack of CPU time.
    pub fn of(pids: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in pids {
            sum.cpu_seconds += stat_cpu_seconds(&format!("/proc/{pid}/stat")).unwrap_or(0.0);
            sum.resident_bytes += resident_bytes(*pid).unwrap_or(0);
        }
        sum
    }
}

fn stat_cpu_seconds(path: &str) -> Option<f64> {
    let stat = fs::read_to_string(path).ok()?;
    // The second field is the command in brackets and may hold anything; the third follows the last bracket.
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) as f64 / ticks_per_second())
}

fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// CPU time of the calling thread.
pub fn thread_cpu_seconds() -> f64 {
    // In nanoseconds, where the kernel keeps it; else in ticks.
    let schedstat = fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanos = schedstat.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
    match nanos {
        Some(nanos) => nanos as f64 / 1e9,
        None => stat_cpu_seconds("/proc/thread-self/stat").unwrap_or(0.0),
    }
}

/// CPU time so far of the threads of this process whose name starts with `name`.
pub fn named_threads_cpu_seconds(name: &str) -> f64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0.0 };
    let mine = tasks
        .flatten()
        .filter(|task| fs::read_to_string(task.path().join("comm")).is_ok_and(|comm| comm.starts_with(name)));
    mine.filter_map(|task| stat_cpu_seconds(task.path().join("stat").to_str()?)).sum()
}

fn ticks_per_second() -> f64 {
    // SAFETY: no pointers; any argument is allowed.
    unsafe { libc::sysconf(libc::_SC_CLK_TCK) as f64 }
}

/// Waits until `fd` has something to read, or for `wait`: finer than the milliseconds of epoll.
pub fn wait_readable(fd: RawFd, wait: Duration) -> io::Result<()> {
    let mut fds = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let wait = libc::timespec { tv_sec: wait.as_secs() as libc::time_t, tv_nsec: wait.subsec_nanos().into() };
    // SAFETY: one entry, and both structures outlive the call.
    let ready = unsafe { libc::ppoll(&mut fds, 1, &wait, std::ptr::null()) };
    let error = io::Error::last_os_error();
    if ready < 0 && error.kind() != io::ErrorKind::Interrupted { Err(error) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_uses_memory() {
        assert!(Usage::of(&[std::process::id()]).resident_bytes > 100_000);
    }

    #[test]
    fn a_process_that_is_not_there_uses_nothing() {
        assert_eq!(Usage::of(&[u32::MAX]).resident_bytes, 0);
    }
}
