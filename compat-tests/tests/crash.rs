//! 200 kills under load, and what must be there afterwards: everything acknowledged, nothing refused, and of
//! what had no answer each request as a whole or not at all; sessions by their id and password, and their
//! ephemerals; sequence numbers that never repeat; a zxid that never goes back.
//!
//! 50 of them are power cuts: sectors and names that no completed sync covers are lost. The server is watched
//! (`compat_tests::shim`), so that a promise that came too early is seen even when nothing was lost by luck.
//! A disk that lies about its syncs stands in for a server that has none: the tests must notice.
//!
//! `ZOOID_CRASH_ROUNDS` sets the rounds of each test, `ZOOID_CRASH_SEED` another seed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use compat_tests::ledger::{Ledger, Numbered};
use compat_tests::random::Random;
use compat_tests::raw::{ANSWER, Connect, Connection, Received, Reply, Session, request};
use compat_tests::request::{OPEN, create, op};
use compat_tests::shim::{Fate, Lost, Shim, Syncs};
use compat_tests::{Server, Setup};

const CLIENTS: usize = 6;

#[test]
fn a_kill_loses_nothing_acknowledged() {
    let mut world = World::new(1);
    world.rounds(50, |_, _| {}, |_| Setup::standalone());
}

#[test]
fn a_kill_loses_nothing_when_the_image_goes_with_it() {
    let mut world = World::new(2);
    world.rounds(
        50,
        |world, round| {
            let zooid = world.server.data_dir().join("zooid");
            match round % 3 {
                0 => fs::remove_dir_all(zooid.join("image")).expect("there is an image"),
                1 => fs::remove_dir_all(zooid).expect("there is a directory zooid"),
                _ => {}
            }
        },
        |_| Setup::standalone(),
    );
}

#[test]
fn a_kill_among_rolls_snapshots_and_purges_loses_nothing() {
    let mut world = World::new(3);
    world.rounds(
        50,
        |world, round| {
            if round % 4 == 0 {
                fs::remove_dir_all(world.server.data_dir().join("zooid/image")).expect("there is an image");
            }
        },
        busy_upkeep,
    );
    let Figures { snapshots, logs_removed, .. } = world.figures;
    assert!(snapshots > 0 && logs_removed > 0, "{snapshots} snapshots and {logs_removed} purged logs were crossed");
}

#[test]
fn a_power_cut_loses_nothing_acknowledged() {
    let mut world = World::new(4);
    world.holds_syncs = true;
    world.rounds(
        50,
        |world, round| {
            let fate = if round % 4 == 0 { Fate::All } else { Fate::Some };
            world.cut_power(fate);
            let zooid = world.server.data_dir().join("zooid");
            match round % 3 {
                0 => fs::remove_dir_all(zooid.join("image")).expect("there is an image"),
                1 => fs::remove_dir_all(zooid).expect("there is a directory zooid"),
                _ => {}
            }
        },
        |random| if random.percent(50) { busy_upkeep(random) } else { Setup::standalone() },
    );
    let Lost { sectors, files } = world.figures.lost;
    assert!(sectors > 0 && files > 0, "the power cuts took {sectors} sectors and {files} files");
}

/// The planted bug: nothing is synced, and all that is not synced is lost.
#[test]
fn a_server_without_syncs_is_found_out() {
    let mut world = World::on(5, |shim| shim.lie(Syncs::Data));
    world.load();
    world.server.kill9();
    let judgement = world.shim.trace().judge();
    let found = judgement.violations.iter().filter(|violation| violation.contains("its data")).count();
    assert!(found * 2 > judgement.replies, "{found} of {} replies are found out", judgement.replies);
    world.cut_power(Fate::All);
    let lost = match world.restart(&Setup::standalone()) {
        Ok(()) => world.check().err(),
        Err(refused) => Some(refused),
    };
    let lost = lost.expect("nothing was lost without a sync");
    println!("found out: {found} of {} replies, and then {lost}", judgement.replies);
}

/// The other planted bug: a new log's name is not synced.
#[test]
fn a_server_that_does_not_sync_the_directory_is_found_out() {
    let mut world = World::on(6, |shim| shim.lie(Syncs::Directory));
    world.load();
    world.server.kill9();
    let judgement = world.shim.trace().judge();
    let found = judgement.violations.iter().filter(|violation| violation.contains("the name of")).count();
    assert!(found > 0, "none of {} replies is found out", judgement.replies);
}

/// Files that fill within a round, a snapshot every 300 transactions or so, and a purge at each start.
fn busy_upkeep(random: &mut Random) -> Setup {
    Setup::standalone()
        .line("snapCount", "300")
        .line("preAllocSize", random.pick(&["1", "64", "1024"]))
        .line("txnLogSizeLimitInKb", random.pick(&["64", "256", "4096"]))
        .line("autopurge.purgeInterval", "1")
        .line("autopurge.snapRetainCount", "3")
}

/// What happened, for the record.
#[derive(Debug, Default)]
struct Figures {
    rounds: usize,
    acknowledged: u64,
    /// Requests without an answer that had happened, and all of them.
    survived: usize,
    unanswered: usize,
    replies_judged: usize,
    logs_begun: usize,
    logs_removed: usize,
    snapshots: usize,
    lost: Lost,
    visits: usize,
}

/// One server over many lives, and its clients.
struct World {
    seed: u64,
    random: Random,
    shim: Shim,
    server: Server,
    clients: Vec<Ledger>,
    visits: Vec<Visit>,
    /// Most of the kills fall into a sync, so that there is something to lose.
    holds_syncs: bool,
    /// What the last start found, below which no zxid may be given again.
    recovered: i64,
    highest_number: Option<Numbered>,
    /// In version-2, when the server last started.
    files: BTreeSet<String>,
    figures: Figures,
}

impl World {
    fn new(test: u64) -> Self {
        Self::on(test, |_| {})
    }

    /// With a disk that `spoil` has changed from the first start on.
    fn on(test: u64, spoil: impl FnOnce(&Shim)) -> Self {
        let seed = std::env::var("ZOOID_CRASH_SEED").map_or(0, |seed| seed.parse().expect("a number"));
        let seed = (seed << 8) + test;
        let shim = Shim::new();
        spoil(&shim);
        let server = Server::zooid(&shim.watch(&Setup::standalone()));
        let clients = (0..CLIENTS).map(|id| Ledger::new(id, seed << 8 | id as u64)).collect();
        let mut world = Self {
            seed,
            random: Random(seed),
            shim,
            server,
            clients,
            visits: Vec::new(),
            holds_syncs: false,
            recovered: 0,
            highest_number: None,
            files: BTreeSet::new(),
            figures: Figures::default(),
        };
        world.connect().unwrap_or_else(|why| panic!("{why}\n{}", world.server.log()));
        world
    }

    /// Rounds of load, kill, `meanwhile`, restart with a setup, and check.
    fn rounds(&mut self, rounds: usize, meanwhile: impl Fn(&mut Self, usize), setup: impl Fn(&mut Random) -> Setup) {
        let rounds = std::env::var("ZOOID_CRASH_ROUNDS").map_or(rounds, |rounds| rounds.parse().expect("a number"));
        let started = Instant::now();
        for round in 0..rounds {
            self.load();
            self.server.kill9();
            let judgement = self.shim.trace().judge();
            self.figures.replies_judged += judgement.replies;
            self.figures.logs_begun += judgement.files;
            if let Some(first) = judgement.violations.first() {
                let count = judgement.violations.len();
                panic!("seed {}, round {round}: {count} promises too early; {first}", self.seed);
            }
            assert!(judgement.replies > 0, "the shim saw no reply: is the server linked dynamically?");
            meanwhile(self, round);
            let setup = setup(&mut self.random);
            let outcome = self.restart(&setup).and_then(|()| self.check());
            if let Err(why) = outcome {
                let kept = self.keep();
                panic!("seed {}, round {round}: {why}\n{setup:?}\n{kept}\n{}", self.seed, self.server.log());
            }
            self.figures.rounds += 1;
        }
        println!("{:?} in {:?}", self.figures, started.elapsed());
    }

    /// Puts the directory where it outlives the test.
    fn keep(&self) -> String {
        let kept = std::env::temp_dir().join(format!("zooid-crash-{}", self.seed));
        let _ = fs::remove_dir_all(&kept);
        let copied = std::process::Command::new("cp").arg("-r").args([self.server.data_dir(), kept.clone()]).status();
        format!("dataDir is kept as {} ({copied:?})", kept.display())
    }

    /// All clients at work, up to a moment that chance chooses.
    fn load(&mut self) {
        let most = self.random.pick(&[100, 2000, 12_000]);
        let target = 20 + self.random.below(most) as u64;
        let progress = Progress::default();
        let held = match self.random.below(4) {
            _ if !self.holds_syncs => None,
            0 => None,
            1 => Some(Syncs::Directory),
            _ => Some(Syncs::Data),
        };
        let Self { shim, clients, server, random, visits, .. } = self;
        let server = &*server;
        let windows: Vec<_> = clients.iter().map(|_| random.pick(&[1, 8, 32, 100])).collect();
        let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
            let progress = &progress;
            let workers: Vec<_> = clients
                .iter_mut()
                .zip(windows)
                .map(|(client, window)| scope.spawn(move || client.work(window, &|answers| progress.add(answers))))
                .collect();
            let visitor = scope.spawn(move || visits.extend(visit(server)));
            let arrived = progress.wait_for(target);
            if let Some(held) = held.filter(|_| arrived.is_ok()) {
                shim.hang(held);
                // A directory is synced only when a new file happens to be begun.
                shim.wait_for_hung(Duration::from_millis(500));
            }
            // By hand, since the threads share the server until they are over.
            server.signal("KILL");
            let mut outcomes: Vec<_> =
                workers.into_iter().map(|worker| worker.join().expect("a client panicked")).collect();
            visitor.join().expect("the visitor panicked");
            outcomes.push(arrived);
            outcomes
        });
        for outcome in outcomes {
            outcome.unwrap_or_else(|why| panic!("seed {}: {why}\n{}", self.seed, self.server.log()));
        }
    }

    fn cut_power(&mut self, fate: Fate) {
        let lost = self.shim.trace().cut_power(&mut self.random, fate).expect("cannot cut the power");
        self.figures.lost.sectors += lost.sectors;
        self.figures.lost.files += lost.files;
    }

    fn restart(&mut self, setup: &Setup) -> Result<(), String> {
        let data_dir = self.server.data_dir();
        self.server.kill9();
        self.shim.begin(Some(&data_dir));
        let names = fs::read_dir(data_dir.join("version-2")).expect("there is a version-2");
        let names = names.filter_map(|entry| entry.expect("it can be listed").file_name().into_string().ok());
        let files: BTreeSet<String> = names.collect();
        let is_gone = |name: &&String| name.starts_with("log.") && !files.contains(*name);
        self.figures.logs_removed += self.files.iter().filter(is_gone).count();
        self.figures.snapshots += files.difference(&self.files).filter(|name| name.starts_with("snapshot.")).count();
        self.files = files;
        self.server.set_up(&self.shim.watch(setup));
        self.server.try_restart().map_err(|ended| format!("no start: exit code {:?}\n{}", ended.code, ended.log))?;
        Ok(())
    }

    fn connect(&mut self) -> Result<(), String> {
        self.clients.iter_mut().try_for_each(|client| client.connect(&self.server))
    }

    /// Everything that must hold after a restart.
    fn check(&mut self) -> Result<(), String> {
        let recovered = last_zxid(&self.server)?;
        let seen = self.clients.iter().map(|client| client.seen).max().unwrap_or(0);
        if recovered < seen {
            return Err(format!("0x{seen:x} was shown, and now the last zxid is 0x{recovered:x}"));
        }
        self.connect()?;
        self.check_written()?;
        for client in &mut self.clients {
            self.figures.unanswered += client.unanswered();
            self.figures.survived += client.settle()?;
        }
        self.check_numbers()?;
        self.check_shared()?;
        self.check_visits()?;
        self.recovered = recovered;
        Ok(())
    }

    /// No two acknowledged writes have one zxid, and none has one from before the last start.
    fn check_written(&mut self) -> Result<(), String> {
        let mut written: Vec<i64> = self.clients.iter_mut().flat_map(|client| client.written.drain(..)).collect();
        written.sort_unstable();
        self.figures.acknowledged += written.len() as u64;
        if let Some(pair) = written.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("two writes have the zxid 0x{:x}", pair[0]));
        }
        match written.first() {
            Some(first) if *first <= self.recovered => {
                Err(format!("a write has the zxid 0x{first:x}, but the start had found 0x{:x}", self.recovered))
            }
            _ => Ok(()),
        }
    }

    /// Sequence numbers grow with the zxid, over all clients and all lives of the server.
    fn check_numbers(&mut self) -> Result<(), String> {
        let all: BTreeSet<Numbered> = self.clients.iter_mut().flat_map(|client| client.numbered.drain(..)).collect();
        let fresh = all.into_iter().filter(|new| self.highest_number.is_none_or(|old| new.zxid > old.zxid));
        let mut last = self.highest_number;
        for new in fresh {
            if let Some(last) = last
                && new.number <= last.number
            {
                return Err(format!("{new:?} after {last:?}"));
            }
            last = Some(new);
        }
        self.highest_number = last;
        Ok(())
    }

    /// The node that all write holds the last acknowledged write, or a later one without an answer.
    fn check_shared(&mut self) -> Result<(), String> {
        let (zxid, data) = self.clients[0].read_shared()?;
        let last = self.clients.iter().filter_map(|client| client.shared.clone()).max();
        let pending: Vec<String> =
            self.clients.iter_mut().flat_map(|client| std::mem::take(&mut client.shared_pending)).collect();
        let is_right = match &last {
            Some((written, expected)) if *written == zxid => data == *expected,
            Some((written, _)) if *written > zxid => false,
            _ => data.is_empty() || pending.contains(&data),
        };
        if !is_right {
            return Err(format!("the shared node is 0x{zxid:x} {data}, the last acknowledged write was {last:?}"));
        }
        // So that it counts as known from now on.
        self.clients[0].shared = Some((zxid, data));
        Ok(())
    }

    fn check_visits(&mut self) -> Result<(), String> {
        for visit in std::mem::take(&mut self.visits) {
            self.figures.visits += 1;
            let owner = self.clients[0].owner(&visit.path)?;
            let alive = visit.ends(&self.server)?;
            let is_right = match (visit.closed, visit.created) {
                (Step::Answered, _) => !alive && owner.is_none(),
                // The ephemerals go with their session.
                (Step::Asked, _) if !alive => owner.is_none(),
                (_, Step::Answered) => alive && owner == Some(visit.session.id),
                (_, Step::Asked) => alive && owner.is_none_or(|owner| owner == visit.session.id),
                (_, Step::Not) => alive && owner.is_none(),
            };
            if !is_right {
                return Err(format!("session alive: {alive}, owner of its ephemeral: {owner:x?}, after {visit:?}"));
            }
        }
        Ok(())
    }
}

/// Answers so far.
#[derive(Default)]
struct Progress {
    answers: Mutex<u64>,
    more: Condvar,
}

impl Progress {
    fn add(&self, answers: u64) {
        *self.answers.lock().expect("no holder panics") += answers;
        self.more.notify_one();
    }

    fn wait_for(&self, target: u64) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(60);
        let answers = self.answers.lock().expect("no holder panics");
        let waited = self.more.wait_timeout_while(answers, PATIENCE, |answers| *answers < target);
        let (answers, timeout) = waited.expect("no holder panics");
        if timeout.timed_out() { Err(format!("{answers} answers within {PATIENCE:?}, not {target}")) } else { Ok(()) }
    }
}

/// How far something got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Step {
    Not,
    Asked,
    Answered,
}

/// A session that was made, and perhaps closed, during a round; and its one ephemeral.
#[derive(Debug)]
struct Visit {
    session: Session,
    path: String,
    created: Step,
    closed: Step,
}

/// Sessions that come and go until the server does.
fn visit(server: &Server) -> Vec<Visit> {
    // Enough, and not so many that checking them takes longer than the round.
    const MOST: usize = 60;
    let mut visits = Vec::new();
    // Sessions that stay keep their connection.
    let mut open = Vec::new();
    while visits.len() < MOST {
        let Ok(mut connection) = Connection::try_open(server.address()) else { return visits };
        connection.send(&Connect { time_out: 60_000, ..Connect::default() }.payload());
        let Received::Frame(payload) = connection.receive(ANSWER) else { return visits };
        let session = Session::parse(&payload).expect("an answer to a ConnectRequest");
        let path = format!("/visit-{:x}", session.id);
        let stays = visits.len() % 3 == 0;
        visits.push(Visit { session, path, created: Step::Asked, closed: Step::Not });
        let visit = visits.last_mut().expect("just pushed");
        connection.send(&request(1, op::CREATE, &Vec::from(create(&visit.path, b"", OPEN, 1))));
        if !stays {
            // Sent together, so that a kill falls between the two now and then.
            connection.send(&request(2, op::CLOSE_SESSION, &[]));
            visit.closed = Step::Asked;
        }
        let Received::Frame(payload) = connection.receive(ANSWER) else { return visits };
        assert_eq!(Reply::parse(payload).err, 0, "an ephemeral is created");
        visit.created = Step::Answered;
        if !stays {
            let Received::Frame(payload) = connection.receive(ANSWER) else { return visits };
            assert_eq!(Reply::parse(payload).err, 0, "a session is closed");
            visit.closed = Step::Answered;
        }
        open.push(connection);
    }
    visits
}

impl Visit {
    /// Whether the session is still there; then it is closed.
    fn ends(&self, server: &Server) -> Result<bool, String> {
        let mut connection = Connection::open(server.address());
        connection.send(&Connect { time_out: 60_000, ..Connect::attach(&self.session) }.payload());
        let session = match connection.receive(ANSWER) {
            Received::Frame(payload) => Session::parse(&payload)?,
            other => return Err(format!("{other:?} instead of an answer to a ConnectRequest")),
        };
        if session.time_out <= 0 {
            return Ok(false);
        }
        if session.id != self.session.id || session.passwd != self.session.passwd {
            return Err(format!("{:?} came back as {session:?}", self.session));
        }
        connection.send(&request(1, op::CLOSE_SESSION, &[]));
        match connection.receive(ANSWER) {
            Received::Frame(_) => Ok(true),
            other => Err(format!("{other:?} instead of an answer to closeSession")),
        }
    }
}

fn last_zxid(server: &Server) -> Result<i64, String> {
    let answer = server.word("srvr").map_err(|e| format!("srvr: {e}"))?;
    let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
    zxid.and_then(|zxid| i64::from_str_radix(zxid, 16).ok()).ok_or_else(|| format!("no zxid in {answer}"))
}
