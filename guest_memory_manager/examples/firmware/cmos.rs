//! The CMOS memory and the clock in it.

use std::time::{SystemTime, UNIX_EPOCH};

/// The index register; the data register is the next port.
pub const INDEX_PORT: u16 = 0x70;
/// The data register.
pub const DATA_PORT: u16 = 0x71;

/// 128 bytes of memory, the first of them the clock's.
pub struct Cmos {
    index: usize,
    bytes: [u8; 128],
}

impl Cmos {
    /// Says how much RAM there is below and above 4 GiB, in bytes, and how many CPUs.
    pub fn new(below_4g: u64, above_4g: u64, cpus: u8) -> Self {
        let mut bytes = [0; 128];
        let mut word = |at: usize, value: u64| {
            let value = u16::try_from(value).unwrap_or(u16::MAX);
            bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
        };
        // Conventional memory in KiB, and what lies between 1 MiB and 64 MiB, twice.
        word(0x15, 640);
        let extended = below_4g.saturating_sub(1 << 20) >> 10;
        word(0x17, extended);
        word(0x30, extended);
        // Above 16 MiB in units of 64 KiB, and above 4 GiB likewise, in three bytes.
        word(0x34, below_4g.saturating_sub(16 << 20) >> 16);
        let high = (above_4g >> 16).to_le_bytes();
        bytes[0x5b..0x5e].copy_from_slice(&high[..3]);
        bytes[0x5f] = cpus.saturating_sub(1);
        // The clock: 24 hours, BCD, valid, no update under way.
        bytes[0x0a] = 0x26;
        bytes[0x0b] = 0x02;
        bytes[0x0d] = 0x80;
        Self { index: 0, bytes }
    }

    /// Answers a read. The index register cannot be read.
    pub fn read(&mut self, port: u16) -> u8 {
        if port != DATA_PORT {
            return 0xff;
        }
        self.clock(self.index).unwrap_or(self.bytes[self.index])
    }

    /// Takes a write.
    pub fn write(&mut self, port: u16, byte: u8) {
        match port {
            // The top bit masks the NMI, of which there is none.
            INDEX_PORT => self.index = usize::from(byte & 0x7f),
            // The clock is the host's and is not set.
            _ if !matches!(self.index, 0x00..=0x09 | 0x0c | 0x0d | 0x32) => {
                self.bytes[self.index] = byte;
            }
            _ => {}
        }
    }

    /// The registers of the time of day, UTC.
    fn clock(&self, index: usize) -> Option<u8> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        let (days, second) = (now / 86_400, now % 86_400);
        let (year, month, day) = date(days);
        let value = match index {
            0x00 => second % 60,
            0x02 => second / 60 % 60,
            0x04 => second / 3600,
            // 1 is Sunday, and 1970 began on a Thursday.
            0x06 => (days + 4) % 7 + 1,
            0x07 => day,
            0x08 => month,
            0x09 => year % 100,
            0x32 => year / 100,
            _ => return None,
        };
        u8::try_from(value / 10 * 16 + value % 10).ok()
    }
}

/// Year, month and day of a day since the first of 1970, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut left = days;
    let mut year = 1970;
    while left >= 365 + u64::from(leap(year)) {
        left -= 365 + u64::from(leap(year));
        year += 1;
    }
    let february = 28 + u64::from(leap(year));
    let mut month = 1;
    for len in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < len {
            break;
        }
        left -= len;
        month += 1;
    }
    (year, month, left + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_453), (2025, 12, 31));
    }
}
