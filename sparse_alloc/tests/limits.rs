//! The limits of the process, reached for real, in child processes that may be spoilt.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::ptr;
use std::sync::Arc;

use memory_range::Access;
use sparse_alloc::{
    Alignment, Backing, LockError, MapError, Mappable, MappableError, ProtectError, Reservation,
    ReserveError, RomImage, RomImageError, SharedMemory, SharedMemoryError, UnmapError,
};
use support::{PAGE, in_child, look, mappable, memfd, pages, write_at};

use Access::{ReadOnly, ReadWrite};

/// Address space of which every second page can be made a VMA of its own.
struct Filler {
    base: *mut libc::c_void,
    next: usize,
}

impl Filler {
    const PAGES: usize = 400_000;

    fn new() -> Self {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks the address.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                Self::PAGES * 4096,
                libc::PROT_NONE,
                flags,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self { base, next: 1 }
    }

    fn protect(&self, page: usize, prot: libc::c_int) -> bool {
        assert!(
            page < Self::PAGES,
            "vm.max_map_count is too high for this test"
        );
        let addr = self.base.wrapping_byte_add(page * 4096);
        // SAFETY: the pages are the filler's own.
        unsafe { libc::mprotect(addr, 4096, prot) == 0 }
    }

    /// Takes VMAs until the kernel gives no more, whether two at a time or one.
    fn fill(&mut self) {
        while self.protect(self.next, libc::PROT_READ) {
            self.next += 2;
        }
        // Beside the last one: takes a single VMA.
        if self.protect(self.next - 1, libc::PROT_WRITE) {
            self.next += 2;
        }
        // A mapping of its own may be one more than a split is allowed.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let more = || {
            // SAFETY: the kernel picks the address.
            unsafe { libc::mmap(ptr::null_mut(), 4096, libc::PROT_NONE, flags, -1, 0) }
        };
        while more() != libc::MAP_FAILED {}
        assert!(
            !self.protect(self.next, libc::PROT_READ),
            "the limit is reached"
        );
    }

    /// Gives about `count` VMAs back.
    fn free(&mut self, count: usize) {
        for _ in 0..count.div_ceil(2) {
            self.next -= 2;
            assert!(self.protect(self.next, libc::PROT_NONE));
            assert!(self.protect(self.next - 1, libc::PROT_NONE));
        }
    }
}

#[test]
fn at_the_limit_of_vmas_nothing_is_lost() {
    in_child("at_the_limit_of_vmas_nothing_is_lost", || {
        let max: u64 = {
            let text = std::fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
            text.trim().parse().unwrap()
        };
        let reservation = Arc::new(Reservation::new(64 * PAGE, Alignment::Page).unwrap());
        let a = Backing::from(mappable(16 * PAGE, 0x10));
        let b = Backing::from(mappable(16 * PAGE, 0x40));
        let fd = memfd(PAGE, 0);
        reservation.map(pages(0..16), &a, 0, ReadWrite).unwrap();
        reservation.map(pages(16..32), &b, 0, ReadWrite).unwrap();
        reservation.map(pages(40..44), &b, 0, ReadWrite).unwrap();
        let before = look(&reservation, 0..64);

        // The first step of a change, whose later steps then fail.
        reservation.map(pages(4..8), &b, 0, ReadWrite).unwrap();
        let changed = look(&reservation, 0..64);
        let mapped = reservation.mapped(reservation.range());
        let mut filler = Filler::new();
        filler.fill();

        let error = reservation
            .map(pages(50..52), &a, 0, ReadWrite)
            .unwrap_err();
        assert!(
            matches!(error, MapError::VmaLimit { count, limit, .. } if limit == max && count + 8 > max),
            "{error:?}"
        );
        let error = reservation
            .map(pages(10..12), &b, 0, ReadWrite)
            .unwrap_err();
        assert!(matches!(error, MapError::VmaLimit { .. }), "{error:?}");
        let error = reservation.unmap(pages(20..22)).unwrap_err();
        assert!(matches!(error, UnmapError::VmaLimit { .. }), "{error:?}");
        // Its first part needs no VMA and is changed by the kernel before the second fails.
        let error = reservation.protect(pages(8..24), ReadOnly).unwrap_err();
        assert!(matches!(error, ProtectError::VmaLimit { .. }), "{error:?}");
        let error = Reservation::new(PAGE, Alignment::Page).unwrap_err();
        assert!(matches!(error, ReserveError::VmaLimit { .. }), "{error:?}");
        let error = Mappable::from_file("late", &fd).unwrap_err();
        assert!(matches!(error, MappableError::Refused { .. }), "{error:?}");
        assert!(SharedMemory::new("late", PAGE).is_err());
        assert!(RomImage::from_bytes("late", &[1]).is_err());

        assert_eq!(look(&reservation, 0..64), changed);
        assert_eq!(reservation.mapped(reservation.range()), mapped);
        for page in [0, 4, 8, 15, 16, 20, 31, 40] {
            write_at(&reservation, page, changed[page as usize].unwrap()).unwrap();
        }
        assert!(
            reservation.has_headroom(),
            "failing is no reason to draw on it"
        );

        // Undoing the first step works.
        reservation
            .undo()
            .map(pages(4..8), &a, 4 * PAGE, ReadWrite)
            .unwrap();
        assert!(!reservation.has_headroom());
        assert_eq!(look(&reservation, 0..64), before);

        // With the held-back VMAs gone to someone else, the next change says so.
        filler.fill();
        let error = reservation.map(pages(4..8), &b, 0, ReadWrite).unwrap_err();
        assert!(matches!(error, MapError::VmaLimit { .. }), "{error:?}");
        let error = reservation.protect(pages(0..1), ReadOnly).unwrap_err();
        assert!(matches!(error, ProtectError::VmaLimit { .. }), "{error:?}");
        assert!(!reservation.has_headroom());
        assert_eq!(look(&reservation, 0..64), before);

        // With room again, changes go on and hold VMAs back first.
        filler.free(40);
        reservation.map(pages(4..8), &b, 0, ReadWrite).unwrap();
        assert!(reservation.has_headroom());
        assert_eq!(look(&reservation, 0..64), changed);

        // Taking a whole mapping away works at the limit, and the room it leaves is held back.
        filler.fill();
        reservation.unmap(pages(40..44)).unwrap();
        assert_eq!(look(&reservation, 40..44), [None; 4]);
        assert_eq!(look(&reservation, 0..40), changed[..40]);
        assert!(reservation.has_headroom());

        filler.free(40);
        assert!(Mappable::from_file("late", &fd).is_ok());
        reservation.protect(pages(8..24), ReadOnly).unwrap();
        assert!(write_at(&reservation, 8, 1).is_err());
    });
}

#[test]
fn a_protection_that_fails_half_way_is_taken_back() {
    in_child("a_protection_that_fails_half_way_is_taken_back", || {
        let reservation = Arc::new(Reservation::new(64 * PAGE, Alignment::Page).unwrap());
        // Three files, so three VMAs.
        for n in 0..3 {
            let backing = Backing::from(mappable(4 * PAGE, 0));
            reservation
                .map(pages(4 * n..4 * n + 4), &backing, 0, ReadWrite)
                .unwrap();
        }
        reservation.protect(pages(0..4), ReadOnly).unwrap();
        reservation.protect(pages(0..4), ReadWrite).unwrap();
        let mut filler = Filler::new();
        filler.fill();
        let before = reservation.calls().protect;
        let error = reservation.protect(pages(0..10), ReadOnly).unwrap_err();
        assert!(matches!(error, ProtectError::VmaLimit { .. }), "{error:?}");
        assert!(
            reservation.calls().protect > before + 1,
            "parts were changed back"
        );
        for page in 0..12 {
            write_at(&reservation, page, 1).unwrap();
        }
    });
}

#[test]
fn without_descriptors_nothing_new_is_made_and_the_old_still_maps() {
    in_child(
        "without_descriptors_nothing_new_is_made_and_the_old_still_maps",
        || {
            let reservation = Arc::new(Reservation::new(2048 * PAGE, Alignment::Page).unwrap());
            let fd = memfd(PAGE, 0x10);
            let backing = Backing::from(Mappable::from_file("memfd", &fd).unwrap());
            let limit = libc::rlimit {
                rlim_cur: 64,
                rlim_max: 64,
            };
            // SAFETY: only this child is limited.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
            let mut taken = Vec::new();
            while let Ok(copy) = fd.try_clone() {
                taken.push(copy);
            }

            let code = |error: std::io::Error| error.raw_os_error();
            match Mappable::from_file("late", &fd) {
                Err(MappableError::Duplicate { source, .. }) => {
                    assert_eq!(code(source), Some(libc::EMFILE))
                }
                other => panic!("{other:?}"),
            }
            match SharedMemory::new("late", PAGE) {
                Err(SharedMemoryError::Create { source, .. }) => {
                    assert_eq!(code(source), Some(libc::EMFILE))
                }
                other => panic!("{other:?}"),
            }
            match RomImage::from_bytes("late", &[1]) {
                Err(RomImageError::Create { source, .. }) => {
                    assert_eq!(code(source), Some(libc::EMFILE))
                }
                other => panic!("{other:?}"),
            }
            // A mappable has one descriptor, however often it is mapped.
            for page in 0..2048 {
                reservation
                    .map(pages(page..page + 1), &backing, 0, ReadWrite)
                    .unwrap();
            }
            assert_eq!(look(&reservation, 0..2048), vec![Some(0x10); 2048]);
            reservation.unmap(reservation.range()).unwrap();
            drop(taken);
            assert!(SharedMemory::new("again", PAGE).is_ok());
        },
    );
}

#[test]
fn the_limit_of_locked_memory_is_named() {
    in_child("the_limit_of_locked_memory_is_named", || {
        let reservation = Arc::new(Reservation::new(64 * PAGE, Alignment::Page).unwrap());
        let backing = Backing::from(mappable(64 * PAGE, 0));
        reservation
            .map(reservation.range(), &backing, 0, ReadWrite)
            .unwrap();
        let set = |bytes| {
            let limit = libc::rlimit {
                rlim_cur: bytes,
                rlim_max: 16 * PAGE,
            };
            // SAFETY: only this child is limited.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) }, 0);
        };
        set(16 * PAGE);
        // Root may lock as much as it likes.
        // SAFETY: only this child changes its user.
        if unsafe { libc::geteuid() } == 0 {
            // SAFETY: as above.
            assert_eq!(unsafe { libc::setresuid(65534, 65534, 65534) }, 0);
        }
        reservation.lock(pages(0..10)).unwrap();
        let error = reservation.lock(pages(20..30)).unwrap_err();
        assert!(
            matches!(error, LockError::Limit { limit, .. } if limit == 16 * PAGE),
            "{error:?}"
        );
        assert_eq!(
            error.to_string(),
            "locking range 0x14000-0x1e000 exceeds the limit of locked memory, \
             64 KiB (`ulimit -l`, RLIMIT_MEMLOCK)"
        );
        // What was locked still is; it can be unlocked and room is there again.
        let base = sparse_alloc::MappedRegion::base(&*reservation).addr().get();
        assert!(support::vma_flags(base).contains(&"lo".into()));
        reservation.unlock(pages(0..10)).unwrap();
        reservation.lock(pages(20..30)).unwrap();
        reservation.unlock(pages(20..30)).unwrap();

        set(0);
        let error = reservation.lock(pages(0..1)).unwrap_err();
        assert!(
            matches!(error, LockError::Limit { limit: 0, .. }),
            "{error:?}"
        );
    });
}
