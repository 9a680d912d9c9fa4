//! Gets a thread out of KVM_RUN.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Nobody else in this process uses it.
const SIGNAL: libc::c_int = libc::SIGUSR1;

extern "C" fn interrupt(_signal: libc::c_int) {}

/// Prepares the process: the signal then does nothing but to interrupt a system call.
pub fn install() -> io::Result<()> {
    let handler: extern "C" fn(libc::c_int) = interrupt;
    // SAFETY: all-zeros is a valid `sigaction`: an empty mask, and no SA_RESTART.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the action is initialised, and the handler does nothing, which is always allowed.
    match unsafe { libc::sigaction(SIGNAL, &action, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Interrupts the system call that a thread is in. One that it is about to make is not interrupted,
/// so whoever must be sure kicks again.
pub fn kick<T>(thread: &JoinHandle<T>) {
    // SAFETY: a thread that is not joined has a valid handle, also after it has ended; the signal
    // has a handler.
    unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
}
