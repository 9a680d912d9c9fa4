//! What is compared: the accesses that a device makes.

use std::fmt::Debug;

/// Memory by guest physical address. Every function is one access, with its bounds checked.
pub(crate) trait Memory {
    /// Why an access failed; no access here does.
    type Error: Debug;

    /// Reads a plain `u64`.
    fn read_u64(&self, gpa: u64) -> Result<u64, Self::Error>;

    /// Writes a plain `u64`.
    fn write_u64(&self, gpa: u64, value: u64) -> Result<(), Self::Error>;

    /// Loads a `u32` that others may store to meanwhile; relaxed.
    fn load_u32(&self, gpa: u64) -> Result<u32, Self::Error>;

    /// Stores a `u32` that others may load meanwhile; relaxed.
    fn store_u32(&self, gpa: u64, value: u32) -> Result<(), Self::Error>;

    /// Exchanges a `u32`, sequentially consistent; returns what was there.
    fn exchange_u32(&self, gpa: u64, current: u32, new: u32) -> Result<u32, Self::Error>;

    /// Copies out of the guest.
    fn read(&self, gpa: u64, bytes: &mut [u8]) -> Result<(), Self::Error>;

    /// Copies into the guest.
    fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), Self::Error>;
}
