//! One of ours, which does nothing but elect, among Java servers: each side counts the other's votes, and whoever
//! comes late finds the leader.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use compat_tests::java;
use tokio::sync::mpsc;
use zooid::config::{Membership, MultiAddress, Role, parse_properties};
use zooid::election::links::{LinkRules, election_endpoints};
use zooid::election::{Effect, Election, ElectionRules, Notification, OwnHistory, PeerState, Vote};
use zooid::id::{ServerId, Zxid};
use zooid::net::election::{ElectionNet, ElectionNetRules};

/// A JVM on a busy machine takes its time.
const PATIENCE: Duration = Duration::from_secs(90);

/// Three members: their lines, and the listeners that keep our ports ours.
struct Ensemble {
    lines: String,
    directory: PathBuf,
}

impl Ensemble {
    fn new(name: &str) -> Self {
        let listeners = [(); 6].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = listeners.map(|listener| listener.local_addr().expect("an address").port());
        let line = |id: usize| format!("server.{id}=127.0.0.1:{}:{}\n", ports[2 * id - 2], ports[2 * id - 1]);
        let lines = (1..=3).map(line).collect();
        let directory = std::env::temp_dir().join(format!("zooid-election-{name}-{}", std::process::id()));
        Self { lines, directory }
    }

    fn membership(&self) -> Arc<Membership> {
        let properties = parse_properties(self.lines.as_bytes()).expect("properties");
        Arc::new(Membership::parse(&properties, MultiAddress::Refused).expect("a member list"))
    }

    fn java(&self, id: ServerId) -> Java {
        let home = self.directory.join(id.to_string());
        fs::create_dir_all(home.join("data")).expect("a directory");
        fs::write(home.join("data/myid"), id.to_string()).expect("myid");
        let data = home.join("data");
        let config = format!(
            "tickTime=500\ninitLimit=40\nsyncLimit=20\ndataDir={}\nclientPort=0\n4lw.commands.whitelist=*\n{}",
            data.display(),
            self.lines
        );
        fs::write(home.join("zoo.cfg"), config).expect("zoo.cfg");
        let log = fs::File::create(home.join("log")).expect("a log");
        let mut command = java::command(java::VERSION, java::Use::Member, &[], &home.join("zoo.cfg"));
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Java { process: command.spawn().expect("java"), log: home.join("log") }
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.directory);
    }
}

struct Java {
    process: Child,
    log: PathBuf,
}

impl Drop for Java {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}:\n{}", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Ours.
struct Peer {
    election: Election,
    net: ElectionNet,
    inbox: mpsc::UnboundedReceiver<(ServerId, Bytes)>,
    start: Instant,
}

impl Peer {
    fn new(me: ServerId, ensemble: &Ensemble) -> Self {
        let membership = ensemble.membership();
        let (heard, inbox) = mpsc::unbounded_channel();
        let rules = ElectionNetRules {
            names: zooid::net::names::Names::default(),
            links: LinkRules {
                me,
                membership: membership.clone(),
                multi_address: MultiAddress::Refused,
                connect_ms: 5000,
                handshake_ms: 10_000,
            },
            listen: election_endpoints(&membership.members[&me]),
            bind_attempts: Some(3),
            tcp_keep_alive: false,
            unacknowledged: Duration::from_secs(10),
        };
        let deliver = Arc::new(move |from, body| {
            let _ = heard.send((from, body));
        });
        let (net, work) = ElectionNet::new(rules, deliver);
        tokio::spawn(work);
        let election = Election::new(ElectionRules {
            me,
            role: Role::Participant,
            membership,
            min_interval_ms: 200,
            max_interval_ms: 1000,
        });
        Self { election, net, inbox, start: Instant::now() }
    }

    fn look(&mut self, own: OwnHistory) {
        let mut out = Vec::new();
        self.election.look(self.now(), own, &mut out);
        self.carry_out(out);
    }

    fn now(&self) -> i64 {
        self.start.elapsed().as_millis() as i64
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<Vote> {
        let mut decided = None;
        for effect in effects {
            match effect {
                Effect::Send { to, body } => self.net.send(to, body),
                Effect::Resend(messages) => self.net.resend(messages),
                Effect::Decided(vote) => decided = Some(vote),
                other => panic!("{other:?}"),
            }
        }
        decided
    }

    /// Takes part until this is so for a decision, or for what another server says.
    async fn until(
        &mut self,
        what: &str,
        mut reached: impl FnMut(Option<Vote>, Option<(ServerId, Notification)>) -> bool,
    ) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
            let wake =
                self.election.next_deadline().map_or(deadline, |ms| self.start + Duration::from_millis(ms as u64));
            let mut out = Vec::new();
            let mut heard = None;
            tokio::select! {
                Some((from, body)) = self.inbox.recv() => {
                    heard = Some((from, Notification::parse(&body).expect("Java's notifications are well-formed")));
                    self.election.on_notification(self.now(), from, &body, &mut out);
                }
                () = tokio::time::sleep_until(wake.min(deadline).into()) => self.election.on_time(self.now(), &mut out),
            }
            let decided = self.carry_out(out);
            if reached(decided, heard) {
                return;
            }
        }
    }
}

const FRESH: OwnHistory = OwnHistory { last: Zxid(0), current_epoch: 0 };

#[tokio::test(flavor = "multi_thread")]
async fn java_leads_by_our_vote() {
    let ensemble = Ensemble::new("leads");
    let mut one = Peer::new(1, &ensemble);
    one.look(FRESH);
    let _three = ensemble.java(3);
    one.until("a decision", |decided, _| decided.is_some_and(|vote| vote.leader == 3 && vote.round == 1)).await;
    assert_eq!(one.election.state(), PeerState::Following);
    // Of three servers 3 and we are there: it leads by our vote or not at all.
    one.look(FRESH);
    one.until("3 leads", |_, heard| {
        heard.is_some_and(|(from, said)| from == 3 && said.state == Some(PeerState::Leading) && said.vote.leader == 3)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn java_follows_us() {
    let ensemble = Ensemble::new("follows");
    let mut three = Peer::new(3, &ensemble);
    let quorum = ("127.0.0.1", ensemble.membership().members[&3].addresses[0].quorum_port);
    let learners = tokio::net::TcpListener::bind(quorum).await.expect("the port is free");
    // Ours is the smaller zxid of the larger epoch.
    three.look(OwnHistory { last: Zxid(0), current_epoch: 1 });
    let _one = ensemble.java(1);
    three.until("a decision", |decided, _| decided.is_some_and(|vote| vote.leader == 3)).await;
    assert_eq!(three.election.state(), PeerState::Leading);
    tokio::time::timeout(PATIENCE, learners.accept()).await.expect("it comes to its leader").expect("a connection");
}

#[tokio::test(flavor = "multi_thread")]
async fn we_find_the_leader_that_java_servers_have() {
    let ensemble = Ensemble::new("late");
    let (_one, _three) = (ensemble.java(1), ensemble.java(3));
    let mut two = Peer::new(2, &ensemble);
    // A server without a history takes no part until there is a leader, and then joins it.
    two.look(OwnHistory { last: Zxid(-1), current_epoch: 0 });
    two.until("a decision", |decided, _| decided.is_some_and(|vote| vote.leader == 3)).await;
    assert_eq!(two.election.state(), PeerState::Following);
    // Both answer one that looks, whatever its history.
    two.look(OwnHistory { last: Zxid::new(9, 9), current_epoch: 9 });
    let mut settled = std::collections::BTreeMap::new();
    two.until("both answers", |_, heard| {
        let settled_state = |said: &Notification| matches!(said.state, Some(PeerState::Leading | PeerState::Following));
        if let Some((from, said)) = heard.filter(|(_, said)| settled_state(said)) {
            assert_eq!((said.vote.leader, said.version), (3, 2));
            settled.insert(from, said.state);
        }
        settled.len() == 2
    })
    .await;
    assert_eq!(settled[&1], Some(PeerState::Following));
    assert_eq!(settled[&3], Some(PeerState::Leading));
}
