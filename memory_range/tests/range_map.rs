//! The range map as its users see it: with many entries against a naive list, and case by case.
//!
//! The model that paints pages stands beside the map itself, where it can check how entries are kept.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use memory_range::MemoryRange;
use memory_range::Occupied;
use memory_range::RangeMap;
use memory_range::RangeValue;
use proptest::prelude::*;
use std::sync::Arc;

const TOP: u64 = 0xffff_ffff_ffff_f000;
const EVERYTHING: MemoryRange = MemoryRange::new(0..TOP);

fn pages(numbers: std::ops::Range<u64>) -> MemoryRange {
    MemoryRange::from_page_numbers(numbers).unwrap()
}

/// A value that counts from the start of its range.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
struct Offset(u64);

impl RangeValue for Offset {
    fn tail(&self, offset: u64) -> Self {
        Self(self.0 + offset)
    }
}

fn entries<V: Clone>(map: &RangeMap<V>) -> Vec<(MemoryRange, V)> {
    map.iter()
        .map(|(range, value)| (range, value.clone()))
        .collect()
}

/// The naive map: an unsorted list, cut by comparing with every entry.
#[derive(Default)]
struct List(Vec<(MemoryRange, Offset)>);

impl List {
    fn remove(&mut self, range: MemoryRange) -> Vec<(MemoryRange, Offset)> {
        let mut removed = Vec::new();
        for (whole, value) in std::mem::take(&mut self.0) {
            let (start, end) = (whole.start(), whole.end());
            let (low, high) = (
                range.start().clamp(start, end),
                range.end().clamp(start, end),
            );
            let keep = |list: &mut Vec<_>, from: u64, to: u64| {
                if from < to {
                    list.push((MemoryRange::new(from..to), Offset(value.0 + (from - start))));
                }
            };
            if range.is_empty() {
                keep(&mut self.0, start, end);
                continue;
            }
            keep(&mut self.0, start, low);
            keep(&mut removed, low, high);
            keep(&mut self.0, high, end);
        }
        removed.sort_by_key(|(range, _)| *range);
        removed
    }

    fn sorted(&self) -> Vec<(MemoryRange, Offset)> {
        let mut sorted = self.0.clone();
        sorted.sort_by_key(|(range, _)| *range);
        sorted
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        cases: 48,
        ..ProptestConfig::default()
    })]

    /// Enough entries for many chunks, and ranges from a page to a third of them all.
    #[test]
    fn many_entries_agree_with_a_list(
        steps in prop::collection::vec(
            (0..6_u8, 0..3000_u64, prop_oneof![6 => 0..6_u64, 1 => 0..1000_u64]),
            1..120,
        ),
    ) {
        let mut map = RangeMap::new();
        let mut list = List::default();
        for number in 0..750 {
            let entry = (pages(4 * number..4 * number + 3), Offset(number << 32));
            prop_assert_eq!(map.insert(entry.0, entry.1), Ok(()));
            list.0.push(entry);
        }
        for (number, (step, start, len)) in steps.into_iter().enumerate() {
            let range = pages(start..start + len);
            let value = Offset((1 << 48) + ((number as u64) << 32));
            match step {
                0 | 1 => prop_assert_eq!(map.remove(range), list.remove(range)),
                2 => {
                    let entry = list.0.iter().position(|entry| entry.0.contains_addr(range.start()));
                    if let Some((range, value)) = entry.map(|entry| list.0.swap_remove(entry)) {
                        prop_assert_eq!(map.remove_exact(range), Some(value));
                    }
                }
                3 => {
                    let free = !list.0.iter().any(|(existing, _)| existing.overlaps(&range));
                    prop_assert_eq!(map.insert(range, value).is_ok(), free);
                    if free && !range.is_empty() {
                        list.0.push((range, value));
                    }
                }
                _ => {
                    map.replace(range, value);
                    list.remove(range);
                    if !range.is_empty() {
                        list.0.push((range, value));
                    }
                }
            }
            let mut overlapping = list.sorted();
            overlapping.retain(|(existing, _)| existing.overlaps(&range));
            prop_assert!(map.overlapping(range).map(|(range, value)| (range, *value)).eq(overlapping));
        }
        prop_assert_eq!(entries(&map), list.sorted());
        prop_assert!(map.iter().rev().map(|(range, _)| range)
            .eq(list.sorted().into_iter().rev().map(|(range, _)| range)));
        prop_assert_eq!(map.remove(EVERYTHING), list.sorted());
        prop_assert!(map.is_empty());
    }

    #[test]
    fn merging_agrees_with_a_fold(values in prop::collection::vec(0..4_u8, 0..200)) {
        // 0 leaves a page out; the others are joined with neighbours of the same value.
        let mut map = RangeMap::new();
        let mut expected: Vec<(MemoryRange, u8)> = Vec::new();
        for (number, value) in values.into_iter().enumerate().filter(|(_, value)| *value > 0) {
            let page = pages(number as u64..number as u64 + 1);
            map.insert(page, value).unwrap();
            match expected.last_mut() {
                Some((range, last)) if *last == value && range.end() == page.start() => {
                    *range = MemoryRange::new(range.start()..page.end());
                }
                _ => expected.push((page, value)),
            }
        }
        map.merge_adjacent(|(low, a), (high, b)| {
            assert_eq!(low.end(), high.start());
            (a == b).then_some(*a)
        });
        prop_assert_eq!(entries(&map), expected);
    }
}

#[test]
fn a_hundred_thousand_entries() {
    const COUNT: u64 = 100_000;
    let mut map = RangeMap::new();
    // 7919 is prime to the count, so this is every number once, in a scattered order.
    for number in (0..COUNT).map(|number| number * 7919 % COUNT) {
        map.insert(pages(2 * number..2 * number + 1), number)
            .unwrap();
    }
    assert_eq!(map.len() as u64, COUNT);
    assert!(map.iter().map(|(_, value)| *value).eq(0..COUNT));
    for number in (0..COUNT).step_by(997) {
        let page = pages(2 * number..2 * number + 1);
        assert_eq!(map.get(page.end() - 1), Some((page, &number)));
        assert_eq!(map.get(page.end()), None);
    }
    for number in (0..COUNT).filter(|number| number % 100 != 0) {
        assert_eq!(
            map.remove_exact(pages(2 * number..2 * number + 1)),
            Some(number)
        );
    }
    assert!(
        map.iter()
            .map(|(_, value)| *value)
            .eq((0..COUNT).step_by(100))
    );
}

#[test]
fn an_empty_map_has_nothing() {
    let mut map = RangeMap::<u32>::default();
    assert_eq!(map, RangeMap::new());
    assert!(map.is_empty());
    assert_eq!(map.len(), 0);
    for addr in [0, 0x1000, TOP, u64::MAX] {
        assert_eq!(map.get(addr), None);
        assert_eq!(map.get_mut(addr), None);
    }
    assert_eq!(map.iter().next(), None);
    assert_eq!(map.iter().next_back(), None);
    assert_eq!(map.overlapping(EVERYTHING).next_back(), None);
    assert_eq!(map.remove(EVERYTHING), []);
    assert!(map.gaps(EVERYTHING).eq([EVERYTHING]));
    assert!(!map.covers(EVERYTHING));
    assert!(map.covers(MemoryRange::EMPTY));
    map.merge_adjacent(|_, _| None);
    assert!(map.is_empty());
}

#[test]
fn empty_ranges_change_and_find_nothing() {
    let mut map = RangeMap::new();
    map.insert(pages(1..5), 'a').unwrap();
    let before = map.clone();
    for at in 0..7 {
        let empty = pages(at..at);
        assert_eq!(map.insert(empty, 'b'), Ok(()));
        map.replace(empty, 'b');
        assert_eq!(map.remove(empty), []);
        assert_eq!(map.remove_exact(empty), None);
        assert_eq!(map.get_exact(empty), None);
        assert_eq!(map.overlapping(empty).next(), None);
        assert_eq!(map.overlapping(empty).next_back(), None);
        assert_eq!(map.clipped(empty).next(), None);
        assert_eq!(map.gaps(empty).next(), None);
        assert!(map.covers(empty));
        assert_eq!(map, before);
    }
}

#[test]
fn both_ends_of_the_address_space() {
    let mut map = RangeMap::new();
    let (lowest, highest) = (pages(0..1), MemoryRange::new(TOP - 0x1000..TOP));
    map.insert(EVERYTHING, Offset(0)).unwrap();
    assert_eq!(map.get(TOP - 1), Some((EVERYTHING, &Offset(0))));
    assert_eq!(map.get(TOP), None);
    assert_eq!(map.get(u64::MAX), None);

    assert_eq!(map.remove(highest), [(highest, Offset(TOP - 0x1000))]);
    assert_eq!(map.remove(lowest), [(lowest, Offset(0))]);
    assert_eq!(
        entries(&map),
        [(MemoryRange::new(0x1000..TOP - 0x1000), Offset(0x1000))]
    );
    assert!(map.gaps(EVERYTHING).eq([lowest, highest]));
}

#[test]
fn an_overlap_is_refused_and_named() {
    let mut map = RangeMap::new();
    map.insert(pages(4..6), 'a').unwrap();
    map.insert(pages(8..9), 'b').unwrap();
    let before = map.clone();
    for (range, existing) in [
        (pages(4..6), pages(4..6)),
        (pages(5..9), pages(4..6)),
        (pages(0..5), pages(4..6)),
        (pages(6..20), pages(8..9)),
    ] {
        assert_eq!(map.insert(range, 'c'), Err(Occupied { range, existing }));
        assert_eq!(map, before);
    }
    let error = map.insert(pages(5..9), 'c').unwrap_err();
    assert_eq!(
        error.to_string(),
        "range 0x5000-0x9000 overlaps 0x4000-0x6000, which is in the map already"
    );
    assert_eq!(map.insert(pages(6..8), 'c'), Ok(()));
}

#[test]
fn borders_stay_until_merging_is_asked_for() {
    let mut map = RangeMap::new();
    map.replace(pages(0..1), 'a');
    map.replace(pages(1..2), 'a');
    assert_eq!(map.len(), 2);
    assert!(map.covers(pages(0..2)));
    assert_eq!(map.get_exact(pages(0..2)), None);
    assert_eq!(map.remove_exact(pages(0..2)), None);
    map.merge_adjacent(|_, _| None);
    assert_eq!(map.len(), 2);
}

#[test]
fn a_value_changed_in_place_keeps_its_range() {
    let mut map = RangeMap::new();
    map.insert(pages(1..3), 'a').unwrap();
    let (range, value) = map.get_mut(0x2fff).unwrap();
    *value = 'b';
    assert_eq!(range, pages(1..3));
    assert_eq!(entries(&map), [(pages(1..3), 'b')]);
}

#[test]
fn values_of_every_kind_have_tails() {
    fn check<V: RangeValue + PartialEq + std::fmt::Debug>(value: V, tail: V) {
        let map: RangeMap<V> = [(pages(0..2), value.clone())].into_iter().collect();
        let parts: Vec<_> = map.clipped(pages(1..2)).collect();
        assert_eq!(parts, [(pages(1..2), tail)]);
        assert_eq!(map.clipped(pages(0..1)).next(), Some((pages(0..1), value)));
    }
    check((), ());
    check(7_u64, 7);
    check("rom", "rom");
    check(String::from("rom"), String::from("rom"));
    check(Arc::new(7), Arc::new(7));
    check(Some(Offset(4)), Some(Offset(0x1004)));
    check(None::<Offset>, None);
    check(('a', Offset(4)), ('a', Offset(0x1004)));
}

#[test]
fn a_later_entry_replaces_an_earlier_one() {
    let mut map: RangeMap<char> = [(pages(0..4), 'a'), (pages(1..2), 'b')]
        .into_iter()
        .collect();
    map.extend([(pages(3..5), 'c')]);
    assert_eq!(
        format!("{map:?}"),
        "{0x0-0x1000: 'a', 0x1000-0x2000: 'b', 0x2000-0x3000: 'a', 0x3000-0x5000: 'c'}"
    );
    map.clear();
    assert_eq!(map, RangeMap::new());
}
