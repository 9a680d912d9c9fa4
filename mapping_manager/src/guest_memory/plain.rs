//! Plain values.

use super::GuestMemory;
use super::recover::Attempt;
use crate::error::{AccessError, Operation};
use sparse_alloc::access::{self, Fault};
use std::mem::MaybeUninit;
use zerocopy::{FromBytes, Immutable, IntoBytes};

impl GuestMemory {
    /// Reads a plain value at `gpa`, which need not be aligned.
    ///
    /// A value of 1, 2, 4 or 8 bytes at an address aligned to its length is read in one access.
    ///
    /// # Errors
    ///
    /// As for [`read_at`](Self::read_at).
    #[inline(always)]
    pub fn read_plain<T: FromBytes>(&self, gpa: u64) -> Result<T, AccessError> {
        match size_of::<T>() {
            1 => self.load::<T, u8>(gpa),
            2 => self.load::<T, u16>(gpa),
            4 => self.load::<T, u32>(gpa),
            8 => self.load::<T, u64>(gpa),
            _ => self.read_large(gpa),
        }
    }

    /// Writes a plain value at `gpa`, which need not be aligned.
    ///
    /// A value of 1, 2, 4 or 8 bytes at an address aligned to its length is written in one access.
    ///
    /// # Errors
    ///
    /// As for [`write_at`](Self::write_at).
    #[inline(always)]
    pub fn write_plain<T: IntoBytes + Immutable>(
        &self,
        gpa: u64,
        value: &T,
    ) -> Result<(), AccessError> {
        match size_of::<T>() {
            1 => self.store::<T, u8>(gpa, value),
            2 => self.store::<T, u16>(gpa, value),
            4 => self.store::<T, u32>(gpa, value),
            8 => self.store::<T, u64>(gpa, value),
            _ => self.write_at(gpa, value.as_bytes()),
        }
    }

    /// Loads a `T` by way of the word `W` of the same size.
    #[inline(always)]
    fn load<T: FromBytes, W: access::Word>(&self, gpa: u64) -> Result<T, AccessError> {
        let word = self.load_word::<W>(gpa)?;
        // SAFETY: `read_plain` chose a `W` of the size of `T`, and any bytes make a `T`.
        Ok(unsafe { std::mem::transmute_copy::<W, T>(&word) })
    }

    /// Stores a `T` by way of the word `W` of the same size.
    #[inline(always)]
    fn store<T: IntoBytes + Immutable, W: access::Word>(
        &self,
        gpa: u64,
        value: &T,
    ) -> Result<(), AccessError> {
        // SAFETY: `write_plain` chose a `W` of the size of `T`, none of whose bytes is padding; any
        // bytes make a word.
        let word = unsafe { std::mem::transmute_copy::<T, W>(value) };
        self.store_word(gpa, word)
    }

    // What an error needs to know is put together aside, from values that registers hold: put
    // together here, it would be stored to the stack before every access.

    #[expect(
        clippy::needless_question_mark,
        reason = "without it each load that succeeds is asked once more whether it did"
    )]
    #[inline(always)]
    fn load_word<W: access::Word>(&self, gpa: u64) -> Result<W, AccessError> {
        let mut fault = None;
        if self.has(gpa, size_of::<W>() as u64) {
            // SAFETY: the word lies in the reservation (G1).
            match unsafe { access::load_at(self.base.as_ptr(), gpa as usize) } {
                Ok(word) => return Ok(word),
                Err(caught) => fault = Some(caught),
            }
        }
        Ok(self.load_aside(gpa, fault)?)
    }

    /// Loads a word that faulted, or lies out of range.
    #[cold]
    #[inline(never)]
    fn load_aside<W: access::Word>(
        &self,
        gpa: u64,
        fault: Option<Fault>,
    ) -> Result<W, AccessError> {
        let attempt = Attempt::new(Operation::Read, gpa, size_of::<W>());
        let Some(fault) = fault else {
            return Err(self.out_of_range(attempt));
        };
        let src = self.at(gpa).cast::<W>().cast_const();
        self.retry_word(attempt, fault, || {
            // SAFETY: it faulted, so it was checked before: the same access again.
            unsafe { access::load(src) }
        })
    }

    #[inline(always)]
    fn store_word<W: access::Word>(&self, gpa: u64, word: W) -> Result<(), AccessError> {
        let mut fault = None;
        if self.has_to_write(gpa, size_of::<W>() as u64) {
            // SAFETY: the word lies in the reservation (G1).
            match unsafe { access::store_at(self.base.as_ptr(), gpa as usize, word) } {
                Ok(()) => return Ok(()),
                Err(caught) => fault = Some(caught),
            }
        }
        self.store_aside(gpa, word, fault)
    }

    /// Stores a word that faulted, lies out of range, or is to be marked.
    #[cold]
    #[inline(never)]
    fn store_aside<W: access::Word>(
        &self,
        gpa: u64,
        word: W,
        fault: Option<Fault>,
    ) -> Result<(), AccessError> {
        let attempt = Attempt::new(Operation::Write, gpa, size_of::<W>());
        let Some(fault) = fault else {
            let store = |memory: &Self| memory.store_word(gpa, word);
            return self.write_aside(attempt, store, |()| true);
        };
        let dst = self.at(gpa).cast::<W>();
        self.retry_word(attempt, fault, || {
            // SAFETY: it faulted, so it was checked before: the same access again.
            unsafe { access::store(dst, word) }
        })
    }

    fn read_large<T: FromBytes>(&self, gpa: u64) -> Result<T, AccessError> {
        let mut value = MaybeUninit::<T>::zeroed();
        // SAFETY: the bytes of `value` are initialised (to zero), and this is the only reference.
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(value.as_mut_ptr().cast::<u8>(), size_of::<T>())
        };
        self.read_at(gpa, bytes)?;
        // SAFETY: any bytes make a `T`.
        Ok(unsafe { value.assume_init() })
    }
}
