//! The same memory at a second place.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    AliasError, Cause, ChangeError, Fill, GuestAccess, GuestMemoryBuilder, GuestMemoryManager,
    MemoryLayout, RamVisibility, SoftwarePartition, Vtl, WindowOptions,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use std::sync::Arc;
use support::{counter, last_plan, memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x14_0000);
const VTL2_RAM: MemoryRange = MemoryRange::new(0x24_0000..0x24_8000);
const SEGMENT: MemoryRange = MemoryRange::new(0xc_4000..0xc_8000);

fn pc() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let layout = MemoryLayout::new(2 << 20, &[GAP], Some(VTL2_RAM)).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition)
}

/// What a guest and a device read, which must agree.
fn word(manager: &GuestMemoryManager, guest: &SoftwarePartition, gpa: u64) -> Option<u32> {
    let mut word = [0; 4];
    let load = guest.load(gpa, &mut word).unwrap();
    let found = (load == GuestAccess::Done).then(|| u32::from_le_bytes(word));
    assert_eq!(memory_of(manager).read_plain::<u32>(gpa).ok(), found);
    found
}

fn region_count(manager: &GuestMemoryManager) -> usize {
    let tree = inspect::inspect(manager);
    let regions = tree.get(&"view/regions".parse().unwrap()).unwrap();
    regions.as_directory().unwrap().iter().count()
}

#[test]
fn an_alias_shows_what_its_window_shows_wherever_that_is() {
    let (manager, guest) = pc();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    let mut alias = window.alias(0x1000, 0x2000, "second bar".into()).unwrap();
    assert_eq!((alias.name(), alias.len()), ("second bar", 0x2000));
    let (file, other) = (numbered("file", 4, 0x100), numbered("other", 4, 0x200));
    window.map(0, &file, 0, 0x4000, true).unwrap();
    alias.map_to_guest(0x12_0000, false).unwrap();
    // The window itself is nowhere.
    assert_eq!(word(&manager, &guest, 0x12_0000), Some(0x101));
    assert_eq!(word(&manager, &guest, 0x12_1000), Some(0x102));
    assert_eq!(word(&manager, &guest, 0x12_2000), None);

    // Writable at one place, read-only at the other, and the same.
    control.map_to_guest(0x10_0000, true).unwrap();
    let memory = memory_of(&manager);
    memory.write_plain(0x10_1000, &0x77_u32).unwrap();
    assert_eq!(word(&manager, &guest, 0x12_0000), Some(0x77));
    let error = memory.write_plain(0x12_0000, &1_u8).unwrap_err();
    assert_eq!(error.cause(), Cause::ReadOnly { gpa: 0x12_0000 });
    assert_ne!(guest.store(0x12_0000, &[1]).unwrap(), GuestAccess::Done);

    // What changes there shows here, in one change.
    let changes = counter(&manager, "changes");
    window.map(0x2000, &other, 0, 0x2000, true).unwrap();
    assert_eq!(counter(&manager, "changes"), changes + 1);
    assert_eq!(word(&manager, &guest, 0x10_2000), Some(0x200));
    assert_eq!(word(&manager, &guest, 0x12_1000), Some(0x200));
    window.unmap(0x1000, 0x1000).unwrap();
    assert_eq!(word(&manager, &guest, 0x10_1000), None);
    assert_eq!(word(&manager, &guest, 0x12_0000), None);
    assert_eq!(word(&manager, &guest, 0x12_1000), Some(0x200));
    control.unmap_from_guest();
    assert_eq!(word(&manager, &guest, 0x12_1000), Some(0x200));
    alias.map_to_guest(0x13_0000, true).unwrap();
    memory.write_plain(0x13_1000, &0x78_u32).unwrap();
    assert_eq!(word(&manager, &guest, 0x12_1000), None);
    window.map(0, &other, 0, 0x1000, true).unwrap();
    control.map_to_guest(0x10_0000, true).unwrap();
    assert_eq!(word(&manager, &guest, 0x10_0000), Some(0x78));
    assert_eq!(guest.broken_rules(), []);
}

#[test]
fn an_alias_keeps_its_window() {
    let (manager, guest) = pc();
    let before = region_count(&manager);
    let mapper = manager.device_memory_mapper();
    for control_first in [true, false] {
        let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
        let file = numbered("file", 4, 0x100);
        window.map(0, &file, 0, 0x4000, true).unwrap();
        control.map_to_guest(0x10_0000, true).unwrap();
        let mut alias = window.alias(0, 0x4000, "alias".into()).unwrap();
        let second = window.alias(0, 0x1000, "second".into()).unwrap();
        alias.map_to_guest(0x12_0000, true).unwrap();
        if control_first {
            drop(control);
            drop(window);
        } else {
            drop(window);
            drop(control);
        }
        drop(second);
        assert_eq!(word(&manager, &guest, 0x10_0000), None);
        assert_eq!(word(&manager, &guest, 0x12_0000), Some(0x100));
        assert_eq!(region_count(&manager), before + 2);
        drop(alias);
        assert_eq!(word(&manager, &guest, 0x12_0000), None);
        assert_eq!(region_count(&manager), before, "nothing is left behind");
    }
}

#[test]
fn an_alias_is_a_part_of_its_window() {
    let (manager, _guest) = pc();
    let mapper = manager.device_memory_mapper();
    let (_control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    let before = region_count(&manager);
    let top = !(PAGE_SIZE - 1);
    for (offset, len) in [(1, PAGE_SIZE), (0, 1), (top, PAGE_SIZE), (PAGE_SIZE, top)] {
        let error = window.alias(offset, len, "none".into()).unwrap_err();
        assert!(
            matches!(error, AliasError::BadRange { offset: o, len: l, .. } if (o, l) == (offset, len)),
            "{error}"
        );
    }
    for (offset, len) in [
        (0, 0),
        (0x4000, 0),
        (0x4000, 0x1000),
        (0x3000, 0x2000),
        (0, 0x5000),
        (top - PAGE_SIZE, PAGE_SIZE),
    ] {
        let error = window.alias(offset, len, "none".into()).unwrap_err();
        assert!(
            matches!(error, AliasError::Change(ChangeError::Edit(_))),
            "{error}"
        );
    }
    assert_eq!(region_count(&manager), before);
}

#[test]
fn an_alias_of_a_one_slot_window_is_one_slot() {
    let (manager, guest) = pc();
    let mapper = manager.device_memory_mapper();
    let options = WindowOptions::new().one_slot(Fill::Ones);
    let (_control, window) = mapper
        .new_region_with(options, 0x8000, "dax".into())
        .unwrap();
    let mut alias = window.alias(0x2000, 0x4000, "alias".into()).unwrap();
    alias.map_to_guest(0x12_0000, true).unwrap();
    let slots = guest.slots();
    let file = numbered("file", 4, 0x100);
    window.map(0, &file, 0, 0x3000, false).unwrap();
    assert_eq!(word(&manager, &guest, 0x12_0000), Some(0x102));
    assert_eq!(word(&manager, &guest, 0x12_1000), Some(u32::MAX));
    assert_eq!(guest.slots(), slots, "one map and no slot");
    assert_eq!(
        last_plan(&manager)[0],
        "map 0x120000-0x121000 ro from file at 0x2000"
    );
}

#[test]
fn ram_can_be_seen_at_a_second_place() {
    let (manager, guest) = pc();
    let mapper = manager.device_memory_mapper();
    let part = range(SEGMENT.start() + 0x1000, SEGMENT.end());
    let mut alias = mapper.ram_alias(part, "shadow".into()).unwrap();
    let memory = memory_of(&manager);
    memory.write_plain(part.start(), &0x42_u32).unwrap();
    alias.map_to_guest(0x10_0000, true).unwrap();
    assert_eq!(word(&manager, &guest, 0x10_0000), Some(0x42));
    memory.write_plain(0x10_2000, &0x43_u32).unwrap();
    assert_eq!(word(&manager, &guest, SEGMENT.start() + 0x3000), Some(0x43));
    assert_eq!(word(&manager, &guest, 0x10_3000), None);
    // However the segment is seen.
    let control = manager.ram_visibility_control();
    for visibility in [
        RamVisibility::ReadOnly,
        RamVisibility::Unmapped,
        RamVisibility::ReadWrite,
    ] {
        control
            .set_ram_visibility_now(SEGMENT, visibility)
            .unwrap()
            .wait();
        assert_eq!(word(&manager, &guest, 0x10_0000), Some(0x42));
        memory.write_plain(0x10_1000, &7_u8).unwrap();
    }
    alias.map_to_guest(0x10_0000, false).unwrap();
    assert!(memory.write_plain(0x10_1000, &7_u8).is_err());
    // RAM hides it, as it hides every window.
    alias.map_to_guest(0x1000, true).unwrap();
    assert_eq!(word(&manager, &guest, 0x1000), Some(0));
    drop(alias);
    assert_eq!(word(&manager, &guest, part.start()), Some(0x42));
}

#[test]
fn an_alias_of_ram_lies_in_one_region() {
    let (manager, _guest) = pc();
    let mapper = manager.device_memory_mapper();
    let before = region_count(&manager);
    for wrong in [
        range(SEGMENT.start(), SEGMENT.end() + 0x1000),
        range(SEGMENT.start() - 0x1000, SEGMENT.end()),
        GAP,
        range(0xf_f000, 0x10_1000),
        range(SEGMENT.start(), SEGMENT.start()),
        range(0x100_0000, 0x100_1000),
        MemoryRange::EMPTY,
    ] {
        let error = mapper.ram_alias(wrong, "none".into()).unwrap_err();
        assert!(
            matches!(error, AliasError::NotInOneRamRegion { range, .. } if range == wrong),
            "{error}"
        );
    }
    for wrong in [
        VTL2_RAM,
        range(VTL2_RAM.start() + 0x1000, VTL2_RAM.start() + 0x2000),
        range(0x23_f000, VTL2_RAM.start() + 0x1000),
    ] {
        let error = mapper.ram_alias(wrong, "none".into()).unwrap_err();
        assert!(matches!(error, AliasError::Vtl2Ram { range } if range == wrong));
    }
    assert_eq!(region_count(&manager), before);
}

#[test]
fn aliases_of_another_manager_are_refused_in_a_transaction() {
    let (manager, _guest) = pc();
    let (other, _) = pc();
    let mut foreign = other
        .device_memory_mapper()
        .ram_alias(SEGMENT, "foreign".into())
        .unwrap();
    let mut change = manager.transaction().unwrap();
    let error = change.map_to_guest(&mut foreign, GAP.start(), true);
    assert!(matches!(error, Err(ChangeError::OtherManager { .. })));
}
