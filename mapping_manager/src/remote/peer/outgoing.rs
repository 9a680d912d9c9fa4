//! What is on its way to a client.

use crate::descriptors;
use crate::remote::frame::EncodeError;
use crate::remote::message::ToClient;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use sparse_alloc::Mappable;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use thiserror::Error;

/// Up to about this many bytes are gathered to be sent by one call.
const CHUNK: usize = 64 * 1024;

/// Bytes that go out together, and the files that go with the first of them.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
    files: Vec<Mappable>,
    /// How many fetches are answered in it.
    fetched: usize,
}

/// A queue of frames.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    chunks: VecDeque<Chunk>,
    /// The bytes in it that were not sent.
    queued: usize,
    /// The answers to fetches in it.
    fetched: usize,
}

/// Why nothing more can be sent.
#[derive(Debug, Error)]
pub(super) enum FlushError {
    /// The peer is gone.
    #[error("the peer has closed")]
    Closed,
    /// A file cannot be opened for reading only.
    #[error("`{name}` cannot be opened for reading only")]
    Reopen {
        name: String,
        #[source]
        source: io::Error,
    },
    /// What the kernel says.
    #[error("the socket cannot be written")]
    Io(#[source] io::Error),
}

/// How far sending got.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Flushed {
    /// All is with the kernel.
    All,
    /// The socket is full; it says when it isn't.
    Full {
        /// Whether some bytes went.
        progress: bool,
    },
    /// The kernel has too many descriptors on their way, and won't say when it has fewer.
    TooManyInFlight,
}

impl Outgoing {
    /// In bytes.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// How many answers to fetches are not with the kernel yet.
    pub(super) fn fetched(&self) -> usize {
        self.fetched
    }

    pub(super) fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    /// Whether a chunk is sent in part, so that no other frame can be sent in its place.
    pub(super) fn is_within_chunk(&self) -> bool {
        self.chunks.front().is_some_and(|chunk| chunk.sent > 0)
    }

    /// Appends a message with its files: none but for [`ToClient::Files`].
    pub(super) fn push(
        &mut self,
        message: &ToClient,
        files: Vec<Mappable>,
    ) -> Result<(), EncodeError> {
        let has_files = !files.is_empty();
        let mut chunk = match self.chunks.pop_back() {
            Some(last) if !has_files && last.bytes.len() < CHUNK => last,
            last => {
                self.chunks.extend(last);
                Chunk::default()
            }
        };
        let before = chunk.bytes.len();
        let result = message.encode(&mut chunk.bytes);
        if result.is_ok() {
            let added = chunk.bytes.len().saturating_sub(before);
            self.queued = self.queued.saturating_add(added);
            if has_files {
                chunk.files = files;
            }
            if matches!(message, ToClient::Fetched { .. }) {
                chunk.fetched = chunk.fetched.saturating_add(1);
                self.fetched = self.fetched.saturating_add(1);
            }
        }
        if !chunk.bytes.is_empty() {
            self.chunks.push_back(chunk);
        }
        result
    }

    /// Gives up what is queued.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Sends what fits into the socket now.
    pub(super) fn flush(
        &mut self,
        socket: BorrowedFd<'_>,
        read_only: bool,
    ) -> Result<Flushed, FlushError> {
        let mut progress = false;
        while let Some(chunk) = self.chunks.front_mut() {
            let sent = match chunk.send(socket, read_only)? {
                Ok(sent) => sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Flushed::Full { progress });
                }
                Err(error) if is(&error, Errno::TOOMANYREFS) => {
                    return Ok(Flushed::TooManyInFlight);
                }
                Err(error) if is(&error, Errno::PIPE) || is(&error, Errno::CONNRESET) => {
                    return Err(FlushError::Closed);
                }
                Err(error) => return Err(FlushError::Io(error)),
            };
            if sent > 0 {
                progress = true;
                chunk.files.clear();
            }
            chunk.sent = chunk.sent.saturating_add(sent);
            self.queued = self.queued.saturating_sub(sent);
            if chunk.sent >= chunk.bytes.len() {
                self.fetched = self.fetched.saturating_sub(chunk.fetched);
                self.chunks.pop_front();
            }
        }
        Ok(Flushed::All)
    }
}

impl Chunk {
    fn send(
        &self,
        socket: BorrowedFd<'_>,
        read_only: bool,
    ) -> Result<io::Result<usize>, FlushError> {
        let rest = self.bytes.get(self.sent..).unwrap_or_default();
        if read_only {
            // Opened only now, so that a queue holds no descriptors.
            let fds = self.files.iter().map(for_reading_only);
            let fds: Vec<OwnedFd> = fds.collect::<Result<_, _>>()?;
            let fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            Ok(descriptors::send_now(socket, rest, &fds))
        } else {
            let fds: Vec<_> = self.files.iter().map(AsFd::as_fd).collect();
            Ok(descriptors::send_now(socket, rest, &fds))
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}

/// Opens the file anew, so that whoever gets the descriptor cannot map it for writing.
fn for_reading_only(file: &Mappable) -> Result<OwnedFd, FlushError> {
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| FlushError::Reopen {
        name: file.name().to_owned(),
        source: errno.into(),
    })
}
