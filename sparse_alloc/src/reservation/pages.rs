//! Pages of a mapped range: populate, lock, free.

use memory_range::{Access, MemoryRange};

use super::Reservation;
use crate::backing::{Backing, BackingKind};
use crate::mapped_region::MappedRegion;
use crate::space::Bounds;
use crate::sys::{self, Advice};
use crate::{DecommitError, LockError, PopulateError, lock, populate};

impl Reservation {
    /// Makes every page of the mapped `range` present, for reading or for writing, so that no
    /// access has to wait for memory. It acts on this view of the backing only.
    ///
    /// # Errors
    ///
    /// When the range is empty, outside the reservation or not mapped in full; when a part is
    /// read-only and was to be populated for writing; when memory runs out or the file of a page
    /// has become shorter.
    pub fn populate(&self, range: MemoryRange, access: Access) -> Result<(), PopulateError> {
        let (addr, len) = self.space.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => PopulateError::Empty {
                start: range.start(),
            },
            Bounds::Outside => PopulateError::OutOfBounds {
                range,
                len: self.space.len(),
            },
        })?;
        {
            // Not held while the kernel works: that may take seconds. A change made meanwhile
            // makes the call fail at worst.
            let state = self.state();
            if let Some(hole) = state.mapped.gaps(range).next() {
                return Err(PopulateError::NotMapped { range, hole });
            }
            let mut parts = state.mapped.clipped(range);
            let fixed = parts.find(|(_, mapped)| !mapped.access.is_writable());
            if let (true, Some((part, _))) = (access.is_writable(), fixed) {
                return Err(PopulateError::ReadOnly { range, part });
            }
        }
        // SAFETY: `in_bounds` found the range in `pages`, which stays reserved while `self` lives.
        unsafe { populate::populate(self.space.counter(), addr, len, range, access) }
    }

    /// Locks the pages of the mapped `range` into memory, making them present.
    ///
    /// Mapping over the range, or unmapping it, takes the lock off; so the caller locks again what
    /// it maps.
    ///
    /// # Errors
    ///
    /// When the range is empty, outside the reservation or not mapped in full;
    /// [`LockError::Limit`] when the process may not lock that much (`ulimit -l`).
    pub fn lock(&self, range: MemoryRange) -> Result<(), LockError> {
        let (addr, len) = self
            .space
            .in_bounds(range)
            .map_err(|b| self.not_lockable(range, b))?;
        if let Some(hole) = self.state().mapped.gaps(range).next() {
            return Err(LockError::NotMapped { range, hole });
        }
        lock::lock(self.space.counter(), addr, len, range)
    }

    /// Takes the lock off the pages of `range`; what was not locked stays as it is.
    ///
    /// # Errors
    ///
    /// When the range is empty or outside the reservation, and when a VMA would have to be split
    /// and none is left.
    pub fn unlock(&self, range: MemoryRange) -> Result<(), LockError> {
        let (addr, len) = self
            .space
            .in_bounds(range)
            .map_err(|b| self.not_lockable(range, b))?;
        lock::unlock(self.space.counter(), addr, len, range)
    }

    /// Gives the memory behind `range` back, which is mapped from `backing` at `offset`.
    ///
    /// Afterwards it reads as zeros (or as its fill), here and in every other view of the backing. The range stays
    /// mapped, and takes memory again where it is written.
    ///
    /// * Memfds and writable files: a hole is punched, which also frees the file's blocks.
    /// * [`Backing::Anonymous`]: the pages are dropped. `offset` means nothing.
    /// * [`Backing::Zeros`] and [`Backing::Ones`]: pages that were written are dropped, and the range
    ///   reads as the fill again. `offset` means nothing.
    ///
    /// # Errors
    ///
    /// When the range is empty, outside the reservation, or not mapped from a backing of that kind;
    /// when the backing is read-only or a device, or the file ends before the range does.
    pub fn decommit(
        &self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
    ) -> Result<(), DecommitError> {
        let (addr, len) = self.space.in_bounds(range).map_err(|bounds| match bounds {
            Bounds::Empty => DecommitError::Empty {
                start: range.start(),
            },
            Bounds::Outside => DecommitError::OutOfBounds {
                range,
                len: self.space.len(),
            },
        })?;
        // Held for private memory: between the look and the call nobody may map over the range.
        let state = self.state();
        let not_mapped = |range| DecommitError::NotMapped {
            range,
            name: backing.name().to_owned(),
        };
        if let Some(hole) = state.mapped.gaps(range).next() {
            return Err(not_mapped(hole));
        }
        let kind = backing.kind();
        let mut parts = state.mapped.clipped(range);
        if let Some((part, _)) = parts.find(|(_, mapped)| mapped.kind != kind) {
            return Err(not_mapped(part));
        }
        drop(parts);
        match (kind, backing.as_mappable()) {
            (BackingKind::Mappable, Some(mappable)) => {
                let of_file = MemoryRange::try_from_len(offset, range.len())
                    .map_err(|_| DecommitError::BadOffset { range, offset })?;
                drop(state);
                mappable.decommit(of_file)
            }
            (BackingKind::Anonymous | BackingKind::Zeros | BackingKind::Ones, _) => {
                // SAFETY: the range is ours, and shows private memory whose contents the caller
                // gives up.
                let freed =
                    unsafe { sys::advise(self.space.counter(), addr, len, Advice::DontNeed) };
                freed.map_err(|source| DecommitError::Failed {
                    range,
                    name: backing.name().to_owned(),
                    source,
                })
            }
            (BackingKind::Mappable, None) => Ok(()),
        }
    }

    fn not_lockable(&self, range: MemoryRange, bounds: Bounds) -> LockError {
        match bounds {
            Bounds::Empty => LockError::Empty {
                start: range.start(),
            },
            Bounds::Outside => LockError::OutOfBounds {
                range,
                len: self.space.len(),
            },
        }
    }
}
