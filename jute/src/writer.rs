use bytes::{BufMut, BytesMut};

use crate::Record;

/// Appends Java's encoding to a buffer.
pub struct Writer<'a> {
    out: &'a mut BytesMut,
    strings: Strings,
}

/// How a character above U+FFFF is written.
#[derive(Clone, Copy, PartialEq)]
enum Strings {
    /// Each UTF-16 unit by itself, so as the six bytes of two encoded surrogates (client-protocol 1.3).
    AsJava,
    /// As the four bytes of UTF-8: Java reads them correctly, its own six it does not (on-disk 0).
    AsUtf8,
}

impl<'a> Writer<'a> {
    /// For the client wire: byte for byte what Java writes.
    pub fn new(out: &'a mut BytesMut) -> Self {
        Self { out, strings: Strings::AsJava }
    }

    /// For files and peers: what is written reads back as it was.
    pub fn durable(out: &'a mut BytesMut) -> Self {
        Self { out, strings: Strings::AsUtf8 }
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.put_slice(bytes);
    }

    /// Bytes in the buffer so far, with what was there before this writer.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    pub fn byte(&mut self, v: u8) {
        self.out.put_u8(v);
    }

    pub fn bool(&mut self, v: bool) {
        self.out.put_u8(v.into());
    }

    pub fn int(&mut self, v: i32) {
        self.out.put_i32(v);
    }

    pub fn long(&mut self, v: i64) {
        self.out.put_i64(v);
    }

    /// A count or length, as Java's signed 32-bit. Ours never reach 2^31: a tree that large does not fit.
    pub fn count(&mut self, n: usize) {
        self.int(i32::try_from(n).expect("more than 2^31 items in one record"));
    }

    pub fn buffer(&mut self, v: Option<&[u8]>) {
        match v {
            None => self.int(-1),
            Some(bytes) => {
                self.count(bytes.len());
                self.out.put_slice(bytes);
            }
        }
    }

    pub fn text(&mut self, v: Option<&str>) {
        let Some(text) = v else { return self.int(-1) };
        // Only four-byte sequences, which start with 0xf0 or more, differ from UTF-8.
        if self.strings == Strings::AsUtf8 || text.bytes().all(|b| b < 0xf0) {
            return self.buffer(Some(text.as_bytes()));
        }
        let mut encoded = Vec::with_capacity(text.len() + 8);
        for unit in text.encode_utf16() {
            match unit {
                0..0x80 => encoded.push(unit as u8),
                0x80..0x800 => encoded.extend([0xc0 | (unit >> 6) as u8, 0x80 | (unit & 0x3f) as u8]),
                _ => encoded.extend([
                    0xe0 | (unit >> 12) as u8,
                    0x80 | (unit >> 6 & 0x3f) as u8,
                    0x80 | (unit & 0x3f) as u8,
                ]),
            }
        }
        self.buffer(Some(&encoded));
    }

    pub fn vector<T: Record>(&mut self, v: Option<&[T]>) {
        match v {
            None => self.int(-1),
            Some(items) => {
                self.count(items.len());
                for item in items {
                    item.write(self);
                }
            }
        }
    }
}
