//! The system calls of each change, all of them, as the kernel saw them: no more than it takes, and
//! none that has nothing to do with memory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod guest;
#[cfg(feature = "kvm")]
#[path = "../../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
mod tracer;
mod transitions;

use tracer::{Kind, Recording, in_words};
use transitions::{On, Transition};

/// Compares what was recorded with what shall be called; `expected` says that of a transition.
fn check(on: On, others: usize, test: &str, expected: impl Fn(&Transition) -> Vec<(usize, Kind)>) {
    let recordings = match transitions::record(on, others, &["--exact", test, "--nocapture"]) {
        Ok(recordings) => recordings,
        Err(why) => {
            eprintln!("skipped recorded_calls::{test}: no process can be traced here: {why}");
            return;
        }
    };
    let line = |name: &str, calls: &[(usize, Kind)]| format!("{name}: {}\n", in_words(calls));
    let recorded = recordings
        .iter()
        .map(|Recording { name, calls }| line(name, calls));
    let transitions = transitions::all();
    let expected = transitions
        .iter()
        .map(|one| line(&one.name, &expected(one)));
    assert_same(&recorded.collect::<String>(), &expected.collect::<String>());
}

/// Fails with the lines that differ.
fn assert_same(recorded: &str, expected: &str) {
    let differing = std::iter::zip(recorded.lines(), expected.lines())
        .filter(|(recorded, expected)| recorded != expected)
        .map(|(recorded, expected)| format!("recorded {recorded}\nexpected {expected}\n"));
    let differing = differing.collect::<String>();
    assert!(differing.is_empty(), "\n{differing}");
    assert_eq!(recorded.lines().count(), expected.lines().count());
}

#[test]
fn on_a_software_partition() {
    if tracer::is_child() {
        return transitions::make_all();
    }
    check(On::Software, 0, "on_a_software_partition", |transition| {
        transitions::without_slots(&transition.calls)
    });
}

#[test]
fn on_a_software_partition_with_a_thousand_windows_more() {
    if tracer::is_child() {
        return transitions::make_all();
    }
    let test = "on_a_software_partition_with_a_thousand_windows_more";
    check(On::Software, 1000, test, |transition| {
        transitions::without_slots(&transition.calls)
    });
}

#[cfg(feature = "kvm")]
#[test]
fn on_kvm() {
    if tracer::is_child() {
        return transitions::make_all();
    }
    if kvm::kvm_for("recorded_calls::on_kvm").is_none() {
        return;
    }
    check(On::Kvm, 0, "on_kvm", |transition| transition.calls.clone());
}
