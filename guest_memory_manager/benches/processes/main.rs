//! What it costs that other processes follow guest memory, beside what cannot be had for less.
//!
//! Run it by `cargo xtask bench processes`. Measured are a change of one region until 1, 4 or 16 other
//! processes have followed it, the hand-over of 1 TiB of sparse RAM to a process that connects, and
//! an access of a lazy process to memory that it has not touched before. Beside each is its limit, by
//! hand and with the same processes: a byte to each and a byte back; a byte, a descriptor back and one
//! `mmap`; a byte there and back and one `mmap`. The two take turns.
//!
//! - [`child`]: what the other processes do. [`hand`]: the limits, this process's part.
//! - [`rows`]: what is measured, and the bars. [`report`]: what is printed.
//! - `timing` and `command_line` are those of the bench `changes`; `second_process` is that of the tests.
//!
//! Without `--bench`, as `cargo test --benches` runs it, it measures a few rounds and judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

mod child;
#[allow(dead_code, reason = "the other bench has an option more")]
#[path = "../changes/command_line.rs"]
mod command_line;
mod hand;
mod report;
mod rows;
#[path = "../../tests/support/second_process.rs"]
mod second_process;
#[allow(dead_code, reason = "only the median is used")]
#[path = "../changes/timing.rs"]
mod timing;

use command_line::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Some((talk, path)) = second_process::child() {
        child::run(talk, &path);
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("processes: {message}");
            return ExitCode::FAILURE;
        }
    };
    let report = rows::measure(&options);
    if !options.bench {
        return ExitCode::SUCCESS;
    }
    if options.json {
        println!("{:#}", report.to_json());
    } else {
        report.print();
    }
    if options.check && report.missed() > 0 {
        eprintln!("processes: {} bars missed", report.missed());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
