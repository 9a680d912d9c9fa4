//! The hook at the end of a change: once, after everybody else, applied or undone.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use memory_range::{Access, MemoryRange};
use region_manager::{LockError, MapParams, RegionId, RegionManager, RegionSpec};
use std::sync::{Arc, Mutex};
use support::dma::DeviceMemory;
use support::{Backing, SPACE, World};

const END: &str = "end of change";

/// A manager with a region of RAM at 0, not mapped yet, whose hook tells the same world as its sink.
fn manager() -> (World, RegionManager<Backing>, RegionId) {
    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    let mut change = manager.transaction().unwrap();
    let spec = RegionSpec::new("ram", 0x1000, 0).ram().placed_at(0);
    let ram = change.create_region(spec).unwrap();
    let all = MemoryRange::new(0..0x1000);
    change
        .add_mapping(ram, all, 5, 0, Access::ReadWrite)
        .unwrap();
    let _ = change.commit().unwrap();
    let calls = world.clone();
    let hook = move || calls.lock().calls.push(END.to_owned());
    manager.set_end_of_change(Box::new(hook)).unwrap();
    (world, manager, ram)
}

fn map(manager: &RegionManager<Backing>, ram: RegionId, access: Access) -> bool {
    let mut change = manager.transaction().unwrap();
    change.map_region(ram, MapParams::new(0, access)).unwrap();
    change.commit().is_ok()
}

/// Whether the hook was called since this was last asked: then once, and nobody else later.
fn ended(world: &World) -> bool {
    let calls = world.take_calls();
    match calls.iter().position(|call| call == END) {
        Some(at) => {
            assert_eq!(at + 1, calls.len(), "the last call, and once: {calls:?}");
            true
        }
        None => false,
    }
}

#[test]
fn a_change_that_was_applied_ends_once() {
    let (world, manager, ram) = manager();
    manager.add_listener(world.listener("kvm")).unwrap();
    manager
        .add_dma_listener(world.dma("iommu", DeviceMemory::Mapped))
        .unwrap();
    world.take_calls();
    assert!(map(&manager, ram, Access::ReadWrite));
    assert!(ended(&world));
    assert!(map(&manager, ram, Access::ReadOnly));
    assert!(ended(&world));
}

#[test]
fn a_change_without_a_step_does_not_end() {
    let (world, manager, ram) = manager();
    assert!(map(&manager, ram, Access::ReadWrite));
    world.take_calls();
    assert!(map(&manager, ram, Access::ReadWrite), "nothing differs");
    assert!(!ended(&world));
    let mut dropped = manager.transaction().unwrap();
    dropped.unmap_region(ram).unwrap();
    drop(dropped);
    assert!(!ended(&world));
}

/// Whichever call fails, the change ends once if anything was done in it.
#[test]
fn a_change_that_was_undone_ends_once() {
    let (world, manager, ram) = manager();
    manager.add_listener(world.listener("kvm")).unwrap();
    manager
        .add_dma_listener(world.dma("iommu", DeviceMemory::Mapped))
        .unwrap();
    assert!(map(&manager, ram, Access::ReadOnly));
    world.take_calls();
    let mut undone = 0;
    for k in 0.. {
        world.fail(k, 1);
        if map(&manager, ram, Access::ReadWrite) {
            break;
        }
        let calls = world.lock().calls.clone();
        let before_any = ["check", "pause"];
        let steps = calls
            .iter()
            .filter(|call| *call != END && !before_any.iter().any(|before| call.contains(before)));
        let any = steps.filter(|call| !call.ends_with("resume")).count() > 0;
        let ended = ended(&world);
        assert_eq!(ended, any, "call {k} failed: {calls:?}");
        undone += usize::from(ended);
    }
    assert!(undone > 3, "remove, unmap, protect, map and add");
}

#[test]
fn what_an_earlier_change_left_is_mended_in_a_change_that_ends() {
    let (world, manager, ram) = manager();
    manager.add_listener(world.listener("kvm")).unwrap();
    world.take_calls();
    // The check and the map succeed; the slot and taking the map back fail.
    world.fail(2, 2);
    assert!(!map(&manager, ram, Access::ReadWrite));
    assert!(ended(&world));
    assert!(!manager.damaged().unwrap().is_empty());

    // It cannot be mended: nothing else is done, and yet somebody was told something.
    world.fail(0, 1);
    assert!(!map(&manager, ram, Access::ReadWrite));
    assert!(ended(&world));
    world.fail(0, 1);
    assert!(manager.add_listener(world.listener("late")).is_err());
    assert!(ended(&world));

    world.fail_never();
    let _ = manager.transaction().unwrap().commit().unwrap();
    assert!(ended(&world));
    assert!(manager.damaged().unwrap().is_empty());
}

#[test]
fn listeners_that_come_and_go_end_a_change() {
    let (world, manager, ram) = manager();
    assert!(map(&manager, ram, Access::ReadWrite));
    world.take_calls();
    let slots = manager.add_listener(world.listener("kvm")).unwrap();
    assert!(ended(&world));
    let dma = world.dma("iommu", DeviceMemory::Mapped);
    let dma = manager.add_dma_listener(dma).unwrap();
    assert!(ended(&world));

    world.fail_named("refused");
    assert!(manager.add_listener(world.listener("refused")).is_err());
    assert!(ended(&world));
    let refused = world.dma("refused", DeviceMemory::Mapped);
    assert!(manager.add_dma_listener(refused).is_err());
    assert!(ended(&world));

    for id in [slots, dma] {
        manager.remove_listener(id).unwrap();
        assert!(ended(&world));
        assert!(manager.remove_listener(id).is_err());
        assert!(!ended(&world), "nobody was removed");
    }
}

#[test]
fn the_last_hook_that_was_set_is_called_and_cannot_call_back() {
    let (world, manager, ram) = manager();
    let manager = Arc::new(manager);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let (weak, told) = (Arc::downgrade(&manager), answers.clone());
    manager
        .set_end_of_change(Box::new(move || {
            let manager = weak.upgrade().unwrap();
            told.lock().unwrap().push(manager.slots().unwrap_err());
        }))
        .unwrap();
    world.take_calls();
    assert!(map(&manager, ram, Access::ReadWrite));
    assert_eq!(*answers.lock().unwrap(), [LockError::Reentrant]);
    assert!(!ended(&world), "the former hook is gone");
}
