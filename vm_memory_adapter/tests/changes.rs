//! Snapshots, address spaces and what changes under them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    AttachDmaError, DirtyBitmap, DmaOptions, GuestMemoryManager, MemoryRange, RamVisibility,
    SharedMemory,
};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{LOW_END, RAM_END, pc, sealed, segment, set};
use vm_memory::{
    Bytes, GuestAddress, GuestAddressSpace, GuestMemoryBackend, GuestMemoryRegion, Permissions,
};
use vm_memory_adapter::{
    AccessView, AddressSpace, BackendSnapshot, DirtyMarks, SnapshotOptions, View,
};

const BAR: u64 = 0x20_4000;
const BAR_LEN: u64 = 0x4000;

fn at(gpa: u64) -> GuestAddress {
    GuestAddress(gpa)
}

fn with_devices() -> SnapshotOptions {
    SnapshotOptions::new().reach(DmaOptions::new().include_device_memory())
}

fn space(manager: &GuestMemoryManager) -> AddressSpace {
    AddressSpace::attach(manager, "virtio", &with_devices()).unwrap()
}

fn bar_of(byte: u8) -> SharedMemory {
    sealed(&[byte; 16], BAR_LEN)
}

#[test]
fn a_snapshot_outlives_every_change() {
    let manager = pc();
    let space = space(&manager);
    let snapshot = space.snapshot();
    let bar = bar_of(0x77);
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    window.map(0, &bar, 0, BAR_LEN, true).unwrap();
    control.map_to_guest(BAR, true).unwrap();
    let with_bar = space.snapshot();
    snapshot.write_obj(0x11_u8, at(segment(0).start())).unwrap();

    set(&manager, segment(0), RamVisibility::Unmapped);
    set(&manager, segment(1), RamVisibility::ReadOnly);
    control.unmap_from_guest();
    drop((control, window, bar));

    // What was there then is there, for reading and writing, also the window, of which nothing is
    // left; and no slice of it has moved.
    assert_eq!(
        snapshot.read_obj::<u8>(at(segment(0).start())).unwrap(),
        0x11
    );
    snapshot.write_obj(0x22_u8, at(segment(1).start())).unwrap();
    assert_eq!(with_bar.read_obj::<u8>(at(BAR + 15)).unwrap(), 0x77);
    with_bar.write_obj(0x78_u8, at(BAR)).unwrap();
    assert_eq!(with_bar.read_obj::<u8>(at(BAR)).unwrap(), 0x78);
    // What came later is not.
    assert!(snapshot.read_obj::<u8>(at(BAR)).is_err());

    let now = space.memory();
    assert!(now.read_obj::<u8>(at(segment(0).start())).is_err());
    assert!(now.write_obj(1_u8, at(segment(1).start())).is_err());
    assert_eq!(now.read_obj::<u8>(at(segment(1).start())).unwrap(), 0x22);
    assert!(now.read_obj::<u8>(at(BAR)).is_err());

    // Nor does it need the manager.
    drop(manager);
    assert_eq!(
        snapshot.read_obj::<u8>(at(segment(0).start())).unwrap(),
        0x11
    );
    assert_eq!(space.memory().regions().count(), 0);
}

#[test]
fn a_slice_stays_where_it_is_while_its_memory_goes() {
    let manager = pc();
    let space = space(&manager);
    let memory = space.memory();
    let range = segment(4);
    let slice =
        vm_memory::GuestMemory::get_slices(&*memory, at(range.start()), 8, Permissions::ReadWrite);
    let slice = slice.unwrap().next().unwrap().unwrap();
    slice.write_obj(0xaa55_u64, 0).unwrap();
    let address = slice.ptr_guard().as_ptr();
    set(&manager, range, RamVisibility::Unmapped);
    assert_eq!(slice.read_obj::<u64>(0).unwrap(), 0xaa55);
    assert_eq!(slice.ptr_guard().as_ptr(), address);
    set(&manager, range, RamVisibility::ReadWrite);
    assert_eq!(
        space.memory().read_obj::<u64>(at(range.start())).unwrap(),
        0xaa55
    );
}

#[test]
fn a_new_snapshot_is_published_only_when_something_changed() {
    let manager = pc();
    let space = space(&manager);
    let before = space.snapshot();
    set(&manager, segment(0), RamVisibility::ReadWrite);
    let (_control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "not mapped".into())
        .unwrap();
    window.map(0, &bar_of(1), 0, BAR_LEN, true).unwrap();
    assert!(Arc::ptr_eq(&before, &space.snapshot()));
    set(&manager, segment(0), RamVisibility::Unmapped);
    let after = space.snapshot();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&after, &space.memory().into_snapshot()));
}

#[test]
fn a_bar_that_moves_is_found_where_it_is() {
    let manager = pc();
    let space = space(&manager);
    let bar = bar_of(0x42);
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    window.map(0, &bar, 0, BAR_LEN, false).unwrap();
    for gpa in [BAR, BAR + BAR_LEN, BAR + 0x1000] {
        control.map_to_guest(gpa, true).unwrap();
        let memory = space.memory();
        assert_eq!(memory.read_obj::<u8>(at(gpa)).unwrap(), 0x42);
        assert!(memory.read_obj::<u8>(at(gpa - 1)).is_err());
        assert!(memory.read_obj::<u8>(at(gpa + BAR_LEN)).is_err());
        // It shows the file read-only.
        assert!(memory.write_obj(0_u8, at(gpa)).is_err());
        control.unmap_from_guest();
    }
    assert!(space.memory().read_obj::<u8>(at(BAR + 0x1000)).is_err());
}

#[test]
fn device_memory_is_shown_only_where_it_was_asked_for() {
    let manager = pc();
    let only_ram =
        AddressSpace::<AccessView>::attach(&manager, "ram", &SnapshotOptions::new()).unwrap();
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    window.map(0, &bar_of(1), 0, BAR_LEN, true).unwrap();
    control.map_to_guest(BAR, true).unwrap();
    assert!(only_ram.memory().read_obj::<u8>(at(BAR)).is_err());
    assert!(space(&manager).memory().read_obj::<u8>(at(BAR)).is_ok());
}

#[test]
fn memory_that_can_fault_is_opt_in() {
    let manager = pc();
    let file = tempfile::tempfile().unwrap();
    file.set_len(BAR_LEN).unwrap();
    file.write_all_at(&[9; 16], 0).unwrap();
    let space = space(&manager);
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    window.map(0, &file, 0, BAR_LEN, true).unwrap();
    // The guest gets it, the device not, and that is said.
    control.map_to_guest(BAR, true).unwrap();
    assert!(space.memory().read_obj::<u8>(at(BAR)).is_err());
    let failures = manager.dma_failures().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(failures[0].target, "virtio");
    assert!(
        failures[0].cause.contains("not sealed against shrinking"),
        "{}",
        failures[0].cause
    );
    let asked = with_devices().memory_that_can_fault();
    let asked = AccessView::take(&manager, &asked).unwrap();
    assert_eq!(asked.read_obj::<u8>(at(BAR)).unwrap(), 9);
}

#[test]
fn the_dirty_bitmap_learns_of_every_write() {
    let manager = pc();
    let whole = MemoryRange::new(0..RAM_END);
    let bitmap = Arc::new(DirtyBitmap::new(whole).unwrap());
    let options = SnapshotOptions::new();
    let view = AccessView::take_tracked(&manager, &options, &bitmap).unwrap();
    let snapshot = BackendSnapshot::take_tracked(&manager, &options, &bitmap).unwrap();

    view.read_obj::<u64>(at(0x5000)).unwrap();
    assert_eq!(bitmap.marked_pages(whole), 0);
    view.write_slice(&[1; 2], at(0x5fff)).unwrap();
    let range = |start, end| MemoryRange::new(start..end);
    assert_eq!(bitmap.take(whole), [range(0x5000, 0x7000)]);
    // What fails part of the way has written the part.
    view.write(&[1; 8], at(LOW_END - 2)).unwrap();
    assert_eq!(bitmap.take(whole), [range(LOW_END - 0x1000, LOW_END)]);
    snapshot
        .store(7_u32, at(0x22_1000), Ordering::Release)
        .unwrap();
    assert_eq!(bitmap.take(whole), [range(0x22_1000, 0x22_2000)]);
    let region = snapshot.find_region(at(0x22_0000)).unwrap();
    let slice = region.as_volatile_slice().unwrap();
    slice
        .subslice(0x3000, 0x100)
        .unwrap()
        .write_obj(1_u8, 0xff)
        .unwrap();
    assert_eq!(bitmap.take(whole), [range(0x22_3000, 0x22_4000)]);
}

#[test]
fn the_dirty_bitmap_learns_of_writes_behind_what_is_hidden() {
    let manager = pc();
    let whole = MemoryRange::new(0..RAM_END);
    let bitmap = Arc::new(DirtyBitmap::new(whole).unwrap());
    let options = SnapshotOptions::new();
    let space = AddressSpace::<AccessView<DirtyMarks>>::attach_tracked(
        &manager, "tracked", &options, &bitmap,
    );
    let space = space.unwrap();
    for visibility in [RamVisibility::Unmapped, RamVisibility::ReadWrite] {
        set(&manager, segment(3), visibility);
        let memory = space.memory();
        for page in [
            segment(3).start() - 0x1000,
            segment(3).end(),
            LOW_END - 0x1000,
        ] {
            memory.write_obj(1_u8, at(page + 0xfff)).unwrap();
            let marked = MemoryRange::new(page..page + 0x1000);
            assert_eq!(bitmap.take(whole), [marked], "{visibility:?}");
        }
    }
}

#[test]
fn an_offset_moves_the_addresses_and_not_the_dirty_pages() {
    let manager = pc();
    let bitmap = Arc::new(DirtyBitmap::new(MemoryRange::new(0..RAM_END)).unwrap());
    let moved = DmaOptions::new().offset(1 << 40);
    let options = SnapshotOptions::new().reach(moved);
    let view = AccessView::take_tracked(&manager, &options, &bitmap).unwrap();
    view.write_obj(0x31_u8, at((1 << 40) + 0x22_0000)).unwrap();
    assert!(view.read_obj::<u8>(at(0x22_0000)).is_err());
    let memory = manager.client().guest_memory_now();
    assert_eq!(memory.read_plain::<u8>(0x22_0000).unwrap(), 0x31);
    assert!(bitmap.is_marked(0x22_0000));
}

#[test]
fn one_file_has_one_descriptor_and_loses_it_with_its_last_region() {
    let manager = pc();
    let space = AddressSpace::<BackendSnapshot>::attach(&manager, "kernel", &with_devices());
    let space = space.unwrap();
    let bar = bar_of(1);
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    for page in [0, 2] {
        window
            .map(page * 0x1000, &bar, page * 0x1000, 0x1000, true)
            .unwrap();
    }
    control.map_to_guest(BAR, true).unwrap();
    let snapshot = space.snapshot();
    let file = |gpa| {
        snapshot
            .find_region(at(gpa))
            .unwrap()
            .file_offset()
            .unwrap()
    };
    let (first, third) = (file(BAR), file(BAR + 0x2000));
    assert_eq!((first.start(), third.start()), (0, 0x2000));
    assert!(Arc::ptr_eq(first.arc(), third.arc()));
    assert_ne!(
        first.file().as_raw_fd(),
        file(0).file().as_raw_fd(),
        "RAM has another"
    );
    let weak = Arc::downgrade(first.arc());
    control.unmap_from_guest();
    drop(snapshot);
    assert_eq!(weak.strong_count(), 0);
}

#[test]
fn a_detached_or_forgotten_address_space_holds_nothing() {
    let manager = pc();
    let detached = space(&manager);
    manager.detach_dma_target(detached.id()).unwrap();
    assert_eq!(detached.memory().regions().count(), 0);

    let forgotten = space(&manager);
    let weak = Arc::downgrade(&forgotten.snapshot());
    let id = forgotten.id();
    drop(forgotten);
    assert_eq!(weak.strong_count(), 0);
    set(&manager, segment(0), RamVisibility::Unmapped);
    manager.detach_dma_target(id).unwrap();
}

#[test]
fn what_cannot_be_attached_says_why() {
    let manager = pc();
    let unaligned = SnapshotOptions::new().reach(DmaOptions::new().offset(1));
    let refused = AddressSpace::<AccessView>::attach(&manager, "b", &unaligned);
    assert!(matches!(
        refused.unwrap_err(),
        AttachDmaError::UnalignedOffset { offset: 1 }
    ));
}

/// Readers look while segments come and go and a BAR moves: what they read is what the snapshot they
/// hold shows, whole.
#[test]
fn devices_run_on_while_memory_changes() {
    let manager = pc();
    let space = space(&manager);
    let bar = bar_of(0x42);
    let (mut control, window) = manager
        .device_memory_mapper()
        .new_region(BAR_LEN, "bar".into())
        .unwrap();
    window.map(0, &bar, 0, BAR_LEN, true).unwrap();
    let stays = 0x1_0000;
    let goes = segment(5).start();
    space.memory().write_obj(u64::MAX, at(stays)).unwrap();
    space.memory().write_obj(u64::MAX, at(goes)).unwrap();
    let done = AtomicBool::new(false);
    let seen = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let (space, done) = (space.clone(), &done);
                scope.spawn(move || {
                    let (mut bars, mut holes, mut turns) = (0_u64, 0_u64, 0_u64);
                    while !done.load(Ordering::Relaxed) || turns < 1000 {
                        turns += 1;
                        let memory = space.memory();
                        let value: u64 = memory.load(at(stays), Ordering::Acquire).unwrap();
                        assert!(value == u64::MAX || value == 0, "torn: {value:#x}");
                        let value: u64 = memory.read_obj(at(stays)).unwrap();
                        assert!(value == u64::MAX || value == 0, "torn: {value:#x}");
                        memory.store(!value, at(stays), Ordering::Release).unwrap();
                        // Twice the same from one snapshot, whatever happens meanwhile.
                        let first = memory.read_obj::<u64>(at(goes)).is_ok();
                        assert_eq!(memory.read_obj::<u64>(at(goes)).is_ok(), first);
                        holes += u64::from(!first);
                        for gpa in [BAR, BAR + BAR_LEN] {
                            if let Ok(byte) = memory.read_obj::<u8>(at(gpa)) {
                                assert_eq!(byte, 0x42);
                                bars += 1;
                            }
                        }
                    }
                    (bars, holes)
                })
            })
            .collect();
        for turn in 0..400_u64 {
            set(&manager, segment(5), RamVisibility::Unmapped);
            let gpa = BAR + (turn % 2) * BAR_LEN;
            control.map_to_guest(gpa, true).unwrap();
            std::thread::yield_now();
            set(&manager, segment(5), RamVisibility::ReadWrite);
            control.unmap_from_guest();
        }
        done.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect::<Vec<_>>()
    });
    assert_eq!(seen.len(), 2);
    assert!(manager.dma_failures().unwrap().is_empty());
    let memory = space.memory();
    assert!(memory.read_obj::<u64>(at(goes)).is_ok());
    assert!(memory.read_obj::<u8>(at(BAR)).is_err());
}
