//! Why memory was not given back.

use std::io;

use memory_range::MemoryRange;

use crate::file_facts::LenError;

/// Says why memory was not given back. Nothing has changed then, unless it is said otherwise.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecommitError {
    /// The range is empty.
    #[error("the range to decommit at {start:#x} is empty")]
    Empty {
        /// Where it starts.
        start: u64,
    },
    /// The range lies outside the reservation.
    #[error("range {range} lies outside the reservation 0x0-{len:#x}")]
    OutOfBounds {
        /// The range, in offsets from the start of the reservation.
        range: MemoryRange,
        /// The length of the reservation in bytes.
        len: u64,
    },
    /// The range of the file is not page aligned, or ends past 2^64.
    #[error("offset {offset:#x} is no page-aligned offset for range {range}")]
    BadOffset {
        /// The range in the reservation.
        range: MemoryRange,
        /// The offset in the backing.
        offset: u64,
    },
    /// The range is not mapped from memory of the kind that is to be freed.
    #[error("range {range} is not mapped from `{name}`")]
    NotMapped {
        /// The first part that is not.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
    },
    /// The backing may not be written, so its memory is not ours to free.
    #[error("range {range} of `{name}` is read-only and cannot be decommitted")]
    ReadOnly {
        /// The range of the backing.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
    },
    /// A device keeps its memory.
    #[error("`{name}` is a device, whose memory cannot be decommitted")]
    NoLength {
        /// The name of the backing.
        name: String,
    },
    /// The length of the file is not known.
    #[error("the length of the backing is not known")]
    Length {
        /// Why not.
        source: LenError,
    },
    /// The range ends past the end of the file.
    #[error("range {range} ends past the end of `{name}` at {size:#x}")]
    PastEnd {
        /// The range of the backing.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// The length of the file in bytes.
        size: u64,
    },
    /// The kernel refused.
    #[error("the memory of range {range} of `{name}` cannot be freed")]
    Failed {
        /// The range of the backing.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
}
