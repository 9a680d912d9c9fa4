//! Why a tree holds no memory map.

use crate::range::RangeError;

/// Says why no memory map could be read from a tree. Every variant but the first names the path,
/// from the root of the tree that was given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// No directory of the tree is a view.
    #[error(
        "no memory map in the tree: no directory has both `regions` and `flat_view` (if the tree was \
         saved with a limited depth, save it with more)"
    )]
    NoView,
    /// Something is missing.
    #[error("`{path}` is missing")]
    Missing {
        /// The path of what is missing.
        path: String,
    },
    /// A directory is there, but was not opened when the tree was saved.
    #[error("`{path}` was not opened: the tree was taken with too little depth")]
    Unopened {
        /// The path of the directory.
        path: String,
    },
    /// Something is of another kind.
    #[error("`{path}` is not {expected}")]
    WrongKind {
        /// The path of what is of another kind.
        path: String,
        /// What was expected there.
        expected: &'static str,
    },
    /// A range can't be read.
    #[error("`{path}` has no range: {text:?}")]
    NotARange {
        /// The path of the range.
        path: String,
        /// What stands there.
        text: String,
        /// What would be a range.
        source: RangeError,
    },
    /// Two ranges overlap that may not.
    #[error("{first} and {second} overlap in `{path}`")]
    Overlap {
        /// The path of the list.
        path: String,
        /// The range that comes first.
        first: crate::ByteRange,
        /// The range that overlaps it.
        second: crate::ByteRange,
    },
}
