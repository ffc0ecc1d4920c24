//! Scripts from seeds. A script names few paths, so that requests meet; it moves to a fresh subtree now and
//! then, because nodes whose ACL locks everybody out stay for ever.
//!
//! What is left out, because the two servers differ there on purpose and a reply does not show why, or
//! because Java answers by chance, is said where it is left out.

use super::script::{Connect, Damage, Field, Password, Path, Request, Script, Step, Version, Whose, Zxid};
use crate::Setup;
use crate::random::Random;
use crate::raw::{frame, request};
use crate::request::op;

/// A configuration of the servers, and what a script may do with it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flavour {
    Plain,
    ExtendedTypes,
    EnforceQuota,
    Super,
}

impl Flavour {
    pub fn of_seed(seed: u64) -> Self {
        match seed % 5 {
            0 | 1 => Self::Plain,
            2 => Self::ExtendedTypes,
            3 => Self::EnforceQuota,
            _ => Self::Super,
        }
    }

    pub fn setup(self) -> Setup {
        // No session expires while a conversation lasts, and no disk slows it down.
        let setup = Setup::standalone()
            .line("minSessionTimeout", "60000")
            .line("maxSessionTimeout", "600000")
            .flag("zookeeper.forceSync", "no");
        match self {
            Self::Plain => setup,
            Self::ExtendedTypes => setup.flag("zookeeper.extendedTypesEnabled", "true"),
            Self::EnforceQuota => setup.flag("zookeeper.enforceQuota", "true"),
            Self::Super => setup
                .flag("zookeeper.DigestAuthenticationProvider.superDigest", "super:D/InIHSb7yEEbrWz8b9l71RjZJU=")
                .flag("zookeeper.extendedTypesEnabled", "true")
                .line("reconfigEnabled", "true"),
        }
    }
}

/// The script of `seed`, of about so many operations.
pub fn script(seed: u64, operations: usize) -> Script {
    let mut generator = Generator {
        random: Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d),
        flavour: Flavour::of_seed(seed),
        slots: 2 + (seed % 4) as usize,
        holds: Vec::new(),
        closed: Vec::new(),
        sessions: 0,
        xid: 0,
        base: 0,
        left_in_base: 0,
    };
    generator.holds = vec![None; generator.slots];
    let mut script = Script(vec![generator.open(0)]);
    let fields = generator.create_fields(Path::Exact(Some(b"/k".to_vec())), Some(&OPEN_LIST), 0);
    script.0.push(generator.single(0, op::CREATE, fields));
    let mut done = 0;
    while done < operations {
        let steps = generator.steps();
        done += Script(steps.clone()).operations();
        script.0.extend(steps);
    }
    script
}

const BOB: &str = "bob:ikIaKsbtGweaHnb/jKn7OHqbunM=";
const ALICE: &str = "alice:aYXlLOpEooaV1cRAvUL1fp9Qt7E=";

/// Paths that no create accepts, and some odd ones that it does.
const ODD_PATHS: &[&[u8]] = &[
    b"",
    b"/",
    b"a",
    b"a/b",
    b"/a/",
    b"//a",
    b"/a//b",
    b"/.",
    b"/..",
    b"/a/./b",
    b"/a/../b",
    b"/...",
    b"/.a",
    b"/a.",
    b"/..a",
    b"/a\0b",
    b"/\x01",
    b"/a\tb",
    b"/\x7f",
    b"/a b",
    b"/\xc2\xa0",
    b"/\xc2\x85",
    b"/\xc3\xa9",
    b"/\xee\x80\x80",
    b"/\xef\xbf\xaf",
    b"/\xef\xbf\xb0",
    b"/\xef\xbf\xbd",
    b"/\xf0\x9f\x98\x80",
    b"/\xff\xfe",
    b"/\xc0\x80",
    b"/\xed\xa0\xbd",
    b"/\xe2\x82",
    b"/x\xed\xa0\xbd\xed\xb8\x80y",
    b"/zookeeper",
    b"/zookeeper/config",
    b"/zookeeper/quota",
    b"/zookeeper/",
    b"/zookeeper/foo",
    b"/ /b",
    b"/a/\xe2\x82\xac",
];

type AclEntry = (i32, Option<&'static str>, Option<&'static str>);

/// Scheme and data of an auth packet.
type Credentials = (Option<&'static [u8]>, Option<&'static [u8]>);

/// Lists that are accepted, by anyone or by some.
const GOOD_ACLS: &[&[AclEntry]] = &[
    &[(31, Some("digest"), Some(BOB))],
    &[(1, Some("world"), Some("anyone")), (31, Some("digest"), Some(BOB))],
    &[(31, Some("digest"), Some(ALICE)), (31, Some("digest"), Some(BOB))],
    &[(1, Some("world"), Some("anyone"))],
    &[(30, Some("world"), Some("anyone"))],
    &[(15, Some("world"), Some("anyone"))],
    &[(16, Some("world"), Some("anyone")), (31, Some("digest"), Some(BOB))],
    &[(27, Some("world"), Some("anyone"))],
    &[(23, Some("world"), Some("anyone"))],
    &[(29, Some("world"), Some("anyone"))],
    &[(31, Some("ip"), Some("127.0.0.1"))],
    &[(31, Some("ip"), Some("127.0.0.0/8"))],
    &[(31, Some("ip"), Some("127.255.0.1/9"))],
    &[(1, Some("ip"), Some("10.0.0.0/8")), (30, Some("ip"), Some("0.0.0.0/0"))],
    &[(31, Some("ip"), Some("::1")), (1, Some("world"), Some("anyone"))],
    &[(31, Some("ip"), Some("1.2.3.04")), (31, Some("world"), Some("anyone"))],
    &[(31, Some("ip"), Some("fe80::/10")), (31, Some("world"), Some("anyone"))],
    &[(31, Some("world"), Some("anyone")), (31, Some("world"), Some("anyone"))],
    &[(31, Some("world"), Some("anyone")), (1, Some("world"), Some("anyone"))],
    &[(-1, Some("world"), Some("anyone"))],
    &[(0x11f, Some("world"), Some("anyone"))],
    &[(31, Some("digest"), Some(":x")), (31, Some("world"), Some("anyone"))],
    &[(31, Some("digest"), Some("a:b:")), (31, Some("world"), Some("anyone"))],
    &[(0, Some("world"), Some("anyone"))],
    &[(31, Some("auth"), Some(""))],
    &[(31, Some("auth"), None)],
    &[(1, Some("world"), Some("anyone")), (31, Some("auth"), Some("whoever"))],
];

/// Lists with something wrong in them.
const BAD_ACLS: &[&[AclEntry]] = &[
    &[],
    &[(31, Some("world"), Some("foo"))],
    &[(31, Some("world"), Some(""))],
    &[(31, Some("digest"), Some("bob"))],
    &[(31, Some("digest"), Some("bob:"))],
    &[(31, Some("digest"), Some(":"))],
    &[(31, Some("digest"), Some(""))],
    &[(31, Some("digest"), Some("a:b:c"))],
    &[(31, Some("super"), Some("x"))],
    &[(31, Some("sasl"), Some("bob"))],
    &[(31, Some("x509"), Some("CN=a"))],
    &[(31, Some("foo"), Some("x"))],
    &[(31, Some(""), Some(""))],
    &[(31, Some("ip"), Some("1.2.3.4/33"))],
    &[(31, Some("ip"), Some("1.2.3.4/"))],
    &[(31, Some("ip"), Some("1.2.3.4/-1"))],
    &[(31, Some("ip"), Some("1.2.3.4/8/8"))],
    &[(31, Some("ip"), Some("1.2.3"))],
    &[(31, Some("ip"), Some("1.2.3.256"))],
    &[(31, Some("ip"), Some("localhost"))],
    &[(31, Some("ip"), Some(""))],
    &[(31, Some("ip"), Some("1::2::3"))],
    &[(31, Some("ip"), Some("::1/129"))],
    &[(31, Some("ip"), Some("::ffff:1.2.3.4"))],
    &[(31, Some("world"), Some("anyone")), (31, Some("ip"), Some("x"))],
    &[(31, None, Some("anyone"))],
];

/// Lists with a null id, which only single operations get: a multi with one fails as a whole in Java and per
/// operation here (data-model 12b, 15).
const NULL_ID_ACLS: &[&[AclEntry]] =
    &[&[(31, Some("world"), None)], &[(31, Some("digest"), None)], &[(31, Some("ip"), None)]];

/// Lists for the root: whoever may not create there must still be able to change that.
const ROOT_ACLS: &[&[AclEntry]] = &[
    &[(31, Some("world"), Some("anyone"))],
    &[(27, Some("world"), Some("anyone"))],
    &[(23, Some("world"), Some("anyone"))],
    &[(30, Some("world"), Some("anyone"))],
    &[(16, Some("world"), Some("anyone")), (31, Some("digest"), Some(BOB))],
];

const LIMITS: &[&str] = &[
    "count=5,bytes=-1",
    "count=3,bytes=20=;byteHardLimit=40;countHardLimit=4",
    "count=-1,bytes=-1=;byteHardLimit=-1;countHardLimit=6",
    "count=-1,bytes=-1=;byteHardLimit=30;countHardLimit=-1",
    "byteHardLimit=10;countHardLimit=2",
];

/// Usage that parses; any other text stops Java (data-model 12b, 5).
const STATS: &[&str] = &["count=0,bytes=0", "count=2,bytes=8", "count=1,bytes=100"];

struct Generator {
    random: Random,
    flavour: Flavour,
    slots: usize,
    /// The session that each slot's connection has, as far as a script can know. One more slot, behind these,
    /// is for attempts that may fail.
    holds: Vec<Option<u32>>,
    closed: Vec<u32>,
    sessions: u32,
    xid: i32,
    /// The subtree in use.
    base: u32,
    left_in_base: usize,
}

impl Generator {
    /// What comes next: one step, or a few that belong together.
    fn steps(&mut self) -> Vec<Step> {
        let slot = self.random.below(self.slots);
        if self.holds[slot].is_none() {
            return vec![self.open(slot)];
        }
        if self.left_in_base == 0 {
            self.base += 1;
            self.left_in_base = 150;
            let fields = self.create_fields(Path::Exact(Some(self.base_path())), Some(&OPEN_LIST), 0);
            return vec![self.single(slot, op::CREATE, fields)];
        }
        self.left_in_base -= 1;
        match self.random.below(1000) {
            0..30 => vec![self.auth(slot)],
            30..35 => {
                let token = if self.random.percent(70) { Some(vec![]) } else { None };
                if token.is_none() {
                    self.holds[slot] = None;
                }
                vec![self.single(slot, op::SASL, vec![Field::Buffer(token)])]
            }
            35..43 => {
                let code = self.random.pick(&[0, -1, 13, 10, 23, 99, 108, 127, 1000, -2, -12, i32::MAX, i32::MIN]);
                let fields = vec![self.any_path()];
                self.holds[slot] = None;
                vec![self.single(slot, code, fields)]
            }
            43..50 => {
                self.holds[slot] = None;
                vec![self.breaking(slot)]
            }
            50..60 => vec![Step::Stray { bytes: self.stray() }],
            60..75 => {
                self.closed.extend(self.holds[slot].take());
                vec![self.single(slot, op::CLOSE_SESSION, vec![])]
            }
            75..85 => vec![self.open(slot)],
            85..97 => vec![self.attempt()],
            97..105 => {
                self.holds[slot] = None;
                vec![Step::Drop { slot }]
            }
            105..125 => self.quota(slot),
            // The root's ACL changes alone: Java's preparation keeps two records of the root, and a create
            // in the same pipeline may see either (data-model 2.1, "root trap").
            125..130 => {
                let list = self.random.pick(ROOT_ACLS);
                let body = self.set_acl_fields(Path::Exact(Some(b"/".to_vec())), Some(list));
                vec![self.single(slot, op::SET_ACL, body)]
            }
            130..140 => {
                // And is opened again.
                let body = self.set_acl_fields(Path::Exact(Some(b"/".to_vec())), Some(&OPEN_LIST));
                vec![self.single(slot, op::SET_ACL, body)]
            }
            _ => vec![self.batch(slot)],
        }
    }

    /// A connection that the server accepts: for a new session, or for one from before.
    fn open(&mut self, slot: usize) -> Step {
        let open: Vec<_> = (1..=self.sessions).filter(|s| !self.closed.contains(s)).collect();
        let session = if open.is_empty() || self.random.percent(50) {
            self.sessions += 1;
            self.holds[slot] = Some(self.sessions);
            Whose::New(self.sessions)
        } else {
            let number = self.random.pick(&open);
            // Whoever held it loses it.
            self.holds.iter_mut().filter(|h| **h == Some(number)).for_each(|h| *h = None);
            self.holds[slot] = Some(number);
            Whose::Of(number)
        };
        let password = match session {
            Whose::New(_) => self.random.weighted(&[(8, Password::Right), (1, Password::Null), (1, Password::Empty)]),
            _ => Password::Right,
        };
        let last_zxid_seen = self.random.pick(&[Zxid::Exact(0), Zxid::Exact(-5), Zxid::Seen(0), Zxid::Seen(-3)]);
        Step::Open { slot, connect: self.connect(session, password, last_zxid_seen) }
    }

    /// A connection that the server probably refuses.
    fn attempt(&mut self) -> Step {
        let of = Whose::Of(1 + self.random.below(self.sessions as usize) as u32);
        let nobodys = Whose::Nobodys(self.random.pick(&[1, -1, 0x0123_4567_89ab_cdef, i64::MIN]));
        let session = self.random.weighted(&[(3, of), (1, nobodys)]);
        let password = self.random.weighted(&[
            (2, Password::Wrong),
            (1, Password::Null),
            (1, Password::Empty),
            (1, Password::Right),
        ]);
        let mut last_zxid_seen = Zxid::Seen(0);
        if password == Password::Right || self.random.percent(20) {
            last_zxid_seen = self.random.pick(&[Zxid::Seen(1), Zxid::Exact(1 << 60)]);
        }
        Step::Open { slot: self.slots, connect: self.connect(session, password, last_zxid_seen) }
    }

    fn connect(&mut self, session: Whose, password: Password, last_zxid_seen: Zxid) -> Connect {
        let times = [60_000, 60_001, 100_000, 600_000, 600_001, i32::MAX, 0, -5, 30_000];
        let read_only = self.random.weighted(&[(8, Some(0)), (2, None), (1, Some(1)), (1, Some(0xff))]);
        let junk = if read_only.is_some() && self.random.percent(10) { vec![1, 2, 3] } else { vec![] };
        Connect { session, password, time_out: self.random.pick(&times), last_zxid_seen, read_only, junk }
    }

    /// A request by itself. auth and sasl are answered ahead of their turn, what closes the connection loses
    /// answers behind it: none of them shares a batch.
    fn single(&mut self, slot: usize, op: i32, fields: Vec<Field>) -> Step {
        let xid = self.xid();
        Step::Batch { slot, requests: vec![Request { xid, op, fields, damage: Damage::None }] }
    }

    fn xid(&mut self) -> i32 {
        self.xid += 1;
        // Never -1: its reply would look like an event.
        if self.random.percent(3) { self.random.pick(&[0, -2, -4, -8, -77, i32::MAX, i32::MIN]) } else { self.xid }
    }

    fn auth(&mut self, slot: usize) -> Step {
        let users: [(usize, Credentials); 10] = [
            (8, (Some(b"digest"), Some(b"bob:pw"))),
            (6, (Some(b"digest"), Some(b"alice:secret"))),
            (if self.flavour == Flavour::Super { 6 } else { 1 }, (Some(b"digest"), Some(b"super:test"))),
            (1, (Some(b"digest"), Some(b"bob"))),
            (1, (Some(b"digest"), Some(b""))),
            (1, (Some(b"digest"), None)),
            (1, (Some(b"ip"), Some(b"x"))),
            (1, (Some(b"foo"), Some(b"x"))),
            (1, (None, Some(b"x"))),
            (1, (Some(b"sasl"), Some(b"x"))),
        ];
        let (scheme, data) = self.random.weighted(&users);
        if !matches!((scheme, data), (Some(b"digest" | b"ip"), Some(_))) {
            self.holds[slot] = None;
        }
        let buffer = |bytes: Option<&[u8]>| Field::Buffer(bytes.map(<[u8]>::to_vec));
        let fields = vec![Field::Int(self.random.pick(&[0, 0, 7])), buffer(scheme), buffer(data)];
        self.single(slot, op::AUTH, fields)
    }

    /// Bytes for which a server closes without an answer.
    fn breaking(&mut self, slot: usize) -> Step {
        let bytes = match self.random.below(7) {
            0 => vec![0; 4],
            1 => vec![0xff; 4],
            2 => 0x0010_0000_i32.to_be_bytes().to_vec(),
            3 => frame(&[0; 3]),
            4 => frame(&[0; 7]),
            5 => b"ruok".to_vec(),
            // An auth packet that ends inside the scheme.
            _ => frame(&request(9, op::AUTH, &[0, 0, 0, 0, 0, 0, 0, 6, b'd', b'i'])),
        };
        Step::Break { slot, bytes }
    }

    fn stray(&mut self) -> Vec<u8> {
        let connect = crate::raw::Connect::default().payload();
        match self.random.below(9) {
            0 => b"RUOK".to_vec(),
            1 => b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            2 => b"ruok".to_vec(),
            3 => vec![0xff, 0xf4, 0xff, 0xfd],
            4 => vec![0; 4],
            5 => vec![0xff; 4],
            6 => b"stmk\0\0\0\0\0\0\0\x01".to_vec(),
            7 => frame(&connect[..self.random.below(44)]),
            _ => {
                let mut passwd = connect;
                passwd[24..28].copy_from_slice(&self.random.pick(&[-2i32, 0x0010_0000, i32::MAX]).to_be_bytes());
                frame(&passwd)
            }
        }
    }

    fn batch(&mut self, slot: usize) -> Step {
        let longest = if self.flavour == Flavour::EnforceQuota {
            // Java compares with the usage that is applied by then, so what a pipeline may use is chance
            // (data-model 9.3).
            1
        } else {
            self.random.weighted(&[(4, 1), (3, 4), (2, 9), (1, 20)])
        };
        let count = 1 + self.random.below(longest);
        let mut requests = Vec::new();
        for _ in 0..count {
            requests.push(self.request());
            // By chance, what is pipelined behind a setACL sees the old list or the new one, and behind a
            // createContainer with the flags of an ephemeral sees an ephemeral or a container: Java's record
            // of the pending change keeps the old list, and goes by the flags (data-model 12b, 8).
            if requests.last().is_some_and(|r| matches!(r.op, op::SET_ACL | op::CREATE_CONTAINER)) {
                break;
            }
        }
        Step::Batch { slot, requests }
    }

    fn request(&mut self) -> Request {
        let kinds = [
            (14, op::CREATE),
            (7, op::CREATE2),
            (3, op::CREATE_CONTAINER),
            (4, op::CREATE_TTL),
            (11, op::DELETE),
            (9, op::SET_DATA),
            (6, op::EXISTS),
            (6, op::GET_DATA),
            (4, op::GET_CHILDREN),
            (4, op::GET_CHILDREN2),
            (3, op::GET_ACL),
            (5, op::SET_ACL),
            (10, op::MULTI),
            (3, op::MULTI_READ),
            (2, op::SYNC),
            (2, op::PING),
            (2, op::GET_EPHEMERALS),
            (2, op::GET_ALL_CHILDREN_NUMBER),
            (3, op::SET_WATCHES),
            (2, op::SET_WATCHES2),
            (4, op::ADD_WATCH),
            (3, op::CHECK_WATCHES),
            (2, op::REMOVE_WATCHES),
            (1, op::WHO_AM_I),
            (1, op::RECONFIG),
            (2, op::DELETE_CONTAINER),
        ];
        let op = self.random.weighted(&kinds);
        let fields = self.fields(op);
        let damage = if self.random.percent(4) { self.damage(op) } else { Damage::None };
        Request { xid: self.xid(), op, fields, damage }
    }

    fn fields(&mut self, op: i32) -> Vec<Field> {
        match op {
            op::CREATE | op::CREATE2 | op::CREATE_CONTAINER => {
                let flags = self.flags(op);
                if self.random.percent(6) {
                    let path = self.open_path();
                    return self.create_fields(path, Some(&OPEN_LIST), flags);
                }
                let (path, acl) = (self.create_path(), self.acl());
                self.create_fields(path, acl, flags)
            }
            op::CREATE_TTL => {
                let (flags, ttl) = self.flags_and_ttl();
                let (path, acl) = (self.create_path(), self.acl());
                let mut fields = self.create_fields(path, acl, flags);
                fields.push(Field::Long(ttl));
                fields
            }
            op::DELETE => vec![self.any_path(), self.version()],
            op::SET_DATA => vec![self.any_path(), self.data(), self.version()],
            op::EXISTS | op::GET_DATA | op::GET_CHILDREN | op::GET_CHILDREN2 => {
                let path = if self.random.percent(15) { self.quota_path() } else { self.any_path() };
                vec![path, Field::Byte(self.random.weighted(&[(5, 0), (4, 1), (1, 2)]))]
            }
            op::GET_ACL | op::SYNC | op::GET_ALL_CHILDREN_NUMBER => vec![self.any_path()],
            op::GET_EPHEMERALS => {
                let prefix = self.random.pick(&[None, Some(""), Some(" "), Some("/"), Some("/w"), Some(" / ")]);
                if self.random.percent(50) {
                    vec![Field::Buffer(prefix.map(|p| p.as_bytes().to_vec()))]
                } else {
                    vec![self.any_path()]
                }
            }
            op::SET_ACL => {
                let list = self.acl();
                loop {
                    // See `steps` for the root.
                    if let Field::Path(path) = self.any_path()
                        && !matches!(&path, Path::Exact(Some(p)) if p == b"/")
                    {
                        return self.set_acl_fields(path, list);
                    }
                }
            }
            op::MULTI => self.multi(),
            op::MULTI_READ => self.multi_read(),
            op::SET_WATCHES => self.set_watches(3),
            op::SET_WATCHES2 => self.set_watches(5),
            op::ADD_WATCH => {
                vec![self.any_path(), Field::Int(self.random.weighted(&[(5, 0), (5, 1), (1, 2), (1, -1)]))]
            }
            op::CHECK_WATCHES | op::REMOVE_WATCHES => {
                vec![self.any_path(), Field::Int(self.random.pick(&[1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 0, 6, -1]))]
            }
            op::DELETE_CONTAINER => vec![Field::Path(self.open_path())],
            op::RECONFIG => {
                let texts = [None, Some("x"), Some("abc"), Some("server.1=127.0.0.1:1:2:participant;3")];
                let mut text = || Field::Buffer(self.random.pick(&texts).map(|t| t.as_bytes().to_vec()));
                let mut fields = vec![text(), text(), text()];
                fields.push(Field::Long(self.random.pick(&[-1, 0, 5])));
                fields
            }
            _ => vec![],
        }
    }

    fn damage(&mut self, op: i32) -> Damage {
        match self.random.below(4) {
            0 | 1 => Damage::Cut(self.random.below(256)),
            2 => Damage::Junk(vec![0xee; 1 + self.random.below(6)]),
            // A length that shifts what follows could make a createTTL that stops Java (`flags_and_ttl`), or a
            // path in the quota tree with any data.
            _ if op == op::CREATE_TTL => Damage::None,
            _ => Damage::Length { nth: self.random.below(4), length: self.random.pick(&[-2, 0x30_0000, i32::MAX]) },
        }
    }

    fn create_fields(&mut self, path: Path, acl: Option<&[AclEntry]>, flags: i32) -> Vec<Field> {
        let mut fields = vec![Field::Path(path), self.data()];
        fields.extend(acl_fields(acl));
        fields.push(Field::Int(flags));
        fields
    }

    fn set_acl_fields(&mut self, path: Path, acl: Option<&[AclEntry]>) -> Vec<Field> {
        let mut fields = vec![Field::Path(path)];
        fields.extend(acl_fields(acl));
        let versions =
            [(6, Version::Exact(-1)), (3, Version::CurrentAcl), (1, Version::Exact(0)), (1, Version::Exact(3))];
        fields.push(Field::Version(self.random.weighted(&versions)));
        fields
    }

    fn flags(&mut self, op: i32) -> i32 {
        if op == op::CREATE_CONTAINER && self.random.percent(60) {
            return 4;
        }
        self.random.weighted(&[(10, 0), (5, 1), (4, 2), (3, 3), (1, 4), (1, 5), (1, 6), (1, 7), (1, -1)])
    }

    /// Never a plain mode with a negative ttl: Java accepts it, stops when it applies it, and does not start
    /// again from that log (data-model 12b, 2).
    fn flags_and_ttl(&mut self) -> (i32, i64) {
        let flags = self.random.weighted(&[(6, 5), (4, 6), (1, 0), (1, 1), (1, 3), (1, 4), (1, 7), (1, -1)]);
        let ttls = [1, 1000, 86_400_000, (1 << 40) - 1, 1 << 40, 0, i64::MAX];
        let ttl = if matches!(flags, 5 | 6) && self.random.percent(15) {
            self.random.pick(&[-1, -5, i64::MIN])
        } else {
            self.random.pick(&ttls)
        };
        (flags, ttl)
    }

    fn version(&mut self) -> Field {
        let versions = [
            (12, Version::Exact(-1)),
            (6, Version::Current),
            (2, Version::Exact(0)),
            (1, Version::Exact(1)),
            (1, Version::Exact(7)),
            (1, Version::Exact(-2)),
            (1, Version::Exact(i32::MAX)),
        ];
        Field::Version(self.random.weighted(&versions))
    }

    fn data(&mut self) -> Field {
        let data = match self.random.below(20) {
            0 | 1 => None,
            2..5 => Some(vec![]),
            5 => Some(vec![b'x'; 3000]),
            n => Some(vec![b'a' + n as u8; 1 + self.random.below(12)]),
        };
        Field::Buffer(data)
    }

    fn acl(&mut self) -> Option<&'static [AclEntry]> {
        match self.random.below(100) {
            0..62 => Some(&OPEN_LIST),
            62..84 => Some(self.random.pick(GOOD_ACLS)),
            84..96 => Some(self.random.pick(BAD_ACLS)),
            96..98 => Some(self.random.pick(NULL_ID_ACLS)),
            _ => None,
        }
    }

    fn acl_for_multi(&mut self) -> Option<&'static [AclEntry]> {
        match self.random.below(100) {
            0..80 => Some(&OPEN_LIST),
            80..92 => Some(self.random.pick(GOOD_ACLS)),
            92..99 => Some(self.random.pick(BAD_ACLS)),
            _ => None,
        }
    }

    fn base_path(&self) -> Vec<u8> {
        format!("/w{}", self.base).into_bytes()
    }

    /// A path in the subtree.
    fn path_here(&mut self) -> Vec<u8> {
        let mut path = if self.random.percent(85) { self.base_path() } else { Vec::new() };
        let depth = self.random.weighted(&[(1, 0), (8, 1), (4, 2), (1, 3)]);
        for _ in 0..depth {
            path.push(b'/');
            path.push(self.random.pick(b"aaabbcd"));
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    fn create_path(&mut self) -> Path {
        match self.random.below(100) {
            0..65 => Path::Exact(Some(self.path_here())),
            65..70 => {
                let mut path = self.path_here();
                path.push(b'/');
                Path::Exact(Some(path))
            }
            70..88 => {
                let suffix = self.random.pick(&["/a", "/b", "/n-", "/", "", "x"]);
                Path::Seen { age: self.random.below(24), suffix }
            }
            _ => self.odd_path(),
        }
    }

    fn any_path(&mut self) -> Field {
        Field::Path(match self.random.below(100) {
            0..50 => Path::Exact(Some(self.path_here())),
            50..86 => Path::Seen { age: self.random.below(16), suffix: "" },
            86..89 => Path::Seen { age: self.random.below(32), suffix: "/a" },
            _ => self.odd_path(),
        })
    }

    /// A path below `/k`, where every ACL is open: deleteContainer asks for none in Java (data-model 12b, 6).
    /// Only the subtree of `/k` is safe, as the root's own ACL changes.
    fn open_path(&mut self) -> Path {
        let paths = ["/k/a", "/k/a", "/k/b", "/k/a/a", "/k/a/b", "/k/b/a", "/k/", "k", "/", "/zookeeper/quota", ""];
        Path::Exact(Some(self.random.pick(&paths).as_bytes().to_vec()))
    }

    fn odd_path(&mut self) -> Path {
        if self.random.percent(5) {
            return Path::Exact(None);
        }
        let mut path = self.random.pick(ODD_PATHS).to_vec();
        if path.starts_with(b"/") && !path.starts_with(b"/zookeeper") && self.random.percent(40) {
            path = [self.base_path(), path].concat();
        }
        Path::Exact(Some(path))
    }

    /// The subtree, or something just below, that quotas are set on.
    fn quota_of(&mut self) -> Vec<u8> {
        let mut path = self.base_path();
        if self.random.percent(40) {
            path.extend_from_slice(b"/a");
        }
        path
    }

    fn quota_path(&mut self) -> Field {
        let mut path = [b"/zookeeper/quota".to_vec(), self.quota_of()].concat();
        path.extend_from_slice(
            self.random.pick(&["", "/zookeeper_limits", "/zookeeper_stats", "/zookeeper_stats"]).as_bytes(),
        );
        Field::Path(Path::Exact(Some(path)))
    }

    /// Sets, changes or removes a quota, as zkCli does it and in parts. Never at `/zookeeper/quota` itself,
    /// which stops Java (data-model 12b, 3), never with null or unreadable numbers (12b, 5 and 15).
    fn quota(&mut self, slot: usize) -> Vec<Step> {
        let on = self.quota_of();
        let node = [b"/zookeeper/quota".to_vec(), on.clone()].concat();
        let under = |name: &str| Field::Path(Path::Exact(Some([&node, name.as_bytes()].concat())));
        let text = |text: &str| Field::Buffer(Some(text.as_bytes().to_vec()));
        let limits = self.random.pick(LIMITS);
        let stats = self.random.pick(STATS);
        let create = |path: Field, data: Field| {
            let mut fields = vec![path, data];
            fields.extend(acl_fields(Some(&OPEN_LIST)));
            fields.push(Field::Int(0));
            (op::CREATE, fields)
        };
        let any = || Field::Version(Version::Exact(-1));
        let requests = match self.random.below(10) {
            0..5 => {
                let mut parents = vec![create(
                    Field::Path(Path::Exact(Some([b"/zookeeper/quota".to_vec(), self.base_path()].concat()))),
                    text(""),
                )];
                if on != self.base_path() {
                    parents.push(create(under(""), text("")));
                }
                parents.push(create(under("/zookeeper_limits"), text(limits)));
                parents.push(create(under("/zookeeper_stats"), text(stats)));
                parents
            }
            5 => vec![(op::SET_DATA, vec![under("/zookeeper_limits"), text(limits), any()])],
            6 => vec![(op::SET_DATA, vec![under("/zookeeper_stats"), text(stats), any()])],
            7 => vec![(op::DELETE, vec![under("/zookeeper_limits"), any()])],
            8 => vec![(op::DELETE, vec![under("/zookeeper_stats"), any()])],
            _ => vec![
                (op::DELETE, vec![under("/zookeeper_limits"), any()]),
                (op::DELETE, vec![under("/zookeeper_stats"), any()]),
                (op::DELETE, vec![under(""), any()]),
            ],
        };
        requests.into_iter().map(|(op, fields)| self.single(slot, op, fields)).collect()
    }

    fn multi(&mut self) -> Vec<Field> {
        let mut fields = Vec::new();
        let count = self.random.weighted(&[(1, 0), (6, 1), (8, 2), (8, 3), (4, 5), (1, 12)]);
        for _ in 0..count {
            let kinds = [
                (10, op::CREATE),
                (4, op::CREATE2),
                (2, op::CREATE_CONTAINER),
                (2, op::CREATE_TTL),
                (7, op::DELETE),
                (7, op::SET_DATA),
                (6, op::CHECK),
            ];
            let mut op = self.random.weighted(&kinds);
            if self.random.percent(2) {
                op = self.random.pick(&[op::GET_DATA, op::GET_CHILDREN, op::SET_ACL, op::EXISTS, op::SYNC, 0, 99, -1]);
            }
            fields.extend([Field::Int(op), Field::Byte(0), Field::Int(self.random.pick(&[-1, -1, 7]))]);
            match op {
                op::CREATE_CONTAINER => {
                    // Not 1 or 3, for the same reason as in `batch`.
                    let flags = self.random.weighted(&[(8, 4), (3, 0), (3, 2), (1, 5), (1, 9)]);
                    let (path, acl) = (self.create_path(), self.acl_for_multi());
                    fields.extend(self.create_fields(path, acl, flags));
                }
                op::CREATE | op::CREATE2 => {
                    let flags =
                        if self.random.percent(93) { self.random.pick(&[0, 0, 0, 1, 2, 3, 4]) } else { self.flags(op) };
                    let (path, acl) = (self.create_path(), self.acl_for_multi());
                    fields.extend(self.create_fields(path, acl, flags));
                }
                op::CREATE_TTL => {
                    let (flags, ttl) = self.flags_and_ttl();
                    let (path, acl) = (self.create_path(), self.acl_for_multi());
                    fields.extend(self.create_fields(path, acl, flags));
                    fields.push(Field::Long(ttl));
                }
                op::CHECK => fields.extend([self.any_path(), self.version()]),
                op => fields.extend(self.fields(op)),
            }
        }
        self.end_of_multi(&mut fields);
        fields
    }

    fn multi_read(&mut self) -> Vec<Field> {
        let mut fields = Vec::new();
        for _ in 0..self.random.below(5) {
            let mut op = self.random.pick(&[op::GET_DATA, op::GET_CHILDREN]);
            if self.random.percent(4) {
                op = self.random.pick(&[op::CREATE, op::EXISTS, op::CHECK, 77]);
            }
            fields.extend([Field::Int(op), Field::Byte(0), Field::Int(-1)]);
            fields.extend(self.fields(op));
        }
        self.end_of_multi(&mut fields);
        fields
    }

    fn end_of_multi(&mut self, fields: &mut Vec<Field>) {
        // Type and error of the terminator do not count.
        let (op, err) = if self.random.percent(95) { (-1, -1) } else { (5, 7) };
        if self.random.percent(98) {
            fields.extend([Field::Int(op), Field::Byte(1), Field::Int(err)]);
        }
    }

    fn set_watches(&mut self, lists: usize) -> Vec<Field> {
        let zxids =
            [Zxid::Exact(0), Zxid::Seen(0), Zxid::Seen(-2), Zxid::Seen(-20), Zxid::Exact(i64::MAX), Zxid::Exact(-1)];
        let mut fields = vec![Field::Zxid(self.random.pick(&zxids))];
        for _ in 0..lists {
            let count = self.random.weighted(&[(10, 0), (10, 1), (10, 3), (1, -1), (1, -2)]);
            fields.push(Field::Int(count));
            for _ in 0..count {
                fields.push(self.any_path());
            }
        }
        fields
    }
}

const OPEN_LIST: [AclEntry; 1] = [(31, Some("world"), Some("anyone"))];

fn acl_fields(acl: Option<&[AclEntry]>) -> Vec<Field> {
    let text = |t: Option<&str>| Field::Buffer(t.map(|t| t.as_bytes().to_vec()));
    match acl {
        None => vec![Field::Int(-1)],
        Some(acl) => {
            let mut fields = vec![Field::Int(acl.len() as i32)];
            for (perms, scheme, id) in acl {
                fields.extend([Field::Int(*perms), text(*scheme), text(*id)]);
            }
            fields
        }
    }
}
