//! Ranges as text: `0x1000-0x2000`.

use crate::InvalidRange;
use crate::MemoryRange;
use core::fmt;
use core::str::FromStr;

/// Writes the range as `0x1000-0x2000`, which [`FromStr`] reads back. Width and fill are obeyed.
impl fmt::Display for MemoryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if f.width().is_none() && f.precision().is_none() {
            return write!(f, "{:#x}-{:#x}", self.start(), self.end());
        }
        // Tables pad their columns, which needs the whole text at once.
        f.pad(&alloc::format!("{:#x}-{:#x}", self.start(), self.end()))
    }
}

/// Writes the range as `0x1000-0x2000`.
impl fmt::Debug for MemoryRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Says why text is not a range.
#[derive(Copy, Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseRangeError {
    /// There is no `-` between two addresses.
    #[error("a range is written as 0xSTART-0xEND, but there is no `-`")]
    NoSeparator,
    /// What stands before the `-` is not `0x` and hexadecimal digits, or is 2^64 or more.
    #[error("the start of the range is not a 64-bit hexadecimal number with 0x before it")]
    Start,
    /// What stands after the `-` is not `0x` and hexadecimal digits, or is 2^64 or more.
    #[error("the end of the range is not a 64-bit hexadecimal number with 0x before it")]
    End,
    /// The two numbers do not make a range.
    #[error("the two addresses do not make a range")]
    Range(#[source] InvalidRange),
}

/// Reads `0x1000-0x2000`: two hexadecimal numbers, `0x` before each, one `-` between them.
///
/// Digits may be of either case, zeros may lead; anything else around them, white space included,
/// is refused.
impl FromStr for MemoryRange {
    type Err = ParseRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (start, end) = text.split_once('-').ok_or(ParseRangeError::NoSeparator)?;
        let start = parse_address(start).ok_or(ParseRangeError::Start)?;
        let end = parse_address(end).ok_or(ParseRangeError::End)?;
        Self::try_new(start..end).map_err(ParseRangeError::Range)
    }
}

fn parse_address(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    // `from_str_radix` would take a sign.
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(digits, 16).ok()
}
