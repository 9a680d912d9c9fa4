//! A device's file that another process truncates while it is read and written here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use guest_memory_manager::{
    AccessError, Cause, GuestMemory, GuestMemoryBuilder, GuestRange, MemoryLayout,
};
use memory_range::PAGE_SIZE;
use std::env;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use support::{memory_of, range};

/// Tells the process that truncates which file is meant.
const FILE: &str = "GUEST_MEMORY_TRUNCATED_FILE";
const PAGES: u64 = 4;
const KEPT: u64 = 2;
const GPA: u64 = 0x28_0000;
const LOST: u64 = GPA + KEPT * PAGE_SIZE;

/// What the other process does; by itself it is no test of anything.
#[test]
fn in_the_other_process() {
    let Some(path) = env::var_os(FILE) else {
        return;
    };
    let file = OpenOptions::new().write(true).open(path).unwrap();
    for line in std::io::stdin().lock().lines() {
        let pages: u64 = line.unwrap().parse().unwrap();
        file.set_len(pages * PAGE_SIZE).unwrap();
    }
}

/// The process that truncates.
struct Other {
    child: Child,
    commands: Option<ChildStdin>,
}

impl Other {
    fn start(path: &std::path::Path) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "in_the_other_process", "--nocapture"])
            .env(FILE, path)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take();
        Self { child, commands }
    }

    fn resize(&mut self, pages: u64) {
        let commands = self.commands.as_mut().unwrap();
        writeln!(commands, "{pages}").unwrap();
        commands.flush().unwrap();
    }

    fn finish(mut self) {
        self.commands = None;
        assert!(self.child.wait().unwrap().success());
    }
}

/// What a thread has seen.
#[derive(Default)]
struct Seen {
    whole: AtomicU64,
    truncated: AtomicU64,
}

/// Whether an access got to its end. If not, it must have stopped at a byte that is lost, and
/// because of that: at the first of them, or further on, if it was under way when they were lost.
fn got_to_the_end(result: Result<(), AccessError>, gpa: u64) -> bool {
    match result {
        Ok(()) => true,
        Err(error) => {
            let stopped = gpa + error.done();
            assert_eq!(error.cause(), Cause::Truncated { gpa: stopped }, "{error}");
            assert!(stopped >= LOST, "{error}");
            false
        }
    }
}

/// One of each access.
fn access(memory: &GuestMemory, seen: &Seen) {
    let mut bytes = vec![0; (PAGES * PAGE_SIZE) as usize];
    let whole = got_to_the_end(memory.read_at(GPA, &mut bytes), GPA);
    assert!(
        bytes[..(KEPT * PAGE_SIZE) as usize]
            .iter()
            .all(|byte| *byte == 9)
    );

    let word = memory.read_plain::<u64>(LOST + 8).map(drop);
    got_to_the_end(word, LOST + 8);
    memory.read_plain::<u64>(LOST - 8).unwrap();
    got_to_the_end(memory.write_at(LOST - 3, &[9; 3]), LOST - 3);
    got_to_the_end(memory.write_plain(LOST + 16, &1_u32), LOST + 16);
    got_to_the_end(memory.fetch_or(LOST + 32, 1_u64).map(drop), LOST + 32);
    got_to_the_end(memory.fill_at(LOST - 200, 9, 200), LOST - 200);
    got_to_the_end(memory.copy_to(LOST - 500, memory, 0x1000, 1000), LOST - 500);
    let slice = memory.slice_at::<u16>(LOST - 100, 100).unwrap();
    got_to_the_end(slice.read_into(0, &mut [0; 100]), LOST - 100);
    let chain = [GuestRange::new(GPA, 1), GuestRange::new(LOST - 1, 100)];
    if let Err(error) = memory.read_scattered(&chain, &mut bytes) {
        assert_eq!(error.index(), 1);
        assert_eq!(error.done() as u64, 1 + error.access().done());
        got_to_the_end(Err(error.access().clone()), LOST - 1);
    }
    let count = if whole { &seen.whole } else { &seen.truncated };
    count.fetch_add(1, Ordering::Relaxed);
}

#[test]
fn readers_get_errors_and_then_the_file_again() {
    let named = tempfile::NamedTempFile::new().unwrap();
    let file: &File = named.as_file();
    file.set_len(PAGES * PAGE_SIZE).unwrap();
    let gap = range(0x20_0000, 0x40_0000);
    let layout = MemoryLayout::new(0x20_0000, &[gap], None).unwrap();
    let manager = GuestMemoryBuilder::new().build_now(&layout).unwrap();
    let devices = manager.device_memory_mapper();
    let (mut control, window) = devices
        .new_region(PAGES * PAGE_SIZE, "file".into())
        .unwrap();
    window.map(0, file, 0, PAGES * PAGE_SIZE, true).unwrap();
    control.map_to_guest(GPA, true).unwrap();
    let memory = memory_of(&manager);
    memory.fill_at(GPA, 9, PAGES * PAGE_SIZE).unwrap();

    let mut other = Other::start(named.path());
    let stop = AtomicBool::new(false);
    let seen = [Seen::default(), Seen::default()];
    thread::scope(|scope| {
        let threads = seen.each_ref().map(|seen| {
            let (memory, stop) = (&memory, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    access(memory, seen);
                }
            })
        });
        // However slow the machine: until each thread has seen the change a few times, or failed.
        let wait_for = |count: fn(&Seen) -> &AtomicU64| {
            let now = seen
                .each_ref()
                .map(|seen| count(seen).load(Ordering::Relaxed));
            let later = |(seen, now)| count(seen).load(Ordering::Relaxed) >= now + 3;
            while !seen.iter().zip(now).all(later) {
                if threads.iter().any(|thread| thread.is_finished()) {
                    break;
                }
                thread::yield_now();
            }
        };
        wait_for(|seen| &seen.whole);
        for _ in 0..40 {
            other.resize(KEPT);
            wait_for(|seen| &seen.truncated);
            other.resize(PAGES);
            wait_for(|seen| &seen.whole);
        }
        stop.store(true, Ordering::Relaxed);
    });
    other.finish();
    // All of it is there again, and can be written.
    memory.fill_at(GPA, 5, PAGES * PAGE_SIZE).unwrap();
    assert_eq!(
        memory
            .read_plain::<u8>(GPA + PAGES * PAGE_SIZE - 1)
            .unwrap(),
        5
    );
}
