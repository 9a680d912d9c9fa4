//! What both kinds of snapshot have in common.

use crate::address_space::AddressSpace;
use crate::dirty_marks::{DirtyMarks, Marks};
use crate::error::SnapshotError;
use crate::options::SnapshotOptions;
use crate::region_map::RegionMap;
use guest_memory_manager::{DirtyBitmap, GuestMemoryManager};
use std::sync::Arc;
use vm_memory::GuestMemory;

/// A snapshot of guest memory: [`BackendSnapshot`](crate::BackendSnapshot) or
/// [`AccessView`](crate::AccessView).
pub trait View: Sealed + GuestMemory + Send + Sync + Sized + 'static {
    /// Takes a snapshot of what is visible now, which follows no change of it.
    ///
    /// # Errors
    ///
    /// As [`AddressSpace::attach`]; or guest memory is in the middle of a change on this thread.
    fn take(
        manager: &GuestMemoryManager,
        options: &SnapshotOptions,
    ) -> Result<Arc<Self>, SnapshotError>
    where
        Self: Sealed<Marks = ()>,
    {
        let space = AddressSpace::<Self>::attach(manager, "snapshot", options)?;
        taken(&space, manager)
    }

    /// As [`take`](Self::take), and marks in `bitmap` every page that is written through it. Addresses
    /// in the bitmap are the guest's, whatever offset the options have.
    ///
    /// # Errors
    ///
    /// As [`take`](Self::take).
    fn take_tracked(
        manager: &GuestMemoryManager,
        options: &SnapshotOptions,
        bitmap: &Arc<DirtyBitmap>,
    ) -> Result<Arc<Self>, SnapshotError>
    where
        Self: Sealed<Marks = DirtyMarks>,
    {
        let space = AddressSpace::<Self>::attach_tracked(manager, "snapshot", options, bitmap)?;
        taken(&space, manager)
    }
}

fn taken<V: View>(
    space: &AddressSpace<V>,
    manager: &GuestMemoryManager,
) -> Result<Arc<V>, SnapshotError> {
    let snapshot = space.snapshot();
    manager.detach_dma_target(space.id())?;
    Ok(snapshot)
}

/// What only this crate's types are made by.
pub trait Sealed {
    /// What is done about writes.
    type Marks: Marks;

    /// Whether it has memory that cannot be written.
    const READ_ONLY: bool;

    #[doc(hidden)]
    fn new(map: RegionMap<Self::Marks>) -> Self;
}
