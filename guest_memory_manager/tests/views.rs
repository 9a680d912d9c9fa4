//! Partitions that see a part of guest memory, or see it elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    AttachError, GuestAccess, GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, PartitionView,
    RamVisibility, SoftwarePartition, Vtl,
};
use memory_range::{MemoryRange, PAGE_SIZE};
use partition_mapper::SoftwareOptions;
use std::sync::Arc;
use support::{memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x14_0000);
const VTL2_RAM: MemoryRange = MemoryRange::new(0x24_0000..0x24_8000);
const SEGMENT: MemoryRange = MemoryRange::new(0xc_4000..0xc_8000);
const ALIAS: u64 = 0x1000_0000;
const END: u64 = VTL2_RAM.end();

fn pc() -> GuestMemoryManager {
    let layout = MemoryLayout::new(2 << 20, &[GAP], Some(VTL2_RAM)).unwrap();
    let builder = GuestMemoryBuilder::new()
        .x86_legacy_support(true)
        .vtl0_alias_map(Some(ALIAS));
    builder.build_now(&layout).unwrap()
}

fn attach(manager: &GuestMemoryManager, vtl: Vtl, view: PartitionView) -> Arc<SoftwarePartition> {
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_with_now(vtl, partition.clone(), None, view)
        .unwrap();
    partition
}

/// Everything that a partition sees, adjacent ranges as one.
fn seen(partition: &SoftwarePartition) -> Vec<MemoryRange> {
    assert_eq!(partition.broken_rules(), []);
    let slots = partition.slots().into_iter().map(|slot| slot.gpa);
    memory_range::sorted::flatten(slots.collect::<Vec<_>>())
}

fn load(partition: &SoftwarePartition, gpa: u64) -> Option<u32> {
    let mut word = [0; 4];
    let load = partition.load(gpa, &mut word).unwrap();
    (load == GuestAccess::Done).then(|| u32::from_le_bytes(word))
}

#[test]
fn a_part_of_guest_memory_elsewhere() {
    let manager = pc();
    // From the middle of one region to the middle of the next; another, and nothing of VTL2's.
    let only = [
        range(0xc_6000, 0xc_9000),
        range(0, 0x1000),
        range(0x23_f000, END),
    ];
    let view = PartitionView::new().only(only).offset(0x4000_0000);
    let partition = attach(&manager, Vtl::Vtl0, view);
    let at = |start: u64, end: u64| range(0x4000_0000 + start, 0x4000_0000 + end);
    let parts = [
        at(0, 0x1000),
        at(0xc_6000, 0xc_9000),
        at(0x23_f000, 0x24_0000),
    ];
    assert_eq!(seen(&partition), parts);
    memory_of(&manager)
        .write_plain(0xc_7000, &0x42_u32)
        .unwrap();
    assert_eq!(load(&partition, 0x4000_0000 + 0xc_7000), Some(0x42));
    let control = manager.ram_visibility_control();
    control
        .set_ram_visibility_now(SEGMENT, RamVisibility::Unmapped)
        .unwrap()
        .wait();
    let rest = [parts[0], at(0xc_8000, 0xc_9000), parts[2]];
    assert_eq!(seen(&partition), rest);
    // Ranges that are none show nothing.
    let nothing = attach(&manager, Vtl::Vtl0, PartitionView::new().only([]));
    assert_eq!(seen(&nothing), []);
}

#[test]
fn vtl2_sees_the_part_and_its_mirror() {
    let manager = pc();
    let part = range(0x23_f000, VTL2_RAM.start() + 0x1000);
    let view = PartitionView::new().only([part]).offset(0x10_0000_0000);
    let partition = attach(&manager, Vtl::Vtl2, view);
    let at = |range: MemoryRange| range.shifted(0x10_0000_0000).unwrap();
    let mirror = range(ALIAS + 0x23_f000, ALIAS + 0x24_0000);
    assert_eq!(seen(&partition), [at(part), at(mirror)]);
}

#[test]
fn without_device_windows() {
    let manager = pc();
    let mapper = manager.device_memory_mapper();
    let (mut bar, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    window
        .map(0, &numbered("bar", 4, 0x100), 0, 0x4000, true)
        .unwrap();
    bar.map_to_guest(GAP.start(), true).unwrap();
    // One comes when the window is there, one before.
    let ram = [range(0, 0x10_0000), range(0x14_0000, 0x24_0000)];
    let view = || PartitionView::new().ram_only();
    let late = attach(&manager, Vtl::Vtl0, view());
    let all = attach(&manager, Vtl::Vtl0, PartitionView::new());
    let vtl2 = attach(&manager, Vtl::Vtl2, view());
    assert_eq!(seen(&late), ram);
    assert_eq!(load(&all, GAP.start()), Some(0x100));
    assert_eq!(load(&late, GAP.start()), None);
    assert_eq!(load(&vtl2, ALIAS + GAP.start()), None);
    assert_eq!(load(&vtl2, ALIAS), Some(0));
    // Where RAM is hidden it sees nothing, though a window shows there.
    let control = manager.ram_visibility_control();
    bar.map_to_guest(SEGMENT.start(), true).unwrap();
    for (visibility, expected, everyone) in [
        (RamVisibility::Unmapped, None, Some(0x101)),
        (RamVisibility::ReadOnly, Some(0), Some(0)),
        (RamVisibility::ReadWrite, Some(0), Some(0)),
    ] {
        control
            .set_ram_visibility_now(SEGMENT, visibility)
            .unwrap()
            .wait();
        let gpa = SEGMENT.start() + 0x1000;
        assert_eq!(load(&late, gpa), expected, "{visibility:?}");
        assert_eq!(load(&vtl2, ALIAS + gpa), expected, "{visibility:?}");
        assert_eq!(load(&all, gpa), everyone, "{visibility:?}");
        let store = late.store(gpa, &[0]).unwrap() == GuestAccess::Done;
        assert_eq!(store, visibility == RamVisibility::ReadWrite);
    }
    assert_eq!(seen(&late), ram);
    drop(manager);
    for partition in [late, all, vtl2] {
        assert_eq!(partition.slots(), []);
    }
}

#[test]
fn offsets_that_are_none_are_refused() {
    let manager = pc();
    let partition = Arc::new(SoftwarePartition::new());
    let attach = |vtl, view| manager.attach_partition_with_now(vtl, partition.clone(), None, view);
    let error = attach(Vtl::Vtl0, PartitionView::new().offset(0x800)).unwrap_err();
    assert!(matches!(error, AttachError::Mapper(_)), "{error}");
    let top = !(PAGE_SIZE - 1);
    let error = attach(Vtl::Vtl0, PartitionView::new().offset(top)).unwrap_err();
    assert!(matches!(error, AttachError::Replay(_)), "{error}");
    let error = attach(Vtl::Vtl2, PartitionView::new().offset(top)).unwrap_err();
    assert!(
        matches!(error, AttachError::AliasTooHigh { alias: ALIAS, offset } if offset == top),
        "{error}"
    );
    // What cannot pin is refused.
    let unable = SoftwarePartition::with_options(SoftwareOptions::new().without_pin());
    let error = manager
        .attach_partition_with_now(
            Vtl::Vtl0,
            Arc::new(unable),
            None,
            PartitionView::new().pinned(),
        )
        .unwrap_err();
    assert!(matches!(error, AttachError::Mapper(_)), "{error}");
    assert_eq!(partition.slots(), []);
    assert_eq!(Arc::strong_count(&partition), 1, "nothing of it is kept");
}

#[tokio::test]
async fn it_is_attached_and_detached_as_any_other() {
    let manager = pc();
    let partition = Arc::new(SoftwarePartition::new());
    let view = PartitionView::new().ram_only();
    let id = manager
        .attach_partition_with(Vtl::Vtl2, &partition, None, view)
        .await
        .unwrap();
    assert!(!partition.slots().is_empty());
    manager.detach_partition(id).unwrap();
    assert_eq!(partition.slots(), []);
    assert!(manager.detach_partition(id).is_err());
}
