//! Populating with several threads, on the real kernel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memory_range::{Access, MemoryRange};
use sparse_alloc::{
    Alignment, Backing, HostRange, Mappable, MappedRegion, PopulateError, PopulateProgress,
    Populated, Reservation, SharedMemory, populate_in_parallel,
};
use support::{PAGE, blocks, in_child, memfd};

use Access::{ReadOnly, ReadWrite};

const MIB: u64 = 1 << 20;

fn threads(n: usize) -> Option<NonZeroUsize> {
    NonZeroUsize::new(n)
}

/// How many pages at an address are in memory.
fn resident(range: &HostRange) -> usize {
    let len = usize::try_from(range.len()).unwrap();
    let mut pages = vec![0_u8; len / 4096];
    // SAFETY: mincore writes one byte a page.
    let result = unsafe { libc::mincore(range.as_ptr().cast(), len, pages.as_mut_ptr()) };
    assert_eq!(result, 0);
    pages.iter().filter(|page| **page & 1 == 1).count()
}

fn ram(len: u64) -> (SharedMemory, HostRange) {
    let ram = SharedMemory::new("ram", len).unwrap();
    let range = HostRange::new(ram.linear_view().clone(), 0, len).unwrap();
    (ram, range)
}

#[test]
fn all_pages_are_present_afterwards() {
    for threads in [None, threads(1), threads(3)] {
        let (ram, range) = ram(40 * MIB);
        range.write(17 * MIB, b"kept").unwrap();
        let pieces = [
            // Neither ends at a border of a page or of a chunk.
            (range.sub_range(100, 30 * MIB).unwrap(), ReadWrite),
            (range.sub_range(35 * MIB, PAGE).unwrap(), ReadOnly),
            (range.sub_range(36 * MIB, 0).unwrap(), ReadWrite),
        ];
        let progress = PopulateProgress::new();
        let populated = populate_in_parallel(&pieces, threads, &progress).unwrap();
        assert_eq!(populated, Populated::Completely);
        let expected = 30 * MIB + 2 * PAGE;
        assert_eq!(
            (progress.done_bytes(), progress.total_bytes()),
            (expected, expected)
        );
        assert_eq!(blocks(ram.mappable()) as u64 * 512, expected);
        let whole = range.sub_range(0, 30 * MIB + PAGE).unwrap();
        assert_eq!(resident(&whole) as u64, 30 * MIB / PAGE + 1);
        let mut bytes = [0; 4];
        range.read(17 * MIB, &mut bytes).unwrap();
        assert_eq!(&bytes, b"kept");
    }
}

#[test]
fn progress_never_goes_back() {
    let (_ram, range) = ram(64 * MIB);
    let progress = Arc::new(PopulateProgress::new());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut last = 0;
            while !over.load(Ordering::Relaxed) {
                let done = progress.done_bytes();
                let total = progress.total_bytes();
                assert!(last <= done && done <= total, "{last} {done} {total}");
                last = done;
            }
        });
        let result = populate_in_parallel(&[(range, ReadWrite)], None, &progress);
        over.store(true, Ordering::Relaxed);
        assert_eq!(result.unwrap(), Populated::Completely);
    });
    assert_eq!(progress.done_bytes(), 64 * MIB);
}

#[test]
fn cancelled_before_it_begins_it_touches_nothing() {
    let (ram, range) = ram(40 * MIB);
    let progress = PopulateProgress::new();
    progress.cancel();
    let result = populate_in_parallel(&[(range, ReadWrite)], None, &progress);
    assert_eq!(result.unwrap(), Populated::InPart);
    assert_eq!(
        (progress.done_bytes(), progress.total_bytes()),
        (0, 40 * MIB)
    );
    assert_eq!(blocks(ram.mappable()), 0);
}

#[test]
fn nothing_is_populated_at_once() {
    let progress = PopulateProgress::new();
    let (_ram, range) = ram(PAGE);
    let empty = range.sub_range(5, 0).unwrap();
    for pieces in [&[][..], &[(empty, ReadWrite)]] {
        let result = populate_in_parallel(pieces, None, &progress);
        assert_eq!(result.unwrap(), Populated::Completely);
    }
    assert_eq!(progress.total_bytes(), 0);
}

#[test]
fn a_truncated_file_is_an_error_that_names_the_chunk() {
    let fd = memfd(0, 0);
    let file = File::from(fd.try_clone().unwrap());
    file.set_len(64 * MIB).unwrap();
    let mappable = Mappable::from_file("file", &fd).unwrap();
    let view = mappable.linear_view().unwrap().clone();
    let range = HostRange::new(view, 0, 64 * MIB).unwrap();
    file.set_len(20 * MIB).unwrap();
    let progress = PopulateProgress::new();
    let pieces = [(range, ReadWrite)];
    let error = populate_in_parallel(&pieces, threads(1), &progress).unwrap_err();
    let expected = MemoryRange::new(16 * MIB..32 * MIB);
    assert!(
        matches!(error, PopulateError::Inaccessible { range, .. } if range == expected),
        "{error:?}"
    );
    // What came before stays.
    assert_eq!(progress.done_bytes(), 16 * MIB);
    assert!(blocks(&mappable) as u64 * 512 >= 16 * MIB);
    assert!(populate_in_parallel(&pieces, None, &PopulateProgress::new()).is_err());
}

#[test]
fn what_is_not_mapped_or_read_only_is_an_error() {
    let reservation = Arc::new(Reservation::new(64 * MIB, Alignment::Page).unwrap());
    let (ram, _) = ram(32 * MIB);
    let low = MemoryRange::new(0..32 * MIB);
    reservation
        .map(low, &Backing::from(&ram), 0, ReadOnly)
        .unwrap();
    let range = HostRange::new(reservation.clone(), 0, reservation.len()).unwrap();
    let progress = PopulateProgress::new();
    let error = populate_in_parallel(&[(range.clone(), ReadOnly)], threads(1), &progress);
    let hole = MemoryRange::new(32 * MIB..48 * MIB);
    assert!(
        matches!(error, Err(PopulateError::Failed { range, .. }) if range == hole),
        "{error:?}"
    );
    let written = populate_in_parallel(&[(range, ReadWrite)], threads(1), &progress);
    assert!(
        matches!(written, Err(PopulateError::Failed { .. })),
        "{written:?}"
    );
}

/// A kernel that does not know the advice, imitated by a filter of system calls.
#[test]
fn an_old_kernel_is_named() {
    in_child("an_old_kernel_is_named", || {
        let (_ram, range) = ram(40 * MIB);
        forbid_populating();
        let error = range.populate(ReadWrite).unwrap_err();
        assert!(
            matches!(error, PopulateError::Unsupported { .. }),
            "{error:?}"
        );
        assert_eq!(
            error.to_string().split(':').nth(1),
            Some(" it lacks MADV_POPULATE_READ and _WRITE")
        );
    });
}

/// Makes `madvise` with an advice that came with Linux 5.14 fail as it did before.
fn forbid_populating() {
    let filter = |code: u32, jt, jf, k| libc::sock_filter {
        code: u16::try_from(code).unwrap(),
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let not_less = libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let madvise = u32::try_from(libc::SYS_madvise).unwrap();
    let populate_read = u32::try_from(libc::MADV_POPULATE_READ).unwrap();
    let invalid = libc::SECCOMP_RET_ERRNO | u32::try_from(libc::EINVAL).unwrap();
    let mut filters = [
        // The number, and the low half of the third argument.
        filter(load, 0, 0, 0),
        filter(equal, 0, 3, madvise),
        filter(load, 0, 0, 32),
        filter(not_less, 0, 1, populate_read),
        filter(give, 0, 0, invalid),
        filter(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog {
        len: 6,
        filter: filters.as_mut_ptr(),
    };
    // SAFETY: only this child is restricted.
    let restricted = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(restricted, 0);
    // SAFETY: as above; the program outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw const program,
        )
    };
    assert_eq!(result, 0);
}
