//! Processes that are stopped for a while.

use crate::census::alone;
use crate::child::{
    CONNECT, DIGEST, READ, RECONNECT, WAIT_UNTIL_LOST, WRITE, digest, follow, own_word,
};
use crate::fixture::{AMPLE, C_SEGMENT, F_SEGMENT, Fixture, build, number_pages};
use crate::second_process::{Process, child};
use guest_memory_manager::{
    Eviction, RamVisibility, RemoteGrant, RemoteOptions, RemoteProcess, RemoteSocket,
};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Several processes that follow.
struct Followers {
    fixture: Fixture,
    all: Vec<(Process, RemoteProcess)>,
    _socket: RemoteSocket,
    _folder: tempfile::TempDir,
    path: PathBuf,
}

impl Followers {
    fn start(test: &str, count: usize, deadline: Duration) -> Self {
        let fixture = Fixture::with(build(), RemoteOptions::new().deadline(deadline));
        number_pages(&fixture.view());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guest");
        let socket = fixture.server.listen(&path, RemoteGrant::new()).unwrap();
        let all = (0..count).map(|_| {
            let mut other = Process::start(test, &path);
            other.ask(CONNECT, 0);
            let process = fixture.server.processes().pop().unwrap();
            process.wait_ready(AMPLE).unwrap();
            (other, process)
        });
        Self {
            all: all.collect(),
            fixture,
            _socket: socket,
            _folder: folder,
            path,
        }
    }

    /// Makes a change; does not wait for anybody.
    fn change(&self, number: u64) -> guest_memory_manager::Acknowledgement {
        let segment = [C_SEGMENT, F_SEGMENT][number as usize / 3 % 2];
        let visibility = [
            RamVisibility::ReadOnly,
            RamVisibility::Unmapped,
            RamVisibility::ReadWrite,
        ][number as usize % 3];
        let control = self.fixture.memory.ram_visibility_control();
        control.set_ram_visibility_now(segment, visibility).unwrap()
    }

    /// Asserts that one has followed, and sees what the manager sees.
    fn has_followed(&mut self, index: usize) {
        let (other, process) = &mut self.all[index];
        let until = Instant::now() + AMPLE;
        process.acknowledgement().wait_until(until).unwrap();
        assert!(process.gone().is_none(), "{process:?}");
        assert_eq!(other.ask(DIGEST, 0), digest(&self.fixture.view()));
    }
}

fn signal(process: &Process, signal: libc::c_int) {
    // SAFETY: a call that takes numbers only; nobody has waited for the process's end.
    assert_eq!(unsafe { libc::kill(process.id(), signal) }, 0);
}

/// Stops a process; when this returns no thread of it runs.
fn stop(process: &Process) {
    signal(process, libc::SIGSTOP);
    let mut status = 0;
    // SAFETY: the pointer is to a local of that type.
    let waited = unsafe { libc::waitpid(process.id(), &raw mut status, libc::WUNTRACED) };
    assert!(
        waited == process.id() && libc::WIFSTOPPED(status),
        "{status:#x}"
    );
}

/// The others follow every change while one is stopped; when that one goes on, it has missed nothing.
#[test]
fn who_is_stopped_keeps_nobody_waiting() {
    const TEST: &str = "stopped::who_is_stopped_keeps_nobody_waiting";
    if let Some((talk, path)) = child() {
        return follow(talk, &path);
    }
    let _alone = alone();
    let mut followers = Followers::start(TEST, 3, AMPLE);
    stop(&followers.all[1].0);
    let mut first = None;
    for number in 0..50 {
        let followed = followers.change(number);
        first.get_or_insert(followed);
        followers.has_followed(0);
        followers.has_followed(2);
    }
    // Fifty changes are less than it may have waiting.
    let stopped = followers.all[1].1.clone();
    assert!(stopped.gone().is_none());
    assert_eq!(stopped.last_sealed() - stopped.acknowledged(), 50);
    let first = first.unwrap();
    assert!(!first.is_complete());
    signal(&followers.all[1].0, libc::SIGCONT);
    first.wait_until(Instant::now() + AMPLE).unwrap();
    followers.has_followed(1);
    followers.change(50).wait();
    for (index, (other, _)) in followers.all.iter_mut().enumerate() {
        let seen = other.ask(DIGEST, 0);
        assert_eq!(seen, digest(&followers.fixture.view()), "{index}");
    }
}

/// At its deadline one that is stopped is evicted, and only that one. It keeps what it had, and may come
/// again.
#[test]
fn who_is_stopped_for_too_long_is_evicted() {
    const TEST: &str = "stopped::who_is_stopped_for_too_long_is_evicted";
    if let Some((talk, path)) = child() {
        return follow(talk, &path);
    }
    let _alone = alone();
    // Long enough for those who run, on a machine with more to do.
    let mut followers = Followers::start(TEST, 3, Duration::from_secs(3));
    stop(&followers.all[1].0);
    let followed = followers.change(0);
    followers.has_followed(0);
    followers.has_followed(2);
    // Ends with the eviction.
    followed.wait_until(Instant::now() + AMPLE).unwrap();
    let stopped = followers.all[1].1.clone();
    let reason = stopped.gone().unwrap();
    assert!(
        matches!(*reason, Eviction::NotAcknowledged { .. }),
        "{reason:?}"
    );
    assert_eq!(followers.fixture.left().name(), stopped.name());
    followers.fixture.no_more_events();
    followers
        .change(1)
        .wait_until(Instant::now() + AMPLE)
        .unwrap();
    followers.has_followed(0);

    let (other, _) = &mut followers.all[1];
    signal(other, libc::SIGCONT);
    other.ask(WAIT_UNTIL_LOST, 0);
    // What it had, or what it was sent before: RAM at least.
    assert_eq!(other.ask(READ, 0x3000), 0x3000 ^ 0x5a5a);
    assert_eq!(other.ask(WRITE, 0x3000), 1);
    let view = followers.fixture.view();
    assert_eq!(view.read_plain::<u64>(0x3000).unwrap(), own_word(0x3000));
    assert!(followers.path.exists());
    other.ask(RECONNECT, 0);
    let processes = followers.fixture.server.processes();
    followers.all[1].1 = processes.last().unwrap().clone();
    followers.all[1].1.wait_ready(AMPLE).unwrap();
    followers
        .change(2)
        .wait_until(Instant::now() + AMPLE)
        .unwrap();
    for index in 0..3 {
        followers.has_followed(index);
    }
}
