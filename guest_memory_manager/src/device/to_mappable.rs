//! What a device window can show.

use sparse_alloc::{Mappable, MappableCache, MappableError, RomImage, SharedMemory};
use std::fs::File;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Something that a [`DeviceMemoryWindow`](super::DeviceMemoryWindow) can show.
///
/// A file may be given as often as it is mapped: it is recognised, and one descriptor is kept
/// for all its mappings. Whoever maps often saves the recognising with a [`Mappable`].
pub trait ToMappable {
    /// Returns the mappable; a new one is called `name`.
    ///
    /// # Errors
    ///
    /// The file cannot be mapped.
    fn to_mappable(&self, cache: &MappableCache, name: &str) -> Result<Mappable, MappableError>;
}

impl ToMappable for File {
    fn to_mappable(&self, cache: &MappableCache, name: &str) -> Result<Mappable, MappableError> {
        cache.get(name, self)
    }
}

impl ToMappable for OwnedFd {
    fn to_mappable(&self, cache: &MappableCache, name: &str) -> Result<Mappable, MappableError> {
        cache.get(name, self)
    }
}

impl ToMappable for BorrowedFd<'_> {
    fn to_mappable(&self, cache: &MappableCache, name: &str) -> Result<Mappable, MappableError> {
        cache.get(name, self)
    }
}

impl ToMappable for Mappable {
    fn to_mappable(&self, _: &MappableCache, _: &str) -> Result<Mappable, MappableError> {
        Ok(self.clone())
    }
}

impl ToMappable for RomImage {
    fn to_mappable(&self, _: &MappableCache, _: &str) -> Result<Mappable, MappableError> {
        Ok(self.mappable().clone())
    }
}

impl ToMappable for SharedMemory {
    fn to_mappable(&self, _: &MappableCache, _: &str) -> Result<Mappable, MappableError> {
        Ok(self.mappable().clone())
    }
}
