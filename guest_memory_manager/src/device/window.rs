//! What a device window shows.

use super::control::DeviceMemoryControl;
use super::region::DeviceRegion;
use super::to_mappable::ToMappable;
use crate::acknowledgement::Acknowledgement;
use crate::error::{AliasError, DeviceMemoryError};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Backing, Mappable};
use std::sync::Arc;

/// Says what a device window shows.
#[derive(Debug)]
pub struct DeviceMemoryWindow {
    region: Arc<DeviceRegion>,
}

impl DeviceMemoryWindow {
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

    /// Shows `len` bytes of a file, from `file_offset` on, at `offset` in the window. All three
    /// are multiples of the page size.
    ///
    /// What the window shows there already is replaced; mappings that reach beyond keep their other
    /// parts. Where the guest sees the window, it sees the change at once.
    ///
    /// # Errors
    ///
    /// The range is empty, unaligned, wraps, or leaves the window; it reaches past the end of the
    /// file; the file cannot be mapped, or not writable as asked; or the change failed. The
    /// window shows what it showed.
    pub fn map(
        &self,
        offset: u64,
        file: &impl ToMappable,
        file_offset: u64,
        len: u64,
        writable: bool,
    ) -> Result<Acknowledgement, DeviceMemoryError> {
        // Before the lock is taken: a file may have to be asked what it is.
        let shown = self.prepare(offset, file, file_offset, len, writable)?;
        let mut change = self.region.shared.transaction()?;
        change.show(&self.region, shown)?;
        Ok(change.commit_now()?)
    }

    /// Shows nothing any more in `len` bytes from `offset` on: the guest's accesses there are MMIO
    /// exits, or find the fill of a [one-slot window](super::WindowOptions::one_slot). Mappings that
    /// reach beyond keep their other parts.
    ///
    /// # Errors
    ///
    /// The range is empty, unaligned, wraps, or leaves the window; or the change failed. The window
    /// shows what it showed.
    pub fn unmap(&self, offset: u64, len: u64) -> Result<Acknowledgement, DeviceMemoryError> {
        let range = self.range(offset, len)?;
        let mut change = self.region.shared.transaction()?;
        change.clear(&self.region, range)?;
        Ok(change.commit_now()?)
    }

    /// Makes an alias: a window that shows what this one shows in `len` bytes from `offset` on, and
    /// whatever it will show there. The alias has a place and a limit of its own, so that a guest may
    /// see the same memory at a second address, or writable here and read-only there. It shows the
    /// same whether this window is in the guest's sight or not.
    ///
    /// An alias keeps the window, though nobody may hold a handle of it any more.
    ///
    /// # Errors
    ///
    /// The range is empty, unaligned, wraps, or leaves the window.
    pub fn alias(
        &self,
        offset: u64,
        len: u64,
        name: String,
    ) -> Result<DeviceMemoryControl, AliasError> {
        DeviceRegion::alias_of_window(&self.region, offset, len, name)
            .map(|region| DeviceMemoryControl::new(Arc::new(region)))
    }

    /// Checks what is to be shown, without the change lock.
    pub(crate) fn prepare(
        &self,
        offset: u64,
        file: &impl ToMappable,
        file_offset: u64,
        len: u64,
        writable: bool,
    ) -> Result<Shown, DeviceMemoryError> {
        let range = self.range(offset, len)?;
        let window = || self.region.name.clone();
        let mappable = file
            .to_mappable(&self.region.shared.files, &self.region.name)
            .map_err(|source| DeviceMemoryError::File {
                window: window(),
                source,
            })?;
        // Checked here, too, and not only when it is mapped: a window that is not in sight would
        // otherwise keep what can never be shown.
        if writable && !mappable.access().is_writable() {
            return Err(DeviceMemoryError::ReadOnlyFile { window: window() });
        }
        check_end(&mappable, file_offset, len, window)?;
        Ok(Shown {
            range,
            backing: Backing::from(mappable),
            offset: file_offset,
            access: Access::from_writable(writable),
        })
    }

    pub(crate) fn region(&self) -> &DeviceRegion {
        &self.region
    }

    pub(crate) fn range(&self, offset: u64, len: u64) -> Result<MemoryRange, DeviceMemoryError> {
        MemoryRange::try_from_len(offset, len).map_err(|source| DeviceMemoryError::BadRange {
            window: self.region.name.clone(),
            offset,
            len,
            source,
        })
    }
}

/// A part of a window, and what it is to show.
#[derive(Debug)]
pub(crate) struct Shown {
    /// Offsets in the window.
    pub(crate) range: MemoryRange,
    pub(crate) backing: Backing,
    /// The offset in the backing in bytes.
    pub(crate) offset: u64,
    pub(crate) access: Access,
}

/// Refuses what reaches past the end of a file. A device has none; it says so when it is mapped.
fn check_end(
    mappable: &Mappable,
    file_offset: u64,
    len: u64,
    window: impl Fn() -> String,
) -> Result<(), DeviceMemoryError> {
    // What wraps lies past every end.
    let end = file_offset.checked_add(len);
    let Ok(Some(file_len)) = mappable.past_end(end.unwrap_or(u64::MAX)) else {
        return Ok(());
    };
    Err(DeviceMemoryError::PastEndOfFile {
        window: window(),
        file_offset,
        len,
        file_len,
    })
}
