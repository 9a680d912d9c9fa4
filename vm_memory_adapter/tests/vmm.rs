//! The example does what it says.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../examples/vmm/block.rs"]
mod block;
#[path = "../examples/vmm/driver.rs"]
mod driver;
#[path = "../examples/vmm/machine.rs"]
mod machine;
#[path = "../examples/vmm/packed.rs"]
mod packed;

#[test]
fn a_disk_is_served_while_memory_changes() {
    let seen = machine::run(200);
    assert_eq!(seen.kernel, 0x1_0000);
    assert!(seen.requests >= 200 && seen.changes >= 20);
}
