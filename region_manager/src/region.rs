//! Regions and the mappings they hold.

use crate::{BackingHandle, MapParams};
use inspect::Inspect;
use memory_range::{Access, MemoryRange, RangeMap, RangeValue};
use std::fmt;

/// Identifies a region within its manager; never reused.
///
/// Ids grow: of two regions, the one created first has the lower id, and is the visible one
/// where both have the same priority.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId(pub(crate) u64);

impl RegionId {
    /// The id as a number, as inspection shows it.
    pub const fn as_u64(self) -> u64 {
        self.0
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a region is created with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegionSpec {
    /// Names the region in errors and in inspection; need not be unique.
    pub name: String,
    /// The length in bytes; page aligned, not zero.
    pub len: u64,
    /// The higher wins where mapped regions overlap.
    pub priority: u8,
    /// The guest physical address where the region will be mapped, if that is known before.
    ///
    /// Slots are cut at the borders of every *placed* region, mapped or not. Placing a region
    /// when it is created keeps its neighbours' slots untouched from its first mapping on.
    pub placed_at: Option<u64>,
}

impl RegionSpec {
    /// A region of `len` bytes that has no place yet.
    pub fn new(name: impl Into<String>, len: u64, priority: u8) -> Self {
        Self {
            name: name.into(),
            len,
            priority,
            placed_at: None,
        }
    }

    /// Says where the region will be mapped.
    #[must_use]
    pub fn placed_at(mut self, gpa: u64) -> Self {
        self.placed_at = Some(gpa);
        self
    }
}

/// What part of a region shows: a backing from an offset on, writable or not.
#[derive(Clone, Debug, PartialEq, Inspect)]
#[inspect(bound = "B: BackingHandle")]
pub struct Mapping<B> {
    /// The handle of what holds the bytes.
    #[inspect(display)]
    pub backing: B,
    /// The offset in the backing, in bytes, of the mapping's first byte; page aligned.
    #[inspect(hex)]
    pub offset: u64,
    /// Whether the mapping may be written, if its region may be, too.
    #[inspect(display)]
    pub access: Access,
}

impl<B: Clone> RangeValue for Mapping<B> {
    fn tail(&self, offset: u64) -> Self {
        Self {
            // Does not wrap: offset + length was checked when the mapping was added.
            offset: self.offset.wrapping_add(offset),
            ..self.clone()
        }
    }
}

/// A region as the table holds it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Region<B> {
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) priority: u8,
    /// Where it is mapped, or was last, or will be.
    pub(crate) placed_at: Option<u64>,
    pub(crate) mapped: Option<MapParams>,
    /// By offset from the region's start.
    pub(crate) mappings: RangeMap<Mapping<B>>,
}

impl<B: Clone> Region<B> {
    /// The guest physical range where the region lies, or would.
    pub(crate) fn placed_range(&self) -> Option<MemoryRange> {
        MemoryRange::try_from_len(self.placed_at?, self.len).ok()
    }

    /// The guest physical range where the region is mapped.
    pub(crate) fn mapped_range(&self) -> Option<MemoryRange> {
        MemoryRange::try_from_len(self.mapped?.gpa, self.len).ok()
    }
}

impl<B: BackingHandle> Inspect for Region<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("name", &self.name)
            .field("priority", &self.priority)
            .hex("len", self.len)
            .field("mapped", &self.mapped)
            .child("placed_at", |req| match self.placed_range() {
                Some(range) => req.value(range.to_string()),
                None => req.value("nowhere"),
            })
            .child("mappings", |req| {
                let mut response = req.respond();
                for (range, mapping) in self.mappings.iter() {
                    response.field(range.to_string(), mapping);
                }
            });
    }
}
