//! What came of a run.

use serde_json::{Value, json};

pub(crate) struct Report {
    pub(crate) rounds: usize,
    pub(crate) rows: Vec<Row>,
}

/// Something that takes other processes. Times are medians in microseconds.
pub(crate) struct Row {
    pub(crate) name: String,
    /// The least that it takes, by hand.
    pub(crate) hand: f64,
    /// By hand less by hand: how exact a difference is.
    pub(crate) a_a: f64,
    pub(crate) ours: f64,
    /// What is longer, within a round.
    pub(crate) own: f64,
    /// How much longer it may be.
    pub(crate) at_most: f64,
    /// Until a change is made here, while the others have yet to follow.
    pub(crate) returned: Option<f64>,
}

impl Row {
    fn reached(&self) -> bool {
        self.own <= self.at_most
    }

    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "hand_us": rounded(self.hand),
            "a_a_us": rounded(self.a_a),
            "ours_us": rounded(self.ours),
            "own_us": rounded(self.own),
            "own_at_most_us": self.at_most,
            "returned_us": self.returned.map(rounded),
            "reached": self.reached(),
        })
    }
}

impl Report {
    /// How many bars were missed.
    pub(crate) fn missed(&self) -> usize {
        self.rows.iter().filter(|row| !row.reached()).count()
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({
            "rounds": self.rounds,
            "rows": self.rows.iter().map(Row::to_json).collect::<Vec<_>>(),
            "missed": self.missed(),
        })
    }

    pub(crate) fn print(&self) {
        println!(
            "{:<44}{:>9} {:>7} {:>9} {:>9} {:>9} {:>9}",
            "us", "by hand", "A/A", "ours", "own", "at most", "returned"
        );
        for row in &self.rows {
            let returned = row.returned.map(|value| format!("{value:.1}"));
            println!(
                "{:<44}{:>9.1} {:>7.1} {:>9.1} {:>9.1} {:>9.1} {:>9}  {}",
                row.name,
                row.hand,
                row.a_a,
                row.ours,
                row.own,
                row.at_most,
                returned.unwrap_or_default(),
                if row.reached() { "ok" } else { "MISSED" },
            );
        }
        println!(
            "Medians of {} rounds. \"own\" is ours less by hand, within a round; \"A/A\" is by hand less \
             by hand;\n\"returned\" is when a change is made in this process, and the others have yet to \
             follow.",
            self.rounds
        );
    }
}

/// What is worth showing: nanoseconds.
fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
