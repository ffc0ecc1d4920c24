//! Fast leader election: how servers that have lost their leader, or never had one, agree on whom to try next.
//!
//! Each proposes itself, tells everyone, and changes to a better vote when it hears of one; better is the longer
//! history, then the larger id. When a quorum stands behind one vote, and for a moment nothing better comes, the
//! round is over. Only that the winner's history is at least that of a quorum's is promised: two may believe
//! themselves elected, and the leader that ZAB then needs is the one that a quorum follows. A server that comes
//! late hears from those that already follow or lead, and joins them.
//!
//! What always holds here:
//!
//! - Within a round a server's vote only gets better, and it never votes for whom it knows to be behind itself.
//! - A round is decided by the votes of a quorum that are all the same, or by a quorum that is through with its
//!   own, the leader itself among it.
//! - A server without a history (zxid -1) neither elects nor leads: it may have lost what it once promised to keep.
//!
//! Messages may be lost, doubled, late, or from an earlier life of their sender: a vote counts for its round alone,
//! and silence is answered by saying it all again, ever more rarely.
//!
//! Java: `FastLeaderElection`, with its queues and three threads as one step; quorum-protocol 3, 4. In four things
//! this is not Java's. Who has no vote answers nobody, and is answered only while it looks: nobody would count
//! the answer, and in Java an observer and a voter that looks may answer each other without end. Who comes with a worse
//! vote than ours is told ours again: of two that lose their leader, the one that notices first speaks to one that does
//! not listen yet, and in Java repeats itself only 200 ms later. While a decided vote ages ([`FINALIZE_MS`]), Java throws
//! away all that does not beat it; here it counts as ever, so that a quorum that falls apart meanwhile decides nothing.
//! And a newer member list with other members restarts Java's election over and over (unless reconfiguration is
//! enabled); here what comes with it is left out, and the operator told.

#[cfg(test)]
mod checks;
pub mod links;
mod vote;
pub mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Membership, MultiAddress, Role, parse_properties};
use crate::id::{ServerId, Zxid};
use crate::session::Mono;
pub use vote::{Ballot, PeerState, Vote};
pub use wire::{Malformed, Notification};

/// How long a vote that a quorum shares must stay unbeaten.
pub const FINALIZE_MS: i64 = 200;

/// However many notifications come meanwhile. Each starts the wait anew, as in Java, because then servers that
/// hear the same end at about the same time; but one that talks without end must not keep all from deciding.
const FINALIZE_MAX_MS: i64 = 10 * FINALIZE_MS;

/// The zxid of a server that has no history and may have lost one.
const NO_HISTORY: Zxid = Zxid(-1);

/// The vote of one who cannot lead.
const NOBODY: i64 = i64::MIN;

#[derive(Clone, Debug)]
pub struct ElectionRules {
    pub me: ServerId,
    /// What the own configuration says. A participant that is in no list follows without a vote.
    pub role: Role,
    pub membership: Arc<Membership>,
    /// After how much silence notifications are repeated, first and at most.
    pub min_interval_ms: i64,
    pub max_interval_ms: i64,
}

/// What speaks for this server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OwnHistory {
    /// The last transaction in the log; -1: there is no history, and this server must not elect.
    pub last: Zxid,
    pub current_epoch: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// One notification.
    Send { to: ServerId, body: Bytes },
    /// Nothing was heard for a while. If anything was delivered since the last time, these are to be sent; if
    /// nothing was, only connections are missing.
    Resend(Vec<(ServerId, Bytes)>),
    /// The election is over; the own state is now `state()`. If this server leads, `leader` is its own.
    Decided(Vote),
    /// The member list has a higher version elsewhere, and the same members. It is taken over.
    NewerConfig { text: Bytes },
    /// Another server's member list is newer than ours and has other members. It is not taken over, and that
    /// server not listened to. Said once for each version.
    OtherMembers { from: ServerId, text: Bytes },
}

/// Takes part in all elections of a process, and answers those who look for a leader in between.
#[derive(Debug)]
pub struct Election {
    rules: ElectionRules,
    /// The member list as text, as every notification has it.
    config: Bytes,
    /// The number of the current or last election. Java's logicalclock.
    round: i64,
    state: PeerState,
    /// What was decided last; before that, the own vote.
    current: Option<Vote>,
    /// `None` after a decision.
    looking: Option<Looking>,
    /// The version of the last member list that was complained about.
    refused_config: i64,
}

/// One election.
#[derive(Debug)]
struct Looking {
    initial: Vote,
    proposal: Vote,
    /// The last vote of each voter in this round.
    votes: BTreeMap<ServerId, Ballot>,
    /// The last vote of each who follows or leads, of any round.
    settled: BTreeMap<ServerId, Ballot>,
    interval_ms: i64,
    /// When the silence is too long.
    repeat_at: Mono,
    /// A quorum shares the proposal.
    aging: Option<Aging>,
}

#[derive(Clone, Copy, Debug)]
struct Aging {
    since: Mono,
    until: Mono,
}

impl Election {
    pub fn new(rules: ElectionRules) -> Self {
        let config = config_text(&rules.membership);
        Self {
            rules,
            config,
            round: 0,
            state: PeerState::Looking,
            current: None,
            looking: None,
            refused_config: i64::MIN,
        }
    }

    /// An election begins, also if another one is under way.
    pub fn look(&mut self, now: Mono, own: OwnHistory, out: &mut Vec<Effect>) {
        // Whoever claims the last of all rounds is believed here as in Java.
        self.round = self.round.wrapping_add(1);
        self.state = PeerState::Looking;
        let itself = Vote { leader: self.rules.me, zxid: own.last, round: -1, peer_epoch: own.current_epoch };
        self.current.get_or_insert(itself);
        let mut initial = itself;
        if !self.rules.membership.is_voter(self.rules.me) {
            initial.leader = NOBODY;
        }
        if self.rules.role == Role::Observer {
            initial.zxid = Zxid(NOBODY);
            initial.peer_epoch = NOBODY;
        }
        let interval_ms = self.rules.min_interval_ms.max(1);
        self.looking = Some(Looking {
            initial,
            proposal: initial,
            votes: BTreeMap::new(),
            settled: BTreeMap::new(),
            interval_ms,
            repeat_at: now + interval_ms,
            aging: None,
        });
        self.propose(initial, out);
        self.recount(now);
    }

    /// A notification came, in whatever state. One that cannot be understood is dropped.
    pub fn on_notification(&mut self, now: Mono, from: ServerId, body: &Bytes, out: &mut Vec<Effect>) {
        let Ok(heard) = Notification::parse(body) else { return };
        // Before the first election there is nothing to say; and nobody else has the own id.
        let Some(current) = self.current.filter(|_| from != self.rules.me) else { return };
        if self.looking.is_some() && !self.on_config(from, &heard.config, out) {
            return;
        }
        let is_voter = self.rules.membership.is_voter(self.rules.me);
        let is_looking = matches!(heard.state, None | Some(PeerState::Looking));
        if !self.rules.membership.is_voter(from) {
            // It has no part in elections, but must learn whom to follow.
            if is_voter && is_looking {
                self.answer(from, Vote { round: self.round, ..current }, out);
            }
            return;
        }
        let Some(state) = heard.state else { return };
        let Some(looking) = &mut self.looking else {
            if is_voter && is_looking {
                self.answer(from, current, out);
            }
            return;
        };
        // Who only repeats itself may lack what we have said: that is no reason to keep silent any longer, or clocks
        // that differ a little keep one from ever saying it again.
        let known = [&looking.votes, &looking.settled].map(|votes| votes.get(&from).map(|ballot| ballot.vote));
        let is_new = !known.contains(&Some(heard.vote));
        if is_new {
            looking.repeat_at = now + looking.interval_ms;
        }
        // It lacks what we have said; perhaps it had a leader yet when we said it.
        let proposal = looking.proposal;
        let is_behind = heard.vote.round == self.round && proposal.beats(&heard.vote, &self.rules.membership);
        if is_voter && is_looking && (heard.vote.round < self.round || is_new && is_behind) {
            self.answer(from, proposal, out);
        }
        // A vote for one who has no voice elects nobody.
        if self.rules.membership.is_voter(heard.vote.leader) {
            match state {
                PeerState::Looking => self.on_vote(from, heard.vote, out),
                PeerState::Following | PeerState::Leading => {
                    self.on_settled(from, Ballot { vote: heard.vote, state, version: heard.version }, out);
                }
                PeerState::Observing => {}
            }
        }
        self.recount(now);
        if let Some(aging) = self.looking.as_mut().and_then(|looking| looking.aging.as_mut()) {
            aging.until = (now + FINALIZE_MS).min(aging.since + FINALIZE_MAX_MS);
        }
    }

    pub fn on_time(&mut self, now: Mono, out: &mut Vec<Effect>) {
        let Some(looking) = &mut self.looking else { return };
        match looking.aging {
            Some(aging) if aging.until <= now => {
                let proposal = looking.proposal;
                self.decide(proposal, out);
            }
            Some(_) => {}
            None if looking.repeat_at <= now => {
                looking.interval_ms = (looking.interval_ms * 2).min(self.rules.max_interval_ms).max(1);
                looking.repeat_at = now + looking.interval_ms;
                let proposal = looking.proposal;
                out.push(Effect::Resend(self.to_all(&proposal)));
            }
            None => {}
        }
    }

    pub fn next_deadline(&self) -> Option<Mono> {
        let looking = self.looking.as_ref()?;
        Some(looking.aging.map_or(looking.repeat_at, |aging| aging.until))
    }

    /// A role that no election gave: that of a leader designated by its predecessor, or of whom it leads.
    pub fn set_state(&mut self, state: PeerState) {
        assert!(state != PeerState::Looking, "an election begins with look()");
        self.state = state;
        self.looking = None;
    }

    pub fn state(&self) -> PeerState {
        self.state
    }

    /// What was decided last; before that, the own vote, or one for nobody.
    pub fn current_vote(&self) -> Vote {
        self.current.unwrap_or(Vote { leader: NOBODY, zxid: NO_HISTORY, round: -1, peer_epoch: NOBODY })
    }

    /// The vote that this server stands by in an election under way.
    pub fn proposal(&self) -> Option<Vote> {
        self.looking.as_ref().map(|looking| looking.proposal)
    }

    pub fn round(&self) -> i64 {
        self.round
    }

    /// The epoch that we voted for is established: by this number all who are in it agree, however they came to it.
    ///
    /// Java: `QuorumPeer.updateElectionVote`.
    pub fn on_epoch(&mut self, epoch: i64) {
        if let Some(current) = &mut self.current {
            current.peer_epoch = epoch;
        }
    }

    pub fn membership(&self) -> &Arc<Membership> {
        &self.rules.membership
    }

    /// Counts by other rules from now on. An election under way should begin anew.
    pub fn set_membership(&mut self, membership: Arc<Membership>) {
        self.config = config_text(&membership);
        self.rules.membership = membership;
    }

    /// A voter that looks for a leader, for one who can be elected.
    fn on_vote(&mut self, from: ServerId, vote: Vote, out: &mut Vec<Effect>) {
        let Some(looking) = &mut self.looking else { return };
        if looking.initial.zxid == NO_HISTORY || vote.zxid == NO_HISTORY {
            return;
        }
        if vote.round > self.round {
            // We are late. What was counted belongs to an older round.
            self.round = vote.round;
            looking.votes.clear();
            let initial = looking.initial;
            let better = if vote.beats(&initial, &self.rules.membership) { vote } else { initial };
            self.propose(better, out);
        } else if vote.round < self.round {
            return;
        } else if vote.beats(&looking.proposal, &self.rules.membership) {
            self.propose(vote, out);
        }
        if let Some(looking) = &mut self.looking {
            looking.votes.insert(from, Ballot { vote, state: PeerState::Looking, version: 0 });
        }
    }

    /// A voter that follows or leads.
    fn on_settled(&mut self, from: ServerId, ballot: Ballot, out: &mut Vec<Effect>) {
        let Some(looking) = &mut self.looking else { return };
        let vote = ballot.vote;
        let (me, round, membership) = (self.rules.me, self.round, &self.rules.membership);
        if vote.leader == me && looking.initial.zxid == NO_HISTORY {
            // They follow what we were before our history was lost. Java leads here, with nothing.
            return;
        }
        // A leader that has crashed since is still followed for a while: it must say itself that it leads.
        let leads = |votes: &BTreeMap<ServerId, Ballot>| match votes.get(&vote.leader) {
            _ if vote.leader == me => vote.round == round,
            leader => leader.is_some_and(|ballot| ballot.state == PeerState::Leading),
        };
        if vote.round == round {
            looking.votes.insert(from, Ballot { version: 0, ..ballot });
            if have_quorum(&looking.votes, &ballot, membership) && leads(&looking.votes) {
                return self.decide(vote, out);
            }
        }
        looking.settled.insert(from, ballot);
        if have_quorum(&looking.settled, &ballot, membership) && leads(&looking.settled) {
            self.round = vote.round;
            self.decide(vote, out);
        }
    }

    /// Whether the notification that this member list came with is to be counted.
    fn on_config(&mut self, from: ServerId, text: &Bytes, out: &mut Vec<Effect>) -> bool {
        if text.is_empty() || *text == self.config {
            return true;
        }
        let own = &self.rules.membership;
        let theirs = match parse_config(text) {
            Some(theirs) if theirs.version > own.version => theirs,
            // An older one, or none that we understand, is theirs to replace.
            _ => return true,
        };
        if theirs.has_same_members(own) {
            self.set_membership(Arc::new(theirs));
            out.push(Effect::NewerConfig { text: text.clone() });
            return true;
        }
        if theirs.version != self.refused_config {
            self.refused_config = theirs.version;
            out.push(Effect::OtherMembers { from, text: text.clone() });
        }
        false
    }

    /// Stands by this vote from now on, and tells all.
    fn propose(&mut self, vote: Vote, out: &mut Vec<Effect>) {
        let Some(looking) = &mut self.looking else { return };
        let proposal = Vote { round: self.round, ..vote };
        looking.proposal = proposal;
        looking.aging = None;
        // Java hears its own vote over a loop in its network code.
        if self.rules.membership.is_voter(self.rules.me) && looking.initial.zxid != NO_HISTORY {
            let own = Ballot { vote: proposal, state: PeerState::Looking, version: 0 };
            looking.votes.insert(self.rules.me, own);
        }
        out.extend(self.to_all(&proposal).into_iter().map(|(to, body)| Effect::Send { to, body }));
    }

    /// The wait begins when a quorum shares the proposal, and ends when it no longer does.
    fn recount(&mut self, now: Mono) {
        let Some(looking) = &mut self.looking else { return };
        let proposal = Ballot { vote: looking.proposal, state: PeerState::Looking, version: 0 };
        if !have_quorum(&looking.votes, &proposal, &self.rules.membership) {
            if looking.aging.take().is_some() {
                looking.repeat_at = now + looking.interval_ms;
            }
        } else if looking.aging.is_none() {
            looking.aging = Some(Aging { since: now, until: now + FINALIZE_MS });
        }
    }

    fn decide(&mut self, vote: Vote, out: &mut Vec<Effect>) {
        self.state = match self.rules.role {
            _ if vote.leader == self.rules.me => PeerState::Leading,
            Role::Participant => PeerState::Following,
            Role::Observer => PeerState::Observing,
        };
        self.current = Some(vote);
        self.looking = None;
        out.push(Effect::Decided(vote));
    }

    fn answer(&self, to: ServerId, vote: Vote, out: &mut Vec<Effect>) {
        out.push(Effect::Send { to, body: wire::write(self.state, &vote, &self.config) });
    }

    fn to_all(&self, vote: &Vote) -> Vec<(ServerId, Bytes)> {
        let body = wire::write(PeerState::Looking, vote, &self.config);
        let voters = self.rules.membership.participants().map(|member| member.id);
        voters.filter(|id| *id != self.rules.me).map(|id| (id, body.clone())).collect()
    }
}

/// Whether a quorum has cast what counts with this.
fn have_quorum(votes: &BTreeMap<ServerId, Ballot>, ballot: &Ballot, membership: &Membership) -> bool {
    let agree: BTreeSet<ServerId> =
        votes.iter().filter(|(_, other)| ballot.counts_with(other)).map(|(id, _)| *id).collect();
    membership.is_quorum(&agree)
}

fn config_text(membership: &Membership) -> Bytes {
    Bytes::from(membership.to_string())
}

/// A member list as others send it. A key that is none of a member list's makes it worthless.
///
/// Java: `QuorumPeer.configFromString`.
fn parse_config(text: &[u8]) -> Option<Membership> {
    let properties = parse_properties(text).ok()?;
    let known = |key: &String| {
        key.starts_with("server.") || key.starts_with("group") || key.starts_with("weight") || key == "version"
    };
    if !properties.keys().all(known) {
        return None;
    }
    Membership::parse(&properties, MultiAddress::Allowed).ok()
}
