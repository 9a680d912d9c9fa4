//! Guests of real VMs on the whole stack: several partitions, the alias map, memory taken over.

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
    GuestMemoryBuilder, GuestMemoryManager, KvmPartition, MemoryLayout, PartitionId, Vtl,
};
use kvm::kvm_for;
use kvm_ioctls::Kvm;
use memory_range::MemoryRange;
use std::sync::Arc;
use support::{memory_of, numbered, range};
use vcpu::{Code, Exit, Vcpu};

const PORT: u8 = 0x10;
const GAP: MemoryRange = MemoryRange::new(0x20_0000..0x40_0000);

fn layout() -> MemoryLayout {
    MemoryLayout::new(8 << 20, &[GAP], None).unwrap()
}

fn out(value: u32) -> Exit {
    Exit::Out {
        port: PORT.into(),
        data: value.to_le_bytes().to_vec(),
    }
}

fn mmio_read(gpa: u64) -> Exit {
    Exit::MmioRead { gpa, len: 4 }
}

fn mmio_write(gpa: u64, value: u32) -> Exit {
    Exit::MmioWrite {
        gpa,
        data: value.to_le_bytes().to_vec(),
    }
}

/// A VM with one CPU, attached to a manager.
struct Guest {
    vcpu: Vcpu,
    id: PartitionId,
    partition: Arc<KvmPartition>,
}

fn attach(kvm: &Kvm, manager: &GuestMemoryManager, vtl: Vtl) -> Guest {
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(KvmPartition::new(vm.clone()).unwrap());
    let id = manager
        .attach_partition_now(vtl, partition.clone(), None)
        .unwrap();
    Guest {
        vcpu: Vcpu::new(&vm, 0, 0),
        id,
        partition,
    }
}

/// Puts code at an address and has the guest run it: it must meet exactly these exits.
#[track_caller]
fn run(manager: &GuestMemoryManager, guest: &mut Guest, entry: u64, code: Code, exits: &[Exit]) {
    memory_of(manager)
        .write_at(entry, code.hlt().bytes())
        .unwrap();
    guest.vcpu.jump(entry);
    for exit in exits.iter().chain([&Exit::Hlt]) {
        assert_eq!(guest.vcpu.run(), *exit);
    }
}

#[test]
fn two_partitions_and_the_vmm_see_each_others_writes() {
    let Some(kvm) = kvm_for("kvm_guest::two_partitions_and_the_vmm_see_each_others_writes") else {
        return;
    };
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let memory = memory_of(&manager);
    let mut first = attach(&kvm, &manager, Vtl::Vtl0);
    let mut second = attach(&kvm, &manager, Vtl::Vtl1);
    let word = 0x50_0000;
    run(
        &manager,
        &mut first,
        0x1000,
        Code::new().store(word, 0x1111),
        &[],
    );
    assert_eq!(memory.read_plain::<u32>(word.into()).unwrap(), 0x1111);
    let code = || Code::new().load(word).out(PORT);
    run(
        &manager,
        &mut second,
        0x2000,
        code().store(word, 0x2222),
        &[out(0x1111)],
    );
    run(&manager, &mut first, 0x1000, code(), &[out(0x2222)]);
    memory.write_plain(word.into(), &0x3333_u32).unwrap();
    run(&manager, &mut first, 0x1000, code(), &[out(0x3333)]);

    // One is detached, and the other goes on.
    assert!(!second.partition.slots().is_empty());
    manager.detach_partition(second.id).unwrap();
    assert_eq!(second.partition.slots(), []);
    second.vcpu.jump(0x2000);
    assert_eq!(
        second.vcpu.run(),
        Exit::InternalError,
        "not even its code is left"
    );
    run(&manager, &mut first, 0x1000, code(), &[out(0x3333)]);
}

#[test]
fn vtl2_has_ram_of_its_own_and_sees_vtl0_through_the_alias_map() {
    let Some(kvm) =
        kvm_for("kvm_guest::vtl2_has_ram_of_its_own_and_sees_vtl0_through_the_alias_map")
    else {
        return;
    };
    const ALIAS: u32 = 0x8000_0000;
    let own = range(0x1000_0000, 0x1010_0000);
    let layout = MemoryLayout::new(8 << 20, &[GAP], Some(own)).unwrap();
    let builder = GuestMemoryBuilder::new().vtl0_alias_map(Some(u64::from(ALIAS)));
    let manager = builder.build_now(&layout).unwrap();
    let mut vtl0 = attach(&kvm, &manager, Vtl::Vtl0);
    let mut vtl2 = attach(&kvm, &manager, Vtl::Vtl2);

    let (word, secret) = (0x3000, 0x1000_5000);
    run(
        &manager,
        &mut vtl0,
        0x1000,
        Code::new().store(word, 0xaaaa),
        &[],
    );
    // VTL2's code lies in its own RAM. The alias map of that would show it to VTL0's mirror.
    let code = Code::new()
        .load(ALIAS + word)
        .out(PORT)
        .store(ALIAS + word, 0xbbbb)
        .store(secret, 0x5ec4e7)
        .load(secret)
        .out(PORT)
        .load(ALIAS + secret)
        .store(ALIAS + secret, 1);
    let hidden = u64::from(ALIAS + secret);
    let exits = [
        out(0xaaaa),
        out(0x5ec4e7),
        mmio_read(hidden),
        mmio_write(hidden, 1),
    ];
    run(&manager, &mut vtl2, own.start(), code, &exits);

    // VTL0 finds what VTL2 wrote, and neither its RAM nor the mirror.
    let mirror = u64::from(ALIAS + word);
    let code = Code::new()
        .load(word)
        .out(PORT)
        .load(secret)
        .store(secret, 2)
        .load(ALIAS + word);
    let exits = [
        out(0xbbbb),
        mmio_read(secret.into()),
        mmio_write(secret.into(), 2),
        mmio_read(mirror),
    ];
    run(&manager, &mut vtl0, 0x1000, code, &exits);
    assert_eq!(
        memory_of(&manager)
            .read_plain::<u32>(secret.into())
            .unwrap(),
        0x5ec4e7
    );

    // The mirror follows a change.
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
    window
        .map(0, &numbered("file", 1, 0x77), 0, 0x1000, false)
        .unwrap();
    control.map_to_guest(GAP.start(), false).unwrap();
    let shown = ALIAS + u32::try_from(GAP.start()).unwrap();
    let code = || Code::new().load(shown).out(PORT).store(shown, 3);
    let exits = [out(0x77), mmio_write(shown.into(), 3)];
    run(&manager, &mut vtl2, own.start(), code(), &exits);
    control.unmap_from_guest();
    let exits = [
        mmio_read(shown.into()),
        out(u32::MAX),
        mmio_write(shown.into(), 3),
    ];
    run(&manager, &mut vtl2, own.start(), code(), &exits);
}

#[test]
fn a_manager_is_rebuilt_from_its_memory() {
    let Some(kvm) = kvm_for("kvm_guest::a_manager_is_rebuilt_from_its_memory") else {
        return;
    };
    let first = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let mut guest = attach(&kvm, &first, Vtl::Vtl0);
    // On both sides of the gap.
    let words = [0x3000, 0x70_0000];
    let code = Code::new().store(words[0], 0x1234).store(words[1], 0x5678);
    run(&first, &mut guest, 0x1000, code, &[]);

    // While the old one is there, both show the same memory.
    let rebuild = |backing| {
        let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
        builder.build_now(&layout()).unwrap()
    };
    let second = rebuild(first.shared_memory_backing());
    let mut other = attach(&kvm, &second, Vtl::Vtl0);
    let code = || {
        Code::new()
            .load(words[0])
            .out(PORT)
            .load(words[1])
            .out(PORT)
    };
    let change = code().store(words[0], 0x9999);
    run(
        &second,
        &mut other,
        0x1000,
        change,
        &[out(0x1234), out(0x5678)],
    );
    run(
        &first,
        &mut guest,
        0x1000,
        code(),
        &[out(0x9999), out(0x5678)],
    );

    // The old one is dropped: its guest loses the memory, the other one keeps it.
    drop(first);
    assert_eq!(guest.partition.slots(), []);
    run(
        &second,
        &mut other,
        0x1000,
        code(),
        &[out(0x9999), out(0x5678)],
    );

    // All managers are dropped, and only the memory is kept.
    let backing = second.shared_memory_backing();
    drop(second);
    let third = rebuild(backing);
    let mut last = attach(&kvm, &third, Vtl::Vtl0);
    run(
        &third,
        &mut last,
        0x1000,
        code(),
        &[out(0x9999), out(0x5678)],
    );
}

#[test]
fn a_device_window_moves_and_leaves_nothing_behind() {
    let Some(kvm) = kvm_for("kvm_guest::a_device_window_moves_and_leaves_nothing_behind") else {
        return;
    };
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let mut guest = attach(&kvm, &manager, Vtl::Vtl0);
    let file = numbered("bar", 4, 0x100);
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &file, 0, 0x4000, true).unwrap();
    let code = |gpa: u32, value| {
        let second_page = gpa + 0x1000;
        Code::new()
            .load(second_page)
            .out(PORT)
            .store(second_page, value)
            .load(second_page)
            .out(PORT)
    };
    let mut held = 0x101;
    let mut previous: Option<u32> = None;
    // Elsewhere, one page further over itself, back, and up.
    let places = [0x20_0000, 0x20_1000, 0x20_0000, 0x30_0000_u32];
    for (place, value) in places.into_iter().zip(0x1000..) {
        control.map_to_guest(place.into(), true).unwrap();
        run(
            &manager,
            &mut guest,
            0x1000,
            code(place, value),
            &[out(held), out(value)],
        );
        held = value;
        if let Some(previous) = previous {
            // The first and last page of where it was, as far as it isn't there any more.
            let now = range(place.into(), u64::from(place) + 0x4000);
            for page in [previous, previous + 0x3000] {
                let gpa = u64::from(page);
                if !now.contains_addr(gpa) {
                    let probe = Code::new().load(page).store(page, 7);
                    let exits = [mmio_read(gpa), mmio_write(gpa, 7)];
                    run(&manager, &mut guest, 0x1000, probe, &exits);
                }
            }
        }
        previous = Some(place);
    }
    // Under RAM it is hidden, and comes back unchanged.
    control.map_to_guest(0x50_0000, true).unwrap();
    run(
        &manager,
        &mut guest,
        0x1000,
        code(0x50_0000, 5),
        &[out(0), out(5)],
    );
    control.map_to_guest(0x20_0000, false).unwrap();
    let gpa = 0x20_1000;
    let exits = [out(held), mmio_write(gpa, 6), out(held)];
    run(&manager, &mut guest, 0x1000, code(0x20_0000, 6), &exits);
}

/// What the file behind a window is replaced by shows at once, under a slot that stays.
#[test]
fn replacing_a_file_keeps_the_slot() {
    let Some(kvm) = kvm_for("kvm_guest::replacing_a_file_keeps_the_slot") else {
        return;
    };
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let mut guest = attach(&kvm, &manager, Vtl::Vtl0);
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x4000, "dax".into()).unwrap();
    let files = [numbered("one", 4, 0x100), numbered("two", 4, 0x200)];
    window.map(0, &files[0], 0, 0x4000, true).unwrap();
    control.map_to_guest(GAP.start(), true).unwrap();
    let slots = guest.partition.slots();
    let page = |nth: u32| 0x20_0000 + nth * 0x1000;
    let code = || {
        let code = Code::new().load(page(0)).out(PORT).load(page(1)).out(PORT);
        code.load(page(3)).out(PORT)
    };
    let exits = [out(0x100), out(0x101), out(0x103)];
    run(&manager, &mut guest, 0x1000, code(), &exits);
    window.map(0x1000, &files[1], 0x2000, 0x2000, true).unwrap();
    let exits = [out(0x100), out(0x202), out(0x103)];
    run(&manager, &mut guest, 0x1000, code(), &exits);
    assert_eq!(guest.partition.slots(), slots);
}

/// One file at two addresses is two slots, and of two windows over each other one shows.
#[test]
fn the_same_memory_at_two_addresses() {
    let Some(kvm) = kvm_for("kvm_guest::the_same_memory_at_two_addresses") else {
        return;
    };
    let manager = GuestMemoryBuilder::new().build_now(&layout()).unwrap();
    let mut guest = attach(&kvm, &manager, Vtl::Vtl0);
    let file = numbered("file", 2, 0x70);
    let mapper = manager.device_memory_mapper();
    let windows: Vec<_> = (0..3)
        .map(|nth| {
            let (control, window) = mapper.new_region(0x2000, format!("bar{nth}")).unwrap();
            window.map(0, &file, 0, 0x2000, nth != 1).unwrap();
            (control, window)
        })
        .collect();
    let [mut first, mut second, mut third]: [_; 3] = windows.try_into().unwrap();
    first.0.map_to_guest(0x20_0000, true).unwrap();
    second.0.map_to_guest(0x30_0000, true).unwrap();
    // One page over the first, one beside it.
    third.0.map_to_guest(0x20_1000, true).unwrap();
    let code = Code::new()
        .store(0x20_0000, 0x99)
        .load(0x30_0000)
        .out(PORT)
        // Read-only, though the file and its other slot are not.
        .store(0x30_0000, 1)
        .load(0x20_1000)
        .out(PORT)
        .load(0x20_2000)
        .out(PORT);
    let exits = [out(0x99), mmio_write(0x30_0000, 1), out(0x71), out(0x71)];
    run(&manager, &mut guest, 0x1000, code, &exits);
    // What the first has hidden appears; the page beside it stays.
    drop(first);
    let code = Code::new()
        .load(0x20_0000)
        .load(0x20_1000)
        .out(PORT)
        .load(0x20_2000)
        .out(PORT);
    let exits = [mmio_read(0x20_0000), out(0x99), out(0x71)];
    run(&manager, &mut guest, 0x1000, code, &exits);
}
