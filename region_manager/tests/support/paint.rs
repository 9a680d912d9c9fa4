//! The naive model: regions as lists of pages, painted one page after the other.

use super::{Backing, PAGES, VaPage};
use memory_range::{Access, PAGE_SIZE};
use region_manager::{FlatView, MapParams, MemoryKind, Permissions, RegionId};
use std::collections::BTreeSet;

/// A region of the naive model. Lengths and places are in pages.
#[derive(Clone, Debug)]
pub struct ModelRegion {
    pub len: u64,
    pub priority: u8,
    pub kind: MemoryKind,
    pub one_slot: bool,
    pub placed_at: Option<u64>,
    pub mapped: Option<MapParams>,
    pub contents: Contents,
}

#[derive(Clone, Debug)]
pub enum Contents {
    /// One entry a page.
    Pages(Vec<VaPage>),
    /// The pages of another region from one of its pages on.
    Alias(RegionId, u64),
}

/// What is visible at one page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub backing: Backing,
    /// The page in the backing.
    pub page: u64,
    pub access: Access,
    pub permissions: Permissions,
    pub kind: MemoryKind,
}

pub type Painted = Option<Page>;

impl Page {
    pub fn va(self) -> (Backing, u64, Access) {
        (self.backing, self.page, self.access)
    }

    pub fn dma(self) -> (Backing, u64, Access, MemoryKind) {
        (self.backing, self.page, self.access, self.kind)
    }
}

/// The regions that exist, in the order of their creation.
#[derive(Clone, Debug, Default)]
pub struct Regions {
    pub all: Vec<(RegionId, ModelRegion)>,
}

impl Regions {
    pub fn get(&self, id: RegionId) -> &ModelRegion {
        let found = self.all.iter().find(|(one, _)| *one == id);
        &found.expect("the region exists").1
    }

    /// The region whose alias is the last of those given, if any.
    pub fn alias_of(&self, id: RegionId) -> Option<RegionId> {
        self.all.iter().find_map(|(alias, region)| {
            matches!(region.contents, Contents::Alias(target, _) if target == id).then_some(*alias)
        })
    }

    /// What a region shows at one of its pages.
    pub fn page(&self, region: &ModelRegion, index: u64) -> VaPage {
        match &region.contents {
            Contents::Pages(pages) => pages[index as usize],
            Contents::Alias(target, first) => self.page(self.get(*target), first + index),
        }
    }

    /// The overlay, the slow and clear way.
    pub fn painted(&self) -> Vec<Painted> {
        let mut canvas: Vec<Painted> = vec![None; PAGES as usize];
        // In creation order; a later region covers an earlier one only if its priority is higher.
        let mut priorities: Vec<Option<u8>> = vec![None; PAGES as usize];
        for (_, region) in &self.all {
            let Some(params) = region.mapped else {
                continue;
            };
            for index in 0..region.len {
                let at = (params.gpa / PAGE_SIZE + index) as usize;
                if priorities[at].is_some_and(|other| other >= region.priority) {
                    continue;
                }
                priorities[at] = Some(region.priority);
                canvas[at] = self.page(region, index).map(|(backing, page, mapping)| {
                    let writable = mapping.is_writable() && params.access.is_writable();
                    let access = Access::from_writable(writable);
                    let of_slot = if region.one_slot {
                        params.access
                    } else {
                        access
                    };
                    Page {
                        backing,
                        page,
                        access,
                        permissions: Permissions {
                            access: of_slot,
                            execute: params.execute,
                        },
                        kind: region.kind,
                    }
                });
            }
        }
        canvas
    }

    /// The pages at which placed regions start or end.
    pub fn borders(&self) -> BTreeSet<u64> {
        let placed = self.all.iter().filter_map(|(_, region)| {
            let first = region.placed_at?;
            Some([first, first + region.len])
        });
        placed.flatten().collect()
    }
}

/// The flat view, a page an entry.
pub fn view_pages(view: &FlatView<Backing>) -> Vec<Painted> {
    let mut pages = vec![None; PAGES as usize];
    for (range, visible) in view.iter() {
        for (index, page) in range.page_numbers().enumerate() {
            assert_eq!(pages[page as usize], None, "entries don't overlap");
            pages[page as usize] = Some(Page {
                backing: visible.backing,
                page: visible.offset / PAGE_SIZE + index as u64,
                access: visible.access,
                permissions: visible.permissions,
                kind: visible.kind,
            });
        }
    }
    pages
}

pub fn as_va(painted: &[Painted]) -> Vec<VaPage> {
    painted.iter().map(|one| one.map(Page::va)).collect()
}

pub fn permissions(painted: &[Painted]) -> Vec<Option<Permissions>> {
    let of = |page: Page| page.permissions;
    painted.iter().map(|one| one.map(of)).collect()
}
