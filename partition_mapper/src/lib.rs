//! Keeps the memory slots of a hypervisor partition in step with a flat view.
//!
//! A *partition* is a VM as the hypervisor sees it; for KVM, a VM file descriptor and its memory
//! slots.
//!
//! - [`PartitionMemoryMap`]: the narrow, unsafe border to a hypervisor: show this host memory at
//!   these guest physical addresses, take it away. What not every backend can do is a power of its
//!   own ([`Prefetch`], [`Pin`], [`OfferStores`]); one that lacks it says so, and never returns a silent `Ok`.
//!   How many slots there are is known [before a change](SlotBudget).
//! - [`PartitionMapper`]: follows a view as its `region_manager::RegionListener`, at an
//!   [offset](MapperOptions::offset), [in part](MapperOptions::only) or only its
//!   [RAM](MapperOptions::ram_only) if asked for. A slot that it made never outlives the host
//!   addresses behind it.
//! - [`VcpuBarrier`]: stops a partition's vCPUs while slots are deleted and created anew, for a
//!   running vCPU could see the gap. It is taken for changes that have such a gap, once for each, and
//!   for no other; a VMM that gives none is told of gaps by `region_manager::Plan::gaps`.
#![cfg_attr(
    feature = "kvm",
    doc = "- [`KvmPartition`]: the KVM backend (feature `kvm`). The slot limit is read from the VM.\n\
           - [`KvmVcpuBarrier`] and [`RunGate`]: a ready barrier for vCPUs of kvm-ioctls."
)]
#![cfg_attr(
    not(feature = "kvm"),
    doc = "- `KvmPartition`: the KVM backend, and `KvmVcpuBarrier`, with the feature `kvm`."
)]
//! - [`SoftwarePartition`]: a backend without a hypervisor, which keeps KVM's rules, tells
//!   [which were broken](BrokenRule), and answers loads and stores as a guest would see them.
//! - [`ForwardedPartition`]: a partition whose VM belongs to another process. Its slots are kept in a
//!   ledger here and [passed on](ForwardSlots); [`HeldSlots`] is the other end.
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
//! It maps no memory into the process. It runs no vCPU, and pauses only those whose barrier it was
//! given. It knows no dirty log, and deleting a slot loses what one had gathered. Mappers of
//! different views that share a partition don't see each other's claims on its slots: there a
//! change can still run out of them in the middle, and is undone.

mod barrier;
mod error;
mod forwarded;
mod host_powers;
#[cfg(feature = "kvm")]
mod kvm;
mod mapper;
mod partition;
mod places;
mod reservations;
mod slot_budget;
mod slot_ids;
mod slot_table;
mod software;
mod store_taker;
pub mod testing;

pub use barrier::{PauseError, PausedVcpus, VcpuBarrier};
pub use error::{Cause, MapError, PinError, PrefetchError, UnmapError};
pub use forwarded::{ForwardSlots, ForwardedOptions, ForwardedPartition, HeldSlots, SlotsLeft};
#[cfg(feature = "kvm")]
pub use kvm::{
    BarrierSignalError, KvmError, KvmOptions, KvmPartition, KvmVcpuBarrier, KvmVcpuBarrierOptions,
    RunGate, SlotZapAll,
};
pub use mapper::{
    AddError, CheckError, DetachError, MapperOptions, NewMapperError, PartitionMapper, RemoveError,
};
pub use partition::{PartitionMemoryMap, Pin, Power, Prefetch};
pub use slot_budget::{SlotBudget, SlotClaims, TooManySlots};
pub use slot_table::SlotInfo;
pub use software::{
    BrokenRule, GuestAccess, GuestAccessError, MmioExit, SoftwareOptions, SoftwarePartition,
};
pub use store_taker::{OfferStores, StoreTaker};
