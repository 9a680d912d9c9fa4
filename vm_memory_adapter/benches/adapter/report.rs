//! What came of a run.

use serde_json::{Value, json};
use std::ops::Range;

/// How far vm-memory's may be from itself before the machine is too busy to compare anything.
const A_A: Range<f64> = 0.9..1.1;

pub(crate) struct Report {
    pairs: usize,
    rows: Vec<Row>,
}

/// An operation at a number of regions. Times are medians in nanoseconds an operation; ratios are
/// medians of paired ratios, so they are not exactly those of the times.
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) ours_ns: f64,
    pub(crate) theirs_ns: f64,
    /// vm-memory's by ours.
    pub(crate) faster: f64,
    /// vm-memory's by itself.
    pub(crate) a_a: f64,
    /// How many pairs were undisturbed.
    pub(crate) pairs: usize,
    /// What `faster` is to be at least.
    pub(crate) least: f64,
}

impl Row {
    fn reached(&self) -> bool {
        self.faster >= self.least
    }
}

impl Report {
    pub(crate) fn new(pairs: usize) -> Self {
        Self {
            pairs,
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// How many bars were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.reached()).count()
    }

    /// Why the run is worth nothing, if it is.
    pub(crate) fn problem(&self) -> Option<String> {
        let busy = self
            .rows
            .iter()
            .find(|row| !A_A.contains(&row.a_a) || row.pairs < self.pairs.min(40))?;
        Some(format!(
            "the machine is too busy: {} is {:.2} times itself in {} pairs",
            busy.name, busy.a_a, busy.pairs
        ))
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<48} {:>8} {:>10} {:>7} {:>6}  bar",
            "nanoseconds an operation", "ours", "vm-memory", "faster", "A/A"
        );
        for row in &self.rows {
            println!(
                "{:<48} {:>8.2} {:>10.2} {:>7.2} {:>6.2}  at least {:.2}  {}",
                row.name,
                row.ours_ns,
                row.theirs_ns,
                row.faster,
                row.a_a,
                row.least,
                if row.reached() { "ok" } else { "MISSED" }
            );
        }
        println!(
            "\nMedians of {} pairs. \"faster\" is vm-memory 0.18's GuestMemoryMmap by ours, \"A/A\" \
             GuestMemoryMmap by itself.\nmemory() is compared with GuestMemoryAtomic, and costs the \
             same whatever the number of regions.",
            self.pairs
        );
    }

    pub(crate) fn to_json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "operation": row.name,
                "ours_ns": rounded(row.ours_ns),
                "vm_memory_ns": rounded(row.theirs_ns),
                "faster": rounded(row.faster),
                "a_a": rounded(row.a_a),
                "at_least": row.least,
                "reached": row.reached(),
            })
        });
        json!({
            "pairs": self.pairs,
            "rows": rows.collect::<Vec<_>>(),
            "missed": self.missed(),
            "problem": self.problem(),
        })
    }
}

/// What is worth showing: picoseconds, thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
