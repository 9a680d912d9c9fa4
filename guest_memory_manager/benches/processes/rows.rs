//! What is measured, and the bars to reach.

use crate::child::{CONNECT, HAND_OVER, LEAVE, MEET, TOUCH, TOUCH_BY_HAND, by_hand};
use crate::command_line::Options;
use crate::hand::{self, AMPLE};
use crate::report::{Report, Row};
use crate::second_process::Process;
use crate::timing::median;
use guest_memory_manager::{
    GuestMemoryBuilder, GuestMemoryManager, MemoryLayout, MemoryRange, RamVisibility, RemoteGrant,
    RemoteOptions, RemoteServer, RemoteServerThread, RemoteSocket,
};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::Instant;

const RAM: u64 = 1 << 40;
const SEGMENT: MemoryRange = MemoryRange::new(0xf_0000..0x10_0000);

/// How many processes follow, and how many microseconds longer than a byte to each and back a change
/// may take until all have followed.
const FOLLOWERS: [(usize, f64); 3] = [(1, 50.0), (4, 200.0), (16, 800.0)];
/// How many microseconds longer than by hand these may take.
const HAND_OVER_OWN: f64 = 400.0;
const TOUCH_OWN: f64 = 200.0;

/// A manager that serves.
struct Manager {
    memory: GuestMemoryManager,
    server: RemoteServer,
    _driver: RemoteServerThread,
    _socket: RemoteSocket,
}

impl Manager {
    fn new(path: &Path, legacy: bool) -> Self {
        let layout = MemoryLayout::new(RAM, &[], None).unwrap();
        let builder = GuestMemoryBuilder::new().x86_legacy_support(legacy);
        let memory = builder.build_now(&layout).unwrap();
        let options = RemoteOptions::new().deadline(AMPLE);
        let server = memory.serve_remote(options).unwrap();
        Self {
            _driver: server.spawn().unwrap(),
            _socket: server
                .listen(path, RemoteGrant::new().allow_lazy())
                .unwrap(),
            server,
            memory,
        }
    }

    /// Waits until so many processes are connected, and follow.
    fn wait_for(&self, count: usize) {
        while self.server.processes().len() != count {
            std::thread::yield_now();
        }
        for process in self.server.processes() {
            process.wait_ready(AMPLE).unwrap();
        }
    }

    /// Microseconds until a change is made here, and until everybody has followed.
    fn set(&self, visibility: RamVisibility) -> [f64; 2] {
        let control = self.memory.ram_visibility_control();
        let start = Instant::now();
        let followed = control.set_ram_visibility_now(SEGMENT, visibility).unwrap();
        let returned = start.elapsed();
        followed.wait();
        [returned, start.elapsed()].map(|time| time.as_secs_f64() * 1e6)
    }
}

/// Another process, and the socket on which it answers by hand.
struct Other {
    process: Process,
    answers: UnixStream,
}

impl Other {
    fn start(path: &Path, listener: &UnixListener, manager: &GuestMemoryManager) -> Self {
        let mut process = Process::start("child", path);
        process.ask(MEET, 0);
        let answers = listener.accept().unwrap().0;
        let asks = listener.accept().unwrap().0;
        let backing = manager.shared_memory_backing();
        std::thread::spawn(move || {
            let memory = backing.memories()[0].mappable().as_fd();
            hand::answer(asks, Some(memory));
        });
        Self { process, answers }
    }

    /// Has the process do something that it times itself; in microseconds.
    fn time(&mut self, command: u8, value: u64) -> f64 {
        self.process.ask(command, value) as f64 / 1e3
    }
}

/// Measures by hand, ours, and by hand again, in each round.
fn row(
    name: String,
    rounds: usize,
    at_most: f64,
    mut by_hand: impl FnMut() -> f64,
    mut ours: impl FnMut() -> [f64; 2],
) -> Row {
    eprintln!("measuring {name}");
    by_hand();
    ours();
    let rounds: Vec<_> = (0..rounds)
        .map(|_| (by_hand(), ours(), by_hand()))
        .collect();
    let of = |value: &dyn Fn(f64, [f64; 2], f64) -> f64| {
        median(
            rounds
                .iter()
                .map(|(first, ours, last)| value(*first, *ours, *last)),
        )
    };
    Row {
        name,
        hand: of(&|first, _, last| (first + last) / 2.0),
        a_a: of(&|first, _, last| last - first),
        ours: of(&|_, [_, ours], _| ours),
        own: of(&|first, [_, ours], last| ours - (first + last) / 2.0),
        at_most,
        returned: Some(of(&|_, [returned, _], _| returned)),
    }
}

/// Measures everything that the options want.
pub(crate) fn measure(options: &Options) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("guest");
    let listener = UnixListener::bind(by_hand(&path)).unwrap();
    let mut report = Report {
        rounds: options.rounds,
        rows: Vec::new(),
    };
    let most = FOLLOWERS.iter().map(|(count, _)| *count).max().unwrap();
    let manager = Manager::new(&path, true);
    let mut others: Vec<Other> = (0..most)
        .map(|_| Other::start(&path, &listener, &manager.memory))
        .collect();
    for (count, at_most) in FOLLOWERS {
        let name = format!("change, until followed by {count}");
        if options.wants(&name) {
            report.rows.push(change(
                name,
                options,
                &manager,
                &mut others[..count],
                at_most,
            ));
        }
    }
    others.truncate(1);
    let Some(other) = others.first_mut() else {
        return report;
    };
    let name = "first access of a lazy process, 64 KiB";
    if options.wants(name) {
        report.rows.push(touch(name, options, &manager, other));
    }
    drop((manager, others));
    let name = "hand-over of 1 TiB, sparse";
    if options.wants(name) {
        let manager = Manager::new(&path, false);
        let mut other = Other::start(&path, &listener, &manager.memory);
        report
            .rows
            .push(hand_over(name, options, &manager, &mut other));
    }
    report
}

fn change(
    name: String,
    options: &Options,
    manager: &Manager,
    others: &mut [Other],
    at_most: f64,
) -> Row {
    for other in &mut *others {
        other.process.ask(CONNECT, 0);
    }
    manager.wait_for(others.len());
    let answers = others.iter().map(|one| one.answers.try_clone().unwrap());
    let mut answers: Vec<UnixStream> = answers.collect();
    let by_hand = || {
        let start = Instant::now();
        hand::ping(&mut answers);
        start.elapsed().as_secs_f64() * 1e6
    };
    let ours = || {
        let times = manager.set(RamVisibility::ReadOnly);
        manager.set(RamVisibility::ReadWrite);
        times
    };
    let row = row(name, options.rounds, at_most, by_hand, ours);
    leave(manager, others);
    row
}

fn leave(manager: &Manager, others: &mut [Other]) {
    for other in others {
        other.process.ask(LEAVE, 0);
    }
    manager.wait_for(0);
}

/// Each time the segment is hidden and shown again, so that it has to be fetched again.
fn touch(name: &str, options: &Options, manager: &Manager, other: &mut Other) -> Row {
    other.process.ask(CONNECT, 1);
    manager.wait_for(1);
    // For the descriptor.
    other.time(HAND_OVER, SEGMENT.len());
    let other = std::cell::RefCell::new(other);
    let by_hand = || other.borrow_mut().time(TOUCH_BY_HAND, SEGMENT.len());
    let ours = || {
        manager.set(RamVisibility::Unmapped);
        manager.set(RamVisibility::ReadWrite);
        [other.borrow_mut().time(TOUCH, SEGMENT.start()); 2]
    };
    let mut row = row(name.to_owned(), options.rounds, TOUCH_OWN, by_hand, ours);
    row.returned = None;
    leave(manager, std::slice::from_mut(other.into_inner()));
    row
}

fn hand_over(name: &str, options: &Options, manager: &Manager, other: &mut Other) -> Row {
    let other = std::cell::RefCell::new(other);
    let by_hand = || other.borrow_mut().time(HAND_OVER, RAM);
    let ours = || {
        let time = other.borrow_mut().time(CONNECT, 0);
        leave(manager, std::slice::from_mut(*other.borrow_mut()));
        [time; 2]
    };
    let mut row = row(
        name.to_owned(),
        options.rounds,
        HAND_OVER_OWN,
        by_hand,
        ours,
    );
    row.returned = None;
    row
}
