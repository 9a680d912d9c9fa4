//! What a guest's driver does: one request at a time, in either kind of ring.

use crate::block::{READ, WRITE};
use crate::packed::{AVAILABLE, FLAGS, USED};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use virtio_queue::desc::{RawDescriptor, packed, split};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

pub(crate) const SIZE: u16 = 8;
/// A device that has not answered by then is dead.
const PATIENCE: Duration = Duration::from_secs(60);
const NEXT: u16 = 1;
const WRITABLE: u16 = 2;

/// Where a driver has its rings and its buffers, a page each.
pub(crate) struct Places {
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
    pub(crate) header: u64,
    pub(crate) data: u64,
}

impl Places {
    pub(crate) fn from(start: u64) -> Self {
        let page = |nth: u64| start + nth * 0x1000;
        Self {
            descriptors: page(0),
            available: page(1),
            used: page(2),
            header: page(3),
            data: page(4),
        }
    }

    fn status(&self) -> u64 {
        self.header + 16
    }

    /// Address, length and flags of the three buffers.
    fn request<M: GuestMemory>(
        &self,
        memory: &M,
        kind: u32,
        sector: u64,
        len: u32,
    ) -> [(u64, u32, u16); 3] {
        memory.write_obj(kind, GuestAddress(self.header)).unwrap();
        memory
            .write_obj(sector, GuestAddress(self.header + 8))
            .unwrap();
        memory
            .write_obj(u8::MAX, GuestAddress(self.status()))
            .unwrap();
        let writes = if kind == READ { WRITABLE } else { 0 };
        [
            (self.header, 16, NEXT),
            (self.data, len, NEXT | writes),
            (self.status(), 1, WRITABLE),
        ]
    }
}

/// A ring, from the driver's side.
pub(crate) trait Ring {
    fn places(&self) -> &Places;

    /// Makes a request available.
    fn send<M: GuestMemory>(&mut self, memory: &M, request: [(u64, u32, u16); 3]);

    /// Whether the device has served it.
    fn is_served<M: GuestMemory>(&self, memory: &M) -> bool;

    /// Makes a request, and waits for its status.
    fn ask<M: GuestMemory>(&mut self, memory: &M, kind: u32, sector: u64, len: u32) -> u8 {
        let request = self.places().request(memory, kind, sector, len);
        self.send(memory, request);
        let sent = Instant::now();
        while !self.is_served(memory) {
            assert!(sent.elapsed() < PATIENCE, "the device does not answer");
            std::thread::yield_now();
        }
        memory
            .read_obj(GuestAddress(self.places().status()))
            .unwrap()
    }

    fn write<M: GuestMemory>(&mut self, memory: &M, sector: u64, bytes: &[u8]) -> u8 {
        let data = GuestAddress(self.places().data);
        memory.write_slice(bytes, data).unwrap();
        self.ask(memory, WRITE, sector, bytes.len() as u32)
    }

    fn read<M: GuestMemory>(&mut self, memory: &M, sector: u64, bytes: &mut [u8]) -> u8 {
        let data = GuestAddress(self.places().data);
        memory.write_slice(&vec![0; bytes.len()], data).unwrap();
        let status = self.ask(memory, READ, sector, bytes.len() as u32);
        memory.read_slice(bytes, data).unwrap();
        status
    }
}

pub(crate) struct SplitRing {
    pub(crate) places: Places,
    pub(crate) sent: u16,
}

impl Ring for SplitRing {
    fn places(&self) -> &Places {
        &self.places
    }

    fn send<M: GuestMemory>(&mut self, memory: &M, request: [(u64, u32, u16); 3]) {
        for (nth, (at, len, flags)) in (0_u16..).zip(request) {
            let descriptor = split::Descriptor::new(at, len, flags, nth + 1);
            let place = GuestAddress(self.places.descriptors + 16 * u64::from(nth));
            memory
                .write_obj(RawDescriptor::from(descriptor), place)
                .unwrap();
        }
        let entry = self.places.available + 4 + 2 * u64::from(self.sent % SIZE);
        memory.write_obj(0_u16, GuestAddress(entry)).unwrap();
        self.sent = self.sent.wrapping_add(1);
        let index = GuestAddress(self.places.available + 2);
        memory.store(self.sent, index, Ordering::Release).unwrap();
    }

    fn is_served<M: GuestMemory>(&self, memory: &M) -> bool {
        let index = GuestAddress(self.places.used + 2);
        memory.load::<u16>(index, Ordering::Acquire).unwrap() == self.sent
    }
}

pub(crate) struct PackedRing {
    pub(crate) places: Places,
    /// Where the next request begins, and the one under way.
    pub(crate) next: (u16, bool),
    pub(crate) under_way: (u16, bool),
}

impl PackedRing {
    fn flags_at(&self, nth: u16) -> GuestAddress {
        GuestAddress(self.places.descriptors + 16 * u64::from(nth) + FLAGS)
    }
}

impl Ring for PackedRing {
    fn places(&self) -> &Places {
        &self.places
    }

    fn send<M: GuestMemory>(&mut self, memory: &M, request: [(u64, u32, u16); 3]) {
        self.under_way = self.next;
        let mut first_flags = 0;
        for (nth, (at, len, flags)) in (0_u16..).zip(request) {
            let (place, wrap) = self.next;
            let flags = flags | if wrap { AVAILABLE } else { USED };
            // The first one says that the others are there, so it says it last.
            let now = if nth == 0 {
                first_flags = flags;
                !flags & (AVAILABLE | USED)
            } else {
                flags
            };
            let descriptor = packed::Descriptor::new(at, len, 7, now);
            let at = GuestAddress(self.places.descriptors + 16 * u64::from(place));
            memory.write_obj(descriptor, at).unwrap();
            self.next = match place + 1 {
                SIZE => (0, !wrap),
                next => (next, wrap),
            };
        }
        let first = self.flags_at(self.under_way.0);
        memory.store(first_flags, first, Ordering::Release).unwrap();
    }

    fn is_served<M: GuestMemory>(&self, memory: &M) -> bool {
        let (place, wrap) = self.under_way;
        let flags: u16 = memory
            .load(self.flags_at(place), Ordering::Acquire)
            .unwrap();
        let expected = if wrap { AVAILABLE | USED } else { 0 };
        flags & (AVAILABLE | USED) == expected
    }
}
