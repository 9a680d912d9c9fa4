//! Showing and hiding RAM.

use crate::acknowledgement::Acknowledgement;
use crate::error::{ChangeError, HiddenWriteError, VisibilityError};
use crate::shared::Shared;
use crate::transaction::GuestMemoryTransaction;
use inspect::Inspect;
use memory_range::MemoryRange;
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
    /// For writing: reads come from what lies below, as if it were [`Unmapped`](Self::Unmapped).
    ///
    /// No hypervisor has such memory, so a guest's write leaves as an MMIO exit, over a ROM because
    /// its slot is read-only. The VMM applies it by
    /// [`write_hidden_ram`](RamVisibilityControl::write_hidden_ram). A
    /// [`SoftwarePartition`](crate::SoftwarePartition) does that by itself. Devices read what lies
    /// below, too, and [`GuestMemory`](crate::GuestMemory) refuses their writes. All of this is so over
    /// a ROM and over nothing; what lies below and can be written gets the writes itself.
    WriteOnly,
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
        let mut transaction = self.shared.transaction()?;
        for (range, visibility) in changes {
            transaction.set_ram_visibility(*range, *visibility)?;
        }
        Ok(transaction.commit_now()?)
    }

    /// Begins a change of which visibility is a part; see [`GuestMemoryTransaction`].
    ///
    /// # Errors
    ///
    /// This thread is inside a change already, or an earlier one was broken off by a panic.
    pub fn transaction(&self) -> Result<GuestMemoryTransaction<'_>, ChangeError> {
        self.shared.transaction()
    }

    /// Writes to RAM that is [`WriteOnly`](RamVisibility::WriteOnly) now, for a VMM whose guest's
    /// write has just exited. All of the bytes are written, or none of them; they may cross from one
    /// region into the next. An empty slice is written wherever it is.
    ///
    /// No change is made meanwhile: it waits for one that another thread is making. The bytes count
    /// as written by no device, so a [tracked](crate::GuestMemory::tracked) view does not mark them.
    ///
    /// ```
    /// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, RamVisibility};
    /// use memory_range::MemoryRange;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layout = MemoryLayout::new(1 << 20, &[], None)?;
    /// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
    /// let control = memory.ram_visibility_control();
    /// let segment = MemoryRange::new(0xf_0000..0x10_0000);
    /// control.set_ram_visibility_now(segment, RamVisibility::WriteOnly)?.wait();
    ///
    /// control.write_hidden_ram(0xf_fff0, &[0xea])?;
    /// let guest = memory.client().guest_memory_now();
    /// assert!(guest.read_plain::<u8>(0xf_fff0).is_err());
    /// control.set_ram_visibility_now(segment, RamVisibility::ReadOnly)?.wait();
    /// assert_eq!(guest.read_plain::<u8>(0xf_fff0)?, 0xea);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Some of it is not write-only RAM now, or ends past 2^64; nothing is written then. Or the host
    /// has no memory for it. Or this thread is inside a change.
    pub fn write_hidden_ram(&self, gpa: u64, bytes: &[u8]) -> Result<(), HiddenWriteError> {
        self.shared.write_hidden_ram(gpa, bytes)
    }

    /// Tells how the guest sees a region now.
    ///
    /// # Errors
    ///
    /// The range is not exactly one region's, or the view cannot be read now.
    pub fn ram_visibility(&self, range: MemoryRange) -> Result<RamVisibility, VisibilityError> {
        self.shared.transaction()?.ram_visibility(range)
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
        // Asked in one go, so that they are of one moment, and written when changes go on.
        let mut found = Vec::with_capacity(self.shared.ram.len());
        match self.shared.transaction() {
            Ok(change) => {
                let ranges = self.regions();
                found.extend(ranges.map(|range| (range, change.ram_visibility(range))));
            }
            Err(error) => return req.display(&error),
        }
        let mut response = req.respond();
        for (range, visibility) in found {
            match visibility {
                Ok(visibility) => response.field(range.to_string(), &visibility),
                Err(error) => response.display(range.to_string(), &error),
            };
        }
    }
}
