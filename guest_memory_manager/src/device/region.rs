//! What the two handles of a device window share.

use crate::acknowledgement::Acknowledgement;
use crate::error::ChangeError;
use crate::shared::Shared;
use region_manager::{EditError, RegionId, Transaction};
use sparse_alloc::Backing;
use std::fmt;
use std::sync::Arc;

/// A region of device memory; removed when the last handle of it is dropped.
pub(crate) struct DeviceRegion {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: RegionId,
    pub(crate) name: String,
    pub(crate) len: u64,
}

impl DeviceRegion {
    pub(crate) fn change(
        &self,
        edit: impl FnOnce(&mut Transaction<'_, Backing>, RegionId) -> Result<(), EditError>,
    ) -> Result<Acknowledgement, ChangeError> {
        let ((), acknowledgement) = self.shared.change(|change| edit(change, self.id))?;
        Ok(acknowledgement)
    }
}

impl Drop for DeviceRegion {
    fn drop(&mut self) {
        if let Err(error) = self.change(|change, id| change.remove_region(id)) {
            // It stays in the list of regions, where inspection shows it.
            log::error!("device window {:?} cannot be removed: {error}", self.name);
        }
    }
}

impl fmt::Debug for DeviceRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceRegion")
            .field("name", &self.name)
            .field("len", &format_args!("{:#x}", self.len))
            .finish_non_exhaustive()
    }
}
