//! What deleting one slot does to the shadow pages of the others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/kvm.rs"]
mod kvm;
#[path = "support/native_vcpu.rs"]
mod native_vcpu;
#[path = "support/memory.rs"]
mod support;

use kvm::kvm_for;
use kvm_bindings::{
    KVM_CAP_BINARY_STATS_FD, KVM_CAP_DISABLE_QUIRKS2, KVM_X86_QUIRK_SLOT_ZAP_ALL, kvm_stats_desc,
    kvm_stats_header,
};
use kvm_ioctls::{Kvm, VcpuFd};
use memory_range::{Access, PAGE_SIZE};
use native_vcpu::{DONE, Exit, NativeVcpu, Program};
use partition_mapper::{KvmOptions, KvmPartition, MapperOptions, PartitionMapper, SlotZapAll};
use region_manager::RegionListener;
use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use support::{memory, pages, slot};

const RW: Access = Access::ReadWrite;
/// `_IO(KVMIO, 0xce)`
const KVM_GET_STATS_FD: libc::c_ulong = 0xaece;

/// The statistics of a vCPU (the kernel's `Documentation/virt/kvm/api.rst`, 4.133).
struct Stats(File);

impl Stats {
    fn of(vcpu: &VcpuFd) -> Self {
        // SAFETY: the ioctl takes no argument and returns a new descriptor.
        let fd = unsafe { libc::ioctl(vcpu.as_raw_fd(), KVM_GET_STATS_FD, 0) };
        assert!(fd >= 0, "{}", std::io::Error::last_os_error());
        // SAFETY: new, and nobody else's.
        Self(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn word(&self, at: u64) -> u32 {
        let mut bytes = [0; 4];
        self.0.read_exact_at(&mut bytes, at).unwrap();
        u32::from_le_bytes(bytes)
    }

    /// The value of this name.
    fn get(&self, name: &str) -> u64 {
        let header = |field: usize| self.word(field as u64);
        let name_size = header(std::mem::offset_of!(kvm_stats_header, name_size));
        let count = header(std::mem::offset_of!(kvm_stats_header, num_desc));
        let descriptors = header(std::mem::offset_of!(kvm_stats_header, desc_offset));
        let data = header(std::mem::offset_of!(kvm_stats_header, data_offset));
        let fixed = std::mem::offset_of!(kvm_stats_desc, name) as u64;
        for index in 0..u64::from(count) {
            let descriptor = u64::from(descriptors) + index * (fixed + u64::from(name_size));
            let mut found = vec![0; name_size as usize];
            self.0
                .read_exact_at(&mut found, descriptor + fixed)
                .unwrap();
            if found.split(|byte| *byte == 0).next() == Some(name.as_bytes()) {
                let offset = std::mem::offset_of!(kvm_stats_desc, offset) as u64;
                let offset = self.word(descriptor + offset);
                let mut bytes = [0; 8];
                self.0
                    .read_exact_at(&mut bytes, u64::from(data) + u64::from(offset))
                    .unwrap();
                return u64::from_le_bytes(bytes);
            }
        }
        panic!("no statistics of {name}");
    }
}

/// The pages that the guest touches.
const COUNT: u64 = 4096;
/// KVM prepares neighbours of a page together with it, eight at most, so that this many faults are
/// taken at least when all shadow pages are gone.
const MANY: u64 = COUNT / 8;
/// The page tables and what else is needed.
const FEW: u64 = COUNT / 64;
const FIRST: u64 = 0x200;

/// How many page faults the guest takes when it touches its pages once more, after another
/// slot was deleted and created.
fn faults_after_a_deletion(kvm: &Kvm, options: KvmOptions) -> (SlotZapAll, u64) {
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(KvmPartition::with_options(vm.clone(), options).unwrap());
    let zap = partition.slot_zap_all();
    let memory = memory(FIRST + COUNT + 1);
    let mut mapper = PartitionMapper::new(partition, memory.clone(), MapperOptions::new()).unwrap();
    mapper.add(&slot(pages(0, FIRST + COUNT), RW)).unwrap();
    let other = slot(pages(FIRST + COUNT, FIRST + COUNT + 1), RW);
    mapper.add(&other).unwrap();

    let first = FIRST * PAGE_SIZE;
    let program = Program::Sweep {
        first,
        pages: COUNT,
    };
    let mut vcpu = NativeVcpu::new(&vm, 0, &memory, program);
    let stats = Stats::of(&vcpu.fd);
    let mut sweep = |again: bool| {
        if again {
            vcpu.sweep_again(0, first, COUNT);
        }
        let before = stats.get("pf_taken");
        assert_eq!(vcpu.run(None), Exit::Out(DONE));
        stats.get("pf_taken") - before
    };
    let cold = sweep(false);
    assert!(cold >= MANY, "{cold} faults when all was new");
    let warm = sweep(true);
    assert!(warm < FEW, "{warm} faults when nothing had changed");
    mapper.remove(&other).unwrap();
    mapper.add(&other).unwrap();
    let faults = sweep(true);
    println!("quirk {zap}: {cold} faults when new, {warm} again, {faults} after a deletion");
    (zap, faults)
}

#[test]
fn deleting_a_slot_leaves_the_pages_of_others_alone() {
    let name = "kvm_slot_zap::deleting_a_slot_leaves_the_pages_of_others_alone";
    let Some(kvm) = kvm_for(name) else {
        return;
    };
    if kvm.check_extension_raw(KVM_CAP_BINARY_STATS_FD.into()) == 0 {
        kvm::skip(name, "the kernel counts no page faults of a vCPU");
        return;
    }
    let quirks = kvm.check_extension_raw(KVM_CAP_DISABLE_QUIRKS2.into());
    let available = quirks as u32 & KVM_X86_QUIRK_SLOT_ZAP_ALL != 0;

    let options = KvmOptions::new().keep_slot_zap_quirk(true);
    let (zap, faults) = faults_after_a_deletion(&kvm, options);
    assert_eq!(zap, SlotZapAll::Kept);
    assert!(faults >= MANY, "{faults}");

    let (zap, faults) = faults_after_a_deletion(&kvm, KvmOptions::new());
    if available {
        assert_eq!(zap, SlotZapAll::Disabled);
        assert!(faults < FEW, "{faults}");
    } else {
        assert_eq!(zap, SlotZapAll::NotAvailable);
    }
}
