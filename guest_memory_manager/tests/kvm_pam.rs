//! All thirteen PAM segments of a real VM, through every change of their visibility.

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

use guest_memory_manager::RamVisibility::{self, ReadOnly, ReadWrite, Unmapped, WriteOnly};
use guest_memory_manager::{
    DeviceMemoryControl, GuestMemoryBuilder, GuestMemoryManager, KvmPartition, MemoryLayout,
    RomImage, Vtl,
};
use kvm::kvm_for;
use kvm_ioctls::Kvm;
use memory_range::MemoryRange;
use std::sync::Arc;
use support::{memory_of, numbered_bytes, range};
use vcpu::{Code, Exit, Vcpu};

const ENTRY: u64 = 0x1000;
const PORT: u8 = 0x10;
const STATES: [RamVisibility; 4] = [Unmapped, ReadOnly, WriteOnly, ReadWrite];
/// Where the ROM lies under RAM. Under the other segments lies nothing.
const ROM: MemoryRange = MemoryRange::new(0xe_0000..0x10_0000);
/// What the ROM's pages begin with, the first of them.
const ROM_WORD: u32 = 0x4f52_0000;

/// PAM1 to PAM6 switch two segments of 16 KiB each, PAM0 switches the BIOS segment.
fn segments() -> Vec<MemoryRange> {
    let low = (0xc_0000..0xf_0000_u64).step_by(0x4000);
    low.map(|start| range(start, start + 0x4000))
        .chain([range(0xf_0000, 0x10_0000)])
        .collect()
}

/// A PC with a ROM, and what its RAM holds according to the test.
struct Pc {
    manager: GuestMemoryManager,
    vcpu: Vcpu,
    visibility: Vec<RamVisibility>,
    /// The first word of the second page of each segment.
    ram: Vec<u32>,
    _rom: DeviceMemoryControl,
    stores: u32,
}

impl Pc {
    fn new(kvm: &Kvm) -> Self {
        let layout = MemoryLayout::new(2 << 20, &[], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
        let manager = builder.build_now(&layout).unwrap();
        let vm = Arc::new(kvm.create_vm().unwrap());
        let partition = Arc::new(KvmPartition::new(vm.clone()).unwrap());
        manager
            .attach_partition_now(Vtl::Vtl0, partition, None)
            .unwrap();
        let image = RomImage::from_bytes("rom", &numbered_bytes(0x20, ROM_WORD)).unwrap();
        let mapper = manager.device_memory_mapper();
        let (mut rom, window) = mapper.new_region(ROM.len(), "rom".into()).unwrap();
        window.map(0, &image, 0, ROM.len(), false).unwrap();
        rom.map_to_guest(ROM.start(), false).unwrap();
        let memory = memory_of(&manager);
        let ram: Vec<u32> = (0x5a5a_0000..).take(segments().len()).collect();
        for (segment, word) in segments().iter().zip(&ram) {
            memory.write_plain(segment.start() + 0x1000, word).unwrap();
        }
        Self {
            vcpu: Vcpu::new(&vm, 0, ENTRY),
            visibility: vec![ReadWrite; ram.len()],
            ram,
            manager,
            _rom: rom,
            stores: 0,
        }
    }

    fn set(&mut self, nth: usize, visibility: RamVisibility) {
        let control = self.manager.ram_visibility_control();
        let segment = segments()[nth];
        control
            .set_ram_visibility_now(segment, visibility)
            .unwrap()
            .wait();
        assert_eq!(control.ram_visibility(segment).unwrap(), visibility);
        self.visibility[nth] = visibility;
    }

    /// Has the guest load, store and load in a segment, and checks what it meets.
    fn check(&mut self, nth: usize) {
        let gpa = segments()[nth].start() + 0x1000;
        let address = u32::try_from(gpa).unwrap();
        self.stores += 1;
        let stored = 0xc0de_0000 + self.stores;
        let code = Code::new()
            .load(address)
            .out(PORT)
            .store(address, stored)
            .load(address)
            .out(PORT)
            .hlt();
        memory_of(&self.manager)
            .write_at(ENTRY, code.bytes())
            .unwrap();
        self.vcpu.jump(ENTRY);

        let out = |value: u32| Exit::Out {
            port: PORT.into(),
            data: value.to_le_bytes().to_vec(),
        };
        let mmio_read = Exit::MmioRead { gpa, len: 4 };
        let mmio_write = Exit::MmioWrite {
            gpa,
            data: stored.to_le_bytes().to_vec(),
        };
        let seen = match self.visibility[nth] {
            Unmapped | WriteOnly if ROM.contains_addr(gpa) => {
                Some(ROM_WORD + u32::try_from((gpa - ROM.start()) / 0x1000).unwrap())
            }
            Unmapped | WriteOnly => None,
            _ => Some(self.ram[nth]),
        };
        let mut expected = Vec::new();
        for after_the_store in [false, true] {
            if after_the_store {
                if self.visibility[nth] == ReadWrite {
                    self.ram[nth] = stored;
                } else {
                    expected.push(mmio_write.clone());
                }
            }
            match seen {
                None => expected.extend([mmio_read.clone(), out(u32::MAX)]),
                Some(_) if after_the_store && self.visibility[nth] == ReadWrite => {
                    expected.push(out(stored));
                }
                Some(seen) => expected.push(out(seen)),
            }
        }
        expected.push(Exit::Hlt);
        for exit in expected {
            let what = format!("segment {nth} at {gpa:#x}, {:?}", self.visibility[nth]);
            assert_eq!(self.vcpu.run(), exit, "{what}");
        }

        // The VMM makes the store that the guest could not.
        let control = self.manager.ram_visibility_control();
        let made = control.write_hidden_ram(gpa, &stored.to_le_bytes());
        assert_eq!(made.is_ok(), self.visibility[nth] == WriteOnly);
        if made.is_ok() {
            self.ram[nth] = stored;
        }

        // A device sees the same.
        let memory = memory_of(&self.manager);
        let word = memory.read_plain::<u32>(gpa).ok();
        let now = match self.visibility[nth] {
            ReadWrite => Some(self.ram[nth]),
            _ => seen,
        };
        assert_eq!(word, now);
        let write = memory.write_plain(gpa, &word.unwrap_or(0));
        assert_eq!(write.is_ok(), self.visibility[nth] == ReadWrite);
    }
}

#[test]
fn every_segment_goes_through_every_transition() {
    let Some(kvm) = kvm_for("kvm_pam::every_segment_goes_through_every_transition") else {
        return;
    };
    let mut pc = Pc::new(&kvm);
    assert_eq!(segments().len(), 13);
    for nth in 0..segments().len() {
        for from in STATES {
            for to in STATES {
                pc.set(nth, from);
                pc.check(nth);
                pc.set(nth, to);
                pc.check(nth);
            }
        }
        // What was refused is not in RAM either.
        pc.set(nth, ReadWrite);
        pc.check(nth);
    }
}

#[test]
fn changing_one_segment_changes_no_other() {
    let Some(kvm) = kvm_for("kvm_pam::changing_one_segment_changes_no_other") else {
        return;
    };
    let mut pc = Pc::new(&kvm);
    let count = segments().len();
    // Steps coprime to both counts, so that all kinds of neighbours meet.
    for step in 0..52 {
        pc.set(step * 5 % count, STATES[step * 7 % 4]);
        for nth in 0..count {
            pc.check(nth);
        }
    }
}

/// Firmware turns a segment from ROM to RAM, copies itself there, and locks it.
#[test]
fn shadowing_a_rom_as_firmware_does() {
    let Some(kvm) = kvm_for("kvm_pam::shadowing_a_rom_as_firmware_does") else {
        return;
    };
    let mut pc = Pc::new(&kvm);
    let bios = segments().len() - 1;
    let gpa = segments()[bios].start();
    pc.set(bios, Unmapped);
    let memory = memory_of(&pc.manager);
    let mut copy = vec![0; 0x1_0000];
    memory.read_at(gpa, &mut copy).unwrap();
    assert_eq!(copy, numbered_bytes(0x20, ROM_WORD)[0x1_0000..]);
    pc.set(bios, ReadWrite);
    memory.write_at(gpa, &copy).unwrap();
    pc.ram[bios] = ROM_WORD + 0x11;
    pc.set(bios, ReadOnly);
    pc.check(bios);
    // The ROM below could vanish now.
    pc._rom.unmap_from_guest();
    pc.check(bios);
    assert!(memory.write_at(gpa, &[0]).is_err());
}
