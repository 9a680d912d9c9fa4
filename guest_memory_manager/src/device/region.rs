//! What the handles of a device window share.

use super::options::{Fill, WindowOptions};
use crate::error::{AliasError, ChangeError};
use crate::ram::{self, DEVICE_PRIORITY};
use crate::shared::Shared;
use memory_range::MemoryRange;
use region_manager::{RegionId, RegionSpec};
use std::fmt;
use std::sync::Arc;

/// A region of device memory; removed when the last handle of it is dropped.
pub(crate) struct DeviceRegion {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: RegionId,
    pub(crate) name: String,
    pub(crate) len: u64,
    /// What the holes of a one-slot window read as.
    pub(crate) fill: Option<Fill>,
    /// The window that an alias shows a part of. A region with aliases cannot be removed, so it
    /// must go after this one: fields are dropped after `drop` has removed the alias.
    pub(crate) target: Option<Arc<DeviceRegion>>,
}

impl DeviceRegion {
    /// Makes a window that shows nothing, or its fill, and is nowhere yet.
    pub(crate) fn window(
        shared: &Arc<Shared>,
        options: WindowOptions,
        len: u64,
        name: String,
    ) -> Result<Self, ChangeError> {
        let spec = spec(&name, len, options.fill);
        let mut change = shared.transaction()?;
        let id = change.edits().create_region(spec)?;
        if let Some(fill) = options.fill {
            // The length is a good one, or there would be no region.
            let whole = MemoryRange::try_from_len(0, len).unwrap_or_default();
            let shown = fill.shown(whole);
            let edits = change.edits();
            edits.add_mapping(id, whole, shown.backing, shown.offset, shown.access)?;
        }
        change.commit_now()?;
        Ok(Self {
            shared: shared.clone(),
            id,
            name,
            len,
            fill: options.fill,
            target: None,
        })
    }

    /// Makes an alias of a part of a window.
    pub(crate) fn alias_of_window(
        target: &Arc<Self>,
        offset: u64,
        len: u64,
        name: String,
    ) -> Result<Self, AliasError> {
        let part = MemoryRange::try_from_len(offset, len);
        let part = part.map_err(|source| AliasError::BadRange {
            window: target.name.clone(),
            offset,
            len,
            source,
        })?;
        // Slots are cut in the alias as they are in the window.
        let spec = spec(&name, len, target.fill);
        let id = create_alias(&target.shared, spec, target.id, part)?;
        Ok(Self {
            shared: target.shared.clone(),
            id,
            name,
            len,
            fill: None,
            target: Some(target.clone()),
        })
    }

    /// Makes an alias of a part of a region of RAM, which is there for ever.
    pub(crate) fn alias_of_ram(
        shared: &Arc<Shared>,
        range: MemoryRange,
        name: String,
    ) -> Result<Self, AliasError> {
        let vtl2 = shared.layout.vtl2_range();
        if vtl2.is_some_and(|vtl2| vtl2.overlaps(&range)) {
            return Err(AliasError::Vtl2Ram { range });
        }
        let found = shared.ram.iter().find(|one| one.range.contains(&range));
        let Some((ram, part)) = found
            .filter(|_| !range.is_empty())
            .and_then(|ram| Some((ram, range.shifted_down(ram.range.start())?)))
        else {
            return Err(AliasError::NotInOneRamRegion {
                range,
                nearest: ram::nearest(&shared.ram, range),
            });
        };
        let spec = spec(&name, range.len(), None).ram();
        let id = create_alias(shared, spec, ram.id, part)?;
        Ok(Self {
            shared: shared.clone(),
            id,
            name,
            len: range.len(),
            fill: None,
            target: None,
        })
    }

    fn remove(&self) -> Result<(), ChangeError> {
        let mut change = self.shared.transaction()?;
        change.edits().remove_region(self.id)?;
        change.commit_now()?;
        Ok(())
    }
}

fn spec(name: &str, len: u64, fill: Option<Fill>) -> RegionSpec {
    let spec = RegionSpec::new(name, len, DEVICE_PRIORITY);
    match fill {
        Some(_) => spec.one_slot(),
        None => spec,
    }
}

fn create_alias(
    shared: &Arc<Shared>,
    spec: RegionSpec,
    target: RegionId,
    part: MemoryRange,
) -> Result<RegionId, ChangeError> {
    let mut change = shared.transaction()?;
    let id = change.edits().create_alias(spec, target, part.start())?;
    change.commit_now()?;
    Ok(id)
}

impl Drop for DeviceRegion {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            // It stays in the list of regions, where inspection shows it.
            log::error!("device window {:?} cannot be removed: {error}", self.name);
        }
    }
}

impl fmt::Debug for DeviceRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let target = self.target.as_ref().map(|target| &target.name);
        f.debug_struct("DeviceRegion")
            .field("name", &self.name)
            .field("len", &format_args!("{:#x}", self.len))
            .field("alias_of", &target)
            .finish_non_exhaustive()
    }
}
