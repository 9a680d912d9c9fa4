//! What an access by guest physical address costs here, beside a raw access and beside another
//! crate's.
//!
//! Run it by `cargo xtask bench access`. Everything is measured in one process, in slices of less
//! than a millisecond that take turns, so that a change of the processor's clock or a busy
//! neighbour meets both sides of a comparison. Each ratio is the median of those of many pairs of
//! slices, measured one right after the other. Raw against raw (A/A) says how exact that is.
//!
//! - [`memory`]: what is compared, as one trait; [`raw`], [`ours`] and [`peer`] implement it.
//! - [`fixture`]: the memory behind all of them, and the addresses.
//! - [`workload`], [`lease`]: the loops. [`timing`]: the pairs. [`rows`]: what is measured, and the bars.
//! - [`table`] and [`report`]: what is printed.
//!
//! Without `--bench`, as `cargo test --benches` runs it, it checks that everyone does what it
//! says, measures a few pairs, and judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

mod command_line;
mod fixture;
mod lease;
mod memory;
mod ours;
mod peer;
mod raw;
mod report;
mod rows;
mod table;
mod timing;
mod workload;

use command_line::Options;
use fixture::Fixture;
use std::process::ExitCode;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("access: {message}");
            return ExitCode::FAILURE;
        }
    };
    let fixture = Fixture::new();
    fixture.check_everyone();
    let report = rows::measure(&fixture, &options);
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        table::print(&report);
    }
    if let Some(problem) = report.problem() {
        eprintln!("access: {problem}");
        return ExitCode::FAILURE;
    }
    if options.check && report.missed() > 0 {
        eprintln!("access: {} bars missed", report.missed());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
