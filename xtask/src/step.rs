//! One step of `check`: what came of it, and how it is shown.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::run::{Cargo, Progress};
use crate::terminal::{Colour, Terminal, without_escapes};

/// What came of a step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Nothing to complain of.
    Ok,
    /// Not run, and why; never counts as a failure.
    Skipped { reason: String },
    /// The rule is broken.
    Failed {
        /// One line for each breach, or what the tool printed.
        details: Vec<String>,
        /// What to do about it.
        mend: String,
    },
}

impl Outcome {
    /// Turns a list of breaches into an outcome; an empty list is `Ok`.
    pub(crate) fn from_breaches(details: Vec<String>, mend: &str) -> Self {
        if details.is_empty() {
            Self::Ok
        } else {
            Self::Failed {
                details,
                mend: mend.to_owned(),
            }
        }
    }

    fn word(&self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped { .. } => "skipped",
            Self::Failed { .. } => "FAILED",
        }
    }

    fn colour(&self) -> Colour {
        match self {
            Self::Ok => Colour::Green,
            Self::Skipped { .. } => Colour::Yellow,
            Self::Failed { .. } => Colour::Red,
        }
    }
}

/// A step that has run.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) name: String,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl Finished {
    pub(crate) fn failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed { .. })
    }

    pub(crate) fn to_json(&self) -> Value {
        let mut value = json!({
            "name": self.name,
            "outcome": self.outcome.word().to_lowercase(),
            "seconds": seconds(self.took),
        });
        match &self.outcome {
            Outcome::Ok => {}
            Outcome::Skipped { reason } => value["reason"] = json!(reason),
            Outcome::Failed { details, mend } => {
                value["details"] = json!(details);
                value["mend"] = json!(mend);
            }
        }
        value
    }
}

/// Whole milliseconds as seconds: what people compare, and what JSON shows shortly.
pub(crate) fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// Runs steps, shows each as it ends, and keeps the results.
pub(crate) struct Runner {
    pub(crate) terminal: Terminal,
    finished: Vec<Finished>,
}

impl Runner {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            finished: Vec::new(),
        }
    }

    /// Runs a step and prints its line; a failed one prints its details too.
    pub(crate) fn step(&mut self, name: &str, work: impl FnOnce(&mut Terminal) -> Outcome) {
        self.terminal.status(&format!("{name:<10} ..."));
        let start = Instant::now();
        let outcome = work(&mut self.terminal);
        let finished = Finished {
            name: name.to_owned(),
            outcome,
            took: start.elapsed(),
        };
        self.show(&finished);
        self.finished.push(finished);
    }

    fn show(&mut self, step: &Finished) {
        let word = self.terminal.paint(
            step.outcome.colour(),
            &format!("{:<7}", step.outcome.word()),
        );
        let head = format!("{:<10} {word} {:6.1} s", step.name, step.took.as_secs_f64());
        match &step.outcome {
            Outcome::Ok => self.terminal.line(&head),
            Outcome::Skipped { reason } => self.terminal.line(&format!("{head}   {reason}")),
            Outcome::Failed { details, mend } => {
                self.terminal.line(&head);
                for detail in details {
                    self.terminal.line(&format!("    {detail}"));
                }
                self.terminal.line(&format!("    to mend it: {mend}"));
            }
        }
    }

    /// Ends the run and gives the terminal back with what came of each step.
    pub(crate) fn finish(self) -> (Terminal, Vec<Finished>) {
        (self.terminal, self.finished)
    }
}

/// Runs a cargo command as (a part of) a step; its output is shown only when it fails.
pub(crate) fn cargo_outcome(
    terminal: &mut Terminal,
    name: &str,
    cargo: Cargo,
    mend: &str,
) -> Outcome {
    let start = Instant::now();
    let cargo = cargo.coloured(terminal.has_colour());
    let mut output = Vec::new();
    let mut last = String::new();
    let result = cargo.relay(|progress| {
        if let Progress::Line(line) = progress {
            last = without_escapes(line);
            if !is_progress(&last) {
                output.push(line.to_owned());
            }
        }
        terminal.status(&format!(
            "{name:<10} {:>5} s  {}",
            start.elapsed().as_secs(),
            last.trim()
        ));
    });
    match result {
        Ok(status) if status.success() => Outcome::Ok,
        Ok(status) => {
            output.push(format!("`{}`: {status}", cargo.shown()));
            Outcome::Failed {
                details: output,
                mend: mend.to_owned(),
            }
        }
        Err(error) => Outcome::Failed {
            details: vec![crate::chain(&error)],
            mend: "check that cargo is installed and on the PATH".to_owned(),
        },
    }
}

/// Tells whether a line is one of those by which cargo shows how far it is: of interest
/// while it runs, and in the way once it has failed. Cargo aligns its verbs to the right.
fn is_progress(line: &str) -> bool {
    const VERBS: &[&str] = &[
        "Blocking",
        "Building",
        "Checking",
        "Compiling",
        "Documenting",
        "Downloaded",
        "Downloading",
        "Finished",
        "Generated",
        "Locking",
        "Updating",
    ];
    let verb = line.trim_start().split(' ').next().unwrap_or_default();
    line.starts_with(' ') && VERBS.contains(&verb)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(outcome: Outcome) -> Finished {
        Finished {
            name: "graph".to_owned(),
            outcome,
            took: Duration::from_micros(1_234_567),
        }
    }

    #[test]
    fn no_breach_is_ok_and_one_breach_is_not() {
        assert_eq!(Outcome::from_breaches(vec![], "x"), Outcome::Ok);
        let failed = Outcome::from_breaches(vec!["a".to_owned()], "do b");
        assert_eq!(
            failed,
            Outcome::Failed {
                details: vec!["a".to_owned()],
                mend: "do b".to_owned()
            }
        );
    }

    #[test]
    fn only_a_failure_counts_as_one() {
        assert!(!finished(Outcome::Ok).failed());
        assert!(
            !finished(Outcome::Skipped {
                reason: "absent".to_owned()
            })
            .failed()
        );
        assert!(finished(Outcome::from_breaches(vec!["a".to_owned()], "b")).failed());
    }

    #[test]
    fn json_carries_what_the_outcome_carries() {
        let ok = finished(Outcome::Ok).to_json();
        assert_eq!(
            ok,
            json!({"name": "graph", "outcome": "ok", "seconds": 1.235})
        );
        let skipped = finished(Outcome::Skipped {
            reason: "absent".to_owned(),
        })
        .to_json();
        assert_eq!(skipped["reason"], "absent");
        let failed = finished(Outcome::from_breaches(vec!["a".to_owned()], "b")).to_json();
        assert_eq!(
            (&failed["outcome"], &failed["details"], &failed["mend"]),
            (&json!("failed"), &json!(["a"]), &json!("b"))
        );
    }

    #[test]
    fn cargo_s_progress_is_told_from_what_it_complains_of() {
        assert!(is_progress("    Checking xtask v0.1.0 (/made_up/xtask)"));
        assert!(is_progress(
            "    Blocking waiting for file lock on package cache"
        ));
        assert!(!is_progress("error: could not compile `xtask`"));
        assert!(!is_progress(
            "Checking is what this test's message is about"
        ));
        assert!(!is_progress("  --> src/Compiling.rs:1:1"));
        assert!(!is_progress(""));
    }
}
