//! What came of a run.

use serde_json::{Value, json};

/// How many microseconds the calls by hand may differ from themselves before the machine is too
/// busy to compare anything; or which part of what they take, where that is more.
const A_A: f64 = 0.1;
const A_A_PART: f64 = 0.1;

pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) others: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) calls: Vec<CallList>,
    /// Why nothing was measured on KVM, if so.
    pub(crate) kvm_missing: Option<String>,
    /// Why no calls were recorded, if so.
    pub(crate) calls_missing: Option<String>,
    problems: Vec<String>,
}

/// A change. Times are medians in microseconds.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    /// The calls by hand.
    pub(crate) hand: f64,
    /// The facade, with few regions.
    pub(crate) total: f64,
    /// What the facade takes longer than the calls by hand.
    pub(crate) own: f64,
    /// How far half of the rounds are from that, at most.
    pub(crate) spread: f64,
    /// The calls by hand less themselves.
    pub(crate) a_a: f64,
    /// As `own`, with many regions.
    pub(crate) own_many: Option<f64>,
    /// All of it on KVM.
    pub(crate) kvm: Option<OnKvm>,
}

/// A change on a VM whose vCPUs do nothing. Times are medians in microseconds.
#[derive(Copy, Clone)]
pub(crate) struct OnKvm {
    /// The calls by hand.
    pub(crate) hand: f64,
    /// The facade.
    pub(crate) ours: f64,
    /// The calls by hand less themselves.
    pub(crate) a_a: f64,
}

impl OnKvm {
    /// Ours by the calls by hand.
    pub(crate) fn ratio(self) -> f64 {
        self.ours / self.hand
    }
}

/// A time or a ratio to stay below.
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) value: f64,
    pub(crate) at_most: f64,
}

/// The system calls of a transition.
pub(crate) struct CallList {
    pub(crate) name: String,
    /// How many windows more there were.
    pub(crate) others: usize,
    pub(crate) calls: String,
    pub(crate) expected: String,
}

impl Bar {
    pub(crate) fn reached(&self) -> bool {
        self.value <= self.at_most
    }
}

impl CallList {
    pub(crate) fn reached(&self) -> bool {
        self.calls == self.expected
    }
}

impl Report {
    pub(crate) fn new(rounds: usize, others: usize) -> Self {
        Self {
            rounds,
            others,
            rows: Vec::new(),
            bars: Vec::new(),
            calls: Vec::new(),
            kvm_missing: None,
            calls_missing: None,
            problems: Vec::new(),
        }
    }

    /// How many bars were missed, and how many transitions make other calls than they shall.
    pub(crate) fn missed(&self) -> usize {
        let bars = self.bars.iter().filter(|bar| !bar.reached()).count();
        let calls = self.calls.iter().filter(|list| !list.reached()).count();
        bars + calls
    }

    /// Why the run is worth nothing, if it is.
    pub(crate) fn problem(&self) -> Option<String> {
        (!self.problems.is_empty()).then(|| self.problems.join("; "))
    }

    /// Notes a problem where the calls by hand are not as fast as themselves.
    pub(crate) fn require_quiet(&mut self, row: &Row) {
        if row.a_a.is_nan() || row.a_a.abs() > A_A.max(row.hand * A_A_PART) {
            self.problems.push(format!(
                "{}: the calls by hand differ by {:.2} us from themselves; the machine is too busy",
                row.name, row.a_a
            ));
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "many": self.others,
            "changes": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "bars": self.bars.iter().map(Bar::to_json).collect::<Vec<_>>(),
            "calls": self.calls.iter().map(CallList::to_json).collect::<Vec<_>>(),
            "kvm_missing": self.kvm_missing,
            "calls_missing": self.calls_missing,
            "missed": self.missed(),
            "problems": self.problems,
        })
    }
}

impl Row {
    fn to_json(&self) -> Value {
        json!({
            "change": self.name,
            "hand_us": rounded(self.hand),
            "ours_us": rounded(self.total),
            "own_us": rounded(self.own),
            "own_spread_us": rounded(self.spread),
            "a_a_us": rounded(self.a_a),
            "own_many_us": self.own_many.map(rounded),
            "kvm_hand_us": self.kvm.map(|kvm| rounded(kvm.hand)),
            "kvm_ours_us": self.kvm.map(|kvm| rounded(kvm.ours)),
            "kvm_a_a_us": self.kvm.map(|kvm| rounded(kvm.a_a)),
            "kvm_ratio": self.kvm.map(|kvm| rounded(kvm.ratio())),
        })
    }
}

impl Bar {
    fn to_json(&self) -> Value {
        json!({
            "bar": self.name,
            "value": rounded(self.value),
            "at_most": rounded(self.at_most),
            "reached": self.reached(),
        })
    }
}

impl CallList {
    fn to_json(&self) -> Value {
        json!({
            "transition": self.name,
            "windows_more": self.others,
            "calls": self.calls,
            "expected": self.expected,
            "reached": self.reached(),
        })
    }
}

/// What is worth showing: nanoseconds, thousandths.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
