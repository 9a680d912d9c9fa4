//! The barrier for vCPUs of kvm-ioctls.

mod gates;
mod options;
mod run_gate;
mod signal;
mod sync;

pub use options::KvmVcpuBarrierOptions;
pub use run_gate::RunGate;
pub use signal::BarrierSignalError;

use crate::{PauseError, PausedVcpus, VcpuBarrier};
use gates::{Failure, Gates};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::Duration;

/// Pauses vCPUs of kvm-ioctls that are run through a [`RunGate`].
///
/// To pause, it sends a signal to each thread that is inside `KVM_RUN`, and waits until all are
/// out. A vCPU in user space is not waited for; it sleeps in [`RunGate::run`] until the pause is
/// over. Who pauses sleeps, too, but looks for some microseconds before that whether all are out.
/// Pauses may overlap: the vCPUs run on after the last one.
///
/// Clones are the same barrier. Give one to [`KvmOptions::barrier`](crate::KvmOptions::barrier), and
/// run each vCPU through a gate:
///
/// ```no_run
/// use partition_mapper::{KvmOptions, KvmPartition, KvmVcpuBarrier};
/// use std::sync::Arc;
///
/// let vm = Arc::new(kvm_ioctls::Kvm::new()?.create_vm()?);
/// let barrier = KvmVcpuBarrier::new()?;
/// let options = KvmOptions::new().barrier(Arc::new(barrier.clone()));
/// let partition = KvmPartition::with_options(vm.clone(), options)?;
///
/// let mut vcpu = vm.create_vcpu(0)?;
/// let mut gate = barrier.gate(0);
/// std::thread::spawn(move || {
///     while let Ok(exit) = gate.run(&mut vcpu) {
///         // Serve the exit. Changes of the memory map may be made here, too.
///         drop(exit);
///     }
/// });
/// # drop(partition);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct KvmVcpuBarrier {
    shared: Arc<Shared>,
}

/// What a barrier and its gates share.
struct Shared {
    gates: Gates<VcpuThread>,
    signal: i32,
    deadline: Duration,
    /// How many pauses there were, failed ones included.
    pauses: AtomicU64,
}

/// Whom to kick.
struct VcpuThread {
    /// The VMM's number of the vCPU.
    number: u64,
    /// The kernel's number of the thread that ran it last.
    thread: AtomicI32,
}

impl VcpuThread {
    const fn new(number: u64) -> Self {
        Self {
            number,
            thread: AtomicI32::new(0),
        }
    }
}

impl KvmVcpuBarrier {
    /// Makes a barrier without vCPUs, and sets the handler of its signal.
    ///
    /// # Errors
    ///
    /// Somebody else uses the signal.
    pub fn new() -> Result<Self, BarrierSignalError> {
        Self::with_options(KvmVcpuBarrierOptions::new())
    }

    /// Makes a barrier without vCPUs, as the options say, and sets the handler of its signal, for
    /// the rest of the process's life.
    ///
    /// # Errors
    ///
    /// The signal is not suitable, or somebody else uses it.
    pub fn with_options(options: KvmVcpuBarrierOptions) -> Result<Self, BarrierSignalError> {
        let KvmVcpuBarrierOptions { signal, deadline } = options;
        signal::install(signal)?;
        Ok(Self {
            shared: Arc::new(Shared {
                gates: Gates::new(look()),
                signal,
                deadline,
                pauses: AtomicU64::new(0),
            }),
        })
    }

    /// Makes the gate of one vCPU. `vcpu` is the VMM's number of it, for errors and inspection.
    pub fn gate(&self, vcpu: u64) -> RunGate {
        RunGate::new(Arc::clone(&self.shared), vcpu)
    }
}

/// How long to look whether vCPUs come out, before sleeping: twice what one takes that has a
/// processor of its own. Where there is one processor for all, looking only keeps them from it.
fn look() -> Duration {
    match std::thread::available_parallelism() {
        Ok(processors) if processors.get() > 1 => Duration::from_micros(40),
        _ => Duration::ZERO,
    }
}

impl VcpuBarrier for KvmVcpuBarrier {
    fn pause(&self) -> Result<PausedVcpus, PauseError> {
        let Shared {
            gates,
            signal,
            deadline,
            pauses,
        } = &*self.shared;
        pauses.fetch_add(1, Ordering::Relaxed);
        let kick = |thread: i32| signal::send(*signal, thread);
        gates
            .pause(*deadline, |gate| {
                kick(gate.vcpu.thread.load(Ordering::Relaxed))
            })
            .map_err(|failure| match failure {
                Failure::StillInside(gate) => PauseError::StillInside {
                    vcpu: gate.vcpu.number,
                    deadline: *deadline,
                },
                Failure::Kick(gate, error) => PauseError::Kick {
                    vcpu: gate.vcpu.number,
                    source: Box::new(error),
                },
            })?;
        let shared = Arc::clone(&self.shared);
        Ok(PausedVcpus::new(move || shared.gates.resume()))
    }
}

impl inspect::Inspect for KvmVcpuBarrier {
    fn inspect(&self, req: inspect::Request<'_>) {
        let shared = &*self.shared;
        req.respond()
            .field("signal", &shared.signal)
            .field("deadline_ms", &(shared.deadline.as_millis() as u64))
            .field("pauses", &shared.pauses.load(Ordering::Relaxed))
            .field("paused", &(shared.gates.pauses() != 0))
            .child("vcpus", |req| {
                let mut response = req.respond();
                shared.gates.each(|gate| {
                    let place = match gate.is_inside() {
                        true => "inside",
                        false => "outside",
                    };
                    response.field(gate.vcpu.number.to_string(), place);
                });
            });
    }
}
