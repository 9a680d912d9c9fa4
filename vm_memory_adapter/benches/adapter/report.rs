//! What came of a run.

use serde_json::{Value, json};
use std::ops::Range;

/// How far vm-memory's may be from itself before the machine is too busy to compare anything.
const A_A: Range<f64> = 0.9..1.1;

/// How many times as much an address space may add to a change at any number of regions as it does at
/// the least: the tree gets higher, and the caches colder.
const GROWTH: f64 = 4.0;

pub(crate) struct Report {
    pairs: usize,
    rows: Vec<Row>,
    pub(crate) changes: Vec<Change>,
}

/// What an address space adds to a change of guest memory, in nanoseconds.
pub(crate) struct Change {
    pub(crate) name: String,
    pub(crate) without_ns: f64,
    pub(crate) added_ns: f64,
    /// What `GuestMemoryMmap` takes to get another region and be published, where it was measured.
    pub(crate) theirs_ns: Option<f64>,
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
    /// What `faster` is to be at least; 0 where there is no bar.
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
            changes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// How many bars were missed.
    pub(crate) fn missed(&self) -> usize {
        let missed = self.rows.iter().filter(|row| !row.reached()).count();
        missed + usize::from(self.growth().is_some_and(|growth| growth > GROWTH))
    }

    /// How many times as much an address space adds to a change where there are most regions as where
    /// there are least.
    fn growth(&self) -> Option<f64> {
        let (first, last) = (self.changes.first()?, self.changes.last()?);
        Some(last.added_ns / first.added_ns)
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
            "{:<62} {:>8} {:>10} {:>7} {:>6}  bar",
            "nanoseconds an operation", "ours", "vm-memory", "faster", "A/A"
        );
        for row in &self.rows {
            let bar = match (row.least > 0.0, row.reached()) {
                (false, _) => "none".to_owned(),
                (true, true) => format!("at least {:.2}  ok", row.least),
                (true, false) => format!("at least {:.2}  MISSED", row.least),
            };
            println!(
                "{:<62} {:>8.2} {:>10.2} {:>7.2} {:>6.2}  {bar}",
                row.name, row.ours_ns, row.theirs_ns, row.faster, row.a_a,
            );
        }
        println!(
            "\nMedians of {} pairs. \"faster\" is vm-memory 0.18's GuestMemoryMmap by ours, \"A/A\" \
             GuestMemoryMmap by itself.\nmemory() costs the same whatever the number of regions; the \
             row says by which handles.",
            self.pairs
        );
        if let Some(growth) = self.growth() {
            self.print_changes(growth);
        }
    }

    fn print_changes(&self, growth: f64) {
        println!(
            "\n{:<62} {:>8} {:>10} {:>10}",
            "nanoseconds a change", "without", "+ space", "vm-memory"
        );
        for change in &self.changes {
            let theirs = change.theirs_ns.map(|theirs| format!("{theirs:.0}"));
            println!(
                "{:<62} {:>8.0} {:>10.0} {:>10}",
                change.name,
                change.without_ns,
                change.added_ns,
                theirs.as_deref().unwrap_or("-")
            );
        }
        println!(
            "\n\"without\" is the whole change, \"+ space\" what an address space adds to it: {growth:.1} \
             times as much at the most\nregions as at the least (at most {GROWTH:.1}: {}). \"vm-memory\" \
             is what insert_region or remove_region and\nGuestMemoryAtomic's replace take, without \
             any change of a mapping.",
            if growth <= GROWTH { "ok" } else { "MISSED" }
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
        let changes = self.changes.iter().map(|change| {
            json!({
                "operation": change.name,
                "without_ns": rounded(change.without_ns),
                "added_ns": rounded(change.added_ns),
                "vm_memory_ns": change.theirs_ns.map(rounded),
            })
        });
        json!({
            "pairs": self.pairs,
            "rows": rows.collect::<Vec<_>>(),
            "changes": changes.collect::<Vec<_>>(),
            "growth": self.growth().map(rounded),
            "growth_at_most": GROWTH,
            "missed": self.missed(),
            "problem": self.problem(),
        })
    }
}

/// What is worth showing: picoseconds, thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
