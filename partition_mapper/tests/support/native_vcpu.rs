//! A virtual CPU in long mode at privilege level 3, whose code the processor runs natively even
//! where KVM has to shadow the guest's page tables.

#![allow(dead_code, reason = "each test file uses a part of it")]

use kvm_bindings::kvm_segment;
use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};
use memory_range::{MemoryRange, PAGE_SIZE};
use partition_mapper::RunGate;
use sparse_alloc::{HostRange, Reservation};
use std::sync::Arc;

/// Where the code begins.
const ENTRY: u64 = 0x1000;
/// Page tables: one page for each of three levels.
const TABLES: u64 = 0x2000;
/// The guest stops when this 32-bit word is not zero.
pub(crate) const STOP: u64 = 0x5000;
/// Words that the guest may write, beside those in the ranges that are tested.
pub(crate) const OWN: u64 = 0x6000;
/// What a guest must have mapped, writable, to run at all.
pub(crate) fn low() -> MemoryRange {
    MemoryRange::new(0..8 * PAGE_SIZE)
}

/// The guest has finished.
pub(crate) const DONE: u16 = 0x10;
/// The guest has read another value than it should.
pub(crate) const WRONG: u16 = 0x11;
/// The guest asks for whatever the test does here.
pub(crate) const CALL: u16 = 0x12;

/// Why the CPU stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// `out` to this port.
    Out(u16),
    /// What no guest here does if its memory is as it should be: an access to a hole or a store
    /// to a read-only slot, a fetch from a hole, a fault of the host's.
    Stray(String),
    /// `KVM_RUN` was interrupted.
    Interrupted,
}

/// What the guest does in a loop.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Program {
    /// Reads a word at `read`, which must be `value`, adds one to the word at `count` and to RCX;
    /// stops when told to.
    Watch { read: u64, value: u64, count: u64 },
    /// Adds one to two words and to RCX; calls after every 1,024 rounds.
    CountAndCall { words: [u64; 2] },
    /// Adds one to the first word of each of so many pages, once; then it is done.
    Sweep { first: u64, pages: u64 },
}

impl Program {
    /// Instruction by instruction.
    fn code(self) -> Vec<u8> {
        let watch: &[&[u8]] = &[
            &[0x48, 0x8b, 0x06],       // 00 mov rax, [rsi]
            &[0x48, 0x39, 0xd8],       // 03 cmp rax, rbx
            &[0x75, 0x10],             // 06 jne 18
            &[0x48, 0xff, 0x07],       // 08 inc qword [rdi]
            &[0x48, 0xff, 0xc1],       // 0b inc rcx
            &[0x41, 0x83, 0x38, 0x00], // 0e cmp dword [r8], 0
            &[0x74, 0xec],             // 12 je 00
            &[0xe6, DONE as u8],       // 14 out DONE, al
            &[0xeb, 0xe8],             // 16 jmp 00
            &[0xe6, WRONG as u8],      // 18 out WRONG, al
            &[0xeb, 0xe4],             // 1a jmp 00
        ];
        let count_and_call: &[&[u8]] = &[
            &[0x48, 0xff, 0x07],             // 00 inc qword [rdi]
            &[0x48, 0xff, 0x06],             // 03 inc qword [rsi]
            &[0x48, 0xff, 0xc1],             // 06 inc rcx
            &[0x66, 0xf7, 0xc1, 0xff, 0x03], // 09 test cx, 1023
            &[0x75, 0xf0],                   // 0e jne 00
            &[0xe6, CALL as u8],             // 10 out CALL, al
            &[0xeb, 0xec],                   // 12 jmp 00
        ];
        let sweep: &[&[u8]] = &[
            &[0x48, 0xff, 0x07],                         // 00 inc qword [rdi]
            &[0x48, 0x81, 0xc7, 0x00, 0x10, 0x00, 0x00], // 03 add rdi, 4096
            &[0x48, 0xff, 0xc9],                         // 0a dec rcx
            &[0x75, 0xf1],                               // 0d jne 00
            &[0xe6, DONE as u8],                         // 0f out DONE, al
        ];
        match self {
            Self::Watch { .. } => watch,
            Self::CountAndCall { .. } => count_and_call,
            Self::Sweep { .. } => sweep,
        }
        .concat()
    }
}

/// A virtual CPU.
pub(crate) struct NativeVcpu {
    pub(crate) fd: VcpuFd,
}

impl NativeVcpu {
    /// Makes a CPU that will run the program. `memory` is what the guest sees from GPA 0 on; its
    /// first pages are the test kit's. CPUs of one VM may run different programs.
    pub(crate) fn new(vm: &VmFd, number: u64, memory: &Arc<Reservation>, program: Program) -> Self {
        // Identical addresses for the first GiB, in pages of 2 MiB, for everyone.
        poke(memory, TABLES, TABLES + 0x1000 + 7);
        poke(memory, TABLES + 0x1000, TABLES + 0x2000 + 7);
        for entry in 0..512 {
            poke(memory, TABLES + 0x2000 + entry * 8, (entry << 21) + 0x87);
        }
        let entry = ENTRY + number * 0x100;
        host(memory, entry, 0x100)
            .write(0, &program.code())
            .unwrap();

        let fd = vm.create_vcpu(number).unwrap();
        let mut sregs = fd.get_sregs().unwrap();
        let data = kvm_segment {
            base: 0,
            limit: u32::MAX,
            selector: 0x2b,
            type_: 3,
            present: 1,
            dpl: 3,
            db: 1,
            s: 1,
            g: 1,
            ..kvm_segment::default()
        };
        for segment in [
            &mut sregs.ds,
            &mut sregs.es,
            &mut sregs.fs,
            &mut sregs.gs,
            &mut sregs.ss,
        ] {
            *segment = data;
        }
        sregs.cs = kvm_segment {
            selector: 0x33,
            type_: 11,
            db: 0,
            l: 1,
            ..data
        };
        // Protection, paging; physical address extension; long mode, active.
        sregs.cr0 = 0x8000_0031;
        sregs.cr3 = TABLES;
        sregs.cr4 = 0x20;
        sregs.efer = 0x500;
        fd.set_sregs(&sregs).unwrap();

        let mut regs = fd.get_regs().unwrap();
        regs.rip = entry;
        // I/O privilege level 3.
        regs.rflags = 0x3002;
        regs.rcx = 0;
        regs.r8 = STOP;
        match program {
            Program::Watch { read, value, count } => {
                (regs.rsi, regs.rbx, regs.rdi) = (read, value, count);
            }
            Program::CountAndCall { words } => [regs.rdi, regs.rsi] = words,
            Program::Sweep { first, pages } => (regs.rdi, regs.rcx) = (first, pages),
        }
        fd.set_regs(&regs).unwrap();
        Self { fd }
    }

    /// Begins another sweep.
    pub(crate) fn sweep_again(&mut self, number: u64, first: u64, pages: u64) {
        let mut regs = self.fd.get_regs().unwrap();
        regs.rip = ENTRY + number * 0x100;
        (regs.rdi, regs.rcx) = (first, pages);
        self.fd.set_regs(&regs).unwrap();
    }

    /// Runs until the next exit, through a gate if there is one.
    pub(crate) fn run(&mut self, gate: Option<&mut RunGate>) -> Exit {
        let exit = match gate {
            Some(gate) => gate.run(&mut self.fd),
            None => self.fd.run(),
        };
        match exit {
            Ok(VcpuExit::IoOut(port, _)) => Exit::Out(port),
            Ok(VcpuExit::MmioRead(gpa, data)) => {
                data.fill(0xff);
                Exit::Stray(format!("read of {gpa:#x}"))
            }
            Ok(other) => Exit::Stray(format!("{other:x?}")),
            Err(error) if error.errno() == libc::EINTR => Exit::Interrupted,
            Err(error) => Exit::Stray(format!("KVM_RUN: {error}")),
        }
    }

    /// How many rounds the guest has made.
    pub(crate) fn rounds(&self) -> u64 {
        self.fd.get_regs().unwrap().rcx
    }
}

fn host(memory: &Arc<Reservation>, at: u64, len: u64) -> HostRange {
    HostRange::new(memory.clone(), at, len).unwrap()
}

/// Writes a word.
pub(crate) fn poke(memory: &Arc<Reservation>, at: u64, word: u64) {
    host(memory, at, 8).write(0, &word.to_le_bytes()).unwrap();
}

/// Reads a word.
pub(crate) fn peek(memory: &Arc<Reservation>, at: u64) -> u64 {
    let mut bytes = [0; 8];
    host(memory, at, 8).read(0, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}
