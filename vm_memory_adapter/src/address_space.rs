//! The present snapshot, for devices.

use crate::access_view::AccessView;
use crate::dirty_marks::{DirtyMarks, Marks};
use crate::follower::Follower;
use crate::options::SnapshotOptions;
use crate::region_map::RegionMap;
use crate::thread_space::ThreadSpace;
use crate::view::{Sealed, View};
use arc_swap::{ArcSwap, Guard};
use guest_memory_manager::{AttachDmaError, DirtyBitmap, DmaTargetId, GuestMemoryManager};
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::GuestAddressSpace;

/// Guest memory as vm-memory's [`GuestAddressSpace`]: what a device keeps, and asks for the present
/// snapshot before each piece of work.
///
/// [`memory`](GuestAddressSpace::memory) takes no lock and makes nothing: a snapshot is made by the
/// change that makes it necessary, before that change returns, and shares with the one before what did
/// not change. So a device sees a device window that is plugged in, and no longer sees RAM that is
/// hidden, from its next piece of work on; the one under way ends on the memory that it began with.
///
/// It costs two locked instructions, one to take a snapshot and one to let go of it, and no cache line is
/// shared with other threads that do the same. A thread that asks before every little piece of work
/// does so through a [`ThreadSpace`], which spares it both.
///
/// Cloning is cheap, and a clone is the same address space. When the last is dropped, its memory is
/// let go; what is attached to the manager is then an empty name, until it is
/// [detached](guest_memory_manager::GuestMemoryManager::detach_dma_target) by [`id`](Self::id), or
/// the manager is dropped. After either, an address space is empty.
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, MemoryRange, RamVisibility};
/// use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
/// use vm_memory_adapter::{AccessView, AddressSpace, SnapshotOptions};
///
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let space = AddressSpace::<AccessView>::attach(&memory, "virtio", &SnapshotOptions::new())?;
///
/// let before = space.memory();
/// let segment = MemoryRange::new(0xf_0000..0x10_0000);
/// memory.ram_visibility_control().set_ram_visibility_now(segment, RamVisibility::Unmapped)?;
/// assert!(space.memory().read_obj::<u8>(GuestAddress(0xf_0000)).is_err());
/// // What was taken before is still there.
/// assert_eq!(before.read_obj::<u8>(GuestAddress(0xf_0000))?, 0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct AddressSpace<V = AccessView> {
    state: Arc<State<V>>,
    id: DmaTargetId,
}

/// What the address space shares with the one who follows guest memory.
pub(crate) struct State<V> {
    current: ArcSwap<V>,
    /// How many snapshots were published: it grows after each, and before the change that was the reason
    /// ends.
    published: AtomicU64,
}

impl<V: View> State<V> {
    pub(crate) fn current(&self) -> Guard<Arc<V>> {
        self.current.load()
    }

    /// Shows another map from now on.
    pub(crate) fn publish(&self, map: RegionMap<V::Marks>) {
        self.current.store(Arc::new(V::new(map)));
        // Whoever sees that it grew finds this snapshot, or a later one.
        self.published.fetch_add(1, Ordering::Release);
    }

    /// To be compared with what it was; then what was found in `current` before is still there, as far
    /// as this thread can know.
    #[inline(always)]
    pub(crate) fn published(&self) -> u64 {
        self.published.load(Ordering::Acquire)
    }

    pub(crate) fn snapshot(&self) -> Arc<V> {
        self.current.load_full()
    }
}

impl<V: View> AddressSpace<V> {
    /// Follows guest memory from now on. `name` stands in errors and in inspection.
    ///
    /// # Errors
    ///
    /// As [`attach_dma_target`](GuestMemoryManager::attach_dma_target); the cause is
    /// [`NotShown`](crate::NotShown) where some of the RAM cannot be shown.
    pub fn attach(
        manager: &GuestMemoryManager,
        name: impl Into<String>,
        options: &SnapshotOptions,
    ) -> Result<Self, AttachDmaError>
    where
        V: Sealed<Marks = ()>,
    {
        Self::attach_with(manager, name.into(), options, ())
    }

    /// As [`attach`](Self::attach), and marks in `bitmap` every page that is written through a
    /// snapshot. Addresses in the bitmap are the guest's, whatever offset the options have.
    ///
    /// # Errors
    ///
    /// As [`attach`](Self::attach).
    pub fn attach_tracked(
        manager: &GuestMemoryManager,
        name: impl Into<String>,
        options: &SnapshotOptions,
        bitmap: &Arc<DirtyBitmap>,
    ) -> Result<Self, AttachDmaError>
    where
        V: Sealed<Marks = DirtyMarks>,
    {
        Self::attach_with(manager, name.into(), options, bitmap.clone())
    }

    fn attach_with(
        manager: &GuestMemoryManager,
        name: String,
        options: &SnapshotOptions,
        source: <V::Marks as Marks>::Source,
    ) -> Result<Self, AttachDmaError> {
        let state = Arc::new(State {
            current: ArcSwap::from_pointee(V::new(RegionMap::empty())),
            published: AtomicU64::new(0),
        });
        let memory = manager.client().guest_memory_now();
        let follower = Follower::new(name, memory, options, source, Arc::downgrade(&state));
        let id = manager.attach_dma_target(Box::new(follower), options.reach.clone())?;
        Ok(Self { state, id })
    }

    /// Returns the present snapshot, to be kept for long. It costs a little more than
    /// [`memory`](GuestAddressSpace::memory).
    pub fn snapshot(&self) -> Arc<V> {
        self.state.snapshot()
    }

    /// Makes a handle for one thread, which takes the present snapshot without an atomic
    /// read-modify-write.
    pub fn for_this_thread(&self) -> ThreadSpace<V> {
        ThreadSpace::new(&self.state)
    }

    /// By what it is detached from the manager.
    pub fn id(&self) -> DmaTargetId {
        self.id
    }
}

impl<V> Clone for AddressSpace<V> {
    fn clone(&self) -> Self {
        Self {
            state: self.state.clone(),
            id: self.id,
        }
    }
}

impl<V: View> GuestAddressSpace for AddressSpace<V> {
    type M = V;
    type T = SnapshotGuard<V>;

    #[inline]
    fn memory(&self) -> SnapshotGuard<V> {
        SnapshotGuard(self.state.current())
    }
}

impl<V> fmt::Debug for AddressSpace<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AddressSpace")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A snapshot, for a short time: for a piece of a device's work.
#[must_use = "it is the memory itself"]
pub struct SnapshotGuard<V>(Guard<Arc<V>>);

impl<V> SnapshotGuard<V> {
    /// Makes of it what can be kept for long.
    pub fn into_snapshot(self) -> Arc<V> {
        Guard::into_inner(self.0)
    }
}

impl<V> Clone for SnapshotGuard<V> {
    fn clone(&self) -> Self {
        Self(Guard::from_inner(Arc::clone(&self.0)))
    }
}

impl<V> Deref for SnapshotGuard<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        &self.0
    }
}

impl<V: fmt::Debug> fmt::Debug for SnapshotGuard<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        V::fmt(self, f)
    }
}
