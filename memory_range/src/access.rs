//! Read-only or read-write.

use core::fmt;

/// What may be done with memory: reading only, or reading and writing.
///
/// It has no value for "no access": what cannot be read is not mapped.
#[derive(Copy, Clone, PartialEq, Eq, Hash, Debug)]
pub enum Access {
    /// Reads only.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

impl Access {
    /// Returns [`ReadWrite`](Self::ReadWrite) for `true`, [`ReadOnly`](Self::ReadOnly) for `false`.
    pub const fn from_writable(writable: bool) -> Self {
        if writable {
            Self::ReadWrite
        } else {
            Self::ReadOnly
        }
    }

    /// Says whether writing is allowed.
    pub const fn is_writable(self) -> bool {
        matches!(self, Self::ReadWrite)
    }
}

/// Writes `ro` or `rw`. Width and fill are obeyed.
impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ReadOnly => "ro",
            Self::ReadWrite => "rw",
        })
    }
}
