//! Bytes.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Operation};
use sparse_alloc::access::{self, CopyFault};

impl GuestMemory {
    /// Reads the bytes at `gpa` into `bytes`.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is read), or reaches a hole, a truncated
    /// file or broken memory (then [`AccessError::done`] says how much of `bytes` was read).
    #[inline(always)]
    pub fn read_at(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let mut fault = None;
        if self.has(gpa, bytes.len() as u64) {
            // SAFETY: the source lies in the reservation (G1); the destination is a slice.
            match unsafe { access::copy_from(bytes.as_mut_ptr(), self.at(gpa), bytes.len()) } {
                Ok(()) => return Ok(()),
                Err(caught) => fault = Some(caught),
            }
        }
        self.read_aside(gpa, bytes, fault)
    }

    /// Goes on with a read that faulted, or lies out of range.
    #[cold]
    #[inline(never)]
    fn read_aside(
        &self,
        gpa: u64,
        bytes: &mut [u8],
        fault: Option<CopyFault>,
    ) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::Read, gpa, bytes.len());
        let Some(fault) = fault else {
            return Err(self.out_of_range(attempt));
        };
        let (dst, src, len) = (bytes.as_mut_ptr(), self.at(gpa), bytes.len());
        self.retry_bulk(attempt, fault, |done| {
            let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
            // SAFETY: it faulted, so it was checked before. `done` is at most `len`, so this is the
            // rest of the same access; `bytes` is still borrowed by this call, and used by nothing
            // else.
            unsafe { access::copy_from(dst, src, len.saturating_sub(done)) }
        })
    }

    /// Writes `bytes` at `gpa`.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is written), or reaches a hole, read-only
    /// memory, a truncated file or broken memory (then [`AccessError::done`] says how much was
    /// written).
    #[inline(always)]
    pub fn write_at(&self, gpa: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let mut fault = None;
        if self.has_to_write(gpa, bytes.len() as u64) {
            // SAFETY: the destination lies in the reservation (G1); the source is a slice.
            match unsafe { access::copy_to(self.at(gpa), bytes.as_ptr(), bytes.len()) } {
                Ok(()) => return Ok(()),
                Err(caught) => fault = Some(caught),
            }
        }
        self.write_bytes_aside(gpa, bytes, fault)
    }

    /// Goes on with a write that faulted, lies out of range, or is to be marked.
    #[cold]
    #[inline(never)]
    fn write_bytes_aside(
        &self,
        gpa: u64,
        bytes: &[u8],
        fault: Option<CopyFault>,
    ) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::Write, gpa, bytes.len());
        let Some(fault) = fault else {
            return self.write_aside(attempt, |memory| memory.write_at(gpa, bytes), |()| true);
        };
        let (dst, src, len) = (self.at(gpa), bytes.as_ptr(), bytes.len());
        self.retry_bulk(attempt, fault, |done| {
            let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
            // SAFETY: it faulted, so it was checked before. `done` is at most `len`, so this is the
            // rest of the same access.
            unsafe { access::copy_to(dst, src, len.saturating_sub(done)) }
        })
    }

    /// Sets `len` bytes at `gpa` to `byte`.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](Self::write_at).
    #[inline]
    pub fn fill_at(&self, gpa: u64, byte: u8, len: u64) -> Result<(), AccessError> {
        let attempt = Attempt {
            operation: Operation::Fill,
            gpa,
            len,
        };
        let Some(dst) = self.checked_to_write(attempt) else {
            return self.write_aside(attempt, |memory| memory.fill_at(gpa, byte, len), |()| true);
        };
        // Does not truncate: an address space is no longer than a reservation can be.
        let len = len as usize;
        // SAFETY: `checked` found the destination in the reservation (G1).
        let result = unsafe { access::fill(dst, byte, len) };
        result.or_else(|fault| {
            self.retry_bulk(attempt, fault, |done| {
                let dst = dst.wrapping_add(done);
                // SAFETY: `done` is at most `len`, so this is the rest of the same access.
                unsafe { access::fill(dst, byte, len.saturating_sub(done)) }
            })
        })
    }
}
