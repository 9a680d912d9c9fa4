//! What is common to all forms of a tree, so that each output is written once.

use crate::unresolved::Unresolved;
use crate::value::{Style, Value};
use alloc::borrow::Cow;
use alloc::string::String;
use core::time::Duration;

/// A place of a tree, with what is below it. `'t` is how long names and values live.
pub(crate) trait Tree<'t>: Sized {
    /// The children with their names, in natural order, each name once.
    type Children: ExactSizeIterator<Item = (&'t str, Self)>;

    /// Tells what stands here.
    fn split(&self) -> Split<'t, Self::Children>;
}

/// What stands at a place.
pub(crate) enum Split<'t, C> {
    Leaf(Leaf<'t>),
    Directory(C),
    Unopened,
    Unresolved(Unresolved),
}

/// A value, borrowed.
#[derive(Copy, Clone)]
pub(crate) enum Leaf<'t> {
    Null,
    Bool(bool),
    Unsigned(u64, Style),
    Signed(i64, Style),
    Float(f64),
    Text(&'t str),
    Bytes(&'t [u8]),
    Duration(Duration),
}

impl Leaf<'_> {
    pub(crate) fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(truth) => Value::Bool(truth),
            Self::Unsigned(number, style) => Value::Unsigned(number, style),
            Self::Signed(number, style) => Value::Signed(number, style),
            Self::Float(number) => Value::Float(number),
            Self::Text(text) => Value::Text(Cow::Owned(String::from(text))),
            Self::Bytes(bytes) => Value::Bytes(bytes.to_vec()),
            Self::Duration(duration) => Value::Duration(duration),
        }
    }
}

impl<'t> From<&'t Value> for Leaf<'t> {
    fn from(value: &'t Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Unsigned(number, style) => Self::Unsigned(*number, *style),
            Value::Signed(number, style) => Self::Signed(*number, *style),
            Value::Float(number) => Self::Float(*number),
            Value::Text(text) => Self::Text(text),
            Value::Bytes(bytes) => Self::Bytes(bytes),
            Value::Duration(duration) => Self::Duration(*duration),
        }
    }
}
