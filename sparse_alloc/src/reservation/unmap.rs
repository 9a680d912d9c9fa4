//! Unmapping a range of a reservation.

use memory_range::MemoryRange;

use super::{Reservation, State};
use crate::space::{UnmapError, Urgency};

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
        let mut state = self.state();
        let State { mapped, editor } = &mut *state;
        let parts = || mapped.overlapping(range);
        // What lies outside is found by the editor.
        let is_inside = !range.is_empty() && self.space.range().contains(&range);
        if is_inside && parts().next().is_none() {
            return Ok(());
        }
        let splits = parts().any(|(entry, _)| !range.contains(&entry));
        editor.unmap(urgency, range, splits)?;
        mapped.remove(range);
        Ok(())
    }
}
