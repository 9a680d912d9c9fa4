//! Processes killed in the middle of whatever they do.

use crate::census::{Census, NEVER, alone, change_once, nothing_is_left, wait_until};
use crate::child::{CONNECT, DIGEST, digest, follow, follow_blindly};
use crate::fixture::{AMPLE, C_SEGMENT, F_SEGMENT, Fixture, build, number_pages};
use crate::random::Random;
use crate::second_process::{Process, child};
use guest_memory_manager::{
    RamVisibility, RemoteClientOptions, RemoteGrant, RemoteGuestMemory, RemoteOptions,
    RemoteProcess, RemoteServer, Vtl,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const KILLS: usize = 200;
/// Tells the one that follows throughout from those that are killed.
const STAYS: &str = "STAYS";

/// The number in the name that a process has here.
fn number(process: &RemoteProcess) -> usize {
    let name = process.name().strip_prefix("process ");
    name.unwrap().parse().unwrap()
}

fn newest(server: &RemoteServer) -> Option<RemoteProcess> {
    server.processes().into_iter().max_by_key(number)
}

/// Kills a process after a time, on another thread.
fn kill_after(time: Duration, id: libc::pid_t) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        // SAFETY: a call that takes numbers only; the process was not waited for yet, so the number
        // is still its own.
        assert_eq!(unsafe { libc::kill(id, libc::SIGKILL) }, 0);
    })
}

/// Makes changes until `over`, each of them followed by whoever lives, and attaches what partitions the
/// newest process offers.
fn change_until(fixture: &Fixture, random: &mut Random, over: impl Fn() -> bool) {
    let mut attached = None;
    while !over() {
        let segment = random.one(&[C_SEGMENT, F_SEGMENT]);
        let visibility = random.one(&[
            RamVisibility::Unmapped,
            RamVisibility::ReadOnly,
            RamVisibility::ReadWrite,
        ]);
        fixture.set(segment, visibility);
        let Some(process) = newest(&fixture.server) else {
            continue;
        };
        if let Some(partition) = process.partition("vm")
            && attached != Some(number(&process))
        {
            attached = Some(number(&process));
            // It may be gone by now.
            let memory = &fixture.memory;
            let _ = memory.attach_partition_now(Vtl::Vtl0, partition, Some(process));
        }
    }
}

/// How many listeners the view tells of its changes.
fn listeners(fixture: &Fixture) -> usize {
    let tree = inspect::inspect(&fixture.memory);
    let list = tree.child("view").and_then(|view| view.child("listeners"));
    list.and_then(inspect::Node::as_directory)
        .map_or(0, |list| list.iter().count())
}

#[test]
fn killed_at_any_point() {
    const TEST: &str = "kills::killed_at_any_point";
    if let Some((talk, path)) = child() {
        return match path.with_extension("stays").exists() {
            true => follow(talk, &path),
            false => follow_blindly(talk, &path),
        };
    }
    let _alone = alone();
    let mut random = Random::new();
    let fixture = Fixture::with(build(), RemoteOptions::new().deadline(NEVER));
    number_pages(&fixture.view());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let grant = RemoteGrant::new().allow_lazy();
    let _socket = fixture.server.listen(&path, grant).unwrap();

    let mark = path.with_extension("stays");
    std::fs::write(&mark, STAYS).unwrap();
    let mut stays = Process::start(TEST, &path);
    stays.ask(CONNECT, 0);
    std::fs::remove_file(mark).unwrap();
    // One that nobody kills, to see how long they take.
    let start = Instant::now();
    let mut first = Process::start(TEST, &path);
    first.ask(0, 0);
    let connected = start.elapsed();
    first.end();
    assert_eq!(number(&fixture.left()), 1);
    change_once(&fixture);
    let (before, told) = (Census::take(), listeners(&fixture));
    assert_eq!(told, 1);

    let view = fixture.view();
    for round in 0..KILLS {
        let process = Process::start(TEST, &path);
        let most = u64::try_from(connected.as_micros()).unwrap() * 3 / 2;
        let time = Duration::from_micros(random.below(most));
        let killer = kill_after(time, process.id());
        change_until(&fixture, &mut random, || killer.is_finished());
        killer.join().unwrap();
        drop(process);
        if round % 20 == 0 {
            // What the manager and the other process see is the same.
            fixture.set(C_SEGMENT, RamVisibility::ReadOnly);
            assert_eq!(stays.ask(DIGEST, 0), digest(&view));
        }
    }

    // Whoever connects now comes after all those that are dead by now.
    let options = RemoteClientOptions::new("last").deadline(AMPLE);
    let last = RemoteGuestMemory::connect_to(&path, options).unwrap();
    let process = newest(&fixture.server).unwrap();
    let count = number(&process);
    println!(
        "{} of {KILLS} were killed while they were connected",
        count - 2
    );
    assert!(count > KILLS / 10, "{count}");
    // Each is reported once.
    let left: BTreeSet<usize> = (2..count).map(|_| number(&fixture.left())).collect();
    assert!(left.into_iter().eq(2..count));
    assert_eq!(digest(&last.guest_memory()), digest(&view));
    drop(last);
    assert_eq!(number(&fixture.left()), count);
    fixture.no_more_events();

    let processes = || fixture.server.processes().len();
    wait_until(|| processes() == 1, || format!("{} processes", processes()));
    let told_now = || listeners(&fixture);
    wait_until(
        || told_now() == told,
        || format!("{} listeners", told_now()),
    );
    change_once(&fixture);
    assert_eq!(stays.ask(DIGEST, 0), digest(&view));
    nothing_is_left(before);
    stays.end();
}
