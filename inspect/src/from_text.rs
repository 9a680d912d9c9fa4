//! Values from the text of an update.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use core::num::NonZero;
use core::time::Duration;
use thiserror::Error;

/// Says that a text is no value of a type or a place, by what would be one.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("expected {expected}")]
pub struct Invalid {
    expected: Cow<'static, str>,
}

impl Invalid {
    /// Says what would be valid, in words that follow "expected": `a number from 0 to 100`.
    pub fn expected(what: impl Into<Cow<'static, str>>) -> Self {
        Self {
            expected: what.into(),
        }
    }

    pub(crate) fn into_expected(self) -> Cow<'static, str> {
        self.expected
    }
}

/// Is made from the text of an update.
///
/// Text is read as the tree writes it, so that a value which was seen can be given back: integers
/// also as `0x1000` and `0b101`, with or without `_` between digits, spans of time as `1.5ms`,
/// `None` as `none`. White space around it doesn't count, except in text.
///
/// ```
/// use inspect::FromText;
///
/// assert_eq!(u64::from_text(" 0x1_0000 "), Ok(65536));
/// let error = u8::from_text("256").unwrap_err();
/// assert_eq!(error.to_string(), "expected an integer from 0 to 255");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be made from the text of an update",
    note = "implement `inspect::FromText` for it"
)]
pub trait FromText: Sized {
    /// Reads the text.
    ///
    /// # Errors
    ///
    /// [`Invalid`], which says what would have been valid.
    fn from_text(text: &str) -> Result<Self, Invalid>;
}

macro_rules! integers {
    ($($type:ident)*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, Invalid> {
                integer(text)
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or_else(|| Invalid::expected(format!(
                        "an integer from {} to {}",
                        Self::MIN,
                        Self::MAX,
                    )))
            }
        }

        impl FromText for NonZero<$type> {
            fn from_text(text: &str) -> Result<Self, Invalid> {
                $type::from_text(text).ok().and_then(Self::new).ok_or_else(|| {
                    Invalid::expected(format!(
                        "an integer from {} to {}, but not 0",
                        Self::MIN,
                        Self::MAX,
                    ))
                })
            }
        }
    )*};
}

integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

fn integer(text: &str) -> Option<i128> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match digits.get(..2) {
        Some("0x" | "0X") => (16, digits.get(2..)?),
        Some("0b" | "0B") => (2, digits.get(2..)?),
        _ => (10, digits),
    };
    // A second sign would be taken by the parser, and an underscore needs digits around it.
    if !digits.starts_with(|first: char| first.is_digit(radix)) || digits.ends_with('_') {
        return None;
    }
    let number = match digits.contains('_') {
        false => i128::from_str_radix(digits, radix),
        true => i128::from_str_radix(&digits.replace('_', ""), radix),
    };
    number.ok()?.checked_mul(sign)
}

impl FromText for bool {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        match text.trim() {
            "true" | "on" | "yes" | "1" => Ok(true),
            "false" | "off" | "no" | "0" => Ok(false),
            _ => Err(Invalid::expected("`true` or `false`")),
        }
    }
}

impl FromText for char {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        text.parse().map_err(|_| Invalid::expected("one character"))
    }
}

macro_rules! floats {
    ($($type:ident)*) => {$(
        impl FromText for $type {
            fn from_text(text: &str) -> Result<Self, Invalid> {
                text.trim().parse().map_err(|_| Invalid::expected("a number"))
            }
        }
    )*};
}

floats!(f32 f64);

/// The text as it is.
impl FromText for String {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        Ok(Self::from(text))
    }
}

/// A number with its unit: `s`, `ms`, `us`, `µs` or `ns`.
impl FromText for Duration {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        duration(text.trim())
            .ok_or_else(|| Invalid::expected("a span of time with its unit, such as `1.5ms`"))
    }
}

fn duration(text: &str) -> Option<Duration> {
    let end = text.find(|unit: char| !unit.is_ascii_digit() && unit != '.')?;
    let (number, unit) = text.split_at_checked(end)?;
    let digits: u32 = match unit.trim_start() {
        "s" => 9,
        "ms" => 6,
        "us" | "µs" | "μs" => 3,
        "ns" => 0,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let nanos_per_unit = 10_u128.checked_pow(digits)?;
    let mut nanos = whole.parse::<u128>().ok()?.checked_mul(nanos_per_unit)?;
    // Digits beyond a nanosecond are not silently dropped, unless they are zeros.
    let mut place = nanos_per_unit;
    for digit in part.chars() {
        place /= 10;
        let digit = u128::from(digit.to_digit(10)?);
        if place == 0 && digit != 0 {
            return None;
        }
        nanos = nanos.checked_add(digit.checked_mul(place)?)?;
    }
    let seconds = u64::try_from(nanos / 1_000_000_000).ok()?;
    let rest = u32::try_from(nanos % 1_000_000_000).ok()?;
    Some(Duration::new(seconds, rest))
}

/// `none`, or what the type itself reads.
impl<T: FromText> FromText for Option<T> {
    fn from_text(text: &str) -> Result<Self, Invalid> {
        if text.trim() == "none" {
            return Ok(None);
        }
        match T::from_text(text) {
            Ok(value) => Ok(Some(value)),
            Err(Invalid { expected }) => Err(Invalid::expected(format!("{expected}, or `none`"))),
        }
    }
}
