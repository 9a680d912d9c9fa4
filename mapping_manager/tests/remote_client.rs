//! Clients of real managers: eager and lazy ones side by side, and one in a process of its own.

#![cfg(feature = "remote")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests stop at the first surprise"
)]

use mapping_manager::remote::{
    ClientOptions, ClientState, ManagerLost, Peer, PeerOptions, RemoteClient, RemoteEvent,
    RemoteService, ServiceThread, WaitError,
};
use mapping_manager::{Cause, LeaseAccess};
use memory_range::{Access, MemoryRange};
use proptest::prelude::*;
use sparse_alloc::{Backing, HostRange, SharedMemory};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

const SPACE: u64 = 0x100_0000;
const PAGES: u64 = 16;
const LONG: Duration = Duration::from_secs(60);

fn pages(start: u64, end: u64) -> MemoryRange {
    MemoryRange::from_page_numbers(start..end).unwrap()
}

/// A memory each page of which begins with its tag and number.
fn painted(tag: u64) -> Backing {
    let memory = SharedMemory::new("painted", PAGES << 12).unwrap();
    let whole = HostRange::new(memory.linear_view().clone(), 0, memory.len()).unwrap();
    for page in 0..PAGES {
        let word = (tag << 32) | page;
        whole.write(page << 12, &word.to_ne_bytes()).unwrap();
    }
    Backing::from(memory.mappable().clone())
}

struct Manager {
    service: Arc<RemoteService>,
    events: Receiver<RemoteEvent>,
    _thread: ServiceThread,
}

impl Manager {
    fn new() -> Self {
        let (sender, events) = channel();
        let service = RemoteService::new(move |event| drop(sender.send(event))).unwrap();
        Self {
            _thread: service.spawn().unwrap(),
            service,
            events,
        }
    }

    /// A peer that is ready for its first view, and the socket of its client must be connected by
    /// another thread or process.
    fn add(&self, socket: impl Into<OwnedFd>) -> Arc<Peer> {
        let options = PeerOptions::new("manager");
        self.service.add(socket, options, SPACE).unwrap()
    }

    fn ready(&self) {
        match self.events.recv_timeout(LONG).unwrap() {
            RemoteEvent::Ready { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn connect(&self, lazy: bool, view: impl FnOnce(&Peer)) -> (Arc<Peer>, RemoteClient) {
        let (here, there) = UnixStream::pair().unwrap();
        let peer = self.add(here);
        let options = ClientOptions::new("client").lazy(lazy);
        let connecting = thread::spawn(move || RemoteClient::connect(there, options));
        self.ready();
        view(&peer);
        peer.seal();
        (peer, connecting.join().unwrap().unwrap())
    }
}

/// Seals, and waits until the client has made the change.
fn seal(peer: &Peer) {
    if let Some(sequence) = peer.seal() {
        assert!(peer.wait(sequence, Some(Instant::now() + LONG)));
    }
}

#[derive(Clone, Debug)]
enum Change {
    Show(MemoryRange, usize, u64, Access),
    Hide(MemoryRange),
    /// The client reads there; only lazy ones care.
    Touch(u64),
}

fn change() -> impl Strategy<Value = Change> {
    let places = (0..PAGES, 1..6_u64, 0..PAGES - 6, 0..2_usize);
    (places, 0..4_u32, any::<bool>()).prop_map(|((start, len, offset, file), what, writable)| {
        let range = pages(start, (start + len).min(PAGES));
        match what {
            0 => Change::Hide(range),
            1 => Change::Touch(start << 12),
            _ => Change::Show(range, file, offset << 12, Access::from_writable(writable)),
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// The lazy client touches some pages in the middle, and all at the end.
    #[test]
    fn eager_and_lazy_clients_show_the_same(
        changes in proptest::collection::vec(proptest::collection::vec(change(), 0..6), 1..10),
    ) {
        let files = [painted(1), painted(2)];
        let manager = Manager::new();
        let clients = [false, true].map(|lazy| manager.connect(lazy, |_| ()));
        let mut painted: Vec<Option<(u64, Access)>> = vec![None; PAGES as usize];
        let threads: Vec<_> = clients.iter().map(|(_, client)| client.spawn().unwrap()).collect();
        for changes in changes {
            let mut touched = Vec::new();
            for change in changes {
                match change {
                    Change::Show(range, file, offset, access) => {
                        for (peer, _) in &clients {
                            peer.show(range, &files[file], offset, access);
                        }
                        for (page, of) in range.page_numbers().zip(offset >> 12..) {
                            let word = ((file as u64 + 1) << 32) | of;
                            painted[page as usize] = Some((word, access));
                        }
                    }
                    Change::Hide(range) => {
                        clients.iter().for_each(|(peer, _)| peer.hide(range));
                        for page in range.page_numbers() {
                            painted[page as usize] = None;
                        }
                    }
                    // Answered when the change is complete.
                    Change::Touch(gpa) => touched.push(gpa),
                }
            }
            clients.iter().for_each(|(peer, _)| seal(peer));
            for gpa in touched {
                let found = clients[1].1.guest_memory().read_plain::<u64>(gpa).ok();
                let expected = painted[(gpa >> 12) as usize];
                prop_assert_eq!(found, expected.map(|(word, _)| word));
            }
            let memory = clients[0].1.guest_memory();
            for (page, expected) in (0..).zip(&painted) {
                let found = memory.read_plain::<u64>(page << 12).ok();
                prop_assert_eq!(found, expected.map(|(word, _)| word));
            }
        }
        for (_, client) in &clients {
            let memory = client.guest_memory();
            for (page, expected) in (0_u64..).zip(&painted) {
                let gpa = page << 12;
                let found = memory.read_plain::<u64>(gpa).ok();
                prop_assert_eq!(found, expected.map(|(word, _)| word));
                let Some((word, access)) = expected else { continue };
                prop_assert_eq!(memory.write_plain(gpa, word).is_ok(), access.is_writable());
            }
        }
        drop(threads);
    }
}

/// The lazy client holds what it touched, and no more.
#[test]
fn a_lazy_client_has_what_it_touched() {
    let (one, two) = (painted(1), painted(2));
    let manager = Manager::new();
    let (peer, client) = manager.connect(true, |peer| {
        peer.show(pages(0, 8), &one, 0, Access::ReadWrite);
        peer.show(pages(10, 12), &two, 0, Access::ReadOnly);
    });
    assert_eq!(client.mapper().mappings(), []);
    let memory = client.guest_memory();
    assert_eq!(memory.read_plain::<u64>(0x3000).unwrap(), (1 << 32) | 3);
    let mapped = client.mapper().mappings();
    assert!(
        mapped.iter().all(|(range, _)| range.end() <= 0x8000),
        "{mapped:?}"
    );
    let lease = memory.lock(0xa000..0xb008, LeaseAccess::Read).unwrap();
    let cause = memory.read_plain::<u64>(0x9000).unwrap_err().cause();
    assert_eq!(cause, Cause::Hole { gpa: 0x9000 });
    // What comes where it looked before is fetched when it looks again.
    peer.show(pages(9, 10), &two, 0x5000, Access::ReadWrite);
    peer.seal();
    assert_eq!(memory.read_plain::<u64>(0x9000).unwrap(), (2 << 32) | 5);
    // What goes, goes.
    let following = client.spawn().unwrap();
    peer.hide(pages(3, 4));
    seal(&peer);
    assert!(memory.read_plain::<u64>(0x3000).is_err());
    drop((following, lease));
    peer.evict("enough");
    let error = client.wait_for(u64::MAX, LONG).unwrap_err();
    assert!(
        matches!(&error, WaitError::Lost(ManagerLost::Goodbye { reason }) if reason.contains("enough")),
        "{error:?}"
    );
    assert_eq!(memory.read_plain::<u64>(0x4000).unwrap(), (1 << 32) | 4);
}

/// Threads touch all pages at once, while the manager changes what they show.
#[test]
fn touching_and_changing_at_once() {
    let (one, two) = (painted(1), painted(2));
    let manager = Manager::new();
    let (peer, client) = manager.connect(true, |peer| {
        peer.show(pages(0, PAGES), &one, 0, Access::ReadWrite);
    });
    let _following = client.spawn().unwrap();
    thread::scope(|scope| {
        for first in 0..6 {
            let memory = client.guest_memory();
            scope.spawn(move || {
                for page in (0..PAGES).cycle().skip(first).take(400) {
                    let word: u64 = memory.read_plain(page << 12).unwrap();
                    assert!(
                        [1, 2].contains(&(word >> 32)) && word & 0xffff == page,
                        "{word:#x}"
                    );
                }
            });
        }
        for turn in 0..200 {
            let backing = if turn % 2 == 0 { &two } else { &one };
            let start = turn % 8;
            peer.show(
                pages(start, start + 8),
                backing,
                start << 12,
                Access::ReadWrite,
            );
            seal(&peer);
        }
    });
}

/// The socket is the standard input of a process that runs this very test, as the variable says.
const CHILD: &str = "MAPPING_MANAGER_TEST_CLIENT";

/// What the other process does: adds one to a word, for ever, wherever page 0 says.
fn child() {
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let client = RemoteClient::connect(socket, ClientOptions::new("child")).unwrap();
    let memory = client.guest_memory();
    let mut changes = 0;
    loop {
        changes = match client.wait_for_change(changes, LONG) {
            Ok(changes) => changes,
            // Its memory is there still; its manager is to see that in its own.
            Err(WaitError::Lost(_)) => {
                assert!(matches!(client.state(), ClientState::Lost(_)));
                memory.write_plain(8, &u64::MAX).unwrap();
                return;
            }
            Err(error) => panic!("{error}"),
        };
        let found: u64 = memory.read_plain(0x1000).unwrap_or(0);
        memory.write_plain(8, &found).unwrap();
        memory.write_plain(16, &changes).unwrap();
    }
}

#[test]
fn a_client_in_another_process() {
    if std::env::var_os(CHILD).is_some() {
        return child();
    }
    let (here, there) = UnixStream::pair().unwrap();
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_client_in_another_process", "--nocapture"])
        .env(CHILD, "1")
        .stdin(Stdio::from(OwnedFd::from(there)))
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let (one, two) = (painted(1), painted(2));
    let Backing::Mappable(file) = &one else {
        panic!("a file");
    };
    let view = HostRange::new(file.linear_view().unwrap().clone(), 0, 0x1000).unwrap();
    let word = |offset| {
        let mut bytes = [0; 8];
        view.read(offset, &mut bytes).unwrap();
        u64::from_ne_bytes(bytes)
    };
    let until = |offset, expected| {
        let deadline = Instant::now() + LONG;
        while word(offset) != expected {
            assert!(Instant::now() < deadline, "{:#x}", word(offset));
            thread::yield_now();
        }
    };
    let manager = Manager::new();
    let peer = manager.add(here);
    manager.ready();
    peer.show(pages(0, 1), &one, 0, Access::ReadWrite);
    seal(&peer);
    for turn in 2..200_u64 {
        match turn % 5 {
            4 => peer.hide(pages(1, 2)),
            _ => peer.show(pages(1, 2), &two, (turn % 16) << 12, Access::ReadOnly),
        }
        seal(&peer);
        until(16, turn);
        let expected = if turn % 5 == 4 {
            0
        } else {
            (2 << 32) | (turn % 16)
        };
        assert_eq!(word(8), expected);
    }
    drop((peer, manager));
    until(8, u64::MAX);
    assert!(process.wait().unwrap().success());
}
