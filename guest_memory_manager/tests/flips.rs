//! Memory that is flipped under those who access it: no access fails that is legal before and
//! after, and nobody sees a mix of both within an aligned word.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test may stop at the first surprise"
)]

mod support;

use guest_memory_manager::{
    Cause, GuestMemory, GuestMemoryBuilder, GuestMemoryManager, GuestRange, MemoryLayout,
    RamVisibility, SharedMemory, SoftwarePartition, Vtl,
};
use memory_range::MemoryRange;
use sparse_alloc::HostRange;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use support::{memory_of, range};

const FLIPS: usize = 4_000;
const A: u64 = 0x1111_1111_1111_1111;
const B: u64 = 0xeeee_eeee_eeee_eeee;

/// The BIOS segment, which a PC's firmware flips.
fn segment() -> MemoryRange {
    range(0xf_0000, 0x10_0000)
}

/// RAM in legacy regions with room for devices above, and a partition that sees all of it.
fn guest() -> (GuestMemoryManager, Arc<SoftwarePartition>) {
    let gap = range(0x20_0000, 0x40_0000);
    let layout = MemoryLayout::new(0x20_0000, &[gap], None).unwrap();
    let builder = GuestMemoryBuilder::new().x86_legacy_support(true);
    let manager = builder.build_now(&layout).unwrap();
    let partition = Arc::new(SoftwarePartition::new());
    manager
        .attach_partition_now(Vtl::Vtl0, partition.clone(), None)
        .unwrap();
    (manager, partition)
}

/// Memory full of one word.
fn full_of(word: u64, len: u64) -> SharedMemory {
    let memory = SharedMemory::new("pattern", len).unwrap();
    let bytes = word.to_ne_bytes().repeat((len / 8) as usize);
    HostRange::new(memory.linear_view().clone(), 0, len)
        .unwrap()
        .write(0, &bytes)
        .unwrap();
    memory
}

/// Reads on and on until told to stop and every legal word was seen; panics at an error or at
/// any other word. Returns how many words it has seen.
fn read_on(memory: &GuestMemory, window: MemoryRange, legal: &[u64], stop: &AtomicBool) -> u64 {
    let mut seen = vec![false; legal.len()];
    let mut words = 0_u64;
    let words_here = window.len() / 8;
    let slice = memory.slice_at::<u64>(window.start(), words_here).unwrap();
    let mut check = |word: u64| match legal.iter().position(|legal| *legal == word) {
        Some(index) => {
            seen[index] = true;
            words += 1;
            seen.iter().all(|seen| *seen)
        }
        None => panic!("{word:#x} is a mix, or from elsewhere"),
    };
    for round in 0_u64.. {
        // Every word in turn, from page to page.
        let index = round.wrapping_mul(513) % (words_here - 8);
        let gpa = window.start() + index * 8;
        let all_seen = check(memory.read_plain(gpa).unwrap());
        if round.is_multiple_of(8) {
            let mut bytes = [0; 64];
            memory.read_at(gpa, &mut bytes).unwrap();
            let chain = [GuestRange::new(gpa, 8), GuestRange::new(gpa + 16, 24)];
            memory.read_scattered(&chain, &mut bytes).unwrap();
            let mut elements = [0; 8];
            slice.read_into(index, &mut elements).unwrap();
            elements.into_iter().for_each(|word| {
                check(word);
            });
            check(slice.get(index + 7).unwrap());
        }
        if all_seen && stop.load(Ordering::Relaxed) {
            break;
        }
    }
    words
}

/// Flips at least 4,000 times while two threads read, and until both have seen all there is.
fn flip_under_readers(
    memory: &GuestMemory,
    window: MemoryRange,
    legal: &[u64],
    mut flip: impl FnMut(usize),
) {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            let (memory, stop) = (memory.clone(), &stop);
            scope.spawn(move || read_on(&memory, window, legal, stop))
        });
        let mut flips = 0;
        while !readers.iter().all(|reader| reader.is_finished()) {
            flip(flips);
            flips += 1;
            stop.store(flips >= FLIPS, Ordering::Relaxed);
            if flips > FLIPS {
                // They may be waiting for this processor.
                thread::yield_now();
            }
            if flips < FLIPS && readers.iter().any(|reader| reader.is_finished()) {
                break;
            }
        }
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
        assert!(flips >= FLIPS, "{flips}");
    });
}

#[test]
fn ram_that_becomes_read_only_and_writable_again() {
    let (manager, partition) = guest();
    let memory = memory_of(&manager);
    for gpa in (segment().start()..segment().end()).step_by(8) {
        memory.write_plain(gpa, &A).unwrap();
    }
    let visibility = manager.ram_visibility_control();
    flip_under_readers(&memory, segment(), &[A], |flip| {
        let visible = match flip % 2 {
            0 => RamVisibility::ReadOnly,
            _ => RamVisibility::ReadWrite,
        };
        visibility
            .set_ram_visibility_now(segment(), visible)
            .unwrap();
    });
    assert_eq!(partition.broken_rules(), []);
}

#[test]
fn rom_that_shows_where_ram_is_unmapped() {
    let (manager, partition) = guest();
    let memory = memory_of(&manager);
    for gpa in (segment().start()..segment().end()).step_by(8) {
        memory.write_plain(gpa, &A).unwrap();
    }
    let rom = full_of(B, segment().len());
    let devices = manager.device_memory_mapper();
    let (mut control, window) = devices.new_region(segment().len(), "rom".into()).unwrap();
    window.map(0, &rom, 0, segment().len(), false).unwrap();
    control.map_to_guest(segment().start(), false).unwrap();

    let visibility = manager.ram_visibility_control();
    flip_under_readers(&memory, segment(), &[A, B], |flip| {
        let visible = match flip % 4 {
            0 | 2 => RamVisibility::Unmapped,
            1 => RamVisibility::ReadOnly,
            _ => RamVisibility::ReadWrite,
        };
        visibility
            .set_ram_visibility_now(segment(), visible)
            .unwrap();
    });
    assert_eq!(partition.broken_rules(), []);
}

#[test]
fn one_device_mapping_over_another() {
    let (manager, partition) = guest();
    let memory = memory_of(&manager);
    let len = 0x8000;
    let files = [full_of(A, len), full_of(B, len)];
    let devices = manager.device_memory_mapper();
    let (mut control, window) = devices.new_region(len, "bar".into()).unwrap();
    window.map(0, &files[0], 0, len, true).unwrap();
    control.map_to_guest(0x28_0000, true).unwrap();

    flip_under_readers(&memory, range(0x28_0000, 0x28_8000), &[A, B], |flip| {
        // All of it, or a part in the middle; writable or not.
        let (start, part) = match flip % 3 {
            0 => (0, len),
            1 => (0x3000, 0x1000),
            _ => (0x2000, 0x5000),
        };
        let file = &files[flip % 2];
        window.map(start, file, start, part, flip % 5 != 0).unwrap();
    });
    assert_eq!(partition.broken_rules(), []);
}

/// Writers are refused while RAM is read-only, and for no other reason; readers see their words
/// whole, and never an older one after a newer.
#[test]
fn writers_hear_that_ram_is_read_only_and_nothing_else() {
    let (manager, partition) = guest();
    let memory = memory_of(&manager);
    let visibility = manager.ram_visibility_control();
    let stop = AtomicBool::new(false);
    let word_at = segment().start() + 0xff8;
    thread::scope(|scope| {
        let (memory, stop) = (&memory, &stop);
        let writer = scope.spawn(move || {
            let (mut written, mut refused) = (0_u64, 0_u64);
            while !stop.load(Ordering::Relaxed) || written == 0 || refused == 0 {
                let next = written + 1;
                // Both halves are the same, so that a mix shows.
                match memory.write_plain(word_at, &(next << 32 | next)) {
                    Ok(()) => written = next,
                    Err(error) => {
                        assert_eq!(error.cause(), Cause::ReadOnly { gpa: word_at }, "{error}");
                        refused += 1;
                    }
                }
                match memory.fetch_add(word_at + 0x1000, 1_u32) {
                    Ok(_) => {}
                    Err(error) => {
                        let gpa = word_at + 0x1000;
                        assert_eq!(error.cause(), Cause::ReadOnly { gpa }, "{error}");
                    }
                }
            }
            written
        });
        let reader = scope.spawn(move || {
            let mut last = 0;
            while !stop.load(Ordering::Relaxed) {
                let word = memory.read_plain::<u64>(word_at).unwrap();
                let (high, low) = (word >> 32, word & 0xffff_ffff);
                assert_eq!(high, low, "{word:#x} is a mix");
                assert!(low >= last, "{low} after {last}");
                last = low;
            }
            last
        });
        let mut flips = 0;
        while flips < FLIPS || !(writer.is_finished() && reader.is_finished()) {
            let visible = match flips % 2 {
                0 => RamVisibility::ReadOnly,
                _ => RamVisibility::ReadWrite,
            };
            visibility
                .set_ram_visibility_now(segment(), visible)
                .unwrap();
            flips += 1;
            stop.store(flips >= FLIPS, Ordering::Relaxed);
            if flips > FLIPS {
                thread::yield_now();
            }
        }
        let (written, read) = (writer.join().unwrap(), reader.join().unwrap());
        assert!(read <= written);
        assert_eq!(memory.read_plain::<u32>(word_at).unwrap(), written as u32);
    });
    assert_eq!(partition.broken_rules(), []);
}
