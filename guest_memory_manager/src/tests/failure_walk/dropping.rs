//! Failures while handles are dropped, where nobody can be told.

use super::state::State;
use super::world::{Target, World};
use crate::GuestAccess;
use memory_range::PAGE_SIZE;

/// Drops the control and then the window, or the other way round.
fn drop_handles(world: &mut World, name: &str, control_first: bool) {
    let device = world.devices.get_mut(name).unwrap();
    if control_first {
        drop(device.control.take());
        drop(device.window.take());
    } else {
        drop(device.window.take());
        drop(device.control.take());
    }
}

fn dropped(control_first: bool) -> (State, [(Target, usize); 3]) {
    let mut world = World::new();
    world.count();
    drop_handles(&mut world, "bar0", control_first);
    let calls = world.calls();
    let targets = [
        (Target::Sink, calls.sink),
        (Target::Vtl0, calls.vtl0),
        (Target::Vtl2, calls.vtl2),
    ];
    assert!(targets.iter().all(|(_, calls)| *calls > 0), "{calls:?}");
    (world.state(), targets)
}

/// When unmapping fails as the control is dropped, removing the region tries once more.
#[test]
fn dropping_the_handles_of_a_visible_window() {
    for control_first in [true, false] {
        let (after, targets) = dropped(control_first);
        for (target, count) in targets {
            for k in 0..count {
                let mut world = World::new();
                world.fail_at(target, k);
                drop_handles(&mut world, "bar0", control_first);
                world.fail_never();
                let when = format!("{target:?} {k}, control first: {control_first}");
                world.state().must_equal(&after, &when);
            }
        }
    }
}

/// The control alone is dropped, and unmapping fails: the window is in sight as it was, and goes
/// when its other handle is dropped.
#[test]
fn dropping_the_control_alone() {
    let (after, targets) = dropped(true);
    for (target, count) in targets {
        for k in 0..count {
            let mut world = World::new();
            let before = world.state();
            world.fail_at(target, k);
            drop(world.devices.get_mut("bar0").unwrap().control.take());
            world.fail_never();
            world.state().must_equal(&before, "the control is gone");
            drop(world.devices.get_mut("bar0").unwrap().window.take());
            world.state().must_equal(&after, "the window is gone");
        }
    }
}

/// Neither attempt succeeds: what is in sight stays in sight, and everything else goes on.
#[test]
fn a_window_that_cannot_be_removed_stays_as_it_is() {
    let mut world = World::new();
    let before = world.state();
    world.fail_from(Target::Vtl0, 0);
    drop_handles(&mut world, "bar0", true);
    world.fail_never();
    world
        .state()
        .must_equal(&before, "nothing could be removed");
    world
        .control("hidden")
        .map_to_guest(0x10_c000, true)
        .unwrap();
    let mut byte = [0];
    let load = world.vtl0.inner().load(0x10_c000, &mut byte).unwrap();
    // What is mapped in `hidden` begins at its first page.
    assert_eq!((load, byte), (GuestAccess::Done, [0x02]));
}

/// A world in which nothing but RAM is left to be seen.
fn only_ram() -> World {
    let mut world = World::unpinned();
    world.devices.clear();
    world
}

/// A partition that keeps a slot when the manager is dropped keeps the memory behind it, too.
#[test]
fn dropping_the_manager() {
    let count = only_ram().vtl0.inner().slots().len();
    assert!(count > 10);
    for k in 0..count {
        let world = only_ram();
        let (vtl0, vtl2) = (world.vtl0.clone(), world.vtl2.clone());
        world.fail_at(Target::Vtl0, k);
        drop(world);
        vtl0.fail_never();
        assert_eq!(vtl2.inner().slots(), []);
        let left = vtl0.inner().slots();
        assert_eq!(left.len(), 1);
        let mut bytes = [0; 8];
        let gpa = left[0].gpa.start();
        assert_eq!(
            vtl0.inner().load(gpa, &mut bytes).unwrap(),
            GuestAccess::Done
        );
        // Every page of RAM begins with its number.
        assert_eq!(u64::from_le_bytes(bytes), gpa / PAGE_SIZE);
    }
}
