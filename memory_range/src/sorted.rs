//! Algorithms over sorted lists of ranges.
//!
//! A *sorted list* here is in ascending order and disjoint: no range starts before the one in front
//! of it ends. Ranges may touch. Empty ranges are skipped, wherever they stand. [`flatten`] makes a
//! sorted list of any ranges.
//!
//! A list may be a slice, a `Vec`, an array or any iterator, of ranges or of references to them.
//! Except for `flatten`, which sorts, every function walks its lists once and holds one range of each.
//!
//! A list that breaks the rule gives a result that means nothing, but nothing panics or runs for ever.

use crate::MemoryRange;
use alloc::vec::Vec;
use core::borrow::Borrow;
use core::iter::FusedIterator;

/// Returns what lies in both lists, cut at the borders of either.
///
/// ```
/// use memory_range::{MemoryRange, sorted};
///
/// let left = [MemoryRange::new(0..0x3000)];
/// let right = [MemoryRange::new(0x1000..0x2000), MemoryRange::new(0x2000..0x5000)];
/// let both: Vec<String> = sorted::overlap(&left, &right).map(|range| range.to_string()).collect();
/// assert_eq!(both, ["0x1000-0x2000", "0x2000-0x3000"]);
/// ```
pub fn overlap(
    left: impl IntoIterator<Item: Borrow<MemoryRange>>,
    right: impl IntoIterator<Item: Borrow<MemoryRange>>,
) -> impl Iterator<Item = MemoryRange> {
    walk(unlabelled(left), unlabelled(right)).filter_map(|piece| match piece {
        Piece::Both(range, (), ()) => Some(range),
        _ => None,
    })
}

/// Returns what lies in the left list and not in the right one.
///
/// ```
/// use memory_range::{MemoryRange, sorted};
///
/// let ram = [MemoryRange::new(0..0x10000)];
/// let holes = [MemoryRange::new(0x2000..0x3000), MemoryRange::new(0xf000..0x20000)];
/// let rest: Vec<String> = sorted::subtract(&ram, &holes).map(|range| range.to_string()).collect();
/// assert_eq!(rest, ["0x0-0x2000", "0x3000-0xf000"]);
/// ```
pub fn subtract(
    left: impl IntoIterator<Item: Borrow<MemoryRange>>,
    right: impl IntoIterator<Item: Borrow<MemoryRange>>,
) -> impl Iterator<Item = MemoryRange> {
    walk(unlabelled(left), unlabelled(right)).filter_map(|piece| match piece {
        Piece::Left(range, ()) => Some(range),
        _ => None,
    })
}

/// Returns the union of any ranges, in any order, overlapping or not: the shortest sorted list
/// that holds the same addresses.
///
/// ```
/// use memory_range::{MemoryRange, sorted};
///
/// let union = sorted::flatten([
///     MemoryRange::new(0x5000..0x6000),
///     MemoryRange::new(0x2000..0x4000),
///     MemoryRange::new(0x1000..0x3000),
///     MemoryRange::new(0x4000..0x5000),
/// ]);
/// assert_eq!(union, [MemoryRange::new(0x1000..0x6000)]);
/// ```
pub fn flatten(ranges: impl IntoIterator<Item: Borrow<MemoryRange>>) -> Vec<MemoryRange> {
    let mut ranges: Vec<MemoryRange> = ranges.into_iter().map(|range| *range.borrow()).collect();
    ranges.sort_unstable();
    merge_adjacent(ranges).collect()
}

/// Joins ranges that touch, in a list sorted by start.
///
/// Ranges that overlap are joined as well, so here being sorted by start is enough.
pub fn merge_adjacent(
    ranges: impl IntoIterator<Item: Borrow<MemoryRange>>,
) -> impl Iterator<Item = MemoryRange> {
    let mut ranges = ranges
        .into_iter()
        .map(|range| *range.borrow())
        .filter(|range| !range.is_empty())
        .peekable();
    core::iter::from_fn(move || {
        let mut joined = ranges.next()?;
        while let Some(next) =
            ranges.next_if(|next| joined.start() <= next.start() && next.start() <= joined.end())
        {
            let end = joined.end().max(next.end());
            // Both ends are ends of ranges and in order, so this is always Ok.
            joined = MemoryRange::try_new(joined.start()..end).unwrap_or(joined);
        }
        Some(joined)
    })
}

/// A piece of address space and which of two lists it lies in, as [`walk`] returns it.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub enum Piece<L, R> {
    /// In the left list only, with its value there.
    Left(MemoryRange, L),
    /// In the right list only, with its value there.
    Right(MemoryRange, R),
    /// In both lists, with its value in each.
    Both(MemoryRange, L, R),
}

impl<L, R> Piece<L, R> {
    /// Returns the addresses of the piece.
    pub const fn range(&self) -> MemoryRange {
        match self {
            Self::Left(range, _) | Self::Right(range, _) | Self::Both(range, _, _) => *range,
        }
    }
}

/// Walks two sorted lists of ranges with a value each, in step.
///
/// The pieces come in ascending order and together are what lies in either list, cut at every border
/// of both. So a piece never spans two ranges of a list. Values are cloned as they are, also
/// for a piece that starts inside its range; a list of values that are expensive to clone can give
/// references, as [`RangeMap::iter`](crate::RangeMap::iter) does.
///
/// ```
/// use memory_range::{MemoryRange, sorted, sorted::Piece};
///
/// let old = [(MemoryRange::new(0..0x3000), "ram")];
/// let new = [(MemoryRange::new(0x2000..0x4000), "rom")];
/// let pieces: Vec<_> = sorted::walk(old, new).collect();
/// assert_eq!(
///     pieces,
///     [
///         Piece::Left(MemoryRange::new(0..0x2000), "ram"),
///         Piece::Both(MemoryRange::new(0x2000..0x3000), "ram", "rom"),
///         Piece::Right(MemoryRange::new(0x3000..0x4000), "rom"),
///     ]
/// );
/// ```
pub fn walk<L: Clone, R: Clone, I, J>(left: I, right: J) -> Walk<L, R, I::IntoIter, J::IntoIter>
where
    I: IntoIterator<Item = (MemoryRange, L)>,
    J: IntoIterator<Item = (MemoryRange, R)>,
{
    Walk {
        left: Rest::new(left.into_iter()),
        right: Rest::new(right.into_iter()),
    }
}

/// The pieces of two lists in ascending order. Made by [`walk`].
#[derive(Clone, Debug)]
#[must_use = "an iterator does nothing until it is walked"]
pub struct Walk<L, R, I, J> {
    left: Rest<L, I>,
    right: Rest<R, J>,
}

impl<L, R, I, J> Iterator for Walk<L, R, I, J>
where
    L: Clone,
    R: Clone,
    I: Iterator<Item = (MemoryRange, L)>,
    J: Iterator<Item = (MemoryRange, R)>,
{
    type Item = Piece<L, R>;

    fn next(&mut self) -> Option<Piece<L, R>> {
        match (self.left.front(), self.right.front()) {
            (None, None) => None,
            (Some(left), None) => {
                let (range, value) = self.left.take_until(left.end())?;
                Some(Piece::Left(range, value))
            }
            (None, Some(right)) => {
                let (range, value) = self.right.take_until(right.end())?;
                Some(Piece::Right(range, value))
            }
            (Some(left), Some(right)) if left.start() < right.start() => {
                let (range, value) = self.left.take_until(right.start())?;
                Some(Piece::Left(range, value))
            }
            (Some(left), Some(right)) if right.start() < left.start() => {
                let (range, value) = self.right.take_until(left.start())?;
                Some(Piece::Right(range, value))
            }
            (Some(left), Some(right)) => {
                let border = left.end().min(right.end());
                let (range, left) = self.left.take_until(border)?;
                let (_, right) = self.right.take_until(border)?;
                Some(Piece::Both(range, left, right))
            }
        }
    }
}

impl<L, R, I, J> FusedIterator for Walk<L, R, I, J>
where
    L: Clone,
    R: Clone,
    I: Iterator<Item = (MemoryRange, L)>,
    J: Iterator<Item = (MemoryRange, R)>,
{
}

/// What is left of a list: the rest of the entry at its front, and the entries behind it.
#[derive(Clone, Debug)]
struct Rest<T, I> {
    // Never an empty range.
    front: Option<(MemoryRange, T)>,
    behind: I,
}

impl<T: Clone, I: Iterator<Item = (MemoryRange, T)>> Rest<T, I> {
    fn new(entries: I) -> Self {
        let mut rest = Self {
            front: None,
            behind: entries,
        };
        rest.advance();
        rest
    }

    fn front(&self) -> Option<MemoryRange> {
        self.front.as_ref().map(|(range, _)| *range)
    }

    fn advance(&mut self) {
        self.front = self.behind.find(|(range, _)| !range.is_empty());
    }

    /// Takes what lies below the border, which is above the front's start, off the front.
    fn take_until(&mut self, border: u64) -> Option<(MemoryRange, T)> {
        let (range, value) = self.front.take()?;
        match range.split_at(border.saturating_sub(range.start())) {
            Ok((low, high)) if !high.is_empty() => {
                self.front = Some((high, value.clone()));
                Some((low, value))
            }
            _ => {
                self.advance();
                Some((range, value))
            }
        }
    }
}

/// Gives each range of a list the empty value, which `walk` wants.
fn unlabelled(
    ranges: impl IntoIterator<Item: Borrow<MemoryRange>>,
) -> impl Iterator<Item = (MemoryRange, ())> {
    ranges.into_iter().map(|range| (*range.borrow(), ()))
}
