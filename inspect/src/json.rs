//! Trees as JSON, for programs.

use crate::node::{Directory, Node};
use crate::order::Answer;
use crate::snapshot::Snapshot;
use crate::tree::{Leaf, Split, Tree};
use crate::unresolved::Unresolved;
use crate::value::{Style, Value};
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use serde_core::ser::{Serialize, Serializer};
use serde_json::Value as Json;

/// The name that stands alone in an object for what was not opened, or has not answered.
const ELLIPSIS: &str = "...";

/// Writes a directory as an object in the order of its children, whatever the serialiser.
///
/// | node | JSON |
/// |---|---|
/// | directory | object; in it, names may contain any character |
/// | directory below the depth of the query | `{"...": null}` |
/// | deferred answer that has not come | `{"...": "no answer by the deadline"}` |
/// | null | `null` |
/// | bool | `true`, `false` |
/// | integer, in every style | number |
/// | float | number; `"NaN"`, `"inf"` or `"-inf"` where JSON has none |
/// | text | string |
/// | bytes | string in base64 (RFC 4648, with padding) |
/// | duration | number of seconds |
///
/// Integers go up to 64 bits. A parser that keeps all numbers as floats (JavaScript) rounds those
/// above 2^53.
impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self, serializer)
    }
}

/// Writes the same as its [`Node`] would, but faster.
impl Serialize for Snapshot {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(&self.root(), serializer)
    }
}

impl Serialize for Answer<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize(self, serializer)
    }
}

fn serialize<'t, T, S>(tree: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Tree<'t> + Serialize,
    S: Serializer,
{
    match tree.split() {
        Split::Leaf(value) => leaf(value, serializer),
        Split::Directory(children) => serializer.collect_map(children),
        Split::Unopened => serializer.collect_map([(ELLIPSIS, ())]),
        Split::Unresolved(why) => serializer.collect_map([(ELLIPSIS, why.as_str())]),
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        leaf(Leaf::from(self), serializer)
    }
}

fn leaf<S: Serializer>(leaf: Leaf<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    match leaf {
        Leaf::Null => serializer.serialize_unit(),
        Leaf::Bool(truth) => serializer.serialize_bool(truth),
        Leaf::Unsigned(number, _) => serializer.serialize_u64(number),
        Leaf::Signed(number, _) => serializer.serialize_i64(number),
        Leaf::Float(number) => match unusual(number) {
            Some(name) => serializer.serialize_str(name),
            None => serializer.serialize_f64(number),
        },
        Leaf::Text(text) => serializer.serialize_str(text),
        Leaf::Bytes(bytes) => serializer.serialize_str(&base64(bytes)),
        Leaf::Duration(duration) => serializer.serialize_f64(duration.as_secs_f64()),
    }
}

impl Node {
    /// Returns the tree as a JSON value, in the form that its `Serialize` describes. The order of
    /// children is that of [`serde_json::Map`]; [`to_json_string`](Self::to_json_string) keeps it.
    #[must_use]
    pub fn to_json(&self) -> Json {
        match self {
            Self::Directory(directory) => directory
                .iter()
                .map(|(name, node)| (name.to_string(), node.to_json()))
                .collect(),
            Self::Unopened => [(ELLIPSIS.to_string(), Json::Null)].into_iter().collect(),
            Self::Unresolved(why) => [(ELLIPSIS.to_string(), Json::from(why.as_str()))]
                .into_iter()
                .collect(),
            Self::Value(value) => match value {
                Value::Null => Json::Null,
                Value::Bool(truth) => Json::from(*truth),
                Value::Unsigned(number, _) => Json::from(*number),
                Value::Signed(number, _) => Json::from(*number),
                Value::Float(number) => match unusual(*number) {
                    Some(name) => Json::from(name),
                    None => Json::from(*number),
                },
                Value::Text(text) => Json::from(text.as_ref()),
                Value::Bytes(bytes) => Json::from(base64(bytes)),
                Value::Duration(duration) => Json::from(duration.as_secs_f64()),
            },
        }
    }

    /// Returns the tree as JSON text in one line, in the form that its `Serialize` describes.
    #[must_use]
    pub fn to_json_string(&self) -> String {
        // The left side can't fail: all keys are strings, and a string takes all that is written.
        serde_json::to_string(self).unwrap_or_else(|_| self.to_json().to_string())
    }

    /// Makes a tree of JSON, such as was saved from one.
    ///
    /// What JSON does not keep is lost: styles of integers, and what was a duration, bytes or a
    /// float that is no number, which come back as a float or as text. An array becomes a
    /// directory with the indices as names. The tree is equal in JSON to what it was made from,
    /// arrays aside.
    #[must_use]
    pub fn from_json(json: &Json) -> Self {
        let directory = |children: Directory| Self::Directory(children);
        match json {
            Json::Object(map) => without_children(map).unwrap_or_else(|| {
                directory(
                    map.iter()
                        .map(|(name, json)| (name.clone(), Self::from_json(json)))
                        .collect(),
                )
            }),
            Json::Array(items) => directory(
                (0_usize..)
                    .zip(items)
                    .map(|(index, json)| (index.to_string(), Self::from_json(json)))
                    .collect(),
            ),
            Json::Null => Self::Value(Value::Null),
            Json::Bool(truth) => Self::Value(Value::Bool(*truth)),
            Json::String(text) => Self::Value(Value::Text(Cow::Owned(text.clone()))),
            Json::Number(number) => Self::Value(if let Some(number) = number.as_u64() {
                Value::Unsigned(number, Style::Decimal)
            } else if let Some(number) = number.as_i64() {
                Value::Signed(number, Style::Decimal)
            } else {
                number.as_f64().map_or(Value::Null, Value::Float)
            }),
        }
    }
}

impl Snapshot {
    /// Returns the tree as JSON text in one line, as [`Node::to_json_string`] does, but faster.
    #[must_use]
    pub fn to_json_string(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|_| self.to_node().to_json_string())
    }
}

/// Returns what was not opened or has not answered, if the object stands for that.
fn without_children(map: &serde_json::Map<String, Json>) -> Option<Node> {
    if map.len() != 1 {
        return None;
    }
    match map.get(ELLIPSIS)? {
        Json::Null => Some(Node::Unopened),
        Json::String(text) => Unresolved::ALL
            .iter()
            .find(|why| why.as_str() == text)
            .map(|why| Node::Unresolved(*why)),
        _ => None,
    }
}

/// Returns the name of a number that JSON can't write.
fn unusual(number: f64) -> Option<&'static str> {
    if number.is_nan() {
        Some("NaN")
    } else if number.is_infinite() {
        Some(if number > 0.0 { "inf" } else { "-inf" })
    } else {
        None
    }
}

/// Encodes bytes as RFC 4648 says, section 4.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    let digits: Vec<u8> = bytes
        .chunks(3)
        .flat_map(|chunk| {
            let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            [18_u32, 12, 6, 0]
                .into_iter()
                .enumerate()
                .map(move |(digit, shift)| {
                    // A chunk of n bytes fills n + 1 digits.
                    let index = usize::try_from(bits >> shift & 63).unwrap_or(0);
                    match ALPHABET.get(index) {
                        Some(letter) if digit <= chunk.len() => *letter,
                        _ => b'=',
                    }
                })
        })
        .collect();
    digits.into_iter().map(char::from).collect()
}
