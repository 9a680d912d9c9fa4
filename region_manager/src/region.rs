//! Regions and the mappings they hold.

use crate::interval_index::IntervalIndex;
use crate::{BackingHandle, MapParams};
use inspect::Inspect;
use memory_range::{Access, MemoryRange, RangeMap, RangeValue};
use std::fmt;

/// Identifies a region within its manager; never reused.
///
/// Ids grow: of two regions, the one created first has the lower id, and is the visible one
/// where both have the same priority.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegionId {
    /// First, since the order of ids is that of creation.
    pub(crate) number: u64,
    /// Where the table keeps the region.
    pub(crate) place: u32,
}

impl RegionId {
    /// The id as a number, as inspection shows it.
    pub const fn as_u64(self) -> u64 {
        self.number
    }
}

impl fmt::Display for RegionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.number)
    }
}

/// Says what sort of memory a region shows; [DMA listeners](crate::DmaListener) are told.
///
/// It has no influence on what is visible. It decides what happens when a DMA listener cannot
/// map a part: for RAM the change is undone, for device memory the failure is kept and tolerated.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Inspect)]
pub enum MemoryKind {
    /// The guest's main memory: whoever follows the view must have it.
    Ram,
    /// A window of a device, a ROM, a frame buffer: DMA to it is rare, and not every consumer can.
    #[default]
    Device,
}

impl fmt::Display for MemoryKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram => "ram",
            Self::Device => "device",
        })
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
    /// RAM or device memory.
    pub kind: MemoryKind,
    /// Whether slots take their permissions from the region alone.
    ///
    /// A slot ends where permissions change. In a window with mappings of several permissions,
    /// which come and go, that would be at every one of them. In a region with this option slots
    /// have the permissions of [`MapParams`], whatever the mappings in it allow, so that the
    /// window stays one slot. Host addresses and DMA still get no more than the mapping and the
    /// region both allow.
    ///
    /// A hole in the region is a hole all the same, and cuts the slot. Who wants none puts a
    /// mapping of something over the whole region first, and over whatever goes later.
    pub one_slot: bool,
}

impl RegionSpec {
    /// A region of device memory, `len` bytes long, that has no place yet.
    pub fn new(name: impl Into<String>, len: u64, priority: u8) -> Self {
        Self {
            name: name.into(),
            len,
            priority,
            placed_at: None,
            kind: MemoryKind::Device,
            one_slot: false,
        }
    }

    /// Says that the region is RAM.
    #[must_use]
    pub fn ram(mut self) -> Self {
        self.kind = MemoryKind::Ram;
        self
    }

    /// Says that slots take their permissions from the region alone; see
    /// [`one_slot`](Self::one_slot).
    #[must_use]
    pub fn one_slot(mut self) -> Self {
        self.one_slot = true;
        self
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

/// Where a region's contents come from.
#[derive(Clone, Debug)]
pub(crate) enum Contents<B> {
    /// Its own mappings, by offset from the region's start.
    Mappings(RangeMap<Mapping<B>>),
    /// A part of another region, which was created before: so no alias shows itself.
    Alias {
        target: RegionId,
        /// In the target, in bytes; the alias's whole length fits behind it.
        offset: u64,
    },
}

/// A region as the table holds it.
#[derive(Clone, Debug)]
pub(crate) struct Region<B> {
    pub(crate) name: String,
    pub(crate) len: u64,
    pub(crate) priority: u8,
    pub(crate) kind: MemoryKind,
    pub(crate) one_slot: bool,
    /// Where it is mapped, or was last, or will be.
    pub(crate) placed_at: Option<u64>,
    pub(crate) mapped: Option<MapParams>,
    pub(crate) contents: Contents<B>,
    /// Which aliases show which part of this region: offsets in it, and the alias's id.
    pub(crate) aliases: IntervalIndex,
}

impl<B> Region<B> {
    /// The offsets that exist in the region.
    pub(crate) fn whole(&self) -> MemoryRange {
        MemoryRange::try_new(0..self.len).unwrap_or(MemoryRange::EMPTY)
    }

    /// The guest physical range where the region lies, or would.
    pub(crate) fn placed_range(&self) -> Option<MemoryRange> {
        MemoryRange::try_from_len(self.placed_at?, self.len).ok()
    }

    /// The guest physical range where the region is mapped.
    pub(crate) fn mapped_range(&self) -> Option<MemoryRange> {
        MemoryRange::try_from_len(self.mapped?.gpa, self.len).ok()
    }
}
