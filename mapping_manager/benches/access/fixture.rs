//! The memory behind everyone, and the addresses.

use crate::memory::Memory;
use crate::peer;
use crate::raw::Raw;
use mapping_manager::{GuestMemory, VaMapper};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use sparse_alloc::{Alignment, Backing, MappedRegion, SharedMemory};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use vm_memory::{FileOffset, GuestMemoryMmap};

/// The length of the guest.
const LEN: u64 = 256 << 20;

/// How many regions "many" is.
pub(crate) const MANY: usize = 10_000;

/// The numbers of regions that the peer is measured at.
pub(crate) const PEER_REGIONS: [usize; 4] = [1, 64, 1024, MANY];

/// How many addresses make a pass.
pub(crate) const PASS: usize = 512;

/// Everyone's memory. It is all the same memfd, so that nobody is luckier with its pages.
pub(crate) struct Fixture {
    pub(crate) raw: Raw,
    /// In one mapping, in the address space that `raw` uses.
    pub(crate) one: GuestMemory,
    /// In as many mappings as [`MANY`]. Every second was mapped by another opening of the memfd, so
    /// that the kernel cannot merge them.
    pub(crate) many: GuestMemory,
    pub(crate) peers: Vec<(usize, GuestMemoryMmap)>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let shared = SharedMemory::new("access-bench", LEN).unwrap();
        let backing = Backing::from(&shared);
        let fd = shared.mappable().as_fd();
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let reopened = File::options().read(true).write(true).open(path).unwrap();
        let twin = SharedMemory::from_fd("access-bench", reopened.into()).unwrap();
        let one = guest(&[&backing], 1);
        let many = guest(&[&backing, &Backing::from(&twin)], MANY);
        let base = one.mapper().reservation().base().as_ptr();
        let file = File::from(fd.try_clone_to_owned().unwrap());
        let file = FileOffset::new(file, 0);
        let peers = PEER_REGIONS.map(|regions| (regions, peer::new(&file, &ranges(regions))));
        let fixture = Self {
            raw: Raw::new(base, LEN),
            one,
            many,
            peers: peers.into(),
        };
        fixture.populate(&fixture.one);
        fixture.populate(&fixture.many);
        for (_, peer) in &fixture.peers {
            fixture.populate(peer);
        }
        fixture
    }

    /// Touches every page, so that none is missing later.
    fn populate<M: Memory>(&self, memory: &M) {
        for gpa in (0..LEN).step_by(PAGE_SIZE as usize) {
            memory.write_u64(gpa, 0).unwrap();
        }
    }

    /// Checks that everyone reads what was written, and leaves all zeroes.
    pub(crate) fn check_everyone(&self) {
        for window in Window::ALL {
            check(&self.raw, window);
            check(&self.one, window);
            check(&self.many, window);
            for (_, peer) in &self.peers {
                check(peer, window);
            }
        }
    }
}

/// The half-open ranges of that many regions that fill the guest, as long as each other but for
/// a page.
fn ranges(regions: usize) -> Vec<(u64, u64)> {
    let pages = LEN / PAGE_SIZE;
    let border = |i: usize| i as u64 * pages / regions as u64 * PAGE_SIZE;
    (0..regions).map(|i| (border(i), border(i + 1))).collect()
}

/// A guest in that many mappings, which take turns with the backings.
fn guest(backings: &[&Backing], regions: usize) -> GuestMemory {
    let mapper = VaMapper::new("bench", LEN, Alignment::Huge2M).unwrap();
    for ((start, end), backing) in ranges(regions).into_iter().zip(backings.iter().cycle()) {
        let range = MemoryRange::new(start..end);
        mapper
            .map(range, backing, start, Access::ReadWrite)
            .unwrap();
    }
    assert_eq!(mapper.mappings().len(), regions);
    mapper.guest_memory()
}

/// Checks every kind of access once at some addresses; leaves zeroes.
fn check<M: Memory>(memory: &M, window: Window) {
    for gpa in Addresses::new(window, 4096, 8).next_pass() {
        let (gpa, value) = (*gpa, !*gpa);
        memory.write_u64(gpa, value).unwrap();
        assert_eq!(memory.read_u64(gpa).unwrap(), value);
        assert_eq!(memory.load_u32(gpa).unwrap(), value as u32);
        memory.store_u32(gpa, 7).unwrap();
        assert_eq!(memory.exchange_u32(gpa, 8, 9).unwrap(), 7);
        assert_eq!(memory.exchange_u32(gpa, 7, 9).unwrap(), 7);
        assert_eq!(memory.load_u32(gpa).unwrap(), 9);
        let bytes = std::array::from_fn::<u8, 4096, _>(|i| (i + gpa as usize) as u8);
        for bytes in [&bytes[..64], &bytes] {
            let mut read = vec![0; bytes.len()];
            memory.write(gpa, bytes).unwrap();
            memory.read(gpa, &mut read).unwrap();
            assert_eq!(read, bytes);
        }
        memory.write(gpa, &[0; 4096]).unwrap();
    }
}

/// Which part of the guest is accessed.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Window {
    /// 32 KiB, about as much as a first-level cache holds.
    Small,
    /// All of the guest's 256 MiB.
    Large,
}

impl Window {
    pub(crate) const ALL: [Self; 2] = [Self::Small, Self::Large];

    fn start_and_len(self) -> (u64, u64) {
        match self {
            // At no border of 64 or 1,024 regions.
            Self::Small => (LEN / 8 * 5 + (64 << 10), 32 << 10),
            Self::Large => (0, LEN),
        }
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "32 KiB",
            Self::Large => "256 MiB",
        })
    }
}

/// Random addresses in a window, in passes that take turns.
pub(crate) struct Addresses {
    all: Vec<u64>,
    at: usize,
}

impl Addresses {
    /// Draws addresses, aligned to `alignment`, of accesses of `len` bytes.
    pub(crate) fn new(window: Window, len: u64, alignment: u64) -> Self {
        let (start, window_len) = window.start_and_len();
        let passes = match window {
            Window::Small => 1,
            // So many that what one pass leaves in a cache is of no use to the next.
            Window::Large => 2048,
        };
        let places = (window_len - len) / alignment + 1;
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut draw = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            start + state % places * alignment
        };
        Self {
            all: (0..passes * PASS).map(|_| draw()).collect(),
            at: 0,
        }
    }

    /// The addresses of the next pass.
    pub(crate) fn next_pass(&mut self) -> &[u64] {
        let pass = &self.all[self.at..self.at + PASS];
        self.at = (self.at + PASS) % self.all.len();
        pass
    }
}
