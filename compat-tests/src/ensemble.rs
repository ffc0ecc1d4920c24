//! Servers that are one ensemble, each of them Java's or ours, and whatever may happen to them: they are started
//! one by one, killed, paused, and replaced by the other implementation on the same directory or an empty one.
//!
//! A test says who is what and who shall lead, and waits for what follows: roles and figures are polled by
//! four-letter words until a deadline. What the members hold is compared node by node, and by the digests that
//! they keep of their trees.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jute::records::data::Stat;
use jute::{Reader, Record, Text};

use crate::raw::{Client, Connect};
use crate::request::{auth, op, path, unwatched, versioned};
use crate::server::{free_port, keeps_directories, next_number, own_address};
use crate::{Ended, Kind, Server, Setup, java};

/// How long anything may take that an ensemble does by itself; several JVMs may be starting meanwhile.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at members, which answer each and have work to do besides.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Whom `superDigest` of [`Setup::ensemble`] lets in.
const SUPER_USER: &[u8] = b"super:admin";
const NO_NODE: i32 = -101;
const MISMATCHES: &str = "zk_digest_mismatches_count";

/// Whether a member has a vote.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Role {
    Voter,
    Observer,
}

/// What becomes of a member's directory when it is replaced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Data {
    Kept,
    Lost,
}

/// The ensemble. Ends with the value; its directory stays if a test fails or `ZOOID_KEEP` is set.
pub struct Ensemble {
    directory: PathBuf,
    setup: Setup,
    members: BTreeMap<i64, Member>,
}

/// One of them.
pub struct Member {
    server: Server,
    role: Role,
    ports: Ports,
    /// Where the others look for it, if not there: something that listens in between.
    seen_at: Option<Ports>,
    runs: bool,
    is_paused: bool,
    forgiven: Cell<Forgiven>,
    /// It may not have joined again.
    joins: Cell<bool>,
}

/// What is no fault of a Java member's digests. A Java leader's snapshot holds parts of what follows it, and a
/// Java member compares digests all the same while it catches up. A snapshot of ours is of one zxid.
#[derive(Clone, Copy, Debug, Default)]
struct Forgiven {
    /// It had joined here.
    zxid: i64,
    mismatches: i64,
}

/// Where a member listens for others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ports {
    pub quorum: SocketAddr,
    pub election: SocketAddr,
}

impl Ports {
    /// On an address that nobody else has.
    pub fn fresh() -> Self {
        Self::on(own_address(next_number()).into())
    }

    fn on(address: IpAddr) -> Self {
        let quorum = free_port(address, 21_000);
        let election = free_port(address, quorum + 1);
        Self { quorum: (address, quorum).into(), election: (address, election).into() }
    }
}

impl Ensemble {
    /// Members 1, 2 and so on as the letters say: `J` is Java, `R` is the server under test; those behind a
    /// `+` are observers. None of them runs yet.
    pub fn of(letters: &str, setup: &Setup) -> Self {
        let (voters, observers) = letters.split_once('+').unwrap_or((letters, ""));
        let kind = |letter| match letter {
            'J' => Kind::Java(java::VERSION.into()),
            'R' => Kind::under_test(),
            _ => panic!("{letters}: expected J, R and +"),
        };
        let voters = voters.chars().map(|letter| (kind(letter), Role::Voter));
        Self::new(setup, voters.chain(observers.chars().map(|letter| (kind(letter), Role::Observer))))
    }

    pub fn new(setup: &Setup, members: impl IntoIterator<Item = (Kind, Role)>) -> Self {
        let directory = std::env::temp_dir().join(format!("zooid-ensemble-{}-{}", std::process::id(), next_number()));
        let members = (1..).zip(members).map(|(sid, (kind, role))| {
            let address = IpAddr::from(own_address(next_number()));
            let client = SocketAddr::new(address, free_port(address, 20_000));
            let server = Server::member(kind, setup, directory.join(sid.to_string()), client);
            let member = Member {
                server,
                role,
                ports: Ports::on(address),
                seen_at: None,
                runs: false,
                is_paused: false,
                forgiven: Cell::default(),
                joins: Cell::default(),
            };
            (sid, member)
        });
        let members = members.collect();
        Self { directory, setup: setup.clone(), members }
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn sids(&self) -> Vec<i64> {
        self.members.keys().copied().collect()
    }

    pub fn running(&self) -> Vec<i64> {
        self.select(|member| member.runs && !member.is_paused)
    }

    fn select(&self, is_meant: impl Fn(&Member) -> bool) -> Vec<i64> {
        self.members.iter().filter(|(_, member)| is_meant(member)).map(|(sid, _)| *sid).collect()
    }

    fn member(&self, sid: i64) -> &Member {
        self.members.get(&sid).unwrap_or_else(|| panic!("there is no member {sid}"))
    }

    fn member_mut(&mut self, sid: i64) -> &mut Member {
        self.members.get_mut(&sid).unwrap_or_else(|| panic!("there is no member {sid}"))
    }

    pub fn server(&self, sid: i64) -> &Server {
        &self.member(sid).server
    }

    pub fn ports(&self, sid: i64) -> Ports {
        self.member(sid).ports
    }

    /// Where clients connect, in the order of the members.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.values().map(|member| member.server.address()).collect()
    }

    /// From the next start of a member on it looks for member `sid` there.
    pub fn show_at(&mut self, sid: i64, ports: Ports) {
        self.member_mut(sid).seen_at = Some(ports);
    }

    /// The `server.N` lines that a member has in its file.
    fn lines(&self, mine: i64) -> impl Iterator<Item = (String, String)> + '_ {
        self.members.iter().map(move |(sid, member)| {
            let ports = member.seen_at.filter(|_| *sid != mine).unwrap_or(member.ports);
            let role = match member.role {
                Role::Voter => "participant",
                Role::Observer => "observer",
            };
            let (host, quorum, election) = (ports.quorum.ip(), ports.quorum.port(), ports.election.port());
            (format!("server.{sid}"), format!("{host}:{quorum}:{election}:{role};{}", member.server.address()))
        })
    }

    /// Starts a member and does not wait for it.
    pub fn start(&mut self, sid: i64) {
        let mut setup = self.setup.clone();
        for (key, value) in self.lines(sid) {
            setup = setup.line(&key, &value);
        }
        let member = self.member_mut(sid);
        assert!(!member.runs, "member {sid} runs already");
        if member.role == Role::Observer {
            setup = setup.line("peerType", "observer");
        }
        fs::write(member.server.data_dir().join("myid"), sid.to_string()).expect("cannot write myid");
        member.server.set_up(&setup);
        member.server.spawn();
        member.runs = true;
        member.is_paused = false;
        member.forgiven = Cell::default();
        member.joins = Cell::new(true);
    }

    /// Starts the members and does not wait for them.
    pub fn start_each(&mut self, sids: &[i64]) {
        sids.iter().for_each(|sid| self.start(*sid));
    }

    /// Starts all members so that `leader` leads: it and enough others for a quorum first, all of them smaller,
    /// which makes it the one to vote for unless their histories differ.
    pub fn start_led_by(&mut self, leader: i64) {
        let voters = self.select(|member| member.role == Role::Voter);
        let smaller: Vec<i64> = voters.iter().copied().filter(|sid| *sid < leader).take(voters.len() / 2).collect();
        assert_eq!(smaller.len(), voters.len() / 2, "{leader} is not the largest of a quorum");
        self.start_each(&smaller);
        self.start(leader);
        self.wait_led_by(leader);
        let rest: Vec<i64> = self.select(|member| !member.runs);
        self.start_each(&rest);
        self.wait_joined();
    }

    /// SIGTERM, and its end.
    pub fn stop(&mut self, sid: i64) {
        let member = self.member_mut(sid);
        member.server.stop();
        member.runs = false;
    }

    /// SIGKILL.
    pub fn kill(&mut self, sid: i64) {
        let member = self.member_mut(sid);
        member.server.kill9();
        member.runs = false;
        member.is_paused = false;
    }

    /// Waits until a member ends by itself.
    pub fn wait_for_end(&mut self, sid: i64) -> Ended {
        let member = self.member_mut(sid);
        member.runs = false;
        member.server.wait_for_end(PATIENCE)
    }

    /// The directory of a member, with its configuration.
    pub fn directory_of(&self, sid: i64) -> &Path {
        self.server(sid).directory()
    }

    pub fn stop_all(&mut self) {
        for sid in self.select(|member| member.runs) {
            self.resume(sid);
            self.stop(sid);
        }
    }

    /// SIGSTOP: its connections stay, and nothing comes out of them.
    pub fn pause(&mut self, sid: i64) {
        let member = self.member_mut(sid);
        member.server.freeze();
        member.is_paused = true;
    }

    /// SIGCONT.
    pub fn resume(&mut self, sid: i64) {
        let member = self.member_mut(sid);
        if member.is_paused {
            member.server.signal("CONT");
            member.is_paused = false;
            member.joins = Cell::new(true);
        }
    }

    /// Makes a stopped member another server.
    pub fn replace(&mut self, sid: i64, kind: Kind, data: Data) {
        let member = self.member_mut(sid);
        assert!(!member.runs, "member {sid} still runs");
        member.server.set_kind(kind);
        if data == Data::Lost {
            self.lose_data(sid);
        }
    }

    /// Empties the directory of a stopped member.
    pub fn lose_data(&mut self, sid: i64) {
        let data = self.server(sid).data_dir();
        fs::remove_dir_all(&data).and_then(|()| fs::create_dir(&data)).expect("cannot empty the dataDir");
    }

    /// What a member says about itself, if it serves.
    pub fn status(&self, sid: i64) -> Option<Status> {
        Status::parse(&self.server(sid).word("srvr").ok()?)
    }

    /// `mntr`, if the member serves.
    pub fn figures(&self, sid: i64) -> Option<BTreeMap<String, String>> {
        let answer = self.server(sid).word("mntr").ok()?;
        let figures: BTreeMap<_, _> =
            answer.lines().filter_map(|line| line.split_once('\t')).map(|(k, v)| (k.into(), v.into())).collect();
        figures.contains_key("zk_server_state").then_some(figures)
    }

    /// One number of `mntr`.
    pub fn figure(&self, sid: i64, key: &str) -> Option<i64> {
        self.figures(sid)?.get(key)?.parse().ok()
    }

    /// Who leads, if one does.
    pub fn leader(&self) -> Option<i64> {
        self.running().into_iter().find(|sid| self.status(*sid).is_some_and(|status| status.mode == "leader"))
    }

    pub fn wait_for_leader(&self) -> i64 {
        self.wait("a leader", || self.leader().ok_or_else(|| "nobody leads".into()))
    }

    pub fn wait_led_by(&self, sid: i64) {
        let leader = self.wait_for_leader();
        assert_eq!(leader, sid, "the wrong member leads\n{}", self.logs());
    }

    /// Waits until a member serves clients.
    pub fn wait_serving(&self, sid: i64) -> Status {
        self.wait(&format!("member {sid} to serve"), || {
            self.status(sid).ok_or_else(|| format!("it says {:?}", self.server(sid).word("srvr")))
        })
    }

    /// Waits until all running members serve and the leader has each of them in step; who leads.
    pub fn wait_joined(&self) -> i64 {
        let running = self.running();
        let count = |role| running.iter().filter(|sid| self.member(**sid).role == role).count() as i64;
        let (followers, observers) = (count(Role::Voter) - 1, count(Role::Observer));
        let leader = self.wait("all members to join", || {
            let silent: Vec<_> = running.iter().filter(|sid| self.status(**sid).is_none()).collect();
            if !silent.is_empty() {
                return Err(format!("members {silent:?} do not serve"));
            }
            let leader = self.leader().ok_or("nobody leads")?;
            let in_step = |key| self.figure(leader, key);
            let found = (in_step("zk_synced_followers"), in_step("zk_synced_observers"));
            if found == (Some(followers), Some(observers)) {
                Ok(leader)
            } else {
                Err(format!("{leader} leads and has {found:?} in step, not {followers} and {observers}"))
            }
        });
        running.iter().for_each(|sid| self.forgive(*sid, leader));
        leader
    }

    fn forgive(&self, sid: i64, leader: i64) {
        let member = self.member(sid);
        let is_java = |sid: i64| *self.member(sid).server.kind() != Kind::Zooid;
        if member.joins.take()
            && is_java(sid)
            && is_java(leader)
            && let Some((mismatches, status)) = self.figure(sid, MISMATCHES).zip(self.status(sid))
        {
            member.forgiven.set(Forgiven { zxid: status.zxid, mismatches });
        }
    }

    /// Waits until all running members are at one zxid, which they reach when nobody writes; that zxid. There
    /// is a write first: a new leader's zxid is one that nobody else has.
    pub fn wait_equal(&self) -> i64 {
        let running = self.running();
        let leader = self.wait_joined();
        self.attach(leader, &Connect::default()).close();
        self.wait("equal zxids", || {
            let zxids: Vec<_> = running.iter().map(|sid| self.status(*sid).map(|status| status.zxid)).collect();
            match zxids[0] {
                Some(zxid) if zxids.iter().all(|other| *other == Some(zxid)) => Ok(zxid),
                _ => Err(format!("members {running:?} are at {zxids:x?}")),
            }
        })
    }

    /// Waits until a member has this path in one of its log files; what is logged need not be answered.
    pub fn wait_until_logged(&self, sid: i64, path: &str) {
        let version_2 = self.server(sid).data_dir().join("version-2");
        self.wait("a transaction to be logged", || {
            let files = fs::read_dir(&version_2).expect("there is a version-2").flatten();
            let mut logs = files.filter(|file| file.file_name().to_string_lossy().starts_with("log."));
            let is_logged = logs.any(|log| {
                let log = fs::read(log.path()).expect("a log can be read");
                log.windows(path.len()).any(|at| at == path.as_bytes())
            });
            if is_logged { Ok(()) } else { Err(format!("{path} is not in the log of {sid}")) }
        });
    }

    /// A client of a member with a session by `connect`, which it must give; but it may have to start first.
    pub fn attach(&self, sid: i64, connect: &Connect) -> Client {
        self.wait(&format!("a session with member {sid}"), || Client::try_connect_as(self.server(sid), connect))
    }

    pub fn client(&self, sid: i64) -> Client {
        self.attach(sid, &Connect::default())
    }

    /// What a member holds.
    pub fn tree(&self, sid: i64) -> Tree {
        Tree::read(self.server(sid))
    }

    /// Deletes all nodes that clients have made.
    pub fn clear(&self, sid: i64) {
        let tree = self.tree(sid);
        let mut client = super_user(self.server(sid));
        // Children come behind their parents.
        for path in tree.0.keys().rev().filter(|path| *path != "/" && !path.starts_with("/zookeeper")) {
            let err = client.err(op::DELETE, versioned(path, -1));
            // An ephemeral may have gone by itself.
            assert!([0, NO_NODE].contains(&err), "delete {path}: error {err}");
        }
        client.close();
    }

    /// Compares everything that the running members hold, and fails if two of them differ.
    pub fn check_equal(&self) {
        self.wait_equal();
        let running = self.running();
        let trees: Vec<_> = running.iter().map(|sid| self.tree(*sid)).collect();
        for (sid, tree) in running.iter().zip(&trees) {
            if let Some(difference) = trees[0].difference(tree) {
                panic!("members {} and {sid} differ: {difference}\n{}", running[0], self.logs());
            }
        }
        self.check_digests();
    }

    /// Compares the digests of the running members' trees where two have one for the same zxid, and asks each
    /// whether its own ever differed from a proposal's. How many were compared.
    pub fn check_digests(&self) -> usize {
        let mut all: BTreeMap<i64, (i64, String)> = BTreeMap::new();
        let mut compared = 0;
        for sid in self.running() {
            let forgiven = self.member(sid).forgiven.get();
            let mismatches = self.figure(sid, MISMATCHES);
            let is_same = mismatches == Some(forgiven.mismatches);
            assert!(
                is_same,
                "member {sid} found {mismatches:?} other digests than its own, not {}\n{}\n{}",
                forgiven.mismatches,
                self.around_mismatches(sid),
                self.logs()
            );
            let answer = self.server(sid).word("hash").expect("hash is answered");
            for (zxid, digest) in answer.lines().filter_map(|line| line.split_once(": ")) {
                let zxid = i64::from_str_radix(zxid, 16).expect("a zxid in hex");
                if zxid > forgiven.zxid {
                    let (other, theirs) = all.entry(zxid).or_insert_with(|| (sid, digest.into()));
                    assert_eq!(theirs, digest, "members {other} and {sid} differ at 0x{zxid:x}\n{}", self.logs());
                    compared += usize::from(*other != sid);
                }
            }
        }
        compared
    }

    /// What a member says when it finds another digest, and what it has synchronised with before.
    fn around_mismatches(&self, sid: i64) -> String {
        let log = self.server(sid).whole_log();
        let says = ["igest", "LEADING", "FOLLOWING", "Getting a", "Truncating", "UPTODATE"];
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().filter(|line| says.iter().any(|word| line.contains(word))).collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    /// Polls until there is an answer, and fails with the last reason why there is none.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match look() {
                Ok(found) => return found,
                Err(why) if Instant::now() > deadline => {
                    panic!("waited {PATIENCE:?} for {what}: {why}\n{}", self.logs())
                }
                Err(_) => thread::sleep(BETWEEN_LOOKS),
            }
        }
    }

    /// The ends of all logs, for the message of a failure.
    pub fn logs(&self) -> String {
        let log = |(sid, member): (&i64, &Member)| {
            let log = member.server.whole_log();
            let log = String::from_utf8_lossy(&log);
            // We ask all the time.
            let lines: Vec<&str> = log.lines().filter(|line| !line.contains(" command from ")).collect();
            let end = lines[lines.len().saturating_sub(25)..].join("\n");
            format!("--- {sid}, {:?}, {}\n{end}\n", member.server.kind(), member.server.directory().display())
        };
        self.members.iter().map(log).collect()
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        self.sids().into_iter().for_each(|sid| self.kill(sid));
        if keeps_directories() {
            eprintln!("the ensemble is kept in {}", self.directory.display());
        } else {
            let _ = fs::remove_dir_all(&self.directory);
        }
    }
}

/// What `srvr` says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Status {
    pub mode: String,
    pub zxid: i64,
}

impl Status {
    fn parse(answer: &str) -> Option<Self> {
        let line = |key: &str| answer.lines().find_map(|line| line.strip_prefix(key));
        let zxid = i64::from_str_radix(line("Zxid: 0x")?, 16).ok()?;
        Some(Self { mode: line("Mode: ")?.to_owned(), zxid })
    }
}

/// Everything that a client sees of a member's tree. Not the configuration node, which every member writes for
/// itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tree(BTreeMap<String, Node>);

#[derive(Clone, Debug, Eq, PartialEq)]
struct Node {
    data: Option<Bytes>,
    stat: Stat,
    /// The answer to getACL, as it came.
    acl: Bytes,
}

/// Whom no access list stops.
pub fn super_user(server: &Server) -> Client {
    let mut client = Client::connect(server);
    client.send_as(-4, op::AUTH, auth("digest", SUPER_USER));
    assert_eq!(client.reply().err, 0, "the super user is refused");
    client
}

impl Tree {
    /// Reads it through a session of its own.
    pub fn read(server: &Server) -> Self {
        let mut client = super_user(server);
        client.ok(op::SYNC, path("/"));
        let mut nodes = BTreeMap::new();
        let mut todo = vec!["/".to_owned()];
        while let Some(at) = todo.pop() {
            let body = client.ok(op::GET_DATA, unwatched(&at)).body;
            let mut r = Reader::new(body);
            let data = r.buffer("data").expect("getData answers data");
            let stat = Stat::read(&mut r).expect("getData answers a Stat");
            let reply = client.ok(op::GET_CHILDREN, unwatched(&at));
            let children = Reader::new(reply.body).vector::<Option<Text>>("children").expect("a list of children");
            let parent = if at == "/" { "" } else { at.as_str() };
            let children = children.into_iter().flatten().flatten().map(|child| format!("{parent}/{child}"));
            todo.extend(children.filter(|child| child != "/zookeeper/config"));
            let acl = client.ok(op::GET_ACL, path(&at)).body;
            nodes.insert(at, Node { data, stat, acl });
        }
        client.close();
        Self(nodes)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The first node that is not the same in both.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut paths: Vec<_> = self.0.keys().chain(other.0.keys()).collect();
        paths.sort();
        let path = paths.into_iter().find(|path| self.0.get(*path) != other.0.get(*path))?;
        Some(format!("{path} is {:?} and {:?}", self.0.get(path), other.0.get(path)))
    }
}
