//! Values changed in one step, whatever they are.

use super::GuestMemory;
use super::atomic::AtomicPlain;
use super::recover::Attempt;
use crate::error::{AccessError, Operation};
use sparse_alloc::access::{self, Fault};

impl GuestMemory {
    /// Sets the bits of `bits` in the value at `gpa`, in one step, and returns what was there.
    ///
    /// As the other changes in one step ([`fetch_and`](Self::fetch_and),
    /// [`fetch_xor`](Self::fetch_xor), [`fetch_add`](Self::fetch_add), [`swap`](Self::swap)) it is
    /// sequentially consistent, and writes even where that changes nothing. Where others change the
    /// value all the time, it takes as many attempts as it takes; each that fails means that
    /// somebody else got on.
    ///
    /// # Errors
    ///
    /// As for [`compare_exchange`](Self::compare_exchange).
    pub fn fetch_or<T: AtomicPlain>(&self, gpa: u64, bits: T) -> Result<T, AccessError> {
        self.update(gpa, |value: T| value | bits)
    }

    /// Clears all bits but those of `bits` in the value at `gpa`; see [`fetch_or`](Self::fetch_or).
    ///
    /// # Errors
    ///
    /// As for [`compare_exchange`](Self::compare_exchange).
    pub fn fetch_and<T: AtomicPlain>(&self, gpa: u64, bits: T) -> Result<T, AccessError> {
        self.update(gpa, |value: T| value & bits)
    }

    /// Flips the bits of `bits` in the value at `gpa`; see [`fetch_or`](Self::fetch_or).
    ///
    /// # Errors
    ///
    /// As for [`compare_exchange`](Self::compare_exchange).
    pub fn fetch_xor<T: AtomicPlain>(&self, gpa: u64, bits: T) -> Result<T, AccessError> {
        self.update(gpa, |value: T| value ^ bits)
    }

    /// Adds to the value at `gpa`, and wraps around where it would not fit; see
    /// [`fetch_or`](Self::fetch_or).
    ///
    /// # Errors
    ///
    /// As for [`compare_exchange`](Self::compare_exchange).
    pub fn fetch_add<T: AtomicPlain>(&self, gpa: u64, summand: T) -> Result<T, AccessError> {
        self.update(gpa, |value: T| value.sum(summand))
    }

    /// Replaces the value at `gpa`; see [`fetch_or`](Self::fetch_or).
    ///
    /// # Errors
    ///
    /// As for [`compare_exchange`](Self::compare_exchange).
    pub fn swap<T: AtomicPlain>(&self, gpa: u64, new: T) -> Result<T, AccessError> {
        self.update(gpa, |_: T| new)
    }

    /// Replaces the value at `gpa` by what `change` makes of it.
    #[inline]
    fn update<T: AtomicPlain>(
        &self,
        gpa: u64,
        change: impl Fn(T) -> T + Copy,
    ) -> Result<T, AccessError> {
        let attempt = Attempt::new(Operation::Update, gpa, size_of::<T>());
        let Some(dst) = self.checked_to_write(attempt) else {
            return self.write_aside(attempt, |memory| memory.update(gpa, change), |_| true);
        };
        let dst = dst.cast::<T>();
        // The address itself, not the offset: a view may start anywhere.
        if dst.addr() & (size_of::<T>() - 1) != 0 {
            return Err(self.unaligned(attempt));
        }
        // SAFETY: `checked_to_write` found the word in the reservation (G1).
        match unsafe { exchange_until_done(dst, change) } {
            Ok(previous) => Ok(previous),
            Err(fault) => self.retry_word(attempt, fault, || {
                // SAFETY: the same word again. What faulted has written nothing.
                unsafe { exchange_until_done(dst, change) }
            }),
        }
    }
}

/// Exchanges the word at `dst` until nobody has come in between.
///
/// # Safety
///
/// As for [`access::compare_exchange`].
#[inline]
unsafe fn exchange_until_done<T: AtomicPlain>(
    dst: *mut T,
    change: impl Fn(T) -> T,
) -> Result<T, Fault> {
    // SAFETY: the caller's promise.
    let mut current = unsafe { access::load(dst.cast_const()) }?;
    loop {
        // SAFETY: the caller's promise.
        match unsafe { access::compare_exchange(dst, current, change(current)) }? {
            Ok(previous) => return Ok(previous),
            Err(found) => current = found,
        }
    }
}
