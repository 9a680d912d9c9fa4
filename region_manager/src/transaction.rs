//! A set of edits that becomes visible as one change of the flat view.

use crate::change_lock::ChangeGuard;
use crate::manager::State;
use crate::reason::{Edit, Reason};
use crate::table::{Edits, RegionTable};
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
}

impl<'a, B: BackingHandle> Transaction<'a, B> {
    pub(crate) fn new(state: ChangeGuard<'a, State<B>>) -> Self {
        Self { state }
    }

    /// Creates a region, neither mapped nor holding any mapping.
    ///
    /// # Errors
    ///
    /// A length of zero or off the page grid; a place that is unaligned or outside the
    /// address space.
    pub fn create_region(&mut self, spec: RegionSpec) -> Result<RegionId, EditError> {
        let (table, edits) = self.parts();
        let id = table.create(spec, edits)?;
        edits.note(Edit::Create(id));
        Ok(id)
    }

    /// Creates a region that shows a part of another one: `spec.len` bytes from `offset` on, as they
    /// are now and as they change later.
    ///
    /// The alias is mapped by itself, with its own parameters, whether its target is mapped or not;
    /// so it can be read-only where the target is not. What the target's *mappings* don't allow
    /// the alias doesn't, either. Kind and [`one_slot`](RegionSpec::one_slot) are the alias's own. An
    /// alias of an alias is fine; the target must stay as long as the alias does.
    ///
    /// ```
    /// use memory_range::{Access, MemoryRange};
    /// use region_manager::{MapParams, RegionManager, RegionSpec, recording_sink};
    ///
    /// let manager: RegionManager<&str> = RegionManager::new(0x10_0000, recording_sink().0)?;
    /// let mut change = manager.transaction()?;
    /// let ram = change.create_region(RegionSpec::new("ram", 0x4000, 255).ram())?;
    /// let high = change.create_alias(RegionSpec::new("high", 0x1000, 255), ram, 0x3000)?;
    /// change.map_region(high, MapParams::new(0x8_0000, Access::ReadOnly))?;
    /// change.add_mapping(ram, MemoryRange::new(0..0x4000), "memfd", 0, Access::ReadWrite)?;
    /// let plan = change.commit()?;
    /// assert_eq!(plan.va_ops()[0].to_string(), "map 0x80000-0x81000 ro from memfd at 0x3000");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// No region has the target's id; the offset is unaligned, or the alias would end past the
    /// target's end; and as for [`create_region`](Self::create_region).
    pub fn create_alias(
        &mut self,
        spec: RegionSpec,
        target: RegionId,
        offset: u64,
    ) -> Result<RegionId, EditError> {
        let (table, edits) = self.parts();
        let id = table.create_alias(spec, target, offset, edits)?;
        edits.note(Edit::CreateAlias(id));
        Ok(id)
    }

    /// Removes a region, unmapping it if it is mapped.
    ///
    /// # Errors
    ///
    /// No region has this id, or an alias shows it.
    pub fn remove_region(&mut self, id: RegionId) -> Result<(), EditError> {
        let (table, edits) = self.parts();
        table.remove(id, edits)?;
        edits.note(Edit::Remove(id));
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
        let (table, edits) = self.parts();
        table.place(id, Some(params), edits)?;
        edits.note(Edit::Map(id, params));
        Ok(())
    }

    /// Unmaps a region; nothing happens if it isn't mapped. Its mappings stay in it.
    ///
    /// # Errors
    ///
    /// No region has this id.
    pub fn unmap_region(&mut self, id: RegionId) -> Result<(), EditError> {
        let (table, edits) = self.parts();
        table.place(id, None, edits)?;
        edits.note(Edit::Unmap(id));
        Ok(())
    }

    /// Shows `backing` from `offset` on in a part of a region, visible or not.
    ///
    /// `range` counts from the region's start. What is mapped there already is replaced;
    /// mappings that reach beyond `range` keep their other parts.
    ///
    /// # Errors
    ///
    /// No region has this id, or it is an alias; the range is empty or leaves the region; the
    /// offset is unaligned, or the range's end in the backing exceeds 2^64.
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
        let (table, edits) = self.parts();
        table.set_mapping(id, range, Some(mapping), edits)?;
        edits.note(Edit::AddMapping(id, range, access));
        Ok(())
    }

    /// Takes out what is mapped in a part of a region; mappings that reach beyond it are cut.
    ///
    /// Nothing happens where nothing is mapped.
    ///
    /// # Errors
    ///
    /// No region has this id, or it is an alias; the range is empty or leaves the region.
    pub fn remove_mappings(&mut self, id: RegionId, range: MemoryRange) -> Result<(), EditError> {
        let (table, edits) = self.parts();
        table.set_mapping(id, range, None, edits)?;
        edits.note(Edit::RemoveMappings(id, range));
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
        self.state.plan()
    }

    /// Makes the edits visible: plans, applies, publishes. Returns the plan that was carried
    /// out.
    ///
    /// # Errors
    ///
    /// A step failed or a damaged range is in the way. The edits are abandoned and the steps
    /// undone; the error says what could not be.
    pub fn commit(mut self) -> Result<Arc<Plan<B>>, CommitError> {
        self.make()?;
        Ok(self.state.last_plan.clone().unwrap_or_default())
    }

    /// Does what [`commit`](Self::commit) does, for who doesn't look at the plan: that is a little
    /// quicker.
    ///
    /// # Errors
    ///
    /// As for [`commit`](Self::commit).
    pub fn commit_unseen(mut self) -> Result<(), CommitError> {
        self.make()
    }

    fn make(&mut self) -> Result<(), CommitError> {
        self.state.commit()?;
        self.state.edits.inverses.clear();
        Ok(())
    }

    fn parts(&mut self) -> (&mut RegionTable<B>, &mut Edits<B>) {
        let state = &mut *self.state;
        (&mut state.table, &mut state.edits)
    }
}

impl<B: BackingHandle> Drop for Transaction<'_, B> {
    fn drop(&mut self) {
        let (table, edits) = self.parts();
        while let Some(inverse) = edits.inverses.pop() {
            table.revert(inverse);
        }
        edits.dirty.clear();
        edits.winners_change = false;
        edits.reason = Reason::default();
    }
}
