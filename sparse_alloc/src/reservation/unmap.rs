//! Unmapping a range of a reservation.

use memory_range::MemoryRange;

use super::{Bounds, Reservation, State, UnmapError, Urgency, is_out_of_memory};
use crate::limits;
use crate::sys::{self, Content};

impl Reservation {
    /// Makes `range` inaccessible again; it stays reserved.
    ///
    /// A mapping of which it is a part is split. Parts of the range that are not mapped stay as
    /// they are. The memory itself is freed if nothing else holds it: anonymous memory is gone, a
    /// file keeps its bytes.
    ///
    /// Taking whole mappings away works at the limit of VMAs too: it leaves fewer of them.
    ///
    /// # Errors
    ///
    /// When the range is empty or outside the reservation, and when a mapping would have to be
    /// split and the process has no VMA left.
    pub fn unmap(&self, range: MemoryRange) -> Result<(), UnmapError> {
        self.unmap_with(Urgency::Change, range)
    }

    pub(super) fn unmap_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
    ) -> Result<(), UnmapError> {
        let (addr, len) = self.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => UnmapError::Empty {
                start: range.start(),
            },
            Bounds::Outside => UnmapError::OutOfBounds {
                range,
                len: self.len,
            },
        })?;
        let mut state = self.state();
        if state.mapped.overlapping(range).next().is_none() {
            return Ok(());
        }
        let failed = |source| match limits::vma_limit(&source) {
            Some(used) => UnmapError::VmaLimit {
                range,
                count: used.count,
                limit: used.limit,
            },
            None => UnmapError::Failed { range, source },
        };
        // At the limit the kernel refuses even what would leave fewer VMAs. Drawing on the
        // held-back ones is what lets a process come back from there; they are taken again below.
        let draw = if state.splits(range) {
            if urgency == Urgency::Change {
                state.headroom.arm().map_err(failed)?;
            }
            urgency
        } else {
            Urgency::Undo
        };
        let attempt = || {
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever accesses it
            // has promised, by `MappedRegion`, to expect a fault at any time.
            unsafe { sys::map_over(&self.calls, addr, len, Content::Reserved) }
        };
        if let Err(source) = state.call(draw, is_out_of_memory, attempt)
            && self.survived(&mut state, addr, len)
        {
            return Err(failed(source));
        }
        state.mapped.remove(range);
        if urgency == Urgency::Change {
            // Where this fails, the next change that needs VMAs says so.
            let _ = state.headroom.arm();
        }
        Ok(())
    }
}

impl State {
    /// Says whether taking `range` away leaves parts of a mapping on either side.
    fn splits(&self, range: MemoryRange) -> bool {
        self.mapped
            .overlapping(range)
            .any(|(entry, _)| !range.contains(&entry))
    }
}
