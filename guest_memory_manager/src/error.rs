//! Why building or changing guest memory fails.

use crate::dma::DmaTargetError;
use crate::handover::ClaimError;
use memory_range::MemoryRange;
use partition_mapper::NewMapperError;
use region_manager::{AddListenerError, CommitError, EditError, LockError, RemoveListenerError};
use sparse_alloc::{MappableError, ReserveError, SharedMemoryError};
use thiserror::Error;

/// Why guest memory could not be built.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The alias map would start inside what it mirrors.
    #[error("the alias map at {alias:#x} is below the end of RAM and MMIO at {end:#x}")]
    AliasBelowEnd {
        /// Where the mirror would start.
        alias: u64,
        /// Where the layout ends.
        end: u64,
    },
    /// The alias map's offset is not a multiple of the page size.
    #[error("the alias map cannot start at {alias:#x}: not a multiple of 0x1000")]
    AliasUnaligned {
        /// Where the mirror would start.
        alias: u64,
    },
    /// The mirror would end past 2^64.
    #[error(
        "the alias map at {alias:#x} of {len:#x} bytes reaches past the end of the address space"
    )]
    AliasTooHigh {
        /// Where the mirror would start.
        alias: u64,
        /// How much it mirrors, in bytes.
        len: u64,
    },
    /// The legacy regions divide the first mebibyte, all of which must be RAM.
    #[error("legacy x86 regions need RAM at 0x0-0x100000; the first RAM is {first}")]
    NoLegacyRam {
        /// The first range of RAM.
        first: MemoryRange,
    },
    /// The process has no room for an address space of this length.
    #[error("the host cannot reserve {len:#x} bytes of address space for the guest")]
    AddressSpace {
        /// The length of the guest physical address space in bytes.
        len: u64,
        /// Why.
        #[source]
        source: ReserveError,
    },
    /// The host cannot make memory of this length.
    #[error("the host cannot make {len:#x} bytes of RAM")]
    Ram {
        /// The length in bytes.
        len: u64,
        /// Why.
        #[source]
        source: SharedMemoryError,
    },
    /// The memory that was given has not the lengths that the layout asks for.
    #[error(
        "the backing does not fit the layout: it has {have:#x?} bytes, the layout needs {need:#x?}"
    )]
    BackingDoesNotFit {
        /// The length of each memory of the backing in bytes.
        have: Vec<u64>,
        /// What the layout needs: RAM, then VTL2's RAM if it has any.
        need: Vec<u64>,
    },
    /// The memory came from another process and has the right lengths, but there its RAM lay at
    /// other addresses, so that the guest would find its contents elsewhere.
    #[error("the backing does not fit the layout: its RAM at {have} is at {need} in the layout")]
    BackingLiesElsewhere {
        /// The first range of the backing's that is not the layout's.
        have: MemoryRange,
        /// What the layout has in its stead.
        need: MemoryRange,
    },
    /// The backing was to be claimed and cannot be.
    #[error("the backing of RAM cannot be claimed")]
    Claim(#[source] ClaimError),
    /// RAM could not be mapped.
    #[error("RAM cannot be mapped")]
    Map(#[source] ChangeError),
}

/// Why a change was not made. Everything is as it was before, but for what a failed undo says.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// No change can be made now.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The change makes no sense.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// A step of it failed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The window is not one of the manager that the transaction belongs to.
    #[error("the window {window:?} belongs to another guest memory")]
    OtherManager {
        /// The window's name.
        window: String,
    },
}

/// Why the visibility of RAM was not changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum VisibilityError {
    /// Visibility is a property of a whole region of RAM, and this range is not one.
    #[error("{range} is not a region of RAM; the nearest one is {nearest}")]
    InvalidRamRegion {
        /// The range that was given.
        range: MemoryRange,
        /// A region that might be meant.
        nearest: MemoryRange,
    },
    /// The change failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why hidden RAM was not written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HiddenWriteError {
    /// The write would end past 2^64.
    #[error("{len:#x} bytes at gpa {gpa:#x} run past the end of the address space")]
    Wraps {
        /// The guest physical address of the first byte.
        gpa: u64,
        /// The number of bytes.
        len: u64,
    },
    /// Some of it is not RAM, or RAM that is not write-only now. Nothing was written.
    #[error("{len:#x} bytes at gpa {gpa:#x} are not all write-only ram: not so at {at:#x}")]
    NotWriteOnly {
        /// The guest physical address of the first byte.
        gpa: u64,
        /// The number of bytes.
        len: u64,
        /// The first address where it is not so.
        at: u64,
    },
    /// The host could not provide the memory. What lies before it is written.
    #[error("the ram for {len:#x} bytes at gpa {gpa:#x} is not accessible")]
    Inaccessible {
        /// The guest physical address of the part that failed.
        gpa: u64,
        /// The number of its bytes.
        len: u64,
        /// What the access reported.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The state of RAM cannot be looked at now.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a partition could not be attached. It holds nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachError {
    /// The partition cannot do what the builder's options ask for.
    #[error(transparent)]
    Mapper(#[from] NewMapperError),
    /// The partition refused some of the memory.
    #[error(transparent)]
    Replay(#[from] AddListenerError),
    /// The view's offset moves the alias map past the end of the address space.
    #[error("the alias map at {alias:#x} cannot be moved up by {offset:#x}")]
    AliasTooHigh {
        /// Where the mirror starts.
        alias: u64,
        /// What is added to it.
        offset: u64,
    },
    /// The partition is in another process, and cannot be attached there.
    #[error(transparent)]
    Process(#[from] ProcessAttachError),
}

/// Why the partition of another process could not be attached. Nothing has changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProcessAttachError {
    /// The partition is in another process, which was not named.
    #[error("{partition} is a partition of another process, which was not named")]
    ProcessMissing {
        /// The partition's name.
        partition: String,
    },
    /// The process offers no such partition, or no longer.
    #[error("{partition} is no partition that {process} offers")]
    NotOffered {
        /// The partition's name.
        partition: String,
        /// The process's name.
        process: String,
    },
    /// The process follows the guest memory of another manager.
    #[error("{process} follows another guest memory")]
    OtherManager {
        /// The process's name.
        process: String,
    },
    /// The process does not follow guest memory any more.
    #[error("{process} does not follow guest memory any more")]
    Gone {
        /// The process's name.
        process: String,
        /// Why not.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process maps only what it touches itself, and nobody would touch memory for a guest.
    #[error("{process} is lazy, so that a guest in it would find holes")]
    Lazy {
        /// The process's name.
        process: String,
    },
    /// The partition would see what the process was not granted, or could write what it may only
    /// read.
    #[error("{partition} would see more than {process} was granted")]
    NotGranted {
        /// The partition's name.
        partition: String,
        /// The process's name.
        process: String,
    },
}

/// Why a DMA target could not be attached. It holds nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AttachDmaError {
    /// The offset is not a multiple of the page size.
    #[error("the offset {offset:#x} is not a multiple of 0x1000")]
    UnalignedOffset {
        /// The offset that was asked for.
        offset: u64,
    },
    /// The target refused some of the memory.
    #[error(transparent)]
    Replay(#[from] AddListenerError),
    /// The target took all the memory and could then not finish, as when its table is too short.
    #[error("{target} cannot use guest memory")]
    NotFinished {
        /// The target's name.
        target: String,
        /// Why.
        #[source]
        source: DmaTargetError,
    },
}

/// Why a partition or a DMA target could not be detached, or what went wrong when it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DetachError {
    /// It was detached before, or belongs to another manager.
    #[error("nothing attached has the id {id}")]
    Unknown {
        /// The id as a number.
        id: u64,
    },
    /// It is detached, but could not give up something that it had; or no change can be made now,
    /// and it is still attached.
    #[error(transparent)]
    Remove(#[from] RemoveListenerError),
}

/// Why a device window could not be changed. It is as it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DeviceMemoryError {
    /// The part of the window is empty, unaligned, or ends past 2^64.
    #[error("{len:#x} bytes at offset {offset:#x} are no part of the window {window:?}")]
    BadRange {
        /// The window's name.
        window: String,
        /// The offset in the window in bytes.
        offset: u64,
        /// The length in bytes.
        len: u64,
        /// Why.
        #[source]
        source: memory_range::InvalidRange,
    },
    /// The file cannot be mapped.
    #[error("the file for the window {window:?} cannot be mapped")]
    File {
        /// The window's name.
        window: String,
        /// Why.
        #[source]
        source: MappableError,
    },
    /// The part of the window reaches past the end of the file.
    #[error(
        "{len:#x} bytes from offset {file_offset:#x} reach past the end of the file for the window {window:?} at {file_len:#x}"
    )]
    PastEndOfFile {
        /// The window's name.
        window: String,
        /// The offset in the file in bytes.
        file_offset: u64,
        /// The length in bytes.
        len: u64,
        /// The length of the file in bytes.
        file_len: u64,
    },
    /// The file was opened read-only or is sealed against writing.
    #[error(
        "the file for the window {window:?} cannot be written, so it cannot be mapped writable"
    )]
    ReadOnlyFile {
        /// The window's name.
        window: String,
    },
    /// The change failed.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why an alias could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AliasError {
    /// The part of the window is unaligned or ends past 2^64.
    #[error("{len:#x} bytes at offset {offset:#x} are no part of the window {window:?}")]
    BadRange {
        /// The window's name.
        window: String,
        /// The offset in the window in bytes.
        offset: u64,
        /// The length in bytes.
        len: u64,
        /// Why.
        #[source]
        source: memory_range::InvalidRange,
    },
    /// The range is empty, or reaches beyond one region of RAM.
    #[error("{range} does not lie in one region of RAM; the nearest one is {nearest}")]
    NotInOneRamRegion {
        /// The range that was given.
        range: MemoryRange,
        /// A region that might be meant.
        nearest: MemoryRange,
    },
    /// The range is RAM of VTL2, which an alias would show to the others.
    #[error("{range} is RAM of VTL2, which must not be seen elsewhere")]
    Vtl2Ram {
        /// The range that was given.
        range: MemoryRange,
    },
    /// The change failed: the part is empty or leaves the window, or no change can be made now.
    #[error(transparent)]
    Change(#[from] ChangeError),
}

/// Why a client has no access to guest memory.
///
/// There is no reason: the type has no value. A client in another process has other handles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {}
