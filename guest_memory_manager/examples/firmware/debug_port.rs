//! The debug port: what the firmware has to say.

use crate::outcome::Failure;
use std::io::Write;

/// The port.
pub const PORT: u16 = 0x402;
/// What a read of the port returns, so that a guest knows it is there.
pub const PRESENT: u8 = 0xe9;

/// Passes on what is written to it, and looks for a text in it.
pub struct DebugPort {
    out: Box<dyn Write + Send>,
    until: Vec<u8>,
    /// The last bytes, at most as many as the text has.
    tail: Vec<u8>,
    written: u64,
}

impl DebugPort {
    /// Looks for `until`, if there is such a text.
    pub fn new(out: Box<dyn Write + Send>, until: Option<&str>) -> Self {
        Self {
            out,
            until: until.unwrap_or_default().into(),
            tail: Vec::new(),
            written: 0,
        }
    }

    /// The number of bytes that the guest has written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Passes bytes on at once. Returns whether the text has appeared.
    pub fn write(&mut self, data: &[u8]) -> Result<bool, Failure> {
        self.out.write_all(data)?;
        self.out.flush()?;
        self.written += data.len() as u64;
        if self.until.is_empty() {
            return Ok(false);
        }
        let mut found = false;
        for byte in data {
            self.tail.push(*byte);
            if self.tail.len() > self.until.len() {
                self.tail.remove(0);
            }
            found |= self.tail == self.until;
        }
        Ok(found)
    }
}
