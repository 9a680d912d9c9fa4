//! Failures while device windows change.

use super::world::World;
use super::{Outcome, Walked, walk, walk_without_undo};

/// Walks an operation both ways.
#[track_caller]
fn walk_both(setup: impl Fn(&mut World), op: impl Fn(&mut World) -> Outcome) -> Walked {
    walk_without_undo(&setup, &op);
    walk(setup, op)
}

fn nothing(_: &mut World) {}

/// The operation touches the view, both partitions included.
#[track_caller]
fn touches_everything(calls: Walked) {
    assert!(
        calls.sink > 0 && calls.vtl0 > 0 && calls.vtl2 > 0,
        "{calls:?}"
    );
}

/// The operation makes no call that could fail.
#[track_caller]
fn touches_nothing(calls: Walked) {
    assert_eq!((calls.sink, calls.vtl0, calls.vtl2), (0, 0, 0));
}

#[test]
fn a_new_region() {
    touches_nothing(walk(nothing, |world| {
        let mapper = world.manager.device_memory_mapper();
        let (control, window) = mapper.new_region(0x1000, "new".into())?;
        world.devices.insert(
            "new",
            super::world::Device {
                control: Some(control),
                window: Some(window),
            },
        );
        Ok(())
    }));
}

#[test]
fn mapping_a_file_into_a_visible_hole() {
    // The last page of `bar1` is a hole.
    touches_everything(walk_both(nothing, |world| {
        let file = world.files[0].clone();
        world.window("bar1").map(0x3000, &file, 0, 0x1000, true)?;
        Ok(())
    }));
}

#[test]
fn replacing_what_is_visible_by_another_file() {
    // Contents only: no slot changes, but pinning is repeated.
    touches_everything(walk_both(nothing, |world| {
        let file = world.files[1].clone();
        world
            .window("bar0")
            .map(0x1000, &file, 0x2000, 0x2000, true)?;
        Ok(())
    }));
}

#[test]
fn replacing_what_is_visible_by_a_read_only_mapping() {
    touches_everything(walk_both(nothing, |world| {
        let file = world.files[1].clone();
        world
            .window("bar0")
            .map(0x1000, &file, 0x2000, 0x2000, false)?;
        Ok(())
    }));
}

#[test]
fn replacing_a_part_that_is_hidden_and_a_part_that_is_not() {
    // The first half of `bar1` lies under `bar0`.
    touches_everything(walk_both(nothing, |world| {
        let file = world.files[0].clone();
        world.window("bar1").map(0, &file, 0, 0x4000, true)?;
        Ok(())
    }));
}

#[test]
fn mapping_and_unmapping_what_is_not_visible() {
    touches_nothing(walk(nothing, |world| {
        let file = world.files[0].clone();
        world.window("hidden").map(0, &file, 0, 0x4000, false)?;
        Ok(())
    }));
    touches_nothing(walk(nothing, |world| {
        world.window("hidden").unmap(0x1000, 0x2000)?;
        Ok(())
    }));
    // Under `bar0`.
    touches_nothing(walk(nothing, |world| {
        world.window("bar1").unmap(0, 0x2000)?;
        Ok(())
    }));
    // Under RAM.
    touches_nothing(walk(nothing, |world| {
        world.window("rom").unmap(0, 0x4000)?;
        Ok(())
    }));
}

#[test]
fn unmapping_a_part_of_what_is_visible() {
    touches_everything(walk_both(nothing, |world| {
        world.window("bar0").unmap(0x1000, 0x2000)?;
        Ok(())
    }));
    touches_everything(walk_both(nothing, |world| {
        world.window("rom").unmap(0, 0x2_0000)?;
        Ok(())
    }));
}

#[test]
fn showing_a_window() {
    for gpa in [0x10_0000, 0x10_9000] {
        touches_everything(walk_both(nothing, |world| {
            world.control("hidden").map_to_guest(gpa, true)?;
            Ok(())
        }));
    }
    // All of it under RAM, or under `bar0`.
    touches_nothing(walk(nothing, |world| {
        world.control("hidden").map_to_guest(0x1000, true)?;
        Ok(())
    }));
    touches_nothing(walk(nothing, |world| {
        world.control("hidden").map_to_guest(0x10_4000, true)?;
        Ok(())
    }));
}

#[test]
fn moving_a_window() {
    // Elsewhere; one page further, over itself; off the window below it; under RAM.
    for gpa in [0x10_9000, 0x10_5000, 0x10_0000, 0xf_f000, 0x2000] {
        touches_everything(walk_both(nothing, |world| {
            world.control("bar0").map_to_guest(gpa, true)?;
            Ok(())
        }));
    }
    touches_nothing(walk(nothing, |world| {
        world.control("bar0").map_to_guest(0x10_4000, true)?;
        Ok(())
    }));
}

#[test]
fn making_a_window_read_only() {
    touches_everything(walk_both(nothing, |world| {
        world.control("bar0").map_to_guest(0x10_4000, false)?;
        Ok(())
    }));
}

#[test]
fn hiding_a_window() {
    for name in ["bar0", "bar1", "rom"] {
        touches_everything(walk_both(nothing, |world| {
            world.control(name).try_unmap_from_guest()?;
            Ok(())
        }));
    }
    touches_nothing(walk(nothing, |world| {
        world.control("hidden").try_unmap_from_guest()?;
        Ok(())
    }));
}
