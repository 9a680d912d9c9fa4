//! Regions that show a part of another one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use region_manager::{EditError, MapParams, RegionId, RegionManager, RegionSpec};
use support::cases::{BAR, RAM, RO, RW, change, check, filled, manager, range};
use support::{Backing, SPACE, World};

/// A region of four pages, mapped at 0x4000, and an alias of its upper half, mapped read-only at
/// 0x10000.
fn aliased() -> (RegionManager<Backing>, World, RegionId, RegionId) {
    let (manager, world) = manager();
    let ((target, alias), plan) = change(&manager, |change| {
        let target = filled(change, "target", 0x4000, 0x4000, 0, RAM);
        change
            .map_region(target, MapParams::new(0x4000, RW))
            .unwrap();
        let spec = RegionSpec::new("alias", 0x2000, 0);
        let alias = change.create_alias(spec, target, 0x2000).unwrap();
        change
            .map_region(alias, MapParams::new(0x10000, RO))
            .unwrap();
        (target, alias)
    });
    assert_eq!(
        plan.to_string(),
        "map 0x4000-0x8000 rw from 2 at 0x4000\n\
         map 0x10000-0x12000 ro from 2 at 0x6000\n\
         add slot 0x4000-0x8000 rwx\n\
         add slot 0x10000-0x12000 rox\n"
    );
    (manager, world, target, alias)
}

#[test]
fn what_changes_there_shows_here() {
    let (manager, _, target, _) = aliased();
    check(
        &manager,
        |change| {
            let at = range(0x1000, 0x3000);
            change.add_mapping(target, at, BAR, 0, RW).unwrap();
        },
        &[
            "map 0x5000-0x7000 rw from 3 at 0x0",
            "map 0x10000-0x11000 ro from 3 at 0x1000",
            "contents replaced 0x5000-0x7000",
            "contents replaced 0x10000-0x11000",
        ],
    );
    check(
        &manager,
        |change| {
            change
                .remove_mappings(target, range(0x3000, 0x4000))
                .unwrap();
        },
        &[
            "remove slot 0x4000-0x8000 rwx",
            "remove slot 0x10000-0x12000 rox",
            "reserve 0x7000-0x8000",
            "reserve 0x11000-0x12000",
            "add slot 0x4000-0x7000 rwx",
            "add slot 0x10000-0x11000 rox",
            "gap 0x4000-0x7000",
            "gap 0x10000-0x11000",
        ],
    );
    // Outside the part that is shown.
    check(
        &manager,
        |change| {
            let at = range(0, 0x1000);
            change.add_mapping(target, at, BAR, 0x8000, RW).unwrap();
        },
        &[
            "map 0x4000-0x5000 rw from 3 at 0x8000",
            "contents replaced 0x4000-0x5000",
        ],
    );
}

#[test]
fn it_is_mapped_by_itself() {
    let (manager, _, target, alias) = aliased();
    check(
        &manager,
        |change| change.unmap_region(target).unwrap(),
        &["remove slot 0x4000-0x8000 rwx", "reserve 0x4000-0x8000"],
    );
    // The target's edits show although it is mapped nowhere.
    check(
        &manager,
        |change| {
            let at = range(0x2000, 0x3000);
            change.add_mapping(target, at, BAR, 0, RW).unwrap();
        },
        &[
            "map 0x10000-0x11000 ro from 3 at 0x0",
            "contents replaced 0x10000-0x11000",
        ],
    );
    check(
        &manager,
        |change| {
            change
                .map_region(alias, MapParams::new(0x10000, RW))
                .unwrap();
        },
        &[
            "remove slot 0x10000-0x12000 rox",
            "protect 0x10000-0x12000 rw",
            "add slot 0x10000-0x12000 rwx",
            "gap 0x10000-0x12000",
        ],
    );
}

#[test]
fn an_alias_of_an_alias_follows_the_first_region() {
    let (manager, _, target, alias) = aliased();
    let (_, plan) = change(&manager, |change| {
        let spec = RegionSpec::new("second", 0x1000, 0);
        let second = change.create_alias(spec, alias, 0x1000).unwrap();
        change
            .map_region(second, MapParams::new(0x20000, RW))
            .unwrap();
    });
    assert_eq!(
        plan.to_string(),
        "map 0x20000-0x21000 rw from 2 at 0x7000\nadd slot 0x20000-0x21000 rwx\n"
    );
    check(
        &manager,
        |change| {
            let at = range(0x3000, 0x4000);
            change.add_mapping(target, at, BAR, 0, RW).unwrap();
        },
        &[
            "map 0x7000-0x8000 rw from 3 at 0x0",
            "map 0x11000-0x12000 ro from 3 at 0x0",
            "map 0x20000-0x21000 rw from 3 at 0x0",
            "contents replaced 0x7000-0x8000",
            "contents replaced 0x11000-0x12000",
            "contents replaced 0x20000-0x21000",
        ],
    );
}

#[test]
fn edits_that_make_no_sense_are_typed_errors() {
    let (manager, _, target, alias) = aliased();
    let before = inspect::inspect(&manager).to_string();
    let mut change = manager.transaction().unwrap();
    for (len, offset) in [
        (0x5000, 0),
        (0x1000, 0x4000),
        (0x1000, !0xfff),
        (!0xfff, 0x1000),
    ] {
        let spec = RegionSpec::new("alias", len, 0);
        let error = change.create_alias(spec, target, offset).unwrap_err();
        assert!(matches!(error, EditError::AliasPastEnd { .. }), "{error}");
    }
    let spec = |len| RegionSpec::new("alias", len, 0);
    let error = change.create_alias(spec(0x1000), target, 1).unwrap_err();
    assert!(matches!(error, EditError::UnalignedAlias { .. }), "{error}");
    for len in [0, 0xfff] {
        let error = change.create_alias(spec(len), target, 0).unwrap_err();
        assert!(matches!(error, EditError::BadLength { .. }), "{error}");
    }
    let placed = spec(0x1000).placed_at(SPACE);
    let error = change.create_alias(placed, target, 0).unwrap_err();
    assert!(
        matches!(error, EditError::OutsideAddressSpace { .. }),
        "{error}"
    );

    let page = range(0, 0x1000);
    let error = change.add_mapping(alias, page, BAR, 0, RW).unwrap_err();
    assert!(matches!(error, EditError::IsAlias { .. }), "{error}");
    let error = change.remove_mappings(alias, page).unwrap_err();
    assert!(matches!(error, EditError::IsAlias { .. }), "{error}");
    let error = change.remove_region(target).unwrap_err();
    assert_eq!(
        error,
        EditError::Aliased {
            name: "target".into(),
            alias: alias.as_u64(),
        }
    );
    drop(change);
    assert_eq!(before, inspect::inspect(&manager).to_string());

    // Without its alias the target may go; what is gone cannot be shown.
    let mut change = manager.transaction().unwrap();
    change.remove_region(alias).unwrap();
    change.remove_region(target).unwrap();
    let error = change.create_alias(spec(0x1000), target, 0).unwrap_err();
    assert!(matches!(error, EditError::UnknownRegion { .. }), "{error}");
    drop(change);
    // Abandoned: alias and target are as they were, and so is what binds them.
    assert_eq!(before, inspect::inspect(&manager).to_string());
    let mut change = manager.transaction().unwrap();
    assert!(change.remove_region(target).is_err());
    change.remove_region(alias).unwrap();
    change.remove_region(target).unwrap();
    let _ = change.commit().unwrap();
    assert!(manager.flat_view().unwrap().is_empty());
}
