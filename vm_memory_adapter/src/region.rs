//! One contiguous piece of a snapshot.

use crate::dirty_marks::Marks;
use guest_memory_manager::{Access, Lease, Mappable};
use std::fmt;
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::Arc;
use vm_memory::bitmap::BS;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryError, GuestMemoryRegion, GuestMemoryRegionBytes,
    GuestUsize, MemoryRegionAddress, VolatileSlice,
};

type Result<T> = std::result::Result<T, GuestMemoryError>;

/// Memory that lies in one piece: in guest physical addresses, in host addresses and in one file, with
/// the same permissions throughout.
///
/// Its host addresses are not those of the guest's window, which change what they show, but of the
/// backing's linear view: they mean the same bytes for as long as the region lives, whatever the
/// guest sees meanwhile.
#[derive(Clone)]
pub struct SnapshotRegion<B = ()> {
    start: u64,
    /// Not zero; `start + len` does not wrap.
    len: u64,
    /// Invariant R1: the `len` bytes from here on lie in the linear view of `held`'s file, so they are
    /// mapped while `held` lives, for reading, and for writing where `access` says so; only raw bytes
    /// are there.
    host: NonNull<u8>,
    access: Access,
    marks: B,
    held: Arc<Held>,
}

/// What a region holds. Apart, so that a copy of a region counts one reference.
struct Held {
    /// Where the region, and what goes on from it, starts.
    file: FileOffset,
    /// It keeps its linear view, the whole of it, as long as it lives.
    mappable: Mappable,
    /// On some part of the file; for writing, where the region may be written. Who asks guest memory
    /// what is leased, is told.
    lease: Arc<Lease>,
}

// SAFETY: by R1 `host` points to raw bytes that `held` (Send + Sync) keeps mapped, and that any
// number of threads may access.
unsafe impl<B: Send> Send for SnapshotRegion<B> {}
// SAFETY: as for Send.
unsafe impl<B: Sync> Sync for SnapshotRegion<B> {}

/// What a region is made of, besides its lease.
pub(crate) struct Parts<'a, B: Marks> {
    pub(crate) start: u64,
    pub(crate) source: &'a B::Source,
    pub(crate) mappable: &'a Mappable,
    pub(crate) file: FileOffset,
}

impl<B: Marks> SnapshotRegion<B> {
    /// Makes a region for each slice of a lease that was taken at `leased_at`. The first begins at
    /// `parts.start` and at `parts.file`'s offset, the others follow it in both.
    pub(crate) fn of_lease(parts: &Parts<'_, B>, leased_at: u64, lease: Lease) -> Vec<Self> {
        let lease = Arc::new(lease);
        let regions = lease.slices().filter_map(|slice| {
            let into = slice.gpa().checked_sub(leased_at)?;
            let (host, access) = match slice.as_mut_ptr() {
                Some(host) => (host, Access::ReadWrite),
                None => (slice.as_ptr().cast_mut(), Access::ReadOnly),
            };
            let offset = parts.file.start().checked_add(into)?;
            // R1: a slice lies in the linear view of the file that is shown there, and may be accessed
            // as the lease is for.
            Some(Self {
                start: parts.start.checked_add(into)?,
                len: slice.len(),
                host: NonNull::new(host)?,
                access,
                marks: B::new(parts.source, slice.gpa()),
                held: Arc::new(Held {
                    file: FileOffset::from_arc(parts.file.arc().clone(), offset),
                    mappable: parts.mappable.clone(),
                    lease: lease.clone(),
                }),
            })
        });
        regions.collect()
    }

    /// The part of it that lies in a range; `None` if none does.
    pub(crate) fn part(&self, range: Range<u64>) -> Option<Self> {
        let start = range.start.max(self.start);
        let len = range.end.min(self.end()).checked_sub(start)?;
        let into = start.wrapping_sub(self.start);
        let mut part = self.clone();
        if into > 0 {
            let file = &self.held.file;
            part.held = Arc::new(Held {
                file: FileOffset::from_arc(file.arc().clone(), file.start().checked_add(into)?),
                mappable: self.held.mappable.clone(),
                lease: self.held.lease.clone(),
            });
            part.marks = self.marks.moved(into);
        }
        // R1: these are bytes of this region, and of the same file.
        part.start = start;
        part.len = len;
        part.host = self
            .host
            .map_addr(|host| host.saturating_add(into as usize));
        (len > 0).then_some(part)
    }

    /// One region of this and the next, if that goes on where this ends in every respect.
    pub(crate) fn joined(&self, next: &Self) -> Option<Self> {
        let (file, next_file) = (&self.held.file, &next.held.file);
        let host = |one: &Self| one.host.addr().get() as u64;
        let goes_on = self.end() == next.start
            && host(self).checked_add(self.len) == Some(host(next))
            && self.access == next.access
            && self.held.mappable == next.held.mappable
            && file.start().checked_add(self.len) == Some(next_file.start());
        // R1: both lie in the linear view of the same file, one after the other.
        goes_on.then(|| Self {
            len: self.len.saturating_add(next.len),
            ..self.clone()
        })
    }

    /// The first guest physical address.
    #[inline(always)]
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// The first address past it.
    #[inline(always)]
    pub(crate) fn end(&self) -> u64 {
        // Does not wrap, as said at `len`.
        self.start.wrapping_add(self.len)
    }

    /// Returns how many bytes it is from the start of the region to an address in it.
    #[inline(always)]
    pub(crate) fn into(&self, gpa: u64) -> Option<u64> {
        let into = gpa.wrapping_sub(self.start);
        (into < self.len).then_some(into)
    }

    /// Whether the memory may be written.
    #[inline(always)]
    pub fn is_writable(&self) -> bool {
        self.access.is_writable()
    }

    /// The host address of the first byte.
    pub fn as_ptr(&self) -> *mut u8 {
        self.host.as_ptr()
    }

    /// At most `len` bytes from `into` on, which lies in the region.
    #[inline(always)]
    pub(crate) fn slice_from(&self, into: u64, len: u64) -> VolatileSlice<'_, BS<'_, B>> {
        let into = into.min(self.len);
        // Neither truncates: the region lies in this process.
        let len = len.min(self.len.wrapping_sub(into)) as usize;
        let address = self.host.as_ptr().wrapping_add(into as usize);
        // SAFETY: the bytes lie in the region, and `self`, which outlives the slice, holds what keeps
        // them mapped (R1).
        unsafe {
            VolatileSlice::with_bitmap(address, len, self.marks.slice_at(into as usize), None)
        }
    }
}

impl<B: Marks> GuestMemoryRegion for SnapshotRegion<B> {
    type B = B;

    #[inline(always)]
    fn len(&self) -> GuestUsize {
        self.len
    }

    #[inline(always)]
    fn start_addr(&self) -> GuestAddress {
        GuestAddress(self.start)
    }

    fn bitmap(&self) -> BS<'_, B> {
        self.marks.slice_at(0)
    }

    #[inline(always)]
    fn to_region_addr(&self, addr: GuestAddress) -> Option<MemoryRegionAddress> {
        self.into(addr.0).map(MemoryRegionAddress)
    }

    fn get_host_address(&self, addr: MemoryRegionAddress) -> Result<*mut u8> {
        match addr.0 < self.len {
            // Does not truncate: the region lies in this process.
            true => Ok(self.host.as_ptr().wrapping_add(addr.0 as usize)),
            false => Err(GuestMemoryError::InvalidBackendAddress),
        }
    }

    fn file_offset(&self) -> Option<&FileOffset> {
        Some(&self.held.file)
    }

    #[inline(always)]
    fn get_slice(
        &self,
        offset: MemoryRegionAddress,
        count: usize,
    ) -> Result<VolatileSlice<'_, BS<'_, B>>> {
        match self.len.checked_sub(count as u64) {
            Some(last) if offset.0 <= last => Ok(self.slice_from(offset.0, count as u64)),
            _ => Err(GuestMemoryError::InvalidBackendAddress),
        }
    }
}

impl<B: Marks> GuestMemoryRegionBytes for SnapshotRegion<B> {}

impl<B> fmt::Debug for SnapshotRegion<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotRegion")
            .field("gpa", &format_args!("{:#x}", self.start))
            .field("len", &format_args!("{:#x}", self.len))
            .field("host", &self.host)
            .field("access", &self.access)
            .field("offset", &format_args!("{:#x}", self.held.file.start()))
            .finish_non_exhaustive()
    }
}
