//! The handlers that were there before, and how a signal that is not ours is passed on to them.
//!
//! What a handler was promised when it was installed, it still gets: its arguments, the signals it
//! wanted blocked, `SA_NODEFER`, `SA_RESETHAND`, and `SA_RESTART`. One thing can't be kept: a
//! handler without `SA_ONSTACK` runs on the alternate stack nevertheless, where there is one.

use std::ffi::{c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::x86_64::Interrupted;

/// The signals that a faulting access raises.
pub(super) const SIGNALS: [c_int; 2] = [libc::SIGSEGV, libc::SIGBUS];

/// What was set for each of [`SIGNALS`] before. Null stands for the default action.
///
/// Invariant P1: what it points to was leaked and is never written, so a handler may read it at
/// any moment.
static PREVIOUS: [AtomicPtr<libc::sigaction>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// A handler with `SA_SIGINFO`.
pub(super) type Handler = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
/// A handler without.
type PlainHandler = unsafe extern "C" fn(c_int);

/// The slot of a signal in [`PREVIOUS`].
fn previous_of(signal: c_int) -> Option<&'static AtomicPtr<libc::sigaction>> {
    let index = SIGNALS.iter().position(|known| *known == signal)?;
    PREVIOUS.get(index)
}

/// Tells whether a signal is the consequence of the interrupted instruction, which raises it again
/// if it is run again.
///
/// What `kill` or `sigqueue` send has a code of 0 or less, whatever instruction it meets.
/// `BUS_MCEERR_AO` tells that some memory of the process broke, not that it was touched.
pub(super) fn is_synchronous(signal: c_int, code: c_int) -> bool {
    code > 0 && !(signal == libc::SIGBUS && code == libc::BUS_MCEERR_AO)
}

/// Sets the handler for one of [`SIGNALS`], and remembers what was there.
pub(super) fn replace_handler(signal: c_int, handler: Handler) -> io::Result<()> {
    let slot = previous_of(signal).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    // What was there is remembered before the new handler can be called, and once more after: it
    // may have been changed in between.
    let previous = set_action(signal, None)?;
    let flags = previous.sa_flags & libc::SA_RESTART;
    slot.store(Box::into_raw(Box::new(previous)), Ordering::Release);

    let mut action = default_action();
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | flags;
    // SAFETY: the set is ours.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    let replaced = set_action(signal, Some(&action))?;
    if replaced.sa_sigaction != previous.sa_sigaction || replaced.sa_flags != previous.sa_flags {
        slot.store(Box::into_raw(Box::new(replaced)), Ordering::Release);
    }
    Ok(())
}

/// The default action, without flags or blocked signals.
fn default_action() -> libc::sigaction {
    // SAFETY: all zeroes is `SIG_DFL` with an empty mask, no flags and no restorer.
    unsafe { MaybeUninit::<libc::sigaction>::zeroed().assume_init() }
}

/// Sets what a signal does, or only asks; returns what it did before. Async-signal-safe.
fn set_action(signal: c_int, action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut before = default_action();
    let action = action.map_or(ptr::null(), ptr::from_ref);
    // SAFETY: both are null or point to a `sigaction`; a handler in it takes what its flags say.
    if unsafe { libc::sigaction(signal, action, &raw mut before) } == 0 {
        Ok(before)
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Does what would have been done about a signal if this module's handler were not there.
///
/// # Safety
///
/// Called from a signal handler. `info` and `context` are null, or that handler's arguments.
pub(super) unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: by the caller's promise, and not null.
    let code = (!info.is_null()).then(|| unsafe { (*info).si_code });
    let synchronous = code.is_some_and(|code| is_synchronous(signal, code));
    let slot = previous_of(signal);
    let previous = slot.map_or(ptr::null_mut(), |slot| slot.load(Ordering::Acquire));
    // SAFETY: null, or readable by P1.
    let Some(action) = (unsafe { previous.as_ref() }) else {
        // SAFETY: the caller's promise.
        return unsafe { act_by_default(signal, info, synchronous) };
    };
    match action.sa_sigaction {
        // The kernel does not let a process ignore a fault either.
        libc::SIG_IGN if !synchronous => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: the caller's promise.
            unsafe { act_by_default(signal, info, synchronous) };
        }
        _ => {
            if action.sa_flags & libc::SA_RESETHAND != 0
                && let Some(slot) = slot
                && slot
                    .compare_exchange(
                        previous,
                        ptr::null_mut(),
                        Ordering::AcqRel,
                        Ordering::Acquire,
                    )
                    .is_err()
            {
                // Another thread has just used up the handler.
                // SAFETY: the caller's promise.
                return unsafe { act_by_default(signal, info, synchronous) };
            }
            // SAFETY: the caller's promise; the action holds a handler.
            unsafe { call(action, signal, info, context) };
        }
    }
}

/// Takes the default action for a fault: the process dies of the signal, with a core dump that
/// shows where it happened.
///
/// # Safety
///
/// As for [`pass_on`].
unsafe fn act_by_default(signal: c_int, info: *mut libc::siginfo_t, synchronous: bool) {
    // A failure can't be reported here. The signal would come again, and again get here.
    let _ = set_action(signal, Some(&default_action()));
    if synchronous {
        // The instruction runs again when the handler returns, and faults again.
        return;
    }
    // Nothing would raise it again. All signals are blocked, so this one arrives when the handler
    // returns; it is sent with its own details, for a debugger or a core dump.
    //
    // SAFETY: no argument in memory.
    let process = unsafe { libc::getpid() };
    // SAFETY: as above.
    let thread = unsafe { libc::syscall(libc::SYS_gettid) };
    // SAFETY: `info` is null, which the kernel refuses, or the handler's.
    let sent = unsafe { libc::syscall(libc::SYS_rt_tgsigqueueinfo, process, thread, signal, info) };
    if sent != 0 {
        // SAFETY: no argument in memory.
        unsafe { libc::raise(signal) };
    }
}

/// Calls a handler as the kernel would.
///
/// # Safety
///
/// As for [`pass_on`]; `action` holds a handler, not a constant.
unsafe fn call(
    action: &libc::sigaction,
    signal: c_int,
    info: *mut libc::siginfo_t,
    context: *mut c_void,
) {
    // SAFETY: the caller's promise.
    if let Some(thread) = unsafe { Interrupted::new(context) } {
        let blocked = blocked_in(action, signal, thread.blocked_signals());
        // Undone by the kernel when the signal handler returns.
        //
        // SAFETY: the set is initialized; the other pointer may be null.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const blocked, ptr::null_mut()) };
    }
    if action.sa_flags & libc::SA_SIGINFO != 0 {
        // SAFETY: an action with `SA_SIGINFO` holds a function of this type.
        let handler =
            unsafe { std::mem::transmute::<libc::sighandler_t, Handler>(action.sa_sigaction) };
        // SAFETY: these are the arguments it was installed for.
        unsafe { handler(signal, info, context) };
    } else {
        // SAFETY: an action without `SA_SIGINFO`, that is no constant, holds a function of this
        // type.
        let handler =
            unsafe { std::mem::transmute::<libc::sighandler_t, PlainHandler>(action.sa_sigaction) };
        // SAFETY: this is the argument it was installed for.
        unsafe { handler(signal) };
    }
}

/// Returns the signals that the kernel would block while that handler runs: those blocked already,
/// those it asked for, and the signal itself unless it asked not to.
fn blocked_in(action: &libc::sigaction, signal: c_int, already: u64) -> libc::sigset_t {
    let mut set = action.sa_mask;
    let bits = (&raw mut set).cast::<u64>();
    // The C library's set begins with the kernel's. Adding signals one by one would fail for those
    // that it keeps for itself, and leave that in `errno` for the interrupted code to find.
    //
    // SAFETY: the set is ours, initialized, and at least as long.
    let asked = unsafe { bits.read_unaligned() };
    // SAFETY: as above.
    unsafe { bits.write_unaligned(asked | already) };
    if action.sa_flags & libc::SA_NODEFER == 0 {
        // SAFETY: the set is ours.
        unsafe { libc::sigaddset(&raw mut set, signal) };
    }
    set
}
