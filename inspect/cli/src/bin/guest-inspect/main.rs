//! `guest-inspect`: looks into a running VMM, and draws its memory map.

#![forbid(unsafe_code)]

mod command_line;
mod complete;
mod failure;
mod show;
mod source;

use clap::{CommandFactory, Parser};
use command_line::CommandLine;
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    // Answers and ends if it is a shell that asks for completions.
    clap_complete::CompleteEnv::with_factory(CommandLine::command).complete();
    let args = CommandLine::parse();
    if let Some(shell) = args.completions {
        let mut command = CommandLine::command();
        clap_complete::generate(shell, &mut command, "guest-inspect", &mut std::io::stdout());
        return ExitCode::SUCCESS;
    }
    match show::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if show::nobody_reads(&failure) => ExitCode::SUCCESS,
        Err(failure) => {
            let causes =
                std::iter::successors(Some(&failure as &dyn Error), |&error| error.source());
            let words: Vec<String> = causes.map(ToString::to_string).collect();
            eprintln!("guest-inspect: {}", words.join(": "));
            if let Some(hint) = failure.hint() {
                eprintln!("  {hint}");
            }
            ExitCode::FAILURE
        }
    }
}
