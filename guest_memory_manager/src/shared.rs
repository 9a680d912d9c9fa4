//! What the handles of one guest memory share.

use crate::acknowledgement::Acknowledgement;
use crate::backing::SharedMemoryBacking;
use crate::error::{ChangeError, VisibilityError};
use crate::layout::MemoryLayout;
use crate::ram::{self, RamRegion};
#[cfg(feature = "remote")]
use crate::remote::Remotes;
use crate::transaction::GuestMemoryTransaction;
use crate::write_only::WriteOnlyRegions;
use mapping_manager::VaMapper;
use memory_range::MemoryRange;
use region_manager::RegionManager;
use sparse_alloc::{Backing, MappableCache};
use std::sync::Arc;

/// One view: its regions, its VA mapper, and what its RAM consists of.
pub(crate) struct Shared {
    pub(crate) layout: MemoryLayout,
    pub(crate) regions: RegionManager<Backing>,
    pub(crate) mapper: Arc<VaMapper>,
    /// By address.
    pub(crate) ram: Vec<RamRegion>,
    pub(crate) write_only: WriteOnlyRegions,
    pub(crate) backing: SharedMemoryBacking,
    pub(crate) files: MappableCache,
    #[cfg(feature = "remote")]
    pub(crate) remotes: Remotes,
}

impl Shared {
    /// Begins a change of the flat view: every change but the first, the build, goes this way.
    pub(crate) fn transaction(self: &Arc<Self>) -> Result<GuestMemoryTransaction<'_>, ChangeError> {
        GuestMemoryTransaction::begin(self)
    }

    /// What is to be waited for after a change.
    pub(crate) fn acknowledgement(&self) -> Acknowledgement {
        #[cfg(feature = "remote")]
        let acknowledgement = self.remotes.acknowledgement();
        #[cfg(not(feature = "remote"))]
        let acknowledgement = Acknowledgement::complete();
        acknowledgement
    }

    /// Finds the region of RAM that has exactly this range.
    pub(crate) fn ram_region(&self, range: MemoryRange) -> Result<&RamRegion, VisibilityError> {
        let at = self
            .ram
            .binary_search_by_key(&range.start(), |region| region.range.start());
        let found = at.ok().and_then(|index| self.ram.get(index));
        match found {
            Some(region) if region.range == range => Ok(region),
            _ => Err(VisibilityError::InvalidRamRegion {
                range,
                nearest: ram::nearest(&self.ram, range),
            }),
        }
    }
}
