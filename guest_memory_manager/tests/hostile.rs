//! Whatever a guest or a caller passes: a typed error, and everything as it was.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "hostile/builds.rs"]
mod builds;
#[path = "hostile/callbacks.rs"]
mod callbacks;
#[path = "hostile/files.rs"]
mod files;
#[path = "hostile/lifetimes.rs"]
mod lifetimes;
#[path = "hostile/ranges.rs"]
mod ranges;
mod support;

use guest_memory_manager::{GuestMemoryBuilder, GuestMemoryManager, MemoryLayout};
use guest_memory_manager::{SoftwarePartition, Vtl};
use memory_range::{MemoryRange, PAGE_SIZE};
use std::sync::Arc;

/// The first and the last address that no layout here has, near the end of all addresses.
const TOP: u64 = u64::MAX - (PAGE_SIZE - 1);
/// Where the device windows go: after 1 MiB of RAM.
const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x12_0000);

/// A small PC with a partition: 1 MiB of legacy RAM, a gap, and a megabyte more.
fn pc() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let layout = MemoryLayout::new(2 << 20, &[GAP], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition)
}

/// The manager's account of its regions, of what is visible, and of who holds it; without what
/// counts attempts.
fn account(manager: &GuestMemoryManager) -> String {
    let tree = inspect::inspect(manager);
    let view = tree.child("view").unwrap();
    let parts = ["regions", "flat_view", "slots", "listeners", "damage"];
    let parts = parts.map(|part| view.child(part).unwrap().to_string());
    let mappings = tree.get(&"mapper/mappings".parse().unwrap()).unwrap();
    format!("{}\n{mappings}", parts.join("\n"))
}
