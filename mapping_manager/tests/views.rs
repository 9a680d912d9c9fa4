//! Views of a part, elements of one type, changes in one step, comparisons, copies, and accesses
//! that are spread: what each answers, for good numbers and hostile ones.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use mapping_manager::{
    AccessError, AtomicPlain, Cause, GuestMemory, GuestRange, Operation, VaMapper, ViewError,
};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::cmp::Ordering;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const SPACE: u64 = 0x10_0000;

/// Numbers that a guest might try.
const HOSTILE: [u64; 9] = [
    SPACE - 1,
    SPACE,
    SPACE + 1,
    1 << 32,
    1 << 63,
    (1 << 63) + 1,
    u64::MAX - 0x1000,
    u64::MAX - 1,
    u64::MAX,
];

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// RAM at 0x1000-0x5000, the third page of it read-only, and a hole on either side.
fn guest(name: &str) -> (Arc<VaMapper>, GuestMemory) {
    let ram = SharedMemory::new("ram", 0x4000).unwrap();
    let mapper = VaMapper::new(name, SPACE, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let rw = Access::ReadWrite;
    mapper.map(range(0x1000, 0x5000), &backing, 0, rw).unwrap();
    mapper
        .protect(range(0x3000, 0x4000), Access::ReadOnly)
        .unwrap();
    let memory = mapper.guest_memory();
    (mapper, memory)
}

fn memory() -> GuestMemory {
    guest("guest").1
}

#[track_caller]
fn check<T: Debug>(result: Result<T, AccessError>, done: u64, cause: Cause) {
    let error = result.unwrap_err();
    assert_eq!((error.done(), error.cause()), (done, cause), "{error}");
}

#[test]
fn a_view_counts_from_its_own_start() {
    let memory = memory();
    let view = memory.subrange(0x1101..0x2101).unwrap();
    assert_eq!(view.gpa_range(), 0x1101..0x2101);
    assert_eq!(view.address_space_len(), 0x1000);
    view.write_at(0, b"first").unwrap();
    view.write_plain(0xfff, &7_u8).unwrap();
    assert_eq!(memory.read_plain::<[u8; 5]>(0x1101).unwrap(), *b"first");
    assert_eq!(memory.read_plain::<u8>(0x2100).unwrap(), 7);

    // A view of a view counts from that one's.
    let inner = view.subrange(0xfff..0x1000).unwrap();
    assert_eq!(inner.gpa_range(), 0x2100..0x2101);
    assert_eq!(inner.read_plain::<u8>(0).unwrap(), 7);
    let outside = Cause::OutsideView {
        start: 0x2100,
        end: 0x2101,
    };
    check(inner.read_plain::<u8>(1), 0, outside);
    check(inner.write_plain(0, &0_u16), 0, outside);
}

#[test]
fn a_view_reaches_nothing_outside_of_it() {
    let view = memory().subrange(0x1100..0x2000).unwrap();
    let outside = Cause::OutsideView {
        start: 0x1100,
        end: 0x2000,
    };
    for offset in HOSTILE.into_iter().chain([0xf00 - 3, 0xf00, 0xf01]) {
        check(view.read_plain::<u32>(offset), 0, outside);
        check(view.write_plain(offset, &0_u32), 0, outside);
        check(view.read_at(offset, &mut [0; 4]), 0, outside);
        check(view.write_at(offset, &[0; 4]), 0, outside);
        check(view.fill_at(offset, 0, 4), 0, outside);
        check(view.compare_exchange(offset, 0_u32, 0), 0, outside);
        check(view.fetch_or(offset, 0_u32), 0, outside);
        check(view.compare_at(offset, &[0; 4]), 0, outside);
        check(view.copy_to(offset, &view, 0, 4), 0, outside);
        check(view.copy_to(0, &view, offset, 4), 0, outside);
        check(view.write_read_only_at(offset, &[0; 4]), 0, outside);
        assert_eq!(
            view.read_at(offset, &mut []).is_ok(),
            offset <= 0xf00,
            "{offset:#x}"
        );
    }
    check(view.fill_at(1, 0, u64::MAX), 0, outside);
    check(view.copy_to(1, &view, 1, u64::MAX), 0, outside);
}

#[test]
fn ranges_of_views_are_checked() {
    let memory = memory();
    let view = memory.subrange(0x1000..0x2000).unwrap();
    for hostile in HOSTILE {
        for start in [0, 1, hostile] {
            let result = view.subrange(start..hostile);
            assert_eq!(
                result.unwrap_err(),
                ViewError::Outside {
                    memory: "guest".into(),
                    start,
                    end: hostile,
                    len: 0x1000,
                }
            );
        }
        assert!(matches!(
            view.subrange(hostile..0),
            Err(ViewError::Outside { .. })
        ));
    }
    let (start, end) = (0x10, 0xf);
    let error = view.subrange(start..end).unwrap_err();
    assert!(matches!(error, ViewError::Reversed { .. }));
    assert_eq!(
        error.to_string(),
        "guest: a range from 0x10 cannot end at 0xf"
    );
    // Empty ones, up to the end.
    for at in [0, 5, 0x1000] {
        let empty = view.subrange(at..at).unwrap();
        empty.write_at(0, &[]).unwrap();
        let at = 0x1000 + at;
        let outside = Cause::OutsideView { start: at, end: at };
        check(empty.read_plain::<u8>(0), 0, outside);
    }
    // The whole of the address space is no part of it: errors speak of its end.
    let whole = memory.subrange(0..SPACE).unwrap();
    check(
        whole.read_plain::<u8>(SPACE),
        0,
        Cause::OutOfRange { end: SPACE },
    );
}

#[test]
fn an_error_of_a_view_names_both_addresses() {
    let view = memory().subrange(0x4f00..0x5100).unwrap();
    let error = view.write_at(0xfe, &[0; 4]).unwrap_err();
    assert_eq!((error.gpa(), error.offset()), (0x4ffe, 0xfe));
    assert_eq!(error.cause(), Cause::Hole { gpa: 0x5000 });
    assert_eq!(
        error.to_string(),
        "guest: cannot write 0x4 bytes at gpa 0x4ffe, offset 0xfe in the view of 0x4f00-0x5100 \
         (0x2 done)"
    );
    let error = view.read_plain::<u8>(u64::MAX).unwrap_err();
    assert_eq!((error.gpa(), error.offset()), (u64::MAX, u64::MAX));
    let cause = error.cause().to_string();
    assert_eq!(cause, "the view is of gpa 0x4f00-0x5100");
    // A named write finds the backing by the address in the whole space.
    let view = memory().subrange(0x2f00..0x3100).unwrap();
    check(
        view.write_at(0, &[1; 0x200]),
        0x100,
        Cause::ReadOnly { gpa: 0x3000 },
    );
    view.write_read_only_at(0, &[1; 0x200]).unwrap();
    assert_eq!(view.compare_at(0, &[1; 0x200]).unwrap(), Ordering::Equal);
}

#[test]
fn atomics_in_a_view_are_aligned_by_address_and_not_by_offset() {
    let memory = memory();
    let view = memory.subrange(0x1003..0x1013).unwrap();
    assert_eq!(view.compare_exchange(1, 0_u32, 5).unwrap(), Ok(0));
    assert_eq!(view.fetch_add(1, 2_u32).unwrap(), 5);
    assert_eq!(memory.read_plain::<u32>(0x1004).unwrap(), 7);
    let unaligned = Cause::Unaligned { len: 4 };
    check(view.compare_exchange(0, 0_u32, 5), 0, unaligned);
    check(view.fetch_or(4, 0_u32), 0, unaligned);
}

fn changes<T: AtomicPlain + zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable>(
    memory: &GuestMemory,
    word: impl Fn(u64) -> T,
) {
    let mut expected = word(0x5a);
    memory.write_plain(0x2ff0, &expected).unwrap();
    let mut step = |result: Result<T, AccessError>, next: u64| {
        assert_eq!(result.unwrap(), expected);
        expected = word(next);
        assert_eq!(memory.read_plain::<T>(0x2ff0).unwrap(), expected);
    };
    step(memory.fetch_or(0x2ff0, word(0x81)), 0xdb);
    step(memory.fetch_and(0x2ff0, word(0x0f)), 0x0b);
    step(memory.fetch_xor(0x2ff0, word(0x03)), 0x08);
    step(memory.fetch_add(0x2ff0, word(0xf0)), 0xf8);
    step(memory.swap(0x2ff0, word(0x44)), 0x44);
    step(memory.fetch_or(0x2ff0, word(0)), 0x44);
    // It wraps, and leaves its neighbours alone.
    step(memory.swap(0x2ff0, word(u64::MAX)), u64::MAX);
    step(memory.fetch_add(0x2ff0, word(2)), 1);
    let after = 0x2ff0 + size_of::<T>() as u64;
    assert_eq!(memory.read_plain::<u8>(after).unwrap(), 0);
    memory.write_plain(0x2ff0, &0_u64).unwrap();

    let read_only = Cause::ReadOnly { gpa: 0x3000 };
    check(memory.fetch_or(0x3000, word(1)), 0, read_only);
    check(memory.fetch_or(0x3000, word(0)), 0, read_only);
    check(memory.swap(0x8000, word(1)), 0, Cause::Hole { gpa: 0x8000 });
    for hostile in HOSTILE.into_iter().filter(|gpa| *gpa >= SPACE) {
        let result = memory.fetch_add(hostile, word(1));
        check(result, 0, Cause::OutOfRange { end: SPACE });
    }
}

#[test]
fn values_change_in_one_step() {
    let memory = memory();
    changes(&memory, |value| value as u8);
    changes(&memory, |value| value as u16);
    changes(&memory, |value| value as u32);
    changes(&memory, |value| value);
    let error = memory.fetch_or(0x3000, 1_u16).unwrap_err();
    assert_eq!(error.operation(), Operation::Update);
    assert_eq!(
        error.to_string(),
        "guest: cannot update 0x2 bytes at gpa 0x3000 (0x0 done)"
    );
}

#[test]
fn no_change_in_one_step_is_lost() {
    let memory = memory();
    thread::scope(|scope| {
        for thread in 0..2_u32 {
            let memory = &memory;
            scope.spawn(move || {
                for _ in 0..20_000 {
                    memory.fetch_add(0x1000, 1_u64).unwrap();
                    memory.fetch_xor(0x1008, 1_u32 << thread).unwrap();
                }
                memory.fetch_or(0x1010, 1_u16 << thread).unwrap();
            });
        }
    });
    assert_eq!(memory.read_plain::<u64>(0x1000).unwrap(), 40_000);
    assert_eq!(memory.read_plain::<u32>(0x1008).unwrap(), 0);
    assert_eq!(memory.read_plain::<u16>(0x1010).unwrap(), 3);
}

#[test]
fn bytes_compare_as_slices_do() {
    let memory = memory();
    memory.write_at(0x1ffd, &[5, 6, 7, 8]).unwrap();
    for (bytes, order) in [
        (&[5, 6, 7, 8][..], Ordering::Equal),
        (&[5, 6, 8, 0], Ordering::Less),
        (&[5, 6, 6, 255], Ordering::Greater),
        (&[], Ordering::Equal),
    ] {
        assert_eq!(memory.compare_at(0x1ffd, bytes).unwrap(), order);
    }
    // What can't be read counts only if all before it is equal.
    let hole = Cause::Hole { gpa: 0x5000 };
    check(memory.compare_at(0x4f00, &[0; 0x200]), 0x100, hole);
    let mut different = [0; 0x200];
    different[0xff] = 1;
    assert_eq!(
        memory.compare_at(0x4f00, &different).unwrap(),
        Ordering::Less
    );
    let error = memory.compare_at(0x8000, &[0]).unwrap_err();
    assert_eq!(error.operation(), Operation::Compare);
}

#[test]
fn bytes_go_from_guest_to_guest() {
    let ((_, from), (_, to)) = (guest("one"), guest("two"));
    let bytes: Vec<u8> = (0..0x1800_u32).map(|byte| byte as u8).collect();
    from.write_at(0x1000, &bytes).unwrap();
    from.copy_to(0x1003, &to, 0x1801, 0x17fd).unwrap();
    let copied = to.compare_at(0x1801, &bytes[3..0x1800]).unwrap();
    assert_eq!(copied, Ordering::Equal);
    // Within one, and no bytes.
    to.copy_to(0x1801, &to, 0x1000, 0x700).unwrap();
    assert_eq!(
        to.compare_at(0x1000, &bytes[3..0x703]).unwrap(),
        Ordering::Equal
    );
    from.copy_to(SPACE, &to, SPACE, 0).unwrap();

    // The error is of the side that stopped it.
    let error = from.copy_to(0x1f00, &to, 0x2f00, 0x1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "two: cannot copy in 0x1000 bytes at gpa 0x2f00 (0x100 done)"
    );
    assert_eq!(error.operation(), Operation::CopyIn);
    assert_eq!(error.cause(), Cause::ReadOnly { gpa: 0x3000 });
    let error = from.copy_to(0x4fff, &to, 0x1000, 0x1000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "one: cannot copy out 0x1000 bytes at gpa 0x4fff (0x1 done)"
    );
    assert_eq!(error.operation(), Operation::CopyOut);
    assert_eq!(error.cause(), Cause::Hole { gpa: 0x5000 });
    // Out of read-only memory is fine.
    from.copy_to(0x3000, &to, 0x1000, 0x1000).unwrap();
    for hostile in HOSTILE {
        let end = Cause::OutOfRange { end: SPACE };
        check(from.copy_to(hostile, &to, 0, 2), 0, end);
        check(from.copy_to(0, &to, hostile, 2), 0, end);
        check(
            from.copy_to(0x1000, &to, 0x1000, hostile.max(SPACE)),
            0,
            end,
        );
    }
}

#[test]
fn a_chain_is_read_and_written_in_order() {
    let memory = memory();
    let chain = [
        GuestRange::new(0x1ffe, 4),
        // No bytes: it may lie anywhere.
        GuestRange::new(u64::MAX, 0),
        GuestRange::new(0x1000, 1),
        GuestRange::new(0x4000, 3),
    ];
    assert_eq!(memory.write_scattered(&chain, b"abcdefgh").unwrap(), 8);
    assert_eq!(memory.read_plain::<[u8; 4]>(0x1ffe).unwrap(), *b"abcd");
    assert_eq!(memory.read_plain::<u8>(0x1000).unwrap(), b'e');
    let mut bytes = [0; 8];
    assert_eq!(memory.read_scattered(&chain, &mut bytes).unwrap(), 8);
    assert_eq!(&bytes, b"abcdefgh");

    // The buffer is shorter: the rest of the chain is not looked at, wherever it lies.
    let endless = [
        GuestRange::new(0x1ffe, 4),
        GuestRange::new(0x4000, u64::MAX),
        GuestRange::new(u64::MAX, u64::MAX),
    ];
    let mut short = [0; 6];
    assert_eq!(memory.read_scattered(&endless, &mut short).unwrap(), 6);
    assert_eq!(&short, b"abcdfg");
    // The buffer is longer: what is behind the chain stays.
    let mut long = [0xee; 10];
    assert_eq!(memory.read_scattered(&chain, &mut long).unwrap(), 8);
    assert_eq!(&long, b"abcdefgh\xee\xee");
    assert_eq!(memory.write_scattered(&chain[2..3], b"xyz").unwrap(), 1);
    assert_eq!(memory.read_plain::<[u8; 2]>(0x1000).unwrap(), [b'x', 0]);
    // Nothing at all.
    assert_eq!(memory.read_scattered(&[], &mut short).unwrap(), 0);
    assert_eq!(memory.write_scattered(&endless, &[]).unwrap(), 0);
}

#[test]
fn a_broken_chain_says_where_and_how_much_in_all() {
    let memory = memory();
    let chain = [
        GuestRange::new(0x1000, 3),
        GuestRange::new(0x4000, 0),
        GuestRange::new(0x4ffe, 4),
        GuestRange::new(0x1100, 3),
    ];
    let error = memory.write_scattered(&chain, &[9; 10]).unwrap_err();
    assert_eq!((error.index(), error.done()), (2, 5));
    assert_eq!(error.access().done(), 2);
    assert_eq!(error.access().cause(), Cause::Hole { gpa: 0x5000 });
    assert_eq!(
        error.to_string(),
        "stopped in range 2 of the list, after 0x5 bytes in all"
    );
    let source = std::error::Error::source(&error).unwrap().to_string();
    let access = "guest: cannot write 0x4 bytes at gpa 0x4ffe (0x2 done)";
    assert_eq!(source, access);
    assert_eq!(memory.read_plain::<[u8; 2]>(0x4ffe).unwrap(), [9, 9]);
    assert_eq!(memory.read_plain::<u8>(0x1100).unwrap(), 0);
    let mut bytes = [1; 10];
    let error = memory.read_scattered(&chain, &mut bytes).unwrap_err();
    assert_eq!((error.index(), error.done()), (2, 5));
    assert_eq!(bytes, [9, 9, 9, 9, 9, 1, 1, 1, 1, 1]);

    for gpa in HOSTILE {
        for len in [2, 4, u64::MAX] {
            let chain = [GuestRange::new(0x1000, 1), GuestRange::new(gpa, len)];
            let error = memory.read_scattered(&chain, &mut bytes).unwrap_err();
            assert_eq!((error.index(), error.done()), (1, 1));
            assert_eq!(error.access().cause(), Cause::OutOfRange { end: SPACE });
            let error = memory.write_scattered(&chain, &bytes).unwrap_err();
            assert_eq!((error.index(), error.done()), (1, 1));
        }
    }
}

#[test]
fn elements_are_read_and_written() {
    let memory = memory();
    let slice = memory.slice_at::<u32>(0x1ff8, 4).unwrap();
    assert_eq!((slice.len(), slice.is_empty()), (4, false));
    for index in 0..4 {
        slice.set(index, index as u32 + 10).unwrap();
    }
    assert_eq!(memory.read_plain::<u32>(0x2000).unwrap(), 12);
    assert_eq!(slice.get(3).unwrap(), 13);
    let values: Vec<u32> = slice.iter().map(Result::unwrap).collect();
    assert_eq!(values, [10, 11, 12, 13]);
    let back: Vec<u32> = slice.iter().rev().skip(1).map(Result::unwrap).collect();
    assert_eq!(back, [12, 11, 10]);
    assert_eq!(slice.iter().nth(2).unwrap().unwrap(), 12);

    let mut two = [0; 2];
    slice.read_into(1, &mut two).unwrap();
    assert_eq!(two, [11, 12]);
    slice.copy_from(2, &[7, 8]).unwrap();
    slice.copy_from(4, &[]).unwrap();
    let all: [u32; 4] = slice.memory().read_plain(0).unwrap();
    assert_eq!(all, [10, 11, 7, 8]);

    // Structures, at an address that is not aligned; and none at all.
    let pairs = memory.slice_at::<[u16; 3]>(0x1001, 2).unwrap();
    pairs.copy_from(0, &[[1, 2, 3], [4, 5, 6]]).unwrap();
    assert_eq!(pairs.get(1).unwrap(), [4, 5, 6]);
    let nothing = memory.slice_at::<()>(SPACE, u64::MAX).unwrap();
    nothing.get(u64::MAX - 1).unwrap();
    nothing.get(u64::MAX).unwrap_err();
    assert!(memory.slice_at::<u8>(0x1000, 0).unwrap().is_empty());
}

#[test]
fn elements_out_of_bounds_are_errors() {
    let memory = memory();
    let slice = memory.slice_at::<u64>(0x1010, 4).unwrap();
    let outside = Cause::OutsideView {
        start: 0x1010,
        end: 0x1030,
    };
    for index in HOSTILE.into_iter().chain([4, 5, 1 << 61, (1 << 61) + 1]) {
        check(slice.get(index), 0, outside);
        check(slice.set(index, 1), 0, outside);
        check(slice.read_into(index, &mut [0]), 0, outside);
        check(slice.copy_from(index, &[1]), 0, outside);
        if index > 4 {
            check(slice.copy_from(index, &[]), 0, outside);
        }
    }
    check(slice.read_into(1, &mut [0; 4]), 0, outside);
    check(slice.copy_from(1, &[1; 4]), 0, outside);
    assert_eq!(
        memory.compare_at(0x1000, &[0; 0x100]).unwrap(),
        Ordering::Equal
    );
    for count in HOSTILE {
        assert!(memory.slice_at::<u64>(0x1000, count).is_err());
        assert!(memory.slice_at::<u8>(count, 2).is_err());
    }
    let error = memory.slice_at::<u32>(8, u64::MAX / 4).unwrap_err();
    assert_eq!(
        error.to_string(),
        "guest: 0x3fffffffffffffff elements of 0x4 bytes from 0x8 wrap"
    );
}

#[test]
fn elements_stop_where_memory_does() {
    let memory = memory();
    let slice = memory.slice_at::<u32>(0x2ff0, 8).unwrap();
    let values = [1, 2, 3, 4, 5, 6, 7, 8];
    check(
        slice.copy_from(1, &values[..6]),
        12,
        Cause::ReadOnly { gpa: 0x3000 },
    );
    assert_eq!(slice.get(3).unwrap(), 3);
    assert_eq!(slice.get(4).unwrap(), 0);

    let slice = memory.slice_at::<u16>(0x4ffa, 8).unwrap();
    let mut back = [0xeeee; 8];
    check(
        slice.read_into(0, &mut back),
        6,
        Cause::Hole { gpa: 0x5000 },
    );
    assert_eq!(back, [0, 0, 0, 0xeeee, 0xeeee, 0xeeee, 0xeeee, 0xeeee]);
    // The iterator goes on behind it.
    assert_eq!(slice.iter().filter(Result::is_err).count(), 5);
}

/// A writer changes elements while readers copy many of them: every element is one of those that
/// were written.
fn never_torn<T>(memory: &GuestMemory, gpa: u64, values: [T; 2])
where
    T: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + PartialEq + Debug,
    T: Copy + Send + Sync,
{
    let slice = memory.slice_at::<T>(gpa, 50).unwrap();
    slice.copy_from(0, &[values[0]; 50]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for round in 0.. {
                if done.load(Relaxed) {
                    break;
                }
                slice.copy_from(0, &[values[round % 2]; 50]).unwrap();
            }
        });
        let mut seen = [false; 2];
        let mut rounds = 0;
        while (rounds < 5_000 || seen != [true; 2]) && !writer.is_finished() {
            let mut copy = [values[0]; 50];
            slice.read_into(0, &mut copy).unwrap();
            for value in copy {
                match values.iter().position(|candidate| *candidate == value) {
                    Some(index) => seen[index] = true,
                    None => {
                        done.store(true, Relaxed);
                        assert!(values.contains(&value), "{value:?} was never written");
                    }
                }
            }
            rounds += 1;
        }
        done.store(true, Relaxed);
    });
}

#[test]
fn aligned_elements_are_never_torn() {
    let memory = memory();
    never_torn(&memory, 0x1ff2, [0_u16, 0xffff]);
    never_torn(&memory, 0x1ff4, [0_u32, u32::MAX]);
    never_torn(&memory, 0x1fe8, [0_u64, u64::MAX]);
    never_torn(&memory, 0x1ff4, [[1_u16, 2], [0xfffe, 0xfffd]]);
}
