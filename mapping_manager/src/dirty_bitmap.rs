//! Which pages were written.

mod bits;

use crate::sync::{AtomicU64, Ordering};
use inspect::Inspect;
use memory_range::{MemoryRange, PAGE_SIZE};
use std::fmt;
use thiserror::Error;
use zerocopy::FromZeros;

/// One bit for each page of a range of guest physical addresses: set when the page is written,
/// taken by whoever copies it.
///
/// Any number of threads may mark and take at the same time, without a lock. No write is lost
/// between the two: a page is marked after its bytes are written, so whoever [takes](Self::take) a
/// page and then reads it reads what was written before it was marked, or finds it marked again.
///
/// It takes an eighth of a byte a page: 32 MiB for 1 TiB, of which the kernel provides only what
/// is touched.
pub struct DirtyBitmap {
    range: MemoryRange,
    /// Bit `n % 64` of word `n / 64` is page `n` of `range`. As many words as that takes.
    words: Box<[AtomicU64]>,
}

/// Says that there is no memory for a bitmap.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("no memory for a bitmap of gpa {range}")]
pub struct DirtyBitmapError {
    /// The range that the bitmap was to be of.
    pub range: MemoryRange,
}

/// How many pages a word is of.
const WORD: u64 = u64::BITS as u64;

impl DirtyBitmap {
    /// Makes a bitmap of the pages of `range`, none of them marked. An empty range is allowed.
    ///
    /// # Errors
    ///
    /// There is not enough memory.
    pub fn new(range: MemoryRange) -> Result<Self, DirtyBitmapError> {
        let no_memory = DirtyBitmapError { range };
        let words = range.page_count().div_ceil(WORD);
        let words = usize::try_from(words).map_err(|_| no_memory)?;
        // Zeroed by the allocator, which leaves pages that nobody has touched to the kernel.
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(words).map_err(|_| no_memory)?;
        Ok(Self { range, words })
    }

    /// The guest physical addresses whose pages it knows.
    pub fn range(&self) -> MemoryRange {
        self.range
    }

    /// Marks every page that `len` bytes at `gpa` touch; call it after they are written. What lies
    /// outside the bitmap's range is ignored; no bytes mark nothing.
    pub fn mark(&self, gpa: u64, len: u64) {
        let end = gpa.saturating_add(len);
        let start = gpa.max(self.range.start());
        let end = end.min(self.range.end());
        if start >= end {
            return;
        }
        bits::written();
        for (_, word, mask) in self.parts(start, end) {
            bits::mark(word, mask);
        }
    }

    /// Says whether the page with a guest physical address is marked.
    pub fn is_marked(&self, gpa: u64) -> bool {
        let page = gpa & !(PAGE_SIZE - 1);
        self.range.contains_addr(gpa)
            && self
                .parts(page, page.saturating_add(PAGE_SIZE))
                .any(|(_, word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    /// The marked pages of `within`, by address, neighbours joined. They stay marked. What lies
    /// outside the bitmap's range is ignored.
    pub fn marked(&self, within: MemoryRange) -> Vec<MemoryRange> {
        self.collect(within, |word, mask| word.load(Ordering::Relaxed) & mask)
    }

    /// As [`marked`](Self::marked), and takes the marks off: read the pages afterwards. A page that
    /// is written meanwhile is in the result, or is marked again, or both.
    ///
    /// The result has an entry for each run of pages; whoever tracks very much memory takes it a
    /// piece at a time.
    #[must_use = "the marks are gone: what is not looked at now is lost"]
    pub fn take(&self, within: MemoryRange) -> Vec<MemoryRange> {
        let taken = self.collect(within, bits::take);
        bits::taken();
        taken
    }

    /// Takes all marks off the pages of `within`, as [`take`](Self::take) does: before all of
    /// them are read, say.
    pub fn clear(&self, within: MemoryRange) {
        let within = self.range.intersection(&within);
        for (_, word, mask) in self.parts(within.start(), within.end()) {
            bits::take(word, mask);
        }
        bits::taken();
    }

    /// How many pages of `within` are marked.
    pub fn marked_pages(&self, within: MemoryRange) -> u64 {
        let within = self.range.intersection(&within);
        self.parts(within.start(), within.end())
            .map(|(_, word, mask)| u64::from((word.load(Ordering::Relaxed) & mask).count_ones()))
            .sum()
    }

    /// The words for the pages that `start..end`, all of it within the range, touches: the
    /// number in the range of a word's first page, the word, and the bits that are meant.
    fn parts(&self, start: u64, end: u64) -> impl Iterator<Item = (u64, &AtomicU64, u64)> {
        let page = |addr: u64| addr.saturating_sub(self.range.start());
        let first = page(start) / PAGE_SIZE;
        let end = page(end).div_ceil(PAGE_SIZE).max(first);
        let words = first / WORD..end.div_ceil(WORD);
        words.filter_map(move |index| {
            let base = index.saturating_mul(WORD);
            let from = first.saturating_sub(base).min(WORD);
            let to = end.saturating_sub(base).min(WORD);
            let mask = bits_below(to) & !bits_below(from);
            let word = self.words.get(usize::try_from(index).ok()?)?;
            (mask != 0).then_some((base, word, mask))
        })
    }

    /// Joins the bits that `look` finds in each word to ranges.
    fn collect(
        &self,
        within: MemoryRange,
        mut look: impl FnMut(&AtomicU64, u64) -> u64,
    ) -> Vec<MemoryRange> {
        let within = self.range.intersection(&within);
        let mut runs = Vec::new();
        let mut run: Option<(u64, u64)> = None;
        for (base, word, mask) in self.parts(within.start(), within.end()) {
            let mut bits = look(word, mask);
            while bits != 0 {
                let skip = u64::from(bits.trailing_zeros());
                let len = u64::from((!(bits >> skip)).trailing_zeros());
                bits &= !(bits_below(skip + len) & !bits_below(skip));
                let (start, end) = (base + skip, base + skip + len);
                run = match run {
                    Some((first, last)) if last == start => Some((first, end)),
                    previous => {
                        runs.extend(previous);
                        Some((start, end))
                    }
                };
            }
        }
        runs.extend(run);
        let first = self.range.start() / PAGE_SIZE;
        // No range is lost: all of them lie in `self.range`.
        let ranges = runs.into_iter().filter_map(|(start, end)| {
            MemoryRange::from_page_numbers(first + start..first + end).ok()
        });
        ranges.collect()
    }
}

/// A word with the lowest `count` (at most 64) bits set.
fn bits_below(count: u64) -> u64 {
    1_u64
        .checked_shl(count as u32)
        .map_or(u64::MAX, |bit| bit - 1)
}

impl fmt::Debug for DirtyBitmap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirtyBitmap")
            .field("range", &self.range)
            .finish_non_exhaustive()
    }
}

impl Inspect for DirtyBitmap {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .display("range", &self.range)
            .field("marked_pages", &self.marked_pages(self.range));
    }
}
