//! The overlay, the plan and the slots against a model that paints pages one by one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

mod support;

use memory_range::PAGE_SIZE;
use proptest::prelude::*;
use region_manager::{FlatView, MapParams, Permissions, Plan, RegionManager, RegionSpec, Slot};
use support::random::{Regions, changes};
use support::{Backing, PAGES, Painted, SPACE, VaPage, World, spread};

/// The flat view, a page an entry.
fn view_pages(view: &FlatView<Backing>) -> Vec<Painted> {
    let mut pages = vec![None; PAGES as usize];
    for (range, visible) in view.iter() {
        for (index, page) in range.page_numbers().enumerate() {
            assert_eq!(pages[page as usize], None, "entries don't overlap");
            let offset = visible.offset / PAGE_SIZE + index as u64;
            pages[page as usize] = Some((visible.backing, offset, visible.permissions));
        }
    }
    pages
}

fn as_va(painted: &[Painted]) -> Vec<VaPage> {
    let page = |(backing, offset, permissions): (Backing, u64, Permissions)| {
        (backing, offset, permissions.access)
    };
    painted.iter().map(|one| one.map(page)).collect()
}

fn permissions(painted: &[Painted]) -> Vec<Option<Permissions>> {
    painted
        .iter()
        .map(|one| one.map(|(_, _, permissions)| permissions))
        .collect()
}

/// What a plan may contain, judged page by page.
fn check_smallest(
    plan: &Plan<Backing>,
    old_slots: &[Slot],
    before: &[Painted],
    after: &[Painted],
) -> Result<(), TestCaseError> {
    let (had, has) = (permissions(before), permissions(after));
    let changed = |slot: &Slot| {
        slot.range
            .page_numbers()
            .any(|page| had[page as usize] != has[page as usize])
    };
    for slot in old_slots {
        let gone = plan.removed_slots().contains(slot);
        prop_assert_eq!(
            gone,
            changed(slot),
            "a slot goes exactly if some page of it changes: {}",
            slot
        );
    }
    // An operation on a page exactly where bytes or protection change there.
    let (old_va, new_va) = (as_va(before), as_va(after));
    let mut touched = vec![0; PAGES as usize];
    for op in plan.va_ops() {
        for page in op.range().page_numbers() {
            touched[page as usize] += 1;
        }
    }
    for page in 0..PAGES as usize {
        prop_assert_eq!(
            touched[page],
            i32::from(old_va[page] != new_va[page]),
            "page {}",
            page
        );
    }
    // Neighbouring operations that one call could do are one.
    for pair in plan.va_ops().windows(2) {
        use region_manager::VaOp::{Map, Protect, Reserve};
        if pair[0].range().end() == pair[1].range().start() {
            let could_be_one = match (&pair[0], &pair[1]) {
                (Reserve { .. }, Reserve { .. }) => true,
                (Protect { access: a, .. }, Protect { access: b, .. }) => a == b,
                (
                    Map {
                        range,
                        backing: b1,
                        offset: o1,
                        access: a1,
                    },
                    Map {
                        backing: b2,
                        offset: o2,
                        access: a2,
                        ..
                    },
                ) => b1 == b2 && a1 == a2 && o1 + range.len() == *o2,
                _ => false,
            };
            prop_assert!(
                !could_be_one,
                "{} and {} could be one call",
                pair[0],
                pair[1]
            );
        }
    }
    // A gap is what is taken and given again.
    let spread_gaps = |plan: &Plan<Backing>| {
        let mut gap = vec![false; PAGES as usize];
        for range in plan.gaps() {
            range
                .page_numbers()
                .for_each(|page| gap[page as usize] = true);
        }
        gap
    };
    let removed = spread(plan.removed_slots().iter().copied());
    let added = spread(plan.added_slots().iter().copied());
    for (page, gap) in spread_gaps(plan).into_iter().enumerate() {
        prop_assert_eq!(
            gap,
            removed[page].is_some() && added[page].is_some(),
            "page {}",
            page
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After every change: view, host addresses, slots and pins are what the model paints, and
    /// the plan held no step too many.
    #[test]
    fn everything_equals_the_painted_model(changes in changes()) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        manager.add_listener(world.listener("vhost")).unwrap();
        let mut regions = Regions::default();
        for ops in &changes {
            let before = regions.painted();
            let old_slots = manager.slots().unwrap();
            let mut change = manager.transaction().unwrap();
            for op in ops {
                regions.edit(&mut change, op);
            }
            let plan = change.commit().unwrap();
            let after = regions.painted();

            let view = manager.flat_view().unwrap();
            prop_assert_eq!(&view_pages(&view), &after);
            let outside = world.outside();
            prop_assert_eq!(&outside.va, &as_va(&after));
            for held in outside.slots.values() {
                let held: Vec<Slot> = held.values().copied().collect();
                prop_assert_eq!(&held, &manager.slots().unwrap());
                prop_assert_eq!(spread(held.into_iter()), permissions(&after));
            }
            for pinned in outside.pinned.values() {
                for (page, contents) in after.iter().enumerate() {
                    let pin = pinned.get(&(page as u64)).copied().flatten();
                    let expected = contents.map(|(backing, offset, _)| (backing, offset));
                    prop_assert_eq!(pin.map(|(b, o, _)| (b, o)), expected, "pin of page {}", page);
                }
            }
            check_smallest(&plan, &old_slots, &before, &after)?;
        }

        // The view is a pure function of the regions: built in one go, it is the same.
        let manager = rebuilt(&regions);
        prop_assert_eq!(view_pages(&manager.flat_view().unwrap()), regions.painted());
    }

    /// Two histories that end with the same regions end with the same view, entry by entry.
    #[test]
    fn the_view_forgets_its_history(changes in changes()) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        let mut regions = Regions::default();
        let mut change = manager.transaction().unwrap();
        for op in &changes[0] {
            regions.edit(&mut change, op);
        }
        let _ = change.commit().unwrap();
        let view = manager.flat_view().unwrap();

        // A region over everything comes and goes; so do others, one at a time.
        let mut change = manager.transaction().unwrap();
        let cover = change.create_region(RegionSpec::new("cover", SPACE / 2, 9)).unwrap();
        let all = memory_range::MemoryRange::new(0..SPACE / 2);
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

fn rebuilt(regions: &Regions) -> RegionManager<Backing> {
    let manager = RegionManager::new(SPACE, World::new().sink()).unwrap();
    let mut change = manager.transaction().unwrap();
    for (_, region) in &regions.all {
        let len = region.pages.len() as u64 * PAGE_SIZE;
        let id = change
            .create_region(RegionSpec::new("again", len, region.priority))
            .unwrap();
        for (index, page) in region.pages.iter().enumerate() {
            let start = index as u64 * PAGE_SIZE;
            let range = memory_range::MemoryRange::new(start..start + PAGE_SIZE);
            if let Some((backing, offset, access)) = *page {
                change
                    .add_mapping(id, range, backing, offset * PAGE_SIZE, access)
                    .unwrap();
            }
        }
        if let Some((at, permissions)) = region.mapped {
            let mut params = MapParams::new(at * PAGE_SIZE, permissions.access);
            params.execute = permissions.execute;
            change.map_region(id, params).unwrap();
        }
    }
    let _ = change.commit().unwrap();
    manager
}
