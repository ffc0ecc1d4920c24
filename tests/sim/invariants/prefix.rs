//! S13 to S16, S18, S25: every server applies the same transactions in the same order, and has the same tree
//! after each. One list of what anybody has applied, and where each server stands in it.

use bytes::Bytes;
use zooid::id::Zxid;
use zooid::tree::Tree;
use zooid::txn::Logged;

use crate::net::Host;
use crate::oracle::{Model, broken, holds};

struct Committed {
    zxid: i64,
    payload: Bytes,
    /// The tree's digest behind it.
    digest: Option<u64>,
}

pub struct Prefix {
    committed: Vec<Committed>,
    /// The zxid of each server's tree.
    at: Vec<i64>,
}

impl Prefix {
    pub fn new(servers: usize) -> Self {
        Self { committed: Vec::new(), at: vec![0; servers] }
    }

    pub fn last(&self) -> i64 {
        self.committed.last().map_or(0, |committed| committed.zxid)
    }

    /// The zxid of a server's tree.
    pub fn at(&self, server: Host) -> i64 {
        self.at[server]
    }

    pub fn len(&self) -> usize {
        self.committed.len()
    }

    /// What stands at this place, if anything is committed there.
    pub fn payload(&self, zxid: i64) -> Option<&Bytes> {
        let at = self.committed.binary_search_by_key(&zxid, |committed| committed.zxid).ok()?;
        Some(&self.committed[at].payload)
    }

    /// The next of all transactions.
    pub fn commit(&mut self, model: &mut Model, zxid: i64, payload: &Bytes, digest: Option<u64>) {
        let last = self.last();
        holds!("S11", Zxid(zxid).follows(Zxid(last)), "{zxid:#x} is committed behind {last:#x}");
        let logged = Logged::read(payload.clone()).expect("a transaction");
        model.apply(&logged);
        self.committed.push(Committed { zxid, payload: payload.clone(), digest });
    }

    /// A server begins, or goes on, with this tree. One that came as a snapshot may hold what nobody has applied
    /// yet, and shows it to nobody before it is committed.
    pub fn on_started(&mut self, server: Host, tree: &Tree) {
        let zxid = tree.last_zxid().0;
        self.at[server] = zxid;
        if let Some(newest) = self.applied(server).checked_sub(1).map(|at| &mut self.committed[at])
            && newest.zxid == zxid
        {
            compare(server, newest, tree);
        }
    }

    /// Clients see this tree from now on.
    pub fn check_serving(&mut self, server: Host, tree: &Tree) {
        self.on_started(server, tree);
        let zxid = tree.last_zxid();
        let newest = self.applied(server).checked_sub(1).map_or(0, |at| self.committed[at].zxid);
        let is_epoch = zxid.counter() == 0 && zxid.0 > newest;
        holds!(
            "S14",
            newest == zxid.0 || is_epoch,
            "server {server} serves {zxid}; up to there {newest:#x} is the last"
        );
    }

    pub fn on_applied(&mut self, model: &mut Model, server: Host, tree: &Tree, payload: Option<&Bytes>) {
        let zxid = tree.last_zxid().0;
        let Some(payload) = payload else {
            broken!("S32", "server {server} applies {zxid:#x}, which it has not logged")
        };
        let at = self.applied(server);
        if at == self.committed.len() {
            self.commit(model, zxid, payload, None);
        }
        self.at[server] = zxid;
        let next = &mut self.committed[at];
        holds!("S13", next.zxid == zxid, "server {server} applies {zxid:#x} where {:#x} is next", next.zxid);
        holds!("S8", next.payload == *payload, "server {server} applies another transaction at {zxid:#x}");
        compare(server, next, tree);
    }

    /// Whether all of them have applied all.
    pub fn is_level(&self, servers: impl Iterator<Item = Host>) -> bool {
        servers.into_iter().all(|server| self.applied(server) == self.committed.len())
    }

    /// How many of them a server has applied.
    pub fn applied(&self, server: Host) -> usize {
        self.before(self.at[server] + 1)
    }

    /// How many there are before a zxid.
    pub fn before(&self, zxid: i64) -> usize {
        self.committed.partition_point(|committed| committed.zxid < zxid)
    }
}

fn compare(server: Host, committed: &mut Committed, tree: &Tree) {
    let digest = *committed.digest.get_or_insert(tree.digest());
    let (zxid, own) = (committed.zxid, tree.digest());
    holds!("S25", digest == own, "server {server} has digest {own:#x} at {zxid:#x}, others have {digest:#x}");
}
