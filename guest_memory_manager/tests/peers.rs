//! Mistakes that other memory managers make, one test each, where they concern the whole.
//!
//! Those that concern ranges, signal handlers or the inspection tree alone are tested there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    Cause, DeviceMemoryControl, DeviceMemoryWindow, GuestAccess, GuestMemoryBuilder,
    GuestMemoryManager, MemoryLayout, RamVisibility, SharedMemory, SoftwarePartition, Vtl,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use partition_mapper::testing::{FailingPartition, ToldToFail};
use partition_mapper::{SoftwareOptions, TooManySlots};
use std::sync::Arc;
use support::{cause, memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x12_0000);
const ALIAS: u64 = 0x1000_0000;

type Guest = FailingPartition<SoftwarePartition>;

fn pc(options: SoftwareOptions) -> (GuestMemoryManager, Arc<Guest>) {
    let layout = MemoryLayout::new(2 << 20, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .vtl0_alias_map(Some(ALIAS));
    let manager = builder.build_now(&layout).unwrap();
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::with_options(
        options,
    )));
    manager
        .attach_partition_now(Vtl::Vtl2, guest.clone(), None)
        .unwrap();
    (manager, guest)
}

fn window(
    manager: &GuestMemoryManager,
    file: &SharedMemory,
) -> (DeviceMemoryControl, DeviceMemoryWindow) {
    let mapper = manager.device_memory_mapper();
    let (control, window) = mapper.new_region(file.len(), "bar".into()).unwrap();
    window.map(0, file, 0, file.len(), true).unwrap();
    (control, window)
}

/// The word that a load finds; `None` if the VMM has to answer it.
fn load(guest: &Guest, gpa: u64) -> Option<u32> {
    let mut word = [0; 4];
    match guest.inner().load(gpa, &mut word).unwrap() {
        GuestAccess::Done => Some(u32::from_le_bytes(word)),
        GuestAccess::Mmio(_) => None,
    }
}

/// Whether a store reaches memory.
fn store(guest: &Guest, gpa: u64, word: u32) -> bool {
    guest.inner().store(gpa, &word.to_le_bytes()).unwrap() == GuestAccess::Done
}

#[test]
fn a_failed_map_does_not_leave_mapped_behind_and_a_retry_really_maps() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let (mut control, _window) = window(&manager, &numbered("file", 2, 0x70));
    guest.fail_from(0);
    for _ in 0..3 {
        let error = control.map_to_guest(GAP.start(), true).unwrap_err();
        assert!(cause::<ToldToFail>(&error).is_some());
        assert_eq!(control.gpa().unwrap(), None);
        assert_eq!(load(&guest, GAP.start()), None);
        assert!(memory_of(&manager).read_plain::<u32>(GAP.start()).is_err());
    }
    guest.fail_never();
    control.map_to_guest(GAP.start(), true).unwrap();
    assert_eq!(load(&guest, GAP.start()), Some(0x70));
    assert_eq!(load(&guest, ALIAS + GAP.start()), Some(0x70));
}

#[test]
fn a_failed_unmap_does_not_leave_unmapped_behind() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let (mut control, window) = window(&manager, &numbered("file", 2, 0x70));
    control.map_to_guest(GAP.start(), true).unwrap();
    guest.fail_unmaps();
    assert!(control.try_unmap_from_guest().is_err());
    assert!(window.unmap(0, PAGE_SIZE).is_err());
    control.unmap_from_guest();
    assert_eq!(control.gpa().unwrap(), Some(GAP.start()));
    assert_eq!(load(&guest, GAP.start()), Some(0x70));
    guest.fail_never();
    control.unmap_from_guest();
    assert_eq!(load(&guest, GAP.start()), None);
}

#[test]
fn a_part_that_was_unmapped_stays_unmapped_after_a_move_and_the_rest_stays() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let (mut control, window) = window(&manager, &numbered("file", 4, 0x70));
    control.map_to_guest(GAP.start(), true).unwrap();
    window.unmap(PAGE_SIZE, 2 * PAGE_SIZE).unwrap();
    for base in [GAP.start(), GAP.start() + 0x1_0000, GAP.start() + PAGE_SIZE] {
        control.map_to_guest(base, true).unwrap();
        let words = [0, 1, 2, 3].map(|page| load(&guest, base + page * PAGE_SIZE));
        assert_eq!(words, [Some(0x70), None, None, Some(0x73)]);
    }
    control.unmap_from_guest();
    control.map_to_guest(GAP.start(), true).unwrap();
    assert_eq!(load(&guest, GAP.start() + PAGE_SIZE), None);
    // Where it was, nothing is left.
    assert_eq!(load(&guest, GAP.start() + 0x1_0000), None);
}

#[test]
fn a_part_of_several_mappings_can_be_unmapped() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(6 * PAGE_SIZE, "shm".into()).unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    for (nth, first) in [(0, 0x10), (2, 0x20), (4, 0x30)] {
        let file = numbered("file", 2, first);
        window
            .map(nth * PAGE_SIZE, &file, 0, 2 * PAGE_SIZE, true)
            .unwrap();
    }
    window.unmap(PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    window.unmap(PAGE_SIZE, 4 * PAGE_SIZE).unwrap();
    let words = [0, 1, 2, 3, 4, 5].map(|page| load(&guest, GAP.start() + page * PAGE_SIZE));
    assert_eq!(words, [Some(0x10), None, None, None, None, Some(0x31)]);
    assert_eq!(guest.inner().broken_rules(), []);
}

#[test]
fn running_out_of_slots_is_an_error_and_not_the_end() {
    // Legacy RAM, twice because of the alias map, and one window twice.
    let (manager, guest) = pc(SoftwareOptions::new().max_slots(2 * 16 + 2));
    let file = numbered("file", 1, 0x70);
    let (mut first, _first) = window(&manager, &file);
    first.map_to_guest(GAP.start(), true).unwrap();
    let slots = guest.inner().slots();
    let (mut second, _second) = window(&manager, &file);
    let elsewhere = GAP.start() + 0x8000;
    let error = second.map_to_guest(elsewhere, true).unwrap_err();
    let too_many = cause::<TooManySlots>(&error).unwrap();
    // Of the window; its mirror is not asked about any more.
    assert_eq!((too_many.used, too_many.needed), (2 * 16 + 2, 1));
    assert_eq!(guest.inner().slots(), slots);
    first.unmap_from_guest();
    second.map_to_guest(elsewhere, true).unwrap();
    assert_eq!(load(&guest, elsewhere), Some(0x70));
}

#[test]
fn the_same_memory_at_two_addresses_is_two_slots() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let file = numbered("file", 2, 0x70);
    let (mut first, _first) = window(&manager, &file);
    let (mut second, _second) = window(&manager, &file);
    let places = [GAP.start(), GAP.start() + 0x8000];
    first.map_to_guest(places[0], true).unwrap();
    second.map_to_guest(places[1], true).unwrap();
    assert_eq!(places.map(|gpa| load(&guest, gpa)), [Some(0x70); 2]);
    assert!(store(&guest, places[0], 0x99));
    assert_eq!(places.map(|gpa| load(&guest, gpa)), [Some(0x99); 2]);
    first.unmap_from_guest();
    assert_eq!(places.map(|gpa| load(&guest, gpa)), [None, Some(0x99)]);
}

#[test]
fn a_read_only_alias_of_writable_ram_is_read_only() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let segment = range(0xd_0000, 0xd_4000);
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(segment, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    for base in [0, ALIAS] {
        assert!(!store(&guest, base + segment.start(), 1));
        assert!(store(&guest, base + segment.end(), 1), "its neighbour");
    }
    let error = memory_of(&manager)
        .write_plain(segment.start(), &1_u8)
        .unwrap_err();
    assert_eq!(
        error.cause(),
        Cause::ReadOnly {
            gpa: segment.start()
        }
    );

    // One file in two windows, one of which is read-only, by its mapping or by where it is shown.
    let file = numbered("file", 2, 0x70);
    let (mut writable, _window) = window(&manager, &file);
    let (mut shown_read_only, _other) = window(&manager, &file);
    let (mut mapped_read_only, third) = window(&manager, &file);
    third.map(0, &file, 0, 2 * PAGE_SIZE, false).unwrap();
    let places = [GAP.start(), GAP.start() + 0x4000, GAP.start() + 0x8000];
    writable.map_to_guest(places[0], true).unwrap();
    shown_read_only.map_to_guest(places[1], false).unwrap();
    mapped_read_only.map_to_guest(places[2], true).unwrap();
    assert_eq!(
        places.map(|gpa| store(&guest, gpa, 5)),
        [true, false, false]
    );
    assert_eq!(places.map(|gpa| load(&guest, gpa)), [Some(5); 3]);
}

#[test]
fn ram_that_was_locked_by_firmware_cannot_be_written() {
    let (manager, guest) = pc(SoftwareOptions::new());
    let control = manager.ram_visibility_control();
    let segments = control
        .regions()
        .filter(|region| range(0xc_0000, 0x10_0000).contains(region));
    let segments: Vec<MemoryRange> = segments.collect();
    assert_eq!(segments.len(), 13);
    for segment in &segments {
        assert!(store(&guest, segment.start(), 0x1111));
        control
            .set_ram_visibility_now(*segment, RamVisibility::ReadOnly)
            .unwrap()
            .wait();
    }
    for segment in &segments {
        for gpa in [segment.start(), segment.end() - 4] {
            assert!(!store(&guest, gpa, 0x2222));
        }
        assert_eq!(load(&guest, segment.start()), Some(0x1111));
    }
}

#[test]
fn json_is_json_whatever_a_window_is_called() {
    let (manager, _guest) = pc(SoftwareOptions::new());
    let name = "bar \"2\"\\\n\t\u{0}\u{1f}\u{7f} ünï \u{1f600} {}";
    let mapper = manager.device_memory_mapper();
    let (_control, _window) = mapper.new_region(PAGE_SIZE, name.into()).unwrap();
    let text = inspect::inspect(&manager).to_json_string();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let regions = json["view"]["regions"].as_object().unwrap();
    let names = regions
        .values()
        .filter_map(|region| region["name"].as_str());
    assert_eq!(names.filter(|given| *given == name).count(), 1, "{text}");
}
