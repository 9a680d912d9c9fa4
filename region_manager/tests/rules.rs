//! The rules of the overlay and of the plan, one small case each.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

mod support;

use memory_range::{Access, MemoryRange};
use region_manager::{
    AddListenerError, EditError, LockError, MapParams, RegionListener, RegionManager, RegionSpec,
    RemoveListenerError, Slot, Transaction,
};
use std::sync::{Arc, Mutex, OnceLock};
use support::cases::{BAR, RAM, RO, RW, check, filled, manager, range, shadowed};
use support::{Backing, SPACE};

#[test]
fn rom_under_segments_gets_one_slot_a_segment() {
    let (manager, _, _) = shadowed();
    let slots: Vec<String> = manager
        .slots()
        .unwrap()
        .iter()
        .map(Slot::to_string)
        .collect();
    assert_eq!(
        slots,
        [
            "0x4000-0x5000 rox",
            "0x5000-0x6000 rox",
            "0x6000-0x7000 rox",
            "0x7000-0x8000 rox"
        ]
    );
}

#[test]
fn showing_ram_over_rom_touches_one_slot() {
    let (manager, _, segments) = shadowed();
    check(
        &manager,
        |change| {
            change
                .map_region(segments[1], MapParams::new(0x5000, RW))
                .unwrap();
        },
        &[
            "remove slot 0x5000-0x6000 rox",
            "map 0x5000-0x6000 rw from 2 at 0x5000",
            "add slot 0x5000-0x6000 rwx",
            "gap 0x5000-0x6000",
        ],
    );
}

#[test]
fn rom_to_read_only_ram_needs_no_slot_operation() {
    let (manager, _, segments) = shadowed();
    check(
        &manager,
        |change| {
            change
                .map_region(segments[1], MapParams::new(0x5000, RO))
                .unwrap();
        },
        &[
            "map 0x5000-0x6000 ro from 2 at 0x5000",
            "contents replaced 0x5000-0x6000",
        ],
    );
}

#[test]
fn a_permission_change_protects_and_keeps_the_contents() {
    let (manager, _, segments) = shadowed();
    check(
        &manager,
        |change| {
            change
                .map_region(segments[0], MapParams::new(0x4000, RW))
                .unwrap();
        },
        &[
            "remove slot 0x4000-0x5000 rox",
            "map 0x4000-0x5000 rw from 2 at 0x4000",
            "add slot 0x4000-0x5000 rwx",
            "gap 0x4000-0x5000",
        ],
    );
    check(
        &manager,
        |change| {
            change
                .map_region(segments[0], MapParams::new(0x4000, RO))
                .unwrap();
        },
        &[
            "remove slot 0x4000-0x5000 rwx",
            "protect 0x4000-0x5000 ro",
            "add slot 0x4000-0x5000 rox",
            "gap 0x4000-0x5000",
        ],
    );
}

#[test]
fn adjacent_segments_in_one_transaction_are_one_operation() {
    let (manager, _, segments) = shadowed();
    let all = |access: Access| {
        let segments = segments.clone();
        move |change: &mut Transaction<'_, Backing>| {
            for (id, gpa) in segments.iter().zip([0x4000, 0x5000, 0x6000, 0x7000]) {
                change.map_region(*id, MapParams::new(gpa, access)).unwrap();
            }
        }
    };
    let mut change = manager.transaction().unwrap();
    all(RW)(&mut change);
    assert_eq!(change.plan().va_ops().len(), 1);
    let _ = change.commit().unwrap();
    let mut change = manager.transaction().unwrap();
    all(RO)(&mut change);
    let plan = change.commit().unwrap();
    assert_eq!(plan.va_ops().len(), 1, "one mprotect for all");
    assert_eq!(plan.removed_slots().len(), 4, "slots end at region borders");
    assert_eq!(plan.added_slots().len(), 4);
}

#[test]
fn nothing_visible_changes_nothing() {
    let (manager, world, segments) = shadowed();
    world.take_calls();
    check(
        &manager,
        |change| {
            // Below everything; the same parameters again; there and back within one change.
            let hidden = filled(change, "hidden", 0x4000, 0x2000, 0, BAR);
            change
                .map_region(hidden, MapParams::new(0x4000, RW))
                .unwrap();
            change
                .map_region(segments[2], MapParams::new(0x6000, RW))
                .unwrap();
            change.unmap_region(segments[2]).unwrap();
        },
        &[],
    );
    assert_eq!(world.take_calls(), Vec::<String>::new());
}

#[test]
fn a_dropped_transaction_leaves_nothing_behind() {
    let (manager, world, segments) = shadowed();
    let before = (
        world.outside(),
        manager.flat_view().unwrap(),
        inspect::inspect(&manager).to_string(),
    );
    let mut change = manager.transaction().unwrap();
    change
        .map_region(segments[0], MapParams::new(0x4000, RW))
        .unwrap();
    change.remove_region(segments[1]).unwrap();
    change
        .remove_mappings(segments[2], range(0, 0x1000))
        .unwrap();
    filled(&mut change, "new", 0x9000, 0x1000, 3, BAR);
    drop(change);
    let after = (
        world.outside(),
        manager.flat_view().unwrap(),
        inspect::inspect(&manager).to_string(),
    );
    assert_eq!(before, after);
}

#[test]
fn among_equals_the_first_created_wins() {
    let (manager, world) = manager();
    let mut change = manager.transaction().unwrap();
    let first = filled(&mut change, "first", 0, 0x2000, 7, RAM);
    let second = filled(&mut change, "second", 0, 0x4000, 7, BAR);
    // The later one is mapped earlier: creation counts.
    change.map_region(second, MapParams::new(0, RW)).unwrap();
    change.map_region(first, MapParams::new(0, RW)).unwrap();
    let _ = change.commit().unwrap();
    let va = world.outside().va;
    assert_eq!(va[0], Some((RAM, 0, RW)));
    assert_eq!(va[1], Some((RAM, 1, RW)));
    assert_eq!(va[2], Some((BAR, 2, RW)));
}

#[test]
fn a_hole_in_the_winner_is_opaque() {
    let (manager, world) = manager();
    let mut change = manager.transaction().unwrap();
    let below = filled(&mut change, "below", 0, 0x3000, 0, RAM);
    let above = filled(&mut change, "above", 0, 0x3000, 9, BAR);
    change
        .remove_mappings(above, range(0x1000, 0x2000))
        .unwrap();
    change.map_region(below, MapParams::new(0, RW)).unwrap();
    change.map_region(above, MapParams::new(0, RW)).unwrap();
    let _ = change.commit().unwrap();
    assert_eq!(world.outside().va[1], None);
}

#[test]
fn a_read_only_alias_of_writable_memory_is_a_read_only_slot() {
    let (manager, _) = manager();
    let mut change = manager.transaction().unwrap();
    let ram = filled(&mut change, "ram", 0, 0x1000, 255, RAM);
    let alias = change
        .create_region(RegionSpec::new("alias", 0x1000, 255))
        .unwrap();
    change
        .add_mapping(alias, range(0, 0x1000), RAM, 0, RW)
        .unwrap();
    change.map_region(ram, MapParams::new(0, RW)).unwrap();
    change
        .map_region(alias, MapParams::new(0x8000, RO))
        .unwrap();
    let plan = change.commit().unwrap();
    let slots: Vec<String> = plan.added_slots().iter().map(Slot::to_string).collect();
    assert_eq!(slots, ["0x0-0x1000 rwx", "0x8000-0x9000 rox"]);
}

#[test]
fn moving_a_window_is_one_change() {
    let (manager, _) = manager();
    let mut change = manager.transaction().unwrap();
    let bar = filled(&mut change, "bar", 0x8000, 0x2000, 0, BAR);
    change.map_region(bar, MapParams::new(0x8000, RW)).unwrap();
    let _ = change.commit().unwrap();
    check(
        &manager,
        |change| change.map_region(bar, MapParams::new(0x9000, RW)).unwrap(),
        &[
            "remove slot 0x8000-0xa000 rwx",
            "reserve 0x8000-0x9000",
            "map 0x9000-0xb000 rw from 3 at 0x8000",
            "add slot 0x9000-0xb000 rwx",
            "gap 0x9000-0xa000",
        ],
    );
}

#[test]
fn a_slot_survives_what_only_replaces_its_contents() {
    let (manager, _) = manager();
    let mut change = manager.transaction().unwrap();
    let ram = filled(&mut change, "ram", 0, 0x8000, 1, RAM);
    change.map_region(ram, MapParams::new(0, RW)).unwrap();
    let _ = change.commit().unwrap();
    check(
        &manager,
        |change| {
            let over = filled(change, "over", 0x2000, 0x1000, 9, BAR);
            change.map_region(over, MapParams::new(0x2000, RW)).unwrap();
        },
        &[
            "map 0x2000-0x3000 rw from 3 at 0x2000",
            "contents replaced 0x2000-0x3000",
        ],
    );
}

#[test]
fn what_a_slot_leaves_uncovered_is_cut_at_the_border() {
    let (manager, _) = manager();
    let mut change = manager.transaction().unwrap();
    let ram = filled(&mut change, "ram", 0, 0x8000, 1, RAM);
    let over = filled(&mut change, "over", 0x2000, 0x1000, 9, BAR);
    change.map_region(ram, MapParams::new(0, RW)).unwrap();
    let plan = change.commit().unwrap();
    assert_eq!(plan.added_slots().len(), 3, "cut at the placed region");
    check(
        &manager,
        |change| change.map_region(over, MapParams::new(0x2000, RO)).unwrap(),
        &[
            "remove slot 0x2000-0x3000 rwx",
            "map 0x2000-0x3000 ro from 3 at 0x2000",
            "add slot 0x2000-0x3000 rox",
            "gap 0x2000-0x3000",
        ],
    );
}

#[test]
fn a_new_listener_gets_what_there_is() {
    let (manager, world, _) = shadowed();
    manager.add_listener(world.listener("vhost")).unwrap();
    let outside = world.outside();
    assert_eq!(outside.slots["vhost"], outside.slots["kvm"]);
    assert_eq!(outside.slots["vhost"].len(), 4);
}

#[test]
fn a_listener_that_refuses_the_replay_is_not_registered() {
    let (manager, world, segments) = shadowed();
    // After the other listener is asked: it is asked, and given each of four slots.
    for k in 1..6 {
        world.fail(k, 1);
        let error = manager.add_listener(world.listener("vhost")).unwrap_err();
        assert!(matches!(error, AddListenerError::Step(_)), "{error}");
        assert!(world.outside().slots["vhost"].is_empty());
    }
    world.fail_never();
    // And is not called any more.
    world.take_calls();
    let mut change = manager.transaction().unwrap();
    change
        .map_region(segments[0], MapParams::new(0x4000, RW))
        .unwrap();
    let _ = change.commit().unwrap();
    assert!(
        world
            .take_calls()
            .iter()
            .all(|call| !call.contains("vhost"))
    );
}

#[test]
fn a_listener_that_is_taken_out_gives_up_its_slots() {
    let (manager, world, segments) = shadowed();
    let id = manager.add_listener(world.listener("vhost")).unwrap();
    manager.remove_listener(id).unwrap();
    assert!(world.outside().slots["vhost"].is_empty());
    let again = manager.remove_listener(id).unwrap_err();
    assert!(
        matches!(again, RemoveListenerError::Unknown { .. }),
        "{again}"
    );

    // One that cannot is gone all the same, and says so.
    let id = manager.add_listener(world.listener("vhost")).unwrap();
    world.fail(0, 1);
    let error = manager.remove_listener(id).unwrap_err();
    assert!(
        matches!(error, RemoveListenerError::Detach { .. }),
        "{error}"
    );
    world.fail_never();
    world.take_calls();
    let mut change = manager.transaction().unwrap();
    change.remove_region(segments[0]).unwrap();
    change
        .map_region(segments[1], MapParams::new(0x5000, RW))
        .unwrap();
    let _ = change.commit().unwrap();
    assert!(
        world
            .take_calls()
            .iter()
            .all(|call| !call.contains("vhost"))
    );
}

/// Calls back into its manager, as a listener must not.
struct Meddler {
    manager: Arc<OnceLock<Arc<RegionManager<Backing>>>>,
    answers: Arc<Mutex<Vec<LockError>>>,
}

impl RegionListener for Meddler {
    fn name(&self) -> &str {
        "meddler"
    }

    fn remove(&mut self, slot: &Slot) -> Result<(), region_manager::ListenerError> {
        self.add(slot)
    }

    fn add(&mut self, _: &Slot) -> Result<(), region_manager::ListenerError> {
        let manager = self.manager.get().unwrap();
        let mut answers = self.answers.lock().unwrap();
        answers.extend(manager.transaction().map(drop).err());
        answers.extend(manager.flat_view().map(drop).err());
        Ok(())
    }

    fn contents_replaced(&mut self, _: MemoryRange) -> Result<(), region_manager::ListenerError> {
        Ok(())
    }

    fn detach(self: Box<Self>) -> Result<(), region_manager::ListenerError> {
        Ok(())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        req.value("meddler");
    }
}

#[test]
fn a_change_from_inside_a_callback_is_an_error() {
    let (manager, _, segments) = shadowed();
    let manager = Arc::new(manager);
    let answers = Arc::default();
    let cell = Arc::new(OnceLock::new());
    cell.set(manager.clone()).ok().unwrap();
    manager
        .add_listener(Box::new(Meddler {
            manager: cell,
            answers: Arc::clone(&answers),
        }))
        .unwrap();
    let mut change = manager.transaction().unwrap();
    change
        .map_region(segments[0], MapParams::new(0x4000, RW))
        .unwrap();
    let _ = change.commit().unwrap();
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 2 * (4 + 2), "every call got an answer");
    assert!(answers.iter().all(|answer| *answer == LockError::Reentrant));
}

#[test]
fn a_panicking_listener_poisons_and_does_not_spread() {
    struct Panics;
    impl RegionListener for Panics {
        fn name(&self) -> &str {
            "panics"
        }
        fn remove(&mut self, _: &Slot) -> Result<(), region_manager::ListenerError> {
            Ok(())
        }
        fn add(&mut self, _: &Slot) -> Result<(), region_manager::ListenerError> {
            panic!("a listener's own mistake")
        }
        fn contents_replaced(
            &mut self,
            _: MemoryRange,
        ) -> Result<(), region_manager::ListenerError> {
            Ok(())
        }
        fn detach(self: Box<Self>) -> Result<(), region_manager::ListenerError> {
            Ok(())
        }
        fn inspect(&self, req: inspect::Request<'_>) {
            req.value("panics");
        }
    }
    let (manager, _, _) = shadowed();
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        manager.add_listener(Box::new(Panics))
    }));
    assert!(result.is_err());
    assert!(matches!(manager.transaction(), Err(LockError::Poisoned)));
    assert!(inspect::inspect(&manager).to_string().contains("panic"));
}

#[test]
fn hostile_edits_are_typed_errors_and_change_nothing() {
    let (manager, _, segments) = shadowed();
    let before = inspect::inspect(&manager).to_string();
    let mut change = manager.transaction().unwrap();
    let segment = segments[0];

    for len in [0, 1, 0xfff, 0x1001, u64::MAX] {
        let error = change
            .create_region(RegionSpec::new("r", len, 0))
            .unwrap_err();
        assert!(matches!(error, EditError::BadLength { .. }), "{error}");
    }
    for gpa in [1, 0xfff, u64::MAX] {
        let error = change
            .map_region(segment, MapParams::new(gpa, RW))
            .unwrap_err();
        assert!(matches!(error, EditError::UnalignedGpa { .. }), "{error}");
    }
    for gpa in [SPACE, SPACE + 0x1000, !0xfff, !0xfff - 0x1000, 1 << 63] {
        let error = change
            .map_region(segment, MapParams::new(gpa, RW))
            .unwrap_err();
        assert!(
            matches!(error, EditError::OutsideAddressSpace { .. }),
            "{error}"
        );
    }
    for bad in [
        MemoryRange::EMPTY,
        range(0x1000, 0x1000),
        range(0x1000, 0x2000),
        range(0, 0x2000),
        range(0, !0xfff),
    ] {
        let error = change.add_mapping(segment, bad, RAM, 0, RW).unwrap_err();
        assert!(matches!(error, EditError::OutsideRegion { .. }), "{error}");
        let error = change.remove_mappings(segment, bad).unwrap_err();
        assert!(matches!(error, EditError::OutsideRegion { .. }), "{error}");
    }
    for offset in [1, 0xfff, !0xfff] {
        let error = change
            .add_mapping(segment, range(0, 0x1000), RAM, offset, RW)
            .unwrap_err();
        assert!(
            matches!(error, EditError::BadBackingOffset { .. }),
            "{error}"
        );
    }
    change.remove_region(segment).unwrap();
    let error = change.remove_region(segment).unwrap_err();
    assert!(matches!(error, EditError::UnknownRegion { .. }), "{error}");
    drop(change);
    assert_eq!(before, inspect::inspect(&manager).to_string());
}
