//! Who changes what is mapped.

use std::sync::Arc;

use super::{ReserveError, ReservedSpace};
use crate::alignment::Alignment;
use crate::headroom::Headroom;

/// What a change may use.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Urgency {
    /// An ordinary change: the held-back VMAs stay held back.
    Change,
    /// Undoing a failed change: they may be given up.
    Undo,
}

/// Changes what is mapped in a [`ReservedSpace`], of which it is the only editor.
///
/// It is for owners who keep a list of what is mapped where, and who make one change after the other
/// (each takes `&mut self`): it makes the system calls, with all their checks and ways back, and
/// looks nothing up. [`Reservation`](crate::Reservation) is the editor with a list and a lock.
///
/// So that a caller who makes several changes can go back when a later one fails for want of VMAs,
/// it holds a few back; only changes with [`Urgency::Undo`] draw on them. The next ordinary change
/// holds them back again, or fails.
///
/// ```
/// use memory_range::{Access, MemoryRange};
/// use sparse_alloc::{Alignment, Backing, SpaceEditor, Urgency};
///
/// let mut editor = SpaceEditor::new(0x10000, Alignment::Page)?;
/// let range = MemoryRange::new(0x1000..0x2000);
/// editor.map(Urgency::Change, range, &Backing::Ones, 0, Access::ReadOnly)?;
/// let all_of_a_mapping = false;
/// editor.unmap(Urgency::Change, range, all_of_a_mapping)?;
/// assert_eq!(editor.space().calls().advise, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct SpaceEditor {
    // Before `space`, so that the held-back VMAs go first: giving the pages back may need one.
    pub(super) headroom: Headroom,
    pub(super) space: Arc<ReservedSpace>,
}

impl SpaceEditor {
    /// Reserves `len` bytes of address space, a multiple of the page size, at an aligned address.
    ///
    /// # Errors
    ///
    /// As [`Reservation::new`](crate::Reservation::new).
    pub fn new(len: u64, alignment: Alignment) -> Result<Self, ReserveError> {
        let (space, headroom) = ReservedSpace::reserve(len, alignment)?;
        Ok(Self {
            headroom,
            space: Arc::new(space),
        })
    }

    /// Returns the space, a share of which keeps it reserved.
    pub fn space(&self) -> &Arc<ReservedSpace> {
        &self.space
    }

    /// Says whether VMAs are held back for undoing. They are not between an undo that needed them
    /// and the next change.
    pub fn has_headroom(&self) -> bool {
        self.headroom.is_armed()
    }
}

impl Headroom {
    /// Makes a call; an undo that is refused for want of memory tries again with the VMAs that
    /// were held back.
    #[inline]
    pub(super) fn call<T, E>(
        &mut self,
        urgency: Urgency,
        is_out_of_memory: impl Fn(&E) -> bool,
        call: impl Fn() -> Result<T, E>,
    ) -> Result<T, E> {
        match call() {
            Err(error)
                if urgency == Urgency::Undo && is_out_of_memory(&error) && self.release() =>
            {
                call()
            }
            result => result,
        }
    }
}
