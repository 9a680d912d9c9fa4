//! Several changes as one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    ChangeError, DeviceMemoryControl, DeviceMemoryError, DeviceMemoryWindow, GuestAccess,
    GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, RamVisibility, SoftwarePartition,
    VisibilityError, Vtl,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use region_manager::{EditError, LockError};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::{counter, last_plan, memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x12_0000);
const SEGMENT: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);
const OTHER: MemoryRange = MemoryRange::new(0xe_c000..0xf_0000);

fn pc() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let layout = MemoryLayout::new(1 << 20, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition)
}

/// A window of four pages that begin with `first` and the numbers after it.
fn window(manager: &GuestMemoryManager, first: u32) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let file = numbered("file", 4, first);
    let mapper = manager.device_memory_mapper();
    let name = format!("bar {first:#x}");
    let (control, window) = mapper.new_region(4 * PAGE_SIZE, name).unwrap();
    window.map(0, &file, 0, 4 * PAGE_SIZE, true).unwrap();
    (control, window)
}

fn load(guest: &SoftwarePartition, gpa: u64) -> Option<u32> {
    let mut word = [0; 4];
    match guest.load(gpa, &mut word).unwrap() {
        GuestAccess::Done => Some(u32::from_le_bytes(word)),
        GuestAccess::Mmio(_) => None,
    }
}

#[test]
fn windows_that_move_and_ram_that_is_locked_are_one_change() {
    let (manager, guest) = pc();
    let (mut first, _first) = window(&manager, 0x100);
    let (mut second, _second) = window(&manager, 0x200);
    first.map_to_guest(0x10_0000, true).unwrap();
    second.map_to_guest(0x10_8000, true).unwrap();
    let changes = counter(&manager, "changes");

    let mut change = manager.transaction().unwrap();
    change.map_to_guest(&mut first, 0x10_8000, true).unwrap();
    change.map_to_guest(&mut second, 0x11_0000, true).unwrap();
    change
        .set_ram_visibility(SEGMENT, RamVisibility::ReadOnly)
        .unwrap();
    let planned = change.plan().to_string();
    change.commit_now().unwrap().wait();

    // What the first leaves goes, what the second leaves shows the first: no slot in that.
    assert_eq!(
        last_plan(&manager),
        [
            "remove slot 0xf0000-0x100000 rwx",
            "remove slot 0x100000-0x104000 rwx",
            "protect 0xf0000-0x100000 ro",
            "reserve 0x100000-0x104000",
            "map 0x108000-0x10c000 rw from file at 0x0",
            "map 0x110000-0x114000 rw from file at 0x0",
            "contents replaced 0x108000-0x10c000",
            "add slot 0xf0000-0x100000 rox",
            "add slot 0x110000-0x114000 rwx",
            "gap 0xf0000-0x100000",
        ]
    );
    let lines: Vec<&str> = planned.lines().collect();
    assert_eq!(lines, last_plan(&manager), "it did what it said");
    assert_eq!(counter(&manager, "changes"), changes + 1);
    assert_eq!(load(&guest, 0x10_0000), None);
    assert_eq!(load(&guest, 0x10_8000), Some(0x100));
    assert_eq!(load(&guest, 0x11_0000), Some(0x200));
    assert_eq!(first.gpa().unwrap(), Some(0x10_8000));
    assert!(memory_of(&manager).write_plain(0xf_0000, &0_u8).is_err());
    assert_eq!(guest.broken_rules(), []);
}

#[test]
fn what_windows_show_is_part_of_it_too() {
    let (manager, guest) = pc();
    let (mut control, window) = window(&manager, 0x100);
    let other = numbered("other", 4, 0x200);
    control.map_to_guest(0x10_0000, true).unwrap();

    // A device has no more than this.
    let mapper = manager.device_memory_mapper();
    let mut change = mapper.transaction().unwrap();
    change.unmap(&window, 0x1000, 0x1000).unwrap();
    change
        .map(&window, 0x2000, &other, 0x3000, 0x1000, false)
        .unwrap();
    change.map_to_guest(&mut control, 0x11_0000, true).unwrap();
    // A wish that is refused leaves the others.
    let error = change.map(&window, 0x4000, &other, 0, 0x1000, true);
    assert!(matches!(
        error,
        Err(DeviceMemoryError::Change(ChangeError::Edit(
            EditError::OutsideRegion { .. }
        )))
    ));
    let error = change.unmap(&window, 0, 0x800).unwrap_err();
    assert!(matches!(error, DeviceMemoryError::BadRange { .. }));
    let error = change.map_to_guest(&mut control, 0x11_0800, true);
    assert!(matches!(
        error,
        Err(ChangeError::Edit(EditError::UnalignedGpa { .. }))
    ));
    assert_eq!(load(&guest, 0x10_1000), Some(0x101), "nothing is done yet");
    change.commit_now().unwrap().wait();

    let seen = [0, 1, 2, 3].map(|page| load(&guest, 0x11_0000 + page * PAGE_SIZE));
    assert_eq!(seen, [Some(0x100), None, Some(0x203), Some(0x103)]);
    assert_eq!(load(&guest, 0x10_0000), None);
}

#[test]
fn a_transaction_that_is_dropped_changes_nothing() {
    let (manager, guest) = pc();
    let (mut control, window) = window(&manager, 0x100);
    control.map_to_guest(0x10_0000, true).unwrap();
    let before = (inspect::inspect(&manager).to_string(), guest.slots());

    let mut change = manager.transaction().unwrap();
    change.unmap_from_guest(&mut control).unwrap();
    change.unmap(&window, 0, 0x2000).unwrap();
    change
        .set_ram_visibility(OTHER, RamVisibility::Unmapped)
        .unwrap();
    assert_eq!(change.gpa(&control).unwrap(), None, "it would be so");
    assert_eq!(
        change.ram_visibility(OTHER).unwrap(),
        RamVisibility::Unmapped
    );
    assert!(!change.plan().is_empty());
    drop(change);

    let after = (inspect::inspect(&manager).to_string(), guest.slots());
    assert_eq!(after, before);
    assert_eq!(control.gpa().unwrap(), Some(0x10_0000));
}

#[test]
fn the_last_wish_counts_and_no_wish_is_no_change() {
    let (manager, _guest) = pc();
    let (mut control, _window) = window(&manager, 0x100);
    let mut change = manager.transaction().unwrap();
    change.map_to_guest(&mut control, 0x11_0000, true).unwrap();
    change.unmap_from_guest(&mut control).unwrap();
    change
        .set_ram_visibility(OTHER, RamVisibility::Unmapped)
        .unwrap();
    change
        .set_ram_visibility(OTHER, RamVisibility::ReadWrite)
        .unwrap();
    assert!(change.plan().is_empty());
    change.commit_now().unwrap().wait();
    assert_eq!(last_plan(&manager), Vec::<String>::new());
}

#[test]
fn gaps_are_where_slots_go_and_come() {
    let (manager, _guest) = pc();
    let (mut control, _window) = window(&manager, 0x100);
    control.map_to_guest(0x10_0000, true).unwrap();
    let gaps = |edit: &mut dyn FnMut(&mut guest_memory_manager::GuestMemoryTransaction<'_>)| {
        let mut change = manager.transaction().unwrap();
        edit(&mut change);
        change.plan().gaps().to_vec()
    };
    // To where nothing was.
    let moved = gaps(&mut |change| change.map_to_guest(&mut control, 0x11_0000, true).unwrap());
    assert_eq!(moved, []);
    let locked = gaps(&mut |change| {
        let read_only = RamVisibility::ReadOnly;
        change.set_ram_visibility(OTHER, read_only).unwrap();
        change.set_ram_visibility(SEGMENT, read_only).unwrap();
    });
    let joined = memory_range::sorted::flatten(&locked);
    assert_eq!(joined, [range(OTHER.start(), SEGMENT.end())]);
}

#[test]
fn handles_of_another_guest_memory_are_refused() {
    let (manager, guest) = pc();
    let (other, _) = pc();
    let (mut own, _own) = window(&manager, 0x100);
    own.map_to_guest(0x10_0000, true).unwrap();
    // The same ids: without a check it would be the own window that moves.
    let (mut foreign, window) = window(&other, 0x200);
    let file = numbered("file", 1, 0x300);

    let mut change = manager.transaction().unwrap();
    let is_foreign = |error: &ChangeError| {
        let ChangeError::OtherManager { window } = error else {
            panic!("{error}");
        };
        assert_eq!(window, "bar 0x200");
    };
    is_foreign(
        &change
            .map_to_guest(&mut foreign, 0x11_0000, true)
            .unwrap_err(),
    );
    is_foreign(&change.unmap_from_guest(&mut foreign).unwrap_err());
    is_foreign(&change.gpa(&foreign).unwrap_err());
    for error in [
        change.map(&window, 0, &file, 0, 0x1000, true).unwrap_err(),
        change.unmap(&window, 0, 0x1000).unwrap_err(),
    ] {
        let DeviceMemoryError::Change(error) = error else {
            panic!("{error}");
        };
        is_foreign(&error);
    }
    assert!(change.plan().is_empty());
    change.commit_now().unwrap().wait();
    assert_eq!(load(&guest, 0x10_0000), Some(0x100));
}

#[test]
fn a_range_that_is_no_region_is_refused_and_the_rest_stays() {
    let (manager, _guest) = pc();
    let control = manager.ram_visibility_control();
    let mut change = control.transaction().unwrap();
    change
        .set_ram_visibility(OTHER, RamVisibility::ReadOnly)
        .unwrap();
    for wrong in [
        range(0xf_0000, 0xf_4000),
        range(0xe_c000, 0x10_0000),
        GAP,
        range(0xf_0000, 0xf_0000),
        range(0xef_f000, 0xf0_0000),
    ] {
        let error = change.set_ram_visibility(wrong, RamVisibility::Unmapped);
        assert!(matches!(
            error,
            Err(VisibilityError::InvalidRamRegion { range, .. }) if range == wrong
        ));
    }
    change.commit_now().unwrap().wait();
    assert_eq!(
        control.ram_visibility(OTHER).unwrap(),
        RamVisibility::ReadOnly
    );
    assert_eq!(
        control.ram_visibility(SEGMENT).unwrap(),
        RamVisibility::ReadWrite
    );
}

#[test]
fn another_change_of_the_same_thread_is_refused_meanwhile() {
    let (manager, guest) = pc();
    let (mut control, shown) = window(&manager, 0x100);
    control.map_to_guest(0x10_0000, true).unwrap();
    let (dropped, _) = window(&manager, 0x200);
    let visibility = manager.ram_visibility_control();
    let mut change = manager.transaction().unwrap();
    change
        .set_ram_visibility(OTHER, RamVisibility::ReadOnly)
        .unwrap();

    let reentrant = |error: &ChangeError| matches!(error, ChangeError::Lock(LockError::Reentrant));
    assert!(reentrant(&manager.transaction().unwrap_err()));
    assert!(reentrant(
        &control.map_to_guest(0x11_0000, true).unwrap_err()
    ));
    assert!(matches!(
        shown.unmap(0, 0x1000).unwrap_err(),
        DeviceMemoryError::Change(error) if reentrant(&error)
    ));
    assert!(matches!(
        visibility.set_ram_visibility_now(SEGMENT, RamVisibility::Unmapped),
        Err(VisibilityError::Change(error)) if reentrant(&error)
    ));
    // Its window stays in the list of regions, which is said in the log.
    drop(dropped);
    // Accesses are no changes.
    assert_eq!(
        memory_of(&manager).read_plain::<u32>(0x10_0000).unwrap(),
        0x100
    );
    change.commit_now().unwrap().wait();
    assert_eq!(
        visibility.ram_visibility(OTHER).unwrap(),
        RamVisibility::ReadOnly
    );
    control.map_to_guest(0x11_0000, true).unwrap();
    assert_eq!(load(&guest, 0x11_0000), Some(0x100));
}

#[test]
fn changes_of_other_threads_wait() {
    let (manager, _guest) = pc();
    let control = manager.ram_visibility_control();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut change = manager.transaction().unwrap();
        change
            .set_ram_visibility(OTHER, RamVisibility::Unmapped)
            .unwrap();
        let other = scope.spawn(|| {
            control
                .set_ram_visibility_now(OTHER, RamVisibility::ReadOnly)
                .unwrap()
                .wait();
            done.store(true, Ordering::Relaxed);
        });
        // However long: it is not done before the transaction is.
        std::thread::sleep(Duration::from_millis(20));
        assert!(!done.load(Ordering::Relaxed));
        change.commit_now().unwrap().wait();
        other.join().unwrap();
    });
    assert_eq!(
        control.ram_visibility(OTHER).unwrap(),
        RamVisibility::ReadOnly
    );
}

#[tokio::test]
async fn a_commit_can_be_awaited() {
    let (manager, guest) = pc();
    let (mut control, _window) = window(&manager, 0x100);
    let mut change = manager.transaction().unwrap();
    change.map_to_guest(&mut control, 0x11_0000, true).unwrap();
    change.commit().await.unwrap();
    assert_eq!(load(&guest, 0x11_0000), Some(0x100));

    // A future that is dropped before it was polled has done nothing.
    let mut change = manager.transaction().unwrap();
    change.unmap_from_guest(&mut control).unwrap();
    drop(change.commit());
    assert_eq!(load(&guest, 0x11_0000), Some(0x100));
}
