//! `cargo xtask test`: every test of the workspace, counted.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::command_line::TestArgs;
use crate::kvm_report::{KvmReport, REPORT_VARIABLE, REQUIRE_VARIABLE};
use crate::run::{Cargo, Progress, RunError};
use crate::step::seconds;
use crate::terminal::{Colour, Terminal, print_json};
use crate::test_report::TestReport;
use crate::workspace::{self, MetadataError};

/// The tests could not be run or counted; tests that fail are no such error.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    #[error("the tests did not run")]
    Workspace(#[from] MetadataError),
    #[error("the tests did not run")]
    Run(#[from] RunError),
    #[error("the report of the KVM tests at {path} is out of reach")]
    KvmReport {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Runs the tests and prints their counts; the exit code tells whether all is well.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode, TestError> {
    let start = Instant::now();
    let places = workspace::places()?;
    let mut terminal = Terminal::new(args.json);
    let file = ReportFile::create(&places.target)?;

    let mut totals = Totals::default();
    for words in invocations(&args.cargo_args) {
        let mut cargo = Cargo::new(&places.root, words).env(REPORT_VARIABLE, &file.path);
        if args.require_kvm {
            cargo = cargo.env(REQUIRE_VARIABLE, "1");
        }
        relay(&mut terminal, &cargo, &mut totals)?;
    }
    totals.kvm = file.read()?;
    totals.add_kvm_problems(args.require_kvm);

    if args.json {
        print_json(&totals.to_json(start.elapsed()));
    }
    totals.show(&mut terminal);
    Ok(if totals.failed() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs one `cargo test`, shows its output as it comes, and counts.
fn relay(terminal: &mut Terminal, cargo: &Cargo, totals: &mut Totals) -> Result<(), RunError> {
    let start = Instant::now();
    let counted_before = totals.tests.failed;
    let cargo = cargo.clone().coloured(terminal.has_colour());
    let status = cargo.relay(|progress| match progress {
        Progress::Line(line) => {
            terminal.line(line);
            totals.tests.read(line);
        }
        Progress::Tick if terminal.has_status() => {
            let tests = &totals.tests;
            let so_far = format!("{} passed, {} failed so far", tests.passed, tests.failed);
            terminal.status(&format!(
                "[{} s] {so_far}  {}",
                start.elapsed().as_secs(),
                tests.running
            ));
        }
        Progress::Tick => {}
    })?;
    terminal.clear_status();
    totals.add_silent_failure(&cargo, status, counted_before);
    Ok(())
}

/// The `cargo test` commands to run, as argument lists.
///
/// Doc tests need a run of their own, since cargo does not mix them with chosen targets;
/// and the targets are chosen so that examples are tested and benches left out. Where the
/// caller chooses packages or targets, that choice stands alone. All of the workspace is tested with
/// all of its features.
fn invocations(extra: &[OsString]) -> Vec<Vec<OsString>> {
    const PACKAGES: &[&str] = &["-p", "--package", "--workspace", "--all", "--manifest-path"];
    const TARGETS: &[&str] = &[
        "--lib",
        "--bin",
        "--bins",
        "--test",
        "--tests",
        "--example",
        "--examples",
        "--bench",
        "--benches",
        "--all-targets",
        "--doc",
    ];
    let for_cargo = extra.iter().take_while(|word| *word != "--");
    let names: Vec<String> = for_cargo
        .map(|word| option_name(&word.to_string_lossy()).to_owned())
        .collect();
    let chooses = |options: &[&str]| names.iter().any(|name| options.contains(&name.as_str()));

    let with = |words: &[&str]| {
        let mut all: Vec<OsString> = vec!["test".into(), "--no-fail-fast".into()];
        all.extend(words.iter().map(OsString::from));
        all.extend(extra.iter().cloned());
        all
    };
    match (chooses(PACKAGES), chooses(TARGETS)) {
        (true, _) => vec![with(&[])],
        (false, true) => vec![with(&["--workspace", "--all-features"])],
        (false, false) => {
            vec![
                with(&[
                    "--workspace",
                    "--all-features",
                    "--lib",
                    "--bins",
                    "--tests",
                    "--examples",
                ]),
                with(&["--workspace", "--all-features", "--doc"]),
            ]
        }
    }
}

/// `--test` of `--test=walk`, and `-p` of `-pxtask`.
fn option_name(word: &str) -> &str {
    if word.starts_with("-p") {
        return "-p";
    }
    word.split_once('=').map_or(word, |(name, _)| name)
}

/// Everything counted, and what went wrong beside tests that failed.
#[derive(Default)]
struct Totals {
    tests: TestReport,
    kvm: KvmReport,
    problems: Vec<String>,
}

impl Totals {
    /// Adds a problem when cargo failed although it named no test that did: the tests did
    /// not compile, or cargo did not like its arguments.
    fn add_silent_failure(&mut self, cargo: &Cargo, status: ExitStatus, failed_before: u64) {
        if !status.success() && self.tests.failed == failed_before {
            let command = cargo.shown();
            self.problems.push(format!(
                "`{command}` ended with {status}, and no test failed: see above"
            ));
        }
    }

    fn add_kvm_problems(&mut self, required: bool) {
        if required && self.kvm.ran == 0 {
            self.problems.push(format!(
                "KVM tests were required, but none ran ({})",
                self.kvm
            ));
        }
        for line in &self.kvm.unreadable {
            self.problems.push(format!(
                "a KVM test reported what is neither `ran` nor `skipped`: {line}"
            ));
        }
    }

    /// A test that skipped itself proves nothing, so it is not counted among those passed.
    fn passed(&self) -> u64 {
        self.tests.passed.saturating_sub(self.kvm.skipped)
    }

    /// Tests that failed, and each problem as one more: a machine that reads the last
    /// line must not see "0 failed" when something did.
    fn failed(&self) -> u64 {
        let problems = u64::try_from(self.problems.len()).unwrap_or(u64::MAX);
        self.tests.failed.saturating_add(problems)
    }

    fn skipped(&self) -> u64 {
        self.tests.ignored.saturating_add(self.kvm.skipped)
    }

    fn for_people(&self) -> String {
        let passed = self.passed();
        let tests = if passed == 1 { "test" } else { "tests" };
        let (failed, ignored, kvm) = (self.failed(), self.tests.ignored, &self.kvm);
        format!("{passed} {tests} passed, {failed} failed, {ignored} ignored; KVM: {kvm}")
    }

    fn for_machines(&self) -> String {
        format!(
            "{} passed, {} failed, {} skipped",
            self.passed(),
            self.failed(),
            self.skipped()
        )
    }

    fn show(&self, terminal: &mut Terminal) {
        terminal.line("");
        for problem in self.tests.failures.iter().chain(&self.problems) {
            let word = terminal.paint(Colour::Red, "FAILED");
            terminal.line(&format!("{word} {problem}"));
        }
        for rerun in &self.tests.reruns {
            terminal.line(
                &terminal.paint(Colour::Dim, &format!("to run it again: cargo test {rerun}")),
            );
        }
        let colour = if self.failed() == 0 {
            Colour::Green
        } else {
            Colour::Red
        };
        terminal.line(&terminal.paint(colour, &self.for_people()));
        terminal.line(&self.for_machines());
    }

    fn to_json(&self, took: Duration) -> Value {
        json!({
            "command": "test",
            "ok": self.failed() == 0,
            "passed": self.passed(),
            "failed": self.failed(),
            "skipped": self.skipped(),
            "ignored": self.tests.ignored,
            "kvm": self.kvm.to_json(),
            "failures": self.tests.failures,
            "problems": self.problems,
            "reruns": self.tests.reruns,
            "seconds": seconds(took),
        })
    }
}

/// The file that KVM tests append to; removed when dropped.
struct ReportFile {
    path: PathBuf,
}

impl ReportFile {
    /// Creates it empty, below the target folder: tests run in other folders, and may run
    /// where the temporary folder is another one.
    fn create(target: &Path) -> Result<Self, TestError> {
        let folder = target.join("xtask");
        // With the process's number, two runs at once keep their counts apart.
        let path = folder.join(format!("kvm-report-{}", std::process::id()));
        let made = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, ""));
        match made {
            Ok(()) => Ok(Self { path }),
            Err(source) => Err(TestError::KvmReport { path, source }),
        }
    }

    fn read(&self) -> Result<KvmReport, TestError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(KvmReport::read(&text)),
            Err(source) => Err(TestError::KvmReport {
                path: self.path.clone(),
                source,
            }),
        }
    }
}

impl Drop for ReportFile {
    fn drop(&mut self) {
        // Already read; one left behind costs a few bytes in the target folder.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    fn plan(words: &[&str]) -> Vec<String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let join = |list: &Vec<OsString>| {
            list.iter()
                .map(|w| w.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" ")
        };
        invocations(&words).iter().map(join).collect()
    }

    #[test]
    fn without_a_choice_everything_but_benches_runs_in_two_parts() {
        assert_eq!(
            plan(&["overlay", "--", "--nocapture"]),
            [
                "test --no-fail-fast --workspace --all-features --lib --bins --tests --examples overlay -- --nocapture",
                "test --no-fail-fast --workspace --all-features --doc overlay -- --nocapture",
            ]
        );
    }

    #[test]
    fn a_choice_of_packages_or_targets_stands_alone() {
        assert_eq!(plan(&["-p", "xtask"]), ["test --no-fail-fast -p xtask"]);
        assert_eq!(
            plan(&["-pxtask", "--lib"]),
            ["test --no-fail-fast -pxtask --lib"]
        );
        assert_eq!(
            plan(&["--test=walk"]),
            ["test --no-fail-fast --workspace --all-features --test=walk"]
        );
        assert_eq!(
            plan(&["--doc"]),
            ["test --no-fail-fast --workspace --all-features --doc"]
        );
        // Behind the dashes it is the tests' affair.
        assert_eq!(plan(&["--", "--test"]).len(), 2);
    }

    fn totals(passed: u64, failed: u64, ignored: u64, kvm: &str) -> Totals {
        let mut totals = Totals {
            kvm: KvmReport::read(kvm),
            ..Totals::default()
        };
        totals.tests.passed = passed;
        totals.tests.failed = failed;
        totals.tests.ignored = ignored;
        totals
    }

    #[test]
    fn the_last_lines_tell_what_ran() {
        let with = totals(312, 0, 1, &"ran x\n".repeat(24));
        assert_eq!(
            with.for_people(),
            "312 tests passed, 0 failed, 1 ignored; KVM: 24 ran"
        );
        assert_eq!(with.for_machines(), "312 passed, 0 failed, 1 skipped");
        let without = totals(312, 0, 1, &"skipped x: /dev/kvm: gone\n".repeat(24));
        assert_eq!(
            without.for_people(),
            "288 tests passed, 0 failed, 1 ignored; KVM: 24 skipped (/dev/kvm: gone)"
        );
        assert_eq!(without.for_machines(), "288 passed, 0 failed, 25 skipped");
    }

    #[test]
    fn kvm_tests_that_are_required_and_do_not_run_are_a_failure() {
        let cases = [
            ("", true, 1),
            ("skipped a: b\n", true, 1),
            ("ran a\n", true, 0),
            ("", false, 0),
            ("oops\n", false, 1),
        ];
        for (report, required, failed) in cases {
            let mut totals = totals(3, 0, 0, report);
            totals.add_kvm_problems(required);
            assert_eq!(totals.failed(), failed, "{report:?} {required}");
            assert_eq!(totals.to_json(Duration::ZERO)["ok"], failed == 0);
        }
    }

    #[test]
    fn the_report_file_is_read_and_removed() {
        let folder = std::env::temp_dir().join(format!("xtask-report-{}", std::process::id()));
        let file = ReportFile::create(&folder).expect("the temporary folder is writable");
        assert_eq!(file.read().expect("just made"), KvmReport::default());
        std::fs::write(&file.path, "ran a\n").expect("writable");
        assert_eq!(file.read().expect("still there").ran, 1);
        let path = file.path.clone();
        drop(file);
        assert!(!path.exists());
        std::fs::remove_dir_all(&folder).expect("ours");
    }

    #[test]
    fn a_build_that_fails_is_not_reported_as_no_failure() {
        // A wait status holds the exit code in its second byte.
        let (success, failure) = (ExitStatus::from_raw(0), ExitStatus::from_raw(101 << 8));
        let cargo = Cargo::new(Path::new("/"), ["test"]);
        let failed_after = |status, failed_now| {
            let mut totals = totals(0, failed_now, 0, "");
            totals.add_silent_failure(&cargo, status, 2);
            totals.failed()
        };
        assert_eq!(failed_after(success, 2), 2);
        assert_eq!(
            failed_after(failure, 2),
            3,
            "nothing was counted: the build is to blame"
        );
        assert_eq!(
            failed_after(failure, 4),
            4,
            "the two that failed are to blame"
        );
    }
}
