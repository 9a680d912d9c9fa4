//! Why a mapper could not follow its view.

use crate::{MapError, PinError, Power, PrefetchError, TooManySlots, UnmapError};
use memory_range::{MemoryRange, PAGE_SIZE};
use thiserror::Error;

/// The cause for which a [`PartitionMapper`](crate::PartitionMapper) could not be made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NewMapperError {
    /// The offset is not a multiple of the page size.
    #[error("offset {offset:#x} is not a multiple of the page size {PAGE_SIZE:#x}")]
    UnalignedOffset {
        /// The offset asked for.
        offset: u64,
    },
    /// The partition lacks a power that was asked for.
    #[error("partition {partition} cannot {power}")]
    Unsupported {
        /// The partition's name.
        partition: String,
        /// What it lacks.
        power: Power,
    },
}

/// The cause for which a mapper refuses a change before anything is done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CheckError {
    /// The partition's budget of slots does not suffice.
    #[error("partition {partition} has too few slots")]
    TooManySlots {
        /// The partition's name.
        partition: String,
        /// How many there are, are in use, and are needed.
        #[source]
        source: TooManySlots,
    },
}

/// The cause for which a slot could not be given to the partition.
///
/// Ranges are of the view; what lies at an offset in the partition is called `gpa`.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddError {
    /// The mapper shows only RAM, and a slot does not say whether it is RAM. Such a mapper is
    /// registered as a DMA listener.
    #[error("slot {range} does not say whether it is ram, and nothing else is shown here")]
    KindUnknown {
        /// The slot's range.
        range: MemoryRange,
    },
    /// The offset moves the range past the end of the address space.
    #[error("range {range} moved up by {offset:#x} runs past the end of the address space")]
    OffsetOverflow {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The mapper's offset in bytes.
        offset: u64,
    },
    /// The range lies outside the reserved host addresses.
    #[error("range {range} lies outside the reservation of {len:#x} bytes")]
    OutsideReservation {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The length of the reservation in bytes.
        len: u64,
    },
    /// The mapper holds a slot there already.
    #[error("range {range} overlaps {existing}, which the partition has already")]
    Occupied {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The range in the way.
        existing: MemoryRange,
    },
    /// The partition lacks a power that the slot asks for.
    #[error("slot {range} needs partition {partition} to {power}, which it cannot")]
    Unsupported {
        /// The slot's range.
        range: MemoryRange,
        /// The partition's name.
        partition: String,
        /// What it lacks.
        power: Power,
    },
    /// The partition refused.
    #[error("range {range} could not be mapped into partition {partition}")]
    Map {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The partition's name.
        partition: String,
        /// Why it refused.
        #[source]
        source: MapError,
    },
    /// The memory could not be faulted in.
    #[error("range {range} could not be prefetched for partition {partition}")]
    Prefetch {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The partition's name.
        partition: String,
        /// What stood in the way.
        #[source]
        source: PrefetchError,
    },
    /// The memory could not be pinned.
    #[error("range {range} could not be pinned for partition {partition}")]
    Pin {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The partition's name.
        partition: String,
        /// What stood in the way.
        #[source]
        source: PinError,
    },
    /// A step failed, and parts of the slot given before it could not be taken back. They are
    /// shown by inspection, and taken back before the next change.
    #[error("range {left} could not be taken back after a failure")]
    NotUndone {
        /// The lowest part of the slot that the partition still has.
        left: MemoryRange,
        /// The failure.
        #[source]
        source: Box<AddError>,
    },
}

/// The cause for which a slot could not be taken from the partition.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoveError {
    /// The offset moves the range past the end of the address space, so it was never added.
    #[error("range {range} moved up by {offset:#x} runs past the end of the address space")]
    OffsetOverflow {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The mapper's offset in bytes.
        offset: u64,
    },
    /// The slot was not added, or not with this range.
    #[error("the partition has no slot at exactly {range}")]
    NotAdded {
        /// The part of the slot concerned.
        range: MemoryRange,
    },
    /// The partition refused.
    #[error("range {range} could not be unmapped from partition {partition}")]
    Unmap {
        /// The part of the slot concerned.
        range: MemoryRange,
        /// The partition's name.
        partition: String,
        /// Why it refused.
        #[source]
        source: UnmapError,
    },
    /// A step failed, and parts of the slot taken before it could not be given back. They are
    /// shown by inspection, and given back before the next change.
    #[error("range {missing} could not be given back after a failure")]
    NotUndone {
        /// The lowest part of the slot that the partition lacks.
        missing: MemoryRange,
        /// The failure.
        #[source]
        source: Box<RemoveError>,
    },
}

/// The cause for which [`PartitionMapper::detach`](crate::PartitionMapper::detach) failed.
///
/// The guest still reaches some host addresses. They stay reserved for the rest of the
/// process's life, so that nothing else is ever put there.
#[derive(Debug, Error)]
#[error(
    "{} slots of partition {partition} could not be deleted, the first at gpa {first}: \
     {leaked:#x} bytes of address space at {hva:#x} are leaked",
    .left.len()
)]
pub struct DetachError {
    /// The partition's name.
    pub partition: String,
    /// The guest physical addresses that the guest still reaches, in ascending order.
    pub left: Vec<MemoryRange>,
    /// The first of them that could not be deleted.
    pub first: MemoryRange,
    /// The host virtual address at which the leaked reservation begins.
    pub hva: u64,
    /// The length of the leaked reservation in bytes.
    pub leaked: u64,
    /// Why the first could not be deleted.
    #[source]
    pub source: UnmapError,
}
