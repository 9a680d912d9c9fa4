//! The project's own commands: `cargo xtask check`, `test`, `demo`, `inspect` and `bench`.
//!
//! `check` holds the code to the rules that a compiler does not know (which crate may use
//! which, what a layer must not see) and runs the tools that know the others. `test` runs
//! every test and says whether the KVM ones really ran. `demo` starts the example guest. `inspect`
//! looks into a running one. `bench` compares speeds.
//!
//! This crate uses no other crate of the workspace, so it builds and reports even while
//! they don't compile.

#![forbid(unsafe_code)]

mod bench;
mod check;
mod command_line;
mod crate_graph;
mod demo;
mod features;
mod inspect;
mod kvm_report;
mod manifest_rules;
mod purity;
mod run;
mod source_rules;
mod step;
mod terminal;
mod test;
mod test_report;
mod workspace;

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;

use crate::command_line::{Command, CommandLine};

fn main() -> ExitCode {
    let result = match CommandLine::parse().command {
        Command::Check(args) => check::run(&args).map_err(Box::<dyn Error>::from),
        Command::Test(args) => test::run(&args).map_err(Box::<dyn Error>::from),
        Command::Demo(args) => demo::run(&args).map_err(Box::<dyn Error>::from),
        Command::Inspect(args) => inspect::run(&args).map_err(Box::<dyn Error>::from),
        Command::Bench(command) => bench::run(&command).map_err(Box::<dyn Error>::from),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {}", chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Joins an error and its causes, outermost first.
fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    // Cargo's messages come with their line end.
    let words: Vec<String> = causes
        .map(|cause| cause.to_string().trim_end().to_owned())
        .collect();
    words.join(": ")
}
