//! Elections over real sockets: the machine, its links and the election port together.
#![cfg(feature = "shell")]

use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use zooid::config::{Membership, MultiAddress, Role, parse_properties};
use zooid::election::links::{LinkRules, election_endpoints};
use zooid::election::{Effect, Election, ElectionRules, Notification, OwnHistory, PeerState, Vote};
use zooid::id::{ServerId, Zxid};
use zooid::net::election::{ElectionNet, ElectionNetRules};
use zooid::net::names::Names;

/// Long enough for a busy machine; no test waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> [u16; N] {
    let listeners = [(); N].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.map(|listener| listener.local_addr().expect("an address").port())
}

fn three() -> Arc<Membership> {
    let ports: [u16; 3] = free_ports();
    let line = |(i, port): (usize, &u16)| format!("server.{}=127.0.0.1:1:{port}\n", i + 1);
    let text: String = ports.iter().enumerate().map(line).collect();
    let properties = parse_properties(text.as_bytes()).expect("properties");
    Arc::new(Membership::parse(&properties, MultiAddress::Refused).expect("a member list"))
}

fn net_rules(me: ServerId, membership: &Arc<Membership>) -> ElectionNetRules {
    ElectionNetRules {
        names: Names::default(),
        links: LinkRules {
            me,
            membership: membership.clone(),
            multi_address: MultiAddress::Refused,
            connect_ms: 5000,
            handshake_ms: 5000,
        },
        listen: election_endpoints(&membership.members[&me]),
        bind_attempts: Some(3),
        tcp_keep_alive: true,
        unacknowledged: Duration::from_secs(5),
    }
}

/// A server that does nothing but elect. Dropping it ends it.
struct Server {
    decided: watch::Receiver<Option<(PeerState, Vote)>>,
    look: mpsc::UnboundedSender<()>,
    tasks: [JoinHandle<()>; 2],
}

impl Server {
    fn start(me: ServerId, membership: &Arc<Membership>) -> Self {
        let (heard, inbox) = mpsc::unbounded_channel();
        let deliver = Arc::new(move |from, body| {
            // After the end nobody listens.
            let _ = heard.send((from, body));
        });
        let (net, work) = ElectionNet::new(net_rules(me, membership), deliver);
        let (decided_tx, decided) = watch::channel(None);
        let (look, looks) = mpsc::unbounded_channel();
        let election = Election::new(ElectionRules {
            me,
            role: Role::Participant,
            membership: membership.clone(),
            min_interval_ms: 200,
            max_interval_ms: 60_000,
        });
        let driver = tokio::spawn(drive(election, net, inbox, looks, decided_tx));
        let work = tokio::spawn(async move { work.await.expect("listens") });
        look.send(()).expect("the driver runs");
        Self { decided, look, tasks: [driver, work] }
    }

    async fn until(&mut self, state: PeerState, leader: ServerId) {
        let reached = |decided: &Option<(PeerState, Vote)>| {
            decided.is_some_and(|(own, vote)| own == state && vote.leader == leader)
        };
        timeout(PATIENCE, self.decided.wait_for(reached)).await.expect("a decision").expect("the driver runs");
    }

    fn look_again(&self) {
        self.look.send(()).expect("the driver runs");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn drive(
    mut election: Election,
    net: ElectionNet,
    mut inbox: mpsc::UnboundedReceiver<(ServerId, Bytes)>,
    mut looks: mpsc::UnboundedReceiver<()>,
    decided: watch::Sender<Option<(PeerState, Vote)>>,
) {
    let start = Instant::now();
    loop {
        let mut out = Vec::new();
        let deadline =
            election.next_deadline().map_or(Duration::from_secs(3600), |ms| Duration::from_millis(ms as u64));
        let now = || start.elapsed().as_millis() as i64;
        tokio::select! {
            Some((from, body)) = inbox.recv() => election.on_notification(now(), from, &body, &mut out),
            Some(()) = looks.recv() => {
                decided.send_replace(None);
                election.look(now(), OwnHistory { last: Zxid(0), current_epoch: 0 }, &mut out);
            }
            () = tokio::time::sleep_until((start + deadline).into()) => election.on_time(now(), &mut out),
        }
        for effect in out {
            match effect {
                Effect::Send { to, body } => net.send(to, body),
                Effect::Resend(messages) => net.resend(messages),
                Effect::Decided(vote) => {
                    decided.send_replace(Some((election.state(), vote)));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn three_servers_elect_lose_their_leader_elect_again_and_take_it_back() {
    let membership = three();
    let mut one = Server::start(1, &membership);
    let mut two = Server::start(2, &membership);
    let mut three = Server::start(3, &membership);
    // 3, or 2 if a busy machine let 1 and 2 be through before 3 was there.
    timeout(PATIENCE, one.decided.wait_for(Option::is_some)).await.expect("a decision").expect("the driver runs");
    let (_, vote) = one.decided.borrow().expect("decided");
    let first = vote.leader;
    let state = |id| if id == first { PeerState::Leading } else { PeerState::Following };
    one.until(state(1), first).await;
    two.until(state(2), first).await;
    three.until(state(3), first).await;

    drop(three);
    one.look_again();
    two.look_again();
    one.until(PeerState::Following, 2).await;
    two.until(PeerState::Leading, 2).await;

    let mut three = Server::start(3, &membership);
    three.until(PeerState::Following, 2).await;
}

// Checks 5 and 10, over a socket.
#[tokio::test]
async fn a_stranger_that_dribbles_is_answered() {
    let membership = three();
    let _one = Server::start(1, &membership);
    let port = membership.members[&1].addresses[0].election_port;
    let mut stream = timeout(PATIENCE, async {
        loop {
            match TcpStream::connect(("127.0.0.1", port)).await {
                Ok(stream) => return stream,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    })
    .await
    .expect("a listener");
    stream.set_nodelay(true).expect("an option");
    let address = b"127.0.0.1:1";
    let mut bytes = [&(-65_536i64).to_be_bytes()[..], &77i64.to_be_bytes(), &11i32.to_be_bytes(), address].concat();
    // The oldest format: state, leader, zxid, round.
    bytes.extend(28i32.to_be_bytes());
    bytes.extend([0; 28]);
    for byte in bytes {
        stream.write_all(&[byte]).await.expect("it reads");
    }
    let length = timeout(PATIENCE, stream.read_i32()).await.expect("an answer").expect("an answer");
    let mut body = vec![0; length as usize];
    stream.read_exact(&mut body).await.expect("the whole answer");
    let answer = Notification::parse(&body.into()).expect("a notification");
    assert_eq!((answer.state, answer.vote.leader, answer.version), (Some(PeerState::Looking), 1, 2));
    assert_eq!(answer.config, membership.to_string());

    // A frame without a length ends the connection.
    stream.write_all(&[0; 4]).await.expect("it reads");
    let end = timeout(PATIENCE, stream.read(&mut [0; 1])).await.expect("the end");
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn without_a_port_there_is_no_election() {
    let membership = three();
    let port = membership.members[&1].addresses[0].election_port;
    let _taken = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let rules = ElectionNetRules { bind_attempts: Some(1), ..net_rules(1, &membership) };
    let (_net, work) = ElectionNet::new(rules, Arc::new(|_, _| ()));
    let failed = timeout(PATIENCE, work).await.expect("an end").expect_err("the port is taken");
    assert_eq!((failed.attempts, failed.endpoint.port), (1, port));
}

#[tokio::test]
async fn the_work_ends_with_its_last_handle() {
    let membership = three();
    let (net, work) = ElectionNet::new(net_rules(1, &membership), Arc::new(|_, _| ()));
    drop(net);
    timeout(PATIENCE, work).await.expect("an end").expect("no failure");
}
