//! Hosts of our own on one machine, whose network can be cut in any shape and in one direction: a network
//! namespace for each, joined by a bridge to the one that the test itself runs in.
//!
//! A cut is a wrong hardware address in the sender's table of neighbours: what it sends goes out and reaches
//! nobody, as if the cable were cut, and neither end is told. It needs no packet filter in the kernel.
//!
//! Everything is in namespaces that end with the process ([`inside`]), so nothing outlives a test, however that
//! ends, and nothing of the machine's own network is touched.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Set for the process that is inside.
const INSIDE: &str = "ZOOID_INSIDE";

/// Runs the rest of a test in namespaces of its own: network, mounts, and processes, all of which end with it.
/// False in the process that was called: there the test is over, and has failed if it failed inside. Needs
/// the rights of root, and fails without them.
#[must_use]
pub fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    // Process ids begin anew inside, so names made of them are not unique there. After a failure it stays.
    let directory = std::env::temp_dir().join(format!("zooid-inside-{}-{test}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("a directory can be made");
    let status = Command::new("unshare")
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(std::env::current_exe().expect("a test has a file"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .env("TMPDIR", &directory)
        .stdin(Stdio::null())
        .status()
        .expect("cannot run unshare (util-linux), which makes the namespaces of this test");
    assert!(status.success(), "{test} failed in its namespaces, for which it must be root: {status}");
    let _ = std::fs::remove_dir_all(&directory);
    false
}

/// The network, seen from the test.
pub struct Network {
    hosts: Vec<Host>,
}

struct Host {
    /// Holds the namespace; ends when its input does.
    holder: Child,
}

/// The test's own place in the network.
pub const HUB: usize = usize::MAX;

impl Network {
    /// A network of so many hosts, 0 and up.
    pub fn new(hosts: usize) -> Self {
        assert!(std::env::var_os(INSIDE).is_some(), "the machine's own network is left alone");
        run(&["ip", "link", "set", "lo", "up"]);
        run(&["ip", "link", "add", "bridge", "address", &mac(HUB), "type", "bridge"]);
        run(&["ip", "addr", "add", &format!("{}/24", address(HUB)), "dev", "bridge"]);
        run(&["ip", "link", "set", "bridge", "up"]);
        let mut network = Self { hosts: Vec::new() };
        for at in 0..hosts {
            let holder = Command::new("unshare")
                .args(["--net", "cat"])
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .expect("cannot run unshare (util-linux)");
            let pid = holder.id().to_string();
            await_namespace(&holder);
            network.hosts.push(Host { holder });
            let port = format!("port{at}");
            run(&["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns", &pid]);
            run(&["ip", "link", "set", &port, "master", "bridge", "up"]);
            network.at(at, &["ip", "link", "set", "lo", "up"]);
            network.at(at, &["ip", "link", "set", "eth0", "address", &mac(at), "up"]);
            network.at(at, &["ip", "addr", "add", &format!("{}/24", address(at)), "dev", "eth0"]);
        }
        network.heal();
        network
    }

    /// A command on a host.
    pub fn command(&self, host: usize, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.hosts[host].holder.id())).arg("--").arg(program);
        command
    }

    pub fn address(&self, host: usize, port: u16) -> SocketAddr {
        (address(host), port).into()
    }

    /// Nothing that one host sends reaches the other.
    pub fn cut(&self, from: usize, to: usize) {
        self.neighbour(from, to, "02:00:00:00:ff:ff");
    }

    /// Everything reaches everybody.
    pub fn heal(&self) {
        let all = || (0..self.hosts.len()).chain([HUB]);
        for from in all() {
            all().filter(|to| *to != from).for_each(|to| self.neighbour(from, to, &mac(to)));
        }
    }

    fn neighbour(&self, from: usize, to: usize, mac: &str) {
        let device = if from == HUB { "bridge" } else { "eth0" };
        let to = address(to).to_string();
        let command = ["ip", "neigh", "replace", &to, "lladdr", mac, "nud", "permanent", "dev", device];
        if from == HUB { run(&command) } else { self.at(from, &command) }
    }

    fn at(&self, host: usize, command: &[&str]) {
        let namespace = format!("--net=/proc/{}/ns/net", self.hosts[host].holder.id());
        let mut whole = vec!["nsenter", &namespace, "--"];
        whole.extend(command);
        run(&whole);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            let _ = host.holder.kill();
            let _ = host.holder.wait();
        }
    }
}

/// Waits until the holder is in a namespace that is not ours.
fn await_namespace(holder: &Child) {
    let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    let own = namespace("self").expect("we are in a namespace");
    let deadline = Instant::now() + Duration::from_secs(20);
    while namespace(&holder.id().to_string()).is_ok_and(|theirs| theirs == own) {
        assert!(Instant::now() < deadline, "no namespace was made: this test must be root");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn address(host: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, 0, if host == HUB { 254 } else { host as u8 + 1 })
}

fn mac(host: usize) -> String {
    let [.., last] = address(host).octets();
    format!("02:00:00:00:00:{last:02x}")
}

fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {} (iproute2, util-linux): {e}", command[0]));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {why}", command.join(" "));
}

/// A file system of its own size in memory.
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    pub fn mount(path: &Path, bytes: u64) -> Self {
        assert!(std::env::var_os(INSIDE).is_some(), "the machine's own mounts are left alone");
        std::fs::create_dir_all(path).expect("cannot create a mount point");
        let target = path.to_str().expect("a path in UTF-8");
        run(&["mount", "-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs", target]);
        Self { path: path.to_owned() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves no room.
    pub fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler()).expect("the filler can be made");
        let block = vec![1; 1 << 20];
        while file.write_all(&block).is_ok() {}
        while file.write_all(&block[..4096]).is_ok() {}
    }

    pub fn free(&self) {
        let _ = std::fs::remove_file(self.filler());
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

/// Starts a process that ends with this one.
pub fn spawn(command: &mut Command) -> std::io::Result<Child> {
    command.process_group(0).stdin(Stdio::null()).spawn()
}
