//! Why memory is not in a snapshot.

use guest_memory_manager::{AttachDmaError, DetachError, LeaseError};
use memory_range::MemoryRange;
use thiserror::Error;

/// Why memory cannot be put into a snapshot. It is the cause of an
/// [`AttachDmaError`], or, for memory of devices, stands among the manager's `dma_failures`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum NotShown {
    /// The file can be truncated, and an access would then kill the process; see
    /// [`SnapshotOptions::memory_that_can_fault`](crate::SnapshotOptions::memory_that_can_fault).
    #[error("{file:?} at gpa {range} is not sealed against shrinking, so an access could fault")]
    CanFault {
        /// The guest physical addresses.
        range: MemoryRange,
        /// The file's name.
        file: String,
    },
    /// The memory could not be leased.
    #[error("gpa {range} could not be leased")]
    NotLeased {
        /// The guest physical addresses.
        range: MemoryRange,
        /// Why.
        #[source]
        source: LeaseError,
    },
    /// The file's descriptor could not be copied.
    #[error("the descriptor of {file:?} could not be copied")]
    Descriptor {
        /// The file's name.
        file: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// Why no snapshot could be taken.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Some of the memory cannot be in it.
    #[error(transparent)]
    Attach(#[from] AttachDmaError),
    /// It was taken, but guest memory is in the middle of a change, or gone.
    #[error(transparent)]
    Detach(#[from] DetachError),
}

/// A write was to go to memory that is read-only now. It is inside the `GuestMemoryError::IOError`
/// that vm-memory's functions return, as its source.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("gpa {gpa:#x} is read-only")]
pub struct ReadOnlyMemory {
    /// The first guest physical address that cannot be written.
    pub gpa: u64,
}
