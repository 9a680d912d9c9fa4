//! A piece of a VMM: a kernel is loaded, and a disk in a file is served through a split and a packed
//! queue, while segments of RAM come and go and a BAR moves.
//!
//! `cargo run -p vm_memory_adapter --example vmm`
//!
//! - [`block`]: the device. It knows vm-memory, and nothing of this stack.
//! - [`packed`]: the packed ring, which virtio-queue 0.18 has descriptors for, but no queue.
//! - [`driver`]: what the guest's driver would do.
//! - [`machine`]: the memory, the threads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "an example stops at the first surprise"
)]

mod block;
mod driver;
mod machine;
mod packed;

fn main() {
    let seen = machine::run(2_000);
    println!("{} bytes of a kernel were loaded", seen.kernel);
    println!(
        "{} requests were served, {} by each queue, through {} changes of memory",
        2 * seen.requests,
        seen.requests,
        seen.changes
    );
}
