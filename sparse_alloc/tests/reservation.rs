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
    Reservation, ReserveError, SharedMemory,
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
fn fills_cost_nothing_as_long_as_nobody_writes() {
    let reservation = reserve(16384);
    let base = reservation.base().addr().get();
    let all = reservation.range();
    for (fill, byte) in [(Backing::Zeros, 0), (Backing::Ones, 0xff)] {
        reservation.map(all, &fill, 0, ReadOnly).unwrap();
        reservation.populate(all, ReadOnly).unwrap();
        // Pages of the pattern count as this process's, but none of them is private.
        assert_eq!(support::smaps_kib(base, "Anonymous"), 0, "{fill}");
        assert_eq!(support::smaps_kib(base, "Private_Dirty"), 0, "{fill}");
        for page in [0, 511, 512, 9999, 16383] {
            assert_eq!(byte_at(&reservation, page).unwrap(), byte, "{fill}");
        }
        assert!(write_at(&reservation, 0, 1).is_err(), "{fill}");

        // Writable, what is written stays in the page where it was written.
        reservation.map(all, &fill, 0, ReadWrite).unwrap();
        write_at(&reservation, 9999, 7).unwrap();
        assert_eq!(byte_at(&reservation, 9999).unwrap(), 7);
        for page in [9998, 10000, 9999 - 512, 9999 + 512] {
            assert_eq!(byte_at(&reservation, page).unwrap(), byte, "{fill}");
        }
        let other = reserve(16384);
        other.map(all, &fill, 0, ReadOnly).unwrap();
        assert_eq!(byte_at(&other, 9999).unwrap(), byte, "{fill}");
        reservation.protect(all, ReadOnly).unwrap();
        reservation.protect(pages(0..4), ReadWrite).unwrap();
        write_at(&reservation, 3, 9).unwrap();
        assert_eq!(byte_at(&reservation, 9999).unwrap(), 7);

        // Given back, it is the fill again.
        reservation.decommit(all, &fill, 0).unwrap();
        assert_eq!(byte_at(&reservation, 9999).unwrap(), byte, "{fill}");
        assert_eq!(byte_at(&reservation, 3).unwrap(), byte, "{fill}");
    }
}

/// A slice of a window that is shown and taken away again leaves the window as it was.
#[test]
fn a_hole_in_ones_is_filled_by_one_call() {
    let window = 8 << 20;
    let slice = 2 << 20;
    let reservation = Arc::new(Reservation::new(window, Alignment::Huge2M).unwrap());
    let file = Backing::from(mappable(64 * PAGE, 0x10));
    let long = Backing::from(&SharedMemory::new("slice", slice).unwrap());
    let one = CallCounts {
        map: 1,
        ..CallCounts::default()
    };
    let with_proof = CallCounts {
        map: 4 + 1 + 4,
        unmap: 1,
        ..CallCounts::default()
    };
    let fill = |range, access| reservation.map(range, &Backing::Ones, 0, access).unwrap();
    let made = calls(&reservation, || fill(reservation.range(), ReadWrite));
    assert_eq!(
        made, with_proof,
        "four pieces of 2 MiB, tried elsewhere first"
    );
    let vmas = |at: u64, len: u64| {
        let base = reservation.base().addr().get();
        let range = base + at as usize..base + (at + len) as usize;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let start =
            |line: &str| usize::from_str_radix(line.split('-').next().unwrap(), 16).unwrap();
        maps.lines()
            .filter(|line| range.contains(&start(line)))
            .count()
    };
    assert_eq!(vmas(0, window), 4);
    for start in [0, slice, 5 * PAGE, slice - PAGE, 3 * slice] {
        for (backing, len) in [(&file, 4 * PAGE), (&file, 64 * PAGE), (&long, slice)] {
            let range = MemoryRange::new(start..start + len);
            reservation.map(range, backing, 0, ReadOnly).unwrap();
            for access in [ReadOnly, ReadWrite] {
                assert_eq!(calls(&reservation, || fill(range, access)), one, "{range}");
            }
            let host = HostRange::new(reservation.clone(), 0, window).unwrap();
            let mut bytes = vec![0; window as usize];
            host.read(0, &mut bytes).unwrap();
            assert!(bytes.iter().all(|byte| *byte == 0xff), "{range}");
        }
    }
    // What does not reach over the end of a piece is one VMA with its neighbours again.
    fill(reservation.range(), ReadOnly);
    let range = MemoryRange::new(slice + 5 * PAGE..slice + 9 * PAGE);
    reservation.map(range, &file, 0, ReadOnly).unwrap();
    assert_eq!(vmas(0, window), 6);
    fill(range, ReadOnly);
    assert_eq!(vmas(0, window), 4);
}

#[test]
fn a_long_range_of_ones_takes_few_vmas() {
    let reservation = Arc::new(Reservation::new(4 << 30, Alignment::Page).unwrap());
    let all = reservation.range();
    let made = calls(&reservation, || {
        reservation.map(all, &Backing::Ones, 0, ReadWrite).unwrap();
    });
    assert_eq!(made.map, 128 + 1 + 128);
    let base = reservation.base().addr().get();
    let page = (4 << 30) - PAGE;
    write_at(&reservation, page / PAGE, 1).unwrap();
    assert_eq!(support::smaps_kib(base + page as usize, "Anonymous"), 4);
    for page in [0, 8191, 8192, 1 << 19, (1 << 20) - 2] {
        assert_eq!(byte_at(&reservation, page).unwrap(), 0xff);
    }
}

/// Shared memory is left out of core dumps and forked children, but not where it is short: showing
/// a segment of RAM instead of a ROM is one call.
#[test]
fn short_pieces_of_shared_memory_take_one_call() {
    const MIB: u64 = 1 << 20;
    let reservation = Arc::new(Reservation::new(4 * MIB, Alignment::Page).unwrap());
    let ram = SharedMemory::new("ram", 4 * MIB).unwrap();
    let backing = Backing::from(&ram);
    let base = reservation.base().addr().get();
    let excluded = |at: u64| {
        let flags = support::vma_flags(base + at as usize);
        let has = |flag: &str| flags.contains(&flag.to_owned());
        assert_eq!(has("dd"), has("dc"));
        has("dd")
    };
    let map = |start, end| {
        let range = MemoryRange::new(start..end);
        let backing = &backing;
        calls(&reservation, || {
            reservation.map(range, backing, start, ReadWrite).unwrap();
        })
    };
    let none = CallCounts::default();
    let long = CallCounts {
        map: 1,
        advise: 2,
        ..none
    };
    assert_eq!(map(0, 4 * MIB), long);
    assert!(excluded(0) && excluded(4 * MIB - PAGE));
    assert_eq!(map(0xc_0000, 0xc_4000), CallCounts { map: 1, ..none });
    assert_eq!(
        [0xb_f000, 0xc_0000, 0xc_3000, 0xc_4000].map(excluded),
        [true, false, false, true]
    );
    assert_eq!(map(MIB, 2 * MIB - PAGE), CallCounts { map: 1, ..none });
    assert!(!excluded(MIB));
    assert_eq!(map(MIB, 2 * MIB), long);
    assert!(excluded(MIB));
    // The linear view is mapped once, so that its length does not matter.
    let small = SharedMemory::new("small", PAGE).unwrap();
    let flags = support::vma_flags(small.linear_view().base().addr().get());
    assert!(flags.contains(&"dd".into()) && flags.contains(&"dc".into()));
}

/// A file that can change its length is asked for it only where the range reaches further than any
/// before.
#[test]
fn a_file_that_was_long_enough_is_not_asked_again() {
    let reservation = reserve(8);
    let fd = memfd(4 * PAGE, 0x10);
    let file = File::from(fd.try_clone().unwrap());
    let backing = Backing::from(Mappable::from_file("file", &fd).unwrap());
    let map = |range, offset| reservation.map(range, &backing, offset * PAGE, ReadWrite);
    map(pages(0..4), 0).unwrap();
    file.set_len(6 * PAGE).unwrap();
    // It grew, and is asked.
    map(pages(0..4), 2).unwrap();
    assert!(matches!(map(pages(0..5), 2), Err(MapError::PastEnd { size, .. }) if size == 6 * PAGE));
    // Shorter now: as if it had become so right afterwards.
    file.set_len(PAGE).unwrap();
    map(pages(0..2), 0).unwrap();
    assert_eq!(look(&reservation, 0..2), [Some(0x10), None]);
    for pages in [pages(0..7), pages(0..2)] {
        assert!(matches!(map(pages, 0), Err(MapError::PastEnd { size, .. }) if size == PAGE));
    }
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
        CallCounts { map: 1, ..none },
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
    // Where overcommit accounting may refuse memory, that is tried elsewhere first.
    let overcommit = std::fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap();
    let proofs = u64::from(overcommit.trim() == "2");
    check(
        &|| {
            reservation
                .map(pages(0..4), &Backing::Anonymous, 0, ReadWrite)
                .unwrap()
        },
        CallCounts {
            map: 1 + proofs,
            unmap: proofs,
            ..none
        },
    );
    // Devices are, too, at an address that is aligned alike.
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
