//! A PC: guest memory, a KVM virtual machine, and the devices.

use crate::bus::{Bus, Stores};
use crate::cmos::Cmos;
use crate::cpus;
use crate::debug_port::DebugPort;
use crate::fw_cfg::FwCfg;
use crate::host_bridge::HostBridge;
use crate::outcome::Failure;
use crate::pam;
use crate::port92::Port92;
use crate::rom::{self, Rom};
use crate::run_control::RunControl;
use crate::settings::Settings;
use crate::slot_counter::SlotCounter;
use crate::{e820, kick};
use guest_memory_manager::{
    GuestMemory, GuestMemoryBuilder, GuestMemoryManager, KvmPartition, MemoryLayout, RamVisibility,
    Vtl,
};
use kvm_bindings::{KVM_PIT_SPEAKER_DUMMY, kvm_pit_config};
use kvm_ioctls::{Kvm, VcpuFd, VmFd};
use partition_mapper::{KvmOptions, KvmVcpuBarrier, RunGate};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Where KVM may keep pages of its own for real-mode guests on some processors: between the local
/// APICs' registers and the largest ROM.
const IDENTITY_MAP: u64 = 0xfeff_c000;
const TASK_STATE: usize = 0xfeff_d000;

/// A machine that is ready to run.
pub struct Machine {
    pub memory: GuestMemoryManager,
    pub bus: Arc<Mutex<Bus>>,
    pub control: Arc<RunControl>,
    pub slots: Arc<SlotCounter>,
    /// Each with its gate.
    pub vcpus: Vec<(VcpuFd, RunGate)>,
    pub limit: Option<Duration>,
    pub interrupts: Interrupts,
    pub rom: Rom,
}

/// Who delivers interrupts.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Interrupts {
    /// KVM's interrupt controllers and timer.
    Kvm,
    /// Nobody: this KVM has none.
    None,
}

impl Machine {
    /// Builds the machine as the settings say.
    pub fn new(kvm: &Kvm, settings: Settings) -> Result<Self, Failure> {
        kick::install()?;
        let memory = build_memory(settings.mem_mib)?;
        let visibility = memory.ram_visibility_control();
        let shadow = match settings.shadow {
            Some(make) => make(&memory),
            None => Box::new(visibility.clone()),
        };
        let rom = Rom::new(&memory.device_memory_mapper(), &settings.bios)?;
        // After a reset, no segment shows RAM.
        let hidden: Vec<_> = (0..pam::SEGMENTS)
            .map(|index| (pam::segment(index), RamVisibility::Unmapped))
            .collect();
        visibility.set_several_now(&hidden)?.wait();

        let vm = Arc::new(kvm.create_vm()?);
        let interrupts = create_interrupts(&vm)?;
        let barrier = KvmVcpuBarrier::new()?;
        let vcpus = (0..settings.cpus)
            .map(|cpu| {
                let vcpu = cpus::create(kvm, &vm, cpu, settings.cpus)?;
                Ok((vcpu, barrier.gate(cpu.into())))
            })
            .collect::<Result<Vec<_>, Failure>>()?;
        // While a slot is deleted and created anew, the other CPUs wait.
        let options = KvmOptions::new().barrier(Arc::new(barrier));
        let partition = KvmPartition::with_options(vm, options)?;
        let slots = Arc::new(SlotCounter::new(partition));
        memory.attach_partition_now(Vtl::Vtl0, slots.clone(), None)?;

        let view = memory.client().guest_memory_now();
        let bus = Bus {
            debug_port: DebugPort::new(settings.out, settings.until.as_deref()),
            cmos: cmos(&memory, settings.cpus),
            port92: Port92::default(),
            fw_cfg: fw_cfg(settings.entries, settings.e820, &memory, view.clone())?,
            host_bridge: HostBridge::new(shadow),
            memory: view,
            visibility,
            stores: Stores::default(),
            trace: settings.trace,
        };
        Ok(Self {
            memory,
            bus: Arc::new(Mutex::new(bus)),
            control: Arc::new(RunControl::new(settings.cpus)),
            slots,
            vcpus,
            limit: settings.limit,
            interrupts,
            rom,
        })
    }
}

fn build_memory(mem_mib: u64) -> Result<GuestMemoryManager, Failure> {
    let ram = mem_mib
        .checked_mul(1 << 20)
        .ok_or("so much RAM has no size in bytes")?;
    let layout = MemoryLayout::new(ram, &[rom::GAP], None)?;
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    Ok(builder.build_now(&layout)?)
}

fn create_interrupts(vm: &VmFd) -> Result<Interrupts, Failure> {
    // Where a processor needs none of them, KVM takes them all the same.
    vm.set_identity_map_address(IDENTITY_MAP)?;
    vm.set_tss_address(TASK_STATE)?;
    if vm.create_irq_chip().is_err() {
        return Ok(Interrupts::None);
    }
    vm.create_pit2(kvm_pit_config {
        // Port 0x61, by which firmware reads the timer's second channel.
        flags: KVM_PIT_SPEAKER_DUMMY,
        ..kvm_pit_config::default()
    })?;
    Ok(Interrupts::Kvm)
}

fn cmos(memory: &GuestMemoryManager, cpus: u8) -> Cmos {
    let (mut below, mut above) = (0, 0);
    for range in memory.layout().ram() {
        match range.start() < 1 << 32 {
            true => below += range.len(),
            false => above += range.len(),
        }
    }
    Cmos::new(below, above, cpus)
}

fn fw_cfg(
    mut entries: crate::fw_cfg::Entries,
    e820: bool,
    memory: &GuestMemoryManager,
    view: GuestMemory,
) -> Result<FwCfg, Failure> {
    if e820 {
        entries.add_file("etc/e820", e820::encode(memory.layout().ram()))?;
    }
    Ok(FwCfg::new(entries, view))
}
