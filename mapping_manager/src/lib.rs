//! The host view of guest memory: one reservation as long as the guest physical address space,
//! what is mapped in it, and access to it by guest physical address.
//!
//! - [`VaMapper`] is the reservation with its table of active mappings. HVA = base + GPA, always,
//!   so whoever knows the base needs no look-up. Its owner decides what is mapped where.
//! - [`GuestMemory`] is what devices see: a cheap clone that reads and writes by GPA. An access is
//!   a bounds check and the access itself, whatever the number of mappings, and takes no lock. One
//!   that hits a hole, read-only memory or a truncated file returns an [`AccessError`].
//!   [`GuestMemory::subrange`] is the same for a part of it, with its own origin and bounds.
//! - [`GuestSlice`] is a number of elements of one type: a ring, a table. [`GuestRange`]s are the
//!   pieces of a scattered read or write, such as a descriptor chain.
//! - [`Lease`] keeps a range of memory valid, at its host addresses, until it is dropped, whatever is
//!   unmapped, replaced or moved meanwhile. [`GuestMemory::lock`] takes one without a lock.
//! - [`DirtyBitmap`] learns of each page that is written through a [tracked](GuestMemory::tracked)
//!   view. Other views pay nothing for that.
//!
//! ```
//! use mapping_manager::{Cause, VaMapper};
//! use memory_range::{Access, MemoryRange};
//! use sparse_alloc::{Alignment, Backing, SharedMemory};
//!
//! let ram = SharedMemory::new("ram", 0x4000)?;
//! let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
//! let backing = Backing::from(ram.mappable().clone());
//! mapper.map(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite)?;
//!
//! let memory = mapper.guest_memory();
//! memory.write_plain(0x8010, &0x1234_u32)?;
//! assert_eq!(memory.read_plain::<u32>(0x8010)?, 0x1234);
//!
//! // A hole is an error that says where and how far the access got.
//! let error = memory.read_at(0xbffe, &mut [0; 4]).unwrap_err();
//! assert_eq!((error.done(), error.cause()), (2, Cause::Hole { gpa: 0xc000 }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Neighbours
//!
//! `sparse_alloc` below reserves and maps, and makes the accesses that survive a fault. Above, the
//! facade drives a [`VaMapper`] from the plans of `region_manager`.
//!
//! # What it does not do
//!
//! It knows no priorities: what is mapped over something replaces it, and nothing comes back by
//! itself. It knows no hypervisor.

#[cfg(feature = "descriptors")]
pub mod descriptors;
mod dirty_bitmap;
mod error;
mod fetch;
mod guest_memory;
mod inspection;
mod lease;
#[cfg(feature = "remote")]
pub mod remote;
mod sync;
mod table;
mod va_mapper;

pub use dirty_bitmap::{DirtyBitmap, DirtyBitmapError};
pub use error::{AccessError, Cause, Operation};
pub use fetch::{FetchOnFault, Unanswered};
pub use guest_memory::{
    AtomicPlain, GuestMemory, GuestRange, GuestSlice, GuestSliceIter, ScatteredError, TrackError,
    ViewError,
};
pub use lease::{Lease, LeaseError, LeaseSlice};
pub use table::{ActiveMapping, LeaseAccess};
pub use va_mapper::VaMapper;
