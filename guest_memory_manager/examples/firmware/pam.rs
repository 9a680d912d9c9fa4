//! The programmable attribute map: which registers switch which memory (Intel 440FX data sheet,
//! 290549, "PAM[6:0]").

use guest_memory_manager::{MemoryRange, RamVisibility};

/// The number of segments that are switched each on its own.
pub const SEGMENTS: usize = 13;
/// The offset of PAM0 in the host bridge's configuration space.
pub const FIRST_REGISTER: usize = 0x59;
/// The number of registers, PAM0 to PAM6.
pub const REGISTERS: usize = 7;

/// The segment with this number, by address: twelve of 16 KiB from 0xC0000 on, and the BIOS
/// segment.
pub fn segment(index: usize) -> MemoryRange {
    match index as u64 {
        index @ 0..12 => {
            let start = 0xc_0000 + index * 0x4000;
            MemoryRange::new(start..start + 0x4000)
        }
        _ => MemoryRange::new(0xf_0000..0x10_0000),
    }
}

/// What the registers ask for, segment by segment.
pub fn decode(registers: [u8; REGISTERS]) -> [RamVisibility; SEGMENTS] {
    std::array::from_fn(|index| {
        // PAM0 has the BIOS segment in its high nibble; the others have two segments each, the
        // lower one in the low nibble.
        let (register, high) = match index {
            12 => (0, true),
            _ => (1 + index / 2, index % 2 == 1),
        };
        let nibble = registers[register] >> if high { 4 } else { 0 };
        match nibble & 3 {
            0 => RamVisibility::Unmapped,
            1 => RamVisibility::ReadOnly,
            2 => RamVisibility::WriteOnly,
            _ => RamVisibility::ReadWrite,
        }
    })
}

/// A short word for a state.
pub fn word(visibility: RamVisibility) -> &'static str {
    match visibility {
        RamVisibility::Unmapped => "rom",
        RamVisibility::ReadOnly => "read-only",
        RamVisibility::WriteOnly => "write-only",
        RamVisibility::ReadWrite => "read-write",
        _ => "unknown",
    }
}
