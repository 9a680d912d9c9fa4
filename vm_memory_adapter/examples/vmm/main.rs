//! A piece of a VMM: kernels are loaded, and disks are served through a split and a packed queue, one of
//! them by another process, while segments of RAM come and go and a BAR moves.
//!
//! `cargo run -p vm_memory_adapter --example vmm -- --help`
//!
//! - [`machine`]: the memory, the threads, the disk that is served here.
//! - [`kernels`]: what linux-loader loads; [`images`] makes them.
//! - [`vhost_user`]: the disk that is served by another process.
//! - [`block`]: the device. It knows vm-memory, and nothing of this stack.
//! - [`packed`]: the packed ring, which virtio-queue 0.18 has descriptors for, but no queue.
//! - [`driver`]: what the guest's driver would do.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an example stops at the first surprise"
)]

mod block;
mod driver;
mod images;
mod kernels;
mod machine;
mod packed;
mod vhost_user;

use std::error::Error;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

const HELP: &str = "\
A piece of a VMM on vm_memory_adapter: linux-loader loads kernels, virtio-queue serves a disk, and a
vhost-user back end in another process serves a second one, while the guest's memory changes.

usage: vmm [--requests N]

  --requests N   how many times each disk writes and reads at least (default 2000)
  --help         this text

Nothing is needed but Linux; no KVM, since no guest runs. It ends with exit code 0 if every byte was
where it should be.";

/// How the example calls itself, to be the other process.
const BACK_END: &str = "back-end";

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match *words {
        [] => run(2_000),
        ["--requests", number] => match number.parse() {
            Ok(requests) => run(requests),
            Err(_) => Err(format!("--requests takes a number, not {number:?}").into()),
        },
        ["--help" | "-h"] => {
            println!("{HELP}");
            Ok(())
        }
        [BACK_END, socket] => vhost_user::back_end(Path::new(socket)),
        _ => Err("try --help".into()),
    }
}

fn run(requests: u64) -> Result<(), Box<dyn Error>> {
    let manager = machine::build();
    line(
        "memory",
        &format!(
            "{} MiB of RAM, the first divided as a PC's is, around a gap at {}",
            machine::RAM >> 20,
            machine::GAP
        ),
    );

    line("ELF", &loaded(&kernels::load_elf(&manager)));
    line("bzImage", &loaded(&kernels::load_bzimage(&manager)));
    // In memory of its own: it may be large, and the rings of the disks begin as zeros.
    match kernels::load_installed(&machine::build()) {
        Some((name, range)) => line("kernel", &format!("{name}: {}", loaded(&range))),
        None => line(
            "kernel",
            "skipped: /boot has none that can be read and fits",
        ),
    }

    let seen = machine::run(&manager, requests);
    line(
        "disk",
        &format!(
            "{} turns by a split and a packed queue, through {} changes of memory",
            seen.turns, seen.changes
        ),
    );

    let served = vhost_user::front_end(&manager, requests, |socket| {
        let example = std::env::current_exe()?;
        Command::new(example).arg(BACK_END).arg(socket).spawn()
    })?;
    line(
        "vhost-user",
        &format!(
            "{} requests by process {}, which got {} tables of {} to {} regions",
            served.requests,
            served.process,
            served.tables,
            served.regions.start(),
            served.regions.end()
        ),
    );
    line("vhost", &vhost_user::kernel(&manager));
    Ok(())
}

fn line(what: &str, how: &str) {
    println!("{what:<11} {how}");
}

fn loaded(range: &Range<u64>) -> String {
    let len = range.end - range.start;
    format!("{len} bytes at {:#x}-{:#x}", range.start, range.end)
}
