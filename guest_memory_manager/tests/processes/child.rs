//! What second processes do.

use crate::fixture::{AMPLE, in_vtl0, page, page_addresses};
use crate::model::Digest;
use crate::nonsense;
use crate::random::Random;
use crate::second_process::answer;
use guest_memory_manager::{
    ClientThread, GuestMemory, Lease, LeaseAccess, RemoteClientOptions, RemoteGuestMemory,
    SoftwarePartition,
};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

// What a follower can be asked. The value is an address unless something else is said.

/// To connect; the value: whether it is lazy.
pub(crate) const CONNECT: u8 = b'c';
/// To wait until the manager is gone, and connect to the next one at the same path. The answer: 1 where
/// anything was mapped, unmapped or protected for that.
pub(crate) const RECONNECT: u8 = b'R';
/// To wait until the manager is gone.
pub(crate) const WAIT_UNTIL_LOST: u8 = b'L';
/// To look at every page.
pub(crate) const DIGEST: u8 = b'd';
/// To look at one page.
pub(crate) const PAGE: u8 = b'p';
/// To read what is there.
pub(crate) const READ: u8 = b'r';
/// To write [`own_word`]; the answer: 1 where it could.
pub(crate) const WRITE: u8 = b'w';
/// To take a write lease.
pub(crate) const LEASE: u8 = b'l';
/// To write this value through the lease.
pub(crate) const WRITE_LEASE: u8 = b'k';
/// To access this page without end on another thread.
pub(crate) const HAMMER: u8 = b'h';
/// To stop that; the answer: how many accesses failed.
pub(crate) const STOP_HAMMER: u8 = b'H';
/// To connect and say nonsense; the value is a seed.
pub(crate) const NONSENSE: u8 = b'n';

/// What the other process writes, and the manager's never.
pub(crate) fn own_word(gpa: u64) -> u64 {
    gpa.wrapping_mul(0x1_0001) ^ 0xc0de
}

/// What a process sees of all pages.
pub(crate) fn digest(memory: &GuestMemory) -> u64 {
    let mut digest = Digest::default();
    for gpa in page_addresses() {
        digest.add(page(memory, gpa).filter(|_| in_vtl0(gpa)));
    }
    digest.value()
}

/// In a child: follows a manager, and does what it is asked.
pub(crate) fn follow(mut talk: UnixStream, path: &Path) {
    let mut follower = None;
    answer(&mut talk, |command, value| match command {
        CONNECT => {
            follower = Some(Follower::connect(path, value == 1));
            1
        }
        NONSENSE => {
            nonsense::say(path, Random::with(value));
            1
        }
        _ => follower.as_mut().unwrap().answer(path, command, value),
    });
}

/// In a child: connects at once, and waits for its end.
pub(crate) fn follow_blindly(mut talk: UnixStream, path: &Path) {
    let kind = std::process::id() % 3;
    let follower = Follower::connect(path, kind == 0);
    if kind == 1 {
        let guest = Arc::new(SoftwarePartition::new());
        // Too late where it is killed meanwhile, and nobody asks then.
        let _ = follower.remote.offer_partition("vm", guest);
    }
    answer(&mut talk, |_, _| 1);
}

struct Follower {
    remote: RemoteGuestMemory,
    _driver: ClientThread,
    lease: Option<Lease>,
    hammer: Option<Hammer>,
}

impl Follower {
    fn connect(path: &Path, lazy: bool) -> Self {
        let options = RemoteClientOptions::new("child").deadline(AMPLE).lazy(lazy);
        let remote = RemoteGuestMemory::connect_to(path, options).unwrap();
        Self {
            _driver: remote.spawn().unwrap(),
            remote,
            lease: None,
            hammer: None,
        }
    }

    fn wait_until_lost(&self) {
        let waited = self.remote.client().wait_for(u64::MAX, AMPLE);
        assert!(waited.is_err());
        let state = self.remote.client().state();
        assert!(
            !matches!(state, guest_memory_manager::ClientState::Connected),
            "{state:?}"
        );
    }

    fn answer(&mut self, path: &Path, command: u8, value: u64) -> u64 {
        let memory = self.remote.guest_memory();
        match command {
            RECONNECT => {
                self.wait_until_lost();
                let reservation = self.remote.client().mapper().reservation();
                let before = reservation.calls();
                self.remote.reconnect_to(path).unwrap();
                u64::from(reservation.calls() != before)
            }
            WAIT_UNTIL_LOST => {
                self.wait_until_lost();
                1
            }
            DIGEST => digest(&memory),
            PAGE => {
                let mut digest = Digest::default();
                digest.add(page(&memory, value));
                digest.value()
            }
            READ => memory.read_plain(value).unwrap(),
            WRITE => u64::from(memory.write_plain(value, &own_word(value)).is_ok()),
            LEASE => {
                let lease = memory.lock(value..value + 8, LeaseAccess::Write);
                self.lease = Some(lease.unwrap());
                1
            }
            WRITE_LEASE => {
                let lease = self.lease.as_ref().unwrap();
                lease.write(0, &value.to_le_bytes()).unwrap();
                1
            }
            HAMMER => {
                self.hammer = Some(Hammer::start(memory, value));
                1
            }
            STOP_HAMMER => self.hammer.take().unwrap().stop(),
            _ => panic!("{command}"),
        }
    }
}

/// Accesses that must not fail, whatever happens to the connection.
struct Hammer {
    over: Arc<AtomicBool>,
    failures: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Hammer {
    fn start(memory: GuestMemory, gpa: u64) -> Self {
        let (over, failures) = <(Arc<AtomicBool>, Arc<AtomicU64>)>::default();
        let (end, count) = (over.clone(), failures.clone());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let word = memory.read_plain::<u64>(gpa);
                if word
                    .and_then(|word| memory.write_plain(gpa, &word))
                    .is_err()
                {
                    count.fetch_add(1, Ordering::Relaxed);
                }
                // The machine is small.
                std::thread::yield_now();
            }
        });
        Self {
            over,
            failures,
            thread,
        }
    }

    fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().unwrap();
        self.failures.load(Ordering::Relaxed)
    }
}
