//! A KVM virtual machine with one vCPU in real mode.

use crate::cpu::{Machine, Outcome, Platform, little_endian};
use crate::guest::{CODE, Instruction};
use guest_memory_manager::{KvmPartition, PartitionMemoryMap};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd};
use std::sync::Arc;

/// A VM, its vCPU, and its memory slots.
pub struct KvmMachine {
    partition: Arc<KvmPartition>,
    vcpu: VcpuFd,
}

impl KvmMachine {
    /// Makes a VM whose vCPU begins at [`CODE`].
    pub fn new(kvm: &Kvm) -> Outcome<Self> {
        let vm = Arc::new(kvm.create_vm()?);
        let vcpu = vm.create_vcpu(0)?;
        // The partition keeps a share of the VM: it must be able to delete its slots.
        let partition = Arc::new(KvmPartition::new(vm)?);

        // Real mode, but with segments that begin at 0 and reach 4 GiB: the hidden part of a
        // segment register says so, and a real-mode load of the register would not change it.
        let mut sregs = vcpu.get_sregs()?;
        for segment in [
            &mut sregs.cs,
            &mut sregs.ds,
            &mut sregs.es,
            &mut sregs.ss,
            &mut sregs.fs,
            &mut sregs.gs,
        ] {
            segment.base = 0;
            segment.selector = 0;
            segment.limit = u32::MAX;
            segment.g = 1;
        }
        vcpu.set_sregs(&sregs)?;
        let mut regs = vcpu.get_regs()?;
        regs.rip = CODE.into();
        // Bit 1 of the flags is always set.
        regs.rflags = 2;
        vcpu.set_regs(&regs)?;
        Ok(Self { partition, vcpu })
    }
}

impl Machine for KvmMachine {
    fn partition(&self) -> Arc<dyn PartitionMemoryMap> {
        self.partition.clone()
    }

    fn run(&mut self, _program: &[Instruction], platform: &mut dyn Platform) -> Outcome<()> {
        loop {
            match self.vcpu.run() {
                Ok(VcpuExit::IoOut(port, data)) => {
                    let value = little_endian(data);
                    platform.port_write(u8::try_from(port)?, value)?;
                }
                Ok(VcpuExit::MmioRead(gpa, data)) => {
                    let value = platform.mmio_read(gpa).to_le_bytes();
                    for (to, from) in data.iter_mut().zip(value) {
                        *to = from;
                    }
                }
                Ok(VcpuExit::MmioWrite(gpa, data)) => {
                    let value = little_endian(data);
                    platform.mmio_write(gpa, value);
                }
                Ok(VcpuExit::Hlt) => return Ok(()),
                Ok(VcpuExit::Intr) => {}
                Err(error) if error.errno() == libc_eintr() => {}
                Ok(other) => return Err(format!("the vCPU stopped: {other:?}").into()),
                Err(error) => return Err(format!("KVM_RUN failed: {error}").into()),
            }
        }
    }
}

/// `EINTR`, without a dependency for one number.
fn libc_eintr() -> i32 {
    4
}
