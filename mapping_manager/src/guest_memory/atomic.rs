//! Values exchanged as one access.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Cause, Operation};
use sparse_alloc::access;

/// A value that can be exchanged atomically: `u8`, `u16`, `u32` or `u64`. Sealed.
pub trait AtomicPlain: access::Word {}

impl<T: access::Word> AtomicPlain for T {}

impl GuestMemory {
    /// Replaces the value at `gpa` by `new` if it is `current`, in one access (sequentially
    /// consistent).
    ///
    /// Returns `Ok(current)` if it was replaced, and otherwise `Err` with the value that is
    /// there.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](Self::write_at); also where the value is not replaced, since the
    /// processor asks for write access before it compares. An address that is not aligned to the
    /// value's length is [`Cause::Unaligned`]: an exchange across two cache lines would stop every
    /// other processor.
    #[inline(always)]
    pub fn compare_exchange<T: AtomicPlain>(
        &self,
        gpa: u64,
        current: T,
        new: T,
    ) -> Result<Result<T, T>, AccessError> {
        let attempt = Attempt::new(Operation::CompareExchange, gpa, size_of::<T>());
        let dst = self.checked(attempt)?.cast::<T>();
        if gpa & (size_of::<T>() as u64 - 1) != 0 {
            return Err(self.unaligned(attempt));
        }
        // SAFETY: `checked` found the word in the reservation (G1).
        match unsafe { access::compare_exchange(dst, current, new) } {
            Ok(result) => Ok(result),
            Err(fault) => self.retry_word(attempt, fault, || {
                // SAFETY: the same access again.
                unsafe { access::compare_exchange(dst, current, new) }
            }),
        }
    }

    #[cold]
    #[inline(never)]
    fn unaligned(&self, attempt: Attempt) -> AccessError {
        self.error(attempt, 0, Cause::Unaligned { len: attempt.len })
    }
}
