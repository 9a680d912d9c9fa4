//! The mapper as a region manager's listener.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/memory.rs"]
mod support;

use memory_range::{Access, PAGE_SIZE};
use partition_mapper::testing::FailingPartition;
use partition_mapper::{AddError, GuestAccess, MapperOptions, PartitionMapper, SoftwarePartition};
use region_manager::{
    MapParams, MappingSink, RegionId, RegionManager, RegionSpec, SinkError, Transaction, VaOp,
};
use std::sync::Arc;
use support::{memory, pages};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

type Guest = FailingPartition<SoftwarePartition>;

/// All memory is there from the beginning: nothing to do at host addresses.
struct Nothing;

impl MappingSink<u8> for Nothing {
    fn apply(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        Ok(())
    }

    fn undo(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Makes a region of one mapping, from its name, length, place and priority (in pages).
fn region(
    change: &mut Transaction<'_, u8>,
    backing: u8,
    (gpa, len, priority): (u64, u64, u8),
    access: Access,
) -> RegionId {
    let spec = RegionSpec::new(format!("region {backing}"), len * PAGE_SIZE, priority);
    let id = change.create_region(spec).unwrap();
    change
        .add_mapping(id, pages(0, len), backing, 0, RW)
        .unwrap();
    change
        .map_region(id, MapParams::new(gpa * PAGE_SIZE, access))
        .unwrap();
    id
}

fn shown(guest: &Guest) -> Vec<(u64, u64, bool)> {
    assert_eq!(guest.inner().broken_rules(), []);
    let slots = guest.inner().slots();
    let page = |addr: u64| addr / PAGE_SIZE;
    slots
        .iter()
        .map(|slot| {
            let writable = slot.permissions.access.is_writable();
            (page(slot.gpa.start()), page(slot.gpa.end()), writable)
        })
        .collect()
}

#[test]
fn follows_a_region_manager() {
    let manager = RegionManager::new(32 * PAGE_SIZE, Box::new(Nothing)).unwrap();
    let mut change = manager.transaction().unwrap();
    region(&mut change, 1, (0, 8, 9), RW);
    let _ = change.commit().unwrap();

    // Registered late, and given what is there.
    let va = memory(32);
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let mapper = PartitionMapper::new(guest.clone(), va, MapperOptions::new()).unwrap();
    let listener = manager.add_listener(Box::new(mapper)).unwrap();
    assert_eq!(shown(&guest), [(0, 8, true)]);

    // A read-only region over the middle of it.
    let mut change = manager.transaction().unwrap();
    let rom = region(&mut change, 2, (4, 2, 10), RO);
    let _ = change.commit().unwrap();
    assert_eq!(shown(&guest), [(0, 4, true), (4, 6, false), (6, 8, true)]);
    let bytes = [1; 4];
    assert_ne!(
        guest.inner().store(0x4000, &bytes).unwrap(),
        GuestAccess::Done
    );

    // Every failure point of taking it away again.
    let before = guest.inner().slots();
    for call in 0.. {
        guest.fail_at(call);
        let mut change = manager.transaction().unwrap();
        change.unmap_region(rom).unwrap();
        let result = change.commit();
        let reached = guest.call_count() > call;
        guest.fail_never();
        assert_eq!(result.is_err(), reached);
        if !reached {
            assert!(call > 0);
            break;
        }
        assert_eq!(
            guest.inner().slots(),
            before,
            "after a failure of call {call}"
        );
        assert!(manager.damaged().unwrap().is_empty());
    }
    assert!((0..8).all(|page| {
        let mut byte = [0xff];
        let load = guest.inner().load(page * PAGE_SIZE, &mut byte).unwrap();
        load == GuestAccess::Done && byte == [0]
    }));

    manager.remove_listener(listener).unwrap();
    assert_eq!(shown(&guest), []);
}

#[test]
fn a_registration_that_fails_leaves_nothing() {
    let manager = RegionManager::new(32 * PAGE_SIZE, Box::new(Nothing)).unwrap();
    let mut change = manager.transaction().unwrap();
    region(&mut change, 1, (0, 8, 9), RW);
    region(&mut change, 2, (16, 8, 9), RO);
    let _ = change.commit().unwrap();
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    guest.fail_at(1);
    let new = || PartitionMapper::new(guest.clone(), memory(32), MapperOptions::new()).unwrap();
    let error = manager.add_listener(Box::new(new())).unwrap_err();
    let causes: Vec<_> = std::iter::successors(
        Some(&error as &(dyn std::error::Error + 'static)),
        |error| error.source(),
    )
    .collect();
    assert!(causes.iter().any(|cause| cause.is::<AddError>()), "{error}");
    assert_eq!(shown(&guest), []);
    manager.add_listener(Box::new(new())).unwrap();
    assert_eq!(shown(&guest), [(0, 8, true), (16, 24, false)]);
}
