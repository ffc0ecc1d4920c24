use bytes::{Bytes, BytesMut};

use crate::{DecodeError, Reader, Text, Writer};

/// Something with an encoding: a field type or a sequence of fields.
pub trait Record: Sized {
    fn read(r: &mut Reader) -> Result<Self, DecodeError>;
    fn write(&self, w: &mut Writer<'_>);
}

/// The encoding of `record` by itself, as files and peers have it.
pub fn encode<T: Record>(record: &T) -> Bytes {
    let mut out = BytesMut::new();
    record.write(&mut Writer::durable(&mut out));
    out.freeze()
}

macro_rules! primitive {
    ($ty:ty, $method:ident) => {
        impl Record for $ty {
            fn read(r: &mut Reader) -> Result<Self, DecodeError> {
                r.$method(stringify!($ty))
            }
            fn write(&self, w: &mut Writer<'_>) {
                w.$method(*self);
            }
        }
    };
}

primitive!(bool, bool);
primitive!(i32, int);
primitive!(i64, long);

impl Record for Option<Text> {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.text("string")
    }
    fn write(&self, w: &mut Writer<'_>) {
        w.text(self.as_deref());
    }
}

/// A string that is not null.
impl Record for Text {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.text("string")?.ok_or(DecodeError::Null { what: "string" })
    }
    fn write(&self, w: &mut Writer<'_>) {
        w.text(Some(self));
    }
}

impl Record for Option<Bytes> {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.buffer("buffer")
    }
    fn write(&self, w: &mut Writer<'_>) {
        w.buffer(self.as_deref());
    }
}

impl<T: Record> Record for Option<Vec<T>> {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.vector("vector")
    }
    fn write(&self, w: &mut Writer<'_>) {
        w.vector(self.as_deref());
    }
}

/// A vector that is not null.
impl<T: Record> Record for Vec<T> {
    fn read(r: &mut Reader) -> Result<Self, DecodeError> {
        r.vector("vector")?.ok_or(DecodeError::Null { what: "vector" })
    }
    fn write(&self, w: &mut Writer<'_>) {
        w.vector(Some(self));
    }
}

/// Declares a record from its fields, in the order of `zookeeper.jute`.
#[macro_export]
macro_rules! records {
    ($($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident : $ty:ty),* $(,)? })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

        impl $crate::Record for $name {
            #[allow(unused_variables)]
            fn read(r: &mut $crate::Reader) -> Result<Self, $crate::DecodeError> {
                Ok(Self { $($field: <$ty as $crate::Record>::read(r)?),* })
            }
            #[allow(unused_variables)]
            fn write(&self, w: &mut $crate::Writer<'_>) {
                $(<$ty as $crate::Record>::write(&self.$field, w);)*
            }
        }
    )*};
}
