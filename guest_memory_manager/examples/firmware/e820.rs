//! The file `etc/e820`: where RAM lies.

use guest_memory_manager::MemoryRange;

/// The type of usable memory.
const RAM: u32 = 1;

/// Encodes ranges of RAM: address, length and type of each, packed and little-endian.
pub fn encode(ram: &[MemoryRange]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for range in ram {
        bytes.extend(range.start().to_le_bytes());
        bytes.extend(range.len().to_le_bytes());
        bytes.extend(RAM.to_le_bytes());
    }
    bytes
}
