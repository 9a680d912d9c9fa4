//! Slots follow the borders that there are when they are made, however often the same range has
//! changed to and fro before.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use memory_range::Access;
use region_manager::{MapParams, RegionId, RegionManager, RegionSpec};
use support::Backing;
use support::cases::{RAM, RO, RW, change, filled, manager, range};

/// RAM at 0x4000-0x8000, with one slot that has come and gone before.
fn flipped() -> (RegionManager<Backing>, RegionId) {
    let (manager, _) = manager();
    let (ram, _) = change(&manager, |change| {
        filled(change, "ram", 0x4000, 0x4000, 255, RAM)
    });
    for access in [RW, RO, RW, RO, RW] {
        flip(&manager, ram, access);
    }
    assert_eq!(slots(&manager), ["0x4000-0x8000 rwx"]);
    (manager, ram)
}

fn flip(manager: &RegionManager<Backing>, id: RegionId, access: Access) {
    change(manager, |change| {
        change
            .map_region(id, MapParams::new(0x4000, access))
            .unwrap();
    });
}

/// Shows these pages of the region with another access, each in one mapping, in one change.
fn show(manager: &RegionManager<Backing>, ram: RegionId, parts: &[(u64, u64)], access: Access) {
    change(manager, |change| {
        for (start, end) in parts {
            change
                .add_mapping(ram, range(*start, *end), RAM, *start, access)
                .unwrap();
        }
    });
}

/// A region that is never mapped, in the second half of the RAM.
fn placed(manager: &RegionManager<Backing>) -> RegionId {
    let spec = RegionSpec::new("placed", 0x2000, 0).placed_at(0x6000);
    change(manager, |change| change.create_region(spec).unwrap()).0
}

fn slots(manager: &RegionManager<Backing>) -> Vec<String> {
    let slots = manager.slots().unwrap();
    slots.iter().map(ToString::to_string).collect()
}

#[test]
fn a_region_that_was_placed_since_cuts_the_slot_that_comes() {
    let (manager, ram) = flipped();
    placed(&manager);
    assert_eq!(slots(&manager), ["0x4000-0x8000 rwx"], "until it goes");
    flip(&manager, ram, RO);
    assert_eq!(
        slots(&manager),
        ["0x4000-0x6000 rox", "0x6000-0x8000 rox"],
        "cut where the placed region begins"
    );
}

#[test]
fn a_region_that_went_since_cuts_nothing_any_more() {
    let (manager, ram) = flipped();
    let placed = placed(&manager);
    for access in [RO, RW] {
        flip(&manager, ram, access);
    }
    // The second half comes and goes by itself.
    let halves = [(0, 0x2000), (0x2000, 0x4000)];
    for access in [RO, RW, RO, RW] {
        show(&manager, ram, &halves[1..], access);
    }
    assert_eq!(slots(&manager), ["0x4000-0x6000 rwx", "0x6000-0x8000 rwx"]);
    change(&manager, |change| change.remove_region(placed).unwrap());
    // Each half's slot goes as a whole, and nothing keeps apart what comes.
    show(&manager, ram, &halves, RO);
    assert_eq!(slots(&manager), ["0x4000-0x8000 rox"]);
}
