//! Why a reservation or a change of one failed: one enum an operation.

use std::io;

use memory_range::MemoryRange;

use crate::access::InstallError;
use crate::file_facts::LenError;

/// Says why no address space was reserved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReserveError {
    /// The length is zero.
    #[error("a reservation of no bytes was asked for")]
    Empty,
    /// The length is not a multiple of the page size.
    #[error("the reservation length {len:#x} is not page aligned")]
    Unaligned {
        /// The length in bytes.
        len: u64,
    },
    /// The length is above [`Reservation::MAX_LEN`](crate::Reservation::MAX_LEN).
    #[error("the reservation length {len:#x} is above the maximum {max:#x}")]
    TooLarge {
        /// The length in bytes.
        len: u64,
        /// The greatest length in bytes.
        max: u64,
    },
    /// The handler that catches faults cannot be installed.
    #[error("the reservation would not be safe to access")]
    Handler {
        /// Why not.
        source: InstallError,
    },
    /// The process has as many VMAs as it may have.
    #[error(
        "no VMA is left to reserve {len:#x} bytes: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The length in bytes.
        len: u64,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// There is no room of that length in the address space.
    #[error("there is no room to reserve {len:#x} bytes of address space")]
    NoRoom {
        /// The length in bytes.
        len: u64,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Says why a backing was not mapped. Unless it is [`Lost`](Self::Lost), what was there is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The range is empty.
    #[error("the range to map at {start:#x} is empty")]
    Empty {
        /// Where it starts.
        start: u64,
    },
    /// The range lies outside the reservation.
    #[error("range {range} lies outside the reservation 0x0-{len:#x}")]
    OutOfBounds {
        /// The range, in offsets from the start of the reservation.
        range: MemoryRange,
        /// The length of the reservation in bytes.
        len: u64,
    },
    /// The offset in the backing is not page aligned.
    #[error("offset {offset:#x} of `{name}`, for range {range}, is not page aligned")]
    UnalignedOffset {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// The offset in the backing.
        offset: u64,
    },
    /// The part of the backing would end past 2^64.
    #[error("range {range} from offset {offset:#x} of `{name}` ends past the greatest offset")]
    OffsetOverflow {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// The offset in the backing.
        offset: u64,
    },
    /// The backing consists of huge pages, of which a mapping shows only whole ones.
    #[error(
        "range {range} from offset {offset:#x} of `{name}` \
         is not whole pages of {page:#x} bytes at addresses aligned so"
    )]
    PartOfHugePage {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// The offset in the backing.
        offset: u64,
        /// The page size of the backing in bytes.
        page: u64,
    },
    /// The backing may not be written, and was to be mapped writable.
    #[error("`{name}` is read-only and cannot be mapped writable at range {range}")]
    ReadOnly {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
    },
    /// The length of the file is not known.
    #[error("the length of the backing for range {range} is not known")]
    Length {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// Why not.
        source: LenError,
    },
    /// The range ends past the end of the file.
    #[error("range {range} from offset {offset:#x} ends past the end of `{name}` at {size:#x}")]
    PastEnd {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// The offset in the backing.
        offset: u64,
        /// The length of the file in bytes.
        size: u64,
    },
    /// The process has as many VMAs as it may have, or cannot hold back enough for an undo.
    #[error(
        "no VMA is left to map range {range}: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// There is not enough memory, or not enough free huge pages.
    #[error("there is not enough memory to map `{name}` at range {range}")]
    OutOfMemory {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The backing refuses to be mapped so.
    #[error("`{name}` refuses to be mapped at range {range}")]
    Refused {
        /// The range that was to be mapped.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel took away what was there before it refused. The range is unmapped now, and still
    /// reserved. No file system is known to do so after what was tried beforehand.
    #[error("mapping `{name}` failed and left nothing at range {range}")]
    Lost {
        /// The range that is unmapped now.
        range: MemoryRange,
        /// The name of the backing.
        name: String,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Says why a range was not unmapped. What was there is there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UnmapError {
    /// The range is empty.
    #[error("the range to unmap at {start:#x} is empty")]
    Empty {
        /// Where it starts.
        start: u64,
    },
    /// The range lies outside the reservation.
    #[error("range {range} lies outside the reservation 0x0-{len:#x}")]
    OutOfBounds {
        /// The range, in offsets from the start of the reservation.
        range: MemoryRange,
        /// The length of the reservation in bytes.
        len: u64,
    },
    /// The process has as many VMAs as it may have, and unmapping would split one.
    #[error(
        "no VMA is left to unmap range {range}: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The range that was to be unmapped.
        range: MemoryRange,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The kernel refused; for huge pages, to unmap a part of one.
    #[error("range {range} cannot be unmapped")]
    Failed {
        /// The range that was to be unmapped.
        range: MemoryRange,
        /// What the kernel answered.
        source: io::Error,
    },
}

/// Says why the access of a range was not changed. Unless it is [`Torn`](Self::Torn), it is as
/// before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProtectError {
    /// The range is empty.
    #[error("the range to protect at {start:#x} is empty")]
    Empty {
        /// Where it starts.
        start: u64,
    },
    /// The range lies outside the reservation.
    #[error("range {range} lies outside the reservation 0x0-{len:#x}")]
    OutOfBounds {
        /// The range, in offsets from the start of the reservation.
        range: MemoryRange,
        /// The length of the reservation in bytes.
        len: u64,
    },
    /// A part of the range is not mapped.
    #[error("part {hole} of range {range} is not mapped")]
    NotMapped {
        /// The range whose access was to change.
        range: MemoryRange,
        /// The first part of it that is not mapped.
        hole: MemoryRange,
    },
    /// The backing of a part may not be written.
    #[error("part {part} of range {range} has a read-only backing and cannot become writable")]
    ReadOnly {
        /// The range whose access was to change.
        range: MemoryRange,
        /// The first part of it that cannot become writable.
        part: MemoryRange,
    },
    /// The process has as many VMAs as it may have, or cannot hold back enough for an undo.
    #[error(
        "no VMA is left to protect range {range}: \
         the process has {count} of {limit} (vm.max_map_count)"
    )]
    VmaLimit {
        /// The range whose access was to change.
        range: MemoryRange,
        /// How many VMAs the process has.
        count: u64,
        /// How many it may have.
        limit: u64,
    },
    /// The kernel refused.
    #[error("the access of range {range} cannot be changed")]
    Failed {
        /// The range whose access was to change.
        range: MemoryRange,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused half-way, and then to go back. Parts of the range have the new access.
    #[error("the access of range {range} changed in part and could not be changed back")]
    Torn {
        /// The range whose access was to change.
        range: MemoryRange,
        /// What the kernel answered first.
        source: io::Error,
    },
}
