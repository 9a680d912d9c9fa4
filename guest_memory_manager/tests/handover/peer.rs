//! A peer that sends what it likes.

use crate::AMPLE;
use guest_memory_manager::{ReceiveBackingError, SharedMemoryBacking};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The seals that are asked for.
pub(crate) const FIXED: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);

/// A message as version 1 has it, every part of which can be changed.
#[derive(Clone)]
pub(crate) struct Message {
    pub(crate) magic: [u8; 4],
    pub(crate) version: u16,
    pub(crate) count: u16,
    /// `None`: what the body has.
    pub(crate) len: Option<u32>,
    pub(crate) body: Vec<u8>,
}

/// One memory: its length, and its seals.
pub(crate) type Memory = (u64, u32);
/// One place: address, length, memory, offset.
pub(crate) type Place = (u64, u64, u32, u64);

impl Message {
    pub(crate) fn new(memories: &[Memory], places: &[Place]) -> Self {
        Self {
            magic: *b"GMBK",
            version: 1,
            count: memories.len().try_into().unwrap(),
            len: None,
            body: postcard::to_allocvec(&(memories, places)).unwrap(),
        }
    }

    /// Memories of these lengths, shown one after the other.
    pub(crate) fn of(lens: &[u64]) -> Self {
        let memories: Vec<Memory> = lens.iter().map(|len| (*len, FIXED.bits())).collect();
        let mut at = 0;
        let mut places = Vec::new();
        for (memory, len) in (0..).zip(lens) {
            places.push((at, *len, memory, 0));
            at += len;
        }
        Self::new(&memories, &places)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let len = self.len.unwrap_or(self.body.len().try_into().unwrap());
        let mut bytes = self.magic.to_vec();
        bytes.extend(self.version.to_le_bytes());
        bytes.extend(self.count.to_le_bytes());
        bytes.extend(len.to_le_bytes());
        bytes.extend(&self.body);
        bytes
    }
}

/// A memfd of this length with these seals.
pub(crate) fn memfd(len: u64, seals: SealFlags) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create("peer", flags).unwrap();
    rustix::fs::ftruncate(&fd, len).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// Sends bytes, and descriptors with the first of them.
pub(crate) fn send(socket: &UnixStream, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
    }
    let sent = sendmsg(
        socket,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    );
    assert_eq!(sent.unwrap(), bytes.len());
}

/// What is made of these bytes and descriptors, after which the peer closes.
pub(crate) fn offer(
    bytes: &[u8],
    fds: &[OwnedFd],
) -> Result<SharedMemoryBacking, ReceiveBackingError> {
    let (here, there) = UnixStream::pair().unwrap();
    let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    if !bytes.is_empty() {
        send(&here, bytes, &fds);
    }
    drop(here);
    SharedMemoryBacking::receive(&there, AMPLE)
}
