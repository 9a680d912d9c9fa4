//! Access to memory that may vanish, be read-only, or be truncated at any moment.
//!
//! An access here is one instruction, or a few, and nothing else: no look-up, no flag, no lock. If
//! it faults, the process does not die: a signal handler finds the instruction in a table that the
//! linker put together, and makes the thread go on where the access returns a [`Fault`].
//!
//! - [`load`], [`store`], [`compare_exchange`], [`fetch_or`]: one word of 1, 2, 4 or 8 bytes, in
//!   one access. [`load_at`], [`store_at`] and [`compare_exchange_at`] take a base and an offset and
//!   leave the addition to the addressing mode.
//! - [`copy_from`], [`copy_to`], [`copy_between`], [`fill`], [`compare`]: many bytes. When they
//!   fault they tell, exact to the byte, how far they got ([`CopyFault`]), as the kernel's own
//!   user-copy does.
//! - [`install`] puts the signal handler in place. The accesses do not do so themselves;
//!   [`Reservation::new`](crate::Reservation::new) does, and so does a
//!   [`LinearView`](crate::LinearView).
//!
//! ```
//! use sparse_alloc::access::{self, FaultKind};
//! use sparse_alloc::{Alignment, MappedRegion, Reservation};
//!
//! let reservation = Reservation::new(0x1000, Alignment::Page)?;
//! let word = reservation.base().as_ptr().cast::<u64>();
//! // SAFETY: the reservation owns these bytes, and nothing is mapped there.
//! let fault = unsafe { access::load(word) }.unwrap_err();
//! assert_eq!(fault.kind(), FaultKind::Access);
//! assert_eq!(fault.address(), word.addr());
//! # Ok::<(), sparse_alloc::ReserveError>(())
//! ```
//!
//! # The contract
//!
//! In every function one side is the *guest's*. The caller promises that this side lies in address
//! space that it owns as raw bytes, such as a [`Reservation`](crate::Reservation): nothing in it is
//! a Rust value, and it stays reserved during the call. It may be unmapped, protected, truncated,
//! or written by others at any moment. The other side is the *host's* and is ordinary memory: valid
//! for the access, and no part of the guest's.
//!
//! No reference to guest memory is ever formed, so bytes that change while they are read are no
//! undefined behaviour: each access reads what is there at its moment.
//!
//! # What is torn, and in which order
//!
//! A word at an aligned address is accessed whole. So is a copy of exactly 1, 2, 4 or 8 bytes whose
//! guest address is aligned to its length. Anything else may be torn at any byte.
//!
//! `load` and `store` promise no more than relaxed atomics do; put a
//! [`fence`](std::sync::atomic::fence) beside them where the order counts (on x86-64 an acquire or a
//! release fence costs no instruction). `compare_exchange` and `fetch_or` are sequentially
//! consistent.
//!
//! # Faults that are not ours
//!
//! Whatever else raises `SIGSEGV` or `SIGBUS` goes to the handler that was there before, as if this
//! one did not exist: Rust's message on a stack overflow, a debugger's or a crash reporter's
//! handler, the default that kills the process, a signal sent by `kill`. A library that installs
//! its own handler later and chains to this one works too.

mod chain;
mod fault;
mod handler;
mod install_error;
mod operations;
mod table;
mod x86_64;

pub use fault::{CopyFault, Fault, FaultKind};
pub use handler::install;
pub use install_error::InstallError;
pub use operations::{
    Word, compare, compare_exchange, compare_exchange_at, copy_between, copy_from, copy_to,
    fetch_or, fill, load, load_at, store, store_at,
};
