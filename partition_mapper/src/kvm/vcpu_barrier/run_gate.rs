//! Running a vCPU so that it can be paused.

use super::gates::Gate;
use super::signal::{self, KickedBy};
use super::{Shared, VcpuThread};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The only way into the guest for one vCPU, so that its barrier can close it.
///
/// Made by [`KvmVcpuBarrier::gate`](super::KvmVcpuBarrier::gate). It may move from thread to
/// thread, as the vCPU does. Dropping it takes the vCPU out of the barrier's hands.
#[must_use = "a vcpu that runs past its gate is not paused"]
pub struct RunGate {
    shared: Arc<Shared>,
    gate: Arc<Gate<VcpuThread>>,
    /// The thread that lets the signal through.
    unblocked: libc::pid_t,
}

impl RunGate {
    pub(super) fn new(shared: Arc<Shared>, vcpu: u64) -> Self {
        let gate = Arc::new(Gate::new(VcpuThread::new(vcpu)));
        shared.gates.add(Arc::clone(&gate));
        Self {
            shared,
            gate,
            unblocked: 0,
        }
    }

    /// The number that the VMM gave the vCPU.
    pub fn vcpu(&self) -> u64 {
        self.gate.vcpu.number
    }

    /// Runs the vCPU until its next exit, as `VcpuFd::run` does, and waits before that while a
    /// pause holds.
    ///
    /// A pause that comes while the vCPU runs is not seen by the caller: the vCPU comes out, waits,
    /// and goes in again. `EINTR` is returned for any other reason that there was: another signal,
    /// or an `immediate_exit` that the VMM had set to 1.
    ///
    /// On a thread that has not run this vCPU before, the barrier's signal is unblocked. It must
    /// stay so, also in a mask set with `KVM_SET_SIGNAL_MASK`; else a pause fails after its
    /// deadline.
    ///
    /// # Errors
    ///
    /// As `VcpuFd::run`; or the signal could not be unblocked.
    pub fn run<'v>(&mut self, vcpu: &'v mut VcpuFd) -> Result<VcpuExit<'v>, kvm_ioctls::Error> {
        let thread = signal::this_thread();
        if self.unblocked != thread {
            signal::unblock(self.shared.signal).map_err(|error| {
                kvm_ioctls::Error::new(error.raw_os_error().unwrap_or(libc::EINVAL))
            })?;
            // Seen by whoever sees that it is inside.
            self.gate.vcpu.thread.store(thread, Ordering::Relaxed);
            self.unblocked = thread;
        }
        let vcpu: *mut VcpuFd = vcpu;
        loop {
            // SAFETY: lent for 'v; and what an earlier round lent is gone, since an error that
            // was not returned borrows nothing.
            let vcpu: &'v mut VcpuFd = unsafe { &mut *vcpu };
            let immediate_exit = NonNull::from(&mut vcpu.get_kvm_run().immediate_exit);
            // SAFETY: the vCPU is lent until after `leave`, and keeps its `kvm_run` mapped.
            let inside = unsafe { Inside::enter(&self.shared, &self.gate, immediate_exit) };
            let exit = vcpu.run();
            let kicked_by = inside.leave();
            match exit {
                Err(error) if error.errno() == libc::EINTR && kicked_by == KickedBy::Barrier => {}
                exit => return exit,
            }
        }
    }
}

impl Drop for RunGate {
    fn drop(&mut self) {
        // `run` borrows the gate, so nobody is inside.
        self.shared.gates.remove(&self.gate);
    }
}

/// This thread is in the guest, or about to enter it.
struct Inside<'a> {
    shared: &'a Shared,
    gate: &'a Gate<VcpuThread>,
}

impl<'a> Inside<'a> {
    /// Waits while a pause holds.
    ///
    /// # Safety
    ///
    /// `immediate_exit` is the vCPU's, and stays mapped as long as this lives.
    unsafe fn enter(
        shared: &'a Shared,
        gate: &'a Gate<VcpuThread>,
        immediate_exit: NonNull<u8>,
    ) -> Self {
        // Before anyone can see that it is inside and send the signal.
        // SAFETY: it stays mapped until `disarm`, by the caller's promise.
        unsafe { signal::arm(immediate_exit) };
        shared.gates.enter(gate);
        Self { shared, gate }
    }

    /// Returns who wanted the vCPU to leave.
    fn leave(self) -> KickedBy {
        // The guard's own end finds nothing to disarm.
        signal::disarm()
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        signal::disarm();
        self.shared.gates.leave(self.gate);
    }
}
