//! The leaves of the tree.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Tells how an integer is written for people. Programs get the same number in every style.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Style {
    /// `4096`.
    #[default]
    Decimal,
    /// `0x1000`; a negative number is `-0x1000`.
    Hex,
    /// `0b1000000000000`; a negative number is `-0b1000000000000`.
    Binary,
    /// Decimal, for a number that only grows: a count of events, whose rate says more than its
    /// height.
    Counter,
}

/// Holds one value of the tree.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Value {
    /// There is no value, as in `None`.
    Null,
    /// A truth value.
    Bool(bool),
    /// An integer that is not negative by its type.
    Unsigned(u64, Style),
    /// An integer that may be negative.
    Signed(i64, Style),
    /// A floating-point number, not-a-number and the infinities included.
    Float(f64),
    /// Text, which may contain any character.
    Text(Cow<'static, str>),
    /// Bytes that are not text.
    Bytes(Vec<u8>),
    /// A span of time.
    Duration(Duration),
}

impl Value {
    /// Makes a text value of a string that is part of the program, without copying it.
    #[must_use]
    pub const fn literal(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    /// Returns the value with its integer written in `style`. What is not an integer stays as it
    /// is.
    #[must_use]
    pub fn with_style(self, style: Style) -> Self {
        match self {
            Self::Unsigned(number, _) => Self::Unsigned(number, style),
            Self::Signed(number, _) => Self::Signed(number, style),
            other => other,
        }
    }

    /// Returns the integer, if the value is one and not negative.
    #[must_use]
    pub fn as_u64(&self) -> Option<u64> {
        match self {
            Self::Unsigned(number, _) => Some(*number),
            Self::Signed(number, _) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// Returns the text, if the value is text.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Returns the truth value, if the value is one.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(truth) => Some(*truth),
            _ => None,
        }
    }
}

macro_rules! from_integers {
    ($variant:ident, $wide:ty: $($narrow:ty)*) => {$(
        impl From<$narrow> for Value {
            fn from(number: $narrow) -> Self {
                // Lossless: `usize` and `isize` have at most 64 bits on every target of Rust.
                Self::$variant(number as $wide, Style::Decimal)
            }
        }
    )*};
}

from_integers!(Unsigned, u64: u8 u16 u32 u64 usize);
from_integers!(Signed, i64: i8 i16 i32 i64 isize);

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<f32> for Value {
    fn from(number: f32) -> Self {
        Self::Float(f64::from(number))
    }
}

impl From<char> for Value {
    fn from(character: char) -> Self {
        Self::Text(Cow::Owned(String::from(character)))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Cow::Owned(String::from(text)))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Self {
        Self::from(text.as_str())
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(text: Cow<'static, str>) -> Self {
        Self::Text(text)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Duration> for Value {
    fn from(duration: Duration) -> Self {
        Self::Duration(duration)
    }
}

/// `None` is [`Value::Null`].
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
