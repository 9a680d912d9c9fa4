//! Why a partition refuses.

use memory_range::MemoryRange;
use thiserror::Error;

/// What a backend gives as the cause of an error: an `io::Error` of an ioctl, for one.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The cause for which [`PartitionMemoryMap::map`](crate::PartitionMemoryMap::map) failed. The
/// partition has not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MapError {
    /// The range holds no page.
    #[error("gpa range {gpa} is empty")]
    Empty {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
    },
    /// The guest's range and the host's differ in length.
    #[error("gpa range {gpa} does not fit {host_len:#x} bytes of host memory")]
    LengthMismatch {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The length of the host range in bytes.
        host_len: u64,
    },
    /// The host range does not begin at a page border.
    #[error("host address {hva:#x} for gpa {gpa} is not page aligned")]
    UnalignedHost {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The host virtual address of the first byte.
        hva: u64,
    },
    /// The range is longer than the hypervisor lets one slot be.
    #[error("gpa range {gpa} is longer than the largest slot of {max:#x} bytes")]
    TooLong {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The longest slot, in bytes.
        max: u64,
    },
    /// Something is mapped in part of the range.
    #[error("gpa range {gpa} overlaps {existing}, which is mapped already")]
    Overlap {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The lowest range in the way.
        existing: MemoryRange,
    },
    /// A slot that somebody else created in the same VM lies in part of the range.
    #[error("gpa range {gpa} overlaps a slot that was not created here")]
    ForeignOverlap {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// What the hypervisor answered.
        #[source]
        source: Cause,
    },
    /// Every slot of the partition's budget is in use.
    #[error("no slot is left for gpa {gpa}: all {limit} are in use")]
    SlotsExhausted {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The number of slots that may be in use at the same time.
        limit: u32,
    },
    /// The hypervisor has no read-only slots.
    #[error("gpa range {gpa} is read-only, which {partition} does not support")]
    ReadOnlyUnsupported {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The backend's name.
        partition: String,
    },
    /// The hypervisor cannot deny instruction fetches. The slot is refused rather than made
    /// executable.
    #[error("gpa range {gpa} denies execution, which {partition} cannot enforce")]
    ExecuteDeniedUnsupported {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The backend's name.
        partition: String,
    },
    /// The hypervisor said no.
    #[error("the hypervisor refused to map gpa {gpa}")]
    Refused {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// What it answered.
        #[source]
        source: Cause,
    },
}

/// The cause for which [`PartitionMemoryMap::unmap`](crate::PartitionMemoryMap::unmap) failed.
/// The range is mapped as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UnmapError {
    /// Nothing is mapped in the range.
    #[error("nothing is mapped at gpa {gpa}")]
    NotMapped {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
    },
    /// The range is not exactly one that was mapped.
    #[error("gpa range {gpa} is not exactly the range {existing} that was mapped")]
    Partial {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// The lowest mapped range that overlaps them.
        existing: MemoryRange,
    },
    /// The hypervisor said no.
    #[error("the hypervisor refused to unmap gpa {gpa}")]
    Refused {
        /// The guest physical addresses asked for.
        gpa: MemoryRange,
        /// What it answered.
        #[source]
        source: Cause,
    },
}

/// The cause for which [`Prefetch::prefetch`](crate::Prefetch::prefetch) failed. Part of the
/// range may have been faulted in.
#[derive(Debug, Error)]
#[error("memory of gpa {gpa} could not be faulted in")]
pub struct PrefetchError {
    /// The guest physical addresses asked for.
    pub gpa: MemoryRange,
    /// What stood in the way.
    #[source]
    pub source: Cause,
}

/// The cause for which [`Pin::pin`](crate::Pin::pin) failed. Part of the range may be locked.
#[derive(Debug, Error)]
#[error("memory of gpa {gpa} could not be locked")]
pub struct PinError {
    /// The guest physical addresses asked for.
    pub gpa: MemoryRange,
    /// What stood in the way: for `mlock`, an error that names `ulimit -l`.
    #[source]
    pub source: Cause,
}
