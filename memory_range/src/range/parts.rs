//! Ranges made of a range: its parts, and itself elsewhere.

use super::MemoryRange;
use super::PAGE_SIZE;
use super::align_down;
use crate::InvalidRange;

impl MemoryRange {
    /// Splits the range `offset` bytes after its start.
    ///
    /// At 0 and at the length one of the two parts is empty.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::NotABorder`] when the offset is more than the length, or not a multiple of
    /// [`PAGE_SIZE`].
    pub const fn split_at(&self, offset: u64) -> Result<(Self, Self), InvalidRange> {
        if offset > self.len() || !offset.is_multiple_of(PAGE_SIZE) {
            return Err(InvalidRange::NotABorder {
                range: *self,
                offset,
            });
        }
        let border = self.start + offset;
        let low = Self {
            start: self.start,
            end: border,
        };
        let high = Self {
            start: border,
            end: self.end,
        };
        Ok((low, high))
    }

    /// Returns the part of `len` bytes that starts `offset` bytes after this range's start.
    ///
    /// A length of 0 gives an empty range there, also at the very end.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::NotAPart`] when the part does not lie in the range, or when its offset or its
    /// length is not a multiple of [`PAGE_SIZE`].
    pub const fn sub_range(&self, offset: u64, len: u64) -> Result<Self, InvalidRange> {
        let aligned = offset.is_multiple_of(PAGE_SIZE) && len.is_multiple_of(PAGE_SIZE);
        match offset.checked_add(len) {
            Some(end) if aligned && end <= self.len() => Ok(Self {
                start: self.start + offset,
                end: self.start + end,
            }),
            _ => Err(InvalidRange::NotAPart {
                range: *self,
                offset,
                len,
            }),
        }
    }

    /// Returns the range moved up by so many bytes; `None` when its end would be 2^64 or more, or
    /// `by` is not a multiple of [`PAGE_SIZE`].
    #[must_use = "this returns the moved range and leaves the original as it is"]
    pub const fn shifted(&self, by: u64) -> Option<Self> {
        if !by.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        match self.end.checked_add(by) {
            // The start is not above the end, so its sum does not overflow either.
            Some(end) => Some(Self {
                start: self.start + by,
                end,
            }),
            None => None,
        }
    }

    /// Returns the range moved down by so many bytes; `None` when its start would be below 0, or
    /// `by` is not a multiple of [`PAGE_SIZE`].
    #[must_use = "this returns the moved range and leaves the original as it is"]
    pub const fn shifted_down(&self, by: u64) -> Option<Self> {
        if !by.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        match self.start.checked_sub(by) {
            Some(start) => Some(Self {
                start,
                end: self.end - by,
            }),
            None => None,
        }
    }

    /// Returns the largest part whose ends are multiples of `align` bytes.
    ///
    /// It is [`EMPTY`](Self::EMPTY) when there is none, as it is when `align` is no power of two.
    /// An `align` below [`PAGE_SIZE`] gives the whole range, which is aligned to it already.
    pub const fn largest_aligned(&self, align: u64) -> Self {
        if !align.is_power_of_two() {
            return Self::EMPTY;
        }
        let align = if align < PAGE_SIZE { PAGE_SIZE } else { align };
        let end = align_down(self.end, align);
        match self.start.checked_next_multiple_of(align) {
            Some(start) if start < end => Self { start, end },
            _ => Self::EMPTY,
        }
    }
}
