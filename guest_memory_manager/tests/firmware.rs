//! SeaBIOS and guests of our own on the `firmware` example, and proof that it notices a memory
//! manager that is wrong.

#![cfg(feature = "kvm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    dead_code,
    reason = "a test may stop at the first surprise, and uses only a part of the example's modules"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;

#[path = "../examples/firmware/bus.rs"]
mod bus;
#[path = "../examples/firmware/cmos.rs"]
mod cmos;
#[path = "../examples/firmware/command_line.rs"]
mod command_line;
#[path = "../examples/firmware/cpus.rs"]
mod cpus;
#[path = "../examples/firmware/debug_port.rs"]
mod debug_port;
#[path = "../examples/firmware/e820.rs"]
mod e820;
#[path = "../examples/firmware/exit_port.rs"]
mod exit_port;
#[path = "../examples/firmware/fw_cfg/mod.rs"]
mod fw_cfg;
#[path = "../examples/firmware/host_bridge.rs"]
mod host_bridge;
#[path = "../examples/firmware/kernel.rs"]
mod kernel;
#[path = "../examples/firmware/kernel_rom.rs"]
mod kernel_rom;
#[path = "../examples/firmware/kick.rs"]
mod kick;
#[path = "../examples/firmware/machine.rs"]
mod machine;
#[path = "../examples/firmware/outcome.rs"]
mod outcome;
#[path = "../examples/firmware/pam.rs"]
mod pam;
#[path = "../examples/firmware/port92.rs"]
mod port92;
#[path = "../examples/firmware/report.rs"]
mod report;
#[path = "../examples/firmware/rom.rs"]
mod rom;
#[path = "../examples/firmware/run.rs"]
mod run;
#[path = "../examples/firmware/run_control.rs"]
mod run_control;
#[path = "../examples/firmware/settings.rs"]
mod settings;
#[path = "../examples/firmware/slot_counter.rs"]
mod slot_counter;
#[path = "../examples/firmware/stuck.rs"]
mod stuck;

// What the tests add, beside this file.
#[path = "firmware/boots.rs"]
mod boots;
#[path = "firmware/code.rs"]
mod code;
#[path = "firmware/command_lines.rs"]
mod command_lines;
#[path = "firmware/devices.rs"]
mod devices;
#[path = "firmware/endings.rs"]
mod endings;
#[path = "firmware/faults.rs"]
mod faults;
#[path = "firmware/harness.rs"]
mod harness;
#[path = "firmware/kernels.rs"]
mod kernels;
#[path = "firmware/option_rom.rs"]
mod option_rom;
#[path = "firmware/probe.rs"]
mod probe;
#[path = "firmware/two_cpus.rs"]
mod two_cpus;
#[path = "firmware/write_only.rs"]
mod write_only;
