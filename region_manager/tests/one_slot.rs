//! Windows that stay one slot, and what a change costs at the least.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use memory_range::Access;
use region_manager::{MapParams, RegionId, RegionManager, RegionSpec, Transaction};
use support::cases::{BAR, RAM, RO, RW, change, check, filled, manager, range};
use support::{Backing, World};

/// What a window shows where nothing is mapped in it.
const FILL: Backing = 9;

/// A window of eight pages at 0x8000, filled, mapped writable, one slot.
fn window() -> (RegionManager<Backing>, World, RegionId) {
    let (manager, world) = manager();
    let (window, plan) = change(&manager, |change| {
        let spec = RegionSpec::new("dax", 0x8000, 0).one_slot();
        let window = change.create_region(spec).unwrap();
        change
            .add_mapping(window, range(0, 0x8000), FILL, 0, RO)
            .unwrap();
        change
            .map_region(window, MapParams::new(0x8000, RW))
            .unwrap();
        window
    });
    assert_eq!(
        plan.to_string(),
        "map 0x8000-0x10000 ro from 9 at 0x0\nadd slot 0x8000-0x10000 rwx\n"
    );
    (manager, world, window)
}

#[test]
fn mappings_come_and_go_in_one_slot() {
    let (manager, _, window) = window();
    let map = |access: Access| {
        move |change: &mut Transaction<'_, Backing>| {
            let at = range(0x2000, 0x5000);
            change.add_mapping(window, at, BAR, 0x7000, access).unwrap();
        }
    };
    check(
        &manager,
        map(RW),
        &[
            "map 0xa000-0xd000 rw from 3 at 0x7000",
            "contents replaced 0xa000-0xd000",
        ],
    );
    // Another protection of the same bytes is one call, and no slot is touched for it.
    check(&manager, map(RO), &["protect 0xa000-0xd000 ro"]);
    // A part is replaced by another file's pages.
    check(
        &manager,
        |change| {
            let at = range(0x3000, 0x4000);
            change.add_mapping(window, at, RAM, 0, RW).unwrap();
        },
        &[
            "map 0xb000-0xc000 rw from 2 at 0x0",
            "contents replaced 0xb000-0xc000",
        ],
    );
    // All of it goes: the fill comes back in one call.
    check(
        &manager,
        |change| {
            let at = range(0x2000, 0x5000);
            change.add_mapping(window, at, FILL, 0x2000, RO).unwrap();
        },
        &[
            "map 0xa000-0xd000 ro from 9 at 0x2000",
            "contents replaced 0xa000-0xd000",
        ],
    );
    assert_eq!(manager.slots().unwrap().len(), 1);
    assert_eq!(manager.flat_view().unwrap().len(), 1);
}

#[test]
fn the_region_still_limits_its_slot() {
    let (manager, _, window) = window();
    check(
        &manager,
        |change| {
            change
                .map_region(window, MapParams::new(0x8000, RO))
                .unwrap();
        },
        &[
            "remove slot 0x8000-0x10000 rwx",
            "add slot 0x8000-0x10000 rox",
            "gap 0x8000-0x10000",
        ],
    );
}

#[test]
fn a_hole_cuts_the_slot_all_the_same() {
    let (manager, _, window) = window();
    check(
        &manager,
        |change| {
            change
                .remove_mappings(window, range(0x1000, 0x2000))
                .unwrap();
        },
        &[
            "remove slot 0x8000-0x10000 rwx",
            "reserve 0x9000-0xa000",
            "add slot 0x8000-0x9000 rwx",
            "add slot 0xa000-0x10000 rwx",
            "gap 0x8000-0x9000",
            "gap 0xa000-0x10000",
        ],
    );
}

#[test]
fn without_the_option_a_read_only_mapping_cuts_the_slot() {
    let (manager, _) = manager();
    let (window, _) = change(&manager, |change| {
        let window = filled(change, "window", 0x8000, 0x3000, 0, BAR);
        change
            .map_region(window, MapParams::new(0x8000, RW))
            .unwrap();
        window
    });
    let (_, plan) = change(&manager, |change| {
        let at = range(0x1000, 0x2000);
        change.add_mapping(window, at, BAR, 0x9000, RO).unwrap();
    });
    assert_eq!(plan.removed_slots().len(), 1);
    assert_eq!(plan.added_slots().len(), 3);
}

/// The cheapest operations that a change can need, the cheapest first.
#[test]
fn each_change_takes_no_more_than_it_must() {
    let (manager, world) = manager();
    let (ids, _) = change(&manager, |change| {
        let ram = filled(change, "ram", 0x4000, 0x2000, 1, RAM);
        let over = filled(change, "over", 0x4000, 0x1000, 9, BAR);
        change.map_region(ram, MapParams::new(0x4000, RW)).unwrap();
        [ram, over]
    });
    let [ram, over] = ids;
    let place = |id: RegionId, gpa: u64, access: Access| {
        move |change: &mut Transaction<'_, Backing>| {
            change.map_region(id, MapParams::new(gpa, access)).unwrap();
        }
    };
    // Nothing: the same again.
    world.take_calls();
    check(&manager, place(ram, 0x4000, RW), &[]);
    assert_eq!(world.take_calls(), Vec::<String>::new());
    // The backing is replaced in place.
    check(
        &manager,
        place(over, 0x4000, RW),
        &[
            "map 0x4000-0x5000 rw from 3 at 0x4000",
            "contents replaced 0x4000-0x5000",
        ],
    );
    // A protection changes: see the windows above. A slot is created:
    check(
        &manager,
        place(over, 0x8000, RW),
        &[
            "map 0x4000-0x5000 rw from 2 at 0x4000",
            "map 0x8000-0x9000 rw from 3 at 0x4000",
            "contents replaced 0x4000-0x5000",
            "add slot 0x8000-0x9000 rwx",
        ],
    );
    // A slot is deleted.
    check(
        &manager,
        |change| change.unmap_region(over).unwrap(),
        &["remove slot 0x8000-0x9000 rwx", "reserve 0x8000-0x9000"],
    );
    // Slots are deleted and created, and what the guest might see of it is told. The border of
    // the region at 0x8000 does not matter any more, that at 0x5000 moved with it.
    check(
        &manager,
        place(ram, 0x4000, RO),
        &[
            "remove slot 0x4000-0x5000 rwx",
            "remove slot 0x5000-0x6000 rwx",
            "protect 0x4000-0x6000 ro",
            "add slot 0x4000-0x6000 rox",
            "gap 0x4000-0x5000",
            "gap 0x5000-0x6000",
        ],
    );
}
