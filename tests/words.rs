//! What operators ask a running server over its client port: the four-letter words, and the lines of its log
//! (config-and-operations 8.2, 8.5). A real process, real sockets.

#![cfg(feature = "shell")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

struct Server {
    process: Child,
    port: u16,
    log: Receiver<String>,
    dir: PathBuf,
}

impl Server {
    fn start(name: &str, flags: &[&str]) -> Self {
        Self::start_with(name, flags, &[])
    }

    /// `rest` is TICKTIME and MAXCNXNS.
    fn start_with(name: &str, flags: &[&str], rest: &[&str]) -> Self {
        let dir = Self::dir(name);
        let path = dir.to_str().unwrap().to_owned();
        Self::run(dir, flags, &[&["0", &path], rest].concat())
    }

    /// Member `id` of an ensemble with these ports of 127.0.0.1, three for each.
    fn member(id: usize, ports: &[u16], flags: &[&str]) -> Self {
        let dir = Self::dir(&format!("member-{id}"));
        std::fs::write(dir.join("myid"), id.to_string()).unwrap();
        let file = dir.join("zoo.cfg");
        let mut text = format!(
            "tickTime=500\ninitLimit=20\nsyncLimit=10\nclientPort={}\nlocalSessionsEnabled=true\ndataDir={}\n",
            ports[3 * id - 1],
            dir.display()
        );
        for (id, ports) in (1..).zip(ports.chunks(3)) {
            text.push_str(&format!("server.{id}=127.0.0.1:{}:{}\n", ports[0], ports[1]));
        }
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        Self::run(dir, flags, &[&file])
    }

    fn dir(name: &str) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("zooid-words-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        dir
    }

    fn run(dir: PathBuf, flags: &[&str], rest: &[&str]) -> Self {
        let mut server = Self::spawn(dir, flags, rest);
        server.find_port();
        server
    }

    /// It may not serve yet.
    fn spawn(dir: PathBuf, flags: &[&str], rest: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_zooid"))
            .arg("server")
            .args(flags)
            .args(rest)
            .env_remove("SERVER_JVMFLAGS")
            .env_remove("JVMFLAGS")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Self { process, port: 0, log, dir }
    }

    fn find_port(&mut self) {
        let line = self.wait_for_line("serves on port ");
        let port = line.split("serves on port ").nth(1).unwrap();
        self.port = port.split(',').next().unwrap().parse().unwrap();
    }

    /// The next line of the log with `text` in it.
    #[track_caller]
    fn wait_for_line(&self, text: &str) -> String {
        loop {
            match self.log.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(_) => panic!("no line with {text:?}"),
            }
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Everything that the server says before it closes.
    fn ask(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::kill(self.process.id() as i32, signal) }, 0);
    }

    fn mntr(&self, key: &str) -> String {
        let text = self.ask(b"mntr");
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('\t'));
        line.unwrap_or_else(|| panic!("no {key} in\n{text}")).to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A client, as small as it can be.
struct Session {
    stream: TcpStream,
    xid: i32,
}

impl Session {
    fn open(server: &Server, timeout_ms: i32) -> Self {
        Self::try_open(server, timeout_ms, false).expect("a session").0
    }

    /// With whether the server only reads, unless it closes.
    fn try_open(server: &Server, timeout_ms: i32, read_only: bool) -> Option<(Self, bool)> {
        let mut session = Self { stream: server.connect(), xid: 0 };
        let mut request = Vec::new();
        request.extend(0i32.to_be_bytes());
        request.extend(0i64.to_be_bytes());
        request.extend(timeout_ms.to_be_bytes());
        request.extend(0i64.to_be_bytes());
        request.extend(16i32.to_be_bytes());
        request.extend([0; 16]);
        request.push(read_only.into());
        session.send(&request);
        let mut length = [0; 4];
        session.stream.read_exact(&mut length).ok()?;
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        session.stream.read_exact(&mut body).unwrap();
        Some((session, *body.last().unwrap() == 1))
    }

    fn send(&mut self, body: &[u8]) {
        self.stream.write_all(&[&(body.len() as i32).to_be_bytes(), body].concat()).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).unwrap();
        let mut body = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut body).unwrap();
        body
    }

    /// Sends a request and gives the error that comes back, 0 for none.
    fn ask(&mut self, op: i32, body: &[u8]) -> i32 {
        self.xid += 1;
        self.send(&[&self.xid.to_be_bytes()[..], &op.to_be_bytes(), body].concat());
        let reply = self.receive();
        assert_eq!(reply[..4], self.xid.to_be_bytes());
        i32::from_be_bytes(*reply[12..].first_chunk().unwrap())
    }

    #[track_caller]
    fn request(&mut self, op: i32, body: &[u8]) {
        assert_eq!(self.ask(op, body), 0);
    }

    fn try_create(&mut self, path: &str, data: &str) -> i32 {
        let acl = [&1i32.to_be_bytes()[..], &31i32.to_be_bytes(), &text("world"), &text("anyone")].concat();
        self.ask(1, &[&text(path)[..], &text(data), &acl, &0i32.to_be_bytes()].concat())
    }

    #[track_caller]
    fn create(&mut self, path: &str) {
        assert_eq!(self.try_create(path, ""), 0);
    }

    #[track_caller]
    fn get_data_and_watch(&mut self, path: &str) {
        self.request(4, &[&text(path)[..], &[1]].concat());
    }

    #[track_caller]
    fn get_children_and_watch(&mut self, path: &str) {
        self.request(8, &[&text(path)[..], &[1]].concat());
    }
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as i32).to_be_bytes(), text.as_bytes()].concat()
}

const ALL: &str = "-Dzookeeper.4lw.commands.whitelist=*";

// config 8.2 #33, #39, #40
#[test]
fn by_default_only_srvr_is_answered() {
    let server = Server::start("default", &[]);
    assert_eq!(server.ask(b"ruok"), "ruok is not executed because it is not in the whitelist.\n");
    assert_eq!(server.ask(b"stmk\n"), "stmk is not executed because it is not in the whitelist.\n");
    let srvr = server.ask(b"srvr");
    assert!(srvr.starts_with("Zookeeper version: 3.9.5-"), "{srvr}");
    assert_eq!(srvr.lines().count(), 9, "{srvr}");
    assert!(srvr.contains("\nMode: standalone\n"), "{srvr}");
    assert!(srvr.contains("\nConnections: 1\n"), "the connection that asks counts: {srvr}");
}

// config 8.2 #34
#[test]
fn the_whitelist_says_who_is_answered() {
    let server = Server::start("whitelist", &["-Dzookeeper.4lw.commands.whitelist=mntr, ruok"]);
    assert_eq!(server.ask(b"ruok"), "imok");
    assert!(server.ask(b"mntr").starts_with("zk_version\t"));
    assert!(server.ask(b"srvr").contains("\nMode: standalone\n"));
    assert_eq!(server.ask(b"stat"), "stat is not executed because it is not in the whitelist.\n");
}

// config 8.2 #35, #36, #37, #41, #43, #47
#[test]
fn a_word_gets_its_answer_and_then_the_end() {
    let server = Server::start("words", &[ALL]);
    assert_eq!(server.ask(b"ruok"), "imok");
    assert_eq!(server.ask(b"ruok\n"), "imok");
    server.wait_for_line("Processing ruok command from /127.0.0.1:");
    assert_eq!(server.ask(b"isro"), "rw");
    assert_eq!(server.ask(b"\xff\xf4\xff\xfd"), "");
    assert_eq!(server.ask(b"gtmk"), "306");
    assert_eq!(server.ask(b"stmk\0\0\0\0\0\0\0\x07"), "7");
    assert_eq!(server.ask(b"gtmk"), "7");
    assert_eq!(server.ask(b"wchs"), "0 connections watching 0 paths\nTotal watches:0\n");
    assert_eq!(server.ask(b"hash"), "");
    let mntr = server.ask(b"mntr");
    assert!(mntr.starts_with("zk_version\t3.9.5-"), "{mntr}");
    assert_eq!(mntr.lines().nth(1), Some("zk_server_state\tstandalone"));
    assert!(mntr.contains("\nzk_avg_latency\t0.0\n"), "{mntr}");
    let conf = server.ask(b"conf");
    assert!(conf.starts_with(&format!("clientPort={}\n", server.port)), "{conf}");
    assert!(conf.ends_with("\nserverId=0\n"), "{conf}");
    for unknown in [b"RUOK", b"abcd"] {
        assert_eq!(server.ask(unknown), "");
        let line = server.wait_for_line("Len error. A message from /127.0.0.1:");
        assert!(line.contains("is either a malformed message or too large to process"), "{line}");
    }
    // No ConnectRequest is so long, and who has no session is lent no memory for it.
    assert_eq!(server.ask(&5000_i32.to_be_bytes()), "");
    let line = server.wait_for_line("Len error. A message from /127.0.0.1:");
    assert!(line.contains("advertised length of 5000") && line.contains("ConnectRequest=4096"), "{line}");
}

// config 8.2 #44
#[test]
fn srst_starts_counting_from_zero() {
    let server = Server::start("srst", &[ALL]);
    let mut session = Session::open(&server, 30_000);
    session.create("/app");
    assert_ne!(server.mntr("zk_cnt_fsynctime"), "0");
    assert_eq!(server.mntr("zk_cnt_updatelatency"), "2", "the session and the node");
    assert_eq!(server.ask(b"srst"), "Server stats reset.\n");
    let srvr = server.ask(b"srvr");
    assert!(srvr.contains("\nLatency min/avg/max: 0/0.0/0\nReceived: 1\nSent: 1\n"), "{srvr}");
    for key in ["zk_cnt_fsynctime", "zk_cnt_updatelatency", "zk_sum_updatelatency", "zk_connection_request_count"] {
        assert_eq!(server.mntr(key), "0", "{key}");
    }
    assert_eq!(server.mntr("zk_global_sessions"), "1", "what is so stays so");
}

// config 8.2 #45, #46, #48, #49
#[test]
fn sessions_watches_and_connections_are_shown() {
    let server = Server::start("shown", &[ALL]);
    let mut session = Session::open(&server, 30_000);
    session.create("/app");
    session.get_data_and_watch("/app");
    session.get_children_and_watch("/app");
    assert_eq!(server.ask(b"wchs"), "1 connections watching 1 paths\nTotal watches:1\n");
    assert_eq!(server.mntr("zk_watch_count"), "2");
    let wchp = server.ask(b"wchp");
    let id = wchp.strip_prefix("/app\n\t").and_then(|rest| rest.strip_suffix("\n\n")).expect(&wchp);
    assert_eq!(server.ask(b"wchc"), format!("{id}\n\t/app\n\n"));

    let cons = server.ask(b"cons");
    let lines: Vec<&str> = cons.lines().collect();
    assert_eq!(lines.len(), 3, "two connections and an empty line: {cons}");
    let own = session.stream.local_addr().unwrap();
    let expected = format!(" /{own}[1](queued=0,recved=4,sent=4,sid={id},lop=GETC,est=");
    assert!(lines[0].starts_with(&expected), "{cons}");
    assert!(lines[0].contains(",to=30000,lcxid=0x3,lzxid=0x2,lresp="), "{cons}");
    assert!(lines[1].ends_with("[0](queued=0,recved=1,sent=0)") && lines[2].is_empty(), "{cons}");
    assert_eq!(server.ask(b"crst"), "Connection stats reset.\n");
    assert!(server.ask(b"cons").contains("(queued=0,recved=0,sent=0,sid="));

    let dump = server.ask(b"dump");
    assert!(dump.starts_with("SessionTracker dump:\nSession Sets (1)/(1):\n1 expire at "), "{dump}");
    assert!(dump.contains(&format!("\n\t{id}\nephemeral nodes dump:\nSessions with Ephemerals (0):\n")), "{dump}");
    assert!(dump.contains(&format!("\tip: /{own} sessionId: {id}\n")), "{dump}");

    let dirs = server.ask(b"dirs");
    let size = dirs.lines().next().and_then(|line| line.strip_prefix("datadir_size: ")).unwrap();
    assert!(size.parse::<u64>().unwrap() >= 67_108_880, "{dirs}");
    assert_eq!(server.mntr("zk_cnt_app_write_per_namespace"), "1");
    assert_eq!(server.mntr("zk_sum_app_read_per_namespace"), (2 * (4 + 68)).to_string());
}

// config 8.2 #46
#[test]
fn netty_lists_no_connections() {
    let netty = "-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory";
    let server = Server::start("netty", &[ALL, netty]);
    assert!(server.ask(b"dump").ends_with("\nConnections dump:\n"));
}

// config 5.3, 7.2
#[test]
fn exceeded_quotas_are_counted_and_named_in_the_log() {
    const QUOTA_EXCEEDED: i32 = -125;
    let server = Server::start("quota", &[ALL, "-Dzookeeper.enforceQuota=true"]);
    let mut session = Session::open(&server, 30_000);
    session.create("/app");
    session.create("/zookeeper/quota/app");
    let limits = "count=-1,bytes=-1,byteHardLimit=-1;countHardLimit=2";
    assert_eq!(session.try_create("/zookeeper/quota/app/zookeeper_limits", limits), 0);
    assert_eq!(session.try_create("/zookeeper/quota/app/zookeeper_stats", "count=0,bytes=0"), 0);
    session.create("/app/a");
    assert_eq!(session.try_create("/app/b", ""), QUOTA_EXCEEDED);
    server.wait_for_line("Quota exceeded: /app [current count=3, hardCountLimit=2]");
    for (key, value) in [
        ("zk_app_quota_exceeded_error_per_namespace", "1"),
        ("zk_app_quota_count_limit_per_namespace", "2"),
        ("zk_app_quota_bytes_limit_per_namespace", "-1"),
        ("zk_app_quota_count_usage_per_namespace", "2"),
    ] {
        assert_eq!(server.mntr(key), value, "{key}");
    }
}

// config 3.1, 5.3
#[test]
fn a_connection_that_says_nothing_is_given_up() {
    let server = Server::start("silent", &[ALL, "-Dzookeeper.nio.sessionlessCnxnTimeout=1000"]);
    let mut stream = server.connect();
    stream.write_all(b"ruo").unwrap();
    assert_eq!(stream.read(&mut [0; 1]).unwrap_or(0), 0);
    wait_for(&server, "mntr", "\nzk_sessionless_connections_expired\t1\n");
}

// config 8.5 #76
#[test]
fn an_expired_session_is_named_in_the_log() {
    let server = Server::start_with("expiry", &[], &["50"]);
    drop(Session::open(&server, 100));
    server.wait_for_line("Unable to read additional data from client, it probably closed the socket: address = /");
    let line = server.wait_for_line("Expiring session 0x");
    assert!(line.contains(", timeout of 100ms exceeded"), "{line}");
}

// config 8.5 #77
#[test]
fn connections_above_the_limit_are_closed() {
    let server = Server::start_with("limit", &[ALL], &["2000", "2"]);
    let (first, _second) = (Session::open(&server, 30_000), Session::open(&server, 30_000));
    let mut third = server.connect();
    assert_eq!(third.read(&mut [0; 1]).unwrap_or(0), 0, "closed without a byte");
    server.wait_for_line("Too many connections from /127.0.0.1 - max is 2");
    drop(first);
    server.wait_for_line("Unable to read additional data");
    // The line comes a moment before there is room.
    let rejected = std::iter::repeat_with(|| server.connect()).take(500).find_map(|mut stream| {
        let mut answer = String::new();
        let _ = stream.write_all(b"mntr");
        let _ = stream.read_to_string(&mut answer);
        answer.lines().find_map(|line| line.strip_prefix("zk_connection_rejected\t")?.parse::<u64>().ok())
    });
    assert!(rejected >= Some(1));
}

/// Until a word has this answer.
#[track_caller]
// A server that was told to stop may be busy with its image for a while, and zkServer.sh does not wait for that.
#[test]
fn a_start_waits_until_the_former_server_has_ended() {
    let dir = Server::dir("former");
    std::fs::create_dir_all(dir.join("zooid")).unwrap();
    let lock = std::fs::File::create(dir.join("zooid/lock")).unwrap();
    lock.lock().unwrap();
    let path = dir.to_str().unwrap().to_owned();
    let mut server = Server::spawn(dir, &[], &["0", &path]);
    server.wait_for_line("is locked by another process, which serves it: waiting up to");
    drop(lock);
    server.find_port();
    assert!(server.ask(b"srvr").contains("\nMode: standalone\n"));
}

fn wait_for(server: &Server, word: &str, expected: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = server.ask(word.as_bytes());
        if answer.contains(expected) {
            return;
        }
        assert!(Instant::now() < end, "{word} without {expected:?}: {answer}");
        std::thread::yield_now();
    }
}

// config 8.2 #36, #38, #41, #42, #46, 8.5 #75; client-protocol 11 #29, #96; data-model 13 #92
#[test]
fn a_member_says_what_has_become_of_it() {
    let free = [(); 9].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let ports = free.each_ref().map(|listener| listener.local_addr().unwrap().port());
    drop(free);
    let flags = [ALL, "-Dreadonlymode.enabled=true", "-Dzookeeper.leader.ackLoggingFrequency=1"];
    let one = Server::member(1, &ports, &flags);
    let dead = "This ZooKeeper instance is not currently serving requests";
    assert_eq!(one.ask(b"ruok"), "imok");
    // Two seconds from the beginning of the election: enough to see it before.
    assert_eq!(one.ask(b"isro"), "null");
    assert_eq!(one.ask(b"stat"), format!("{dead}\n"));
    assert_eq!(one.ask(b"hash"), dead);

    wait_for(&one, "isro", "ro");
    assert!(one.ask(b"srvr").contains("\nMode: read-only\n"));
    assert!(Session::try_open(&one, 30_000, false).is_none(), "who does not ask for it is not served");
    let (mut session, is_read_only) = Session::try_open(&one, 30_000, true).unwrap();
    assert!(is_read_only);
    assert_eq!(session.try_create("/a", ""), -119);
    assert_eq!(session.ask(9, &text("/")), -119);
    assert_eq!(session.ask(1, &[]), -119, "it is not even decoded");
    session.get_children_and_watch("/");

    let two = Server::member(2, &ports, &flags);
    two.wait_for_line("LEADING - LEADER ELECTION TOOK - ");
    one.wait_for_line("FOLLOWING - LEADER ELECTION TOOK - ");
    wait_for(&one, "isro", "rw");
    wait_for(&two, "mntr", "\nzk_synced_followers\t1\n");
    let (session, is_read_only) = Session::try_open(&one, 30_000, false).unwrap();
    assert!(!is_read_only);
    drop(session);

    for (server, state, peer_state) in
        [(&one, "follower", "following - broadcast"), (&two, "leader", "leading - broadcast")]
    {
        let mntr = server.ask(b"mntr");
        let lines: Vec<&str> = mntr.lines().collect();
        assert_eq!(lines[1], format!("zk_server_state\t{state}"));
        assert_eq!(lines[2], format!("zk_peer_state\t{peer_state}"));
        assert_eq!(server.mntr("zk_quorum_size"), "3");
        assert!(server.ask(b"srvr").contains(&format!("\nMode: {state}\n")));
    }
    assert_eq!(two.mntr("zk_learners"), "1");
    assert!(!one.ask(b"mntr").contains("zk_synced_followers"));
    assert!(two.ask(b"dump").contains("Session Sets ("), "{}", two.ask(b"dump"));
    assert!(one.ask(b"dump").contains("Global Sessions("), "{}", one.ask(b"dump"));

    // A write through the follower is prepared, proposed and agreed on by the leader.
    let (mut session, _) = Session::try_open(&one, 30_000, false).unwrap();
    session.create("/counted");
    assert_eq!(session.ask(9, &text("/")), 0);
    let count = |server: &Server, key: &str| server.mntr(key).parse::<u64>().unwrap();
    for (key, at_leader, at_follower) in [
        ("zk_prep_processor_request_queued", 1, 0),
        ("zk_proposal_count", 1, 0),
        ("zk_cnt_quorum_ack_latency", 1, 0),
        ("zk_cnt_proposal_ack_creation_latency", 1, 1),
        ("zk_learner_proposal_received_count", 0, 1),
        ("zk_cnt_commit_propagation_latency", 0, 1),
        ("zk_cnt_follower_sync_time", 0, 1),
        ("zk_diff_count", 1, 0),
        ("zk_cnt_leader_unavailable_time", 1, 0),
        ("zk_cnt_unavailable_time", 1, 1),
    ] {
        for (server, expected) in [(&two, at_leader), (&one, at_follower)] {
            // What a round has counted shows a moment after its replies.
            let end = Instant::now() + PATIENCE;
            while expected > 0 && count(server, key) == 0 && Instant::now() < end {
                std::thread::yield_now();
            }
            assert_eq!(count(server, key) > 0, expected > 0, "{key}");
        }
    }
    for server in [1, 2] {
        wait_for(&two, "mntr", &format!("\nzk_p99_{server}_ack_latency\t"));
    }
    assert!(!one.ask(b"mntr").contains("1_ack_latency"), "only a leader hears of acknowledgements");
    assert_eq!(two.ask(b"srst"), "Server stats reset.\n");
    assert!(!two.ask(b"mntr").contains("_1_ack_latency"));
    for key in ["zk_looking_count", "zk_proposal_count", "zk_cnt_election_time", "zk_diff_count"] {
        assert_eq!(count(&two, key), 0, "{key}");
    }
    assert_eq!(two.mntr("zk_last_proposal_size"), "-1");

    // A leader that is told to stop lets its followers and clients go at once.
    let mut client = Session::open(&two, 30_000);
    two.signal(libc::SIGQUIT);
    two.wait_for_line("SIGQUIT received");
    client.create("/goes-on");
    two.signal(libc::SIGTERM);
    assert_eq!(client.stream.read(&mut [0; 1]).unwrap(), 0);
    one.wait_for_line("LOOKING");
}
