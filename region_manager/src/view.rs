//! The flat view: what is visible where.

use crate::diff::Bytes;
use crate::params::Permissions;
use crate::region::{MemoryKind, Region};
use crate::{BackingHandle, MapParams, RegionId};
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
    /// What host addresses and DMA allow: no more than the mapping and its region both do.
    pub access: Access,
    /// What slots allow the guest: the same, but for a region with
    /// [`one_slot`](crate::RegionSpec::one_slot), where it is what the region allows.
    pub permissions: Permissions,
    /// RAM or device memory.
    pub kind: MemoryKind,
    /// Whether listeners are asked to fault the memory in.
    pub prefetch: bool,
}

/// What is alike throughout a visible range, apart from the bytes.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) region: RegionId,
    pub(crate) access: Access,
    pub(crate) permissions: Permissions,
    pub(crate) kind: MemoryKind,
    pub(crate) prefetch: bool,
}

impl Attributes {
    /// What a region that is mapped with `params` shows of a mapping with `access`.
    pub(crate) fn new<B>(
        id: RegionId,
        region: &Region<B>,
        params: &MapParams,
        access: Access,
    ) -> Self {
        let both = match (access, params.access) {
            (Access::ReadWrite, Access::ReadWrite) => Access::ReadWrite,
            _ => Access::ReadOnly,
        };
        Self {
            region: id,
            access: both,
            permissions: Permissions {
                access: if region.one_slot { params.access } else { both },
                execute: params.execute,
            },
            kind: region.kind,
            prefetch: params.prefetch,
        }
    }
}

impl<B> Visible<B> {
    pub(crate) fn new(attributes: Attributes, backing: B, offset: u64) -> Self {
        let Attributes {
            region,
            access,
            permissions,
            kind,
            prefetch,
        } = attributes;
        Self {
            region,
            backing,
            offset,
            access,
            permissions,
            kind,
            prefetch,
        }
    }

    pub(crate) fn attributes(&self) -> Attributes {
        Attributes {
            region: self.region,
            access: self.access,
            permissions: self.permissions,
            kind: self.kind,
            prefetch: self.prefetch,
        }
    }
}

impl<B: PartialEq> Visible<B> {
    /// Whether `next`, which starts `len` bytes after this entry, goes on where this one ends.
    fn continued_by(&self, next: &Self, len: u64) -> bool {
        self.attributes() == next.attributes()
            && self.offset.checked_add(len) == Some(next.offset)
            && self.backing == next.backing
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
            .display("access", &self.access)
            .display("permissions", &self.permissions)
            .display("kind", &self.kind)
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

    /// The first entry that overlaps `range`, whole.
    pub(crate) fn first_overlapping(
        &self,
        range: MemoryRange,
    ) -> Option<(MemoryRange, &Visible<B>)> {
        self.entries.first_overlapping(range)
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

    /// Makes `new` visible in a range, or nothing, and joins what now continues a neighbour.
    ///
    /// `region` is where the region lies that is visible then: beyond it nothing can continue it.
    pub(crate) fn apply(
        &mut self,
        range: MemoryRange,
        new: Option<(Attributes, Bytes<B>)>,
        region: MemoryRange,
    ) {
        match new {
            None => {
                // An entry as a whole is the most frequent case, and costs no list.
                if self.entries.remove_exact(range).is_none() {
                    self.entries.remove(range);
                }
                // Nothing is there now that a neighbour could continue.
                return;
            }
            Some((attributes, Bytes::Fresh(backing, offset))) => {
                let visible = Visible::new(attributes, backing, offset);
                self.entries.replace(range, visible);
            }
            Some((attributes, Bytes::Kept)) => self.alter(range, attributes),
        }
        if range.end() < region.end() {
            self.join_at(range.end());
        }
        if range.start() > region.start() {
            self.join_at(range.start());
        }
    }

    /// Changes all but the bytes of a range that lies within one entry.
    fn alter(&mut self, range: MemoryRange, attributes: Attributes) {
        let Some((at, visible)) = self.entries.get_mut(range.start()) else {
            return;
        };
        let inside = range.start().saturating_sub(at.start());
        let offset = visible.offset.wrapping_add(inside);
        if at != range {
            let visible = Visible::new(attributes, visible.backing.clone(), offset);
            self.entries.replace(range, visible);
            return;
        }
        visible.region = attributes.region;
        visible.access = attributes.access;
        visible.permissions = attributes.permissions;
        visible.kind = attributes.kind;
        visible.prefetch = attributes.prefetch;
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
