//! This crate's access.

use crate::memory::Memory;
use mapping_manager::{AccessError, GuestMemory};

impl Memory for GuestMemory {
    type Error = AccessError;

    #[inline(always)]
    fn read_u64(&self, gpa: u64) -> Result<u64, AccessError> {
        self.read_plain(gpa)
    }

    #[inline(always)]
    fn write_u64(&self, gpa: u64, value: u64) -> Result<(), AccessError> {
        self.write_plain(gpa, &value)
    }

    /// A plain value at an aligned address is read in one access, relaxed.
    #[inline(always)]
    fn load_u32(&self, gpa: u64) -> Result<u32, AccessError> {
        self.read_plain(gpa)
    }

    /// A plain value at an aligned address is written in one access, relaxed.
    #[inline(always)]
    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), AccessError> {
        self.write_plain(gpa, &value)
    }

    #[inline(always)]
    fn exchange_u32(&self, gpa: u64, current: u32, new: u32) -> Result<u32, AccessError> {
        let result = self.compare_exchange(gpa, current, new)?;
        Ok(result.unwrap_or_else(|there| there))
    }

    #[inline(always)]
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        self.read_at(gpa, bytes)
    }

    #[inline(always)]
    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), AccessError> {
        self.write_at(gpa, bytes)
    }
}
