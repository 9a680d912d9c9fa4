//! What a guest sees through the slots of a real VM.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/kvm.rs"]
mod kvm;
#[path = "support/memory.rs"]
mod support;
#[path = "support/vcpu.rs"]
mod vcpu;

use kvm::kvm_for;
use kvm_ioctls::Kvm;
use memory_range::{Access, PAGE_SIZE};
use partition_mapper::testing::FailingPartition;
use partition_mapper::{
    KvmOptions, KvmPartition, MapperOptions, PartitionMapper, PartitionMemoryMap,
};
use region_manager::RegionListener;
use sparse_alloc::{Backing, HostRange, MappedRegion, Reservation};
use std::io;
use std::sync::Arc;
use support::{memory, pages, permissions, slot};
use vcpu::{Code, Exit, Vcpu};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
/// Where code lies: page 1.
const ENTRY: u64 = 0x1000;
const PORT: u8 = 0x10;

fn out(value: u32) -> Exit {
    Exit::Out {
        port: PORT.into(),
        data: value.to_le_bytes().to_vec(),
    }
}

fn poke(memory: &Arc<Reservation>, at: u64, bytes: &[u8]) {
    HostRange::new(memory.clone(), at, bytes.len() as u64)
        .unwrap()
        .write(0, bytes)
        .unwrap();
}

fn peek(memory: &Arc<Reservation>, at: u64) -> u32 {
    let mut bytes = [0; 4];
    HostRange::new(memory.clone(), at, 4)
        .unwrap()
        .read(0, &mut bytes)
        .unwrap();
    u32::from_le_bytes(bytes)
}

#[test]
fn a_guest_loads_and_stores_through_slots() {
    let Some(kvm) = kvm_for("kvm_guest::a_guest_loads_and_stores_through_slots") else {
        return;
    };
    let vm = Arc::new(kvm.create_vm().unwrap());
    let guest = Arc::new(KvmPartition::new(vm.clone()).unwrap());
    let va = memory(16);
    let mut mapper = PartitionMapper::new(guest, va.clone(), MapperOptions::new()).unwrap();
    mapper.add(&slot(pages(1, 3), RW)).unwrap();
    mapper.add(&slot(pages(3, 4), RO)).unwrap();
    poke(&va, 0x2000, &0x1111_2222u32.to_le_bytes());
    poke(&va, 0x3000, &0x3333_4444u32.to_le_bytes());
    poke(&va, 0x8000, &0x5555_6666u32.to_le_bytes());
    let code = Code::new()
        .load(0x2000)
        .out(PORT)
        .store(0x2000, 0xcafe_f00d)
        .load(0x2000)
        .out(PORT)
        // Read-only: loads reach it, stores leave.
        .load(0x3000)
        .out(PORT)
        .store(0x3000, 0xdead_beef)
        .load(0x3000)
        .out(PORT)
        // A hole, although the process has memory there.
        .load(0x8000)
        .out(PORT)
        .store(0x8000, 0x7777_8888)
        .hlt();
    poke(&va, ENTRY, code.bytes());
    let mut vcpu = Vcpu::new(&vm, 0, ENTRY);
    let expected = [
        out(0x1111_2222),
        out(0xcafe_f00d),
        out(0x3333_4444),
        Exit::MmioWrite {
            gpa: 0x3000,
            data: 0xdead_beefu32.to_le_bytes().to_vec(),
        },
        out(0x3333_4444),
        Exit::MmioRead {
            gpa: 0x8000,
            len: 4,
        },
        out(0xffff_ffff),
        Exit::MmioWrite {
            gpa: 0x8000,
            data: 0x7777_8888u32.to_le_bytes().to_vec(),
        },
        Exit::Hlt,
    ];
    for exit in expected {
        assert_eq!(vcpu.run(), exit);
    }
    assert_eq!(
        [0x2000, 0x3000, 0x8000].map(|at| peek(&va, at)),
        [0xcafe_f00d, 0x3333_4444, 0x5555_6666]
    );

    // A change of permission, while the guest stands still.
    mapper.remove(&slot(pages(3, 4), RO)).unwrap();
    mapper.add(&slot(pages(3, 4), RW)).unwrap();
    // Other memory under a slot that stays.
    va.map(pages(2, 3), &Backing::Anonymous, 0, RW).unwrap();
    mapper.contents_replaced(pages(2, 3)).unwrap();
    vcpu.jump(ENTRY);
    assert_eq!(vcpu.run(), out(0));
    assert_eq!(vcpu.run(), out(0xcafe_f00d));
    assert_eq!(vcpu.run(), out(0x3333_4444));
    assert_eq!(vcpu.run(), out(0xdead_beef));
}

#[test]
fn a_second_partition_sees_the_same_memory_at_an_offset() {
    let Some(kvm) = kvm_for("kvm_guest::a_second_partition_sees_the_same_memory_at_an_offset")
    else {
        return;
    };
    let va = memory(16);
    let vms = [(); 2].map(|()| Arc::new(kvm.create_vm().unwrap()));
    let [plain, alias] = [0, 1].map(|nth| Arc::new(KvmPartition::new(vms[nth].clone()).unwrap()));
    let all = slot(pages(0, 16), RW);
    let mut plain = PartitionMapper::new(plain, va.clone(), MapperOptions::new()).unwrap();
    plain.add(&all).unwrap();
    // The alias, and below it only the page with the code.
    let options = MapperOptions::new().offset(0x8000_0000);
    let mut high = PartitionMapper::new(alias.clone(), va.clone(), options).unwrap();
    high.add(&all).unwrap();
    let options = MapperOptions::new().only([pages(1, 2)]);
    let mut low = PartitionMapper::new(alias, va.clone(), options).unwrap();
    low.add(&all).unwrap();

    let code = Code::new()
        .store(0x5000, 0x1234_5678)
        .load(0x8000_5000)
        .out(PORT)
        .hlt();
    poke(&va, ENTRY, code.bytes());
    let mut writer = Vcpu::new(&vms[0], 0, ENTRY);
    assert_eq!(
        writer.run(),
        Exit::MmioRead {
            gpa: 0x8000_5000,
            len: 4
        }
    );
    assert_eq!(peek(&va, 0x5000), 0x1234_5678);
    poke(&va, 0x5000, &0x9abc_def0u32.to_le_bytes());
    let mut reader = Vcpu::new(&vms[1], 0, ENTRY);
    assert_eq!(
        reader.run(),
        Exit::MmioWrite {
            gpa: 0x5000,
            data: 0x1234_5678u32.to_le_bytes().to_vec()
        }
    );
    assert_eq!(reader.run(), out(0x9abc_def0));
}

/// Id of the slot that holds the code, which the tests below keep out of the mapper's hands.
const CODE_SLOT: u32 = 100;

/// A VM with its code in a slot of its own, and a vCPU. The code loads and stores at 0x5000.
struct Outliving {
    vcpu: Vcpu,
    partition: KvmPartition,
    code: Arc<Reservation>,
}

fn outliving(kvm: &Kvm) -> Outliving {
    let vm = Arc::new(kvm.create_vm().unwrap());
    let code = memory(1);
    let bytes = Code::new()
        .load(0x5000)
        .out(PORT)
        .store(0x5000, 0x6666_6666)
        .hlt();
    poke(&code, 0, bytes.bytes());
    let region = kvm_bindings::kvm_userspace_memory_region {
        slot: CODE_SLOT,
        flags: 0,
        guest_phys_addr: ENTRY,
        memory_size: PAGE_SIZE,
        userspace_addr: code.base().addr().get() as u64,
    };
    // SAFETY: the memory lives as long as the vCPU, in one struct.
    unsafe { vm.set_user_memory_region(region) }.unwrap();
    let vcpu = Vcpu::new(&vm, 0, ENTRY);
    let options = KvmOptions::new().slot_ids(0..CODE_SLOT);
    // The VM's file descriptor goes into the partition, and nobody else has it.
    let partition = KvmPartition::with_options(vm, options).unwrap();
    Outliving {
        vcpu,
        partition,
        code,
    }
}

/// A mapping at exactly these addresses, which must be free.
struct Intruder {
    base: *mut libc::c_void,
    len: usize,
}

impl Intruder {
    fn at(base: usize, len: u64) -> io::Result<Self> {
        let len = len as usize;
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

#[test]
fn a_guest_that_outlives_its_mapper_reaches_none_of_its_memory() {
    let Some(kvm) =
        kvm_for("kvm_guest::a_guest_that_outlives_its_mapper_reaches_none_of_its_memory")
    else {
        return;
    };
    // The mapper goes first, or the partition does and takes its slots with it.
    for whole_partition in [false, true] {
        let Outliving {
            mut vcpu,
            partition,
            code,
        } = outliving(&kvm);
        let va = memory(16);
        let base = va.base().addr().get();
        poke(&va, 0x5000, &0x2222_2222u32.to_le_bytes());
        if whole_partition {
            let host = HostRange::new(va.clone(), 0x4000, 0x4000).unwrap();
            // SAFETY: the partition, dropped below, is dropped before the reservation.
            unsafe { partition.map(pages(4, 8), &host, permissions(RW)) }.unwrap();
            drop(host);
            assert_eq!(vcpu.run(), out(0x2222_2222));
            drop(partition);
        } else {
            let partition = Arc::new(partition);
            let mut mapper =
                PartitionMapper::new(partition, va.clone(), MapperOptions::new()).unwrap();
            mapper.add(&slot(pages(4, 8), RW)).unwrap();
            assert_eq!(vcpu.run(), out(0x2222_2222));
            drop(mapper);
        }
        drop(va);

        let mut intruder = Intruder::at(base, 16 * PAGE_SIZE).unwrap();
        intruder.bytes().fill(0x5a);
        let store = Exit::MmioWrite {
            gpa: 0x5000,
            data: 0x6666_6666u32.to_le_bytes().to_vec(),
        };
        assert_eq!(vcpu.run(), store);
        assert_eq!(vcpu.run(), Exit::Hlt);
        vcpu.jump(ENTRY);
        assert_eq!(
            vcpu.run(),
            Exit::MmioRead {
                gpa: 0x5000,
                len: 4
            }
        );
        assert_eq!(vcpu.run(), out(0xffff_ffff));
        assert_eq!(vcpu.run(), store);
        assert!(intruder.bytes().iter().all(|byte| *byte == 0x5a));
        drop(vcpu);
        drop(code);
    }
}

#[test]
fn addresses_of_a_slot_that_cannot_be_deleted_stay_reserved() {
    let Some(kvm) = kvm_for("kvm_guest::addresses_of_a_slot_that_cannot_be_deleted_stay_reserved")
    else {
        return;
    };
    let Outliving {
        mut vcpu,
        partition,
        code,
    } = outliving(&kvm);
    let partition = Arc::new(FailingPartition::new(partition));
    let va = memory(16);
    let base = va.base().addr().get();
    poke(&va, 0x5000, &0x2222_2222u32.to_le_bytes());
    let mut mapper = PartitionMapper::new(partition.clone(), va, MapperOptions::new()).unwrap();
    mapper.add(&slot(pages(4, 8), RW)).unwrap();
    partition.fail_unmaps();
    let error = mapper.detach().unwrap_err();
    assert_eq!((error.hva, error.leaked), (base as u64, 16 * PAGE_SIZE));
    assert_eq!(error.left, [pages(4, 8)]);

    // The guest runs on in memory that nobody else can get.
    assert_eq!(vcpu.run(), out(0x2222_2222));
    assert_eq!(vcpu.run(), Exit::Hlt);
    let taken = Intruder::at(base, 16 * PAGE_SIZE).err().unwrap();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);

    // The partition deletes the slot when it goes. The addresses are lost all the same.
    drop(partition);
    vcpu.jump(ENTRY);
    assert!(matches!(vcpu.run(), Exit::MmioRead { gpa: 0x5000, .. }));
    let taken = Intruder::at(base + 4 * PAGE_SIZE as usize, PAGE_SIZE)
        .err()
        .unwrap();
    assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
    drop(vcpu);
    drop(code);
}
