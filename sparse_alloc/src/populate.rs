//! Making pages present before they are touched.

mod job;
mod parallel;
mod progress;

use std::io;
use std::ptr::NonNull;

use memory_range::{Access, MemoryRange};

use crate::sys::{self, Advice, Calls};

pub use parallel::{Populated, populate_in_parallel};
pub use progress::PopulateProgress;

/// How often the kernel is asked again when it was interrupted or short of something.
const ATTEMPTS: u32 = 64;

/// Says why pages were not made present. Some of the range may be present all the same.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PopulateError {
    /// The range is empty.
    #[error("the range to populate at {start:#x} is empty")]
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
        /// The range that was to be populated.
        range: MemoryRange,
        /// The first part of it that is not mapped.
        hole: MemoryRange,
    },
    /// A part of the range is read-only, and was to be populated for writing.
    #[error("part {part} of range {range} is read-only")]
    ReadOnly {
        /// The range that was to be populated.
        range: MemoryRange,
        /// The first part of it that is read-only.
        part: MemoryRange,
    },
    /// A page cannot be accessed: its file has become shorter, its storage failed, or it was
    /// unmapped or protected meanwhile.
    #[error("a page of range {range} cannot be accessed for {access}")]
    Inaccessible {
        /// The range that was to be populated.
        range: MemoryRange,
        /// The access that was asked for.
        access: Access,
        /// What the kernel answered.
        source: io::Error,
    },
    /// There is not enough memory.
    #[error("there is not enough memory to populate range {range}")]
    OutOfMemory {
        /// The range that was to be populated.
        range: MemoryRange,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel does not know how; Linux has done so since 5.14.
    #[error("the kernel cannot populate range {range}: it lacks MADV_POPULATE_READ and _WRITE")]
    Unsupported {
        /// The range that was to be populated.
        range: MemoryRange,
    },
    /// The kernel cannot do it there: the pages are a device's, for example.
    #[error("range {range} cannot be populated for {access}")]
    Failed {
        /// The range that was to be populated.
        range: MemoryRange,
        /// The access that was asked for.
        access: Access,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Makes the pages of `addr..addr + len` present; `range` names them in an error.
///
/// # Safety
///
/// That address space stays mapped or reserved by the caller meanwhile.
pub(crate) unsafe fn populate(
    calls: &Calls,
    addr: NonNull<u8>,
    len: usize,
    range: MemoryRange,
    access: Access,
) -> Result<(), PopulateError> {
    let advice = match access {
        Access::ReadOnly => Advice::PopulateRead,
        Access::ReadWrite => Advice::PopulateWrite,
    };
    let mut attempt = 0;
    let source = loop {
        // SAFETY: by the caller's promise; populating drops no contents.
        let Err(error) = (unsafe { sys::advise(calls, addr, len, advice) }) else {
            return Ok(());
        };
        // What is present already stays so: each attempt gets further.
        let again = matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN));
        attempt += 1;
        if !again || attempt >= ATTEMPTS {
            break error;
        }
        std::thread::yield_now();
    };
    Err(match source.raw_os_error() {
        // madvise(2): EFAULT where a fault would be SIGBUS, EHWPOISON where it would be a memory
        // error, EINVAL where the protection forbids it.
        Some(libc::EFAULT | libc::EHWPOISON) => PopulateError::Inaccessible {
            range,
            access,
            source,
        },
        Some(libc::ENOMEM) if sys::is_whole(addr, len) => {
            PopulateError::OutOfMemory { range, source }
        }
        // Of no pages the kernel does whatever it knows at all.
        // SAFETY: nothing is advised.
        Some(libc::EINVAL) if unsafe { sys::advise(calls, addr, 0, advice) }.is_err() => {
            PopulateError::Unsupported { range }
        }
        _ => PopulateError::Failed {
            range,
            access,
            source,
        },
    })
}
