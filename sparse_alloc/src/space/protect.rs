//! Changing what a mapped range allows.

use std::io;

use memory_range::{Access, MemoryRange};

use super::{Bounds, ProtectError, SpaceEditor, Urgency, is_out_of_memory};
use crate::limits;
use crate::sys;

impl SpaceEditor {
    /// Changes what `range` allows, all of which is mapped, from backings that allow it.
    ///
    /// Where the kernel refuses, it may have changed a part already. Then `before` is asked what
    /// each part of the range allowed, and each gets that back.
    ///
    /// A range that is merely reserved would become private memory; that it is mapped is for the
    /// caller to know.
    ///
    /// # Errors
    ///
    /// When the range is empty or outside the space; when the process has no VMA left.
    pub fn protect<I>(
        &mut self,
        urgency: Urgency,
        range: MemoryRange,
        access: Access,
        before: impl FnOnce() -> I,
    ) -> Result<(), ProtectError>
    where
        I: IntoIterator<Item = (MemoryRange, Access)>,
    {
        let Self { space, headroom } = self;
        let (addr, len) = space.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => ProtectError::Empty {
                start: range.start(),
            },
            Bounds::Outside => ProtectError::OutOfBounds {
                range,
                len: space.len,
            },
        })?;
        if urgency == Urgency::Change {
            headroom.arm().map_err(|source| failed(range, source))?;
        }
        let attempt = || {
            // SAFETY: `in_bounds` found the range in `pages`, which is ours. Whoever accesses it
            // has promised, by `MappedRegion`, to expect a fault at any time.
            unsafe { sys::protect(&space.calls, addr, len, access) }
        };
        let Err(source) = headroom.call(urgency, is_out_of_memory, attempt) else {
            return Ok(());
        };
        Err(if self.take_back(before()) {
            failed(range, source)
        } else {
            ProtectError::Torn { range, source }
        })
    }

    /// Gives every part the access that it had; says whether that worked. The kernel changes one
    /// VMA after the other, and may fail between two.
    #[cold]
    pub(crate) fn take_back(
        &mut self,
        before: impl IntoIterator<Item = (MemoryRange, Access)>,
    ) -> bool {
        let Self { space, headroom } = self;
        before.into_iter().all(|(part, access)| {
            let Ok((addr, len)) = space.in_bounds(part) else {
                return false;
            };
            let attempt = || {
                // SAFETY: as for the change itself.
                unsafe { sys::protect(&space.calls, addr, len, access) }
            };
            let taken_back = headroom.call(Urgency::Undo, is_out_of_memory, attempt);
            taken_back.is_ok()
        })
    }
}

#[cold]
fn failed(range: MemoryRange, source: io::Error) -> ProtectError {
    match limits::vma_limit(&source) {
        Some(used) => ProtectError::VmaLimit {
            range,
            count: used.count,
            limit: used.limit,
        },
        None => ProtectError::Failed { range, source },
    }
}
