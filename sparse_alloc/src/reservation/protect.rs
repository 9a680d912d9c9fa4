//! Changing what a mapped range of a reservation allows.

use memory_range::{Access, MemoryRange};

use super::{Mapped, Reservation, State};
use crate::space::{ProtectError, Urgency};

impl Reservation {
    /// Changes what the mapped `range` allows.
    ///
    /// The range may span several mappings and parts of them, but all of it must be mapped: space
    /// that is merely reserved never becomes memory this way.
    ///
    /// # Errors
    ///
    /// When the range is empty, outside the reservation, or not mapped in full; when it is to become
    /// writable and the backing of a part may not be written; when the process has no VMA left. A
    /// call that fails half-way is taken back.
    pub fn protect(&self, range: MemoryRange, access: Access) -> Result<(), ProtectError> {
        self.protect_with(Urgency::Change, range, access)
    }

    pub(super) fn protect_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        access: Access,
    ) -> Result<(), ProtectError> {
        let mut state = self.state();
        let State { mapped, editor } = &mut *state;
        // What lies outside is found by the editor, and first.
        if self.space.range().contains(&range) {
            if let Some(hole) = mapped.gaps(range).next() {
                return Err(ProtectError::NotMapped { range, hole });
            }
            let mut parts = mapped.clipped(range);
            let fixed = parts.find(|(_, old)| !old.limit.is_writable());
            if let (true, Some((part, _))) = (access.is_writable(), fixed) {
                return Err(ProtectError::ReadOnly { range, part });
            }
        }
        let before = || mapped.clipped(range).map(|(part, old)| (part, old.access));
        editor.protect(urgency, range, access, before)?;
        let parts: Vec<(MemoryRange, Mapped)> = mapped.clipped(range).collect();
        for (part, old) in parts {
            mapped.replace(part, Mapped { access, ..old });
        }
        Ok(())
    }
}
