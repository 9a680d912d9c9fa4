//! The least that an access with a bounds check can cost.

use crate::memory::Memory;
use std::sync::atomic::{AtomicU32, Ordering};

/// A base and a length. What lies there is always readable and writable.
pub(crate) struct Raw {
    base: *mut u8,
    /// At least that of the longest access.
    len: u64,
}

/// An access reaches past the end.
#[derive(Debug)]
pub(crate) struct OutOfRange;

impl Raw {
    pub(crate) fn new(base: *mut u8, len: u64) -> Self {
        Self { base, len }
    }

    #[inline(always)]
    fn checked(&self, gpa: u64, len: usize) -> Result<*mut u8, OutOfRange> {
        if gpa <= self.len - len as u64 {
            Ok(self.base.wrapping_add(gpa as usize))
        } else {
            Err(OutOfRange)
        }
    }

    #[inline(always)]
    fn atomic(&self, gpa: u64) -> Result<&AtomicU32, OutOfRange> {
        let word = self.checked(gpa, size_of::<u32>())?.cast();
        // SAFETY: in the memory, which stays mapped; the addresses are aligned, and this process
        // has one thread.
        Ok(unsafe { AtomicU32::from_ptr(word) })
    }
}

impl Memory for Raw {
    type Error = OutOfRange;

    #[inline(always)]
    fn read_u64(&self, gpa: u64) -> Result<u64, OutOfRange> {
        let word = self.checked(gpa, size_of::<u64>())?.cast::<u64>();
        // SAFETY: in the memory, which stays mapped; the addresses are aligned.
        Ok(unsafe { word.read_volatile() })
    }

    #[inline(always)]
    fn write_u64(&self, gpa: u64, value: u64) -> Result<(), OutOfRange> {
        let word = self.checked(gpa, size_of::<u64>())?.cast::<u64>();
        // SAFETY: as in `read_u64`.
        unsafe { word.write_volatile(value) };
        Ok(())
    }

    #[inline(always)]
    fn load_u32(&self, gpa: u64) -> Result<u32, OutOfRange> {
        Ok(self.atomic(gpa)?.load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), OutOfRange> {
        self.atomic(gpa)?.store(value, Ordering::Relaxed);
        Ok(())
    }

    #[inline(always)]
    fn exchange_u32(&self, gpa: u64, current: u32, new: u32) -> Result<u32, OutOfRange> {
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        let result = self
            .atomic(gpa)?
            .compare_exchange(current, new, success, failure);
        Ok(result.unwrap_or_else(|there| there))
    }

    #[inline(always)]
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        let src = self.checked(gpa, bytes.len())?;
        // SAFETY: in the memory, which stays mapped and is no part of `bytes`.
        unsafe { src.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
        Ok(())
    }

    #[inline(always)]
    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let dst = self.checked(gpa, bytes.len())?;
        // SAFETY: as in `read`.
        unsafe { dst.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        Ok(())
    }
}
