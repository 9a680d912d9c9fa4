//! Access by guest physical address.

mod atomic;
mod bulk;
mod plain;
mod read_only;
mod recover;

pub use atomic::AtomicPlain;

use crate::error::{AccessError, Cause};
use crate::va_mapper::VaMapper;
use recover::Attempt;
use sparse_alloc::MappedRegion;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// The flat view as devices see it, permissions included.
///
/// Cloning is cheap; a clone may be sent to any thread. Every change of the mappings shows at
/// once. An access checks its bounds and makes the access, with no look-up and no lock; it looks
/// at the mappings only after a fault, to say what is wrong or to try again where a change was
/// just under way.
///
/// Nothing is torn below the size of a word: a read or write of 1, 2, 4 or 8 bytes at an address
/// aligned to its length is one access. Longer ones may mix with what a guest or another thread
/// does meanwhile. No reference to guest memory is ever formed.
///
/// An access of no bytes succeeds anywhere up to the end of the address space. One that fails
/// part of the way says how much it did ([`AccessError::done`]).
#[derive(Clone)]
pub struct GuestMemory {
    /// Invariant G1: `base` and `len` are those of `mapper`'s reservation, which `mapper` keeps
    /// reserved, and in which only raw bytes are ever mapped.
    base: NonNull<u8>,
    len: u64,
    mapper: Arc<VaMapper>,
}

// SAFETY: `base` is an address in a reservation that `mapper` (Send + Sync) shares; by G1 only raw
// bytes are there, accessed in ways that allow for any number of threads.
unsafe impl Send for GuestMemory {}
// SAFETY: as for Send.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    pub(crate) fn new(mapper: Arc<VaMapper>) -> Self {
        let va = mapper.reservation();
        Self {
            base: va.base(),
            len: va.len(),
            mapper,
        }
    }

    /// The name that stands in errors.
    pub fn name(&self) -> &str {
        self.mapper.name()
    }

    /// The length of the guest physical address space in bytes; most of it may be holes.
    pub fn address_space_len(&self) -> u64 {
        self.len
    }

    /// The mapper whose mappings these are.
    pub fn mapper(&self) -> &Arc<VaMapper> {
        &self.mapper
    }

    /// The host address of an access, all of which lies in the address space.
    #[inline(always)]
    fn checked(&self, attempt: Attempt) -> Result<*mut u8, AccessError> {
        match self.len.checked_sub(attempt.len) {
            // Does not truncate: the reservation is a part of this process's address space.
            Some(last) if attempt.gpa <= last => {
                Ok(self.base.as_ptr().wrapping_add(attempt.gpa as usize))
            }
            _ => Err(self.out_of_range(attempt)),
        }
    }

    #[cold]
    #[inline(never)]
    fn out_of_range(&self, attempt: Attempt) -> AccessError {
        self.error(attempt, 0, Cause::OutOfRange { end: self.len })
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory")
            .field("name", &self.name())
            .field("base", &self.base)
            .field("len", &format_args!("{:#x}", self.len))
            .finish()
    }
}
