//! What small cases are made of.

use super::{Backing, SPACE, World};
use memory_range::{Access, MemoryRange};
use region_manager::{MapParams, Plan, RegionId, RegionManager, RegionSpec, Transaction};
use std::sync::Arc;

pub const RW: Access = Access::ReadWrite;
pub const RO: Access = Access::ReadOnly;

pub const ROM: Backing = 1;
pub const RAM: Backing = 2;
pub const BAR: Backing = 3;

/// A manager with one slot listener.
pub fn manager() -> (RegionManager<Backing>, World) {
    let world = World::new();
    let manager = RegionManager::new(SPACE, world.sink()).unwrap();
    manager.add_listener(world.listener("kvm")).unwrap();
    (manager, world)
}

pub fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// A region with one mapping over all of it, from the offset that equals its place.
pub fn filled(
    change: &mut Transaction<'_, Backing>,
    name: &str,
    gpa: u64,
    len: u64,
    priority: u8,
    backing: Backing,
) -> RegionId {
    let spec = RegionSpec::new(name, len, priority).placed_at(gpa);
    let id = change.create_region(spec).unwrap();
    change
        .add_mapping(id, range(0, len), backing, gpa, RW)
        .unwrap();
    id
}

/// Runs one transaction.
#[track_caller]
pub fn change<T>(
    manager: &RegionManager<Backing>,
    edit: impl FnOnce(&mut Transaction<'_, Backing>) -> T,
) -> (T, Arc<Plan<Backing>>) {
    let mut change = manager.transaction().unwrap();
    let value = edit(&mut change);
    let planned = change.plan();
    let done = change.commit().unwrap();
    assert_eq!(planned, *done, "what is planned is what is done");
    (value, done)
}

/// Runs one transaction and compares its plan, a step a line.
#[track_caller]
pub fn check(
    manager: &RegionManager<Backing>,
    edit: impl FnOnce(&mut Transaction<'_, Backing>),
    expected: &[&str],
) {
    let ((), done) = change(manager, edit);
    let lines: Vec<String> = done.to_string().lines().map(str::to_owned).collect();
    assert_eq!(lines, expected);
}

/// RAM at 0x4000-0x8000 in four segments over one ROM region, as PC firmware has it.
pub fn shadowed() -> (RegionManager<Backing>, World, Vec<RegionId>) {
    let (manager, world) = manager();
    let mut segments = Vec::new();
    let mut change = manager.transaction().unwrap();
    for gpa in [0x4000, 0x5000, 0x6000, 0x7000] {
        segments.push(filled(&mut change, "segment", gpa, 0x1000, 255, RAM));
    }
    let rom = filled(&mut change, "rom", 0x4000, 0x4000, 0, ROM);
    change.map_region(rom, MapParams::new(0x4000, RO)).unwrap();
    let _ = change.commit().unwrap();
    (manager, world, segments)
}
