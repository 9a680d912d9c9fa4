//! The snapshot for those who check permissions.

use crate::backend_snapshot::BackendSnapshot;
use crate::dirty_marks::Marks;
use crate::error::ReadOnlyMemory;
use crate::region::SnapshotRegion;
use crate::region_map::RegionMap;
use crate::view::{Sealed, View};
use std::io;
use std::iter::FusedIterator;
use vm_memory::bitmap::BS;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{GuestAddress, GuestMemory, GuestMemoryError, Permissions, VolatileSlice};

type Slice<'a, B> = VolatileSlice<'a, BS<'a, B>>;

/// The memory that was visible when it was taken, as vm-memory's [`GuestMemory`]: for virtio-queue,
/// virtio-vsock, and whoever says what an access is for.
///
/// A read of read-only memory passes. A write to it fails with
/// [`GuestMemoryError::IOError`], whose source is [`ReadOnlyMemory`]; any access to a hole with
/// [`GuestMemoryError::InvalidGuestAddress`]. An access that fails part of the way has done the part
/// before, and says so as vm-memory does ([`GuestMemoryError::PartialBuffer`]).
///
/// It never changes. It holds leases, and its slices borrow from it: they stay valid while it lives.
/// A slice that was got for reading must not be written through, as vm-memory's traits allow;
/// where the file itself is read-only that is a fault, which kills the process.
///
/// vm-memory copies through plain pointers. The memory shown cannot fault, unless
/// [that was asked for](crate::SnapshotOptions::memory_that_can_fault).
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, MemoryRange, RamVisibility};
/// use vm_memory::{Bytes, GuestAddress};
/// use vm_memory_adapter::{AccessView, SnapshotOptions, View};
///
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let segment = MemoryRange::new(0xf_0000..0x10_0000);
/// memory.ram_visibility_control().set_ram_visibility_now(segment, RamVisibility::ReadOnly)?;
///
/// let view = AccessView::take(&memory, &SnapshotOptions::new())?;
/// assert_eq!(view.read_obj::<u64>(GuestAddress(0xf_0000))?, 0);
/// assert!(view.write_obj(1_u64, GuestAddress(0xf_0000)).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct AccessView<B = ()> {
    map: RegionMap<B>,
}

impl<B: Marks> Sealed for AccessView<B> {
    type Marks = B;

    const READ_ONLY: bool = true;

    fn new(map: RegionMap<B>) -> Self {
        Self { map }
    }
}

impl<B: Marks> View for AccessView<B> {}

impl<B: Marks> AccessView<B> {
    /// The regions by address, read-only ones included.
    pub fn regions(&self) -> impl Iterator<Item = &SnapshotRegion<B>> {
        self.map.iter()
    }
}

impl<B: Marks> GuestMemory for AccessView<B> {
    type PhysicalMemory = BackendSnapshot<B>;
    type Bitmap = B;

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.slices(addr, count, access).all(|slice| slice.is_ok())
    }

    #[inline(always)]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, BS<'a, B>>, GuestMemoryError> {
        Ok(self.slices(addr, count, access))
    }
}

impl<B: Marks> AccessView<B> {
    #[inline(always)]
    fn slices(&self, addr: GuestAddress, count: usize, access: Permissions) -> Slices<'_, B> {
        Slices {
            map: &self.map,
            gpa: addr.0,
            left: count,
            writes: access.has_write(),
        }
    }
}

/// The slices of a range, one for each region.
struct Slices<'a, B> {
    map: &'a RegionMap<B>,
    gpa: u64,
    left: usize,
    writes: bool,
}

impl<'a, B: Marks> Slices<'a, B> {
    #[inline(always)]
    fn find_slice(&self) -> Result<Slice<'a, B>, GuestMemoryError> {
        match self.map.find_into_apart(self.gpa) {
            Some((region, into)) if region.is_writable() || !self.writes => {
                Ok(region.slice_from(into, self.left as u64))
            }
            found => Err(refused(self.gpa, found.is_some())),
        }
    }
}

#[cold]
fn refused(gpa: u64, is_there: bool) -> GuestMemoryError {
    match is_there {
        true => GuestMemoryError::IOError(io::Error::new(
            io::ErrorKind::PermissionDenied,
            ReadOnlyMemory { gpa },
        )),
        false => GuestMemoryError::InvalidGuestAddress(GuestAddress(gpa)),
    }
}

impl<'a, B: Marks> Iterator for Slices<'a, B> {
    type Item = Result<Slice<'a, B>, GuestMemoryError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let slice = self.find_slice();
        match &slice {
            Ok(slice) => {
                // Neither wraps: a slice is no longer than what is left, and ends below 2^64.
                self.left = self.left.wrapping_sub(slice.len());
                self.gpa = self.gpa.wrapping_add(slice.len() as u64);
            }
            // Nothing comes after an error.
            Err(_) => self.left = 0,
        }
        Some(slice)
    }
}

impl<B: Marks> FusedIterator for Slices<'_, B> {}

impl<'a, B: Marks> GuestMemorySliceIterator<'a, BS<'a, B>> for Slices<'a, B> {}
