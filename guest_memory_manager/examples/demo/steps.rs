//! The steps: what the guest does in each, and what must come of it.

use crate::cpu::Outcome;
use crate::guest::{Instruction, Instruction::*, Request};
use crate::vmm::{
    ALIAS, BIOS, Event, FILE_START, ROM_RESET, ROM_START, VTL2_RAM, Vmm, WINDOW_FIRST,
    WINDOW_SECOND,
};
use std::os::unix::fs::FileExt;

/// Which of the two partitions runs a step.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Runs {
    Vtl0,
    Vtl2,
}

/// One step.
pub struct Step {
    pub number: u8,
    pub title: &'static str,
    pub runs: Runs,
    pub instructions: Vec<Instruction>,
    /// What the guest must report and which exits the VMM must get, in this order.
    pub expected: Vec<Event>,
    /// What else must hold at the end of the step.
    pub checks: Vec<Check>,
}

/// Something that the VMM looks at itself.
pub struct Check {
    pub what: &'static str,
    pub expected: u32,
    pub look: fn(&Vmm) -> Outcome<u32>,
}

/// What the VMM leaves in memory for the guest, and the guest for the VMM.
pub const FROM_VMM: u32 = 0x1111_0001;
pub const FROM_GUEST: u32 = 0x2222_0002;
const FROM_VTL2: u32 = 0x3333_0003;
/// Where.
pub const VMM_WORDS: u32 = 0x7000;
const GUEST_WORD: u32 = 0x7200;
/// How many words the guest copies into shadow RAM.
pub const COPIED: u32 = 64;

const BIOS_START: u32 = BIOS.start() as u32;
const FIRST: u32 = WINDOW_FIRST as u32;
const SECOND: u32 = WINDOW_SECOND as u32;
const MIRROR: u32 = ALIAS as u32;
const VTL2: u32 = VTL2_RAM.start() as u32;
const NOTHING: Event = Event::Reported(u32::MAX);

fn mmio_read(gpa: u32) -> Event {
    Event::MmioRead { gpa: gpa.into() }
}

fn mmio_write(gpa: u32, value: u32) -> Event {
    Event::MmioWrite {
        gpa: gpa.into(),
        value,
    }
}

fn in_file(vmm: &Vmm, offset: u64) -> Outcome<u32> {
    let mut word = [0; 4];
    vmm.device_file.read_exact_at(&mut word, offset)?;
    Ok(u32::from_le_bytes(word))
}

fn in_memory(vmm: &Vmm, gpa: u32) -> Outcome<u32> {
    Ok(vmm.guest_memory.read_plain(gpa.into())?)
}

/// All the steps, those of VTL0 first.
#[rustfmt::skip]
pub fn steps() -> Vec<Step> {
    vec![
        Step {
            number: 1,
            title: "the guest reads the ROM below its BIOS segment",
            runs: Runs::Vtl0,
            instructions: vec![Load(BIOS_START), Load(BIOS_START + 0xfff0)],
            expected: vec![Event::Reported(ROM_START), Event::Reported(ROM_RESET)],
            checks: vec![Check {
                what: "the VMM reads the ROM there, too",
                expected: ROM_START,
                look: |vmm| in_memory(vmm, BIOS_START),
            }],
        },
        Step {
            number: 2,
            title: "has RAM shown instead, copies into it, and reads it back",
            runs: Runs::Vtl0,
            instructions: vec![
                Ask(Request::ShowRam),
                Load(BIOS_START),
                Copy { from: VMM_WORDS, to: BIOS_START, words: COPIED },
                Load(BIOS_START),
                Load(BIOS_START + 4 * (COPIED - 1)),
            ],
            expected: vec![
                Event::Reported(0),
                Event::Reported(FROM_VMM),
                Event::Reported(FROM_VMM + COPIED - 1),
            ],
            checks: vec![],
        },
        Step {
            number: 3,
            title: "has that RAM made read-only, and tries to write it",
            runs: Runs::Vtl0,
            instructions: vec![
                Ask(Request::ProtectRam),
                Load(BIOS_START),
                Store(BIOS_START, 0xdead_beef),
                Load(BIOS_START),
            ],
            expected: vec![
                Event::Reported(FROM_VMM),
                mmio_write(BIOS_START, 0xdead_beef),
                Event::Reported(FROM_VMM),
            ],
            checks: vec![
                Check {
                    what: "RAM has not changed",
                    expected: FROM_VMM,
                    look: |vmm| in_memory(vmm, BIOS_START),
                },
                Check {
                    what: "a device's write there is refused",
                    expected: 1,
                    look: |vmm| {
                        let write = vmm.guest_memory.write_plain(BIOS.start(), &0_u32);
                        Ok(u32::from(write.is_err()))
                    },
                },
            ],
        },
        Step {
            number: 4,
            title: "reads and writes a device's file through its window",
            runs: Runs::Vtl0,
            instructions: vec![Load(FIRST), Store(FIRST + 0x10, FROM_GUEST), Load(FIRST + 0x10)],
            expected: vec![Event::Reported(FILE_START), Event::Reported(FROM_GUEST)],
            checks: vec![Check {
                what: "the file has what the guest wrote",
                expected: FROM_GUEST,
                look: |vmm| in_file(vmm, 0x10),
            }],
        },
        Step {
            number: 5,
            title: "has the window moved, and finds nothing where it was",
            runs: Runs::Vtl0,
            instructions: vec![
                Ask(Request::MoveWindow),
                Load(FIRST),
                Store(FIRST + 0x20, 0xbad),
                Load(SECOND),
                Store(SECOND + 0x20, FROM_GUEST + 1),
            ],
            expected: vec![
                mmio_read(FIRST),
                NOTHING,
                mmio_write(FIRST + 0x20, 0xbad),
                Event::Reported(FILE_START),
            ],
            checks: vec![Check {
                what: "the file has what was written to the new place only",
                expected: FROM_GUEST + 1,
                look: |vmm| in_file(vmm, 0x20),
            }],
        },
        Step {
            number: 6,
            title: "finds what the VMM wrote, writes for the VMM, and can't see VTL2's RAM",
            runs: Runs::Vtl0,
            instructions: vec![
                Load(VMM_WORDS),
                Store(GUEST_WORD, FROM_GUEST),
                Load(VTL2),
                Halt,
            ],
            expected: vec![Event::Reported(FROM_VMM), mmio_read(VTL2), NOTHING],
            checks: vec![Check {
                what: "the VMM finds what the guest wrote",
                expected: FROM_GUEST,
                look: |vmm| in_memory(vmm, GUEST_WORD),
            }],
        },
        Step {
            number: 7,
            title: "VTL2's partition sees the same memory through the alias map, protection included",
            runs: Runs::Vtl2,
            instructions: vec![
                Load(MIRROR + GUEST_WORD),
                Load(MIRROR + BIOS_START),
                Store(MIRROR + BIOS_START, 0xbad),
                Load(MIRROR + SECOND + 0x10),
                Load(MIRROR + FIRST),
                Store(MIRROR + GUEST_WORD + 4, FROM_VTL2),
                Load(GUEST_WORD + 4),
            ],
            expected: vec![
                Event::Reported(FROM_GUEST),
                Event::Reported(FROM_VMM),
                mmio_write(MIRROR + BIOS_START, 0xbad),
                Event::Reported(FROM_GUEST),
                mmio_read(MIRROR + FIRST),
                NOTHING,
                Event::Reported(FROM_VTL2),
            ],
            checks: vec![Check {
                what: "the VMM finds what VTL2 wrote through the mirror",
                expected: FROM_VTL2,
                look: |vmm| in_memory(vmm, GUEST_WORD + 4),
            }],
        },
        Step {
            number: 8,
            title: "VTL2's partition uses its own RAM, which the mirror doesn't show",
            runs: Runs::Vtl2,
            instructions: vec![
                Store(VTL2, FROM_VTL2 + 1),
                Load(VTL2),
                Load(MIRROR + VTL2),
                Halt,
            ],
            expected: vec![
                Event::Reported(FROM_VTL2 + 1),
                mmio_read(MIRROR + VTL2),
                NOTHING,
            ],
            checks: vec![Check {
                what: "the VMM finds it there",
                expected: FROM_VTL2 + 1,
                look: |vmm| in_memory(vmm, VTL2),
            }],
        },
    ]
}

/// The program of one partition: its steps, each announced.
pub fn program(steps: &[Step], runs: Runs) -> Vec<Instruction> {
    let steps = steps.iter().filter(|step| step.runs == runs);
    steps
        .flat_map(|step| {
            std::iter::once(Instruction::Step(step.number)).chain(step.instructions.clone())
        })
        .collect()
}
