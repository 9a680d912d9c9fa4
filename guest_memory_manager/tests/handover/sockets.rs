//! Sockets of every condition.

use crate::support::memory_of;
use crate::{AMPLE, SHORT, layout};
use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, SendBackingError};
use guest_memory_manager::{GuestMemoryManager, SharedMemoryBacking};
use memory_range::MemoryRange;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

fn manager(layout: &MemoryLayout) -> GuestMemoryManager {
    GuestMemoryBuilder::new().build_now(layout).unwrap()
}

/// A layout whose description has about 20 KiB.
fn scattered() -> MemoryLayout {
    let gap = |n: u64| MemoryRange::new(n * 0x2000 + 0x1000..n * 0x2000 + 0x2000);
    let gaps: Vec<_> = (0..2000).map(gap).collect();
    MemoryLayout::new(2000 * 0x1000, &gaps, None).unwrap()
}

/// What was written by guest physical address is there after the hand-over, and both see each
/// other's writes.
fn same_memory(old: &GuestMemoryManager, backing: SharedMemoryBacking) {
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    let new = builder.build_now(old.layout()).unwrap();
    let (old, new) = (memory_of(old), memory_of(&new));
    old.write_plain(0, &0x1122_u64).unwrap();
    assert_eq!(new.read_plain::<u64>(0).unwrap(), 0x1122);
    new.write_plain(8, &0x3344_u64).unwrap();
    assert_eq!(old.read_plain::<u64>(8).unwrap(), 0x3344);
}

#[test]
fn the_message_does_not_mix_with_others() {
    let manager = manager(&layout());
    let (mut here, mut there) = UnixStream::pair().unwrap();
    let mut words = [0; 5];
    for _ in 0..2 {
        here.write_all(b"first").unwrap();
        manager.shared_memory_backing().send(&here, AMPLE).unwrap();
        here.write_all(b"after").unwrap();
        there.read_exact(&mut words).unwrap();
        assert_eq!(&words, b"first");
        same_memory(
            &manager,
            SharedMemoryBacking::receive(&there, AMPLE).unwrap(),
        );
        there.read_exact(&mut words).unwrap();
        assert_eq!(&words, b"after");
    }
}

#[test]
fn a_path_a_nonblocking_socket_and_one_that_wants_credentials() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory");
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let here = UnixStream::connect(&path).unwrap();
    let (there, _) = listener.accept().unwrap();
    rustix::net::sockopt::set_socket_passcred(&there, true).unwrap();
    here.set_nonblocking(true).unwrap();
    there.set_nonblocking(true).unwrap();
    let manager = manager(&layout());
    let backing = manager.shared_memory_backing();
    // Likely before there is anything to receive.
    let receiver = thread::spawn(move || SharedMemoryBacking::receive(&there, AMPLE).unwrap());
    thread::sleep(SHORT);
    backing.send(&here, AMPLE).unwrap();
    same_memory(&manager, receiver.join().unwrap());
}

/// The message is larger than what the socket takes at once.
#[test]
fn a_message_in_many_pieces() {
    let manager = manager(&scattered());
    let (here, there) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&here, 0).unwrap();
    let backing = manager.shared_memory_backing();

    // Nobody reads: it stops in the middle.
    let error = backing.send(&here, SHORT).unwrap_err();
    let SendBackingError::TimedOut { sent, .. } = error else {
        panic!("{error:?}");
    };
    assert!(sent > 0);
    // Now it is full.
    let error = backing.send(&here, SHORT).unwrap_err();
    assert!(
        matches!(error, SendBackingError::TimedOut { sent: 0, .. }),
        "{error:?}"
    );

    let (here, there_too) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_send_buffer_size(&here, 0).unwrap();
    let sender = thread::spawn(move || backing.send(&here, AMPLE));
    let received = SharedMemoryBacking::receive(&there_too, AMPLE).unwrap();
    sender.join().unwrap().unwrap();
    same_memory(&manager, received);
    drop(there);
}

/// RAM that this process has laid around another gap is sent with its new places.
#[test]
fn places_are_those_of_the_manager_that_sends() {
    let gap = |start| MemoryRange::new(start..start + 0x1000);
    let before = MemoryLayout::new(0x8000, &[gap(0x2000)], None).unwrap();
    let after = MemoryLayout::new(0x8000, &[gap(0x4000)], None).unwrap();
    let first = manager(&before);
    let builder = GuestMemoryBuilder::new().existing_backing(Some(first.shared_memory_backing()));
    let second = builder.build_now(&after).unwrap();
    let (here, there) = UnixStream::pair().unwrap();
    second.shared_memory_backing().send(&here, AMPLE).unwrap();
    same_memory(
        &second,
        SharedMemoryBacking::receive(&there, AMPLE).unwrap(),
    );
}

#[test]
fn a_peer_that_is_gone() {
    let manager = manager(&layout());
    let (here, there) = UnixStream::pair().unwrap();
    drop(there);
    let error = manager.shared_memory_backing().send(&here, AMPLE);
    assert!(matches!(error, Err(SendBackingError::Io(_))), "{error:?}");
}

#[test]
fn a_description_that_is_too_long() {
    let gap = |n: u64| MemoryRange::new(n * 0x2000 + 0x1000..n * 0x2000 + 0x2000);
    let gaps: Vec<_> = (0..8000).map(gap).collect();
    let manager = manager(&MemoryLayout::new(8000 * 0x1000, &gaps, None).unwrap());
    let (here, there) = UnixStream::pair().unwrap();
    let error = manager.shared_memory_backing().send(&here, AMPLE);
    assert!(
        matches!(error, Err(SendBackingError::TooLong { most: 0x1_0000, .. })),
        "{error:?}"
    );
    // Nothing of it was sent.
    there.set_nonblocking(true).unwrap();
    let mut there = there;
    let error = there.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
}
