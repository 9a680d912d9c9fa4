//! Access by guest physical address.

mod atomic;
mod bulk;
mod compare;
mod copy;
mod lock;
mod plain;
mod read_only;
mod recover;
mod scattered;
mod slice;
mod slice_iter;
mod tracking;
mod update;
mod view;
mod words;

pub use atomic::AtomicPlain;
pub use scattered::{GuestRange, ScatteredError};
pub use slice::GuestSlice;
pub use slice_iter::GuestSliceIter;
pub use tracking::TrackError;
pub use view::ViewError;

use crate::error::{AccessError, Cause};
use crate::va_mapper::VaMapper;
use recover::Attempt;
use sparse_alloc::MappedRegion;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use tracking::Tracking;

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
    /// Invariant G1: the `len` bytes at `base` lie in `mapper`'s reservation, which `mapper` keeps
    /// reserved, and in which only raw bytes are ever mapped.
    base: NonNull<u8>,
    len: u64,
    /// Invariant G2: `len`; or 0 in a tracked view. There each write of a byte fails the check of
    /// its bounds, which it makes in any case, and goes where pages are marked. So no access spends
    /// anything on finding out whether writes are tracked.
    writable_len: u64,
    /// Invariant G3: `writable_len`; or 0 where `base` is not aligned to the longest word. So an
    /// exchange sees by the offset alone whether it is aligned, and need not wait for the address.
    exchangeable_len: u64,
    mapper: Arc<VaMapper>,
    /// What a tracked view does about writes.
    tracking: Option<Arc<Tracking>>,
}

// SAFETY: `base` is an address in a reservation that `mapper` (Send + Sync) shares; by G1 only raw
// bytes are there, accessed in ways that allow for any number of threads.
unsafe impl Send for GuestMemory {}
// SAFETY: as for Send.
unsafe impl Sync for GuestMemory {}

impl VaMapper {
    /// Access to what is mapped, now and later.
    pub fn guest_memory(self: &Arc<Self>) -> GuestMemory {
        GuestMemory::new(self.clone())
    }
}

impl GuestMemory {
    fn new(mapper: Arc<VaMapper>) -> Self {
        let va = mapper.reservation();
        Self {
            base: va.base(),
            len: va.len(),
            writable_len: va.len(),
            exchangeable_len: exchangeable_len(va.base(), va.len()),
            mapper,
            tracking: None,
        }
    }

    /// The name that stands in errors.
    pub fn name(&self) -> &str {
        self.mapper.name()
    }

    /// The length in bytes of the guest physical address space, most of which may be holes; of a
    /// [`subrange`](Self::subrange), its own.
    pub fn address_space_len(&self) -> u64 {
        self.len
    }

    /// The mapper whose mappings these are.
    pub fn mapper(&self) -> &Arc<VaMapper> {
        &self.mapper
    }

    /// Whether all of an access lies in the address space.
    #[inline(always)]
    fn has(&self, gpa: u64, len: u64) -> bool {
        self.len.checked_sub(len).is_some_and(|last| gpa <= last)
    }

    /// Whether all of a write lies in the address space, and nobody needs to hear of it. If not, it
    /// is left to `write_aside`.
    #[inline(always)]
    fn has_to_write(&self, gpa: u64, len: u64) -> bool {
        let last = self.writable_len.checked_sub(len);
        last.is_some_and(|last| gpa <= last)
    }

    /// As [`has_to_write`](Self::has_to_write), for a word that is to be exchanged, so aligned. If
    /// not, it may be so nevertheless, in a view that starts anywhere.
    #[inline(always)]
    fn has_to_exchange(&self, gpa: u64, len: u64) -> bool {
        let last = self.exchangeable_len.checked_sub(len);
        last.is_some_and(|last| gpa <= last) && gpa & (len - 1) == 0
    }

    /// The host address of an access that was checked.
    #[inline(always)]
    fn at(&self, gpa: u64) -> *mut u8 {
        // Does not truncate: the reservation is a part of this process's address space.
        self.base.as_ptr().wrapping_add(gpa as usize)
    }

    /// The host address of an access, all of which lies in the address space.
    #[inline(always)]
    fn checked(&self, attempt: Attempt) -> Result<*mut u8, AccessError> {
        match self.has(attempt.gpa, attempt.len) {
            true => Ok(self.at(attempt.gpa)),
            false => Err(self.out_of_range(attempt)),
        }
    }

    /// The host address of a write, if [`has_to_write`](Self::has_to_write).
    #[inline(always)]
    fn checked_to_write(&self, attempt: Attempt) -> Option<*mut u8> {
        self.has_to_write(attempt.gpa, attempt.len)
            .then(|| self.at(attempt.gpa))
    }

    #[cold]
    #[inline(never)]
    fn out_of_range(&self, attempt: Attempt) -> AccessError {
        let range = self.gpa_range();
        let cause = match self.is_whole() {
            true => Cause::OutOfRange { end: range.end },
            false => Cause::OutsideView {
                start: range.start,
                end: range.end,
            },
        };
        self.error(attempt, 0, cause)
    }
}

/// What G3 asks for.
fn exchangeable_len(base: NonNull<u8>, writable_len: u64) -> u64 {
    match base.cast::<u64>().is_aligned() {
        true => writable_len,
        false => 0,
    }
}

impl fmt::Debug for GuestMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestMemory")
            .field("name", &self.name())
            .field("base", &self.base)
            .field("len", &format_args!("{:#x}", self.len))
            .field("tracked", &self.tracking.is_some())
            .finish()
    }
}
