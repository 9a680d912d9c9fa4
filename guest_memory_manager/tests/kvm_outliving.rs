//! A guest that goes on running when its memory is gone.

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

use guest_memory_manager::{GuestMemoryBuilder, KvmPartition, MemoryLayout, Vtl};
use kvm::kvm_for;
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::KvmOptions;
use sparse_alloc::{Alignment, Backing, HostRange, MappedRegion, Reservation};
use std::io;
use std::sync::Arc;
use support::{memory_of, numbered, pages};
use vcpu::{Code, Exit, Vcpu};

const PORT: u8 = 0x10;
/// Where the test keeps code of its own, in a gap and in a slot of its own.
const ENTRY: u64 = 0x20_0000;
const CODE_SLOT: u32 = 100;
const RAM_WORD: u32 = 0x5000;
const WINDOW: u64 = 0x20_4000;

/// A mapping at exactly these addresses, which must be free.
struct Intruder {
    base: *mut libc::c_void,
    len: usize,
}

impl Intruder {
    fn at(base: usize, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).unwrap();
        // SAFETY: an anonymous mapping that replaces none (MAP_FIXED_NOREPLACE).
        let mapped = unsafe {
            libc::mmap(
                std::ptr::without_provenance_mut(base),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE,
                -1,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: mapped, len })
    }

    fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: mapped above for reading and writing, all zeros, and unmapped only in `drop`. No
        // slot shows it to a guest; that one does is what the test would find.
        unsafe { std::slice::from_raw_parts_mut(self.base.cast(), self.len) }
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        // SAFETY: mapped in `at` and used by nobody else.
        unsafe { libc::munmap(self.base, self.len) };
    }
}

fn out(value: u32) -> Exit {
    Exit::Out {
        port: PORT.into(),
        data: value.to_le_bytes().to_vec(),
    }
}

/// Runs the test's own code from its start: every access to the manager's memory leaves.
#[track_caller]
fn reaches_nothing(vcpu: &mut Vcpu) {
    let ram = u64::from(RAM_WORD);
    let mmio_write = |gpa, value: u32| Exit::MmioWrite {
        gpa,
        data: value.to_le_bytes().to_vec(),
    };
    vcpu.jump(ENTRY);
    let expected = [
        Exit::MmioRead { gpa: ram, len: 4 },
        out(u32::MAX),
        Exit::MmioRead {
            gpa: WINDOW,
            len: 4,
        },
        out(u32::MAX),
        mmio_write(ram, 0x6666),
        mmio_write(WINDOW, 0x7777),
        Exit::Hlt,
    ];
    for exit in expected {
        assert_eq!(vcpu.run(), exit);
    }
}

#[test]
fn a_guest_that_outlives_its_manager_reaches_none_of_its_memory() {
    let Some(kvm) =
        kvm_for("kvm_outliving::a_guest_that_outlives_its_manager_reaches_none_of_its_memory")
    else {
        return;
    };
    let gap = MemoryRange::new(0x20_0000..0x40_0000);
    let layout = MemoryLayout::new(4 << 20, &[gap], None).unwrap();
    let manager = GuestMemoryBuilder::new().build_now(&layout).unwrap();
    let vm = Arc::new(kvm.create_vm().unwrap());

    let own_code = Reservation::new(PAGE_SIZE, Alignment::Page).unwrap();
    let page = pages(0, 1);
    own_code
        .map(page, &Backing::Anonymous, 0, Access::ReadWrite)
        .unwrap();
    let own_code = Arc::new(own_code);
    let window_word = u32::try_from(WINDOW).unwrap();
    let code = Code::new()
        .load(RAM_WORD)
        .out(PORT)
        .load(window_word)
        .out(PORT)
        .store(RAM_WORD, 0x6666)
        .store(window_word, 0x7777)
        .hlt();
    let host = HostRange::new(own_code.clone(), 0, PAGE_SIZE).unwrap();
    host.write(0, code.bytes()).unwrap();
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: CODE_SLOT,
        flags: 0,
        guest_phys_addr: ENTRY,
        memory_size: PAGE_SIZE,
        userspace_addr: own_code.base().addr().get() as u64,
    };
    // SAFETY: `own_code` is dropped after the vCPU, at the end of this function.
    unsafe { vm.set_user_memory_region(region) }.unwrap();

    let mut vcpu = Vcpu::new(&vm, 0, ENTRY);
    let options = KvmOptions::new().slot_ids(0..CODE_SLOT);
    let partition = Arc::new(KvmPartition::with_options(vm.clone(), options).unwrap());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut control, window) = mapper.new_region(0x2000, "window".into()).unwrap();
    window
        .map(0, &numbered("file", 2, 0x2222), 0, 0x2000, true)
        .unwrap();
    control.map_to_guest(WINDOW, true).unwrap();
    let memory = memory_of(&manager);
    memory.write_plain(RAM_WORD.into(), &0x1111_u32).unwrap();
    // Code in the guest's memory, too: what it would fetch from there must not be somebody else's.
    memory.write_at(0x3000, Code::new().hlt().bytes()).unwrap();
    let base = memory.mapper().reservation().base().addr().get();
    let len = memory.address_space_len();

    assert_eq!([vcpu.run(), vcpu.run()], [out(0x1111), out(0x2222)]);
    assert_eq!(vcpu.run(), Exit::Hlt);
    assert_eq!(memory.read_plain::<u32>(RAM_WORD.into()).unwrap(), 0x6666);

    // The VMM closes the VM; only the vCPU is left. The handles outlive the manager, and go, too.
    drop((vm, partition));
    drop(manager);
    assert!(
        Intruder::at(base, len).is_err(),
        "reserved as long as there are handles"
    );
    // The guest has lost its memory, though the devices have not.
    assert_eq!(memory.read_plain::<u32>(RAM_WORD.into()).unwrap(), 0x6666);
    reaches_nothing(&mut vcpu);
    drop((control, window, mapper));
    drop(memory);

    let mut intruder = Intruder::at(base, len).unwrap();
    // `hlt`, wherever the guest would go on.
    intruder.bytes().fill(0xf4);
    reaches_nothing(&mut vcpu);
    reaches_nothing(&mut vcpu);
    // Fetching an instruction finds nothing either.
    vcpu.jump(0x3000);
    assert_eq!(vcpu.run(), Exit::InternalError);
    assert!(intruder.bytes().iter().all(|byte| *byte == 0xf4));
    drop(vcpu);
    drop(own_code);
}
