//! A frame from a client: as the first one of a connection, and as a request of every kind.

use bytes::Bytes;
use jute::records::proto::{ConnectRequest, RequestHeader, read_only_byte};
use jute::{Reader, Record};
use zooid::proto::request::decode;

use crate::{bounded, of_views};

pub fn frame(input: &[u8]) {
    let frame = Bytes::copy_from_slice(input);
    bounded(of_views(input), || {
        let mut r = Reader::new(frame.clone());
        if let Ok(request) = ConnectRequest::read(&mut r) {
            let _ = (request, read_only_byte(&mut r));
        }
    });
    let mut r = Reader::new(frame);
    let Ok(header) = RequestHeader::read(&mut r) else { return };
    // The client's own op, and all the others on the same body: each is as easy to reach.
    for op in std::iter::once(header.op).chain(-11..=22).chain(100..=107) {
        bounded(of_views(input), || decode(op, r.rest()));
    }
}
