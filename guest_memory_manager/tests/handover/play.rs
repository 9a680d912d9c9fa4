//! Any bytes, with any number of descriptors, are received or refused.

use guest_memory_manager::SharedMemoryBacking;
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

const PAGE: u64 = 0x1000;

/// Memory of one page, of two, and of one that is not sealed.
fn memfds() -> &'static [OwnedFd; 3] {
    static MEMFDS: OnceLock<[OwnedFd; 3]> = OnceLock::new();
    let make = |len, seals| {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = rustix::fs::memfd_create("peer", flags).unwrap();
        rustix::fs::ftruncate(&fd, len).unwrap();
        rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
        fd
    };
    let fixed = SealFlags::SHRINK | SealFlags::GROW;
    MEMFDS.get_or_init(|| {
        [
            make(PAGE, fixed),
            make(2 * PAGE, fixed),
            make(PAGE, SealFlags::GROW),
        ]
    })
}

/// The first byte chooses the descriptors, the rest is what the peer sends before it closes the
/// socket.
pub(crate) fn play(bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else {
        return;
    };
    if bytes.is_empty() {
        return;
    }
    let (here, there) = UnixStream::pair().unwrap();
    let count = usize::from(choice) % 5;
    let shift = usize::from(choice) / 5;
    let fds: Vec<BorrowedFd<'_>> = memfds()
        .iter()
        .cycle()
        .skip(shift % 3)
        .map(AsFd::as_fd)
        .take(count)
        .collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    // What the socket doesn't take at once is not sent: the message is cut off there.
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    let _ = sendmsg(&here, &[IoSlice::new(bytes)], &mut control, flags);
    drop(here);
    if let Ok(backing) = SharedMemoryBacking::receive(&there, Duration::from_secs(5)) {
        assert_eq!(backing.memories().len(), count);
        let lens: u64 = backing.memories().iter().map(|memory| memory.len()).sum();
        assert!((PAGE..=4 * PAGE).contains(&lens));
    }
}
