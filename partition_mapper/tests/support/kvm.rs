//! Opens /dev/kvm for a test, or says why the test is skipped.

use kvm_ioctls::Kvm;
use std::fs::OpenOptions;
use std::io::Write;

/// Names the environment variable that, set to 1, makes a missing KVM a failure.
const REQUIRE: &str = "GUEST_MEMORY_REQUIRE_KVM";
/// Names the environment variable that names a file to append one line a test to.
const REPORT: &str = "GUEST_MEMORY_KVM_REPORT";

/// Opens KVM. `None` means that the test must return at once: KVM is not there, and that has been
/// reported.
pub(crate) fn kvm_for(test: &str) -> Option<Kvm> {
    let error = match Kvm::new() {
        Ok(kvm) => {
            report(&format!("ran {test}"));
            return Some(kvm);
        }
        Err(error) => error,
    };
    let reason = format!("/dev/kvm cannot be opened: {error}");
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|value| value != "1"),
        "{test} must run on KVM, but {reason}"
    );
    skip(test, &reason);
    None
}

/// Reports that a test is skipped, for a reason of its own: something that it needs is missing.
pub(crate) fn skip(test: &str, reason: &str) {
    let line = format!("skipped {test}: {reason}");
    // Not `eprintln`, which the test harness captures. One write, so that lines don't mix.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
    report(&line);
}

/// Appends a line to the report, in one write, so that tests that run side by side don't mix theirs.
fn report(line: &str) {
    let Some(path) = std::env::var_os(REPORT) else {
        return;
    };
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{REPORT} {}: {error}", path.display()));
    file.write_all(format!("{line}\n").as_bytes())
        .unwrap_or_else(|error| panic!("{REPORT} {}: {error}", path.display()));
}
