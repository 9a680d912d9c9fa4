//! What somebody may say to a manager who is no client of it.

use crate::fixture::AMPLE;
use crate::random::Random;
use guest_memory_manager::{RemoteClientOptions, RemoteGuestMemory};
use mapping_manager::descriptors;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// How many kinds of nonsense there are.
const KINDS: u64 = 10;

/// How a client greets.
fn greeting() -> Vec<u8> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let options = RemoteClientOptions::new("nonsense").deadline(Duration::from_millis(1));
    // Nobody answers.
    RemoteGuestMemory::connect(theirs, options).unwrap_err();
    let mut bytes = Vec::new();
    ours.read_to_end(&mut bytes).unwrap();
    assert!(bytes.len() > 16);
    bytes
}

/// Connects, says something, and waits until the manager hangs up, or hangs up itself.
pub(crate) fn say(path: &Path, mut random: Random) {
    let greeting = greeting();
    let noise = |random: &mut Random| -> Vec<u8> {
        let len = 16 + random.below(4096);
        (0..len).map(|_| random.next() as u8).collect()
    };
    let mut bytes = greeting.clone();
    let mut fds = 0;
    let mut waits = true;
    let kind = random.below(KINDS);
    match kind {
        // Not even a frame.
        0 => bytes = noise(&mut random),
        // A greeting and not a frame.
        1 => bytes.extend(noise(&mut random)),
        // A frame with its body that is nothing, or nothing for a manager, or not yet.
        2 => {
            let other = random.one::<u16>(&[0, 1, 9, 102, 104, 107, 200, u16::MAX]);
            bytes[6..8].copy_from_slice(&other.to_le_bytes());
        }
        // A frame that is too long.
        3 => bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes()),
        // A body that is none.
        4 => bytes[16..].fill(0xff),
        // Twice.
        5 => bytes.extend(greeting),
        // Descriptors that nobody has asked for, announced or not.
        6 => fds = 1 + random.below(60) as usize,
        7 => {
            fds = 3;
            bytes[12] = 3;
        }
        // A part of a frame, and the end.
        8 => {
            bytes.truncate(1 + random.below(bytes.len() as u64 - 1) as usize);
            waits = false;
        }
        // Greets, and goes without having read anything.
        _ => waits = false,
    }
    let mut socket = UnixStream::connect(path).unwrap();
    socket.set_read_timeout(Some(AMPLE)).unwrap();
    let file = File::open("/dev/null").unwrap();
    let fds: Vec<BorrowedFd<'_>> = (0..fds).map(|_| file.as_fd()).collect();
    let deadline = descriptors::Deadline::after(AMPLE);
    // It may have hung up before all of it was said.
    let _ = descriptors::send(socket.as_fd(), &bytes, &fds, &deadline);
    if waits {
        let mut said = Vec::new();
        // An end of either kind; a time-out is none.
        if let Err(error) = socket.read_to_end(&mut said) {
            let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(reset, "{error} after {kind}");
        }
    }
}
