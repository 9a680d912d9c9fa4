//! What a change of the memory map costs here, beside the same system calls made by hand.
//!
//! Run it by `cargo xtask bench changes`. Everything is measured in one process and takes turns: the
//! calls by hand, the facade with its 17 regions of RAM, the facade with 30,000 device windows
//! more, the calls by hand again. *Own time* is what the facade takes longer than the calls by hand:
//! the median, over the rounds, of the difference within a round. By hand less by hand (A/A) says how
//! exact that is. A software partition is attached, which makes no system call. On KVM the whole time
//! is compared, as a ratio.
//!
//! - `guest` (of the test `recorded_calls`): the facade's guest. [`hand`] and [`hand_slots`]: the same
//!   by hand.
//! - [`contestants`]: the changes. [`building`]: how a guest comes to be. [`timing`]: the rounds.
//!   [`rows`]: what is measured, and the bars.
//! - [`calls`]: which system calls each change makes, as `ptrace` saw them.
//! - [`table`] and [`report`]: what is printed.
//!
//! Without `--bench`, as `cargo test --benches` runs it, it measures a few rounds and judges nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a benchmark stops at the first surprise"
)]

mod building;
mod calls;
mod command_line;
mod contestants;
#[path = "../../tests/recorded_calls/guest.rs"]
mod guest;
mod hand;
mod hand_slots;
mod report;
mod rows;
mod table;
mod timing;
#[path = "../../tests/recorded_calls/tracer.rs"]
mod tracer;
#[path = "../../tests/recorded_calls/transitions.rs"]
mod transitions;

use command_line::Options;
use std::process::ExitCode;

fn main() -> ExitCode {
    if tracer::is_child() {
        transitions::make_all();
        return ExitCode::SUCCESS;
    }
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("changes: {message}");
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
        table::print(&report);
    }
    if let Some(problem) = report.problem() {
        eprintln!("changes: {problem}");
        return ExitCode::FAILURE;
    }
    if options.check && report.missed() > 0 {
        eprintln!("changes: {} bars missed", report.missed());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
