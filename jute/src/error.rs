use std::fmt;

/// Why bytes are not the record that was expected: the field being read and what it lacked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// The input ends inside a field.
    Short { what: &'static str, needs: usize, has: usize },
    /// A length below -1, or above what the reader allows or holds.
    Length { what: &'static str, length: i32 },
    /// A null where the caller cannot use one.
    Null { what: &'static str },
    /// A value that no meaning is known for.
    Value { what: &'static str, value: i64 },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { what, needs, has } => write!(f, "{what}: needs {needs} bytes, {has} are left"),
            Self::Length { what, length } => write!(f, "{what}: unreasonable length {length}"),
            Self::Null { what } => write!(f, "{what}: null"),
            Self::Value { what, value } => write!(f, "{what}: unknown value {value}"),
        }
    }
}

impl std::error::Error for DecodeError {}
