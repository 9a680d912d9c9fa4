//! Every access by GPA, at every offset from a border of memory: towards what cannot be accessed,
//! and from there back.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first surprise")]

use mapping_manager::{AccessError, Cause, GuestMemory, GuestRange, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use sparse_alloc::{Alignment, Backing, SharedMemory};
use std::cmp::Ordering;
use std::ops::Range;

const PAGE: usize = PAGE_SIZE as usize;
const SPACE: u64 = 0x10_0000;
const RAM: Range<u64> = 0x4000..0x6000;
/// Lengths on either side of where a copy changes its way.
const LENS: [usize; 29] = [
    1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 63, 64, 65, 100, 127, 128, 129,
    191, 256, 257, 1000, 4097,
];

/// What lies around two pages of RAM.
#[derive(Copy, Clone, PartialEq, Eq, Debug)]
enum Around {
    Hole,
    ReadOnly,
}

/// RAM with its surroundings, and a second guest with RAM everywhere.
struct World {
    around: Around,
    memory: GuestMemory,
    other: GuestMemory,
    /// The bytes of the surroundings never change: they are zeros.
    pattern: Vec<u8>,
}

impl World {
    fn new(around: Around) -> Self {
        let rw = Access::ReadWrite;
        let map = |range: Range<u64>, access| {
            let ram = SharedMemory::new("ram", range.end - range.start).unwrap();
            let mapper = VaMapper::new("guest", SPACE, Alignment::Page).unwrap();
            let backing = Backing::from(ram.mappable().clone());
            mapper
                .map(MemoryRange::new(range), &backing, 0, access)
                .unwrap();
            mapper
        };
        let mapper = match around {
            Around::Hole => map(RAM, rw),
            Around::ReadOnly => {
                let mapper = map(RAM.start - 0x2000..RAM.end + 0x2000, Access::ReadOnly);
                mapper.protect(MemoryRange::new(RAM), rw).unwrap();
                mapper
            }
        };
        Self {
            around,
            memory: mapper.guest_memory(),
            other: map(0..0x1_0000, rw).guest_memory(),
            pattern: (0..8000_u32).map(|i| (i * 7 + i / 256) as u8 | 1).collect(),
        }
    }

    fn refusal(&self, gpa: u64) -> Cause {
        match self.around {
            Around::Hole => Cause::Hole { gpa },
            Around::ReadOnly => Cause::ReadOnly { gpa },
        }
    }

    /// Checks a result against how far the access must get from `gpa`.
    #[track_caller]
    fn check(
        &self,
        what: &str,
        result: Result<(), AccessError>,
        gpa: u64,
        len: usize,
        done: usize,
    ) {
        let expected = (done < len).then(|| (done as u64, self.refusal(gpa + done as u64)));
        let found = result.err().map(|error| (error.done(), error.cause()));
        assert_eq!(found, expected, "{what} of {len} at {gpa:#x}");
    }

    /// Checks that RAM holds `bytes` at `gpa` and zeros for a page before and behind; and zeroes it.
    #[track_caller]
    fn holds(&self, what: &str, gpa: u64, bytes: &[u8]) {
        let start = gpa.saturating_sub(0x100).max(RAM.start);
        let end = (gpa + bytes.len() as u64 + 0x100).min(RAM.end);
        let mut found = vec![0; (end - start) as usize];
        self.memory.read_at(start, &mut found).unwrap();
        let mut expected = vec![0; found.len()];
        let at = (gpa - start) as usize;
        expected[at..at + bytes.len()].copy_from_slice(bytes);
        assert!(found == expected, "{what} of {} at {gpa:#x}", bytes.len());
        self.memory.fill_at(start, 0, end - start).unwrap();
    }

    /// Every way to write `len` bytes at `gpa`, of which `done` lie in RAM.
    fn writes(&self, gpa: u64, len: usize, done: usize) {
        let memory = &self.memory;
        let bytes = &self.pattern[gpa as usize % 64..][..len];
        let written = &bytes[..done];
        let check = |what, result, written: &[u8]| {
            self.check(what, result, gpa, len, done);
            if !written.is_empty() {
                self.holds(what, gpa, written);
            }
        };
        check("write", memory.write_at(gpa, bytes), written);
        check("fill", memory.fill_at(gpa, 9, len as u64), &vec![9; done]);
        self.other.write_at(0x1001, bytes).unwrap();
        let copy = self.other.copy_to(0x1001, memory, gpa, len as u64);
        check("copy in", copy, written);
        let slice = memory.slice_at::<u8>(gpa, len as u64).unwrap();
        check("elements", slice.copy_from(0, bytes), written);
        let view = memory.subrange(gpa..gpa + len as u64).unwrap();
        check("view", view.write_at(0, bytes), written);
        // In two pieces, the second empty or not.
        let first = len / 3;
        let ranges = [(0, first), (first, len - first)];
        let chain = ranges.map(|(at, len)| GuestRange::new(gpa + at as u64, len as u64));
        let result = memory.write_scattered(&chain, bytes);
        if let Err(error) = &result {
            assert_eq!(error.done(), done);
        }
        assert_eq!(result.ok(), (done == len).then_some(len));
        if done > 0 {
            self.holds("scattered", gpa, written);
        }
    }

    /// Every way to read `len` bytes at `gpa`, of which `done` lie in RAM.
    fn reads(&self, gpa: u64, len: usize, done: usize) {
        let memory = &self.memory;
        let bytes = &self.pattern[gpa as usize % 64..][..len];
        if done > 0 {
            memory.write_at(gpa, &bytes[..done]).unwrap();
        }
        let expected = [&bytes[..done], &vec![0xee; len - done]].concat();
        let mut host = vec![0xee; len];
        self.check("read", memory.read_at(gpa, &mut host), gpa, len, done);
        assert!(host == expected, "read of {len} at {gpa:#x}");

        host.fill(0xee);
        let slice = memory.slice_at::<u8>(gpa, len as u64).unwrap();
        self.check("elements", slice.read_into(0, &mut host), gpa, len, done);
        assert!(host == expected, "elements of {len} at {gpa:#x}");

        self.other.fill_at(0x1001, 0xee, len as u64).unwrap();
        let copy = memory.copy_to(gpa, &self.other, 0x1001, len as u64);
        self.check("copy out", copy, gpa, len, done);
        let copied = self.other.compare_at(0x1001, &expected).unwrap();
        assert_eq!(copied, Ordering::Equal, "copy out of {len} at {gpa:#x}");

        let compared = memory.compare_at(gpa, bytes);
        let equal = compared.map(|order| assert_eq!(order, Ordering::Equal));
        self.check("compare", equal, gpa, len, done);

        host.fill(0xee);
        let chain = [
            GuestRange::new(gpa, 1),
            GuestRange::new(gpa + 1, len as u64),
        ];
        let result = memory.read_scattered(&chain, &mut host);
        if let Err(error) = &result {
            assert_eq!(error.done(), done);
        }
        assert_eq!(result.ok(), (done == len).then_some(len));
        assert!(host == expected, "scattered of {len} at {gpa:#x}");
        if done > 0 {
            memory.fill_at(gpa, 0, done as u64).unwrap();
        }
    }

    /// Words that cross the border: nothing of one is written.
    fn words(&self, gpa: u64, done: u64) {
        let memory = &self.memory;
        let cause = self.refusal(gpa + done);
        let words = [
            (2, memory.write_plain(gpa, &u16::MAX)),
            (4, memory.write_plain(gpa, &u32::MAX)),
            (8, memory.write_plain(gpa, &u64::MAX)),
        ];
        for (len, result) in words {
            let crosses = done < len;
            let found = result.err().map(|error| (error.done(), error.cause()));
            assert_eq!(found, crosses.then_some((0, cause)), "{len} at {gpa:#x}");
        }
        // The widest that fits has written.
        let written = [8, 4, 2].into_iter().find(|len| *len <= done);
        if done > 0 {
            let written = vec![0xff; written.unwrap_or(0) as usize];
            self.holds("words", gpa, &written);
        }
    }
}

#[test]
fn out_of_ram_at_every_offset() {
    for around in [Around::Hole, Around::ReadOnly] {
        let world = World::new(around);
        for len in LENS {
            for before in 0..=len.min(2 * PAGE) {
                let gpa = RAM.end - before as u64;
                world.writes(gpa, len, before);
                if around == Around::Hole {
                    world.reads(gpa, len, before);
                }
            }
        }
    }
}

#[test]
fn into_ram_at_every_offset() {
    for around in [Around::Hole, Around::ReadOnly] {
        let world = World::new(around);
        for len in LENS {
            // Some of the bytes are RAM, but not the first: nothing is done.
            for before in 1..=len.min(200) {
                let gpa = RAM.start - before as u64;
                world.writes(gpa, len, 0);
                if around == Around::Hole {
                    world.reads(gpa, len, 0);
                }
            }
            world.writes(RAM.start, len, len);
            world.reads(RAM.start, len, len);
        }
    }
}

#[test]
fn words_at_every_offset() {
    for around in [Around::Hole, Around::ReadOnly] {
        let world = World::new(around);
        for before in 0..=16 {
            world.words(RAM.end - before, before);
        }
        for before in 1..=8 {
            world.words(RAM.start - before, 0);
        }
    }
}

#[test]
fn across_a_page_border_inside_ram_at_every_offset() {
    let world = World::new(Around::Hole);
    for len in LENS {
        for before in 0..=len.min(300) {
            let gpa = RAM.start + PAGE_SIZE - before as u64;
            world.writes(gpa, len.min(4096), len.min(4096));
            world.reads(gpa, len.min(4096), len.min(4096));
        }
    }
}

/// A copy whose source and destination both stop, each first in turn.
#[test]
fn a_copy_stops_where_the_first_of_both_sides_does() {
    let (from, to) = (World::new(Around::Hole), World::new(Around::ReadOnly));
    for len in [1, 7, 64, 127, 128, 200, 300] {
        for before_from in 0..=len + 1 {
            for before_to in [0, 1, 5, 63, 64, 100, 128, 150, 199, 300] {
                let (src, dst) = (RAM.end - before_from, RAM.end - before_to);
                let result = from.memory.copy_to(src, &to.memory, dst, len);
                let done = before_from.min(before_to);
                let expected = if done >= len {
                    None
                } else if before_from <= before_to {
                    // The byte is read before it is written.
                    Some((done, Cause::Hole { gpa: RAM.end }))
                } else {
                    Some((done, Cause::ReadOnly { gpa: RAM.end }))
                };
                let found = result.err().map(|error| (error.done(), error.cause()));
                assert_eq!(found, expected, "{len} from {src:#x} to {dst:#x}");
            }
        }
    }
}
