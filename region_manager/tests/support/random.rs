//! Random changes, applied to a manager and to the model at once.

use super::{Backing, ModelRegion, PAGES, Painted, paint};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use region_manager::{
    EditError, Execute, MapParams, Permissions, RegionId, RegionSpec, Transaction,
};

/// One edit, as numbers that always make sense for the regions at hand.
#[derive(Clone, Debug)]
pub enum Op {
    Create {
        len: u64,
        priority: u8,
        place: Option<u64>,
    },
    Remove {
        which: usize,
    },
    Map {
        which: usize,
        at: u64,
        access: Access,
        execute: Execute,
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

fn access() -> impl Strategy<Value = Access> {
    prop_oneof![Just(Access::ReadOnly), Just(Access::ReadWrite)]
}

pub fn op() -> impl Strategy<Value = Op> {
    let which = 0usize..8;
    let execute = prop_oneof![4 => Just(Execute::Allowed), 1 => Just(Execute::Denied)];
    prop_oneof![
        2 => (1u64..14, 0u8..4, proptest::option::of(0u64..40))
            .prop_map(|(len, priority, place)| Op::Create { len, priority, place }),
        1 => which.clone().prop_map(|which| Op::Remove { which }),
        5 => (which.clone(), 0u64..40, access(), execute)
            .prop_map(|(which, at, access, execute)| Op::Map { which, at, access, execute }),
        2 => which.clone().prop_map(|which| Op::Unmap { which }),
        5 => (which.clone(), 0u64..12, 1u64..14, 0u32..3, 0u64..4, access()).prop_map(
            |(which, start, len, backing, offset, access)| {
                // Offsets that often continue what is mapped beside.
                Op::AddMapping { which, start, len, backing, offset: offset + start, access }
            }
        ),
        2 => (which, 0u64..12, 1u64..8)
            .prop_map(|(which, start, len)| Op::RemoveMappings { which, start, len }),
    ]
}

/// Transactions of one to four edits each.
pub fn changes() -> impl Strategy<Value = Vec<Vec<Op>>> {
    proptest::collection::vec(proptest::collection::vec(op(), 1..5), 1..24)
}

/// The regions that exist, for both sides.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    pub all: Vec<(RegionId, ModelRegion)>,
}

impl Regions {
    pub fn painted(&self) -> Vec<Painted> {
        paint(self.all.iter().map(|(_, region)| region))
    }

    /// Makes an edit in both; one that the manager refuses must be one that makes no sense.
    pub fn edit(&mut self, change: &mut Transaction<'_, Backing>, op: &Op) {
        match op {
            Op::Create {
                len,
                priority,
                place,
            } => {
                let mut spec = RegionSpec::new(format!("region {len}"), len * PAGE_SIZE, *priority);
                spec.placed_at = place
                    .filter(|page| page + len <= PAGES)
                    .map(|page| page * PAGE_SIZE);
                let id = change.create_region(spec).expect("a sound region");
                self.all.push((
                    id,
                    ModelRegion {
                        priority: *priority,
                        mapped: None,
                        pages: vec![None; *len as usize],
                    },
                ));
            }
            Op::Remove { which } => {
                if let Some(index) = self.pick(*which) {
                    let (id, _) = self.all.remove(index);
                    change.remove_region(id).expect("the region exists");
                }
            }
            Op::Map {
                which,
                at,
                access,
                execute,
            } => {
                let Some(index) = self.pick(*which) else {
                    return;
                };
                let (id, region) = &mut self.all[index];
                let mut params = MapParams::new(at * PAGE_SIZE, *access);
                params.execute = *execute;
                let result = change.map_region(*id, params);
                if at + region.pages.len() as u64 <= PAGES {
                    result.expect("it fits");
                    let permissions = Permissions {
                        access: *access,
                        execute: *execute,
                    };
                    region.mapped = Some((*at, permissions));
                } else {
                    let refused = matches!(result, Err(EditError::OutsideAddressSpace { .. }));
                    assert!(refused, "{result:?}");
                }
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

    fn set(
        &mut self,
        which: usize,
        start: u64,
        len: u64,
        call: impl Fn(&mut Transaction<'_, Backing>, RegionId, MemoryRange) -> Result<(), EditError>,
        change: &mut Transaction<'_, Backing>,
        page: impl Fn(u64) -> super::VaPage,
    ) {
        let Some(index) = self.pick(which) else {
            return;
        };
        let (id, region) = &mut self.all[index];
        let range = MemoryRange::new(start * PAGE_SIZE..(start + len) * PAGE_SIZE);
        let result = call(change, *id, range);
        if start + len > region.pages.len() as u64 {
            assert!(
                matches!(result, Err(EditError::OutsideRegion { .. })),
                "{result:?}"
            );
            return;
        }
        result.expect("it fits");
        for index in 0..len {
            region.pages[(start + index) as usize] = page(index);
        }
    }

    fn pick(&self, which: usize) -> Option<usize> {
        (!self.all.is_empty()).then(|| which % self.all.len())
    }
}
