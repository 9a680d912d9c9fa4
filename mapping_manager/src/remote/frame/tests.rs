//! Frames over real sockets.

use super::*;
use proptest::prelude::*;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn frame(kind: u16, fds: usize, body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, kind, fds, body).unwrap();
    bytes
}

/// All frames that are there, with how many descriptors each has.
fn read_all(reader: &mut FrameReader, socket: &UnixStream) -> Vec<(u16, Vec<u8>, usize)> {
    let mut frames = Vec::new();
    loop {
        let outcome = reader.read(socket.as_fd()).unwrap();
        while let Some(frame) = reader.next_frame().unwrap() {
            frames.push((frame.kind, frame.body.to_vec(), frame.fds.len()));
        }
        if outcome == ReadOutcome::WouldBlock {
            return frames;
        }
    }
}

proptest! {
    /// However the bytes are cut on their way.
    #[test]
    fn frames_come_as_they_were_sent(
        bodies in prop::collection::vec((any::<u16>(), 0..6000_usize), 1..10),
        cuts in prop::collection::vec(1..4000_usize, 1..20),
    ) {
        let (here, mut there) = pair();
        let mut bytes = Vec::new();
        let mut sent = Vec::new();
        for (kind, len) in bodies {
            let body = "x".repeat(len);
            append(&mut bytes, kind, 0, &body).unwrap();
            sent.push((kind, postcard::to_allocvec(&body).unwrap(), 0));
        }
        let mut reader = FrameReader::new(FrameLimits::OF_SERVER);
        let mut received = Vec::new();
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (now, later) = rest.split_at((*cut).min(rest.len()));
            there.write_all(now).unwrap();
            received.extend(read_all(&mut reader, &here));
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(received, sent);
        prop_assert_eq!(reader.pending(), 0);
    }
}

#[test]
fn descriptors_come_with_their_frames() {
    let (here, there) = pair();
    let files: Vec<_> = (0..MOST_FDS)
        .map(|_| std::fs::File::open("/proc/self/exe").unwrap())
        .collect();
    let fds: Vec<_> = files.iter().map(AsFd::as_fd).collect();
    let send = |bytes: &[u8], fds: &[BorrowedFd<'_>]| {
        assert_eq!(
            descriptors::send_now(there.as_fd(), bytes, fds).unwrap(),
            bytes.len()
        );
    };
    // The longest frames, so that none is read at once, with the most descriptors; some without.
    let long = "x".repeat(5000);
    for kind in 0..4 {
        send(&frame(kind, MOST_FDS, &long), &fds);
        send(&frame(100 + kind, 0, "short"), &[]);
        send(&frame(200 + kind, 1, "one"), &fds[..1]);
    }
    let mut reader = FrameReader::new(FrameLimits::OF_SERVER);
    let frames = read_all(&mut reader, &here);
    let counts: Vec<_> = frames.iter().map(|(kind, _, fds)| (*kind, *fds)).collect();
    let expected: Vec<_> = (0..4)
        .flat_map(|kind| [(kind, MOST_FDS), (100 + kind, 0), (200 + kind, 1)])
        .collect();
    assert_eq!(counts, expected);
}

#[test]
fn descriptors_that_belong_to_no_frame() {
    let file = std::fs::File::open("/proc/self/exe").unwrap();
    let fail = |bytes: &[u8], count: usize, limits| {
        let (here, there) = pair();
        let fds = vec![file.as_fd(); count];
        descriptors::send_now(there.as_fd(), bytes, &fds).unwrap();
        let mut reader = FrameReader::new(limits);
        let error = match reader.read(here.as_fd()) {
            Err(error) => error,
            Ok(_) => reader.next_frame().map(drop).unwrap_err(),
        };
        error.to_string()
    };
    let text = |stated: usize, received: usize| {
        format!("a frame that states {stated} descriptors came with {received}, or more than fit")
    };
    let server = FrameLimits::OF_SERVER;
    assert_eq!(fail(&frame(1, 0, ""), 1, server), text(0, 1));
    assert_eq!(fail(&frame(1, 2, ""), 1, server), text(2, 1));
    // Missing, and the body is not there either: they come with the first byte.
    assert_eq!(fail(&frame(1, 2, "")[..HEADER_LEN], 0, server), text(2, 0));
    assert_eq!(
        fail(&frame(1, 0, ""), 3, FrameLimits::OF_CLIENT),
        text(0, 0)
    );
    // One with each byte of a frame that never ends.
    let (here, there) = pair();
    for byte in &frame(1, 0, &"x".repeat(200)) {
        descriptors::send_now(there.as_fd(), &[*byte], &[file.as_fd()]).unwrap();
    }
    let mut reader = FrameReader::new(server);
    let error = loop {
        if let Err(error) = reader.read(here.as_fd()) {
            break error;
        }
        if reader.pending() >= HEADER_LEN + 200 {
            break reader.next_frame().map(drop).unwrap_err();
        }
    };
    assert!(error.to_string().ends_with("or more than fit"), "{error}");
}

#[test]
fn a_body_that_is_too_long_is_not_sent() {
    let mut bytes = b"before".to_vec();
    let body = "x".repeat(MOST_BODY);
    let error = append(&mut bytes, 1, 0, &body).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a body of 65539 bytes, of which 65536 may be sent at once"
    );
    assert_eq!(bytes, b"before");
    append(&mut bytes, 1, 0, &body[3..]).unwrap();
}

#[test]
fn a_reader_holds_one_frame() {
    let (here, mut there) = pair();
    let writer = std::thread::spawn(move || {
        for _ in 0..20 {
            there
                .write_all(&frame(1, 0, &"x".repeat(MOST_BODY - 3)))
                .unwrap();
        }
    });
    let mut reader = FrameReader::new(FrameLimits::OF_SERVER);
    let mut frames = 0;
    while frames < 20 {
        reader.read(here.as_fd()).unwrap();
        assert!(reader.bytes.len() <= HEADER_LEN + MOST_BODY + 2 * READ_AHEAD);
        while reader.next_frame().unwrap().is_some() {
            frames += 1;
        }
    }
    writer.join().unwrap();
}
