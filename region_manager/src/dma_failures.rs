//! What DMA listeners don't hold, although it is visible.

use crate::dma::{DmaFailure, SubMapping};
use crate::listener::ListenerId;
use std::collections::BTreeMap;

/// Device memory that listeners could not map, by listener and address.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DmaFailures<B> {
    // A listener has one for each sub-mapping at most, and these don't overlap.
    by_start: BTreeMap<(ListenerId, u64), DmaFailure<B>>,
}

impl<B> Default for DmaFailures<B> {
    fn default() -> Self {
        Self {
            by_start: BTreeMap::new(),
        }
    }
}

impl<B> DmaFailures<B> {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &DmaFailure<B>> {
        self.by_start.values()
    }

    /// Whether the listener goes without this sub-mapping.
    pub(crate) fn contains(&self, listener: ListenerId, mapping: &SubMapping<B>) -> bool {
        let key = (listener, mapping.range.start());
        !self.by_start.is_empty() && self.by_start.contains_key(&key)
    }

    pub(crate) fn insert(&mut self, failure: DmaFailure<B>) {
        let key = (failure.listener, failure.mapping.range.start());
        self.by_start.insert(key, failure);
    }

    /// Forgets that the listener goes without; tells whether it did.
    pub(crate) fn remove(&mut self, listener: ListenerId, mapping: &SubMapping<B>) -> bool {
        let key = (listener, mapping.range.start());
        !self.by_start.is_empty() && self.by_start.remove(&key).is_some()
    }

    /// Forgets a listener.
    pub(crate) fn forget(&mut self, listener: ListenerId) {
        self.by_start.retain(|(of, _), _| *of != listener);
    }

    /// Takes in what is new.
    pub(crate) fn extend(&mut self, new: Self) {
        self.by_start.extend(new.by_start);
    }
}
