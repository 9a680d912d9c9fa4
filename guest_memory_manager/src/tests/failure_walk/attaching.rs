//! Failures while partitions come and go.

use super::walk;
use super::world::{Target, World};
use crate::{DetachError, Vtl};

#[test]
fn attaching_a_partition() {
    for vtl in [Vtl::Vtl0, Vtl::Vtl1, Vtl::Vtl2] {
        let calls = walk(
            |_| {},
            |world| {
                let spare = world.spare.clone();
                world.attach("spare", vtl, &spare)
            },
        );
        assert!(calls.spare > 0);
        assert_eq!((calls.sink, calls.vtl0, calls.vtl2), (0, 0, 0));
    }
}

/// Attached, it is in step; detached, it holds nothing, and the others hold what they held.
#[test]
fn attaching_and_detaching_is_no_change_for_the_others() {
    let mut world = World::new();
    let before = world.state();
    for vtl in [Vtl::Vtl0, Vtl::Vtl2] {
        let spare = world.spare.clone();
        world.attach("spare", vtl, &spare).unwrap();
        world.manager.detach_partition(world.ids["spare"]).unwrap();
        world.state().must_equal(&before, "detached");
    }
}

/// A partition that cannot give up a slot is detached all the same, and keeps exactly that one.
#[test]
fn detaching_a_partition() {
    for (target, name) in [(Target::Vtl0, "vtl0"), (Target::Vtl2, "vtl2")] {
        let reference = World::unpinned();
        reference.count();
        reference
            .manager
            .detach_partition(reference.ids[name])
            .unwrap();
        let calls = reference.calls();
        drop(reference);
        let count = calls.vtl0 + calls.vtl2;
        assert!(count > 10, "{calls:?}");
        for k in 0..count {
            let mut world = World::unpinned();
            let guest = match target {
                Target::Vtl2 => world.vtl2.clone(),
                _ => world.vtl0.clone(),
            };
            let held = guest.inner().slots();
            world.fail_at(target, k);
            let error = world.manager.detach_partition(world.ids[name]).unwrap_err();
            world.fail_never();
            assert!(matches!(error, DetachError::Remove(_)), "{error}");
            assert!(super::world::was_told_to_fail(&error));
            let left = guest.inner().slots();
            assert_eq!(left.len(), 1, "all the others are gone");
            assert!(held.contains(&left[0]));
            let again = world.manager.detach_partition(world.ids[name]).unwrap_err();
            assert!(matches!(again, DetachError::Unknown { .. }), "{again}");
            // The manager goes on as if nothing had happened.
            let spare = world.spare.clone();
            world.attach("spare", Vtl::Vtl2, &spare).unwrap();
            world.control("bar0").map_to_guest(0x10_a000, true).unwrap();
            assert_eq!(world.manager.damaged(), Some(Vec::new()));
        }
    }
}
