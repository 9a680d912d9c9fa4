//! Every interleaving, and every order in which memory may be seen, of vCPUs that enter and leave
//! the guest while they are paused.
//!
//! The file under test is the crate's, compiled with loom's types.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    dead_code,
    reason = "a test may stop at the first surprise, and uses only a part of the crate's module"
)]

#[path = "../src/kvm/vcpu_barrier/gates.rs"]
mod gates;

/// In the place of the crate's module of that name.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
    pub(crate) use loom::sync::{Condvar, Mutex, MutexGuard};
}

use gates::{Failure, Gate, Gates};
use loom::cell::UnsafeCell;
use loom::model::Builder;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

const FOR_EVER: Duration = Duration::MAX;

/// What the handler of the signal and `KVM_RUN` do: a kick, once given, ends this run or the next.
struct Kvm {
    state: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Default)]
struct Wanted {
    kick: bool,
    end: bool,
}

impl Kvm {
    fn new() -> Self {
        Self {
            state: Mutex::new(Wanted::default()),
            changed: Condvar::new(),
        }
    }

    fn kick(&self) {
        self.state.lock().unwrap().kick = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().unwrap().end = true;
        self.changed.notify_all();
    }

    /// Runs until it is kicked or ended, however long that takes; says whether it is ended.
    fn run(&self) -> bool {
        let mut wanted = self.state.lock().unwrap();
        while !wanted.kick && !wanted.end {
            wanted = self.changed.wait(wanted).unwrap();
        }
        wanted.kick = false;
        wanted.end
    }
}

/// The gates, and the slots that no vCPU may see while they change: loom fails a test in which
/// somebody looks at them while somebody changes them.
struct World {
    gates: Gates<Kvm>,
    slots: UnsafeCell<u32>,
}

// SAFETY: loom itself checks how the cell is used.
unsafe impl Send for World {}
// SAFETY: as for Send.
unsafe impl Sync for World {}

impl World {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            gates: Gates::new(Duration::ZERO),
            slots: UnsafeCell::new(0),
        })
    }

    fn gate(&self) -> Arc<Gate<Kvm>> {
        let gate = Arc::new(Gate::new(Kvm::new()));
        self.gates.add(gate.clone());
        gate
    }

    /// What the guest does: it looks at the slots.
    fn look(&self) {
        // SAFETY: loom checks that nobody changes them meanwhile.
        self.slots.with(|slots| unsafe { *slots });
    }

    /// What a change does.
    fn change(&self) {
        // SAFETY: loom checks that nobody else looks at them meanwhile.
        self.slots.with_mut(|slots| unsafe { *slots += 1 });
    }

    fn pause(&self) {
        let paused = self.gates.pause(FOR_EVER, |gate| {
            gate.vcpu.kick();
            Ok::<(), Infallible>(())
        });
        match paused {
            Ok(()) => {}
            Err(Failure::StillInside(_)) => panic!("a vcpu did not come out"),
            Err(Failure::Kick(_, never)) => match never {},
        }
    }
}

fn model(preemptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

#[test]
fn a_vcpu_that_comes_and_goes_never_sees_a_change() {
    model(3, || {
        let world = World::new();
        let gate = world.gate();
        let vcpu = thread::spawn({
            let world = world.clone();
            move || {
                for _ in 0..2 {
                    world.gates.enter(&gate);
                    world.look();
                    world.gates.leave(&gate);
                }
            }
        });
        world.pause();
        world.change();
        world.gates.resume();
        vcpu.join().unwrap();
    });
}

#[test]
fn a_vcpu_that_runs_for_ever_is_brought_out() {
    model(3, || {
        let world = World::new();
        let gate = world.gate();
        let vcpu = thread::spawn({
            let (world, gate) = (world.clone(), gate.clone());
            move || {
                loop {
                    world.gates.enter(&gate);
                    world.look();
                    let ended = gate.vcpu.run();
                    world.gates.leave(&gate);
                    if ended {
                        break;
                    }
                }
            }
        });
        // Nothing but the kick of the pause brings it out.
        world.pause();
        world.change();
        world.gates.resume();
        gate.vcpu.end();
        vcpu.join().unwrap();
    });
}

#[test]
fn pauses_overlap() {
    model(2, || {
        let world = World::new();
        let gate = world.gate();
        let vcpu = thread::spawn({
            let world = world.clone();
            move || {
                world.gates.enter(&gate);
                world.look();
                world.gates.leave(&gate);
            }
        });
        // Each changes only what is its own: here, under a lock.
        let turn = Arc::new(Mutex::new(()));
        let other = thread::spawn({
            let (world, turn) = (world.clone(), turn.clone());
            move || {
                world.pause();
                {
                    let _turn = turn.lock().unwrap();
                    world.change();
                }
                world.gates.resume();
            }
        });
        world.pause();
        {
            let _turn = turn.lock().unwrap();
            world.change();
        }
        world.gates.resume();
        vcpu.join().unwrap();
        other.join().unwrap();
        assert_eq!(world.gates.pauses(), 0);
    });
}

#[test]
fn two_vcpus_pause_one_another() {
    model(2, || {
        let world = World::new();
        let gates = [world.gate(), world.gate()];
        let turn = Arc::new(Mutex::new(()));
        let threads = gates.map(|gate| {
            let (world, turn) = (world.clone(), turn.clone());
            thread::spawn(move || {
                world.gates.enter(&gate);
                world.look();
                world.gates.leave(&gate);
                // The exit handler: waits for the change lock outside the guest.
                let turn = turn.lock().unwrap();
                world.pause();
                world.change();
                world.gates.resume();
                drop(turn);
            })
        });
        for thread in threads {
            thread.join().unwrap();
        }
    });
}
