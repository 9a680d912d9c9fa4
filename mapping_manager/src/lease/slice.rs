//! The pieces of host memory that a lease consists of.

use super::{Hold, Lease};
use crate::error::{AccessError, Cause, Operation};
use crate::table::BackingSlot;
use memory_range::PAGE_SIZE;
use sparse_alloc::access::{self, Fault, FaultKind};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

/// A piece of host memory in the linear view of one backing.
///
/// Invariant P1: the `len` bytes at `base` lie in the linear view of the backing in `slot`, a hold
/// on which is beside this in its lease; so they stay where they are.
#[derive(Copy, Clone)]
pub(super) struct Part {
    pub(super) gpa: u64,
    pub(super) len: u64,
    pub(super) base: NonNull<u8>,
    /// Where the bytes are in the backing.
    pub(super) offset: u64,
    /// Only compared with others.
    pub(super) slot: NonNull<BackingSlot>,
}

// SAFETY: these are addresses in a linear view, which is shared by every thread; how the bytes are
// accessed is up to the lease.
unsafe impl Send for Part {}
// SAFETY: as for Send.
unsafe impl Sync for Part {}

impl Part {
    /// The guest physical address past it.
    pub(super) fn end(&self) -> u64 {
        self.gpa.saturating_add(self.len)
    }

    /// The host address of a guest physical address in it.
    pub(super) fn at(&self, gpa: u64) -> *mut u8 {
        let offset = gpa.wrapping_sub(self.gpa);
        // Does not truncate: a linear view is a part of this process's address space.
        self.base.as_ptr().wrapping_add(offset as usize)
    }

    /// Why an access at a guest physical address in this part faulted.
    pub(super) fn cause(&self, holds: &[Hold], fault: Fault) -> Cause {
        let into = (fault.address() as u64).saturating_sub(self.base.addr().get() as u64);
        let gpa = self.gpa.saturating_add(into);
        match fault.kind() {
            FaultKind::HardwareError { .. } => Cause::Hardware { gpa },
            FaultKind::Bus if self.is_past_end(holds, into) => Cause::Truncated { gpa },
            _ => Cause::NoPage { gpa },
        }
    }

    /// Whether the file has become shorter than it would have to be for that byte.
    fn is_past_end(&self, holds: &[Hold], into: u64) -> bool {
        let hold = holds.iter().find(|hold| hold.slot() == self.slot);
        let Some(backing) = hold.and_then(Hold::backing) else {
            return false;
        };
        let len = backing.as_mappable().and_then(|file| file.len().ok()?);
        // The last page of a file is there to its end, whatever the file's length.
        let there = len.and_then(|len| len.checked_next_multiple_of(PAGE_SIZE));
        there.is_some_and(|there| self.offset.saturating_add(into) >= there)
    }
}

/// A contiguous piece of the host memory that a [`Lease`] holds.
///
/// It is no `&[u8]`: a guest, other threads and other processes may change the bytes at any time.
#[derive(Copy, Clone)]
pub struct LeaseSlice<'a> {
    lease: &'a Lease,
    part: Part,
    _memory: PhantomData<&'a [u8]>,
}

impl<'a> LeaseSlice<'a> {
    pub(super) fn new(lease: &'a Lease, part: Part) -> Self {
        Self {
            lease,
            part,
            _memory: PhantomData,
        }
    }

    /// Returns the guest physical address at which the first byte was when the lease was taken.
    pub fn gpa(&self) -> u64 {
        self.part.gpa
    }

    /// Returns the length in bytes, above zero.
    #[expect(clippy::len_without_is_empty, reason = "a slice is never empty")]
    pub fn len(&self) -> u64 {
        self.part.len
    }

    /// Returns the host address of the first byte.
    ///
    /// It is good for as long as the lease lives. Rust references to the bytes must not be formed,
    /// and an access that may fault (a file that others can truncate) belongs into
    /// [`read`](Self::read).
    pub fn as_ptr(&self) -> *const u8 {
        self.part.base.as_ptr().cast_const()
    }

    /// Returns the same address to write at; `None` if the lease is not for writing.
    pub fn as_mut_ptr(&self) -> Option<*mut u8> {
        let is_write = self.lease.access().is_write();
        is_write.then_some(self.part.base.as_ptr())
    }

    /// Reads bytes that start `offset` bytes into the slice.
    ///
    /// # Errors
    ///
    /// The bytes do not lie in the slice (then none is read); or a file was truncated, or memory
    /// is broken ([`AccessError::done`] says how many were read).
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), AccessError> {
        let src = self.check(Operation::Read, offset, bytes.len())?;
        // SAFETY: `check` found the source in the slice, whose memory the lease holds (P1).
        let result = unsafe { access::copy_from(bytes.as_mut_ptr(), src, bytes.len()) };
        result.map_err(|fault| self.failed(Operation::Read, offset, bytes.len(), fault))
    }

    /// Writes bytes that start `offset` bytes into the slice.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); and [`Cause::ReadLease`] if the lease is not for writing.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), AccessError> {
        let dst = self.check(Operation::Write, offset, bytes.len())?;
        // SAFETY: as for `read`, with the sides swapped.
        let result = unsafe { access::copy_to(dst, bytes.as_ptr(), bytes.len()) };
        let copied = result
            .as_ref()
            .err()
            .map_or(bytes.len(), |fault| fault.done);
        self.lease.mark(self.gpa_of(offset), copied as u64);
        result.map_err(|fault| self.failed(Operation::Write, offset, bytes.len(), fault))
    }

    fn gpa_of(&self, offset: u64) -> u64 {
        self.part.gpa.saturating_add(offset)
    }

    /// The host address of an access that the slice and its lease allow.
    fn check(&self, operation: Operation, offset: u64, len: usize) -> Result<*mut u8, AccessError> {
        let cause = match self.part.len.checked_sub(len as u64) {
            Some(last) if offset <= last => {
                if !operation.writes() || self.lease.access().is_write() {
                    return Ok(self.part.base.as_ptr().wrapping_add(offset as usize));
                }
                Cause::ReadLease
            }
            _ => Cause::OutsideLease {
                start: self.part.gpa,
                end: self.part.end(),
            },
        };
        let gpa = self.gpa_of(offset);
        Err(self.lease.error(operation, gpa, len as u64, 0, cause))
    }

    #[cold]
    fn failed(
        &self,
        operation: Operation,
        offset: u64,
        len: usize,
        fault: access::CopyFault,
    ) -> AccessError {
        let cause = self.part.cause(self.lease.holds(), fault.fault);
        let (gpa, done) = (self.gpa_of(offset), fault.done as u64);
        self.lease.error(operation, gpa, len as u64, done, cause)
    }
}

impl fmt::Debug for LeaseSlice<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LeaseSlice")
            .field("gpa", &format_args!("{:#x}", self.part.gpa))
            .field("len", &format_args!("{:#x}", self.part.len))
            .field("address", &self.part.base)
            .finish_non_exhaustive()
    }
}
