//! Which pages a tracked view marks, and that no mark is lost.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use mapping_manager::{DirtyBitmap, GuestMemory, GuestRange, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::{hint, thread};

const SPACE: u64 = 0x10_0000;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// RAM at 0x1000-0x9000, its last page read-only, holes around it; tracked.
fn tracked() -> (GuestMemory, GuestMemory, Arc<DirtyBitmap>) {
    let ram = SharedMemory::new("ram", 0x8000).unwrap();
    let mapper = VaMapper::new("guest", SPACE, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let rw = Access::ReadWrite;
    mapper.map(range(0x1000, 0x9000), &backing, 0, rw).unwrap();
    let last = range(0x8000, 0x9000);
    mapper.protect(last, Access::ReadOnly).unwrap();
    let plain = mapper.guest_memory();
    let bitmap = Arc::new(DirtyBitmap::new(mapper.space()).unwrap());
    let memory = plain.tracked(bitmap.clone()).unwrap();
    (plain, memory, bitmap)
}

#[track_caller]
fn check(bitmap: &DirtyBitmap, pages: &[u64]) {
    let expected: BTreeSet<u64> = pages.iter().copied().collect();
    let taken = bitmap.take(bitmap.range());
    let found = taken
        .iter()
        .flat_map(|range| range.page_numbers())
        .collect();
    assert_eq!(expected, found);
    assert_eq!(bitmap.marked_pages(bitmap.range()), 0);
}

#[test]
fn every_way_to_write_marks_what_it_wrote() {
    let (plain, memory, bitmap) = tracked();
    memory.write_at(0x1fff, &[1; 0x1002]).unwrap();
    check(&bitmap, &[1, 2, 3]);
    memory.write_plain(0x1ffc, &1_u32).unwrap();
    check(&bitmap, &[1]);
    memory.write_plain(0x1ffe, &1_u32).unwrap();
    check(&bitmap, &[1, 2]);
    memory.write_plain(0x2000, &[0_u8; 0x1001]).unwrap();
    check(&bitmap, &[2, 3]);
    memory.fill_at(0x3000, 7, 0x2000).unwrap();
    check(&bitmap, &[3, 4]);
    memory.fetch_or(0x5008, 0_u64).unwrap();
    check(&bitmap, &[5]);
    memory.fetch_add(0x5ff8, 1_u64).unwrap();
    check(&bitmap, &[5]);
    memory.write_read_only_at(0x7fff, &[5, 6]).unwrap();
    check(&bitmap, &[7, 8]);
    let chain = [GuestRange::new(0x2000, 1), GuestRange::new(0x5fff, 2)];
    memory.write_scattered(&chain, b"abc").unwrap();
    check(&bitmap, &[2, 5, 6]);
    plain.copy_to(0x1000, &memory, 0x3800, 0x1000).unwrap();
    check(&bitmap, &[3, 4]);
    memory.copy_to(0x1000, &memory, 0x6000, 0x1000).unwrap();
    check(&bitmap, &[6]);
    let slice = memory.slice_at::<u16>(0x1ffe, 2).unwrap();
    slice.set(1, 1).unwrap();
    check(&bitmap, &[2]);
    slice.copy_from(0, &[1, 2]).unwrap();
    check(&bitmap, &[1, 2]);
    let view = memory.subrange(0x4fff..0x6000).unwrap();
    view.write_plain(0, &1_u8).unwrap();
    check(&bitmap, &[4]);
    view.subrange(1..2).unwrap().fill_at(0, 1, 1).unwrap();
    check(&bitmap, &[5]);
}

#[test]
fn an_exchange_marks_if_it_took_place() {
    let (_, memory, bitmap) = tracked();
    assert_eq!(memory.compare_exchange(0x1008, 5_u32, 6).unwrap(), Err(0));
    check(&bitmap, &[]);
    assert_eq!(memory.compare_exchange(0x1008, 0_u32, 6).unwrap(), Ok(0));
    check(&bitmap, &[1]);
    memory.compare_exchange(0x1001, 0_u32, 6).unwrap_err();
    memory.compare_exchange(0x8000, 0_u32, 6).unwrap_err();
    check(&bitmap, &[]);
}

#[test]
fn what_does_not_write_marks_nothing() {
    let (plain, memory, bitmap) = tracked();
    memory.read_at(0x1000, &mut [0; 64]).unwrap();
    memory.read_plain::<u64>(0x1000).unwrap();
    memory.compare_at(0x1000, &[0; 64]).unwrap();
    memory.copy_to(0x1000, &plain, 0x2000, 64).unwrap();
    let chain = [GuestRange::new(0x2000, 1)];
    memory.read_scattered(&chain, &mut [0]).unwrap();
    memory.slice_at::<u16>(0x1000, 9).unwrap().get(8).unwrap();
    // The view it was made from marks nothing either, and no bytes are no write.
    plain.write_at(0x1000, &[1; 64]).unwrap();
    for gpa in [0, 0x1000, SPACE] {
        memory.write_at(gpa, &[]).unwrap();
        memory.fill_at(gpa, 1, 0).unwrap();
        memory.write_scattered(&chain, &[]).unwrap();
    }
    check(&bitmap, &[]);
}

#[test]
fn a_write_that_fails_marks_what_it_got_to() {
    let (_, memory, bitmap) = tracked();
    memory.write_at(0x6fff, &[1; 0x2000]).unwrap_err();
    check(&bitmap, &[6, 7]);
    memory.fill_at(0x7000, 1, 0x3000).unwrap_err();
    check(&bitmap, &[7]);
    memory.write_at(0x8000, &[1]).unwrap_err();
    check(&bitmap, &[]);
    // A word is written whole or not at all.
    let error = memory.write_plain(0x7ffe, &u32::MAX).unwrap_err();
    assert_eq!(error.done(), 0);
    assert_eq!(memory.read_plain::<u16>(0x7ffe).unwrap(), 0x101);
    check(&bitmap, &[]);
    let slice = memory.slice_at::<u32>(0x7ff8, 4).unwrap();
    slice.copy_from(0, &[1; 4]).unwrap_err();
    check(&bitmap, &[7]);
    let chain = [GuestRange::new(0x1000, 1), GuestRange::new(0, 1)];
    memory.write_scattered(&chain, &[1; 2]).unwrap_err();
    check(&bitmap, &[1]);
    memory.copy_to(0x8f00, &memory, 0x1f80, 0x200).unwrap_err();
    check(&bitmap, &[1, 2]);
    memory.write_read_only_at(0x8fff, &[1; 2]).unwrap_err();
    check(&bitmap, &[8]);
    for hostile in [SPACE, 1 << 63, u64::MAX - 2, u64::MAX] {
        memory.write_at(hostile, &[1; 4]).unwrap_err();
        memory.write_plain(hostile, &1_u32).unwrap_err();
        memory.fill_at(0x1000, 1, hostile).unwrap_err();
        memory.fetch_or(hostile, 1_u8).unwrap_err();
        memory.copy_to(0x1000, &memory, hostile, 4).unwrap_err();
    }
    check(&bitmap, &[]);
}

#[test]
fn a_bitmap_must_be_of_the_whole_view() {
    let (plain, memory, outer) = tracked();
    let bitmap = Arc::new(DirtyBitmap::new(range(0x2000, 0x4000)).unwrap());
    assert!(plain.dirty_bitmap().is_none());
    let error = plain.tracked(bitmap.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest: a bitmap of gpa 0x2000-0x4000 cannot track 0x0-0x100000"
    );
    for outside in [0x1fff..0x3000, 0x3000..0x4001] {
        let view = plain.subrange(outside).unwrap();
        view.tracked(bitmap.clone()).unwrap_err();
    }
    // A tracked view that is tracked once more marks both.
    let view = memory.subrange(0x2001..0x3fff).unwrap();
    let view = view.tracked(bitmap.clone()).unwrap();
    assert!(Arc::ptr_eq(view.dirty_bitmap().unwrap(), &bitmap));
    view.write_at(0, &[1; 0x1000]).unwrap();
    check(&bitmap, &[2, 3]);
    check(&outer, &[2, 3]);
    let nothing = plain.subrange(9..9).unwrap();
    nothing.tracked(bitmap).unwrap();
}

#[test]
fn an_enormous_bitmap_is_an_error_and_a_large_one_costs_nothing() {
    let end = !(PAGE_SIZE - 1);
    let error = DirtyBitmap::new(range(0, end)).unwrap_err();
    assert_eq!(error.range, range(0, end));
    let bitmap = DirtyBitmap::new(range(1 << 45, (1 << 45) + (1 << 40))).unwrap();
    bitmap.mark((1 << 45) + (1 << 39), 1);
    assert!(bitmap.is_marked((1 << 45) + (1 << 39) + 0xfff));
    assert!(!bitmap.is_marked((1 << 45) + (1 << 39) + 0x1000));
}

#[test]
fn inspection_shows_how_much_is_marked() {
    let bitmap = DirtyBitmap::new(range(0x1000, 0x9000)).unwrap();
    bitmap.mark(0x2fff, 2);
    let shown = inspect::inspect(&bitmap).to_string();
    assert!(shown.contains("0x1000-0x9000"), "{shown}");
    assert!(shown.contains("marked_pages: 2"), "{shown}");
}

/// A writer writes and marks while a copier takes marks and copies. After each round, what isn't
/// marked must have been copied: the writer's look at the mark must not overtake its write.
#[test]
fn no_write_between_mark_and_take_is_lost() {
    const ROUNDS: u64 = 100_000;
    let (plain, memory, bitmap) = tracked();
    let (round, finished) = (AtomicU64::new(0), AtomicU64::new(0));
    let failed = AtomicBool::new(false);
    let wait_for = |counter: &AtomicU64, value: u64| {
        let mut spins = 0_u32;
        while counter.load(Ordering::Acquire) < value && !failed.load(Ordering::Relaxed) {
            spins += 1;
            // The other thread may need this processor.
            if spins.is_multiple_of(200) {
                thread::yield_now();
            }
            hint::spin_loop();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..=ROUNDS {
                wait_for(&round, value);
                memory.write_plain(0x1000, &value).unwrap();
                finished.store(value, Ordering::Release);
            }
        });
        let page = range(0x1000, 0x2000);
        bitmap.mark(0x1000, 1);
        for value in 1..=ROUNDS {
            round.store(value, Ordering::Release);
            // At another moment in each round.
            (0..value % 32).for_each(|_| hint::spin_loop());
            let mut copy = 0;
            if !bitmap.take(page).is_empty() {
                copy = plain.read_plain::<u64>(0x1000).unwrap();
            }
            wait_for(&finished, value);
            let lost = copy != value && !bitmap.is_marked(0x1000);
            failed.store(lost, Ordering::Relaxed);
            assert!(
                !lost,
                "{value} was written, {copy} copied, and nothing is marked"
            );
            bitmap.mark(0x1000, 1);
        }
    });
}

/// What a test does to a bitmap.
#[derive(Clone, Debug)]
enum Op {
    Mark(u64, u64),
    Take(MemoryRange),
    Clear(MemoryRange),
}

fn any_range() -> impl Strategy<Value = MemoryRange> {
    (0..700_u64, 0..300_u64)
        .prop_map(|(first, pages)| range(first * PAGE_SIZE, (first + pages) * PAGE_SIZE))
}

fn op() -> impl Strategy<Value = Op> {
    let gpa = prop_oneof![8 => 0..800 * PAGE_SIZE, 1 => any::<u64>()];
    let len = prop_oneof![
        3 => 0..10_u64,
        4 => 0..3 * PAGE_SIZE,
        3 => 0..300 * PAGE_SIZE,
        1 => any::<u64>(),
    ];
    prop_oneof![
        6 => (gpa, len).prop_map(|(gpa, len)| Op::Mark(gpa, len)),
        1 => any_range().prop_map(Op::Take),
        1 => any_range().prop_map(Op::Clear),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// The bitmap equals a set of page numbers.
    #[test]
    fn a_bitmap_equals_a_set(
        of in any_range(),
        ops in proptest::collection::vec(op(), 1..20),
        within in any_range(),
    ) {
        let bitmap = DirtyBitmap::new(of).unwrap();
        let mut model = BTreeSet::new();
        let pages_of = |ranges: Vec<MemoryRange>| -> Vec<u64> {
            ranges.iter().flat_map(|range| range.page_numbers()).collect()
        };
        let in_range = |model: &BTreeSet<u64>, within: MemoryRange| -> Vec<u64> {
            model.iter().copied().filter(|page| within.contains_addr(page * PAGE_SIZE)).collect()
        };
        for op in ops {
            match op {
                Op::Mark(gpa, len) => {
                    bitmap.mark(gpa, len);
                    let end = u128::from(gpa) + u128::from(len);
                    model.extend(of.page_numbers().filter(|page| {
                        let start = u128::from(page * PAGE_SIZE);
                        len > 0 && u128::from(gpa) < start + 0x1000 && start < end
                    }));
                }
                Op::Take(within) => {
                    let taken = in_range(&model, within);
                    model.retain(|page| !taken.contains(page));
                    prop_assert_eq!(pages_of(bitmap.take(within)), taken);
                }
                Op::Clear(within) => {
                    bitmap.clear(within);
                    model.retain(|page| !within.contains_addr(page * PAGE_SIZE));
                }
            }
            let marked = bitmap.marked(of);
            prop_assert!(marked.windows(2).all(|pair| pair[0].end() < pair[1].start()));
            prop_assert_eq!(pages_of(marked), in_range(&model, of));
        }
        let expected = in_range(&model, within);
        prop_assert_eq!(bitmap.marked_pages(within), expected.len() as u64);
        prop_assert_eq!(pages_of(bitmap.marked(within)), expected);
        for page in 0..1000 {
            prop_assert_eq!(bitmap.is_marked(page * PAGE_SIZE + 5), model.contains(&page));
        }
        prop_assert!(!bitmap.is_marked(u64::MAX));
    }
}
