//! Between processes, each started by `exec`: all that they share is one socket.

use crate::support::{causes, memory_of};
use crate::{AMPLE, VTL2, layout};
use guest_memory_manager::{
    BuildError, ClaimError, GuestMemory, GuestMemoryBuilder, GuestMemoryManager, LeaseAccess,
    SharedMemoryBacking,
};
use memory_range::PAGE_SIZE;
use std::env;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Tells the child what it is to do.
const CHILD: &str = "HANDOVER_CHILD";

/// A second process, killed at the latest when this is dropped.
pub(crate) struct Process {
    child: Child,
    pub(crate) socket: UnixStream,
}

impl Process {
    /// Starts this program again, to run `test` with `task`; its standard input is the socket.
    pub(crate) fn start(test: &str, task: &str) -> Self {
        let (socket, theirs) = UnixStream::pair().unwrap();
        socket.set_read_timeout(Some(AMPLE)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, task)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self { child, socket }
    }

    /// Waits for a byte from the process.
    pub(crate) fn hear(&mut self) -> u8 {
        hear(&mut self.socket)
    }

    pub(crate) fn say(&mut self, byte: u8) {
        self.socket.write_all(&[byte]).unwrap();
    }

    /// It must end by itself, and well.
    pub(crate) fn end(mut self) {
        assert!(self.child.wait().unwrap().success());
    }

    /// `kill -9`.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn hear(socket: &mut UnixStream) -> u8 {
    let mut byte = [0];
    socket.read_exact(&mut byte).unwrap();
    byte[0]
}

/// In a child: its task and its socket.
pub(crate) fn child() -> Option<(String, UnixStream)> {
    let task = env::var(CHILD).ok()?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
    let socket = UnixStream::from(socket);
    socket.set_read_timeout(Some(AMPLE)).unwrap();
    Some((task, socket))
}

/// A page of RAM holds its address, turned over by whoever has had it.
fn word(gpa: u64, turn: u32) -> u64 {
    gpa.rotate_left(turn * 8) ^ u64::from(turn)
}

fn addresses() -> Vec<u64> {
    let layout = layout();
    let ranges = layout.ram().iter().copied().chain([VTL2]);
    let pages = ranges.flat_map(|range| (range.start()..range.end()).step_by(PAGE_SIZE as usize));
    pages.collect()
}

fn write(memory: &GuestMemory, turn: u32) {
    for gpa in addresses() {
        memory.write_plain(gpa, &word(gpa, turn)).unwrap();
    }
}

fn check(memory: &GuestMemory, turn: u32) {
    for gpa in addresses() {
        let found = memory.read_plain::<u64>(gpa).unwrap();
        assert_eq!(found, word(gpa, turn), "{gpa:#x}");
    }
}

fn rebuilt(socket: &UnixStream) -> GuestMemoryManager {
    let backing = SharedMemoryBacking::receive(socket, AMPLE).unwrap();
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    builder.claim_backing(true).build_now(&layout()).unwrap()
}

fn fresh() -> GuestMemoryManager {
    let builder = GuestMemoryBuilder::new().claim_backing(true);
    builder.build_now(&layout()).unwrap()
}

/// RAM and VTL2's, there and back, page by page, in a process that has nothing but the socket.
#[test]
fn another_process_has_the_same_memory() {
    if let Some((_, mut socket)) = child() {
        let manager = rebuilt(&socket);
        let memory = memory_of(&manager);
        check(&memory, 1);
        write(&memory, 2);
        socket.write_all(b"w").unwrap();
        assert_eq!(hear(&mut socket), b'r');
        check(&memory, 3);
        return;
    }
    let manager = fresh();
    let memory = memory_of(&manager);
    write(&memory, 1);
    let mut other = Process::start("processes::another_process_has_the_same_memory", "receive");
    drop(manager.take_claim().unwrap());
    manager
        .shared_memory_backing()
        .send(&other.socket, AMPLE)
        .unwrap();
    assert_eq!(other.hear(), b'w');
    check(&memory, 2);
    write(&memory, 3);
    other.say(b'r');
    other.end();
}

/// A chain of owners: each hands over and is gone, and the last has what the first wrote.
#[test]
fn memory_outlives_its_makers() {
    if let Some((task, socket)) = child() {
        let manager = match task.as_str() {
            "make" => fresh(),
            _ => rebuilt(&socket),
        };
        let memory = memory_of(&manager);
        match task.as_str() {
            "make" => write(&memory, 1),
            turn => {
                let turn = turn.parse().unwrap();
                check(&memory, turn);
                write(&memory, turn + 1);
            }
        }
        drop(manager.take_claim());
        return manager
            .shared_memory_backing()
            .send(&socket, AMPLE)
            .unwrap();
    }
    let test = "processes::memory_outlives_its_makers";
    let maker = Process::start(test, "make");
    let mut backing = SharedMemoryBacking::receive(&maker.socket, AMPLE).unwrap();
    maker.end();
    for turn in 1..4 {
        let owner = Process::start(test, &turn.to_string());
        backing.send(&owner.socket, AMPLE).unwrap();
        backing = SharedMemoryBacking::receive(&owner.socket, AMPLE).unwrap();
        owner.end();
    }
    let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
    let manager = builder.claim_backing(true).build_now(&layout()).unwrap();
    check(&memory_of(&manager), 4);
    // A lease is of memory that no process but this one has any more.
    let lease = memory_of(&manager).lock(0..8, LeaseAccess::Read).unwrap();
    let mut bytes = [0; 8];
    drop(manager);
    lease.read(0, &mut bytes).unwrap();
    assert_eq!(u64::from_le_bytes(bytes), word(0, 4));
}

/// The old manager dies by `kill -9` with its claim in its hands; the new one gets all of it.
#[test]
fn a_killed_manager_is_succeeded() {
    if let Some((_, mut socket)) = child() {
        let manager = fresh();
        let memory = memory_of(&manager);
        write(&memory, 7);
        manager
            .shared_memory_backing()
            .send(&socket, AMPLE)
            .unwrap();
        // Until it is killed.
        hear(&mut socket);
        panic!("the parent must not answer");
    }
    let old = Process::start("processes::a_killed_manager_is_succeeded", "live");
    let backing = SharedMemoryBacking::receive(&old.socket, AMPLE).unwrap();
    let builder = GuestMemoryBuilder::new()
        .existing_backing(Some(backing))
        .claim_backing(true);
    // The descriptors came from the claim's owner, and the claim did not come with them.
    let error = builder.clone().build_now(&layout()).map(drop).unwrap_err();
    assert!(
        matches!(error, BuildError::Claim(ClaimError::Claimed { index: 0 })),
        "{error:?}"
    );
    assert_eq!(causes(&error).count(), 2);
    old.kill();
    let manager = builder.build_now(&layout()).unwrap();
    check(&memory_of(&manager), 7);
}

/// Receivers that are killed at any moment, before the message, in the middle of it, or with the
/// memory mapped: the manager that sends to them neither fails nor keeps anything.
///
/// The manager has a process of its own, whose descriptors and mappings nobody else changes.
#[test]
fn killed_receivers_cost_nothing() {
    const TEST: &str = "processes::killed_receivers_cost_nothing";
    let Some((task, mut socket)) = child() else {
        let mut sender = Process::start(TEST, "send");
        assert_eq!(sender.hear(), b'e');
        return sender.end();
    };
    if task == "receive" {
        // Over and over, until the kill.
        while let Ok(backing) = SharedMemoryBacking::receive(&socket, AMPLE) {
            let builder = GuestMemoryBuilder::new().existing_backing(Some(backing));
            drop(builder.build_now(&layout()).unwrap());
        }
        return;
    }
    let manager = fresh();
    let memory = memory_of(&manager);
    let backing = manager.shared_memory_backing();
    write(&memory, 1);
    let held = || {
        let fds = std::fs::read_dir("/proc/self/fd").unwrap().count();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        (fds, maps.matches("/memfd:").count())
    };
    let before = held();
    let mut random = 1_u32;
    for _ in 0..200 {
        let receiver = Process::start(TEST, "receive");
        let socket = receiver.socket.try_clone().unwrap();
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let wait = Duration::from_micros(u64::from(random >> 16) % 20_000);
        let killer = std::thread::spawn(move || {
            std::thread::sleep(wait);
            receiver.kill();
        });
        // Until it is dead: each is in the socket, or is refused because nobody is there.
        while backing.send(&socket, AMPLE).is_ok() {}
        killer.join().unwrap();
    }
    assert_eq!(held(), before);
    check(&memory, 1);
    drop(backing.claim().unwrap_err());
    socket.write_all(b"e").unwrap();
}
