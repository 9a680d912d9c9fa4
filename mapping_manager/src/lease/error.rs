//! Why a lease was not taken.

use crate::fetch::Unanswered;
use sparse_alloc::LinearViewError;
use thiserror::Error;

/// Why guest memory cannot be leased. Nothing is then held.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LeaseError {
    /// The range starts or ends past the end of the view that it was to be taken through.
    #[error("{memory}: {start:#x}-{end:#x} lies outside the view's {len:#x} bytes")]
    Outside {
        /// The name of the memory.
        memory: String,
        /// Where the range starts, as the view counts addresses.
        start: u64,
        /// The first address past it.
        end: u64,
        /// The length of the view in bytes.
        len: u64,
    },
    /// The range ends before it starts, or its length wraps.
    #[error("{memory}: a lease from {start:#x} cannot end at {end:#x}")]
    Reversed {
        /// The name of the memory.
        memory: String,
        /// Where the range starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// Nothing is mapped at an address in the range.
    #[error("{memory}: nothing is mapped at gpa {gpa:#x}")]
    Hole {
        /// The name of the memory.
        memory: String,
        /// The first address that is not mapped.
        gpa: u64,
    },
    /// Nothing is mapped at an address yet, in a lazy mapper that could not find out what belongs
    /// there.
    #[error("{memory}: what belongs at gpa {gpa:#x} was not fetched")]
    NotFetched {
        /// The name of the memory.
        memory: String,
        /// The first address that is not mapped.
        gpa: u64,
        /// Why not.
        #[source]
        why: Unanswered,
    },
    /// What is mapped at an address cannot be written now, and a write lease was asked for.
    #[error("{memory}: gpa {gpa:#x} is read-only")]
    ReadOnly {
        /// The name of the memory.
        memory: String,
        /// The first address that cannot be written.
        gpa: u64,
    },
    /// What is mapped at an address is private to that mapping, or a mere fill: there is nothing
    /// that could stay when the mapping goes.
    #[error("{memory}: gpa {gpa:#x} shows {backing}, which cannot be leased")]
    NotShared {
        /// The name of the memory.
        memory: String,
        /// The first such address.
        gpa: u64,
        /// What it shows: `anonymous`, `zeros` or `ones`.
        backing: String,
    },
    /// The backing has no linear view, which leases point into, and none can be made.
    #[error("{memory}: what gpa {gpa:#x} shows has no linear view")]
    NoLinearView {
        /// The name of the memory.
        memory: String,
        /// The first address that shows the backing.
        gpa: u64,
        /// Why not.
        source: LinearViewError,
    },
    /// The file of the backing has grown since its linear view was made, and a part that has come
    /// since is mapped.
    #[error("{memory}: gpa {gpa:#x} shows what lies past the {len:#x} bytes of `{backing}`'s view")]
    PastLinearView {
        /// The name of the memory.
        memory: String,
        /// The first address that shows something past the end of the view.
        gpa: u64,
        /// The name of the backing.
        backing: String,
        /// The length of the linear view in bytes.
        len: u64,
    },
    /// There are more leases on one backing than can be counted: over a hundred million.
    #[error("{memory}: there are too many leases on what gpa {gpa:#x} shows")]
    TooMany {
        /// The name of the memory.
        memory: String,
        /// The first address that shows the backing.
        gpa: u64,
    },
}
