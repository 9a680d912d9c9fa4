//! A partition that sees RAM and no device memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/memory.rs"]
mod support;
#[path = "support/views.rs"]
mod views;

use partition_mapper::MapperOptions;
use std::sync::Arc;
use support::pages;
use views::{Barrier, Guest, Is, RO, RW, View, calls, place, region, shown};

fn fixture(slots: u32, options: MapperOptions) -> (View, Arc<Guest>, Arc<Barrier>) {
    let view = View::new();
    let (guest, barrier) = views::guest(slots);
    let mapper = view.mapper(&guest, options.ram_only());
    view.manager.add_dma_listener(Box::new(mapper)).unwrap();
    (view, guest, barrier)
}

#[test]
fn ram_is_shown_and_device_memory_is_not() {
    let (view, guest, _) = fixture(100, MapperOptions::new().offset(1 << 20));
    let ram = view.change(|change| {
        region(change, 9, (2, 4), RW, Is::Device);
        region(change, 1, (0, 8), RW, Is::Ram)
    });
    // The device was created first, and hides RAM.
    assert_eq!(shown(&guest), [(0x100, 0x102, true), (0x104, 0x108, true)]);
    view.change(|change| place(change, ram, 0, RO));
    assert_eq!(
        shown(&guest),
        [(0x100, 0x102, false), (0x104, 0x108, false)]
    );
    // Only a device's place changes.
    guest.fail_never();
    view.change(|change| region(change, 8, (32, 40), RW, Is::Device));
    assert_eq!(calls(&guest), "");
    view.change(|change| change.unmap_region(ram).unwrap());
    assert_eq!(shown(&guest), []);
}

#[test]
fn a_filter_and_late_registration_work_as_for_slots() {
    let view = View::new();
    let (guest, _) = views::guest(100);
    view.change(|change| {
        region(change, 1, (0, 8), RW, Is::Ram);
        region(change, 2, (8, 16), RW, Is::Device);
        region(change, 3, (16, 24), RO, Is::Ram);
    });
    let options = MapperOptions::new().ram_only().only([pages(6, 18)]);
    let mapper = view.mapper(&guest, options);
    let id = view.manager.add_dma_listener(Box::new(mapper)).unwrap();
    assert_eq!(shown(&guest), [(6, 8, true), (16, 18, false)]);
    view.manager.remove_listener(id).unwrap();
    assert_eq!(shown(&guest), []);
}

#[test]
fn vcpus_are_paused_over_gaps() {
    let (view, guest, barrier) = fixture(100, MapperOptions::new());
    let ram = view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    let device = view.change(|change| region(change, 2, (16, 24), RW, Is::Device));
    assert_eq!(barrier.pauses(), 0);
    guest.fail_never();
    view.change(|change| place(change, ram, 0, RO));
    assert_eq!(calls(&guest), "pum");
    assert_eq!(barrier.pauses(), 1);
    // Other contents: here the slot has to be made anew.
    view.change(|change| {
        change.remove_mappings(ram, pages(0, 8)).unwrap();
        change.add_mapping(ram, pages(0, 8), 7, 0, RW).unwrap();
    });
    assert_eq!(barrier.pauses(), 1);
    view.change(|change| place(change, device, 16, RO));
    assert_eq!(barrier.pauses(), 0);
    assert!(!barrier.is_paused());
}

#[test]
fn every_failure_leaves_what_there_was_and_running_vcpus() {
    let (view, guest, barrier) = fixture(100, MapperOptions::new());
    let ram = view.change(|change| {
        region(change, 2, (4, 6), RW, Is::Device);
        region(change, 1, (0, 8), RW, Is::Ram)
    });
    let before = guest.inner().slots();
    let mut reached = 0;
    for nth in 0.. {
        guest.fail_at(nth);
        let mut change = view.manager.transaction().unwrap();
        place(&mut change, ram, 0, RO);
        let result = change.commit();
        let failed = guest.call_count() > nth;
        assert_eq!(result.is_err(), failed);
        assert!(!barrier.is_paused());
        if !failed {
            break;
        }
        reached += 1;
        assert_eq!(guest.inner().slots(), before, "call {nth}");
    }
    // A pause, two slots gone, two made.
    assert_eq!(reached, 5);
    assert_eq!(shown(&guest), [(0, 4, false), (6, 8, false)]);
}

#[test]
fn a_change_over_budget_makes_no_call() {
    let (view, guest, _) = fixture(2, MapperOptions::new());
    view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    guest.fail_never();
    let error = view.refused(|change| {
        region(change, 2, (16, 17), RW, Is::Ram);
        region(change, 3, (20, 21), RW, Is::Ram);
    });
    assert!(error.contains("2 slots are needed"), "{error}");
    assert_eq!(calls(&guest), "");
    view.change(|change| {
        region(change, 2, (16, 17), RW, Is::Ram);
        region(change, 3, (20, 21), RW, Is::Device);
    });
}

#[test]
fn slots_do_not_say_whether_they_are_ram() {
    let view = View::new();
    let (guest, _) = views::guest(100);
    view.change(|change| region(change, 1, (0, 8), RW, Is::Ram));
    let mapper = view.mapper(&guest, MapperOptions::new().ram_only());
    let error = view.manager.add_listener(Box::new(mapper)).unwrap_err();
    assert!(
        support::chain(&error).contains("slot 0x0-0x8000 does not say whether it is ram"),
        "{}",
        support::chain(&error)
    );
    assert_eq!(shown(&guest), []);
}
