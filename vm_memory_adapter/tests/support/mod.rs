//! A small PC, with a gap in its RAM.

#![allow(dead_code, reason = "each test uses a part of it")]

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, RamVisibility, SharedMemory,
};
use memory_range::MemoryRange;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// What is not RAM.
pub(crate) const GAP: MemoryRange = MemoryRange::new(0x20_0000..0x22_0000);
/// The end of RAM below the gap, and above it.
pub(crate) const LOW_END: u64 = GAP.start();
pub(crate) const RAM_END: u64 = 0x26_0000;

/// 2.25 MiB of RAM, the first of them divided as a PC's is.
pub(crate) fn pc() -> GuestMemoryManager {
    let layout = MemoryLayout::new(RAM_END - GAP.len(), &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    builder.build_now(&layout).unwrap()
}

/// One of the twelve segments from 0xc0000 on.
pub(crate) fn segment(nth: u64) -> MemoryRange {
    let start = 0xc_0000 + nth * 0x4000;
    MemoryRange::new(start..start + 0x4000)
}

pub(crate) fn set(manager: &GuestMemoryManager, range: MemoryRange, visibility: RamVisibility) {
    let control = manager.ram_visibility_control();
    let done = control.set_ram_visibility_now(range, visibility);
    done.unwrap();
}

/// A file that nobody can shorten.
pub(crate) fn sealed(bytes: &[u8], len: u64) -> SharedMemory {
    let memory = SharedMemory::new("bar", len).unwrap();
    let file = memory.mappable().as_fd().try_clone_to_owned().unwrap();
    File::from(file).write_all_at(bytes, 0).unwrap();
    memory
}
