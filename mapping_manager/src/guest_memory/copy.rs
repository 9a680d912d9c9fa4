//! From guest memory to guest memory.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Cause, Operation};
use crate::fetch::Asked;
use sparse_alloc::access::{self, CopyFault};
use std::sync::Arc;

/// Both ends of a copy.
#[derive(Copy, Clone)]
struct Copy<'a> {
    src: Side<'a>,
    dst: Side<'a>,
}

/// One end of a copy.
#[derive(Copy, Clone)]
struct Side<'a> {
    memory: &'a GuestMemory,
    attempt: Attempt,
    at: *mut u8,
}

impl GuestMemory {
    /// Copies `len` bytes from `gpa` here to `dst_gpa` in `dst`: another guest's memory, a view of
    /// this one, or this one itself.
    ///
    /// It may tear words: what must be whole goes by [`read_plain`](Self::read_plain) and
    /// [`write_plain`](Self::write_plain). Where the two ranges overlap, or show the same backing,
    /// the destination's bytes are unspecified. No bytes are copied from and to anywhere up to the
    /// ends. Where it runs into a change, changes of both memories' mappings wait for it.
    ///
    /// # Errors
    ///
    /// One of the ranges leaves its memory (then nothing is copied), or the source reaches what
    /// cannot be read, or the destination what cannot be written. The error is of the side that
    /// stopped it, by its memory's name, its GPA, and [`Operation::CopyOut`] for the source or
    /// [`Operation::CopyIn`] for the destination; [`AccessError::done`] says how much was copied.
    pub fn copy_to(
        &self,
        gpa: u64,
        dst: &GuestMemory,
        dst_gpa: u64,
        len: u64,
    ) -> Result<(), AccessError> {
        let attempt = |operation, gpa| Attempt {
            operation,
            gpa,
            len,
        };
        let from = attempt(Operation::CopyOut, gpa);
        let src = self.checked(from)?;
        let to = attempt(Operation::CopyIn, dst_gpa);
        let Some(at) = dst.checked_to_write(to) else {
            let copy = |dst: &Self| self.copy_to(gpa, dst, dst_gpa, len);
            return dst.write_aside(to, copy, |()| true);
        };
        // Does not truncate: an address space is no longer than a reservation can be.
        let len = len as usize;
        // SAFETY: `checked` and `checked_to_write` found the bytes in the reservations (G1).
        let result = unsafe { access::copy_between(at, src, len) };
        result.or_else(|fault| {
            let src = Side {
                memory: self,
                attempt: from,
                at: src,
            };
            let dst = Side {
                memory: dst,
                attempt: to,
                at,
            };
            Copy { src, dst }.settle(fault, len)
        })
    }
}

impl Copy<'_> {
    /// Goes on after a fault, as every access does: if the mappings say that the copy is legal, it
    /// is made once more while neither memory's mappings can change. A hole of a lazy mapper is asked
    /// about before it counts as one.
    #[cold]
    #[inline(never)]
    fn settle(self, first: CopyFault, len: usize) -> Result<(), AccessError> {
        let mut at = first;
        // By each side's mapper, which may be two.
        let (mut asked_src, mut asked_dst) = (Asked::default(), Asked::default());
        loop {
            let (side, fault, cause) = match self.settle_once(at, len) {
                Ok(()) => return Ok(()),
                Err(stopped) => stopped,
            };
            at = fault;
            let asked = match side.attempt.operation {
                Operation::CopyOut => &mut asked_src,
                _ => &mut asked_dst,
            };
            let fetched = side.memory.fetched(asked, side.attempt, at.done, cause);
            fetched.map_err(|cause| side.memory.error(side.attempt, at.done, cause))?;
        }
    }

    /// Looks at the mappings once, and copies the rest if they say that it is legal.
    fn settle_once(
        &self,
        first: CopyFault,
        len: usize,
    ) -> Result<(), (Side<'_>, CopyFault, Cause)> {
        let (src, dst) = (self.src.memory.mapper(), self.dst.memory.mapper());
        // One lock for one mapper, and two in the order of their addresses: taken twice, or in
        // either order, they could wait for each other by way of a change that waits for both.
        let (low, high) = match Arc::as_ptr(src) <= Arc::as_ptr(dst) {
            true => (src, dst),
            false => (dst, src),
        };
        let low_table = low.read_table();
        let high_table = (!Arc::ptr_eq(low, high)).then(|| high.read_table());
        let table = |side: Side<'_>| match &high_table {
            Some(table) if Arc::ptr_eq(side.memory.mapper(), high) => table,
            _ => &low_table,
        };
        let refusal = |side: Side<'_>, at| side.memory.refusal(table(side), side.attempt, at);

        let side = self.side_of(first);
        if let Some(cause) = refusal(side, first) {
            return Err((side, first, cause));
        }
        let (to, from) = (
            self.dst.at.wrapping_add(first.done),
            self.src.at.wrapping_add(first.done),
        );
        // SAFETY: `done` is at most `len`, so this is the rest of the same copy.
        let result = unsafe { access::copy_between(to, from, len.saturating_sub(first.done)) };
        let Err(fault) = result.map_err(|fault| fault.after(first.done)) else {
            return Ok(());
        };
        let side = self.side_of(fault);
        let cause =
            refusal(side, fault).unwrap_or_else(|| side.memory.hardware_or_page(fault.fault));
        Err((side, fault, cause))
    }

    /// The side that faulted. The bytes that a copy got to are those that it accesses next, so the
    /// nearer of the two is meant; a hardware error's address may be rounded.
    fn side_of(&self, at: CopyFault) -> Side<'_> {
        let distance = |side: &Side<'_>| {
            let next = side.at.wrapping_add(at.done).addr();
            next.abs_diff(at.fault.address())
        };
        if distance(&self.src) <= distance(&self.dst) {
            self.src
        } else {
            self.dst
        }
    }
}
