//! Guest memory as elements of one type.

use super::GuestMemory;
use super::recover::Attempt;
use super::slice_iter::GuestSliceIter;
use super::view::ViewError;
use super::words::{copy_words_from, copy_words_to};
use crate::error::{AccessError, Operation};
use std::fmt;
use std::marker::PhantomData;
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// A number of plain values, one behind the other in guest memory: a ring, a table.
///
/// It is a view with bounds of its own, cheap to clone, to be kept as long as one likes. What is
/// there is read and written each time, never cached. An element of 1, 2, 4 or 8 bytes at an address
/// aligned to its size is never torn, neither alone nor among others. An index past the end is
/// [`Cause::OutsideView`](crate::Cause::OutsideView).
///
/// ```
/// use mapping_manager::VaMapper;
/// use memory_range::{Access, MemoryRange};
/// use sparse_alloc::{Alignment, Backing, SharedMemory};
///
/// # let ram = SharedMemory::new("ram", 0x4000)?;
/// # let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
/// # let backing = Backing::from(ram.mappable().clone());
/// # mapper.map(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite)?;
/// # let memory = mapper.guest_memory();
/// let ring = memory.slice_at::<u16>(0x8004, 256)?;
/// ring.set(3, 42)?;
/// assert_eq!(ring.get(3)?, 42);
/// assert_eq!(memory.read_plain::<u16>(0x800a)?, 42);
/// assert!(ring.get(256).is_err());
///
/// ring.copy_from(254, &[1, 2])?;
/// let sum: u32 = ring.iter().map(|value| value.map(u32::from)).sum::<Result<_, _>>()?;
/// assert_eq!(sum, 45);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct GuestSlice<T> {
    /// Invariant S1: of `count * size_of::<T>()` bytes.
    memory: GuestMemory,
    count: u64,
    elements: PhantomData<fn(T) -> T>,
}

impl GuestMemory {
    /// Makes a view of `count` elements at `gpa`, which need not be aligned (but see
    /// [`GuestSlice`]).
    ///
    /// # Errors
    ///
    /// They leave this view, or are more bytes than there are addresses.
    pub fn slice_at<T>(&self, gpa: u64, count: u64) -> Result<GuestSlice<T>, ViewError> {
        let size = size_of::<T>() as u64;
        let end = count
            .checked_mul(size)
            .and_then(|len| gpa.checked_add(len))
            .ok_or_else(|| ViewError::Wraps {
                memory: self.name().to_owned(),
                start: gpa,
                count,
                size,
            })?;
        Ok(GuestSlice {
            memory: self.subrange(gpa..end)?,
            count,
            elements: PhantomData,
        })
    }
}

impl<T> GuestSlice<T> {
    const SIZE: u64 = size_of::<T>() as u64;

    /// The number of elements.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The bytes of the elements, as a view of their own.
    pub fn memory(&self) -> &GuestMemory {
        &self.memory
    }

    /// The offset in the view of an element.
    #[inline(always)]
    fn offset(&self, index: u64) -> u64 {
        if index < self.count {
            // Does not wrap, by S1.
            index.wrapping_mul(Self::SIZE)
        } else {
            // For the access to refuse; elements of no bytes too.
            u64::MAX
        }
    }
}

impl<T: FromBytes> GuestSlice<T> {
    /// Reads an element.
    ///
    /// # Errors
    ///
    /// As for [`GuestMemory::read_plain`]; or there is no such element.
    #[inline]
    pub fn get(&self, index: u64) -> Result<T, AccessError> {
        self.memory.read_plain(self.offset(index))
    }

    /// Reads as many elements as `elements` has, from the one at `index` on.
    ///
    /// # Errors
    ///
    /// There are not as many (then none is read); or as for [`GuestMemory::read_at`], and
    /// [`AccessError::done`] says how many bytes were read.
    pub fn read_into(&self, index: u64, elements: &mut [T]) -> Result<(), AccessError> {
        let attempt = self.bulk(Operation::Read, index, elements.len());
        let src = self.memory.checked(attempt)?.cast_const();
        let (dst, len) = (elements.as_mut_ptr().cast::<u8>(), size_of_val(elements));
        let read = |done: usize| {
            let (dst, src) = (dst.wrapping_add(done), src.wrapping_add(done));
            let len = len.saturating_sub(done);
            // SAFETY: `checked` found the source in the reservation (G1); the destination is a slice,
            // and any bytes make a `T`. `done` is at most the length of both.
            unsafe { copy_words_from(dst, src, len) }
        };
        read(0).or_else(|fault| self.memory.retry_bulk(attempt, fault, read))
    }

    /// Reads one element after the other.
    pub fn iter(&self) -> GuestSliceIter<'_, T> {
        GuestSliceIter::new(self)
    }
}

impl<T: IntoBytes + Immutable> GuestSlice<T> {
    /// Writes an element.
    ///
    /// # Errors
    ///
    /// As for [`GuestMemory::write_plain`]; or there is no such element.
    #[inline]
    pub fn set(&self, index: u64, value: T) -> Result<(), AccessError> {
        self.memory.write_plain(self.offset(index), &value)
    }

    /// Writes `elements`, from the one at `index` on.
    ///
    /// # Errors
    ///
    /// There are not as many (then none is written); or as for [`GuestMemory::write_at`], and
    /// [`AccessError::done`] says how many bytes were written.
    pub fn copy_from(&self, index: u64, elements: &[T]) -> Result<(), AccessError> {
        self.memory
            .write_elements(self.bulk(Operation::Write, index, elements.len()), elements)
    }
}

impl<T> GuestSlice<T> {
    fn bulk(&self, operation: Operation, index: u64, count: usize) -> Attempt {
        // One past the last element is where no elements may be.
        let gpa = match index <= self.count {
            true => index.saturating_mul(Self::SIZE),
            false => u64::MAX,
        };
        Attempt::new(operation, gpa, count.saturating_mul(size_of::<T>()))
    }
}

impl GuestMemory {
    fn write_elements<T: IntoBytes + Immutable>(
        &self,
        attempt: Attempt,
        elements: &[T],
    ) -> Result<(), AccessError> {
        let Some(dst) = self.checked_to_write(attempt) else {
            let write = |memory: &Self| memory.write_elements(attempt, elements);
            return self.write_aside(attempt, write, |()| true);
        };
        let bytes = elements.as_bytes();
        let write = |done: usize| {
            let (dst, src) = (dst.wrapping_add(done), bytes.as_ptr().wrapping_add(done));
            let len = bytes.len().saturating_sub(done);
            // SAFETY: `checked_to_write` found the destination in the reservation (G1); the source is
            // a slice. `done` is at most the length of both.
            unsafe { copy_words_to(dst, src, len) }
        };
        write(0).or_else(|fault| self.retry_bulk(attempt, fault, write))
    }
}

impl<T> Clone for GuestSlice<T> {
    fn clone(&self) -> Self {
        Self {
            memory: self.memory.clone(),
            ..*self
        }
    }
}

impl<T> fmt::Debug for GuestSlice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuestSlice")
            .field("memory", &self.memory)
            .field("count", &self.count)
            .finish()
    }
}
