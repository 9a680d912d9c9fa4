//! The same system calls, made by hand on memory of the same kind.

use crate::guest::{MMIO, RAM_LEN, pages};
use guest_memory_manager::MemoryRange;
use sparse_alloc::SharedMemory;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// Where the address space of the guest ends: with the RAM above the devices.
const END: u64 = MMIO.end() + (RAM_LEN - MMIO.start());

/// Address space as a guest's, with RAM mapped in it, and nobody who keeps books.
pub(crate) struct Hand {
    base: *mut u8,
    ram: SharedMemory,
}

impl Hand {
    /// Reserves the address space and maps RAM, every page of it present.
    pub(crate) fn new() -> Self {
        let ram = SharedMemory::new("by-hand", RAM_LEN).unwrap();
        let private = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel picks the address.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                END as usize,
                libc::PROT_NONE,
                private,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        let hand = Self {
            base: base.cast(),
            ram,
        };
        let low = MMIO.start();
        for (range, offset) in [(0..low, 0), (MMIO.end()..END, low)] {
            let range = MemoryRange::new(range);
            hand.show_ram(range, offset, true);
            // As shared memory is mapped in large pieces: left out of core dumps and forks.
            for advice in [libc::MADV_DONTDUMP, libc::MADV_DONTFORK] {
                let (addr, len) = hand.host(range);
                // SAFETY: the range is ours, and the advice keeps contents.
                let advised = unsafe { libc::madvise(addr, len, advice) };
                assert_eq!(advised, 0);
            }
            hand.write(range);
        }
        hand
    }

    /// `mprotect`.
    pub(crate) fn protect(&self, range: MemoryRange, writable: bool) {
        let (addr, len) = self.host(range);
        // SAFETY: the range is ours, and nobody holds a reference into it.
        let result = unsafe { libc::mprotect(addr, len, protection(writable)) };
        assert_eq!(result, 0);
    }

    /// `mmap` of RAM.
    pub(crate) fn show_ram(&self, range: MemoryRange, offset: u64, writable: bool) {
        self.show(range, self.ram.mappable(), offset, writable);
    }

    /// `mmap` of a file.
    pub(crate) fn show(&self, range: MemoryRange, file: &impl AsFd, offset: u64, writable: bool) {
        let (prot, fd) = (protection(writable), file.as_fd().as_raw_fd());
        self.map(range, prot, libc::MAP_SHARED, fd, offset);
    }

    /// `mmap` of private zeros, which may be written.
    pub(crate) fn show_zeros(&self, range: MemoryRange) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.map(range, protection(true), flags, -1, 0);
    }

    /// `mmap` of nothing.
    pub(crate) fn reserve(&self, range: MemoryRange) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        self.map(range, libc::PROT_NONE, flags, -1, 0);
    }

    fn map(&self, range: MemoryRange, prot: i32, flags: i32, fd: i32, offset: u64) {
        let (addr, len) = self.host(range);
        // SAFETY: the range is ours, and nobody holds a reference into it.
        let mapped = unsafe {
            libc::mmap(
                addr,
                len,
                prot,
                flags | libc::MAP_FIXED,
                fd,
                offset.cast_signed(),
            )
        };
        assert_eq!(mapped, addr);
    }

    /// Reads from every page.
    pub(crate) fn touch(&self, range: MemoryRange) {
        for gpa in pages(&range) {
            let at = self.base.wrapping_add(gpa as usize).cast::<u64>();
            // SAFETY: the range is ours, and something readable is mapped there.
            unsafe { at.read_volatile() };
        }
    }

    fn write(&self, range: MemoryRange) {
        for gpa in pages(&range) {
            let at = self.base.wrapping_add(gpa as usize).cast::<u64>();
            // SAFETY: the range is ours, and RAM is mapped writable there.
            unsafe { at.write_volatile(gpa) };
        }
    }

    /// Where a guest physical address range is mapped in this process.
    pub(crate) fn host(&self, range: MemoryRange) -> (*mut libc::c_void, usize) {
        assert!(range.end() <= END);
        let addr = self.base.wrapping_add(range.start() as usize);
        (addr.cast(), range.len() as usize)
    }
}

fn protection(writable: bool) -> libc::c_int {
    if writable {
        libc::PROT_READ | libc::PROT_WRITE
    } else {
        libc::PROT_READ
    }
}
