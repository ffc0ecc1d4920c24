//! Strings as Java decodes and encodes them (client-protocol 1.3).

use bytes::{Bytes, BytesMut};
use jute::{Reader, Text, Writer, encode};

#[track_caller]
fn check_decoded(bytes: &[u8], expected: &str) {
    assert_eq!(Text::from_java_bytes(Bytes::copy_from_slice(bytes)), expected, "{bytes:02x?}");
}

// client-protocol 1.3
#[test]
fn a_byte_that_starts_nothing_is_replaced_alone() {
    for byte in [0xff, 0xfe, 0xf8, 0xf5, 0xc0, 0xc1, 0x80, 0xbf] {
        check_decoded(&[byte], "\u{fffd}");
        check_decoded(&[b'a', byte, byte, b'b'], "a\u{fffd}\u{fffd}b");
    }
}

// client-protocol 1.3
#[test]
fn a_sequence_that_is_cut_is_replaced_once() {
    for cut in [&b"\xc3"[..], b"\xe2\x82", b"\xe2", b"\xf0\x9f\x98", b"\xf0\x9f", b"\xf0", b"\xed\xa0"] {
        check_decoded(cut, "\u{fffd}");
        check_decoded(&[b"/", cut, b"/x"].concat(), "/\u{fffd}/x");
        check_decoded(&[cut, cut].concat(), "\u{fffd}\u{fffd}");
    }
}

// client-protocol 1.3
#[test]
fn a_sequence_longer_than_it_needs_be_is_replaced_byte_by_byte() {
    check_decoded(b"\xc0\xaf", "\u{fffd}\u{fffd}");
    check_decoded(b"\xe0\x80\xaf", "\u{fffd}\u{fffd}\u{fffd}");
    check_decoded(b"\xf0\x8f\xbf\xbf", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
    check_decoded(b"\xf4\x90\x80\x80", "\u{fffd}\u{fffd}\u{fffd}\u{fffd}");
}

// client-protocol 1.3
#[test]
fn an_encoded_surrogate_is_replaced_once() {
    check_decoded(b"\xed\xa0\xbd", "\u{fffd}");
    check_decoded(b"/\xed\xa0\xbd\xed\xb8\x80", "/\u{fffd}\u{fffd}");
    check_decoded(b"\xed\xa0A", "\u{fffd}A");
    check_decoded(b"\xed\xa0\xed\xb8\x80", "\u{fffd}\u{fffd}");
    check_decoded(b"\xed\x9f\xbf\xee\x80\x80", "\u{d7ff}\u{e000}");
}

/// Every sequence of up to four of the bytes at which UTF-8 decides something, against what `new String`
/// made of it in Java 17 and 25.
#[test]
fn malformed_sequences_are_replaced_as_java_replaces_them() {
    const BYTES: [u8; 21] = [
        0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xb0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf1,
        0xf4, 0xf5, 0xff,
    ];
    const JAVA: u64 = 0xa9a1_923a_f76a_8663;
    // FNV-1a over length and UTF-8 of every result.
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    for len in 1..=4 {
        for mut number in 0..BYTES.len().pow(len) {
            let mut bytes = vec![0; len as usize];
            for byte in bytes.iter_mut().rev() {
                *byte = BYTES[number % BYTES.len()];
                number /= BYTES.len();
            }
            let text = Text::from_java_bytes(Bytes::from(bytes));
            for byte in std::iter::once(text.len() as u8).chain(text.bytes()) {
                sum = (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
            }
        }
    }
    assert_eq!(sum, JAVA);
}

fn for_clients(text: &str) -> Bytes {
    let mut out = BytesMut::new();
    Writer::new(&mut out).text(Some(text));
    out.freeze()
}

// client-protocol 1.3
#[test]
fn for_clients_a_character_above_ffff_is_two_encoded_surrogates() {
    assert_eq!(for_clients("/😀")[..], *b"\0\0\0\x07/\xed\xa0\xbd\xed\xb8\x80");
    assert_eq!(for_clients("\u{10000}\u{10ffff}")[..], *b"\0\0\0\x0c\xed\xa0\x80\xed\xb0\x80\xed\xaf\xbf\xed\xbf\xbf");
}

#[test]
fn up_to_ffff_it_is_utf8() {
    for c in ['\0', '\u{7f}', '\u{80}', '\u{7ff}', '\u{800}', '\u{d7ff}', '\u{e000}', '\u{fffd}', '\u{ffff}'] {
        let mut utf8 = [0; 4];
        let utf8 = c.encode_utf8(&mut utf8).as_bytes();
        assert_eq!(for_clients(&c.to_string())[4..], *utf8);
        // Also where another character makes the string take the long way.
        let mixed = for_clients(&format!("😀{c}"));
        assert_eq!(mixed[4..10], *b"\xed\xa0\xbd\xed\xb8\x80");
        assert_eq!(mixed[10..], *utf8);
    }
}

/// Java does not read its own encoding back (on-disk 0), so files and peers get plain UTF-8.
#[test]
fn for_files_and_peers_it_reads_back_as_it_was() {
    let text: Text = "/😀\u{10ffff}é".into();
    let encoded = encode(&text);
    assert_eq!(encoded[4..], *text.as_bytes());
    assert_eq!(Reader::new(encoded).text("text"), Ok(Some(text)));
}
