//! Changing what a mapped range allows.

use memory_range::{Access, MemoryRange};

use super::{Bounds, Mapped, ProtectError, Reservation, State, Urgency, is_out_of_memory};
use crate::limits;
use crate::sys;

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
        let (addr, len) = self.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => ProtectError::Empty {
                start: range.start(),
            },
            Bounds::Outside => ProtectError::OutOfBounds {
                range,
                len: self.len,
            },
        })?;
        let mut state = self.state();
        if let Some(hole) = state.mapped.gaps(range).next() {
            return Err(ProtectError::NotMapped { range, hole });
        }
        let before: Vec<(MemoryRange, Mapped)> = state.mapped.clipped(range).collect();
        let fixed = before.iter().find(|(_, old)| !old.limit.is_writable());
        if let (true, Some((part, _))) = (access.is_writable(), fixed) {
            return Err(ProtectError::ReadOnly { range, part: *part });
        }
        let failed = |source| match limits::vma_limit(&source) {
            Some(used) => ProtectError::VmaLimit {
                range,
                count: used.count,
                limit: used.limit,
            },
            None => ProtectError::Failed { range, source },
        };
        if urgency == Urgency::Change {
            state.headroom.arm().map_err(failed)?;
        }
        let attempt = || {
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever accesses it
            // has promised, by `MappedRegion`, to expect a fault at any time.
            unsafe { sys::protect(&self.calls, addr, len, access) }
        };
        if let Err(source) = state.call(urgency, is_out_of_memory, attempt) {
            return Err(if self.take_back(&mut state, &before) {
                failed(source)
            } else {
                ProtectError::Torn { range, source }
            });
        }
        for (part, old) in before {
            state.mapped.replace(part, Mapped { access, ..old });
        }
        Ok(())
    }

    /// Gives every part the access that it had; says whether that worked. The kernel changes one
    /// VMA after the other, and may fail between two.
    pub(super) fn take_back(&self, state: &mut State, before: &[(MemoryRange, Mapped)]) -> bool {
        before.iter().all(|(part, old)| {
            let Ok((addr, len)) = self.in_bounds(*part) else {
                return false;
            };
            let attempt = || {
                // SAFETY: as for the change itself.
                unsafe { sys::protect(&self.calls, addr, len, old.access) }
            };
            let taken_back = state.call(Urgency::Undo, is_out_of_memory, attempt);
            taken_back.is_ok()
        })
    }
}
