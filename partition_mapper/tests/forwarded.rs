//! Slots that are passed on: the ledger here, and whoever holds the slots there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "support/memory.rs"]
mod support;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::testing::FailingPartition;
use partition_mapper::{
    AddError, CheckError, ForwardSlots, ForwardedOptions, ForwardedPartition, HeldSlots, MapError,
    MapperOptions, NewMapperError, PartitionMapper, PartitionMemoryMap, Power, SlotInfo,
    SoftwareOptions, SoftwarePartition, UnmapError,
};
use proptest::prelude::*;
use region_manager::{
    CommitError, Execute, MapParams, MappingSink, Permissions, RegionListener, RegionManager,
    RegionSpec, SinkError, VaOp,
};
use sparse_alloc::{HostRange, MappedRegion, Reservation};
use std::mem::Discriminant;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::{chain, memory, pages, permissions, slot};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const PAGES: u64 = 12;

/// What the other process was told.
#[derive(Copy, Clone, Debug, PartialEq)]
enum Told {
    Add(MemoryRange, u64, Permissions),
    Remove(MemoryRange),
}

/// A connection to the other process that only takes notes.
#[derive(Clone, Default)]
struct Wire {
    told: Arc<Mutex<Vec<Told>>>,
    gone: Arc<AtomicBool>,
}

impl Wire {
    fn take(&self) -> Vec<Told> {
        std::mem::take(&mut self.told.lock().unwrap())
    }

    fn cut(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }
}

impl ForwardSlots for Wire {
    fn add(&self, gpa: MemoryRange, view: u64, permissions: Permissions) {
        let told = Told::Add(gpa, view, permissions);
        self.told.lock().unwrap().push(told);
    }

    fn remove(&self, gpa: MemoryRange) {
        self.told.lock().unwrap().push(Told::Remove(gpa));
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}

fn forwarded(va: &Reservation, options: ForwardedOptions) -> (Arc<ForwardedPartition>, Wire) {
    let wire = Wire::default();
    let partition = ForwardedPartition::new(va, Box::new(wire.clone()), options);
    (Arc::new(partition), wire)
}

fn host(memory: &Arc<Reservation>, page: u64, count: u64) -> HostRange {
    HostRange::new(memory.clone(), page * PAGE_SIZE, count * PAGE_SIZE).unwrap()
}

fn map(
    partition: &dyn PartitionMemoryMap,
    gpa: MemoryRange,
    host: &HostRange,
    access: Access,
) -> Result<(), MapError> {
    // SAFETY: the range holds a share of its reservation, and the partition of the range.
    unsafe { partition.map(gpa, host, permissions(access)) }
}

/// Where slots lie and what they allow, whatever their ids and host addresses are.
fn places(slots: &[SlotInfo]) -> Vec<(MemoryRange, Permissions)> {
    slots
        .iter()
        .map(|slot| (slot.gpa, slot.permissions))
        .collect()
}

#[test]
fn passes_on_what_a_mapper_asks_for() {
    let va = memory(16);
    let (vm, wire) = forwarded(&va, ForwardedOptions::new("vm").kind("kvm"));
    let options = MapperOptions::new().offset(0x10_0000);
    let mut mapper = PartitionMapper::new(vm.clone(), va, options).unwrap();
    mapper.add(&slot(pages(2, 4), RW)).unwrap();
    mapper.add(&slot(pages(4, 5), RO)).unwrap();
    // Where it lies there, and which part of the view it shows.
    let first = Told::Add(pages(0x102, 0x104), 0x2000, permissions(RW));
    let second = Told::Add(pages(0x104, 0x105), 0x4000, permissions(RO));
    assert_eq!(wire.take(), [first, second]);

    mapper.remove(&slot(pages(2, 4), RW)).unwrap();
    assert_eq!(wire.take(), [Told::Remove(pages(0x102, 0x104))]);
    assert_eq!(
        places(&vm.slots()),
        [(pages(0x104, 0x105), permissions(RO))]
    );
    mapper.detach().unwrap();
    assert_eq!(wire.take(), [Told::Remove(pages(0x104, 0x105))]);
    assert_eq!(vm.slots(), []);
}

#[test]
fn says_what_it_cannot_do() {
    let va = memory(4);
    let options = ForwardedOptions::new("vm").without_read_only_slots();
    let (vm, wire) = forwarded(&va, options);
    assert!(vm.prefetch().is_none() && vm.pin().is_none() && vm.barrier().is_none());
    assert!(vm.slot_budget().is_none(), "no limit was told");
    assert!(PartitionMemoryMap::forwarded(&vm).is_some());
    assert!(SoftwarePartition::new().forwarded().is_none());
    assert!(matches!(
        PartitionMapper::new(vm.clone(), va.clone(), MapperOptions::new().pinned()),
        Err(NewMapperError::Unsupported {
            power: Power::Pin,
            ..
        })
    ));
    let mut prefetched = slot(pages(0, 1), RW);
    prefetched.prefetch = true;
    let mut mapper = PartitionMapper::new(vm.clone(), va.clone(), MapperOptions::new()).unwrap();
    let refused = mapper.add(&prefetched).unwrap_err();
    assert!(matches!(
        *refused.downcast::<AddError>().unwrap(),
        AddError::Unsupported {
            power: Power::Prefetch,
            ..
        }
    ));
    assert!(matches!(
        map(&*vm, pages(0, 1), &host(&va, 0, 1), RO),
        Err(MapError::ReadOnlyUnsupported { .. })
    ));
    assert_eq!(wire.take(), []);
}

/// Host addresses are named by their place in the view; those of another view have another meaning.
#[test]
fn refuses_slots_of_another_view() {
    let (va, other) = (memory(4), memory(4));
    let (vm, wire) = forwarded(&va, ForwardedOptions::new("vm"));
    let error = map(&*vm, pages(0, 1), &host(&other, 0, 1), RW).unwrap_err();
    assert_eq!(
        chain(&error),
        "the hypervisor refused to map gpa 0x0-0x1000: vm is in a process that follows another \
         guest memory"
    );
    assert_eq!((wire.take(), vm.slots()), (vec![], vec![]));
    map(&*vm, pages(0, 1), &host(&va, 0, 1), RW).unwrap();
}

/// All memory is there from the beginning: nothing to do at host addresses.
#[derive(Clone, Default)]
struct CountedOps(Arc<Mutex<usize>>);

impl MappingSink<u8> for CountedOps {
    fn apply(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        *self.0.lock().unwrap() += 1;
        Ok(())
    }

    fn undo(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        *self.0.lock().unwrap() += 1;
        Ok(())
    }
}

/// Makes a region of one page for each of these places, in one change.
fn show(manager: &RegionManager<u8>, places: &[u64]) -> Result<(), CommitError> {
    let mut change = manager.transaction().unwrap();
    for place in places {
        let spec = RegionSpec::new(format!("at {place}"), PAGE_SIZE, 1);
        let id = change.create_region(spec).unwrap();
        change.add_mapping(id, pages(0, 1), 7, 0, RW).unwrap();
        change
            .map_region(id, MapParams::new(place * PAGE_SIZE, RW))
            .unwrap();
    }
    change.commit().map(drop)
}

#[test]
fn a_change_past_the_limit_is_refused_before_anything_is_done() {
    let ops = CountedOps::default();
    let manager = RegionManager::new(PAGES * PAGE_SIZE, Box::new(ops.clone())).unwrap();
    let va = memory(PAGES);
    let (vm, wire) = forwarded(&va, ForwardedOptions::new("vm").slots(3));
    assert_eq!(vm.slot_limit(), Some(3));
    let mapper = PartitionMapper::new(vm.clone(), va, MapperOptions::new()).unwrap();
    manager.add_listener(Box::new(mapper)).unwrap();
    show(&manager, &[0, 2]).unwrap();
    assert_eq!(wire.take().len(), 2);

    let before = *ops.0.lock().unwrap();
    let error = show(&manager, &[4, 6]).unwrap_err();
    assert!(
        chain(&error).contains("but 2 of 3 are in use"),
        "{}",
        chain(&error)
    );
    let cause = std::error::Error::source(&error).unwrap();
    assert!(cause.is::<CheckError>(), "{cause:?}");
    assert_eq!((wire.take(), *ops.0.lock().unwrap()), (vec![], before));
    assert_eq!(vm.slots().len(), 2);
    show(&manager, &[4]).unwrap();
    assert_eq!(vm.slots().len(), 3);
}

/// Somebody else's death must not fail a change: neither for want of slots nor for want of anybody to
/// tell.
#[test]
fn a_partition_whose_process_is_gone_takes_everything() {
    let manager = RegionManager::new(PAGES * PAGE_SIZE, Box::new(CountedOps::default())).unwrap();
    let va = memory(PAGES);
    let (vm, wire) = forwarded(&va, ForwardedOptions::new("vm").slots(1));
    let mapper = PartitionMapper::new(vm.clone(), va, MapperOptions::new()).unwrap();
    let listener = manager.add_listener(Box::new(mapper)).unwrap();
    show(&manager, &[0]).unwrap();
    assert!(!vm.is_gone());
    wire.cut();
    assert!(vm.is_gone());
    show(&manager, &[2, 4]).unwrap();
    show(&manager, &[6]).unwrap();
    manager.remove_listener(listener).unwrap();
    assert_eq!(vm.slots(), []);
    let tree = inspect::inspect(&*vm).to_string();
    assert!(tree.contains("gone: true"), "{tree}");
}

/// Counts how many shares of a region there are.
struct Shared(Arc<Reservation>);

// SAFETY: every call goes to the reservation inside, which keeps the promises.
unsafe impl MappedRegion for Shared {
    fn base(&self) -> NonNull<u8> {
        self.0.base()
    }

    fn len(&self) -> u64 {
        self.0.len()
    }
}

#[test]
fn a_slot_that_is_kept_leaks_its_addresses() {
    let va: Arc<dyn MappedRegion> = Arc::new(Shared(memory(4)));
    let place = |page: u64| HostRange::new(va.clone(), page * PAGE_SIZE, PAGE_SIZE).unwrap();
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let mut held = HeldSlots::new(guest.clone());
    for page in 0..3 {
        held.add(pages(page, page + 1), &place(page), permissions(RW))
            .unwrap();
    }
    assert_eq!((held.len(), held.is_empty()), (3, false));
    held.add(pages(0, 1), &place(3), permissions(RW))
        .unwrap_err();
    assert!(matches!(
        held.remove(pages(0, 2)),
        Err(UnmapError::Partial { existing, .. }) if existing == pages(0, 1)
    ));
    assert!(matches!(
        held.remove(pages(5, 6)),
        Err(UnmapError::NotMapped { .. })
    ));

    // One is kept, and only its share of the addresses.
    guest.fail_at(1);
    let error = held.release().unwrap_err();
    assert_eq!(
        (error.left.as_slice(), error.first),
        (&[pages(1, 2)][..], pages(1, 2))
    );
    assert!(held.is_empty());
    drop(held);
    guest.fail_never();
    assert_eq!(
        places(&guest.inner().slots()),
        [(pages(1, 2), permissions(RW))]
    );
    guest.unmap(pages(1, 2)).unwrap();
    assert_eq!(
        Arc::strong_count(&va),
        2,
        "this one, and the one that is leaked"
    );
}

#[test]
fn a_removal_that_fails_can_be_made_again() {
    let va = memory(4);
    let guest = Arc::new(FailingPartition::new(SoftwarePartition::new()));
    let mut held = HeldSlots::new(guest.clone());
    held.add(pages(0, 1), &host(&va, 0, 1), permissions(RW))
        .unwrap();
    guest.fail_unmaps();
    held.remove(pages(0, 1)).unwrap_err();
    assert_eq!(held.len(), 1);
    guest.fail_never();
    held.remove(pages(0, 1)).unwrap();
    drop(held);
    assert_eq!(guest.inner().slots(), []);
    assert_eq!(Arc::strong_count(&va), 1);
}

#[derive(Clone, Debug)]
enum Step {
    Map {
        gpa: u64,
        len: u64,
        host_len: u64,
        host: u64,
        access: Access,
        execute: Execute,
    },
    Unmap {
        gpa: u64,
        len: u64,
    },
    /// Unmaps the slot at this place (modulo their number).
    UnmapSlot(usize),
    /// The other process follows now.
    Follow,
}

fn step() -> impl Strategy<Value = Step> {
    let lens = prop_oneof![
        12 => (0u64..4).prop_map(|len| (len, len)),
        1 => (0u64..4, 0u64..4),
    ];
    let execute = prop_oneof![12 => Just(Execute::Allowed), 1 => Just(Execute::Denied)];
    let map = (0..PAGES, lens, 0..PAGES, any::<bool>(), execute);
    prop_oneof![
        6 => map.prop_map(|(gpa, (len, host_len), host, writable, execute)| {
            let access = Access::from_writable(writable);
            Step::Map { gpa, len, host_len, host, access, execute }
        }),
        2 => (0..PAGES, 0u64..4).prop_map(|(gpa, len)| Step::Unmap { gpa, len }),
        4 => any::<usize>().prop_map(Step::UnmapSlot),
        2 => Just(Step::Follow),
    ]
}

/// What kind of a refusal it is; the words name the partition.
fn kind<E>(result: Result<(), E>) -> Option<Discriminant<E>> {
    result.err().map(|error| std::mem::discriminant(&error))
}

proptest! {
    /// The ledger says what a partition in this process would say, and when the other one has followed,
    /// the partition there has what the one here has; nothing that was passed on fails there.
    #[test]
    fn the_ledger_is_as_good_as_the_partition(steps in prop::collection::vec(step(), 1..60)) {
        const LIMIT: u32 = 4;
        let (here, there) = (memory(PAGES + 4), memory(PAGES + 4));
        let options = SoftwareOptions::new().max_slots(LIMIT);
        let model = SoftwarePartition::with_options(options.clone());
        let guest = Arc::new(SoftwarePartition::with_options(options));
        let mut held = HeldSlots::new(guest.clone());
        let (vm, wire) = forwarded(&here, ForwardedOptions::new("vm").slots(LIMIT.into()));
        for step in steps.into_iter().chain([Step::Follow]) {
            let unmap = match step {
                Step::Map { gpa, len, host_len, host: page, access, execute } => {
                    let (gpa, host) = (pages(gpa, gpa + len), host(&here, page, host_len));
                    let permissions = Permissions { access, execute };
                    // SAFETY: the range holds a share of its reservation, and each of the partitions
                    // of the range.
                    let by_ledger = unsafe { vm.map(gpa, &host, permissions) };
                    // SAFETY: as above.
                    let by_model = unsafe { model.map(gpa, &host, permissions) };
                    prop_assert_eq!(kind(by_ledger), kind(by_model));
                    None
                }
                Step::Unmap { gpa, len } => Some(pages(gpa, gpa + len)),
                Step::UnmapSlot(index) => {
                    let slots = model.slots();
                    let index = index.checked_rem(slots.len()).unwrap_or(0);
                    slots.get(index).map(|slot| slot.gpa)
                }
                Step::Follow => {
                    for told in wire.take() {
                        match told {
                            Told::Add(gpa, view, permissions) => {
                                let host = HostRange::new(there.clone(), view, gpa.len()).unwrap();
                                held.add(gpa, &host, permissions).unwrap();
                            }
                            Told::Remove(gpa) => held.remove(gpa).unwrap(),
                        }
                    }
                    prop_assert_eq!(places(&guest.slots()), places(&model.slots()));
                    prop_assert_eq!(held.len(), model.slots().len());
                    None
                }
            };
            if let Some(gpa) = unmap {
                prop_assert_eq!(kind(vm.unmap(gpa)), kind(model.unmap(gpa)));
            }
            prop_assert_eq!(vm.slots(), model.slots());
            let budget = vm.slot_budget().unwrap();
            prop_assert_eq!((budget.limit(), budget.used()), (LIMIT.into(), vm.slots().len() as u64));
        }
        drop(held);
        prop_assert_eq!(guest.slots(), vec![]);
        prop_assert_eq!(guest.broken_rules(), vec![]);
        prop_assert_eq!(Arc::strong_count(&there), 1);
    }
}
