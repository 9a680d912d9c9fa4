//! What is known after a run, as JSON and as a few lines.

use crate::pam;
use crate::run::Report;
use guest_memory_manager::RamVisibility;
use serde_json::{Value, json};

/// Everything as one document.
pub fn json(report: &Report) -> Value {
    let word = |state: Option<RamVisibility>| state.map_or("unknown", pam::word);
    let segments: Vec<Value> = (0..pam::SEGMENTS)
        .map(|index| {
            json!({
                "range": pam::segment(index).to_string(),
                "state": word(report.segments[index]),
                "registers": pam::word(report.registers[index]),
            })
        })
        .collect();
    let pam_writes: Vec<Value> = report
        .pam_writes
        .iter()
        .map(|write| {
            let transitions: Vec<Value> = write
                .transitions
                .iter()
                .map(|(segment, from, to)| {
                    json!({
                        "segment": segment.to_string(),
                        "from": pam::word(*from),
                        "to": pam::word(*to),
                    })
                })
                .collect();
            json!({
                "offset": write.offset,
                "data": write.data,
                "transitions": transitions,
            })
        })
        .collect();
    let slots = &report.slot_operations;
    json!({
        "outcome": report.outcome.word(),
        "exit_code": report.outcome.exit_code(),
        "seconds": report.time.as_secs_f64(),
        "exits": report.exits,
        "pam_writes": pam_writes,
        "transitions": report.transitions(),
        "dropped_writes": report.stores.dropped,
        "writes_to_hidden_ram": report.stores.to_hidden_ram,
        "slot_operations": {
            "created": slots.created,
            "deleted": slots.deleted,
            "refused": slots.refused,
            "seconds": slots.time.as_secs_f64(),
        },
        "segments": segments,
        "debug_bytes": report.debug_bytes,
        "inspection": report.tree,
    })
}

/// A line for people.
pub fn summary(report: &Report) -> String {
    let slots = &report.slot_operations;
    format!(
        "firmware: {} after {:.2} s, {} exits; {} PAM writes changed {} segments; {} slots created \
         and {} deleted in {:.2} ms; {} writes to read-only memory dropped",
        report.outcome.word(),
        report.time.as_secs_f64(),
        report.exits.values().sum::<u64>(),
        report.pam_writes.len(),
        report.transitions(),
        slots.created,
        slots.deleted,
        slots.time.as_secs_f64() * 1e3,
        report.stores.dropped,
    )
}
