//! Makes device windows.

use super::control::DeviceMemoryControl;
use super::region::DeviceRegion;
use super::window::DeviceMemoryWindow;
use crate::error::ChangeError;
use crate::ram::DEVICE_PRIORITY;
use crate::shared::Shared;
use region_manager::RegionSpec;
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
        let spec = RegionSpec::new(name.clone(), len, DEVICE_PRIORITY);
        let (id, _) = self.shared.change(|change| change.create_region(spec))?;
        let region = Arc::new(DeviceRegion {
            shared: self.shared.clone(),
            id,
            name,
            len,
        });
        Ok((
            DeviceMemoryControl::new(region.clone()),
            DeviceMemoryWindow::new(region),
        ))
    }
}

impl fmt::Debug for DeviceMemoryMapper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceMemoryMapper").finish_non_exhaustive()
    }
}
