//! Edits as numbers, and what they do to a manager and to the model at once.

use super::paint::{Contents, ModelRegion, Regions};
use super::{Backing, PAGES, VaPage};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{
    EditError, Execute, MapParams, MemoryKind, RegionId, RegionSpec, Transaction,
};

/// What regions are created with, in pages.
#[derive(Clone, Debug)]
pub struct Spec {
    pub len: u64,
    pub priority: u8,
    pub place: Option<u64>,
    pub kind: MemoryKind,
    pub one_slot: bool,
}

/// One edit, as numbers that always make sense for the regions at hand.
#[derive(Clone, Debug)]
pub enum Op {
    Create(Spec),
    CreateAlias {
        spec: Spec,
        which: usize,
        offset: u64,
    },
    Remove {
        which: usize,
    },
    Map {
        which: usize,
        /// None: where the region lies, or at the start.
        at: Option<u64>,
        access: Access,
        execute: Execute,
        prefetch: bool,
    },
    Unmap {
        which: usize,
    },
    AddMapping {
        which: usize,
        start: u64,
        len: u64,
        backing: Backing,
        offset: u64,
        access: Access,
    },
    RemoveMappings {
        which: usize,
        start: u64,
        len: u64,
    },
}

impl Spec {
    fn for_manager(&self) -> RegionSpec {
        let mut spec = RegionSpec::new(
            format!("region {}", self.len),
            self.len * PAGE_SIZE,
            self.priority,
        );
        spec.placed_at = self.placed_at().map(|page| page * PAGE_SIZE);
        spec.kind = self.kind;
        spec.one_slot = self.one_slot;
        spec
    }

    fn for_model(&self, contents: Contents) -> ModelRegion {
        ModelRegion {
            len: self.len,
            priority: self.priority,
            kind: self.kind,
            one_slot: self.one_slot,
            placed_at: self.placed_at(),
            mapped: None,
            contents,
        }
    }

    fn placed_at(&self) -> Option<u64> {
        self.place.filter(|page| page + self.len <= PAGES)
    }
}

impl Regions {
    /// Makes an edit in both; one that the manager refuses must be one that makes no sense.
    pub fn edit(&mut self, change: &mut Transaction<'_, Backing>, op: &Op) {
        match op {
            Op::Create(spec) => {
                let id = change.create_region(spec.for_manager());
                let pages = Contents::Pages(vec![None; spec.len as usize]);
                self.all
                    .push((id.expect("a sound region"), spec.for_model(pages)));
            }
            Op::CreateAlias {
                spec,
                which,
                offset,
            } => self.create_alias(change, spec, *which, *offset),
            Op::Remove { which } => self.remove(change, *which),
            Op::Map {
                which,
                at,
                access,
                execute,
                prefetch,
            } => {
                let Some(index) = self.pick(*which) else {
                    return;
                };
                let at = at.or(self.all[index].1.placed_at).unwrap_or_default();
                let mut params = MapParams::new(at * PAGE_SIZE, *access).prefetched(*prefetch);
                params.execute = *execute;
                self.map(change, index, params);
            }
            Op::Unmap { which } => {
                if let Some(index) = self.pick(*which) {
                    let (id, region) = &mut self.all[index];
                    change.unmap_region(*id).expect("the region exists");
                    region.mapped = None;
                }
            }
            Op::AddMapping {
                which,
                start,
                len,
                backing,
                offset,
                access,
            } => {
                self.set(
                    *which,
                    *start,
                    *len,
                    |change, id, range| {
                        change.add_mapping(id, range, *backing, offset * PAGE_SIZE, *access)
                    },
                    change,
                    |index| Some((*backing, offset + index, *access)),
                );
            }
            Op::RemoveMappings { which, start, len } => {
                self.set(
                    *which,
                    *start,
                    *len,
                    |change, id, range| change.remove_mappings(id, range),
                    change,
                    |_| None,
                );
            }
        }
    }

    fn create_alias(
        &mut self,
        change: &mut Transaction<'_, Backing>,
        spec: &Spec,
        which: usize,
        offset: u64,
    ) {
        let Some(index) = self.pick(which) else {
            return;
        };
        let (target, shown) = &self.all[index];
        let result = change.create_alias(spec.for_manager(), *target, offset * PAGE_SIZE);
        if offset + spec.len > shown.len {
            let refused = matches!(result, Err(EditError::AliasPastEnd { .. }));
            assert!(refused, "{result:?}");
            return;
        }
        let alias = Contents::Alias(*target, offset);
        self.all
            .push((result.expect("it fits"), spec.for_model(alias)));
    }

    fn remove(&mut self, change: &mut Transaction<'_, Backing>, which: usize) {
        let Some(index) = self.pick(which) else {
            return;
        };
        let (id, _) = self.all[index];
        let result = change.remove_region(id);
        if self.alias_of(id).is_some() {
            let refused = matches!(result, Err(EditError::Aliased { .. }));
            assert!(refused, "{result:?}");
            return;
        }
        result.expect("the region exists");
        self.all.remove(index);
    }

    fn map(&mut self, change: &mut Transaction<'_, Backing>, index: usize, params: MapParams) {
        let (id, region) = &mut self.all[index];
        let result = change.map_region(*id, params);
        let first = params.gpa / PAGE_SIZE;
        if first + region.len <= PAGES {
            result.expect("it fits");
            region.mapped = Some(params);
            region.placed_at = Some(first);
        } else {
            let refused = matches!(result, Err(EditError::OutsideAddressSpace { .. }));
            assert!(refused, "{result:?}");
        }
    }

    fn set(
        &mut self,
        which: usize,
        start: u64,
        len: u64,
        call: impl Fn(&mut Transaction<'_, Backing>, RegionId, MemoryRange) -> Result<(), EditError>,
        change: &mut Transaction<'_, Backing>,
        page: impl Fn(u64) -> VaPage,
    ) {
        let Some(index) = self.pick(which) else {
            return;
        };
        let (id, region) = &mut self.all[index];
        let range = MemoryRange::new(start * PAGE_SIZE..(start + len) * PAGE_SIZE);
        let result = call(change, *id, range);
        let Contents::Pages(pages) = &mut region.contents else {
            let refused = matches!(result, Err(EditError::IsAlias { .. }));
            assert!(refused, "{result:?}");
            return;
        };
        if start + len > region.len {
            let refused = matches!(result, Err(EditError::OutsideRegion { .. }));
            assert!(refused, "{result:?}");
            return;
        }
        result.expect("it fits");
        for index in 0..len {
            pages[(start + index) as usize] = page(index);
        }
    }

    fn pick(&self, which: usize) -> Option<usize> {
        (!self.all.is_empty()).then(|| which % self.all.len())
    }
}
