//! Reserved host address space, the memory mapped into it, and access to it that survives faults.
//!
//! A [`Reservation`] is up to 64 TiB of address space that costs no memory. Into it a caller maps
//! parts of a [`Backing`]: of a [`Mappable`] (a memfd, a file, a ROM image, a device), anonymous
//! memory, or a fill: pages of zeros or of all-ones. Mapping over mappings replaces them, in one step for whoever reads
//! there, and a change that fails leaves what was there, not a hole.
//!
//! - [`Reservation`]: reserve, map, unmap, protect, populate, lock, decommit; [`Undo`] goes back
//!   after a failure even where the process has reached its limit of VMAs.
//! - [`SpaceEditor`]: the same without a list of what is mapped, for who keeps one anyway, and
//!   [`ReservedSpace`], which it changes.
//! - [`SharedMemory`]: a memfd that nobody can resize. [`RomImage`]: a copy of an image that nobody
//!   can write, but for the loader.
//! - [`LinearView`]: one permanent mapping of a whole backing, apart from any reservation.
//! - [`MappedRegion`]: the promise that address space stays reserved, and [`HostRange`]: a piece of
//!   it with a share of that promise, to hand to a hypervisor or to hold as a lease.
//! - [`populate_in_parallel`]: makes pages present with several threads, to be watched and cancelled.
//! - [`access`]: loads, stores and copies that return an error where others would die of a fault.
//!
//! # Neighbours
//!
//! It stands on `memory_range` alone. `mapping_manager` keeps a table of what is mapped where, and
//! `partition_mapper` holds [`MappedRegion`]s for as long as a hypervisor knows their addresses.
//!
//! # What it does not do
//!
//! It knows no guest: an offset in a reservation may be a GPA, but nothing here says so. It keeps no
//! table of backings; a reservation remembers only which ranges are mapped and what they allow. It
//! knows no other process: descriptors are lent, and who sends them where is not its concern.
//!
//! Linux on x86-64 only.
//!
//! # Safety
//!
//! This is the only crate of the workspace that calls `mmap` and its kin, all of them from one
//! private module. No reference to mapped memory is ever formed.

pub mod access;
mod alignment;
mod backing;
mod decommit;
mod exclusion;
mod file_facts;
mod headroom;
mod host_range;
mod inspection;
mod limits;
mod linear_view;
mod lock;
mod mappable;
mod mappable_cache;
mod mapped_region;
mod memfd;
mod ones;
mod overcommit;
mod owned_pages;
mod populate;
mod reservation;
mod rom_image;
mod shared_memory;
mod space;
mod sys;

pub use alignment::Alignment;
pub use backing::{Backing, BackingIdentity};
pub use decommit::DecommitError;

pub use file_facts::{LenError, MappableError};
pub use host_range::{HostRange, OutsideRegion, ReadWriteError};
pub use linear_view::{LinearView, LinearViewError};
pub use lock::LockError;
pub use mappable::Mappable;
pub use mappable_cache::MappableCache;
pub use mapped_region::MappedRegion;
pub use populate::{PopulateError, PopulateProgress, Populated, populate_in_parallel};
pub use reservation::{Reservation, Undo};
pub use rom_image::{RomImage, RomImageError};
pub use shared_memory::{SharedMemory, SharedMemoryError};
pub use space::{
    MapError, ProtectError, ReserveError, ReservedSpace, SpaceEditor, UnmapError, Urgency,
};
pub use sys::CallCounts;
