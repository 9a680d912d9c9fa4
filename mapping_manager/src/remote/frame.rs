//! Frames on a stream: a header of sixteen bytes, then a body.
//!
//! The header, little-endian: a magic number (4 bytes), the version (2), the kind of the message (2),
//! the length of the body (4), how many descriptors belong to the frame (2), and zero (2). The
//! descriptors come with the first byte of their frame.

use crate::descriptors::{self, Received};
use serde::Serialize;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use thiserror::Error;

/// What every frame begins with.
pub(crate) const MAGIC: [u8; 4] = *b"GMRM";
/// Changes whenever a message does.
pub(crate) const VERSION: u16 = 1;
/// In bytes.
pub(crate) const HEADER_LEN: usize = 16;
/// The longest body in bytes.
pub(crate) const MOST_BODY: usize = 64 * 1024;
/// The most descriptors of one frame; the kernel passes up to 253.
pub(crate) const MOST_FDS: usize = 64;

/// How much is read at once, in bytes, beyond what the current frame still needs.
const READ_AHEAD: usize = 4096;

/// Why something cannot be sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub(crate) enum EncodeError {
    /// A list that should have been split.
    #[error("a list of {count} items, of which {most} may be sent at once")]
    TooMany { count: usize, most: usize },
    /// It doesn't fit into a frame.
    #[error("a body of {len} bytes, of which {MOST_BODY} may be sent at once")]
    TooLong { len: usize },
    /// The serialisation failed.
    #[error("a message cannot be written")]
    Write(#[source] postcard::Error),
}

/// What is wrong with a stream.
#[derive(Debug, Error)]
pub(crate) enum FrameError {
    /// The peer has closed it; in the middle of a frame if `within` is not 0.
    #[error("closed by the peer, {within} bytes into a frame")]
    Ended { within: usize },
    /// Somebody else speaks there.
    #[error("a frame begins with {found:02x?}")]
    Foreign { found: [u8; 4] },
    /// Another version.
    #[error("version {found} of the protocol, only {VERSION} is known")]
    Version { found: u16 },
    /// A header says more than is allowed.
    #[error("a frame of {len} bytes with {fds} descriptors and {reserved:#x} in its last field")]
    Header { len: u32, fds: u16, reserved: u16 },
    /// Descriptors came that belong to no frame, or fewer than a frame needs.
    #[error("a frame that states {stated} descriptors came with {received}, or more than fit")]
    Descriptors { stated: usize, received: usize },
    /// What the kernel says.
    #[error("the socket cannot be read")]
    Io(#[source] io::Error),
}

/// Appends a frame.
///
/// # Errors
///
/// The body is too long; nothing is appended then.
pub(crate) fn append<T: Serialize + ?Sized>(
    to: &mut Vec<u8>,
    kind: u16,
    fds: usize,
    body: &T,
) -> Result<(), EncodeError> {
    let start = to.len();
    let result = append_at(to, kind, fds, body);
    if result.is_err() {
        to.truncate(start);
    }
    result
}

fn append_at<T: Serialize + ?Sized>(
    to: &mut Vec<u8>,
    kind: u16,
    fds: usize,
    body: &T,
) -> Result<(), EncodeError> {
    let start = to.len();
    let fds = u16::try_from(fds).map_err(|_| EncodeError::TooMany {
        count: fds,
        most: MOST_FDS,
    })?;
    to.extend(MAGIC);
    to.extend(VERSION.to_le_bytes());
    to.extend(kind.to_le_bytes());
    let len_at = to.len();
    to.extend([0; 4]);
    to.extend(fds.to_le_bytes());
    to.extend([0; 2]);
    postcard::to_extend(body, Appended(to)).map_err(EncodeError::Write)?;
    let len = to.len().saturating_sub(start).saturating_sub(HEADER_LEN);
    let stated = match u32::try_from(len) {
        Ok(stated) if len <= MOST_BODY => stated,
        _ => return Err(EncodeError::TooLong { len }),
    };
    if let Some(place) = to.get_mut(len_at..).and_then(<[u8]>::first_chunk_mut) {
        *place = stated.to_le_bytes();
    }
    Ok(())
}

/// Lets the serialiser append to what the caller goes on using.
struct Appended<'a>(&'a mut Vec<u8>);

impl Extend<u8> for Appended<'_> {
    fn extend<I: IntoIterator<Item = u8>>(&mut self, bytes: I) {
        self.0.extend(bytes);
    }
}

/// What the first bytes of a frame say.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Header {
    kind: u16,
    body_len: usize,
    fds: usize,
}

/// What is accepted of a peer.
#[derive(Copy, Clone, Debug)]
pub(crate) struct FrameLimits {
    /// The longest body in bytes, at most [`MOST_BODY`].
    pub(crate) body: usize,
    /// The most descriptors with one frame, at most [`MOST_FDS`].
    pub(crate) fds: usize,
}

impl FrameLimits {
    /// For what a manager sends.
    pub(crate) const OF_SERVER: Self = Self {
        body: MOST_BODY,
        fds: MOST_FDS,
    };
    /// For what a client sends: short messages without descriptors.
    pub(crate) const OF_CLIENT: Self = Self { body: 1024, fds: 0 };
}

impl Header {
    fn decode(bytes: [u8; HEADER_LEN], limits: FrameLimits) -> Result<Self, FrameError> {
        let [m0, m1, m2, m3, v0, v1, k0, k1, rest @ ..] = bytes;
        let [l0, l1, l2, l3, f0, f1, r0, r1] = rest;
        let found = [m0, m1, m2, m3];
        if found != MAGIC {
            return Err(FrameError::Foreign { found });
        }
        let version = u16::from_le_bytes([v0, v1]);
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        let len = u32::from_le_bytes([l0, l1, l2, l3]);
        let fds = u16::from_le_bytes([f0, f1]);
        let reserved = u16::from_le_bytes([r0, r1]);
        let header = Self {
            kind: u16::from_le_bytes([k0, k1]),
            body_len: usize::try_from(len).unwrap_or(usize::MAX),
            fds: usize::from(fds),
        };
        if header.body_len > limits.body || header.fds > limits.fds || reserved != 0 {
            return Err(FrameError::Header { len, fds, reserved });
        }
        Ok(header)
    }
}

/// A whole frame.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    /// Of the message.
    pub(crate) kind: u16,
    pub(crate) body: &'a [u8],
    /// As many as the header states.
    pub(crate) fds: Vec<OwnedFd>,
}

/// What one look at a socket brought.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadOutcome {
    /// Some bytes: see [`FrameReader::next_frame`].
    Some,
    /// Nothing is there now.
    WouldBlock,
}

/// Takes frames off a stream, as they come, without ever waiting.
///
/// It holds at most one frame of the longest kind and a little more, and at most twice
/// [`FrameLimits::fds`] descriptors.
#[derive(Debug)]
pub(crate) struct FrameReader {
    limits: FrameLimits,
    bytes: Vec<u8>,
    /// Where the frame that comes next begins in them.
    start: usize,
    /// Where they end: what lies behind is room.
    end: usize,
    fds: VecDeque<OwnedFd>,
    /// The kernel closed descriptors for which there was no room.
    truncated: bool,
}

impl FrameReader {
    pub(crate) fn new(limits: FrameLimits) -> Self {
        Self {
            limits,
            bytes: Vec::new(),
            start: 0,
            end: 0,
            fds: VecDeque::new(),
            truncated: false,
        }
    }

    /// Tells how many bytes of an unfinished frame are there. Asked when
    /// [`next_frame`](Self::next_frame) has returned `None`.
    pub(crate) fn pending(&self) -> usize {
        self.end.saturating_sub(self.start)
    }

    /// Reads once from the socket, without waiting.
    ///
    /// # Errors
    ///
    /// The peer has closed, the kernel refuses, or there came more descriptors than a frame may have.
    pub(crate) fn read(&mut self, socket: BorrowedFd<'_>) -> Result<ReadOutcome, FrameError> {
        self.make_room();
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let mut fds = Vec::new();
        match descriptors::receive_now(socket, room, self.limits.fds, &mut fds) {
            Ok(Received { bytes: 0, .. }) => Err(FrameError::Ended {
                within: self.pending(),
            }),
            Ok(Received { bytes, truncated }) => {
                self.end = self.end.saturating_add(bytes);
                self.fds.extend(fds);
                self.truncated |= truncated;
                // Of a frame that is there by now, and of the one that follows.
                let most = self.limits.fds.saturating_mul(2);
                if self.truncated || self.fds.len() > most {
                    return Err(FrameError::Descriptors {
                        stated: self.limits.fds,
                        received: self.fds.len(),
                    });
                }
                Ok(ReadOutcome::Some)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(ReadOutcome::WouldBlock),
                // A peer that dies with unread bytes resets the connection.
                io::ErrorKind::ConnectionReset => Err(FrameError::Ended {
                    within: self.pending(),
                }),
                _ => Err(FrameError::Io(error)),
            },
        }
    }

    /// Takes the next frame, if all of it is there.
    ///
    /// # Errors
    ///
    /// What is there is no frame, or one that exceeds the limits. The stream is of no use any more.
    pub(crate) fn next_frame(&mut self) -> Result<Option<Frame<'_>>, FrameError> {
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((header, rest)) = unread.split_first_chunk() else {
            return Ok(None);
        };
        let header = Header::decode(*header, self.limits)?;
        if self.fds.len() < header.fds {
            // They come with the first byte.
            return Err(FrameError::Descriptors {
                stated: header.fds,
                received: self.fds.len(),
            });
        }
        if rest.len() < header.body_len {
            return Ok(None);
        }
        if rest.len() == header.body_len && self.fds.len() != header.fds {
            return Err(FrameError::Descriptors {
                stated: header.fds,
                received: self.fds.len(),
            });
        }
        let body = self.start.saturating_add(HEADER_LEN);
        let end = body.saturating_add(header.body_len);
        self.start = end;
        Ok(Some(Frame {
            kind: header.kind,
            body: self.bytes.get(body..end).unwrap_or_default(),
            fds: self.fds.drain(..header.fds).collect(),
        }))
    }

    /// Moves what is unread to the front, and makes room for the rest of the frame.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end = self.end.saturating_sub(self.start);
            self.start = 0;
        }
        let first = self.bytes.get(..self.end).and_then(<[u8]>::first_chunk);
        let frame = match first.map(|header| Header::decode(*header, self.limits)) {
            Some(Ok(header)) => HEADER_LEN.saturating_add(header.body_len),
            _ => HEADER_LEN,
        };
        let len = frame.max(self.end).saturating_add(READ_AHEAD);
        if self.bytes.len() < len {
            self.bytes.resize(len, 0);
        }
    }
}

#[cfg(test)]
mod tests;
