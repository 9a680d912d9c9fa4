//! What holds the bytes of a mapping.

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use memory_range::Access;

use crate::mappable::Mappable;
use crate::owned_pages::OwnedPages;
use crate::sys::{Advice, Calls, Content};

/// What holds the bytes of a mapping.
///
/// Equality is identity: two [`Mappable`](Self::Mappable) are equal if they are the same mappable.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Backing {
    /// A memfd, a file, a ROM image or a device.
    Mappable(Mappable),
    /// Private zero-filled memory of the reservation. Its bytes are gone as soon as it is unmapped
    /// or mapped over; no other process and no other mapping can see them.
    Anonymous,
    /// Pages that read as zeros and cost no memory, whatever their number. Never writable.
    Zeros,
}

/// What kind of backing a mapped range has; all that a reservation needs to remember of it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum BackingKind {
    Mappable,
    Anonymous,
    Zeros,
}

impl fmt::Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Backing {
    /// Returns the mappable's name, `anonymous` or `zeros`.
    pub fn name(&self) -> &str {
        match self {
            Self::Mappable(mappable) => mappable.name(),
            Self::Anonymous => "anonymous",
            Self::Zeros => "zeros",
        }
    }

    /// Returns what a mapping may allow at most.
    pub fn access(&self) -> Access {
        match self {
            Self::Mappable(mappable) => mappable.access(),
            Self::Anonymous => Access::ReadWrite,
            Self::Zeros => Access::ReadOnly,
        }
    }

    /// Returns the mappable, if it is one.
    pub fn as_mappable(&self) -> Option<&Mappable> {
        match self {
            Self::Mappable(mappable) => Some(mappable),
            Self::Anonymous | Self::Zeros => None,
        }
    }

    pub(crate) fn kind(&self) -> BackingKind {
        match self {
            Self::Mappable(_) => BackingKind::Mappable,
            Self::Anonymous => BackingKind::Anonymous,
            Self::Zeros => BackingKind::Zeros,
        }
    }

    pub(crate) fn content(&self, offset: u64, access: Access) -> Content<'_> {
        match self {
            Self::Mappable(mappable) => mappable.content(offset, access),
            Self::Anonymous | Self::Zeros => Content::Anonymous(access),
        }
    }

    pub(crate) fn advice(&self) -> &'static [Advice] {
        self.as_mappable().map_or(&[], Mappable::advice)
    }

    /// Proves that a mapping can be made; see [`Mappable::prove`].
    pub(crate) fn prove(
        &self,
        calls: &Arc<Calls>,
        addr: NonNull<u8>,
        len: usize,
        offset: u64,
        access: Access,
    ) -> io::Result<Option<OwnedPages>> {
        match self {
            Self::Mappable(mappable) => mappable.prove(calls, addr, len, offset, access),
            // Under vm.overcommit_memory = 2 the kernel counts writable private memory in spite of
            // MAP_NORESERVE, and may refuse it.
            Self::Anonymous if access.is_writable() => {
                OwnedPages::new(calls, len, Content::Anonymous(access)).map(Some)
            }
            Self::Anonymous | Self::Zeros => Ok(None),
        }
    }
}

impl From<Mappable> for Backing {
    fn from(mappable: Mappable) -> Self {
        Self::Mappable(mappable)
    }
}
