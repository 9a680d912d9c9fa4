//! Bytes and descriptors over a stream socket.
//!
//! [`send_now`] and [`receive_now`] are one call each, which never waits. [`send`] and [`Incoming`]
//! go on until a [`Deadline`], waiting with `poll` between non-blocking calls. So neither the socket's
//! mode nor its timeouts matter, they are not changed, and a peer that sends byte by byte gets no
//! more time.
//!
//! Descriptors that are received are close-on-exec from the start, and belong to somebody at once:
//! none is lost, whatever goes wrong.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use thiserror::Error;

/// The most descriptors that are sent or received by one call.
pub const MOST_DESCRIPTORS: usize = 64;

/// Why not all bytes passed.
#[derive(Debug, Error)]
pub enum TransferError {
    /// The peer has closed the socket.
    #[error("the peer closed the socket after {done} bytes")]
    Ended {
        /// The bytes that passed.
        done: usize,
    },
    /// The deadline has passed.
    #[error("the deadline passed after {done} bytes")]
    TimedOut {
        /// The bytes that passed.
        done: usize,
    },
    /// The kernel said something else.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

/// When to give up.
#[derive(Copy, Clone, Debug)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// Makes a deadline that is `time` from now. A time that no clock reaches is never.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now().checked_add(time))
    }

    /// Waits until the socket is ready. `false`: the deadline has passed first.
    fn wait(&self, socket: BorrowedFd<'_>, ready: PollFlags) -> io::Result<bool> {
        loop {
            let left = self
                .0
                .map(|at| at.saturating_duration_since(Instant::now()));
            // More seconds than the kernel can count are as good as never.
            let left = left.map(|left| Timespec::try_from(left).ok());
            match poll(&mut [PollFd::new(&socket, ready)], left.flatten().as_ref()) {
                Ok(0) => return Ok(false),
                // Also when the peer has closed: the next call will tell.
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// Sends what fits into the socket now, the descriptors with the first byte, and returns how many
/// bytes that were. The descriptors have gone if it is more than none.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing fits; `ETOOMANYREFS` for more than
/// [`MOST_DESCRIPTORS`], and when the kernel holds too many on their way; otherwise what the kernel
/// says. A peer that is gone is an error and no signal.
pub fn send_now(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOMANYREFS.into());
    }
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match sendmsg(socket, &[IoSlice::new(bytes)], &mut control, flags) {
            Err(Errno::INTR) => {}
            result => return result.map_err(io::Error::from),
        }
    }
}

/// Sends all bytes, the descriptors with the first of them.
///
/// # Errors
///
/// The deadline passes, or the kernel refuses. A part may have been sent.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: &Deadline,
) -> Result<(), TransferError> {
    let mut done = 0;
    while done < bytes.len() {
        let rest = bytes.get(done..).unwrap_or_default();
        let fds = if done == 0 { fds } else { &[] };
        match send_now(socket, rest, fds) {
            Ok(count) => done = done.saturating_add(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match deadline.wait(socket, PollFlags::OUT) {
                    Ok(true) => {}
                    Ok(false) => return Err(TransferError::TimedOut { done }),
                    Err(source) => return Err(TransferError::Io(source)),
                }
            }
            Err(source) => return Err(TransferError::Io(source)),
        }
    }
    Ok(())
}

/// What one call brought.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// How many; 0 where the peer has closed, or no room was given.
    pub bytes: usize,
    /// Whether descriptors were closed for which there was no room.
    pub truncated: bool,
}

/// Receives what is there now, at most as many bytes as `bytes` holds, and appends the descriptors
/// that come with them: at most `room`, and [`MOST_DESCRIPTORS`]. Others are closed.
///
/// # Errors
///
/// [`WouldBlock`](io::ErrorKind::WouldBlock) when nothing is there; otherwise what the kernel says.
pub fn receive_now(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
    room: usize,
    fds: &mut Vec<OwnedFd>,
) -> io::Result<Received> {
    // With room for the credentials that come where the socket's owner has asked for them.
    let mut space = [MaybeUninit::uninit();
        rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS), ScmCredentials(1))];
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    loop {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(bytes)];
        let received = match recvmsg(socket, &mut into, &mut control, flags) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        let mut truncated = received.flags.contains(ReturnFlags::CTRUNC);
        let mut room = room;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(mut incoming) = message {
                let before = fds.len();
                fds.extend(incoming.by_ref().take(room));
                room = room.saturating_sub(fds.len().saturating_sub(before));
                // What is left is closed here: a peer may send some with each byte.
                truncated |= incoming.count() > 0;
            }
        }
        return Ok(Received {
            bytes: received.bytes,
            truncated,
        });
    }
}

/// Receives bytes, and keeps the descriptors that come with them.
#[derive(Debug)]
pub struct Incoming<'a> {
    socket: BorrowedFd<'a>,
    deadline: &'a Deadline,
    most: usize,
    fds: Vec<OwnedFd>,
    truncated: bool,
}

impl<'a> Incoming<'a> {
    /// Receives from `socket` until `deadline`, at most `most` descriptors in all.
    pub fn new(socket: BorrowedFd<'a>, deadline: &'a Deadline, most: usize) -> Self {
        Self {
            socket,
            deadline,
            most,
            fds: Vec::new(),
            truncated: false,
        }
    }

    /// Tells how many descriptors have come, of those for which there was room.
    pub fn count(&self) -> usize {
        self.fds.len()
    }

    /// Says whether descriptors came for which there was no room. They are closed.
    pub fn is_truncated(&self) -> bool {
        self.truncated
    }

    /// Returns the descriptors, in the order in which they came.
    pub fn into_fds(self) -> Vec<OwnedFd> {
        self.fds
    }

    /// Fills `bytes`, and takes none of what comes after them.
    ///
    /// # Errors
    ///
    /// The peer closes, the deadline passes, or the kernel refuses. A part may have been taken.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Result<(), TransferError> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            let room = self.most.saturating_sub(self.fds.len());
            match receive_now(self.socket, rest, room, &mut self.fds) {
                Ok(Received { bytes: 0, .. }) => return Err(TransferError::Ended { done }),
                Ok(Received { bytes, truncated }) => {
                    done = done.saturating_add(bytes);
                    self.truncated |= truncated;
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => {
                        match self.deadline.wait(self.socket, PollFlags::IN) {
                            Ok(true) => {}
                            Ok(false) => return Err(TransferError::TimedOut { done }),
                            Err(source) => return Err(TransferError::Io(source)),
                        }
                    }
                    // A peer that dies with unread bytes resets the connection.
                    io::ErrorKind::ConnectionReset => return Err(TransferError::Ended { done }),
                    _ => return Err(TransferError::Io(error)),
                },
            }
        }
        Ok(())
    }
}
