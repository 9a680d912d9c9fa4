//! `cargo xtask bench`: comparisons with bars to reach, as against `cargo bench`, which shows how
//! one's own figures change.
//!
//! Each comparison is a bench target of the crate that it is about, because this crate uses none
//! of the layers. It is handed the options, and decides the exit code.

use std::ffi::OsString;
use std::process::ExitCode;

use crate::command_line::{BenchCommand, InspectBenchArgs, PairsArgs, RoundsArgs};
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
        BenchCommand::Access(args) => pairs_words("mapping_manager", "access", args),
        BenchCommand::Changes(args) => rounds_words("changes", &[], args),
        BenchCommand::Processes(args) => rounds_words("processes", &["remote"], args),
        BenchCommand::Adapter(args) => pairs_words("vm_memory_adapter", "adapter", args),
        BenchCommand::Inspect(args) => inspect_words(args),
    };
    let status = Cargo::new(&places.root, words).hand_over()?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn pairs_words(package: &str, bench: &str, args: &PairsArgs) -> Vec<OsString> {
    words(package, bench, &[], (args.check, args.json), |word| {
        word("--only", args.only.clone());
        word("--pairs", args.pairs.map(|pairs| pairs.to_string()));
    })
}

fn rounds_words(bench: &str, features: &[&str], args: &RoundsArgs) -> Vec<OsString> {
    let flags = (args.check, args.json);
    words("guest_memory_manager", bench, features, flags, |word| {
        word("--only", args.only.clone());
        word("--rounds", args.rounds.map(|rounds| rounds.to_string()));
    })
}

fn inspect_words(args: &InspectBenchArgs) -> Vec<OsString> {
    let flags = (args.check, args.json);
    words("guest_memory_manager", "inspect", &[], flags, |_| {})
}

/// The words after `cargo` that run a comparison of a crate; `values` names the options that take
/// one.
fn words(
    package: &str,
    target: &str,
    features: &[&str],
    (check, json): (bool, bool),
    values: impl FnOnce(&mut dyn FnMut(&str, Option<String>)),
) -> Vec<OsString> {
    let fixed = ["bench", "-p", package, "--bench", target];
    let mut words: Vec<OsString> = fixed.map(Into::into).into();
    for feature in features {
        words.extend(["--features".into(), feature.into()]);
    }
    words.push("--".into());
    words.extend(check.then(|| "--check".into()));
    words.extend(json.then(|| "--json".into()));
    values(&mut |name, value| {
        if let Some(value) = value {
            words.extend([name.into(), value.into()]);
        }
    });
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after_the_dashes(words: &[OsString]) -> &[OsString] {
        let dashes = words.iter().position(|word| word == "--").expect("there");
        &words[dashes + 1..]
    }

    #[test]
    fn only_the_options_given_are_handed_over() {
        let args = |check, json, only: Option<&str>, pairs| PairsArgs {
            check,
            json,
            only: only.map(Into::into),
            pairs,
        };
        let none = pairs_words("mapping_manager", "access", &args(false, false, None, None));
        assert!(after_the_dashes(&none).is_empty());
        let all = pairs_words(
            "mapping_manager",
            "access",
            &args(true, true, Some("64 B"), Some(101)),
        );
        assert_eq!(
            after_the_dashes(&all),
            ["--check", "--json", "--only", "64 B", "--pairs", "101"]
        );
    }

    #[test]
    fn each_comparison_runs_the_bench_of_its_crate() {
        let args = RoundsArgs {
            check: false,
            json: true,
            only: None,
            rounds: Some(41),
        };
        assert_eq!(
            rounds_words("changes", &[], &args),
            [
                "bench",
                "-p",
                "guest_memory_manager",
                "--bench",
                "changes",
                "--",
                "--json",
                "--rounds",
                "41"
            ]
        );
    }

    #[test]
    fn what_the_bench_needs_is_switched_on() {
        let args = RoundsArgs {
            check: true,
            json: false,
            only: None,
            rounds: None,
        };
        let words = rounds_words("processes", &["remote"], &args);
        assert_eq!(
            words[4..],
            ["processes", "--features", "remote", "--", "--check"]
        );
    }

    #[test]
    fn the_comparison_of_trees_is_handed_its_options() {
        let words = inspect_words(&InspectBenchArgs {
            check: true,
            json: false,
        });
        assert_eq!(words[2..5], ["guest_memory_manager", "--bench", "inspect"]);
        assert_eq!(after_the_dashes(&words), ["--check"]);
    }

    #[test]
    fn the_comparison_of_the_adapter_is_handed_its_options() {
        let args = PairsArgs {
            check: true,
            json: false,
            only: None,
            pairs: Some(41),
        };
        let words = pairs_words("vm_memory_adapter", "adapter", &args);
        assert_eq!(words[2], "vm_memory_adapter");
        assert_eq!(after_the_dashes(&words), ["--check", "--pairs", "41"]);
    }
}
