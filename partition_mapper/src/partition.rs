//! The border to a hypervisor.

use crate::{
    ForwardedPartition, MapError, OfferStores, PinError, PrefetchError, SlotBudget, UnmapError,
    VcpuBarrier,
};
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::fmt;
use std::sync::Arc;

/// A VM as the hypervisor sees it: host memory is shown to the guest at guest physical
/// addresses.
///
/// What not every hypervisor can do is a trait of its own, reached by a method that says
/// `None` where the power is lacking: [`prefetch`](Self::prefetch), [`pin`](Self::pin),
/// [`barrier`](Self::barrier).
///
/// # Safety
///
/// The implementer promises:
///
/// - after [`map`](Self::map), the guest reaches the given host bytes at the given guest
///   physical addresses, with no more than the given permissions, and no other host memory
///   through this call;
/// - after a successful [`unmap`](Self::unmap) of a range, and after the partition was dropped,
///   the guest reaches none of the host bytes mapped there, even if something else (a vCPU's
///   file descriptor, say) keeps the VM running;
/// - an error has changed nothing.
///
/// The caller's side is the safety section of [`map`](Self::map).
pub unsafe trait PartitionMemoryMap: Send + Sync {
    /// Names the backend in errors and in inspection.
    fn name(&self) -> &str;

    /// Shows `host` to the guest at `gpa`, which must be as long.
    ///
    /// # Errors
    ///
    /// For an empty range, an overlap with a mapped one, permissions that the hypervisor cannot
    /// enforce, and when slots run out. Nothing has changed then.
    ///
    /// # Safety
    ///
    /// The host addresses stay reserved (that is, they belong to `host`'s region, whatever is
    /// mapped there) until an [`unmap`](Self::unmap) of exactly `gpa` has succeeded or the
    /// partition was dropped: until then the guest may read and write them at any time.
    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError>;

    /// Takes a range away from the guest. `gpa` must be exactly a range that was mapped.
    ///
    /// # Errors
    ///
    /// For any other range, and when the hypervisor refuses. The range is mapped as before.
    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError>;

    /// Returns the power to fault memory in, or `None` where the backend lacks it.
    fn prefetch(&self) -> Option<&dyn Prefetch>;

    /// Returns the power to pin memory, or `None` where the backend lacks it.
    fn pin(&self) -> Option<&dyn Pin>;

    /// Returns what stops the partition's vCPUs, or `None` where nobody gave the backend such a
    /// barrier: then a running vCPU sees the gap while a slot is deleted and created anew.
    ///
    /// Asked for pauses that overlap, it stops the vCPUs once.
    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        None
    }

    /// Says how many slots there are and how many are in use, or `None` where the backend knows
    /// no limit. A change that exceeds the limit is then refused before anything is done.
    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        None
    }

    /// Returns the power to offer stores that reach no memory to somebody else than the VMM, or
    /// `None` where they are the hypervisor's exits.
    fn store_offers(&self) -> Option<&dyn OfferStores> {
        None
    }

    /// Returns the partition as one whose VM belongs to another process, or `None` where it is none.
    fn forwarded(&self) -> Option<&ForwardedPartition> {
        None
    }

    /// Adds the partition's state to a tree: its kind, its slot limit, its slots.
    fn inspect(&self, req: inspect::Request<'_>);
}

/// Faults memory in before the guest touches it.
pub trait Prefetch {
    /// Faults in the pages of `host`, part or whole of what is mapped at `gpa` with
    /// `permissions`: for writing where the guest may write, else for reading.
    ///
    /// # Errors
    ///
    /// When a page could not be had. Those before it may stay: nothing depends on them.
    fn prefetch(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), PrefetchError>;
}

/// Keeps memory from being paged out or moved.
pub trait Pin {
    /// Pins the pages of `host`, part or whole of what is mapped at `gpa`.
    ///
    /// The pin belongs to the pages that are at these host addresses now, and ends when other
    /// memory is put there or the addresses are given up. There is no call that takes it back:
    /// `mlock` does not count its callers, so that one partition's release would undo
    /// another's pin of the same memory.
    ///
    /// # Errors
    ///
    /// When the pages exceed what the process may lock. Those before the failure may stay
    /// locked until the addresses get other memory.
    fn pin(&self, gpa: MemoryRange, host: &HostRange) -> Result<(), PinError>;
}

/// Something that not every backend can do.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Power {
    /// [`Prefetch`].
    Prefetch,
    /// [`Pin`].
    Pin,
}

impl fmt::Display for Power {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Prefetch => "prefetch memory",
            Self::Pin => "pin memory",
        })
    }
}

// SAFETY: every call goes to the partition inside, which keeps the promises; a share dropped is
// not the partition dropped.
unsafe impl<P: PartitionMemoryMap + ?Sized> PartitionMemoryMap for Arc<P> {
    fn name(&self) -> &str {
        (**self).name()
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        // SAFETY: the caller makes the promise that the partition inside asks for.
        unsafe { (**self).map(gpa, host, permissions) }
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        (**self).unmap(gpa)
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        (**self).prefetch()
    }

    fn pin(&self) -> Option<&dyn Pin> {
        (**self).pin()
    }

    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        (**self).barrier()
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        (**self).slot_budget()
    }

    fn store_offers(&self) -> Option<&dyn OfferStores> {
        (**self).store_offers()
    }

    fn forwarded(&self) -> Option<&ForwardedPartition> {
        (**self).forwarded()
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        (**self).inspect(req);
    }
}
