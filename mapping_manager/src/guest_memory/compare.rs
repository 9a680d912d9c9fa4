//! Guest memory against bytes.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Operation};
use sparse_alloc::access;
use std::cmp::Ordering;

impl GuestMemory {
    /// Compares what is at `gpa` with `bytes`, byte by byte, as slices are: `Less` says that
    /// guest memory is less. No bytes are equal.
    ///
    /// Each byte of guest memory is looked at once, in chunks, so that one that changes meanwhile
    /// is the old or the new one, and the answer is that of no single moment.
    ///
    /// # Errors
    ///
    /// The range leaves the address space (then nothing is compared). Or it reaches what cannot be
    /// read, as for [`read_at`](Self::read_at), and everything before is equal; where a byte before
    /// differs, that is the answer.
    pub fn compare_at(&self, gpa: u64, bytes: &[u8]) -> Result<Ordering, AccessError> {
        let attempt = Attempt::new(Operation::Compare, gpa, bytes.len());
        let guest = self.checked(attempt)?.cast_const();
        let (host, len) = (bytes.as_ptr(), bytes.len());
        // SAFETY: `checked` found the bytes in the reservation (G1); the others are a slice.
        let result = unsafe { access::compare(guest, host, len) };
        result.or_else(|fault| {
            self.retry_bulk(attempt, fault, |done| {
                let (guest, host) = (guest.wrapping_add(done), host.wrapping_add(done));
                // SAFETY: `done` is at most `len`, so this is the rest of the same ranges. The bytes
                // before were equal, so the rest decides.
                unsafe { access::compare(guest, host, len.saturating_sub(done)) }
            })
        })
    }
}
