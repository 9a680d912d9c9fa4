//! Counters per second from two trees.

#![allow(
    clippy::panic,
    reason = "a test may stop at the first surprise, in its helpers too"
)]

use inspect::{Directory, Node, Style, Value, rates};
use proptest::prelude::*;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn tree<N: Into<Value>>(counters: impl IntoIterator<Item = (&'static str, N)>) -> Node {
    let node = |(name, number): (_, N)| {
        let value = number.into().with_style(Style::Counter);
        (name, Node::from(value))
    };
    Node::Directory(counters.into_iter().map(node).collect())
}

/// Returns the rate of one counter that goes from one value to another in a second.
fn rate<N: Into<Value>>(before: N, after: N) -> Option<f64> {
    let rates = rates(&tree([("c", before)]), &tree([("c", after)]), SECOND);
    match rates.child("c").and_then(Node::as_value) {
        Some(Value::Float(rate)) => Some(*rate),
        Some(Value::Null) => None,
        other => panic!("no rate: {other:?}"),
    }
}

#[test]
fn only_counters_have_a_rate() {
    let at = |number: u64| {
        inspect::inspect(&inspect::from_fn(|req| {
            req.respond()
                .value("plain", number)
                .hex("hex", number)
                .value("text", "counter")
                .counter("count", number)
                .child("directory", |req| {
                    req.respond().counter("deep", 2 * number).value("plain", 1);
                })
                .child("no counters", |req| {
                    req.respond().value("plain", number);
                });
        }))
    };
    let text = |interval| rates(&at(10), &at(25), interval).compact().to_string();
    assert_eq!(text(SECOND), "{count: 15.0, directory: {deep: 30.0}}");
    assert_eq!(text(4 * SECOND), "{count: 3.75, directory: {deep: 7.5}}");
    assert_eq!(
        text(Duration::from_millis(500)),
        "{count: 30.0, directory: {deep: 60.0}}"
    );
    assert_eq!(
        text(Duration::ZERO),
        "{count: none, directory: {deep: none}}"
    );
    let value = Node::from(Value::from(1));
    assert_eq!(rates(&value, &value, SECOND).compact().to_string(), "{}");
    let counter = |number: u64| Node::from(Value::from(number).with_style(Style::Counter));
    assert_eq!(rates(&counter(1), &counter(3), SECOND).to_string(), "2.0");
}

#[test]
fn counters_wrap_at_their_width() {
    assert_eq!(rate(u64::MAX, 0), Some(1.0));
    assert_eq!(rate(u64::MAX - 9, 10), Some(20.0));
    assert_eq!(rate(u64::from(u32::MAX), 0_u64), Some(1.0));
    assert_eq!(rate(u64::from(u32::MAX) - 9, 10_u64), Some(20.0));
    assert_eq!(rate(i64::MAX, i64::MIN), Some(1.0));
    assert_eq!(rate(i32::MAX, i32::MIN + 1), Some(2.0));
    // Nothing is lost near the top without a wrap.
    assert_eq!(
        rate(u64::from(u32::MAX), u64::from(u32::MAX) + 5),
        Some(5.0)
    );
    assert_eq!(rate(-5_i64, 5), Some(10.0));
    assert_eq!(rate(i64::MIN, i64::MAX), Some(u64::MAX as f64));
}

#[test]
fn a_reset_counts_from_zero() {
    assert_eq!(rate(100_u64, 0), Some(0.0));
    assert_eq!(rate(100_u64, 40), Some(40.0));
    assert_eq!(rate(3_000_000_000_u64, 5), Some(5.0));
    assert_eq!(rate(u64::from(u32::MAX) + 1, 5_u64), Some(5.0));
    assert_eq!(rate(u64::MAX / 2, 5), Some(5.0));
    assert_eq!(rate(100_i32, 40), Some(40.0));
    assert_eq!(rate(100_i32, -40), Some(0.0));
}

#[test]
fn counters_come_and_go() {
    let before = tree([("gone", 1_u64), ("stays", 1)]);
    let after = tree([("new", 5_u64), ("stays", 2)]);
    assert_eq!(
        rates(&before, &after, SECOND).compact().to_string(),
        "{new: none, stays: 1.0}"
    );
    // What was something else before is new, too.
    let other = Node::Directory([("c", Node::Unopened)].into_iter().collect());
    let after = tree([("c", 5_u64)]);
    assert_eq!(
        rates(&other, &after, SECOND).compact().to_string(),
        "{c: none}"
    );
    assert_eq!(
        rates(&after, &other, SECOND),
        Node::Directory(Directory::default())
    );
    let plain = Node::Directory([("c", Node::from(Value::from(4)))].into_iter().collect());
    assert_eq!(
        rates(&plain, &after, SECOND).compact().to_string(),
        "{c: none}"
    );
}

proptest! {
    #[test]
    fn growth_is_the_difference(before: u64, grown: u64, millis in 1_u64..100_000) {
        let Some(after) = before.checked_add(grown) else {
            return Ok(());
        };
        let interval = Duration::from_millis(millis);
        let rates = rates(&tree([("c", before)]), &tree([("c", after)]), interval);
        let expected = grown as f64 / interval.as_secs_f64();
        prop_assert_eq!(rates.child("c"), Some(&Node::from(Value::Float(expected))));
    }

    #[test]
    fn small_wraps_are_found(left in 0_u64..1_000_000, right in 0_u64..1_000_000) {
        let grown = Some((left + right + 1) as f64);
        prop_assert_eq!(rate(u64::MAX - left, right), grown);
        prop_assert_eq!(rate(u64::from(u32::MAX) - left, right), grown);
    }

    #[test]
    fn no_rate_is_negative_or_odd(before: u64, after: u64) {
        prop_assert!(rate(before, after).is_some_and(|rate| rate >= 0.0 && rate.is_finite()));
        let signed = rate(before.cast_signed(), after.cast_signed());
        prop_assert!(signed.is_some_and(|rate| rate >= 0.0 && rate.is_finite()));
    }
}
