//! Why an edit, a commit or a registration fails.

use crate::change_lock::LockError;
use crate::listener::ListenerError;
use memory_range::MemoryRange;
use thiserror::Error;

/// Why an edit of a region was refused. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EditError {
    /// The region was removed, or belongs to another manager.
    #[error("no region has the id {id}")]
    UnknownRegion {
        /// The id as a number.
        id: u64,
    },
    /// A region's length is zero or not a multiple of the page size.
    #[error("region {name:?} cannot be {len:#x} bytes long: not a positive multiple of 0x1000")]
    BadLength {
        /// The region's name.
        name: String,
        /// The length asked for, in bytes.
        len: u64,
    },
    /// A guest physical address is not page aligned.
    #[error("region {name:?} cannot start at gpa {gpa:#x}: not a multiple of 0x1000")]
    UnalignedGpa {
        /// The region's name.
        name: String,
        /// The address asked for.
        gpa: u64,
    },
    /// The region would reach past the end of the guest physical address space.
    #[error(
        "region {name:?} at gpa {gpa:#x}, {len:#x} bytes long, lies outside the address space {space}"
    )]
    OutsideAddressSpace {
        /// The region's name.
        name: String,
        /// The address asked for.
        gpa: u64,
        /// The region's length in bytes.
        len: u64,
        /// What there is.
        space: MemoryRange,
    },
    /// A mapping is empty or reaches past the end of its region.
    #[error("{range} is empty or lies outside region {name:?} of {len:#x} bytes")]
    OutsideRegion {
        /// The region's name.
        name: String,
        /// The offsets asked for.
        range: MemoryRange,
        /// The region's length in bytes.
        len: u64,
    },
    /// A mapping's offset in its backing is not page aligned, or its end exceeds 2^64.
    #[error(
        "{range} cannot show a backing from offset {offset:#x}: unaligned, or its end is past 2^64"
    )]
    BadBackingOffset {
        /// The offsets in the region.
        range: MemoryRange,
        /// The offset in the backing.
        offset: u64,
    },
    /// An alias would reach past the end of the region that it shows.
    #[error(
        "alias {name:?} of {len:#x} bytes from offset {offset:#x} reaches past the end of region \
         {target:?} of {target_len:#x} bytes"
    )]
    AliasPastEnd {
        /// The alias's name.
        name: String,
        /// The alias's length in bytes.
        len: u64,
        /// The offset in the region to be shown.
        offset: u64,
        /// The name of that region.
        target: String,
        /// The length of that region in bytes.
        target_len: u64,
    },
    /// An alias would show its region from an offset that is not page aligned.
    #[error("alias {name:?} cannot start at offset {offset:#x}: not a multiple of 0x1000")]
    UnalignedAlias {
        /// The alias's name.
        name: String,
        /// The offset in the region to be shown.
        offset: u64,
    },
    /// Mappings cannot be put into an alias, or taken out of it: it shows those of its target.
    #[error("region {name:?} is an alias: its mappings are those of the region that it shows")]
    IsAlias {
        /// The alias's name.
        name: String,
    },
    /// A region cannot be removed while aliases show it.
    #[error("region {name:?} cannot be removed: region {alias} is an alias of it")]
    Aliased {
        /// The region's name.
        name: String,
        /// The id of one of its aliases.
        alias: u64,
    },
    /// 2^64 regions have been created.
    #[error("no region ids are left")]
    OutOfRegionIds,
}

/// Why a transaction could not be committed. Regions and flat view are what they were.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// A step failed. The steps before it are undone, but for what the failure lists.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// An earlier change could not be undone in a range that this one would work on, and
    /// trying again has failed, too.
    #[error("gpa {range} is still damaged by an earlier change that could not be undone")]
    Damaged {
        /// The range.
        range: MemoryRange,
    },
}

/// A step that failed, and how undoing the steps before it went.
#[derive(Debug, Error)]
#[error("cannot {step} ({who}){}", undone(.undo))]
pub struct StepFailure {
    /// What was to be done.
    pub step: String,
    /// The guest physical range of the step.
    pub range: MemoryRange,
    /// Who refused: a listener's name, or the VA mapper.
    pub who: String,
    /// What could not be undone; empty where the state is what it was.
    pub undo: Vec<UndoFailure>,
    /// Why it refused.
    #[source]
    pub cause: ListenerError,
}

/// A step back that failed, too. The manager tries it again with the next change.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot {step} ({who}): {cause}")]
pub struct UndoFailure {
    /// What was to be done.
    pub step: String,
    /// The guest physical range of the step.
    pub range: MemoryRange,
    /// Who refused.
    pub who: String,
    /// Why, as text.
    pub cause: String,
}

fn undone(failures: &[UndoFailure]) -> String {
    if failures.is_empty() {
        return String::new();
    }
    let ranges: Vec<String> = failures
        .iter()
        .map(|failure| failure.range.to_string())
        .collect();
    format!("; undoing failed, too, at {}", ranges.join(", "))
}

/// Why a listener could not be registered. It holds nothing.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddListenerError {
    /// The manager cannot be changed now.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The listener refused one of the present slots, or present RAM.
    #[error(transparent)]
    Step(#[from] StepFailure),
    /// An earlier change could not be undone in a range, and trying again has failed, too: a slot
    /// over it could show the wrong memory.
    #[error("gpa {range} is still damaged by an earlier change that could not be undone")]
    Damaged {
        /// The range.
        range: MemoryRange,
    },
}

/// Why a listener was not taken out, or what went wrong when it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoveListenerError {
    /// The manager cannot be changed now.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// No listener has this id.
    #[error("no listener has the id {id}")]
    Unknown {
        /// The id.
        id: u64,
    },
    /// The listener is gone, but could not give up all of its slots.
    #[error("listener {name} could not give up all of its slots")]
    Detach {
        /// The listener's name.
        name: String,
        /// Why.
        #[source]
        source: ListenerError,
    },
}
