//! The example does what it says.

#![cfg(feature = "vhost")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../examples/vmm/block.rs"]
mod block;
#[path = "../examples/vmm/driver.rs"]
mod driver;
#[path = "../examples/vmm/images.rs"]
mod images;
#[path = "../examples/vmm/kernels.rs"]
mod kernels;
#[path = "../examples/vmm/machine.rs"]
mod machine;
#[path = "../examples/vmm/packed.rs"]
mod packed;
#[path = "../examples/vmm/vhost_user.rs"]
mod vhost_user;

use std::path::Path;
use std::process::{Command, Stdio};

const SOCKET: &str = "VMM_EXAMPLE_SOCKET";

#[test]
fn kernels_are_loaded_where_they_belong() {
    let manager = machine::build();
    assert_eq!(kernels::load_elf(&manager), 0x9_f800..0x10_0a34);
    assert_eq!(kernels::load_bzimage(&manager), 0x10_0000..0x11_0000);
    match kernels::load_installed(&manager) {
        Some((name, range)) => assert!(!range.is_empty(), "{name}"),
        None => println!("no kernel is installed here"),
    }
}

#[test]
fn a_disk_is_served_while_memory_changes() {
    let seen = machine::run(&machine::build(), 200);
    assert!(seen.turns >= 200 && seen.changes >= 20);
}

/// Not a test of its own: the process of the back end.
#[test]
fn back_end_process() {
    if let Some(socket) = std::env::var_os(SOCKET) {
        vhost_user::back_end(Path::new(&socket)).unwrap();
    }
}

#[test]
fn a_disk_is_served_by_another_process_while_memory_changes() {
    let manager = machine::build();
    let served = vhost_user::front_end(&manager, 60, |socket| {
        Command::new(std::env::current_exe()?)
            .args(["--exact", "back_end_process"])
            .env(SOCKET, socket)
            .stdout(Stdio::null())
            .spawn()
    });
    let served = served.unwrap();
    // A write and a read a turn, and one in vain now and then; a table for each change, and the first.
    assert_eq!(served.requests, 60 * 2 + 4);
    assert_eq!(served.tables, 61);
    assert_eq!(served.regions, 2..=3);
    assert_ne!(served.process, std::process::id());
}

#[test]
fn kernel_vhost_is_served_or_said_to_be_absent() {
    let manager = machine::build();
    let said = vhost_user::kernel(&manager);
    println!("{said}");
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/vhost-net");
    let start = match device {
        Ok(_) => "/dev/vhost-net got a table of 2 regions",
        Err(_) => "skipped",
    };
    assert!(said.starts_with(start), "{said}");
    // Nothing of it is left.
    assert!(manager.dma_failures().unwrap().is_empty());
}
