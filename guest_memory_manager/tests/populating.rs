//! RAM made present before anybody touches it.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod support;

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, PopulateProgress, Populated,
    RamVisibility,
};
use memory_range::MemoryRange;
use std::fs::File;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use support::{memory_of, numbered, range};

const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x14_0000);
const VTL2_RAM: MemoryRange = MemoryRange::new(0x24_0000..0x24_8000);

fn pc() -> GuestMemoryManager {
    let layout = MemoryLayout::new(2 << 20, &[GAP], Some(VTL2_RAM)).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

/// How much memory the kernel has for RAM and for VTL2's, in bytes.
fn allocated(manager: &GuestMemoryManager) -> Vec<u64> {
    let backing = manager.shared_memory_backing();
    let memories = backing.memories().iter();
    memories
        .map(|memory| {
            let fd = memory.mappable().as_fd().try_clone_to_owned().unwrap();
            File::from(fd).metadata().unwrap().blocks() * 512
        })
        .collect()
}

#[test]
fn all_of_ram_is_there() {
    for threads in [None, NonZeroUsize::new(1), NonZeroUsize::new(3)] {
        let manager = pc();
        memory_of(&manager).write_plain(0x5000, &7_u8).unwrap();
        let progress = PopulateProgress::new();
        let done = manager.populate_ram(None, &progress, threads).unwrap();
        assert_eq!(done, Populated::Completely);
        assert_eq!(allocated(&manager), [2 << 20, VTL2_RAM.len()]);
        let total = (2 << 20) + VTL2_RAM.len();
        assert_eq!(
            (progress.done_bytes(), progress.total_bytes()),
            (total, total)
        );
        assert_eq!(memory_of(&manager).read_plain::<u8>(0x5000).unwrap(), 7);
    }
}

#[test]
fn a_part_of_ram_is_there_and_nothing_else() {
    let manager = pc();
    let progress = PopulateProgress::new();
    // From one region over the gap into another.
    let part = range(0xf_8000, 0x14_2000);
    let done = manager.populate_ram(Some(part), &progress, None).unwrap();
    assert_eq!(done, Populated::Completely);
    assert_eq!(allocated(&manager), [0x8000 + 0x2000, 0]);
    for nothing in [MemoryRange::EMPTY, GAP, range(0x100_0000, 0x200_0000)] {
        let progress = PopulateProgress::new();
        let done = manager.populate_ram(Some(nothing), &progress, None);
        assert_eq!(done.unwrap(), Populated::Completely);
        assert_eq!(progress.total_bytes(), 0);
    }
    assert_eq!(allocated(&manager), [0x8000 + 0x2000, 0]);
}

#[test]
fn what_is_hidden_or_a_device_is_left_out() {
    let manager = pc();
    let control = manager.ram_visibility_control();
    let (hidden, locked) = (range(0xc_0000, 0xc_4000), range(0xc_4000, 0xc_8000));
    let changes = [
        (hidden, RamVisibility::Unmapped),
        (locked, RamVisibility::ReadOnly),
    ];
    control.set_several_now(&changes).unwrap().wait();
    // A window shows where RAM is hidden.
    let (mut bar, window) = manager
        .device_memory_mapper()
        .new_region(0x4000, "bar".into())
        .unwrap();
    window
        .map(0, &numbered("bar", 4, 1), 0, 0x4000, true)
        .unwrap();
    bar.map_to_guest(hidden.start(), true).unwrap();
    let progress = PopulateProgress::new();
    let low = range(0, 0x10_0000);
    let done = manager.populate_ram(Some(low), &progress, None).unwrap();
    assert_eq!(done, Populated::Completely);
    assert_eq!(progress.total_bytes(), 0x10_0000 - 0x4000);
    // What is read-only is made present for reading, for which shared memory takes pages, too.
    assert_eq!(allocated(&manager)[0], 0x10_0000 - 0x4000);
}

#[test]
fn it_can_be_cancelled() {
    let manager = pc();
    let progress = PopulateProgress::new();
    progress.cancel();
    let done = manager.populate_ram(None, &progress, None).unwrap();
    assert_eq!(done, Populated::InPart);
    assert_eq!(allocated(&manager), [0, 0]);
}
