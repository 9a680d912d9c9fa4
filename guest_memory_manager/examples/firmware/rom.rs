//! The firmware's ROM: at the top of 4 GiB, and the last of it once more under RAM.

use crate::outcome::Failure;
use guest_memory_manager::{
    DeviceMemoryControl, DeviceMemoryMapper, DeviceMemoryWindow, MemoryRange, RomImage,
};

/// Where ROM and other devices below 4 GiB can lie.
pub const GAP: MemoryRange = MemoryRange::new(0xc000_0000..0x1_0000_0000);
/// A chipset decodes no more for ROM; below lie the local APICs' registers.
const LARGEST: usize = 16 << 20;
/// The granule of a ROM, and the smallest one: the BIOS segment.
const GRANULE: usize = 64 << 10;
/// How much of it shows below 1 MiB.
const LOW: u64 = 128 << 10;

/// The ROM in both places; dropping it takes it away.
pub struct Rom {
    _places: [(DeviceMemoryControl, DeviceMemoryWindow); 2],
}

impl Rom {
    /// Shows an image.
    pub fn new(windows: &DeviceMemoryMapper, image: &[u8]) -> Result<Self, Failure> {
        let len = image.len();
        if len == 0 || len > LARGEST || !len.is_multiple_of(GRANULE) {
            return Err(format!(
                "a ROM of {len:#x} bytes does not fit: it must be a multiple of {GRANULE:#x}, \
                 at most {LARGEST:#x}"
            )
            .into());
        }
        let len = len as u64;
        let rom = RomImage::from_bytes("bios", image)?;
        let low = len.min(LOW);
        let place = |name: &str, offset: u64, len: u64, end: u64| {
            let (mut control, window) = windows.new_region(len, name.to_owned())?;
            window.map(0, &rom, offset, len, false)?.wait();
            control.map_to_guest(end - len, false)?.wait();
            Ok::<_, Failure>((control, window))
        };
        Ok(Self {
            _places: [
                place("bios", 0, len, GAP.end())?,
                place("bios below 1 MiB", len - low, low, 0x10_0000)?,
            ],
        })
    }
}
