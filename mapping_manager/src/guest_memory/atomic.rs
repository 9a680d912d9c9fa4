//! Values exchanged as one access.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Cause, Operation};
use sparse_alloc::access;
use std::ops::{BitAnd, BitOr, BitXor};

/// A value that can be exchanged atomically: `u8`, `u16`, `u32` or `u64`. Sealed.
pub trait AtomicPlain:
    access::Word + BitAnd<Output = Self> + BitOr<Output = Self> + BitXor<Output = Self>
{
    /// The sum, without the bits that it has too many.
    #[doc(hidden)]
    fn sum(self, other: Self) -> Self;
}

macro_rules! atomic_plain {
    ($($word:ty),+) => {
        $(impl AtomicPlain for $word {
            fn sum(self, other: Self) -> Self {
                self.wrapping_add(other)
            }
        })+
    };
}

atomic_plain!(u8, u16, u32, u64);

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
        if self.has_to_exchange(gpa, size_of::<T>() as u64) {
            let (base, offset) = (self.base.as_ptr(), gpa as usize);
            // An exchange that faults is made once more aside, so that the fault takes no register
            // here: a locked instruction waits for whatever is computed before it.
            // SAFETY: the word lies in the reservation (G1).
            if let Ok(result) = unsafe { access::compare_exchange_at(base, offset, current, new) } {
                return Ok(result);
            }
        }
        self.compare_exchange_aside(gpa, current, new)
    }

    /// Goes on with an exchange that faulted; or lies out of range, is unaligned or is to be marked;
    /// or is none of that, in a view that starts anywhere.
    #[cold]
    #[inline(never)]
    fn compare_exchange_aside<T: AtomicPlain>(
        &self,
        gpa: u64,
        current: T,
        new: T,
    ) -> Result<Result<T, T>, AccessError> {
        let attempt = Attempt::new(Operation::CompareExchange, gpa, size_of::<T>());
        let Some(dst) = self.checked_to_write(attempt) else {
            let exchange = |memory: &Self| memory.compare_exchange(gpa, current, new);
            return self.write_aside(attempt, exchange, Result::is_ok);
        };
        let dst = dst.cast::<T>();
        if !dst.is_aligned() {
            return Err(self.unaligned(attempt));
        }
        let exchange = || {
            // SAFETY: `checked_to_write` found the word in the reservation (G1).
            unsafe { access::compare_exchange(dst, current, new) }
        };
        exchange().or_else(|fault| self.retry_word(attempt, fault, exchange))
    }

    #[cold]
    #[inline(never)]
    pub(super) fn unaligned(&self, attempt: Attempt) -> AccessError {
        self.error(attempt, 0, Cause::Unaligned { len: attempt.len })
    }
}
