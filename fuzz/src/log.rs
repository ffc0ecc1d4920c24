//! A log file: found records decode and encode to the same; the end is judged without a panic.

use bytes::{Bytes, BytesMut};
use zooid::journal::{PAYLOAD_MAX, Scan, Source, placed, read_head, write_payload, write_record};
use zooid::txn::Logged;

use crate::{bounded, of_views};

/// Head and records of a file as `zooid::journal` writes them (on-disk 2.1).
const HEAD: usize = 16;
const PREFIX: usize = 12;
const END_BYTE: u8 = b'B';
/// What a scan reads at once; it is a view of the input here.
const STEP: usize = 1024;

pub fn log(input: &[u8]) {
    let file = Bytes::copy_from_slice(input);
    let Ok(_) = read_head(&file);
    let mut scan = Scan::new(&file);
    loop {
        let at = scan.position();
        let Ok(Some(record)) = bounded(STEP, || scan.read()) else { break };
        assert_eq!(record.offset, at);
        assert!(record.end() <= file.size() && record.end() == scan.position());
        let mut written = BytesMut::new();
        write_payload(&record.payload, &mut written);
        assert_eq!(written[..], input[at as usize..record.end() as usize]);
        assert_eq!(placed(&written).map(|placed| placed.zxid).collect::<Vec<_>>(), [record.zxid]);
        let payload = record.payload.clone();
        if let Ok(logged) = bounded(of_views(input), || Logged::read(payload)) {
            check_round_trip(&logged);
            assert_eq!((logged.header.zxid, logged.txn.op()), (record.zxid, record.op));
        }
    }
    let Ok(_) = bounded(STEP, || scan.end());
}

fn check_round_trip(logged: &Logged) {
    let mut payload = BytesMut::new();
    logged.write(&mut payload);
    assert_eq!(Logged::read(payload.clone().freeze()).as_ref(), Ok(logged));
    let mut record = BytesMut::new();
    if let Ok(checksum) = write_record(&logged.header, &logged.txn, logged.digest, PAYLOAD_MAX, &mut record) {
        assert_eq!(placed(&record).map(|placed| placed.checksum).collect::<Vec<_>>(), [checksum]);
    }
}

/// Puts right what keeps mutated records from being looked into: checksums and end bytes, as far as lengths
/// lead from record to record.
pub fn mend_log(file: &mut [u8]) {
    let mut rest = file.get_mut(HEAD..).unwrap_or_default();
    while let Some((prefix, behind)) = rest.split_first_chunk_mut::<PREFIX>() {
        let len = u32::from_be_bytes(*prefix.last_chunk().expect("the prefix ends with the length")) as usize;
        if len == 0 || len >= behind.len() {
            return;
        }
        let (payload, behind) = behind.split_at_mut(len);
        let mut record = BytesMut::new();
        write_payload(payload, &mut record);
        prefix[..8].copy_from_slice(&record[..8]);
        behind[0] = END_BYTE;
        rest = &mut behind[1..];
    }
}
