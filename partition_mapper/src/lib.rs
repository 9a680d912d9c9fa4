//! Keeps the memory slots of a hypervisor partition in step with a flat view.
//!
//! A *partition* is a VM as the hypervisor sees it; for KVM, a VM file descriptor and its memory
//! slots.
//!
//! - [`PartitionMemoryMap`]: the narrow, unsafe border to a hypervisor: show this host memory at
//!   these guest physical addresses, take it away. What not every backend can do is a power of its
//!   own ([`Prefetch`], [`Pin`]); one that lacks it says so, and never returns a silent `Ok`.
//! - [`PartitionMapper`]: follows a view as its `region_manager::RegionListener`, at an
//!   [offset](MapperOptions::offset) or [in part](MapperOptions::only) if asked for. A slot that
//!   it made never outlives the host addresses behind it.
#![cfg_attr(
    feature = "kvm",
    doc = "- [`KvmPartition`]: the KVM backend (feature `kvm`). The slot limit is read from the VM."
)]
#![cfg_attr(
    not(feature = "kvm"),
    doc = "- `KvmPartition`: the KVM backend, with the feature `kvm`."
)]
//! - [`SoftwarePartition`]: a backend without a hypervisor, which keeps KVM's rules, tells
//!   [which were broken](BrokenRule), and answers loads and stores as a guest would see them.
//! - [`testing::FailingPartition`]: lets any call to a partition fail, to test what lies above.
//!
//! # Neighbours
//!
//! `region_manager` calls a mapper when its flat view changes. `sparse_alloc` reserves the host
//! addresses; of it, this crate uses only the promise that they stay reserved (`MappedRegion`,
//! `HostRange`).
//!
//! # What it does not do
//!
//! It decides nothing about what is visible: the permissions of a slot come from the flat view.
//! It maps no memory into the process. It does not pause vCPUs: between a deletion and a
//! creation of overlapping slots a running vCPU can see the gap. It knows no dirty log, and
//! deleting a slot loses what one had gathered.

mod error;
mod host_powers;
#[cfg(feature = "kvm")]
mod kvm;
mod mapper;
mod partition;
mod slot_ids;
mod slot_table;
mod software;
pub mod testing;

pub use error::{Cause, MapError, PinError, PrefetchError, UnmapError};
#[cfg(feature = "kvm")]
pub use kvm::{KvmError, KvmOptions, KvmPartition};
pub use mapper::{
    AddError, DetachError, MapperOptions, NewMapperError, PartitionMapper, RemoveError,
};
pub use partition::{PartitionMemoryMap, Pin, Power, Prefetch};
pub use slot_table::SlotInfo;
pub use software::{
    BrokenRule, GuestAccess, GuestAccessError, MmioExit, SoftwareOptions, SoftwarePartition,
};
