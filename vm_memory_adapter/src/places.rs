//! Finds the last of a few sorted addresses that is not above another one, in a few steps.

use std::ops::Range;

/// An index of at most 127 sorted addresses, by `N` equal pieces of the space between the first and the
/// last; `N` is a power of two, and several times as many. The addresses themselves lie elsewhere.
///
/// Where they lie about evenly, as RAM between gaps and windows in a row do, most pieces have no address
/// within, and one look at the index tells. Where many lie in one piece, it is halved as often as it
/// takes.
#[derive(Clone, Debug)]
pub(crate) struct Places<const N: usize> {
    first: u64,
    /// A piece is `1 << shift` long; below 64.
    shift: u32,
    /// For each piece, the last address that is not above its start; with [`MORE`], if others lie in it.
    index: [u8; N],
}

const MORE: u8 = 0x80;

impl<const N: usize> Places<N> {
    /// Of sorted addresses.
    pub(crate) fn new(starts: impl DoubleEndedIterator<Item = u64> + Clone) -> Self {
        let mut ends = starts.clone();
        let first = ends.next().unwrap_or(0);
        let span = ends
            .next_back()
            .map_or(0, |last| last.saturating_sub(first));
        let bits = u64::BITS.saturating_sub(span.leading_zeros());
        let shift = bits.saturating_sub(N.ilog2());
        let mut index = [0_u8; N];
        let (mut from, mut place) = (0_usize, 0_u8);
        for start in starts.skip(1) {
            let into = start.saturating_sub(first);
            let piece = (into >> shift) as usize;
            // It lies within its piece, or where that starts.
            let is_within = (piece as u64) << shift != into;
            let next = piece.saturating_add(usize::from(is_within));
            if let Some(before) = index.get_mut(from..next) {
                before.fill(place);
                from = next;
            }
            if is_within && let Some(piece) = index.get_mut(piece) {
                *piece |= MORE;
            }
            place = place.saturating_add(1);
        }
        if let Some(rest) = index.get_mut(from..) {
            rest.fill(place);
        }
        Self {
            first,
            shift,
            index,
        }
    }

    /// The place of the last address that is not above `gpa`; of the first, if all are. `start` says
    /// where the nth address is.
    #[inline(always)]
    pub(crate) fn place(&self, gpa: u64, start: impl Fn(usize) -> Option<u64>) -> usize {
        self.place_from(gpa.max(self.first), start)
    }

    /// As [`place`](Self::place), and any place where all addresses are above `gpa`.
    #[inline(always)]
    pub(crate) fn place_from(&self, gpa: u64, start: impl Fn(usize) -> Option<u64>) -> usize {
        let piece = gpa.wrapping_sub(self.first) >> self.shift;
        let piece = piece.min(N as u64 - 1) as usize;
        let Some(place) = self.index.get(piece) else {
            return 0;
        };
        if place & MORE == 0 {
            return usize::from(*place);
        }
        self.place_within(piece, |nth| start(nth).is_none_or(|start| start > gpa))
    }

    /// The place of the last address that is not past, in a piece that has addresses within.
    #[inline(always)]
    fn place_within(&self, piece: usize, is_past: impl Fn(usize) -> bool) -> usize {
        let at = |piece: usize| {
            self.index
                .get(piece)
                .map(|place| usize::from(place & !MORE))
        };
        let place = at(piece).unwrap_or(0);
        let next = place.wrapping_add(1);
        // There is seldom more than one; whether it is past, no processor can guess.
        let last = next.wrapping_add(1);
        if is_past(last) {
            return place.wrapping_add(usize::from(!is_past(next)));
        }
        // Past the last piece there is no end but that of the list, which is shorter than that.
        let end = at(piece.wrapping_add(1)).map_or(128, |end| end.wrapping_add(1));
        search(last..end, is_past)
    }
}

/// The last place in a part of the list that is not past; the first one is not.
#[cold]
fn search(part: Range<usize>, is_past: impl Fn(usize) -> bool) -> usize {
    let Range { mut start, mut end } = part;
    while end.saturating_sub(start) > 1 {
        let middle = start.midpoint(end);
        match is_past(middle) {
            true => end = middle,
            false => start = middle,
        }
    }
    start
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::Places;
    use proptest::prelude::*;

    fn place(starts: &[u64], gpa: u64) -> usize {
        let after = starts.iter().filter(|start| **start <= gpa).count();
        after.saturating_sub(1)
    }

    /// Evenly, in clusters, and at the ends of all addresses.
    fn address() -> impl Strategy<Value = u64> {
        prop_oneof![
            0..0x1000_u64,
            any::<u32>().prop_map(u64::from),
            (0..64_u64).prop_map(|nth| (1 << 40) + nth),
            (0..4_u64).prop_map(|nth| u64::MAX - nth),
            any::<u64>(),
        ]
    }

    fn check<const N: usize>(list: &[u64], others: &[u64]) -> Result<(), TestCaseError> {
        let places = Places::<N>::new(list.iter().copied());
        let near = list
            .iter()
            .flat_map(|start| [start.saturating_sub(1), *start, start.saturating_add(1)]);
        for gpa in near.chain(others.iter().copied()).chain([0, u64::MAX]) {
            let found = places.place(gpa, |nth| list.get(nth).copied());
            prop_assert_eq!(found, place(list, gpa), "{:#x}", gpa);
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn a_place_is_what_counting_says(
            starts in proptest::collection::btree_set(address(), 0..80),
            others in proptest::collection::vec(address(), 0..20),
        ) {
            let list: Vec<u64> = starts.into_iter().collect();
            check::<8>(&list, &others)?;
            check::<256>(&list, &others)?;
        }
    }
}
