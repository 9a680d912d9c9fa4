//! Why numbers do not make a range.

use crate::MemoryRange;

/// Says why numbers do not make a [`MemoryRange`].
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRange {
    /// The end lies below the start.
    #[error("range {start:#x}-{end:#x} ends before it starts")]
    Inverted {
        /// The start that was asked for.
        start: u64,
        /// The end that was asked for.
        end: u64,
    },
    /// The start or the end is not a multiple of [`PAGE_SIZE`](crate::PAGE_SIZE).
    #[error("range {start:#x}-{end:#x} is not page aligned")]
    Unaligned {
        /// The start that was asked for.
        start: u64,
        /// The end that was asked for.
        end: u64,
    },
    /// The end would be 2^64 or more.
    #[error("{len:#x} bytes from {start:#x} run past the end of the address space")]
    LengthOverflow {
        /// The start that was asked for.
        start: u64,
        /// The length that was asked for, in bytes.
        len: u64,
    },
    /// The address of a page number would be 2^64 or more.
    #[error("page numbers {start:#x}-{end:#x} run past the end of the address space")]
    PageNumberOverflow {
        /// The first page number that was asked for.
        start: u64,
        /// The page number after the last one.
        end: u64,
    },
    /// Moving the end up to the next multiple of the alignment would make it 2^64 or more.
    #[error(
        "range {start:#x}-{end:#x}, widened to multiples of {align:#x}, \
         runs past the end of the address space"
    )]
    BoundOverflow {
        /// The start that was asked for.
        start: u64,
        /// The end that was asked for.
        end: u64,
        /// The alignment of both ends, in bytes.
        align: u64,
    },
    /// The alignment is not a power of two, or is less than a page.
    #[error("alignment {align:#x} is not a power of two of at least a page")]
    Alignment {
        /// The alignment that was asked for, in bytes.
        align: u64,
    },
    /// A part that was asked for does not lie in the range, or is not page aligned.
    #[error("{len:#x} bytes from offset {offset:#x} are not whole pages of range {range}")]
    NotAPart {
        /// The range of which a part was asked for.
        range: MemoryRange,
        /// The offset of the part from the start of the range, in bytes.
        offset: u64,
        /// The length of the part, in bytes.
        len: u64,
    },
    /// An offset to split at lies past the end of the range, or is not page aligned.
    #[error("offset {offset:#x} is not a page border of range {range}")]
    NotABorder {
        /// The range to split.
        range: MemoryRange,
        /// The offset from the start of the range, in bytes.
        offset: u64,
    },
}
