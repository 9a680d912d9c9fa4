//! Views that remember which pages were written through them.

use super::GuestMemory;
use super::recover::Attempt;
use crate::dirty_bitmap::DirtyBitmap;
use crate::error::AccessError;
use memory_range::MemoryRange;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// What a tracked view does about writes.
pub(super) struct Tracking {
    pub(super) bitmap: Arc<DirtyBitmap>,
    /// The same bytes, as a view that does not mark pages here.
    pub(super) memory: GuestMemory,
}

/// Says that a bitmap is not of all the pages that a view shows.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{memory}: a bitmap of gpa {bitmap} cannot track {:#x}-{:#x}", view.start, view.end)]
pub struct TrackError {
    /// The name of the memory.
    pub memory: String,
    /// The guest physical addresses that the bitmap is of.
    pub bitmap: MemoryRange,
    /// The guest physical addresses that the view shows.
    pub view: Range<u64>,
}

impl GuestMemory {
    /// Makes a view of the same memory that marks in `bitmap` every page that is written through
    /// it, whichever function writes, once the bytes are written. Of a write that failed part of
    /// the way it marks the pages it got to; of an exchange that did not take place, none.
    ///
    /// It marks the guest physical address of the write: where the same backing shows at a second
    /// address, that one is not marked. Reads cost what they cost in any view. Writes cost a
    /// memory fence more; those through an untracked view cost nothing more. The new view of a tracked view
    /// marks both bitmaps.
    ///
    /// # Errors
    ///
    /// The bitmap is not of every page of the view.
    ///
    /// ```
    /// use mapping_manager::{DirtyBitmap, VaMapper};
    /// use memory_range::{Access, MemoryRange};
    /// use sparse_alloc::{Alignment, Backing, SharedMemory};
    /// use std::sync::Arc;
    ///
    /// # let ram = SharedMemory::new("ram", 0x4000)?;
    /// # let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
    /// # let backing = Backing::from(ram.mappable().clone());
    /// # mapper.map(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite)?;
    /// # let memory = mapper.guest_memory();
    /// let bitmap = Arc::new(DirtyBitmap::new(mapper.space())?);
    /// let tracked = memory.tracked(bitmap.clone())?;
    /// tracked.write_at(0x9ffe, b"four")?;
    ///
    /// let written = MemoryRange::new(0x9000..0xb000);
    /// assert_eq!(bitmap.take(mapper.space()), [written]);
    /// assert_eq!(bitmap.take(mapper.space()), []);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn tracked(&self, bitmap: Arc<DirtyBitmap>) -> Result<Self, TrackError> {
        let view = self.gpa_range();
        let pages = bitmap.range();
        if !view.is_empty() && (view.start < pages.start() || view.end > pages.end()) {
            return Err(TrackError {
                memory: self.name().to_owned(),
                bitmap: pages,
                view,
            });
        }
        Ok(Self {
            writable_len: 0,
            exchangeable_len: 0,
            tracking: Some(Arc::new(Tracking {
                bitmap,
                memory: self.clone(),
            })),
            ..self.clone()
        })
    }

    /// The bitmap in which this view marks what is written, if it is [tracked](Self::tracked).
    pub fn dirty_bitmap(&self) -> Option<&Arc<DirtyBitmap>> {
        self.tracking.as_ref().map(|tracking| &tracking.bitmap)
    }

    /// Makes a write for which [`checked_to_write`](Self::checked_to_write) found no address: it
    /// is out of range, or this view is tracked. `write` makes it through the view that is given
    /// to it, and `wrote` says whether a write that succeeded has written.
    #[cold]
    #[inline(never)]
    pub(super) fn write_aside<T>(
        &self,
        attempt: Attempt,
        write: impl FnOnce(&Self) -> Result<T, AccessError>,
        wrote: impl FnOnce(&T) -> bool,
    ) -> Result<T, AccessError> {
        let Some(tracking) = &self.tracking else {
            return Err(self.out_of_range(attempt));
        };
        let result = write(&tracking.memory);
        let done = match &result {
            Ok(value) if wrote(value) => attempt.len,
            Ok(_) => 0,
            Err(error) => error.done(),
        };
        tracking.bitmap.mark(self.gpa(attempt.gpa), done);
        result
    }
}
