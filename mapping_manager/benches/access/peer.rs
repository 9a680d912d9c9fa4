//! `vm-memory`'s access, by the functions that it offers for each purpose.

use crate::memory::Memory;
use std::sync::atomic::{AtomicU32, Ordering};
use vm_memory::guest_memory::Error;
use vm_memory::{
    Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, VolatileMemory,
};

/// Guest memory in as many regions as there are ranges, each showing its part of `file`.
pub(crate) fn new(file: &FileOffset, ranges: &[(u64, u64)]) -> GuestMemoryMmap {
    let regions = ranges.iter().map(|(start, end)| {
        let part = FileOffset::from_arc(file.arc().clone(), *start);
        (GuestAddress(*start), (end - start) as usize, Some(part))
    });
    GuestMemoryMmap::from_ranges_with_files(regions.collect::<Vec<_>>()).unwrap()
}

impl Memory for GuestMemoryMmap {
    type Error = Error;

    #[inline(always)]
    fn read_u64(&self, gpa: u64) -> Result<u64, Error> {
        self.read_obj(GuestAddress(gpa))
    }

    #[inline(always)]
    fn write_u64(&self, gpa: u64, value: u64) -> Result<(), Error> {
        self.write_obj(value, GuestAddress(gpa))
    }

    #[inline(always)]
    fn load_u32(&self, gpa: u64) -> Result<u32, Error> {
        self.load(GuestAddress(gpa), Ordering::Relaxed)
    }

    #[inline(always)]
    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), Error> {
        self.store(value, GuestAddress(gpa), Ordering::Relaxed)
    }

    #[inline(always)]
    fn exchange_u32(&self, gpa: u64, current: u32, new: u32) -> Result<u32, Error> {
        let slice = GuestMemoryBackend::get_slice(self, GuestAddress(gpa), size_of::<u32>())?;
        let (success, failure) = (Ordering::SeqCst, Ordering::SeqCst);
        let result = slice
            .get_atomic_ref::<AtomicU32>(0)?
            .compare_exchange(current, new, success, failure);
        Ok(result.unwrap_or_else(|there| there))
    }

    #[inline(always)]
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), Error> {
        self.read_slice(bytes, GuestAddress(gpa))
    }

    #[inline(always)]
    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), Error> {
        self.write_slice(bytes, GuestAddress(gpa))
    }
}
