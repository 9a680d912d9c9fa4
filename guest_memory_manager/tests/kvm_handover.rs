//! A guest goes on in another process's VM, with the memory that it had.

#![cfg(feature = "kvm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
mod support;
#[path = "../../partition_mapper/tests/support/vcpu.rs"]
mod vcpu;

use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, KvmPartition, MemoryLayout, RamVisibility,
    SharedMemoryBacking, Vtl,
};
use kvm::kvm_for;
use kvm_ioctls::Kvm;
use std::env;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use support::{memory_of, range};
use vcpu::{Code, Exit, Vcpu};

const NAME: &str = "kvm_handover::a_guest_goes_on_in_another_process";
const CHILD: &str = "KVM_HANDOVER_CHILD";
const AMPLE: Duration = Duration::from_secs(60);
const PORT: u8 = 0x10;
/// Where the guest's code is, and two words that it reads and writes: on both sides of the gap.
const CODE: u64 = 0x1000;
const LOW: u32 = 0xf_0000;
const HIGH: u32 = 0x70_0000;

fn layout() -> MemoryLayout {
    MemoryLayout::new(8 << 20, &[range(0x20_0000, 0x40_0000)], None).unwrap()
}

fn build(backing: Option<SharedMemoryBacking>) -> GuestMemoryManager {
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let builder = builder.existing_backing(backing).claim_backing(true);
    builder.build_now(&layout()).unwrap()
}

/// A VM of this process with one CPU.
fn attach(kvm: &Kvm, manager: &GuestMemoryManager) -> Vcpu {
    let vm = Arc::new(kvm.create_vm().unwrap());
    let partition = Arc::new(KvmPartition::new(vm.clone()).unwrap());
    manager
        .attach_partition_now(Vtl::Vtl0, partition, None)
        .unwrap();
    Vcpu::new(&vm, 0, 0)
}

/// Runs the code that lies in the guest's memory, to its `hlt`.
#[track_caller]
fn run(vcpu: &mut Vcpu, exits: &[Exit]) {
    vcpu.jump(CODE);
    for exit in exits {
        assert_eq!(vcpu.run(), *exit);
    }
    assert_eq!(vcpu.run(), Exit::Hlt);
}

fn out(value: u32) -> Exit {
    Exit::Out {
        port: PORT.into(),
        data: value.to_le_bytes().to_vec(),
    }
}

fn store(manager: &GuestMemoryManager, code: &Code) {
    memory_of(manager).write_at(CODE, code.bytes()).unwrap();
}

fn in_the_child(kvm: &Kvm) {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let mut socket = UnixStream::from(socket);
    let manager = build(Some(SharedMemoryBacking::receive(&socket, AMPLE).unwrap()));
    let mut vcpu = attach(kvm, &manager);
    // Even its code is what the other process has put there.
    run(&mut vcpu, &[out(0x1234), out(0x5678)]);
    // Its visibility is this manager's own: what is read-only here is not so there.
    let segment = range(0xf_0000, 0x10_0000);
    let visibility = manager.ram_visibility_control();
    visibility
        .set_ram_visibility_now(segment, RamVisibility::ReadOnly)
        .unwrap()
        .wait();
    let code = Code::new().store(LOW, 0x9999).store(HIGH, 0x8888).hlt();
    store(&manager, &code);
    let refused = Exit::MmioWrite {
        gpa: LOW.into(),
        data: 0x9999_u32.to_le_bytes().to_vec(),
    };
    run(&mut vcpu, &[refused]);
    socket.write_all(b"w").unwrap();
}

#[test]
fn a_guest_goes_on_in_another_process() {
    let Some(kvm) = kvm_for(NAME) else {
        return;
    };
    if env::var_os(CHILD).is_some() {
        return in_the_child(&kvm);
    }
    let old = build(None);
    let mut vcpu = attach(&kvm, &old);
    let code = Code::new().store(LOW, 0x1234).store(HIGH, 0x5678).hlt();
    store(&old, &code);
    run(&mut vcpu, &[]);
    let code = Code::new().load(LOW).out(PORT).load(HIGH).out(PORT).hlt();
    store(&old, &code);

    let (mut socket, theirs) = UnixStream::pair().unwrap();
    socket.set_read_timeout(Some(AMPLE)).unwrap();
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "a_guest_goes_on_in_another_process",
            "--nocapture",
        ])
        .env(CHILD, "1")
        // One test is one line of the report.
        .env_remove("GUEST_MEMORY_KVM_REPORT")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    drop(old.take_claim().unwrap());
    old.shared_memory_backing().send(&socket, AMPLE).unwrap();
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    assert!(child.wait().unwrap().success());

    // This VM's CPU sees what the other one wrote, and the claim has come back.
    let _claim = old.shared_memory_backing().claim().unwrap();
    let code = Code::new()
        .load(LOW)
        .out(PORT)
        .load(HIGH)
        .out(PORT)
        .store(LOW, 0x7777)
        .hlt();
    store(&old, &code);
    run(&mut vcpu, &[out(0x1234), out(0x8888)]);
    let written = memory_of(&old).read_plain::<u32>(LOW.into()).unwrap();
    assert_eq!(written, 0x7777);
}
