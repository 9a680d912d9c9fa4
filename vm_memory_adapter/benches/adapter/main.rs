//! What an access through vm-memory's traits costs here, beside vm-memory's own memory.
//!
//! Run it by `cargo xtask bench adapter`. Everything is measured in one process, in slices of a tenth
//! of a millisecond that take turns. Each ratio is the median of those of many pairs of slices,
//! measured one right after the other. vm-memory's against itself (A/A) says how exact that is.
//!
//! - [`fixture`]: the same regions twice, here and as `GuestMemoryMmap`.
//! - [`changes`]: what an address space adds to a change of guest memory.
//! - [`rows`]: what is measured, and the bars. [`timing`]: the pairs. [`report`]: what is printed.
//!
//! Without `--bench`, as `cargo test --benches` runs it, it checks that both answer alike, measures a
//! few pairs, and judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

mod changes;
// Pairs are asked for in the same words.
#[path = "../../../mapping_manager/benches/access/command_line.rs"]
mod command_line;
mod fixture;
mod report;
mod rows;
mod timing;

use command_line::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("adapter: {message}");
            return ExitCode::FAILURE;
        }
    };
    let mut report = rows::measure(&options);
    report.changes = changes::measure(&options);
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    match options.json {
        true => println!("{:#}", report.to_json()),
        false => report.print(),
    }
    if let Some(problem) = report.problem() {
        eprintln!("adapter: {problem}");
        return ExitCode::FAILURE;
    }
    let missed = report.missed();
    if options.check && missed > 0 {
        eprintln!("adapter: {missed} bars missed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
