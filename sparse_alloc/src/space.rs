//! Reserved address space without a list of what is mapped in it.

mod editor;
mod error;
mod map;
mod protect;
mod unmap;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use memory_range::{MemoryRange, PAGE_SIZE};

use crate::access;
use crate::alignment::Alignment;
use crate::headroom::Headroom;
use crate::limits;
use crate::mapped_region::MappedRegion;
use crate::owned_pages::OwnedPages;
use crate::sys::{self, CallCounts, Calls, Content};

pub use editor::{SpaceEditor, Urgency};
pub use error::{MapError, ProtectError, ReserveError, UnmapError};

/// Reserved address space, which stays at its place for as long as this lives.
///
/// It does not know what is mapped in it: who changes that, by the one [`SpaceEditor`], does. See
/// [`Reservation`](crate::Reservation) for address space that keeps a list by itself.
///
/// Invariants: `len` is the length of `pages`; every range that passed `in_bounds` lies in `pages`.
pub struct ReservedSpace {
    pages: OwnedPages,
    len: u64,
    alignment: Alignment,
    calls: Arc<Calls>,
}

/// Why a range is not one of the space; each operation has its own error for it.
pub(crate) enum Bounds {
    Empty,
    Outside,
}

impl ReservedSpace {
    /// Reserves address space, and arms the headroom for undoing.
    fn reserve(len: u64, alignment: Alignment) -> Result<(Self, Headroom), ReserveError> {
        if len == 0 {
            return Err(ReserveError::Empty);
        }
        if !len.is_multiple_of(PAGE_SIZE) {
            return Err(ReserveError::Unaligned { len });
        }
        access::install().map_err(|source| ReserveError::Handler { source })?;
        let max = crate::Reservation::MAX_LEN;
        let too_large = || ReserveError::TooLarge { len, max };
        if len > max {
            return Err(too_large());
        }
        let failed = |source: io::Error| match limits::vma_limit(&source) {
            Some(used) => ReserveError::VmaLimit {
                len,
                count: used.count,
                limit: used.limit,
            },
            None => ReserveError::NoRoom { len, source },
        };
        let bytes = usize::try_from(len).map_err(|_| too_large())?;
        let align = usize::try_from(alignment.bytes()).map_err(|_| too_large())?;
        let calls = Arc::<Calls>::default();
        let mut headroom = Headroom::unarmed(&calls);
        headroom.arm().map_err(failed)?;
        let pages = OwnedPages::aligned(&calls, bytes, align).map_err(failed)?;
        let space = Self {
            pages,
            len,
            alignment,
            calls,
        };
        Ok((space, headroom))
    }

    /// Returns the alignment of the base.
    pub fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Returns all of the space as a range of offsets, from zero to its length.
    pub fn range(&self) -> MemoryRange {
        MemoryRange::try_from_len(0, self.len).unwrap_or(MemoryRange::EMPTY)
    }

    /// Returns how many system calls were made to change what is mapped here so far.
    pub fn calls(&self) -> CallCounts {
        self.calls.counts()
    }

    pub(crate) fn counter(&self) -> &Calls {
        &self.calls
    }

    /// Returns address and length of a range that is not empty and lies in the space.
    #[inline]
    pub(crate) fn in_bounds(&self, range: MemoryRange) -> Result<(NonNull<u8>, usize), Bounds> {
        if range.is_empty() {
            return Err(Bounds::Empty);
        }
        if range.end() > self.len {
            return Err(Bounds::Outside);
        }
        let offset = usize::try_from(range.start()).map_err(|_| Bounds::Outside)?;
        let len = usize::try_from(range.len()).map_err(|_| Bounds::Outside)?;
        Ok((self.pages.at(offset), len))
    }

    /// Makes sure that `addr..addr + len` is reserved after a call that failed, and says whether it
    /// always was. The kernel may have removed what was there before it found that it cannot map.
    #[cold]
    fn survived(&self, headroom: &mut Headroom, addr: NonNull<u8>, len: usize) -> bool {
        if sys::is_whole(addr, len) {
            return true;
        }
        let fill = || sys::map_into_hole(&self.calls, addr, len, Content::Reserved);
        let filled = fill();
        if filled.is_err() && headroom.release() {
            let _ = fill();
        }
        false
    }
}

fn is_out_of_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

// SAFETY: `pages` is given back only when the space is dropped, and its address never changes;
// `len` is above zero. Every change maps over a part of `pages` in one call, or reserves it again
// if that call left a hole (`survived`). Only raw memory is ever mapped.
unsafe impl MappedRegion for ReservedSpace {
    fn base(&self) -> NonNull<u8> {
        self.pages.base()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl fmt::Debug for ReservedSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReservedSpace")
            .field("base", &self.pages.base())
            .field("len", &self.len)
            .field("alignment", &self.alignment)
            .finish_non_exhaustive()
    }
}
