//! Memory passes to another process, and what comes of peers that send something else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod claims;
mod hostile;
mod misfits;
mod peer;
mod play;
mod processes;
mod sockets;
#[path = "../support/mod.rs"]
mod support;

use guest_memory_manager::MemoryLayout;
use memory_range::MemoryRange;
use std::time::Duration;

/// More than any machine needs.
const AMPLE: Duration = Duration::from_secs(60);
/// For what is not going to happen.
const SHORT: Duration = Duration::from_millis(100);

const GAP: MemoryRange = MemoryRange::new(0x20_0000..0x30_0000);
const VTL2: MemoryRange = MemoryRange::new(0x100_0000..0x108_0000);

/// 3 MiB of RAM around a gap, and 512 KiB of VTL2's.
fn layout() -> MemoryLayout {
    MemoryLayout::new(3 << 20, &[GAP], Some(VTL2)).unwrap()
}
