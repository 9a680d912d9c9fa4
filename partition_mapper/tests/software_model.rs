//! The software partition against a page-by-page model.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

#[path = "support/memory.rs"]
mod support;

use memory_range::{Access, MemoryRange, PAGE_SIZE};
use partition_mapper::{
    BrokenRule, GuestAccess, GuestAccessError, MapError, MmioExit, PartitionMemoryMap,
    SoftwareOptions, SoftwarePartition, UnmapError,
};
use proptest::prelude::*;
use sparse_alloc::{HostRange, MappedRegion, Reservation};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use support::{memory, pages, permissions};

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
/// Guest pages, host pages, and slots.
const PAGES: u64 = 12;
const LIMIT: u32 = 5;

/// Page `n` of the memory, `count` pages long.
fn host(memory: &Arc<Reservation>, page: u64, count: u64) -> HostRange {
    HostRange::new(memory.clone(), page * PAGE_SIZE, count * PAGE_SIZE).unwrap()
}

fn map(
    guest: &SoftwarePartition,
    gpa: MemoryRange,
    host: &HostRange,
    access: Access,
) -> Result<(), MapError> {
    // SAFETY: the range holds a share of its reservation, and the partition of the range.
    unsafe { guest.map(gpa, host, permissions(access)) }
}

#[derive(Clone, Debug)]
enum Step {
    Map {
        gpa: u64,
        len: u64,
        host: u64,
        access: Access,
    },
    Unmap {
        gpa: u64,
        len: u64,
    },
    /// Unmaps the slot at this place (modulo their number).
    UnmapSlot(usize),
    Load {
        gpa: u64,
        len: usize,
    },
    Store {
        gpa: u64,
        data: Vec<u8>,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let near_border = (0..PAGES + 2, 0u64..40)
        .prop_map(|(page, byte)| (page * PAGE_SIZE + byte).saturating_sub(20));
    let length = prop_oneof![20 => 0usize..32, 1 => 4000usize..9000];
    prop_oneof![
        3 => (0..PAGES, 0u64..4, 0..PAGES, any::<bool>()).prop_map(|(gpa, len, host, writable)| {
            Step::Map { gpa, len, host, access: Access::from_writable(writable) }
        }),
        1 => (0..PAGES, 0u64..4).prop_map(|(gpa, len)| Step::Unmap { gpa, len }),
        2 => any::<usize>().prop_map(Step::UnmapSlot),
        3 => (near_border.clone(), length.clone()).prop_map(|(gpa, len)| Step::Load { gpa, len }),
        3 => (near_border, length, any::<u8>()).prop_map(|(gpa, len, seed)| {
            let data = (0..len).map(|byte| seed.wrapping_add(byte as u8)).collect();
            Step::Store { gpa, data }
        }),
    ]
}

/// The clear version: each guest page has a slot and a host page, and the host's bytes are an
/// array.
struct Model {
    /// From the first page: page count, first host page, access.
    slots: BTreeMap<u64, (u64, u64, Access)>,
    bytes: Vec<u8>,
    broken: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            slots: BTreeMap::new(),
            bytes: vec![0; ((PAGES + 4) * PAGE_SIZE) as usize],
            broken: 0,
        }
    }

    fn page(&self, page: u64) -> Option<(u64, Access)> {
        self.slots
            .iter()
            .find(|(start, (len, ..))| (**start..**start + len).contains(&page))
            .map(|(start, (_, host, access))| (host + page - start, *access))
    }

    /// The byte of host memory behind a guest address.
    fn host_byte(&self, gpa: u64) -> Option<(u64, Access)> {
        let (page, access) = self.page(gpa / PAGE_SIZE)?;
        Some((page * PAGE_SIZE + gpa % PAGE_SIZE, access))
    }

    fn map(&mut self, gpa: u64, len: u64, host: u64, access: Access) -> bool {
        let fits = len > 0
            && (gpa..gpa + len).all(|page| self.page(page).is_none())
            && self.slots.len() < LIMIT as usize;
        if fits {
            self.slots.insert(gpa, (len, host, access));
        } else {
            self.broken += 1;
        }
        fits
    }

    fn unmap(&mut self, gpa: u64, len: u64) -> bool {
        let exact = len > 0 && self.slots.get(&gpa).is_some_and(|slot| slot.0 == len);
        if exact {
            self.slots.remove(&gpa);
        } else {
            self.broken += 1;
        }
        exact
    }

    /// For each byte: what a load finds, or `None` for an exit.
    fn load(&self, gpa: u64, len: usize) -> Vec<Option<u8>> {
        (gpa..gpa + len as u64)
            .map(|gpa| {
                let (host, _) = self.host_byte(gpa)?;
                Some(self.bytes[host as usize])
            })
            .collect()
    }

    /// For each byte: whether the store reached memory.
    fn store(&mut self, gpa: u64, data: &[u8]) -> Vec<bool> {
        (gpa..)
            .zip(data)
            .map(|(gpa, byte)| match self.host_byte(gpa) {
                Some((host, Access::ReadWrite)) => {
                    self.bytes[host as usize] = *byte;
                    true
                }
                _ => false,
            })
            .collect()
    }
}

/// The bytes that left as exits, by address; checks that exits ascend and don't overlap.
fn exited(access: &GuestAccess) -> BTreeMap<u64, Option<u8>> {
    let mut bytes = BTreeMap::new();
    let mut end = 0;
    let GuestAccess::Mmio(exits) = access else {
        return bytes;
    };
    assert!(!exits.is_empty());
    for exit in exits {
        let (gpa, data): (u64, Vec<Option<u8>>) = match exit {
            MmioExit::Read { gpa, len } => (*gpa, vec![None; *len as usize]),
            MmioExit::Write { gpa, data } => (*gpa, data.iter().copied().map(Some).collect()),
        };
        assert!(gpa >= end && !data.is_empty());
        end = gpa + data.len() as u64;
        bytes.extend((gpa..).zip(data));
    }
    bytes
}

proptest! {
    #[test]
    fn agrees_with_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let memory = memory(PAGES + 4);
        let guest = SoftwarePartition::with_options(SoftwareOptions::new().max_slots(LIMIT));
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Map { gpa, len, host: page, access } => {
                    // No host range is empty, so neither is what goes with an empty range.
                    let host = host(&memory, page, len.max(1));
                    let result = map(&guest, pages(gpa, gpa + len), &host, access);
                    prop_assert_eq!(result.is_ok(), model.map(gpa, len, page, access));
                }
                Step::Unmap { gpa, len } => {
                    let result = guest.unmap(pages(gpa, gpa + len));
                    prop_assert_eq!(result.is_ok(), model.unmap(gpa, len));
                }
                Step::UnmapSlot(nth) => {
                    let count = model.slots.len();
                    let Some((&gpa, &(len, ..))) = model.slots.iter().nth(nth % count.max(1)) else {
                        continue;
                    };
                    guest.unmap(pages(gpa, gpa + len)).unwrap();
                    prop_assert!(model.unmap(gpa, len));
                }
                Step::Load { gpa, len } => {
                    let mut buffer = vec![0xee; len];
                    let exits = exited(&guest.load(gpa, &mut buffer).unwrap());
                    for ((at, found), expected) in
                        (gpa..).zip(&buffer).zip(model.load(gpa, len))
                    {
                        prop_assert_eq!(exits.contains_key(&at), expected.is_none());
                        prop_assert_eq!(*found, expected.unwrap_or(0xee));
                    }
                }
                Step::Store { gpa, data } => {
                    let exits = exited(&guest.store(gpa, &data).unwrap());
                    for ((at, byte), done) in (gpa..).zip(&data).zip(model.store(gpa, &data)) {
                        let left = exits.get(&at).copied();
                        prop_assert_eq!(left, (!done).then_some(Some(*byte)));
                    }
                }
            }
            let slots = guest.slots();
            prop_assert_eq!(slots.len(), model.slots.len());
            for (slot, (gpa, (len, page, access))) in slots.iter().zip(&model.slots) {
                prop_assert_eq!(slot.gpa, pages(*gpa, gpa + len));
                prop_assert_eq!(slot.permissions.access, *access);
                let base = memory.base().addr().get() as u64;
                prop_assert_eq!(slot.hva, base + page * PAGE_SIZE);
                prop_assert!(slot.id < LIMIT);
            }
            prop_assert_eq!(guest.broken_rules().len(), model.broken);
        }
    }
}

#[test]
fn each_broken_rule_is_refused_and_remembered() {
    let memory = memory(8);
    let guest = SoftwarePartition::with_options(SoftwareOptions::new().max_slots(2));
    let mut expected = Vec::new();
    let mut check = |result: Result<(), String>, rule: BrokenRule, text: &str| {
        assert_eq!(result, Err(text.to_owned()));
        expected.push(rule);
        assert_eq!(guest.broken_rules(), expected);
    };
    let try_map = |gpa, host: &HostRange| map(&guest, gpa, host, RW).map_err(|e| e.to_string());
    let try_unmap = |gpa| guest.unmap(gpa).map_err(|e| e.to_string());

    try_map(pages(2, 4), &host(&memory, 0, 2)).unwrap();
    let (gpa, existing, host_len) = (pages(3, 5), pages(2, 4), 0x1000);
    check(
        try_map(gpa, &host(&memory, 0, 2)),
        BrokenRule::Overlap { gpa, existing },
        "gpa range 0x3000-0x5000 overlaps 0x2000-0x4000, which is mapped already",
    );
    check(
        try_map(gpa, &host(&memory, 0, 1)),
        BrokenRule::LengthMismatch { gpa, host_len },
        "gpa range 0x3000-0x5000 does not fit 0x1000 bytes of host memory",
    );
    let unaligned = HostRange::new(memory.clone(), 0x10, 0x2000).unwrap();
    let hva = memory.base().addr().get() as u64 + 0x10;
    check(
        try_map(pages(5, 7), &unaligned),
        BrokenRule::UnalignedHost {
            gpa: pages(5, 7),
            hva,
        },
        &format!("host address {hva:#x} for gpa 0x5000-0x7000 is not page aligned"),
    );
    check(
        try_map(pages(5, 5), &host(&memory, 0, 1)),
        BrokenRule::EmptyMap { gpa: pages(5, 5) },
        "gpa range 0x5000-0x5000 is empty",
    );
    try_map(pages(0, 1), &host(&memory, 7, 1)).unwrap();
    check(
        try_map(pages(6, 7), &host(&memory, 0, 1)),
        BrokenRule::TooManySlots {
            gpa: pages(6, 7),
            limit: 2,
        },
        "no slot is left for gpa 0x6000-0x7000: all 2 are in use",
    );
    for gpa in [pages(2, 3), pages(3, 4), pages(2, 5), pages(1, 4)] {
        check(
            try_unmap(gpa),
            BrokenRule::PartialUnmap { gpa, existing },
            &format!("gpa range {gpa} is not exactly the range 0x2000-0x4000 that was mapped"),
        );
    }
    for gpa in [pages(4, 6), pages(2, 2), MemoryRange::EMPTY] {
        check(
            try_unmap(gpa),
            BrokenRule::UnmapOfNothing { gpa },
            &format!("nothing is mapped at gpa {gpa}"),
        );
    }
    assert_eq!(guest.slots().len(), 2);
    let text = inspect::inspect(&guest).to_string();
    assert!(
        text.contains("map of 0x3000-0x5000 over 0x2000-0x4000"),
        "{text}"
    );
}

#[test]
fn memory_behind_a_slot_that_is_gone_is_an_error() {
    let memory = memory(4);
    let guest = SoftwarePartition::new();
    map(&guest, pages(0, 4), &host(&memory, 0, 4), RW).unwrap();
    memory.unmap(pages(2, 3)).unwrap();
    let mut bytes = [0; 0x3000];
    assert!(matches!(
        guest.load(0x1000, &mut bytes),
        Err(GuestAccessError::Host { gpa: 0x1000, .. })
    ));
    assert!(matches!(
        guest.store(0x2ffc, &[1; 8]),
        Err(GuestAccessError::Host { gpa: 0x2ffc, .. })
    ));
    assert_eq!(guest.store(0x3000, &[1; 8]).unwrap(), GuestAccess::Done);
}

#[test]
fn a_slot_keeps_its_addresses_reserved() {
    let guest = SoftwarePartition::new();
    let memory = memory(2);
    map(&guest, pages(0, 2), &host(&memory, 0, 2), RW).unwrap();
    let weak = Arc::downgrade(&memory);
    drop(memory);
    assert_eq!(guest.store(0, b"still there").unwrap(), GuestAccess::Done);
    guest.unmap(pages(0, 2)).unwrap();
    assert!(weak.upgrade().is_none());
}

#[test]
fn accesses_from_several_threads_see_a_slot_or_a_hole() {
    let memory = memory(2);
    let guest = SoftwarePartition::new();
    assert_eq!(guest.slots(), []);
    let bytes = host(&memory, 0, 2);
    bytes.write(0, &[0x5a; 0x2000]).unwrap();
    let done = &AtomicBool::new(false);
    let guest = &guest;
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(move || {
                    let mut seen = [0u64; 2];
                    while !done.load(Ordering::Relaxed) || seen == [0; 2] {
                        let mut buffer = [0; 64];
                        match guest.load(0xfe0, &mut buffer).unwrap() {
                            GuestAccess::Done => {
                                assert_eq!(buffer, [0x5a; 64]);
                                seen[0] += 1;
                            }
                            GuestAccess::Mmio(exits) => {
                                let all = MmioExit::Read {
                                    gpa: 0xfe0,
                                    len: 64,
                                };
                                assert_eq!((exits, buffer), (vec![all], [0; 64]));
                                seen[1] += 1;
                            }
                        }
                    }
                })
            })
            .collect();
        for turn in 0..2_000 {
            let access = if turn % 2 == 0 { RW } else { RO };
            map(guest, pages(0, 2), &bytes, access).unwrap();
            guest.unmap(pages(0, 2)).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
    assert_eq!(guest.broken_rules(), []);
    assert!(matches!(
        guest.unmap(pages(0, 2)),
        Err(UnmapError::NotMapped { .. })
    ));
}
