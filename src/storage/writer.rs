//! Who writes the log: the same calls, whether the server is alone or a member with more to carry out.

use super::image::Image;
use super::member::MemberStore;
use super::names::LogName;
use super::segments::{Durable, LogWriter};
use super::{Disk, DiskError, StorageError};
use crate::id::Zxid;

pub enum Writer<D, I> {
    Alone(Box<LogWriter<D>>),
    Member(Box<MemberStore<D, I>>),
}

macro_rules! either {
    ($self:expr, $writer:ident => $do:expr) => {
        match $self {
            Writer::Alone($writer) => $do,
            Writer::Member($writer) => $do,
        }
    };
}

impl<D: Disk + Clone, I: Image> Writer<D, I> {
    pub fn append(&mut self, first: Zxid, last: Zxid, records: &[u8]) -> Result<(), StorageError> {
        either!(self, writer => writer.append(first, last, records))
    }

    pub fn sync(&mut self) -> Result<Durable, StorageError> {
        either!(self, writer => writer.sync())
    }

    pub fn roll(&mut self) -> Result<Durable, StorageError> {
        either!(self, writer => writer.roll())
    }

    pub fn write_durable_mark(&mut self) -> Result<(), StorageError> {
        either!(self, writer => writer.write_durable_mark())
    }

    pub fn has_room(&mut self) -> Result<bool, DiskError> {
        either!(self, writer => writer.has_room())
    }

    pub fn file(&self) -> Option<(LogName, u64)> {
        either!(self, writer => writer.file())
    }

    pub fn appended(&self) -> u64 {
        either!(self, writer => writer.appended())
    }

    /// What only a member asks for.
    pub fn member(&mut self) -> &mut MemberStore<D, I> {
        match self {
            Self::Member(store) => store,
            Self::Alone(_) => panic!("only a member asks for that"),
        }
    }
}
