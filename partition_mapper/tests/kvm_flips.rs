//! A guest that runs natively while its memory is flipped under it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/flipping.rs"]
mod flipping;
#[path = "support/kvm.rs"]
mod kvm;
#[path = "support/native_vcpu.rs"]
mod native_vcpu;
#[path = "support/memory.rs"]
mod support;

use flipping::{Gaps, Moving, RO, RW, World, ram, region};
use memory_range::{Access, PAGE_SIZE};
use native_vcpu::{Exit, OWN, Program};
use region_manager::MapParams;
use std::time::{Duration, Instant};
use support::pages;

const FLIPS: u64 = 10_000;
/// What the guest reads.
const VALUE: u64 = 0x1122_3344_5566_7788;
/// A page in the middle of what is flipped.
const PAGE: u64 = 0x106 * PAGE_SIZE;

/// Reads what is flipped, and counts elsewhere.
const READ: Program = Program::Watch {
    read: PAGE,
    value: VALUE,
    count: OWN,
};
/// Reads what is flipped, and counts there, too.
const READ_AND_COUNT: Program = Program::Watch {
    read: PAGE,
    value: VALUE,
    count: PAGE + 8,
};

#[test]
fn permissions_change_and_a_reader_sees_no_gap() {
    let name = "kvm_flips::permissions_change_and_a_reader_sees_no_gap";
    let Some(world) = World::new(name, Gaps::Hidden) else {
        return;
    };
    let ram = ram("ram", 0x10);
    let id = world.change(|change| region(change, &ram, pages(0x100, 0x110), 0, RW));
    world.poke(PAGE, VALUE);
    let watched = world.watched(READ, |_| {
        for flip in 0..FLIPS {
            let access = if flip % 2 == 0 { RO } else { RW };
            world.change(|change| {
                change
                    .map_region(id, MapParams::new(0x100 * PAGE_SIZE, access))
                    .unwrap();
            });
        }
    });
    watched.must_be_undisturbed();
    assert_eq!(world.pauses(), FLIPS);
}

#[test]
fn borders_move_and_no_write_is_lost() {
    let name = "kvm_flips::borders_move_and_no_write_is_lost";
    let Some(world) = World::new(name, Gaps::Hidden) else {
        return;
    };
    let mut moving = Moving::new(&world, 0x100);
    world.poke(PAGE, VALUE);
    let watched = world.watched(READ_AND_COUNT, |_| {
        (0..FLIPS).for_each(|_| moving.move_on(&world));
    });
    watched.must_be_undisturbed();
    assert_eq!(world.pauses(), FLIPS);
}

#[test]
fn replaced_contents_need_no_pause() {
    let name = "kvm_flips::replaced_contents_need_no_pause";
    let Some(world) = World::new(name, Gaps::Hidden) else {
        return;
    };
    let range = pages(0x100, 0x110);
    let backings = [ram("above", 0x10), ram("below", 0x10)];
    // The region created first hides the other, while it is mapped.
    let [above, _] = [0, 1].map(|nth| {
        let backing = &backings[nth];
        world.change(|change| region(change, backing, range, 0, RW))
    });
    let show = |access: Option<Access>| {
        world.change(|change| match access {
            None => change.unmap_region(above).unwrap(),
            Some(access) => {
                let params = MapParams::new(range.start(), access);
                change.map_region(above, params).unwrap();
            }
        });
    };
    world.poke(PAGE, VALUE);
    show(None);
    assert_eq!(world.peek(PAGE), 0);
    world.poke(PAGE, VALUE);
    let watched = world.watched(READ, |_| {
        for flip in 0..FLIPS {
            show((flip % 2 == 0).then_some(RW));
        }
    });
    watched.must_be_undisturbed();
    assert_eq!(world.pauses(), 0);
}

#[test]
fn without_a_barrier_the_guest_sees_what_these_tests_look_for() {
    let name = "kvm_flips::without_a_barrier_the_guest_sees_what_these_tests_look_for";
    let Some(world) = World::new(name, Gaps::Shown) else {
        return;
    };
    let mut moving = Moving::new(&world, 0x100);
    world.poke(PAGE, VALUE);
    let mut chance = 0;
    let watched = world.watched(READ_AND_COUNT, |watch| {
        // How many of these are seen is a matter of chance: told, and not asserted.
        (0..FLIPS).for_each(|_| moving.move_on(&world));
        chance = watch.strays();
        // A gap that lasts until it is seen.
        let seen = watch.strays();
        world.change(|change| change.unmap_region(moving.id()).unwrap());
        let start = Instant::now();
        while watch.strays() == seen {
            assert!(start.elapsed() < Duration::from_secs(60), "never seen");
            std::thread::sleep(Duration::from_millis(1));
        }
        moving.move_on(&world);
    });
    println!(
        "{FLIPS} flips without a barrier: {chance} stray exits, {} wrong values, {} lost writes",
        watched.wrong, watched.lost
    );
    assert!(!watched.strays.is_empty());
    assert!(watched.wrong > 0 && watched.lost > 0);
    assert!(!watched.strays.contains(&Exit::Interrupted));
    assert_eq!(world.pauses(), 0);
}
