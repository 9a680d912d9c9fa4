//! A VM that is gone in the middle of a change: its descriptor leads elsewhere from then on.

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
use kvm_ioctls::VmFd;
use memory_range::{Access, MemoryRange};
use partition_mapper::testing::FailingPartition;
use partition_mapper::{
    AddError, DetachError, KvmPartition, MapError, MapperOptions, PartitionMapper, RemoveError,
    SlotInfo, UnmapError,
};
use region_manager::RegionListener;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use support::{chain, memory, pages, slot};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

/// A VM's descriptor, which can be made to lead elsewhere and back.
struct Switch {
    vm: Arc<VmFd>,
    /// The VM, by another descriptor.
    real: OwnedFd,
    elsewhere: File,
}

impl Switch {
    fn new(vm: Arc<VmFd>) -> Self {
        // SAFETY: makes a descriptor.
        let real = unsafe { libc::dup(vm.as_raw_fd()) };
        assert!(real >= 0);
        Self {
            vm,
            // SAFETY: new, and nobody else's.
            real: unsafe { OwnedFd::from_raw_fd(real) },
            elsewhere: File::open("/dev/null").unwrap(),
        }
    }

    fn lead_to(&self, fd: &impl AsRawFd) {
        // SAFETY: the number stays open; what it leads to is the test's affair.
        let done = unsafe { libc::dup2(fd.as_raw_fd(), self.vm.as_raw_fd()) };
        assert_eq!(done, self.vm.as_raw_fd());
    }

    fn break_off(&self) {
        self.lead_to(&self.elsewhere);
    }

    fn mend(&self) {
        self.lead_to(&self.real);
    }
}

struct Fixture {
    switch: Arc<Switch>,
    guest: Arc<FailingPartition<KvmPartition>>,
    mapper: PartitionMapper,
}

/// A mapper that cuts a slot in two.
fn fixture(test: &str) -> Option<Fixture> {
    let kvm = kvm_for(&format!("kvm_vm_gone::{test}"))?;
    let vm = Arc::new(kvm.create_vm().unwrap());
    let switch = Arc::new(Switch::new(vm.clone()));
    let guest = Arc::new(FailingPartition::new(KvmPartition::new(vm).unwrap()));
    let options = MapperOptions::new().only([pages(0, 4), pages(8, 12)]);
    let mapper = PartitionMapper::new(guest.clone(), memory(16), options).unwrap();
    Some(Fixture {
        switch,
        guest,
        mapper,
    })
}

impl Fixture {
    /// From the call with this number on, the VM is gone.
    fn gone_from(&self, call: usize) {
        let switch = self.switch.clone();
        self.guest.fail_if(move |number, _| {
            if number == call {
                switch.break_off();
            }
            false
        });
    }

    fn back(&self) {
        self.switch.mend();
        self.guest.fail_never();
    }

    fn slots(&self) -> Vec<SlotInfo> {
        self.guest.inner().slots()
    }

    fn shown(&self) -> Vec<(MemoryRange, Access)> {
        let slots = self.slots();
        let shown = |slot: &SlotInfo| (slot.gpa, slot.permissions.access);
        slots.iter().map(shown).collect()
    }
}

const NOT_A_VM: &str = "Inappropriate ioctl for device (os error 25)";

#[test]
fn an_addition_is_taken_back_as_soon_as_the_vm_is_there() {
    let Some(mut one) = fixture("an_addition_is_taken_back_as_soon_as_the_vm_is_there") else {
        return;
    };
    let whole = slot(pages(0, 16), RW);
    one.gone_from(0);
    let error = one.mapper.add(&whole).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(AddError::Map {
            source: MapError::Refused { .. },
            ..
        })
    ));
    assert!(chain(error.as_ref()).ends_with(NOT_A_VM));
    assert_eq!(one.slots(), []);
    assert!(one.mapper.is_healthy());
    one.back();

    // Gone after the first piece: it cannot be taken back.
    one.gone_from(1);
    let error = one.mapper.add(&whole).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(AddError::NotUndone { left, .. }) if *left == pages(0, 4)
    ));
    assert_eq!(one.shown(), [(pages(0, 4), RW)]);
    assert!(!one.mapper.is_healthy());
    one.back();
    one.mapper.add(&slot(pages(0, 16), RO)).unwrap();
    assert!(one.mapper.is_healthy());
    assert_eq!(one.shown(), [(pages(0, 4), RO), (pages(8, 12), RO)]);
    one.mapper.detach().unwrap();
}

#[test]
fn a_removal_is_given_back_as_soon_as_the_vm_is_there() {
    let Some(mut one) = fixture("a_removal_is_given_back_as_soon_as_the_vm_is_there") else {
        return;
    };
    let whole = slot(pages(0, 16), RW);
    one.mapper.add(&whole).unwrap();
    let before = one.slots();
    one.gone_from(0);
    let error = one.mapper.remove(&whole).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(RemoveError::Unmap {
            source: UnmapError::Refused { .. },
            ..
        })
    ));
    assert!(chain(error.as_ref()).ends_with(NOT_A_VM));
    assert_eq!(one.slots(), before);
    one.back();

    one.gone_from(1);
    let error = one.mapper.remove(&whole).unwrap_err();
    assert!(matches!(
        error.downcast_ref(),
        Some(RemoveError::NotUndone { missing, .. }) if *missing == pages(8, 12)
    ));
    assert!(!one.mapper.is_healthy());
    one.back();
    // Any change brings it back.
    one.mapper.remove(&whole).unwrap();
    assert!(one.mapper.is_healthy());
    assert_eq!(one.slots(), []);
}

#[test]
fn a_vm_that_stays_away_keeps_its_addresses() {
    let Some(mut one) = fixture("a_vm_that_stays_away_keeps_its_addresses") else {
        return;
    };
    one.mapper.add(&slot(pages(0, 16), RW)).unwrap();
    one.switch.break_off();
    let DetachError {
        left,
        first,
        source,
        ..
    } = one.mapper.detach().unwrap_err();
    assert_eq!(left, [pages(0, 4), pages(8, 12)]);
    assert_eq!(first, pages(8, 12));
    assert!(chain(&source).ends_with(NOT_A_VM));
    one.switch.mend();
}
