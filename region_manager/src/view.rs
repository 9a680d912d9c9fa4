//! The flat view: what is visible where.

use crate::params::Permissions;
use crate::{BackingHandle, RegionId};
use inspect::Inspect;
use memory_range::{Access, MemoryRange, RangeMap, RangeValue};

/// What is visible in a range of the flat view.
#[derive(Clone, Debug, PartialEq)]
pub struct Visible<B> {
    /// The region that won there.
    pub region: RegionId,
    /// The handle of what holds the bytes.
    pub backing: B,
    /// The offset in the backing, in bytes, of the range's first byte.
    pub offset: u64,
    /// What the guest may do: no more than the mapping and its region both allow.
    pub permissions: Permissions,
    /// Whether listeners are asked to fault the memory in.
    pub prefetch: bool,
}

impl<B: PartialEq> Visible<B> {
    /// Builds the entry from what a mapping and its region's parameters say.
    pub(crate) fn new(
        region: RegionId,
        mapping: crate::Mapping<B>,
        params: &crate::MapParams,
    ) -> Self {
        let access = match (mapping.access, params.access) {
            (Access::ReadWrite, Access::ReadWrite) => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        Self {
            region,
            backing: mapping.backing,
            offset: mapping.offset,
            permissions: Permissions {
                access,
                execute: params.execute,
            },
            prefetch: params.prefetch,
        }
    }

    /// Whether the other entry shows the same bytes at the same address.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        self.backing == other.backing && self.offset == other.offset
    }

    /// Whether `next`, which starts `len` bytes after this entry, goes on where this one ends.
    fn continued_by(&self, next: &Self, len: u64) -> bool {
        self.region == next.region
            && self.backing == next.backing
            && self.offset.checked_add(len) == Some(next.offset)
            && self.permissions == next.permissions
            && self.prefetch == next.prefetch
    }
}

impl<B: Clone> RangeValue for Visible<B> {
    fn tail(&self, offset: u64) -> Self {
        Self {
            // Does not wrap: offset + length was checked when the mapping was added.
            offset: self.offset.wrapping_add(offset),
            ..self.clone()
        }
    }
}

impl<B: BackingHandle> Inspect for Visible<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("region", &self.region.as_u64())
            .display("permissions", &self.permissions)
            .display("backing", &self.backing)
            .hex("offset", self.offset);
    }
}

/// The sorted, disjoint list of what is visible.
///
/// It is a pure function of the mapped regions: neighbours that continue one another are one
/// entry, whatever the order of the changes that led there.
#[derive(Clone, Debug, PartialEq)]
pub struct FlatView<B> {
    entries: RangeMap<Visible<B>>,
}

impl<B> Default for FlatView<B> {
    fn default() -> Self {
        Self {
            entries: RangeMap::new(),
        }
    }
}

impl<B: Clone + PartialEq> FlatView<B> {
    /// Goes through the visible ranges by address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (MemoryRange, &Visible<B>)> {
        self.entries.iter()
    }

    /// Goes through what is visible in `range`, cut to it.
    pub fn clipped(&self, range: MemoryRange) -> impl Iterator<Item = (MemoryRange, Visible<B>)> {
        self.entries.clipped(range)
    }

    /// Goes through the entries that overlap `range`, whole.
    pub(crate) fn overlapping(
        &self,
        range: MemoryRange,
    ) -> impl DoubleEndedIterator<Item = (MemoryRange, &Visible<B>)> {
        self.entries.overlapping(range)
    }

    /// Tells what is visible at a guest physical address, with the range it belongs to.
    pub fn get(&self, gpa: u64) -> Option<(MemoryRange, &Visible<B>)> {
        self.entries.get(gpa)
    }

    /// The number of ranges.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is visible.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Puts `visible` (or nothing) at `range`, and joins it with neighbours it continues.
    pub(crate) fn set(&mut self, range: MemoryRange, visible: Option<Visible<B>>) {
        match visible {
            Some(visible) => {
                self.entries.replace(range, visible);
                self.join_at(range.end());
            }
            None => {
                self.entries.remove(range);
            }
        }
        self.join_at(range.start());
    }

    /// Joins the entries that meet at `addr` where the second continues the first.
    fn join_at(&mut self, addr: u64) {
        self.entries
            .join_at(addr, |first, len, second| first.continued_by(second, len));
    }
}

impl<B: BackingHandle> Inspect for FlatView<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        for (range, visible) in self.entries.iter() {
            response.field(range.to_string(), visible);
        }
    }
}
