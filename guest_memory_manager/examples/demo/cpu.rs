//! What runs the guest: a KVM vCPU, or nothing but loads and stores.

use crate::guest::{ASK_PORT, Instruction, REPORT_PORT, STEP_PORT};
use guest_memory_manager::{GuestAccess, PartitionMemoryMap, SoftwarePartition};
use partition_mapper::MmioExit;
use std::error::Error;
use std::sync::Arc;

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the guest reaches beside memory: the VMM.
pub trait Platform {
    /// The guest executed `out`.
    fn port_write(&mut self, port: u8, value: u32) -> Outcome<()>;
    /// The guest loads from where no memory is. Returns what it gets.
    fn mmio_read(&mut self, gpa: u64) -> u32;
    /// The guest stores to where no memory is, or none that it may write.
    fn mmio_write(&mut self, gpa: u64, value: u32);
}

/// A machine with one processor, to whose memory a manager can be attached.
pub trait Machine {
    /// What the manager attaches to.
    fn partition(&self) -> Arc<dyn PartitionMemoryMap>;
    /// Runs the program, which lies in guest memory already, to its end.
    fn run(&mut self, program: &[Instruction], platform: &mut dyn Platform) -> Outcome<()>;
}

/// No processor: the program's loads and stores are made one by one.
#[derive(Default)]
pub struct SoftwareMachine {
    partition: Arc<SoftwarePartition>,
}

impl Machine for SoftwareMachine {
    fn partition(&self) -> Arc<dyn PartitionMemoryMap> {
        self.partition.clone()
    }

    fn run(&mut self, program: &[Instruction], platform: &mut dyn Platform) -> Outcome<()> {
        for instruction in program {
            match *instruction {
                Instruction::Step(step) => {
                    platform.port_write(STEP_PORT, step.into())?;
                }
                Instruction::Load(from) => {
                    let word = self.load(from, platform)?;
                    platform.port_write(REPORT_PORT, word)?;
                }
                Instruction::Store(to, value) => self.store(to, value, platform)?,
                Instruction::Copy { from, to, words } => {
                    for offset in (0..words).map(|word| word * 4) {
                        let word = self.load(from + offset, platform)?;
                        self.store(to + offset, word, platform)?;
                    }
                }
                Instruction::Ask(request) => {
                    platform.port_write(ASK_PORT, request as u32)?;
                }
                Instruction::Halt => return Ok(()),
            }
        }
        Err("the guest ran past its end".into())
    }
}

impl SoftwareMachine {
    fn load(&self, from: u32, platform: &mut dyn Platform) -> Outcome<u32> {
        let mut word = [0; 4];
        match self.partition.load(from.into(), &mut word)? {
            GuestAccess::Done => Ok(u32::from_le_bytes(word)),
            GuestAccess::Mmio(_) => Ok(platform.mmio_read(from.into())),
        }
    }

    fn store(&self, to: u32, value: u32, platform: &mut dyn Platform) -> Outcome<()> {
        match self.partition.store(to.into(), &value.to_le_bytes())? {
            GuestAccess::Done => {}
            GuestAccess::Mmio(exits) => {
                for exit in exits {
                    if let MmioExit::Write { gpa, data } = exit {
                        platform.mmio_write(gpa, little_endian(&data));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Reads up to four bytes as a number.
pub fn little_endian(bytes: &[u8]) -> u32 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, byte| value << 8 | u32::from(*byte))
}
