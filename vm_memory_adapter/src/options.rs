//! What a snapshot is to show.

use guest_memory_manager::DmaOptions;

/// Says what a snapshot shows. The default: all visible RAM that cannot fault.
#[derive(Clone, Debug, Default)]
pub struct SnapshotOptions {
    pub(crate) reach: DmaOptions,
    pub(crate) may_fault: bool,
}

impl SnapshotOptions {
    /// Makes the default options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Shows what a DMA target with these options is shown: the trust level, the offset of all
    /// addresses, the ranges, and whether memory of devices is included.
    #[must_use]
    pub fn reach(mut self, reach: DmaOptions) -> Self {
        self.reach = reach;
        self
    }

    /// Accepts files that others can shorten.
    ///
    /// Without it, a device window that shows one is left out, and the manager lists it among its
    /// `dma_failures`. RAM is always sealed.
    ///
    /// vm-memory copies through plain pointers. **An access past the end of a file that was truncated
    /// kills the process with SIGBUS**; nothing recovers from it, as
    /// [`GuestMemory`](guest_memory_manager::GuestMemory) and
    /// [`Lease`](guest_memory_manager::Lease) do. Accept it only for files that nobody else can
    /// write, or where a dead VMM is acceptable.
    #[must_use]
    pub fn memory_that_can_fault(mut self) -> Self {
        self.may_fault = true;
        self
    }
}
