//! System control port A: the A20 gate, which firmware sets and reads back.

/// The port.
pub const PORT: u16 = 0x92;

/// Stores and returns. Address line 20 is always on, and the reset bit resets nothing.
#[derive(Default)]
pub struct Port92 {
    value: u8,
}

impl Port92 {
    /// What was written last.
    pub fn read(&self) -> u8 {
        self.value
    }

    /// Keeps all but the reset bit, which never reads as set.
    pub fn write(&mut self, value: u8) {
        self.value = value & !1;
    }
}
