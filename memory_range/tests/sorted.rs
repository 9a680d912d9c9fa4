//! The algorithms over sorted lists, against sets of pages.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use memory_range::MemoryRange;
use memory_range::RangeMap;
use memory_range::sorted;
use memory_range::sorted::Piece;
use proptest::prelude::*;
use std::collections::BTreeSet;

const PAGES: u64 = 40;

fn pages(numbers: std::ops::Range<u64>) -> MemoryRange {
    MemoryRange::from_page_numbers(numbers).unwrap()
}

fn set<'a>(ranges: impl IntoIterator<Item = &'a MemoryRange>) -> BTreeSet<u64> {
    ranges
        .into_iter()
        .flat_map(|range| range.page_numbers())
        .collect()
}

/// Any ranges at all, empty ones included.
fn ranges() -> impl Strategy<Value = Vec<MemoryRange>> {
    let range = (0..PAGES, 0..8_u64).prop_map(|(start, len)| pages(start..start + len));
    prop::collection::vec(range, 0..12)
}

/// A sorted list whose ranges may touch, with empty ranges in it: borders from a set, some of the
/// ranges between them left out.
fn sorted_list() -> impl Strategy<Value = Vec<MemoryRange>> {
    let borders = prop::collection::btree_set(0..PAGES, 0..12);
    (borders, prop::collection::vec(0..4_u8, 12)).prop_map(|(borders, kinds)| {
        let borders: Vec<u64> = borders.into_iter().collect();
        let pairs = borders.windows(2).zip(kinds);
        pairs
            .filter_map(|(pair, kind)| match kind {
                0 => None,
                1 => Some(pages(pair[0]..pair[0])),
                _ => Some(pages(pair[0]..pair[1])),
            })
            .collect()
    })
}

fn is_sorted(ranges: &[MemoryRange]) -> bool {
    ranges.iter().all(|range| !range.is_empty())
        && ranges.is_sorted_by(|low, high| low.end() <= high.start())
}

fn nothing_touches(ranges: &[MemoryRange]) -> bool {
    ranges.is_sorted_by(|low, high| low.end() < high.start())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn overlap_is_the_intersection(left in sorted_list(), right in sorted_list()) {
        let found: Vec<MemoryRange> = sorted::overlap(&left, &right).collect();
        prop_assert!(is_sorted(&found));
        prop_assert_eq!(set(&found), &set(&left) & &set(&right));
        // Cut at every border: each piece lies in one range of either list.
        for piece in found {
            prop_assert!(left.iter().any(|range| range.contains(&piece)));
            prop_assert!(right.iter().any(|range| range.contains(&piece)));
        }
    }

    #[test]
    fn subtract_is_the_difference(left in sorted_list(), right in sorted_list()) {
        let found: Vec<MemoryRange> = sorted::subtract(&left, &right).collect();
        prop_assert!(is_sorted(&found));
        prop_assert_eq!(set(&found), &set(&left) - &set(&right));
        for piece in found {
            prop_assert!(left.iter().any(|range| range.contains(&piece)));
        }
    }

    #[test]
    fn flatten_is_the_shortest_union(ranges in ranges()) {
        let found = sorted::flatten(&ranges);
        prop_assert!(is_sorted(&found));
        prop_assert!(nothing_touches(&found));
        prop_assert_eq!(set(&found), set(&ranges));
    }

    #[test]
    fn merge_adjacent_keeps_every_page(list in sorted_list()) {
        let found: Vec<MemoryRange> = sorted::merge_adjacent(&list).collect();
        prop_assert!(is_sorted(&found));
        prop_assert!(nothing_touches(&found));
        prop_assert_eq!(set(&found), set(&list));
    }

    #[test]
    fn walk_shows_every_page_once_with_its_values(left in sorted_list(), right in sorted_list()) {
        let numbered = |list: &[MemoryRange]| -> Vec<(MemoryRange, usize)> {
            list.iter().copied().zip(0..).collect()
        };
        let at = |list: &[MemoryRange], page: u64| {
            list.iter().position(|range| range.page_numbers().contains(&page))
        };
        let pieces: Vec<_> = sorted::walk(numbered(&left), numbered(&right)).collect();
        let ranges: Vec<MemoryRange> = pieces.iter().map(Piece::range).collect();
        prop_assert!(is_sorted(&ranges));
        prop_assert_eq!(set(&ranges), &set(&left) | &set(&right));
        for piece in &pieces {
            let (in_left, in_right) = match piece {
                Piece::Left(_, left) => (Some(*left), None),
                Piece::Right(_, right) => (None, Some(*right)),
                Piece::Both(_, left, right) => (Some(*left), Some(*right)),
            };
            for page in piece.range().page_numbers() {
                prop_assert_eq!(at(&left, page), in_left);
                prop_assert_eq!(at(&right, page), in_right);
            }
        }
        // No piece is cut where neither list has a border.
        for pair in pieces.windows(2) {
            let border = pair[0].range().end();
            let is_border = |range: &MemoryRange| range.start() == border || range.end() == border;
            prop_assert!(left.iter().chain(&right).any(is_border));
        }
    }

    /// Lists that break the rule: no panic, an end, and no page from nowhere.
    #[test]
    fn unsorted_lists_do_no_harm(left in ranges(), right in ranges()) {
        let most: u64 = left.iter().chain(&right).map(|range| range.page_count()).sum();
        let pieces = sorted::walk(
            left.iter().map(|range| (*range, ())),
            right.iter().map(|range| (*range, ())),
        );
        let pieces: Vec<MemoryRange> = pieces.take(1 + most as usize).map(|p| p.range()).collect();
        prop_assert!(pieces.len() as u64 <= most);
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
        prop_assert_eq!(set(&pieces), &set(&left) | &set(&right));
        prop_assert!(set(&sorted::merge_adjacent(&left).collect::<Vec<_>>()).is_superset(&set(&left)));
    }
}

#[test]
fn the_ends_of_the_address_space() {
    let top = 0xffff_ffff_ffff_f000;
    let all = MemoryRange::new(0..top);
    let holes = [
        MemoryRange::new(0..0x1000),
        MemoryRange::new(top - 0x1000..top),
    ];
    let between = MemoryRange::new(0x1000..top - 0x1000);
    assert!(sorted::subtract([all], holes).eq([between]));
    assert!(sorted::overlap([all], holes).eq(holes));
    assert_eq!(sorted::flatten([holes[1], between, holes[0]]), [all]);
}

#[test]
fn walks_two_maps() {
    let mut old = RangeMap::new();
    old.insert(pages(0..4), "ram").unwrap();
    let mut new = old.clone();
    new.replace(pages(2..3), "rom");
    let changed: Vec<MemoryRange> = sorted::walk(old.iter(), new.iter())
        .filter(|piece| !matches!(piece, Piece::Both(_, old, new) if old == new))
        .map(|piece| piece.range())
        .collect();
    assert_eq!(changed, [pages(2..3)]);
}
