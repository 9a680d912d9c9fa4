//! DMA listeners: what they are told, in which order, and what their failures do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use region_manager::{
    AddListenerError, CommitError, MapParams, RegionId, RegionManager, RegionSpec,
    RemoveListenerError,
};
use support::cases::{BAR, RAM, RO, RW, change, check, filled, manager, range};
use support::dma::DeviceMemory;
use support::{Backing, World};

/// RAM at 0x4000-0x8000 and a BAR placed at 0x9000, which an odd-refusing listener would not take.
fn machine() -> (RegionManager<Backing>, World, RegionId, RegionId) {
    let (manager, world) = manager();
    let ((ram, bar), _) = change(&manager, |change| {
        let spec = RegionSpec::new("ram", 0x4000, 255).placed_at(0x4000).ram();
        let ram = change.create_region(spec).unwrap();
        change
            .add_mapping(ram, range(0, 0x4000), RAM, 0, RW)
            .unwrap();
        change.map_region(ram, MapParams::new(0x4000, RW)).unwrap();
        let bar = filled(change, "bar", 0x9000, 0x1000, 0, BAR);
        (ram, bar)
    });
    (manager, world, ram, bar)
}

fn held(world: &World, name: &str) -> Vec<String> {
    let outside = world.outside();
    outside.dma[name]
        .values()
        .map(|one| one.to_string())
        .collect()
}

#[test]
fn nobody_listens_and_nothing_is_planned() {
    let (manager, _, ram, _) = machine();
    assert!(manager.sub_mappings().unwrap().is_empty());
    let (_, plan) = change(&manager, |change| {
        change.map_region(ram, MapParams::new(0x4000, RO)).unwrap();
    });
    assert!(plan.dma_removed().is_empty() && plan.dma_added().is_empty());
}

#[test]
fn calls_stand_between_slots_and_host_addresses() {
    let (manager, world, ram, bar) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    assert_eq!(
        held(&world, "vhost"),
        ["0x4000-0x8000 rw ram from 2 at 0x0"]
    );
    world.take_calls();
    check(
        &manager,
        |change| {
            change.map_region(ram, MapParams::new(0x4000, RO)).unwrap();
            change.map_region(bar, MapParams::new(0x9000, RW)).unwrap();
        },
        &[
            "remove slot 0x4000-0x8000 rwx",
            "unmap for DMA 0x4000-0x8000 rw ram from 2 at 0x0",
            "protect 0x4000-0x8000 ro",
            "map 0x9000-0xa000 rw from 3 at 0x9000",
            "map for DMA 0x4000-0x8000 ro ram from 2 at 0x0",
            "map for DMA 0x9000-0xa000 rw device from 3 at 0x9000",
            "add slot 0x4000-0x8000 rox",
            "add slot 0x9000-0xa000 rwx",
            "gap 0x4000-0x8000",
        ],
    );
    assert_eq!(
        world.take_calls(),
        [
            "kvm: check -1 +2",
            "vhost: check DMA -1 +2",
            "kvm: pause",
            "kvm: remove slot 0x4000-0x8000 rwx",
            "vhost: unmap 0x4000-0x8000 rw ram from 2 at 0x0",
            "protect 0x4000-0x8000 ro",
            "map 0x9000-0xa000 rw from 3 at 0x9000",
            "vhost: map 0x4000-0x8000 ro ram from 2 at 0x0",
            "vhost: map 0x9000-0xa000 rw device from 3 at 0x9000",
            "kvm: add slot 0x4000-0x8000 rox",
            "kvm: add slot 0x9000-0xa000 rwx",
            "vhost: finish Completed",
            "kvm: resume",
        ]
    );
    let tree = inspect::inspect(&manager);
    let count = |name| {
        tree.child("counters")
            .unwrap()
            .child(name)
            .unwrap()
            .to_string()
    };
    assert_eq!(
        (count("dma_unmapped"), count("dma_mapped")),
        ("1".into(), "2".into())
    );
}

#[test]
fn replaced_contents_are_mapped_anew_without_a_slot_operation() {
    let (manager, world, ram, _) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    check(
        &manager,
        |change| {
            let at = range(0x1000, 0x2000);
            change.add_mapping(ram, at, BAR, 0, RW).unwrap();
        },
        &[
            "unmap for DMA 0x4000-0x8000 rw ram from 2 at 0x0",
            "map 0x5000-0x6000 rw from 3 at 0x0",
            "contents replaced 0x5000-0x6000",
            "map for DMA 0x4000-0x5000 rw ram from 2 at 0x0",
            "map for DMA 0x5000-0x6000 rw ram from 3 at 0x0",
            "map for DMA 0x6000-0x8000 rw ram from 2 at 0x2000",
        ],
    );
    // One of the three changes; the others stay.
    let (_, plan) = change(&manager, |change| {
        let at = range(0x1000, 0x2000);
        change.add_mapping(ram, at, BAR, 0x1000, RW).unwrap();
    });
    assert_eq!((plan.dma_removed().len(), plan.dma_added().len()), (1, 1));
}

#[test]
fn only_execution_changes_and_dma_stays() {
    let (manager, world, ram, _) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    world.take_calls();
    let (_, plan) = change(&manager, |change| {
        let params = MapParams::new(0x4000, RW).not_executable();
        change.map_region(ram, params).unwrap();
    });
    assert_eq!(plan.removed_slots().len(), 1);
    let calls = world.take_calls();
    assert!(
        calls.iter().all(|call| !call.contains("vhost")),
        "{calls:?}"
    );
}

#[test]
fn device_memory_that_is_refused_is_told_and_never_unmapped() {
    let (manager, world, ram, bar) = machine();
    let iommu = world.dma("iommu", DeviceMemory::OddRefused);
    let id = manager.add_dma_listener(iommu).unwrap();
    change(&manager, |change| {
        change.map_region(bar, MapParams::new(0x9000, RW)).unwrap();
    });
    let failures = manager.dma_failures().unwrap();
    assert_eq!(failures.len(), 1);
    assert_eq!(
        (failures[0].listener, failures[0].name.as_str()),
        (id, "iommu")
    );
    assert_eq!(
        failures[0].mapping.to_string(),
        "0x9000-0xa000 rw device from 3 at 0x9000"
    );
    assert_eq!(failures[0].cause, "no device memory at odd pages");
    let tree = inspect::inspect(&manager).to_string();
    assert!(tree.contains("no device memory at odd pages"), "{tree}");

    // A change that fails leaves the failure as it is.
    let unmap_bar = |change: &mut region_manager::Transaction<'_, Backing>| {
        change.map_region(ram, MapParams::new(0x4000, RO)).unwrap();
        change.unmap_region(bar).unwrap();
    };
    for k in 0..7 {
        world.fail(k, 1);
        let mut change = manager.transaction().unwrap();
        unmap_bar(&mut change);
        assert!(change.commit().is_err(), "call {k}");
        assert_eq!(manager.dma_failures().unwrap(), failures);
    }
    world.fail_never();
    world.take_calls();
    change(&manager, unmap_bar);
    let calls = world.take_calls();
    let unmaps = calls.iter().filter(|call| call.contains("unmap"));
    assert_eq!(unmaps.count(), 1, "RAM only: {calls:?}");
    assert!(manager.dma_failures().unwrap().is_empty());

    // At an even page it is mapped; a listener that goes takes its failures along.
    change(&manager, |change| {
        change.map_region(bar, MapParams::new(0xa000, RW)).unwrap();
    });
    assert!(manager.dma_failures().unwrap().is_empty());
    change(&manager, |change| {
        change.map_region(bar, MapParams::new(0xb000, RW)).unwrap();
    });
    assert_eq!(manager.dma_failures().unwrap().len(), 1);
    manager.remove_listener(id).unwrap();
    assert!(manager.dma_failures().unwrap().is_empty());
}

#[test]
fn a_device_mapping_that_fails_on_the_way_back_is_tolerated_too() {
    let (manager, world, _, bar) = machine();
    let vhost = world.dma("vhost", DeviceMemory::Mapped);
    manager.add_dma_listener(vhost).unwrap();
    change(&manager, |change| {
        change.map_region(bar, MapParams::new(0x9000, RW)).unwrap();
    });
    // Checks, slot away, unmapped; the host addresses refuse; mapping again fails.
    world.fail(4, 2);
    let mut attempt = manager.transaction().unwrap();
    attempt.unmap_region(bar).unwrap();
    let error = attempt.commit().unwrap_err();
    let CommitError::Step(failure) = error else {
        panic!("{error}");
    };
    assert_eq!(failure.who, "the VA mapper");
    assert!(failure.undo.is_empty() && manager.damaged().unwrap().is_empty());
    assert_eq!(manager.dma_failures().unwrap().len(), 1);
    // It is visible as before, and goes without being unmapped again.
    world.fail_never();
    assert_eq!(manager.slots().unwrap().len(), 2);
    change(&manager, |change| change.unmap_region(bar).unwrap());
    assert!(manager.dma_failures().unwrap().is_empty());
    assert_eq!(held(&world, "vhost").len(), 1);
}

#[test]
fn ram_that_cannot_be_mapped_undoes_the_change() {
    let (manager, world, ram, _) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    let before = world.outside();
    world.take_calls();
    // Two checks, pause, slot, unmap, protect; then the map.
    world.fail(6, 1);
    let mut attempt = manager.transaction().unwrap();
    attempt.map_region(ram, MapParams::new(0x4000, RO)).unwrap();
    let error = attempt.commit().unwrap_err();
    world.fail_never();
    assert_eq!(
        error.to_string(),
        "cannot map for DMA 0x4000-0x8000 ro ram from 2 at 0x0 (vhost)"
    );
    assert_eq!(world.outside(), before);
    let calls = world.take_calls();
    assert!(
        calls.contains(&"vhost: finish Undone".to_owned()),
        "{calls:?}"
    );
    assert!(manager.dma_failures().unwrap().is_empty());
}

#[test]
fn an_unmap_that_fails_undoes_the_change_for_any_memory() {
    let (manager, world, _, bar) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    change(&manager, |change| {
        change.map_region(bar, MapParams::new(0x9000, RW)).unwrap();
    });
    let before = world.outside();
    world.take_calls();
    world.fail(3, 1);
    let mut attempt = manager.transaction().unwrap();
    attempt.unmap_region(bar).unwrap();
    let error = attempt.commit().unwrap_err();
    world.fail_never();
    assert!(
        error.to_string().starts_with("cannot unmap for DMA"),
        "{error}"
    );
    assert_eq!(world.outside(), before);
    // Nothing was changed for it, so there is nothing to finish.
    let calls = world.take_calls();
    assert!(
        calls.iter().all(|call| !call.contains("finish")),
        "{calls:?}"
    );
}

#[test]
fn a_listener_that_cannot_map_present_ram_is_not_registered() {
    let (manager, world, ram, _) = machine();
    change(&manager, |change| {
        let at = range(0x1000, 0x2000);
        change.add_mapping(ram, at, BAR, 0, RW).unwrap();
    });
    for k in 0..3 {
        world.fail(k, 1);
        let vhost = world.dma("vhost", DeviceMemory::Mapped);
        let error = manager.add_dma_listener(vhost).unwrap_err();
        assert!(matches!(error, AddListenerError::Step(_)), "{error}");
        assert!(held(&world, "vhost").is_empty());
        assert!(
            manager.sub_mappings().unwrap().is_empty(),
            "no ledger is left"
        );
    }
    world.fail_never();
    assert!(world.outside().unfinished.is_empty());
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    assert_eq!(held(&world, "vhost").len(), 3);
}

#[test]
fn a_listener_that_is_taken_out_gives_up_what_it_holds() {
    let (manager, world, ram, _) = machine();
    let vhost = world.dma("vhost", DeviceMemory::Mapped);
    let id = manager.add_dma_listener(vhost).unwrap();
    let iommu = world.dma("iommu", DeviceMemory::Mapped);
    let other = manager.add_dma_listener(iommu).unwrap();
    manager.remove_listener(id).unwrap();
    assert!(held(&world, "vhost").is_empty());
    assert_eq!(manager.sub_mappings().unwrap().len(), 1, "one is left");
    world.fail(0, 1);
    let error = manager.remove_listener(other).unwrap_err();
    assert!(
        matches!(error, RemoveListenerError::Detach { .. }),
        "{error}"
    );
    world.fail_never();
    assert!(manager.sub_mappings().unwrap().is_empty());
    world.take_calls();
    change(&manager, |change| change.unmap_region(ram).unwrap());
    let calls = world.take_calls();
    let to_gone = |call: &String| call.contains("vhost") || call.contains("iommu");
    assert!(!calls.iter().any(to_gone), "{calls:?}");
}

#[test]
fn what_cannot_be_unmapped_on_the_way_back_is_mended_by_the_next_change() {
    let (manager, world, ram, bar) = machine();
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    let before = world.outside();
    // The BAR is mapped for DMA, its slot fails, and so does unmapping it.
    world.fail(4, 2);
    let mut attempt = manager.transaction().unwrap();
    attempt.map_region(bar, MapParams::new(0x9000, RW)).unwrap();
    let error = attempt.commit().unwrap_err();
    world.fail_never();
    assert!(error.to_string().contains("undoing failed"), "{error}");
    // The host addresses still show the BAR, since it is still mapped for DMA.
    assert_ne!(world.outside(), before);
    assert_eq!(
        manager.damaged().unwrap().first(),
        Some(&range(0x9000, 0xa000))
    );
    // A change elsewhere mends it, and the listener hears that this is over.
    world.take_calls();
    change(&manager, |change| {
        change.map_region(ram, MapParams::new(0x4000, RW)).unwrap();
    });
    assert_eq!(world.outside(), before);
    let calls = world.take_calls();
    assert_eq!(calls.last().unwrap(), "vhost: finish Undone");
}

#[test]
fn a_sub_mapping_that_reaches_into_damage_is_left_alone() {
    let (manager, world) = manager();
    // Three slots, since a region is placed in the middle; one sub-mapping, since that is gone when
    // the listener comes.
    let (ram, _) = change(&manager, |change| {
        let ram = filled(change, "ram", 0x4000, 0x4000, 0, RAM);
        let placed = RegionSpec::new("placed", 0x1000, 0).placed_at(0x5000);
        let placed = change.create_region(placed).unwrap();
        change.map_region(ram, MapParams::new(0x4000, RW)).unwrap();
        (ram, placed)
    });
    let (ram, placed) = ram;
    change(&manager, |change| change.remove_region(placed).unwrap());
    manager
        .add_dma_listener(world.dma("vhost", DeviceMemory::Mapped))
        .unwrap();
    assert_eq!(manager.slots().unwrap().len(), 3);
    assert_eq!(held(&world, "vhost").len(), 1);

    // The middle slot goes and cannot come back; all else is undone.
    world.fail_named("kvm: add slot 0x5000");
    let mut attempt = manager.transaction().unwrap();
    let over = filled(&mut attempt, "over", 0x5000, 0x1000, 9, BAR);
    attempt
        .map_region(over, MapParams::new(0x5000, RO))
        .unwrap();
    assert!(attempt.commit().is_err());
    assert_eq!(manager.damaged().unwrap(), [range(0x5000, 0x6000)]);
    assert_eq!(held(&world, "vhost").len(), 1);

    // Another page of the sub-mapping: no slot changes, but it would be unmapped around the damage.
    let replace = |change: &mut region_manager::Transaction<'_, Backing>| {
        let at = range(0x3000, 0x4000);
        change.add_mapping(ram, at, BAR, 0, RW).unwrap();
    };
    let mut attempt = manager.transaction().unwrap();
    replace(&mut attempt);
    let error = attempt.commit().unwrap_err();
    assert!(matches!(error, CommitError::Damaged { .. }), "{error}");
    world.fail_never();
    change(&manager, replace);
    assert!(manager.damaged().unwrap().is_empty());
    assert_eq!(held(&world, "vhost").len(), 2);
}
