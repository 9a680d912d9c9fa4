//! Mappings that change under accesses from other threads.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

use mapping_manager::{Cause, VaMapper};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

const RW: Access = Access::ReadWrite;
const RO: Access = Access::ReadOnly;

fn range(start: u64, end: u64) -> MemoryRange {
    MemoryRange::new(start..end)
}

/// One memory of a page, filled with one word.
fn filled(name: &str, word: u64) -> Backing {
    let memory = SharedMemory::new(name, 0x1000).unwrap();
    let backing = Backing::from(memory.mappable().clone());
    let mapper = VaMapper::new(name, 0x1000, Alignment::Page).unwrap();
    mapper.map(range(0, 0x1000), &backing, 0, RW).unwrap();
    for gpa in (0..0x1000).step_by(8) {
        mapper.guest_memory().write_plain(gpa, &word).unwrap();
    }
    backing
}

/// 4,000 replacements and protections against two readers: none ever fails, and none sees a
/// mix of two backings within a word.
#[test]
fn readers_never_see_a_gap_or_a_mix() {
    const A: u64 = 0x1111_1111_1111_1111;
    const B: u64 = 0xeeee_eeee_eeee_eeee;
    let (a, b) = (filled("a", A), filled("b", B));
    let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
    let page = range(0x4000, 0x5000);
    mapper.map(page, &a, 0, RW).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|reader| {
                let memory = mapper.guest_memory();
                let done = &done;
                scope.spawn(move || {
                    let (mut reads, mut seen) = (0_u64, [false; 2]);
                    // Until both were seen, however seldom this thread gets to run.
                    while !done.load(Ordering::Relaxed) || seen != [true; 2] {
                        let gpa = 0x4000 + (reads * 8 + reader * 2048) % 0x1000;
                        match memory.read_plain::<u64>(gpa).unwrap() {
                            A => seen[0] = true,
                            B => seen[1] = true,
                            mix => panic!("{mix:#x} at {gpa:#x}"),
                        }
                        reads += 1;
                    }
                    (reads, seen)
                })
            })
            .collect();
        let flip = || {
            mapper.protect(page, RO).unwrap();
            mapper.map(page, &b, 0, RO).unwrap();
            mapper.map(page, &a, 0, RO).unwrap();
            mapper.protect(page, RW).unwrap();
        };
        (0..1000).for_each(|_| flip());
        done.store(true, Ordering::Relaxed);
        while !readers.iter().all(|reader| reader.is_finished()) {
            flip();
        }
        for reader in readers {
            let (reads, seen) = reader.join().unwrap();
            assert!(reads > 0);
            assert_eq!(seen, [true, true]);
        }
    });
}

/// A writer under the same flips: each write succeeds or says that the memory is read-only.
#[test]
fn writers_succeed_or_hear_that_it_is_read_only() {
    let a = filled("a", 0);
    let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
    let page = range(0x4000, 0x5000);
    mapper.map(page, &a, 0, RW).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let memory = mapper.guest_memory();
        let done = &done;
        let writer = scope.spawn(move || {
            let (mut written, mut refused) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) || written == 0 || refused == 0 {
                let next = written + 1;
                match memory.write_plain(0x4008, &next) {
                    Ok(()) => {
                        written = next;
                        assert_eq!(memory.read_plain::<u64>(0x4008).unwrap(), written);
                    }
                    Err(error) => {
                        assert_eq!(error.cause(), Cause::ReadOnly { gpa: 0x4008 }, "{error}");
                        refused += 1;
                    }
                }
            }
            written
        });
        for _ in 0..2000 {
            mapper.protect(page, RO).unwrap();
            thread::yield_now();
            mapper.protect(page, RW).unwrap();
            thread::yield_now();
        }
        done.store(true, Ordering::Relaxed);
        // Leave it in a state in which both outcomes come to an end.
        while !writer.is_finished() {
            mapper.protect(page, RO).unwrap();
            thread::yield_now();
            mapper.protect(page, RW).unwrap();
            thread::yield_now();
        }
        assert!(writer.join().unwrap() > 0);
    });
}

/// A reader over a range that is unmapped and mapped again sees bytes or a hole, nothing else,
/// and never hangs.
#[test]
fn readers_of_what_comes_and_goes_see_it_or_a_hole() {
    let a = filled("a", 5);
    let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
    let page = range(0x4000, 0x5000);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let memory = mapper.guest_memory();
        let done = &done;
        let reader = scope.spawn(move || {
            let (mut read, mut holes) = (0_u64, 0_u64);
            while !done.load(Ordering::Relaxed) {
                match memory.read_plain::<u64>(0x4ff8) {
                    Ok(word) => {
                        assert_eq!(word, 5);
                        read += 1;
                    }
                    Err(error) => {
                        assert_eq!(error.cause(), Cause::Hole { gpa: 0x4ff8 }, "{error}");
                        holes += 1;
                    }
                }
            }
            read + holes
        });
        for _ in 0..2000 {
            mapper.map(page, &a, 0, RW).unwrap();
            mapper.unmap(page).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
}

/// Guest memory outlives everyone else who knows its mapper.
#[test]
fn guest_memory_keeps_its_addresses() {
    let a = filled("a", 9);
    let memory = {
        let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
        mapper.map(range(0, 0x1000), &a, 0, RW).unwrap();
        mapper.guest_memory().clone()
    };
    drop(a);
    assert_eq!(memory.read_plain::<u64>(0).unwrap(), 9);
}
