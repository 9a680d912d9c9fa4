//! The address space from its first to its last byte: what is visible, what is not, and what lies
//! hidden under it.

use crate::map::{Mapping, MemoryMap, Region};
use crate::range::ByteRange;

/// Holds one range of the address space in which one thing is visible, or nothing.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Row {
    /// The guest physical addresses.
    pub range: ByteRange,
    /// What is visible there.
    pub what: What,
    /// The regions that lie there and are not seen, the highest priority first.
    pub hidden: Vec<Hidden>,
}

/// Tells what is visible in a range.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// An entry of the flat view: its index in [`MemoryMap::view`].
    Visible(usize),
    /// The hole of a mapped region, with the name of that region. It hides what lies below.
    Hole(String),
    /// What the layout leaves to MMIO.
    Mmio,
    /// Nothing: no region is mapped there.
    Nothing,
}

/// Holds the part of a region that lies in a row and is not seen there.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Hidden {
    /// The guest physical addresses, within the row.
    pub range: ByteRange,
    /// The id of the region.
    pub region: u64,
    /// Why it is not seen.
    pub why: Why,
    /// What would be seen there.
    pub mappings: Vec<Mapping>,
}

/// Tells why a region is not seen.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// Another one hides it.
    Hidden,
    /// It is not mapped.
    Unmapped,
}

impl Row {
    /// Divides the whole address space of a map into rows, by address.
    ///
    /// Each byte is in exactly one row. An entry of the flat view is one row, and a range between two
    /// of them is cut where the reason for seeing nothing changes.
    #[must_use]
    pub fn all(map: &MemoryMap) -> Vec<Self> {
        let mut placed = Placed::new(map);
        let mut rows = Vec::new();
        let mut end = map.space.start();
        for (index, visible) in map.view.iter().enumerate() {
            placed.gap(map, end, visible.range.start(), &mut rows);
            rows.push(Self {
                range: visible.range,
                what: What::Visible(index),
                hidden: placed.hidden(visible.range, Some(visible.region)),
            });
            end = visible.range.end();
        }
        placed.gap(map, end, map.space.end(), &mut rows);
        rows
    }
}

/// The regions that have a place, looked at from the lowest address to the highest.
struct Placed<'a> {
    /// By start.
    all: Vec<(ByteRange, &'a Region)>,
    /// How many of them have started before the row that was looked at last.
    begun: usize,
    /// Those among them that have not ended.
    open: Vec<(ByteRange, &'a Region)>,
}

impl<'a> Placed<'a> {
    fn new(map: &'a MemoryMap) -> Self {
        let placed = map.regions.iter();
        let mut all: Vec<_> = placed
            .filter_map(|region| Some((region.placed?, region)))
            .collect();
        all.sort_by_key(|(range, _)| range.start());
        Self {
            all,
            begun: 0,
            open: Vec::new(),
        }
    }

    /// The regions that overlap `range`, the one that wins first. Ranges must ascend from call to
    /// call.
    fn overlapping(&mut self, range: ByteRange) -> Vec<(ByteRange, &'a Region)> {
        self.open.retain(|(placed, _)| placed.end() > range.start());
        while let Some(next) = self.all.get(self.begun)
            && next.0.start() < range.end()
        {
            if next.0.end() > range.start() {
                self.open.push(*next);
            }
            self.begun = self.begun.saturating_add(1);
        }
        let overlapping = self.open.iter().copied();
        let mut found: Vec<_> = overlapping
            .filter(|(placed, _)| placed.overlaps(range))
            .collect();
        found.sort_by_key(|(_, region)| (std::cmp::Reverse(region.priority), region.id));
        found
    }

    fn hidden(&mut self, row: ByteRange, seen: Option<u64>) -> Vec<Hidden> {
        let others = self.overlapping(row).into_iter();
        let others = others.filter(|(_, region)| Some(region.id) != seen);
        others
            .filter_map(|(placed, region)| {
                let range = placed.intersection(row)?;
                Some(Hidden {
                    range,
                    region: region.id,
                    why: match region.mapped {
                        Some(_) => Why::Hidden,
                        None => Why::Unmapped,
                    },
                    mappings: region.shown_in(range).collect(),
                })
            })
            .collect()
    }

    /// Adds rows for a range in which nothing is visible.
    fn gap(&mut self, map: &MemoryMap, start: u64, end: u64, rows: &mut Vec<Row>) {
        let Some(gap) = ByteRange::try_new(start, end) else {
            return;
        };
        let regions = self.overlapping(gap);
        let mapped = || regions.iter().filter(|(_, region)| region.mapped.is_some());
        let borders = mapped().map(|(placed, _)| *placed);
        let borders = borders.chain(map.mmio_gaps.iter().copied());
        let mut cuts: Vec<u64> = borders
            .flat_map(|range| [range.start(), range.end()])
            .filter(|&cut| start < cut && cut < end)
            .chain([start, end])
            .collect();
        cuts.sort_unstable();
        cuts.dedup();
        let mut pieces: Vec<(ByteRange, What, Option<u64>)> = Vec::new();
        for (from, to) in cuts.iter().zip(cuts.iter().skip(1)) {
            let Some(range) = ByteRange::try_new(*from, *to) else {
                continue;
            };
            // The first one has won, and there is a gap since it shows nothing.
            let owner = mapped().find(|(placed, _)| placed.contains(range));
            let (what, owner) = match owner {
                Some((_, region)) => (What::Hole(region.name.clone()), Some(region.id)),
                None if map.mmio_gaps.iter().any(|gap| gap.contains(range)) => (What::Mmio, None),
                None => (What::Nothing, None),
            };
            match pieces.last_mut() {
                Some((last, same, id)) if *same == what && *id == owner => {
                    *last = ByteRange::try_new(last.start(), range.end()).unwrap_or(*last);
                }
                _ => pieces.push((range, what, owner)),
            }
        }
        for (range, what, owner) in pieces {
            rows.push(Row {
                range,
                what,
                hidden: self.hidden(range, owner),
            });
        }
    }
}

#[cfg(test)]
mod tests;
