//! Unmapping a range of reserved address space.

use std::io;

use memory_range::MemoryRange;

use super::{Bounds, SpaceEditor, UnmapError, Urgency, is_out_of_memory};
use crate::limits;
use crate::sys::{self, Content};

impl SpaceEditor {
    /// Makes `range` inaccessible again; it stays reserved. See
    /// [`Reservation::unmap`](crate::Reservation::unmap).
    ///
    /// `splits` says whether parts of a mapping stay on either side of the range: only then may the
    /// process need a VMA more than it has.
    ///
    /// # Errors
    ///
    /// When the range is empty or outside the space, and when a mapping would have to be split and
    /// the process has no VMA left.
    pub fn unmap(
        &mut self,
        urgency: Urgency,
        range: MemoryRange,
        splits: bool,
    ) -> Result<(), UnmapError> {
        let Self { space, headroom } = self;
        let (addr, len) = space.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => UnmapError::Empty {
                start: range.start(),
            },
            Bounds::Outside => UnmapError::OutOfBounds {
                range,
                len: space.len,
            },
        })?;
        // At the limit the kernel refuses even what would leave fewer VMAs. Drawing on the
        // held-back ones is what lets a process come back from there; they are taken again below.
        let draw = if splits {
            if urgency == Urgency::Change {
                headroom.arm().map_err(|source| failed(range, source))?;
            }
            urgency
        } else {
            Urgency::Undo
        };
        let attempt = || {
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever accesses it
            // has promised, by `MappedRegion`, to expect a fault at any time.
            unsafe { sys::map_over(&space.calls, addr, len, Content::Reserved) }
        };
        if let Err(source) = headroom.call(draw, is_out_of_memory, attempt)
            && space.survived(headroom, addr, len)
        {
            return Err(failed(range, source));
        }
        if urgency == Urgency::Change {
            // Where this fails, the next change that needs VMAs says so.
            let _ = headroom.arm();
        }
        Ok(())
    }
}

#[cold]
fn failed(range: MemoryRange, source: io::Error) -> UnmapError {
    match limits::vma_limit(&source) {
        Some(used) => UnmapError::VmaLimit {
            range,
            count: used.count,
            limit: used.limit,
        },
        None => UnmapError::Failed { range, source },
    }
}
