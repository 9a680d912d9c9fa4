//! Bytes and descriptors over a stream socket, until a deadline.
//!
//! Each call is non-blocking, and `poll` waits between them. So neither the socket's mode nor its
//! timeouts matter, they are not changed, and a peer that sends byte by byte gets no more time.

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

use crate::handover::message::MOST_MEMORIES;

/// Why not all bytes passed.
#[derive(Debug)]
pub(super) enum Failure {
    /// The peer has closed the socket.
    Ended { done: usize },
    /// The deadline has passed.
    TimedOut { done: usize },
    /// The kernel said something else.
    Io(io::Error),
}

/// When to give up.
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    /// A time that no clock reaches is never.
    pub(super) fn after(time: Duration) -> Self {
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

/// Sends all bytes, the descriptors with the first of them.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    fds: &[BorrowedFd<'_>],
    deadline: &Deadline,
) -> Result<(), Failure> {
    let mut done = 0;
    while done < bytes.len() {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_MEMORIES))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if done == 0 && !control.push(SendAncillaryMessage::ScmRights(fds)) {
            return Err(Failure::Io(Errno::TOOMANYREFS.into()));
        }
        let rest = IoSlice::new(bytes.get(done..).unwrap_or_default());
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match sendmsg(socket, &[rest], &mut control, flags) {
            Ok(count) => done = done.saturating_add(count),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match deadline.wait(socket, PollFlags::OUT) {
                Ok(true) => {}
                Ok(false) => return Err(Failure::TimedOut { done }),
                Err(source) => return Err(Failure::Io(source)),
            },
            Err(errno) => return Err(Failure::Io(errno.into())),
        }
    }
    Ok(())
}

/// Receives bytes, and keeps the descriptors that come with them.
pub(super) struct Incoming<'a> {
    socket: BorrowedFd<'a>,
    deadline: &'a Deadline,
    /// In the order in which they came. At most so many as one message may bring, for each call.
    pub(super) fds: Vec<OwnedFd>,
    /// Whether the kernel closed descriptors for which there was no room.
    pub(super) truncated: bool,
}

impl<'a> Incoming<'a> {
    pub(super) fn new(socket: BorrowedFd<'a>, deadline: &'a Deadline) -> Self {
        Self {
            socket,
            deadline,
            fds: Vec::new(),
            truncated: false,
        }
    }

    /// Fills `bytes`, and takes none of what comes after them.
    pub(super) fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Failure> {
        let mut done = 0;
        while done < bytes.len() {
            let rest = bytes.get_mut(done..).unwrap_or_default();
            match self.receive(rest) {
                Ok(0) => return Err(Failure::Ended { done }),
                Ok(count) => done = done.saturating_add(count),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => match self.deadline.wait(self.socket, PollFlags::IN) {
                    Ok(true) => {}
                    Ok(false) => return Err(Failure::TimedOut { done }),
                    Err(source) => return Err(Failure::Io(source)),
                },
                // A peer that dies with unread bytes resets the connection.
                Err(Errno::CONNRESET) => return Err(Failure::Ended { done }),
                Err(errno) => return Err(Failure::Io(errno.into())),
            }
        }
        Ok(())
    }

    fn receive(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        // With room for the credentials that come where the socket's owner has asked for them.
        let mut space = [MaybeUninit::uninit();
            rustix::cmsg_space!(ScmRights(MOST_MEMORIES), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut into = [IoSliceMut::new(bytes)];
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(self.socket, &mut into, &mut control, flags)?;
        self.truncated |= received.flags.contains(ReturnFlags::CTRUNC);
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(fds) = message {
                let room = MOST_MEMORIES.saturating_sub(self.fds.len());
                let mut fds = fds;
                self.fds.extend(fds.by_ref().take(room));
                // What is left is closed here: a peer may send some with each byte.
                self.truncated |= fds.count() > 0;
            }
        }
        Ok(received.bytes)
    }
}
