//! Reservations against the real kernel: what is mapped where, with how many calls, and what stays
//! when a change is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, CallCounts, HostRange, MapError, Mappable, MappedRegion, PopulateError,
    ProtectError, Reservation, ReserveError, SharedMemory,
};
use support::{PAGE, byte_at, look, mappable, memfd, pages, write_at};

use Access::{ReadOnly, ReadWrite};

fn reserve(page_count: u64) -> Arc<Reservation> {
    Arc::new(Reservation::new(page_count * PAGE, Alignment::Page).unwrap())
}

/// The calls that `change` makes.
fn calls(reservation: &Reservation, change: impl FnOnce()) -> CallCounts {
    let before = reservation.calls();
    change();
    let after = reservation.calls();
    CallCounts {
        map: after.map - before.map,
        unmap: after.unmap - before.unmap,
        protect: after.protect - before.protect,
        advise: after.advise - before.advise,
        lock: after.lock - before.lock,
        unlock: after.unlock - before.unlock,
    }
}

#[test]
fn reserves_64_tib_without_memory() {
    let reservation = Reservation::new(Reservation::MAX_LEN, Alignment::Huge1G).unwrap();
    assert_eq!(reservation.len(), 64 << 40);
    assert_eq!(reservation.range(), MemoryRange::new(0..64 << 40));
    let base = reservation.base().addr().get();
    assert!(base.is_multiple_of(1 << 30));
    assert_eq!(support::smaps_kib(base, "Rss"), 0);

    // In the same test, because two tests at once would be in each other's way.
    let second = Reservation::new(Reservation::MAX_LEN, Alignment::Page);
    assert!(
        matches!(second, Err(ReserveError::NoRoom { .. })),
        "{second:?}"
    );

    // The last page is as usable as the first.
    let last = MemoryRange::new((64 << 40) - PAGE..64 << 40);
    reservation
        .map(last, &Backing::Anonymous, 0, ReadWrite)
        .unwrap();
    let range = HostRange::new(Arc::new(reservation), (64 << 40) - 1, 1).unwrap();
    range.write(0, &[7]).unwrap();
}

#[test]
fn aligns_its_base() {
    for alignment in [Alignment::Page, Alignment::Huge2M, Alignment::Huge1G] {
        // Several, so that one is not aligned by luck.
        let reservations: Vec<_> = (1..6)
            .map(|n| Reservation::new(n * PAGE, alignment).unwrap())
            .collect();
        for reservation in &reservations {
            let base = u64::try_from(reservation.base().addr().get()).unwrap();
            assert!(
                base.is_multiple_of(alignment.bytes()),
                "{alignment:?}: {base:#x}"
            );
        }
    }
}

#[test]
fn gives_its_space_back() {
    // No other thread maps anything there.
    support::in_child("gives_its_space_back", || {
        for alignment in [Alignment::Page, Alignment::Huge2M, Alignment::Huge1G] {
            let vmas = || {
                let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
                maps.lines().count()
            };
            let before = vmas();
            let reservation = Reservation::new(16 * PAGE, alignment).unwrap();
            let base = reservation.base().addr().get();
            for n in 0..4 {
                reservation
                    .map(pages(4 * n..4 * n + 2), &Backing::Anonymous, 0, ReadWrite)
                    .unwrap();
            }
            assert!(vmas() > before + 8);
            drop(reservation);
            for page in 0..16 {
                assert!(support::smaps(base + page * PAGE as usize).is_empty());
            }
            assert_eq!(vmas(), before);
        }
    });
}

#[test]
fn maps_replaces_protects_and_unmaps() {
    let reservation = reserve(8);
    let a = Backing::from(mappable(4 * PAGE, 0x10));
    let b = Backing::from(mappable(4 * PAGE, 0x20));

    reservation.map(pages(1..5), &a, 0, ReadWrite).unwrap();
    assert_eq!(
        look(&reservation, 0..6),
        [None, Some(0x10), Some(0x11), Some(0x12), Some(0x13), None]
    );
    // In the middle, from an offset.
    reservation
        .map(pages(2..4), &b, 2 * PAGE, ReadOnly)
        .unwrap();
    assert_eq!(
        look(&reservation, 1..5),
        [Some(0x10), Some(0x22), Some(0x23), Some(0x13)]
    );
    assert!(write_at(&reservation, 2, 1).is_err());
    write_at(&reservation, 1, 0x77).unwrap();

    reservation.protect(pages(1..3), ReadWrite).unwrap();
    write_at(&reservation, 2, 0x78).unwrap();
    reservation.protect(pages(1..5), ReadOnly).unwrap();
    assert!(write_at(&reservation, 1, 1).is_err());

    reservation.unmap(pages(2..3)).unwrap();
    reservation.unmap(pages(2..3)).unwrap();
    assert_eq!(
        look(&reservation, 1..5),
        [Some(0x77), None, Some(0x23), Some(0x13)]
    );
    let mapped = [
        (pages(1..2), ReadOnly),
        (pages(3..4), ReadOnly),
        (pages(4..5), ReadOnly),
    ];
    assert_eq!(reservation.mapped(reservation.range()), mapped);

    // The file keeps what was written.
    let linear = a.as_mappable().unwrap().linear_view().unwrap();
    assert_eq!(byte_at(linear, 0).unwrap(), 0x77);
}

#[test]
fn anonymous_memory_starts_as_zeros_each_time() {
    let reservation = reserve(2);
    for _ in 0..2 {
        reservation
            .map(pages(0..2), &Backing::Anonymous, 0, ReadWrite)
            .unwrap();
        assert_eq!(look(&reservation, 0..2), [Some(0), Some(0)]);
        write_at(&reservation, 1, 9).unwrap();
    }
}

#[test]
fn zeros_cost_nothing_and_stay_read_only() {
    let reservation = reserve(16384);
    let all = reservation.range();
    reservation.map(all, &Backing::Zeros, 0, ReadOnly).unwrap();
    reservation.populate(all, ReadOnly).unwrap();
    assert_eq!(
        support::smaps_kib(reservation.base().addr().get(), "Rss"),
        0
    );
    assert_eq!(byte_at(&reservation, 9999).unwrap(), 0);

    let writable = reservation.map(all, &Backing::Zeros, 0, ReadWrite);
    assert!(matches!(writable, Err(MapError::ReadOnly { .. })));
    let writable = reservation.protect(all, ReadWrite);
    assert!(matches!(writable, Err(ProtectError::ReadOnly { part, .. }) if part == all));
    assert!(write_at(&reservation, 0, 1).is_err());
}

#[test]
fn makes_no_call_more_than_needed() {
    let reservation = reserve(8);
    let file = Backing::from(mappable(4 * PAGE, 0));
    let ram = SharedMemory::new("ram", 4 * PAGE).unwrap();
    let shared = Backing::from(ram.mappable().clone());
    let device =
        Backing::from(Mappable::from_file("zero", File::open("/dev/zero").unwrap()).unwrap());
    let none = CallCounts::default();

    let check = |change: &dyn Fn(), expected: CallCounts| {
        assert_eq!(calls(&reservation, change), expected);
    };
    check(
        &|| reservation.map(pages(0..4), &file, 0, ReadWrite).unwrap(),
        CallCounts { map: 1, ..none },
    );
    check(
        &|| reservation.map(pages(1..2), &file, 0, ReadOnly).unwrap(),
        CallCounts { map: 1, ..none },
    );
    check(
        &|| reservation.map(pages(4..8), &shared, 0, ReadWrite).unwrap(),
        CallCounts {
            map: 1,
            advise: 2,
            ..none
        },
    );
    check(
        &|| reservation.protect(pages(0..6), ReadOnly).unwrap(),
        CallCounts { protect: 1, ..none },
    );
    check(
        &|| reservation.populate(pages(0..6), ReadOnly).unwrap(),
        CallCounts { advise: 1, ..none },
    );
    check(
        &|| reservation.unmap(pages(0..8)).unwrap(),
        CallCounts { map: 1, ..none },
    );
    check(&|| reservation.unmap(pages(0..8)).unwrap(), none);
    check(
        &|| {
            reservation
                .map(pages(0..4), &Backing::Zeros, 0, ReadOnly)
                .unwrap()
        },
        CallCounts { map: 1, ..none },
    );
    // Memory that overcommit accounting may refuse is tried elsewhere first; devices are too, at an
    // address that is aligned alike.
    check(
        &|| {
            reservation
                .map(pages(0..4), &Backing::Anonymous, 0, ReadWrite)
                .unwrap()
        },
        CallCounts {
            map: 2,
            unmap: 1,
            ..none
        },
    );
    check(
        &|| reservation.map(pages(0..4), &device, 0, ReadOnly).unwrap(),
        CallCounts {
            map: 3,
            unmap: 1,
            ..none
        },
    );
}

#[test]
fn keeps_a_file_whose_descriptor_is_closed() {
    let fd = memfd(PAGE, 0x42);
    let mappable = Mappable::from_file("closed", &fd).unwrap();
    drop(fd);
    let reservation = reserve(1);
    let backing = Backing::from(mappable.clone());
    reservation.map(pages(0..1), &backing, 0, ReadOnly).unwrap();
    drop((mappable, backing));
    // No descriptor is left; the mapping holds the file.
    assert_eq!(byte_at(&reservation, 0).unwrap(), 0x42);
}

#[test]
fn locks_and_unlocks() {
    let reservation = reserve(8);
    let backing = Backing::from(mappable(8 * PAGE, 0));
    reservation
        .map(pages(0..8), &backing, 0, ReadWrite)
        .unwrap();
    let base = reservation.base().addr().get();
    let locked =
        |page: usize| support::vma_flags(base + page * PAGE as usize).contains(&"lo".into());
    reservation.lock(pages(2..4)).unwrap();
    assert_eq!([1, 2, 3, 4].map(locked), [false, true, true, false]);
    // Mapping over the range takes the lock off.
    reservation
        .map(pages(3..4), &backing, 0, ReadWrite)
        .unwrap();
    assert_eq!([2, 3].map(locked), [true, false]);
    reservation.unlock(pages(0..8)).unwrap();
    assert!(!locked(2));
}

#[test]
fn populates_for_writing() {
    let reservation = reserve(16);
    let ram = SharedMemory::new("ram", 16 * PAGE).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    reservation
        .map(pages(0..16), &backing, 0, ReadWrite)
        .unwrap();
    reservation.populate(pages(4..8), ReadWrite).unwrap();
    assert_eq!(support::blocks(ram.mappable()), 4 * 8);
    reservation.protect(pages(5..6), ReadOnly).unwrap();
    let error = reservation.populate(pages(4..8), ReadWrite).unwrap_err();
    assert!(matches!(error, PopulateError::ReadOnly { part, .. } if part == pages(5..6)));
}

/// Address space that was mapped and unmapped in pieces is one VMA again.
#[test]
fn unmapping_merges_back() {
    let reservation = reserve(64);
    let base = reservation.base().addr().get();
    let range = base..base + 64 * PAGE as usize;
    let vmas = || {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let overlaps = |line: &&str| {
            let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
            let hex = |text| usize::from_str_radix(text, 16).unwrap();
            hex(start) < range.end && range.start < hex(end)
        };
        maps.lines().filter(overlaps).count()
    };
    assert_eq!(vmas(), 1);
    let file = Backing::from(mappable(64 * PAGE, 0));
    for page in (2..62).step_by(3) {
        let backing = [&file, &Backing::Anonymous][page as usize % 2];
        reservation
            .map(pages(page..page + 2), backing, 0, ReadWrite)
            .unwrap();
        write_at(&reservation, page, 1).unwrap();
    }
    assert_eq!(vmas(), 41);
    for page in (2..62).step_by(3) {
        reservation.unmap(pages(page..page + 1)).unwrap();
    }
    for page in (3..63).step_by(3) {
        reservation.unmap(pages(page..page + 1)).unwrap();
    }
    assert_eq!(vmas(), 1);
    // Neighbours that show neighbouring parts of one file are one VMA too.
    for page in (0..64).rev() {
        let offset = page * PAGE;
        reservation
            .map(pages(page..page + 1), &file, offset, ReadWrite)
            .unwrap();
    }
    assert_eq!(vmas(), 1);
}

#[test]
fn shows_itself() {
    let reservation = reserve(4);
    reservation
        .map(pages(1..3), &Backing::Zeros, 0, ReadOnly)
        .unwrap();
    let text = inspect::inspect(&*reservation).to_string();
    let base = format!("base: {:#x}", reservation.base().addr());
    for line in [
        base.as_str(),
        "len: 0x4000",
        "mapped_bytes: 0x2000",
        "alignment: 4K",
        "headroom: true",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    let ram = SharedMemory::new("vtl0 ram", PAGE).unwrap();
    let text = inspect::inspect(&Backing::from(ram.mappable().clone())).to_string();
    for line in ["name: vtl0 ram", "access: rw", "linear_view:"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    assert!(ram.mappable().as_fd().try_clone_to_owned().is_ok());
}
