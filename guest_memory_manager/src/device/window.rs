//! What a device window shows.

use super::region::DeviceRegion;
use super::to_mappable::ToMappable;
use crate::acknowledgement::Acknowledgement;
use crate::error::DeviceMemoryError;
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
        let backing = Backing::from(mappable);
        let access = Access::from_writable(writable);
        Ok(self
            .region
            .change(|change, id| change.add_mapping(id, range, backing, file_offset, access))?)
    }

    /// Shows nothing any more in `len` bytes from `offset` on: the guest's accesses there are MMIO
    /// exits. Mappings that reach beyond keep their other parts.
    ///
    /// # Errors
    ///
    /// The range is empty, unaligned, wraps, or leaves the window; or the change failed.
    pub fn unmap(&self, offset: u64, len: u64) -> Result<Acknowledgement, DeviceMemoryError> {
        let range = self.range(offset, len)?;
        Ok(self
            .region
            .change(|change, id| change.remove_mappings(id, range))?)
    }

    fn range(&self, offset: u64, len: u64) -> Result<MemoryRange, DeviceMemoryError> {
        MemoryRange::try_from_len(offset, len).map_err(|source| DeviceMemoryError::BadRange {
            window: self.region.name.clone(),
            offset,
            len,
            source,
        })
    }
}

/// Refuses what reaches past the end of a file. A device has none; it says so when it is mapped.
fn check_end(
    mappable: &Mappable,
    file_offset: u64,
    len: u64,
    window: impl Fn() -> String,
) -> Result<(), DeviceMemoryError> {
    let Ok(Some(file_len)) = mappable.len() else {
        return Ok(());
    };
    match file_offset.checked_add(len) {
        Some(end) if end <= file_len => Ok(()),
        _ => Err(DeviceMemoryError::PastEndOfFile {
            window: window(),
            file_offset,
            len,
            file_len,
        }),
    }
}
