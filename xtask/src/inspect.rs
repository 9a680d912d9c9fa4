//! `cargo xtask inspect`: builds the program that looks into a running VMM, and hands over to it.

use std::env;
use std::process::ExitCode;

use crate::command_line::InspectArgs;
use crate::demo::exit_code;
use crate::run::{Cargo, RunError};
use crate::workspace::{self, MetadataError};

/// The program could not be started; one that ran and failed tells by its exit code.
#[derive(Debug, thiserror::Error)]
#[error("the program that inspects did not run")]
pub(crate) enum InspectError {
    Workspace(#[from] MetadataError),
    Run(#[from] RunError),
    Folder(#[from] std::io::Error),
}

/// Runs the program with this process's own stdin, stdout and stderr, and in its own folder, so that
/// paths mean what they mean to whoever typed them.
pub(crate) fn run(args: &InspectArgs) -> Result<ExitCode, InspectError> {
    let manifest = workspace::places()?.root.join("Cargo.toml");
    let fixed = [
        "run",
        "--quiet",
        "--package",
        "inspect_cli",
        "--manifest-path",
    ];
    let words = fixed
        .iter()
        .map(Into::into)
        .chain([manifest.into(), "--".into()])
        .chain(args.args.iter().cloned());
    let folder = env::current_dir()?;
    let status = Cargo::new(&folder, words.collect::<Vec<_>>()).hand_over()?;
    Ok(exit_code(status))
}
