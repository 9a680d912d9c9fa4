//! The map against a model that paints pages, with chunks short enough to be split and joined often.
//!
//! Each inserted value has a number of its own, so in the model the pages of one entry are exactly
//! a run of pages with one number, and the model knows every border.

use super::RangeMap;
use crate::MemoryRange;
use crate::PAGE_SIZE;
use crate::RangeValue;
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;

/// The model's address space, in pages.
const PAGES: u64 = 160;

/// The highest number that a page can have and still be in a range.
const LAST_PAGE: u64 = u64::MAX / PAGE_SIZE - 1;

#[derive(Clone, PartialEq, Eq, Debug)]
struct Label {
    number: usize,
    /// How far the labelled byte lies behind the start of the range that was inserted.
    offset: u64,
}

impl RangeValue for Label {
    fn tail(&self, offset: u64) -> Self {
        assert!(offset > 0 && offset.is_multiple_of(PAGE_SIZE));
        Self {
            number: self.number,
            offset: self.offset + offset,
        }
    }
}

type Entries = Vec<(MemoryRange, Label)>;

/// The naive map: what each page holds.
struct Model {
    base: u64,
    pages: Vec<Option<Label>>,
}

impl Model {
    fn indices(&self, range: MemoryRange) -> core::ops::Range<usize> {
        let pages = range.page_numbers();
        (pages.start - self.base) as usize..(pages.end - self.base) as usize
    }

    fn range(&self, pages: core::ops::Range<usize>) -> MemoryRange {
        let numbers = self.base + pages.start as u64..self.base + pages.end as u64;
        MemoryRange::from_page_numbers(numbers).unwrap()
    }

    /// The runs of pages in the range for which the key is the same.
    fn runs<K: PartialEq>(
        &self,
        range: MemoryRange,
        key: impl Fn(&Option<Label>) -> Option<K>,
    ) -> Vec<core::ops::Range<usize>> {
        let mut runs: Vec<core::ops::Range<usize>> = Vec::new();
        for page in self.indices(range) {
            let this = key(&self.pages[page]);
            match runs.last_mut() {
                Some(run) if run.end == page && key(&self.pages[page - 1]) == this => run.end += 1,
                _ if this.is_some() => runs.push(page..page + 1),
                _ => {}
            }
        }
        runs
    }

    fn all(&self) -> MemoryRange {
        self.range(0..self.pages.len())
    }

    fn clipped(&self, range: MemoryRange) -> Entries {
        self.runs(range, |page| page.as_ref().map(|label| label.number))
            .into_iter()
            .map(|run| {
                (
                    self.range(run.clone()),
                    self.pages[run.start].clone().unwrap(),
                )
            })
            .collect()
    }

    fn overlapping(&self, range: MemoryRange) -> Entries {
        let touched = |entry: &(MemoryRange, Label)| {
            let numbers = entry.0.page_numbers();
            numbers
                .into_iter()
                .any(|page| range.contains_addr(page * PAGE_SIZE))
        };
        self.clipped(self.all())
            .into_iter()
            .filter(touched)
            .collect()
    }

    fn gaps(&self, range: MemoryRange) -> Vec<MemoryRange> {
        self.runs(range, |page| page.is_none().then_some(()))
            .into_iter()
            .map(|run| self.range(run))
            .collect()
    }

    fn paint(&mut self, range: MemoryRange, number: Option<usize>) {
        for (index, page) in self.indices(range).enumerate() {
            self.pages[page] = number.map(|number| Label {
                number,
                offset: index as u64 * PAGE_SIZE,
            });
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Insert,
    Replace,
    Remove,
    /// Removes the range as it is, which is seldom an entry.
    RemoveExact,
    /// Removes the entry around the range's start.
    RemoveEntry,
    /// Joins the entries that meet at the range's start.
    Join,
}

fn step() -> impl Strategy<Value = (Step, u64, u64)> {
    let step = prop_oneof![
        6 => Just(Step::Insert),
        4 => Just(Step::Replace),
        2 => Just(Step::Remove),
        1 => Just(Step::RemoveExact),
        2 => Just(Step::RemoveEntry),
        2 => Just(Step::Join),
    ];
    let len = prop_oneof![8 => 0..4_u64, 1 => 0..PAGES];
    (step, 0..PAGES, len).prop_map(|(step, start, len)| (step, start, len.min(PAGES - start)))
}

fn check_queries(map: &RangeMap<Label>, model: &Model, range: MemoryRange) {
    let whole: Entries = owned(map.overlapping(range));
    assert_eq!(whole, model.overlapping(range));
    let first = map.first_overlapping(range);
    assert_eq!(owned(first.into_iter()).first(), whole.first());
    let mut backward = owned(map.overlapping(range).rev());
    backward.reverse();
    assert_eq!(backward, whole);

    let clipped: Entries = map.clipped(range).collect();
    assert_eq!(clipped, model.clipped(range));
    let gaps: Vec<_> = map.gaps(range).collect();
    assert_eq!(gaps, model.gaps(range));
    assert_eq!(map.covers(range), gaps.is_empty());

    let is_entry = whole.len() == 1 && whole[0].0 == range;
    assert_eq!(map.get_exact(range), is_entry.then(|| &whole[0].1));
}

fn owned<'a>(entries: impl Iterator<Item = (MemoryRange, &'a Label)>) -> Entries {
    entries
        .map(|(range, label)| (range, label.clone()))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_painted_pages(
        at_the_top in any::<bool>(),
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let base = if at_the_top { LAST_PAGE + 1 - PAGES } else { 0 };
        let mut model = Model { base, pages: vec![None; PAGES as usize] };
        let mut map = RangeMap::new();

        for (number, (step, start, len)) in steps.into_iter().enumerate() {
            let range = model.range(start as usize..(start + len) as usize);
            let expected = model.clipped(range);
            let label = Label { number, offset: 0 };
            match step {
                Step::Insert => match model.overlapping(range).first() {
                    Some((existing, _)) => {
                        let occupied = map.insert(range, label).unwrap_err();
                        prop_assert_eq!(occupied.range, range);
                        prop_assert_eq!(occupied.existing, *existing);
                    }
                    None => {
                        prop_assert_eq!(map.insert(range, label), Ok(()));
                        model.paint(range, Some(number));
                    }
                },
                Step::Replace => {
                    map.replace(range, label);
                    model.paint(range, Some(number));
                }
                Step::Remove => {
                    prop_assert_eq!(map.remove(range), expected);
                    model.paint(range, None);
                }
                Step::RemoveExact => {
                    let whole = model.overlapping(range);
                    let is_entry = whole.len() == 1 && whole[0].0 == range;
                    prop_assert_eq!(map.remove_exact(range), is_entry.then(|| whole[0].1.clone()));
                    if is_entry {
                        model.paint(range, None);
                    }
                }
                Step::RemoveEntry => {
                    let page = model.range(start as usize..start as usize + 1);
                    for (whole, label) in model.overlapping(page) {
                        prop_assert_eq!(map.remove_exact(whole), Some(label));
                        model.paint(whole, None);
                    }
                }
                Step::Join => {
                    let addr = range.start();
                    let all = model.clipped(model.all());
                    let pair = all.windows(2).find(|pair| {
                        pair[0].0.end() == addr && pair[1].0.start() == addr
                    });
                    let joined = map.join_at(addr, |low, len, high| {
                        let pair = pair.unwrap();
                        assert_eq!((low, len), (&pair[0].1, pair[0].0.len()));
                        assert_eq!(high, &pair[1].1);
                        true
                    });
                    prop_assert_eq!(joined, pair.is_some());
                    if let Some(pair) = pair {
                        let whole = MemoryRange::new(pair[0].0.start()..pair[1].0.end());
                        let (found, value) = map.get_mut(addr).unwrap();
                        prop_assert_eq!((found, &*value), (whole, &pair[0].1));
                        // A number of its own, as the model wants it.
                        *value = label;
                        model.paint(whole, Some(number));
                    }
                }
            }

            map.entries.check();
            let expected = model.clipped(model.all());
            prop_assert_eq!(map.len(), expected.len());
            prop_assert_eq!(map.is_empty(), expected.is_empty());
            prop_assert_eq!(&owned(map.iter()), &expected);
            check_queries(&map, &model, range);
        }

        for page in 0..PAGES as usize {
            let range = model.range(page..page + 1);
            check_queries(&map, &model, range);
            let around = model.overlapping(range).pop();
            for addr in [range.start(), range.end() - 1] {
                let found = map.get(addr).map(|(range, label)| (range, label.clone()));
                prop_assert_eq!(&found, &around);
                let found = map.get_mut(addr).map(|(range, label)| (range, label.clone()));
                prop_assert_eq!(&found, &around);
            }
        }
    }

    #[test]
    fn walks_from_both_ends_meet(
        count in 0..60_u64,
        first in 0..60_u64,
        len in 0..60_u64,
        from_front in prop::collection::vec(any::<bool>(), 64),
    ) {
        let page = |number: u64| MemoryRange::from_page_numbers(number..number + 1).unwrap();
        let map: RangeMap<u64> = (0..count).map(|number| (page(number), number)).collect();
        let range = MemoryRange::from_page_numbers(first..first + len).unwrap();

        let mut expected: Vec<u64> = (first..first + len).filter(|number| *number < count).collect();
        let mut walk = map.overlapping(range);
        for from_front in from_front {
            let (found, wanted) = if from_front {
                let wanted = (!expected.is_empty()).then(|| expected.remove(0));
                (walk.next(), wanted)
            } else {
                (walk.next_back(), expected.pop())
            };
            prop_assert_eq!(found.map(|(range, value)| (range, *value)), wanted.map(|n| (page(n), n)));
        }
    }
}

#[test]
fn chunks_are_filled_in_order_and_joined_when_they_empty() {
    let page = |number: u64| MemoryRange::from_page_numbers(number..number + 1).unwrap();
    let mut map: RangeMap<u64> = (0..80).map(|number| (page(number), number)).collect();
    map.entries.check();
    assert_eq!(
        map.entries.chunk_count(),
        10,
        "ascending insertion fills each chunk"
    );

    for number in (0..80).filter(|number| number % 8 != 0) {
        map.remove_exact(page(number));
        map.entries.check();
    }
    assert_eq!(map.len(), 10);
    assert!(
        map.entries.chunk_count() <= 6,
        "{}",
        map.entries.chunk_count()
    );
}

#[test]
fn maps_are_equal_whatever_their_history() {
    let page = |number: u64| MemoryRange::from_page_numbers(number..number + 1).unwrap();
    let upward: RangeMap<u64> = (0..50).map(|number| (page(number), number)).collect();
    let downward: RangeMap<u64> = (0..50).rev().map(|number| (page(number), number)).collect();
    assert_ne!(
        upward.entries.chunk_count(),
        downward.entries.chunk_count(),
        "the test needs two maps that are cut differently"
    );
    assert_eq!(upward, downward);

    let mut other = downward.clone();
    other.replace(page(7), 8);
    assert_ne!(upward, other);
    other.remove(page(7));
    assert_ne!(upward, other);
}
