//! Finds the last of sorted addresses that is not above another one, in a few steps.

use std::ops::Range;

/// Sorted addresses, with an index by equal pieces of the space between the first and the last.
///
/// Where they lie about evenly, as RAM between gaps and windows in a row do, an address is found by one
/// look at the index and one or two at the list. Where many lie in one piece, it is halved as
/// often as it takes.
#[derive(Clone, Debug)]
pub(crate) struct Starts {
    first: u64,
    /// A piece is `1 << shift` long.
    shift: u32,
    /// For each piece, the last address that is not above its start.
    index: Box<[u32]>,
    list: Box<[u64]>,
}

/// How many pieces there are for each address.
const PIECES: u64 = 2;

impl Starts {
    /// Of sorted addresses, fewer than 2^32.
    pub(crate) fn new(starts: impl IntoIterator<Item = u64>) -> Self {
        let list: Box<[u64]> = starts.into_iter().collect();
        let first = list.first().copied().unwrap_or(0);
        let span = list.last().map_or(0, |last| last.saturating_sub(first));
        let wanted = (list.len() as u64).saturating_mul(PIECES).max(1);
        let mut shift = 0;
        while span >> shift >= wanted {
            shift = u32::saturating_add(shift, 1);
        }
        let pieces = usize::try_from(span >> shift)
            .unwrap_or(0)
            .saturating_add(1);
        let mut index = Vec::with_capacity(pieces);
        let mut place: u32 = 0;
        for piece in 0..pieces as u64 {
            // Does not wrap: it lies in the span.
            let start = first.saturating_add(piece << shift);
            while list
                .get(place as usize + 1)
                .is_some_and(|next| *next <= start)
            {
                place = place.saturating_add(1);
            }
            index.push(place);
        }
        Self {
            first,
            shift,
            index: index.into(),
            list,
        }
    }

    /// The place of the last address that is not above `gpa`; of the first, if all are.
    #[inline(always)]
    pub(crate) fn place(&self, gpa: u64) -> usize {
        let piece = gpa.saturating_sub(self.first) >> self.shift;
        // Does not truncate where it matters: an index is shorter than that.
        let piece = (piece as usize).min(self.index.len().wrapping_sub(1));
        let Some(place) = self.index.get(piece) else {
            return 0;
        };
        let place = *place as usize;
        let is_past = |nth: usize| self.list.get(nth).is_none_or(|start| *start > gpa);
        let next = place.wrapping_add(1);
        // Where they lie evenly, it is one of these two; which one, no processor can guess.
        let last = next.wrapping_add(1);
        if is_past(last) {
            return place.wrapping_add(usize::from(!is_past(next)));
        }
        let end = self.index.get(piece.wrapping_add(1));
        let end = end.map_or(self.list.len(), |end| *end as usize + 1);
        self.search(last..end, gpa)
    }

    /// The place in a part of the list whose first address is not above `gpa`.
    #[cold]
    fn search(&self, part: Range<usize>, gpa: u64) -> usize {
        let list = self.list.get(part.clone()).unwrap_or_default();
        let after = list.partition_point(|start| *start <= gpa);
        part.start.saturating_add(after).saturating_sub(1)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

    use super::Starts;
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

    proptest! {
        #[test]
        fn a_place_is_what_counting_says(
            starts in proptest::collection::btree_set(address(), 0..80),
            others in proptest::collection::vec(address(), 0..20),
        ) {
            let list: Vec<u64> = starts.into_iter().collect();
            let starts = Starts::new(list.iter().copied());
            let near = list.iter().flat_map(|start| {
                [start.saturating_sub(1), *start, start.saturating_add(1)]
            });
            for gpa in near.chain(others).chain([0, u64::MAX]) {
                prop_assert_eq!(starts.place(gpa), place(&list, gpa), "{:#x}", gpa);
            }
        }
    }
}
