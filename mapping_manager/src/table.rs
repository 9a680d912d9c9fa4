//! The table of active mappings.

use inspect::Inspect;
use memory_range::{Access, MemoryRange, RangeMap, RangeValue};
use sparse_alloc::Backing;

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

impl RangeValue for ActiveMapping {
    fn tail(&self, offset: u64) -> Self {
        Self {
            // Does not wrap: the reservation refused any mapping whose end would.
            offset: self.offset.wrapping_add(offset),
            ..self.clone()
        }
    }
}

/// Disjoint mappings by guest physical address; neighbours that continue one another are one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct MappingTable {
    mappings: RangeMap<ActiveMapping>,
}

impl MappingTable {
    /// Puts a mapping over whatever is there.
    pub(crate) fn set(&mut self, range: MemoryRange, mapping: ActiveMapping) {
        self.mappings.replace(range, mapping);
        self.join_ends(range);
    }

    /// Takes out whatever is there.
    pub(crate) fn remove(&mut self, range: MemoryRange) {
        self.mappings.remove(range);
    }

    /// Changes the access of whatever is there.
    pub(crate) fn protect(&mut self, range: MemoryRange, access: Access) {
        for (part, mapping) in self.clipped(range) {
            self.mappings
                .replace(part, ActiveMapping { access, ..mapping });
            self.join_at(part.start());
        }
        self.join_ends(range);
    }

    /// What is mapped at an address.
    pub(crate) fn get(&self, gpa: u64) -> Option<(MemoryRange, &ActiveMapping)> {
        self.mappings.get(gpa)
    }

    /// What is mapped in a range, cut to it.
    pub(crate) fn clipped(&self, range: MemoryRange) -> Vec<(MemoryRange, ActiveMapping)> {
        self.mappings.clipped(range).collect()
    }

    /// Every mapping by address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (MemoryRange, &ActiveMapping)> {
        self.mappings.iter()
    }

    fn join_ends(&mut self, range: MemoryRange) {
        self.join_at(range.start());
        self.join_at(range.end());
    }

    fn join_at(&mut self, addr: u64) {
        self.mappings.join_at(addr, |first, len, second| {
            first.backing == second.backing
                && first.access == second.access
                && first.offset.checked_add(len) == Some(second.offset)
        });
    }
}
