//! What a mapper does before its view changes: it counts slots, and pauses vCPUs over gaps.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/memory.rs"]
mod support;
#[path = "support/views.rs"]
mod views;

use memory_range::PAGE_SIZE;
use partition_mapper::MapperOptions;
use partition_mapper::testing::PartitionCall;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::pages;
use views::{Is, RO, RW, View, calls, guest, place, region, shown};

const ALL: u32 = 100;

#[test]
fn vcpus_are_paused_over_a_gap_and_only_then() {
    let view = View::new();
    let (guest, barrier) = guest(ALL);
    view.follow(&guest, MapperOptions::new());
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    assert_eq!(barrier.pauses(), 0, "nothing was there before");

    // Every slot operation happens while the vCPUs are paused, and they run on afterwards.
    let seen = Arc::new(AtomicUsize::new(0));
    guest.fail_if({
        let (barrier, seen) = (barrier.clone(), seen.clone());
        move |_, call| {
            if matches!(
                call,
                PartitionCall::Map { .. } | PartitionCall::Unmap { .. }
            ) {
                assert!(barrier.is_paused());
                seen.fetch_add(1, Ordering::SeqCst);
            }
            false
        }
    });
    view.change(|change| place(change, ram, 0, RO));
    assert_eq!(calls(&guest), "pum");
    assert_eq!(seen.load(Ordering::SeqCst), 2);
    assert_eq!(barrier.pauses(), 1);
    assert!(!barrier.is_paused());

    // Moved: what goes and what comes overlap.
    view.change(|change| place(change, ram, 4, RO));
    assert_eq!(barrier.pauses(), 1);
    guest.fail_never();
    // Moved far away: no vCPU could see a gap.
    view.change(|change| place(change, ram, 32, RO));
    // Other contents.
    view.change(|change| region(change, 2, (32, 40), RO, Is::Device));
    view.change(|change| change.unmap_region(ram).unwrap());
    assert_eq!(calls(&guest), "um");
    assert_eq!(barrier.pauses(), 0);
}

#[test]
fn two_mappers_of_one_partition_pause_once() {
    let view = View::new();
    let (guest, barrier) = guest(ALL);
    view.follow(&guest, MapperOptions::new());
    view.follow(&guest, MapperOptions::new().offset(1 << 32));
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    guest.fail_never();
    view.change(|change| place(change, ram, 0, RO));
    assert_eq!(calls(&guest), "ppuumm");
    assert_eq!(barrier.pauses(), 1);
    assert!(!barrier.is_paused());
}

#[test]
fn a_gap_outside_the_filter_pauses_nobody() {
    let view = View::new();
    let (guest, barrier) = guest(ALL);
    let filter = [pages(0, 2), pages(10, 12)];
    view.follow(&guest, MapperOptions::new().only(filter));
    let ram = view.change(|change| region(change, 1, (4, 8), RW, Is::Ram));
    view.change(|change| place(change, ram, 4, RO));
    assert_eq!(barrier.pauses(), 0);
    // Of the filter's pages some go and some come, but the gap is elsewhere.
    view.change(|change| place(change, ram, 10, RO));
    view.change(|change| place(change, ram, 12, RO));
    assert_eq!(barrier.pauses(), 0);
    view.change(|change| place(change, ram, 9, RO));
    view.change(|change| place(change, ram, 8, RO));
    assert_eq!(barrier.pauses(), 1);
}

#[test]
fn a_pause_that_fails_fails_the_change() {
    let view = View::new();
    let (guest, barrier) = guest(ALL);
    view.follow(&guest, MapperOptions::new());
    view.follow(&guest, MapperOptions::new().offset(1 << 32));
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    let before = guest.inner().slots();
    for nth in 0..2 {
        guest.fail_at(nth);
        let error = view.refused(|change| place(change, ram, 0, RO));
        assert!(
            error.ends_with(&format!(
                "the vcpus could not be paused: call {nth} was told to fail"
            )),
            "{error}"
        );
        assert_eq!(calls(&guest), "p".repeat(nth + 1));
        assert_eq!(guest.inner().slots(), before);
        assert!(!barrier.is_paused());
    }
    guest.fail_never();
    view.change(|change| place(change, ram, 0, RO));
    assert_eq!(barrier.pauses(), 2, "once in vain");
}

#[test]
fn vcpus_run_on_after_a_change_that_was_undone() {
    let view = View::new();
    let (guest, barrier) = guest(ALL);
    view.follow(&guest, MapperOptions::new());
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    let before = guest.inner().slots();
    for nth in 1..3 {
        guest.fail_at(nth);
        view.refused(|change| place(change, ram, 0, RO));
        assert_eq!(guest.inner().slots(), before);
        assert_eq!(barrier.pauses(), 1);
        assert!(!barrier.is_paused());
    }
}

#[test]
fn a_change_over_budget_makes_no_call() {
    let view = View::new();
    let (guest, _) = guest(4);
    view.follow(&guest, MapperOptions::new());
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    view.change(|change| region(change, 2, (8, 9), RO, Is::Ram));
    guest.fail_never();
    let error = view.refused(|change| {
        for (backing, page) in [(3, 10), (4, 12), (5, 14)] {
            region(change, backing, (page, page + 1), RW, Is::Ram);
        }
    });
    assert!(
        error.ends_with(
            "partition software has too few slots: \
             3 slots are needed and 0 become free, but 2 of 4 are in use"
        ),
        "{error}"
    );
    assert_eq!(calls(&guest), "");
    assert_eq!(shown(&guest), [(0, 8, true), (8, 9, false)]);

    // What goes makes room for what comes.
    view.change(|change| {
        change.unmap_region(ram).unwrap();
        for (backing, page) in [(3, 10), (4, 12), (5, 14)] {
            region(change, backing, (page, page + 1), RW, Is::Ram);
        }
    });
    assert_eq!(guest.inner().slots().len(), 4);
}

#[test]
fn a_filter_counts_pieces() {
    let view = View::new();
    let (guest, _) = guest(2);
    let filter = [pages(0, 2), pages(4, 6), pages(8, 10)];
    view.follow(&guest, MapperOptions::new().only(filter));
    let error = view.refused(|change| {
        region(change, 1, (0, 16), RW, Is::Ram);
    });
    assert!(error.contains("3 slots are needed"), "{error}");
    assert_eq!(calls(&guest), "");
    view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    // Hidden by the filter: as many as one likes.
    view.change(|change| {
        for page in 20..30 {
            region(change, 2, (page, page + 1), RW, Is::Ram);
        }
    });
    assert_eq!(shown(&guest), [(0, 2, true), (4, 6, true)]);
}

#[test]
fn mappers_of_one_partition_share_its_budget() {
    let view = View::new();
    let (guest, _) = guest(5);
    view.follow(&guest, MapperOptions::new());
    view.follow(&guest, MapperOptions::new().offset(1 << 32));
    let add = |change: &mut region_manager::Transaction<'_, u8>, count: u64| {
        for nth in 0..count {
            region(change, 1, (2 * nth, 2 * nth + 1), RW, Is::Ram);
        }
    };
    // Three for each: either alone would fit.
    for _ in 0..2 {
        let error = view.refused(|change| add(change, 3));
        assert!(
            error.ends_with("6 slots are needed and 0 become free, but 0 of 5 are in use"),
            "{error}"
        );
        assert_eq!(calls(&guest), "");
    }
    view.change(|change| add(change, 2));
    assert_eq!(guest.inner().slots().len(), 4);

    // A mapper of another view does not see the claims of this one, and fails when it maps.
    let other = View::new();
    other.change(|change| add(change, 2));
    let mapper = other.mapper(&guest, MapperOptions::new().offset(1 << 40));
    other.manager.add_listener(Box::new(mapper)).unwrap_err();
    assert_eq!(guest.inner().slots().len(), 4);
}

#[test]
fn a_slot_that_should_be_gone_counts_as_free() {
    let view = View::new();
    let (guest, _) = guest(2);
    let filter = [pages(0, 2), pages(4, 6)];
    view.follow(&guest, MapperOptions::new().only(filter));
    // The second piece fails, and the first cannot be taken back.
    guest.fail_from(1);
    view.refused(|change| {
        region(change, 1, (0, 8), RW, Is::Ram);
    });
    assert_eq!(guest.inner().slots().len(), 1);
    guest.fail_never();
    view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    assert_eq!(shown(&guest), [(0, 2, true), (4, 6, true)]);
    assert_eq!(calls(&guest), "umm");
}

#[test]
fn a_partition_without_a_barrier_pauses_nobody() {
    let view = View::new();
    let guest = Arc::new(partition_mapper::testing::FailingPartition::new(
        partition_mapper::SoftwarePartition::new(),
    ));
    view.follow(&guest, MapperOptions::new());
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    guest.fail_never();
    let mut change = view.manager.transaction().unwrap();
    place(&mut change, ram, 0, RO);
    let plan = change.commit().unwrap();
    // The plan tells what the vCPUs could have seen.
    assert_eq!(plan.gaps(), [pages(0, 8)]);
    assert_eq!(plan.gaps()[0].len(), 8 * PAGE_SIZE);
    assert_eq!(calls(&guest), "um");
}
