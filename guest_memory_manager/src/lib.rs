//! Guest memory for virtual machine monitors on Linux/KVM.
//!
//! A [`GuestMemoryBuilder`] makes the memory of one guest from a [`MemoryLayout`]; the
//! [`GuestMemoryManager`] it returns keeps every consumer in step with what the guest is to see:
//!
//! - partitions ([`GuestMemoryManager::attach_partition`]): the memory slots of a KVM VM, or a
//!   software partition with the same rules;
//! - devices ([`GuestMemoryManager::client`]): reads and writes by guest physical address, that
//!   survive whatever the memory does meanwhile;
//! - RAM visibility ([`GuestMemoryManager::ram_visibility_control`]): PAM shadowing and ROM under
//!   RAM, exactly, write protection included;
//! - device windows ([`GuestMemoryManager::device_memory_mapper`]): files shown at addresses that a
//!   guest may choose, over one another and under RAM; windows that stay
//!   [one slot](WindowOptions::one_slot) while mappings come and go in them; and
//!   [aliases](DeviceMemoryWindow::alias), which show the same memory at a second place;
//! - transactions ([`GuestMemoryManager::transaction`]): any number of such changes as one, done or
//!   not done as a whole, and planned before;
//! - DMA targets ([`GuestMemoryManager::attach_dma_target`]): what an IOMMU or a vhost device is to
//!   reach, with file, offset and host addresses; [`MemoryTable`] is one ready for vhost;
//! - presence ([`GuestMemoryManager::populate_ram`]): memory for RAM before the guest asks for it;
//! - the same RAM again ([`GuestMemoryManager::shared_memory_backing`]), in this process or, over a
//!   socket, in another ([`SharedMemoryBacking::send`]).
#![cfg_attr(
    feature = "remote",
    doc = "- other processes ([`GuestMemoryManager::serve_remote`]), each with a VA mapper that \
           follows every change ([`RemoteGuestMemory`]), and with partitions that can be attached \
           as if they were here."
)]
#![cfg_attr(
    not(feature = "remote"),
    doc = "- other processes that follow every change, with the feature `remote`."
)]
//!
//! All of its state shows in a tree: `inspect::inspect(&manager)`.
//!
//! ```
//! use guest_memory_manager::{
//!     GuestMemoryBuilder, MemoryLayout, RamVisibility, RomImage, SoftwarePartition, Vtl,
//! };
//! use memory_range::MemoryRange;
//! use std::sync::Arc;
//!
//! # async fn vmm() -> Result<(), Box<dyn std::error::Error>> {
//! // 16 MiB of RAM, the first of them divided as a PC's is.
//! let layout = MemoryLayout::new(16 << 20, &[], None)?;
//! let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build(&layout).await?;
//! let partition = Arc::new(SoftwarePartition::new());
//! memory.attach_partition(Vtl::Vtl0, &partition, None).await?;
//!
//! // A ROM under the BIOS segment; RAM hides it until it is unmapped.
//! let rom = RomImage::from_bytes("bios", &[0x90; 0x1_0000])?;
//! let (mut control, window) = memory.device_memory_mapper().new_region(0x1_0000, "bios".into())?;
//! window.map(0, &rom, 0, 0x1_0000, false)?;
//! control.map_to_guest(0xf_0000, false)?;
//! let segment = MemoryRange::new(0xf_0000..0x10_0000);
//! let visibility = memory.ram_visibility_control();
//! visibility.set_ram_visibility(segment, RamVisibility::Unmapped).await?;
//!
//! let mut byte = [0];
//! partition.load(0xf_fff0, &mut byte)?;
//! assert_eq!(byte, [0x90]);
//! # drop(control);
//! # Ok(())
//! # }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! #     tokio::runtime::Builder::new_current_thread().build()?.block_on(vmm())
//! # }
//! ```
//!
//! # Blocking and async
//!
//! Every change does all its work in this process under one lock: in the blocking function
//! (`..._now`), or in the first poll of the `async` one. No executor is needed for it, and a future
//! that is dropped leaves no half of a change. What comes after, and can be waited for or dropped,
//! is the [`Acknowledgement`] of other processes. No access takes a lock.
//!
//! # Neighbours
//!
//! This crate only puts the layers together: `region_manager` decides, `mapping_manager` and
//! `sparse_alloc` map, `partition_mapper` talks to the hypervisor. What is needed of them here is
//! exported again.
//!
//! # What it does not do
//!
//! One guest has one view here; a second one (SMM, say) is a second manager. It makes no vCPU and
//! handles no exit: a guest's write to RAM that is write-only is the VMM's to pass on, also one of a
//! partition in another process. It starts no process, and serves none by itself.

#![forbid(unsafe_code)]

mod acknowledgement;
mod attach;
mod backing;
mod builder;
mod client;
mod device;
mod dma;
mod error;
mod handover;
mod layout;
mod manager;
mod populate;
mod ram;
#[cfg(feature = "remote")]
mod remote;
mod shared;
#[cfg(test)]
mod tests;
mod transaction;
mod va_sink;
mod visibility;
mod vtl;
mod write_only;

pub use acknowledgement::{Acknowledgement, Followed, NotFollowed};
pub use attach::{PartitionId, PartitionView};
pub use backing::SharedMemoryBacking;
pub use builder::GuestMemoryBuilder;
pub use client::GuestMemoryClient;
pub use device::{
    DeviceMemoryControl, DeviceMemoryMapper, DeviceMemoryWindow, Fill, ToMappable, WindowOptions,
};
pub use dma::{
    DmaFailure, DmaMapping, DmaOptions, DmaTarget, DmaTargetError, DmaTargetId, MemoryTable,
    MemoryTableEntry, TableFull,
};
pub use error::{
    AliasError, AttachDmaError, AttachError, BuildError, ChangeError, ClientError, DetachError,
    DeviceMemoryError, HiddenWriteError, ProcessAttachError, VisibilityError,
};
pub use handover::{BackingClaim, ClaimError, ReceiveBackingError, SendBackingError};
pub use layout::{LayoutError, MemoryLayout};
pub use manager::GuestMemoryManager;
#[cfg(feature = "remote")]
pub use remote::{
    AcceptError, ClientState, ClientThread, ConnectError, ConnectPathError, Eviction, ListenError,
    ManagerLost, OfferError, ProcessEvent, ProcessWaitError, ReconnectError, RemoteClient,
    RemoteClientOptions, RemoteGrant, RemoteGuestMemory, RemoteOptions, RemoteServer,
    RemoteServerThread, RemoteSocket, ServeRemoteError, WaitError,
};
pub use transaction::GuestMemoryTransaction;
pub use visibility::{RamVisibility, RamVisibilityControl};
pub use vtl::{RemoteProcess, Vtl};

pub use mapping_manager::{
    AccessError, Cause, DirtyBitmap, GuestMemory, GuestRange, GuestSlice, Lease, LeaseAccess,
    LeaseError, LeaseSlice, ScatteredError, TrackError, ViewError,
};
pub use memory_range::{Access, MemoryRange};
#[cfg(feature = "kvm")]
pub use partition_mapper::KvmPartition;
pub use partition_mapper::{GuestAccess, PartitionMemoryMap, SoftwarePartition};
pub use region_manager::{MemoryKind, Plan};
pub use sparse_alloc::{
    Mappable, PopulateError, PopulateProgress, Populated, RomImage, SharedMemory,
};

/// The README's example, compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
