//! What the KVM tests say of themselves.
//!
//! For libtest, a test that returns because there is no `/dev/kvm` has passed. So each
//! KVM test appends one line to the file that [`REPORT_VARIABLE`] names: `ran <test>`, or
//! `skipped <test>: <reason>`. With [`REQUIRE_VARIABLE`] set it panics instead of skipping.

use std::collections::BTreeSet;
use std::fmt;

use serde_json::{Value, json};

/// Names the file that KVM tests append to.
pub(crate) const REPORT_VARIABLE: &str = "GUEST_MEMORY_KVM_REPORT";

/// Set to `1`, it forbids KVM tests to skip.
pub(crate) const REQUIRE_VARIABLE: &str = "GUEST_MEMORY_REQUIRE_KVM";

/// The lines of the file, counted.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct KvmReport {
    pub(crate) ran: u64,
    pub(crate) skipped: u64,
    /// Why tests were skipped, each reason once.
    pub(crate) reasons: BTreeSet<String>,
    /// Lines that are neither: a mistake in a test, which must not pass unseen.
    pub(crate) unreadable: Vec<String>,
}

impl KvmReport {
    /// Counts the lines of a report; an empty text is a report of no tests.
    pub(crate) fn read(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if line
                .strip_prefix("ran ")
                .is_some_and(|name| !name.trim().is_empty())
            {
                report.ran += 1;
            } else if let Some((_, reason)) = line
                .strip_prefix("skipped ")
                .and_then(|rest| rest.split_once(": "))
            {
                report.skipped += 1;
                report.reasons.insert(reason.trim().to_owned());
            } else {
                report.unreadable.push(line.to_owned());
            }
        }
        report
    }

    pub(crate) fn to_json(&self) -> Value {
        json!({"ran": self.ran, "skipped": self.skipped, "reasons": self.reasons})
    }
}

impl fmt::Display for KvmReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.ran == 0 && self.skipped == 0 {
            return f.write_str("no test reported");
        }
        if self.ran > 0 {
            write!(f, "{} ran", self.ran)?;
        }
        if self.skipped > 0 {
            let comma = if self.ran > 0 { ", " } else { "" };
            let reasons: Vec<&str> = self.reasons.iter().map(String::as_str).collect();
            write!(
                f,
                "{comma}{} skipped ({})",
                self.skipped,
                reasons.join("; ")
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        KvmReport::read(text).to_string()
    }

    #[test]
    fn every_mixture_is_told() {
        assert_eq!(shown(""), "no test reported");
        assert_eq!(shown("ran a::b\nran a::c\n"), "2 ran");
        let reason = "/dev/kvm: No such file or directory";
        assert_eq!(
            shown(&format!("skipped a: {reason}\nskipped b: {reason}\n")),
            format!("2 skipped ({reason})")
        );
        assert_eq!(
            shown("ran a\nskipped b: no SMM\nskipped c: no dirty ring\n"),
            "1 ran, 2 skipped (no SMM; no dirty ring)"
        );
    }

    #[test]
    fn a_test_name_with_colons_keeps_its_reason_whole() {
        let report = KvmReport::read("skipped slots::limit: /dev/kvm: Permission denied\n");
        assert_eq!(
            report.reasons,
            BTreeSet::from(["/dev/kvm: Permission denied".to_owned()])
        );
    }

    #[test]
    fn other_lines_are_kept_apart() {
        let report = KvmReport::read("ran a\nrun b\nskipped c\nran \n\n");
        assert_eq!((report.ran, report.skipped), (1, 0));
        assert_eq!(report.unreadable, ["run b", "skipped c", "ran "]);
    }
}
