//! RAM that is hidden and takes writes all the same.

use crate::error::HiddenWriteError;
use crate::ram::RamRegion;
use crate::shared::Shared;
use partition_mapper::StoreTaker;
use region_manager::RegionId;
use sparse_alloc::HostRange;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// Which regions of RAM are write-only.
///
/// To the flat view such a region is unmapped, so it is no state of the view's: it is kept here,
/// beside the regions.
///
/// The lock is taken only by who holds the change lock, and a commit of a change of the flags, which
/// gives the change lock back, happens under it. So whoever looks under the change lock sees the
/// flags and the view of the same change, and a change that fails has never set a flag.
#[derive(Debug, Default)]
pub(crate) struct WriteOnlyRegions {
    /// Whether there may be any: set as soon as the lock is taken for a change. In most guests
    /// there never are, and most changes then need not take the lock.
    any: AtomicBool,
    set: Mutex<BTreeSet<RegionId>>,
}

impl WriteOnlyRegions {
    /// Tells whether a region is write-only. The change lock must be held.
    pub(crate) fn contains(&self, region: RegionId) -> bool {
        self.may_be_any() && self.set().contains(&region)
    }

    /// Tells whether there may be any write-only region. The change lock must be held.
    #[inline]
    pub(crate) fn may_be_any(&self) -> bool {
        // Relaxed is enough: who set it did so before giving the change lock back; who cleared it
        // had emptied the set.
        self.any.load(Ordering::Relaxed)
    }

    /// Takes the lock, for a change of the flags. The change lock must be held.
    pub(crate) fn lock(&self) -> WriteOnlyGuard<'_> {
        let set = self.set();
        self.any.store(true, Ordering::Relaxed);
        WriteOnlyGuard {
            any: &self.any,
            set,
        }
    }

    fn set(&self) -> MutexGuard<'_, BTreeSet<RegionId>> {
        // A listener that panics within a commit has not kept this from being whole.
        self.set.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps everyone from looking at the flags while a change is committed.
pub(crate) struct WriteOnlyGuard<'a> {
    any: &'a AtomicBool,
    set: MutexGuard<'a, BTreeSet<RegionId>>,
}

impl WriteOnlyGuard<'_> {
    /// Sets and clears the flags of these regions.
    pub(crate) fn change(&mut self, flags: &[(RegionId, bool)]) {
        for (region, is_write_only) in flags {
            if *is_write_only {
                self.set.insert(*region);
            } else {
                self.set.remove(region);
            }
        }
    }
}

impl Drop for WriteOnlyGuard<'_> {
    fn drop(&mut self) {
        self.any.store(!self.set.is_empty(), Ordering::Relaxed);
    }
}

/// Takes a guest's stores to RAM that is write-only, where a partition carries them out itself.
#[derive(Debug)]
pub(crate) struct HiddenRam {
    /// Weak: what it is kept by belongs to the view.
    shared: Weak<Shared>,
}

impl HiddenRam {
    pub(crate) fn new(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::downgrade(shared),
        }
    }
}

impl StoreTaker for HiddenRam {
    fn take(&self, gpa: u64, data: &[u8]) -> bool {
        let shared = self.shared.upgrade();
        shared.is_some_and(|shared| shared.write_hidden_ram(gpa, data).is_ok())
    }
}

impl Shared {
    /// Writes to RAM that is write-only now: all of it, or nothing.
    pub(crate) fn write_hidden_ram(
        self: &Arc<Self>,
        gpa: u64,
        bytes: &[u8],
    ) -> Result<(), HiddenWriteError> {
        let len = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let end = gpa
            .checked_add(len)
            .ok_or(HiddenWriteError::Wraps { gpa, len })?;
        // Held until the bytes are there: whoever shows this RAM then shows them, too.
        let _change = self.transaction()?;
        let mut pieces = Vec::new();
        let mut at = gpa;
        while at < end {
            let region = self.ram_region_at(at);
            let region = region.filter(|region| self.write_only.contains(region.id));
            let Some(region) = region else {
                return Err(HiddenWriteError::NotWriteOnly { gpa, len, at });
            };
            let stop = region.range.end().min(end);
            pieces.push((region, at..stop));
            at = stop;
        }
        let mut rest = bytes;
        for (region, piece) in pieces {
            let part = usize::try_from(piece.end.saturating_sub(piece.start));
            let (part, after) = rest.split_at(part.unwrap_or(usize::MAX).min(rest.len()));
            rest = after;
            self.write_piece(region, piece, part)?;
        }
        Ok(())
    }

    /// Writes within one region, through the linear view of its backing: it has no other address.
    fn write_piece(
        &self,
        region: &RamRegion,
        piece: Range<u64>,
        bytes: &[u8],
    ) -> Result<(), HiddenWriteError> {
        let inaccessible = |source: Box<dyn std::error::Error + Send + Sync>| {
            let (gpa, len) = (piece.start, piece.end.saturating_sub(piece.start));
            HiddenWriteError::Inaccessible { gpa, len, source }
        };
        let Some(memory) = self.backing.memories().get(region.backing) else {
            return Ok(());
        };
        // Does not overflow: the builder laid the region out within its backing.
        let offset = piece.start.saturating_sub(region.range.start());
        let offset = region.offset.saturating_add(offset);
        let len = piece.end.saturating_sub(piece.start);
        let host = HostRange::new(memory.linear_view().clone(), offset, len);
        let host = host.map_err(|error| inaccessible(error.into()))?;
        host.write(0, bytes)
            .map_err(|error| inaccessible(error.into()))
    }

    /// The region of RAM that has an address.
    fn ram_region_at(&self, gpa: u64) -> Option<&RamRegion> {
        let after = self
            .ram
            .partition_point(|region| region.range.start() <= gpa);
        let region = self.ram.get(after.checked_sub(1)?)?;
        region.range.contains_addr(gpa).then_some(region)
    }
}
