//! Mapping a backing into a reservation.

use memory_range::{Access, MemoryRange};

use super::{Mapped, Reservation};
use crate::backing::Backing;
use crate::space::{MapError, Urgency};

impl Reservation {
    /// Maps the part of `backing` that starts at `offset`, over whatever `range` shows now.
    ///
    /// `range` is half-open and in offsets from the start of the reservation; `offset` is page
    /// aligned, and means nothing for anonymous memory and
    /// fills.
    ///
    /// It is one `mmap`, atomic for whoever accesses the range, for memfds and the regular files
    /// of common file systems. Backings that may refuse one range and allow another (huge pages,
    /// devices) are mapped elsewhere first, to prove that they can be.
    ///
    /// A file that is not sealed against resizing is asked for its length where `range` ends past
    /// the length that it is known to have had. If it has become shorter since it was asked, the
    /// mapping is made, and an access past its end fails, as if it had become shorter a moment later.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with the arguments is found before anything changes: an empty range
    /// or one outside the reservation, an unaligned or overflowing offset, the end of the range
    /// past the end of the file, a writable mapping of a read-only backing. See [`MapError`] for
    /// what the kernel may refuse.
    pub fn map(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        self.map_with(Urgency::Change, range, backing, offset, access)
    }

    pub(super) fn map_with(
        &self,
        urgency: Urgency,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Result<(), MapError> {
        let mut state = self.state();
        match state.editor.map(urgency, range, backing, offset, access) {
            Ok(()) => {
                let mapped = Mapped {
                    access,
                    limit: backing.access(),
                    kind: backing.kind(),
                };
                state.mapped.replace(range, mapped);
                Ok(())
            }
            Err(error) => {
                if let MapError::Lost { .. } = error {
                    state.mapped.remove(range);
                }
                Err(error)
            }
        }
    }
}
