//! The device's side of a packed ring, after virtio 1.2, section 2.8.

use crate::block::Buffer;
use std::sync::atomic::Ordering;
use virtio_queue::desc::packed::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError};

pub(crate) const AVAILABLE: u16 = 1 << 7;
pub(crate) const USED: u16 = 1 << 15;
/// Where the flags of a descriptor are.
pub(crate) const FLAGS: u64 = 14;

pub(crate) struct PackedQueue {
    ring: GuestAddress,
    size: u16,
    next: u16,
    wrap: bool,
}

/// A request, and where its answer goes.
pub(crate) struct Chain {
    pub(crate) buffers: Vec<Buffer>,
    first: u16,
    wrap: bool,
    id: u16,
}

impl PackedQueue {
    pub(crate) fn new(ring: GuestAddress, size: u16) -> Self {
        Self {
            ring,
            size,
            next: 0,
            wrap: true,
        }
    }

    fn at(&self, nth: u16) -> GuestAddress {
        GuestAddress(self.ring.0 + 16 * u64::from(nth))
    }

    /// The next request, if the driver has made one available.
    pub(crate) fn pop<M: GuestMemory>(
        &mut self,
        memory: &M,
    ) -> Result<Option<Chain>, GuestMemoryError> {
        let flags = GuestAddress(self.at(self.next).0 + FLAGS);
        let flags: u16 = memory.load(flags, Ordering::Acquire)?;
        let (available, used) = (flags & AVAILABLE != 0, flags & USED != 0);
        if available != self.wrap || used == self.wrap {
            return Ok(None);
        }
        let mut chain = Chain {
            buffers: Vec::new(),
            first: self.next,
            wrap: self.wrap,
            id: 0,
        };
        // A driver that links in a circle gets no more than the ring has.
        for _ in 0..self.size {
            let descriptor: Descriptor = memory.read_obj(self.at(self.next))?;
            chain.buffers.push(Buffer {
                at: descriptor.addr(),
                len: descriptor.len(),
                is_writable: descriptor.is_write_only(),
            });
            chain.id = descriptor.id();
            self.next += 1;
            if self.next == self.size {
                (self.next, self.wrap) = (0, !self.wrap);
            }
            if !descriptor.has_next() {
                break;
            }
        }
        Ok(Some(chain))
    }

    /// Tells the driver that a request was served.
    pub(crate) fn answer<M: GuestMemory>(
        &self,
        memory: &M,
        chain: &Chain,
        written: u32,
    ) -> Result<(), GuestMemoryError> {
        let at = self.at(chain.first).0;
        memory.write_obj(written, GuestAddress(at + 8))?;
        memory.write_obj(chain.id, GuestAddress(at + 12))?;
        let flags = if chain.wrap { AVAILABLE | USED } else { 0 };
        memory.store(flags, GuestAddress(at + FLAGS), Ordering::Release)
    }
}
