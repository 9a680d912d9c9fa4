//! What a DMA target is shown.

use crate::vtl::Vtl;
use memory_range::MemoryRange;

/// Says what a DMA target is shown. The default: all RAM that VTL0 sees, where it is.
#[derive(Clone, Debug)]
pub struct DmaOptions {
    pub(crate) vtl: Vtl,
    pub(crate) offset: u64,
    pub(crate) only: Option<Vec<MemoryRange>>,
    pub(crate) device_memory: bool,
}

impl Default for DmaOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl DmaOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self {
            vtl: Vtl::Vtl0,
            offset: 0,
            only: None,
            device_memory: false,
        }
    }

    /// Shows what this trust level sees: nobody but VTL2 reaches VTL2's RAM.
    #[must_use]
    pub fn vtl(mut self, vtl: Vtl) -> Self {
        self.vtl = vtl;
        self
    }

    /// Adds `offset` to every address. In bytes, a multiple of the page size.
    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Shows only these guest physical ranges, in any order. What reaches over a border is cut.
    #[must_use]
    pub fn only(mut self, ranges: impl IntoIterator<Item = MemoryRange>) -> Self {
        self.only = Some(ranges.into_iter().collect());
        self
    }

    /// Shows memory of devices, too, for DMA between devices. Not the fill of a window: there is
    /// nothing behind it that a device could be meant to reach.
    #[must_use]
    pub fn include_device_memory(mut self) -> Self {
        self.device_memory = true;
        self
    }
}
