//! A small PC that boots unmodified firmware on guest memory: PAM registers become changes of RAM's
//! visibility.
//!
//!     cargo run --release -p guest_memory_manager --example firmware -- --help
//!
//! [`host_bridge`] is where firmware meets the memory manager: one write of PAM registers is one
//! change. [`rom`] and [`machine`] say how the memory is made, [`bus`] what becomes of accesses that
//! leave the guest, and [`fw_cfg`] how a device does DMA.

#![allow(missing_docs, reason = "an example is read, not linked against")]
#![allow(
    unreachable_pub,
    reason = "the modules are shared with a test, by path"
)]

mod bus;
mod cmos;
mod command_line;
mod cpus;
mod debug_port;
mod e820;
mod exit_port;
mod fw_cfg;
mod host_bridge;
mod kernel;
mod kernel_rom;
mod kick;
mod machine;
mod outcome;
mod pam;
mod port92;
mod report;
mod rom;
mod run;
mod run_control;
mod settings;
mod slot_counter;
mod stuck;

use clap::Parser;
use clap::error::ErrorKind;
use command_line::Arguments;
use kvm_ioctls::Kvm;
use machine::Machine;
use outcome::{Failure, Outcome};
use std::process::ExitCode;

/// `EX_USAGE` of sysexits.h: clap's own 2 would say that the guest is stuck.
const USAGE: u8 = 64;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where even that cannot be told, the exit code tells it.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => USAGE.into(),
            };
        }
    };
    let outcome = boot(&arguments).unwrap_or_else(Outcome::Failed);
    match &outcome {
        Outcome::Stuck(why) => eprint!("firmware: {why}"),
        Outcome::Failed(error) => eprintln!("firmware: {}", chain(error.as_ref())),
        _ => {}
    }
    outcome.exit_code().into()
}

fn boot(arguments: &Arguments) -> Result<Outcome, Failure> {
    let settings = arguments.settings()?;
    let kvm = Kvm::new().map_err(|error| format!("/dev/kvm: {error}"))?;
    let report = run::run(Machine::new(&kvm, settings)?)?;
    eprintln!("\n{}", report::summary(&report));
    if let Some(path) = &arguments.json {
        let text = format!("{:#}\n", report::json(&report));
        std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(report.outcome)
}

/// An error with its causes.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let texts = std::iter::successors(Some(error), |error| error.source());
    texts
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}
