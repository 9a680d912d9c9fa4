//! A real VM's memory slots, to the last one.

#![cfg(feature = "kvm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
mod support;
#[path = "../../partition_mapper/tests/support/vcpu.rs"]
mod vcpu;

use guest_memory_manager::{
    AttachError, ChangeError, DeviceMemoryControl, GuestMemoryBuilder, GuestMemoryManager,
    KvmPartition, MemoryLayout, SharedMemory, Vtl,
};
use kvm::kvm_for;
use memory_range::PAGE_SIZE;
use partition_mapper::{KvmOptions, TooManySlots};
use std::sync::Arc;
use support::{cause, memory_of, numbered, pages};
use vcpu::{Code, Exit, Vcpu};

const PORT: u8 = 0x10;
const ENTRY: u64 = 0x1000;
const RAM_PAGES: u64 = 512;

/// A manager with room for so many pages of device windows above its RAM.
fn manager(gap_pages: u64) -> GuestMemoryManager {
    let gap = pages(RAM_PAGES, RAM_PAGES + gap_pages);
    let layout = MemoryLayout::new(RAM_PAGES * PAGE_SIZE, &[gap], None).unwrap();
    GuestMemoryBuilder::new().build_now(&layout).unwrap()
}

/// A window of one page, the nth of the gap and of the file.
fn window(
    manager: &GuestMemoryManager,
    file: &SharedMemory,
    nth: u64,
) -> (DeviceMemoryControl, Result<(), ChangeError>) {
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(PAGE_SIZE, format!("page {nth}")).unwrap();
    let offset = nth * PAGE_SIZE;
    window.map(0, file, offset, PAGE_SIZE, true).unwrap();
    let shown = control.map_to_guest(gpa_of(nth), true).map(drop);
    (control, shown)
}

fn gpa_of(nth: u64) -> u64 {
    (RAM_PAGES + nth) * PAGE_SIZE
}

#[track_caller]
fn must_be_exhausted(error: &ChangeError, limit: u32) {
    match cause::<TooManySlots>(error) {
        Some(too_many) => assert_eq!(too_many.limit, u64::from(limit)),
        None => panic!("{}", support::chain(error)),
    }
}

/// Has the guest add 1 to the first word of some of the windows, and checks what it found.
fn touch(manager: &GuestMemoryManager, vcpu: &mut Vcpu, windows: &mut [(u64, u32)]) {
    for (nth, word) in windows {
        let gpa = u32::try_from(gpa_of(*nth)).unwrap();
        let code = Code::new().load(gpa).out(PORT).store(gpa, *word + 1).hlt();
        memory_of(manager).write_at(ENTRY, code.bytes()).unwrap();
        vcpu.jump(ENTRY);
        let out = Exit::Out {
            port: PORT.into(),
            data: word.to_le_bytes().to_vec(),
        };
        assert_eq!(vcpu.run(), out, "window {nth}");
        assert_eq!(vcpu.run(), Exit::Hlt);
        *word += 1;
    }
}

#[test]
fn running_out_of_slots_changes_nothing() {
    let Some(kvm) = kvm_for("kvm_slots::running_out_of_slots_changes_nothing") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(KvmPartition::new(vm.clone()).unwrap());
    let limit = partition.slot_limit();
    let room = u64::from(limit) + 8;
    let manager = manager(room);
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    let mut vcpu = Vcpu::new(&vm, 0, ENTRY);
    let file = numbered("windows", 2, 0x100);
    // Longer than what is numbered: pages that nobody touches cost nothing.
    let rest = SharedMemory::new("windows", room * PAGE_SIZE).unwrap();
    let mut controls = Vec::new();
    let mut refused = loop {
        let nth = controls.len() as u64;
        let of = if nth < 2 { &file } else { &rest };
        let (control, shown) = window(&manager, of, nth);
        match shown {
            Ok(()) => controls.push(control),
            Err(error) => {
                must_be_exhausted(&error, limit);
                break control;
            }
        }
        assert!(nth <= u64::from(limit), "there is a limit");
    };
    let slots = partition.slots();
    assert_eq!(slots.len(), limit as usize);
    let last = controls.len() as u64 - 1;
    let mut windows = [(0, 0x100), (1, 0x101), (last / 2, 0), (last, 0)];
    touch(&manager, &mut vcpu, &mut windows);

    // Again, and also what would first free and then take too many.
    assert_eq!(refused.gpa().unwrap(), None);
    let error = refused.map_to_guest(gpa_of(last + 1), true).unwrap_err();
    must_be_exhausted(&error, limit);
    let mapper = manager.device_memory_mapper();
    let (mut split, hole) = mapper
        .new_region(2 * PAGE_SIZE, "two slots".into())
        .unwrap();
    hole.map(0, &rest, 0, PAGE_SIZE, true).unwrap();
    hole.map(PAGE_SIZE, &rest, PAGE_SIZE, PAGE_SIZE, false)
        .unwrap();
    let moved = controls.pop().unwrap();
    drop(moved);
    let error = split.map_to_guest(gpa_of(last + 2), true).unwrap_err();
    must_be_exhausted(&error, limit);
    drop((split, hole));
    assert_eq!(manager.damaged(), Some(Vec::new()));

    // One was freed, so one more works, and then none.
    let kept = slots[..slots.len() - 1].to_vec();
    assert_eq!(partition.slots(), kept);
    refused.map_to_guest(gpa_of(last + 1), true).unwrap();
    let now = partition.slots();
    assert_eq!(now.len(), limit as usize);
    assert_eq!(now[..kept.len()], kept);
    let (_other, shown) = window(&manager, &rest, last + 2);
    must_be_exhausted(&shown.unwrap_err(), limit);
    windows[3] = (last + 1, 0);
    touch(&manager, &mut vcpu, &mut windows);

    // A change that needs no slot is still possible, and one that gives back as many as it takes.
    let whole = pages(0, RAM_PAGES);
    let control = manager.ram_visibility_control();
    for visibility in [
        guest_memory_manager::RamVisibility::ReadOnly,
        guest_memory_manager::RamVisibility::ReadWrite,
    ] {
        control
            .set_ram_visibility_now(whole, visibility)
            .unwrap()
            .wait();
    }
    touch(&manager, &mut vcpu, &mut windows);
}

/// A partition with too few slots is not attached at all.
#[test]
fn attaching_needs_a_slot_for_everything() {
    let Some(kvm) = kvm_for("kvm_slots::attaching_needs_a_slot_for_everything") else {
        return;
    };
    let manager = manager(8);
    let file = numbered("windows", 8, 0x100);
    let _controls: Vec<DeviceMemoryControl> =
        (0..8).map(|nth| window(&manager, &file, nth).0).collect();
    let partition = |slots| {
        let vm = Arc::new(kvm.create_vm().unwrap());
        let options = KvmOptions::new().max_slots(slots);
        Arc::new(KvmPartition::with_options(vm, options).unwrap())
    };
    let few = partition(8);
    let error = manager
        .attach_partition_now(Vtl::Vtl0, few.clone(), None)
        .unwrap_err();
    assert!(matches!(error, AttachError::Replay(_)), "{error}");
    // Known before any slot is made.
    let too_many = cause::<TooManySlots>(&error).unwrap();
    assert_eq!((too_many.limit, too_many.used), (8, 0));
    assert_eq!(too_many.needed, 9);
    assert_eq!(few.slots(), []);
    assert_eq!(Arc::strong_count(&few), 1, "nothing of it is kept");
    let enough = partition(9);
    manager
        .attach_partition_now(Vtl::Vtl0, enough.clone(), None)
        .unwrap();
    assert_eq!(enough.slots().len(), 9);
}
