//! A process that has no descriptor left, or no addresses: changes fail as if they had not been, or tell
//! what a snapshot lacks.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{DmaOptions, RamVisibility};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::error::Error;
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::Command;
use support::{GAP, pc, segment, set};
use vm_memory::{Bytes, GuestAddress, GuestAddressSpace};
use vm_memory_adapter::{AccessView, AddressSpace, NotShown, SnapshotOptions};

const CHILD: &str = "VM_MEMORY_ADAPTER_LIMITED";

/// Limits are the process's, so a test that sets one has its own.
fn in_a_process_of_its_own(test: &str, body: impl FnOnce()) {
    if std::env::var_os(CHILD).is_some() {
        return body();
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "yes")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    let complained = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}{complained}");
    assert!(said.contains("1 passed"), "{said}");
}

/// Runs something with less of a resource.
fn limited<R>(resource: Resource, limit: u64, run: impl FnOnce() -> R) -> R {
    let (soft, hard) = getrlimit(resource).unwrap();
    setrlimit(resource, limit, hard).unwrap();
    let result = run();
    setrlimit(resource, soft, hard).unwrap();
    result
}

/// Looks for why something was not shown.
fn not_shown<'a>(error: &'a (dyn Error + 'static)) -> &'a NotShown {
    let mut error = error;
    loop {
        match error.downcast_ref() {
            Some(found) => return found,
            None => error = error.source().unwrap(),
        }
    }
}

#[test]
fn without_descriptors_a_change_of_ram_fails_whole() {
    in_a_process_of_its_own("without_descriptors_a_change_of_ram_fails_whole", || {
        let manager = pc();
        let range = segment(3);
        // It holds no descriptor while the only segment that it sees is hidden.
        let only = SnapshotOptions::new().reach(DmaOptions::new().only([range]));
        let narrow = AddressSpace::<AccessView>::attach(&manager, "narrow", &only).unwrap();
        let all = SnapshotOptions::new();
        let wide = AddressSpace::<AccessView>::attach(&manager, "wide", &all).unwrap();
        set(&manager, range, RamVisibility::Unmapped);
        let count = |space: &AddressSpace<AccessView>| space.memory().regions().count();
        assert_eq!((count(&narrow), count(&wide)), (0, 3));

        let next = File::open("/dev/null").unwrap();
        let limit = next.as_raw_fd() as u64;
        drop(next);
        let control = manager.ram_visibility_control();
        let shown = limited(Resource::RLIMIT_NOFILE, limit, || {
            control.set_ram_visibility_now(range, RamVisibility::ReadWrite)
        });
        let refused = shown.err().unwrap();
        assert!(matches!(not_shown(&refused), NotShown::Descriptor { .. }));
        assert_eq!((count(&narrow), count(&wide)), (0, 3));
        assert_eq!(
            control.ram_visibility(range).unwrap(),
            RamVisibility::Unmapped
        );
        assert!(manager.dma_failures().unwrap().is_empty());

        set(&manager, range, RamVisibility::ReadWrite);
        assert_eq!((count(&narrow), count(&wide)), (1, 2));
    });
}

#[test]
fn without_addresses_for_a_linear_view_a_window_is_left_out_and_told_of() {
    in_a_process_of_its_own(
        "without_addresses_for_a_linear_view_a_window_is_left_out_and_told_of",
        || {
            const LONG: u64 = 1 << 30;
            let manager = pc();
            let reach = DmaOptions::new().include_device_memory();
            let options = SnapshotOptions::new().reach(reach);
            let space = AddressSpace::<AccessView>::attach(&manager, "virtio", &options).unwrap();
            // A linear view is of the whole file, a window of a page of it.
            let file = File::from(memfd_create("long", MFdFlags::MFD_ALLOW_SEALING).unwrap());
            file.set_len(LONG).unwrap();
            file.write_all_at(b"here", 0).unwrap();
            fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_SHRINK)).unwrap();
            let mapper = manager.device_memory_mapper();
            let (mut control, window) = mapper.new_region(0x1000, "window".into()).unwrap();
            window.map(0, &file, 0, 0x1000, true).unwrap();

            let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
            let pages: u64 = statm.split(' ').next().unwrap().parse().unwrap();
            let limit = pages * 0x1000 + LONG / 2;
            let gpa = GuestAddress(GAP.start());
            limited(Resource::RLIMIT_AS, limit, || {
                control.map_to_guest(gpa.0, true)
            })
            .unwrap();
            // The guest has it, the device has not, and everything else stays.
            let guest = manager.client().guest_memory_now();
            assert_eq!(guest.read_plain::<[u8; 4]>(gpa.0).unwrap(), *b"here");
            assert!(space.memory().read_obj::<u8>(gpa).is_err());
            assert!(space.memory().read_obj::<u8>(GuestAddress(0)).is_ok());
            let failures = manager.dma_failures().unwrap();
            assert_eq!(failures.len(), 1);
            assert_eq!(failures[0].range.unwrap().start(), gpa.0);
            assert!(
                failures[0].cause.contains("could not be leased"),
                "{}",
                failures[0]
            );

            control.unmap_from_guest();
            assert!(manager.dma_failures().unwrap().is_empty());
            control.map_to_guest(gpa.0, true).unwrap();
            assert_eq!(space.memory().read_obj::<u8>(gpa).unwrap(), b'h');
        },
    );
}
