//! Calls that no correct caller makes.

use crate::{MapError, UnmapError};
use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;

/// A rule that a caller of a [`SoftwarePartition`](super::SoftwarePartition) broke. The call was
/// refused.
///
/// Running out of slots is among them, since KVM answers it with an error that says nothing of
/// the kind; what a backend cannot do (read-only slots, denied execution) is not.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokenRule {
    /// A range without a page was mapped.
    EmptyMap {
        /// The guest physical addresses.
        gpa: MemoryRange,
    },
    /// The guest's range and the host's differed in length.
    LengthMismatch {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The length of the host range in bytes.
        host_len: u64,
    },
    /// The host range did not begin at a page border.
    UnalignedHost {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The host virtual address.
        hva: u64,
    },
    /// A range was mapped over another.
    Overlap {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The range in the way.
        existing: MemoryRange,
    },
    /// More slots were asked for than there are.
    TooManySlots {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The number of slots that may exist at the same time.
        limit: u32,
    },
    /// A range was unmapped in which nothing was mapped.
    UnmapOfNothing {
        /// The guest physical addresses.
        gpa: MemoryRange,
    },
    /// A range was unmapped that is a part of a mapped one, or more than one.
    PartialUnmap {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The lowest mapped range that overlaps them.
        existing: MemoryRange,
    },
}

impl BrokenRule {
    /// The rule that was broken by a call to map, if its failure means that.
    pub(super) fn by_map(error: &MapError) -> Option<Self> {
        Some(match *error {
            MapError::Empty { gpa } => Self::EmptyMap { gpa },
            MapError::LengthMismatch { gpa, host_len } => Self::LengthMismatch { gpa, host_len },
            MapError::UnalignedHost { gpa, hva } => Self::UnalignedHost { gpa, hva },
            MapError::Overlap { gpa, existing } => Self::Overlap { gpa, existing },
            MapError::SlotsExhausted { gpa, limit } => Self::TooManySlots { gpa, limit },
            MapError::TooLong { .. }
            | MapError::ForeignOverlap { .. }
            | MapError::ReadOnlyUnsupported { .. }
            | MapError::ExecuteDeniedUnsupported { .. }
            | MapError::Refused { .. } => return None,
        })
    }

    /// The rule that was broken by a call to unmap, if its failure means that.
    pub(super) fn by_unmap(error: &UnmapError) -> Option<Self> {
        Some(match *error {
            UnmapError::NotMapped { gpa } => Self::UnmapOfNothing { gpa },
            UnmapError::Partial { gpa, existing } => Self::PartialUnmap { gpa, existing },
            UnmapError::Refused { .. } => return None,
        })
    }
}

impl fmt::Display for BrokenRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmptyMap { gpa } => write!(f, "map of the empty range {gpa}"),
            Self::LengthMismatch { gpa, host_len } => {
                write!(f, "map of {gpa} to {host_len:#x} bytes of host memory")
            }
            Self::UnalignedHost { gpa, hva } => {
                write!(f, "map of {gpa} to the unaligned host address {hva:#x}")
            }
            Self::Overlap { gpa, existing } => write!(f, "map of {gpa} over {existing}"),
            Self::TooManySlots { gpa, limit } => {
                write!(f, "map of {gpa} with all {limit} slots in use")
            }
            Self::UnmapOfNothing { gpa } => write!(f, "unmap of {gpa}, where nothing is"),
            Self::PartialUnmap { gpa, existing } => {
                write!(f, "unmap of {gpa}, where {existing} is mapped")
            }
        }
    }
}

impl Inspect for BrokenRule {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.value(self.to_string());
    }
}
