//! Counts tests from what `cargo test` prints.
//!
//! libtest has no stable machine-readable output, so its summary lines are read. A test
//! binary that dies (a signal, `abort`, `exit`) prints none; then cargo's own error line
//! tells of it, and it counts as one failure.

use crate::terminal::without_escapes;

/// What has been read so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TestReport {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) ignored: u64,
    /// Names of failed tests, as libtest printed them, and of binaries that died.
    pub(crate) failures: Vec<String>,
    /// Arguments for `cargo test` that run each failed binary again.
    pub(crate) reruns: Vec<String>,
    /// What is running now: a binary's source, or the crate whose doc tests run.
    pub(crate) running: String,
    /// The running binary has already told of its failures itself.
    told: bool,
}

impl TestReport {
    /// Reads one line of the output of `cargo test`.
    pub(crate) fn read(&mut self, line: &str) {
        let plain = without_escapes(line);
        let line = plain.trim();
        if let Some(target) = line
            .strip_prefix("Running ")
            .or_else(|| line.strip_prefix("Doc-tests "))
        {
            self.running = target.split(" (").next().unwrap_or(target).to_owned();
            self.told = false;
        } else if let Some(rerun) = failed_target(line) {
            if !self.told {
                self.failed += 1;
                self.failures
                    .push(format!("{} ended without a result ({rerun})", self.running));
            }
            self.reruns.push(rerun.to_owned());
        } else if let Some(name) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.strip_suffix(" ... FAILED"))
        {
            self.failures.push(name.to_owned());
        } else if let Some(counts) = line
            .find("test result: ")
            .and_then(|at| Counts::read(&line[at..]))
        {
            self.passed += counts.passed;
            self.failed += counts.failed;
            self.ignored += counts.ignored;
            self.told |= counts.failed > 0;
        }
    }
}

/// `error: test failed, to rerun pass ...` (or `doctest failed`): what to pass.
fn failed_target(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("error: ")?;
    let rest = rest
        .strip_prefix("doctest")
        .or_else(|| rest.strip_prefix("test"))?;
    rest.strip_prefix(" failed, to rerun pass `")?
        .strip_suffix('`')
}

/// The numbers of one `test result:` line.
struct Counts {
    passed: u64,
    failed: u64,
    ignored: u64,
}

impl Counts {
    /// Reads `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; ...`; anything
    /// else is some test's own words.
    fn read(line: &str) -> Option<Self> {
        let rest = line.strip_prefix("test result: ")?;
        let rest = rest
            .strip_prefix("ok. ")
            .or_else(|| rest.strip_prefix("FAILED. "))?;
        let mut parts = rest.split("; ");
        let mut next = |word: &str| parts.next()?.strip_suffix(word)?.trim().parse::<u64>().ok();
        let counts = Self {
            passed: next("passed")?,
            failed: next("failed")?,
            ignored: next("ignored")?,
        };
        next("measured")?;
        next("filtered out")?;
        Some(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(output: &str) -> TestReport {
        let mut report = TestReport::default();
        output.lines().for_each(|line| report.read(line));
        report
    }

    fn counts(output: &str) -> (u64, u64, u64) {
        let report = report(output);
        (report.passed, report.failed, report.ignored)
    }

    const OK: &str = "test result: ok. 3 passed; 0 failed; 2 ignored; 0 measured; 5 filtered out; finished in 0.10s";

    #[test]
    fn results_of_several_binaries_add_up() {
        let output = format!(
            "   Compiling a v0.1.0 (/x/a)\n     Running unittests src/lib.rs (target/debug/deps/a-3110)\n\
             running 5 tests\ntest one ... ok\n{OK}\n   Doc-tests a\n{OK}\n"
        );
        assert_eq!(counts(&output), (6, 0, 4));
        assert_eq!(report(&output).running, "a");
        assert_eq!(report(&output).failures, Vec::<String>::new());
    }

    #[test]
    fn a_failed_test_counts_once_and_is_named() {
        let report = report(
            "     Running tests/walk.rs (target/debug/deps/walk-1)\n\
             test walk::all ... ok\ntest walk::none ... FAILED\nfailures:\n    walk::none\n\
             test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s\n\
             error: test failed, to rerun pass `-p a --test walk`\n\
             error: 1 target failed:\n    `-p a --test walk`\n",
        );
        assert_eq!((report.passed, report.failed), (1, 1));
        assert_eq!(report.failures, ["walk::none"]);
        assert_eq!(report.reruns, ["-p a --test walk"]);
    }

    #[test]
    fn a_binary_that_dies_counts_as_a_failure_also_after_another_one_failed() {
        let report = report(
            "     Running unittests src/lib.rs (target/debug/deps/a-1)\n\
             test x ... FAILED\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s\n\
             error: test failed, to rerun pass `-p a --lib`\n\
             \x1b[1m\x1b[92m     Running\x1b[0m tests/guest.rs (target/debug/deps/guest-2)\nrunning 2 tests\n\
             \x1b[1m\x1b[91merror\x1b[0m: test failed, to rerun pass `-p a --test guest`\n\n\
             Caused by:\n  process didn't exit successfully: `guest-2` (signal: 11, SIGSEGV: invalid memory reference)\n",
        );
        assert_eq!((report.passed, report.failed), (0, 2));
        assert_eq!(
            report.failures,
            [
                "x",
                "tests/guest.rs ended without a result (-p a --test guest)"
            ]
        );
        assert_eq!(report.reruns, ["-p a --lib", "-p a --test guest"]);
    }

    #[test]
    fn failed_doc_tests_count() {
        let report = report(
            "   Doc-tests a\ntest a/src/lib.rs - f (line 1) ... FAILED\n\
             test result: FAILED. 0 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.09s\n\
             error: doctest failed, to rerun pass `-p a --doc`\n",
        );
        assert_eq!((report.failed, report.reruns.len()), (1, 1));
        assert_eq!(report.failures, ["a/src/lib.rs - f (line 1)"]);
    }

    #[test]
    fn words_that_only_resemble_a_result_do_not_count() {
        let output = "test result: fine\ntest result: ok. many passed; 0 failed\n\
                      test result: ok. 3 passed; 0 failed; 1 ignored\nerror: test failed\n";
        assert_eq!(counts(output), (0, 0, 0));
    }

    #[test]
    fn a_result_behind_a_line_that_a_test_left_open_counts() {
        assert_eq!(counts(&format!("half a line {OK}")), (3, 0, 2));
    }

    #[test]
    fn a_binary_without_libtest_that_succeeds_is_no_failure() {
        let output = format!(
            "     Running tests/own_main.rs (target/x)\nhello\n     Running tests/b.rs (target/y)\n{OK}\n"
        );
        assert_eq!(counts(&output), (3, 0, 2));
    }
}
