//! `cargo xtask check`: the rules of the project, one step each.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use cargo_metadata::Metadata;
use clap::ValueEnum;
use serde_json::json;

use crate::command_line::{CheckArgs, StepName};
use crate::run::{Cargo, Progress};
use crate::step::{Finished, Outcome, Runner, cargo_outcome, seconds};
use crate::terminal::{Colour, Terminal, print_json};
use crate::workspace::{self, MetadataError};
use crate::{crate_graph, manifest_rules, purity, source_rules};

/// Runs the steps asked for, or all; fails only when it cannot even begin.
pub(crate) fn run(args: &CheckArgs) -> Result<ExitCode, MetadataError> {
    let start = Instant::now();
    let metadata = workspace::read()?;
    let mut runner = Runner::new(Terminal::new(args.json));
    for name in StepName::value_variants() {
        if args.steps.is_empty() || args.steps.contains(name) {
            run_step(&mut runner, *name, &metadata);
        }
    }
    let (mut terminal, finished) = runner.finish();
    Ok(conclude(
        &mut terminal,
        &finished,
        start.elapsed(),
        args.json,
    ))
}

fn run_step(runner: &mut Runner, name: StepName, metadata: &Metadata) {
    let root = metadata.workspace_root.as_std_path();
    let cargo = |args: &[&str]| Cargo::new(root, args.iter().copied());
    let shown = word(name);
    runner.step(&shown, |terminal| match name {
        StepName::Graph => {
            Outcome::from_breaches(crate_graph::breaches(metadata), crate_graph::MEND)
        }
        StepName::Purity => Outcome::from_breaches(purity::breaches(metadata), purity::MEND),
        StepName::Manifests => {
            Outcome::from_breaches(manifest_rules::breaches(metadata), manifest_rules::MEND)
        }
        StepName::Sources => {
            Outcome::from_breaches(source_rules::breaches(metadata), source_rules::MEND)
        }
        StepName::Format => {
            // The names of the files, not their diffs: the mending is mechanical.
            let command = cargo(&["fmt", "--all", "--check", "--", "--files-with-diff"]);
            cargo_outcome(terminal, &shown, command, "cargo fmt --all")
        }
        StepName::Clippy => {
            let command = cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--all-features",
                "--",
                "-D",
                "warnings",
            ]);
            let mend = format!(
                "mend what it names, and see the rest with: {}",
                command.shown()
            );
            cargo_outcome(terminal, &shown, command, &mend)
        }
        StepName::Features => without_features(terminal, &shown, metadata),
        StepName::Docs => {
            let command = cargo(&["doc", "--workspace", "--no-deps", "--all-features"])
                .env("RUSTDOCFLAGS", "-D warnings");
            let mend = format!(
                "mend what it names, and see the rest with: {}",
                command.shown()
            );
            cargo_outcome(terminal, &shown, command, &mend)
        }
        StepName::Deny => deny(terminal, &shown, metadata),
    });
}

fn word(name: StepName) -> String {
    name.to_possible_value()
        .map_or_else(String::new, |value| value.get_name().to_owned())
}

/// Runs Clippy on each member that has features, with none of them.
///
/// Twice: its library as a dependent builds it, and all targets. With tests the features
/// that dev-dependencies ask for come in, and could hide what the library lacks alone.
fn without_features(terminal: &mut Terminal, shown: &str, metadata: &Metadata) -> Outcome {
    for member in metadata
        .workspace_packages()
        .into_iter()
        .filter(|member| !member.features.is_empty())
    {
        for targets in ["--lib", "--all-targets"] {
            let args = [
                "clippy",
                "-p",
                &member.name,
                "--no-default-features",
                targets,
                "--",
                "-D",
                "warnings",
            ];
            let command = Cargo::new(metadata.workspace_root.as_std_path(), args);
            let mend = format!(
                "put the code behind the feature it needs, and see the rest with: {}",
                command.shown()
            );
            let outcome = cargo_outcome(terminal, shown, command, &mend);
            if outcome != Outcome::Ok {
                return outcome;
            }
        }
    }
    Outcome::Ok
}

/// Runs cargo-deny where it is installed: the licences, bans and sources from what is
/// here; the advisories where their database can be fetched.
fn deny(terminal: &mut Terminal, shown: &str, metadata: &Metadata) -> Outcome {
    let root = metadata.workspace_root.as_std_path();
    let installed = Cargo::new(root, ["deny", "--version"]).relay(|_: Progress<'_>| {});
    if !installed.is_ok_and(|status| status.success()) {
        return Outcome::Skipped {
            reason: "cargo-deny is not installed (cargo install cargo-deny)".to_owned(),
        };
    }
    // The way by which a crate came in is long and not what is judged; a failure names it.
    let local = Cargo::new(
        root,
        [
            "deny",
            "check",
            "--hide-inclusion-graph",
            "bans",
            "licenses",
            "sources",
        ],
    );
    let outcome = cargo_outcome(
        terminal,
        shown,
        local,
        "change the dependency, or deny.toml with a reason",
    );
    if outcome != Outcome::Ok {
        return outcome;
    }
    let advisories = Cargo::new(root, ["deny", "check", "advisories"]);
    match cargo_outcome(
        terminal,
        shown,
        advisories,
        "update the crate, or ignore the advisory in deny.toml with a reason",
    ) {
        Outcome::Failed { details, .. }
            if details
                .iter()
                .any(|line| line.contains("failed to fetch advisory")) =>
        {
            Outcome::Skipped {
                reason:
                    "licences, bans and sources are ok; the advisory database could not be fetched"
                        .to_owned(),
            }
        }
        outcome => outcome,
    }
}

/// Prints the summary, or the document, and picks the exit code.
fn conclude(
    terminal: &mut Terminal,
    finished: &[Finished],
    took: Duration,
    json: bool,
) -> ExitCode {
    let failed: Vec<&str> = finished
        .iter()
        .filter(|step| step.failed())
        .map(|step| step.name.as_str())
        .collect();
    if json {
        print_json(&json!({
            "command": "check",
            "ok": failed.is_empty(),
            "seconds": seconds(took),
            "steps": finished.iter().map(Finished::to_json).collect::<Vec<_>>(),
        }));
    }
    let skipped = finished
        .iter()
        .filter(|step| matches!(step.outcome, Outcome::Skipped { .. }))
        .count();
    let note = if skipped == 0 {
        String::new()
    } else {
        format!(", {skipped} skipped")
    };
    let of = match finished.len() {
        1 => "1 step".to_owned(),
        count => format!("{count} steps"),
    };
    if failed.is_empty() {
        let ok = terminal.paint(Colour::Green, "ok");
        terminal.line(&format!(
            "check: {ok} ({of}{note}, {:.0} s)",
            took.as_secs_f64()
        ));
        return ExitCode::SUCCESS;
    }
    let word = terminal.paint(Colour::Red, "FAILED");
    let names = failed.join(", ");
    terminal.line(&format!(
        "check: {word} ({} of {of}{note}): {names}",
        failed.len()
    ));
    terminal.line(&format!(
        "to run only those again: cargo xtask check {}",
        failed.join(" ")
    ));
    ExitCode::FAILURE
}
