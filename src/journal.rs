//! The log file, record by record: what is appended to it, and what a reader finds in it up to the first
//! damage.
//!
//! The hard part is the end. After the last record there are zeros, or the file ends, or a crash has left a
//! part of a record there; and now and then a record that was acknowledged has been damaged. Java takes most
//! of these for the end of the file and loses what stands behind without a word. Here an end is a *torn
//! tail* only if a write cut short explains every byte of it and no valid record stands anywhere behind it;
//! everything else is damage, and named.
//!
//! Java: `FileTxnLog`, `FileTxnIterator`, `Util.readTxnBytes`; on-disk 2.1, 2.5, 4.6 R7 to R9.

mod sums;

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::id::Zxid;
use crate::txn::{Header, Txn, write_logged};
use sums::Sums;

const MAGIC: u32 = u32::from_be_bytes(*b"ZKLG");
const VERSION: u32 = 2;
pub const FILE_HEADER_LEN: u64 = 16;
/// Checksum and length before the payload, the end byte behind it.
const PREFIX: usize = 12;
const OVERHEAD: usize = PREFIX + 1;
const END_BYTE: u8 = b'B';
/// A payload has at least a transaction's header.
const PAYLOAD_MIN: usize = 32;
/// Java reads no larger payload unless `jute.maxbuffer` is raised, though it writes and acknowledges it (on-disk 0).
pub const PAYLOAD_MAX: usize = 2_097_150;
/// What a disk writes or loses as a whole.
const SECTOR: u64 = 512;

/// The first bytes of every log file.
pub fn file_header() -> [u8; FILE_HEADER_LEN as usize] {
    let mut header = [0; FILE_HEADER_LEN as usize];
    header[..4].copy_from_slice(&MAGIC.to_be_bytes());
    header[4..8].copy_from_slice(&VERSION.to_be_bytes());
    header
}

/// A transaction too large for a record that Java could read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a transaction of {len} bytes does not fit into a log record, whose limit is {most}")]
pub struct TooLarge {
    pub len: usize,
    pub most: usize,
}

/// Appends a transaction as one record and returns its checksum. Nothing is appended if its payload has more than `most`
/// bytes.
pub fn write_record(
    header: &Header,
    txn: &Txn,
    digest: Option<u64>,
    most: usize,
    out: &mut BytesMut,
) -> Result<u32, TooLarge> {
    let start = out.len();
    out.put_bytes(0, PREFIX);
    write_logged(header, txn, digest, out);
    let len = out.len() - start - PREFIX;
    if len > most {
        out.truncate(start);
        return Err(TooLarge { len, most });
    }
    Ok(complete(out, start))
}

/// As [`write_record`], around a payload that is already encoded: a proposal as it came from a leader, which has seen to
/// its size.
pub fn write_payload(payload: &[u8], out: &mut BytesMut) {
    let start = out.len();
    out.put_bytes(0, PREFIX);
    out.put_slice(payload);
    complete(out, start);
}

/// Puts the sum and the length before a payload, and the end behind it.
fn complete(out: &mut BytesMut, start: usize) -> u32 {
    let len = out.len() - start - PREFIX;
    let checksum = simd_adler32::adler32(&&out[start + PREFIX..]);
    // Java keeps the unsigned 32 bits in a long.
    out[start..start + 8].copy_from_slice(&u64::from(checksum).to_be_bytes());
    out[start + 8..start + PREFIX].copy_from_slice(&(len as u32).to_be_bytes());
    out.put_u8(END_BYTE);
    checksum
}

/// Where a record stands in a batch that was encoded here.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Placed {
    pub zxid: Zxid,
    /// From the start of the batch.
    pub offset: u64,
    pub checksum: u32,
    /// Where its payload stands in the batch.
    pub payload: std::ops::Range<usize>,
}

/// The records of a batch made by [`write_record`], in their order. Panics if it is anything else.
pub fn placed(batch: &[u8]) -> impl Iterator<Item = Placed> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let mut record = batch.get(at..).filter(|rest| !rest.is_empty())?;
        let offset = at as u64;
        let checksum = record.get_u64() as u32;
        let len = record.get_u32() as usize;
        assert!(len >= PAYLOAD_MIN, "a record of {len} bytes has no header");
        assert!(record[len] == END_BYTE, "a batch is made of whole records");
        let payload = at + PREFIX..at + PREFIX + len;
        at += OVERHEAD + len;
        Some(Placed { zxid: payload_zxid(record), offset, checksum, payload })
    })
}

fn payload_zxid(payload: &[u8]) -> Zxid {
    Zxid((&payload[12..20]).get_i64())
}

fn payload_op(payload: &[u8]) -> i32 {
    (&payload[28..32]).get_i32()
}

/// A file to read, in pieces.
pub trait Source {
    type Error;
    fn size(&self) -> u64;
    /// The bytes from `offset`, `len` of them or as many as there are.
    fn read(&self, offset: u64, len: usize) -> Result<Bytes, Self::Error>;
}

impl Source for Bytes {
    type Error = Infallible;

    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, offset: u64, len: usize) -> Result<Bytes, Infallible> {
        let from = (offset as usize).min(self.len());
        Ok(self.slice(from..(from + len).min(self.len())))
    }
}

/// What the first 16 bytes of a log file are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Head {
    Good,
    /// Java does not look at version and dbid; whoever wrote others should be noticed.
    Odd {
        version: i32,
        dbid: i64,
    },
    /// Fewer than 16 bytes, or zeros from start to end: made, and lost before anything in it was acknowledged.
    Unwritten,
    BadMagic(i32),
}

/// Reads the head of a log file.
pub fn read_head<S: Source>(source: &S) -> Result<Head, S::Error> {
    let mut head = source.read(0, FILE_HEADER_LEN as usize)?;
    if head.len() < FILE_HEADER_LEN as usize {
        return Ok(Head::Unwritten);
    }
    let (magic, version, dbid) = (head.get_i32(), head.get_i32(), head.get_i64());
    Ok(match (magic as u32, version as u32, dbid) {
        (MAGIC, VERSION, 0) => Head::Good,
        (MAGIC, ..) => Head::Odd { version, dbid },
        (0, ..) if Window::new(source).is_zero_from(0)? => Head::Unwritten,
        _ => Head::BadMagic(magic),
    })
}

/// A record as it stands in its file. Its checksum has been compared, its body not been decoded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    pub offset: u64,
    pub zxid: Zxid,
    /// The type of the transaction.
    pub op: i32,
    pub checksum: u32,
    pub payload: Bytes,
}

impl Record {
    /// The offset right behind it.
    pub fn end(&self) -> u64 {
        self.offset + (OVERHEAD + self.payload.len()) as u64
    }
}

/// How a file ends behind its last good record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum End {
    /// The file ends there, or holds only zeros from there on.
    Clean,
    /// A write that was cut short. Java reads over it in any file.
    Torn,
    /// A write of which at least one sector never arrived, nothing valid behind it. Java would not start.
    Holed,
    /// Something else, or valid records behind.
    Damaged(Damage),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Damage {
    pub what: Fault,
    /// A sector of zeros lies in it: a batch of which a power cut let only a part through looks like this.
    pub sector_missing: bool,
    /// The first and the last valid record behind.
    pub behind: Option<Behind>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Behind {
    pub offset: u64,
    pub first: Zxid,
    pub last: Zxid,
}

/// What is wrong with the bytes where a record should stand.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Fault {
    #[error("the length is {0}")]
    Length(i32),
    #[error("the length is {stored}, but the payload is whole with {whole} bytes")]
    LengthOfWhole { stored: i32, whole: usize },
    #[error("the length {0} runs past the end of the file")]
    PastEnd(i32),
    #[error("zeros stand where a record should start")]
    Zeros,
    #[error("the end byte is {0:#04x}, not 0x42")]
    EndByte(u8),
    #[error("the checksum is {stored:#x}, that of the payload is {actual:#x}")]
    Checksum { stored: u64, actual: u32 },
    #[error("the payload of {0} bytes is shorter than a transaction's header")]
    Header(usize),
}

/// Reads a log file record by record.
pub struct Scan<'a, S> {
    window: Window<'a, S>,
    at: u64,
    last: Zxid,
}

/// What stands at the position of a scan.
enum Here {
    Record(Record),
    /// Not a record, and why.
    Not(Fault),
    End,
}

impl<'a, S: Source> Scan<'a, S> {
    /// From the first record on. The head must have been read.
    pub fn new(source: &'a S) -> Self {
        Self::from(source, FILE_HEADER_LEN)
    }

    /// From the record that starts at `offset`.
    pub fn from(source: &'a S, offset: u64) -> Self {
        Self { window: Window::new(source), at: offset, last: Zxid(i64::MIN) }
    }

    /// The offset behind the last record that was read.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The next record, or `None` at the first position where there is none.
    pub fn read(&mut self) -> Result<Option<Record>, S::Error> {
        match self.here(self.at)? {
            Here::Record(record) => {
                self.at = record.end();
                self.last = record.zxid;
                Ok(Some(record))
            }
            Here::Not(_) | Here::End => Ok(None),
        }
    }

    fn here(&mut self, at: u64) -> Result<Here, S::Error> {
        let mut head = self.window.bytes(at, PREFIX)?;
        if head.len() < PREFIX {
            return Ok(Here::End);
        }
        let (stored, len) = (head.get_u64(), head.get_i32());
        if len <= 0 {
            return Ok(if len == 0 { Here::Not(Fault::Zeros) } else { Here::Not(Fault::Length(len)) });
        }
        let n = len as usize;
        if at + (OVERHEAD + n) as u64 > self.window.len {
            return Ok(Here::Not(Fault::PastEnd(len)));
        }
        let mut payload = self.window.bytes(at + PREFIX as u64, n + 1)?;
        // Somebody has cut the file since this began.
        let Some(&end_byte) = payload.get(n) else { return Ok(Here::End) };
        payload.truncate(n);
        if end_byte != END_BYTE {
            return Ok(Here::Not(Fault::EndByte(end_byte)));
        }
        let actual = simd_adler32::adler32(&&payload[..]);
        if stored != u64::from(actual) {
            return Ok(Here::Not(Fault::Checksum { stored, actual }));
        }
        if n < PAYLOAD_MIN {
            return Ok(Here::Not(Fault::Header(n)));
        }
        let (zxid, op) = (payload_zxid(&payload), payload_op(&payload));
        Ok(Here::Record(Record { offset: at, zxid, op, checksum: actual, payload }))
    }

    /// Judges what stands where [`Scan::read`] found no record.
    pub fn end(mut self) -> Result<End, S::Error> {
        let at = self.at;
        if self.window.is_zero_from(at)? {
            return Ok(End::Clean);
        }
        let here = self.here(at)?;
        if let Some(behind) = self.find_behind(at + 1)? {
            let what = match here {
                Here::Not(fault) => fault,
                Here::End | Here::Record(_) => Fault::Zeros,
            };
            // A lost sector may reach into the record behind, as far as that begins with zeros anyway.
            let head = self.window.bytes(behind.offset, 8)?;
            let zeros = head.iter().take_while(|byte| **byte == 0).count() as u64;
            let sector_missing = misses_checksum(at, what) || self.misses_sector(at, behind.offset + zeros)?;
            return Ok(End::Damaged(Damage { what, sector_missing, behind: Some(behind) }));
        }
        let damaged = |what| End::Damaged(Damage { what, sector_missing: false, behind: None });
        let fault = match here {
            Here::End => return Ok(End::Torn),
            Here::Record(_) => unreachable!("the scan stopped before a record"),
            Here::Not(fault) => fault,
        };
        if let Fault::Length(_) | Fault::Header(_) = fault {
            return Ok(damaged(fault));
        }
        if let Some(whole) = self.whole_payload(at)? {
            // L11: only the end byte has not arrived, and a record without it was never acknowledged.
            let mut head = self.window.bytes(at + 8, 4)?;
            let stored = head.get_i32();
            if whole != stored as usize {
                return Ok(damaged(Fault::LengthOfWhole { stored, whole }));
            }
            return Ok(if fault == Fault::EndByte(0) { End::Torn } else { damaged(fault) });
        }
        match fault {
            // Written in order from its start, it can't have anything behind a length that is missing.
            Fault::Zeros if self.window.is_zero_from(at + 8)? => return Ok(End::Torn),
            Fault::PastEnd(_) | Fault::EndByte(0) => return Ok(End::Torn),
            _ => {}
        }
        let end = match fault {
            Fault::Checksum { .. } => at + OVERHEAD as u64 + u64::from(self.window.bytes(at + 8, 4)?.get_u32()),
            _ => self.window.end_of_data(at)?,
        };
        let sector_missing = misses_checksum(at, fault) || self.misses_sector(at, end)?;
        Ok(if sector_missing { End::Holed } else { damaged(fault) })
    }

    /// The length with which the bytes at `at` would be a whole record's payload, whatever their length
    /// field says: the checksum does not cover it. `None` if there is none.
    fn whole_payload(&mut self, at: u64) -> Result<Option<usize>, S::Error> {
        let stored = self.window.bytes(at, 8)?.get_u64();
        if stored == 0 || stored > u64::from(u32::MAX) {
            return Ok(None);
        }
        let bytes = self.window.bytes(at + PREFIX as u64, 2 * PAYLOAD_MAX)?;
        // Byte for byte, as Adler-32 is defined, because the sum of every prefix is wanted.
        let (mut a, mut b) = (1u32, 0u32);
        for (n, byte) in bytes.iter().enumerate() {
            if n >= PAYLOAD_MIN && (b << 16 | a) == stored as u32 && matches!(*byte, END_BYTE | 0) {
                return Ok(Some(n));
            }
            a = (a + u32::from(*byte)) % 65521;
            b = (b + a) % 65521;
        }
        Ok(None)
    }

    /// Looks for valid records at every offset from `from` on, whatever the lengths before say.
    fn find_behind(&mut self, from: u64) -> Result<Option<Behind>, S::Error> {
        let mut found: Option<Behind> = None;
        let mut sums = Sums::new(self.window.source, from);
        let mut at = from;
        while at + (OVERHEAD + PAYLOAD_MIN) as u64 <= self.window.len {
            let after = found.map_or(self.last, |behind| behind.last);
            let bytes = self.window.bytes(at, PIECE)?;
            let may_be = |bytes: &[u8]| may_start(bytes) && payload_zxid(&bytes[PREFIX..]) > after;
            let Some(candidate) = bytes.windows(PREFIX + 20).position(may_be) else {
                // Fewer than that: the file was cut meanwhile.
                let Some(step) = bytes.len().checked_sub(PREFIX + 19).filter(|step| *step > 0) else { break };
                at += step as u64;
                continue;
            };
            let mut head = bytes.slice(candidate..);
            at += candidate as u64;
            let (stored, payload) = (head.get_u64(), at + PREFIX as u64);
            let end = payload + u64::from(head.get_u32());
            if end >= self.window.len || u64::from(sums.of(payload, end)?) != stored {
                at += 1;
                continue;
            }
            match self.here(at)? {
                Here::Record(record) => {
                    let first = found.unwrap_or(Behind { offset: at, first: record.zxid, last: record.zxid });
                    found = Some(Behind { last: record.zxid, ..first });
                    at = record.end();
                }
                _ => at += 1,
            }
        }
        Ok(found)
    }

    /// A sector in which everything from `from` up to `to` reads as zero. The first one counts from `from`
    /// on, if that covers at least the checksum: before it stands what had been written earlier.
    fn misses_sector(&mut self, from: u64, to: u64) -> Result<bool, S::Error> {
        let mut start = from;
        while start < to {
            let end = (start / SECTOR + 1) * SECTOR;
            let long_enough = if start == from { end - start >= 8 } else { end <= to };
            let bytes = self.window.bytes(start, (end - start) as usize)?;
            if long_enough && bytes.len() as u64 == end - start && is_zero(&bytes) {
                return Ok(true);
            }
            start = end;
        }
        Ok(false)
    }
}

/// Whether a lost sector took the end of the record's first sector and with it a part of the checksum, and
/// what is left of the checksum is right. Its upper half is zero anyway.
fn misses_checksum(at: u64, fault: Fault) -> bool {
    let Fault::Checksum { stored, actual } = fault else { return false };
    let in_sector = SECTOR - at % SECTOR;
    if !(5..8).contains(&in_sector) {
        return false;
    }
    let left = u32::MAX >> ((in_sector - 4) * 8);
    stored == u64::from(actual & left)
}

/// Whether a record may start here, by its first bytes alone: a checksum of 32 bits, a length, a zxid.
fn may_start(bytes: &[u8]) -> bool {
    bytes[..4] == [0; 4] && bytes[8] < 0x80 && bytes[8..12] != [0; 4] && bytes[24] < 0x80
}

fn is_zero(bytes: &[u8]) -> bool {
    // In blocks, so that the compiler compares many at once.
    bytes.chunks(64).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

/// How much is read at once.
const STEP: usize = 256 * 1024;
/// What the first read takes: of most files of a long log nothing but the first record is looked at.
const FIRST_STEP: usize = 4 << 10;
/// How much of it is looked at from one offset on, so that most offsets cost no reading.
const PIECE: usize = 4 * 1024;

/// A moving view of a source.
struct Window<'a, S> {
    source: &'a S,
    len: u64,
    bytes: Bytes,
    start: u64,
}

impl<'a, S: Source> Window<'a, S> {
    fn new(source: &'a S) -> Self {
        Self { source, len: source.size(), bytes: Bytes::new(), start: 0 }
    }

    /// `len` bytes from `at`, fewer at the end of the file.
    fn bytes(&mut self, at: u64, len: usize) -> Result<Bytes, S::Error> {
        let len = len.min(self.len.saturating_sub(at) as usize);
        let holds = at >= self.start && at + len as u64 <= self.start + self.bytes.len() as u64;
        if !holds {
            let step = if self.bytes.is_empty() { FIRST_STEP } else { STEP };
            self.bytes = self.source.read(at, len.max(step))?;
            self.start = at;
        }
        let from = (at - self.start) as usize;
        Ok(self.bytes.slice(from..(from + len).min(self.bytes.len())))
    }

    fn is_zero_from(&mut self, mut at: u64) -> Result<bool, S::Error> {
        while at < self.len {
            let bytes = self.bytes(at, STEP)?;
            if !is_zero(&bytes) {
                return Ok(false);
            }
            at += bytes.len().max(1) as u64;
        }
        Ok(true)
    }

    /// The offset behind the last byte from `at` on that is not zero.
    fn end_of_data(&mut self, mut at: u64) -> Result<u64, S::Error> {
        let mut end = at;
        while at < self.len {
            let bytes = self.bytes(at, STEP)?;
            if let Some(last) = bytes.iter().rposition(|byte| *byte != 0) {
                end = at + last as u64 + 1;
            }
            at += bytes.len().max(1) as u64;
        }
        Ok(end)
    }
}
