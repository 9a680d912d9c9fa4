//! The i440FX host bridge: PCI configuration mechanism 1, and the PAM registers.

use crate::outcome::Failure;
use crate::pam;
use guest_memory_manager::{MemoryRange, RamVisibility, RamVisibilityControl};
use std::ops::Range;

/// The index register of configuration mechanism 1.
pub const ADDRESS_PORT: u16 = 0xcf8;
/// The data register: as wide as the guest's access.
pub const DATA_PORT: u16 = 0xcfc;

/// Carries out what the PAM registers ask for.
pub trait ShadowRam: Send {
    /// Makes one change out of all of these.
    fn change(&mut self, changes: &[(MemoryRange, RamVisibility)]) -> Result<(), Failure>;
}

impl ShadowRam for RamVisibilityControl {
    fn change(&mut self, changes: &[(MemoryRange, RamVisibility)]) -> Result<(), Failure> {
        // One write of the guest is one change: all of it is done or nothing.
        self.set_several_now(changes)?.wait();
        Ok(())
    }
}

/// One write that reached a PAM register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PamWrite {
    /// The offset of its first byte in configuration space.
    pub offset: usize,
    /// What was written.
    pub data: Vec<u8>,
    /// The segments whose state it changed: from, to.
    pub transitions: Vec<(MemoryRange, RamVisibility, RamVisibility)>,
}

/// The bridge, the only device on the bus.
pub struct HostBridge {
    address: u32,
    config: [u8; 256],
    shadow: Box<dyn ShadowRam>,
    writes: Vec<PamWrite>,
}

impl HostBridge {
    /// After a reset: every segment shows ROM.
    pub fn new(shadow: Box<dyn ShadowRam>) -> Self {
        let mut config = [0; 256];
        let mut set = |offset: usize, bytes: &[u8]| {
            config[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        set(0x00, &0x8086_u16.to_le_bytes());
        set(0x02, &0x1237_u16.to_le_bytes());
        // Revision 2, a host bridge.
        set(0x08, &[0x02, 0x00, 0x00, 0x06]);
        // The subsystem that QEMU's has: by it, firmware knows that there is a fw_cfg.
        set(0x2c, &0x1af4_u16.to_le_bytes());
        set(0x2e, &0x1100_u16.to_le_bytes());
        Self {
            address: 0,
            config,
            shadow,
            writes: Vec::new(),
        }
    }

    /// The state of each segment, as the registers say.
    pub fn states(&self) -> [RamVisibility; pam::SEGMENTS] {
        pam::decode(self.pam_registers())
    }

    /// Each write to PAM registers so far.
    pub fn pam_writes(&self) -> &[PamWrite] {
        &self.writes
    }

    /// Answers a read of a port from [`ADDRESS_PORT`] to the last of [`DATA_PORT`].
    pub fn read(&self, port: u16, data: &mut [u8]) {
        data.fill(0xff);
        if port == ADDRESS_PORT && data.len() == 4 {
            data.copy_from_slice(&self.address.to_le_bytes());
        } else if let Some(range) = self.selected(port, data.len()) {
            data.copy_from_slice(&self.config[range]);
        }
    }

    /// Takes a write to such a port.
    pub fn write(&mut self, port: u16, data: &[u8]) -> Result<(), Failure> {
        if port == ADDRESS_PORT {
            // Anything narrower is no access to this register.
            if let Ok(bytes) = data.try_into() {
                self.address = u32::from_le_bytes(bytes);
            }
            return Ok(());
        }
        let Some(range) = self.selected(port, data.len()) else {
            return Ok(());
        };
        let mut config = self.config;
        for (offset, byte) in range.clone().zip(data) {
            // The identity and the class are fixed; of the header, the command can be written.
            if (0x04..0x06).contains(&offset) || offset >= 0x40 {
                config[offset] = *byte;
            }
        }
        let pam = pam::FIRST_REGISTER..pam::FIRST_REGISTER + pam::REGISTERS;
        if range.start < pam.end && pam.start < range.end {
            let new = pam::decode(registers(&config));
            let transitions: Vec<_> = (0..pam::SEGMENTS)
                .map(|index| (pam::segment(index), self.states()[index], new[index]))
                .filter(|(_, from, to)| from != to)
                .collect();
            let changes: Vec<_> = transitions.iter().map(|(at, _, to)| (*at, *to)).collect();
            if !changes.is_empty() {
                // First the effect, then the register: it never tells of what isn't so.
                self.shadow.change(&changes)?;
            }
            self.writes.push(PamWrite {
                offset: range.start,
                data: data.to_vec(),
                transitions,
            });
        }
        self.config = config;
        Ok(())
    }

    /// The part of the configuration space that an access to the data port means: of this bridge,
    /// if it is enabled and within one register.
    fn selected(&self, port: u16, len: usize) -> Option<Range<usize>> {
        let [register, devfn, bus, enable] = self.address.to_le_bytes();
        if enable & 0x80 == 0 || bus != 0 || devfn != 0 {
            return None;
        }
        let byte = usize::from(port.checked_sub(DATA_PORT)?);
        let start = usize::from(register & 0xfc) + byte;
        (byte + len <= 4).then(|| start..start + len)
    }

    fn pam_registers(&self) -> [u8; pam::REGISTERS] {
        registers(&self.config)
    }
}

fn registers(config: &[u8; 256]) -> [u8; pam::REGISTERS] {
    std::array::from_fn(|index| config[pam::FIRST_REGISTER + index])
}
