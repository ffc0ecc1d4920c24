//! The command line: `scripts/zkServer.sh` with Java's verbs, outputs and exit codes
//! (config-and-operations 6.3, 8.5), the verb `snapshot`, and starts that are refused. Real processes.

#![cfg(feature = "io")]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn free_ports<const N: usize>() -> [u16; N] {
    let held = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    held.each_ref().map(|listener| listener.local_addr().unwrap().port())
}

/// A directory with a zoo.cfg, and no server left running when it is dropped.
struct Place {
    dir: PathBuf,
    port: u16,
}

impl Place {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("zooid-command-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let [port] = free_ports();
        let place = Self { dir, port };
        place.configure("");
        place
    }

    fn configure(&self, more: &str) {
        let text = format!("tickTime=2000\ndataDir={}\nclientPort={}\n{more}", self.data().display(), self.port);
        std::fs::write(self.config(), text).unwrap();
    }

    fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    fn config(&self) -> PathBuf {
        self.dir.join("zoo.cfg")
    }

    fn script(&self, verb: &str) -> Output {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/zkServer.sh");
        Command::new(script)
            .args([verb.as_ref(), self.config().as_os_str()])
            .env("ZOOID_BIN", env!("CARGO_BIN_EXE_zooid"))
            .env("ZOO_LOG_DIR", self.dir.join("logs"))
            .env_remove("ZOOPIDFILE")
            .env_remove("JVMFLAGS")
            .env_remove("SERVER_JVMFLAGS")
            .output()
            .unwrap()
    }

    /// What the script's server has said since it was started.
    fn server_log(&self) -> String {
        let logs = std::fs::read_dir(self.dir.join("logs")).unwrap().flatten();
        let out = logs.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "out"));
        std::fs::read_to_string(out.expect("it writes there")).unwrap()
    }

    fn zooid(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_zooid"))
            .args(arguments)
            .arg(self.config())
            .env_remove("JVMFLAGS")
            .env_remove("SERVER_JVMFLAGS")
            .output()
            .unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.script("stop");
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

// 8.5 #69, #70
#[test]
fn the_start_script_says_what_java_s_says() {
    let place = Place::new("script");
    let stop = place.script("stop");
    assert!(stop.status.success());
    assert!(stdout(&stop).contains("no zookeeper to stop (could not find file"), "{}", stdout(&stop));

    let before = place.script("status");
    assert_eq!(before.status.code(), Some(1));
    assert!(
        stdout(&before).ends_with("Error contacting service. It is probably not running.\n"),
        "{}",
        stdout(&before)
    );

    let start = place.script("start");
    assert!(start.status.success(), "{}{}", stdout(&start), stderr(&start));
    assert!(stdout(&start).contains("Starting zookeeper ... STARTED"), "{}", stdout(&start));
    assert!(stderr(&start).contains(&format!("Using config: {}", place.config().display())), "{}", stderr(&start));

    let again = place.script("start");
    assert_eq!(again.status.code(), Some(1));
    assert!(stdout(&again).contains("already running as process "), "{}", stdout(&again));

    let status = place.script("status");
    assert!(status.status.success(), "{}", stdout(&status));
    let text = stdout(&status);
    assert!(
        text.contains(&format!("Client port found: {}. Client address: localhost. Client SSL: false.", place.port))
    );
    assert!(text.ends_with("Mode: standalone\n"), "{text}");

    let stop = place.script("stop");
    assert!(stdout(&stop).contains("Stopping zookeeper ... STOPPED"), "{}", stdout(&stop));
    let mut word = String::new();
    let gone = TcpStream::connect(("127.0.0.1", place.port)).map(|mut stream| stream.read_to_string(&mut word));
    assert!(gone.is_err(), "it still listens");
}

#[test]
fn a_snapshot_of_a_stopped_server_is_one_that_the_next_start_uses() {
    let place = Place::new("snapshot");
    let started = place.script("start");
    assert!(started.status.success(), "{}", stderr(&started));
    let running = place.zooid(&["snapshot"]);
    assert_eq!(running.status.code(), Some(1), "the directory is in use");
    assert!(stderr(&running).contains("another process"), "{}", stderr(&running));
    // A session, so that there is something to write.
    let connect = [&[0, 0, 0, 44][..], &[0; 12], &[0, 0, 0x75, 0x30], &[0; 8], &[0, 0, 0, 16], &[0; 16]].concat();
    let mut stream = TcpStream::connect(("127.0.0.1", place.port)).unwrap();
    std::io::Write::write_all(&mut stream, &connect).unwrap();
    stream.read_exact(&mut [0; 40]).unwrap();
    place.script("stop");

    let taken = place.zooid(&["snapshot"]);
    assert!(taken.status.success(), "{}", stderr(&taken));
    assert!(place.data().join("version-2/snapshot.1").is_file(), "{}", stderr(&taken));
    let again = place.zooid(&["snapshot"]);
    assert!(
        again.status.success() && stderr(&again).contains("there is a snapshot of 0x1 already"),
        "{}",
        stderr(&again)
    );
    std::fs::remove_dir_all(place.data().join("zooid/image")).unwrap();
    let started = place.script("start");
    assert!(started.status.success(), "{}", stderr(&started));
    assert!(stdout(&place.script("status")).ends_with("Mode: standalone\n"));
    place.script("stop");

    // A member's image stays the member's.
    let [quorum, election] = free_ports();
    let member = format!("initLimit=5\nsyncLimit=5\nstandaloneEnabled=false\nserver.1=127.0.0.1:{quorum}:{election}\n");
    place.configure(&member);
    std::fs::write(place.data().join("myid"), "1\n").unwrap();
    let served = || {
        let started = place.script("start");
        assert!(started.status.success(), "{}", stderr(&started));
        place.script("stop");
        place.server_log()
    };
    served();
    let taken = place.zooid(&["snapshot"]);
    assert!(taken.status.success(), "{}", stderr(&taken));
    let log = served();
    assert!(log.contains("image=Used"), "{log}");
}

#[test]
fn a_configuration_is_looked_at_and_nothing_is_touched() {
    let place = Place::new("check");
    let _taken = TcpListener::bind(("127.0.0.1", place.port)).unwrap();
    let accepted = place.zooid(&["check"]);
    assert!(accepted.status.success() && stderr(&accepted).contains("accepted"), "{}", stderr(&accepted));
    place.configure("initLimit=5\nsyncLimit=5\nserver.1=localhost:2888:3888\nserver.2=other:2888:3888\n");
    let refused = place.zooid(&["check"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("myid file is missing"), "{}", stderr(&refused));
    place.configure("clientPortAddress=no-such-host.invalid\n");
    let refused = place.zooid(&["server"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("clientPortAddress=no-such-host.invalid: unknown host"), "{}", stderr(&refused));
    assert!(stderr(&refused).ends_with("Invalid config, exiting abnormally\n"), "{}", stderr(&refused));
    assert!(!place.data().exists());
}

#[test]
fn without_a_client_port_only_a_member_is_of_use() {
    let place = Place::new("portless");
    let without_port = |more: &str| {
        std::fs::write(place.config(), format!("tickTime=2000\ndataDir={}\n{more}", place.data().display())).unwrap();
        place.zooid(&["check"])
    };
    let alone = without_port("");
    assert_eq!(alone.status.code(), Some(2), "{}", stderr(&alone));
    assert!(stderr(&alone).contains("nobody could reach this server"), "{}", stderr(&alone));
    std::fs::create_dir_all(place.data()).unwrap();
    std::fs::write(place.data().join("myid"), "1\n").unwrap();
    let votes = without_port("initLimit=5\nsyncLimit=5\nserver.1=localhost:2888:3888\nserver.2=other:2888:3888\n");
    assert!(votes.status.success(), "{}", stderr(&votes));
}

// config-and-operations 8.5 #26 to #28, on-disk 1.1
#[test]
fn directories_that_cannot_be_used_end_the_start_with_3() {
    let place = Place::new("directories");
    let unusable = |place: &Place, what: &str| {
        let refused = place.zooid(&["server"]);
        assert_eq!(refused.status.code(), Some(3), "{what}: {}", stderr(&refused));
        let said = stderr(&refused);
        assert!(said.ends_with("Unable to access datadir, exiting abnormally\n"), "{what}: {said}");
        said
    };
    std::fs::write(place.data(), "a file").unwrap();
    assert!(unusable(&place, "a file").contains("Unable to create"));
    std::fs::remove_file(place.data()).unwrap();
    place.configure("datadir.autocreate=false\n");
    assert!(unusable(&place, "not there").contains("automatic data directory creation is disabled"));
    assert!(!place.data().exists(), "it is to be made by hand, where the volume is mounted");
    // The same for the log's.
    place.configure(&format!("dataLogDir={}\n", place.config().join("below-a-file").display()));
    assert!(unusable(&place, "below a file").contains("Unable to create"));
}

#[test]
fn what_is_not_built_yet_refuses_the_start_and_says_so() {
    let place = Place::new("refused");
    for (line, named) in [
        ("observerMasterPort=1\n", "observerMasterPort"),
        ("oraclePath=/oracle\n", "oraclePath"),
        ("secureClientPort=1\n", "secureClientPort"),
        ("audit.enable=true\n", "audit.enable"),
        ("sslQuorum=true\n", "sslQuorum"),
    ] {
        place.configure(line);
        std::fs::create_dir_all(place.data()).unwrap();
        std::fs::write(place.data().join("myid"), "1\n").unwrap();
        let refused = place.zooid(&["server"]);
        assert_eq!(refused.status.code(), Some(2), "{line}: {}", stderr(&refused));
        assert!(stderr(&refused).contains(named), "{line}: {}", stderr(&refused));
    }
}
