//! Runs the guest, and compares what it saw with what must be.

use crate::cpu::{Machine, Outcome, Platform, SoftwareMachine};
use crate::guest::{self, CODE, Request, STEP_PORT};
use crate::steps::{self, COPIED, FROM_VMM, Runs, Step, VMM_WORDS};
use crate::vmm::{Event, Vmm};
use guest_memory_manager::Vtl;
use inspect::live::{self, LiveServer};
use std::path::Path;
use std::time::Instant;

/// What runs the guest.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// Two KVM virtual machines.
    Kvm,
    /// Two software partitions.
    Software,
}

impl Backend {
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Software => "software",
        }
    }
}

/// A step and what came of it.
pub struct StepResult {
    pub number: u8,
    pub title: &'static str,
    pub expected: Vec<Event>,
    pub events: Vec<Event>,
    /// What was changed, and how many microseconds it took.
    pub changes: Vec<(&'static str, f64)>,
    /// What, what it should be, what it is.
    pub checks: Vec<(&'static str, u32, u32)>,
}

impl StepResult {
    pub fn ok(&self) -> bool {
        let checks = self
            .checks
            .iter()
            .all(|(_, expected, found)| expected == found);
        checks && self.events == self.expected
    }
}

/// What came of all steps.
pub struct DemoResult {
    pub backend: Backend,
    pub build_us: f64,
    pub steps: Vec<StepResult>,
    pub tree: inspect::Node,
    /// Keeps the guest's memory as the tree shows it.
    _vmm: Vmm,
    /// Answers who looks into this process, where that was asked for.
    _server: Option<LiveServer>,
}

impl DemoResult {
    pub fn ok(&self) -> bool {
        self.steps.iter().all(StepResult::ok)
    }
}

/// Runs every step. `ignores` is a request that the VMM forgets; at `socket` the tree of guest memory
/// can be looked at while the guest runs, and until the result is dropped.
pub async fn run(
    backend: Backend,
    ignores: Option<Request>,
    socket: Option<&Path>,
) -> Outcome<DemoResult> {
    let start = Instant::now();
    let mut vmm = Vmm::build().await?;
    let build_us = start.elapsed().as_secs_f64() * 1e6;
    vmm.ignores = ignores;
    let server = socket.map(|socket| live::serve(socket, vmm.memory.clone()));
    let server = server.transpose()?;
    let [mut vtl0, mut vtl2] = machines(backend)?;
    vmm.memory
        .attach_partition(Vtl::Vtl0, &vtl0.partition(), None)
        .await?;
    vmm.memory
        .attach_partition(Vtl::Vtl2, &vtl2.partition(), None)
        .await?;

    // What the VMM leaves for the guest.
    for index in 0..COPIED {
        let gpa = u64::from(VMM_WORDS + 4 * index);
        vmm.guest_memory.write_plain(gpa, &(FROM_VMM + index))?;
    }
    let mut judge = Judge {
        vmm,
        steps: steps::steps(),
        current: None,
        results: Vec::new(),
    };
    for (machine, runs) in [(&mut vtl0, Runs::Vtl0), (&mut vtl2, Runs::Vtl2)] {
        let program = steps::program(&judge.steps, runs);
        let code = guest::machine_code(&program);
        judge.vmm.guest_memory.write_at(CODE.into(), &code)?;
        machine.run(&program, &mut judge)?;
        judge.finish()?;
    }
    let ran = judge.results.len();
    if ran != judge.steps.len() {
        return Err(format!("the guests made {ran} steps of {}", judge.steps.len()).into());
    }
    Ok(DemoResult {
        backend,
        build_us,
        steps: judge.results,
        tree: inspect::inspect(&*judge.vmm.memory),
        _vmm: judge.vmm,
        _server: server,
    })
}

/// Stands between the guest and the VMM: ends each step where the next one begins, and compares
/// what happened with what must.
struct Judge {
    vmm: Vmm,
    steps: Vec<Step>,
    current: Option<u8>,
    results: Vec<StepResult>,
}

impl Judge {
    /// Ends the step that the guest is in.
    fn finish(&mut self) -> Outcome<()> {
        let log = std::mem::take(&mut self.vmm.log);
        let Some(number) = self.current.take() else {
            return Ok(());
        };
        let found = self.steps.iter().find(|step| step.number == number);
        let step = found.ok_or_else(|| format!("there is no step {number}"))?;
        let checks = step.checks.iter().map(|check| {
            let found = (check.look)(&self.vmm)?;
            Ok((check.what, check.expected, found))
        });
        let changes = log.changes.iter();
        self.results.push(StepResult {
            number,
            title: step.title,
            expected: step.expected.clone(),
            events: log.events,
            changes: changes
                .map(|change| (change.what, change.took.as_secs_f64() * 1e6))
                .collect(),
            checks: checks.collect::<Outcome<_>>()?,
        });
        Ok(())
    }
}

impl Platform for Judge {
    fn port_write(&mut self, port: u8, value: u32) -> Outcome<()> {
        if port != STEP_PORT {
            return self.vmm.port_write(port, value);
        }
        self.finish()?;
        self.current = Some(u8::try_from(value)?);
        Ok(())
    }

    fn mmio_read(&mut self, gpa: u64) -> u32 {
        self.vmm.mmio_read(gpa)
    }

    fn mmio_write(&mut self, gpa: u64, value: u32) {
        self.vmm.mmio_write(gpa, value);
    }
}

#[cfg(feature = "kvm")]
fn machines(backend: Backend) -> Outcome<[Box<dyn Machine>; 2]> {
    use crate::kvm::KvmMachine;
    Ok(match backend {
        Backend::Kvm => {
            let kvm = kvm_ioctls::Kvm::new()?;
            [
                Box::new(KvmMachine::new(&kvm)?),
                Box::new(KvmMachine::new(&kvm)?),
            ]
        }
        Backend::Software => software(),
    })
}

#[cfg(not(feature = "kvm"))]
fn machines(backend: Backend) -> Outcome<[Box<dyn Machine>; 2]> {
    match backend {
        Backend::Kvm => Err("this was built without the feature `kvm`".into()),
        Backend::Software => Ok(software()),
    }
}

fn software() -> [Box<dyn Machine>; 2] {
    [
        Box::new(SoftwareMachine::default()),
        Box::new(SoftwareMachine::default()),
    ]
}
