//! What the tests of the facade share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use guest_memory_manager::{GuestMemory, GuestMemoryManager, SharedMemory};
use memory_range::{MemoryRange, PAGE_SIZE};
use sparse_alloc::HostRange;
use std::error::Error;

/// The range of these pages.
pub(crate) fn pages(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start * PAGE_SIZE..end * PAGE_SIZE)
}

/// The range of these addresses.
pub(crate) fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// What devices see.
pub(crate) fn memory_of(manager: &GuestMemoryManager) -> GuestMemory {
    manager.client().guest_memory_now()
}

/// Memory of which every page begins with `first` and the numbers after it, each of 4 bytes.
pub(crate) fn numbered(name: &str, pages: u64, first: u32) -> SharedMemory {
    let memory = SharedMemory::new(name, pages * PAGE_SIZE).unwrap();
    for page in 0..pages {
        let number = first + u32::try_from(page).unwrap();
        HostRange::new(memory.linear_view().clone(), page * PAGE_SIZE, 4)
            .unwrap()
            .write(0, &number.to_le_bytes())
            .unwrap();
    }
    memory
}

/// Bytes of which every page begins with `first` and the numbers after it, each of 4 bytes.
pub(crate) fn numbered_bytes(pages: u32, first: u32) -> Vec<u8> {
    let mut bytes = vec![0; (u64::from(pages) * PAGE_SIZE) as usize];
    for (page, number) in bytes.chunks_exact_mut(PAGE_SIZE as usize).zip(first..) {
        page[..4].copy_from_slice(&number.to_le_bytes());
    }
    bytes
}

/// An error and all its causes.
pub(crate) fn causes<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The words of an error and of all its causes.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let words: Vec<String> = causes(error).map(ToString::to_string).collect();
    words.join(": ")
}

/// The first cause of an error that is of this type.
pub(crate) fn cause<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    causes(error).find_map(|error| error.downcast_ref())
}

/// The lines of the last plan, from the tree.
pub(crate) fn last_plan(manager: &GuestMemoryManager) -> Vec<String> {
    let tree = inspect::inspect(manager);
    let plan = tree.child("view").and_then(|view| view.child("last_plan"));
    let lines = plan.and_then(inspect::Node::as_directory).unwrap().iter();
    lines
        .map(|(_, line)| line.to_string().trim().to_owned())
        .collect()
}

/// A number of the view's own account.
pub(crate) fn counter(manager: &GuestMemoryManager, name: &str) -> u64 {
    let tree = inspect::inspect(manager);
    let path = format!("view/counters/{name}").parse().unwrap();
    let value = tree.get(&path).unwrap().to_string();
    value.trim().parse().unwrap()
}
