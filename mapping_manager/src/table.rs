//! The table of active mappings.

mod backing_slots;
mod chunk;
mod entries;
mod index;
mod sequence;
mod slot;

pub(crate) use backing_slots::{BackingLeases, BackingSlot, Held, Unused, View};
pub(crate) use chunk::Entry;
pub use slot::LeaseAccess;
pub(crate) use slot::{Slot, TooMany};

use backing_slots::BackingSlots;
use entries::Entries;
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use sparse_alloc::Backing;
use std::ptr::NonNull;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// What is mapped at a range of guest physical addresses.
#[derive(Clone, Debug, PartialEq, Inspect)]
pub struct ActiveMapping {
    /// What holds the bytes.
    #[inspect(display)]
    pub backing: Backing,
    /// The offset in the backing, in bytes, of the range's first byte.
    #[inspect(hex)]
    pub offset: u64,
    /// Whether it can be written at these addresses.
    #[inspect(display)]
    pub access: Access,
}

/// Disjoint mappings by guest physical address; neighbours that continue one another are one.
///
/// It is read in two ways. Under the lock ([`read`](Self::read)), while no change can be made and the
/// address space is as the table says. And without it ([`entries`](Self::entries)), at any time, by
/// who takes a lease: then the entries' sequence tells whether what was found is true.
///
/// A change costs the same however many mappings there are, but for the two binary searches.
pub(crate) struct MappingTable {
    entries: Entries<BackingSlot>,
    /// Held for writing while the address space changes, so that whoever holds it for reading sees
    /// a table that is true. Accesses take it only after a fault.
    slots: RwLock<BackingSlots>,
}

impl MappingTable {
    pub(crate) fn new(memory: Arc<str>) -> Self {
        Self {
            entries: Entries::new(),
            slots: RwLock::new(BackingSlots::new(memory)),
        }
    }

    /// The entries, to be looked up without the lock. Their slots are not freed before the table is.
    #[inline(always)]
    pub(crate) fn entries(&self) -> &Entries<BackingSlot> {
        &self.entries
    }

    /// Looks at the table while it does not change.
    pub(crate) fn read(&self) -> TableReader<'_> {
        TableReader {
            entries: &self.entries,
            slots: self.slots.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Waits for other changes, and keeps them waiting.
    pub(crate) fn write(&self) -> TableWriter<'_> {
        TableWriter {
            entries: &self.entries,
            // Between the change of the address space and that of the table nothing can panic.
            slots: self.slots.write().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// The table while it does not change.
pub(crate) struct TableReader<'a> {
    entries: &'a Entries<BackingSlot>,
    slots: RwLockReadGuard<'a, BackingSlots>,
}

impl TableReader<'_> {
    /// What is mapped at an address.
    pub(crate) fn get(&self, gpa: u64) -> Option<(MemoryRange, ActiveMapping)> {
        let entry = self.entries.find(gpa)?;
        (entry.start <= gpa).then(|| self.mapping(entry)).flatten()
    }

    /// Every mapping by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemoryRange, ActiveMapping)> {
        let entries = self.entries.iter_from(0);
        entries.filter_map(|entry| self.mapping(entry))
    }

    /// How often each backing is leased, by name.
    pub(crate) fn leases(&self) -> Vec<BackingLeases> {
        self.slots.leases()
    }

    #[cfg(test)]
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.slot_count()
    }

    fn mapping(&self, entry: Entry<BackingSlot>) -> Option<(MemoryRange, ActiveMapping)> {
        let range = MemoryRange::try_new(entry.start..entry.end).ok()?;
        // SAFETY: the table's slots are not freed before the table is.
        let slot = unsafe { entry.slot.as_ref() };
        // SAFETY: an entry shows it, so it is mapped, and the lock is held.
        let backing = unsafe { slot.with(|held| held.map(|held| held.backing.clone())) }?;
        let mapping = ActiveMapping {
            backing,
            offset: entry.offset,
            access: entry.access,
        };
        Some((range, mapping))
    }
}

/// The table while one thread changes it.
pub(crate) struct TableWriter<'a> {
    entries: &'a Entries<BackingSlot>,
    slots: RwLockWriteGuard<'a, BackingSlots>,
}

impl TableWriter<'_> {
    /// Puts a mapping over whatever is there.
    pub(crate) fn set(
        &mut self,
        range: MemoryRange,
        backing: &Backing,
        offset: u64,
        access: Access,
    ) -> Unused {
        if range.is_empty() {
            return Unused::default();
        }
        let entry = Entry {
            start: range.start(),
            end: range.end(),
            offset,
            access,
            slot: self.slots.map(backing),
        };
        self.change(|entries, count| entries.edit().set(entry, count))
    }

    /// Takes out whatever is there.
    pub(crate) fn remove(&mut self, range: MemoryRange) -> Unused {
        self.change(|entries, count| entries.edit().remove(range.start(), range.end(), count))
    }

    /// Changes the access of whatever is there.
    pub(crate) fn protect(&mut self, range: MemoryRange, access: Access) {
        // No entry goes without another of the same slot in its place, so nothing becomes unused.
        drop(self.change(|entries, count| entries.edit().protect(range, access, count)));
    }

    fn change(
        &mut self,
        change: impl FnOnce(&Entries<BackingSlot>, &mut dyn FnMut(NonNull<BackingSlot>, i64)),
    ) -> Unused {
        let mut unused = Vec::new();
        change(self.entries, &mut |slot, by| {
            BackingSlots::count(slot, by, &mut unused);
        });
        // Not before the change is complete: a slot is unmapped after the table says so.
        self.slots.unmap(unused)
    }
}
