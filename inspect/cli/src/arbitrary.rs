//! Trees of views for tests: regions at random, and a flat view that is painted page by page.

use crate::map::MemoryMap;
use inspect::Node;
use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

/// How many pages the address space has. Pages are of very different sizes, so that scales are
/// put to work: the address of page n is `address(n)`.
pub(crate) const PAGES: usize = 24;

/// What a region is in the model.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) priority: u64,
    pub(crate) mapped: bool,
    pub(crate) read_only: bool,
    /// For each page of the region, whether it is a hole.
    pub(crate) holes: u32,
    pub(crate) name: String,
}

impl Model {
    pub(crate) fn covers(&self, page: usize) -> bool {
        (self.start..self.end).contains(&page)
    }

    pub(crate) fn is_hole(&self, page: usize) -> bool {
        self.holes >> (page - self.start) & 1 == 1
    }
}

/// The address of a page: small ones, a very large one in the middle, and small ones again.
pub(crate) fn address(page: usize) -> u64 {
    let small = page as u64 * 0x1000;
    match page {
        0..=12 => small,
        _ => small + (1 << 40),
    }
}

/// The region that wins a page, if any is mapped there.
pub(crate) fn owner(models: &[Model], page: usize) -> Option<usize> {
    let mapped = models.iter().enumerate();
    let mapped = mapped.filter(|(_, model)| model.mapped && model.covers(page));
    // The highest priority; among equals, the one that was created first.
    let best = mapped.max_by_key(|(index, model)| (model.priority, usize::MAX - index));
    best.map(|(index, _)| index)
}

pub(crate) fn models() -> impl Strategy<Value = Vec<Model>> {
    let model = (
        0..PAGES,
        1..=PAGES,
        0_u64..3,
        prop::bool::weighted(0.8),
        any::<bool>(),
        prop_oneof![Just(0_u32), any::<u32>()],
        prop_oneof!["[a-z]{1,6}", "\\PC{0,40}", ".{0,10}"],
    );
    let model = model.prop_map(
        |(start, len, priority, mapped, read_only, holes, name)| Model {
            start,
            end: (start + len).min(PAGES),
            priority,
            mapped,
            read_only,
            holes,
            name,
        },
    );
    prop::collection::vec(model, 0..8)
}

/// Two states, of which the second has some regions changed.
pub(crate) fn two_states() -> impl Strategy<Value = (Vec<Model>, Vec<Model>)> {
    (models(), models(), any::<u8>()).prop_map(|(before, other, choice)| {
        let mut after = before.clone();
        for (index, model) in other.into_iter().enumerate() {
            match after.get_mut(index) {
                Some(place) if choice >> index & 1 == 1 => *place = model,
                Some(_) => {}
                None => after.push(model),
            }
        }
        (before, after)
    })
}

fn range(start: usize, end: usize) -> String {
    format!("{:#x}-{:#x}", address(start), address(end))
}

/// The tree of a view with these regions.
pub(crate) fn tree(models: &[Model]) -> Json {
    let regions = models.iter().enumerate().map(|(index, model)| {
        let base = address(model.start);
        let pages = (model.start..model.end).filter(|&page| !model.is_hole(page));
        let mappings = pages.map(|page| {
            let range = format!(
                "{:#x}-{:#x}",
                address(page) - base,
                address(page + 1) - base
            );
            let mapping = json!({
                "backing": format!("backing {}", index % 3),
                "offset": address(page) - base,
                "access": if model.read_only { "ro" } else { "rw" },
            });
            (range, mapping)
        });
        let region = json!({
            "name": model.name,
            "priority": model.priority,
            "len": address(model.end) - base,
            "mapped": model.mapped.then(|| json!({
                "access": if model.read_only { "ro" } else { "rw" },
            })),
            "placed_at": range(model.start, model.end),
            "mappings": mappings.collect::<Map<_, _>>(),
        });
        (index.to_string(), region)
    });
    let visible = (0..PAGES).filter_map(|page| {
        let winner = owner(models, page)?;
        let model = models.get(winner).filter(|model| !model.is_hole(page))?;
        let visible = json!({
            "region": winner,
            "backing": format!("backing {}", winner % 3),
            "offset": address(page) - address(model.start),
            "permissions": permissions(model),
        });
        Some((range(page, page + 1), visible))
    });
    let visible: Map<String, Json> = visible.collect();
    let pieces: Map<String, Json> = visible
        .iter()
        .map(|(range, visible)| (range.clone(), visible["permissions"].clone()))
        .collect();
    json!({
        "address_space": range(0, PAGES),
        "regions": regions.collect::<Map<_, _>>(),
        "flat_view": visible,
        "listeners": { "0 vm": { "name": "vm", "offset": 0x1_0000, "pieces": pieces } },
    })
}

pub(crate) fn permissions(model: &Model) -> &'static str {
    if model.read_only { "rox" } else { "rwx" }
}

pub(crate) fn map(models: &[Model]) -> MemoryMap {
    MemoryMap::find(&Node::from_json(&tree(models))).expect("a view")
}
