//! The signal that brings a vCPU out of the guest.
//!
//! A signal ends `KVM_RUN` when the thread is inside it. One that arrives just before would be
//! lost; so the handler also sets `kvm_run.immediate_exit`, with which `KVM_RUN` returns `EINTR` at
//! once (the kernel's `Documentation/virt/kvm/api.rst`, section 5, the `kvm_run` structure).

use std::cell::Cell;
use std::io;
use std::mem::MaybeUninit;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU8, Ordering, compiler_fence};
use thiserror::Error;

/// The bit of `immediate_exit` that the handler sets. KVM asks only whether the byte is zero, and
/// a VMM that sets it for reasons of its own sets it to 1: so the two can be told apart.
const KICKED: u8 = 0x80;

thread_local! {
    /// The `immediate_exit` of the vCPU that this thread is about to run, runs, or has just run.
    ///
    /// Invariant: while it is set, the byte stays mapped.
    // Constant and without a destructor, so that the handler finds it without making it.
    static IMMEDIATE_EXIT: Cell<Option<NonNull<u8>>> = const { Cell::new(None) };
    static THREAD: Cell<libc::pid_t> = const { Cell::new(0) };
}

/// The cause for which a [`KvmVcpuBarrier`](super::KvmVcpuBarrier) could not have its signal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BarrierSignalError {
    /// Such a signal cannot be used.
    #[error("signal {signal} is neither SIGUSR1, SIGUSR2 nor a real-time signal")]
    Unsuitable {
        /// The number asked for.
        signal: i32,
    },
    /// Somebody else has a handler for it, or ignores it.
    #[error("signal {signal} is used by somebody else")]
    Taken {
        /// The number asked for.
        signal: i32,
    },
    /// The kernel said no.
    #[error("no handler could be set for signal {signal}")]
    Refused {
        /// The number asked for.
        signal: i32,
        /// What it answered.
        #[source]
        source: io::Error,
    },
}

/// Sets the handler, unless it is set already. It stays for the rest of the process's life: a
/// signal could still be on its way.
pub(super) fn install(signal: i32) -> Result<(), BarrierSignalError> {
    let real_time = libc::SIGRTMIN()..=libc::SIGRTMAX();
    if !real_time.contains(&signal) && ![libc::SIGUSR1, libc::SIGUSR2].contains(&signal) {
        return Err(BarrierSignalError::Unsuitable { signal });
    }
    let refused = |source| BarrierSignalError::Refused { signal, source };
    if is_taken(&exchange_action(signal, None).map_err(refused)?) {
        return Err(BarrierSignalError::Taken { signal });
    }
    let mut ours = no_action();
    ours.sa_sigaction = on_kick as extern "C" fn(libc::c_int) as usize;
    // `KVM_RUN` returns EINTR whatever the flags say. With SA_RESTART, a signal that comes late
    // does not break off another call that the thread makes meanwhile.
    ours.sa_flags = libc::SA_RESTART;
    let before = exchange_action(signal, Some(&ours)).map_err(refused)?;
    if is_taken(&before) {
        // Another thread was faster.
        exchange_action(signal, Some(&before)).map_err(refused)?;
        return Err(BarrierSignalError::Taken { signal });
    }
    Ok(())
}

/// Lets the signal reach the calling thread.
pub(super) fn unblock(signal: i32) -> io::Result<()> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the call writes the set.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    // SAFETY: the set was written above.
    unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    // SAFETY: the set was written above, and the old mask is not asked for.
    match unsafe { libc::pthread_sigmask(libc::SIG_UNBLOCK, set.as_ptr(), std::ptr::null_mut()) } {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Sends the signal to a thread of this process. A thread that is no more needs none, and one
/// whose queue is full gets it the next time.
pub(super) fn send(signal: i32, thread: libc::pid_t) -> io::Result<()> {
    let process = std::process::id().cast_signed();
    // SAFETY: the call touches no memory of ours. Should the thread have ended and its number be
    // used again, by a thread of this process only, then that one runs a handler which does nothing.
    match unsafe { libc::syscall(libc::SYS_tgkill, process, thread, signal) } {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if matches!(error.raw_os_error(), Some(libc::ESRCH | libc::EAGAIN)) => Ok(()),
            error => Err(error),
        },
    }
}

/// The kernel's number of the calling thread.
pub(super) fn this_thread() -> libc::pid_t {
    THREAD.with(|known| {
        if known.get() == 0 {
            // SAFETY: the call has no effect.
            known.set(unsafe { libc::gettid() });
        }
        known.get()
    })
}

/// Who made `KVM_RUN` return early.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum KickedBy {
    Nobody,
    Barrier,
    /// The VMM wants it, and perhaps the barrier, too.
    Vmm,
}

/// Lets the handler reach a vCPU's `immediate_exit` from this thread.
///
/// # Safety
///
/// The byte stays mapped until [`disarm`] is called on the same thread.
pub(super) unsafe fn arm(immediate_exit: NonNull<u8>) {
    IMMEDIATE_EXIT.with(|byte| byte.set(Some(immediate_exit)));
    // The handler runs on this thread, so only the compiler could mix up the order.
    compiler_fence(Ordering::SeqCst);
}

/// Takes `immediate_exit` away from the handler, with the bit cleared that it may have set.
pub(super) fn disarm() -> KickedBy {
    let Some(byte) = IMMEDIATE_EXIT.with(Cell::take) else {
        return KickedBy::Nobody;
    };
    compiler_fence(Ordering::SeqCst);
    // SAFETY: it is mapped until now, by the promise made to `arm`.
    let byte = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
    let value = byte.load(Ordering::Relaxed);
    if value & KICKED != 0 {
        byte.store(value & !KICKED, Ordering::Relaxed);
    }
    match (value & KICKED, value & !KICKED) {
        (0, 0) => KickedBy::Nobody,
        (_, 0) => KickedBy::Barrier,
        _ => KickedBy::Vmm,
    }
}

extern "C" fn on_kick(_: libc::c_int) {
    let Ok(Some(byte)) = IMMEDIATE_EXIT.try_with(Cell::get) else {
        return;
    };
    // SAFETY: mapped while it is set, by the invariant.
    let byte = unsafe { AtomicU8::from_ptr(byte.as_ptr()) };
    byte.fetch_or(KICKED, Ordering::Relaxed);
}

fn is_taken(action: &libc::sigaction) -> bool {
    let ours = on_kick as extern "C" fn(libc::c_int) as usize;
    action.sa_sigaction != libc::SIG_DFL && action.sa_sigaction != ours
}

fn no_action() -> libc::sigaction {
    // SAFETY: all zeros is the default action, with an empty mask and no flags.
    unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() }
}

/// Sets the action, if there is one to set; returns the one before.
fn exchange_action(signal: i32, action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut before = no_action();
    let action = action.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `action` is null or an action whose handler takes what its flags say; `before` is
    // written.
    match unsafe { libc::sigaction(signal, action, &raw mut before) } {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends the signal to this thread, which handles it before it goes on.
    fn kick_myself(signal: i32) {
        send(signal, this_thread()).unwrap();
    }

    fn with_byte(byte: &mut u8, run: impl FnOnce()) -> KickedBy {
        // SAFETY: the byte is borrowed until it is disarmed.
        unsafe { arm(NonNull::from(byte)) };
        run();
        disarm()
    }

    #[test]
    fn a_kick_sets_immediate_exit_while_a_vcpu_is_about_to_run() {
        let signal = libc::SIGRTMIN() + 10;
        install(signal).unwrap();
        unblock(signal).unwrap();
        let mut byte = 0;
        let address = &raw mut byte;
        let kicked = with_byte(&mut byte, || {
            kick_myself(signal);
            // SAFETY: borrowed by the caller until it is disarmed.
            assert_ne!(unsafe { address.read_volatile() }, 0);
        });
        assert_eq!(kicked, KickedBy::Barrier);
        assert_eq!(byte, 0);
        assert_eq!(with_byte(&mut byte, || ()), KickedBy::Nobody);

        // What the VMM had set stays set, and counts.
        byte = 1;
        assert_eq!(with_byte(&mut byte, || ()), KickedBy::Vmm);
        assert_eq!(with_byte(&mut byte, || kick_myself(signal)), KickedBy::Vmm);
        assert_eq!(byte, 1);

        // A kick that comes late, or to a thread that is no more, does nothing.
        byte = 0;
        kick_myself(signal);
        assert_eq!(with_byte(&mut byte, || ()), KickedBy::Nobody);
        assert_eq!(disarm(), KickedBy::Nobody);
        let gone = std::thread::spawn(this_thread).join().unwrap();
        send(signal, gone).unwrap();
        send(-1, this_thread()).unwrap_err();
    }
}
