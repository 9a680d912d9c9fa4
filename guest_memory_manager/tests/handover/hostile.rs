//! Whatever a peer sends, the receiver gets an error that says what is wrong, and keeps nothing.

use crate::peer::{FIXED, Memory, Message, Place, memfd, offer, send};
use crate::play::play;
use crate::support::{cause, chain};
use crate::{AMPLE, SHORT};
use guest_memory_manager::SharedMemoryBacking;
use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, ReceiveBackingError as Error};
use proptest::prelude::*;
use rustix::fs::SealFlags;
use sparse_alloc::SharedMemoryError;
use std::env;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Asserts that this is refused with such an error, and returns its words.
macro_rules! refused {
    ($offered:expr, $pattern:pat) => {{
        let error = $offered.map(|_| ()).unwrap_err();
        assert!(matches!(error, $pattern), "{error:?}");
        chain(&error)
    }};
}

const PAGE: u64 = 0x1000;

/// A message that is right, and what goes with it.
fn good() -> (Message, Vec<OwnedFd>) {
    let fds = vec![memfd(4 * PAGE, FIXED), memfd(2 * PAGE, FIXED)];
    (Message::of(&[4 * PAGE, 2 * PAGE]), fds)
}

fn usable(backing: SharedMemoryBacking) {
    let vtl2 = memory_range::MemoryRange::new(4 * PAGE..6 * PAGE);
    let layout = MemoryLayout::new(4 * PAGE, &[], Some(vtl2)).unwrap();
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    drop(builder.build_now(&layout).unwrap());
}

/// The peer of these tests speaks the real thing, or they would prove nothing.
#[test]
fn the_right_message_is_taken() {
    let (message, fds) = good();
    usable(offer(&message.bytes(), &fds).unwrap());
}

#[test]
fn a_message_cut_off_anywhere() {
    let (message, fds) = good();
    let bytes = message.bytes();
    for len in 0..bytes.len() {
        let (part_is, at, whole) = match len {
            0..12 => ("header", len, 12),
            _ => ("description", len - 12, bytes.len() - 12),
        };
        let error = offer(&bytes[..len], &fds).unwrap_err();
        let Error::Ended {
            part,
            received,
            expected,
        } = error
        else {
            panic!("{len}: {error:?}");
        };
        assert_eq!((part, received, expected), (part_is, at, whole));
    }
}

#[test]
fn headers_that_lie() {
    let (message, fds) = good();
    let with = |change: &dyn Fn(&mut Message)| {
        let mut message = message.clone();
        change(&mut message);
        offer(&message.bytes(), &fds)
    };
    refused!(with(&|m| m.magic = *b"HTTP"), Error::Foreign { .. });
    let said = refused!(
        with(&|m| m.version = 2),
        Error::Version { found: 2, known: 1 }
    );
    assert_eq!(
        said,
        "the backing's message has version 2, and only version 1 is known here"
    );
    refused!(with(&|m| m.count = 0), Error::Memories { found: 0, .. });
    refused!(with(&|m| m.count = 17), Error::Memories { found: 17, .. });
    refused!(with(&|m| m.len = Some(u32::MAX)), Error::TooLong { .. });
    refused!(with(&|m| m.len = Some(0x1_0001)), Error::TooLong { .. });
    refused!(with(&|m| m.len = Some(0x1_0000)), Error::Ended { .. });
    // A length that is too small leaves the rest of the description to the next message.
    refused!(with(&|m| m.len = Some(3)), Error::Malformed(_));
    refused!(with(&|m| m.len = Some(0)), Error::Malformed(_));
    refused!(with(&|m| m.body.push(0)), Error::Trailing { len: 1 });
    // A vector that states 2^63 elements, of which none comes.
    let endless = [vec![0xff; 9], vec![0x7f]].concat();
    refused!(with(&|m| m.body = endless.clone()), Error::Malformed(_));
    refused!(
        with(&|m| m.body = Message::of(&[4 * PAGE]).body),
        Error::Count {
            described: 1,
            stated: 2
        }
    );
}

#[test]
fn too_few_and_too_many_descriptors() {
    let (message, fds) = good();
    let more = |count: usize| -> Vec<OwnedFd> {
        let copies = fds.iter().cycle().take(count);
        copies.map(|fd| fd.try_clone().unwrap()).collect()
    };
    for count in [0, 1, 3, 16, 17, 253] {
        let said = refused!(
            offer(&message.bytes(), &more(count)),
            Error::Descriptors { expected: 2, .. }
        );
        assert!(said.contains("which states 2"), "{said}");
    }
    // As many as can be, and more: those for which there is no room are not just left out.
    let most: Vec<OwnedFd> = (0..16).map(|_| memfd(PAGE, FIXED)).collect();
    let message_of_most = Message::of(&[PAGE; 16]).bytes();
    assert_eq!(offer(&message_of_most, &most).unwrap().memories().len(), 16);
    for (extra, credentials) in [(1, false), (4, false), (100, false), (1, true)] {
        let (here, there) = UnixStream::pair().unwrap();
        // Which take the room that a few more descriptors would have had.
        rustix::net::sockopt::set_socket_passcred(&there, credentials).unwrap();
        let more = more(extra);
        let borrowed: Vec<_> = most.iter().chain(&more).map(AsFd::as_fd).collect();
        send(&here, &message_of_most, &borrowed);
        refused!(
            SharedMemoryBacking::receive(&there, AMPLE),
            Error::Descriptors {
                expected: 16,
                received: 16
            }
        );
    }
    // With the description, and with each byte of the header.
    for first in [0, 2] {
        for at in [1, 11, 12, 13] {
            let (here, there) = UnixStream::pair().unwrap();
            let bytes = message.bytes();
            let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            send(&here, &bytes[..at], &borrowed[..first]);
            send(&here, &bytes[at..], &borrowed[..1]);
            let error = SharedMemoryBacking::receive(&there, AMPLE).unwrap_err();
            let expected = match (first, at) {
                (0, _) | (_, 1 | 11) => matches!(error, Error::Descriptors { .. }),
                _ => matches!(error, Error::MoreDescriptors),
            };
            assert!(expected, "{first} {at}: {error:?}");
        }
    }
    let (here, there) = UnixStream::pair().unwrap();
    let borrowed = [fds[0].as_fd()];
    for byte in message.bytes() {
        send(&here, &[byte], &borrowed);
    }
    refused!(
        SharedMemoryBacking::receive(&there, AMPLE),
        Error::Descriptors {
            expected: 2,
            received: 12
        }
    );
}

#[test]
fn memory_that_is_not_what_it_is_said_to_be() {
    let one = |len: u64, seals: SealFlags, fd: OwnedFd| {
        let memory: Memory = (len, seals.bits());
        let message = Message::new(&[memory], &[(0, len, 0, 0)]);
        offer(&message.bytes(), &[fd])
    };
    for found in [PAGE, 3 * PAGE, 0, 2 * PAGE + 1] {
        let said = refused!(
            one(2 * PAGE, FIXED, memfd(found, FIXED)),
            Error::Length { index: 0, .. }
        );
        let expected = format!("memory 0 has {found:#x} bytes, and 0x2000 were stated");
        assert_eq!(said, expected);
    }
    // Seals that are stated, and aren't there.
    let said = refused!(
        one(PAGE, FIXED, memfd(PAGE, SealFlags::GROW)),
        Error::Seals { index: 0, .. }
    );
    assert_eq!(
        said,
        "memory 0 lacks F_SEAL_SHRINK that it is said to have: it has 0x4, and 0x6 was stated"
    );
    let all = FIXED | SealFlags::SEAL;
    let said = refused!(one(PAGE, all, memfd(PAGE, FIXED)), Error::Seals { .. });
    assert!(said.contains("lacks F_SEAL_SEAL that"), "{said}");
    // Seals that aren't stated, and are needed.
    for seals in [SealFlags::empty(), SealFlags::GROW, SealFlags::SHRINK] {
        let error = one(PAGE, SealFlags::empty(), memfd(PAGE, seals)).unwrap_err();
        let unsealed = cause::<SharedMemoryError>(&error);
        assert!(
            matches!(unsealed, Some(SharedMemoryError::Unsealed { .. })),
            "{error:?}"
        );
    }
    // More seals than stated do no harm, unless nobody can write.
    one(PAGE, FIXED, memfd(PAGE, all)).unwrap();
    let unwritable = memfd(PAGE, FIXED | SealFlags::WRITE);
    let error = one(PAGE, FIXED, unwritable).unwrap_err();
    assert!(
        matches!(cause(&error), Some(SharedMemoryError::ReadOnly { .. })),
        "{error:?}"
    );
    // Lengths that no guest's memory can have, though they are stated truly.
    refused!(
        one(0, FIXED, memfd(0, FIXED)),
        Error::Places | Error::Pages { .. }
    );
    refused!(
        one(PAGE + 1, FIXED, memfd(PAGE + 1, FIXED)),
        Error::Places | Error::Pages { .. }
    );
    // More than any address space has: 2^62 bytes are stated truly, and are an error of the host's.
    refused!(
        one(1 << 62, FIXED, memfd(1 << 62, FIXED)),
        Error::Memory { index: 0, .. }
    );
}

#[test]
fn descriptors_of_something_else() {
    let (pipe, _writer) = std::io::pipe().unwrap();
    let (socket, _other) = UnixStream::pair().unwrap();
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    let open = |path| OwnedFd::from(File::open(path).unwrap());
    let (path, cloexec) = (rustix::fs::OFlags::PATH, rustix::fs::OFlags::CLOEXEC);
    let only_path = rustix::fs::open("/dev/null", path | cloexec, rustix::fs::Mode::empty());
    let others = [
        pipe.into(),
        socket.into(),
        file.into(),
        open("/dev/null"),
        open("/dev/zero"),
        open("/"),
        open("/proc/self/mem"),
        only_path.unwrap(),
    ];
    for fd in others {
        let what = format!("{fd:?}");
        let error = offer(&Message::of(&[PAGE]).bytes(), &[fd]).unwrap_err();
        assert!(
            matches!(error, Error::NoMemfd { index: 0, .. }),
            "{what}: {error:?}"
        );
    }
    // A memfd that only can be read.
    let memory = memfd(PAGE, FIXED);
    let number = std::os::fd::AsRawFd::as_raw_fd(&memory);
    let read_only = open(&format!("/proc/self/fd/{number}"));
    let error = offer(&Message::of(&[PAGE]).bytes(), &[read_only]).unwrap_err();
    let source = cause::<SharedMemoryError>(&error);
    assert!(
        matches!(source, Some(SharedMemoryError::ReadOnly { .. })),
        "{error:?}"
    );
}

/// VTL2's RAM must not be RAM that VTL0 can write.
#[test]
fn one_memory_twice() {
    let fd = memfd(PAGE, FIXED);
    let again = fd.try_clone().unwrap();
    refused!(
        offer(&Message::of(&[PAGE, PAGE]).bytes(), &[fd, again]),
        Error::Same {
            first: 0,
            second: 1
        }
    );
}

#[test]
fn places_that_are_none() {
    let lists: [&[Place]; 4] = [
        &[],
        &[(0, 2 * PAGE, 0, 0)],
        &[(u64::MAX - PAGE + 1, PAGE, 0, 0)],
        &[(0, PAGE, 0, PAGE)],
    ];
    for places in lists {
        let message = Message::new(&[(PAGE, FIXED.bits())], places);
        refused!(
            offer(&message.bytes(), &[memfd(PAGE, FIXED)]),
            Error::Places
        );
    }
}

#[test]
fn silence_and_trickles_end_at_the_deadline() {
    let (_silent, there) = UnixStream::pair().unwrap();
    refused!(
        SharedMemoryBacking::receive(&there, SHORT),
        Error::TimedOut { received: 0, .. }
    );
    refused!(
        SharedMemoryBacking::receive(&there, Duration::ZERO),
        Error::TimedOut { .. }
    );
    // Something always comes, and it never is enough.
    let (mut here, there) = UnixStream::pair().unwrap();
    let trickle = thread::spawn(move || {
        let mut message = Message::of(&[PAGE]);
        message.len = Some(0x1_0000);
        let fd = memfd(PAGE, FIXED);
        send(&here, &message.bytes(), &[fd.as_fd()]);
        while here.write_all(&[0]).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    refused!(
        SharedMemoryBacking::receive(&there, SHORT),
        Error::TimedOut {
            part: "description",
            ..
        }
    );
    drop(there);
    trickle.join().unwrap();
}

/// A peer that never stops is read for one message, and no more.
#[test]
fn a_flood_is_not_drunk() {
    let (mut here, there) = UnixStream::pair().unwrap();
    let (message, fds) = good();
    let flood = thread::spawn(move || {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        send(&here, &message.bytes(), &borrowed);
        // Until the receiver is gone.
        while here.write_all(&[0xaa; 4096]).is_ok() {}
    });
    usable(SharedMemoryBacking::receive(&there, AMPLE).unwrap());
    let said = refused!(
        SharedMemoryBacking::receive(&there, AMPLE),
        Error::Foreign { found: [0xaa, ..] }
    );
    assert!(said.contains("aa, aa"), "{said}");
    drop(there);
    flood.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Bytes of a real message with some of them changed, cut anywhere, with any descriptors.
    #[test]
    fn garbage_is_refused_or_taken_as_what_it_says(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in proptest::option::weighted(0.2, any::<prop::sample::Index>()),
        lens in proptest::collection::vec(0..6_u64, 0..4),
    ) {
        let (message, _) = good();
        let mut bytes = message.bytes();
        for (index, byte) in changes {
            *index.get_mut(&mut bytes) = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let fds: Vec<OwnedFd> = lens.iter().map(|len| memfd(len * PAGE, FIXED)).collect();
        if let Ok(backing) = offer(&bytes, &fds) {
            let found: Vec<u64> = backing.memories().iter().map(|m| m.len() / PAGE).collect();
            prop_assert_eq!(found, lens);
        }
    }
}

/// The corpus of the fuzz target.
#[test]
fn what_fuzzing_begins_with() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/handover");
    let mut played = 0;
    for file in std::fs::read_dir(corpus).unwrap() {
        play(&std::fs::read(file.unwrap().path()).unwrap());
        played += 1;
    }
    assert!(played >= 7, "{played}");
}

/// Tells the child what it is.
const CHILD: &str = "HANDOVER_COUNTS_DESCRIPTORS";

/// In a process of its own: the other tests open and close files at the same time.
#[test]
fn nothing_is_left_of_what_was_refused() {
    if env::var_os(CHILD).is_some() {
        return in_the_child();
    }
    let child = Command::new(env::current_exe().unwrap())
        .args([
            "--exact",
            "hostile::nothing_is_left_of_what_was_refused",
            "--nocapture",
        ])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success(), "{said}");
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(said.contains("1 passed"), "{said}");
}

/// How many descriptors there are, and how many mappings of memfds.
fn held() -> (usize, usize) {
    let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    (fds, maps.matches("/memfd:").count())
}

fn in_the_child() {
    the_right_message_is_taken();
    let before = held();
    for _ in 0..3 {
        the_right_message_is_taken();
        a_message_cut_off_anywhere();
        headers_that_lie();
        too_few_and_too_many_descriptors();
        memory_that_is_not_what_it_is_said_to_be();
        descriptors_of_something_else();
        one_memory_twice();
        places_that_are_none();
        silence_and_trickles_end_at_the_deadline();
    }
    assert_eq!(held(), before);

    // Without a descriptor to spare, the error says so, and the next attempt with some succeeds.
    let (message, fds) = good();
    let (here, there) = UnixStream::pair().unwrap();
    let (other, again) = UnixStream::pair().unwrap();
    let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
    send(&here, &message.bytes(), &borrowed);
    send(&other, &message.bytes(), &borrowed);
    let limit = lower_limit();
    let mut taken = Vec::new();
    while let Ok(fd) = here.as_fd().try_clone_to_owned() {
        taken.push(fd);
    }
    // Room for one of two.
    taken.pop();
    let said = refused!(
        SharedMemoryBacking::receive(&there, AMPLE),
        Error::Descriptors { expected: 2, .. }
    );
    assert!(said.contains("can open no more"), "{said} ({limit})");
    drop(taken);
    usable(SharedMemoryBacking::receive(&again, AMPLE).unwrap());
}

/// Lowers the limit of descriptors, so that it is reached soon.
fn lower_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a local of that type.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    assert_eq!(result, 0);
    limit.rlim_cur = limit.rlim_max.min(256);
    // SAFETY: as before.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert_eq!(result, 0);
    limit.rlim_cur
}
