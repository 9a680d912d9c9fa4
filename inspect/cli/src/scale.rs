//! From addresses to heights: every border has its own place, and every piece between two borders
//! can be seen, whether it is a page or a terabyte.

use crate::range::ByteRange;

const PAGE: u64 = 4096;

/// How much more than the least a length deserves: 0 for a page or less, 1 for each doubling.
pub(crate) fn weight(len: u64) -> f64 {
    (len.max(PAGE) as f64 / PAGE as f64).log2()
}

/// Maps addresses to positions, monotonously, and piece by piece between borders.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    /// By address, and so by position.
    borders: Vec<(u64, f64)>,
}

/// What heights a scale gives.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Heights {
    /// The height of a page, and of whatever is smaller.
    pub(crate) least: f64,
    /// What each doubling adds.
    pub(crate) doubling: f64,
    /// The most that a piece in which nothing lies is given.
    pub(crate) empty: f64,
    /// What is added for a piece that deserves a second look.
    pub(crate) marked: f64,
}

/// Tells what lies between two borders.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    Nothing,
    Something,
    Marked,
}

impl Scale {
    /// Makes a scale with a border at each of `borders`. `piece` tells of the range between two of
    /// them what lies there.
    pub(crate) fn new(
        mut borders: Vec<u64>,
        heights: Heights,
        piece: impl Fn(ByteRange) -> Piece,
    ) -> Self {
        borders.sort_unstable();
        borders.dedup();
        let mut at = 0.0;
        let mut last = None;
        let borders = borders.into_iter().map(|border| {
            if let Some(range) = last.and_then(|last| ByteRange::try_new(last, border)) {
                let height = heights.least + heights.doubling * weight(range.len());
                at += match piece(range) {
                    Piece::Something => height,
                    Piece::Marked => height + heights.marked,
                    Piece::Nothing => height.min(heights.empty.max(heights.least)),
                };
            }
            last = Some(border);
            (border, at)
        });
        Self {
            borders: borders.collect(),
        }
    }

    /// Returns the position of a border. An address that is none has the position of the next lower
    /// border.
    pub(crate) fn at(&self, address: u64) -> f64 {
        let index = self
            .borders
            .partition_point(|(border, _)| *border <= address);
        let border = index
            .checked_sub(1)
            .and_then(|index| self.borders.get(index));
        border.map_or(0.0, |(_, at)| *at)
    }

    pub(crate) fn height(&self) -> f64 {
        self.borders.last().map_or(0.0, |(_, at)| *at)
    }

    pub(crate) fn borders(&self) -> impl ExactSizeIterator<Item = (u64, f64)> {
        self.borders.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEIGHTS: Heights = Heights {
        least: 18.0,
        doubling: 3.0,
        empty: 30.0,
        marked: 10.0,
    };

    proptest! {
        #[test]
        fn each_piece_has_its_least_height_and_none_is_huge(
            borders in prop::collection::vec(any::<u64>(), 2..50),
        ) {
            let scale = Scale::new(borders, HEIGHTS, |range| {
                match range.start() % 2 {
                    0 => Piece::Something,
                    _ => Piece::Nothing,
                }
            });
            let borders: Vec<_> = scale.borders().collect();
            for pair in borders.windows(2) {
                let height = pair[1].1 - pair[0].1;
                prop_assert!((18.0..=18.0 + 3.0 * 52.0 + 1e-6).contains(&height));
                if pair[0].0 % 2 == 1 {
                    prop_assert!(height <= 30.0 + 1e-6);
                }
                prop_assert_eq!(scale.at(pair[0].0), pair[0].1);
            }
        }
    }

    #[test]
    fn a_scale_without_borders_has_no_height() {
        assert_eq!(
            Scale::new(vec![], HEIGHTS, |_| Piece::Something).height(),
            0.0
        );
    }
}
