//! What a DMA target could not follow, and was left behind at.

use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;

/// Something that a DMA target refused, and that did not undo the change.
#[derive(Clone, Debug, PartialEq, Eq, Inspect)]
#[non_exhaustive]
pub struct DmaFailure {
    /// The target's name.
    pub target: String,
    /// The guest physical addresses of device memory that the target lacks; `None` where it could
    /// not finish a change, as when a table could not be sent.
    #[inspect(skip)]
    pub range: Option<MemoryRange>,
    /// Why, as text.
    pub cause: String,
}

impl fmt::Display for DmaFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            target,
            range,
            cause,
        } = self;
        match range {
            Some(range) => write!(f, "{target} lacks {range}: {cause}"),
            None => write!(f, "{target} has not finished a change: {cause}"),
        }
    }
}
