//! A range as the fewest pages of the sizes that the hardware has.

use crate::HUGE_1G;
use crate::HUGE_2M;
use crate::MemoryRange;
use crate::PAGE_SIZE;
use core::iter::FusedIterator;

impl MemoryRange {
    /// Returns the fewest pages of 4 KiB, 2 MiB and 1 GiB that make up the range, each aligned to
    /// its own size, from the lowest to the highest. An empty range has none.
    ///
    /// The number of small pages is bounded: at most 511 of 4 KiB and 511 of 2 MiB stand on either
    /// side of what larger pages cover.
    ///
    /// ```
    /// use memory_range::{HUGE_2M, MemoryRange, PAGE_SIZE};
    ///
    /// let range = MemoryRange::new(0x1ff000..0x401000);
    /// let sizes: Vec<u64> = range.aligned_pieces().map(|piece| piece.len()).collect();
    /// assert_eq!(sizes, [PAGE_SIZE, HUGE_2M, PAGE_SIZE]);
    /// ```
    pub const fn aligned_pieces(&self) -> AlignedPieces {
        AlignedPieces { rest: *self }
    }
}

/// The pages of 4 KiB, 2 MiB and 1 GiB that make up a range, from the lowest to the highest.
///
/// Made by [`MemoryRange::aligned_pieces`].
#[derive(Clone, Debug)]
#[must_use = "an iterator does nothing until it is walked"]
pub struct AlignedPieces {
    rest: MemoryRange,
}

impl Iterator for AlignedPieces {
    type Item = MemoryRange;

    fn next(&mut self) -> Option<MemoryRange> {
        // Taking the largest page that fits at each address gives the fewest, because each size
        // divides the next.
        for size in [HUGE_1G, HUGE_2M, PAGE_SIZE] {
            if self.rest.start().is_multiple_of(size)
                && let Ok((piece, rest)) = self.rest.split_at(size)
            {
                self.rest = rest;
                return Some(piece);
            }
        }
        None
    }
}

impl FusedIterator for AlignedPieces {}
