//! What a reservation refuses, and that what was there stays when it does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs::File;
use std::sync::Arc;

use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, LockError, MapError, Mappable, MappableError, PopulateError, ProtectError,
    Reservation, ReserveError, RomImage, UnmapError,
};
use support::{PAGE, byte_at, look, mappable, memfd, pages, write_at};

use Access::{ReadOnly, ReadWrite};

fn reserve(page_count: u64) -> Arc<Reservation> {
    Arc::new(Reservation::new(page_count * PAGE, Alignment::Page).unwrap())
}

#[test]
fn refuses_bad_lengths() {
    let new = |len| Reservation::new(len, Alignment::Huge1G);
    assert!(matches!(new(0), Err(ReserveError::Empty)));
    assert!(matches!(new(PAGE + 1), Err(ReserveError::Unaligned { len }) if len == PAGE + 1));
    for len in [Reservation::MAX_LEN + PAGE, !(PAGE - 1)] {
        assert!(matches!(new(len), Err(ReserveError::TooLarge { len: l, .. }) if l == len));
    }
}

/// Everything that is wrong with arguments is said without a call, and leaves what was there.
#[test]
fn refuses_bad_arguments_before_any_call() {
    let reservation = reserve(8);
    let rw = Backing::from(mappable(4 * PAGE, 0x10));
    let path = std::env::current_exe().unwrap();
    let ro = Backing::from(Mappable::from_file("program", File::open(path).unwrap()).unwrap());
    reservation.map(pages(0..4), &rw, 0, ReadWrite).unwrap();
    let before = (reservation.calls(), look(&reservation, 0..8));

    let map = |range, backing, offset, access| {
        reservation.map(range, backing, offset, access).unwrap_err()
    };
    let error = map(MemoryRange::EMPTY, &rw, 0, ReadOnly);
    assert!(matches!(error, MapError::Empty { start: 0 }));
    let error = map(pages(7..9), &rw, 0, ReadOnly);
    assert!(
        matches!(error, MapError::OutOfBounds { range, len } if range == pages(7..9) && len == 8 * PAGE)
    );
    assert_eq!(
        error.to_string(),
        "range 0x7000-0x9000 lies outside the reservation 0x0-0x8000"
    );
    let top = MemoryRange::new(u64::MAX - 2 * PAGE + 1..u64::MAX - PAGE + 1);
    assert!(matches!(
        map(top, &rw, 0, ReadOnly),
        MapError::OutOfBounds { .. }
    ));
    let error = map(pages(0..1), &rw, 1, ReadOnly);
    assert!(matches!(error, MapError::UnalignedOffset { offset: 1, .. }));
    let error = map(pages(0..2), &rw, 0u64.wrapping_sub(PAGE), ReadOnly);
    assert!(matches!(error, MapError::OffsetOverflow { .. }));
    let error = map(pages(0..1), &ro, 0, ReadWrite);
    assert!(matches!(error, MapError::ReadOnly { ref name, .. } if name == "program"));
    for (count, offset) in [(5, 0), (1, 4 * PAGE), (1, 1 << 40), (2, 3 * PAGE)] {
        let error = map(pages(0..count), &rw, offset, ReadWrite);
        assert!(
            matches!(error, MapError::PastEnd { size, .. } if size == 4 * PAGE),
            "{error}"
        );
    }

    let error = reservation.unmap(MemoryRange::EMPTY).unwrap_err();
    assert!(matches!(error, UnmapError::Empty { .. }));
    let error = reservation.unmap(pages(8..9)).unwrap_err();
    assert!(matches!(error, UnmapError::OutOfBounds { .. }));

    let protect = |range| reservation.protect(range, ReadOnly).unwrap_err();
    assert!(matches!(
        protect(MemoryRange::EMPTY),
        ProtectError::Empty { .. }
    ));
    assert!(matches!(
        protect(pages(0..9)),
        ProtectError::OutOfBounds { .. }
    ));
    let error = protect(pages(3..6));
    assert!(matches!(error, ProtectError::NotMapped { hole, .. } if hole == pages(4..6)));

    let error = reservation.populate(pages(3..5), ReadOnly).unwrap_err();
    assert!(matches!(error, PopulateError::NotMapped { hole, .. } if hole == pages(4..5)));
    let error = reservation.lock(pages(4..5)).unwrap_err();
    assert!(matches!(error, LockError::NotMapped { .. }));

    assert_eq!((reservation.calls(), look(&reservation, 0..8)), before);
}

#[test]
fn finds_out_that_a_file_became_shorter() {
    let fd = memfd(4 * PAGE, 0x10);
    let backing = Backing::from(Mappable::from_file("shrinking", &fd).unwrap());
    let reservation = reserve(4);
    reservation
        .map(pages(0..4), &backing, 0, ReadWrite)
        .unwrap();
    File::from(fd).set_len(2 * PAGE + 100).unwrap();

    // The file is asked where a mapping reaches further than any did. A partial page is past the
    // end too: what is written behind the end would be lost.
    for (range, offset) in [(pages(0..4), PAGE), (pages(0..3), 0)] {
        let error = reservation
            .map(range, &backing, offset, ReadWrite)
            .unwrap_err();
        assert!(matches!(error, MapError::PastEnd { size, .. } if size == 2 * PAGE + 100));
    }
    // What was mapped before faults, and the process lives.
    assert_eq!(
        look(&reservation, 0..4),
        [Some(0x10), Some(0x11), Some(0x12), None]
    );
    let error = reservation.populate(pages(0..4), ReadWrite).unwrap_err();
    assert!(
        matches!(error, PopulateError::Inaccessible { .. }),
        "{error:?}"
    );
}

#[test]
fn refuses_what_cannot_be_mapped() {
    let eventfd = nix::sys::eventfd::EventFd::new().unwrap();
    let error = Mappable::from_file("eventfd", &eventfd).unwrap_err();
    assert!(matches!(error, MappableError::Refused { .. }), "{error:?}");
    let (pipe, _other) = nix::unistd::pipe().unwrap();
    let error = Mappable::from_file("pipe", &pipe).unwrap_err();
    assert!(
        matches!(error, MappableError::Kind { kind: "pipe", .. }),
        "{error:?}"
    );
    let error = Mappable::from_file("dir", File::open("/").unwrap()).unwrap_err();
    assert!(
        matches!(
            error,
            MappableError::Kind {
                kind: "directory",
                ..
            }
        ),
        "{error:?}"
    );
    let error = Mappable::from_file("proc", File::open("/proc/self/status").unwrap()).unwrap_err();
    assert!(matches!(error, MappableError::Refused { .. }), "{error:?}");
    let write_only = File::options().write(true).open("/dev/null").unwrap();
    let error = Mappable::from_file("write-only", write_only).unwrap_err();
    assert!(
        matches!(error, MappableError::NotReadable { .. }),
        "{error:?}"
    );
}

#[test]
fn a_device_that_refuses_leaves_what_was_there() {
    let reservation = reserve(4);
    let old = Backing::from(mappable(4 * PAGE, 0x10));
    reservation.map(pages(0..4), &old, 0, ReadWrite).unwrap();
    let null = File::options()
        .read(true)
        .write(true)
        .open("/dev/null")
        .unwrap();
    let device = Backing::from(Mappable::from_file("null", null).unwrap());
    let error = reservation
        .map(pages(1..3), &device, 0, ReadOnly)
        .unwrap_err();
    assert!(matches!(error, MapError::Refused { .. }), "{error:?}");
    assert_eq!(
        look(&reservation, 0..4),
        [Some(0x10), Some(0x11), Some(0x12), Some(0x13)]
    );
    write_at(&reservation, 1, 0x55).unwrap();
}

const HUGE: u64 = 2 << 20;

/// A figure of `/proc/meminfo`, in huge pages.
fn huge_pages(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.map_or(0, |value| value.trim_matches([':', ' ']).parse().unwrap())
}

/// A file of huge pages; `None`, and the reason printed, where it says nothing about the pool.
fn huge_file(len: u64) -> Option<File> {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let overcommit = std::fs::read_to_string("/proc/sys/vm/nr_overcommit_hugepages");
    if overcommit.is_ok_and(|pages| pages.trim() != "0") {
        println!("skipped: the pool of huge pages grows on demand here");
        return None;
    }
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_HUGETLB | MFdFlags::MFD_HUGE_2MB;
    match memfd_create("huge", flags) {
        Ok(fd) => {
            let file = File::from(fd);
            file.set_len(len).unwrap();
            Some(file)
        }
        Err(errno) => {
            println!("skipped: no memfd of huge pages: {errno}");
            None
        }
    }
}

#[test]
fn huge_pages_that_are_not_there_leave_what_was_there() {
    // More than there can ever be free.
    let len = (huge_pages("HugePages_Total") + 1) * HUGE;
    let Some(file) = huge_file(len) else {
        return;
    };
    let huge = Backing::from(Mappable::from_file("huge", file).unwrap());
    let reservation = Arc::new(Reservation::new(len + HUGE, Alignment::Huge2M).unwrap());
    let old = Backing::from(mappable(16 * PAGE, 0x10));
    reservation.map(pages(0..16), &old, 0, ReadWrite).unwrap();
    let before = look(&reservation, 0..17);

    let error = reservation
        .map(MemoryRange::new(0..len), &huge, 0, ReadWrite)
        .unwrap_err();
    assert!(matches!(error, MapError::OutOfMemory { .. }), "{error:?}");
    assert_eq!(look(&reservation, 0..17), before);

    for (range, offset) in [
        (pages(0..1), 0),
        (pages(1..513), 0),
        (MemoryRange::new(0..HUGE), PAGE),
    ] {
        let error = reservation
            .map(range, &huge, offset, ReadWrite)
            .unwrap_err();
        assert!(
            matches!(error, MapError::PartOfHugePage { page: HUGE, .. }),
            "{error:?}"
        );
    }
    assert_eq!(look(&reservation, 0..17), before);
}

#[test]
fn huge_pages_are_mapped_while_they_last() {
    let free = huge_pages("HugePages_Free");
    if free < 2 {
        println!("skipped: {free} huge pages are free, 2 are needed");
        return;
    }
    let Some(file) = huge_file(2 * HUGE) else {
        return;
    };
    let huge = Mappable::from_file("huge", file).unwrap();
    let backing = Backing::from(huge.clone());
    let reservation = Arc::new(Reservation::new(4 * HUGE, Alignment::Huge2M).unwrap());
    let range = MemoryRange::new(HUGE..3 * HUGE);
    reservation.map(range, &backing, 0, ReadWrite).unwrap();
    write_at(&reservation, 513, 7).unwrap();
    assert_eq!(byte_at(huge.linear_view().unwrap(), 1).unwrap(), 7);
    // Half of it again: the pages are the file's, so no more are needed.
    let half = MemoryRange::new(HUGE..2 * HUGE);
    reservation.map(half, &backing, HUGE, ReadOnly).unwrap();
    assert_eq!(byte_at(&reservation, 513).unwrap(), 0);

    let error = reservation.unmap(pages(512..513)).unwrap_err();
    assert!(matches!(error, UnmapError::Failed { .. }), "{error:?}");
    let error = reservation
        .protect(pages(1024..1025), ReadOnly)
        .unwrap_err();
    assert!(matches!(error, ProtectError::Failed { .. }), "{error:?}");
    write_at(&reservation, 1025, 8).unwrap();
    reservation.unmap(reservation.range()).unwrap();
    huge.decommit(MemoryRange::new(0..2 * HUGE)).unwrap();
    assert_eq!(byte_at(huge.linear_view().unwrap(), 1).unwrap(), 0);
}

#[test]
fn a_rom_cannot_become_writable() {
    let rom = RomImage::from_bytes("rom", &[0xaa; 100]).unwrap();
    let reservation = reserve(1);
    let backing = Backing::from(rom.mappable().clone());
    let error = reservation
        .map(pages(0..1), &backing, 0, ReadWrite)
        .unwrap_err();
    assert!(matches!(error, MapError::ReadOnly { .. }));
    reservation.map(pages(0..1), &backing, 0, ReadOnly).unwrap();
    let error = reservation.protect(pages(0..1), ReadWrite).unwrap_err();
    assert!(matches!(error, ProtectError::ReadOnly { .. }));
    // The loader's way.
    write_at(rom.linear_view(), 0, 0xbb).unwrap();
    assert_eq!(byte_at(&reservation, 0).unwrap(), 0xbb);
}
