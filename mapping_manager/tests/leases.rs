//! Leases across every kind of change, and what they refuse.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{
    AccessError, Cause, DirtyBitmap, Lease, LeaseAccess, LeaseError, Operation, VaMapper,
};
use memory_range::{Access, MemoryRange};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sparse_alloc::{Alignment, Backing, HostRange, Mappable, RomImage, SharedMemory};
use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const READ: LeaseAccess = LeaseAccess::Read;
const WRITE: LeaseAccess = LeaseAccess::Write;
const SPACE: u64 = 0x10_0000;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

fn new_mapper() -> Arc<VaMapper> {
    VaMapper::new("guest", SPACE, Alignment::Page).unwrap()
}

/// Memory of two pages that says in every word which it is.
fn filled(name: &str, word: u64) -> SharedMemory {
    let memory = SharedMemory::new(name, 0x2000).unwrap();
    let all = HostRange::new(memory.linear_view().clone(), 0, 0x2000).unwrap();
    all.write(0, &word.to_le_bytes().repeat(0x400)).unwrap();
    memory
}

/// The word at an offset of a memory, whatever is mapped.
fn word_of(memory: &SharedMemory, offset: u64) -> u64 {
    let view = HostRange::new(memory.linear_view().clone(), offset, 8).unwrap();
    let mut bytes = [0; 8];
    view.read(0, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

fn word_in(lease: &Lease, offset: u64) -> u64 {
    let mut bytes = [0; 8];
    lease.read(offset, &mut bytes).unwrap();
    u64::from_le_bytes(bytes)
}

/// The read and write leases that inspection counts for a backing.
fn counts(mapper: &VaMapper, backing: &str) -> Vec<(u64, u64, bool)> {
    let tree = inspect::inspect(mapper).to_json();
    let tree: serde_json::Value = serde_json::from_str(&tree.to_string()).unwrap();
    let backings = tree["leases"]["backings"].as_object().unwrap();
    let of_backing = backings.values().filter(|node| node["name"] == backing);
    let counts = of_backing.map(|node| {
        (
            node["read_leases"].as_u64().unwrap(),
            node["write_leases"].as_u64().unwrap(),
            node["mapped"].as_bool().unwrap(),
        )
    });
    counts.collect()
}

const A: u64 = 0xaaaa_aaaa_aaaa_aaaa;
const B: u64 = 0xbbbb_bbbb_bbbb_bbbb;

/// Takes a write lease on memory A, makes a change, and checks that the lease means A still: what
/// it reads, what it writes, and that nothing else is written.
fn check_change(change: impl FnOnce(&Arc<VaMapper>, &Backing, &Backing)) {
    let (a, b) = (filled("a", A), filled("b", B));
    let (of_a, of_b) = (Backing::from(&a), Backing::from(&b));
    let mapper = new_mapper();
    mapper.map(range(0x4000, 0x6000), &of_a, 0, RW).unwrap();
    let memory = mapper.guest_memory();
    let write = memory.lock(0x4ff0..0x5010, WRITE).unwrap();
    let read = memory.lock(range(0x4000, 0x6000), READ).unwrap();
    let addresses = |lease: &Lease| {
        lease
            .slices()
            .map(|slice| slice.as_ptr())
            .collect::<Vec<_>>()
    };
    let before = (addresses(&write), addresses(&read));
    change(&mapper, &of_a, &of_b);
    assert_eq!((addresses(&write), addresses(&read)), before);
    assert_eq!(word_in(&write, 0), A);
    write.write(0x10, &7_u64.to_le_bytes()).unwrap();
    assert_eq!(word_of(&a, 0x1000), 7, "it reached the backing");
    assert_eq!(word_in(&read, 0x1000), 7, "the other lease sees it");
    for offset in (0..0x2000).step_by(8) {
        assert_eq!(word_of(&b, offset), B, "nothing else was written");
    }
    assert_eq!(
        counts(&mapper, "a")
            .iter()
            .map(|count| count.0)
            .sum::<u64>(),
        1
    );
    assert_eq!(
        counts(&mapper, "a")
            .iter()
            .map(|count| count.1)
            .sum::<u64>(),
        1
    );
    drop((write, read));
    assert!(
        counts(&mapper, "a")
            .iter()
            .all(|count| (count.0, count.1) == (0, 0))
    );
}

#[test]
fn a_lease_survives_no_change() {
    check_change(|_, _, _| {});
}

#[test]
fn a_lease_survives_unmapping() {
    check_change(|mapper, _, _| mapper.unmap(range(0x4000, 0x6000)).unwrap());
}

#[test]
fn a_lease_survives_unmapping_of_a_part() {
    check_change(|mapper, _, _| mapper.unmap(range(0x5000, 0x6000)).unwrap());
}

#[test]
fn a_lease_survives_replacement() {
    check_change(|mapper, _, b| mapper.map(range(0x4000, 0x6000), b, 0, RW).unwrap());
}

#[test]
fn a_lease_survives_replacement_by_another_part_of_the_same() {
    check_change(|mapper, a, _| {
        mapper.map(range(0x4000, 0x5000), a, 0x1000, RW).unwrap();
        mapper.map(range(0x5000, 0x6000), a, 0, RW).unwrap();
    });
}

#[test]
fn a_write_lease_survives_protection() {
    check_change(|mapper, _, _| mapper.protect(range(0x4000, 0x6000), RO).unwrap());
}

#[test]
fn a_lease_survives_a_move() {
    check_change(|mapper, a, b| {
        mapper.unmap(range(0x4000, 0x6000)).unwrap();
        mapper.map(range(0x8000, 0xa000), a, 0, RW).unwrap();
        mapper.map(range(0x4000, 0x6000), b, 0, RW).unwrap();
    });
}

#[test]
fn a_lease_survives_many_changes() {
    check_change(|mapper, a, b| {
        for _ in 0..100 {
            mapper.map(range(0x4000, 0x6000), b, 0, RO).unwrap();
            mapper.unmap(range(0x4000, 0x6000)).unwrap();
            mapper.map(range(0x4000, 0x6000), a, 0, RO).unwrap();
        }
    });
}

#[test]
fn a_lease_survives_undoing() {
    check_change(|mapper, a, b| {
        mapper.map(range(0x4000, 0x6000), b, 0, RO).unwrap();
        mapper.undo().map(range(0x4000, 0x6000), a, 0, RW).unwrap();
    });
}

/// Everyone else who knows the memory goes: the lease keeps it, and gives it back.
#[test]
fn a_lease_outlives_mapper_memory_and_backing_and_leaves_nothing_behind() {
    const NAME: &str = "lease-leak-check";
    // The name of the memory's descriptor and of its linear view.
    let open = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap();
        let names = fds.filter_map(|fd| std::fs::read_link(fd.unwrap().path()).ok());
        names
            .filter(|name| name.to_string_lossy().contains(NAME))
            .count()
    };
    let mapped = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().filter(|line| line.contains(NAME)).count()
    };
    let leases = {
        let ram = filled(NAME, A);
        let mapper = new_mapper();
        mapper
            .map(range(0x4000, 0x6000), &Backing::from(&ram), 0, RW)
            .unwrap();
        let memory = mapper.guest_memory();
        [
            memory.lock(0x4100..0x4200, WRITE).unwrap(),
            memory.lock(0x5100..0x5200, READ).unwrap(),
        ]
    };
    assert_eq!(
        (open(), mapped()),
        (1, 1),
        "the descriptor and the linear view"
    );
    let [write, read] = leases;
    write.write(0, &5_u64.to_le_bytes()).unwrap();
    assert_eq!((word_in(&write, 0), word_in(&read, 0)), (5, A));
    // It can be dropped anywhere.
    thread::spawn(move || drop(write)).join().unwrap();
    assert_eq!((open(), mapped(), word_in(&read, 0)), (1, 1, A));
    drop(read);
    assert_eq!((open(), mapped()), (0, 0));

    // In the other order: the mapping goes last.
    let ram = filled(NAME, A);
    let mapper = new_mapper();
    mapper
        .map(range(0x4000, 0x6000), &Backing::from(&ram), 0, RW)
        .unwrap();
    drop(ram);
    drop(mapper.guest_memory().lock(0x4000..0x6000, READ).unwrap());
    assert_eq!(open(), 1);
    mapper.unmap(range(0x4000, 0x6000)).unwrap();
    assert_eq!((open(), mapped()), (0, 0));

    // The lease goes last, while the mapper lives.
    let ram = filled(NAME, A);
    mapper
        .map(range(0x4000, 0x6000), &Backing::from(&ram), 0, RW)
        .unwrap();
    drop(ram);
    let lease = mapper.guest_memory().lock(0x4000..0x6000, READ).unwrap();
    mapper.unmap(range(0x4000, 0x6000)).unwrap();
    assert_eq!(counts(&mapper, NAME), [(1, 0, false)]);
    assert_eq!(open(), 1);
    drop(lease);
    assert_eq!((open(), mapped()), (0, 0));
    assert_eq!(counts(&mapper, NAME), []);
}

#[test]
fn slices_follow_the_backings() {
    let (a, b, c) = (filled("a", A), filled("b", B), filled("c", 0));
    let mapper = new_mapper();
    let (of_a, of_b, of_c) = (Backing::from(&a), Backing::from(&b), Backing::from(&c));
    mapper.map(range(0x1000, 0x3000), &of_a, 0, RW).unwrap();
    mapper.map(range(0x3000, 0x5000), &of_b, 0, RW).unwrap();
    // Two pages of C in the wrong order.
    mapper
        .map(range(0x5000, 0x6000), &of_c, 0x1000, RW)
        .unwrap();
    mapper.map(range(0x6000, 0x7000), &of_c, 0, RW).unwrap();
    let memory = mapper.guest_memory();
    let lease = memory.lock(0x2f00..0x6100, WRITE).unwrap();
    let pieces: Vec<_> = lease
        .slices()
        .map(|slice| (slice.gpa(), slice.len()))
        .collect();
    assert_eq!(
        pieces,
        [
            (0x2f00, 0x100),
            (0x3000, 0x2000),
            (0x5000, 0x1000),
            (0x6000, 0x100)
        ]
    );
    assert_eq!((lease.gpa_range(), lease.len()), (0x2f00..0x6100, 0x3200));
    for name in ["a", "b", "c"] {
        assert_eq!(
            counts(&mapper, name),
            [(0, 1, true)],
            "once, whatever its slices"
        );
    }

    // Across all of them at once, and slice by slice.
    let bytes: Vec<u8> = (0..0x3200_u32)
        .flat_map(u32::to_le_bytes)
        .take(0x3200)
        .collect();
    lease.write(0, &bytes).unwrap();
    let mut through = vec![0; 0x3200];
    lease.read(0, &mut through).unwrap();
    assert!(through == bytes);
    memory.read_at(0x2f00, &mut through).unwrap();
    assert!(through == bytes);
    for slice in lease.slices() {
        let mut part = vec![0; usize::try_from(slice.len()).unwrap()];
        slice.read(0, &mut part).unwrap();
        let at = usize::try_from(slice.gpa() - 0x2f00).unwrap();
        assert!(part == bytes[at..at + part.len()]);
        slice.write(slice.len() - 1, &[0x5a]).unwrap();
        assert_eq!(
            memory
                .read_plain::<u8>(slice.gpa() + slice.len() - 1)
                .unwrap(),
            0x5a
        );
    }
    // Every part of the range, across each border.
    for (offset, len) in [
        (0xfe, 4),
        (0x20fe, 4),
        (0x30f8, 16),
        (0, 1),
        (0x31ff, 1),
        (0x3200, 0),
    ] {
        let mut bytes = vec![0; len];
        lease.read(offset, &mut bytes).unwrap();
        let mut same = vec![0; len];
        memory.read_at(0x2f00 + offset, &mut same).unwrap();
        assert_eq!(bytes, same);
    }
}

/// A range of one backing is one slice, though a part of it is protected.
#[test]
fn neighbours_in_a_backing_are_one_slice() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    mapper.protect(range(0x1000, 0x2000), RO).unwrap();
    let memory = mapper.guest_memory();
    let lease = memory.lock(0x1800..0x2800, READ).unwrap();
    assert_eq!(lease.slices().len(), 1);
    assert_eq!(counts(&mapper, "a"), [(1, 0, true)]);
    let error = memory.lock(0x1800..0x2800, WRITE).unwrap_err();
    assert!(
        matches!(error, LeaseError::ReadOnly { gpa: 0x1800, .. }),
        "{error}"
    );
    let error = memory.lock(0x1fff..0x2800, WRITE).unwrap_err();
    assert!(
        matches!(error, LeaseError::ReadOnly { gpa: 0x1fff, .. }),
        "{error}"
    );
    assert!(memory.lock(0x2000..0x2800, WRITE).is_ok());
}

#[test]
fn a_read_lease_does_not_write() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    let memory = mapper.guest_memory();
    let lease = memory.lock(0x1000..0x1010, READ).unwrap();
    let slice = lease.slices().next().unwrap();
    assert_eq!((lease.access(), slice.as_mut_ptr()), (READ, None));
    for error in [
        lease.write(8, &[1; 4]).unwrap_err(),
        slice.write(8, &[1; 4]).unwrap_err(),
    ] {
        check(&error, Operation::Write, 0x1008, 0, Cause::ReadLease);
        assert_eq!(error.memory(), "guest");
    }
    assert_eq!(word_of(&a, 8), A);
    let write = memory.lock(0x1000..0x1010, WRITE).unwrap();
    let slice = write.slices().next().unwrap();
    assert_eq!(
        slice.as_mut_ptr().map(<*mut u8>::cast_const),
        Some(slice.as_ptr())
    );
}

#[track_caller]
fn check(error: &AccessError, operation: Operation, gpa: u64, done: u64, cause: Cause) {
    let found = (error.operation(), error.gpa(), error.done(), error.cause());
    assert_eq!(found, (operation, gpa, done, cause), "{error}");
}

#[test]
fn accesses_stay_in_the_lease() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    let lease = mapper.guest_memory().lock(0x1100..0x1110, WRITE).unwrap();
    let slice = lease.slices().next().unwrap();
    let outside = Cause::OutsideLease {
        start: 0x1100,
        end: 0x1110,
    };
    for offset in [9, 0x10, 0x11, u64::MAX - 7, u64::MAX] {
        let gpa = 0x1100_u64.saturating_add(offset);
        check(
            &lease.read(offset, &mut [0; 8]).unwrap_err(),
            Operation::Read,
            gpa,
            0,
            outside,
        );
        check(
            &slice.read(offset, &mut [0; 8]).unwrap_err(),
            Operation::Read,
            gpa,
            0,
            outside,
        );
        check(
            &lease.write(offset, &[0; 8]).unwrap_err(),
            Operation::Write,
            gpa,
            0,
            outside,
        );
        check(
            &slice.write(offset, &[0; 8]).unwrap_err(),
            Operation::Write,
            gpa,
            0,
            outside,
        );
    }
    assert!(lease.read(8, &mut [0; 8]).is_ok() && lease.read(0x10, &mut []).is_ok());
    assert!(
        lease.read(0x11, &mut []).is_err(),
        "past the end is past the end"
    );
    assert_eq!((word_of(&a, 0xf8), word_of(&a, 0x110)), (A, A));
}

#[test]
fn hostile_ranges_are_refused() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0xf_e000, SPACE), &Backing::from(&a), 0, RW)
        .unwrap();
    let memory = mapper.guest_memory();
    for access in [READ, WRITE] {
        for (start, end) in [
            (SPACE, SPACE + 1),
            (SPACE - 1, SPACE + 1),
            (0, u64::MAX),
            (u64::MAX, u64::MAX),
            (u64::MAX - 1, u64::MAX),
        ] {
            let error = memory.lock(start..end, access).unwrap_err();
            let LeaseError::Outside {
                start: s,
                end: e,
                len,
                ..
            } = error
            else {
                panic!("{error}");
            };
            assert_eq!((s, e, len), (start, end, SPACE));
        }
        for (start, end) in [(1, 0), (u64::MAX, 0), (0xf_f000, 0xf_e000)] {
            let error = memory.lock(start..end, access).unwrap_err();
            assert!(matches!(error, LeaseError::Reversed { .. }), "{error}");
        }
        for (start, end, hole) in [(0, 1, 0), (0, SPACE, 0), (0xf_dfff, 0xf_e001, 0xf_dfff)] {
            let error = memory.lock(start..end, access).unwrap_err();
            let LeaseError::Hole { gpa, .. } = error else {
                panic!("{error}");
            };
            assert_eq!(gpa, hole);
        }
        // Of no bytes: anywhere up to the end, a hole included; nothing is held.
        for at in [0, 0x123, 0xf_e000, SPACE] {
            let lease = memory.lock(at..at, access).unwrap();
            assert_eq!(
                (lease.len(), lease.slices().len(), lease.access()),
                (0, 0, access)
            );
            assert!(lease.is_empty() && lease.read(0, &mut []).is_ok());
            assert!(lease.read(0, &mut [0]).is_err());
            assert_eq!(counts(&mapper, "a"), [(0, 0, true)]);
        }
        assert_eq!(memory.lock(SPACE - 1..SPACE, access).unwrap().len(), 1);
    }
    // A hole in the middle, and one at the end: the first address that is missing is named.
    mapper
        .map(range(0x1000, 0x2000), &Backing::from(&a), 0, RW)
        .unwrap();
    mapper
        .map(range(0x3000, 0x4000), &Backing::from(&a), 0, RW)
        .unwrap();
    for end in [0x2001, 0x3000, 0x4000] {
        let error = memory.lock(0x1800..end, READ).unwrap_err();
        assert!(
            matches!(error, LeaseError::Hole { gpa: 0x2000, .. }),
            "{error}"
        );
    }
    assert_eq!(
        counts(&mapper, "a"),
        [(0, 0, true)],
        "what was counted was counted out"
    );
}

#[test]
fn memory_that_nobody_else_can_hold_is_refused() {
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x2000), &Backing::Anonymous, 0, RW)
        .unwrap();
    mapper
        .map(range(0x2000, 0x3000), &Backing::Zeros, 0, RO)
        .unwrap();
    let memory = mapper.guest_memory();
    for (gpa, name) in [(0x1010, "anonymous"), (0x2020, "zeros")] {
        let error = memory.lock(gpa..gpa + 8, READ).unwrap_err();
        let LeaseError::NotShared {
            gpa: at, backing, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((at, backing.as_str()), (gpa, name));
        assert_eq!(counts(&mapper, name), [(0, 0, true)]);
    }
}

/// A file that others can resize, and a mappable of it, which has no linear view yet.
fn resizable(len: u64) -> (File, Mappable) {
    let file = File::from(memfd_create(c"resizable", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    let mappable = Mappable::from_file("resizable", &file).unwrap();
    (file, mappable)
}

#[test]
fn the_first_lease_makes_the_linear_view() {
    let (_file, mappable) = resizable(0x3000);
    let mapper = new_mapper();
    mapper
        .map(
            range(0x1000, 0x3000),
            &Backing::from(mappable.clone()),
            0x1000,
            RW,
        )
        .unwrap();
    let memory = mapper.guest_memory();
    assert!(mappable.existing_linear_view().is_none());
    let first = memory.lock(0x1800..0x1900, WRITE).unwrap();
    assert!(mappable.existing_linear_view().is_some());
    let second = memory.lock(0x1800..0x2800, READ).unwrap();
    let address = |lease: &Lease| lease.slices().next().unwrap().as_ptr();
    assert_eq!(address(&first), address(&second));
    first.write(0, b"device").unwrap();
    assert_eq!(memory.read_plain::<[u8; 6]>(0x1800).unwrap(), *b"device");
}

#[test]
fn a_truncated_file_is_an_error_that_says_where() {
    let (file, mappable) = resizable(0x3000);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x4000), &Backing::from(mappable), 0, RW)
        .unwrap();
    let lease = mapper.guest_memory().lock(0x1800..0x3800, WRITE).unwrap();
    lease.write(0, &[7; 0x2000]).unwrap();
    file.set_len(0x1000).unwrap();
    let slice = lease.slices().next().unwrap();
    let truncated = Cause::Truncated { gpa: 0x2000 };
    let mut bytes = [0; 0x1000];
    for error in [
        lease.read(0x7f0, &mut bytes).unwrap_err(),
        slice.read(0x7f0, &mut bytes).unwrap_err(),
    ] {
        check(&error, Operation::Read, 0x1ff0, 0x10, truncated);
    }
    assert_eq!(bytes[..0x10], [7; 0x10]);
    check(
        &slice.write(0x800, &[1]).unwrap_err(),
        Operation::Write,
        0x2000,
        0,
        truncated,
    );
    check(
        &lease.write(0x7ff, &[1; 2]).unwrap_err(),
        Operation::Write,
        0x1fff,
        1,
        truncated,
    );
    file.set_len(0x3000).unwrap();
    assert_eq!(word_in(&lease, 0x800), 0, "it is there again, empty");
}

#[test]
fn what_has_grown_since_the_linear_view_was_made_is_refused() {
    let (file, mappable) = resizable(0x1000);
    mappable.linear_view().unwrap();
    file.set_len(0x3000).unwrap();
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x4000), &Backing::from(mappable), 0, RW)
        .unwrap();
    let memory = mapper.guest_memory();
    assert!(memory.lock(0x1800..0x2000, READ).is_ok());
    for (start, end, first) in [(0x1800, 0x2001, 0x2000), (0x2800, 0x3000, 0x2800)] {
        let error = memory.lock(start..end, READ).unwrap_err();
        let LeaseError::PastLinearView {
            gpa, len, backing, ..
        } = error
        else {
            panic!("{error}");
        };
        assert_eq!((gpa, len, backing.as_str()), (first, 0x1000, "resizable"));
    }
    assert_eq!(counts(&mapper, "resizable"), [(0, 0, true)]);
}

#[test]
fn a_device_without_a_length_has_no_lease() {
    let file = File::options()
        .read(true)
        .write(true)
        .open("/dev/zero")
        .unwrap();
    let mappable = match Mappable::from_file("zero", &file) {
        Ok(mappable) => mappable,
        Err(error) => {
            let _ = writeln!(
                std::io::stderr(),
                "skipped: /dev/zero cannot be mapped: {error}"
            );
            return;
        }
    };
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x2000), &Backing::from(mappable), 0, RW)
        .unwrap();
    let error = mapper
        .guest_memory()
        .lock(0x1010..0x1020, READ)
        .unwrap_err();
    assert!(
        matches!(error, LeaseError::NoLinearView { gpa: 0x1010, .. }),
        "{error}"
    );
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(counts(&mapper, "zero"), [(0, 0, true)]);
}

/// A ROM's linear view can be written, by the loader; through a lease it cannot.
#[test]
fn a_rom_has_read_leases_only() {
    let rom = RomImage::from_bytes("rom", &[0x90; 0x1000]).unwrap();
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x2000), &Backing::from(&rom), 0, RO)
        .unwrap();
    let memory = mapper.guest_memory();
    assert_eq!(
        word_in(&memory.lock(0x1000..0x1008, READ).unwrap(), 0),
        u64::from_le_bytes([0x90; 8])
    );
    let error = memory.lock(0x1000..0x1008, WRITE).unwrap_err();
    assert!(
        matches!(error, LeaseError::ReadOnly { gpa: 0x1000, .. }),
        "{error}"
    );
}

#[test]
fn inspection_counts_leases_and_shows_the_names_that_were_given() {
    let (a, b) = (filled("a", A), filled("b", B));
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    mapper
        .map(range(0x3000, 0x5000), &Backing::from(&b), 0, RW)
        .unwrap();
    let memory = mapper.guest_memory();
    let disk = memory.lock_named(0x1000..0x1200, WRITE, "disk 0").unwrap();
    let unnamed = memory.lock(0x1000..0x4000, READ).unwrap();
    let net = memory.lock_named(0x3fff..0x4001, READ, "net").unwrap();
    mapper.unmap(range(0x3000, 0x5000)).unwrap();
    expect_test::expect![[r#"
        backings:
          0: {mapped: true, name: a, read_leases: 1, write_leases: 1}
          1: {mapped: false, name: b, read_leases: 2, write_leases: 0}
        holders:
          0: {access: write, name: disk 0, range: 0x1000-0x1200}
          1: {access: read, name: net, range: 0x3fff-0x4001}
    "#]]
    .assert_eq(&leases_text(&mapper));
    drop((disk, unnamed));
    // It shows again, with the lease that it has kept.
    mapper
        .map(range(0x8000, 0xa000), &Backing::from(&b), 0, RW)
        .unwrap();
    expect_test::expect![[r#"
        backings:
          0: {mapped: true, name: a, read_leases: 0, write_leases: 0}
          1: {mapped: true, name: b, read_leases: 1, write_leases: 0}
        holders:
          0: {access: read, name: net, range: 0x3fff-0x4001}
    "#]]
    .assert_eq(&leases_text(&mapper));
    // A holder's name outlives the mapper with its lease.
    drop((mapper, memory));
    drop(net);
}

/// One line for each backing and each holder.
fn leases_text(mapper: &VaMapper) -> String {
    let tree = inspect::inspect(mapper).to_json();
    let tree: serde_json::Value = serde_json::from_str(&tree.to_string()).unwrap();
    let mut text = String::new();
    for list in ["backings", "holders"] {
        text.push_str(&format!("{list}:\n"));
        for (index, item) in tree["leases"][list].as_object().unwrap() {
            let fields: std::collections::BTreeMap<_, _> =
                item.as_object().unwrap().iter().collect();
            let fields: Vec<_> = fields
                .into_iter()
                .map(|(name, value)| format!("{name}: {value}").replace('"', ""))
                .collect();
            text.push_str(&format!("  {index}: {{{}}}\n", fields.join(", ")));
        }
    }
    text
}

/// A view of a part counts addresses from its own start.
#[test]
fn a_view_of_a_part_leases_its_own() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    let part = mapper.guest_memory().subrange(0x1100..0x1200).unwrap();
    let lease = part.lock(0x10..0x20, WRITE).unwrap();
    assert_eq!(lease.gpa_range(), 0x1110..0x1120);
    lease.write(0, &1_u64.to_le_bytes()).unwrap();
    assert_eq!(word_of(&a, 0x110), 1);
    assert_eq!(part.lock(0..0x100, READ).unwrap().len(), 0x100);
    let error = part.lock(0..0x101, READ).unwrap_err();
    assert!(
        matches!(error, LeaseError::Outside { len: 0x100, .. }),
        "{error}"
    );
}

/// What is written through a lease of a tracked view is marked: at once if the lease writes it, and
/// all of it when it is dropped, since others may have been given its address.
#[test]
fn a_lease_of_a_tracked_view_marks_its_pages() {
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    let outer = Arc::new(DirtyBitmap::new(mapper.space()).unwrap());
    let inner = Arc::new(DirtyBitmap::new(mapper.space()).unwrap());
    let memory = mapper.guest_memory().tracked(inner.clone()).unwrap();
    let memory = memory.tracked(outer.clone()).unwrap();
    let marked = || {
        let inner = inner.take(mapper.space());
        assert_eq!(outer.take(mapper.space()), inner, "both bitmaps");
        inner
    };
    drop(memory.lock(0x1000..0x3000, READ).unwrap());
    assert_eq!(marked(), []);
    let lease = memory.lock(0x1800..0x2800, WRITE).unwrap();
    assert_eq!(marked(), []);
    lease.write(0, &[1]).unwrap();
    assert_eq!(marked(), [range(0x1000, 0x2000)]);
    lease.slices().next().unwrap().write(0xfff, &[1]).unwrap();
    assert_eq!(marked(), [range(0x2000, 0x3000)]);
    lease.write(0x7ff, &[1, 1]).unwrap();
    assert_eq!(marked(), [range(0x1000, 0x3000)]);
    drop(lease);
    assert_eq!(marked(), [range(0x1000, 0x3000)]);
}

/// Two threads take leases while 10,000 changes are made under them. Each lease holds one memory or
/// the other, or meets a hole; and in the end every one was counted out.
#[test]
fn leases_against_ten_thousand_changes() {
    let mapper = new_mapper();
    let (a, b) = (filled("a", A), filled("b", B));
    let (of_a, of_b) = (Backing::from(&a), Backing::from(&b));
    let window = range(0x4000, 0x6000);
    // Neighbours, so that the table's entries move.
    mapper.map(range(0x2000, 0x4000), &of_a, 0, RO).unwrap();
    mapper.map(range(0x6000, 0x8000), &of_b, 0, RO).unwrap();
    mapper.map(window, &of_a, 0, RW).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let takers: Vec<_> = [READ, WRITE]
            .into_iter()
            .map(|access| {
                let (memory, done) = (mapper.guest_memory(), &done);
                scope.spawn(move || {
                    let mut seen = [0_u64; 4];
                    let mut kept: Option<(Lease, u64)> = None;
                    while !done.load(Ordering::Relaxed) || seen[..2].contains(&0) {
                        match memory.lock(0x4ff8..0x5008, access) {
                            Ok(lease) => {
                                let word = word_in(&lease, 0);
                                // The same in all of the lease, and for as long as it lives.
                                assert!(word == A || word == B, "{word:#x}");
                                assert!(lease.slices().len() == 1 && word_in(&lease, 8) == word);
                                seen[usize::from(word == B)] += 1;
                                if let Some((lease, word)) = kept.replace((lease, word)) {
                                    assert_eq!(word_in(&lease, 0), word);
                                }
                            }
                            Err(LeaseError::Hole { .. }) => seen[2] += 1,
                            Err(LeaseError::ReadOnly { .. }) if access == WRITE => seen[3] += 1,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    seen
                })
            })
            .collect();
        let change = |round: u64| match round % 5 {
            0 => mapper.map(window, &of_b, 0, RW).unwrap(),
            1 => mapper.protect(window, RO).unwrap(),
            2 => mapper.unmap(window).unwrap(),
            3 => mapper.map(window, &of_a, 0, RW).unwrap(),
            _ => mapper
                .map(range(0x5000, 0x6000), &of_a, 0x1000, RW)
                .unwrap(),
        };
        (0..10_000).for_each(change);
        done.store(true, Ordering::Relaxed);
        // Leave no state for long, so that the others see both.
        let mut round = 0;
        while !takers.iter().all(thread::ScopedJoinHandle::is_finished) {
            change(round);
            round += 1;
        }
        for taker in takers {
            let seen = taker.join().unwrap();
            assert!(seen[0] > 0 && seen[1] > 0, "{seen:?}");
        }
    });
    assert_eq!(counts(&mapper, "a"), [(0, 0, true)]);
    assert_eq!(counts(&mapper, "b"), [(0, 0, true)]);
}

/// The backings themselves come and go: each lease keeps its own alive.
#[test]
fn leases_of_backings_that_come_and_go() {
    let mapper = new_mapper();
    let window = range(0x4000, 0x6000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let takers: Vec<_> = (0..2)
            .map(|_| {
                let (memory, done) = (mapper.guest_memory(), &done);
                scope.spawn(move || {
                    let mut kept: Vec<(Lease, u64)> = Vec::new();
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let Ok(lease) = memory.lock(0x4ff8..0x5008, READ) else {
                            continue;
                        };
                        let word = word_in(&lease, 0);
                        assert!(word >= last, "no backing of before comes back");
                        assert_eq!(word_in(&lease, 8), word);
                        last = word;
                        kept.push((lease, word));
                        if kept.len() > 8 {
                            let (lease, word) = kept.remove(0);
                            assert_eq!(word_in(&lease, 0), word);
                        }
                    }
                    last
                })
            })
            .collect();
        for number in 1..=1000_u64 {
            let backing = Backing::from(&filled("one of many", number));
            mapper.map(window, &backing, 0, RW).unwrap();
            if number % 7 == 0 {
                mapper.unmap(window).unwrap();
            }
        }
        done.store(true, Ordering::Relaxed);
        for taker in takers {
            taker.join().unwrap();
        }
    });
    mapper.unmap(window).unwrap();
    assert_eq!(counts(&mapper, "one of many"), []);
}

/// Takes leases in a process that may make no system call but to end.
#[test]
fn a_lease_on_ram_makes_no_system_call() {
    const REFUSED: i32 = 3;
    let a = filled("a", A);
    let mapper = new_mapper();
    mapper
        .map(range(0x1000, 0x3000), &Backing::from(&a), 0, RW)
        .unwrap();
    let memory = mapper.guest_memory();
    // SAFETY: the child allocates nothing, takes no lock, and ends by a system call.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        // SAFETY: it only forbids what this process may do.
        let strict = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_STRICT) };
        let mut status = if strict == 0 { 0 } else { REFUSED };
        for gpa in (0x1000..0x2f00).step_by(0x100) {
            for access in [READ, WRITE] {
                match memory.lock(gpa..gpa + 0x100, access) {
                    Ok(lease) if lease.len() == 0x100 => {}
                    _ => status = 1,
                }
            }
        }
        // SAFETY: it ends this process, without running anything else (`exit_group` is forbidden).
        unsafe { libc::syscall(libc::SYS_exit, status) };
    }
    let mut status = 0;
    // SAFETY: `status` is a place for the answer.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == REFUSED {
        let _ = writeln!(
            std::io::stderr(),
            "skipped: the strict mode of seccomp is refused here"
        );
        return;
    }
    assert!(
        libc::WIFEXITED(status),
        "killed by a system call: {status:#x}"
    );
    assert_eq!(libc::WEXITSTATUS(status), 0);
}
