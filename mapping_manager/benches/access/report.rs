//! What came of a run.

use crate::fixture::{MANY, Window};
use serde_json::{Value, json};
use std::ops::Range;

/// How far raw may be from itself before the machine is too busy to compare anything.
const A_A: Range<f64> = 0.9..1.1;

pub(crate) struct Report {
    pub(crate) pairs: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) bars: Vec<Bar>,
    problems: Vec<String>,
}

/// An operation in a window. Times are medians in nanoseconds an access; ratios are medians of
/// paired ratios, so they are not exactly those of the times.
pub(crate) struct Row {
    pub(crate) operation: &'static str,
    pub(crate) window: Window,
    pub(crate) raw_ns: f64,
    pub(crate) ours_ns: f64,
    pub(crate) times_raw: f64,
    /// Raw by raw.
    pub(crate) a_a: f64,
    /// Ours at many regions by ours at one.
    pub(crate) many: f64,
    /// The peer at one region by ours; some operations it has none of.
    pub(crate) faster_than_peer: Option<f64>,
    pub(crate) peers: Vec<PeerTime>,
}

pub(crate) struct PeerTime {
    pub(crate) regions: usize,
    pub(crate) ns: f64,
    pub(crate) times_raw: f64,
}

/// A bar to reach.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) limit: Limit,
}

#[derive(Copy, Clone)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
}

impl Bar {
    pub(crate) fn reached(&self) -> bool {
        match self.limit {
            Limit::AtMost(limit) => self.value <= limit,
            Limit::AtLeast(limit) => self.value >= limit,
        }
    }
}

impl Report {
    pub(crate) fn new(pairs: usize) -> Self {
        Self {
            pairs,
            rows: Vec::new(),
            bars: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// How many bars were missed.
    pub(crate) fn missed(&self) -> usize {
        self.bars.iter().filter(|bar| !bar.reached()).count()
    }

    /// Why the run is worth nothing, if it is.
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }

    /// Notes a problem where the raw access takes a time that it cannot.
    pub(crate) fn require_plausible(&mut self, row: &Row, plausible: &Range<f64>) {
        if !plausible.contains(&row.raw_ns) {
            self.problems.push(format!(
                "implausible baseline: raw {} takes {:.2} ns, not {} to {}",
                row.operation, row.raw_ns, plausible.start, plausible.end
            ));
        }
        if !A_A.contains(&row.a_a) {
            self.problems.push(format!(
                "implausible baseline: raw {} is {:.2} times itself; the machine is too busy",
                row.operation, row.a_a
            ));
        }
    }

    /// Notes a problem where too many pairs were disturbed.
    pub(crate) fn require_pairs(&mut self, operation: &str, count: usize) {
        if count < self.pairs.min(40) {
            self.problems.push(format!(
                "only {count} pairs of {operation} were undisturbed; the machine is too busy"
            ));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "pairs": self.pairs,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "bars": self.bars.iter().map(Bar::to_json).collect::<Vec<_>>(),
            "missed": self.missed(),
            "problems": self.problems,
        })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        let peers = self.peers.iter().map(|peer| {
            json!({
                "regions": peer.regions,
                "ns": rounded(peer.ns),
                "times_raw": rounded(peer.times_raw),
            })
        });
        json!({
            "operation": self.operation,
            "window": self.window.to_string(),
            "raw_ns": rounded(self.raw_ns),
            "ours_ns": rounded(self.ours_ns),
            "times_raw": rounded(self.times_raw),
            "a_a": rounded(self.a_a),
            "many_regions": MANY,
            "many_by_one_region": rounded(self.many),
            "vm_memory_by_ours": self.faster_than_peer.map(rounded),
            "vm_memory": peers.collect::<Vec<_>>(),
        })
    }
}

impl Bar {
    fn to_json(&self) -> Value {
        let (kind, limit) = match self.limit {
            Limit::AtMost(limit) => ("at_most", limit),
            Limit::AtLeast(limit) => ("at_least", limit),
        };
        json!({
            "bar": self.name,
            "value": rounded(self.value),
            kind: rounded(limit),
            "reached": self.reached(),
        })
    }
}

/// What is worth showing: picoseconds, thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
