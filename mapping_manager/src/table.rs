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
use entries::{Editor, Entries, Position};
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Backing, SpaceEditor};
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

/// Disjoint mappings by guest physical address. Who asks is shown neighbours that continue one
/// another as one; how they are kept is told at [`Entries`].
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
    guarded: RwLock<Guarded>,
}

/// What only the table's one writer changes.
struct Guarded {
    slots: BackingSlots,
    space: SpaceEditor,
}

impl MappingTable {
    pub(crate) fn new(memory: Arc<str>, space: SpaceEditor) -> Self {
        Self {
            entries: Entries::new(),
            guarded: RwLock::new(Guarded {
                slots: BackingSlots::new(memory),
                space,
            }),
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
            guarded: self.guarded.read().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Waits for other changes, and keeps them waiting.
    pub(crate) fn write(&self) -> TableWriter<'_> {
        TableWriter {
            entries: &self.entries,
            // Between the change of the address space and that of the table nothing can panic.
            guarded: self.guarded.write().unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// The table while it does not change.
pub(crate) struct TableReader<'a> {
    entries: &'a Entries<BackingSlot>,
    guarded: RwLockReadGuard<'a, Guarded>,
}

impl TableReader<'_> {
    /// What is mapped at an address.
    pub(crate) fn get(&self, gpa: u64) -> Option<(MemoryRange, ActiveMapping)> {
        self.mapping(self.entries.joined_at(gpa)?)
    }

    /// Every mapping by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemoryRange, ActiveMapping)> {
        let entries = self.entries.joined();
        entries.filter_map(|entry| self.mapping(entry))
    }

    /// How many entries there are.
    pub(crate) fn count(&self) -> usize {
        self.entries.joined().count()
    }

    /// Says whether VMAs are held back for undoing.
    pub(crate) fn has_headroom(&self) -> bool {
        self.guarded.space.has_headroom()
    }

    /// How often each backing is leased, by name.
    pub(crate) fn leases(&self) -> Vec<BackingLeases> {
        self.guarded.slots.leases()
    }

    #[cfg(test)]
    pub(crate) fn slot_count(&self) -> usize {
        self.guarded.slots.slot_count()
    }

    /// What is mapped in a range, in ascending order: the parts that lie in it.
    pub(crate) fn parts(
        &self,
        range: MemoryRange,
    ) -> impl Iterator<Item = (MemoryRange, ActiveMapping)> {
        let entries = self.entries.parts(range.start(), range.end());
        entries.filter_map(|entry| self.mapping(entry))
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

/// A part of a range, and what is mapped there.
pub(crate) struct Part {
    pub(crate) range: MemoryRange,
    pub(crate) access: Access,
    slot: NonNull<BackingSlot>,
}

impl Part {
    /// What its backing allows at most. The table has not changed since it was asked for the part.
    pub(crate) fn limit(&self) -> Access {
        // SAFETY: the table's slots are not freed before the table is.
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: an entry shows it, so it is mapped, and the table's writer has it.
        let limit = unsafe { slot.with(|held| held.map(|held| held.backing.access())) };
        limit.unwrap_or(Access::ReadOnly)
    }
}

fn part(entry: Entry<BackingSlot>) -> Option<Part> {
    Some(Part {
        range: MemoryRange::try_new(entry.start..entry.end).ok()?,
        access: entry.access,
        slot: entry.slot,
    })
}

/// A mapping, and where in the table it is.
pub(crate) struct Exact {
    at: Position,
    pub(crate) part: Part,
}

/// What is mapped in a range, summed up.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage {
    pub(crate) is_mapped: bool,
    /// A mapping lies in the range with one part and outside with another.
    pub(crate) reaches_out: bool,
}

/// The table while one thread changes it.
pub(crate) struct TableWriter<'a> {
    entries: &'a Entries<BackingSlot>,
    guarded: RwLockWriteGuard<'a, Guarded>,
}

impl<'a> TableWriter<'a> {
    /// Who changes the address space.
    pub(crate) fn space(&mut self) -> &mut SpaceEditor {
        &mut self.guarded.space
    }

    /// What is mapped in a range, in ascending order: the parts that lie in it. They change while
    /// the table does.
    pub(crate) fn parts(&self, range: MemoryRange) -> impl Iterator<Item = Part> + use<'a> {
        let entries = self.entries.parts(range.start(), range.end());
        entries.filter_map(part)
    }

    /// Says whether something is mapped in a range, and whether it reaches out of it.
    pub(crate) fn coverage(&self, range: MemoryRange) -> Coverage {
        let (start, end) = (range.start(), range.end());
        // What is taken away is mostly one mapping.
        if self.entries.exact(start, end).is_some() {
            return Coverage {
                is_mapped: true,
                reaches_out: false,
            };
        }
        let mut coverage = Coverage::default();
        for entry in self.entries.iter_from(start) {
            if entry.start >= end {
                break;
            }
            coverage.is_mapped = true;
            coverage.reaches_out |= entry.start < start || end < entry.end;
        }
        coverage
    }

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
            slot: self.guarded.slots.map(backing),
        };
        self.change(|mut entries, count| entries.set(entry, count))
    }

    /// The mapping that is of just this range, to be changed before anything else is.
    #[inline]
    pub(crate) fn exact(&self, range: MemoryRange) -> Option<Exact> {
        let (at, entry) = self.entries.exact(range.start(), range.end())?;
        Some(Exact {
            at,
            part: part(entry)?,
        })
    }

    /// Changes the access of one mapping.
    pub(crate) fn protect_exact(&mut self, exact: &Exact, access: Access) {
        // SAFETY: a table's writer makes every change, one at a time, and there is one writer.
        let mut entries = unsafe { self.entries.edit() };
        entries.set_access(exact.at, access);
    }

    /// Takes out whatever is there.
    pub(crate) fn remove(&mut self, range: MemoryRange) -> Unused {
        self.change(|mut entries, count| entries.remove(range.start(), range.end(), count))
    }

    /// Changes the access of whatever is there.
    pub(crate) fn protect(&mut self, range: MemoryRange, access: Access) {
        // No entry goes without another of the same slot in its place, so nothing becomes unused.
        drop(self.change(|mut entries, count| entries.protect(range, access, count)));
    }

    fn change(
        &mut self,
        change: impl FnOnce(Editor<'_, BackingSlot>, &mut dyn FnMut(NonNull<BackingSlot>, i64)),
    ) -> Unused {
        // SAFETY: as in `protect_exact`.
        let entries = unsafe { self.entries.edit() };
        let slots = &mut self.guarded.slots;
        change(entries, &mut |slot, by| slots.count(slot, by));
        // Not before the change is complete: a slot is unmapped after the table says so.
        slots.unmap_unshown()
    }
}
