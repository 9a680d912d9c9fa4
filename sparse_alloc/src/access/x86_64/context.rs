//! The registers of the thread that a signal interrupted.

use std::ffi::c_void;
use std::ptr::NonNull;

/// The number of general registers that a status may be handed over in: those that
/// `mcontext_t::gregs` lists before the stack pointer.
pub(in crate::access) const STATUS_REGISTERS: usize = libc::REG_RSP as usize;

/// The interrupted thread, as the kernel describes it to a signal handler.
///
/// Invariant C1: `context` is the third argument of a running `SA_SIGINFO` handler, so it points
/// to a `ucontext_t` that nobody else uses until the handler returns.
pub(in crate::access) struct Interrupted {
    context: NonNull<libc::ucontext_t>,
}

impl Interrupted {
    /// Takes the third argument of a signal handler. `None` if it is null, as it is when another
    /// handler chains to this one without handing on its arguments.
    ///
    /// # Safety
    ///
    /// `context` is null or the third argument of an `SA_SIGINFO` handler that has not returned.
    pub(in crate::access) unsafe fn new(context: *mut c_void) -> Option<Self> {
        NonNull::new(context.cast()).map(|context| Self { context })
    }

    /// Returns the address of the interrupted instruction.
    pub(in crate::access) fn instruction(&self) -> usize {
        // SAFETY: readable by C1.
        let rip = unsafe { (*self.context.as_ptr()).uc_mcontext.gregs[libc::REG_RIP as usize] };
        rip as usize
    }

    /// Makes the thread go on at `address`.
    pub(in crate::access) fn set_instruction(&mut self, address: usize) {
        self.set_register(libc::REG_RIP as usize, address as u64);
    }

    /// Sets a register, by its index in `gregs`. An index outside the array changes nothing.
    pub(in crate::access) fn set_register(&mut self, index: usize, value: u64) {
        // SAFETY: the `mcontext_t` is part of what C1 makes ours alone.
        let gregs = unsafe { &mut (*self.context.as_ptr()).uc_mcontext.gregs };
        if let Some(register) = gregs.get_mut(index) {
            *register = value as i64;
        }
    }

    /// Returns the signals that were blocked before the handler began: bit `n - 1` for signal
    /// `n`.
    pub(in crate::access) fn blocked_signals(&self) -> u64 {
        // The kernel writes 64 signals; the C library's type is 16 times as long, and what lies
        // behind the first 8 bytes is something else.
        //
        // SAFETY: the field lies within what C1 makes readable.
        let mask = unsafe { &raw const (*self.context.as_ptr()).uc_sigmask };
        // SAFETY: its first 8 bytes were written by the kernel.
        unsafe { mask.cast::<u64>().read_unaligned() }
    }
}
