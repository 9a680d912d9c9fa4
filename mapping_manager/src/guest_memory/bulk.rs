//! Bytes.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Operation};
use sparse_alloc::access;

impl GuestMemory {
    /// Reads the bytes at `gpa` into `bytes`.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is read), or reaches a hole, a truncated
    /// file or broken memory (then [`AccessError::done`] says how much of `bytes` was read).
    #[inline]
    pub fn read_at(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::Read, gpa, bytes.len());
        let src = self.checked(attempt)?;
        let (dst, len) = (bytes.as_mut_ptr(), bytes.len());
        // SAFETY: `checked` found the source in the reservation (G1); the destination is a slice.
        let result = unsafe { access::copy_from(dst, src, len) };
        result.or_else(|fault| {
            self.retry_bulk(attempt, fault, |done| {
                let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
                // SAFETY: `done` is at most `len`, so this is the rest of the same access; `bytes`
                // is still borrowed by this call, and used by nothing else.
                unsafe { access::copy_from(dst, src, len.saturating_sub(done)) }
            })
        })
    }

    /// Writes `bytes` at `gpa`.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is written), or reaches a hole, read-only
    /// memory, a truncated file or broken memory (then [`AccessError::done`] says how much was
    /// written).
    #[inline]
    pub fn write_at(&self, gpa: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::Write, gpa, bytes.len());
        let dst = self.checked(attempt)?;
        let (src, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: `checked` found the destination in the reservation (G1); the source is a slice.
        let result = unsafe { access::copy_to(dst, src, len) };
        result.or_else(|fault| {
            self.retry_bulk(attempt, fault, |done| {
                let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
                // SAFETY: `done` is at most `len`, so this is the rest of the same access.
                unsafe { access::copy_to(dst, src, len.saturating_sub(done)) }
            })
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
        let dst = self.checked(attempt)?;
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
