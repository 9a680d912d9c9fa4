//! Every failure point of every operation of the mapper.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/memory.rs"]
mod support;

use memory_range::{Access, PAGE_SIZE};
use partition_mapper::testing::{FailingPartition, PartitionCall};
use partition_mapper::{
    AddError, MapperOptions, PartitionMapper, RemoveError, SlotInfo, SoftwarePartition,
};
use region_manager::{ListenerError, RegionListener, Slot};
use sparse_alloc::{MappedRegion, Reservation};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{chain, memory, pages, slot};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

type Guest = FailingPartition<SoftwarePartition>;

/// A pinning mapper that cuts pages 0 to 16 into four pieces, with one slot already there.
fn fixture() -> (Arc<Guest>, PartitionMapper) {
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let options = MapperOptions::new().pinned().offset(0x10_0000).only([
        pages(0, 3),
        pages(4, 7),
        pages(8, 11),
        pages(12, 16),
    ]);
    let mut mapper = PartitionMapper::new(guest.clone(), memory(16), options).unwrap();
    mapper.add(&first()).unwrap();
    guest.fail_never();
    (guest, mapper)
}

fn first() -> Slot {
    slot(pages(0, 2), RO)
}

/// Becomes the pieces 2-3, 4-7, 8-11 and 12-14.
fn second() -> Slot {
    Slot {
        prefetch: true,
        ..slot(pages(2, 14), RW)
    }
}

/// What a mapper and its partition say of themselves.
fn state(guest: &Guest, mapper: &PartitionMapper) -> (Vec<SlotInfo>, String) {
    assert_eq!(guest.inner().broken_rules(), []);
    (guest.inner().slots(), inspect::inspect(mapper).to_string())
}

/// Fails call 0, then call 1, and so on of an operation, until it succeeds; checks after each
/// failure that nothing has changed. Returns the number of failures.
fn walk(
    guest: &Guest,
    mapper: &mut PartitionMapper,
    operation: impl Fn(&mut PartitionMapper) -> Result<(), ListenerError>,
) -> usize {
    let before = state(guest, mapper);
    for call in 0.. {
        guest.fail_at(call);
        let result = operation(mapper);
        let reached = guest.call_count() > call;
        guest.fail_never();
        match result {
            Ok(()) => {
                assert!(!reached, "call {call} failed, and nobody said so");
                return call;
            }
            Err(error) => {
                assert!(
                    chain(error.as_ref()).ends_with(&format!("call {call} was told to fail")),
                    "{}",
                    chain(error.as_ref())
                );
                assert_eq!(
                    state(guest, mapper),
                    before,
                    "after a failure of call {call}"
                );
                assert!(mapper.is_healthy());
            }
        }
    }
    unreachable_end()
}

fn unreachable_end() -> usize {
    panic!("the walk has no end")
}

#[test]
fn a_failed_addition_changes_nothing() {
    let (guest, mut mapper) = fixture();
    // Four pieces: map, prefetch and pin each.
    assert_eq!(
        walk(&guest, &mut mapper, |mapper| mapper.add(&second())),
        12
    );
    assert_eq!(guest.inner().slots().len(), 5);
}

#[test]
fn a_failed_removal_changes_nothing() {
    let (guest, mut mapper) = fixture();
    mapper.add(&second()).unwrap();
    assert_eq!(
        walk(&guest, &mut mapper, |mapper| mapper.remove(&second())),
        4
    );
    assert_eq!(guest.inner().slots().len(), 1);
}

#[test]
fn a_failure_to_make_replaced_contents_present_changes_nothing() {
    let (guest, mut mapper) = fixture();
    mapper.add(&second()).unwrap();
    let failures = walk(&guest, &mut mapper, |mapper| {
        mapper.contents_replaced(pages(1, 9))
    });
    // Page 1 is pinned; 2-3, 4-7 and 8-9 are prefetched and pinned.
    assert_eq!(failures, 7);
}

#[test]
fn what_an_addition_cannot_take_back_is_taken_back_later() {
    let (guest, mut mapper) = fixture();
    let before = state(&guest, &mapper);
    // The third map fails, and so does every call after it: two pieces stay.
    guest.fail_from(6);
    let error = mapper.add(&second()).unwrap_err();
    let error: &AddError = error.downcast_ref().unwrap();
    assert_eq!(
        chain(error),
        "range 0x2000-0x3000 could not be taken back after a failure: \
         range 0x8000-0xb000 could not be mapped into partition software: \
         the hypervisor refused to map gpa 0x108000-0x10b000: \
         call 6 was told to fail"
    );
    assert!(!mapper.is_healthy());
    assert!(inspect::inspect(&mapper).to_string().contains("stray"));
    assert_eq!(guest.inner().slots().len(), 3);

    // Still failing: a change where the strays are is refused, one elsewhere is not.
    guest.fail_unmaps();
    let occupied = mapper.add(&slot(pages(5, 6), RW)).unwrap_err();
    assert!(matches!(
        occupied.downcast_ref(),
        Some(AddError::Occupied { existing, .. }) if *existing == pages(4, 7)
    ));
    assert!(matches!(
        mapper
            .remove(&slot(pages(2, 3), RW))
            .unwrap_err()
            .downcast_ref(),
        Some(RemoveError::NotAdded { .. })
    ));
    mapper.add(&slot(pages(14, 16), RW)).unwrap();

    guest.fail_never();
    mapper.remove(&slot(pages(14, 16), RW)).unwrap();
    assert!(mapper.is_healthy());
    assert_eq!(state(&guest, &mapper), before);
    mapper.add(&second()).unwrap();
    assert_eq!(guest.inner().slots().len(), 5);
}

#[test]
fn what_a_removal_cannot_give_back_is_given_back_later() {
    let (guest, mut mapper) = fixture();
    mapper.add(&second()).unwrap();
    let before = state(&guest, &mapper);
    // The third unmap fails, and so does every call after it: two pieces are gone.
    guest.fail_from(2);
    let error = mapper.remove(&second()).unwrap_err();
    let error: &RemoveError = error.downcast_ref().unwrap();
    assert_eq!(
        chain(error),
        "range 0x8000-0xb000 could not be given back after a failure: \
         range 0x4000-0x7000 could not be unmapped from partition software: \
         the hypervisor refused to unmap gpa 0x104000-0x107000: \
         call 2 was told to fail"
    );
    assert!(!mapper.is_healthy());
    assert!(inspect::inspect(&mapper).to_string().contains("missing"));
    assert_eq!(guest.inner().slots().len(), 3);

    // Given back, but it can't be pinned: it is missing still.
    guest.fail_if(|_, call| matches!(call, PartitionCall::Pin { .. }));
    mapper.remove(&first()).unwrap();
    assert!(!mapper.is_healthy());
    assert_eq!(guest.inner().slots().len(), 2);

    guest.fail_never();
    mapper.add(&first()).unwrap();
    assert!(mapper.is_healthy());
    let ranges = |slots: &[SlotInfo]| -> Vec<_> { slots.iter().map(|slot| slot.gpa).collect() };
    assert_eq!(ranges(&guest.inner().slots()), ranges(&before.0));

    // And a removal goes through although pieces are missing.
    guest.fail_from(2);
    mapper.remove(&second()).unwrap_err();
    guest.fail_if(|_, call| matches!(call, PartitionCall::Map { .. }));
    mapper.remove(&second()).unwrap();
    assert!(mapper.is_healthy());
    assert_eq!(guest.inner().slots().len(), 1);
}

/// A reservation that tells when it is given up.
struct Watched {
    inner: Arc<Reservation>,
    given_up: Arc<AtomicBool>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::SeqCst);
    }
}

// SAFETY: the reservation inside makes the promises, and lives as long.
unsafe impl MappedRegion for Watched {
    fn base(&self) -> NonNull<u8> {
        self.inner.base()
    }

    fn len(&self) -> u64 {
        self.inner.len()
    }
}

/// A partition of several slots whose host addresses tell when they are given up.
fn watched() -> (Arc<Guest>, PartitionMapper, Arc<AtomicBool>) {
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let given_up = Arc::new(AtomicBool::new(false));
    let va = Arc::new(Watched {
        inner: memory(16),
        given_up: given_up.clone(),
    });
    let options = MapperOptions::new().offset(0x10_0000);
    let mut mapper = PartitionMapper::new(guest.clone(), va, options).unwrap();
    for page in [0, 4, 8] {
        mapper.add(&slot(pages(page, page + 2), RW)).unwrap();
    }
    guest.fail_never();
    (guest, mapper, given_up)
}

#[test]
fn detaching_deletes_every_slot_and_gives_the_addresses_up() {
    let (guest, mapper, given_up) = watched();
    mapper.detach().unwrap();
    assert_eq!(guest.inner().slots(), []);
    assert_eq!(guest.call_count(), 3);
    assert!(given_up.load(Ordering::SeqCst));
}

#[test]
fn dropping_deletes_every_slot_and_gives_the_addresses_up() {
    let (guest, mapper, given_up) = watched();
    drop(mapper);
    assert_eq!(guest.inner().slots(), []);
    assert!(given_up.load(Ordering::SeqCst));
}

#[test]
fn addresses_of_a_slot_that_cannot_be_deleted_are_never_given_up() {
    for call in 0..3 {
        let (guest, mapper, given_up) = watched();
        guest.fail_at(call);
        let error = mapper.detach().unwrap_err();
        let first = [8, 4, 0][call];
        assert_eq!(error.first, pages(0x100 + first, 0x102 + first));
        assert_eq!(error.left, [error.first]);
        assert_eq!(error.leaked, 16 * PAGE_SIZE);
        assert!(chain(&error).ends_with(&format!("call {call} was told to fail")));
        // The others are gone.
        let left: Vec<_> = guest.inner().slots().iter().map(|slot| slot.gpa).collect();
        assert_eq!(left, error.left);
        // Not even when the partition, which holds a share of its own, is gone.
        drop(guest);
        assert!(!given_up.load(Ordering::SeqCst));
    }
}

#[test]
fn a_drop_that_cannot_delete_leaks_too() {
    let (guest, mapper, given_up) = watched();
    guest.fail_unmaps();
    drop(mapper);
    assert_eq!(guest.inner().slots().len(), 3);
    drop(guest);
    assert!(!given_up.load(Ordering::SeqCst));
}

#[test]
fn strays_are_deleted_when_the_mapper_goes() {
    let (guest, mut mapper) = fixture();
    guest.fail_from(6);
    mapper.add(&second()).unwrap_err();
    guest.fail_never();
    mapper.detach().unwrap();
    assert_eq!(guest.inner().slots(), []);
    assert_eq!(guest.inner().broken_rules(), []);
}
