//! What the handles of one guest memory share.

use crate::acknowledgement::Acknowledgement;
use crate::backing::SharedMemoryBacking;
use crate::error::ChangeError;
use crate::layout::MemoryLayout;
use crate::ram::RamRegion;
use mapping_manager::VaMapper;
use region_manager::{EditError, RegionManager, Transaction};
use sparse_alloc::{Backing, MappableCache};
use std::sync::Arc;

/// One view: its regions, its VA mapper, and what its RAM consists of.
pub(crate) struct Shared {
    pub(crate) layout: MemoryLayout,
    pub(crate) regions: RegionManager<Backing>,
    pub(crate) mapper: Arc<VaMapper>,
    pub(crate) ram: Vec<RamRegion>,
    pub(crate) backing: SharedMemoryBacking,
    pub(crate) files: MappableCache,
}

impl Shared {
    /// Makes one change of the flat view out of any number of edits, or none at all.
    pub(crate) fn change<T>(
        &self,
        edit: impl FnOnce(&mut Transaction<'_, Backing>) -> Result<T, EditError>,
    ) -> Result<(T, Acknowledgement), ChangeError> {
        change(&self.regions, edit)
    }
}

/// As [`Shared::change`], before there is a `Shared`.
pub(crate) fn change<T>(
    regions: &RegionManager<Backing>,
    edit: impl FnOnce(&mut Transaction<'_, Backing>) -> Result<T, EditError>,
) -> Result<(T, Acknowledgement), ChangeError> {
    let mut transaction = regions.transaction()?;
    let value = edit(&mut transaction)?;
    let _plan = transaction.commit()?;
    Ok((value, Acknowledgement::complete()))
}
