//! Ranges of addresses, as trees name them.

use std::fmt;
use std::str::FromStr;

/// Holds the bytes from `start` up to, but not including, `end`. It is never empty.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteRange {
    /// Invariant: less than `end`.
    start: u64,
    end: u64,
}

impl ByteRange {
    /// Makes the range `start..end`; `None` if there is no byte in it.
    #[must_use]
    pub const fn try_new(start: u64, end: u64) -> Option<Self> {
        if start < end {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// Returns the first address.
    #[must_use]
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the address after the last byte.
    #[must_use]
    pub const fn end(self) -> u64 {
        self.end
    }

    /// Returns the number of bytes, which is never 0.
    #[must_use]
    #[expect(
        clippy::len_without_is_empty,
        reason = "no range of this type is empty"
    )]
    pub const fn len(self) -> u64 {
        // The invariant keeps it from wrapping.
        self.end.wrapping_sub(self.start)
    }

    /// Tells whether the ranges share a byte.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// Tells whether all of `other` lies in this range.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Returns the bytes that are in both ranges; `None` if there are none.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::try_new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Returns the range `offset` bytes higher; `None` if it would end above the highest address.
    #[must_use]
    pub fn shifted(self, offset: u64) -> Option<Self> {
        Some(Self {
            start: self.start.checked_add(offset)?,
            end: self.end.checked_add(offset)?,
        })
    }

    /// Displays the number of bytes in the unit that suits it: `64 KiB`, `2.5 GiB`.
    pub fn size(self) -> impl fmt::Display {
        Size(self.len())
    }
}

/// Writes `0x1000-0x3000`, with the end exclusive.
impl fmt::Display for ByteRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:#x}-{:#x}", self.start, self.end))
    }
}

/// Says that a text is no range.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a range that is not empty, such as `0x1000-0x3000`")]
pub struct RangeError;

impl FromStr for ByteRange {
    type Err = RangeError;

    fn from_str(text: &str) -> Result<Self, RangeError> {
        let (start, end) = text.split_once('-').ok_or(RangeError)?;
        Self::try_new(address(start)?, address(end)?).ok_or(RangeError)
    }
}

fn address(text: &str) -> Result<u64, RangeError> {
    let digits = text.strip_prefix("0x").ok_or(RangeError)?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(RangeError);
    }
    u64::from_str_radix(digits, 16).map_err(|_| RangeError)
}

struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u32, &str); 6] = [
            (60, "EiB"),
            (50, "PiB"),
            (40, "TiB"),
            (30, "GiB"),
            (20, "MiB"),
            (10, "KiB"),
        ];
        let unit = UNITS.iter().find(|(shift, _)| self.0 >> shift > 0);
        let text = match unit {
            None => format!("{} B", self.0),
            Some((shift, unit)) => {
                let (whole, rest) = (self.0 >> shift, self.0 & ((1 << shift) - 1));
                // Two digits at most, rounded down, so that nothing is called larger than it is.
                let hundredths = (u128::from(rest) * 100) >> shift;
                match hundredths {
                    0 if rest == 0 => format!("{whole} {unit}"),
                    _ if whole >= 100 => format!("{whole} {unit}"),
                    _ if hundredths % 10 == 0 => format!("{whole}.{} {unit}", hundredths / 10),
                    _ => format!("{whole}.{hundredths:02} {unit}"),
                }
            }
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::try_new(start, end).expect("not empty")
    }

    #[test]
    fn what_is_written_reads_back() {
        for (start, end) in [
            (0, 1),
            (0x1000, 0x3000),
            (0, u64::MAX),
            (u64::MAX - 1, u64::MAX),
        ] {
            let range = range(start, end);
            assert_eq!(range.to_string().parse(), Ok(range));
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "-",
            "0x0",
            "0x0-",
            "0-1",
            "0x0-1",
            "0x1-0x1",
            "0x2-0x1",
            "0x0-0x+1",
            "0x-0x1 ",
            "0x0-0x10000000000000000",
        ] {
            assert_eq!(text.parse::<ByteRange>(), Err(RangeError), "{text}");
        }
    }

    #[test]
    fn sizes_are_short_and_never_too_large() {
        let sizes = [
            (1, "1 B"),
            (4096, "4 KiB"),
            (0x2f0_0000, "47 MiB"),
            ((1 << 30) + (1 << 29), "1.5 GiB"),
            ((1 << 40) - 1, "1023 GiB"),
            ((1 << 40) + 1, "1.0 TiB"),
            (0x6_1000, "388 KiB"),
            (0x10_1000, "1.0 MiB"),
            (u64::MAX, "15.99 EiB"),
        ];
        for (len, text) in sizes {
            assert_eq!(range(0, len).size().to_string(), text);
        }
    }

    #[test]
    fn overlap_and_intersection_agree() {
        let middle = range(10, 20);
        for (start, end) in [(0, 10), (0, 11), (5, 25), (12, 13), (19, 30), (20, 30)] {
            let other = range(start, end);
            assert_eq!(middle.overlaps(other), middle.intersection(other).is_some());
        }
        assert_eq!(range(0, u64::MAX).shifted(1), None);
    }
}
