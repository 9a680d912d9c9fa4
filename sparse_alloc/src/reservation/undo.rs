//! Going back after a failed change.

use memory_range::{Access, MemoryRange};

use super::Reservation;
use crate::backing::Backing;
use crate::space::{MapError, ProtectError, UnmapError, Urgency};

/// Makes changes that may draw on the VMAs which the reservation holds back.
///
/// It is for going back, step by step and in reverse, when a later step of a change has failed.
/// Each state on the way was within the limit of VMAs before, so the room suffices as long as no
/// other part of the process takes it. The next ordinary change holds VMAs back again, or fails.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use sparse_alloc::{Alignment, Backing, Reservation};
///
/// let reservation = Reservation::new(0x10000, Alignment::Page)?;
/// let range = MemoryRange::new(0x1000..0x2000);
/// reservation.map(range, &Backing::Anonymous, 0, Access::ReadWrite)?;
/// // A later step failed: back to what was there.
/// reservation.undo().unmap(range)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone, Debug)]
#[must_use = "it undoes nothing by itself: call its methods"]
pub struct Undo<'a> {
    reservation: &'a Reservation,
}

impl Reservation {
    /// Returns the same operations for going back after a failure; see [`Undo`].
    pub fn undo(&self) -> Undo<'_> {
        Undo { reservation: self }
    }
}

impl Undo<'_> {
    /// Maps what was mapped before; see [`Reservation::map`].
    ///
    /// # Errors
    ///
    /// As [`Reservation::map`].
    pub fn map(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        self.reservation
            .map_with(Urgency::Undo, range, backing, offset, access)
    }

    /// Unmaps what was not mapped before; see [`Reservation::unmap`].
    ///
    /// # Errors
    ///
    /// As [`Reservation::unmap`].
    pub fn unmap(&self, range: MemoryRange) -> Result<(), UnmapError> {
        self.reservation.unmap_with(Urgency::Undo, range)
    }

    /// Gives a range the access that it had before; see [`Reservation::protect`].
    ///
    /// # Errors
    ///
    /// As [`Reservation::protect`].
    pub fn protect(&self, range: MemoryRange, access: Access) -> Result<(), ProtectError> {
        self.reservation.protect_with(Urgency::Undo, range, access)
    }
}
