//! Failures while several things change as one.

use super::world::{OVER_NOTHING, OVER_ROM, READ_ONLY_OVER_NOTHING, UNMAPPED_OVER_ROM, World};
use super::{Outcome, Walked, walk, walk_without_undo};
use crate::RamVisibility::{ReadOnly, ReadWrite, Unmapped};
use crate::{DeviceMemoryControl, GuestMemoryTransaction};

/// Walks an operation both ways; it touches everybody.
#[track_caller]
fn walk_both(op: impl Fn(&mut World) -> Outcome) -> Walked {
    walk_without_undo(|_| {}, &op);
    let calls = walk(|_| {}, &op);
    let all = [calls.sink, calls.vtl0, calls.vtl2, calls.dma];
    assert!(all.iter().all(|calls| *calls > 0), "{calls:?}");
    calls
}

/// Makes one change of two windows and whatever else is asked for.
fn change(
    world: &mut World,
    edit: impl FnOnce(
        &mut GuestMemoryTransaction<'_>,
        &mut DeviceMemoryControl,
        &mut DeviceMemoryControl,
    ) -> Outcome,
) -> Outcome {
    let mut take = |name| world.devices.get_mut(name).unwrap().control.take().unwrap();
    let (mut first, mut second) = (take("bar0"), take("bar1"));
    let made = (|| {
        let mut change = world.manager.transaction()?;
        edit(&mut change, &mut first, &mut second)?;
        change.commit_now()?.wait();
        Ok(())
    })();
    for (name, control) in [("bar0", first), ("bar1", second)] {
        world.devices.get_mut(name).unwrap().control = Some(control);
    }
    made
}

#[test]
fn two_windows_move_and_a_segment_flips() {
    walk_both(|world| {
        change(world, |change, first, second| {
            // The first to where the second was, in part; the second under RAM that goes.
            change.map_to_guest(first, 0x10_8000, true)?;
            change.map_to_guest(second, OVER_NOTHING.start(), true)?;
            change.set_ram_visibility(OVER_NOTHING, Unmapped)?;
            change.set_ram_visibility(OVER_ROM, ReadOnly)?;
            Ok(())
        })
    });
}

#[test]
fn two_windows_change_places_while_segments_are_unlocked() {
    walk_both(|world| {
        change(world, |change, first, second| {
            change.map_to_guest(first, 0x10_6000, true)?;
            change.map_to_guest(second, 0x10_4000, false)?;
            change.set_ram_visibility(UNMAPPED_OVER_ROM, ReadWrite)?;
            change.set_ram_visibility(READ_ONLY_OVER_NOTHING, ReadWrite)?;
            Ok(())
        })
    });
}

#[test]
fn a_window_goes_and_another_shows_something_else() {
    walk_both(|world| {
        let window = world
            .devices
            .get_mut("bar1")
            .unwrap()
            .window
            .take()
            .unwrap();
        let file = world.files[0].clone();
        let made = change(world, |change, first, _| {
            change.unmap_from_guest(first)?;
            change.map(&window, 0x1000, &file, 0, 0x3000, false)?;
            change.unmap(&window, 0, 0x1000)?;
            change.set_ram_visibility(OVER_ROM, Unmapped)?;
            Ok(())
        });
        world.devices.get_mut("bar1").unwrap().window = Some(window);
        made
    });
}
