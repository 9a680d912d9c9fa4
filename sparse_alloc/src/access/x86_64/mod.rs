//! What depends on the processor: the accesses, their entries in the recovery table, and the
//! registers of an interrupted thread.
//!
//! Every block of assembly here has the same shape. The instructions that touch guest memory
//! stand between two local labels, and an entry in the recovery table says where to go on when
//! one of them faults. There are two ways to go on:
//!
//! - **At a label of the surrounding function** (`recover_at!`): nothing at all is spent on
//!   success, but nothing can be handed over either. Rust allows no outputs beside a label, so
//!   stores and small copies use it, and their label does the access again in the other way.
//! - **Behind the block, with a status** (`recover_with_status!`): a register that is zero
//!   before the access is set to the packed [`Fault`](super::Fault) by the signal handler. The
//!   entry names the register that the compiler chose, so that none is fixed.

#[macro_use]
mod entry;

mod bulk;
mod context;
mod copy;
mod string;
mod word;

pub(super) use context::{Interrupted, STATUS_REGISTERS};
pub(super) use copy::{copy_between, copy_from, copy_to};
pub(super) use string::fill_bytes;
pub(super) use word::RawWord;

/// Returns the first and the end address of the recovery table of this binary.
pub(super) fn recovery_section() -> (usize, usize) {
    let start: usize;
    let end: usize;
    // The empty piece makes the section exist, and the two symbols with it, in a binary whose
    // every access was optimised away. The symbols are hidden because each shared object has a
    // table of its own.
    //
    // SAFETY: the block computes two addresses and touches no memory.
    unsafe {
        std::arch::asm!(
            ".pushsection sparse_alloc_recovery,\"aR\",@progbits",
            ".balign 4",
            ".popsection",
            ".hidden __start_sparse_alloc_recovery",
            ".hidden __stop_sparse_alloc_recovery",
            "lea {start}, [rip + __start_sparse_alloc_recovery]",
            "lea {end}, [rip + __stop_sparse_alloc_recovery]",
            start = out(reg) start,
            end = out(reg) end,
            options(nomem, nostack, preserves_flags),
        );
    }
    (start, end)
}
