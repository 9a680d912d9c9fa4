//! Real second processes, started by `exec`: all that they share is one socket.

use crate::fixture::{
    AMPLE, C_SEGMENT, F_SEGMENT, Fixture, build, in_vtl0, number_pages, page_addresses,
};
use crate::second_process::{Process, answer, child};
use guest_memory_manager::{
    Eviction, GuestAccess, GuestMemory, RamVisibility, RemoteClientOptions, RemoteGrant,
    RemoteGuestMemory, RemoteOptions, SoftwarePartition, Vtl,
};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;

/// What all pages are, in one number.
fn sum(memory: &GuestMemory) -> u64 {
    page_addresses()
        .filter(|gpa| in_vtl0(*gpa))
        .fold(0, |sum: u64, gpa| {
            let page = crate::fixture::page(memory, gpa);
            let word = page.map_or(1, |(word, writable)| word ^ (u64::from(writable) << 63));
            sum.rotate_left(7) ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15)
        })
}

/// In a child: connects, and offers a partition.
fn in_the_child(mut talk: UnixStream, path: &Path) {
    let options = RemoteClientOptions::new("child").deadline(AMPLE);
    let remote = RemoteGuestMemory::connect_to(path, options).unwrap();
    let _driver = remote.spawn().unwrap();
    let guest = Arc::new(SoftwarePartition::new());
    remote.offer_partition("vm", guest.clone()).unwrap();
    let memory = remote.guest_memory();
    answer(&mut talk, |command, value| match command {
        b's' => sum(&memory),
        b'w' => u64::from(memory.write_plain(value, &value).is_ok()),
        b'g' => {
            let mut bytes = [0; 8];
            match guest.load(value, &mut bytes).unwrap() {
                GuestAccess::Done => u64::from_le_bytes(bytes),
                _ => u64::MAX,
            }
        }
        b'p' => {
            let stored = guest.store(value, &value.to_le_bytes()).unwrap();
            u64::from(stored == GuestAccess::Done)
        }
        b'n' => guest.slots().len() as u64,
        _ => panic!("{command}"),
    });
    assert_eq!(guest.broken_rules(), []);
}

/// Two processes and a guest in each see each other's writes and every change.
#[test]
fn another_process_follows() {
    const TEST: &str = "processes::another_process_follows";
    if let Some((talk, path)) = child() {
        return in_the_child(talk, &path);
    }
    let fixture = Fixture::new();
    number_pages(&fixture.view());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let _socket = fixture
        .server
        .listen(&path, RemoteGrant::new().name("child"))
        .unwrap();
    let mut other = Process::start(TEST, &path);
    let process = loop {
        if let Some(process) = fixture.server.processes().pop() {
            break process;
        }
        std::thread::yield_now();
    };
    let partition = process.wait_for_partition("vm", AMPLE).unwrap();
    let local = Arc::new(SoftwarePartition::new());
    let memory = &fixture.memory;
    memory
        .attach_partition_now(Vtl::Vtl0, local.clone(), None)
        .unwrap();
    memory
        .attach_partition_now(Vtl::Vtl0, partition, Some(process.clone()))
        .unwrap();
    memory.acknowledgement().wait();

    let view = fixture.view();
    assert_eq!(other.ask(b's', 0), sum(&view));
    assert_eq!(other.ask(b'n', 0), local.slots().len() as u64);
    // Written by its device, read by this guest; written by this guest, read by its guest; and back.
    assert_eq!(other.ask(b'w', 0x5000), 1);
    assert_eq!(load(&local, 0x5000), 0x5000);
    let stored = local.store(0xf_0008, &0xabcd_u64.to_le_bytes());
    assert_eq!(stored.unwrap(), GuestAccess::Done);
    assert_eq!(other.ask(b'g', 0xf_0008), 0xabcd);
    assert_eq!(other.ask(b'p', 0xf_0010), 1);
    assert_eq!(load(&local, 0xf_0010), 0xf_0010);

    for (segment, visibility) in [
        (F_SEGMENT, RamVisibility::ReadOnly),
        (C_SEGMENT, RamVisibility::Unmapped),
        (F_SEGMENT, RamVisibility::Unmapped),
        (C_SEGMENT, RamVisibility::ReadWrite),
        (F_SEGMENT, RamVisibility::ReadWrite),
    ] {
        fixture.set(segment, visibility);
        assert_eq!(other.ask(b's', 0), sum(&view), "{segment} {visibility:?}");
        assert_eq!(other.ask(b'n', 0), local.slots().len() as u64);
        let start = segment.start();
        let writable = visibility == RamVisibility::ReadWrite;
        assert_eq!(other.ask(b'p', start), u64::from(writable));
        let seen = match visibility {
            RamVisibility::Unmapped => u64::MAX,
            _ => view.read_plain(start).unwrap(),
        };
        assert_eq!(other.ask(b'g', start), seen);
    }
    other.end();
    let left = fixture.left();
    assert!(matches!(*left.gone().unwrap(), Eviction::Closed { .. }));
    fixture.no_more_events();
}

fn load(guest: &SoftwarePartition, gpa: u64) -> u64 {
    let mut bytes = [0; 8];
    assert_eq!(guest.load(gpa, &mut bytes).unwrap(), GuestAccess::Done);
    u64::from_le_bytes(bytes)
}

/// Killed with a partition attached and changes on their way: nobody waits for it, and what it leaves
/// behind is nothing.
#[test]
fn a_killed_process_is_gone() {
    const TEST: &str = "processes::a_killed_process_is_gone";
    if let Some((talk, path)) = child() {
        return in_the_child(talk, &path);
    }
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(AMPLE));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let _socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
    for _ in 0..5 {
        let other = Process::start(TEST, &path);
        let process = loop {
            if let Some(process) = fixture.server.processes().pop() {
                break process;
            }
            std::thread::yield_now();
        };
        let partition = process.wait_for_partition("vm", AMPLE).unwrap();
        let memory = &fixture.memory;
        memory
            .attach_partition_now(Vtl::Vtl0, partition.clone(), Some(process.clone()))
            .unwrap();
        drop(other);
        fixture.set(F_SEGMENT, RamVisibility::ReadOnly);
        fixture.set(F_SEGMENT, RamVisibility::ReadWrite);
        assert_eq!(fixture.left().name(), process.name());
        assert!(partition.is_gone());
        assert_eq!(partition.slots(), []);
    }
}
