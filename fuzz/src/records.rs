//! The records of `zookeeper.jute`: what decodes encodes again, and decodes to the same.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use jute::{Reader, Record, Writer, encode};

use crate::{bounded, of_views};

/// Every record of a family is tried on the same bytes, so that seeds need not say what they are.
macro_rules! families {
    ($($family:ident: $($record:ident)*;)*) => {$(
        pub fn $family(input: &[u8]) {
            use jute::records::$family::*;
            $(check::<$record>(input);)*
        }
    )*};
}

families! {
    data: Acl Id ClientInfo Stat StatPersisted;
    proto: ConnectRequest ConnectResponse RequestHeader ReplyHeader MultiHeader CreateRequest CreateTtlRequest
        DeleteRequest SetDataRequest SetAclRequest CheckVersionRequest ReconfigRequest PathWatchRequest PathRequest
        SetWatches SetWatches2 AddWatchRequest WatcherTypeRequest AuthPacket SaslRequest WatcherEvent CreateResponse
        Create2Response GetDataResponse GetAclResponse GetChildrenResponse GetChildren2Response WhoAmIResponse;
    quorum: LearnerInfo QuorumPacket;
    txn: TxnHeader TxnDigest CreateTxn CreateTxnV0 CreateTtlTxn CreateContainerTxn DeleteTxn SetDataTxn
        CheckVersionTxn SetAclTxn CreateSessionTxn CloseSessionTxn ErrorTxn Txn MultiTxn;
    persistence: FileHeader;
}

fn check<T: Record + Debug + PartialEq>(input: &[u8]) {
    let mut reader = Reader::new(Bytes::copy_from_slice(input));
    let decoded = bounded(of_views(input), || T::read(&mut reader));
    let Ok(record) = decoded else { return };
    let encoded = encode(&record);
    let mut again = Reader::new(encoded.clone());
    assert_eq!(T::read(&mut again).as_ref(), Ok(&record), "it does not decode to what was encoded");
    assert!(again.is_empty(), "{} bytes too many were encoded", again.remaining());
    let mut for_clients = BytesMut::new();
    record.write(&mut Writer::new(&mut for_clients));
    let mut again = Reader::new(for_clients.freeze());
    T::read(&mut again).expect("what is written for clients decodes");
    assert!(again.is_empty(), "{} bytes too many were encoded for clients", again.remaining());
}
