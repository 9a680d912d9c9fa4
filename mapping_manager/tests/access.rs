//! What an access answers, for every kind of memory it can meet.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{AccessError, Cause, GuestMemory, Operation, VaMapper};
use memory_range::{Access, MemoryRange};
use nix::sys::memfd::{MFdFlags, memfd_create};
use sparse_alloc::{Alignment, Backing, Mappable, RomImage, SharedMemory};
use std::fs::File;
use std::sync::Arc;

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;
const SPACE: u64 = 0x10_0000;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// RAM at 0x1000-0x5000, the third page of it read-only, and a hole on either side.
fn memory() -> (Arc<VaMapper>, GuestMemory, SharedMemory) {
    let ram = SharedMemory::new("ram", 0x4000).unwrap();
    let mapper = VaMapper::new("guest", SPACE, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    mapper.map(range(0x1000, 0x5000), &backing, 0, RW).unwrap();
    mapper.protect(range(0x3000, 0x4000), RO).unwrap();
    let memory = mapper.guest_memory();
    (mapper, memory, ram)
}

#[track_caller]
fn check<T: std::fmt::Debug>(result: Result<T, AccessError>, done: u64, cause: Cause) {
    let error = result.unwrap_err();
    assert_eq!((error.done(), error.cause()), (done, cause), "{error}");
}

#[test]
fn every_access_finds_what_every_other_wrote() {
    let (_, memory, _) = memory();
    memory.write_at(0x1ff9, b"seventeen bytes..").unwrap();
    let mut bytes = [0; 17];
    memory.read_at(0x1ff9, &mut bytes).unwrap();
    assert_eq!(&bytes, b"seventeen bytes..");

    memory
        .write_plain(0x1000, &0x0102_0304_0506_0708_u64)
        .unwrap();
    assert_eq!(
        memory.read_plain::<u64>(0x1000).unwrap(),
        0x0102_0304_0506_0708
    );
    assert_eq!(memory.read_plain::<u32>(0x1004).unwrap(), 0x0102_0304);
    assert_eq!(memory.read_plain::<u16>(0x1002).unwrap(), 0x0506);
    assert_eq!(memory.read_plain::<u8>(0x1007).unwrap(), 0x01);
    assert_eq!(memory.read_plain::<[u8; 3]>(0x1000).unwrap(), [8, 7, 6]);
    // Unaligned is fine, across a page too.
    memory.write_plain(0x1ffd, &0xaabb_ccdd_u32).unwrap();
    assert_eq!(memory.read_plain::<u32>(0x1ffd).unwrap(), 0xaabb_ccdd);
    memory.write_plain(0x2003, &[1_u16, 2, 3, 4, 5]).unwrap();
    assert_eq!(
        memory.read_plain::<[u16; 5]>(0x2003).unwrap(),
        [1, 2, 3, 4, 5]
    );

    memory.fill_at(0x1f00, 0x5a, 0x200).unwrap();
    assert_eq!(
        memory.read_plain::<[u8; 0x200]>(0x1f00).unwrap(),
        [0x5a; 0x200]
    );

    memory.write_plain(0x2010, &7_u64).unwrap();
    assert_eq!(memory.compare_exchange(0x2010, 6_u32, 8).unwrap(), Err(7));
    assert_eq!(memory.compare_exchange(0x2010, 7_u32, 8).unwrap(), Ok(7));
    assert_eq!(memory.read_plain::<u32>(0x2010).unwrap(), 8);
    assert_eq!(memory.compare_exchange(0x2010, 8_u8, 1).unwrap(), Ok(8));
    assert_eq!(memory.compare_exchange(0x2010, 1_u16, 2).unwrap(), Ok(1));
    assert_eq!(memory.compare_exchange(0x2010, 2_u64, 3).unwrap(), Ok(2));
}

#[test]
fn a_hole_says_where_it_begins_and_what_was_done() {
    let (_, memory, _) = memory();
    for before in 0..=16 {
        let gpa = 0x5000 - before;
        let hole = Cause::Hole { gpa: 0x5000 };
        check(memory.read_at(gpa, &mut [0; 24]), before, hole);
        check(memory.write_at(gpa, &[1; 24]), before, hole);
        check(memory.fill_at(gpa, 2, 24), before, hole);
        if before < 8 {
            check(memory.read_plain::<u64>(gpa), before, hole);
        }
    }
    // From below: the first byte is in the hole.
    check(
        memory.read_plain::<u32>(0xffe),
        0,
        Cause::Hole { gpa: 0xffe },
    );
    check(
        memory.compare_exchange(0x8000, 0_u32, 1),
        0,
        Cause::Hole { gpa: 0x8000 },
    );
}

#[test]
fn what_was_done_before_a_hole_is_really_done() {
    let (_, memory, _) = memory();
    memory.write_at(0x4ff8, &[1, 2, 3, 4, 5, 6, 7, 8]).unwrap();
    let mut bytes = [0xee; 16];
    check(
        memory.read_at(0x4ffb, &mut bytes),
        5,
        Cause::Hole { gpa: 0x5000 },
    );
    assert_eq!(bytes[..5], [4, 5, 6, 7, 8]);
    check(
        memory.write_at(0x4ffd, &[9; 16]),
        3,
        Cause::Hole { gpa: 0x5000 },
    );
    assert_eq!(
        memory.read_plain::<[u8; 8]>(0x4ff8).unwrap(),
        [1, 2, 3, 4, 5, 9, 9, 9]
    );
}

#[test]
fn read_only_memory_reads_and_refuses_writes() {
    let (_, memory, _) = memory();
    assert_eq!(memory.read_plain::<u64>(0x3000).unwrap(), 0);
    let read_only = Cause::ReadOnly { gpa: 0x3000 };
    check(memory.write_plain(0x3000, &1_u64), 0, read_only);
    check(memory.write_at(0x2ffa, &[1; 16]), 6, read_only);
    check(memory.fill_at(0x2fff, 1, 2), 1, read_only);
    check(memory.compare_exchange(0x3000, 0_u64, 1), 0, read_only);
    // Not even where the comparison fails.
    check(memory.compare_exchange(0x3000, 5_u64, 1), 0, read_only);
    assert_eq!(memory.read_plain::<u64>(0x3000).unwrap(), 0);
}

#[test]
fn the_end_of_the_address_space_is_checked_without_overflow() {
    let (_, memory, _) = memory();
    let end = Cause::OutOfRange { end: SPACE };
    for gpa in [
        SPACE,
        SPACE - 3,
        SPACE + 1,
        u64::MAX,
        u64::MAX - 3,
        1 << 63,
        1 << 32,
    ] {
        check(memory.read_plain::<u32>(gpa), 0, end);
        check(memory.write_plain(gpa, &0_u32), 0, end);
        check(memory.read_at(gpa, &mut [0; 4]), 0, end);
        check(memory.write_at(gpa, &[0; 4]), 0, end);
        check(memory.fill_at(gpa, 0, 4), 0, end);
        check(memory.compare_exchange(gpa, 0_u32, 0), 0, end);
        check(memory.write_read_only_at(gpa, &[0; 4]), 0, end);
    }
    check(memory.fill_at(0x1000, 0, u64::MAX), 0, end);
    check(memory.fill_at(u64::MAX, 0, u64::MAX), 0, end);
    // No bytes: fine up to the end, and nowhere past it.
    for gpa in [0, 0x1000, SPACE] {
        memory.read_at(gpa, &mut []).unwrap();
        memory.write_at(gpa, &[]).unwrap();
        memory.fill_at(gpa, 0, 0).unwrap();
        memory.write_read_only_at(gpa, &[]).unwrap();
    }
    check(memory.read_at(SPACE + 1, &mut []), 0, end);
}

#[test]
fn atomics_must_be_aligned() {
    let (_, memory, _) = memory();
    for offset in 1..4 {
        let result = memory.compare_exchange(0x1000 + offset, 0_u32, 1);
        check(result, 0, Cause::Unaligned { len: 4 });
    }
    assert_eq!(memory.compare_exchange(0x1001, 0_u8, 1).unwrap(), Ok(0));
}

#[test]
fn an_error_names_memory_operation_and_place() {
    let (_, memory, _) = memory();
    let error = memory.write_at(0x4ffe, &[0; 4]).unwrap_err();
    assert_eq!(error.memory(), "guest");
    assert_eq!(error.operation(), Operation::Write);
    assert_eq!((error.gpa(), error.len()), (0x4ffe, 4));
    assert_eq!(
        error.to_string(),
        "guest: cannot write 0x4 bytes at gpa 0x4ffe (0x2 done)"
    );
    let cause = std::error::Error::source(&error).unwrap();
    assert_eq!(cause.to_string(), "nothing is mapped at gpa 0x5000");
}

#[test]
fn a_truncated_file_is_an_error_and_not_a_signal() {
    let file = File::from(memfd_create("short", MFdFlags::MFD_CLOEXEC).unwrap());
    file.set_len(0x3000).unwrap();
    let mapper = VaMapper::new("guest", SPACE, Alignment::Page).unwrap();
    let backing = Backing::from(Mappable::from_file("short", &file).unwrap());
    mapper.map(range(0x1000, 0x4000), &backing, 0, RW).unwrap();
    let memory = mapper.guest_memory();
    memory.write_plain(0x3ff8, &1_u64).unwrap();

    // Another process would do this; to the mapping it is the same.
    file.set_len(0x1800).unwrap();
    let truncated = Cause::Truncated { gpa: 0x3000 };
    check(memory.read_plain::<u64>(0x3000), 0, truncated);
    check(memory.write_plain(0x3000, &1_u64), 0, truncated);
    check(memory.read_at(0x2ff0, &mut [0; 32]), 16, truncated);
    // The page in which the file ends is there.
    memory.read_plain::<u64>(0x2ff8).unwrap();
    // That it is read-only too is nothing to a reader, and the first thing that a writer hears.
    mapper.protect(range(0x1000, 0x4000), RO).unwrap();
    check(memory.read_plain::<u64>(0x3000), 0, truncated);
    check(memory.compare_at(0x2ff0, &[0; 32]), 16, truncated);
    let ram = self::memory().1;
    check(memory.copy_to(0x2ff0, &ram, 0x1000, 32), 16, truncated);
    let read_only = |gpa| Cause::ReadOnly { gpa };
    check(memory.fill_at(0x3000, 0, 1), 0, read_only(0x3000));
    check(memory.swap(0x3000, 1_u8), 0, read_only(0x3000));
    check(
        ram.copy_to(0x1000, &memory, 0x2ff0, 32),
        0,
        read_only(0x2ff0),
    );
    mapper.protect(range(0x1000, 0x4000), RW).unwrap();
    // And it is all back when the file is.
    file.set_len(0x3000).unwrap();
    assert_eq!(memory.read_plain::<u64>(0x3ff8).unwrap(), 0);
}

#[test]
fn the_named_write_reaches_what_the_guest_may_only_read() {
    let (mapper, memory, _) = memory();
    let rom = RomImage::from_bytes("rom", &[0xf0; 0x1000]).unwrap();
    let backing = Backing::from(rom.mappable().clone());
    mapper.map(range(0x5000, 0x6000), &backing, 0, RO).unwrap();

    // Across writable RAM, read-only RAM, writable RAM again, and ROM.
    let bytes: Vec<u8> = (0..0x3900_u32).map(|index| index as u8).collect();
    memory.write_read_only_at(0x2800, &bytes[..0x3000]).unwrap();
    let mut back = vec![0; 0x3000];
    memory.read_at(0x2800, &mut back).unwrap();
    assert_eq!(back, bytes[..0x3000]);
    // It lifted no protection.
    check(
        memory.write_at(0x3000, &[0]),
        0,
        Cause::ReadOnly { gpa: 0x3000 },
    );
    check(
        memory.write_at(0x5000, &[0]),
        0,
        Cause::ReadOnly { gpa: 0x5000 },
    );

    // A hole behind it.
    let result = memory.write_read_only_at(0x2800, &bytes);
    check(result, 0x3800, Cause::Hole { gpa: 0x6000 });
}

#[test]
fn a_backing_that_was_opened_read_only_stays_so() {
    let dir = std::env::temp_dir().join(format!("read-only-backing-{}", std::process::id()));
    std::fs::write(&dir, vec![7_u8; 0x1000]).unwrap();
    let file = File::open(&dir).unwrap();
    std::fs::remove_file(&dir).unwrap();
    let mapper = VaMapper::new("guest", SPACE, Alignment::Page).unwrap();
    let backing = Backing::from(Mappable::from_file("image", &file).unwrap());
    mapper.map(range(0, 0x1000), &backing, 0, RO).unwrap();
    mapper
        .map(range(0x1000, 0x2000), &Backing::Zeros, 0, RO)
        .unwrap();
    let memory = mapper.guest_memory();
    assert_eq!(memory.read_plain::<u8>(0xfff).unwrap(), 7);
    for gpa in [0xffe, 0x1000] {
        let result = memory.write_read_only_at(gpa, &[1; 4]);
        check(result, 0, Cause::ReadOnlyBacking { gpa });
    }
}
