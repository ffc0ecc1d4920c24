//! Three members, eight clients, and everything that can go wrong with processes, networks and disks, one thing after
//! another and sometimes two at once. Afterwards the history of the clients is judged
//! (`compat_tests::history`): whatever was promised must have been kept.
//!
//! Each member is a host of its own (`compat_tests::hosts`) with a disk of its own, which needs root; without
//! that the test fails. A run in which little was asked for proves little, so that is a failure too.
//!
//! `ZOOID_CHAOS_ROUNDS` sets the number of faults, `ZOOID_CHAOS_SEED` another seed, `ZOOID_SERVER=java` puts the
//! same to Java, which breaks some of these promises: it holds a write against the rights from before a setACL that is
//! under way, and a leader does not take a follower's request for a sign of life. What happened is printed as a table; after a failure the members' directories, the time line and the
//! history are kept.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use compat_tests::history::check::{Report, Sync, check};
use compat_tests::history::log::{self, Archive};
use compat_tests::history::record::{Reader, Recording};
use compat_tests::history::{Calm, History};
use compat_tests::hosts::{self, Disk, HUB, Network};
use compat_tests::random::Random;
use compat_tests::shim::{Failing, Shim, Syncs};
use compat_tests::{Kind, java, zooid};

const MEMBERS: usize = 3;
const CLIENTS: usize = 8;
/// Requests a second of each client, when nothing fails.
const RATE: u64 = 150;
/// As large as a run can need, and small enough to fill.
const DISK_BYTES: u64 = 768 << 20;

/// Until somebody can write again when everything works, and until everybody serves.
const RECOVERY: Duration = Duration::from_secs(60);
/// Answers a second that make a run worth judging.
const TRAFFIC: u64 = 100;

#[test]
fn everything_that_was_promised_is_kept() {
    if !hosts::inside("everything_that_was_promised_is_kept") {
        return;
    }
    let number = |key, default| std::env::var(key).map_or(default, |value| value.parse().expect("a number"));
    let mut world = World::new(number("ZOOID_CHAOS_SEED", 1));
    world.run(number("ZOOID_CHAOS_ROUNDS", 100) as usize);
}

/// The tools of all this: a cut loses what one end sends and nothing else, and when it is healed that arrives.
#[test]
fn a_cut_works_in_one_direction() {
    if !hosts::inside("a_cut_works_in_one_direction") {
        return;
    }
    let network = Network::new(1);
    let mut command = network.command(0, Path::new("python3"));
    let server = "import socket\n\
                  s = socket.create_server(('0.0.0.0', 5000))\n\
                  c, _ = s.accept()\n\
                  while d := c.recv(100): c.sendall(d)";
    let mut echo = hosts::spawn(command.args(["-c", server])).expect("cannot run python3");
    let deadline = Instant::now() + RECOVERY;
    let mut socket = loop {
        match TcpStream::connect(network.address(0, 5000)) {
            Ok(socket) => break socket,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
    };
    let mut buffer = [0; 1];
    for (from, to) in [(0, HUB), (HUB, 0)] {
        socket.set_read_timeout(None).expect("a timeout can be set");
        socket.write_all(b"1").expect("it can be sent");
        socket.read_exact(&mut buffer).expect("the echo answers");
        network.cut(from, to);
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a timeout can be set");
        socket.write_all(b"2").expect("it can be sent");
        socket.read_exact(&mut buffer).expect_err("nothing comes through");
        network.heal();
        socket.set_read_timeout(Some(RECOVERY)).expect("a timeout can be set");
        socket.read_exact(&mut buffer).expect("what was lost is sent again");
    }
    echo.kill().expect("it can be killed");
    echo.wait().expect("it can be awaited");
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Fault {
    KillOne,
    KillLeader,
    KillMajority,
    KillAll,
    PauseOne,
    PauseLeader,
    PauseMajority,
    /// One member hears nobody and is heard by nobody.
    Isolate,
    IsolateLeader,
    /// The leader hears and is not heard, or the other way round.
    LeaderMute,
    LeaderDeaf,
    /// Two that do not hear each other, and both hear the third.
    Bridge,
    /// One direction between two.
    OneWay,
    AllApart,
    /// A member whose cable comes and goes.
    Flapping,
    /// Members cannot reach clients.
    CutOff,
    SyncFails,
    WriteFails,
    SyncHangs,
    DiskFull,
}

use Fault::*;

const FAULTS: &[(usize, Fault)] = &[
    (6, KillOne),
    (8, KillLeader),
    (4, KillMajority),
    (5, KillAll),
    (4, PauseOne),
    (8, PauseLeader),
    (4, PauseMajority),
    (5, Isolate),
    (8, IsolateLeader),
    (5, LeaderMute),
    (5, LeaderDeaf),
    (5, Bridge),
    (4, OneWay),
    (4, AllApart),
    (5, Flapping),
    (3, CutOff),
    (4, SyncFails),
    (3, WriteFails),
    (6, SyncHangs),
    (4, DiskFull),
];

struct Member {
    host: usize,
    kind: Kind,
    directory: PathBuf,
    disk: Disk,
    data_dir: PathBuf,
    shim: Shim,
    process: Option<Child>,
    is_paused: bool,
    /// A fault makes it end by itself.
    may_end: bool,
}

struct World {
    seed: u64,
    random: Random,
    tick: Duration,
    directory: PathBuf,
    network: Network,
    members: Vec<Member>,
    archive: Archive,
    began: Instant,
    /// What was done and when.
    story: String,
    /// Times from the end of a fault to the next answered write.
    recoveries: BTreeMap<Fault, Vec<Duration>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let directory = std::env::temp_dir().join(format!("zooid-chaos-run-{seed}"));
        let _ = fs::remove_dir_all(&directory);
        let network = Network::new(MEMBERS);
        let kind = Kind::under_test();
        if let Kind::Java(version) = &kind {
            java::jars(version);
        }
        // A JVM needs a while for everything.
        let tick = Duration::from_millis(if kind == Kind::Zooid { 200 } else { 500 });
        let member = |host: usize| {
            let directory = directory.join(format!("{}", host + 1));
            fs::create_dir_all(&directory).expect("a directory can be made");
            let disk = Disk::mount(&directory.join("disk"), DISK_BYTES);
            let data_dir = disk.path().join("data");
            fs::create_dir(&data_dir).expect("a directory can be made");
            fs::write(data_dir.join("myid"), format!("{}\n", host + 1)).expect("cannot write myid");
            let shim = Shim::without_trace();
            let kind = kind.clone();
            Member { host, kind, directory, disk, data_dir, shim, process: None, is_paused: false, may_end: false }
        };
        let members: Vec<Member> = (0..MEMBERS).map(member).collect();
        let place = |member: &Member| (member.data_dir.clone(), member.disk.path().join("archive"));
        let archive = Archive::start(&members.iter().map(place).collect::<Vec<_>>());
        Self {
            seed,
            random: Random(seed),
            tick,
            directory,
            network,
            members,
            archive,
            began: Instant::now(),
            story: String::new(),
            recoveries: BTreeMap::new(),
        }
    }

    fn run(&mut self, rounds: usize) {
        for at in 0..MEMBERS {
            self.start(at);
        }
        self.await_all();
        let addresses: Vec<SocketAddr> = (0..MEMBERS).map(|host| self.network.address(host, 2181)).collect();
        let recording = Recording::start(CLIENTS, &addresses, RATE, self.seed);
        self.began = Instant::now();
        self.await_writes(&recording);
        for round in 0..rounds {
            let fault = self.random.weighted(FAULTS);
            let fault = match fault {
                // The library is made for our server.
                SyncFails | WriteFails | SyncHangs | DiskFull if self.members[0].kind != Kind::Zooid => KillLeader,
                fault => fault,
            };
            self.say(&format!("round {round}: {fault:?}"));
            self.strike(fault);
            self.mend();
            if self.random.percent(80) {
                let recovery = self.await_writes(&recording);
                self.recoveries.entry(fault).or_default().push(recovery);
            } else {
                self.recoveries.entry(fault).or_default();
            }
            if self.random.percent(20) {
                self.await_all();
            }
            self.check_processes();
        }
        let took = self.began.elapsed();
        let history = self.conclude(recording, addresses);
        // A leader of Java's that has been left may still answer.
        let sync = if self.members[0].kind == Kind::Zooid { Sync::Linearizable } else { Sync::Sequential };
        let report = check(&history, sync);
        self.print(rounds, took, &report);
        let answers = (report.figures.writes + report.figures.reads) as u64;
        let is_enough = answers >= TRAFFIC * took.as_secs();
        if !report.violations.is_empty() || !is_enough {
            let kept = self.keep(Some(&history), Some(&report));
            let first: Vec<String> = report
                .violations
                .iter()
                .map(|violation| format!("{:?}: {}", violation.property, violation.what))
                .collect();
            panic!(
                "seed {}: {} promises broken, {answers} answers in {took:?}; {kept}\n{}",
                self.seed,
                report.violations.len(),
                first.join("\n")
            );
        }
        let _ = self.members.iter_mut().map(Member::kill).count();
        for member in &self.members {
            let _ = Command::new("umount").arg(member.disk.path()).status();
        }
        let _ = fs::remove_dir_all(&self.directory);
    }

    /// Calm, a last full read of every member, and what the members have in their logs.
    fn conclude(&mut self, recording: Recording, addresses: Vec<SocketAddr>) -> History {
        self.say("calm");
        self.await_writes(&recording);
        self.await_all();
        let clock = recording.clock();
        let from = clock.now();
        // Long enough for every session that was left behind to expire, while others work.
        let longest = Duration::from_millis(4000) + 2 * self.tick + Duration::from_secs(2);
        self.hold(longest);
        let mut history = recording.finish();
        let deadline = Instant::now() + RECOVERY;
        let mut connect = |at: usize, address: SocketAddr| loop {
            match Reader::connect(at, address) {
                Ok(reader) => break reader,
                Err(why) if Instant::now() > deadline => self.fail(&why),
                Err(_) => pause(),
            }
        };
        let mut readers: Vec<Reader> = Vec::new();
        for (at, address) in addresses.iter().enumerate() {
            readers.push(connect(at, *address));
        }
        history.dumps = loop {
            // Sessions of the clients go on expiring for a while.
            let dumps: Result<Vec<_>, _> = readers.iter_mut().map(Reader::dump).collect();
            let what = match dumps {
                Ok(dumps) if dumps.iter().all(|dump| dump.zxid == dumps[0].zxid) => break dumps,
                Ok(dumps) => format!("members stay at {:x?}", dumps.iter().map(|d| d.zxid).collect::<Vec<_>>()),
                Err(why) => why,
            };
            if Instant::now() > deadline {
                self.fail(&format!("no convergence: {what}"));
            }
            pause();
        };
        history.calm = Some(Calm { from, to: clock.now(), tick: self.tick });
        for member in &mut self.members {
            member.kill();
        }
        for at in 0..MEMBERS {
            match log::read(&self.members[at].data_dir) {
                Ok(records) => history.logs.push(records),
                Err(why) => self.fail(&why),
            }
        }
        match self.archive.complete(&history.logs) {
            Ok(records) => history.logs.push(records),
            Err(why) => self.fail(&why),
        }
        history
    }

    // ---- faults ----

    fn strike(&mut self, fault: Fault) {
        self.members.iter_mut().for_each(|member| member.may_end = false);
        let leader = self.leader();
        let one = self.random.below(MEMBERS);
        let other = (one + 1 + self.random.below(MEMBERS - 1)) % MEMBERS;
        let leader = leader.unwrap_or(one);
        let hold = self.random.weighted(&[(30, 150), (30, 600), (25, 1500), (12, 3000), (3, 9000)]);
        let hold = Duration::from_millis(hold / 2 + self.random.below(hold as usize) as u64);
        self.say(&format!("  leader {}, members {} and {}, {hold:?}", leader + 1, one + 1, other + 1));
        match fault {
            KillOne => self.members[one].kill(),
            KillLeader => self.members[leader].kill(),
            KillMajority => [one, other].into_iter().for_each(|at| self.members[at].kill()),
            KillAll => self.members.iter_mut().for_each(Member::kill),
            PauseOne => self.members[one].pause(),
            PauseLeader => self.members[leader].pause(),
            PauseMajority => [one, other].into_iter().for_each(|at| self.members[at].pause()),
            Isolate => self.isolate(one),
            IsolateLeader => self.isolate(leader),
            LeaderMute => self.others(leader).for_each(|to| self.network.cut(leader, to)),
            LeaderDeaf => self.others(leader).for_each(|from| self.network.cut(from, leader)),
            Bridge => {
                self.network.cut(one, other);
                self.network.cut(other, one);
            }
            OneWay => self.network.cut(one, other),
            AllApart => (0..MEMBERS).for_each(|at| self.isolate(at)),
            Flapping => {
                for _ in 0..2 + self.random.below(4) {
                    self.isolate(one);
                    let up = Duration::from_millis(30 + self.random.below(300) as u64);
                    self.hold(up);
                    self.network.heal();
                    self.hold(up / 2);
                }
                return;
            }
            CutOff => {
                self.network.cut(one, HUB);
                if self.random.percent(50) {
                    self.network.cut(HUB, other);
                }
            }
            SyncFails | WriteFails => {
                let at = if self.random.percent(50) { leader } else { one };
                let what = if fault == SyncFails { Failing::Sync } else { Failing::Write };
                self.members[at].may_end = true;
                self.members[at].shim.fail(what, 1 + self.random.below(5) as u32);
            }
            SyncHangs => {
                let at = if self.random.percent(50) { leader } else { one };
                self.members[at].shim.hang(Syncs::Data);
            }
            DiskFull => {
                let at = if self.random.percent(50) { leader } else { one };
                // Without room for its log it only stops writing; without room for an epoch it must end.
                self.members[at].may_end = true;
                self.members[at].disk.fill();
            }
        }
        self.hold(hold);
    }

    fn others(&self, but: usize) -> impl Iterator<Item = usize> + use<> {
        (0..MEMBERS).filter(move |at| *at != but)
    }

    fn isolate(&self, one: usize) {
        for other in self.others(one) {
            self.network.cut(one, other);
            self.network.cut(other, one);
        }
    }

    /// Takes every fault away.
    fn mend(&mut self) {
        self.network.heal();
        for at in 0..MEMBERS {
            let member = &mut self.members[at];
            member.resume();
            member.shim.let_go();
            for what in [Failing::Sync, Failing::Write] {
                member.shim.fail(what, 0);
            }
            member.disk.free();
            if !member.is_alive() {
                if member.process.take().is_some() && !member.may_end {
                    self.fail(&format!("member {} ended by itself", at + 1));
                }
                self.start(at);
            }
        }
        self.say("  mended");
    }

    fn check_processes(&mut self) {
        for at in 0..MEMBERS {
            if !self.members[at].is_alive() {
                if !self.members[at].may_end {
                    self.fail(&format!("member {} ended by itself", at + 1));
                }
                // What it had to end for came just before that was taken away.
                self.members[at].process = None;
                self.start(at);
            }
        }
    }

    fn start(&mut self, at: usize) {
        let servers: String = (0..MEMBERS)
            .map(|host| format!("server.{}={}:2888:3888\n", host + 1, self.network.address(host, 0).ip()))
            .collect();
        let address = self.network.address(at, 2181).ip();
        let member = &mut self.members[at];
        let text = format!(
            "tickTime={}\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort=2181\nclientPortAddress={address}\n\
             maxClientCnxns=0\npreAllocSize=512\nsnapCount=20000\n4lw.commands.whitelist=*\n{servers}",
            self.tick.as_millis(),
            member.data_dir.display(),
        );
        let config = member.directory.join("zoo.cfg");
        fs::write(&config, text).expect("cannot write zoo.cfg");
        let flags = [("zookeeper.cnxTimeout".to_owned(), "500".to_owned())];
        let plain = match &member.kind {
            Kind::Java(version) => java::command(version, java::Use::Member, &flags, &config),
            Kind::Zooid => zooid::command(&flags, &config),
        };
        let log = File::options().create(true).append(true).open(member.directory.join("server.log"));
        let log = log.expect("cannot open server.log");
        let mut command = self.network.command(member.host, Path::new(plain.get_program()));
        command.args(plain.get_args()).current_dir(&member.directory);
        if member.kind == Kind::Zooid {
            command.envs(member.shim.environment());
        }
        command.stdout(log.try_clone().expect("a log can be shared")).stderr(log);
        member.process = Some(hosts::spawn(&mut command).expect("cannot run nsenter (util-linux)"));
        member.is_paused = false;
    }

    // ---- waiting ----

    /// Who says that it leads.
    fn leader(&self) -> Option<usize> {
        (0..MEMBERS).find(|at| self.mode(*at).is_some_and(|mode| mode == "leader"))
    }

    fn mode(&self, at: usize) -> Option<String> {
        let patience = Duration::from_millis(300);
        let mut socket = TcpStream::connect_timeout(&self.network.address(at, 2181), patience).ok()?;
        socket.set_read_timeout(Some(patience)).ok()?;
        socket.write_all(b"srvr").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        answer.lines().find_map(|line| line.strip_prefix("Mode: ")).map(str::to_owned)
    }

    /// Until every member serves.
    fn await_all(&mut self) {
        let deadline = Instant::now() + RECOVERY;
        loop {
            let modes: Vec<_> = (0..MEMBERS).map(|at| self.mode(at)).collect();
            if modes.iter().all(Option::is_some) {
                return;
            }
            self.check_processes();
            if Instant::now() > deadline {
                self.fail(&format!("not everybody serves: {modes:?}"));
            }
            pause();
        }
    }

    /// Until clients write again; how long that took.
    fn await_writes(&mut self, recording: &Recording) -> Duration {
        let began = Instant::now();
        let before = recording.progress().written();
        while recording.progress().written() < before + 3 {
            if began.elapsed() > RECOVERY {
                self.fail("nobody can write, and everything works");
            }
            pause();
        }
        began.elapsed()
    }

    /// Lets time pass: a fault lasts as long as it lasts.
    fn hold(&self, time: Duration) {
        std::thread::sleep(time);
    }

    // ---- telling ----

    fn say(&mut self, what: &str) {
        let now = self.began.elapsed().as_millis();
        let _ = writeln!(self.story, "{now:>7} ms {what}");
    }

    fn fail(&mut self, why: &str) -> ! {
        let kept = self.keep(None, None);
        panic!("seed {}: {why}; {kept}\n{}", self.seed, tail(&self.story, 20))
    }

    fn print(&self, rounds: usize, took: Duration, report: &Report) {
        println!("\n{:<14} {:>6} {:>12} {:>12}", "fault", "rounds", "median", "longest");
        for (fault, times) in &self.recoveries {
            let mut times = times.clone();
            times.sort();
            let ms = |time: Option<&Duration>| time.map_or("-".into(), |time| format!("{} ms", time.as_millis()));
            let median = ms(times.get(times.len() / 2));
            println!("{:<14} {:>6} {:>12} {:>12}", format!("{fault:?}"), times.len(), median, ms(times.last()));
        }
        let figures = &report.figures;
        let answers = figures.writes + figures.reads;
        println!(
            "seed {}: {rounds} faults in {} s, {} answers ({} a second), {} broken promises\n{figures:?}\n",
            self.seed,
            took.as_secs(),
            answers,
            answers as u64 / took.as_secs().max(1),
            report.violations.len()
        );
    }

    /// Puts everything where it outlives the test.
    fn keep(&mut self, history: Option<&History>, report: Option<&Report>) -> String {
        for member in &mut self.members {
            member.disk.free();
            member.kill();
        }
        let kept = std::env::temp_dir().join(format!("zooid-chaos-{}", self.seed));
        let _ = fs::remove_dir_all(&kept);
        let copied = Command::new("cp").arg("-r").args([&self.directory, &kept]).status();
        let _ = fs::write(kept.join("story.txt"), &self.story);
        if let Some(history) = history {
            let mut text = String::new();
            for (at, link) in history.links.iter().enumerate() {
                let _ = writeln!(
                    text,
                    "link {at} client {} server {} session 0x{:x} timeout {} asked {} attached {} last 0x{:x}",
                    link.client, link.server, link.session, link.timeout_ms, link.asked, link.attached, link.last_seen
                );
                link.operations.iter().for_each(|operation| _ = writeln!(text, "  {at} {operation:?}"));
                for received in &link.received {
                    let _ = writeln!(text, "  {at} {received:?}");
                }
            }
            for record in history.logs.iter().flatten() {
                let _ = writeln!(text, "{record:?}");
            }
            let _ = fs::write(kept.join("history.txt"), text);
        }
        if let Some(report) = report {
            let _ = fs::write(kept.join("report.txt"), format!("{report:#?}"));
        }
        format!("everything is kept in {} ({copied:?})", kept.display())
    }
}

impl Member {
    fn is_alive(&mut self) -> bool {
        self.process.as_mut().is_some_and(|process| matches!(process.try_wait(), Ok(None)))
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    fn pause(&mut self) {
        self.signal("STOP");
        self.is_paused = true;
    }

    fn resume(&mut self) {
        if std::mem::take(&mut self.is_paused) {
            self.signal("CONT");
        }
    }

    fn signal(&self, name: &str) {
        if let Some(process) = &self.process {
            // It may have ended a moment ago, and its number is its own until it is waited for.
            let sent = Command::new("kill").arg(format!("-{name}")).arg(process.id().to_string()).status();
            assert!(sent.is_ok_and(|sent| sent.success()), "SIG{name} can't be sent");
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Between two looks at something that cannot be awaited.
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}
