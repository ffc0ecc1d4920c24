//! Every record reads back as it was written: with values of all kinds, from a seed.

mod peak;

use std::fmt::Debug;

use bytes::Bytes;
use jute::{Reader, Record, Text, encode};
use peak::peak_of;

/// Numbers without an end (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// A field with a value of any kind.
trait Any {
    fn any(random: &mut Random) -> Self;
}

impl Any for bool {
    fn any(random: &mut Random) -> Self {
        random.below(2) == 0
    }
}

impl Any for i64 {
    fn any(random: &mut Random) -> Self {
        match random.below(4) {
            0 => [0, -1, 1, i64::MIN, i64::MAX][random.below(5)],
            _ => random.next() as i64,
        }
    }
}

impl Any for i32 {
    fn any(random: &mut Random) -> Self {
        match random.below(4) {
            0 => [0, -1, 1, i32::MIN, i32::MAX][random.below(5)],
            _ => random.next() as i32,
        }
    }
}

impl Any for Text {
    fn any(random: &mut Random) -> Self {
        const PIECES: [&str; 8] = ["/", "a", "zookeeper", "\0", "é", "\u{fffd}", "😀", "\u{ffff}"];
        let pieces = random.below(6);
        (0..pieces).map(|_| PIECES[random.below(PIECES.len())]).collect::<String>().into()
    }
}

impl Any for Bytes {
    fn any(random: &mut Random) -> Self {
        let len = random.below(20);
        (0..len).map(|_| random.next() as u8).collect::<Vec<u8>>().into()
    }
}

impl<T: Any> Any for Vec<T> {
    fn any(random: &mut Random) -> Self {
        let len = random.below(5);
        (0..len).map(|_| T::any(random)).collect()
    }
}

impl<T: Any> Any for Option<T> {
    fn any(random: &mut Random) -> Self {
        (random.below(4) != 0).then(|| T::any(random))
    }
}

fn check<T: Record + Any + Debug + PartialEq>(random: &mut Random) {
    for _ in 0..300 {
        let record = T::any(random);
        let encoded = encode(&record);
        let mut r = Reader::new(encoded.clone());
        assert_eq!(T::read(&mut r).as_ref(), Ok(&record));
        assert!(r.is_empty(), "{} bytes too many for {record:?}", r.remaining());
        for len in 0..encoded.len() {
            let mut r = Reader::new(encoded.slice(..len));
            let (result, peak) = peak_of(|| T::read(&mut r).map(|_| ()));
            assert!(result.is_err(), "{len} bytes of {record:?} are a whole record");
            // Views of what is there, in vectors that doubled.
            assert!(peak <= 2048 + 32 * len, "{peak} bytes held for {len} of {record:?}");
        }
    }
}

/// The fields of all records once more: the compiler sees to it that none is missing.
macro_rules! round_trips {
    ($($module:ident { $($name:ident { $($field:ident)* })* })*) => {$(
        mod $module {
            use super::{Any, Random, check};
            use jute::records::$module::*;

            $(impl Any for $name {
                fn any(random: &mut Random) -> Self {
                    Self { $($field: Any::any(random)),* }
                }
            })*

            #[test]
            fn every_record_reads_back_as_it_was() {
                let mut random = Random(0x7a6f_6f69_6400_0001);
                $(check::<$name>(&mut random);)*
            }
        }
    )*};
}

round_trips! {
    data {
        Acl { perms scheme id }
        Id { scheme id }
        ClientInfo { auth_scheme user }
        Stat { czxid mzxid ctime mtime version cversion aversion ephemeral_owner data_length num_children pzxid }
        StatPersisted { czxid mzxid ctime mtime version cversion aversion ephemeral_owner pzxid }
    }
    persistence {
        FileHeader { magic version dbid }
    }
    proto {
        ConnectRequest { protocol_version last_zxid_seen time_out session_id passwd }
        ConnectResponse { protocol_version time_out session_id passwd }
        RequestHeader { xid op }
        ReplyHeader { xid zxid err }
        MultiHeader { op done err }
        CreateRequest { path data acl flags }
        CreateTtlRequest { path data acl flags ttl }
        DeleteRequest { path version }
        SetDataRequest { path data version }
        SetAclRequest { path acl version }
        CheckVersionRequest { path version }
        ReconfigRequest { joining leaving new_members cur_config_id }
        PathWatchRequest { path watch }
        PathRequest { path }
        SetWatches { relative_zxid data exist child }
        SetWatches2 { relative_zxid data exist child persistent persistent_recursive }
        AddWatchRequest { path mode }
        WatcherTypeRequest { path watcher_type }
        AuthPacket { auth_type scheme auth }
        SaslRequest { token }
        WatcherEvent { event_type state path }
        CreateResponse { path }
        Create2Response { path stat }
        GetDataResponse { data stat }
        GetAclResponse { acl stat }
        GetChildrenResponse { children }
        GetChildren2Response { children stat }
        WhoAmIResponse { client_info }
    }
    quorum {
        LearnerInfo { server_id protocol_version config_version }
        QuorumPacket { op zxid data auth_info }
    }
    txn {
        TxnHeader { client_id cxid zxid time op }
        TxnDigest { version tree_digest }
        CreateTxn { path data acl ephemeral parent_cversion }
        CreateTxnV0 { path data acl ephemeral }
        CreateTtlTxn { path data acl parent_cversion ttl }
        CreateContainerTxn { path data acl parent_cversion }
        DeleteTxn { path }
        SetDataTxn { path data version }
        CheckVersionTxn { path version }
        SetAclTxn { path acl version }
        CreateSessionTxn { time_out }
        CloseSessionTxn { paths_to_delete }
        ErrorTxn { err }
        Txn { op data }
        MultiTxn { txns }
    }
}
