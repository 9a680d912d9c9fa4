//! Where the guest sees a device window.

use super::region::DeviceRegion;
use crate::acknowledgement::Acknowledgement;
use crate::error::ChangeError;
use std::sync::Arc;

/// Says where the guest sees a device window; dropping it takes the window out of its sight.
#[derive(Debug)]
#[must_use = "dropping the control unmaps the window"]
pub struct DeviceMemoryControl {
    region: Arc<DeviceRegion>,
}

impl DeviceMemoryControl {
    pub(crate) fn new(region: Arc<DeviceRegion>) -> Self {
        Self { region }
    }

    /// The window's name.
    pub fn name(&self) -> &str {
        &self.region.name
    }

    /// The window's length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "a window is never empty")]
    pub fn len(&self) -> u64 {
        self.region.len
    }

    /// Shows the window at `gpa`, page aligned; if it is shown elsewhere, it moves in one step.
    ///
    /// It may lie over other windows and under RAM: RAM hides it, and of two windows the one
    /// made first is seen. `writable` limits what the window's mappings allow; a store that is
    /// not allowed leaves the guest as an MMIO exit.
    ///
    /// # Errors
    ///
    /// The address is unaligned, or the window would end past the address space; or the change
    /// failed. The window is where it was.
    pub fn map_to_guest(
        &mut self,
        gpa: u64,
        writable: bool,
    ) -> Result<Acknowledgement, ChangeError> {
        let mut change = self.region.shared.transaction()?;
        change.place(&self.region, gpa, writable)?;
        change.commit_now()
    }

    /// Takes the window out of the guest's sight; nothing happens if it isn't in it.
    ///
    /// If that fails it is still in sight, the log says so, and so does
    /// [`gpa`](Self::gpa); [`try_unmap_from_guest`](Self::try_unmap_from_guest) says why.
    pub fn unmap_from_guest(&mut self) {
        if let Err(error) = self.try_unmap_from_guest() {
            log::error!(
                "device window {:?} cannot be unmapped: {error}",
                self.region.name
            );
        }
    }

    /// As [`unmap_from_guest`](Self::unmap_from_guest), with the error.
    ///
    /// # Errors
    ///
    /// The change failed; the window is where it was.
    pub fn try_unmap_from_guest(&mut self) -> Result<Acknowledgement, ChangeError> {
        let mut change = self.region.shared.transaction()?;
        change.displace(&self.region)?;
        change.commit_now()
    }

    /// Where the guest sees the window; `None` if it doesn't.
    ///
    /// # Errors
    ///
    /// The view cannot be read now.
    pub fn gpa(&self) -> Result<Option<u64>, ChangeError> {
        self.region.shared.transaction()?.gpa(self)
    }

    pub(crate) fn region(&self) -> &DeviceRegion {
        &self.region
    }
}

impl Drop for DeviceMemoryControl {
    fn drop(&mut self) {
        self.unmap_from_guest();
    }
}
