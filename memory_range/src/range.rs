//! The range itself: how it is made, and how it relates to addresses and other ranges.

mod parts;

use crate::InvalidRange;
use core::ops::Range;

/// The size of a page, in bytes: the granularity of every range.
pub const PAGE_SIZE: u64 = 4096;

/// The size of a 2 MiB page, in bytes.
pub const HUGE_2M: u64 = 2 << 20;

/// The size of a 1 GiB page, in bytes.
pub const HUGE_1G: u64 = 1 << 30;

/// A half-open range of page-aligned addresses: its start belongs to it, its end does not.
///
/// Both ends are multiples of [`PAGE_SIZE`], and the start is not above the end. These are checked
/// when a range is made and hold for as long as it lives, so its length cannot wrap and nothing
/// derived from it needs to be checked again.
///
/// # The ends of the address space
///
/// A range may start at 0. The highest end is `0xffff_ffff_ffff_f000`: the last page of a 64-bit
/// address space would end at 2^64, which is no `u64`, so no range holds it. Asking for it is an
/// error like any other overflow.
///
/// # Empty ranges
///
/// A range may be empty, and an empty range still has a position, which shows in comparisons:
/// `0x1000-0x1000` does not equal [`MemoryRange::EMPTY`], which is `0x0-0x0`. But no address lies in
/// it, so it overlaps nothing, not even a range around it, and is contained in nothing.
///
/// # Order
///
/// Ranges are ordered by their starts, then by their ends.
///
/// ```
/// use memory_range::MemoryRange;
///
/// let ram = MemoryRange::new(0..0xa0000);
/// let window = MemoryRange::try_from_len(0x9f000, 0x21000)?;
/// assert!(ram.overlaps(&window));
/// assert_eq!(ram.intersection(&window).to_string(), "0x9f000-0xa0000");
/// assert_eq!(window.offset_of(0xa0000), Some(0x1000));
///
/// // Nothing wraps: it is refused.
/// assert!(MemoryRange::try_from_len(0xffff_ffff_ffff_f000, 0x1000).is_err());
/// assert_eq!(ram.shifted(u64::MAX - 0xfff), None);
///
/// let parsed: MemoryRange = "0x9f000-0xc0000".parse()?;
/// assert_eq!(parsed, window);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MemoryRange {
    // Invariant: both are multiples of PAGE_SIZE, and start <= end.
    start: u64,
    end: u64,
}

impl MemoryRange {
    /// The empty range at 0, which is also the default.
    pub const EMPTY: Self = Self { start: 0, end: 0 };

    /// Makes a range of addresses that are known to be right, such as constants.
    ///
    /// For numbers that come from somewhere else there is [`try_new`](Self::try_new).
    ///
    /// # Panics
    ///
    /// When an end is not page aligned, or the end lies below the start.
    #[track_caller]
    #[expect(
        clippy::panic,
        reason = "documented; `try_new` is the one that returns an error"
    )]
    pub const fn new(range: Range<u64>) -> Self {
        match Self::try_new(range) {
            Ok(range) => range,
            // Formatting is not possible in a constant, so each reason has its own text.
            Err(InvalidRange::Inverted { .. }) => panic!("memory range ends before it starts"),
            Err(_) => panic!("memory range is not page aligned"),
        }
    }

    /// Makes a range, or says why the addresses do not make one.
    ///
    /// An empty range is legal at every page-aligned address.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::Inverted`] when the end lies below the start, [`InvalidRange::Unaligned`]
    /// when an end is not a multiple of [`PAGE_SIZE`].
    pub const fn try_new(range: Range<u64>) -> Result<Self, InvalidRange> {
        let Range { start, end } = range;
        if start > end {
            return Err(InvalidRange::Inverted { start, end });
        }
        if !start.is_multiple_of(PAGE_SIZE) || !end.is_multiple_of(PAGE_SIZE) {
            return Err(InvalidRange::Unaligned { start, end });
        }
        Ok(Self { start, end })
    }

    /// Makes the range of `len` bytes from `start`.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::LengthOverflow`] when the end would be 2^64 or more,
    /// [`InvalidRange::Unaligned`] when the start or the length is not a multiple of [`PAGE_SIZE`].
    pub const fn try_from_len(start: u64, len: u64) -> Result<Self, InvalidRange> {
        match start.checked_add(len) {
            Some(end) => Self::try_new(start..end),
            None => Err(InvalidRange::LengthOverflow { start, len }),
        }
    }

    /// Makes the range of the pages with these numbers; the page with number `end` is not in it.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::Inverted`] when the end lies below the start (the error then carries page
    /// numbers), [`InvalidRange::PageNumberOverflow`] when the end's address would be 2^64 or more.
    pub const fn from_page_numbers(pages: Range<u64>) -> Result<Self, InvalidRange> {
        let Range { start, end } = pages;
        if start > end {
            return Err(InvalidRange::Inverted { start, end });
        }
        match (start.checked_mul(PAGE_SIZE), end.checked_mul(PAGE_SIZE)) {
            (Some(start), Some(end)) => Ok(Self { start, end }),
            _ => Err(InvalidRange::PageNumberOverflow { start, end }),
        }
    }

    /// Makes the smallest range that contains these bytes: the start is moved down and the end up
    /// to a page border.
    ///
    /// No bytes (start equal to end) make an empty range, at the start moved down.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::Inverted`] when the end lies below the start, and
    /// [`InvalidRange::BoundOverflow`] when the end would be moved to 2^64.
    pub const fn bounding(bytes: Range<u64>) -> Result<Self, InvalidRange> {
        Self::bounding_aligned(bytes, PAGE_SIZE)
    }

    /// Makes the smallest range that contains these bytes and whose ends are multiples of `align`
    /// bytes.
    ///
    /// No bytes (start equal to end) make an empty range, at the start moved down.
    ///
    /// # Errors
    ///
    /// [`InvalidRange::Alignment`] when `align` is not a power of two of at least [`PAGE_SIZE`],
    /// [`InvalidRange::Inverted`] when the end lies below the start, and
    /// [`InvalidRange::BoundOverflow`] when the end would be moved to 2^64.
    pub const fn bounding_aligned(bytes: Range<u64>, align: u64) -> Result<Self, InvalidRange> {
        let Range { start, end } = bytes;
        if !align.is_power_of_two() || align < PAGE_SIZE {
            return Err(InvalidRange::Alignment { align });
        }
        if start > end {
            return Err(InvalidRange::Inverted { start, end });
        }
        let low = align_down(start, align);
        if start == end {
            return Ok(Self {
                start: low,
                end: low,
            });
        }
        match end.checked_next_multiple_of(align) {
            Some(high) => Ok(Self {
                start: low,
                end: high,
            }),
            None => Err(InvalidRange::BoundOverflow { start, end, align }),
        }
    }

    /// Returns the first address.
    pub const fn start(&self) -> u64 {
        self.start
    }

    /// Returns the address after the last one.
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the length in bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Returns the length in pages of [`PAGE_SIZE`].
    pub const fn page_count(&self) -> u64 {
        self.len() / PAGE_SIZE
    }

    /// Says whether no address lies in the range.
    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Returns both ends as a range of numbers.
    pub const fn as_range(&self) -> Range<u64> {
        self.start..self.end
    }

    /// Returns the numbers of the pages in the range: each is a page's address divided by
    /// [`PAGE_SIZE`].
    pub const fn page_numbers(&self) -> Range<u64> {
        self.start / PAGE_SIZE..self.end / PAGE_SIZE
    }

    /// Says whether the whole of `other` lies in this range. An empty range lies in none.
    pub const fn contains(&self, other: &Self) -> bool {
        !other.is_empty() && self.start <= other.start && other.end <= self.end
    }

    /// Says whether the address lies in this range. The end does not.
    pub const fn contains_addr(&self, addr: u64) -> bool {
        self.start <= addr && addr < self.end
    }

    /// Says whether an address lies in both ranges. An empty range overlaps nothing, and ranges
    /// that only touch do not overlap.
    pub const fn overlaps(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Returns the addresses that lie in both ranges; [`EMPTY`](Self::EMPTY) when there are none.
    pub const fn intersection(&self, other: &Self) -> Self {
        let start = if self.start > other.start {
            self.start
        } else {
            other.start
        };
        let end = if self.end < other.end {
            self.end
        } else {
            other.end
        };
        if start < end {
            Self { start, end }
        } else {
            Self::EMPTY
        }
    }

    /// Returns how many bytes after the start an address lies; `None` when it is not in the range.
    pub const fn offset_of(&self, addr: u64) -> Option<u64> {
        if self.contains_addr(addr) {
            Some(addr - self.start)
        } else {
            None
        }
    }
}

impl TryFrom<Range<u64>> for MemoryRange {
    type Error = InvalidRange;

    fn try_from(range: Range<u64>) -> Result<Self, Self::Error> {
        Self::try_new(range)
    }
}

impl From<MemoryRange> for Range<u64> {
    fn from(range: MemoryRange) -> Self {
        range.as_range()
    }
}

/// Moves an address down to a multiple of `align`, which is a power of two.
const fn align_down(addr: u64, align: u64) -> u64 {
    addr & !(align - 1)
}
