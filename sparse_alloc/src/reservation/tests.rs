//! Every call of every change fails once; what is there afterwards is what was there before.

use std::sync::Arc;

use memory_range::{Access, MemoryRange};

use super::Reservation;
use crate::sys::injection::{self, Failure};
use crate::{Alignment, Backing, HostRange, MapError, Mappable, ProtectError, SharedMemory};

use Access::{ReadOnly, ReadWrite};

const PAGE: u64 = 4096;
const PAGES: u64 = 12;

fn pages(range: std::ops::Range<u64>) -> MemoryRange {
    MemoryRange::new(range.start * PAGE..range.end * PAGE)
}

type Failed = dyn std::error::Error + 'static;

/// Two files and anonymous memory, side by side, with different access.
struct Setup {
    reservation: Arc<Reservation>,
    file: Backing,
    ram: Backing,
    device: Backing,
}

/// What a page shows, whether it can be written, and what the reservation remembers of it.
type Seen = Vec<(Option<u8>, bool, Option<Access>)>;

impl Setup {
    fn new() -> Self {
        let shared = |name: &str, byte| {
            let memory = SharedMemory::new(name, 8 * PAGE).unwrap();
            let view = memory.linear_view().clone();
            for page in 0..8 {
                let range = HostRange::new(view.clone(), page * PAGE, 1).unwrap();
                range.write(0, &[byte]).unwrap();
            }
            memory
        };
        let ram = Backing::from(shared("ram", 0x20).mappable().clone());
        // The same kind of memory, but without the advice that shared memory needs.
        let file = Mappable::from_file("file", shared("file", 0x10).mappable()).unwrap();
        let file = Backing::from(file);
        let zero = std::fs::File::open("/dev/zero").unwrap();
        let device = Backing::from(Mappable::from_file("device", zero).unwrap());
        let reservation = Arc::new(Reservation::new(PAGES * PAGE, Alignment::Page).unwrap());
        reservation.map(pages(0..4), &file, 0, ReadWrite).unwrap();
        reservation.map(pages(4..6), &ram, 0, ReadOnly).unwrap();
        reservation
            .map(pages(6..8), &Backing::Anonymous, 0, ReadWrite)
            .unwrap();
        reservation.map(pages(8..10), &ram, 0, ReadWrite).unwrap();
        Self {
            reservation,
            file,
            ram,
            device,
        }
    }

    fn look(&self) -> Seen {
        let look = |page| {
            let range = HostRange::new(self.reservation.clone(), page * PAGE, 1).unwrap();
            let mut byte = [0];
            let read = range.read(0, &mut byte).is_ok();
            let written = read && range.write(0, &byte).is_ok();
            let remembered = self.reservation.mapped(pages(page..page + 1));
            (
                read.then_some(byte[0]),
                written,
                remembered.first().map(|(_, access)| *access),
            )
        };
        (0..PAGES).map(look).collect()
    }

    /// Whether all of the reservation is still reserved or mapped.
    fn is_whole(&self) -> bool {
        let (addr, len) = self
            .reservation
            .space
            .in_bounds(self.reservation.range())
            .ok()
            .unwrap();
        crate::sys::is_whole(addr, len)
    }
}

/// Fails call 0, 1, 2, ... of a change, until it has no more calls.
///
/// `check` gets what was there before, what is there after the failure, and the error. A change
/// that succeeds in spite of a failed call must have its full effect. Returns how many calls there
/// were to fail.
fn walk(
    failure: Failure,
    change: &dyn Fn(&Setup) -> Result<(), Box<Failed>>,
    check: &dyn Fn(&Seen, &Seen, &Failed),
) -> u32 {
    let after = {
        let setup = Setup::new();
        change(&setup).unwrap();
        setup.look()
    };
    for call in 0.. {
        let setup = Setup::new();
        let before = setup.look();
        injection::fail(Failure {
            after: call,
            ..failure
        });
        let result = change(&setup);
        let happened = injection::happened();
        assert!(setup.is_whole(), "call {call} left a hole");
        match result {
            Ok(()) => assert_eq!(setup.look(), after, "call {call}"),
            Err(error) => check(&before, &setup.look(), &*error),
        }
        if !happened {
            return call;
        }
        // Nothing is in the way of a second attempt.
        change(&setup).unwrap();
        assert_eq!(setup.look(), after, "after a failure of call {call}");
    }
    0
}

fn errno(errno: i32) -> Failure {
    Failure {
        after: 0,
        errno,
        leaves_hole: false,
    }
}

/// The error of a change must leave everything as it was.
fn unchanged(before: &Seen, after: &Seen, error: &Failed) {
    assert_eq!(before, after, "{error}");
}

#[test]
fn a_map_that_fails_changes_nothing() {
    for errno in [libc::ENOMEM, libc::EINVAL, libc::EPERM].map(errno) {
        let file = |setup: &Setup| {
            Ok(setup
                .reservation
                .map(pages(2..9), &setup.file, PAGE, ReadOnly)?)
        };
        assert_eq!(walk(errno, &file, &unchanged), 1);
        let anonymous = |setup: &Setup| {
            Ok(setup
                .reservation
                .map(pages(2..9), &Backing::Anonymous, 0, ReadWrite)?)
        };
        injection::set_overcommit_strict(true);
        assert_eq!(walk(errno, &anonymous, &unchanged), 2);
        injection::set_overcommit_strict(false);
        assert_eq!(walk(errno, &anonymous, &unchanged), 1);
        let device = |setup: &Setup| {
            Ok(setup
                .reservation
                .map(pages(2..9), &setup.device, 0, ReadOnly)?)
        };
        assert_eq!(walk(errno, &device, &unchanged), 3);
        let zeros = |setup: &Setup| {
            Ok(setup
                .reservation
                .map(pages(2..9), &Backing::Zeros, 0, ReadOnly)?)
        };
        assert_eq!(walk(errno, &zeros, &unchanged), 1);
        for access in [ReadOnly, ReadWrite] {
            let ones = |setup: &Setup| {
                Ok(setup
                    .reservation
                    .map(pages(2..9), &Backing::Ones, 0, access)?)
            };
            assert_eq!(walk(errno, &ones, &unchanged), 1);
        }
        // It is tried elsewhere first: address space, mapping, and giving it back.
        injection::set_overcommit_strict(true);
        let ones = |setup: &Setup| {
            Ok(setup
                .reservation
                .map(pages(2..9), &Backing::Ones, 0, ReadWrite)?)
        };
        assert_eq!(walk(errno, &ones, &unchanged), 3);
    }
}

/// More all-ones than one piece holds, where the second one fails after the first was mapped.
#[test]
fn a_fill_of_several_pieces_is_there_whole_or_not_at_all() {
    const MIB: u64 = 1 << 20;
    let len = 5 * MIB;
    let range = MemoryRange::new(0..len);
    let ram = SharedMemory::new("ram", len).unwrap();
    // Three pieces, first elsewhere, for which address space is taken. Then three in their place.
    for call in 0..=7 {
        let reservation = Arc::new(Reservation::new(len, Alignment::Page).unwrap());
        reservation
            .map(range, &Backing::from(&ram), 0, ReadWrite)
            .unwrap();
        injection::fail(Failure {
            after: call,
            ..errno(libc::ENOMEM)
        });
        let result = reservation.map(range, &Backing::Ones, 0, ReadOnly);
        let happened = injection::happened();
        let mut bytes = [0; 2];
        let mut at = |offset: u64| {
            let range = HostRange::new(reservation.clone(), offset, 2).unwrap();
            range.read(0, &mut bytes).map(|()| bytes).ok()
        };
        let seen = [at(0), at(2 * MIB - 1), at(4 * MIB - 1), at(len - 2)];
        match (call, result) {
            (0..=4, Err(MapError::OutOfMemory { .. })) => assert_eq!(seen, [Some([0; 2]); 4]),
            (5..=6, Err(MapError::Lost { range: lost, .. })) => {
                assert_eq!(lost, range);
                assert_eq!(seen, [None; 4]);
                assert!(reservation.mapped(range).is_empty());
            }
            (7, Ok(())) => assert_eq!(seen, [Some([0xff; 2]); 4]),
            (call, result) => panic!("call {call}: {result:?}"),
        }
        assert_eq!(happened, call < 7);
    }
}

#[test]
fn a_mapping_that_cannot_be_kept_private_goes() {
    let ram = |setup: &Setup| {
        Ok(setup
            .reservation
            .map(pages(5..9), &setup.ram, 0, ReadWrite)?)
    };
    let check = |before: &Seen, after: &Seen, error: &Failed| match error
        .downcast_ref::<MapError>()
        .unwrap()
    {
        MapError::Refused { .. } => assert_eq!(before, after),
        MapError::Lost { range, .. } => {
            assert_eq!(*range, pages(5..9));
            assert_eq!(after[5..9], [(None, false, None); 4]);
            assert_eq!((&before[..5], &before[9..]), (&after[..5], &after[9..]));
        }
        other => panic!("{other}"),
    };
    assert_eq!(walk(errno(libc::EINVAL), &ram, &check), 3);
}

#[test]
fn a_hole_left_by_the_kernel_is_reserved_again() {
    let failure = Failure {
        leaves_hole: true,
        ..errno(libc::ENODEV)
    };
    let map = |setup: &Setup| {
        Ok(setup
            .reservation
            .map(pages(2..7), &setup.file, 0, ReadWrite)?)
    };
    let check = |before: &Seen, after: &Seen, error: &Failed| {
        let error = error.downcast_ref::<MapError>().unwrap();
        assert!(matches!(error, MapError::Lost { range, .. } if *range == pages(2..7)));
        assert_eq!(after[2..7], [(None, false, None); 5]);
        assert_eq!((&before[..2], &before[7..]), (&after[..2], &after[7..]));
    };
    assert_eq!(walk(failure, &map, &check), 1);
    // For an unmap that is what was wanted.
    let unmap = |setup: &Setup| Ok(setup.reservation.unmap(pages(2..7))?);
    let never = |_: &Seen, _: &Seen, error: &Failed| panic!("{error}");
    assert_eq!(walk(failure, &unmap, &never), 1);
}

#[test]
fn an_unmap_that_fails_changes_nothing() {
    for errno in [libc::ENOMEM, libc::EINVAL].map(errno) {
        let part = |setup: &Setup| Ok(setup.reservation.unmap(pages(2..9))?);
        assert_eq!(walk(errno, &part, &unchanged), 1);
    }
    // Whole mappings may draw on the held-back VMAs, so running out is no reason to fail; taking
    // them back is three more calls.
    let whole = |setup: &Setup| Ok(setup.reservation.unmap(pages(0..8))?);
    let never = |_: &Seen, _: &Seen, error: &Failed| panic!("{error}");
    assert_eq!(walk(errno(libc::ENOMEM), &whole, &never), 1);
    assert_eq!(walk(errno(libc::EINVAL), &whole, &unchanged), 1);
}

#[test]
fn a_protect_that_fails_changes_nothing() {
    for errno in [libc::ENOMEM, libc::EINVAL].map(errno) {
        let down = |setup: &Setup| Ok(setup.reservation.protect(pages(2..9), ReadOnly)?);
        assert_eq!(walk(errno, &down, &unchanged), 1);
        let up = |setup: &Setup| Ok(setup.reservation.protect(pages(2..9), ReadWrite)?);
        assert_eq!(walk(errno, &up, &unchanged), 1);
    }
}

#[test]
fn a_protect_that_cannot_go_back_says_so() {
    let setup = Setup::new();
    let before = setup.reservation.mapped(pages(2..9));
    injection::fail(errno(libc::EINVAL));
    assert!(!setup.reservation.state().editor.take_back(before));
    assert!(injection::happened());
    let error = ProtectError::Torn {
        range: pages(2..9),
        source: std::io::Error::from_raw_os_error(libc::EINVAL),
    };
    assert_eq!(
        error.to_string(),
        "the access of range 0x2000-0x9000 changed in part and could not be changed back"
    );
}

#[test]
fn undoing_draws_on_the_held_back_vmas() {
    let never = |_: &Seen, _: &Seen, error: &Failed| panic!("{error}");
    let map = |setup: &Setup| {
        Ok(setup
            .reservation
            .undo()
            .map(pages(2..9), &setup.file, 0, ReadWrite)?)
    };
    assert_eq!(walk(errno(libc::ENOMEM), &map, &never), 1);
    assert_eq!(walk(errno(libc::EINVAL), &map, &unchanged), 1);
    let unmap = |setup: &Setup| Ok(setup.reservation.undo().unmap(pages(2..9))?);
    assert_eq!(walk(errno(libc::ENOMEM), &unmap, &never), 1);
    let protect = |setup: &Setup| Ok(setup.reservation.undo().protect(pages(2..9), ReadOnly)?);
    assert_eq!(walk(errno(libc::ENOMEM), &protect, &never), 1);

    let setup = Setup::new();
    injection::fail(errno(libc::ENOMEM));
    protect(&setup).unwrap();
    assert!(!setup.reservation.has_headroom());
    // Every call of holding VMAs back again may fail; the change is refused then.
    for call in 0..3 {
        let before = setup.look();
        injection::fail(Failure {
            after: call,
            ..errno(libc::ENOMEM)
        });
        setup
            .reservation
            .map(pages(0..1), &setup.file, 0, ReadOnly)
            .unwrap_err();
        assert!(injection::happened());
        assert!(!setup.reservation.has_headroom());
        assert_eq!(setup.look(), before);
    }
    setup
        .reservation
        .map(pages(0..1), &setup.file, 0, ReadOnly)
        .unwrap();
    assert!(setup.reservation.has_headroom());
}
