//! Several changes of guest memory as one.

use crate::acknowledgement::Acknowledgement;
use crate::device::{DeviceMemoryControl, DeviceMemoryWindow, DeviceRegion, Shown, ToMappable};
use crate::error::{ChangeError, DeviceMemoryError, VisibilityError};
use crate::shared::Shared;
use crate::visibility::RamVisibility;
use memory_range::{Access, MemoryRange};
use region_manager::{EditError, MapParams, Plan, RegionId, Transaction};
use sparse_alloc::Backing;
use std::fmt;
use std::sync::Arc;

/// Any number of changes of guest memory that take effect as one, or not at all.
///
/// Begun by [`GuestMemoryManager::transaction`](crate::GuestMemoryManager::transaction), or by the
/// function of the same name of the handle that a device has. Nothing happens before it is
/// committed; dropping it abandons what was asked for. Of several wishes for the same thing the last
/// one counts.
///
/// It holds the change lock. Other threads that change guest memory wait for it; on this thread,
/// every other change is refused meanwhile (`LockError::Reentrant`), also the one that a handle makes
/// when it is dropped: drop no window and no control while a transaction is open. Accesses to guest
/// memory go on as always.
///
/// ```
/// use guest_memory_manager::{
///     DeviceMemoryControl, GuestMemoryBuilder, MemoryLayout, RamVisibility, SharedMemory,
/// };
/// use memory_range::MemoryRange;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let gap = MemoryRange::new(0x10_0000..0x20_0000);
/// let layout = MemoryLayout::new(1 << 20, &[gap], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let windows = memory.device_memory_mapper();
/// let frames = SharedMemory::new("frames", 0x4000)?;
/// let (mut first, window) = windows.new_region(0x4000, "bar0".into())?;
/// window.map(0, &frames, 0, 0x4000, true)?;
/// let (mut second, _) = windows.new_region(0x4000, "bar1".into())?;
/// first.map_to_guest(0x10_0000, true)?;
/// second.map_to_guest(0x10_4000, true)?;
///
/// // The two change places, and a segment of RAM is locked: one change.
/// let mut change = memory.transaction()?;
/// change.map_to_guest(&mut first, 0x10_4000, true)?;
/// change.map_to_guest(&mut second, 0x10_0000, true)?;
/// let segment = MemoryRange::new(0xf_0000..0x10_0000);
/// change.set_ram_visibility(segment, RamVisibility::ReadOnly)?;
/// // Taken from a running guest and given to it again in the same place: nothing but the segment.
/// assert_eq!(change.plan().gaps(), [segment]);
/// change.commit_now()?.wait();
///
/// assert_eq!(first.gpa()?, Some(0x10_4000));
/// # Ok(())
/// # }
/// ```
#[must_use = "the changes take effect when the transaction is committed; dropping it abandons them"]
pub struct GuestMemoryTransaction<'a> {
    shared: &'a Arc<Shared>,
    edits: Transaction<'a, Backing>,
    /// Which regions of RAM are to become write-only, and which no longer to be; in most changes none.
    write_only: Vec<(RegionId, bool)>,
}

impl<'a> GuestMemoryTransaction<'a> {
    pub(crate) fn begin(shared: &'a Arc<Shared>) -> Result<Self, ChangeError> {
        Ok(Self {
            shared,
            edits: shared.regions.transaction()?,
            write_only: Vec::new(),
        })
    }

    /// Asks for a visibility of one region of RAM.
    ///
    /// # Errors
    ///
    /// The range is not exactly one region's. The transaction is as it was.
    pub fn set_ram_visibility(
        &mut self,
        range: MemoryRange,
        visibility: RamVisibility,
    ) -> Result<(), VisibilityError> {
        let region = self.shared.ram_region(range)?;
        let access = match visibility {
            RamVisibility::Unmapped | RamVisibility::WriteOnly => None,
            RamVisibility::ReadOnly => Some(Access::ReadOnly),
            RamVisibility::ReadWrite => Some(Access::ReadWrite),
        };
        let edited = match access {
            None => self.edits.unmap_region(region.id),
            Some(access) => {
                let params = MapParams::new(range.start(), access).prefetched(region.prefetch);
                self.edits.map_region(region.id, params)
            }
        };
        if let Err(error) = edited {
            return Err(refused(error));
        }
        self.ask_write_only(region.id, visibility == RamVisibility::WriteOnly);
        Ok(())
    }

    /// Tells how the guest will see a region of RAM when what was asked for so far is committed.
    ///
    /// # Errors
    ///
    /// The range is not exactly one region's.
    pub fn ram_visibility(&self, range: MemoryRange) -> Result<RamVisibility, VisibilityError> {
        let region = self.shared.ram_region(range)?;
        let params = self.edits.map_params(region.id);
        let params = params.map_err(ChangeError::from)?;
        Ok(match params.map(|params| params.access) {
            None if self.is_write_only(region.id) => RamVisibility::WriteOnly,
            None => RamVisibility::Unmapped,
            Some(Access::ReadOnly) => RamVisibility::ReadOnly,
            Some(Access::ReadWrite) => RamVisibility::ReadWrite,
        })
    }

    /// Asks for a device window to be shown at `gpa`, as
    /// [`DeviceMemoryControl::map_to_guest`] does.
    ///
    /// # Errors
    ///
    /// The address is unaligned, or the window would end past the address space; or the window
    /// belongs to another manager. The transaction is as it was.
    pub fn map_to_guest(
        &mut self,
        control: &mut DeviceMemoryControl,
        gpa: u64,
        writable: bool,
    ) -> Result<(), ChangeError> {
        self.place(control.region(), gpa, writable)
    }

    /// Asks for a device window to be taken out of the guest's sight.
    ///
    /// # Errors
    ///
    /// The window belongs to another manager.
    pub fn unmap_from_guest(
        &mut self,
        control: &mut DeviceMemoryControl,
    ) -> Result<(), ChangeError> {
        self.displace(control.region())
    }

    /// Tells where the guest will see a device window; `None` if it won't.
    ///
    /// # Errors
    ///
    /// The window belongs to another manager.
    pub fn gpa(&self, control: &DeviceMemoryControl) -> Result<Option<u64>, ChangeError> {
        let region = control.region();
        self.must_own(region)?;
        let params = self.edits.map_params(region.id)?;
        Ok(params.map(|params| params.gpa))
    }

    /// Asks for a part of a device window to show a file, as [`DeviceMemoryWindow::map`] does.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemoryWindow::map`], or the window belongs to another manager. The transaction is
    /// as it was.
    pub fn map(
        &mut self,
        window: &DeviceMemoryWindow,
        offset: u64,
        file: &impl ToMappable,
        file_offset: u64,
        len: u64,
        writable: bool,
    ) -> Result<(), DeviceMemoryError> {
        let shown = window.prepare(offset, file, file_offset, len, writable)?;
        Ok(self.show(window.region(), shown)?)
    }

    /// Asks for a part of a device window to show nothing, or its fill, as
    /// [`DeviceMemoryWindow::unmap`] does.
    ///
    /// # Errors
    ///
    /// As [`DeviceMemoryWindow::unmap`], or the window belongs to another manager. The transaction
    /// is as it was.
    pub fn unmap(
        &mut self,
        window: &DeviceMemoryWindow,
        offset: u64,
        len: u64,
    ) -> Result<(), DeviceMemoryError> {
        let range = window.range(offset, len)?;
        Ok(self.clear(window.region(), range)?)
    }

    /// Computes what committing would do, and does nothing. [`Plan::gaps`] tells where running
    /// vCPUs could miss memory for a moment.
    pub fn plan(&self) -> Plan<Backing> {
        self.edits.plan()
    }

    /// Makes all of it one change.
    ///
    /// All of the change is done when the future is first polled; what it then awaits are other
    /// processes. The future stays on its thread, as the lock does that it holds until it is polled.
    ///
    /// # Errors
    ///
    /// As [`commit_now`](Self::commit_now).
    pub async fn commit(self) -> Result<(), ChangeError> {
        self.commit_now()?.await;
        Ok(())
    }

    /// As [`commit`](Self::commit), for a caller without an executor.
    ///
    /// # Errors
    ///
    /// A step failed. Everything is as it was before, but for what the error says of undoing it.
    pub fn commit_now(self) -> Result<Acknowledgement, ChangeError> {
        if self.write_only.is_empty() {
            self.edits.commit_unseen()?;
        } else {
            // Until the flags are set, nobody sees the new view: whoever looks at one locks both.
            let mut write_only = self.shared.write_only.lock();
            self.edits.commit_unseen()?;
            write_only.change(&self.write_only);
        }
        Ok(self.shared.acknowledgement())
    }

    pub(crate) fn place(
        &mut self,
        region: &DeviceRegion,
        gpa: u64,
        writable: bool,
    ) -> Result<(), ChangeError> {
        self.must_own(region)?;
        let params = MapParams::new(gpa, Access::from_writable(writable));
        Ok(self.edits.map_region(region.id, params)?)
    }

    pub(crate) fn displace(&mut self, region: &DeviceRegion) -> Result<(), ChangeError> {
        self.must_own(region)?;
        Ok(self.edits.unmap_region(region.id)?)
    }

    pub(crate) fn show(&mut self, region: &DeviceRegion, shown: Shown) -> Result<(), ChangeError> {
        self.must_own(region)?;
        let Shown {
            range,
            backing,
            offset,
            access,
        } = shown;
        Ok(self
            .edits
            .add_mapping(region.id, range, backing, offset, access)?)
    }

    pub(crate) fn clear(
        &mut self,
        region: &DeviceRegion,
        range: MemoryRange,
    ) -> Result<(), ChangeError> {
        match region.fill {
            Some(fill) => self.show(region, fill.shown(range)),
            None => {
                self.must_own(region)?;
                Ok(self.edits.remove_mappings(region.id, range)?)
            }
        }
    }

    /// Whether hidden RAM is to take writes.
    fn is_write_only(&self, region: RegionId) -> bool {
        let asked = self.write_only.iter().find(|(asked, _)| *asked == region);
        asked.map_or_else(|| self.shared.write_only.contains(region), |(_, is)| *is)
    }

    /// Notes whether hidden RAM is to take writes, where that is new.
    #[inline]
    fn ask_write_only(&mut self, region: RegionId, wanted: bool) {
        // As nearly always: none is, and none is to be.
        if !wanted && self.write_only.is_empty() && !self.shared.write_only.may_be_any() {
            return;
        }
        if self.is_write_only(region) != wanted {
            self.write_only.retain(|(asked, _)| *asked != region);
            self.write_only.push((region, wanted));
        }
    }

    /// The edits themselves, for regions that come and go.
    pub(crate) fn edits(&mut self) -> &mut Transaction<'a, Backing> {
        &mut self.edits
    }

    /// Ids are numbers: another manager has the same ones.
    fn must_own(&self, region: &DeviceRegion) -> Result<(), ChangeError> {
        if Arc::ptr_eq(self.shared, &region.shared) {
            Ok(())
        } else {
            Err(ChangeError::OtherManager {
                window: region.name.clone(),
            })
        }
    }
}

/// Out of the way of what succeeds.
#[cold]
#[inline(never)]
fn refused(error: EditError) -> VisibilityError {
    ChangeError::from(error).into()
}

impl fmt::Debug for GuestMemoryTransaction<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemoryTransaction")
            .finish_non_exhaustive()
    }
}
