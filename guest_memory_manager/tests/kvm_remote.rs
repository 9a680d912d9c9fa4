//! A VM of another process sees the memory and every change of it, as one of this process does.

#![cfg(all(feature = "kvm", feature = "remote"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
#[path = "support/second_process.rs"]
mod second_process;
mod support;
#[path = "../../partition_mapper/tests/support/vcpu.rs"]
mod vcpu;

use guest_memory_manager::{
    GuestMemoryBuilder, KvmPartition, MemoryLayout, ProcessEvent, RamVisibility,
    RemoteClientOptions, RemoteGrant, RemoteGuestMemory, RemoteOptions, Vtl,
};
use kvm::kvm_for;
use kvm_ioctls::Kvm;
use second_process::{Process, answer, child};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;
use support::{memory_of, numbered, range};
use vcpu::{Code, Exit, Vcpu};

const TEST: &str = "two_vms_in_two_processes_are_one_guest";
const NAME: &str = "kvm_remote::two_vms_in_two_processes_are_one_guest";
const AMPLE: Duration = Duration::from_secs(60);
const PORT: u8 = 0x10;
/// Where the guests' code is.
const CODE: u64 = 0x1000;
/// In a segment of RAM that is shown and hidden.
const SEGMENT: u32 = 0xf_0000;
/// Where a device window is put.
const WINDOW: u32 = 0x20_0000;

/// What a guest has found at an address that it read and then wrote.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Found {
    value: u32,
    read_left: bool,
    write_left: bool,
}

impl Found {
    fn pack(self) -> u64 {
        let flags = u64::from(self.read_left) | u64::from(self.write_left) << 1;
        u64::from(self.value) | flags << 32
    }

    fn unpack(packed: u64) -> Self {
        Self {
            value: packed as u32,
            read_left: packed >> 32 & 1 != 0,
            write_left: packed >> 33 & 1 != 0,
        }
    }
}

/// A VM of this process with one CPU.
struct Guest {
    partition: Arc<KvmPartition>,
    vcpu: Vcpu,
}

impl Guest {
    fn new(kvm: &Kvm) -> Self {
        let vm = Arc::new(kvm.create_vm().unwrap());
        let partition = Arc::new(KvmPartition::new(vm.clone()).unwrap());
        let vcpu = Vcpu::new(&vm, 0, 0);
        Self { partition, vcpu }
    }

    /// Runs the code that lies in the guest's memory, to its `hlt`.
    fn run(&mut self) -> Found {
        let mut found = Found {
            value: 0,
            read_left: false,
            write_left: false,
        };
        self.vcpu.jump(CODE);
        loop {
            match self.vcpu.run() {
                Exit::Hlt => return found,
                Exit::Out { data, .. } => {
                    found.value = u32::from_le_bytes(data.try_into().unwrap());
                }
                Exit::MmioRead { .. } => found.read_left = true,
                Exit::MmioWrite { .. } => found.write_left = true,
                exit => panic!("{exit:?}"),
            }
        }
    }
}

fn in_the_child(kvm: &Kvm, mut talk: UnixStream, path: &Path) {
    let options = RemoteClientOptions::new("child").deadline(AMPLE);
    let remote = RemoteGuestMemory::connect_to(path, options).unwrap();
    let _driver = remote.spawn().unwrap();
    let mut guest = Guest::new(kvm);
    remote
        .offer_partition("vm", guest.partition.clone())
        .unwrap();
    answer(&mut talk, |_, _| guest.run().pack());
}

/// The guest of each process reads what that of the other wrote, and what neither may see or write
/// leaves both as exits, from the moment on at which the change is acknowledged.
#[test]
fn two_vms_in_two_processes_are_one_guest() {
    let Some(kvm) = kvm_for(NAME) else {
        return;
    };
    if let Some((talk, path)) = child() {
        return in_the_child(&kvm, talk, &path);
    }
    let layout = MemoryLayout::new(4 << 20, &[range(0x20_0000, 0x40_0000)], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let memory = builder.build_now(&layout).unwrap();
    let (tell, told) = channel();
    let options = RemoteOptions::new().deadline(AMPLE).on_event(move |event| {
        let _ = tell.send(event.clone());
    });
    let server = memory.serve_remote(options).unwrap();
    let _driver = server.spawn().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let _socket = server.listen(&path, RemoteGrant::new()).unwrap();
    let mut there = Process::start(TEST, &path);
    let process = loop {
        if let ProcessEvent::PartitionOffered { process, .. } = told.recv_timeout(AMPLE).unwrap() {
            break process;
        }
    };
    let partition = process.partition("vm").unwrap();
    assert!(partition.slot_limit().unwrap() > 8);
    let mut here = Guest::new(&kvm);
    let vm = here.partition.clone();
    memory.attach_partition_now(Vtl::Vtl0, vm, None).unwrap();
    memory
        .attach_partition_now(Vtl::Vtl0, partition.clone(), Some(process.clone()))
        .unwrap();
    memory.acknowledgement().wait();

    let mut turn = 0_u32;
    // Both guests read and write at an address; what the first wrote, the second finds.
    let mut both = |address: u32, last: Option<u32>, writable: bool| {
        let mut last = last;
        for remote_first in [false, true] {
            turn += 1;
            let code = Code::new()
                .load(address)
                .out(PORT)
                .store(address, turn)
                .hlt();
            memory_of(&memory).write_at(CODE, code.bytes()).unwrap();
            let found = match remote_first {
                true => Found::unpack(there.ask(b'x', 0)),
                false => here.run(),
            };
            let expected = Found {
                value: last.unwrap_or(u32::MAX),
                read_left: last.is_none(),
                write_left: !writable,
            };
            assert_eq!(found, expected, "{address:#x}, there: {remote_first}");
            if writable {
                last = Some(turn);
            }
        }
        last
    };
    let control = memory.ram_visibility_control();
    let segment = range(SEGMENT.into(), u64::from(SEGMENT) + 0x1_0000);
    let set = |visibility| {
        let followed = control.set_ram_visibility_now(segment, visibility).unwrap();
        followed.wait();
    };
    let mut last = both(SEGMENT, Some(0), true);
    for _ in 0..3 {
        set(RamVisibility::ReadOnly);
        both(SEGMENT, last, false);
        set(RamVisibility::Unmapped);
        both(SEGMENT, None, false);
        set(RamVisibility::ReadWrite);
        last = both(SEGMENT, last, true);
    }

    // A device window that comes, has its contents replaced under its slot, moves and goes.
    let frames = numbered("frames", 4, 1000);
    let windows = memory.device_memory_mapper();
    let (mut bar, window) = windows.new_region(0x2000, "bar".into()).unwrap();
    window.map(0, &frames, 0, 0x2000, true).unwrap().wait();
    both(WINDOW, None, false);
    bar.map_to_guest(WINDOW.into(), true).unwrap().wait();
    both(WINDOW, Some(1000), true);
    window.map(0, &frames, 0x2000, 0x2000, true).unwrap().wait();
    both(WINDOW, Some(1002), true);
    bar.map_to_guest(u64::from(WINDOW) + 0x1000, false)
        .unwrap()
        .wait();
    both(WINDOW, None, false);
    both(WINDOW + 0x2000, Some(1003), false);
    bar.try_unmap_from_guest().unwrap().wait();
    both(WINDOW + 0x2000, None, false);

    assert!(process.gone().is_none());
    there.end();
}
