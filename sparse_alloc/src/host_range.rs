//! A piece of host address space, with a share of what keeps it reserved.

use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use memory_range::{Access, MemoryRange};

use crate::access::{self, CopyFault, Fault};
use crate::mapped_region::MappedRegion;
use crate::sys::Calls;
use crate::{LockError, PopulateError, PopulateProgress, lock, populate_in_parallel};

/// A piece of a [`MappedRegion`], which stays reserved at its address while this lives.
///
/// Offset and length are in bytes and need no alignment; a range may be empty. What is mapped
/// there may change: reads and writes survive that, and say how far they got.
///
/// ```
/// use sparse_alloc::{HostRange, SharedMemory};
///
/// let ram = SharedMemory::new("ram", 0x2000)?;
/// let range = HostRange::new(ram.linear_view().clone(), 0x1ffc, 4)?;
/// range.write(0, b"last")?;
///
/// let mut bytes = [0; 4];
/// range.read(0, &mut bytes)?;
/// assert_eq!(&bytes, b"last");
/// assert!(range.read(1, &mut bytes).is_err(), "past its end");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Invariant: `offset + len` does not overflow and is at most the region's length.
#[derive(Clone)]
pub struct HostRange {
    region: Arc<dyn MappedRegion>,
    offset: u64,
    len: u64,
}

impl HostRange {
    /// Takes `len` bytes at `offset` of a region.
    ///
    /// # Errors
    ///
    /// When they do not lie in the region.
    pub fn new(
        region: Arc<dyn MappedRegion>,
        offset: u64,
        len: u64,
    ) -> Result<Self, OutsideRegion> {
        let region_len = region.len();
        match offset.checked_add(len) {
            Some(end) if end <= region_len => Ok(Self {
                region,
                offset,
                len,
            }),
            _ => Err(OutsideRegion {
                offset,
                len,
                region_len,
            }),
        }
    }

    /// Takes all of a region.
    pub fn whole(region: Arc<dyn MappedRegion>) -> Self {
        let len = region.len();
        Self {
            region,
            offset: 0,
            len,
        }
    }

    /// Takes `len` bytes at `offset` of this range, with a share of the same region.
    ///
    /// # Errors
    ///
    /// When they do not lie in this range.
    pub fn sub_range(&self, offset: u64, len: u64) -> Result<Self, OutsideRegion> {
        let outside = || OutsideRegion {
            offset,
            len,
            region_len: self.len,
        };
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(Self {
                region: Arc::clone(&self.region),
                offset: self.offset.checked_add(offset).ok_or_else(outside)?,
                len,
            }),
            _ => Err(outside()),
        }
    }

    /// Makes this the range of `len` bytes at `offset` of the same region. It costs less than a range
    /// of its own, which takes a share of the region.
    ///
    /// # Errors
    ///
    /// When they do not lie in the region. The range is as it was.
    pub fn move_to(&mut self, offset: u64, len: u64) -> Result<(), OutsideRegion> {
        let region_len = self.region.len();
        match offset.checked_add(len) {
            Some(end) if end <= region_len => {
                self.offset = offset;
                self.len = len;
                Ok(())
            }
            _ => Err(OutsideRegion {
                offset,
                len,
                region_len,
            }),
        }
    }

    /// Returns the region.
    pub fn region(&self) -> &Arc<dyn MappedRegion> {
        &self.region
    }

    /// Returns the offset from the start of the region, in bytes.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the length in bytes.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Says whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the first address. What may be done with it is said by [`MappedRegion`].
    pub fn as_ptr(&self) -> *mut u8 {
        self.at(self.offset)
    }

    /// Reads bytes that start `offset` bytes into the range. It survives a fault.
    ///
    /// # Errors
    ///
    /// When the bytes do not lie in the range: then none is read. When memory is not accessible,
    /// or its file has become shorter: then [`ReadWriteError::Fault`] says how many were read.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), ReadWriteError> {
        let src = self.bounded(offset, bytes.len())?;
        // SAFETY: `bounded` found the source in the region, which stays reserved while `self`
        // holds a share, and holds raw bytes only (`MappedRegion`); the destination is a slice.
        let result = unsafe { access::copy_from(bytes.as_mut_ptr(), src, bytes.len()) };
        result.map_err(|fault| faulted(offset, fault))
    }

    /// Writes bytes that start `offset` bytes into the range. It survives a fault.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); memory that is read-only is not accessible for writing.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), ReadWriteError> {
        let dst = self.bounded(offset, bytes.len())?;
        // SAFETY: as for `read`, with the sides swapped.
        let result = unsafe { access::copy_to(dst, bytes.as_ptr(), bytes.len()) };
        result.map_err(|fault| faulted(offset, fault))
    }

    /// Makes every page that the range touches present, in this view of the memory.
    ///
    /// Above 16 MiB several threads do it; see [`populate_in_parallel`], which can also be watched
    /// and cancelled.
    ///
    /// # Errors
    ///
    /// When a page is not mapped or does not allow the access, when memory runs out, and when the
    /// file of a page has become shorter. An empty range is no error.
    pub fn populate(&self, access: Access) -> Result<(), PopulateError> {
        // Nobody can cancel it.
        let progress = PopulateProgress::new();
        populate_in_parallel(&[(self.clone(), access)], None, &progress).map(|_| ())
    }

    /// Locks every page that the range touches, in this view of the memory.
    ///
    /// # Errors
    ///
    /// [`LockError::Limit`] when the process may not lock that much (`ulimit -l`); otherwise when a
    /// page is not accessible. An empty range is no error.
    pub fn lock(&self) -> Result<(), LockError> {
        match self.whole_pages() {
            Some((addr, len, range)) => lock::lock(&Calls::default(), addr, len, range),
            None => Ok(()),
        }
    }

    /// Takes the lock off every page that the range touches.
    ///
    /// # Errors
    ///
    /// When a VMA would have to be split and none is left. An empty range is no error.
    pub fn unlock(&self) -> Result<(), LockError> {
        match self.whole_pages() {
            Some((addr, len, range)) => lock::unlock(&Calls::default(), addr, len, range),
            None => Ok(()),
        }
    }

    /// Returns the address of an offset in the region.
    fn at(&self, offset: u64) -> *mut u8 {
        // On the 64-bit hosts that this crate is for, the offset fits.
        let offset = usize::try_from(offset).unwrap_or(0);
        self.region.base().as_ptr().wrapping_add(offset)
    }

    fn bounded(&self, offset: u64, len: usize) -> Result<*mut u8, ReadWriteError> {
        let outside = || ReadWriteError::OutOfBounds {
            offset,
            len,
            range_len: self.len,
        };
        let end = u64::try_from(len)
            .ok()
            .and_then(|len| offset.checked_add(len));
        if end.is_none_or(|end| end > self.len) {
            return Err(outside());
        }
        let in_region = self.offset.checked_add(offset).ok_or_else(outside)?;
        Ok(self.at(in_region))
    }

    /// Returns address, length and offsets in the region of the pages that the range touches.
    pub(crate) fn whole_pages(&self) -> Option<(NonNull<u8>, usize, MemoryRange)> {
        let end = self.offset.checked_add(self.len)?;
        let range = MemoryRange::bounding(self.offset..end).ok()?;
        if self.is_empty() {
            return None;
        }
        let len = usize::try_from(range.len()).ok()?;
        Some((NonNull::new(self.at(range.start()))?, len, range))
    }
}

impl fmt::Debug for HostRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostRange")
            .field("address", &self.as_ptr())
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

fn faulted(offset: u64, CopyFault { done, fault }: CopyFault) -> ReadWriteError {
    ReadWriteError::Fault {
        offset,
        done,
        source: fault,
    }
}

/// Says that bytes do not lie in a region or range.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{len:#x} bytes from offset {offset:#x} lie outside the region of {region_len:#x} bytes")]
pub struct OutsideRegion {
    /// The offset that was asked for, in bytes.
    pub offset: u64,
    /// The length that was asked for, in bytes.
    pub len: u64,
    /// The length of the region, in bytes.
    pub region_len: u64,
}

/// Says why bytes of a [`HostRange`] were not read or written, or not all of them.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadWriteError {
    /// The bytes do not lie in the range; none was accessed.
    #[error("{len:#x} bytes from offset {offset:#x} lie outside the range of {range_len:#x} bytes")]
    OutOfBounds {
        /// The offset of the first byte.
        offset: u64,
        /// How many bytes were to be accessed.
        len: usize,
        /// The length of the range in bytes.
        range_len: u64,
    },
    /// Memory was not accessible.
    #[error("the access at offset {offset:#x} stopped after {done:#x} bytes")]
    Fault {
        /// The offset of the first byte.
        offset: u64,
        /// How many bytes were accessed.
        done: usize,
        /// What stopped it.
        source: Fault,
    },
}
