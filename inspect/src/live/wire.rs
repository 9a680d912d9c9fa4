//! Trees as JSON that loses nothing.

use crate::node::{Directory, Node};
use crate::unresolved::Unresolved;
use crate::value::{Style, Value};
use core::time::Duration;
use serde_core::ser::{Serialize, Serializer};
use serde_json::Value as Json;
use std::borrow::Cow;
use std::fmt::Write as _;

/// Serialises a tree in the form that the module's documentation describes.
pub(super) struct Wire<'a>(pub(super) &'a Node);

impl Serialize for Wire<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Node::Directory(directory) => {
                let children = directory.iter();
                serializer.collect_map(children.map(|(name, node)| (name, Self(node))))
            }
            Node::Unopened => ["..."].serialize(serializer),
            Node::Unresolved(why) => ("?", why.as_str()).serialize(serializer),
            Node::Value(value) => serialize_value(value, serializer),
        }
    }
}

fn serialize_value<S: Serializer>(value: &Value, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Value::Null => serializer.serialize_unit(),
        Value::Bool(truth) => serializer.serialize_bool(*truth),
        Value::Text(text) => serializer.serialize_str(text),
        Value::Unsigned(number, Style::Decimal) => serializer.serialize_u64(*number),
        Value::Unsigned(number, style) => (unsigned_tag(*style), number).serialize(serializer),
        Value::Signed(number, style) => (signed_tag(*style), number).serialize(serializer),
        // As text, since JSON has no infinities; it reads back as the same number.
        Value::Float(number) => ("f", format!("{number:?}")).serialize(serializer),
        Value::Bytes(bytes) => {
            let mut digits = String::with_capacity(bytes.len().saturating_mul(2));
            for byte in bytes {
                // Writing to a string never fails.
                let _ = write!(digits, "{byte:02x}");
            }
            ("y", digits).serialize(serializer)
        }
        Value::Duration(time) => ("t", time.as_secs(), time.subsec_nanos()).serialize(serializer),
    }
}

fn unsigned_tag(style: Style) -> &'static str {
    match style {
        Style::Decimal => "d",
        Style::Hex => "x",
        Style::Binary => "b",
        Style::Counter => "c",
    }
}

fn signed_tag(style: Style) -> &'static str {
    match style {
        Style::Decimal => "sd",
        Style::Hex => "sx",
        Style::Binary => "sb",
        Style::Counter => "sc",
    }
}

/// Reads a tree; `None` if the JSON is none. What of a number or name is unusual is taken as it is.
pub(super) fn read(json: Json) -> Option<Node> {
    let value = match json {
        Json::Object(children) => {
            let children = children
                .into_iter()
                .map(|(name, json)| Some((name, read(json)?)));
            return Some(Node::Directory(children.collect::<Option<Directory>>()?));
        }
        Json::Array(parts) => return tagged(&parts),
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(truth),
        Json::String(text) => Value::Text(Cow::Owned(text)),
        Json::Number(number) => Value::Unsigned(number.as_u64()?, Style::Decimal),
    };
    Some(Node::Value(value))
}

fn tagged(parts: &[Json]) -> Option<Node> {
    let (tag, parts) = parts.split_first()?;
    let tag = tag.as_str()?;
    let value = match (tag, parts) {
        ("...", []) => return Some(Node::Unopened),
        ("?", [Json::String(text)]) => {
            let why = Unresolved::ALL.iter().find(|why| why.as_str() == text);
            return why.map(|why| Node::Unresolved(*why));
        }
        ("f", [Json::String(text)]) => Value::Float(text.parse().ok()?),
        ("y", [Json::String(digits)]) => Value::Bytes(bytes(digits)?),
        ("t", [seconds, nanos]) => {
            let nanos = u32::try_from(nanos.as_u64()?).ok()?;
            // A larger number would carry over, and could overflow.
            if nanos >= 1_000_000_000 {
                return None;
            }
            Value::Duration(Duration::new(seconds.as_u64()?, nanos))
        }
        (_, [number]) => {
            let styles = [Style::Decimal, Style::Hex, Style::Binary, Style::Counter];
            let unsigned = styles.iter().find(|style| unsigned_tag(**style) == tag);
            let signed = styles.iter().find(|style| signed_tag(**style) == tag);
            match (unsigned, signed) {
                (Some(style), _) => Value::Unsigned(number.as_u64()?, *style),
                (None, style) => Value::Signed(number.as_i64()?, *style?),
            }
        }
        _ => return None,
    };
    Some(Node::Value(value))
}

fn bytes(digits: &str) -> Option<Vec<u8>> {
    if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) || !digits.len().is_multiple_of(2) {
        return None;
    }
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test may stop at the first surprise, in its helpers too"
    )]

    use super::*;
    use proptest::prelude::*;

    fn round_trip(node: &Node) -> Option<Node> {
        let text = serde_json::to_string(&Wire(node)).unwrap();
        read(serde_json::from_str(&text).unwrap())
    }

    fn value() -> impl Strategy<Value = Value> {
        let style = prop_oneof![
            Just(Style::Decimal),
            Just(Style::Hex),
            Just(Style::Binary),
            Just(Style::Counter)
        ];
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<String>().prop_map(Value::from),
            (any::<u64>(), style.clone())
                .prop_map(|(number, style)| Value::Unsigned(number, style)),
            (any::<i64>(), style).prop_map(|(number, style)| Value::Signed(number, style)),
            // All but NaN, which is not equal to itself.
            any::<f64>()
                .prop_filter("a number", |number| !number.is_nan())
                .prop_map(Value::Float),
            Just(Value::Float(f64::INFINITY)),
            any::<Vec<u8>>().prop_map(Value::Bytes),
            (any::<u64>(), 0..1_000_000_000_u32)
                .prop_map(|(seconds, nanos)| Value::Duration(Duration::new(seconds, nanos))),
        ]
    }

    fn tree() -> impl Strategy<Value = Node> {
        let leaf = prop_oneof![
            8 => value().prop_map(Node::Value),
            1 => Just(Node::Unopened),
            1 => prop::sample::select(Unresolved::ALL).prop_map(Node::Unresolved),
        ];
        leaf.prop_recursive(4, 64, 8, |child| {
            prop::collection::vec((any::<String>(), child), 0..8)
                .prop_map(|children| Node::Directory(children.into_iter().collect()))
        })
    }

    proptest! {
        #[test]
        fn nothing_is_lost(tree in tree()) {
            prop_assert_eq!(round_trip(&tree), Some(tree));
        }

        #[test]
        fn any_json_is_a_tree_or_is_refused(
            text in r#"(\[|\]|\{|\}|"|,|:|[a-z.?]{1,3}|-?[0-9]{1,20}){0,12}"#,
        ) {
            if let Ok(json) = serde_json::from_str(&text) {
                let _ = read(json);
            }
        }
    }

    #[test]
    fn not_a_number_survives() {
        let node = round_trip(&Node::Value(Value::Float(f64::NAN)));
        assert!(matches!(node, Some(Node::Value(Value::Float(number))) if number.is_nan()));
    }

    #[test]
    fn other_arrays_are_refused() {
        for text in [
            "[]",
            "[1]",
            r#"["x"]"#,
            r#"["x", -1]"#,
            r#"["q", 1]"#,
            r#"["y", "0"]"#,
            r#"["y", "+1"]"#,
            r#"["y", "é"]"#,
            r#"["t", 1, 1000000000]"#,
            r#"["..."  , 1]"#,
            "-1",
            "0.5",
            r#"{"a": ["x"]}"#,
        ] {
            assert_eq!(read(serde_json::from_str(text).unwrap()), None, "{text}");
        }
    }
}
