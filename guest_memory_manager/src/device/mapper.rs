//! Makes device windows.

use super::control::DeviceMemoryControl;
use super::options::WindowOptions;
use super::region::DeviceRegion;
use super::window::DeviceMemoryWindow;
use crate::error::{AliasError, ChangeError};
use crate::shared::Shared;
use crate::transaction::GuestMemoryTransaction;
use memory_range::MemoryRange;
use std::fmt;
use std::sync::Arc;

/// Makes device windows.
///
/// ```
/// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout};
/// use memory_range::MemoryRange;
///
/// # async fn vmm() -> Result<(), Box<dyn std::error::Error>> {
/// let gap = MemoryRange::new(0x10_0000..0x20_0000);
/// let layout = MemoryLayout::new(1 << 20, &[gap], None)?;
/// let memory = GuestMemoryBuilder::new().build(&layout).await?;
///
/// let file = std::fs::File::open("/proc/self/exe")?;
/// let windows = memory.device_memory_mapper();
/// let (mut control, window) = windows.new_region(0x4000, "rom".into())?;
/// window.map(0, &file, 0, 0x1000, false)?;
/// control.map_to_guest(0x18_0000, false)?;
///
/// let guest = memory.client().guest_memory().await?;
/// assert_eq!(guest.read_plain::<[u8; 4]>(0x18_0000)?, *b"\x7fELF");
///
/// control.unmap_from_guest();
/// assert!(guest.read_plain::<u8>(0x18_0000).is_err());
/// # Ok(())
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #     let runtime = tokio::runtime::Builder::new_current_thread().build()?;
/// #     runtime.block_on(vmm())
/// # }
/// ```
#[derive(Clone)]
pub struct DeviceMemoryMapper {
    shared: Arc<Shared>,
}

impl DeviceMemoryMapper {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Makes a window of `len` bytes, a multiple of the page size, that shows nothing and is
    /// nowhere yet.
    ///
    /// The control says where the guest sees the window, the window what is in it; they may be
    /// held by different parts of a VMM. The window exists until both are dropped, and is out of the
    /// guest's sight when the control is.
    ///
    /// # Errors
    ///
    /// The length is zero or off the page grid.
    pub fn new_region(
        &self,
        len: u64,
        name: String,
    ) -> Result<(DeviceMemoryControl, DeviceMemoryWindow), ChangeError> {
        self.new_region_with(WindowOptions::new(), len, name)
    }

    /// As [`new_region`](Self::new_region), with options.
    ///
    /// ```
    /// use guest_memory_manager::{Fill, GuestMemoryBuilder, MemoryLayout, SharedMemory, WindowOptions};
    /// use memory_range::MemoryRange;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let gap = MemoryRange::new(0x10_0000..0x20_0000);
    /// let layout = MemoryLayout::new(1 << 20, &[gap], None)?;
    /// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
    /// let windows = memory.device_memory_mapper();
    /// let options = WindowOptions::new().one_slot(Fill::Ones);
    /// let (mut control, window) = windows.new_region_with(options, 0x8_0000, "dax".into())?;
    /// control.map_to_guest(0x10_0000, true)?;
    ///
    /// let file = SharedMemory::new("file", 0x4000)?;
    /// window.map(0x1000, &file, 0, 0x4000, true)?;
    /// let guest = memory.client().guest_memory_now();
    /// assert_eq!(guest.read_plain::<u16>(0x10_0000)?, 0xffff);
    /// assert_eq!(guest.read_plain::<u16>(0x10_1000)?, 0);
    /// window.unmap(0x1000, 0x4000)?;
    /// assert_eq!(guest.read_plain::<u16>(0x10_1000)?, 0xffff);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`new_region`](Self::new_region).
    pub fn new_region_with(
        &self,
        options: WindowOptions,
        len: u64,
        name: String,
    ) -> Result<(DeviceMemoryControl, DeviceMemoryWindow), ChangeError> {
        let region = DeviceRegion::window(&self.shared, options, len, name)?;
        let region = Arc::new(region);
        Ok((
            DeviceMemoryControl::new(region.clone()),
            DeviceMemoryWindow::new(region),
        ))
    }

    /// Makes an alias of RAM: a window that shows RAM at `range`, a part of one of its regions, at a
    /// second address, in or out of sight as that region may be. It lies under all RAM, as every
    /// window does.
    ///
    /// # Errors
    ///
    /// The range is empty, or not within one region of RAM; or it is VTL2's, which nobody else may
    /// see.
    pub fn ram_alias(
        &self,
        range: MemoryRange,
        name: String,
    ) -> Result<DeviceMemoryControl, AliasError> {
        let region = DeviceRegion::alias_of_ram(&self.shared, range, name)?;
        Ok(DeviceMemoryControl::new(Arc::new(region)))
    }

    /// Begins a change of any number of windows; see [`GuestMemoryTransaction`].
    ///
    /// # Errors
    ///
    /// This thread is inside a change already, or an earlier one was broken off by a panic.
    pub fn transaction(&self) -> Result<GuestMemoryTransaction<'_>, ChangeError> {
        self.shared.transaction()
    }
}

impl fmt::Debug for DeviceMemoryMapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemoryMapper").finish_non_exhaustive()
    }
}
