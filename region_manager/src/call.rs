//! What a neighbour is asked to do.

use crate::dma::SubMapping;
use crate::listener::ListenerId;
use crate::{BackingHandle, Slot, VaOp};
use memory_range::MemoryRange;
use std::borrow::Cow;

/// One call that was made, or is to be made, to one neighbour.
///
/// Those of a plan borrow its operations; those that are kept own theirs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Call<'a, B: Clone> {
    Remove(ListenerId, Slot),
    Add(ListenerId, Slot),
    Replaced(ListenerId, MemoryRange),
    Unmap(ListenerId, Cow<'a, SubMapping<B>>),
    Map(ListenerId, Cow<'a, SubMapping<B>>),
    Va(Cow<'a, VaOp<B>>),
}

impl<B: BackingHandle> Call<'_, B> {
    /// The guest physical range that the call is about.
    pub(crate) fn range(&self) -> MemoryRange {
        match self {
            Self::Remove(_, slot) | Self::Add(_, slot) => slot.range,
            Self::Replaced(_, range) => *range,
            Self::Unmap(_, mapping) | Self::Map(_, mapping) => mapping.range,
            Self::Va(op) => op.range(),
        }
    }

    pub(crate) fn listener(&self) -> Option<ListenerId> {
        match self {
            Self::Remove(id, _)
            | Self::Add(id, _)
            | Self::Replaced(id, _)
            | Self::Unmap(id, _)
            | Self::Map(id, _) => Some(*id),
            Self::Va(_) => None,
        }
    }

    /// Says what the call does, for errors and inspection.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Remove(_, slot) => format!("remove slot {slot}"),
            Self::Add(_, slot) => format!("add slot {slot}"),
            Self::Replaced(_, range) => format!("announce replaced contents of {range}"),
            Self::Unmap(_, mapping) => format!("unmap for DMA {mapping}"),
            Self::Map(_, mapping) => format!("map for DMA {mapping}"),
            Self::Va(op) => op.to_string(),
        }
    }
}
