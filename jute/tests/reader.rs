//! How each type is read and written, and what bytes that are cut, or lie, end in (client-protocol 1.1, 1.2
//! and 1.4).

mod peak;

use bytes::{Bytes, BytesMut};
use jute::records::proto::{self, ConnectRequest, read_only_byte};
use jute::records::{data, quorum, txn};
use jute::{DecodeError, Reader, Record, Text, Writer, encode};
use peak::peak_of;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

// client-protocol 1.1
#[test]
fn numbers_are_big_endian() {
    let mut r = reader(&[0xff, 0, 0, 1, 2, 0x80, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(r.byte("a"), Ok(0xff));
    assert_eq!(r.int("b"), Ok(0x102));
    assert_eq!(r.long("c"), Ok(i64::MIN + 1));
    assert_eq!(r.int("d"), Err(DecodeError::Short { what: "d", needs: 4, has: 0 }));
}

// client-protocol 1.1
#[test]
fn any_byte_but_zero_is_true_and_one_is_written() {
    for byte in 0..=u8::MAX {
        assert_eq!(reader(&[byte]).bool("flag"), Ok(byte != 0));
    }
    assert_eq!(encode(&true)[..], [1]);
    assert_eq!(encode(&false)[..], [0]);
}

// client-protocol 1.1
#[test]
fn minus_one_is_null_and_not_empty() {
    let null = &[0xff; 4][..];
    assert_eq!(reader(null).buffer("b"), Ok(None));
    assert_eq!(reader(null).text("t"), Ok(None));
    assert_eq!(reader(null).vector::<i32>("v"), Ok(None));
    assert_eq!(encode(&None::<Bytes>)[..], *null);
    assert_eq!(encode(&None::<Text>)[..], *null);
    assert_eq!(encode(&None::<Vec<i32>>)[..], *null);
    assert_eq!(reader(&[0; 4]).buffer("b"), Ok(Some(Bytes::new())));
    assert_eq!(reader(&[0; 4]).text("t"), Ok(Some(Text::default())));
    assert_eq!(reader(&[0; 4]).vector::<i32>("v"), Ok(Some(Vec::new())));
}

// client-protocol 1.1
#[test]
fn a_length_below_minus_one_is_an_error_for_strings_and_an_empty_vector() {
    for length in [-2, -3, i32::MIN] {
        let bytes = length.to_be_bytes();
        assert_eq!(reader(&bytes).buffer("b"), Err(DecodeError::Length { what: "b", length }));
        assert_eq!(reader(&bytes).text("t"), Err(DecodeError::Length { what: "t", length }));
        assert_eq!(reader(&bytes).vector::<i32>("v"), Ok(Some(Vec::new())));
    }
}

#[test]
fn a_null_where_none_may_be_is_an_error() {
    assert_eq!(Text::read(&mut reader(&[0xff; 4])), Err(DecodeError::Null { what: "string" }));
    assert_eq!(Vec::<i32>::read(&mut reader(&[0xff; 4])), Err(DecodeError::Null { what: "vector" }));
}

// client-protocol 1.2
#[test]
fn a_length_that_is_only_claimed_costs_nothing() {
    for claim in [5, 1 << 20, 1 << 30, i32::MAX] {
        let mut bytes = claim.to_be_bytes().to_vec();
        bytes.extend(b"four");
        let (mut buffer, mut text) = (reader(&bytes), reader(&bytes));
        let at_once = Err(DecodeError::Length { what: "b", length: claim });
        assert_eq!(peak_of(|| buffer.buffer("b").map(|_| ())), (at_once, 0));
        assert_eq!(peak_of(|| text.text("t").is_err()), (true, 0));
    }
}

// client-protocol 1.2
#[test]
fn a_count_that_is_only_claimed_costs_what_is_there() {
    fn check<T: Record>(item: &T) {
        let items = 10;
        let item = encode(item);
        for claim in [items as i32 + 1, 1 << 20, i32::MAX] {
            let mut bytes = claim.to_be_bytes().to_vec();
            bytes.extend(item.repeat(items));
            let mut r = reader(&bytes);
            let (refused, peak) = peak_of(|| r.vector::<T>("v").is_err());
            assert!(refused);
            // A vector that has grown to the next power of two, and the half of it that it has grown from.
            assert!(peak <= 24 * size_of::<T>(), "{peak} bytes for {items} items");
        }
    }
    check(&0i32);
    check(&None::<Text>);
    check(&data::Acl { perms: 0, scheme: None, id: None });
    check(&txn::Txn { op: 0, data: None });
}

#[test]
fn a_record_that_is_cut_anywhere_is_an_error() {
    let acl = Some(vec![data::Acl { perms: 31, scheme: Some("world".into()), id: Some("anyone".into()) }]);
    let create =
        proto::CreateRequest { path: Some("/cap".into()), data: Some(Bytes::from_static(b"hi")), acl, flags: 0 };
    let whole = encode(&create);
    assert_eq!(proto::CreateRequest::read(&mut Reader::new(whole.clone())), Ok(create));
    for len in 0..whole.len() {
        let mut r = Reader::new(whole.slice(..len));
        let (result, peak) = peak_of(|| proto::CreateRequest::read(&mut r).map(|_| ()));
        assert!(result.is_err(), "{len} bytes");
        assert!(peak <= 4 * size_of::<data::Acl>(), "{peak} bytes held");
    }
}

// client-protocol 1.4
#[test]
fn bytes_behind_the_last_field_are_left_alone() {
    let mut bytes = encode(&proto::DeleteRequest { path: Some("/a".into()), version: 3 }).to_vec();
    bytes.extend(b"more");
    let mut r = reader(&bytes);
    assert!(proto::DeleteRequest::read(&mut r).is_ok());
    assert_eq!(r.rest(), "more");
    assert_eq!((r.remaining(), r.position()), (4, bytes.len() - 4));
}

// client-protocol 1.4 and 2.2
#[test]
fn a_connect_request_needs_its_password_and_not_its_read_only_byte() {
    let request =
        ConnectRequest { protocol_version: 0, last_zxid_seen: 0, time_out: 30_000, session_id: 0, passwd: None };
    let old = encode(&request);
    for len in 0..old.len() {
        assert!(ConnectRequest::read(&mut Reader::new(old.slice(..len))).is_err(), "{len} bytes");
    }
    for (last, expected) in [(&b""[..], None), (b"\0", Some(false)), (b"\x02", Some(true)), (b"\x01more", Some(true))] {
        let mut r = reader(&[&old[..], last].concat());
        assert_eq!(ConnectRequest::read(&mut r).as_ref(), Ok(&request));
        assert_eq!(read_only_byte(&mut r), Ok(expected));
    }
}

#[test]
fn what_is_read_shares_the_bytes_it_was_read_from() {
    let packet = quorum::QuorumPacket { op: 2, zxid: 1, data: Some(vec![7; 1 << 20].into()), auth_info: None };
    let mut r = Reader::new(encode(&packet));
    let (read, peak) = peak_of(|| quorum::QuorumPacket::read(&mut r).unwrap());
    assert_eq!(read, packet);
    assert!(peak < 256, "{peak} bytes held");
}

#[test]
fn a_reply_frame_has_its_own_length() {
    let mut out = BytesMut::from(&b"before"[..]);
    let header = proto::ReplyHeader { xid: 1, zxid: 2, err: 0 };
    proto::write_frame(&mut out, &header, |w: &mut Writer<'_>| w.text(Some("/a")));
    let mut r = Reader::new(out.freeze().slice(6..));
    assert_eq!(r.int("length").unwrap() as usize, r.remaining());
    assert_eq!(proto::ReplyHeader::read(&mut r), Ok(header));
}
