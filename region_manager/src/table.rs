//! Every region, mapped or not, and how to take an edit back.

use crate::borders::Borders;
use crate::interval_index::IntervalIndex;
use crate::reason::{Edit, Reason};
use crate::region::{Contents, Mapping, Region, RegionId};
use crate::slab::Slab;
use crate::{BackingHandle, EditError, MapParams, RegionSpec};
use memory_range::{MemoryRange, PAGE_SIZE, RangeMap};
use smallvec::{SmallVec, smallvec};

/// The regions of a manager, with what makes them quick to find by address.
pub(crate) struct RegionTable<B> {
    /// Guest physical addresses from 0 on that regions may occupy.
    space: MemoryRange,
    regions: Slab<Region<B>>,
    /// The mapped ones by address.
    mapped: IntervalIndex,
    /// Of the placed ones.
    borders: Borders,
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
        before: SmallVec<[(MemoryRange, Mapping<B>); 1]>,
    },
}

/// The edits since a transaction began: how to undo them, and the guest physical ranges where the
/// view may differ, in any order.
pub(crate) struct Edits<B> {
    pub(crate) inverses: Vec<Inverse<B>>,
    pub(crate) dirty: Vec<MemoryRange>,
    /// Whether a mapped region came, went or moved: others may win in its range then.
    pub(crate) winners_change: bool,
    pub(crate) reason: Reason,
    /// How many inspections are copying regions.
    pub(crate) watchers: usize,
    /// The regions that were edited while there were any, oldest first.
    pub(crate) watched: Vec<RegionId>,
}

impl<B> Default for Edits<B> {
    fn default() -> Self {
        Self {
            inverses: Vec::new(),
            dirty: Vec::new(),
            winners_change: false,
            reason: Reason::default(),
            watchers: 0,
            watched: Vec::new(),
        }
    }
}

impl<B> Edits<B> {
    /// Notes an edit that was made.
    pub(crate) fn note(&mut self, edit: Edit) {
        self.reason.add(edit);
        if self.watchers > 0 {
            self.watched.push(edit.region());
        }
    }

    fn soil(&mut self, range: Option<MemoryRange>) {
        self.dirty.extend(range.filter(|range| !range.is_empty()));
    }
}

impl<B: BackingHandle> RegionTable<B> {
    pub(crate) fn new(space: MemoryRange) -> Self {
        Self {
            space,
            regions: Slab::new(),
            mapped: IntervalIndex::default(),
            borders: Borders::default(),
        }
    }

    pub(crate) fn space(&self) -> MemoryRange {
        self.space
    }

    pub(crate) fn borders(&self) -> &Borders {
        &self.borders
    }

    /// Some of the regions, in no order: those from a place on in memory. `None` after the last.
    pub(crate) fn part(
        &self,
        from: u32,
        places: usize,
    ) -> Option<impl Iterator<Item = (RegionId, &Region<B>)>> {
        self.regions.part(from, places)
    }

    pub(crate) fn get(&self, id: RegionId) -> Result<&Region<B>, EditError> {
        self.regions.get(id).ok_or_else(|| unknown(id))
    }

    /// Calls `visit` with each mapped region that overlaps `range` and the range where it is
    /// mapped, by start address.
    pub(crate) fn mapped_in<'a>(
        &'a self,
        range: MemoryRange,
        mut visit: impl FnMut(MemoryRange, RegionId, &'a Region<B>),
    ) {
        self.mapped.overlapping(range, |at, id| {
            if let Some(region) = self.regions.get(id) {
                visit(at, id, region);
            }
        });
    }

    /// Finds the mappings that a region shows, and the offset among them of the region's first byte.
    ///
    /// They are its own, or those of the region at the end of a chain of aliases.
    pub(crate) fn source_of<'a>(
        &'a self,
        region: &'a Region<B>,
    ) -> Option<(&'a RangeMap<Mapping<B>>, u64)> {
        let (mut region, mut from) = (region, 0_u64);
        // Ends: each target was created before its alias.
        loop {
            match &region.contents {
                Contents::Mappings(mappings) => return Some((mappings, from)),
                Contents::Alias { target, offset } => {
                    from = from.checked_add(*offset)?;
                    region = self.regions.get(*target)?;
                }
            }
        }
    }

    pub(crate) fn create(
        &mut self,
        spec: RegionSpec,
        edits: &mut Edits<B>,
    ) -> Result<RegionId, EditError> {
        let contents = Contents::Mappings(RangeMap::new());
        self.create_with(spec, contents, edits)
    }

    pub(crate) fn create_alias(
        &mut self,
        spec: RegionSpec,
        target: RegionId,
        offset: u64,
        edits: &mut Edits<B>,
    ) -> Result<RegionId, EditError> {
        let shown = self.get(target)?;
        if !offset.is_multiple_of(PAGE_SIZE) {
            return Err(EditError::UnalignedAlias {
                name: spec.name,
                offset,
            });
        }
        if offset
            .checked_add(spec.len)
            .is_none_or(|end| end > shown.len)
        {
            return Err(EditError::AliasPastEnd {
                name: spec.name,
                len: spec.len,
                offset,
                target: shown.name.clone(),
                target_len: shown.len,
            });
        }
        self.create_with(spec, Contents::Alias { target, offset }, edits)
    }

    fn create_with(
        &mut self,
        spec: RegionSpec,
        contents: Contents<B>,
        edits: &mut Edits<B>,
    ) -> Result<RegionId, EditError> {
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
            kind: spec.kind,
            one_slot: spec.one_slot,
            placed_at: spec.placed_at,
            mapped: None,
            contents,
            aliases: IntervalIndex::default(),
        };
        if let Some(gpa) = spec.placed_at {
            check_place(self.space, &region, gpa)?;
        }
        let id = self.regions.next_id().ok_or(EditError::OutOfRegionIds)?;
        self.insert(id, region);
        edits.inverses.push(Inverse::Remove(id));
        Ok(id)
    }

    pub(crate) fn remove(&mut self, id: RegionId, edits: &mut Edits<B>) -> Result<(), EditError> {
        let region = self.get(id)?;
        if let Some(alias) = region.aliases.first() {
            return Err(EditError::Aliased {
                name: region.name.clone(),
                alias: alias.as_u64(),
            });
        }
        let region = self.take(id).ok_or_else(|| unknown(id))?;
        edits.soil(region.mapped_range());
        edits.winners_change |= region.mapped.is_some();
        edits.inverses.push(Inverse::Restore(id, Box::new(region)));
        Ok(())
    }

    /// Maps, moves, changes parameters, or (with `None`) unmaps.
    pub(crate) fn place(
        &mut self,
        id: RegionId,
        params: Option<MapParams>,
        edits: &mut Edits<B>,
    ) -> Result<(), EditError> {
        let region = self.regions.get_mut(id).ok_or_else(|| unknown(id))?;
        let (placed_at, mapped) = (region.placed_at, region.mapped);
        if let (Some(params), Some(was)) = (params, mapped)
            && params.gpa == was.gpa
        {
            // It lies where it lay: no index and no border changes.
            region.mapped = Some(params);
            edits.soil(region.mapped_range());
            edits.inverses.push(Inverse::Place {
                id,
                placed_at,
                mapped,
            });
            return Ok(());
        }
        if let Some(params) = params {
            check_place(self.space, region, params.gpa)?;
        }
        let was = region.mapped_range();
        edits.inverses.push(Inverse::Place {
            id,
            placed_at,
            mapped,
        });
        let is = self.set_place(id, params.map(|p| p.gpa).or(placed_at), params);
        edits.soil(was);
        if is != was {
            edits.soil(is);
            edits.winners_change = true;
        }
        Ok(())
    }

    /// Puts a mapping over a part of a region, or (with `None`) takes out what is there.
    pub(crate) fn set_mapping(
        &mut self,
        id: RegionId,
        range: MemoryRange,
        mapping: Option<Mapping<B>>,
        edits: &mut Edits<B>,
    ) -> Result<(), EditError> {
        let region = self.regions.get_mut(id).ok_or_else(|| unknown(id))?;
        let whole = region.whole();
        let Contents::Mappings(mappings) = &mut region.contents else {
            return Err(EditError::IsAlias {
                name: region.name.clone(),
            });
        };
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
        let mapping = match (mapping, mappings.get_mut(range.start())) {
            // What was there as a whole gives way: nothing is cut, and no handle copied.
            (Some(mapping), Some((at, old))) if at == range => {
                let before = smallvec![(range, std::mem::replace(old, mapping))];
                let inverse = Inverse::Mappings {
                    id,
                    hull: range,
                    before,
                };
                edits.inverses.push(inverse);
                self.soil_where_shown(id, range, edits);
                return Ok(());
            }
            (mapping, _) => mapping,
        };
        let before: SmallVec<[_; 1]> = mappings
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
            Some(mapping) => mappings.replace(range, mapping),
            None => {
                mappings.remove(range);
            }
        }
        edits.inverses.push(Inverse::Mappings { id, hull, before });
        self.soil_where_shown(id, range, edits);
        Ok(())
    }

    /// Notes where offsets of a region are shown: by the region itself, and by its aliases.
    fn soil_where_shown(&self, id: RegionId, range: MemoryRange, edits: &mut Edits<B>) {
        // Aliases form a tree, since each has one target: none is visited twice.
        let mut rest: Vec<(RegionId, MemoryRange)> = Vec::new();
        let mut next = Some((id, range));
        while let Some((id, inside)) = next {
            if let Some(region) = self.regions.get(id) {
                edits.soil(region.mapped.and_then(|params| inside.shifted(params.gpa)));
                region.aliases.overlapping(inside, |shown, alias| {
                    let common = shown.intersection(&inside);
                    rest.extend(
                        common
                            .shifted_down(shown.start())
                            .map(|inside| (alias, inside)),
                    );
                });
            }
            next = rest.pop();
        }
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
            } => {
                self.set_place(id, placed_at, mapped);
            }
            Inverse::Mappings { id, hull, before } => {
                if let Some(region) = self.regions.get_mut(id)
                    && let Contents::Mappings(mappings) = &mut region.contents
                {
                    mappings.remove(hull);
                    for (range, mapping) in before {
                        mappings.replace(range, mapping);
                    }
                }
            }
        }
    }

    /// Returns where the region is mapped then.
    fn set_place(
        &mut self,
        id: RegionId,
        placed_at: Option<u64>,
        mapped: Option<MapParams>,
    ) -> Option<MemoryRange> {
        let region = self.regions.get_mut(id)?;
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
                self.mapped.remove(range, id);
            }
            if let Some(range) = is.1 {
                self.mapped.insert(range, id);
            }
        }
        is.1
    }

    /// Where a region enters: table, indexes and borders stay together.
    fn insert(&mut self, id: RegionId, region: Region<B>) {
        if let Some(range) = region.mapped_range() {
            self.mapped.insert(range, id);
        }
        if let Some(range) = region.placed_range() {
            self.borders.add(range);
        }
        if let Some((target, shown)) = shown_by(&region)
            && let Some(target) = self.regions.get_mut(target)
        {
            target.aliases.insert(shown, id);
        }
        self.regions.insert(id, region);
    }

    /// Where a region leaves.
    fn take(&mut self, id: RegionId) -> Option<Region<B>> {
        let region = self.regions.remove(id)?;
        if let Some(range) = region.mapped_range() {
            self.mapped.remove(range, id);
        }
        if let Some(range) = region.placed_range() {
            self.borders.remove(range);
        }
        if let Some((target, shown)) = shown_by(&region)
            && let Some(target) = self.regions.get_mut(target)
        {
            target.aliases.remove(shown, id);
        }
        Some(region)
    }
}

/// What an alias shows: which region, and which offsets in it.
fn shown_by<B>(region: &Region<B>) -> Option<(RegionId, MemoryRange)> {
    match region.contents {
        Contents::Mappings(_) => None,
        Contents::Alias { target, offset } => {
            let shown = MemoryRange::try_from_len(offset, region.len).ok()?;
            Some((target, shown))
        }
    }
}

fn unknown(id: RegionId) -> EditError {
    EditError::UnknownRegion { id: id.as_u64() }
}

fn check_place<B>(space: MemoryRange, region: &Region<B>, gpa: u64) -> Result<(), EditError> {
    if !gpa.is_multiple_of(PAGE_SIZE) {
        return Err(EditError::UnalignedGpa {
            name: region.name.clone(),
            gpa,
        });
    }
    match MemoryRange::try_from_len(gpa, region.len) {
        Ok(range) if space.contains(&range) => Ok(()),
        _ => Err(EditError::OutsideAddressSpace {
            name: region.name.clone(),
            gpa,
            len: region.len,
            space,
        }),
    }
}
