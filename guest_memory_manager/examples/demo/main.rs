//! A real guest on guest memory: ROM under RAM, shadowing, write protection, a device window that
//! moves, and an alias map, each step checked.
//!
//!     cargo run --release -p guest_memory_manager --example demo -- --help
//!
//! A VMM author can start from [`vmm`] (how the memory is built and changed) and [`kvm`] (how a
//! VM gets it); the rest is the guest and the comparison of what it saw with what it must see.

#![allow(missing_docs, reason = "an example is read, not linked against")]
#![allow(
    unreachable_pub,
    reason = "the modules are shared with a test, by path"
)]

mod cpu;
mod guest;
#[cfg(feature = "kvm")]
mod kvm;
mod memory_map;
mod report;
mod scenario;
mod steps;
mod vmm;

use clap::{Parser, ValueEnum};
use cpu::Outcome;
use scenario::{Backend, DemoResult};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Runs a small guest on guest memory and checks each of its steps.
///
/// Without a hypervisor the same steps are made as loads and stores against a software
/// partition, which keeps KVM's rules.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Print one JSON document instead of text.
    #[arg(long)]
    json: bool,
    /// Print the guest's program (addresses, bytes, assembly) and stop.
    #[arg(long)]
    listing: bool,
    /// What runs the guest.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    backend: Choice,
    /// Show the tree of guest memory at this socket, for `cargo xtask inspect SOCKET`.
    #[arg(long, value_name = "SOCKET")]
    inspect: Option<PathBuf>,
    /// When the guest is done, stay for so many seconds before ending.
    #[arg(long, value_name = "SECONDS", requires = "inspect")]
    hold: Option<u64>,
}

#[derive(Copy, Clone, ValueEnum)]
enum Choice {
    /// KVM where it can be used, the software partition elsewhere.
    Auto,
    /// KVM, or fail.
    Kvm,
    /// The software partition.
    Software,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.listing {
        for runs in [steps::Runs::Vtl0, steps::Runs::Vtl2] {
            println!("; {runs:?}");
            let program = steps::program(&steps::steps(), runs);
            println!("{}", guest::listing(&program));
        }
        return ExitCode::SUCCESS;
    }
    let (backend, why_not_kvm) = choose(arguments.backend);
    let result = scenario::run(backend, None, arguments.inspect.as_deref()).await;
    let exit_code = print(&result, backend, &arguments, why_not_kvm.as_deref());
    if let (Ok(_), Some(seconds)) = (&result, arguments.hold) {
        std::thread::sleep(Duration::from_secs(seconds));
    }
    exit_code
}

/// Prints what came of it; returns the exit code.
fn print(
    result: &Outcome<DemoResult>,
    backend: Backend,
    arguments: &Arguments,
    why_not_kvm: Option<&str>,
) -> ExitCode {
    match result {
        Ok(result) if arguments.json => {
            println!("{:#}", report::json(result, why_not_kvm));
            exit(result.ok())
        }
        Ok(result) => {
            print!("{}", report::text(result, why_not_kvm));
            exit(result.ok())
        }
        Err(error) if arguments.json => {
            println!("{:#}", report::json_error(backend, error.as_ref()));
            exit(false)
        }
        Err(error) => {
            eprintln!(
                "demo: failed ({}): {}",
                backend.name(),
                report::chain(error.as_ref())
            );
            exit(false)
        }
    }
}

fn exit(ok: bool) -> ExitCode {
    if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// What runs the guest, and if it isn't KVM, why not.
fn choose(choice: Choice) -> (Backend, Option<String>) {
    match choice {
        Choice::Kvm => (Backend::Kvm, None),
        Choice::Software => (Backend::Software, Some("--backend software".to_owned())),
        Choice::Auto => match kvm_usable() {
            Ok(()) => (Backend::Kvm, None),
            Err(why) => (Backend::Software, Some(why)),
        },
    }
}

#[cfg(feature = "kvm")]
fn kvm_usable() -> Result<(), String> {
    let kvm = kvm_ioctls::Kvm::new().map_err(|error| format!("/dev/kvm: {error}"))?;
    kvm.create_vm()
        .map(drop)
        .map_err(|error| format!("KVM_CREATE_VM: {error}"))
}

#[cfg(not(feature = "kvm"))]
fn kvm_usable() -> Result<(), String> {
    Err("built without the feature `kvm`".to_owned())
}
