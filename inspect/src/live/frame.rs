//! Messages in a stream: a length, and as many bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// Why no message could be read.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The peer has closed the stream between two messages.
    Ended,
    /// The message is longer than allowed.
    TooLong(u64),
    /// The stream failed, ended in the middle of a message, or was too slow.
    Io(io::Error),
}

/// Reads a message of at most `longest` bytes. It must begin within `idle` and then be complete
/// within `whole`.
pub(super) fn read(
    stream: &mut UnixStream,
    longest: usize,
    idle: Duration,
    whole: Duration,
) -> Result<Vec<u8>, FrameError> {
    let mut first = [0];
    match read_until(stream, &mut first, deadline(idle)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(FrameError::Ended),
        Err(error) => return Err(FrameError::Io(error)),
    }
    let until = deadline(whole);
    let mut rest = [0; 3];
    read_until(stream, &mut rest, until).map_err(FrameError::Io)?;
    let ([a], [b, c, d]) = (first, rest);
    let length = u32::from_le_bytes([a, b, c, d]);
    let length = match usize::try_from(length) {
        Ok(length) if length <= longest => length,
        _ => return Err(FrameError::TooLong(u64::from(length))),
    };
    // Grows as bytes arrive: a length alone takes no memory.
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let start = bytes.len();
        bytes.resize(length.min(start.saturating_add(64 * 1024)), 0);
        let part = bytes.get_mut(start..).unwrap_or_default();
        read_until(stream, part, until).map_err(FrameError::Io)?;
    }
    Ok(bytes)
}

/// Writes a message, which must be taken within `whole`.
pub(super) fn write(stream: &mut UnixStream, bytes: &[u8], whole: Duration) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| ErrorKind::InvalidInput)?;
    let until = deadline(whole);
    write_until(stream, &length.to_le_bytes(), until)?;
    write_until(stream, bytes, until)
}

/// `None` is never.
fn deadline(time: Duration) -> Option<Instant> {
    Instant::now().checked_add(time)
}

/// The time that is left, which is never zero: a timeout of zero is refused by the socket.
fn left(until: Option<Instant>) -> io::Result<Option<Duration>> {
    let Some(until) = until else {
        return Ok(None);
    };
    match until.checked_duration_since(Instant::now()) {
        Some(left) if !left.is_zero() => Ok(Some(left)),
        _ => Err(ErrorKind::TimedOut.into()),
    }
}

fn read_until(
    stream: &mut UnixStream,
    mut bytes: &mut [u8],
    until: Option<Instant>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        // A peer that sends byte by byte gets no more time than others.
        stream.set_read_timeout(left(until)?)?;
        match stream.read(bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = bytes.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_until(
    stream: &mut UnixStream,
    mut bytes: &[u8],
    until: Option<Instant>,
) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.set_write_timeout(left(until)?)?;
        match stream.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Err(ErrorKind::TimedOut.into());
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
