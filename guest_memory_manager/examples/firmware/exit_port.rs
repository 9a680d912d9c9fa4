//! A port by which a guest ends the run.

/// The port.
pub const PORT: u16 = 0x501;

/// The value that a write of up to four bytes means.
pub fn value(data: &[u8]) -> u32 {
    let mut bytes = [0; 4];
    for (to, from) in bytes.iter_mut().zip(data) {
        *to = *from;
    }
    u32::from_le_bytes(bytes)
}
