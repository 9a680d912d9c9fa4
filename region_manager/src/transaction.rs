//! A set of edits that becomes visible as one change of the flat view.

use crate::change_lock::ChangeGuard;
use crate::manager::State;
use crate::table::{Edit, Inverse};
use crate::{
    BackingHandle, CommitError, EditError, MapParams, Mapping, Plan, RegionId, RegionSpec,
};
use memory_range::{Access, MemoryRange};
use std::sync::Arc;

/// Any number of edits to the regions, committed or abandoned as a whole.
///
/// It holds the manager's change lock: other threads wait until it is committed or dropped.
/// An edit that is refused leaves the transaction as it was. A transaction that is dropped, or
/// whose commit fails, leaves regions, flat view, host addresses and slots as they were.
#[must_use = "edits take effect when the transaction is committed; dropping it abandons them"]
pub struct Transaction<'a, B: BackingHandle> {
    state: ChangeGuard<'a, State<B>>,
    inverses: Vec<Inverse<B>>,
    dirty: Vec<MemoryRange>,
}

impl<'a, B: BackingHandle> Transaction<'a, B> {
    pub(crate) fn new(state: ChangeGuard<'a, State<B>>) -> Self {
        Self {
            state,
            inverses: Vec::new(),
            dirty: Vec::new(),
        }
    }

    /// Creates a region, neither mapped nor holding any mapping.
    ///
    /// # Errors
    ///
    /// A length of zero or off the page grid; a place that is unaligned or outside the
    /// address space.
    pub fn create_region(&mut self, spec: RegionSpec) -> Result<RegionId, EditError> {
        let (id, edit) = self.state.table.create(spec)?;
        self.record(edit);
        Ok(id)
    }

    /// Removes a region, unmapping it if it is mapped.
    ///
    /// # Errors
    ///
    /// No region has this id.
    pub fn remove_region(&mut self, id: RegionId) -> Result<(), EditError> {
        let edit = self.state.table.remove(id)?;
        self.record(edit);
        Ok(())
    }

    /// Maps a region, or moves it or changes its parameters if it is mapped already.
    ///
    /// It may overlap other regions in any way.
    ///
    /// # Errors
    ///
    /// No region has this id; the address is unaligned, or the region would end past the
    /// address space.
    pub fn map_region(&mut self, id: RegionId, params: MapParams) -> Result<(), EditError> {
        let edit = self.state.table.place(id, Some(params))?;
        self.record(edit);
        Ok(())
    }

    /// Unmaps a region; nothing happens if it isn't mapped. Its mappings stay in it.
    ///
    /// # Errors
    ///
    /// No region has this id.
    pub fn unmap_region(&mut self, id: RegionId) -> Result<(), EditError> {
        let edit = self.state.table.place(id, None)?;
        self.record(edit);
        Ok(())
    }

    /// Shows `backing` from `offset` on in a part of a region, visible or not.
    ///
    /// `range` counts from the region's start. What is mapped there already is replaced;
    /// mappings that reach beyond `range` keep their other parts.
    ///
    /// # Errors
    ///
    /// No region has this id; the range is empty or leaves the region; the offset is
    /// unaligned, or the range's end in the backing exceeds 2^64.
    pub fn add_mapping(
        &mut self,
        id: RegionId,
        range: MemoryRange,
        backing: B,
        offset: u64,
        access: Access,
    ) -> Result<(), EditError> {
        let mapping = Mapping {
            backing,
            offset,
            access,
        };
        let edit = self.state.table.set_mapping(id, range, Some(mapping))?;
        self.record(edit);
        Ok(())
    }

    /// Takes out what is mapped in a part of a region; mappings that reach beyond it are cut.
    ///
    /// Nothing happens where nothing is mapped.
    ///
    /// # Errors
    ///
    /// No region has this id; the range is empty or leaves the region.
    pub fn remove_mappings(&mut self, id: RegionId, range: MemoryRange) -> Result<(), EditError> {
        let edit = self.state.table.set_mapping(id, range, None)?;
        self.record(edit);
        Ok(())
    }

    /// Tells where a region is mapped and how; `None` if it isn't.
    ///
    /// # Errors
    ///
    /// No region has this id.
    pub fn map_params(&self, id: RegionId) -> Result<Option<MapParams>, EditError> {
        Ok(self.state.table.get(id)?.mapped)
    }

    /// Computes what [`commit`](Self::commit) would do.
    pub fn plan(&self) -> Plan<B> {
        self.state.plan(&self.dirty).0
    }

    /// Makes the edits visible: plans, applies, publishes. Returns the plan that was carried
    /// out.
    ///
    /// # Errors
    ///
    /// A step failed or a damaged range is in the way. The edits are abandoned and the steps
    /// undone; the error says what could not be.
    pub fn commit(mut self) -> Result<Arc<Plan<B>>, CommitError> {
        let dirty = std::mem::take(&mut self.dirty);
        let plan = self.state.commit(&dirty)?;
        self.inverses.clear();
        Ok(plan)
    }

    fn record(&mut self, edit: Edit<B>) {
        self.inverses.push(edit.inverse);
        for range in edit.dirty {
            if !range.is_empty() {
                self.dirty.push(range);
            }
        }
    }
}

impl<B: BackingHandle> Drop for Transaction<'_, B> {
    fn drop(&mut self) {
        while let Some(inverse) = self.inverses.pop() {
            self.state.table.revert(inverse);
        }
    }
}
