//! Reserved address space, into which memory is mapped.

mod error;
mod map;
mod pages;
mod protect;
mod undo;
mod unmap;

use std::fmt;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_range::{Access, MemoryRange, PAGE_SIZE, RangeMap, RangeValue};

use crate::access;
use crate::alignment::Alignment;
use crate::backing::BackingKind;
use crate::headroom::Headroom;
use crate::limits;
use crate::mapped_region::MappedRegion;
use crate::owned_pages::OwnedPages;
use crate::sys::{self, CallCounts, Calls, Content};

pub use error::{MapError, ProtectError, ReserveError, UnmapError};
pub use undo::Undo;

/// Address space that is reserved, costs no memory, and into which backings are mapped.
///
/// Ranges are offsets from its start. All of it that is not mapped is inaccessible. Mapping over
/// mappings replaces the overlap, as `mmap` does, and is atomic for whoever accesses the range: they
/// find the old bytes or the new ones. The address space goes back to the kernel on drop.
///
/// A change that fails has changed nothing, with the rare exceptions that its error says
/// ([`MapError::Lost`], [`ProtectError::Torn`]). So that a caller who makes several changes can go
/// back when a later one fails for want of VMAs, the reservation holds a few back; only
/// [`undo`](Self::undo) draws on them.
///
/// Changes may come from several threads, and are made one after the other.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use sparse_alloc::{Alignment, Backing, MapError, Reservation, SharedMemory};
///
/// // 1 TiB of address space; no memory yet.
/// let reservation = Reservation::new(1 << 40, Alignment::Huge2M)?;
/// let ram = SharedMemory::new("ram", 0x4000)?;
/// let backing = Backing::from(&ram);
///
/// reservation.map(MemoryRange::new(0x1000..0x3000), &backing, 0, Access::ReadWrite)?;
/// reservation.protect(MemoryRange::new(0x2000..0x3000), Access::ReadOnly)?;
/// reservation.unmap(MemoryRange::new(0x1000..0x2000))?;
///
/// // Past the end of the file: an error at once, and nothing has changed.
/// let error = reservation.map(MemoryRange::new(0x0..0x3000), &backing, 0x2000, Access::ReadWrite);
/// assert!(matches!(error, Err(MapError::PastEnd { size: 0x4000, .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Invariants: `len` is the length of `pages`; every range that passed `in_bounds` lies in `pages`; `mapped` holds exactly the ranges that are not inaccessible.
pub struct Reservation {
    // Before `pages`, so that the held-back VMAs go first: giving the pages back may need one.
    state: Mutex<State>,
    pages: OwnedPages,
    len: u64,
    alignment: Alignment,
    calls: Arc<Calls>,
}

#[derive(Debug)]
struct State {
    mapped: RangeMap<Mapped>,
    headroom: Headroom,
}

/// What is remembered of a mapped range.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Mapped {
    /// What it allows now.
    access: Access,
    /// What its backing allows at most.
    limit: Access,
    kind: BackingKind,
}

impl RangeValue for Mapped {}

/// What is mapped in a reservation, summed up.
pub(crate) struct Summary {
    pub(crate) ranges: usize,
    pub(crate) bytes: u64,
    pub(crate) headroom: bool,
}

/// What a change may use.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Urgency {
    /// An ordinary change: the held-back VMAs stay held back.
    Change,
    /// Undoing a failed change: they may be given up.
    Undo,
}

impl Reservation {
    /// The longest reservation: 64 TiB. An x86-64 process has 128 TiB for everything.
    pub const MAX_LEN: u64 = 64 << 40;

    /// Reserves `len` bytes of address space, a multiple of the page size, at an aligned address.
    ///
    /// # Errors
    ///
    /// When `len` is zero, unaligned or above [`MAX_LEN`](Self::MAX_LEN); when the process has no
    /// address space or no VMAs left.
    pub fn new(len: u64, alignment: Alignment) -> Result<Self, ReserveError> {
        if len == 0 {
            return Err(ReserveError::Empty);
        }
        if !len.is_multiple_of(PAGE_SIZE) {
            return Err(ReserveError::Unaligned { len });
        }
        access::install().map_err(|source| ReserveError::Handler { source })?;
        let too_large = || ReserveError::TooLarge {
            len,
            max: Self::MAX_LEN,
        };
        if len > Self::MAX_LEN {
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
        Ok(Self {
            state: Mutex::new(State {
                mapped: RangeMap::new(),
                headroom,
            }),
            pages,
            len,
            alignment,
            calls,
        })
    }

    /// Returns the alignment of the base.
    pub fn alignment(&self) -> Alignment {
        self.alignment
    }

    /// Returns the whole reservation as a range of offsets, from zero to its length.
    pub fn range(&self) -> MemoryRange {
        MemoryRange::try_from_len(0, self.len).unwrap_or(MemoryRange::EMPTY)
    }

    /// Returns how many system calls were made for this reservation so far.
    pub fn calls(&self) -> CallCounts {
        self.calls.counts()
    }

    /// Returns the mapped parts of `range` and their present access, in ascending order.
    ///
    /// Neighbours may come as several parts.
    pub fn mapped(&self, range: MemoryRange) -> Vec<(MemoryRange, Access)> {
        let state = self.state();
        let parts = state.mapped.clipped(range);
        parts.map(|(part, mapped)| (part, mapped.access)).collect()
    }

    /// Says whether VMAs are held back for undoing. They are not between an undo that needed them
    /// and the next change.
    pub fn has_headroom(&self) -> bool {
        self.state().headroom.is_armed()
    }

    /// Sums up what is mapped, for inspection.
    pub(crate) fn summary(&self) -> Summary {
        let state = self.state();
        let lens = state.mapped.iter().map(|(range, _)| range.len());
        Summary {
            ranges: state.mapped.len(),
            bytes: lens.fold(0, u64::saturating_add),
            headroom: state.headroom.is_armed(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs between the changes of the map and of the address space.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns address and length of a range that is not empty and lies in the reservation.
    fn in_bounds(&self, range: MemoryRange) -> Result<(NonNull<u8>, usize), Bounds> {
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
    fn survived(&self, state: &mut State, addr: NonNull<u8>, len: usize) -> bool {
        if sys::is_whole(addr, len) {
            return true;
        }
        let fill = || sys::map_into_hole(&self.calls, addr, len, Content::Reserved);
        let filled = fill();
        if filled.is_err() && state.headroom.release() {
            let _ = fill();
        }
        false
    }
}

#[cfg(test)]
mod tests;

/// Why a range is not one of the reservation; each operation has its own error for it.
enum Bounds {
    Empty,
    Outside,
}

impl State {
    /// Makes a call; an undo that is refused for want of memory tries again with the VMAs that
    /// were held back.
    fn call<T, E>(
        &mut self,
        urgency: Urgency,
        is_out_of_memory: impl Fn(&E) -> bool,
        call: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        match call() {
            Err(error)
                if urgency == Urgency::Undo
                    && is_out_of_memory(&error)
                    && self.headroom.release() =>
            {
                call()
            }
            result => result,
        }
    }
}

fn is_out_of_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOMEM)
}

// SAFETY: `pages` is given back only when the reservation is dropped, and its address never changes;
// `len` is above zero. Every change maps over a part of `pages` in one call, or reserves it again
// if that call left a hole (`survived`). Only raw memory is ever mapped.
unsafe impl MappedRegion for Reservation {
    fn base(&self) -> NonNull<u8> {
        self.pages.base()
    }

    fn len(&self) -> u64 {
        self.len
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("base", &self.pages.base())
            .field("len", &self.len)
            .field("alignment", &self.alignment)
            .finish_non_exhaustive()
    }
}
