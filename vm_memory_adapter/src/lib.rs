//! Guest memory of this stack behind vm-memory's traits, so that the crates of rust-vmm run on it.
//!
//! - [`AddressSpace`] is what a device keeps: vm-memory's `GuestAddressSpace`. It has the present
//!   snapshot, which follows every change of what is visible. [`ThreadSpace`] is the same in the hands of
//!   one thread that asks for it all the time.
//! - [`AccessView`] is the snapshot for whoever says what an access is for, as virtio-queue does: a
//!   write to read-only memory fails.
//! - [`BackendSnapshot`] is the one for whoever asks for regions, as linux-loader and kernel vhost
//!   do: the memory that can be written.
//! - [`VhostTable`] is the memory table of a vhost or vhost-user device, and finds the host addresses
//!   of its [`Ring`]s (feature `vhost`).
//!
//! ```
//! use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout};
//! use virtio_queue::{Queue, QueueT};
//! use vm_memory::{GuestAddress, GuestAddressSpace};
//! use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};
//!
//! let layout = MemoryLayout::new(16 << 20, &[], None)?;
//! let memory = GuestMemoryBuilder::new().build_now(&layout)?;
//! let space = AddressSpace::<AccessView>::attach(&memory, "virtio", &SnapshotOptions::new())?;
//!
//! let mut queue = Queue::new(256)?;
//! queue.try_set_desc_table_address(GuestAddress(0x1_0000))?;
//! queue.try_set_avail_ring_address(GuestAddress(0x1_1000))?;
//! queue.try_set_used_ring_address(GuestAddress(0x1_2000))?;
//! queue.set_ready(true);
//! assert!(queue.is_valid(&*space.memory()));
//! while let Some(chain) = queue.pop_descriptor_chain(space.memory()) {
//!     println!("{} bytes to read", chain.readable().count());
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a change costs
//!
//! A snapshot is a tree whose nodes the next one shares, but for those on the way to what changed. So a
//! change pays for what it changes and for the height of the tree, which is 3 at 60,000 regions. All that
//! can fail (a lease, a descriptor) is done while the change can still be undone; to publish cannot.
//!
//! # What protects whom
//!
//! A snapshot holds leases: what it shows stays mapped, at its addresses, until it is dropped. So no
//! change of guest memory makes an access through vm-memory fault. A change does not wait for it, and
//! a device that works on an older snapshot goes on with the memory it began with, as a DMA
//! transfer that is under way would.
//!
//! **vm-memory copies through plain pointers, and nothing recovers from a fault there.** Where the
//! memory itself goes away the process dies of SIGBUS: a file that someone truncates, a device that
//! is removed, shared memory for which the host has no page left. So files that are not sealed
//! against shrinking are refused, unless [asked for](SnapshotOptions::memory_that_can_fault). What must
//! survive that uses `GuestMemory` or a `Lease`, which do.
//!
//! vm-memory also forms references to guest memory for atomic accesses; this crate forms none.
//!
//! # Neighbours
//!
//! It stands on the facade, `guest_memory_manager`, whose DMA targets it is among. vm-memory's traits
//! change often; no other crate of this workspace uses them.
//!
//! # What it does not do
//!
//! It has no IOMMU: wrap vm-memory's own around a snapshot. A device's mapping of a file without a
//! length, and memory without a file (fills), are not shown.

mod access_view;
mod address_space;
mod backend_snapshot;
mod descriptors;
mod dirty_marks;
mod error;
mod follower;
#[cfg(test)]
mod injection;
mod options;
mod places;
mod region;
mod region_map;
#[cfg(feature = "vhost")]
mod ring;
mod thread_space;
#[cfg(feature = "vhost")]
mod vhost_table;
mod view;

pub use access_view::AccessView;
pub use address_space::{AddressSpace, SnapshotGuard};
pub use backend_snapshot::BackendSnapshot;
pub use dirty_marks::{DirtyMarks, DirtyMarksSlice, Marks};
pub use error::{NotShown, ReadOnlyMemory, SnapshotError};
pub use options::SnapshotOptions;
pub use region::SnapshotRegion;
#[cfg(feature = "vhost")]
pub use ring::{Ring, RingError, RingLayout, RingPart};
pub use thread_space::{ThreadSnapshot, ThreadSpace};
#[cfg(feature = "vhost")]
pub use vhost_table::VhostTable;
pub use view::View;
