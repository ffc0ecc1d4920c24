//! What comes out: one JSON object, or the same for people, and a line of progress while it runs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::host::Usage;

/// Latencies from 1 us to 100 s with three digits, recorded in nanoseconds.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, 100_000_000_000, 3).expect("bounds that hdrhistogram allows")
}

/// Errors by code, as the server sent them.
pub type Errors = BTreeMap<i32, u64>;

/// The figures of one run, in the order in which people read them.
#[derive(Default)]
pub struct Report {
    lines: Vec<(String, String)>,
    json: Map<String, Value>,
}

impl Report {
    pub fn new(bench: &str) -> Self {
        let mut report = Self::default();
        report.json.insert("bench".into(), bench.into());
        report
    }

    /// For the JSON only: what the run was given.
    pub fn given(&mut self, name: &str, value: impl Into<Value>) {
        self.json.insert(name.into(), value.into());
    }

    pub fn number(&mut self, name: &str, value: f64, unit: &str) {
        self.json.insert(name.into(), rounded(value).into());
        self.lines.push((name.replace('_', " "), format!("{} {unit}", human(value))));
    }

    pub fn latency(&mut self, name: &str, of: &Histogram<u64>) {
        let us = |nanos: u64| rounded(nanos as f64 / 1e3);
        let at = |quantile| us(of.value_at_quantile(quantile));
        let (max, mean) = (us(of.max()), rounded(of.mean() / 1e3));
        let value = json!({
            "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "p99.99": at(0.9999), "max": max,
            "mean": mean,
        });
        let mut line = String::new();
        for (label, us) in [("p50", at(0.5)), ("p90", at(0.9)), ("p99", at(0.99)), ("p99.9", at(0.999)), ("max", max)] {
            write!(line, "{label} {}  ", human_us(us)).expect("strings take everything");
        }
        self.json.insert(format!("{name}_us"), value);
        self.lines.push((name.replace('_', " "), line.trim_end().into()));
    }

    pub fn errors(&mut self, errors: &Errors, lost: u64) {
        let by_code: Map<String, Value> = errors.iter().map(|(code, n)| (code.to_string(), (*n).into())).collect();
        let mut line = errors.values().sum::<u64>().to_string();
        for (code, n) in errors {
            write!(line, ", {n} of code {code}").expect("strings take everything");
        }
        if lost > 0 {
            write!(line, ", {lost} connections lost").expect("strings take everything");
        }
        self.json.insert("errors".into(), by_code.into());
        self.json.insert("lost".into(), lost.into());
        self.lines.push(("errors".into(), line));
    }

    /// The server's share between two moments, if its processes are known.
    pub fn server(&mut self, pids: &[u32], before: Usage, after: Usage, seconds: f64, ops: f64) {
        if pids.is_empty() {
            return;
        }
        let cpu_seconds = after.cpu_seconds - before.cpu_seconds;
        self.number("server_cpu_share", cpu_seconds / seconds, "cores");
        self.number("op_per_server_cpu_second", if cpu_seconds > 0.0 { ops / cpu_seconds } else { 0.0 }, "op/cpu-s");
        self.number("server_resident_mb", after.resident_bytes as f64 / 1e6, "MB");
    }

    /// What the generator cost itself.
    pub fn own(&mut self, cpu_seconds: f64, seconds: f64, ops: f64) {
        self.number("own_cpu_share", cpu_seconds / seconds, "cores");
        self.number("own_us_per_op", cpu_seconds * 1e6 / ops.max(1.0), "us");
    }

    pub fn print(self, as_json: bool) {
        if as_json {
            println!("{}", Value::Object(self.json));
            return;
        }
        let width = self.lines.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in &self.lines {
            println!("{name:width$}  {value}");
        }
    }
}

/// Four significant digits: more is noise.
fn rounded(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return 0.0;
    }
    let scale = 10f64.powi(3 - value.abs().log10().floor() as i32);
    (value * scale).round() / scale
}

fn human(value: f64) -> String {
    let value = rounded(value);
    if value.abs() >= 1_000.0 { grouped(value.round() as i64) } else { value.to_string() }
}

fn human_us(us: f64) -> String {
    if us < 1_000.0 { format!("{us} us") } else { format!("{} ms", rounded(us / 1e3)) }
}

fn grouped(value: i64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A line on standard error that overwrites itself on a terminal.
pub struct Progress {
    quiet: bool,
}

impl Progress {
    pub fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    pub fn show(&self, elapsed: Duration, text: &str) {
        if self.quiet {
            return;
        }
        let mut err = std::io::stderr().lock();
        let end = if err.is_terminal() { "\x1b[K\r" } else { "\n" };
        // Progress that nobody can see is no reason to stop measuring.
        let _ = write!(err, "{:6.1} s  {text}{end}", elapsed.as_secs_f64());
    }

    pub fn rate(&self, elapsed: Duration, per_second: f64, rest: &str) {
        self.show(elapsed, &format!("{:>11} op/s  {rest}", human(per_second)));
    }

    pub fn done(&self) {
        if !self.quiet && std::io::stderr().is_terminal() {
            eprint!("\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_four_digits() {
        assert_eq!(human(1_234_567.0), "1,235,000");
        assert_eq!(human(999.96), "1,000");
        assert_eq!(human(0.012_345_6), "0.01235");
        assert_eq!(human(0.0), "0");
        assert_eq!(human_us(1_234.0), "1.234 ms");
    }
}
