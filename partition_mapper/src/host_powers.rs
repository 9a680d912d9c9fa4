//! Prefetching and pinning by way of the host's page tables.
//!
//! For a backend whose guest sees what this process has mapped: what is faulted in here is there
//! for the guest, and what is locked here stays.

use crate::{PinError, PrefetchError};
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::HostRange;

pub(crate) fn prefetch(
    gpa: MemoryRange,
    host: &HostRange,
    permissions: Permissions,
) -> Result<(), PrefetchError> {
    host.populate(permissions.access)
        .map_err(|error| PrefetchError {
            gpa,
            source: Box::new(error),
        })
}

pub(crate) fn pin(gpa: MemoryRange, host: &HostRange) -> Result<(), PinError> {
    host.lock().map_err(|error| PinError {
        gpa,
        source: Box::new(error),
    })
}
