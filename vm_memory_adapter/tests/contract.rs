//! What vm-memory's traits promise, kept by both kinds of snapshot.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::RamVisibility;
use std::error::Error;
use std::sync::atomic::Ordering;
use support::{GAP, LOW_END, RAM_END, pc, segment, set};
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError, GuestMemoryRegion,
    MemoryRegionAddress, Permissions,
};
use vm_memory_adapter::{AccessView, BackendSnapshot, ReadOnlyMemory, SnapshotOptions, View};

const PAGE: usize = 0x1000;

fn at(gpa: u64) -> GuestAddress {
    GuestAddress(gpa)
}

/// What both kinds answer alike, in memory that can be written.
fn keeps_the_contract(memory: &impl GuestMemory) {
    let last = LOW_END - 1;
    // All of it, over what were borders between regions.
    let text: Vec<u8> = (0..2 * PAGE).map(|n| (n % 251) as u8).collect();
    memory.write_slice(&text, at(0x9_f800)).unwrap();
    let mut back = vec![0; text.len()];
    memory.read_slice(&mut back, at(0x9_f800)).unwrap();
    assert_eq!(back, text);

    // Part of it, at a hole: what comes before is done, and counted.
    let mut bytes = [0; 8];
    memory.write_slice(&[7; 4], at(LOW_END - 4)).unwrap();
    assert_eq!(memory.read(&mut bytes, at(LOW_END - 4)).unwrap(), 4);
    assert_eq!(bytes, [7, 7, 7, 7, 0, 0, 0, 0]);
    assert_eq!(memory.write(&[9; 8], at(LOW_END - 2)).unwrap(), 2);
    assert!(matches!(
        memory.read_slice(&mut bytes, at(LOW_END - 3)),
        Err(GuestMemoryError::PartialBuffer {
            expected: 8,
            completed: 3
        })
    ));
    assert!(matches!(
        memory.write_obj(1_u64, at(LOW_END - 1)),
        Err(GuestMemoryError::PartialBuffer {
            expected: 8,
            completed: 1
        })
    ));

    // None of it: in a hole, past the end, at the end of all addresses.
    for gpa in [LOW_END, GAP.end() - 1, RAM_END, u64::MAX, u64::MAX - 3] {
        assert!(
            matches!(
                memory.read(&mut bytes, at(gpa)),
                Err(GuestMemoryError::InvalidGuestAddress(GuestAddress(bad))) if bad == gpa
            ),
            "{gpa:#x}"
        );
        assert!(matches!(
            memory.load::<u32>(at(gpa), Ordering::Acquire),
            Err(GuestMemoryError::InvalidGuestAddress(_))
        ));
        assert!(!memory.check_range(at(gpa), 1, Permissions::Read));
    }

    // No bytes: nothing is touched, so nothing can be wrong.
    for gpa in [0, LOW_END, u64::MAX] {
        assert_eq!(memory.read(&mut [], at(gpa)).unwrap(), 0);
        assert_eq!(memory.write(&[], at(gpa)).unwrap(), 0);
        assert!(memory.check_range(at(gpa), 0, Permissions::ReadWrite));
        let mut none = memory.get_slices(at(gpa), 0, Permissions::Read).unwrap();
        assert!(none.next().is_none());
    }

    // Slices cover exactly what was asked for, and end with the first error.
    let slices = memory.get_slices(at(LOW_END - 6), 8, Permissions::Read);
    let slices: Vec<_> = slices.unwrap().collect();
    assert_eq!(slices.len(), 2);
    assert_eq!(slices[0].as_ref().unwrap().len(), 6);
    assert!(slices[1].is_err());
    assert!(memory.check_range(at(0), LOW_END as usize, Permissions::ReadWrite));
    assert!(!memory.check_range(at(0), LOW_END as usize + 1, Permissions::Read));
    assert!(!memory.check_range(at(last), usize::MAX, Permissions::Read));

    // Atomics: whole words, aligned; anything else is an error and no torn access.
    memory
        .store(0x0102_0304_0506_0708_u64, at(0x2000), Ordering::Release)
        .unwrap();
    assert_eq!(
        memory.load::<u64>(at(0x2000), Ordering::Acquire).unwrap(),
        0x0102_0304_0506_0708
    );
    assert_eq!(
        memory.load::<u16>(at(0x2002), Ordering::Acquire).unwrap(),
        0x0506
    );
    for gpa in [0x2001, 0x2004, LOW_END - 4] {
        assert!(
            matches!(
                memory.load::<u64>(at(gpa), Ordering::Acquire),
                Err(GuestMemoryError::InvalidBackendAddress)
            ),
            "{gpa:#x}"
        );
        assert!(memory.store(0_u64, at(gpa), Ordering::Release).is_err());
    }
    assert_eq!(memory.read_obj::<u64>(at(0x2008)).unwrap(), 0);

    // From and to streams.
    let mut source: &[u8] = b"from a stream";
    let read = memory.read_volatile_from(at(0x3000), &mut source, 64);
    assert_eq!(read.unwrap(), 13);
    let mut sink = Vec::new();
    memory
        .write_all_volatile_to(at(0x3000), &mut sink, 13)
        .unwrap();
    assert_eq!(sink, b"from a stream");
    assert!(
        memory
            .write_all_volatile_to(at(LOW_END - 1), &mut sink, 2)
            .is_err()
    );
}

#[test]
fn a_backend_snapshot_keeps_the_contract() {
    let manager = pc();
    keeps_the_contract(&*BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap());
}

#[test]
fn an_access_view_keeps_the_contract() {
    let manager = pc();
    keeps_the_contract(&*AccessView::take(&manager, &SnapshotOptions::new()).unwrap());
}

#[test]
fn what_is_written_through_a_snapshot_is_guest_memory() {
    let manager = pc();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    let memory = manager.client().guest_memory_now();
    snapshot.write_obj(0x1234_5678_u32, at(0x9_fffe)).unwrap();
    assert_eq!(memory.read_plain::<u32>(0x9_fffe).unwrap(), 0x1234_5678);
    memory.write_plain(GAP.end(), &0x55_u8).unwrap();
    assert_eq!(snapshot.read_obj::<u8>(at(GAP.end())).unwrap(), 0x55);
}

#[test]
fn regions_are_merged_as_far_as_they_go() {
    let manager = pc();
    let options = SnapshotOptions::new();
    let snapshot = BackendSnapshot::take(&manager, &options).unwrap();
    // Seventeen regions; one memfd; one gap.
    let ranges = |snapshot: &BackendSnapshot| -> Vec<(u64, u64, u64)> {
        let regions = snapshot.iter();
        let range = |one: &vm_memory_adapter::SnapshotRegion| {
            let offset = one.file_offset().unwrap().start();
            (one.start_addr().0, one.len(), offset)
        };
        regions.map(range).collect()
    };
    assert_eq!(
        ranges(&snapshot),
        [(0, LOW_END, 0), (GAP.end(), RAM_END - GAP.end(), LOW_END)]
    );
    assert_eq!(snapshot.num_regions(), 2);
    assert_eq!(snapshot.last_addr(), at(RAM_END - 1));

    set(&manager, segment(3), RamVisibility::Unmapped);
    let cut = BackendSnapshot::take(&manager, &options).unwrap();
    let hole = segment(3);
    assert_eq!(
        ranges(&cut),
        [
            (0, hole.start(), 0),
            (hole.end(), LOW_END - hole.end(), hole.end()),
            (GAP.end(), RAM_END - GAP.end(), LOW_END)
        ]
    );
}

#[test]
fn an_address_is_found_in_its_region_and_at_no_border() {
    let manager = pc();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    for (gpa, expected) in [
        (0, Some((0, 0))),
        (LOW_END - 1, Some((0, LOW_END - 1))),
        (LOW_END, None),
        (GAP.end() - 1, None),
        (GAP.end(), Some((GAP.end(), 0))),
        (RAM_END - 1, Some((GAP.end(), RAM_END - GAP.end() - 1))),
        (RAM_END, None),
        (u64::MAX, None),
    ] {
        let found = snapshot.to_region_addr(at(gpa));
        let found = found.map(|(region, into)| (region.start_addr().0, into.0));
        assert_eq!(found, expected, "{gpa:#x}");
        let found = snapshot.find_region(at(gpa));
        let start = found.map(|region| region.start_addr().0);
        assert_eq!(start, expected.map(|(start, _)| start), "{gpa:#x}");
    }
}

#[test]
fn a_region_checks_its_own_bounds() {
    let manager = pc();
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    let region = snapshot.find_region(at(GAP.end())).unwrap();
    let len = region.len();
    let into = MemoryRegionAddress;
    assert_eq!(region.get_slice(into(len - 4), 4).unwrap().len(), 4);
    assert_eq!(region.get_slice(into(len), 0).unwrap().len(), 0);
    for (offset, count) in [
        (len - 4, 5),
        (len, 1),
        (len + 1, 0),
        (0, usize::MAX),
        (u64::MAX, 1),
    ] {
        assert!(
            region.get_slice(into(offset), count).is_err(),
            "{offset:#x} {count:#x}"
        );
    }
    assert_eq!(region.as_volatile_slice().unwrap().len() as u64, len);
    let host = region.get_host_address(into(16)).unwrap();
    assert_eq!(host.addr() - region.as_ptr().addr(), 16);
    assert!(region.get_host_address(into(len)).is_err());
    region.write_obj(5_u16, into(len - 2)).unwrap();
    assert_eq!(region.read_obj::<u16>(into(len - 2)).unwrap(), 5);
    assert!(region.write_obj(5_u16, into(len - 1)).is_err());
    assert_eq!(snapshot.get_host_address(at(GAP.end() + 16)).unwrap(), host);
}

#[test]
fn read_only_memory_is_read_and_not_written() {
    let manager = pc();
    let memory = manager.client().guest_memory_now();
    let rom = segment(2);
    memory.write_plain(rom.start(), &0xabcd_u16).unwrap();
    set(&manager, rom, RamVisibility::ReadOnly);

    let view = AccessView::take(&manager, &SnapshotOptions::new()).unwrap();
    assert_eq!(view.read_obj::<u16>(at(rom.start())).unwrap(), 0xabcd);
    let error = view.write_obj(1_u16, at(rom.start())).unwrap_err();
    let source = match &error {
        GuestMemoryError::IOError(error) => error.get_ref().unwrap(),
        other => panic!("{other:?}"),
    };
    let read_only = source.downcast_ref::<ReadOnlyMemory>().unwrap();
    assert_eq!(*read_only, ReadOnlyMemory { gpa: rom.start() });
    assert!(Error::source(read_only).is_none());

    // The part before it is written.
    assert_eq!(view.write(&[3; 8], at(rom.start() - 3)).unwrap(), 3);
    assert_eq!(memory.read_plain::<u8>(rom.start() - 1).unwrap(), 3);
    assert_eq!(memory.read_plain::<u16>(rom.start()).unwrap(), 0xabcd);
    let mut over = [0; 4];
    view.read_slice(&mut over, at(rom.start() - 2)).unwrap();
    assert_eq!(over, [3, 3, 0xcd, 0xab]);

    let len = rom.len() as usize;
    assert!(view.check_range(at(rom.start()), len, Permissions::Read));
    assert!(!view.check_range(at(rom.start()), len, Permissions::Write));
    assert!(!view.check_range(at(rom.start()), 1, Permissions::ReadWrite));
    assert!(view.load::<u32>(at(rom.start()), Ordering::Relaxed).is_ok());
    assert!(
        view.store(1_u32, at(rom.start()), Ordering::Relaxed)
            .is_err()
    );

    // The other kind cannot say so, and has it not.
    let snapshot = BackendSnapshot::take(&manager, &SnapshotOptions::new()).unwrap();
    assert!(snapshot.find_region(at(rom.start())).is_none());
    assert!(snapshot.find_region(at(rom.end())).is_some());
}
