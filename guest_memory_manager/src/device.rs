//! Device memory: windows of files that a guest can be shown.

mod control;
mod mapper;
mod options;
mod region;
mod to_mappable;
mod window;

pub use control::DeviceMemoryControl;
pub use mapper::DeviceMemoryMapper;
pub use options::{Fill, WindowOptions};
pub(crate) use region::DeviceRegion;
pub use to_mappable::ToMappable;
pub use window::DeviceMemoryWindow;
pub(crate) use window::Shown;
