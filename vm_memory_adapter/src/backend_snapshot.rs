//! The snapshot for those who check no permissions.

use crate::dirty_marks::Marks;
use crate::region::SnapshotRegion;
use crate::region_map::RegionMap;
use crate::view::{Sealed, View};
use vm_memory::{GuestAddress, GuestMemoryBackend, MemoryRegionAddress};

/// The memory that could be written when it was taken, as vm-memory's [`GuestMemoryBackend`]: for
/// linux-loader, for kernel vhost, and for whoever asks for that trait.
///
/// It never changes. It holds leases, so what it shows stays at its addresses while it lives,
/// whatever is unmapped, hidden or moved meanwhile; what has been shown since is missing. Ask an
/// [`AddressSpace`](crate::AddressSpace) for the present one.
///
/// The trait has no permissions: whoever has a region may write there. So memory that is read-only is
/// left out; [`AccessView`](crate::AccessView) has it. What lies side by side, in
/// guest physical addresses, in host addresses and in one file, is one region.
///
/// vm-memory copies through plain pointers: a fault in such a copy kills the process. The memory
/// shown cannot fault, unless [that was asked for](crate::SnapshotOptions::memory_that_can_fault).
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout};
/// use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
/// use vm_memory_adapter::{BackendSnapshot, SnapshotOptions, View};
///
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let snapshot = BackendSnapshot::take(&memory, &SnapshotOptions::new())?;
/// assert_eq!(snapshot.num_regions(), 1);
/// snapshot.write_obj(0x1234_u32, GuestAddress(0x9_fffe))?;
/// assert_eq!(snapshot.read_obj::<u32>(GuestAddress(0x9_fffe))?, 0x1234);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct BackendSnapshot<B = ()> {
    map: RegionMap<B>,
}

impl<B: Marks> Sealed for BackendSnapshot<B> {
    type Marks = B;

    const READ_ONLY: bool = false;

    fn new(map: RegionMap<B>) -> Self {
        Self { map }
    }
}

impl<B: Marks> View for BackendSnapshot<B> {}

impl<B: Marks> GuestMemoryBackend for BackendSnapshot<B> {
    type R = SnapshotRegion<B>;

    fn num_regions(&self) -> usize {
        self.map.len()
    }

    #[inline(always)]
    fn find_region(&self, addr: GuestAddress) -> Option<&SnapshotRegion<B>> {
        self.map.find(addr.0)
    }

    fn iter(&self) -> impl Iterator<Item = &SnapshotRegion<B>> {
        self.map.iter()
    }

    fn last_addr(&self) -> GuestAddress {
        let end = self.map.last().map_or(0, SnapshotRegion::end);
        GuestAddress(end.saturating_sub(1))
    }

    #[inline(always)]
    fn to_region_addr(
        &self,
        addr: GuestAddress,
    ) -> Option<(&SnapshotRegion<B>, MemoryRegionAddress)> {
        let (region, into) = self.map.find_into_apart(addr.0)?;
        Some((region, MemoryRegionAddress(into)))
    }
}
