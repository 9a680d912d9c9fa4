//! Showing and hiding RAM.

use crate::acknowledgement::Acknowledgement;
use crate::error::{ChangeError, VisibilityError};
use crate::ram::{self, RamRegion};
use crate::shared::Shared;
use inspect::Inspect;
use memory_range::{Access, MemoryRange};
use region_manager::MapParams;
use std::fmt;
use std::sync::Arc;

/// How a guest sees a region of RAM.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Inspect)]
#[non_exhaustive]
pub enum RamVisibility {
    /// Not at all: what lies below shows, device memory or nothing. The contents stay.
    Unmapped,
    /// For reading. A guest's write leaves as an MMIO exit and is never applied to RAM.
    ReadOnly,
    /// For reading and writing.
    ReadWrite,
}

/// Changes how the guest sees each region of RAM: for PAM registers, SMRAM, and the like.
#[derive(Clone)]
pub struct RamVisibilityControl {
    shared: Arc<Shared>,
}

impl RamVisibilityControl {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// The regions of RAM, by address.
    pub fn regions(&self) -> impl Iterator<Item = MemoryRange> {
        self.shared.ram.iter().map(|region| region.range)
    }

    /// Changes the visibility of one region. RAM keeps its contents throughout.
    ///
    /// All of the change is done when the future is first polled; what it then awaits are other
    /// processes.
    ///
    /// # Errors
    ///
    /// As [`set_ram_visibility_now`](Self::set_ram_visibility_now).
    pub async fn set_ram_visibility(
        &self,
        range: MemoryRange,
        visibility: RamVisibility,
    ) -> Result<(), VisibilityError> {
        self.set_ram_visibility_now(range, visibility)?.await;
        Ok(())
    }

    /// As [`set_ram_visibility`](Self::set_ram_visibility), for a vCPU thread that has just exited,
    /// say: no executor is needed, and other processes need not be waited for.
    ///
    /// # Errors
    ///
    /// The range is not exactly one region's; or the change failed, and everything is as it was.
    pub fn set_ram_visibility_now(
        &self,
        range: MemoryRange,
        visibility: RamVisibility,
    ) -> Result<Acknowledgement, VisibilityError> {
        self.set_several_now(&[(range, visibility)])
    }

    /// Changes the visibility of several regions in one step, as firmware does that switches twelve
    /// segments with one register write: all of it is done or nothing, and neighbours share system
    /// calls. A vCPU that runs meanwhile can see one region changed and another not yet. Where a
    /// range is given twice, the last one counts.
    ///
    /// # Errors
    ///
    /// As [`set_several_now`](Self::set_several_now).
    pub async fn set_several(
        &self,
        changes: &[(MemoryRange, RamVisibility)],
    ) -> Result<(), VisibilityError> {
        self.set_several_now(changes)?.await;
        Ok(())
    }

    /// As [`set_several`](Self::set_several), for a caller without an executor.
    ///
    /// # Errors
    ///
    /// A range is not exactly one region's; or the change failed. Everything is as it was.
    pub fn set_several_now(
        &self,
        changes: &[(MemoryRange, RamVisibility)],
    ) -> Result<Acknowledgement, VisibilityError> {
        for (range, _) in changes {
            self.find(*range)?;
        }
        let ((), acknowledgement) = self.shared.change(|transaction| {
            for (range, visibility) in changes {
                let Ok(region) = self.find(*range) else {
                    continue;
                };
                let access = match visibility {
                    RamVisibility::Unmapped => {
                        transaction.unmap_region(region.id)?;
                        continue;
                    }
                    RamVisibility::ReadOnly => Access::ReadOnly,
                    RamVisibility::ReadWrite => Access::ReadWrite,
                };
                let params = MapParams::new(range.start(), access);
                transaction.map_region(region.id, params.prefetched(region.prefetch))?;
            }
            Ok(())
        })?;
        Ok(acknowledgement)
    }

    /// Tells how the guest sees a region now.
    ///
    /// # Errors
    ///
    /// The range is not exactly one region's, or the view cannot be read now.
    pub fn ram_visibility(&self, range: MemoryRange) -> Result<RamVisibility, VisibilityError> {
        let region = self.find(range)?;
        let change = self
            .shared
            .regions
            .transaction()
            .map_err(ChangeError::from)?;
        let params = change.map_params(region.id).map_err(ChangeError::from)?;
        Ok(match params.map(|params| params.access) {
            None => RamVisibility::Unmapped,
            Some(Access::ReadOnly) => RamVisibility::ReadOnly,
            Some(Access::ReadWrite) => RamVisibility::ReadWrite,
        })
    }

    fn find(&self, range: MemoryRange) -> Result<&RamRegion, VisibilityError> {
        let found = self.shared.ram.iter().find(|region| region.range == range);
        found.ok_or_else(|| VisibilityError::InvalidRamRegion {
            range,
            nearest: ram::nearest(&self.shared.ram, range),
        })
    }
}

impl fmt::Debug for RamVisibilityControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RamVisibilityControl")
            .finish_non_exhaustive()
    }
}

impl Inspect for RamVisibilityControl {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        for range in self.regions() {
            match self.ram_visibility(range) {
                Ok(visibility) => response.field(range.to_string(), &visibility),
                Err(error) => response.display(range.to_string(), &error),
            };
        }
    }
}
