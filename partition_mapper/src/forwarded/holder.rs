//! The other end of a forwarded partition: what holds the slots in the process that has the VM.

use crate::{MapError, PartitionMemoryMap, UnmapError};
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::collections::BTreeMap;
use std::sync::Arc;
use thiserror::Error;

/// Gives a partition the slots that another process asks for, and sees to it that none of them
/// outlives the host addresses behind it.
///
/// Each slot holds a share of its addresses until the partition has given it up. When this is
/// dropped, or [released](Self::release), every slot is taken away; where that fails, the share is
/// leaked, so that the addresses are never used for anything else.
#[must_use = "the partition loses its slots when it is dropped"]
pub struct HeldSlots {
    partition: Arc<dyn PartitionMemoryMap>,
    /// By guest physical address.
    ///
    /// Invariant: whatever the partition has of what was given here is listed, and released only when
    /// the partition has given it up, else leaked.
    slots: BTreeMap<u64, (MemoryRange, HostRange)>,
}

/// A partition has kept slots that it was to give up.
#[derive(Debug, Error)]
#[error(
    "{partition} still has {} slots, the first at gpa {first}; their host addresses are leaked",
    .left.len()
)]
pub struct SlotsLeft {
    /// The partition's name.
    pub partition: String,
    /// The guest physical addresses of the slots, in ascending order.
    pub left: Vec<MemoryRange>,
    /// The one that failed first.
    pub first: MemoryRange,
    /// Why that one failed.
    #[source]
    pub source: UnmapError,
}

impl HeldSlots {
    /// Holds no slot yet.
    pub fn new(partition: Arc<dyn PartitionMemoryMap>) -> Self {
        Self {
            partition,
            slots: BTreeMap::new(),
        }
    }

    /// The partition that has the slots.
    pub fn partition(&self) -> &Arc<dyn PartitionMemoryMap> {
        &self.partition
    }

    /// How many slots there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Says whether there is no slot.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Shows `host` to the guest at `gpa`, which must be as long.
    ///
    /// # Errors
    ///
    /// The partition refuses. Nothing has changed.
    pub fn add(
        &mut self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        // SAFETY: by the invariant of `slots`, the share of the addresses that is recorded below is
        // not released before the slot is unmapped.
        unsafe { self.partition.map(gpa, host, permissions)? };
        let replaced = self.slots.insert(gpa.start(), (gpa, host.clone()));
        // No partition maps over a mapped range; one that did keeps both.
        std::mem::forget(replaced);
        Ok(())
    }

    /// Takes the slot away that was added at exactly `gpa`.
    ///
    /// # Errors
    ///
    /// There is no such slot, or the partition refuses. Nothing has changed.
    pub fn remove(&mut self, gpa: MemoryRange) -> Result<(), UnmapError> {
        match self.slots.get(&gpa.start()) {
            None => return Err(UnmapError::NotMapped { gpa }),
            Some((existing, _)) if *existing != gpa => {
                let existing = *existing;
                return Err(UnmapError::Partial { gpa, existing });
            }
            Some(_) => {}
        }
        self.partition.unmap(gpa)?;
        self.slots.remove(&gpa.start());
        Ok(())
    }

    /// Takes every slot away, the one with the highest address first.
    ///
    /// # Errors
    ///
    /// The partition has kept some. The others are gone, and the addresses of those are leaked.
    pub fn release(&mut self) -> Result<(), SlotsLeft> {
        let mut left = Vec::new();
        let mut first_failure = None;
        while let Some((_, (gpa, host))) = self.slots.pop_last() {
            if let Err(source) = self.partition.unmap(gpa) {
                // Its region stays reserved for ever, and nothing else is put there.
                std::mem::forget(host);
                left.push(gpa);
                first_failure.get_or_insert((gpa, source));
            }
        }
        let Some((first, source)) = first_failure else {
            return Ok(());
        };
        left.reverse();
        let error = SlotsLeft {
            partition: self.partition.name().to_owned(),
            left,
            first,
            source,
        };
        log::error!("{error}: {}", error.source);
        Err(error)
    }
}

impl Drop for HeldSlots {
    fn drop(&mut self) {
        // `release` has logged the error; nobody else is here to be told.
        let _ = self.release();
    }
}

impl std::fmt::Debug for HeldSlots {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HeldSlots")
            .field("partition", &self.partition.name())
            .field("slots", &self.slots.len())
            .finish_non_exhaustive()
    }
}
