//! `cargo xtask demo`: builds the example guest and hands over to it.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use crate::command_line::DemoArgs;
use crate::run::{Cargo, RunError};
use crate::workspace::{self, MetadataError};

/// The demo could not be started; one that ran and failed tells by its exit code.
#[derive(Debug, thiserror::Error)]
#[error("the demo did not run")]
pub(crate) enum DemoError {
    Workspace(#[from] MetadataError),
    Run(#[from] RunError),
}

/// Runs the example with this process's own stdin, stdout and stderr.
pub(crate) fn run(args: &DemoArgs) -> Result<ExitCode, DemoError> {
    let places = workspace::places()?;
    let fixed = [
        "run",
        "--release",
        "-p",
        "guest_memory_manager",
        "--example",
        "demo",
        "--",
    ];
    let words = fixed
        .iter()
        .map(Into::into)
        .chain(args.args.iter().cloned());
    let status = Cargo::new(&places.root, words.collect::<Vec<_>>()).hand_over()?;
    Ok(exit_code(status))
}

/// Passes an exit status on; a death by signal becomes 128 + its number, as in a shell.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_are_passed_on() {
        for code in [0, 1, 42, 255] {
            // A wait status holds the exit code in its second byte.
            let passed = exit_code(ExitStatus::from_raw(code << 8));
            assert_eq!(passed, ExitCode::from(u8::try_from(code).expect("fits")));
        }
        assert_eq!(exit_code(ExitStatus::from_raw(11)), ExitCode::from(139));
    }
}
