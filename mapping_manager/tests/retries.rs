//! Every access of many bytes that runs into a page while it changes between read-only and writable,
//! or comes and goes: it goes on where it stopped, or says so, and never loses its place.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use mapping_manager::{AccessError, Cause, GuestMemory, GuestRange, VaMapper};
use memory_range::{Access, MemoryRange};
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::cmp::Ordering;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

const BORDER: u64 = 0x3000;
const LEN: usize = 600;
const ROUNDS: u32 = 3_000;

/// RAM at 0x1000-0x5000.
fn guest() -> Arc<VaMapper> {
    let ram = SharedMemory::new("ram", 0x4000).unwrap();
    let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let range = MemoryRange::new(0x1000..0x5000);
    mapper.map(range, &backing, 0, Access::ReadWrite).unwrap();
    mapper
}

/// How much was done, and why no more.
type Stop = (u64, Cause);

fn stop<T>(result: Result<T, AccessError>) -> Result<(), Stop> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => Err((error.done(), error.cause())),
    }
}

/// Bytes that differ from round to round and from each other.
fn different(round: u32, index: u32) -> u8 {
    (index * 7 + index / 256 + round) as u8
}

/// Calls `write` with bytes of which `before` lie before a page that another thread changes all the
/// time, and checks what is there afterwards; often, and until both outcomes were seen.
fn under_flips(
    before: u64,
    byte: fn(u32, u32) -> u8,
    write: impl Fn(&GuestMemory, u64, &[u8]) -> Result<(), Stop>,
) {
    let mapper = guest();
    let memory = mapper.guest_memory();
    let gpa = BORDER - before;
    memory.fill_at(gpa + LEN as u64, 0xee, 200).unwrap();
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let flipper = scope.spawn(|| {
            let page = MemoryRange::new(BORDER..BORDER + 0x1000);
            while !finished.load(Relaxed) {
                mapper.protect(page, Access::ReadOnly).unwrap();
                mapper.protect(page, Access::ReadWrite).unwrap();
            }
        });
        // The flips stop with the test, also where it fails.
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (mut written, mut refused) = (0, 0);
            for round in 0_u32.. {
                let bytes: Vec<u8> = (0..LEN as u32).map(|index| byte(round, index)).collect();
                let done = match write(&memory, gpa, &bytes) {
                    Ok(()) => {
                        written += 1;
                        LEN
                    }
                    Err((done, cause)) => {
                        refused += 1;
                        assert_eq!(cause, Cause::ReadOnly { gpa: gpa + done });
                        // It may have become read-only further on, in the middle of the write.
                        assert!(done >= before, "{done}");
                        done as usize
                    }
                };
                let there = memory.compare_at(gpa, &bytes[..done]).unwrap();
                assert_eq!(there, Ordering::Equal, "{done} bytes of round {round}");
                let behind = memory.compare_at(gpa + LEN as u64, &[0xee; 200]).unwrap();
                assert_eq!(behind, Ordering::Equal, "behind what round {round} wrote");
                if round >= ROUNDS && written > 0 && refused > 0 || flipper.is_finished() {
                    break;
                }
            }
        }));
        finished.store(true, Relaxed);
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn a_write_goes_on_where_it_stopped() {
    for before in [100, 0] {
        under_flips(before, different, |memory, gpa, bytes| {
            stop(memory.write_at(gpa, bytes))
        });
    }
}

#[test]
fn a_copy_goes_on_where_it_stopped() {
    let from = guest().guest_memory();
    under_flips(101, different, |memory, gpa, bytes| {
        from.write_at(0x1003, bytes).unwrap();
        stop(from.copy_to(0x1003, memory, gpa, bytes.len() as u64))
    });
    // Both sides of the same memory: one lock is taken, and once.
    under_flips(102, different, |memory, gpa, bytes| {
        memory.write_at(0x4003, bytes).unwrap();
        stop(memory.copy_to(0x4003, memory, gpa, bytes.len() as u64))
    });
}

#[test]
fn elements_go_on_where_they_stopped() {
    under_flips(104, different, |memory, gpa, bytes| {
        let words: Vec<u64> = bytes
            .chunks_exact(8)
            .map(|bytes| u64::from_ne_bytes(bytes.try_into().unwrap()))
            .collect();
        let slice = memory.slice_at::<u64>(gpa, words.len() as u64).unwrap();
        stop(slice.copy_from(0, &words))
    });
}

#[test]
fn a_chain_goes_on_where_it_stopped() {
    under_flips(100, different, |memory, gpa, bytes| {
        let chain = [GuestRange::new(gpa, 60), GuestRange::new(gpa + 60, 10_000)];
        match memory.write_scattered(&chain, bytes) {
            Ok(len) => {
                assert_eq!(len, bytes.len());
                Ok(())
            }
            Err(error) => {
                assert_eq!(error.index(), 1);
                Err((error.done() as u64, error.access().cause()))
            }
        }
    });
}

#[test]
fn a_fill_goes_on_where_it_stopped() {
    under_flips(
        100,
        |round, _| round as u8,
        |memory, gpa, bytes| stop(memory.fill_at(gpa, bytes[0], bytes.len() as u64)),
    );
}

/// Calls `read` for bytes of which 100 lie before a page that comes and goes all the time; often, and
/// until both outcomes were seen. `read` is given what must be there, and where to put what it finds.
fn under_holes(read: impl Fn(&GuestMemory, u64, &[u8], &mut [u8]) -> Result<(), Stop>) {
    let ram = SharedMemory::new("ram", 0x4000).unwrap();
    let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page).unwrap();
    let backing = Backing::from(ram.mappable().clone());
    let all = MemoryRange::new(0x1000..0x5000);
    let page = MemoryRange::new(BORDER..BORDER + 0x1000);
    mapper.map(all, &backing, 0, Access::ReadWrite).unwrap();
    let memory = mapper.guest_memory();
    let gpa = BORDER - 100;
    // More than is read, and not what is behind it in guest memory.
    let more: Vec<u8> = (0..LEN as u32 + 200)
        .map(|index| different(1, index) | 1)
        .collect();
    let bytes = &more[..LEN];
    memory.write_at(gpa, bytes).unwrap();
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        let flipper = scope.spawn(|| {
            while !finished.load(Relaxed) {
                mapper.unmap(page).unwrap();
                let offset = page.start() - all.start();
                mapper
                    .map(page, &backing, offset, Access::ReadWrite)
                    .unwrap();
            }
        });
        let run = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let (mut whole, mut stopped) = (0, 0);
            for round in 0_u32.. {
                let mut found = vec![0xee; LEN + 200];
                match read(&memory, gpa, bytes, &mut found[..LEN]) {
                    Ok(()) => whole += 1,
                    Err((done, cause)) => {
                        stopped += 1;
                        assert_eq!(cause, Cause::Hole { gpa: gpa + done });
                        assert!(done >= 100, "{done}");
                        let done = done as usize;
                        assert!(found[..done] == bytes[..done], "round {round}");
                        found[..LEN].copy_from_slice(bytes);
                    }
                }
                assert!(found[..LEN] == *bytes, "round {round}");
                assert!(found[LEN..].iter().all(|byte| *byte == 0xee));
                if round >= ROUNDS && whole > 0 && stopped > 0 || flipper.is_finished() {
                    break;
                }
            }
        }));
        finished.store(true, Relaxed);
        run.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

#[test]
fn reads_go_on_where_they_stopped() {
    under_holes(|memory, gpa, _, found| stop(memory.read_at(gpa, found)));
    under_holes(|memory, gpa, _, found| {
        let slice = memory.slice_at::<u8>(gpa, LEN as u64).unwrap();
        stop(slice.read_into(0, found))
    });
    under_holes(|memory, gpa, bytes, found| {
        let result = memory.compare_at(gpa, bytes);
        if let Ok(order) = &result {
            assert_eq!(*order, Ordering::Equal);
        }
        found.copy_from_slice(bytes);
        stop(result)
    });
    let to = guest().guest_memory();
    under_holes(|memory, gpa, _, found| {
        to.fill_at(0x1001, 0xee, LEN as u64 + 1).unwrap();
        let result = memory.copy_to(gpa, &to, 0x1001, LEN as u64);
        to.read_at(0x1001, found).unwrap();
        assert_eq!(to.read_plain::<u8>(0x1001 + LEN as u64).unwrap(), 0xee);
        stop(result)
    });
}

/// Copies in both directions between two guests, both of which change: nobody waits for ever.
#[test]
fn copies_both_ways_do_not_wait_for_each_other() {
    let guests = [guest(), guest()];
    let finished = AtomicBool::new(false);
    thread::scope(|scope| {
        for mapper in &guests {
            scope.spawn(|| {
                let page = MemoryRange::new(BORDER..BORDER + 0x1000);
                while !finished.load(Relaxed) {
                    mapper.protect(page, Access::ReadOnly).unwrap();
                    mapper.protect(page, Access::ReadWrite).unwrap();
                }
            });
        }
        let copiers = [(0, 1), (1, 0)].map(|(from, to): (usize, usize)| {
            let (from, to) = (guests[from].guest_memory(), guests[to].guest_memory());
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    if let Err(error) = from.copy_to(0x1000, &to, BORDER - 64, 256) {
                        let gpa = BORDER - 64 + error.done();
                        assert_eq!(error.cause(), Cause::ReadOnly { gpa });
                    }
                }
            })
        });
        let results = copiers.map(|copier| copier.join());
        finished.store(true, Relaxed);
        results.into_iter().for_each(Result::unwrap);
    });
}
