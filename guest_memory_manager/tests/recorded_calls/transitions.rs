//! The changes that are recorded, and the calls that each shall make.

use crate::guest::{BARE, Guest, SHADOWED, twelve};
use crate::tracer::{
    self, Kind,
    Kind::{Mmap, Mprotect, Slot},
    Recording,
};
use guest_memory_manager::RamVisibility::{self, ReadOnly, ReadWrite, Unmapped};
use guest_memory_manager::{PartitionMemoryMap, SoftwarePartition};
use std::sync::Arc;

/// A change of the guest's memory.
pub(crate) struct Transition {
    pub(crate) name: String,
    /// The system calls on KVM, in their order.
    pub(crate) calls: Vec<(usize, Kind)>,
    /// Brings the guest where the change begins.
    prepare: Edit,
    make: Edit,
}

type Edit = Box<dyn Fn(&mut Guest)>;

/// Where the child makes the changes.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum On {
    #[cfg_attr(
        not(feature = "kvm"),
        allow(dead_code, reason = "only built with KVM is it asked for")
    )]
    Kvm,
    Software,
}

/// Records every transition of a guest that has so many device windows more; `args` are those with
/// which this program, run again, comes to [`make_all`].
///
/// # Errors
///
/// The kernel does not let a process be traced; says why.
pub(crate) fn record(on: On, others: usize, args: &[&str]) -> Result<Vec<Recording>, String> {
    let on = match on {
        On::Kvm => "kvm",
        On::Software => "software",
    };
    tracer::record(&format!("{on} {others}"), args)
}

/// What the child does: makes every transition, once for nothing and once recorded.
pub(crate) fn make_all() {
    let task = tracer::task().unwrap();
    let (on, others) = task.split_once(' ').unwrap();
    let mut guest = Guest::new(partition(on == "kvm"), others.parse().unwrap());
    let transitions = all();
    for transition in &transitions {
        (transition.prepare)(&mut guest);
        (transition.make)(&mut guest);
    }
    tracer::be_traced();
    for transition in &transitions {
        (transition.prepare)(&mut guest);
        tracer::recorded(&transition.name, || (transition.make)(&mut guest));
    }
}

#[cfg(feature = "kvm")]
fn partition(kvm: bool) -> Arc<dyn PartitionMemoryMap> {
    if !kvm {
        return Arc::new(SoftwarePartition::new());
    }
    let vm = kvm_ioctls::Kvm::new().unwrap().create_vm().unwrap();
    Arc::new(guest_memory_manager::KvmPartition::new(Arc::new(vm)).unwrap())
}

#[cfg(not(feature = "kvm"))]
fn partition(kvm: bool) -> Arc<dyn PartitionMemoryMap> {
    assert!(!kvm, "built without KVM");
    Arc::new(SoftwarePartition::new())
}

/// Every transition, in the order in which they are made.
pub(crate) fn all() -> Vec<Transition> {
    let mut all = Vec::new();
    for (what, segment) in [("over ROM", SHADOWED), ("over nothing", BARE)] {
        let rom_below = segment == SHADOWED;
        for from in [Unmapped, ReadOnly, ReadWrite] {
            for to in [Unmapped, ReadOnly, ReadWrite] {
                all.push(Transition {
                    name: format!("segment {what}, {from:?} to {to:?}"),
                    calls: calls_of(from, to, rom_below),
                    prepare: Box::new(move |guest| guest.show(segment, from)),
                    make: Box::new(move |guest| guest.show(segment, to)),
                });
            }
        }
    }
    all.push(Transition {
        name: "12 segments in one transaction, ReadWrite to ReadOnly".into(),
        calls: vec![(12, Slot), (1, Mprotect), (12, Slot)],
        prepare: Box::new(|guest| {
            guest.show(SHADOWED, ReadWrite);
            guest.show(BARE, ReadWrite);
        }),
        make: Box::new(|guest| guest.show_all(&twelve(ReadOnly))),
    });
    all.push(Transition {
        name: "12 segments in one transaction, ReadOnly to ReadWrite".into(),
        calls: vec![(12, Slot), (1, Mprotect), (12, Slot)],
        prepare: Box::new(|_| {}),
        make: Box::new(|guest| guest.show_all(&twelve(ReadWrite))),
    });
    all.push(Transition {
        name: "device window moved".into(),
        calls: vec![(1, Slot), (2, Mmap), (1, Slot)],
        prepare: Box::new(|guest| guest.move_bar(0)),
        make: Box::new(|guest| guest.move_bar(1)),
    });
    all.push(Transition {
        name: "device window moved to where it is".into(),
        calls: vec![],
        prepare: Box::new(|_| {}),
        make: Box::new(|guest| guest.move_bar(1)),
    });
    all.push(Transition {
        name: "device window hidden".into(),
        calls: vec![(1, Slot), (1, Mmap)],
        prepare: Box::new(|_| {}),
        make: Box::new(Guest::hide_bar),
    });
    all.push(Transition {
        name: "device window shown".into(),
        calls: vec![(1, Mmap), (1, Slot)],
        prepare: Box::new(|_| {}),
        make: Box::new(|guest| guest.move_bar(0)),
    });
    all.push(Transition {
        name: "device window moved, segment to ReadOnly, at once".into(),
        calls: vec![(2, Slot), (1, Mprotect), (2, Mmap), (2, Slot)],
        prepare: Box::new(|guest| guest.show(BARE, ReadWrite)),
        make: Box::new(|guest| guest.move_bar_and_show(1, BARE, ReadOnly)),
    });
    for (window, fill) in ["zeros", "all-ones"].into_iter().enumerate() {
        let changes: [(_, Edit); 3] = [
            (
                "mapped into",
                Box::new(move |guest| guest.map_slice(window, 0)),
            ),
            (
                "replaced in",
                Box::new(move |guest| guest.map_slice(window, 1)),
            ),
            (
                "unmapped from",
                Box::new(move |guest| guest.unmap_slice(window)),
            ),
        ];
        for (what, make) in changes {
            all.push(Transition {
                name: format!("DAX slice {what} a window of {fill}"),
                calls: vec![(1, Mmap)],
                prepare: Box::new(|_| {}),
                make,
            });
        }
    }
    all
}

/// The calls of a segment's transition, with a ROM below or nothing.
fn calls_of(from: RamVisibility, to: RamVisibility, rom_below: bool) -> Vec<(usize, Kind)> {
    // What shows, and whether it is read-only.
    match (from, to, rom_below) {
        _ if from == to => vec![],
        (ReadOnly | ReadWrite, ReadOnly | ReadWrite, _) => {
            vec![(1, Slot), (1, Mprotect), (1, Slot)]
        }
        // ROM and read-only RAM are the same to a slot.
        (Unmapped, ReadOnly, true) | (ReadOnly, Unmapped, true) => vec![(1, Mmap)],
        (_, _, true) => vec![(1, Slot), (1, Mmap), (1, Slot)],
        (Unmapped, _, false) => vec![(1, Mmap), (1, Slot)],
        (_, _, false) => vec![(1, Slot), (1, Mmap)],
    }
}

/// The calls that remain where slots are no calls.
pub(crate) fn without_slots(calls: &[(usize, Kind)]) -> Vec<(usize, Kind)> {
    let rest = calls.iter().filter(|(_, kind)| *kind != Slot);
    rest.copied().collect()
}
