//! How a run ends, and with which exit code.

use crate::code::{Code, rom};
use crate::harness::{Ran, run_machine};
use crate::kvm::kvm_for;
use crate::outcome::Outcome;
use crate::report;
use crate::settings::Settings;
use std::time::Duration;

fn run(test: &str, code: Code, change: impl FnOnce(&mut Settings)) -> Option<Ran> {
    let kvm = kvm_for(test)?;
    let mut settings = Settings::new(rom(code), 1);
    change(&mut settings);
    Some(run_machine(&kvm, settings))
}

#[track_caller]
fn stuck(ran: &Ran) -> &str {
    assert_eq!(ran.report.outcome.exit_code(), 2);
    match &ran.report.outcome {
        Outcome::Stuck(why) => why,
        outcome => panic!("{outcome:?}"),
    }
}

#[test]
fn a_guest_chooses_the_exit_code() {
    let code = Code::new().exit(0x15);
    if let Some(ran) = run("firmware::a_guest_chooses_the_exit_code", code, |_| {}) {
        assert!(matches!(ran.report.outcome, Outcome::Exit(0x15)));
        assert_eq!(ran.report.outcome.exit_code(), 0x2b);
    }
}

#[test]
fn a_text_ends_the_run_wherever_it_is() {
    let code = Code::new().say("aaab").label("x").jump("x");
    let test = "firmware::a_text_ends_the_run_wherever_it_is";
    let ran = run(test, code, |settings| settings.until = Some("aab".into()));
    if let Some(ran) = ran {
        assert!(matches!(ran.report.outcome, Outcome::Until));
        assert_eq!(ran.report.outcome.exit_code(), 0);
        assert_eq!(ran.output, b"aaab");
    }
}

#[test]
fn the_time_is_up_for_a_guest_that_spins() {
    let code = Code::new().label("x").jump("x");
    let test = "firmware::the_time_is_up_for_a_guest_that_spins";
    let ran = run(test, code, |settings| {
        settings.limit = Some(Duration::from_millis(200));
    });
    if let Some(ran) = ran {
        assert!(matches!(ran.report.outcome, Outcome::Limit));
        assert_eq!(ran.report.outcome.exit_code(), 124);
        assert_eq!(report::json(&ran.report)["exit_code"], 124);
    }
}

#[test]
fn a_halt_without_interrupts_is_the_end() {
    let code = Code::new().raw(&[0xfa, 0xf4]); // cli; hlt
    let ran = run(
        "firmware::a_halt_without_interrupts_is_the_end",
        code,
        |_| {},
    );
    if let Some(ran) = ran {
        assert!(stuck(&ran).contains("halted"), "{}", stuck(&ran));
    }
}

#[test]
fn an_instruction_that_cannot_be_emulated_is_the_end() {
    let code = Code::new().raw(&[0x0f, 0x0b]); // ud2, without a handler
    let test = "firmware::an_instruction_that_cannot_be_emulated_is_the_end";
    if let Some(ran) = run(test, code, |_| {}) {
        let why = stuck(&ran);
        // Where exactly the guest ends depends on the processor: with the instruction, or with the
        // interrupt vector that is none.
        assert!(why.contains("cs  "), "{why}");
        assert!(why.contains("instruction at gpa "), "{why}");
    }
}

#[test]
fn a_guest_that_runs_into_nothing_is_told_so() {
    let code = Code::new().raw(&[0xea, 0x00, 0x00, 0x00, 0xd0]); // jmp 0xd000:0
    let test = "firmware::a_guest_that_runs_into_nothing_is_told_so";
    if let Some(ran) = run(test, code, |_| {}) {
        let why = stuck(&ran);
        assert!(why.contains("nothing is mapped there"), "{why}");
        assert!(why.contains("segment 0xd0000-0xd4000 is rom"), "{why}");
        assert!(why.contains("cs  d000 base 0x000d0000"), "{why}");
    }
}
