//! The entries against one value a page.

use super::*;
use crate::table::chunk::FEW;
use memory_range::{Access, MemoryRange};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PAGE: u64 = 0x1000;
const PAGES: u64 = 40;

/// Slots are only addresses here.
static SLOTS: [u8; 3] = [0; 3];

fn edit<S>(entries: &Entries<S>) -> Editor<'_, S> {
    // SAFETY: each test changes its entries in one thread, and drops one editor before the next.
    unsafe { entries.edit() }
}

#[derive(Clone, Debug)]
enum Op {
    Set {
        start: u64,
        end: u64,
        offset: u64,
        slot: usize,
        access: Access,
    },
    Remove {
        start: u64,
        end: u64,
    },
    Protect {
        start: u64,
        end: u64,
        access: Access,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let range = (0..PAGES, 1..6_u64).prop_map(|(start, len)| (start, (start + len).min(PAGES)));
    let access = prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)];
    prop_oneof![
        5 => (range.clone(), 0..3_u64, 0..SLOTS.len(), access.clone()).prop_map(
            |((start, end), shift, slot, access)| Op::Set {
                start,
                end,
                // So that neighbours often continue one another.
                offset: start + shift,
                slot,
                access,
            }
        ),
        2 => range.clone().prop_map(|(start, end)| Op::Remove { start, end }),
        2 => (range, access).prop_map(|((start, end), access)| Op::Protect { start, end, access }),
    ]
}

fn slot(index: usize) -> NonNull<u8> {
    NonNull::from(&SLOTS[index])
}

/// The slow version: what is at each page.
type Model = BTreeMap<u64, (u64, NonNull<u8>, Access)>;

fn runs(model: &Model) -> Vec<Entry<u8>> {
    let mut runs: Vec<Entry<u8>> = Vec::new();
    for (page, (offset, slot, access)) in model {
        let next = Entry {
            start: page * PAGE,
            end: (page + 1) * PAGE,
            offset: offset * PAGE,
            access: *access,
            slot: *slot,
        };
        match runs.last_mut() {
            Some(last) if last.is_continued_by(&next) => last.end = next.end,
            _ => runs.push(next),
        }
    }
    runs
}

/// Joins parts that continue one another.
fn joined(parts: Vec<Entry<u8>>) -> Vec<Entry<u8>> {
    let mut joined: Vec<Entry<u8>> = Vec::new();
    for part in parts {
        match joined.last_mut() {
            Some(last) if last.is_continued_by(&part) => last.end = part.end,
            _ => joined.push(part),
        }
    }
    joined
}

/// Checks invariant E3.
fn check(entries: &Entries<u8>) {
    let index = entries.index();
    let mut last_end = 0;
    let mut lens = Vec::new();
    for at in 0..index.len() {
        let chunk = entries.chunk(at).unwrap();
        lens.push(chunk.len());
        for place in 0..chunk.len() {
            let entry = chunk.get(place).unwrap();
            assert!(entry.start >= last_end && entry.end > entry.start);
            last_end = entry.end;
            assert_eq!(index.find(entry.start), at, "the heads lead to each entry");
        }
    }
    assert!(lens.iter().all(|len| *len > 0), "{lens:?}");
    let both_few = |pair: &[usize]| pair.iter().all(|len| *len < FEW);
    assert!(!lens.windows(2).any(both_few), "{lens:?}");
    let owned = entries.owned.lock().unwrap();
    assert_eq!(
        owned.chunks.len(),
        owned.free.len() + lens.len(),
        "no chunk is lost"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn entries_equal_the_pages(ops in proptest::collection::vec(op(), 1..80)) {
        let entries = Entries::<u8>::new();
        let mut model = Model::new();
        let mut counts: BTreeMap<NonNull<u8>, i64> = BTreeMap::new();
        for op in ops {
            let mut count = |slot, by| *counts.entry(slot).or_default() += by;
            match op {
                Op::Set { start, end, offset, slot: index, access } => {
                    let entry = Entry {
                        start: start * PAGE,
                        end: end * PAGE,
                        offset: offset * PAGE,
                        access,
                        slot: slot(index),
                    };
                    edit(&entries).set(entry, &mut count);
                    for page in start..end {
                        model.insert(page, (offset + page - start, slot(index), access));
                    }
                }
                Op::Remove { start, end } => {
                    edit(&entries).remove(start * PAGE, end * PAGE, &mut count);
                    model.retain(|page, _| !(start..end).contains(page));
                }
                Op::Protect { start, end, access } => {
                    let range = MemoryRange::new(start * PAGE..end * PAGE);
                    // Two ways to do the same.
                    match entries.exact(range.start(), range.end()) {
                        Some((at, _)) => edit(&entries).set_access(at, access),
                        None => edit(&entries).protect(range, access, &mut count),
                    }
                    model.range_mut(start..end).for_each(|(_, page)| page.2 = access);
                }
            }
            check(&entries);
            let runs = runs(&model);
            let found: Vec<_> = entries.joined().collect();
            prop_assert!(found == runs, "{found:?} {runs:?}");
            let all: Vec<_> = entries.iter_from(0).collect();
            for page in 0..PAGES {
                let addr = page * PAGE + 0x123;
                let expected = all.iter().find(|entry| entry.end > addr);
                prop_assert!(entries.find(addr).as_ref() == expected);
                let expected = runs.iter().find(|run| run.start <= addr && run.end > addr);
                prop_assert!(entries.joined_at(addr).as_ref() == expected);
                let (start, end) = (page * PAGE, (page + 3) * PAGE);
                let parts: Vec<_> = entries.parts(start, end).collect();
                let mut expected = Model::new();
                expected.extend(model.range(page..page + 3).map(|(page, at)| (*page, *at)));
                prop_assert!(joined(parts) == self::runs(&expected));
                let exact = all.iter().find(|entry| (entry.start, entry.end) == (start, end));
                prop_assert!(entries.exact(start, end).map(|(_, entry)| entry).as_ref() == exact);
            }
            for index in 0..SLOTS.len() {
                let uses = all.iter().filter(|entry| entry.slot == slot(index)).count();
                let counted = counts.get(&slot(index)).copied().unwrap_or_default();
                prop_assert_eq!(usize::try_from(counted).unwrap(), uses);
            }
        }
    }
}

/// What grew and shrank again is used again: the memory depends on the most entries there were.
#[test]
fn chunks_are_used_again() {
    let entries = Entries::<u8>::new();
    let fill = || {
        for page in 0..100 {
            let entry = Entry {
                start: 2 * page * PAGE,
                end: (2 * page + 1) * PAGE,
                offset: 0,
                access: Access::ReadOnly,
                slot: slot(0),
            };
            edit(&entries).set(entry, &mut |_, _| {});
        }
    };
    fill();
    let chunks = entries.owned.lock().unwrap().chunks.len();
    for _ in 0..10 {
        edit(&entries).remove(0, u64::MAX, &mut |_, _| {});
        assert!(entries.find(0).is_none());
        fill();
    }
    assert_eq!(entries.owned.lock().unwrap().chunks.len(), chunks);
}

/// What is switched to and fro keeps its entry; what is put in anew becomes one with its neighbours.
#[test]
fn what_is_switched_does_not_move() {
    let entries = Entries::<u8>::new();
    let mut ignore = |_, _| {};
    let entry = |pages: std::ops::Range<u64>, index, access| Entry {
        start: pages.start * PAGE,
        end: pages.end * PAGE,
        offset: pages.start * PAGE,
        access,
        slot: slot(index),
    };
    let (ro, rw) = (Access::ReadOnly, Access::ReadWrite);
    let cuts = |entries: &Entries<u8>| -> Vec<u64> {
        entries
            .iter_from(0)
            .map(|entry| entry.start / PAGE)
            .collect()
    };
    edit(&entries).set(entry(0..4, 0, rw), &mut ignore);
    edit(&entries).set(entry(4..8, 0, rw), &mut ignore);
    assert_eq!(cuts(&entries), [0]);
    let segment = MemoryRange::new(2 * PAGE..3 * PAGE);
    edit(&entries).protect(segment, ro, &mut ignore);
    assert_eq!(cuts(&entries), [0, 2, 3]);
    let (at, _) = entries.exact(2 * PAGE, 3 * PAGE).unwrap();
    edit(&entries).set_access(at, rw);
    edit(&entries).set(entry(2..3, 1, rw), &mut ignore);
    edit(&entries).set(entry(2..3, 0, rw), &mut ignore);
    assert_eq!(cuts(&entries), [0, 2, 3]);
    assert_eq!(entries.joined().count(), 1);
    edit(&entries).set(entry(1..6, 0, rw), &mut ignore);
    assert_eq!(cuts(&entries), [0]);
}

/// A reader who meets a change finds out, whatever it has read.
#[test]
fn a_change_under_way_shows_in_the_sequence() {
    let entries = Entries::<u8>::new();
    let seen = entries.sequence().begin().unwrap();
    assert!(entries.sequence().is_still(seen));
    let editor = edit(&entries);
    assert_eq!(entries.sequence().begin(), None);
    assert!(!entries.sequence().is_still(seen));
    drop(editor);
    assert!(!entries.sequence().is_still(seen));
    assert!(entries.sequence().begin().is_some_and(|now| now > seen));
}
