//! The slots of a VM, changed by hand.

use crate::guest::{DAX, MMIO, PLACES, RAM_LEN, twelve};
use crate::hand::Hand;
use guest_memory_manager::{MemoryRange, RamVisibility};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;

/// A VM without a vCPU.
pub(crate) struct HandSlots {
    vm: VmFd,
}

impl HandSlots {
    #[cfg(feature = "kvm")]
    pub(crate) fn new(kvm: &kvm_ioctls::Kvm) -> Self {
        Self {
            vm: kvm.create_vm().unwrap(),
        }
    }

    /// Gives all RAM, in the same slots as a guest with legacy regions has.
    pub(crate) fn give_ram(&self, hand: &Hand) {
        let low = [
            0..0xa_0000,
            0xa_0000..0xc_0000,
            0xf_0000..0x10_0000,
            0x10_0000..MMIO.start(),
        ];
        let high = MMIO.end()..MMIO.end() + (RAM_LEN - MMIO.start());
        let others = low.into_iter().chain([high]).map(MemoryRange::new);
        let segments = twelve(RamVisibility::ReadWrite);
        for range in others.chain(segments.into_iter().map(|(range, _)| range)) {
            self.give(hand, range, true);
        }
    }

    /// Creates a slot.
    pub(crate) fn give(&self, hand: &Hand, range: MemoryRange, writable: bool) {
        let (addr, len) = hand.host(range);
        let flags = if writable { 0 } else { KVM_MEM_READONLY };
        self.set(range, flags, addr.addr() as u64, len as u64);
    }

    /// Deletes a slot.
    pub(crate) fn take(&self, range: MemoryRange) {
        self.set(range, 0, 0, 0);
    }

    fn set(&self, range: MemoryRange, flags: u32, userspace_addr: u64, memory_size: u64) {
        let region = kvm_userspace_memory_region {
            slot: id(range),
            flags,
            guest_phys_addr: range.start(),
            memory_size,
            userspace_addr,
        };
        // SAFETY: no vCPU runs, and the memory stays mapped as long as the VM is there.
        unsafe { self.vm.set_user_memory_region(region) }.unwrap();
    }
}

/// A number of its own for each range that is ever a slot.
fn id(range: MemoryRange) -> u32 {
    let segment = (range.start() >> 14) as u32;
    match range.start() {
        start if start == PLACES[0] => 1000,
        start if start == PLACES[1] => 1001,
        start if start == DAX[0].start() => 1002,
        start if start == MMIO.end() => 1003,
        _ => segment,
    }
}
