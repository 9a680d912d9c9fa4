//! How vCPUs are brought out of the guest.

use std::time::Duration;

/// Says how a [`KvmVcpuBarrier`](super::KvmVcpuBarrier) brings vCPUs out of the guest. The
/// default: with the signal `SIGRTMIN` + 9, and within five seconds.
#[derive(Clone, Debug)]
pub struct KvmVcpuBarrierOptions {
    pub(super) signal: i32,
    pub(super) deadline: Duration,
}

impl KvmVcpuBarrierOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            signal: libc::SIGRTMIN().saturating_add(9),
            deadline: Duration::from_secs(5),
        }
    }

    /// Uses this signal: `SIGUSR1`, `SIGUSR2` or a real-time signal. Barriers may share one; nobody
    /// else may use it.
    #[must_use]
    pub const fn signal(mut self, signal: i32) -> Self {
        self.signal = signal;
        self
    }

    /// Waits at most this long for a vCPU to come out. It takes microseconds, unless the thread
    /// blocks the signal or the host gives it no processor.
    #[must_use]
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }
}

impl Default for KvmVcpuBarrierOptions {
    fn default() -> Self {
        Self::new()
    }
}
