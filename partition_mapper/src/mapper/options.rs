//! How a mapper shows a view to a partition.

use crate::StoreTaker;
use memory_range::{MemoryRange, sorted};
use std::sync::Arc;

/// Says how a [`PartitionMapper`](crate::PartitionMapper) shows a view to its partition. The
/// default: everything, device memory included, where it is, not pinned.
#[derive(Clone, Debug, Default)]
pub struct MapperOptions {
    pub(crate) name: Option<String>,
    pub(crate) offset: u64,
    pub(crate) filter: Option<Vec<MemoryRange>>,
    pub(crate) pinning: Pinning,
    pub(crate) kinds: Kinds,
    pub(crate) store_taker: Option<Arc<dyn StoreTaker>>,
}

/// Whether memory is pinned as soon as it is shown.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Pinning {
    #[default]
    No,
    Yes,
}

/// Which kinds of memory are shown.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kinds {
    #[default]
    All,
    Ram,
}

impl MapperOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Names the mapper in errors and in inspection; without it, it goes by its partition's name.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Shows what the view has at GPA `g` to the partition at `g + offset`: an alias map. In bytes,
    /// a multiple of the page size.
    #[must_use]
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Shows only these ranges of the view. They may be in any order, overlap, and be empty; no
    /// range at all shows nothing. A slot that reaches over a border is cut there.
    #[must_use]
    pub fn only(mut self, ranges: impl IntoIterator<Item = MemoryRange>) -> Self {
        let ranges: Vec<MemoryRange> = ranges.into_iter().collect();
        self.filter = Some(sorted::flatten(&ranges));
        self
    }

    /// Shows RAM, and no device memory.
    ///
    /// What is RAM stands in the mappings, and not in the slots of a view. So the mapper is
    /// registered as a `region_manager::DmaListener` (`RegionManager::add_dma_listener`); as a
    /// `RegionListener` it refuses every slot with
    /// [`AddError::KindUnknown`](crate::AddError::KindUnknown).
    #[must_use]
    pub const fn ram_only(mut self) -> Self {
        self.kinds = Kinds::Ram;
        self
    }

    /// Offers the guest's stores that reach no memory to `taker`, in the view's addresses, where
    /// the partition has the [power](crate::PartitionMemoryMap::store_offers) to; elsewhere they
    /// are the VMM's to pass on.
    #[must_use]
    pub fn store_taker(mut self, taker: Arc<dyn StoreTaker>) -> Self {
        self.store_taker = Some(taker);
        self
    }

    /// Pins memory as soon as it is shown.
    #[must_use]
    pub const fn pinned(mut self) -> Self {
        self.pinning = Pinning::Yes;
        self
    }
}
