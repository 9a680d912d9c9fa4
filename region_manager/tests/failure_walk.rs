//! Every call to a neighbour made to fail: the state is what it was, and a retry succeeds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

#[path = "support/random.rs"]
mod random;
mod support;

use proptest::prelude::*;
use random::changes;
use region_manager::{CommitError, RegionManager};
use support::dma::DeviceMemory;
use support::ops::Op;
use support::paint::Regions;
use support::{Backing, Outside, SPACE, World};

/// Everything outside, and the manager's own account of itself, without what counts attempts.
fn state(manager: &RegionManager<Backing>, world: &World) -> (Outside, String) {
    let tree = inspect::inspect(manager);
    let part = |name: &str| tree.child(name).expect("a part of the state").to_string();
    let own = [
        "regions",
        "flat_view",
        "slots",
        "sub_mappings",
        "listeners",
        "dma_failures",
        "damage",
    ]
    .map(part);
    (world.outside(), own.join("\n"))
}

fn commit(
    manager: &RegionManager<Backing>,
    regions: &mut Regions,
    ops: &[Op],
) -> Result<(), CommitError> {
    let mut attempt = regions.clone();
    let mut change = manager.transaction().unwrap();
    for op in ops {
        attempt.edit(&mut change, op);
    }
    let _ = change.commit()?;
    *regions = attempt;
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// For every change of a random history and every k: the k-th call fails, and nothing has
    /// changed, neither outside nor in the manager; after the walk the change succeeds.
    #[test]
    fn a_failed_change_is_no_change(changes in changes()) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        manager.add_listener(world.listener("pins")).unwrap();
        manager.add_dma_listener(world.dma("vhost", DeviceMemory::OddRefused)).unwrap();
        manager.add_dma_listener(world.dma("iommu", DeviceMemory::OddRefused)).unwrap();
        let mut regions = Regions::default();
        for ops in &changes {
            let before = state(&manager, &world);
            for k in 0.. {
                world.fail(k, 1);
                // Region ids are never used again, so the retry works on a copy.
                let mut attempt = regions.clone();
                match commit(&manager, &mut attempt, ops) {
                    Ok(()) => {
                        regions = attempt;
                        break;
                    }
                    Err(CommitError::Step(failure)) => {
                        prop_assert!(failure.undo.is_empty());
                        prop_assert_eq!(failure.cause.to_string(), "made to fail");
                    }
                    Err(other) => prop_assert!(false, "{}", other),
                }
                prop_assert_eq!(&state(&manager, &world), &before, "call {}", k);
            }
            world.fail_never();
        }
    }

    /// Undoing fails, too: the ranges are told, and the next change mends them first.
    #[test]
    fn a_failed_undo_is_reported_and_mended(
        changes in changes(),
        after in 1usize..9,
        count in 2usize..5,
    ) {
        let world = World::new();
        let manager = RegionManager::new(SPACE, world.sink()).unwrap();
        manager.add_listener(world.listener("kvm")).unwrap();
        manager.add_dma_listener(world.dma("iommu", DeviceMemory::OddRefused)).unwrap();
        let mut regions = Regions::default();
        for ops in &changes {
            let before = world.outside();
            world.fail(after, count);
            let mut attempt = regions.clone();
            let result = commit(&manager, &mut attempt, ops);
            world.fail_never();
            match result {
                Ok(()) => regions = attempt,
                Err(CommitError::Step(failure)) => {
                    let damaged = manager.damaged().unwrap();
                    prop_assert_eq!(damaged.is_empty(), failure.undo.is_empty());
                    if damaged.is_empty() {
                        prop_assert_eq!(&world.outside(), &before);
                    } else {
                        let text = inspect::inspect(&manager).to_string();
                        prop_assert!(text.contains("made to fail"), "{}", text);
                    }
                    // A change that changes nothing mends all the same.
                    let _ = manager.transaction().unwrap().commit().unwrap();
                    prop_assert!(manager.damaged().unwrap().is_empty());
                    let mended = world.outside();
                    prop_assert_eq!(mended, before);
                }
                Err(other) => prop_assert!(false, "{}", other),
            }
        }
    }
}

/// A change that would work on a range which cannot be mended is refused; others are not.
#[test]
fn a_damaged_range_refuses_changes_until_it_is_mended() {
    use memory_range::{Access, MemoryRange};
    use region_manager::{MapParams, RegionSpec};

    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    manager.add_listener(world.listener("kvm")).unwrap();
    let mut change = manager.transaction().unwrap();
    let mut ids = Vec::new();
    for gpa in [0, 0x4000] {
        let spec = RegionSpec::new("region", 0x1000, 0).placed_at(gpa);
        let id = change.create_region(spec).unwrap();
        let all = MemoryRange::new(0..0x1000);
        change
            .add_mapping(id, all, 5, 0, Access::ReadWrite)
            .unwrap();
        ids.push(id);
    }
    let _ = change.commit().unwrap();
    let map = |index: usize, gpa| {
        let mut change = manager.transaction().unwrap();
        let params = MapParams::new(gpa, Access::ReadWrite);
        change.map_region(ids[index], params).unwrap();
        change.commit().map(drop)
    };

    // The check and the map succeed, the slot fails, and so does taking the map back.
    world.fail(2, 2);
    let error = map(0, 0).unwrap_err();
    assert!(error.to_string().contains("undoing failed"), "{error}");
    let damaged = manager.damaged().unwrap();
    assert_eq!(damaged, [MemoryRange::new(0..0x1000)]);

    // It cannot be mended yet: the same range is refused, another one is not.
    world.fail(0, 1);
    let error = map(0, 0).unwrap_err();
    assert!(
        matches!(error, CommitError::Damaged { range } if range == damaged[0]),
        "{error}"
    );
    world.fail(0, 1);
    map(1, 0x4000).unwrap();

    // Now it can.
    world.fail_never();
    map(0, 0).unwrap();
    assert!(manager.damaged().unwrap().is_empty());
}

/// A listener is not given slots over host addresses that an undo could not restore.
#[test]
fn a_new_listener_waits_until_damage_is_mended() {
    use memory_range::{Access, MemoryRange};
    use region_manager::{AddListenerError, MapParams, RegionSpec};

    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    manager.add_listener(world.listener("kvm")).unwrap();
    let all = MemoryRange::new(0..0x1000);
    let mut change = manager.transaction().unwrap();
    let region = change
        .create_region(RegionSpec::new("region", 0x1000, 0))
        .unwrap();
    change
        .add_mapping(region, all, 5, 0, Access::ReadWrite)
        .unwrap();
    change
        .map_region(region, MapParams::new(0, Access::ReadWrite))
        .unwrap();
    let _ = change.commit().unwrap();
    let before = world.outside();

    // After check and pause the slot goes and the protection changes; the new slot fails, and so
    // does the way back.
    world.fail(4, 2);
    let mut change = manager.transaction().unwrap();
    change
        .map_region(region, MapParams::new(0, Access::ReadOnly))
        .unwrap();
    assert!(change.commit().is_err());
    assert_eq!(manager.damaged().unwrap().first(), Some(&all));

    world.fail(0, 1);
    let error = manager.add_listener(world.listener("vhost")).unwrap_err();
    assert!(
        matches!(error, AddListenerError::Damaged { range } if range == all),
        "{error}"
    );
    assert!(world.outside().slots["vhost"].is_empty());

    world.fail_never();
    manager.add_listener(world.listener("vhost")).unwrap();
    let after = world.outside();
    assert_eq!(after.va, before.va);
    assert_eq!(after.slots["kvm"], before.slots["kvm"]);
    assert_eq!(after.slots["vhost"], before.slots["kvm"]);
}

/// A listener that could not hold what there is says so before it is given any of it.
#[test]
fn a_new_listener_is_asked_before_it_is_given_anything() {
    use memory_range::{Access, MemoryRange};
    use region_manager::{AddListenerError, MapParams, RegionSpec};

    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    // Where nothing is visible there is nothing to ask for.
    manager.add_listener(world.listener("early")).unwrap();
    assert!(world.take_calls().is_empty());

    let mut change = manager.transaction().unwrap();
    for gpa in [0, 0x4000] {
        let spec = RegionSpec::new("ram", 0x1000, 0).ram();
        let ram = change.create_region(spec).unwrap();
        let all = MemoryRange::new(0..0x1000);
        change
            .add_mapping(ram, all, 5, gpa, Access::ReadWrite)
            .unwrap();
        change
            .map_region(ram, MapParams::new(gpa, Access::ReadWrite))
            .unwrap();
    }
    let _ = change.commit().unwrap();

    let refusal = |error: AddListenerError| match error {
        AddListenerError::Step(failure) => (failure.step, failure.who, failure.undo.len()),
        other => (other.to_string(), String::new(), 0),
    };
    let refused = |who: &str| ("check the change".to_owned(), who.to_owned(), 0);
    world.take_calls();
    world.fail_named("check");
    let error = manager.add_listener(world.listener("vhost")).unwrap_err();
    assert_eq!(refusal(error), refused("vhost"));
    assert_eq!(
        world.take_calls(),
        ["early: check -0 +0", "vhost: check -0 +2"]
    );
    let dma = world.dma("iommu", DeviceMemory::Mapped);
    let error = manager.add_dma_listener(dma).unwrap_err();
    assert_eq!(refusal(error), refused("iommu"));
    assert_eq!(world.take_calls(), ["iommu: check DMA -0 +2"]);
    assert!(manager.sub_mappings().unwrap().is_empty());

    world.fail_never();
    manager.add_listener(world.listener("vhost")).unwrap();
    let dma = world.dma("iommu", DeviceMemory::Mapped);
    manager.add_dma_listener(dma).unwrap();
    let outside = world.outside();
    assert_eq!(outside.slots["vhost"], outside.slots["early"]);
    assert_eq!(outside.dma["iommu"].len(), 2);
}
