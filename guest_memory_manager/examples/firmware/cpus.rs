//! The virtual CPUs, each on a thread of its own.

use crate::bus::Bus;
use crate::machine::Interrupts;
use crate::outcome::{Failure, Outcome};
use crate::run_control::RunControl;
use crate::stuck::{self, InternalError};
use guest_memory_manager::{GuestMemory, RamVisibilityControl};
use kvm_bindings::{KVM_MAX_CPUID_ENTRIES, KVM_MP_STATE_HALTED, KVM_MP_STATE_UNINITIALIZED};
use kvm_ioctls::{Kvm, VcpuExit, VcpuFd, VmFd};
use partition_mapper::RunGate;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The interrupt flag.
const IF: u64 = 1 << 9;

/// Makes a CPU. The first begins at the reset vector, the others wait until they are started.
pub fn create(kvm: &Kvm, vm: &VmFd, cpu: u8, cpus: u8) -> Result<VcpuFd, Failure> {
    let vcpu = vm.create_vcpu(cpu.into())?;
    let mut cpuid = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)?;
    for entry in cpuid.as_mut_slice() {
        match entry.function {
            // The number of CPUs, and which one this is: its APIC's number.
            1 => {
                entry.ebx = entry.ebx & 0xffff | u32::from(cpus) << 16 | u32::from(cpu) << 24;
            }
            0xb => entry.edx = cpu.into(),
            _ => {}
        }
    }
    vcpu.set_cpuid2(&cpuid)?;
    Ok(vcpu)
}

/// A CPU, and what its thread needs.
pub struct Cpu {
    pub index: usize,
    pub fd: VcpuFd,
    /// The only way into the guest: closed while a change leaves a gap.
    pub gate: RunGate,
    pub bus: Arc<Mutex<Bus>>,
    pub control: Arc<RunControl>,
    pub interrupts: Interrupts,
    pub memory: GuestMemory,
    pub visibility: RamVisibilityControl,
}

/// How often a CPU left the guest, by reason.
pub type Exits = BTreeMap<&'static str, u64>;

impl Cpu {
    /// Runs until the run ends, for whatever reason. Returns the exits.
    pub fn run(mut self) -> Exits {
        let mut exits = Exits::new();
        while !self.control.ended() {
            let (kind, ends) = self.step();
            *exits.entry(kind).or_default() += 1;
            if let Some(outcome) = ends {
                self.control.end(outcome);
            }
        }
        exits
    }

    /// Runs until the next exit and answers it. Returns its kind, and how the run ends by it.
    fn step(&mut self) -> (&'static str, Option<Outcome>) {
        let why = match self.gate.run(&mut self.fd) {
            Ok(VcpuExit::IoIn(port, data)) => {
                bus(&self.bus).port_read(port, data);
                return ("port read", None);
            }
            Ok(VcpuExit::IoOut(port, data)) => {
                return ("port write", bus(&self.bus).port_write(port, data).err());
            }
            Ok(VcpuExit::MmioRead(_, data)) => {
                bus(&self.bus).memory_read(data);
                return ("memory read", None);
            }
            Ok(VcpuExit::MmioWrite(gpa, data)) => {
                return ("memory write", bus(&self.bus).memory_write(gpa, data).err());
            }
            Ok(VcpuExit::Intr) => return ("interrupted", self.interrupted()),
            Err(error) if [libc::EINTR, libc::EAGAIN].contains(&error.errno()) => {
                return ("interrupted", self.interrupted());
            }
            Ok(VcpuExit::Hlt) if self.interrupts == Interrupts::None => {
                return (
                    "halt",
                    Some(self.stuck("it has halted, and no interrupt can come", None)),
                );
            }
            Ok(VcpuExit::Hlt) => return ("halt", None),
            Ok(VcpuExit::Shutdown) => {
                return ("shutdown", Some(self.stuck("triple fault", None)));
            }
            Ok(VcpuExit::InternalError) => {
                // Also where memory has gone from under the instruction: while another CPU changes
                // it, this one is not in the guest, so it does not come back by itself.
                let error = InternalError::read(&mut self.fd);
                let ends = self.stuck("KVM_EXIT_INTERNAL_ERROR", Some(&error));
                return ("internal error", Some(ends));
            }
            Ok(other) => format!("unexpected exit {other:?}"),
            Err(error) => format!("KVM_RUN failed: {error}"),
        };
        ("other", Some(self.stuck(&why, None)))
    }

    /// Looks whether the CPU is halted for good.
    fn interrupted(&self) -> Option<Outcome> {
        let state = self.fd.get_mp_state().ok()?.mp_state;
        let deaf = self.fd.get_regs().ok()?.rflags & IF == 0;
        if state == KVM_MP_STATE_UNINITIALIZED || state == KVM_MP_STATE_HALTED && deaf {
            self.control.halted(self.index);
        }
        None
    }

    /// How the run ends if this CPU cannot go on.
    fn stuck(&self, why: &str, error: Option<&InternalError>) -> Outcome {
        Outcome::Stuck(stuck::describe(
            &self.fd,
            self.index,
            why,
            error,
            &self.memory,
            &self.visibility,
        ))
    }
}

/// The bus, also when a thread has panicked that held it: its end is on the way.
pub fn bus(bus: &Mutex<Bus>) -> MutexGuard<'_, Bus> {
    bus.lock().unwrap_or_else(PoisonError::into_inner)
}
