//! fw_cfg: a firmware's configuration, as QEMU offers it (its `docs/specs/fw_cfg.rst`).

mod directory;
mod dma;
pub mod entries;

pub use entries::Entries;

use guest_memory_manager::GuestMemory;

/// The selector register, 16 bits.
pub const SELECTOR_PORT: u16 = 0x510;
/// The data register, a byte at a time.
pub const DATA_PORT: u16 = 0x511;
/// The upper half of the DMA address register.
pub const DMA_HIGH_PORT: u16 = 0x514;
/// The lower half; writing it starts the transfer.
pub const DMA_LOW_PORT: u16 = 0x518;
/// The first port after the device.
pub const END_PORT: u16 = 0x51c;

/// The device.
pub struct FwCfg {
    entries: Entries,
    selected: u16,
    offset: usize,
    dma_high: u32,
    memory: GuestMemory,
}

impl FwCfg {
    /// Offers these entries. DMA goes through `memory`: what the guest may not write, a transfer
    /// may not either.
    pub fn new(mut entries: Entries, memory: GuestMemory) -> Self {
        entries.finish();
        Self {
            entries,
            selected: 0,
            offset: 0,
            dma_high: 0,
            memory,
        }
    }

    /// Answers a read of one of the device's ports.
    pub fn read(&mut self, port: u16, data: &mut [u8]) {
        match port {
            DATA_PORT => self.take(data),
            DMA_HIGH_PORT..END_PORT => {
                let signature = dma::SIGNATURE.iter();
                let from = signature.skip(usize::from(port - DMA_HIGH_PORT));
                for (to, from) in data.iter_mut().zip(from) {
                    *to = *from;
                }
            }
            _ => data.fill(0xff),
        }
    }

    /// Takes a write to one of the device's ports.
    pub fn write(&mut self, port: u16, data: &[u8]) {
        match (port, data) {
            (SELECTOR_PORT, &[low, high]) => self.select(u16::from_le_bytes([low, high])),
            (DMA_HIGH_PORT, &[a, b, c, d]) => self.dma_high = u32::from_be_bytes([a, b, c, d]),
            (DMA_LOW_PORT, &[a, b, c, d]) => {
                let low = u32::from_be_bytes([a, b, c, d]);
                let address = u64::from(self.dma_high) << 32 | u64::from(low);
                self.dma_high = 0;
                dma::transfer(self, address);
            }
            _ => {}
        }
    }

    fn select(&mut self, key: u16) {
        self.selected = key;
        self.offset = 0;
    }

    /// The next bytes of the selected entry, with zeros after its end.
    fn take(&mut self, data: &mut [u8]) {
        let entry = self.entries.get(self.selected).unwrap_or(&[]);
        let rest = entry.get(self.offset..).unwrap_or(&[]);
        let len = rest.len().min(data.len());
        data[..len].copy_from_slice(&rest[..len]);
        data[len..].fill(0);
        self.offset = self.offset.saturating_add(data.len());
    }
}
