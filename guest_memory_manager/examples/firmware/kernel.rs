//! A Linux kernel, offered to firmware (the kernel's `Documentation/arch/x86/boot.rst`).

use crate::fw_cfg::entries::{COMMAND_LINE, Entries, KERNEL, SETUP};
use crate::kernel_rom;

/// Where the real-mode part is to lie.
pub const SETUP_ADDRESS: u32 = 0x1_0000;
/// Where the command line is to lie.
pub const COMMAND_LINE_ADDRESS: u32 = 0x2_0000;
/// Where the kernel proper is to lie.
pub const KERNEL_ADDRESS: u32 = 0x10_0000;

/// The loader's number: QEMU's, whose protocol this is.
const LOADER: u8 = 0xb0;
const LOADED_HIGH: u8 = 0x01;
const CAN_USE_HEAP: u8 = 0x80;

/// The parts of a bzImage, ready to be loaded.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The real-mode part with its header filled in.
    pub setup: Vec<u8>,
    /// Everything after it.
    pub image: Vec<u8>,
    /// The command line, without its NUL.
    pub command_line: String,
}

impl Kernel {
    /// Takes a bzImage apart and fills in its header.
    ///
    /// # Errors
    ///
    /// It is none, or one for a protocol older than 2.02, or one that wants to be loaded low.
    pub fn parse(image: &[u8], command_line: &str) -> Result<Self, String> {
        let byte = |at: usize| image.get(at).copied().ok_or("the file is too short");
        if image.get(0x202..0x206) != Some(b"HdrS") {
            return Err("the file is no Linux kernel: its header has no `HdrS`".to_owned());
        }
        let protocol = u16::from_le_bytes([byte(0x206)?, byte(0x207)?]);
        if protocol < 0x202 {
            return Err(format!(
                "boot protocol {protocol:#06x} is older than 0x0202"
            ));
        }
        if byte(0x211)? & LOADED_HIGH == 0 {
            return Err("the kernel wants to be loaded low, as a zImage".to_owned());
        }
        // Zero means four, for historical reasons.
        let sectors = match byte(0x1f1)? {
            0 => 4,
            sectors => usize::from(sectors),
        };
        let len = (sectors + 1) * 512;
        let Some((setup, rest)) = image.split_at_checked(len) else {
            return Err(format!("the file ends within its {len} bytes of setup"));
        };
        if command_line.contains('\0') {
            return Err("the command line has a NUL".to_owned());
        }
        let mut setup = setup.to_vec();
        setup[0x210] = LOADER;
        setup[0x211] |= CAN_USE_HEAP;
        let heap_end = u16::try_from(COMMAND_LINE_ADDRESS - SETUP_ADDRESS - 0x200);
        setup[0x224..0x226].copy_from_slice(&heap_end.unwrap_or(u16::MAX).to_le_bytes());
        setup[0x228..0x22c].copy_from_slice(&COMMAND_LINE_ADDRESS.to_le_bytes());
        Ok(Self {
            setup,
            image: rest.to_vec(),
            command_line: command_line.to_owned(),
        })
    }

    /// Adds the kernel to what firmware can ask for: address, size and bytes of each part, and the
    /// ROM that loads it, which is booted first unless there is a boot order already.
    ///
    /// # Errors
    ///
    /// None for these names.
    pub fn offer(&self, entries: &mut Entries) -> Result<(), String> {
        let mut command_line = self.command_line.clone().into_bytes();
        command_line.push(0);
        for ([address, size, data], at, bytes) in [
            (KERNEL, KERNEL_ADDRESS, self.image.clone()),
            (COMMAND_LINE, COMMAND_LINE_ADDRESS, command_line),
            (SETUP, SETUP_ADDRESS, self.setup.clone()),
        ] {
            let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            entries.set(address, at.to_le_bytes().to_vec());
            entries.set(size, len.to_le_bytes().to_vec());
            entries.set(data, bytes);
        }
        let (order, first) = kernel_rom::BOOT_ORDER;
        if !entries.has_file(order) {
            entries.add_file(order, first.into())?;
        }
        entries.add_file(kernel_rom::FILE, kernel_rom::build(self))
    }
}
