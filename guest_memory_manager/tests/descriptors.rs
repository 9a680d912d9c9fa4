//! A process without file descriptors: what needs one fails and changes nothing, the rest goes on.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

mod support;

use guest_memory_manager::{
    BuildError, DeviceMemoryError, Fill, GuestAccess, GuestMemoryBuilder, MemoryLayout,
    RamVisibility, SoftwarePartition, Vtl, WindowOptions,
};
use memory_range::MemoryRange;
use std::env;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;
use std::sync::Arc;
use support::{memory_of, numbered, numbered_bytes};

/// Tells the child what it is.
const CHILD: &str = "GUEST_MEMORY_WITHOUT_DESCRIPTORS";
const GAP: MemoryRange = MemoryRange::new(0x10_0000..0x14_0000);
const SEGMENT: MemoryRange = MemoryRange::new(0xc_4000..0xc_8000);

/// The process may be spoilt, so it is one of its own.
#[test]
fn without_descriptors_nothing_is_lost() {
    if env::var_os(CHILD).is_some() {
        return in_the_child();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "without_descriptors_nothing_is_lost",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

/// Takes every descriptor there is.
fn exhaust(of: &impl AsFd) -> Vec<OwnedFd> {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of that type.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(result, 0);
    limit.rlim_cur = limit.rlim_max.min(256);
    // SAFETY: as before.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0);
    let mut taken = Vec::new();
    while let Ok(fd) = of.as_fd().try_clone_to_owned() {
        taken.push(fd);
    }
    taken
}

fn in_the_child() {
    let layout = MemoryLayout::new(1 << 20, &[GAP], None).unwrap();
    let builder = || GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder().build_now(&layout).unwrap();
    let guest = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, guest.clone(), None)
        .unwrap();
    let mapper = manager.device_memory_mapper();
    let (mut bar, window) = mapper.new_region(0x4000, "bar".into()).unwrap();
    let (mut ones, hole) = mapper
        .new_region_with(
            WindowOptions::new().one_slot(Fill::Ones),
            0x4000,
            "ones".into(),
        )
        .unwrap();
    let (mut zeros, _zeros) = mapper
        .new_region_with(
            WindowOptions::new().one_slot(Fill::Zeros),
            0x4000,
            "zeros".into(),
        )
        .unwrap();
    let known = numbered("known", 4, 0x100);
    let file: File = tempfile::tempfile().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &numbered_bytes(4, 0x200), 0).unwrap();
    window.map(0, &known, 0, 0x4000, true).unwrap();
    bar.map_to_guest(0x10_0000, true).unwrap();
    let load = |gpa| {
        let mut word = [0; 4];
        let load = guest.load(gpa, &mut word).unwrap();
        (load == GuestAccess::Done).then(|| u32::from_le_bytes(word))
    };

    let taken = exhaust(&file);
    let before = (
        inspect::inspect(&manager)
            .get(&"view/flat_view".parse().unwrap())
            .cloned(),
        guest.slots(),
    );
    // A file that nobody has mapped yet needs a descriptor to be kept.
    let error = window.map(0, &file, 0, 0x4000, true).unwrap_err();
    assert!(matches!(error, DeviceMemoryError::File { .. }), "{error}");
    // So does the memory that reads as ones, when it is first shown.
    ones.map_to_guest(0x11_0000, true).unwrap_err();
    assert_eq!(ones.gpa().unwrap(), None);
    let after = (
        inspect::inspect(&manager)
            .get(&"view/flat_view".parse().unwrap())
            .cloned(),
        guest.slots(),
    );
    assert_eq!(after, before);
    assert_eq!(manager.damaged(), Some(Vec::new()));
    let error = builder().build_now(&layout).unwrap_err();
    assert!(matches!(error, BuildError::Ram { .. }), "{error}");

    // What is known already can be shown in any way.
    let control = manager.ram_visibility_control();
    for visibility in [RamVisibility::Unmapped, RamVisibility::ReadOnly] {
        let mut change = manager.transaction().unwrap();
        change.set_ram_visibility(SEGMENT, visibility).unwrap();
        change.map_to_guest(&mut bar, 0x12_0000, true).unwrap();
        change.map_to_guest(&mut zeros, 0x10_0000, true).unwrap();
        change
            .map(&window, 0, &known, 0x2000, 0x2000, true)
            .unwrap();
        change.commit_now().unwrap().wait();
    }
    assert_eq!(
        control.ram_visibility(SEGMENT).unwrap(),
        RamVisibility::ReadOnly
    );
    assert_eq!((load(0x10_0000), load(0x12_0000)), (Some(0), Some(0x102)));
    let again = builder().existing_backing(Some(manager.shared_memory_backing()));
    again.build_now(&layout).map(drop).unwrap();

    // With descriptors, what failed succeeds.
    drop(taken);
    window.map(0, &file, 0, 0x4000, true).unwrap();
    ones.map_to_guest(0x11_0000, true).unwrap();
    hole.map(0, &file, 0, 0x1000, true).unwrap();
    assert_eq!(load(0x12_0000), Some(0x200));
    assert_eq!(
        (load(0x11_0000), load(0x11_1000)),
        (Some(0x200), Some(u32::MAX))
    );
    memory_of(&manager).write_plain(0x12_0000, &1_u32).unwrap();
    assert_eq!(load(0x11_0000), Some(1));
}
