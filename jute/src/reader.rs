use bytes::Bytes;

use crate::{DecodeError, Record, Text};

/// A cursor over one frame, record or file section.
///
/// Strings and buffers come out as views into the input. A length is checked against the bytes left before
/// it is believed, so a hostile one costs nothing.
///
/// ```
/// # use jute::Reader;
/// let mut r = Reader::new(bytes::Bytes::from_static(&[0, 0, 0, 2, b'h', b'i']));
/// assert_eq!(r.text("greeting").unwrap().unwrap(), "hi");
/// assert!(r.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Reader {
    input: Bytes,
    at: usize,
}

impl Reader {
    pub fn new(input: Bytes) -> Self {
        Self { input, at: 0 }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.input.len() - self.at
    }

    /// Bytes read so far.
    pub fn position(&self) -> usize {
        self.at
    }

    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }

    /// What has not been read yet, as a view.
    pub fn rest(&self) -> Bytes {
        self.input.slice(self.at..)
    }

    fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N], DecodeError> {
        match self.input[self.at..].first_chunk::<N>() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(DecodeError::Short { what, needs: N, has: self.remaining() }),
        }
    }

    pub fn byte(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(what).map(|[b]| b)
    }

    /// Any non-zero byte is true, as for Java.
    pub fn bool(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        self.byte(what).map(|b| b != 0)
    }

    pub fn int(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    pub fn long(&mut self, what: &'static str) -> Result<i64, DecodeError> {
        self.array(what).map(i64::from_be_bytes)
    }

    /// The next `n` bytes, as a view.
    pub fn take(&mut self, what: &'static str, n: usize) -> Result<Bytes, DecodeError> {
        if n > self.remaining() {
            return Err(DecodeError::Short { what, needs: n, has: self.remaining() });
        }
        let bytes = self.input.slice(self.at..self.at + n);
        self.at += n;
        Ok(bytes)
    }

    /// A buffer: `None` for length -1, which Java calls null and keeps apart from empty.
    pub fn buffer(&mut self, what: &'static str) -> Result<Option<Bytes>, DecodeError> {
        match self.int(what)? {
            -1 => Ok(None),
            length @ ..-1 => Err(DecodeError::Length { what, length }),
            length if length as usize > self.remaining() => Err(DecodeError::Length { what, length }),
            length => self.take(what, length as usize).map(Some),
        }
    }

    /// A string: `None` for length -1.
    pub fn text(&mut self, what: &'static str) -> Result<Option<Text>, DecodeError> {
        Ok(self.buffer(what)?.map(Text::from_java_bytes))
    }

    /// A vector: `None` for count -1; any other count below 1 is an empty one, as for Java. Grows as its
    /// items are read, never by the count that is claimed.
    pub fn vector<T: Record>(&mut self, what: &'static str) -> Result<Option<Vec<T>>, DecodeError> {
        let count = self.int(what)?;
        if count == -1 {
            return Ok(None);
        }
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::read(self)?);
        }
        Ok(Some(items))
    }
}
