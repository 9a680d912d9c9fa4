//! What is done by hand: bytes and a descriptor over sockets, and `mmap`.

use mapping_manager::descriptors::{self, Deadline, Incoming};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// More than any machine needs.
pub(crate) const AMPLE: Duration = Duration::from_secs(60);

/// Asks for a byte.
pub(crate) const PING: u8 = b'p';
/// Asks for a byte and a descriptor.
pub(crate) const FETCH: u8 = b'f';

/// Answers until nobody asks any more.
pub(crate) fn answer(mut socket: UnixStream, file: Option<BorrowedFd<'_>>) {
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() {
        match (byte[0], file) {
            (FETCH, Some(file)) => {
                let deadline = Deadline::after(AMPLE);
                descriptors::send(socket.as_fd(), &byte, &[file], &deadline).unwrap();
            }
            _ => socket.write_all(&byte).unwrap(),
        }
    }
}

/// A byte to each, and a byte back from each.
pub(crate) fn ping(sockets: &mut [UnixStream]) {
    for socket in &mut *sockets {
        socket.write_all(&[PING]).unwrap();
    }
    for socket in sockets {
        socket.read_exact(&mut [0]).unwrap();
    }
}

/// Asks for a descriptor.
pub(crate) fn fetch(mut socket: &UnixStream) -> OwnedFd {
    socket.write_all(&[FETCH]).unwrap();
    let deadline = Deadline::after(AMPLE);
    let mut incoming = Incoming::new(socket.as_fd(), &deadline, 1);
    incoming.fill(&mut [0]).unwrap();
    incoming.into_fds().pop().unwrap()
}

/// Memory that was mapped by hand.
pub(crate) struct Mapped {
    at: *mut libc::c_void,
    len: usize,
}

impl Mapped {
    /// Maps the first bytes of a file, at an address of the kernel's choice.
    pub(crate) fn new(file: &OwnedFd, len: usize) -> Self {
        // SAFETY: at an address of the kernel's choice, so nothing is mapped over.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_NORESERVE,
                file.as_raw_fd(),
                0,
            )
        };
        assert_ne!(at, libc::MAP_FAILED);
        Self { at, len }
    }

    pub(crate) fn first_byte(&self) -> u8 {
        // SAFETY: it is mapped for as long as this lives, and the file is that long.
        unsafe { self.at.cast::<u8>().read_volatile() }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: what this has mapped, and nobody has a pointer to it.
        let result = unsafe { libc::munmap(self.at, self.len) };
        assert_eq!(result, 0);
    }
}
