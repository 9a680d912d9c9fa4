//! The system calls that change or populate address space: one thin function each, each counted.
//!
//! Everything else in the crate goes through these, so a list of what they were called for is a
//! list of what was done to the address space.

#[cfg(test)]
pub(crate) mod injection;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use memory_range::Access;

/// The size of a page in bytes, as the kernel's calls take it.
pub(crate) const PAGE: usize = 4096;

/// Counts of the calls made on behalf of one owner.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    map: AtomicU64,
    unmap: AtomicU64,
    protect: AtomicU64,
    advise: AtomicU64,
    lock: AtomicU64,
    unlock: AtomicU64,
}

/// How many system calls of each kind were made for a [`Reservation`](crate::Reservation).
///
/// Failed calls count too, and so do those made for proofs and for the held-back VMAs. The
/// difference of two counts taken around an operation is the list of calls that it made.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default)]
pub struct CallCounts {
    /// Calls of `mmap`.
    pub map: u64,
    /// Calls of `munmap`.
    pub unmap: u64,
    /// Calls of `mprotect`.
    pub protect: u64,
    /// Calls of `madvise`, those that populate included.
    pub advise: u64,
    /// Calls of `mlock`.
    pub lock: u64,
    /// Calls of `munlock`.
    pub unlock: u64,
}

impl Calls {
    /// Reads all counters. They are read one after the other, not at one instant.
    pub(crate) fn counts(&self) -> CallCounts {
        CallCounts {
            map: self.map.load(Ordering::Relaxed),
            unmap: self.unmap.load(Ordering::Relaxed),
            protect: self.protect.load(Ordering::Relaxed),
            advise: self.advise.load(Ordering::Relaxed),
            lock: self.lock.load(Ordering::Relaxed),
            unlock: self.unlock.load(Ordering::Relaxed),
        }
    }
}

/// Counts a call of a kind that is made only by who changes the owner's address space, of whom there
/// is one at a time. So it takes no locked instruction, which would cost as much as some calls' own
/// bookkeeping.
#[inline]
fn count_exclusive(counter: &AtomicU64) {
    let before = counter.load(Ordering::Relaxed);
    counter.store(before.wrapping_add(1), Ordering::Relaxed);
}

/// What a new piece of address space shows.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Content<'a> {
    /// Nothing: an access faults.
    Reserved,
    /// Private zero-filled memory. Read-only, it is the zero page of the kernel for ever.
    Anonymous(Access),
    /// Shared memory of a file without a name, which merges with no other mapping.
    Placeholder,
    /// A file, of which a page that is written becomes private to this mapping.
    Private {
        fd: BorrowedFd<'a>,
        offset: u64,
        access: Access,
    },
    /// A file, shared with everyone who maps it.
    File {
        fd: BorrowedFd<'a>,
        offset: u64,
        access: Access,
        /// Whether huge pages are reserved for the mapping, if it is of a file of huge pages.
        commit: Commit,
    },
}

/// Whether a mapping sets aside what its pages will need.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Commit {
    /// It does, so that a page is there when it is touched (only huge pages know this).
    Now,
    /// It does not: enough to find out whether a file can be mapped at all.
    Never,
}

/// What `madvise` is asked for.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
pub(crate) enum Advice {
    /// Leave the pages out of core dumps.
    DontDump,
    /// Leave the pages out of a forked child.
    DontFork,
    /// Free private pages; they read as zeros afterwards.
    DontNeed,
    /// Make the pages present for reading.
    PopulateRead,
    /// Make the pages present for writing.
    PopulateWrite,
}

fn protection(access: Access) -> libc::c_int {
    match access {
        Access::ReadOnly => libc::PROT_READ,
        Access::ReadWrite => libc::PROT_READ | libc::PROT_WRITE,
    }
}

/// Where a unit test may make a call fail. `target` is what the call was to replace.
#[cfg(not(test))]
fn failure_point(_target: Option<(*mut u8, usize)>) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
use injection::failure_point;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| io::Error::from_raw_os_error(libc::EOVERFLOW))
}

/// The address some bytes behind another, in the same piece of address space.
pub(crate) fn offset_by(addr: NonNull<u8>, bytes: usize) -> NonNull<u8> {
    NonNull::new(addr.as_ptr().wrapping_add(bytes)).unwrap_or(addr)
}

/// Calls `mmap`.
///
/// # Safety
///
/// With `MAP_FIXED` among `placement`, `addr..addr + len` must be address space that the caller
/// owns, and whose present contents nobody relies on.
unsafe fn map(
    calls: &Calls,
    addr: *mut u8,
    len: usize,
    placement: libc::c_int,
    content: Content<'_>,
) -> io::Result<NonNull<u8>> {
    // Private memory is mapped with MAP_NORESERVE: it would count against the overcommit limit
    // otherwise, and fail from some size on.
    let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let (prot, flags, fd, offset) = match content {
        Content::Reserved => (libc::PROT_NONE, private, -1, 0),
        Content::Anonymous(access) => (protection(access), private, -1, 0),
        Content::Placeholder => (
            libc::PROT_NONE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        ),
        Content::Private { fd, offset, access } => (
            protection(access),
            libc::MAP_PRIVATE | libc::MAP_NORESERVE,
            fd.as_raw_fd(),
            file_offset(offset)?,
        ),
        Content::File {
            fd,
            offset,
            access,
            commit,
        } => {
            let offset = file_offset(offset)?;
            let commit = match commit {
                Commit::Now => 0,
                Commit::Never => libc::MAP_NORESERVE,
            };
            (
                protection(access),
                libc::MAP_SHARED | commit,
                fd.as_raw_fd(),
                offset,
            )
        }
    };
    count_exclusive(&calls.map);
    failure_point((placement & libc::MAP_FIXED != 0).then_some((addr, len)))?;
    // SAFETY: without MAP_FIXED the kernel picks address space that nobody uses; with it, the
    // caller of this function owns what is replaced.
    let mapped = unsafe { libc::mmap(addr.cast(), len, prot, flags | placement, fd, offset) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(mapped.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))
}

/// Maps `len` bytes where the kernel finds room. The caller owns the result.
pub(crate) fn map_anywhere(
    calls: &Calls,
    len: usize,
    content: Content<'_>,
) -> io::Result<NonNull<u8>> {
    // SAFETY: there is no MAP_FIXED.
    unsafe { map(calls, ptr::null_mut(), len, 0, content) }
}

/// Maps over what is at `addr..addr + len`, in one step for everyone who reads there.
///
/// # Safety
///
/// That address space is the caller's own, and nobody relies on its present contents.
pub(crate) unsafe fn map_over(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    content: Content<'_>,
) -> io::Result<()> {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { map(calls, addr.as_ptr(), len, libc::MAP_FIXED, content) }.map(drop)
}

/// Maps at `addr..addr + len` if nothing at all is mapped there, else fails with `EEXIST`.
pub(crate) fn map_into_hole(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    content: Content<'_>,
) -> io::Result<()> {
    // SAFETY: MAP_FIXED_NOREPLACE replaces nothing.
    let mapped = unsafe {
        map(
            calls,
            addr.as_ptr(),
            len,
            libc::MAP_FIXED_NOREPLACE,
            content,
        )
    }?;
    if mapped == addr {
        return Ok(());
    }
    // A kernel before 4.17 takes the flag for a hint.
    // SAFETY: the kernel has just put a mapping there for this call, and nobody knows of it.
    unsafe { unmap(calls, mapped, len) }?;
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

/// Says whether every page of `addr..addr + len` belongs to some mapping, accessible or not.
pub(crate) fn is_whole(addr: NonNull<u8>, len: usize) -> bool {
    // MS_ASYNC has done nothing but this check since Linux 2.6.19.
    // SAFETY: msync with MS_ASYNC changes neither memory nor mappings.
    let result = unsafe { libc::msync(addr.as_ptr().cast(), len, libc::MS_ASYNC) };
    result == 0
}

/// Gives address space back to the kernel.
///
/// # Safety
///
/// That address space is the caller's own, and nobody accesses it any more.
pub(crate) unsafe fn unmap(calls: &Calls, addr: NonNull<u8>, len: usize) -> io::Result<()> {
    calls.unmap.fetch_add(1, Ordering::Relaxed);
    // SAFETY: the caller's promise is the one asked for.
    check(unsafe { libc::munmap(addr.as_ptr().cast(), len) })
}

/// Changes what may be done with mapped memory.
///
/// # Safety
///
/// That address space is the caller's own, and whoever accesses it is prepared for a fault.
pub(crate) unsafe fn protect(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    access: Access,
) -> io::Result<()> {
    count_exclusive(&calls.protect);
    failure_point(None)?;
    // SAFETY: the caller's promise is the one asked for.
    check(unsafe { libc::mprotect(addr.as_ptr().cast(), len, protection(access)) })
}

/// Gives the kernel advice, or has it populate or free pages.
///
/// # Safety
///
/// That address space is the caller's own, and nobody relies on contents that `advice` drops.
pub(crate) unsafe fn advise(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    advice: Advice,
) -> io::Result<()> {
    let advice = match advice {
        Advice::DontDump => libc::MADV_DONTDUMP,
        Advice::DontFork => libc::MADV_DONTFORK,
        Advice::DontNeed => libc::MADV_DONTNEED,
        Advice::PopulateRead => libc::MADV_POPULATE_READ,
        Advice::PopulateWrite => libc::MADV_POPULATE_WRITE,
    };
    calls.advise.fetch_add(1, Ordering::Relaxed);
    failure_point(None)?;
    // SAFETY: the caller's promise is the one asked for.
    check(unsafe { libc::madvise(addr.as_ptr().cast(), len, advice) })
}

/// Locks pages into memory. Pages that are not present are made so.
pub(crate) fn lock(calls: &Calls, addr: NonNull<u8>, len: usize) -> io::Result<()> {
    calls.lock.fetch_add(1, Ordering::Relaxed);
    // SAFETY: mlock changes no contents, and faults pages in as a read would.
    check(unsafe { libc::mlock(addr.as_ptr().cast(), len) })
}

/// Takes the lock off pages.
pub(crate) fn unlock(calls: &Calls, addr: NonNull<u8>, len: usize) -> io::Result<()> {
    calls.unlock.fetch_add(1, Ordering::Relaxed);
    // SAFETY: munlock changes no contents.
    check(unsafe { libc::munlock(addr.as_ptr().cast(), len) })
}
