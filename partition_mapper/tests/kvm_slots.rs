//! Memory slots of a real VM.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/kvm.rs"]
mod kvm;
#[path = "support/memory.rs"]
mod support;

use kvm::kvm_for;
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::VmFd;
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::{
    KvmError, KvmOptions, KvmPartition, MapError, MapperOptions, PartitionMapper,
    PartitionMemoryMap, UnmapError,
};
use region_manager::{Execute, Permissions, RegionListener};
use sparse_alloc::{Alignment, HostRange, MappedRegion, Reservation};
use std::sync::Arc;
use support::{chain, memory, pages, permissions, slot};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

fn host(memory: &Arc<Reservation>, page: u64, count: u64) -> HostRange {
    HostRange::new(memory.clone(), page * PAGE_SIZE, count * PAGE_SIZE).unwrap()
}

fn map(
    guest: &KvmPartition,
    gpa: MemoryRange,
    host: &HostRange,
    access: Access,
) -> Result<(), MapError> {
    // SAFETY: the range holds a share of its reservation, and the partition of the range.
    unsafe { guest.map(gpa, host, permissions(access)) }
}

/// Asks the kernel itself: creating a slot there fails if there is one already. A success is
/// taken back.
fn kernel_has_slot_at(
    vm: &VmFd,
    gpa: MemoryRange,
    free_id: u32,
    memory: &Arc<Reservation>,
) -> bool {
    let mut region = kvm_userspace_memory_region {
        slot: free_id,
        flags: 0,
        guest_phys_addr: gpa.start(),
        memory_size: gpa.len(),
        userspace_addr: memory.base().addr().get() as u64,
    };
    // SAFETY: the memory outlives the slot, which is deleted at once, and no vCPU runs.
    let created = unsafe { vm.set_user_memory_region(region) };
    match created {
        Ok(()) => {
            region.memory_size = 0;
            // SAFETY: a deletion shows no memory to the guest.
            unsafe { vm.set_user_memory_region(region) }.unwrap();
            false
        }
        Err(error) => {
            assert_eq!(error.errno(), libc::EEXIST);
            true
        }
    }
}

#[test]
fn creates_and_deletes() {
    let Some(kvm) = kvm_for("kvm_slots::creates_and_deletes") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let guest = KvmPartition::new(vm.clone()).unwrap();
    let limit = guest.slot_limit();
    assert_eq!(limit as usize, kvm.get_nr_memslots());
    let memory = memory(8);
    let probe = |page| kernel_has_slot_at(&vm, pages(page, page + 1), limit - 1, &memory);

    map(&guest, pages(2, 4), &host(&memory, 0, 2), RW).unwrap();
    map(&guest, pages(4, 5), &host(&memory, 2, 1), RO).unwrap();
    assert_eq!([1, 2, 3, 4, 5].map(probe), [false, true, true, true, false]);
    let slots = guest.slots();
    assert_eq!((slots[0].id, slots[0].gpa), (0, pages(2, 4)));
    assert_eq!((slots[1].id, slots[1].permissions), (1, permissions(RO)));

    // KVM can't change READONLY in place, but the id of a deleted slot is free for it.
    guest.unmap(pages(2, 4)).unwrap();
    assert_eq!([2, 3, 4].map(probe), [false, false, true]);
    map(&guest, pages(2, 4), &host(&memory, 0, 2), RO).unwrap();
    assert_eq!(guest.slots()[0].id, 0);
    assert_eq!([2, 3, 4].map(probe), [true; 3]);
}

#[test]
fn refuses_duplicates_overlaps_and_partial_unmapping() {
    let Some(kvm) = kvm_for("kvm_slots::refuses_duplicates_overlaps_and_partial_unmapping") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let options = KvmOptions::new().slot_ids(10..20).name("vtl0");
    let guest = KvmPartition::with_options(vm.clone(), options).unwrap();
    let memory = memory(8);
    map(&guest, pages(2, 4), &host(&memory, 0, 2), RW).unwrap();
    let before = guest.slots();
    for gpa in [
        pages(2, 4),
        pages(1, 3),
        pages(3, 5),
        pages(1, 5),
        pages(3, 4),
    ] {
        let error = map(&guest, gpa, &host(&memory, 0, gpa.page_count()), RW).unwrap_err();
        assert!(matches!(
            error,
            MapError::Overlap { gpa: asked, existing } if asked == gpa && existing == pages(2, 4)
        ));
    }
    assert!(matches!(
        guest.unmap(pages(2, 3)),
        Err(UnmapError::Partial { existing, .. }) if existing == pages(2, 4)
    ));
    assert!(matches!(
        guest.unmap(pages(4, 6)),
        Err(UnmapError::NotMapped { .. })
    ));

    // A slot that the VMM made for itself.
    let own = kvm_userspace_memory_region {
        slot: 0,
        flags: 0,
        guest_phys_addr: 6 * PAGE_SIZE,
        memory_size: PAGE_SIZE,
        userspace_addr: memory.base().addr().get() as u64,
    };
    // SAFETY: the memory outlives the VM's vCPUs: there are none.
    unsafe { vm.set_user_memory_region(own) }.unwrap();
    let error = map(&guest, pages(5, 7), &host(&memory, 0, 2), RW).unwrap_err();
    assert!(matches!(&error, MapError::ForeignOverlap { gpa, .. } if *gpa == pages(5, 7)));
    assert_eq!(
        chain(&error),
        "gpa range 0x5000-0x7000 overlaps a slot that was not created here: \
         File exists (os error 17)"
    );

    let no_execute = Permissions {
        access: RW,
        execute: Execute::Denied,
    };
    // SAFETY: refused; and the range holds a share of its reservation.
    let refused = unsafe { guest.map(pages(8, 9), &host(&memory, 0, 1), no_execute) };
    assert_eq!(
        refused.unwrap_err().to_string(),
        "gpa range 0x8000-0x9000 denies execution, which vtl0 cannot enforce"
    );
    assert_eq!(guest.slots(), before);
    assert_eq!(before[0].id, 10);
}

#[test]
fn what_the_kernel_refuses_changes_nothing() {
    let Some(kvm) = kvm_for("kvm_slots::what_the_kernel_refuses_changes_nothing") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let guest = KvmPartition::new(vm).unwrap();
    let memory = memory(2);
    // Half of the address space belongs to the kernel: no such host address passes.
    struct Elsewhere;
    // SAFETY: not true, but the kernel looks before it maps, and nobody else uses the address.
    unsafe impl MappedRegion for Elsewhere {
        fn base(&self) -> std::ptr::NonNull<u8> {
            std::ptr::NonNull::new(std::ptr::without_provenance_mut(0xffff_8000_0000_0000)).unwrap()
        }
        fn len(&self) -> u64 {
            PAGE_SIZE
        }
    }
    let elsewhere = HostRange::new(Arc::new(Elsewhere), 0, PAGE_SIZE).unwrap();
    let error = map(&guest, pages(0, 1), &elsewhere, RW).unwrap_err();
    assert!(matches!(error, MapError::Refused { gpa, .. } if gpa == pages(0, 1)));
    assert_eq!(
        chain(&error),
        "the hypervisor refused to map gpa 0x0-0x1000: Invalid argument (os error 22)"
    );
    assert_eq!(guest.slots(), []);
    map(&guest, pages(0, 1), &host(&memory, 0, 1), RW).unwrap();
    assert_eq!(guest.slots()[0].id, 0);
}

#[test]
fn slots_of_8_tib_are_refused() {
    let Some(kvm) = kvm_for("kvm_slots::slots_of_8_tib_are_refused") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let guest = Arc::new(KvmPartition::new(vm).unwrap());
    // Addresses only. What KVM would accept is not tried: it sets gigabytes aside.
    let len = 8 << 40;
    let va = Arc::new(Reservation::new(len, Alignment::Page).unwrap());
    let whole = MemoryRange::new(0..len);
    let host = HostRange::new(va.clone(), 0, len).unwrap();
    let error = map(&guest, whole, &host, RW).unwrap_err();
    let longest = len - PAGE_SIZE;
    assert!(matches!(error, MapError::TooLong { gpa, max } if gpa == whole && max == longest));
    assert_eq!(
        error.to_string(),
        "gpa range 0x0-0x80000000000 is longer than the largest slot of 0x7fffffff000 bytes"
    );

    let mut mapper = PartitionMapper::new(guest.clone(), va, MapperOptions::new()).unwrap();
    let error = mapper.add(&slot(whole, RW)).unwrap_err();
    assert!(chain(error.as_ref()).ends_with("largest slot of 0x7fffffff000 bytes"));
    assert!(mapper.is_healthy());
    assert_eq!(guest.slots(), []);
}

#[test]
fn options_name_ids_that_exist() {
    let Some(kvm) = kvm_for("kvm_slots::options_name_ids_that_exist") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let limit = KvmPartition::new(vm.clone()).unwrap().slot_limit();
    let inverted = std::ops::Range { start: 2, end: 1 };
    for ids in [0..limit + 1, limit + 1..limit + 2, inverted] {
        let options = KvmOptions::new().slot_ids(ids.clone());
        assert!(matches!(
            KvmPartition::with_options(vm.clone(), options),
            Err(KvmError::SlotIds { ids: refused, limit: has }) if refused == ids && has == limit
        ));
    }
    let options = KvmOptions::new().slot_ids(limit - 2..limit).max_slots(1);
    let guest = KvmPartition::with_options(vm, options).unwrap();
    let memory = memory(2);
    map(&guest, pages(0, 1), &host(&memory, 0, 1), RW).unwrap();
    assert_eq!(guest.slots()[0].id, limit - 2);
    assert!(matches!(
        map(&guest, pages(1, 2), &host(&memory, 1, 1), RW),
        Err(MapError::SlotsExhausted { limit: 1, .. })
    ));
}

#[test]
fn running_out_of_real_slots_changes_nothing() {
    let Some(kvm) = kvm_for("kvm_slots::running_out_of_real_slots_changes_nothing") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let guest = Arc::new(KvmPartition::new(vm.clone()).unwrap());
    let limit = guest.slot_limit();
    let va = memory(1);
    let one = host(&va, 0, 1);
    // All but one slot, every second page, all of the same host page.
    for nth in 0..u64::from(limit) - 1 {
        map(&guest, pages(2 * nth, 2 * nth + 1), &one, RW).unwrap();
    }
    // A slot that is cut in two needs two.
    let high = 2 * u64::from(limit);
    let whole = pages(0, 3);
    let options = MapperOptions::new()
        .offset(high * PAGE_SIZE)
        .only([pages(0, 1), pages(2, 3)]);
    let mut mapper = PartitionMapper::new(guest.clone(), memory(3), options).unwrap();
    let before = guest.slots();
    let error = mapper.add(&slot(whole, RW)).unwrap_err();
    assert!(
        chain(error.as_ref()).ends_with(&format!(
            "no slot is left for gpa {}: all {limit} are in use",
            pages(high + 2, high + 3)
        )),
        "{}",
        chain(error.as_ref())
    );
    assert_eq!(guest.slots(), before);

    // With one slot less in use, it fits.
    let gone = pages(2 * 100, 2 * 100 + 1);
    guest.unmap(gone).unwrap();
    mapper.add(&slot(whole, RW)).unwrap();
    assert_eq!(guest.slots().len(), limit as usize);
    assert!(matches!(
        map(&guest, gone, &one, RW),
        Err(MapError::SlotsExhausted { .. })
    ));
    mapper.detach().unwrap();
    map(&guest, gone, &one, RW).unwrap();
    assert_eq!(guest.slots().len(), before.len());

    // Dropping it deletes them all.
    drop(guest);
    let again = KvmPartition::new(vm).unwrap();
    map(&again, pages(0, 1), &one, RW).unwrap();
    map(
        &again,
        pages(1, 2 * u64::from(limit)),
        &host(&memory(1), 0, 1),
        RW,
    )
    .unwrap_err();
    let large = memory(256);
    map(&again, pages(1, 257), &host(&large, 0, 256), RW).unwrap();
}

#[test]
fn partitions_each_have_slots_of_their_own() {
    let Some(kvm) = kvm_for("kvm_slots::partitions_each_have_slots_of_their_own") else {
        return;
    };
    let va = memory(8);
    let guests = [(); 2].map(|()| {
        let vm = Arc::new(kvm.create_vm().unwrap());
        Arc::new(KvmPartition::new(vm).unwrap())
    });
    let [low, high] = [0, 0x100].map(|page| MapperOptions::new().offset(page * PAGE_SIZE));
    let mut first = PartitionMapper::new(guests[0].clone(), va.clone(), low).unwrap();
    let mut second = PartitionMapper::new(guests[1].clone(), va.clone(), high.pinned()).unwrap();
    for mapper in [&mut first, &mut second] {
        mapper.add(&slot(pages(1, 3), RW)).unwrap();
        mapper.add(&slot(pages(3, 4), RO)).unwrap();
    }
    let [one, two] = [0, 1].map(|nth| guests[nth].slots());
    for (plain, alias) in one.iter().zip(&two) {
        assert_eq!(plain.id, alias.id);
        assert_eq!(plain.hva, alias.hva);
        assert_eq!(plain.permissions, alias.permissions);
        assert_eq!(plain.gpa.shifted(0x10_0000), Some(alias.gpa));
    }
    first.detach().unwrap();
    assert_eq!(guests[0].slots(), []);
    assert_eq!(guests[1].slots(), two);
}

#[test]
fn is_shown_by_inspection() {
    let Some(kvm) = kvm_for("kvm_slots::is_shown_by_inspection") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let options = KvmOptions::new()
        .name("vtl0")
        .max_slots(64)
        .keep_slot_zap_quirk(true);
    let guest = KvmPartition::with_options(vm, options).unwrap();
    let memory = memory(2);
    map(&guest, pages(16, 18), &host(&memory, 0, 2), RO).unwrap();
    let base = format!("{:#x}", memory.base().addr().get());
    let text = inspect::inspect(&guest).to_string().replace(&base, "BASE");
    expect_test::expect![[r#"
        kind: kvm
        name: vtl0
        read_only_slots: true
        slot_limit: 64
        slot_zap_all: kept
        slots:
          0:
            access: ro
            execute: Allowed
            flags: read-only
            gpa: 0x10000-0x12000
            hva: BASE
            id: 0
        slots_used: 1
        vcpu_pauses: no barrier"#]]
    .assert_eq(&text);
}
