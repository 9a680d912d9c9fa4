//! A virtual CPU in real mode whose segments reach 4 GiB, and a few instructions for it.

#![allow(dead_code, reason = "each test file uses a part of it")]

use kvm_ioctls::{VcpuExit, VcpuFd, VmFd};

/// Why the CPU stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// An `out` instruction.
    Out { port: u16, data: Vec<u8> },
    /// A load from a hole. The guest will read all ones.
    MmioRead { gpa: u64, len: usize },
    /// A store to a hole or to a read-only slot.
    MmioWrite { gpa: u64, data: Vec<u8> },
    /// A `hlt` instruction.
    Hlt,
    /// A triple fault.
    Shutdown,
    /// KVM could not go on: for one, it found no instruction to emulate.
    InternalError,
    /// Anything else.
    Other(String),
}

/// A virtual CPU.
pub(crate) struct Vcpu {
    fd: VcpuFd,
}

impl Vcpu {
    /// Makes a CPU that will begin at `entry`.
    pub(crate) fn new(vm: &VmFd, id: u64, entry: u64) -> Self {
        let fd = vm.create_vcpu(id).unwrap();
        let mut sregs = fd.get_sregs().unwrap();
        for segment in [
            &mut sregs.cs,
            &mut sregs.ds,
            &mut sregs.es,
            &mut sregs.fs,
            &mut sregs.gs,
            &mut sregs.ss,
        ] {
            segment.selector = 0;
            segment.base = 0;
            segment.limit = 0xffff_ffff;
            segment.g = 1;
        }
        fd.set_sregs(&sregs).unwrap();
        let vcpu = Self { fd };
        vcpu.jump(entry);
        vcpu
    }

    /// Goes on at `entry` the next time.
    pub(crate) fn jump(&self, entry: u64) {
        let mut regs = self.fd.get_regs().unwrap();
        regs.rip = entry;
        regs.rflags = 2;
        self.fd.set_regs(&regs).unwrap();
    }

    /// Runs until the next exit.
    pub(crate) fn run(&mut self) -> Exit {
        loop {
            return match self.fd.run() {
                Ok(VcpuExit::IoOut(port, data)) => Exit::Out {
                    port,
                    data: data.to_vec(),
                },
                Ok(VcpuExit::MmioRead(gpa, data)) => {
                    data.fill(0xff);
                    let len = data.len();
                    Exit::MmioRead { gpa, len }
                }
                Ok(VcpuExit::MmioWrite(gpa, data)) => Exit::MmioWrite {
                    gpa,
                    data: data.to_vec(),
                },
                Ok(VcpuExit::Hlt) => Exit::Hlt,
                Ok(VcpuExit::Shutdown) => Exit::Shutdown,
                Ok(VcpuExit::InternalError) => Exit::InternalError,
                Ok(VcpuExit::Intr) => continue,
                Err(error) if error.errno() == libc::EINTR => continue,
                Ok(other) => Exit::Other(format!("{other:?}")),
                Err(error) => Exit::Other(format!("KVM_RUN: {error}")),
            };
        }
    }
}

/// Machine code for [`Vcpu`], instruction by instruction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// No instruction yet.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// `mov eax, [address]`
    pub(crate) fn load(mut self, address: u32) -> Self {
        self.0.extend([0x67, 0x66, 0xa1]);
        self.0.extend(address.to_le_bytes());
        self
    }

    /// `mov eax, value`, `mov [address], eax`
    pub(crate) fn store(mut self, address: u32, value: u32) -> Self {
        self.0.extend([0x66, 0xb8]);
        self.0.extend(value.to_le_bytes());
        self.0.extend([0x67, 0x66, 0xa3]);
        self.0.extend(address.to_le_bytes());
        self
    }

    /// `out port, eax`
    pub(crate) fn out(mut self, port: u8) -> Self {
        self.0.extend([0x66, 0xe7, port]);
        self
    }

    /// `hlt`
    pub(crate) fn hlt(mut self) -> Self {
        self.0.push(0xf4);
        self
    }

    /// The bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
