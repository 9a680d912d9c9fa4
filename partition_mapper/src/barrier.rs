//! Keeping vCPUs from running while slots are missing for a moment.

mod shared;

pub(crate) use shared::SharedBarrier;

use crate::Cause;
use std::fmt;
use std::time::Duration;
use thiserror::Error;

/// Stops all vCPUs of a partition for the moment in which a slot is deleted and created anew.
///
/// A guest whose vCPU runs meanwhile could see nothing there: a load leaves for the VMM, a
/// read-modify-write loses its write, an instruction fetch ends the run with an internal error.
///
/// Only a vCPU that is *inside* the guest needs to be stopped. One that is in user space counts as
/// stopped, the caller's own and one that waits for a lock included, as long as it cannot enter
/// the guest again before the pause ends. So a vCPU's thread may change the map from its own exit
/// handler, several at the same time.
///
/// A partition calls it at most once for a change of the map, and never again while the pause
/// holds, so an implementer need not count. It is called under the change lock of the view:
/// it must not wait for anything that a change of the map stands in the way of.
///
/// `KvmVcpuBarrier` (feature `kvm`) is one for vCPUs of kvm-ioctls.
pub trait VcpuBarrier: Send + Sync {
    /// Returns when no vCPU is inside the guest; none enters before the answer is dropped.
    ///
    /// # Errors
    ///
    /// A vCPU did not come out in time, or could not be asked to. All vCPUs run on.
    fn pause(&self) -> Result<PausedVcpus, PauseError>;
}

/// Keeps all vCPUs of a partition out of the guest until it is dropped.
#[must_use = "the vCPUs run on when this is dropped"]
pub struct PausedVcpus {
    resume: Option<Box<dyn FnOnce() + Send>>,
}

impl PausedVcpus {
    /// Makes a pause that ends with a call of `resume`, once, when it is dropped.
    pub fn new(resume: impl FnOnce() + Send + 'static) -> Self {
        Self {
            resume: Some(Box::new(resume)),
        }
    }
}

impl Drop for PausedVcpus {
    fn drop(&mut self) {
        if let Some(resume) = self.resume.take() {
            resume();
        }
    }
}

impl fmt::Debug for PausedVcpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PausedVcpus").finish_non_exhaustive()
    }
}

/// The cause for which vCPUs could not be stopped. All of them run on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PauseError {
    /// A vCPU was still inside the guest when the time was over: its thread blocks the signal, or
    /// the host gave it no processor.
    #[error("vcpu {vcpu} was still inside the guest after {deadline:?}")]
    StillInside {
        /// The number that the VMM gave the vCPU.
        vcpu: u64,
        /// How long was waited.
        deadline: Duration,
    },
    /// A vCPU could not be asked to come out.
    #[error("vcpu {vcpu} could not be asked to leave the guest")]
    Kick {
        /// The number that the VMM gave the vCPU.
        vcpu: u64,
        /// What the kernel answered.
        #[source]
        source: Cause,
    },
    /// A barrier of the VMM's own has failed.
    #[error("the vcpus could not be paused")]
    Failed {
        /// What it reported.
        #[source]
        source: Cause,
    },
}
