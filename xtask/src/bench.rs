//! `cargo xtask bench`: comparisons with bars to reach, as against `cargo bench`, which shows how
//! one's own figures change.
//!
//! Each comparison is a bench target of the crate that it is about, because this crate uses none
//! of the layers. It is handed the options, and decides the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::command_line::{AccessArgs, BenchCommand};
use crate::run::{Cargo, RunError};
use crate::workspace::{self, MetadataError};

/// The comparison could not be started; one that ran and failed tells by its exit code.
#[derive(Debug, thiserror::Error)]
#[error("the comparison did not run")]
pub(crate) enum BenchError {
    Workspace(#[from] MetadataError),
    Run(#[from] RunError),
}

/// Runs the comparison with this process's own stdout and stderr; cargo and the comparison show on
/// stderr how far they are.
pub(crate) fn run(command: &BenchCommand) -> Result<ExitCode, BenchError> {
    let places = workspace::places()?;
    let words = match command {
        BenchCommand::Access(args) => access_words(args),
    };
    let status = Cargo::new(&places.root, words).hand_over()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn access_words(args: &AccessArgs) -> Vec<OsString> {
    let fixed = ["bench", "-p", "mapping_manager", "--bench", "access", "--"];
    let mut words: Vec<OsString> = fixed.map(Into::into).into();
    let mut flag = |set: bool, word: &str| words.extend(set.then(|| word.into()));
    flag(args.check, "--check");
    flag(args.json, "--json");
    if let Some(name) = &args.only {
        words.extend(["--only".into(), name.into()]);
    }
    if let Some(pairs) = args.pairs {
        words.extend(["--pairs".into(), pairs.to_string().into()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_options_given_are_handed_over() {
        let args = |check, json, only: Option<&str>, pairs| AccessArgs {
            check,
            json,
            only: only.map(Into::into),
            pairs,
        };
        let handed = |args: &AccessArgs| {
            let words = access_words(args);
            let dashes = words.iter().position(|word| word == "--").expect("there");
            words[dashes + 1..].to_vec()
        };
        assert!(handed(&args(false, false, None, None)).is_empty());
        assert_eq!(
            handed(&args(true, true, Some("64 B"), Some(101))),
            ["--check", "--json", "--only", "64 B", "--pairs", "101"]
        );
    }
}
