//! Leases: guest memory that stays where it is while it is held.

mod error;
mod gather;
mod hold;
mod holders;
mod slice;
mod take;

pub use error::LeaseError;
pub use slice::LeaseSlice;

pub(crate) use holders::Holders;
pub(crate) use take::{Wanted, take};

use crate::dirty_bitmap::DirtyBitmap;
use crate::error::{AccessError, Cause, Operation};
use crate::table::LeaseAccess;
use hold::Hold;
use holders::Holder;
use slice::Part;
use sparse_alloc::access;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A range of guest memory that stays valid, at its host addresses, until this is dropped.
///
/// It is made by [`GuestMemory::lock`](crate::GuestMemory::lock). Its [`slices`](Self::slices) lie in
/// the linear views of the backings that the range showed then. So they mean the same memory
/// for as long as it lives, whatever is unmapped, replaced, moved, hidden or protected meanwhile, and
/// also when the mapper is dropped. No change waits for it.
///
/// A write lease may write even when its memory has been made read-only since, as a DMA transfer
/// that is under way would.
///
/// What is read and written through it survives a fault, as every access does; no Rust reference
/// to the bytes is formed. Whoever hands the slices' addresses to others (the kernel, a device) keeps
/// the lease until they are done.
///
/// Dropping it takes no lock and makes no system call, unless it is the last to use a backing that
/// nobody else holds: then the backing's file is closed and its linear view unmapped; or unless it
/// was taken by name.
#[must_use = "the memory is let go when the lease is dropped"]
pub struct Lease {
    range: Range<u64>,
    access: LeaseAccess,
    parts: Parts,
    /// What few leases have. Apart, so that the others are small.
    extras: Option<Box<Extras>>,
}

enum Parts {
    /// Of no bytes.
    None,
    One(Part, Hold),
    /// In ascending order, without gaps, with one hold for each backing.
    Many(Vec<Part>, Vec<Hold>),
}

/// What a lease does besides holding memory.
#[derive(Default)]
struct Extras {
    /// Where its writes are marked.
    bitmaps: Vec<Arc<DirtyBitmap>>,
    holder: Option<Holder>,
}

impl Lease {
    /// Returns what the lease is for.
    pub fn access(&self) -> LeaseAccess {
        self.access
    }

    /// Returns the guest physical addresses at which the memory was, half-open, in the whole address
    /// space.
    pub fn gpa_range(&self) -> Range<u64> {
        self.range.clone()
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        // Does not wrap: `take` refuses a range that ends before it starts.
        self.range.end.wrapping_sub(self.range.start)
    }

    /// Says whether it is of no bytes.
    pub fn is_empty(&self) -> bool {
        self.range.is_empty()
    }

    /// Returns the memory in ascending order of guest physical addresses, without gaps. There are
    /// several slices where the range spans backings, or parts of one that are apart; none where
    /// the lease is of no bytes.
    pub fn slices(&self) -> impl ExactSizeIterator<Item = LeaseSlice<'_>> {
        self.parts().iter().map(|part| LeaseSlice::new(self, *part))
    }

    /// Reads bytes that start `offset` bytes into the range, across its slices.
    ///
    /// # Errors
    ///
    /// The bytes do not lie in the range (then none is read); or a file was truncated, or memory
    /// is broken ([`AccessError::done`] says how many were read).
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let (dst, len) = (bytes.as_mut_ptr(), bytes.len());
        self.transfer(Operation::Read, offset, len, |done, src, len| {
            // SAFETY: `transfer` gives a piece of the lease, whose memory is there while it lives
            // (P1), and of `bytes`.
            unsafe { access::copy_from(dst.wrapping_add(done), src, len) }
        })
    }

    /// Writes bytes that start `offset` bytes into the range, across its slices.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); and [`Cause::ReadLease`] if the lease is not for writing.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let (src, len) = (bytes.as_ptr(), bytes.len());
        self.transfer(Operation::Write, offset, len, |done, dst, len| {
            // SAFETY: as for `read`, with the sides swapped.
            unsafe { access::copy_to(dst, src.wrapping_add(done), len) }
        })
    }

    fn parts(&self) -> &[Part] {
        match &self.parts {
            Parts::None => &[],
            Parts::One(part, _) => std::slice::from_ref(part),
            Parts::Many(parts, _) => parts,
        }
    }

    fn holds(&self) -> &[Hold] {
        match &self.parts {
            Parts::None => &[],
            Parts::One(_, hold) => std::slice::from_ref(hold),
            Parts::Many(_, holds) => holds,
        }
    }

    /// Calls `copy` for each piece of the lease that an access touches, with how much comes before
    /// it, its host address and its length.
    fn transfer(
        &self,
        operation: Operation,
        offset: u64,
        len: usize,
        copy: impl Fn(usize, *mut u8, usize) -> Result<(), access::CopyFault>,
    ) -> Result<(), AccessError> {
        let gpa = self.check(operation, offset, len as u64)?;
        let mut done = 0;
        let parts = self.parts();
        let first = parts.partition_point(|part| part.end() <= gpa);
        for part in parts.get(first..).unwrap_or_default() {
            let left = len.saturating_sub(done);
            if left == 0 {
                break;
            }
            let at = gpa.saturating_add(done as u64);
            let there = usize::try_from(part.end().saturating_sub(at)).unwrap_or(left);
            let here = left.min(there);
            let result = copy(done, part.at(at), here);
            let copied = result.as_ref().err().map_or(here, |fault| fault.done);
            if operation.writes() {
                self.mark(at, copied as u64);
            }
            done = done.saturating_add(copied);
            if let Err(fault) = result {
                let cause = part.cause(self.holds(), fault.fault);
                return Err(self.error(operation, gpa, len as u64, done as u64, cause));
            }
        }
        Ok(())
    }

    /// The guest physical address of an access that the lease allows.
    fn check(&self, operation: Operation, offset: u64, len: u64) -> Result<u64, AccessError> {
        let gpa = self.range.start.saturating_add(offset);
        let outside = || Cause::OutsideLease {
            start: self.range.start,
            end: self.range.end,
        };
        let cause = match self.len().checked_sub(len) {
            Some(last) if offset <= last => {
                if !operation.writes() || self.access.is_write() || len == 0 {
                    return Ok(gpa);
                }
                Cause::ReadLease
            }
            _ => outside(),
        };
        Err(self.error(operation, gpa, len, 0, cause))
    }

    /// Marks bytes that were written in the bitmaps of the view that the lease is of.
    fn mark(&self, gpa: u64, len: u64) {
        if let Some(extras) = &self.extras {
            for bitmap in &extras.bitmaps {
                bitmap.mark(gpa, len);
            }
        }
    }

    #[cold]
    fn error(
        &self,
        operation: Operation,
        gpa: u64,
        len: u64,
        done: u64,
        cause: Cause,
    ) -> AccessError {
        let memory = self.holds().first().map(Hold::memory);
        let memory = memory.as_deref().unwrap_or("empty lease");
        AccessError::new(memory, operation, gpa, len, done, cause)
    }
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        // Who was given an address may have written anywhere, until now.
        if self.extras.is_some() {
            self.mark(self.range.start, self.len());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("access", &self.access())
            .field("gpa", &format_args!("{:#x}", self.range.start))
            .field("len", &format_args!("{:#x}", self.len()))
            .field("slices", &self.parts().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
