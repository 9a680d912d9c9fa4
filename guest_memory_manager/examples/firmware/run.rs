//! A whole run, from the first instruction to the report.

use crate::bus::Stores;
use crate::cpus::{self, Cpu, Exits};
use crate::host_bridge::PamWrite;
use crate::kick::kick;
use crate::machine::Machine;
use crate::outcome::{Failure, Outcome};
use crate::pam;
use crate::slot_counter::SlotOperations;
use guest_memory_manager::RamVisibility;
use std::thread;
use std::time::{Duration, Instant};

/// How often CPUs are asked whether they are halted for good.
const ROUND: Duration = Duration::from_millis(50);
/// How many rounds in a row must say so. An interrupt on its way between two CPUs arrives
/// meanwhile.
const ROUNDS: u32 = 3;

/// What is known after a run.
pub struct Report {
    pub outcome: Outcome,
    pub time: Duration,
    pub exits: Exits,
    pub pam_writes: Vec<PamWrite>,
    pub stores: Stores,
    pub slot_operations: SlotOperations,
    /// What the manager says of each segment.
    pub segments: [Option<RamVisibility>; pam::SEGMENTS],
    /// What the host bridge's registers say.
    pub registers: [RamVisibility; pam::SEGMENTS],
    pub tree: inspect::Node,
    /// Bytes written to the debug port.
    pub debug_bytes: u64,
}

impl Report {
    /// How many times a segment changed its state.
    pub fn transitions(&self) -> usize {
        let writes = self.pam_writes.iter();
        writes.map(|write| write.transitions.len()).sum()
    }
}

/// Runs a machine until something ends it.
pub fn run(machine: Machine) -> Result<Report, Failure> {
    let Machine {
        memory,
        bus,
        control,
        slots,
        vcpus,
        limit,
        interrupts,
        rom,
    } = machine;
    let built = slots.operations();
    let begin = Instant::now();
    let deadline = limit.and_then(|limit| begin.checked_add(limit));
    let mut threads = Vec::new();
    for (index, (fd, gate)) in vcpus.into_iter().enumerate() {
        let cpu = Cpu {
            index,
            fd,
            gate,
            bus: bus.clone(),
            control: control.clone(),
            interrupts,
            memory: memory.client().guest_memory_now(),
            visibility: memory.ram_visibility_control(),
        };
        let thread = thread::Builder::new().name(format!("cpu {index}"));
        threads.push(thread.spawn(move || cpu.run())?);
    }
    let mut halted_rounds = 0;
    while !control.wait(ROUND, deadline) {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            control.end(Outcome::Limit);
        }
        halted_rounds = if control.next_round() {
            halted_rounds + 1
        } else {
            0
        };
        if halted_rounds >= ROUNDS {
            let text = "all cpus have halted, and no interrupt can wake any of them\n";
            control.end(Outcome::Stuck(text.to_owned()));
        }
        threads.iter().for_each(kick);
    }
    let mut exits = Exits::new();
    for thread in threads {
        while !thread.is_finished() {
            kick(&thread);
            thread::sleep(Duration::from_millis(1));
        }
        let counts = thread
            .join()
            .map_err(|_| "the thread of a cpu has panicked")?;
        for (kind, count) in counts {
            *exits.entry(kind).or_default() += count;
        }
    }
    let time = begin.elapsed();
    let bus = cpus::bus(&bus);
    let visibility = memory.ram_visibility_control();
    let done = slots.operations();
    let report = Report {
        outcome: control.take().unwrap_or(Outcome::Limit),
        time,
        exits,
        pam_writes: bus.host_bridge.pam_writes().to_vec(),
        stores: bus.stores,
        slot_operations: done.since(&built),
        segments: std::array::from_fn(|index| visibility.ram_visibility(pam::segment(index)).ok()),
        registers: bus.host_bridge.states(),
        tree: inspect::inspect(&memory),
        debug_bytes: bus.debug_port.written(),
    };
    drop(rom);
    Ok(report)
}
