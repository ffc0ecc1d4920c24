//! How far the log is known to be durable: the file `durable.zooid` beside the logs, two slots that are written
//! in turn.
//!
//! Without it, valid records behind a hole may be acknowledged ones behind damage, or pages of a batch that
//! reached the disk out of order in a power cut. With it, what lies below the mark was acknowledged. It is
//! written when a file is begun and at most a second after each sync, so it lags, and says nothing about
//! files other than its own: a Java server may have run in between.
//!
//! It stands beside the log, not in `dataDir/zooid`, because it is no cache: without it, a start after a power
//! cut would have to refuse what an unfinished batch looks like. Java ignores the name, its purge too. The name
//! sorts before `log.`, so that whoever copies the files of a running server in the order of their names gets
//! a mark that lags behind the logs, and not one ahead of them.
//!
//! on-disk 4.6 R9; design.md 3 "Directories".

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::names::LogName;
use super::{Disk, DiskError};
use crate::id::Zxid;

const NAME: &str = "durable.zooid";
const SLOT: u64 = 512;
const FORMAT: u32 = 1;
const LEN: usize = 44;

/// The end of the last record that was durable, in its file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark {
    pub file: LogName,
    pub offset: u64,
    /// The last durable zxid.
    pub zxid: Zxid,
    /// Counts the writes; the higher of two slots is the newer.
    pub serial: u64,
}

impl Mark {
    fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(LEN);
        out.put_u32(FORMAT);
        out.put_u64(self.serial);
        out.put_i64(self.file.0.0);
        out.put_u64(self.offset);
        out.put_i64(self.zxid.0);
        // Eight bytes as in Java's files, so that zeros are no valid slot.
        out.put_u64(u64::from(crc32fast::hash(&out)));
        out.freeze()
    }

    fn decode(mut slot: Bytes) -> Option<Self> {
        slot.truncate(LEN);
        if slot.len() < LEN {
            return None;
        }
        let sum = crc32fast::hash(&slot[..LEN - 8]);
        if slot.get_u32() != FORMAT {
            return None;
        }
        let (serial, file, offset, zxid) = (slot.get_u64(), slot.get_i64(), slot.get_u64(), slot.get_i64());
        let mark = Self { file: LogName(Zxid(file)), offset, zxid: Zxid(zxid), serial };
        (slot.get_u64() == u64::from(sum)).then_some(mark)
    }

    /// The newer of the two slots, `None` if neither is intact.
    pub fn read(disk: &impl Disk) -> Result<Option<Self>, DiskError> {
        if disk.len(NAME)?.is_none() {
            return Ok(None);
        }
        let slot = |n: u64| disk.read(NAME, n * SLOT, LEN).map(Self::decode);
        Ok([slot(0)?, slot(1)?].into_iter().flatten().max_by_key(|mark| mark.serial))
    }

    /// Replaces both slots, lest an older one be read if the new one is damaged. Durable on return.
    pub fn replace(self, disk: &impl Disk) -> Result<Self, DiskError> {
        Self { serial: self.serial + 1, ..self }.write(disk)?;
        let last = Self { serial: self.serial + 2, ..self };
        last.write(disk)?;
        Ok(last)
    }

    /// Writes the slot that is not the newest. Durable on return.
    pub fn write(&self, disk: &impl Disk) -> Result<(), DiskError> {
        let is_new = disk.len(NAME)?.is_none();
        if is_new {
            disk.create(NAME)?;
            disk.preallocate(NAME, 2 * SLOT)?;
        }
        disk.write_at(NAME, self.serial % 2 * SLOT, &self.encode())?;
        disk.sync(NAME)?;
        if is_new { disk.sync_dir() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_of_any_length_is_a_mark_or_none() {
        let mark = Mark { file: LogName(Zxid(5)), offset: 700, zxid: Zxid(9), serial: 3 };
        let mut slot = BytesMut::from(&mark.encode()[..]);
        slot.resize(SLOT as usize, 0);
        for len in 0..=slot.len() {
            let read = Mark::decode(slot.clone().freeze().slice(..len));
            assert_eq!(read, (len >= LEN).then_some(mark), "{len} bytes");
        }
    }
}
