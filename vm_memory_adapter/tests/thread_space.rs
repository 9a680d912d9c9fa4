//! The handle of one thread follows changes as the address space does, and holds what it says it holds.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::RamVisibility;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use support::{pc, segment, set};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};

fn first_byte(nth: u64) -> GuestAddress {
    GuestAddress(segment(nth).start())
}

#[test]
fn it_gives_what_the_address_space_gives() {
    let manager = pc();
    let space =
        AddressSpace::<AccessView>::attach(&manager, "virtio", &SnapshotOptions::new()).unwrap();
    let own = space.for_this_thread();
    let other = own.clone();
    let first = own.memory();
    assert!(Arc::ptr_eq(&first.to_snapshot(), &space.snapshot()));
    assert!(Arc::ptr_eq(
        &own.memory().to_snapshot(),
        &first.to_snapshot()
    ));
    for visibility in [
        RamVisibility::Unmapped,
        RamVisibility::ReadOnly,
        RamVisibility::ReadWrite,
    ] {
        set(&manager, segment(0), visibility);
        for own in [&own, &other] {
            assert!(Arc::ptr_eq(&own.memory().to_snapshot(), &space.snapshot()));
        }
        let memory = own.memory();
        let (is_read, is_written) = (
            memory.read_obj::<u8>(first_byte(0)).is_ok(),
            memory.write_obj(1_u8, first_byte(0)).is_ok(),
        );
        assert_eq!(is_read, visibility != RamVisibility::Unmapped);
        assert_eq!(is_written, visibility == RamVisibility::ReadWrite);
    }
    // What was given before is as it was.
    first.write_obj(2_u8, first_byte(0)).unwrap();
    manager.detach_dma_target(space.id()).unwrap();
    assert_eq!(own.memory().regions().count(), 0);
}

#[test]
fn it_holds_one_snapshot_until_it_lets_go() {
    let manager = pc();
    let space =
        AddressSpace::<AccessView>::attach(&manager, "virtio", &SnapshotOptions::new()).unwrap();
    let own = space.for_this_thread();
    let weak = Arc::downgrade(&own.memory().to_snapshot());
    set(&manager, segment(0), RamVisibility::Unmapped);
    assert_eq!(weak.strong_count(), 1);
    let next = Arc::downgrade(&own.memory().to_snapshot());
    assert_eq!((weak.strong_count(), next.strong_count()), (0, 2));
    set(&manager, segment(1), RamVisibility::Unmapped);
    own.let_go();
    assert_eq!(next.strong_count(), 0);
    assert!(own.memory().read_obj::<u8>(first_byte(1)).is_err());
}

/// A segment comes and goes. Whoever looks while nothing changes sees what there is, with either handle.
#[test]
fn no_thread_sees_what_was_before_a_change_that_it_knows_of() {
    const CHANGES: u64 = 500;
    let manager = pc();
    let space =
        AddressSpace::<AccessView>::attach(&manager, "virtio", &SnapshotOptions::new()).unwrap();
    // Odd while a change is under way; after an even number of changes the segment is there.
    let clock = AtomicU64::new(0);
    let looks = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (space, clock) = (space.clone(), &clock);
                scope.spawn(move || {
                    let own = space.for_this_thread();
                    let mut looks = 0_u64;
                    loop {
                        let before = clock.load(Ordering::Acquire);
                        let (here, there) = (own.memory(), space.memory());
                        let found = [
                            here.read_obj::<u8>(first_byte(0)).is_ok(),
                            there.read_obj::<u8>(first_byte(0)).is_ok(),
                        ];
                        std::sync::atomic::fence(Ordering::SeqCst);
                        let after = clock.load(Ordering::Acquire);
                        if before == after && before.is_multiple_of(2) {
                            let is_there = (before / 2).is_multiple_of(2);
                            assert_eq!(found, [is_there; 2], "after {} changes", before / 2);
                            looks += 1;
                        }
                        // At least one look when all is done.
                        if before == 2 * CHANGES {
                            return looks;
                        }
                    }
                })
            })
            .collect();
        for change in 0..CHANGES {
            clock.fetch_add(1, Ordering::SeqCst);
            let visibility = match change.is_multiple_of(2) {
                true => RamVisibility::Unmapped,
                false => RamVisibility::ReadWrite,
            };
            set(&manager, segment(0), visibility);
            clock.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
        }
        let readers = readers.into_iter().map(|one| one.join().unwrap());
        readers.collect::<Vec<_>>()
    });
    assert!(looks.iter().all(|looks| *looks > 0));
}
