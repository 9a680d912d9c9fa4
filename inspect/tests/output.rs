//! What trees look like as text and as JSON, and that every parser takes the JSON.

#![allow(
    clippy::unwrap_used,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use expect_test::{Expect, expect};
use inspect::{Inspect, Node, Query, Request, Unresolved, Value};
use proptest::prelude::*;
use std::borrow::Cow;
use std::time::Duration;

/// One of everything.
struct All;

impl Inspect for All {
    fn inspect(&self, req: Request<'_>) {
        req.respond()
            .field("name", "ram below 4 GiB")
            .display("range", "0x0-0x100000")
            .hex("gpa", 0xf_0000_u64)
            .hex("offset", -16)
            .binary("flags", 5_u8)
            .binary("negative", -2)
            .counter("faults", u64::MAX)
            .value("lowest", i64::MIN)
            .value("ratio", 0.5)
            .value("whole", 1.0)
            .value("nan", f64::NAN)
            .value("infinite", f64::INFINITY)
            .value("negative infinite", f64::NEG_INFINITY)
            .value("writable", true)
            .value("nothing", None::<u8>)
            .value("took", Duration::from_micros(1_500))
            .value("zero", 0)
            .binary("all bits", u64::MAX)
            .hex("all digits", 0x0123_4567_89ab_cdef_u64)
            .bytes("id", &[0xde, 0xad, 0xbe, 0xef])
            .bytes("no bytes", "")
            .debug("debug", &Some(1))
            .child("empty", |req| {
                req.respond();
            })
            .child("silent", |req| drop(req))
            .child("regions", |req| {
                req.by_key([(10, vec![1]), (9, vec![]), (100, vec![2, 3])]);
            });
    }
}

#[test]
fn indented_text() {
    expect![[r#"
        all bits: 0b1111111111111111111111111111111111111111111111111111111111111111
        all digits: 0x123456789abcdef
        debug: Some(1)
        empty: {}
        faults: 18446744073709551615
        flags: 0b101
        gpa: 0xf0000
        id: [de ad be ef]
        infinite: inf
        lowest: -9223372036854775808
        name: ram below 4 GiB
        nan: NaN
        negative: -0b10
        negative infinite: -inf
        no bytes: []
        nothing: none
        offset: -0x10
        range: 0x0-0x100000
        ratio: 0.5
        regions:
          9: {}
          10:
            0: 1
          100:
            0: 2
            1: 3
        took: 1.5ms
        whole: 1.0
        writable: true
        zero: 0"#]]
    .assert_eq(&inspect::inspect(&All).to_string());
}

#[test]
fn compact_text() {
    expect!["{all bits: 0b1111111111111111111111111111111111111111111111111111111111111111, all digits: 0x123456789abcdef, debug: Some(1), empty: {}, faults: 18446744073709551615, flags: 0b101, gpa: 0xf0000, id: [de ad be ef], infinite: inf, lowest: -9223372036854775808, name: ram below 4 GiB, nan: NaN, negative: -0b10, negative infinite: -inf, no bytes: [], nothing: none, offset: -0x10, range: 0x0-0x100000, ratio: 0.5, regions: {9: {}, 10: {0: 1}, 100: {0: 2, 1: 3}}, took: 1.5ms, whole: 1.0, writable: true, zero: 0}"].assert_eq(&inspect::inspect(&All).compact().to_string());
}

#[test]
fn json_text() {
    let node = inspect::inspect(&All);
    expect![[r#"{"all bits":18446744073709551615,"all digits":81985529216486895,"debug":"Some(1)","empty":{},"faults":18446744073709551615,"flags":5,"gpa":983040,"id":"3q2+7w==","infinite":"inf","lowest":-9223372036854775808,"name":"ram below 4 GiB","nan":"NaN","negative":-2,"negative infinite":"-inf","no bytes":"","nothing":null,"offset":-16,"range":"0x0-0x100000","ratio":0.5,"regions":{"9":{},"10":{"0":1},"100":{"0":2,"1":3}},"took":0.0015,"whole":1.0,"writable":true,"zero":0}"#]].assert_eq(&node.to_json_string());
    let parsed: serde_json::Value = serde_json::from_str(&node.to_json_string()).unwrap();
    assert_eq!(parsed, node.to_json());
}

#[test]
fn what_lies_deeper_is_marked() {
    let node = Query::new()
        .depth(1)
        .path("regions".parse().unwrap())
        .run(&All)
        .unwrap();
    expect![[r#"
        9: ...
        10: ...
        100: ..."#]]
    .assert_eq(&node.to_string());
    expect![[r#"{"9":{"...":null},"10":{"...":null},"100":{"...":null}}"#]]
        .assert_eq(&node.to_json_string());
    assert_eq!(Node::from_json(&node.to_json()), node);
}

#[track_caller]
fn check_text(text: &'static str, lines: Expect, compact: Expect) {
    let node = inspect::inspect(&inspect::from_fn(|req| {
        req.respond().field(text, text);
    }));
    lines.assert_eq(&node.to_string());
    compact.assert_eq(&node.compact().to_string());
    let json: serde_json::Value = serde_json::from_str(&node.to_json_string()).unwrap();
    assert_eq!(json, serde_json::json!({ text: text }));
}

#[test]
fn hostile_text_is_quoted() {
    check_text("", expect![[r#""": """#]], expect![[r#"{"": ""}"#]]);
    check_text(
        " padded ",
        expect![[r#"" padded ": " padded ""#]],
        expect![[r#"{" padded ": " padded "}"#]],
    );
    check_text(
        "a: b",
        expect![[r#""a: b": a: b"#]],
        expect![[r#"{"a: b": a: b}"#]],
    );
    check_text(
        "0000:00:1f.2",
        expect!["0000:00:1f.2: 0000:00:1f.2"],
        expect!["{0000:00:1f.2: 0000:00:1f.2}"],
    );
    check_text(
        "a, b}",
        expect![[r#""a, b}": a, b}"#]],
        expect![[r#"{"a, b}": "a, b}"}"#]],
    );
    check_text(
        "a \"quoted\" word",
        expect![[r#"a "quoted" word: a "quoted" word"#]],
        expect![[r#"{a "quoted" word: a "quoted" word}"#]],
    );
    check_text(
        "\"quoted\"",
        expect![[r#""\"quoted\"": "\"quoted\"""#]],
        expect![[r#"{"\"quoted\"": "\"quoted\""}"#]],
    );
    check_text(
        "none",
        expect![[r#"none: "none""#]],
        expect![[r#"{none: "none"}"#]],
    );
    check_text(
        "two\nlines: \u{1b}[31m\u{7}\0",
        expect![[r#""two\nlines: \u{1b}[31m\u{7}\u{0}": "two\nlines: \u{1b}[31m\u{7}\u{0}""#]],
        expect![[r#"{"two\nlines: \u{1b}[31m\u{7}\u{0}": "two\nlines: \u{1b}[31m\u{7}\u{0}"}"#]],
    );
    check_text(
        "\u{202e}reversed\u{200b}\u{85}",
        expect![[r#""\u{202e}reversed\u{200b}\u{85}": "\u{202e}reversed\u{200b}\u{85}""#]],
        expect![[r#"{"\u{202e}reversed\u{200b}\u{85}": "\u{202e}reversed\u{200b}\u{85}"}"#]],
    );
    check_text(
        "größe 大きさ 🦀",
        expect!["größe 大きさ 🦀: größe 大きさ 🦀"],
        expect!["{größe 大きさ 🦀: größe 大きさ 🦀}"],
    );
    check_text(
        "C:\\dir\tx",
        expect![[r#""C:\\dir\tx": "C:\\dir\tx""#]],
        expect![[r#"{"C:\\dir\tx": "C:\\dir\tx"}"#]],
    );
}

#[test]
fn top_level_values_and_empty_trees() {
    let show = |value: Value| {
        let node = Node::from(value);
        (
            node.to_string(),
            node.compact().to_string(),
            node.to_json_string(),
        )
    };
    let expected = |lines: &str, compact: &str, json: &str| {
        (lines.to_owned(), compact.to_owned(), json.to_owned())
    };
    assert_eq!(show(Value::from(5)), expected("5", "5", "5"));
    assert_eq!(
        show(Value::from("a, b")),
        expected("a, b", "\"a, b\"", "\"a, b\"")
    );
    assert_eq!(show(Value::Null), expected("none", "none", "null"));
    let empty = Node::Directory(std::iter::empty::<(String, Node)>().collect());
    assert_eq!(
        (empty.to_string().as_str(), empty.to_json_string().as_str()),
        ("{}", "{}")
    );
}

#[test]
fn bytes_are_base64() {
    // RFC 4648, section 10.
    for (bytes, expected) in [
        ("", ""),
        ("f", "Zg=="),
        ("fo", "Zm8="),
        ("foo", "Zm9v"),
        ("foob", "Zm9vYg=="),
        ("fooba", "Zm9vYmE="),
        ("foobar", "Zm9vYmFy"),
    ] {
        let node = Node::from(Value::from(bytes.as_bytes()));
        assert_eq!(node.to_json(), serde_json::json!(expected));
    }
    let node = Node::from(Value::from(&[0xfb, 0xff, 0xbf][..]));
    assert_eq!(node.to_json(), serde_json::json!("+/+/"));
}

#[test]
fn children_keep_their_order_in_json_text() {
    let node = inspect::inspect(&(0..12).collect::<Vec<_>>());
    let text = node.to_json_string();
    assert!(text.starts_with(r#"{"0":0,"1":1,"2":2,"#) && text.ends_with(r#""10":10,"11":11}"#));
}

#[test]
fn arrays_become_directories() {
    let json = serde_json::json!({ "list": [1, [true], null] });
    let node = Node::from_json(&json);
    expect!["{list: {0: 1, 1: {0: true}, 2: none}}"].assert_eq(&node.compact().to_string());
}

#[test]
fn deep_trees_are_parsed() {
    struct Deep;
    impl Inspect for Deep {
        fn inspect(&self, req: Request<'_>) {
            req.respond().field("deeper", self);
        }
    }
    let text = inspect::inspect(&Deep).to_json_string();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(Node::from_json(&json).to_json_string(), text);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(|number| Value::from(number).with_style(inspect::Style::Hex)),
        proptest::num::f64::ANY.prop_map(Value::from),
        any::<String>().prop_map(|text| Value::Text(Cow::Owned(text))),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(Value::from),
        any::<Duration>().prop_map(Value::from),
    ]
}

fn node() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        8 => value().prop_map(Node::from),
        1 => Just(Node::Unopened),
        1 => Just(Node::Unresolved(Unresolved::Late)),
        1 => Just(Node::Unresolved(Unresolved::Dropped)),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        proptest::collection::vec((any::<String>(), inner), 0..6)
            .prop_map(|children| Node::Directory(children.into_iter().collect()))
    })
}

/// Compares JSON, but floats only to the precision of the parser, which may miss the last bit.
fn is_same(left: &serde_json::Value, right: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (left, right) {
        (Object(left), Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .zip(right)
                    .all(|(l, r)| l.0 == r.0 && is_same(l.1, r.1))
        }
        (Array(left), Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| is_same(l, r))
        }
        (Number(left), Number(right)) if left.is_f64() && right.is_f64() => {
            let (left, right) = (left.as_f64().unwrap(), right.as_f64().unwrap());
            (left - right).abs() <= left.abs() * 1e-15
        }
        _ => left == right,
    }
}

proptest! {
    #[test]
    fn json_text_is_the_json_value(node in node()) {
        let parsed: serde_json::Value = serde_json::from_str(&node.to_json_string()).unwrap();
        prop_assert!(is_same(&parsed, &node.to_json()), "{parsed}\n{}", node.to_json());
    }

    #[test]
    fn json_reads_back(node in node()) {
        let read = Node::from_json(&node.to_json());
        prop_assert_eq!(read.to_json(), node.to_json());
        prop_assert_eq!(Node::from_json(&read.to_json()), read);
    }

    #[test]
    fn text_stays_on_its_lines(node in node()) {
        fn count(node: &Node) -> usize {
            match node {
                Node::Directory(children) if !children.is_empty() => {
                    children.iter().map(|(_, child)| match child {
                        Node::Directory(inner) if !inner.is_empty() => 1 + count(child),
                        _ => 1,
                    }).sum()
                }
                _ => 1,
            }
        }
        let text = node.to_string();
        prop_assert_eq!(text.lines().count(), count(&node));
        prop_assert!(!text.chars().any(|c| c.is_control() && c != '\n'));
        prop_assert!(!node.compact().to_string().chars().any(char::is_control));
    }
}
