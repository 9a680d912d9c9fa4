//! The memory map of a guest, as a tree tells of it.

mod cursor;
mod error;
mod read;

pub use error::MapError;

use crate::range::ByteRange;

/// Holds what a tree says of one view: its regions, what is visible, and who follows it.
///
/// It is read from a [`Node`](inspect::Node) by [`find`](Self::find) or [`read`](Self::read), and has
/// no tie to it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct MemoryMap {
    /// The guest physical addresses that the view has.
    pub space: ByteRange,
    /// The ranges that the layout leaves to MMIO, by address; none where the tree has no layout.
    pub mmio_gaps: Vec<ByteRange>,
    /// All regions, by id.
    pub regions: Vec<Region>,
    /// What the guest sees, by address, without overlap.
    pub view: Vec<Visible>,
    /// What host addresses show, by guest physical address, without overlap; none where the tree
    /// has no VA mapper.
    pub mappings: Vec<Mapping>,
    /// Whoever keeps slots for the view, in the order of the tree.
    pub listeners: Vec<Listener>,
}

/// Holds one region.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Region {
    /// Identifies it within the view.
    pub id: u64,
    /// Its name, which may contain any character.
    pub name: String,
    /// The highest one wins.
    pub priority: u64,
    /// How long it is, in bytes.
    pub len: u64,
    /// The addresses that it covers; `None` if it has no place.
    pub placed: Option<ByteRange>,
    /// What its slots may allow; `None` while it is not mapped.
    pub mapped: Option<String>,
    /// What it shows, by offset in the region, without overlap. What lies between is a hole. An alias
    /// has what its target shows.
    pub mappings: Vec<Mapping>,
    /// What it is an alias of, where it is one.
    pub alias: Option<Alias>,
    /// Whether its slots are the same whatever it shows.
    pub one_slot: bool,
}

/// Holds what an alias shows: a part of another region.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alias {
    /// The id of the other region.
    pub of: u64,
    /// Where in that region the part begins, in bytes.
    pub offset: u64,
}

/// Holds one mapping. Of a region's, the range counts from the start of the region; of the VA
/// mapper's, it is guest physical.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Mapping {
    /// Where it is shown.
    pub range: ByteRange,
    /// The name of what holds the bytes.
    pub backing: String,
    /// The offset in the backing, in bytes, of the range's first byte.
    pub offset: u64,
    /// `rw` or `ro`.
    pub access: String,
}

/// Holds one entry of the flat view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Visible {
    /// The guest physical addresses.
    pub range: ByteRange,
    /// The id of the region that won.
    pub region: u64,
    /// The name of what holds the bytes.
    pub backing: String,
    /// The offset in the backing, in bytes, of the range's first byte.
    pub offset: u64,
    /// What the guest may do: `rwx`, `rox`, ...
    pub permissions: String,
}

/// Holds one listener that keeps slots: a partition, or one of several ways in which it sees the
/// view.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Listener {
    /// Its name in the tree, which is unique.
    pub key: String,
    /// The name that it has given itself.
    pub name: String,
    /// How much higher than in the view the partition sees it, in bytes.
    pub offset: u64,
    /// The slots, by address in the view, without overlap.
    pub slots: Vec<Slot>,
}

/// Holds one slot.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Slot {
    /// The addresses in the view.
    pub range: ByteRange,
    /// What the partition may do.
    pub permissions: String,
    /// The number that the hypervisor knows it by, where the tree has it.
    pub id: Option<u64>,
    /// What else is said of it, such as that it should be gone; often empty.
    pub note: String,
}

impl MemoryMap {
    /// Returns the region of that id.
    #[must_use]
    pub fn region(&self, id: u64) -> Option<&Region> {
        let index = self
            .regions
            .binary_search_by_key(&id, |region| region.id)
            .ok()?;
        self.regions.get(index)
    }

    /// Returns the name of a region, or its id where no such region is in the tree.
    #[must_use]
    pub fn region_name(&self, id: u64) -> String {
        self.region(id)
            .map_or_else(|| format!("region {id}"), |region| region.name.clone())
    }
}

impl Region {
    /// Returns the mappings that lie in `range` of guest physical addresses, cut to it.
    pub(crate) fn shown_in(&self, range: ByteRange) -> impl Iterator<Item = Mapping> {
        let placed = self.placed;
        self.mappings.iter().filter_map(move |mapping| {
            let at = mapping.range.shifted(placed?.start())?;
            let cut = at.intersection(range)?;
            Some(Mapping {
                range: cut,
                offset: mapping.offset.wrapping_add(cut.start() - at.start()),
                ..mapping.clone()
            })
        })
    }
}
