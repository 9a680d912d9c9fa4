//! Cuts a slot of the view into pieces for the partition.

use crate::{AddError, RemoveError};
use memory_range::MemoryRange;
use region_manager::{Permissions, Slot};
use smallvec::SmallVec;

/// A part of a slot, in the view's addresses and in the partition's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) view: MemoryRange,
    pub(crate) gpa: MemoryRange,
}

/// The pieces of one slot: where no filter cuts it, one.
pub(crate) type Pieces = SmallVec<[Piece; 1]>;

/// What a mapper keeps for each piece, beside its range in the view.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct HeldPiece {
    pub(crate) permissions: Permissions,
    pub(crate) prefetch: bool,
    pub(crate) state: PieceState,
}

impl HeldPiece {
    /// A piece of this slot, which the partition has.
    pub(crate) const fn mapped(slot: &Slot) -> Self {
        Self {
            permissions: slot.permissions,
            prefetch: slot.prefetch,
            state: PieceState::Mapped,
        }
    }

    /// The same piece in another state.
    pub(crate) const fn with_state(self, state: PieceState) -> Self {
        Self { state, ..self }
    }
}

/// Whether the partition has a piece as it should.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum PieceState {
    /// It has it, and should.
    Mapped,
    /// It has it, and should not: it could not be taken back after a failure.
    Stray,
    /// It lacks it, and should not: it could not be given back after a failure.
    Missing,
}

/// Which part of a view a partition sees, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Added to an address of the view; page aligned.
    pub(crate) offset: u64,
    /// Sorted, disjoint, none empty; `None` shows everything.
    pub(crate) filter: Option<Vec<MemoryRange>>,
}

/// The piece runs past the end of the partition's address space.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct OffsetOverflow {
    range: MemoryRange,
    offset: u64,
}

impl From<OffsetOverflow> for AddError {
    fn from(OffsetOverflow { range, offset }: OffsetOverflow) -> Self {
        Self::OffsetOverflow { range, offset }
    }
}

impl From<OffsetOverflow> for RemoveError {
    fn from(OffsetOverflow { range, offset }: OffsetOverflow) -> Self {
        Self::OffsetOverflow { range, offset }
    }
}

impl Window {
    /// The one piece that a range of the view is, as most are; `None` where there is more to be
    /// said.
    #[inline]
    pub(crate) fn only_piece(&self, range: MemoryRange) -> Option<Piece> {
        match self.filter_from(range) {
            Filtered::Whole if !range.is_empty() => self.piece(range).ok(),
            _ => None,
        }
    }

    /// Where the partition sees a part of the view.
    #[inline]
    pub(crate) fn piece(&self, view: MemoryRange) -> Result<Piece, OffsetOverflow> {
        let offset = self.offset;
        match view.shifted(offset) {
            Some(gpa) => Ok(Piece { view, gpa }),
            None => Err(OffsetOverflow {
                range: view,
                offset,
            }),
        }
    }

    /// How many pieces a range of the view is.
    pub(crate) fn count(&self, range: MemoryRange) -> u64 {
        match self.filter_from(range) {
            Filtered::Whole => u64::from(!range.is_empty()),
            Filtered::By(filter) => shown(filter, range).count() as u64,
        }
    }

    /// Cuts a range of the view to what is shown; in ascending order, none empty.
    pub(crate) fn pieces(&self, range: MemoryRange) -> Result<Pieces, OffsetOverflow> {
        match self.filter_from(range) {
            Filtered::Whole if range.is_empty() => Ok(Pieces::new()),
            Filtered::Whole => Ok(Pieces::from_buf([self.piece(range)?])),
            Filtered::By(filter) => shown(filter, range).map(|part| self.piece(part)).collect(),
        }
    }

    /// What the filter says of a range.
    #[inline]
    fn filter_from(&self, range: MemoryRange) -> Filtered<'_> {
        match &self.filter {
            None => Filtered::Whole,
            Some(filter) => Self::filtered(filter, range),
        }
    }

    fn filtered(filter: &[MemoryRange], range: MemoryRange) -> Filtered<'_> {
        let first = filter.partition_point(|shown| shown.end() <= range.start());
        match filter.get(first..).unwrap_or_default() {
            [first, ..] if first.contains(&range) => Filtered::Whole,
            rest => Filtered::By(rest),
        }
    }
}

/// What a filter says of a range.
enum Filtered<'a> {
    /// All of it is shown, in one piece.
    Whole,
    /// What of it lies in these is shown; the first of them ends above its start.
    By(&'a [MemoryRange]),
}

/// The parts of a range that a filter shows; in ascending order, none empty.
fn shown<'a>(
    filter: &'a [MemoryRange],
    range: MemoryRange,
) -> impl Iterator<Item = MemoryRange> + use<'a> {
    filter
        .iter()
        .take_while(move |shown| shown.start() < range.end())
        .map(move |shown| shown.intersection(&range))
        .filter(|part| !part.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use memory_range::PAGE_SIZE;
    use proptest::prelude::*;

    fn pages(start: u64, end: u64) -> MemoryRange {
        MemoryRange::new(start * PAGE_SIZE..end * PAGE_SIZE)
    }

    fn check(filter: &[(u64, u64)], slot: (u64, u64), expected: &[(u64, u64)]) {
        let ranges: Vec<MemoryRange> = filter.iter().map(|&(s, e)| pages(s, e)).collect();
        let window = Window {
            offset: 0x10 * PAGE_SIZE,
            filter: Some(memory_range::sorted::flatten(&ranges)),
        };
        let pieces = window.pieces(pages(slot.0, slot.1)).unwrap();
        assert_eq!(window.count(pages(slot.0, slot.1)), pieces.len() as u64);
        let expected: Vec<Piece> = expected
            .iter()
            .map(|&(s, e)| Piece {
                view: pages(s, e),
                gpa: pages(s + 0x10, e + 0x10),
            })
            .collect();
        assert_eq!(
            pieces.to_vec(),
            expected,
            "filter {filter:?}, slot {slot:?}"
        );
    }

    #[test]
    fn cuts_a_slot_to_the_filter() {
        check(&[], (0, 9), &[]);
        check(&[(0, 9)], (2, 5), &[(2, 5)]);
        check(&[(3, 4)], (2, 5), &[(3, 4)]);
        check(&[(0, 3), (4, 9)], (2, 5), &[(2, 3), (4, 5)]);
        check(&[(4, 9), (0, 3), (1, 2)], (2, 5), &[(2, 3), (4, 5)]);
        check(&[(0, 2), (5, 9)], (2, 5), &[]);
        check(&[(0, 9)], (3, 3), &[]);
        check(&[(1, 2), (3, 4), (5, 6)], (0, 9), &[(1, 2), (3, 4), (5, 6)]);
    }

    #[test]
    fn an_offset_past_the_end_is_an_error() {
        let top = MemoryRange::new(0xffff_ffff_ffff_e000..0xffff_ffff_ffff_f000);
        let mut window = Window {
            offset: PAGE_SIZE,
            filter: None,
        };
        assert_eq!(
            window.pieces(top),
            Err(OffsetOverflow {
                range: top,
                offset: PAGE_SIZE
            })
        );
        // What the filter hides can't overflow.
        window.filter = Some(vec![pages(0, 1)]);
        assert_eq!(window.pieces(top), Ok(Pieces::new()));
    }

    proptest! {
        #[test]
        fn agrees_with_a_page_by_page_filter(
            filter in prop::collection::vec((0u64..40, 0u64..10), 0..6),
            start in 0u64..40,
            len in 0u64..20,
        ) {
            let ranges: Vec<MemoryRange> =
                filter.iter().map(|&(start, len)| pages(start, start + len)).collect();
            let window = Window {
                offset: 0,
                filter: Some(memory_range::sorted::flatten(&ranges)),
            };
            let pieces = window.pieces(pages(start, start + len)).unwrap();
            for page in 0..70 {
                let shown = (start..start + len).contains(&page)
                    && filter.iter().any(|&(start, len)| (start..start + len).contains(&page));
                let found = pieces
                    .iter()
                    .filter(|piece| piece.view.contains_addr(page * PAGE_SIZE))
                    .count();
                prop_assert_eq!(found, usize::from(shown), "page {}", page);
            }
            prop_assert!(pieces.iter().all(|piece| !piece.view.is_empty()));
            prop_assert_eq!(window.count(pages(start, start + len)), pieces.len() as u64);
        }
    }
}
