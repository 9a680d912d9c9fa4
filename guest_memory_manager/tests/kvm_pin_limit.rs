//! Pinning more than the process may lock. The only test in its process, since it takes the
//! process's privileges away.

#![cfg(feature = "kvm")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

#[path = "../../partition_mapper/tests/support/kvm.rs"]
mod kvm;
mod support;

use guest_memory_manager::{AttachError, GuestMemoryBuilder, KvmPartition, MemoryLayout, Vtl};
use kvm::kvm_for;
use memory_range::MemoryRange;
use partition_mapper::PinError;
use std::sync::Arc;
use support::{cause, chain, memory_of, numbered};

/// Lowers the limit on locked memory, and gives up root, whom it does not bind.
fn allow_locked_bytes(count: u64) {
    let limit = libc::rlimit {
        rlim_cur: count,
        rlim_max: count,
    };
    // SAFETY: reads one struct.
    let lowered = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) };
    assert_eq!(lowered, 0);
    const NOBODY: libc::uid_t = 65_534;
    // SAFETY: takes numbers only.
    if unsafe { libc::geteuid() } == 0 {
        // SAFETY: takes numbers only.
        let given_up = unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) };
        assert_eq!(given_up, 0);
    }
}

#[test]
fn the_error_names_the_limit_and_everything_is_as_it_was() {
    let Some(kvm) = kvm_for("kvm_pin_limit::the_error_names_the_limit_and_everything_is_as_it_was")
    else {
        return;
    };
    // Opened before root is given up.
    let partition = || {
        let vm = Arc::new(kvm.create_vm().unwrap());
        Arc::new(KvmPartition::new(vm).unwrap())
    };
    let (large, small) = (partition(), partition());
    allow_locked_bytes(1 << 20);
    let builder = GuestMemoryBuilder::new().pin_mappings(true);
    let gap = MemoryRange::new(0x8_0000..0x20_0000);

    // More RAM than may be locked.
    let layout = MemoryLayout::new(2 << 20, &[gap], None).unwrap();
    let manager = builder.clone().build_now(&layout).unwrap();
    let error = manager
        .attach_partition_now(Vtl::Vtl0, large.clone(), None)
        .unwrap_err();
    assert!(matches!(error, AttachError::Replay(_)));
    let text = chain(&error);
    assert!(cause::<PinError>(&error).is_some(), "{text}");
    assert!(
        text.contains("ulimit -l") && text.contains("1024 KiB"),
        "{text}"
    );
    assert_eq!(large.slots(), []);
    drop(manager);

    // RAM that may be locked, and a device window too large.
    let layout = MemoryLayout::new(0x8_0000, &[gap], None).unwrap();
    let manager = builder.build_now(&layout).unwrap();
    manager
        .attach_partition_now(Vtl::Vtl0, small.clone(), None)
        .unwrap();
    let slots = small.slots();
    let mapper = manager.device_memory_mapper();
    let file = numbered("file", 0x90, 7);
    let (mut control, window) = mapper.new_region(0x9_0000, "window".into()).unwrap();
    window.map(0, &file, 0, 0x9_0000, true).unwrap();
    let error = control.map_to_guest(gap.start(), true).unwrap_err();
    let text = chain(&error);
    assert!(
        cause::<PinError>(&error).is_some() && text.contains("ulimit -l"),
        "{text}"
    );
    assert_eq!(control.gpa().unwrap(), None);
    assert_eq!(small.slots(), slots);
    assert!(memory_of(&manager).read_plain::<u8>(gap.start()).is_err());

    // Half of it can be, and the other half cannot be added to it.
    window.unmap(0x4_0000, 0x5_0000).unwrap();
    control.map_to_guest(gap.start(), true).unwrap();
    let slots = small.slots();
    let error = window
        .map(0x4_0000, &file, 0x4_0000, 0x5_0000, true)
        .unwrap_err();
    assert!(chain(&error).contains("ulimit -l"));
    assert_eq!(small.slots(), slots);
    let memory = memory_of(&manager);
    assert_eq!(
        memory.read_plain::<u32>(gap.start() + 0x3_f000).unwrap(),
        7 + 0x3f
    );
    assert!(memory.read_plain::<u8>(gap.start() + 0x4_0000).is_err());
    assert_eq!(manager.damaged(), Some(Vec::new()));
}
