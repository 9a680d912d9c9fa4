//! What the other processes do.

use crate::hand::{self, AMPLE, Mapped};
use crate::second_process;
use guest_memory_manager::{ClientThread, RemoteClientOptions, RemoteGuestMemory};
use std::hint::black_box;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// To meet by hand. First of all, and once.
pub(crate) const MEET: u8 = b'm';
/// To connect; the value: whether it is lazy. The answer: nanoseconds.
pub(crate) const CONNECT: u8 = b'c';
/// To leave.
pub(crate) const LEAVE: u8 = b'l';
/// To read the byte at an address. The answer: nanoseconds.
pub(crate) const TOUCH: u8 = b't';
/// To fetch a descriptor by hand, and map as many bytes of it as the value says. The answer:
/// nanoseconds.
pub(crate) const HAND_OVER: u8 = b'h';
/// To ask for a byte by hand, map as many bytes as the value says, and read the first. The answer:
/// nanoseconds.
pub(crate) const TOUCH_BY_HAND: u8 = b'T';

/// Where one meets by hand.
pub(crate) fn by_hand(path: &Path) -> PathBuf {
    path.with_extension("hand")
}

/// Nanoseconds, and what was made in them.
fn timed<T>(doing: impl FnOnce() -> T) -> (u64, T) {
    let start = Instant::now();
    let made = black_box(doing());
    (u64::try_from(start.elapsed().as_nanos()).unwrap(), made)
}

pub(crate) fn run(mut talk: UnixStream, path: &Path) {
    let mut client: Option<(ClientThread, RemoteGuestMemory)> = None;
    let mut asking = None;
    let mut file = None;
    second_process::answer(&mut talk, |command, value| match command {
        MEET => {
            let answering = UnixStream::connect(by_hand(path)).unwrap();
            std::thread::spawn(move || hand::answer(answering, None));
            let socket = UnixStream::connect(by_hand(path)).unwrap();
            asking = Some(socket);
            1
        }
        CONNECT => {
            let options = RemoteClientOptions::new("child").deadline(AMPLE);
            let options = options.lazy(value == 1);
            let (time, remote) = timed(|| RemoteGuestMemory::connect_to(path, options).unwrap());
            client = Some((remote.spawn().unwrap(), remote));
            time
        }
        LEAVE => {
            client = None;
            1
        }
        TOUCH => {
            let (_, remote) = client.as_ref().unwrap();
            let memory = remote.guest_memory();
            timed(|| memory.read_plain::<u8>(value).unwrap()).0
        }
        HAND_OVER => {
            let len = usize::try_from(value).unwrap();
            let socket = asking.as_ref().unwrap();
            let (time, made) = timed(|| {
                let file = hand::fetch(socket);
                let mapped = Mapped::new(&file, len);
                (file, mapped)
            });
            file = Some(made.0);
            time
        }
        TOUCH_BY_HAND => {
            let len = usize::try_from(value).unwrap();
            let sockets = asking.as_mut_slice();
            let file = file.as_ref().unwrap();
            let (time, _) = timed(|| {
                hand::ping(sockets);
                let mapped = Mapped::new(file, len);
                (mapped.first_byte(), mapped)
            });
            time
        }
        _ => panic!("{command}"),
    });
}
