//! How fast counters grow.

use crate::node::{Directory, Node};
use crate::value::{Style, Value};
use alloc::string::String;
use core::time::Duration;

/// Returns how much the counters of a tree have grown a second, from two trees of the same objects
/// that were taken `interval` apart.
///
/// The result has the counters of `after` (integers of [`Style::Counter`]), as
/// [`Value::Float`], and the directories that lead to them; nothing else.
///
/// - A counter that has wrapped is told from one that was reset by how far it would have gone: it
///   has wrapped if it went less than an eighth of its range, which is that of 32 bits for values
///   that fit and else that of 64. Counters that are narrower count as reset.
/// - After a reset, what has been counted since is what the counter shows; it has grown by that at
///   least.
/// - [`Value::Null`] stands where no rate is known: for a counter that `before` doesn't have, and
///   for all of them if `interval` is zero.
/// - A counter that has vanished, having stood in `before` only, isn't there.
///
/// ```
/// use inspect::{Inspect, Value};
/// use std::time::Duration;
///
/// let tree = |faults: u64| {
///     inspect::inspect(&inspect::from_fn(|req| {
///         req.respond().counter("faults", faults).value("name", "ram");
///     }))
/// };
/// let rates = inspect::rates(&tree(10), &tree(25), Duration::from_secs(2));
/// assert_eq!(rates.compact().to_string(), "{faults: 7.5}");
/// ```
#[must_use]
pub fn rates(before: &Node, after: &Node, interval: Duration) -> Node {
    rate_of(Some(before), after, interval).unwrap_or_else(|| Node::Directory(Directory::default()))
}

/// Returns the rates of all counters at and below a place. `None` if there are none.
fn rate_of(before: Option<&Node>, after: &Node, interval: Duration) -> Option<Node> {
    match after {
        Node::Directory(children) => {
            let rates = children.iter().filter_map(|(name, after)| {
                let before = before.and_then(|before| before.child(name));
                Some((String::from(name), rate_of(before, after, interval)?))
            });
            let rates: Directory = rates.collect();
            (!rates.is_empty()).then_some(Node::Directory(rates))
        }
        Node::Value(after) => {
            let after = Counter::of(after)?;
            let before = before.and_then(Node::as_value).and_then(Counter::of);
            let rate = before.and_then(|before| per_second(after.since(before), interval));
            Some(Node::Value(rate.map_or(Value::Null, Value::Float)))
        }
        _ => None,
    }
}

/// The value of a counter.
#[derive(Copy, Clone)]
enum Counter {
    Unsigned(u64),
    Signed(i64),
}

impl Counter {
    fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Unsigned(number, Style::Counter) => Some(Self::Unsigned(*number)),
            Value::Signed(number, Style::Counter) => Some(Self::Signed(*number)),
            _ => None,
        }
    }

    /// Returns how far the counter has come since it was at `before`.
    fn since(self, before: Self) -> u64 {
        match (before, self) {
            (Self::Unsigned(before), Self::Unsigned(after)) => {
                after.checked_sub(before).unwrap_or_else(|| {
                    let narrow = u32::try_from(before).is_ok();
                    wrapped(before, after, narrow).unwrap_or(after)
                })
            }
            (Self::Signed(before), Self::Signed(after)) if after >= before => {
                after.abs_diff(before)
            }
            (Self::Signed(before), Self::Signed(after)) => {
                let narrow = i32::try_from(before).is_ok() && i32::try_from(after).is_ok();
                wrapped(before.cast_unsigned(), after.cast_unsigned(), narrow)
                    .unwrap_or(after.max(0).unsigned_abs())
            }
            // Only another object can have another type.
            (Self::Unsigned(_), Self::Signed(after)) => after.max(0).unsigned_abs(),
            (Self::Signed(_), Self::Unsigned(after)) => after,
        }
    }
}

/// Returns how far a counter has come that went from `before` over its highest value to `after`,
/// if that is believable. `narrow` counters have 32 bits, the others 64.
fn wrapped(before: u64, after: u64, narrow: bool) -> Option<u64> {
    let mask = if narrow {
        u64::from(u32::MAX)
    } else {
        u64::MAX
    };
    let grown = after.wrapping_sub(before) & mask;
    (grown <= mask / 8).then_some(grown)
}

fn per_second(grown: u64, interval: Duration) -> Option<f64> {
    // A count beyond 2^53 is rounded, by less than a 10^15th part.
    (!interval.is_zero()).then(|| grown as f64 / interval.as_secs_f64())
}
