//! Every call of every operation made to fail: the state is what it was, and a retry succeeds.
//!
//! A walk makes one operation again and again: with its first call to one neighbour failing, then
//! with its second, until none is left to fail. After each failure everything that can be seen of
//! the state (the facade's account, slot ids, what a device sees, what each guest sees) must equal
//! what it was; at the end it must equal what the operation leaves when nothing ever fails.

mod attaching;
mod building;
mod dropping;
mod failing_sink;
mod failing_target;
mod state;
mod transactions;
mod visibility;
mod windows;
mod world;

use std::error::Error;
use world::{Target, World};

/// What an operation reports.
type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// How many calls an operation makes to each neighbour, each of which was made to fail.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Walked {
    sink: usize,
    vtl0: usize,
    vtl2: usize,
    spare: usize,
    dma: usize,
}

/// Walks every failure point of `op`, made after `setup`.
#[track_caller]
fn walk(setup: impl Fn(&mut World), op: impl Fn(&mut World) -> Outcome) -> Walked {
    let mut reference = World::new();
    setup(&mut reference);
    reference.count();
    op(&mut reference).expect("the operation works when nothing fails");
    let calls = reference.calls();
    let after = reference.state();
    drop(reference);
    for (target, count) in [
        (Target::Sink, calls.sink),
        (Target::Vtl0, calls.vtl0),
        (Target::Vtl2, calls.vtl2),
        (Target::Spare, calls.spare),
        (Target::Dma, calls.dma),
    ] {
        let mut world = World::new();
        setup(&mut world);
        let before = world.state();
        for k in 0..count {
            world.fail_at(target, k);
            let error = op(&mut world).expect_err("the failure is reported");
            world.fail_never();
            assert!(
                world::was_told_to_fail(error.as_ref()),
                "{target:?} {k}: {}",
                world::chain(error.as_ref())
            );
            world
                .state()
                .must_equal(&before, &format!("{target:?}, call {k} failed"));
        }
        world.count();
        op(&mut world).expect("the retry succeeds");
        assert_eq!(world.calls(), calls, "the retry takes the same calls");
        world
            .state()
            .must_equal(&after, &format!("retried after {target:?}"));
    }
    calls
}

/// As [`walk`], but every call from the k-th on fails, those that undo included: what could not be
/// undone is told, and the retry mends it.
#[track_caller]
fn walk_without_undo(setup: impl Fn(&mut World), op: impl Fn(&mut World) -> Outcome) {
    let mut reference = World::new();
    setup(&mut reference);
    reference.count();
    op(&mut reference).expect("the operation works when nothing fails");
    let calls = reference.calls();
    let after = reference.state();
    drop(reference);
    for (target, count) in [
        (Target::Sink, calls.sink),
        (Target::Vtl0, calls.vtl0),
        (Target::Vtl2, calls.vtl2),
        (Target::Dma, calls.dma),
    ] {
        for k in 0..count {
            let mut world = World::new();
            setup(&mut world);
            world.fail_from(target, k);
            op(&mut world).expect_err("the failure is reported");
            world.fail_never();
            op(&mut world).expect("the retry succeeds");
            // Mending takes slots in another order than the change would have: ids may differ.
            world.state().without_slot_ids().must_equal(
                &after.without_slot_ids(),
                &format!("{target:?} from {k} on"),
            );
        }
    }
}
