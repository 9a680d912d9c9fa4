//! Reserved host addresses with memory in them, and slots.

#![allow(dead_code, reason = "each test file uses a part of it")]

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{Execute, Permissions, Slot};
use sparse_alloc::{Alignment, Backing, Reservation};
use std::sync::Arc;

/// The range of these pages.
pub(crate) fn pages(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start * PAGE_SIZE..end * PAGE_SIZE)
}

/// Reserves so many pages, and puts anonymous memory into all of them.
pub(crate) fn memory(page_count: u64) -> Arc<Reservation> {
    let memory = Reservation::new(page_count * PAGE_SIZE, Alignment::Page).unwrap();
    memory
        .map(
            pages(0, page_count),
            &Backing::Anonymous,
            0,
            Access::ReadWrite,
        )
        .unwrap();
    Arc::new(memory)
}

/// Permissions of which only the stores vary.
pub(crate) fn permissions(access: Access) -> Permissions {
    Permissions {
        access,
        execute: Execute::Allowed,
    }
}

/// A slot that is not prefetched.
pub(crate) fn slot(range: MemoryRange, access: Access) -> Slot {
    Slot {
        range,
        permissions: permissions(access),
        prefetch: false,
    }
}

/// The words of an error and of all its causes.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
