//! Locking pages into memory.

use std::io;
use std::ptr::NonNull;

use memory_range::MemoryRange;

use crate::limits;
use crate::sys::{self, Calls};

/// Says why pages were not locked or unlocked.
///
/// After a failed lock nothing of the range is locked, not even what was locked before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// The range is empty.
    #[error("the range to lock at {start:#x} is empty")]
    Empty {
        /// Where it starts.
        start: u64,
    },
    /// The range lies outside the reserved space.
    #[error("range {range} lies outside the reserved space 0x0-{len:#x}")]
    OutOfBounds {
        /// The range, in offsets from the start.
        range: MemoryRange,
        /// The length of the reserved space in bytes.
        len: u64,
    },
    /// A part of the range is not mapped.
    #[error("part {hole} of range {range} is not mapped")]
    NotMapped {
        /// The range that was to be locked.
        range: MemoryRange,
        /// The first part of it that is not mapped.
        hole: MemoryRange,
    },
    /// The process may not lock that much memory.
    #[error(
        "locking range {range} exceeds the limit of locked memory, \
         {} KiB (`ulimit -l`, RLIMIT_MEMLOCK)", limit / 1024
    )]
    Limit {
        /// The range that was to be locked.
        range: MemoryRange,
        /// The soft limit in bytes.
        limit: u64,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The process has as many VMAs as it may have, and locking would split one.
    #[error(
        "no VMA is left to lock range {range}: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The range that was to be locked.
        range: MemoryRange,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The kernel refused.
    #[error("range {range} cannot be locked")]
    Failed {
        /// The range that was to be locked.
        range: MemoryRange,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Locks the pages of `addr..addr + len`; `range` names them in an error.
pub(crate) fn lock(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    range: MemoryRange,
) -> Result<(), LockError> {
    sys::lock(calls, addr, len).map_err(|source| {
        // A page that cannot be made present leaves those before it locked, and all of them
        // marked. It cannot be told which were locked before, so none stays; and what is locked
        // then says whether the limit was the reason.
        let _ = sys::unlock(calls, addr, len);
        explain(source, range)
    })
}

/// Unlocks the pages of `addr..addr + len`; `range` names them in an error.
pub(crate) fn unlock(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    range: MemoryRange,
) -> Result<(), LockError> {
    sys::unlock(calls, addr, len).map_err(|source| match limits::vma_limit(&source) {
        Some(used) => LockError::VmaLimit {
            range,
            count: used.count,
            limit: used.limit,
        },
        None => LockError::Failed { range, source },
    })
}

fn explain(source: io::Error, range: MemoryRange) -> LockError {
    if let Some(limit) = limits::exceeded_lock_limit(&source, range.len()) {
        return LockError::Limit {
            range,
            limit,
            source,
        };
    }
    match limits::vma_limit(&source) {
        Some(used) => LockError::VmaLimit {
            range,
            count: used.count,
            limit: used.limit,
        },
        None => LockError::Failed { range, source },
    }
}
