//! Reserved address space, into which memory is mapped.

mod map;
mod pages;
mod protect;
mod undo;
mod unmap;

use std::fmt;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use memory_range::{Access, MemoryRange, RangeMap, RangeValue};

use crate::alignment::Alignment;
use crate::backing::BackingKind;
use crate::mapped_region::MappedRegion;
use crate::space::{ReserveError, ReservedSpace, SpaceEditor};
use crate::sys::CallCounts;

pub use undo::Undo;

/// Address space that is reserved, costs no memory, and into which backings are mapped.
///
/// Ranges are offsets from its start. All of it that is not mapped is inaccessible. Mapping over
/// mappings replaces the overlap, as `mmap` does, and is atomic for whoever accesses the range: they
/// find the old bytes or the new ones. The address space goes back to the kernel on drop.
///
/// A change that fails has changed nothing, with the rare exceptions that its error says
/// ([`MapError::Lost`](crate::MapError::Lost), [`ProtectError::Torn`](crate::ProtectError::Torn)). So that a caller who makes several changes can go
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
/// # Core dumps and forks
///
/// Mappings of [`SharedMemory`](crate::SharedMemory) that are 1 MiB or longer are left out of core
/// dumps and of forked children, at the cost of two more system calls. Shorter ones are not, so that
/// showing a segment of RAM instead of a ROM is one call: a few hundred KiB of what firmware shadows
/// may be found in a dump, and by a forked child.
///
/// Invariant: `mapped` holds exactly the ranges of the space that are not inaccessible.
pub struct Reservation {
    state: Mutex<State>,
    space: Arc<ReservedSpace>,
}

#[derive(Debug)]
struct State {
    mapped: RangeMap<Mapped>,
    editor: SpaceEditor,
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
        let editor = SpaceEditor::new(len, alignment)?;
        let space = Arc::clone(editor.space());
        Ok(Self {
            state: Mutex::new(State {
                mapped: RangeMap::new(),
                editor,
            }),
            space,
        })
    }

    /// Returns the alignment of the base.
    pub fn alignment(&self) -> Alignment {
        self.space.alignment()
    }

    /// Returns the whole reservation as a range of offsets, from zero to its length.
    pub fn range(&self) -> MemoryRange {
        self.space.range()
    }

    /// Returns how many system calls were made for this reservation so far.
    pub fn calls(&self) -> CallCounts {
        self.space.calls()
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
        self.state().editor.has_headroom()
    }

    /// Sums up what is mapped, for inspection.
    pub(crate) fn summary(&self) -> Summary {
        let state = self.state();
        let lens = state.mapped.iter().map(|(range, _)| range.len());
        Summary {
            ranges: state.mapped.len(),
            bytes: lens.fold(0, u64::saturating_add),
            headroom: state.editor.has_headroom(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs between the changes of the map and of the address space.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

// SAFETY: it is the space's own promise, and `space` is held for as long as `self` lives.
unsafe impl MappedRegion for Reservation {
    fn base(&self) -> NonNull<u8> {
        self.space.base()
    }

    fn len(&self) -> u64 {
        self.space.len()
    }
}

impl fmt::Debug for Reservation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reservation")
            .field("space", &self.space)
            .finish_non_exhaustive()
    }
}
