//! What is printed.

use crate::memory_map;
use crate::scenario::{Backend, DemoResult, StepResult};
use crate::vmm::Event;
use serde_json::{Value, json};
use std::error::Error;
use std::fmt::Write;

/// The result for people.
pub fn text(result: &DemoResult, why_not_kvm: Option<&str>) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write_text(&mut out, result, why_not_kvm);
    out
}

fn write_text(
    out: &mut String,
    result: &DemoResult,
    why_not_kvm: Option<&str>,
) -> std::fmt::Result {
    match (result.backend, why_not_kvm) {
        (Backend::Kvm, _) => writeln!(out, "Two KVM guests, each one vCPU in real mode.")?,
        (Backend::Software, why) => {
            let why = why.unwrap_or("chosen");
            writeln!(
                out,
                "No KVM ({why}): loads and stores against two software partitions."
            )?;
        }
    }
    writeln!(out, "Guest memory built in {:.0} us.\n", result.build_us)?;
    for step in &result.steps {
        write_step(out, step)?;
    }
    writeln!(out, "\nMemory map\n\n{}\n", memory_map::draw(&result.tree))?;
    writeln!(out, "Inspection tree\n\n{}", result.tree)?;
    writeln!(out, "{}", last_line(result))
}

/// `demo: ok (kvm)` and the like.
fn last_line(result: &DemoResult) -> String {
    let verdict = if result.ok() { "ok" } else { "FAILED" };
    format!("demo: {verdict} ({})", result.backend.name())
}

fn write_step(out: &mut String, step: &StepResult) -> std::fmt::Result {
    let verdict = if step.ok() { "ok" } else { "FAILED" };
    writeln!(out, "{}. {:<75} {verdict}", step.number, step.title)?;
    for (what, took) in &step.changes {
        writeln!(out, "     {what} in {took:.1} us")?;
    }
    for event in &step.events {
        writeln!(out, "     {}", show(event))?;
    }
    if step.events != step.expected {
        let expected: Vec<String> = step.expected.iter().map(show).collect();
        writeln!(out, "     EXPECTED INSTEAD: {}", expected.join("; "))?;
    }
    for (what, expected, found) in &step.checks {
        if expected == found {
            writeln!(out, "     {what}: {found:#x}")?;
        } else {
            writeln!(out, "     {what}: {found:#x}, EXPECTED {expected:#x}")?;
        }
    }
    Ok(())
}

fn show(event: &Event) -> String {
    match event {
        Event::Reported(value) => format!("guest loaded {value:#x}"),
        Event::MmioRead { gpa } => format!("MMIO exit: load from {gpa:#x}"),
        Event::MmioWrite { gpa, value } => format!("MMIO exit: store of {value:#x} to {gpa:#x}"),
    }
}

/// The same for programs.
pub fn json(result: &DemoResult, why_not_kvm: Option<&str>) -> Value {
    let steps: Vec<Value> = result.steps.iter().map(step_json).collect();
    json!({
        "backend": result.backend.name(),
        "why_not_kvm": why_not_kvm,
        "ok": result.ok(),
        "build_us": result.build_us,
        "steps": steps,
        "memory_map": memory_map::json(&result.tree),
        "inspection": result.tree,
    })
}

/// What `--json` prints where the demo could not be run to its end.
pub fn json_error(backend: Backend, error: &(dyn Error + 'static)) -> Value {
    json!({ "backend": backend.name(), "ok": false, "error": chain(error) })
}

fn step_json(step: &StepResult) -> Value {
    let events = |events: &[Event]| -> Vec<Value> { events.iter().map(event_json).collect() };
    let changes: Vec<Value> = step
        .changes
        .iter()
        .map(|(what, us)| json!({ "what": what, "us": us }))
        .collect();
    let checks: Vec<Value> = step
        .checks
        .iter()
        .map(|(what, expected, found)| {
            json!({ "what": what, "ok": expected == found, "expected": expected, "found": found })
        })
        .collect();
    json!({
        "number": step.number,
        "title": step.title,
        "ok": step.ok(),
        "changes": changes,
        "events": events(&step.events),
        "expected": events(&step.expected),
        "checks": checks,
    })
}

fn event_json(event: &Event) -> Value {
    match event {
        Event::Reported(value) => json!({ "kind": "loaded", "value": value }),
        Event::MmioRead { gpa } => json!({ "kind": "mmio_read", "gpa": gpa }),
        Event::MmioWrite { gpa, value } => {
            json!({ "kind": "mmio_write", "gpa": gpa, "value": value })
        }
    }
}

/// An error with its causes.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
