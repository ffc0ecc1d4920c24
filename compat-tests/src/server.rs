use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::{java, zooid};

/// How long a server may take until it serves; a JVM on a busy machine takes a few seconds.
const START: Duration = Duration::from_secs(60);

/// Which server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Kind {
    /// Apache ZooKeeper of the version.
    Java(String),
    /// Ours.
    Zooid,
}

impl Kind {
    /// What the checks run against: ours, or the reference with `ZOOID_SERVER=java`.
    pub fn under_test() -> Self {
        match std::env::var("ZOOID_SERVER").as_deref() {
            Err(_) | Ok("zooid") => Self::Zooid,
            Ok("java") => Self::Java(java::VERSION.into()),
            Ok(other) => panic!("ZOOID_SERVER={other}: expected java or zooid"),
        }
    }
}

/// A configuration: lines of zoo.cfg and `-D` flags. `dataDir` and `clientPort` are the server's own.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    lines: Vec<(String, String)>,
    flags: Vec<(String, String)>,
    environment: Vec<(String, String)>,
}

impl Setup {
    /// tickTime 2000, any number of connections, no reaping of containers while a test runs.
    pub fn standalone() -> Self {
        Self::default()
            .line("tickTime", "2000")
            .line("maxClientCnxns", "0")
            .flag("znode.container.checkIntervalMs", "86400000")
    }

    /// For the members of an ensemble: ticks of half a second, five seconds to answer in, and everything that
    /// a test asks of them allowed.
    pub fn ensemble() -> Self {
        Self::standalone()
            .line("tickTime", "500")
            .line("initLimit", "40")
            .line("syncLimit", "10")
            .line("maxSessionTimeout", "60000")
            .line("4lw.commands.whitelist", "*")
            .flag("zookeeper.DigestAuthenticationProvider.superDigest", "super:xQJmxLMiHGwaqBvst5y6rkB6HQs=")
            // Logs of the usual 64 MiB for every life of every member would be most of the work.
            .line("preAllocSize", "1024")
    }

    /// Sets a line of zoo.cfg.
    pub fn line(mut self, key: &str, value: &str) -> Self {
        self.lines.retain(|(k, _)| k != key);
        self.lines.push((key.into(), value.into()));
        self
    }

    /// Sets a process property.
    pub fn flag(mut self, key: &str, value: &str) -> Self {
        self.flags.retain(|(k, _)| k != key);
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Sets a variable of the process's environment.
    pub fn environment(mut self, key: &str, value: &str) -> Self {
        self.environment.retain(|(k, _)| k != key);
        self.environment.push((key.into(), value.into()));
        self
    }
}

/// How a process ended, and the end of its log.
#[derive(Clone, Debug)]
pub struct Ended {
    /// `None`: by a signal, or not at all.
    pub code: Option<i32>,
    pub log: String,
}

/// A running server with a directory of its own. Both end with the value, and with this process if it dies.
pub struct Server {
    kind: Kind,
    setup: Setup,
    directory: PathBuf,
    address: SocketAddr,
    process: Option<Process>,
    /// Whether it is one of many, which may have to be understood afterwards: the logs of all its lives are
    /// in one file, and a failed test leaves the directory.
    is_member: bool,
}

/// A child and its guard.
struct Process {
    child: Child,
    /// A shell that waits for the end of its input, which comes when we exit however we do, and then kills
    /// the child. Tests share servers through statics, and nothing drops those.
    guard: Child,
}

impl Server {
    pub fn start(kind: Kind, setup: &Setup) -> Self {
        let mut server = Self::new(kind, setup);
        if let Err(ended) = server.launch() {
            panic!("{} did not start ({:?}):\n{}", server.name(), ended.code, ended.log);
        }
        server
    }

    /// The exit code and the log of our server, which must refuse to start.
    pub fn refused(setup: &Setup) -> (Option<i32>, String) {
        match Self::new(Kind::Zooid, setup).launch() {
            Ok(()) => panic!("zooid started, with {setup:?}"),
            Err(Ended { code, log }) => (code, log),
        }
    }

    fn new(kind: Kind, setup: &Setup) -> Self {
        let number = next_number();
        let directory = std::env::temp_dir().join(format!("zooid-compat-{}-{number}", std::process::id()));
        fs::create_dir_all(directory.join("data")).expect("cannot create the server's directory");
        let ip = IpAddr::from(own_address(number));
        let address = SocketAddr::new(ip, free_port(ip, 20_000));
        Self { kind, setup: setup.clone(), directory, address, process: None, is_member: false }
    }

    /// A member of an ensemble, which does not run yet. It lives in `directory`.
    pub(crate) fn member(kind: Kind, setup: &Setup, directory: PathBuf, address: SocketAddr) -> Self {
        fs::create_dir_all(directory.join("data")).expect("cannot create the member's directory");
        Self { kind, setup: setup.clone(), directory, address, process: None, is_member: true }
    }

    pub fn java(setup: &Setup) -> Self {
        Self::start(Kind::Java(java::VERSION.into()), setup)
    }

    pub fn zooid(setup: &Setup) -> Self {
        Self::start(Kind::Zooid, setup)
    }

    /// The server that [`Kind::under_test`] names.
    pub fn under_test(setup: &Setup) -> Self {
        Self::start(Kind::under_test(), setup)
    }

    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `dataDir`.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The end of what the server wrote to stdout and stderr.
    pub fn log(&self) -> String {
        let log = self.whole_log();
        String::from_utf8_lossy(&log[log.len().saturating_sub(8000)..]).into_owned()
    }

    pub(crate) fn whole_log(&self) -> Vec<u8> {
        fs::read(self.directory.join("server.log")).unwrap_or_default()
    }

    /// Whether the process is still there.
    pub fn is_alive(&mut self) -> bool {
        match &mut self.process {
            Some(process) => matches!(process.child.try_wait(), Ok(None)),
            None => false,
        }
    }

    /// Ends the process as a power cut would end it for clients: at once.
    pub fn kill9(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.dismiss_guard();
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }

    /// Ends the process with SIGTERM and waits for it.
    pub fn stop(&mut self) {
        if self.process.is_some() {
            self.signal("TERM");
            self.wait_for_end(Duration::from_secs(20));
        }
    }

    /// Sends the process a signal, by its name without SIG.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([format!("-{name}"), self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|s| s.success()), "cannot send SIG{name} to {}", self.name());
    }

    /// SIGSTOP, and waits for every thread to stand still: the signal is with one of them until that one runs, and
    /// on a busy machine the others meanwhile answer what they hear.
    pub fn freeze(&self) {
        self.signal("STOP");
        let tasks = PathBuf::from(format!("/proc/{}/task", self.pid()));
        let deadline = Instant::now() + START;
        while !is_frozen(&tasks).unwrap_or_else(|e| panic!("cannot tell whether {} stands still: {e}", self.name())) {
            assert!(Instant::now() < deadline, "{} does not stand still {START:?} after SIGSTOP", self.name());
            thread::yield_now();
        }
    }

    /// Waits for the process to end on its own account.
    pub fn wait_for_end(&mut self, patience: Duration) -> Ended {
        let deadline = Instant::now() + patience;
        let Some(mut process) = self.process.take() else { panic!("{} does not run", self.name()) };
        process.dismiss_guard();
        loop {
            if let Some(status) = process.child.try_wait().expect("cannot wait for the server") {
                return Ended { code: status.code(), log: self.log() };
            }
            if Instant::now() > deadline {
                let _ = process.child.kill();
                let _ = process.child.wait();
                panic!("{} did not end within {patience:?}:\n{}", self.name(), self.log());
            }
            pause();
        }
    }

    pub fn pid(&self) -> u32 {
        self.process.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name())).child.id()
    }

    /// Bytes of memory that the process has in use.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("no status of the process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("no VmRSS in {status}")) * 1024
    }

    /// Starts it again on the same address and directory.
    pub fn restart(&mut self) {
        if let Err(ended) = self.try_restart() {
            panic!("{} did not start again ({:?}):\n{}", self.name(), ended.code, ended.log);
        }
    }

    /// Starts it again on the same address and directory, if it does start.
    pub fn try_restart(&mut self) -> Result<(), Ended> {
        self.kill9();
        self.launch()
    }

    /// Sets which server the next start is one of.
    pub(crate) fn set_kind(&mut self, kind: Kind) {
        self.kind = kind;
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Sets the configuration of the next start.
    pub fn set_up(&mut self, setup: &Setup) {
        self.setup = setup.clone();
    }

    /// Starts it again on the same address and directory with another configuration.
    pub fn restart_with(&mut self, setup: &Setup) {
        self.set_up(setup);
        self.restart();
    }

    /// The answer to a four-letter word.
    pub fn word(&self, word: &str) -> std::io::Result<String> {
        let mut socket = TcpStream::connect_timeout(&self.address(), Duration::from_secs(5))?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        socket.write_all(word.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        Ok(answer)
    }

    fn name(&self) -> String {
        match &self.kind {
            Kind::Java(version) => format!("Java {version} on {}", self.address),
            Kind::Zooid => format!("zooid on {}", self.address),
        }
    }

    /// Starts the process.
    pub(crate) fn spawn(&mut self) {
        let config = self.directory.join("zoo.cfg");
        // A reconfiguration has the server rewrite its file, and what it wrote is then how it is set up.
        let is_rewritten = fs::read_to_string(&config).is_ok_and(|text| text.contains("dynamicConfigFile="));
        if !is_rewritten {
            let mut text = format!("dataDir={}\n", self.data_dir().display());
            text.push_str(&format!("clientPort={}\nclientPortAddress={}\n", self.address.port(), self.address.ip()));
            text.extend(self.setup.lines.iter().map(|(key, value)| format!("{key}={value}\n")));
            fs::write(&config, text).expect("cannot write zoo.cfg");
        }

        let used = if self.is_member { java::Use::Member } else { java::Use::Alone };
        let mut command = match &self.kind {
            Kind::Java(version) => java::command(version, used, &self.setup.flags, &config),
            Kind::Zooid => zooid::command(&self.setup.flags, &config),
        };
        let log = OpenOptions::new()
            .create(true)
            .write(true)
            .append(self.is_member)
            .truncate(!self.is_member)
            .open(self.directory.join("server.log"))
            .expect("cannot open server.log");
        let twin = log.try_clone().expect("cannot share server.log");
        let child = command
            .envs(self.setup.environment.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(twin)
            .spawn()
            .unwrap_or_else(|e| panic!("cannot run {}: {e}", command.get_program().display()));
        self.process = Some(Process::guarded(child, &self.directory));
    }

    /// Starts the process and waits until it answers `srvr`.
    fn launch(&mut self) -> Result<(), Ended> {
        self.spawn();
        let deadline = Instant::now() + START;
        loop {
            if self.word("srvr").is_ok_and(|answer| answer.contains("Zxid:")) {
                return Ok(());
            }
            if !self.is_alive() {
                return Err(self.wait_for_end(Duration::ZERO));
            }
            if Instant::now() > deadline {
                self.kill9();
                return Err(Ended { code: None, log: format!("no answer to srvr in time\n{}", self.log()) });
            }
            pause();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill9();
        if self.is_member && keeps_directories() {
            eprintln!("{} is kept in {}", self.name(), self.directory.display());
            return;
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Process {
    fn guarded(child: Child, directory: &Path) -> Self {
        let script = format!("read _; kill -9 {}; sleep 0.2; rm -rf '{}'", child.id(), directory.display());
        let guard = Command::new("sh")
            .args(["-c", &script])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run sh, which guards the server");
        Self { child, guard }
    }

    fn dismiss_guard(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

/// Between two looks at something that cannot be awaited: a port or a process of somebody else's.
pub(crate) fn pause() {
    thread::sleep(Duration::from_millis(10));
}

/// Whether all threads of a process are stopped, by their entries in proc(5).
fn is_frozen(tasks: &Path) -> std::io::Result<bool> {
    for task in fs::read_dir(tasks)? {
        match fs::read_to_string(task?.path().join("stat")) {
            // The state stands behind the name, which stands in parentheses and may itself have some.
            Ok(stat) if stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T')) => {}
            Ok(_) => return Ok(false),
            // It has ended meanwhile.
            Err(_) => {}
        }
    }
    Ok(true)
}

/// Whether what members leave is wanted: a test fails, or `ZOOID_KEEP` is set.
pub(crate) fn keeps_directories() -> bool {
    thread::panicking() || std::env::var_os("ZOOID_KEEP").is_some()
}

/// A number that no other server of this process has.
pub(crate) fn next_number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A loopback address of the server's own, so that two servers that start at the same time, in one test process
/// or two, do not meet. Clients still come from 127.0.0.1.
pub(crate) fn own_address(number: u32) -> Ipv4Addr {
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, high | 1, low, 1 + (number % 250) as u8)
}

/// The first free port from `from` on, below those that the system hands out.
pub(crate) fn free_port(address: IpAddr, from: u16) -> u16 {
    (from..30_000)
        .find(|port| TcpListener::bind((address, *port)).is_ok())
        .unwrap_or_else(|| panic!("no free port on {address}"))
}
