//! Changes that fail: nothing of them is sent, and nothing is left half done.

use crate::fixture::{
    AMPLE, C_SEGMENT, F_SEGMENT, Fixture, GAP, assert_same, in_vtl0, number_pages,
};
use crate::support::numbered;
use guest_memory_manager::{RamVisibility, RemoteGrant, SoftwarePartition, Vtl};
use partition_mapper::testing::FailingPartition;
use std::sync::Arc;

/// Each step of a change fails once. What it had queued for the process by then is taken back before
/// it is sent; the next change finds nothing of it.
#[test]
fn an_undone_change_is_not_sent() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let before_it = fixture.client(RemoteGrant::new());
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let (memory, vtl) = (&fixture.memory, Vtl::Vtl0);
    memory
        .attach_partition_now(vtl, guest.clone(), None)
        .unwrap();
    // Listeners are called in the order in which they came.
    let after_it = fixture.client(RemoteGrant::new());
    let frames = numbered("frames", 4, 50);
    let windows = memory.device_memory_mapper();
    let (mut control, window) = windows.new_region(0x4000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x4000, true).unwrap().wait();

    let mut failures = 0;
    loop {
        let sealed = || [&before_it, &after_it].map(|one| one.process.last_sealed());
        let before = sealed();
        guest.fail_at(failures);
        let mut change = memory.transaction().unwrap();
        change
            .set_ram_visibility(C_SEGMENT, RamVisibility::ReadOnly)
            .unwrap();
        change
            .set_ram_visibility(F_SEGMENT, RamVisibility::Unmapped)
            .unwrap();
        change
            .map_to_guest(&mut control, GAP.start(), true)
            .unwrap();
        let done = change.commit_now();
        guest.fail_never();
        let is_done = done.is_ok();
        if let Ok(followed) = done {
            followed
                .wait_until(std::time::Instant::now() + AMPLE)
                .unwrap();
            assert_ne!(sealed(), before);
        } else {
            assert_eq!(sealed(), before, "after {failures} calls");
            failures += 1;
        }
        for client in [&before_it, &after_it] {
            assert!(client.process.gone().is_none());
            assert_same(&fixture.view(), &client.view(), in_vtl0);
        }
        if is_done {
            break;
        }
    }
    assert!(failures >= 4, "{failures}");
    assert_eq!(guest.inner().broken_rules(), []);
}

/// What cannot be undone is damage, here and at the process; the next change repairs both.
#[test]
fn damage_is_followed_and_its_repair_too() {
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let (memory, vtl) = (&fixture.memory, Vtl::Vtl0);
    memory
        .attach_partition_now(vtl, guest.clone(), None)
        .unwrap();
    let client = fixture.client(RemoteGrant::new());
    // The slot goes; making it again with other permissions fails, and so does bringing it back.
    guest.fail_from(1);
    let control = memory.ram_visibility_control();
    control
        .set_ram_visibility_now(F_SEGMENT, RamVisibility::ReadOnly)
        .map(drop)
        .unwrap_err();
    assert_ne!(memory.damaged().unwrap(), []);
    client.process.acknowledgement().wait();
    assert_same(&fixture.view(), &client.view(), in_vtl0);
    guest.fail_never();
    fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
    assert_eq!(memory.damaged().unwrap(), []);
    assert_same(&fixture.view(), &client.view(), in_vtl0);
}
