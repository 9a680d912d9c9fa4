//! Every region, mapped or not, and how to take an edit back.

use crate::interval_index::IntervalIndex;
use crate::region::{Mapping, Region, RegionId};
use crate::{BackingHandle, EditError, MapParams, RegionSpec};
use memory_range::{MemoryRange, PAGE_SIZE, RangeMap};
use std::collections::BTreeMap;

/// The regions of a manager, with what makes them quick to find by address.
pub(crate) struct RegionTable<B> {
    /// Guest physical addresses from 0 on that regions may occupy.
    space: MemoryRange,
    regions: BTreeMap<RegionId, Region<B>>,
    /// The mapped ones by address.
    mapped: IntervalIndex,
    /// Of the placed ones.
    borders: Borders,
    next_id: u64,
}

/// One edit, as what it takes to undo it.
pub(crate) enum Inverse<B> {
    Remove(RegionId),
    Restore(RegionId, Box<Region<B>>),
    Place {
        id: RegionId,
        placed_at: Option<u64>,
        mapped: Option<MapParams>,
    },
    Mappings {
        id: RegionId,
        /// Everything that the edit touched: the entries before it, whole.
        hull: MemoryRange,
        before: Vec<(MemoryRange, Mapping<B>)>,
    },
}

/// What an edit did: how to undo it, and the guest physical ranges where the view may differ, some
/// of them empty.
pub(crate) struct Edit<B> {
    pub(crate) inverse: Inverse<B>,
    pub(crate) dirty: [MemoryRange; 2],
}

impl<B> Edit<B> {
    fn at(dirty: MemoryRange, inverse: Inverse<B>) -> Self {
        Self {
            inverse,
            dirty: [dirty, MemoryRange::EMPTY],
        }
    }
}

impl<B: BackingHandle> RegionTable<B> {
    pub(crate) fn new(space: MemoryRange) -> Self {
        Self {
            space,
            regions: BTreeMap::new(),
            mapped: IntervalIndex::default(),
            borders: Borders::default(),
            next_id: 0,
        }
    }

    pub(crate) fn space(&self) -> MemoryRange {
        self.space
    }

    pub(crate) fn borders(&self) -> &Borders {
        &self.borders
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (RegionId, &Region<B>)> {
        self.regions.iter().map(|(id, region)| (*id, region))
    }

    pub(crate) fn get(&self, id: RegionId) -> Result<&Region<B>, EditError> {
        self.regions
            .get(&id)
            .ok_or(EditError::UnknownRegion { id: id.as_u64() })
    }

    /// The mapped regions that overlap `range`, with the range of each.
    pub(crate) fn mapped_in(&self, range: MemoryRange) -> Vec<(MemoryRange, RegionId, &Region<B>)> {
        let mut found = Vec::new();
        self.mapped.overlapping(range, |at, key| {
            let id = RegionId(key);
            if let Some(region) = self.regions.get(&id) {
                found.push((at, id, region));
            }
        });
        found
    }

    pub(crate) fn create(&mut self, spec: RegionSpec) -> Result<(RegionId, Edit<B>), EditError> {
        if spec.len == 0 || !spec.len.is_multiple_of(PAGE_SIZE) {
            return Err(EditError::BadLength {
                name: spec.name,
                len: spec.len,
            });
        }
        let region = Region {
            name: spec.name,
            len: spec.len,
            priority: spec.priority,
            placed_at: spec.placed_at,
            mapped: None,
            mappings: RangeMap::new(),
        };
        if let Some(gpa) = spec.placed_at {
            self.check_place(&region, gpa)?;
        }
        let id = RegionId(self.next_id);
        self.next_id = self
            .next_id
            .checked_add(1)
            .ok_or(EditError::OutOfRegionIds)?;
        self.insert(id, region);
        Ok((id, Edit::at(MemoryRange::EMPTY, Inverse::Remove(id))))
    }

    pub(crate) fn remove(&mut self, id: RegionId) -> Result<Edit<B>, EditError> {
        let dirty = self.get(id)?.mapped_range().unwrap_or(MemoryRange::EMPTY);
        let region = self
            .take(id)
            .ok_or(EditError::UnknownRegion { id: id.as_u64() })?;
        Ok(Edit::at(dirty, Inverse::Restore(id, Box::new(region))))
    }

    /// Maps, moves, changes parameters, or (with `None`) unmaps.
    pub(crate) fn place(
        &mut self,
        id: RegionId,
        params: Option<MapParams>,
    ) -> Result<Edit<B>, EditError> {
        let region = self.get(id)?;
        if let Some(params) = params {
            self.check_place(region, params.gpa)?;
        }
        let before = region.mapped_range().unwrap_or(MemoryRange::EMPTY);
        let (placed_at, mapped) = (region.placed_at, region.mapped);
        self.set_place(id, params.map(|p| p.gpa).or(placed_at), params);
        let after = self.get(id)?.mapped_range().unwrap_or(MemoryRange::EMPTY);
        Ok(Edit {
            inverse: Inverse::Place {
                id,
                placed_at,
                mapped,
            },
            dirty: [before, after],
        })
    }

    /// Puts a mapping over a part of a region, or (with `None`) takes out what is there.
    pub(crate) fn set_mapping(
        &mut self,
        id: RegionId,
        range: MemoryRange,
        mapping: Option<Mapping<B>>,
    ) -> Result<Edit<B>, EditError> {
        let region = self.get(id)?;
        let whole = MemoryRange::try_new(0..region.len).unwrap_or(MemoryRange::EMPTY);
        if range.is_empty() || !whole.contains(&range) {
            return Err(EditError::OutsideRegion {
                name: region.name.clone(),
                range,
                len: region.len,
            });
        }
        if let Some(mapping) = &mapping {
            let end = mapping.offset.checked_add(range.len());
            if !mapping.offset.is_multiple_of(PAGE_SIZE) || end.is_none() {
                return Err(EditError::BadBackingOffset {
                    range,
                    offset: mapping.offset,
                });
            }
        }
        let dirty = match region.mapped {
            Some(params) => range.shifted(params.gpa).unwrap_or(MemoryRange::EMPTY),
            None => MemoryRange::EMPTY,
        };
        let Some(region) = self.regions.get_mut(&id) else {
            return Err(EditError::UnknownRegion { id: id.as_u64() });
        };
        let before: Vec<_> = region
            .mappings
            .overlapping(range)
            .map(|(at, mapping)| (at, mapping.clone()))
            .collect();
        let start = before
            .first()
            .map_or(range.start(), |(at, _)| at.start().min(range.start()));
        let end = before
            .last()
            .map_or(range.end(), |(at, _)| at.end().max(range.end()));
        let hull = MemoryRange::try_new(start..end).unwrap_or(range);
        match mapping {
            Some(mapping) => region.mappings.replace(range, mapping),
            None => {
                region.mappings.remove(range);
            }
        }
        Ok(Edit::at(dirty, Inverse::Mappings { id, hull, before }))
    }

    /// Takes an edit back. Edits are taken back in the opposite order.
    pub(crate) fn revert(&mut self, inverse: Inverse<B>) {
        match inverse {
            Inverse::Remove(id) => {
                self.take(id);
            }
            Inverse::Restore(id, region) => self.insert(id, *region),
            Inverse::Place {
                id,
                placed_at,
                mapped,
            } => self.set_place(id, placed_at, mapped),
            Inverse::Mappings { id, hull, before } => {
                if let Some(region) = self.regions.get_mut(&id) {
                    region.mappings.remove(hull);
                    for (range, mapping) in before {
                        region.mappings.replace(range, mapping);
                    }
                }
            }
        }
    }

    fn check_place(&self, region: &Region<B>, gpa: u64) -> Result<(), EditError> {
        let outside = || EditError::OutsideAddressSpace {
            name: region.name.clone(),
            gpa,
            len: region.len,
            space: self.space,
        };
        if !gpa.is_multiple_of(PAGE_SIZE) {
            return Err(EditError::UnalignedGpa {
                name: region.name.clone(),
                gpa,
            });
        }
        let range = MemoryRange::try_from_len(gpa, region.len).map_err(|_| outside())?;
        if self.space.contains(&range) {
            Ok(())
        } else {
            Err(outside())
        }
    }

    fn set_place(&mut self, id: RegionId, placed_at: Option<u64>, mapped: Option<MapParams>) {
        let Some(region) = self.regions.get_mut(&id) else {
            return;
        };
        let was = (region.placed_range(), region.mapped_range());
        region.placed_at = placed_at;
        region.mapped = mapped;
        let is = (region.placed_range(), region.mapped_range());
        // What did not move needs no new entry.
        if was.0 != is.0 {
            was.0
                .into_iter()
                .for_each(|range| self.borders.remove(range));
            is.0.into_iter().for_each(|range| self.borders.add(range));
        }
        if was.1 != is.1 {
            if let Some(range) = was.1 {
                self.mapped.remove(range, id.0);
            }
            if let Some(range) = is.1 {
                self.mapped.insert(range, id.0);
            }
        }
    }

    /// Where a region enters: table, index and borders stay together.
    fn insert(&mut self, id: RegionId, region: Region<B>) {
        if let Some(range) = region.mapped_range() {
            self.mapped.insert(range, id.0);
        }
        if let Some(range) = region.placed_range() {
            self.borders.add(range);
        }
        self.regions.insert(id, region);
    }

    /// Where a region leaves.
    fn take(&mut self, id: RegionId) -> Option<Region<B>> {
        let region = self.regions.remove(&id)?;
        if let Some(range) = region.mapped_range() {
            self.mapped.remove(range, id.0);
        }
        if let Some(range) = region.placed_range() {
            self.borders.remove(range);
        }
        Some(region)
    }
}

/// The addresses at which placed regions start or end, each with how many do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Borders {
    count: BTreeMap<u64, usize>,
}

impl Borders {
    fn add(&mut self, range: MemoryRange) {
        for addr in [range.start(), range.end()] {
            let count = self.count.entry(addr).or_default();
            *count = count.saturating_add(1);
        }
    }

    fn remove(&mut self, range: MemoryRange) {
        for addr in [range.start(), range.end()] {
            if let Some(count) = self.count.get_mut(&addr) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.count.remove(&addr);
                }
            }
        }
    }

    /// Whether a region starts or ends at `addr`.
    pub(crate) fn contains(&self, addr: u64) -> bool {
        self.count.contains_key(&addr)
    }

    /// The borders strictly between two addresses, in order.
    pub(crate) fn between(&self, start: u64, end: u64) -> impl Iterator<Item = u64> {
        let first = start.saturating_add(1).min(end);
        self.count.range(first..end).map(|(addr, _)| *addr)
    }
}
