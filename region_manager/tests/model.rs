//! The overlay, the plan and the slots against a model that paints pages one by one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

#[path = "support/random.rs"]
mod random;
mod support;

use memory_range::{MemoryRange, PAGE_SIZE};
use proptest::prelude::*;
use random::changes;
use region_manager::{MapParams, RegionManager, RegionSpec, Slot, SubMapping};
use support::dma::{DeviceMemory, is_odd_device};
use support::ops::Op;
use support::paint::{Regions, as_va, permissions, view_pages};
use support::replay::spread;
use support::{Backing, Outside, PAGES, SPACE, World};

/// Slots, pins and sub-mappings are what the manager says and the model paints.
fn check_listeners(
    manager: &RegionManager<Backing>,
    outside: &Outside,
    regions: &Regions,
) -> Result<(), TestCaseError> {
    let after = regions.painted();
    for held in outside.slots.values() {
        let held: Vec<Slot> = held.values().copied().collect();
        prop_assert_eq!(&held, &manager.slots().unwrap());
        let held = held.into_iter().map(|slot| (slot.range, slot.permissions));
        prop_assert_eq!(spread(held), permissions(&after));
    }
    for pinned in outside.pinned.values() {
        for (page, contents) in after.iter().enumerate() {
            let pin = pinned.get(&(page as u64)).copied().flatten();
            let expected = contents.map(|page| (page.backing, page.page));
            prop_assert_eq!(
                pin.map(|(b, o, _)| (b, o)),
                expected,
                "pin of page {}",
                page
            );
        }
    }
    let all = manager.sub_mappings().unwrap();
    for (name, held) in &outside.dma {
        let refuses = *name == "iommu";
        let expected = all.iter().filter(|one| !(refuses && is_odd_device(one)));
        let held: Vec<&SubMapping<Backing>> = held.values().collect();
        prop_assert_eq!(held, expected.collect::<Vec<_>>(), "{}", name);
    }
    let failures = manager.dma_failures().unwrap();
    prop_assert!(failures.iter().all(|failure| failure.name == "iommu"));
    let refused: Vec<&SubMapping<Backing>> = failures.iter().map(|one| &one.mapping).collect();
    let expected: Vec<&SubMapping<Backing>> = all.iter().filter(|one| is_odd_device(one)).collect();
    prop_assert_eq!(refused, expected);
    prop_assert!(outside.unfinished.is_empty() && outside.paused.is_empty());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After every change: view, host addresses, slots, pins and sub-mappings are what the model
    /// paints; and what is planned is what is done.
    #[test]
    fn everything_equals_the_painted_model(changes in changes()) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        manager.add_listener(world.listener("pins")).unwrap();
        manager.add_dma_listener(world.dma("vhost", DeviceMemory::Mapped)).unwrap();
        manager.add_dma_listener(world.dma("iommu", DeviceMemory::OddRefused)).unwrap();
        let mut regions = Regions::default();
        for ops in &changes {
            let mut change = manager.transaction().unwrap();
            for op in ops {
                regions.edit(&mut change, op);
            }
            let planned = change.plan();
            let done = change.commit().unwrap();
            prop_assert_eq!(&planned, &*done);

            let outside = world.outside();
            prop_assert_eq!(view_pages(&manager.flat_view().unwrap()), regions.painted());
            prop_assert_eq!(&outside.va, &as_va(&regions.painted()));
            check_listeners(&manager, &outside, &regions)?;
        }

        // The view is a pure function of the regions: built in one go, it is the same.
        let manager = rebuilt(&regions);
        prop_assert_eq!(view_pages(&manager.flat_view().unwrap()), regions.painted());
    }

    /// A listener that comes late holds what one holds that was there from the start: as pages, since
    /// history shapes the pieces.
    #[test]
    fn a_late_listener_holds_what_an_early_one_holds(
        changes in changes(),
        late in proptest::collection::vec(any::<bool>(), 24),
    ) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        let mut regions = Regions::default();
        let mut iommu = None;
        for (ops, toggles) in changes.iter().zip(late) {
            if toggles {
                iommu = match iommu.take() {
                    Some(id) => {
                        manager.remove_listener(id).unwrap();
                        prop_assert!(world.outside().dma["iommu"].is_empty());
                        prop_assert!(manager.sub_mappings().unwrap().is_empty());
                        prop_assert!(manager.dma_failures().unwrap().is_empty());
                        None
                    }
                    None => {
                        let listener = world.dma("iommu", DeviceMemory::OddRefused);
                        Some(manager.add_dma_listener(listener).unwrap())
                    }
                };
            }
            let mut change = manager.transaction().unwrap();
            for op in ops {
                regions.edit(&mut change, op);
            }
            let plan = change.commit().unwrap();
            if iommu.is_some() {
                check_listeners(&manager, &world.outside(), &regions)?;
            } else {
                prop_assert!(plan.dma_added().is_empty() && plan.dma_removed().is_empty());
            }
        }
    }

    /// Two histories that end with the same regions end with the same view, entry by entry.
    #[test]
    fn the_view_forgets_its_history(changes in changes()) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        let mut regions = Regions::default();
        let mut change = manager.transaction().unwrap();
        for op in changes.iter().flatten() {
            regions.edit(&mut change, op);
        }
        let _ = change.commit().unwrap();
        let view = manager.flat_view().unwrap();

        // A region over everything comes and goes; so do others, one at a time.
        let mut change = manager.transaction().unwrap();
        let cover = change.create_region(RegionSpec::new("cover", SPACE / 2, 9)).unwrap();
        let all = MemoryRange::new(0..SPACE / 2);
        change.add_mapping(cover, all, 77, 0, memory_range::Access::ReadOnly).unwrap();
        let _ = change.commit().unwrap();
        for start in [0, 5, 11, PAGES / 2] {
            let mut change = manager.transaction().unwrap();
            let params = MapParams::new(start * PAGE_SIZE, memory_range::Access::ReadOnly);
            change.map_region(cover, params).unwrap();
            let _ = change.commit().unwrap();
        }
        let mut change = manager.transaction().unwrap();
        change.remove_region(cover).unwrap();
        let _ = change.commit().unwrap();
        prop_assert_eq!(manager.flat_view().unwrap(), view);
    }
}

/// Regions with the same contents, mapped in the same places; aliases as regions of their own.
fn rebuilt(regions: &Regions) -> RegionManager<Backing> {
    let manager = RegionManager::new(SPACE, World::new().sink()).unwrap();
    let mut change = manager.transaction().unwrap();
    for (_, region) in &regions.all {
        let mut spec = RegionSpec::new("again", region.len * PAGE_SIZE, region.priority);
        spec.kind = region.kind;
        spec.one_slot = region.one_slot;
        let id = change.create_region(spec).unwrap();
        for index in 0..region.len {
            let range = MemoryRange::try_from_len(index * PAGE_SIZE, PAGE_SIZE).unwrap();
            if let Some((backing, offset, access)) = regions.page(region, index) {
                change
                    .add_mapping(id, range, backing, offset * PAGE_SIZE, access)
                    .unwrap();
            }
        }
        if let Some(params) = region.mapped {
            change.map_region(id, MapParams { ..params }).unwrap();
        }
    }
    let _ = change.commit().unwrap();
    manager
}

/// The random histories of these tests have all the edits that there are, and they do something.
#[test]
fn random_histories_reach_everything() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let mut seen = std::collections::BTreeMap::new();
    let mut count = |what: &'static str| *seen.entry(what).or_insert(0) += 1;
    for _ in 0..60 {
        let changes = changes().new_tree(&mut runner).unwrap().current();
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        let iommu = world.dma("iommu", DeviceMemory::OddRefused);
        manager.add_dma_listener(iommu).unwrap();
        let mut regions = Regions::default();
        for ops in changes {
            let mut change = manager.transaction().unwrap();
            for op in &ops {
                let before = regions.all.len();
                regions.edit(&mut change, op);
                if matches!(op, Op::CreateAlias { .. }) && regions.all.len() > before {
                    count("alias");
                }
            }
            let plan = change.commit().unwrap();
            if plan.has_gaps() {
                count("gap");
            }
            if plan.to_string().contains("contents replaced") {
                count("contents replaced");
            }
            if plan.to_string().contains("protect") {
                count("protect");
            }
            if !plan.dma_removed().is_empty() && !plan.dma_added().is_empty() {
                count("mapped anew");
            }
            if !manager.dma_failures().unwrap().is_empty() {
                count("device memory refused");
            }
            let one_slot = |page: &support::paint::Painted| {
                page.is_some_and(|page| page.access != page.permissions.access)
            };
            if regions.painted().iter().any(one_slot) {
                count("one slot");
            }
        }
    }
    let names: Vec<&str> = seen.keys().copied().collect();
    assert_eq!(
        names,
        [
            "alias",
            "contents replaced",
            "device memory refused",
            "gap",
            "mapped anew",
            "one slot",
            "protect"
        ]
    );
    assert!(seen.values().all(|count| *count >= 30), "{seen:?}");
}
