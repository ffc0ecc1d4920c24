//! The load generator and its probes, against a real server and the bare ones: every verb reports what it did, without an
//! error, a lost connection or a figure that is nothing. What the figures are worth is `scripts/bench-side-by-side`'s
//! business.

#![cfg(feature = "shell")]

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

/// A server that is killed when it is dropped, with its directory.
struct Server {
    process: Child,
    address: String,
    dir: PathBuf,
}

impl Server {
    fn zooid() -> Self {
        let dir = Self::dir("zooid");
        let mut process = zooid(&["server", "0", dir.to_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("serves on port ")).expect("it serves");
        let port = line.split("serves on port ").nth(1).unwrap().split(',').next().unwrap().to_owned();
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, address: format!("127.0.0.1:{port}"), dir }
    }

    fn limit(name: &str, verb: &str, flags: &[&str]) -> Self {
        let dir = Self::dir(name);
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap().to_string();
        drop(held);
        let mut command = zooid(&["bench", verb, "--listen", &address]);
        if flags.contains(&"--dir") {
            command.arg("--dir").arg(&dir);
        }
        command.args(flags.iter().filter(|flag| **flag != "--dir"));
        let server = Self { process: command.spawn().unwrap(), address, dir };
        server.run("ready", &["--patience", "20s"]);
        server
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("zooid-bench-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    /// One measurement of this server.
    fn run(&self, verb: &str, flags: &[&str]) -> Value {
        report(&[&["bench", verb, "--json", "--server", &self.address], flags].concat())
    }

    /// The same, which must have been without trouble.
    fn measure(&self, verb: &str, flags: &[&str]) -> Value {
        let pid = self.process.id().to_string();
        let report = self.run(verb, &[&["--quiet", "--pid", &pid], flags].concat());
        assert_eq!((&report["errors"], &report["lost"]), (&serde_json::json!({}), &0.into()), "{verb}: {report}");
        report
    }

    fn load(&self, op: &str, flags: &[&str]) -> Value {
        let names = ["--op", op, "--keys", "100", "--parents", "10", "--warmup", "100ms", "--time", "300ms"];
        self.measure("load", &[&names, flags].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn zooid(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_zooid"));
    command.args(args).env_remove("SERVER_JVMFLAGS").env_remove("JVMFLAGS");
    command
}

fn report(args: &[&str]) -> Value {
    let output = zooid(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(text.lines().last().expect("a report")).unwrap()
}

#[track_caller]
fn assert_some(report: &Value, figures: &[&str]) {
    for figure in figures {
        let pointer = format!("/{figure}");
        let value = report.pointer(&pointer).and_then(Value::as_f64);
        assert!(value.is_some_and(|value| value > 0.0), "{figure} of {report}");
    }
}

#[test]
fn every_measurement_of_a_server_reports_what_it_did() {
    let server = Server::zooid();
    let filled = server.measure("fill", &["--keys", "1000", "--parents", "10"]);
    assert_some(&filled, &["throughput"]);
    for op in ["get", "exists", "children", "set", "create-delete", "ephemeral", "multi", "get:9,set:1"] {
        let report = server.load(op, &["--connections", "4", "--in-flight", "4"]);
        assert_some(&report, &["throughput", "latency_us/p50", "op_per_server_cpu_second", "own_cpu_share"]);
    }
    let paced = server.load("get", &["--connections", "4", "--rate", "1000"]);
    let rate = paced["throughput"].as_f64().unwrap();
    assert!(rate > 200.0 && rate < 1100.0, "1,000 requests per second were asked for, and {rate} were sent");
    assert_some(&server.measure("connect", &["--sessions", "200"]), &["throughput", "latency_us/p99"]);
    assert_some(&server.measure("idle", &["--sessions", "50", "--time", "200ms"]), &["server_resident_mb"]);
    let watch = server.measure("watch", &["--sessions", "200", "--rounds", "3"]);
    assert_some(&watch, &["last_event_us/p50", "each_event_us/p50", "set_us/p50"]);
}

#[test]
fn the_limits_answer_what_they_are_asked_for() {
    let echo = Server::limit("echo", "echo", &["--serve"]);
    let bare = Server::limit("bare", "bare", &[]);
    for server in [&echo, &bare] {
        for op in ["get", "set"] {
            let report = server.load(op, &["--no-fill", "--connections", "4", "--in-flight", "4"]);
            assert_some(&report, &["throughput", "latency_us/p50"]);
        }
        assert_some(&server.measure("connect", &["--sessions", "200", "--at-once", "100"]), &["throughput"]);
    }
    let watch = bare.measure("watch", &["--sessions", "200", "--rounds", "3"]);
    assert_some(&watch, &["last_event_us/p50", "set_us/p50"]);

    // A set that is synced by two of three takes longer than one that is answered at once.
    let three = Server::limit("three", "bare", &["--dir", "--three"]);
    let synced = three.load("set", &["--no-fill", "--connections", "1"]);
    let at_once = bare.load("set", &["--no-fill", "--connections", "1"]);
    let p50 = |report: &Value| report["latency_us"]["p50"].as_f64().unwrap();
    assert!(p50(&synced) > p50(&at_once), "{synced} against {at_once}");

    let dir = three.dir.to_str().unwrap().to_owned();
    let file = (4 << 20).to_string();
    let sync = ["bench", "fdatasync", "--json", "--quiet", "--time", "200ms", "--file-size", &file, "--dir", &dir];
    assert_some(&report(&sync), &["syncs", "latency_us/p50"]);
}
