//! The system calls of each change, as `ptrace` saw them in a process of their own.

use crate::command_line::Options;
use crate::report::{CallList, Report};
use crate::tracer::in_words;
use crate::transitions::{self, On};

/// Records the calls of every transition: on KVM where there is one, else on a software partition.
pub(crate) fn record(options: &Options, report: &mut Report) {
    let on = match report.kvm_missing {
        None => On::Kvm,
        Some(_) => On::Software,
    };
    for others in [0, options.others] {
        eprintln!("recording system calls with {others} windows more");
        let recordings = match transitions::record(on, others, &[]) {
            Ok(recordings) => recordings,
            Err(why) => {
                report.calls_missing = Some(format!("no process can be traced here: {why}"));
                return;
            }
        };
        for (transition, recorded) in std::iter::zip(transitions::all(), recordings) {
            let expected = match on {
                On::Kvm => transition.calls.clone(),
                On::Software => transitions::without_slots(&transition.calls),
            };
            report.calls.push(CallList {
                name: transition.name,
                others,
                calls: in_words(&recorded.calls),
                expected: in_words(&expected),
            });
        }
    }
}
