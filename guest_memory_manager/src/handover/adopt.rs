//! From what came over the socket to memory that can back a guest.

use crate::backing::{SharedMemoryBacking, name_of};
use crate::handover::error::ReceiveBackingError;
use crate::handover::message::{Description, Memory};
use memory_range::PAGE_SIZE;
use rustix::fs::{fcntl_get_seals, fstat};
use sparse_alloc::SharedMemory;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Compares what is described with what came, and takes it over.
pub(super) fn adopt(
    description: &Description,
    fds: Vec<OwnedFd>,
) -> Result<SharedMemoryBacking, ReceiveBackingError> {
    if description.memories.len() != fds.len() {
        return Err(ReceiveBackingError::Count {
            described: description.memories.len(),
            stated: fds.len(),
        });
    }
    let places = description
        .checked_places()
        .ok_or(ReceiveBackingError::Places)?;
    // All are judged before the first is mapped.
    let mut files = Vec::new();
    for (index, (fd, stated)) in fds.iter().zip(&description.memories).enumerate() {
        let file = judge(index, fd.as_fd(), *stated)?;
        if let Some(first) = files.iter().position(|other| *other == file) {
            let second = index;
            return Err(ReceiveBackingError::Same { first, second });
        }
        files.push(file);
    }
    let memories = fds.into_iter().enumerate().map(|(index, fd)| {
        SharedMemory::from_fd(name_of(index), fd)
            .map_err(|source| ReceiveBackingError::Memory { index, source })
    });
    let memories: Vec<_> = memories.collect::<Result<_, _>>()?;
    Ok(SharedMemoryBacking::received(memories, places))
}

/// Checks a descriptor against its description, and returns what tells its file from others.
fn judge(
    index: usize,
    fd: BorrowedFd<'_>,
    stated: Memory,
) -> Result<(u64, u64), ReceiveBackingError> {
    // First, since only files in memory have seals: a file of any other file system might let
    // whoever asks it wait, as FUSE can.
    let no_memfd = |errno: rustix::io::Errno| ReceiveBackingError::NoMemfd {
        index,
        source: errno.into(),
    };
    let found = fcntl_get_seals(fd).map_err(no_memfd)?.bits();
    if stated.seals & !found != 0 {
        return Err(ReceiveBackingError::Seals {
            index,
            stated: stated.seals,
            found,
        });
    }
    let stat = fstat(fd).map_err(|errno| ReceiveBackingError::Io(errno.into()))?;
    let len = u64::try_from(stat.st_size).unwrap_or(0);
    if len != stated.len {
        return Err(ReceiveBackingError::Length {
            index,
            stated: stated.len,
            found: len,
        });
    }
    if len == 0 || !len.is_multiple_of(PAGE_SIZE) {
        return Err(ReceiveBackingError::Pages { index, len });
    }
    Ok((stat.st_dev, stat.st_ino))
}
