//! Prefetching and pinning do what they say.

#![cfg(feature = "kvm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
mod support;

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, KvmPartition, MemoryLayout, RamVisibility,
    SharedMemory, Vtl,
};
use kvm::kvm_for;
use kvm_ioctls::Kvm;
use memory_range::MemoryRange;
use sparse_alloc::MappedRegion;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use support::{memory_of, numbered};

/// Little enough that any process may lock it.
const RAM: u64 = 2 << 20;
const GAP: MemoryRange = MemoryRange::new(RAM..RAM + 0x10_0000);

fn layout() -> MemoryLayout {
    MemoryLayout::new(RAM, &[GAP], None).unwrap()
}

fn attach(kvm: &Kvm, manager: &GuestMemoryManager) {
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(KvmPartition::new(vm).unwrap());
    manager
        .attach_partition_now(Vtl::Vtl0, partition, None)
        .unwrap();
}

/// How much memory the kernel has for a memfd, in bytes.
fn allocated(memory: &SharedMemory) -> u64 {
    let fd = memory.mappable().as_fd().try_clone_to_owned().unwrap();
    File::from(fd).metadata().unwrap().blocks() * 512
}

fn ram_of(manager: &GuestMemoryManager) -> SharedMemory {
    manager.shared_memory_backing().memories()[0].clone()
}

/// How much of a range of guest physical addresses is locked and present, in bytes.
fn locked(manager: &GuestMemoryManager, range: MemoryRange) -> u64 {
    let memory = memory_of(manager);
    let base = memory.mapper().reservation().base().addr().get() as u64;
    let range = range.shifted(base).unwrap();
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (mut inside, mut present, mut total) = (false, 0, 0);
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap();
        let ends = first.split_once('-').and_then(|(start, end)| {
            let hex = |text| u64::from_str_radix(text, 16).ok();
            Some(hex(start)?..hex(end)?)
        });
        if let Some(vma) = ends {
            inside = range.start() <= vma.start && vma.end <= range.end();
        }
        match first {
            "Rss:" => present = 1024 * words.next().unwrap().parse::<u64>().unwrap(),
            "VmFlags:" if inside && words.any(|flag| flag == "lo") => total += present,
            _ => {}
        }
    }
    total
}

#[test]
fn ram_is_there_once_it_is_prefetched() {
    let Some(kvm) = kvm_for("kvm_presence::ram_is_there_once_it_is_prefetched") else {
        return;
    };
    for prefetch in [false, true] {
        let builder = GuestMemoryBuilder::new()
            .x86_legacy_support(true)
            .prefetch_ram(prefetch);
        let manager = builder.build_now(&layout()).unwrap();
        assert_eq!(allocated(&ram_of(&manager)), 0, "nobody has touched it");
        attach(&kvm, &manager);
        let expected = if prefetch { RAM } else { 0 };
        assert_eq!(allocated(&ram_of(&manager)), expected);

        // What was given back is there again when it is shown again.
        let segment = MemoryRange::new(0xc_0000..0xc_4000);
        let control = manager.ram_visibility_control();
        let set = |visibility| {
            control
                .set_ram_visibility_now(segment, visibility)
                .unwrap()
                .wait()
        };
        set(RamVisibility::Unmapped);
        ram_of(&manager).decommit(segment).unwrap();
        let less = expected.saturating_sub(segment.len());
        assert_eq!(allocated(&ram_of(&manager)), less);
        set(RamVisibility::ReadWrite);
        assert_eq!(allocated(&ram_of(&manager)), expected);
    }
}

#[test]
fn what_a_partition_sees_is_locked_when_pinned() {
    let Some(kvm) = kvm_for("kvm_presence::what_a_partition_sees_is_locked_when_pinned") else {
        return;
    };
    let ram = MemoryRange::new(0..RAM);
    for pin in [false, true] {
        let builder = GuestMemoryBuilder::new().pin_mappings(pin);
        let manager = builder.build_now(&layout()).unwrap();
        let expected = |bytes| if pin { bytes } else { 0 };
        assert_eq!(locked(&manager, ram), 0, "no partition, no pin");
        attach(&kvm, &manager);
        assert_eq!(locked(&manager, ram), expected(RAM));

        // A device window, where it is shown, where it moves, and when its contents are replaced.
        let mapper = manager.device_memory_mapper();
        let (mut control, window) = mapper.new_region(0x4000, "window".into()).unwrap();
        window
            .map(0, &numbered("one", 4, 0), 0, 0x4000, true)
            .unwrap();
        assert_eq!(locked(&manager, GAP), 0);
        for gpa in [GAP.start(), GAP.start() + 0x8000] {
            control.map_to_guest(gpa, true).unwrap();
            assert_eq!(locked(&manager, GAP), expected(0x4000));
        }
        window
            .map(0x1000, &numbered("two", 4, 0), 0, 0x2000, true)
            .unwrap();
        assert_eq!(locked(&manager, GAP), expected(0x4000));
        window.unmap(0, 0x1000).unwrap();
        assert_eq!(locked(&manager, GAP), expected(0x3000));
        control.unmap_from_guest();
        assert_eq!(locked(&manager, GAP), 0);
    }
}
