//! Views of a part of guest memory.

use super::tracking::Tracking;
use super::{GuestMemory, exchangeable_len};
use sparse_alloc::MappedRegion;
use std::ops::Range;
use std::sync::Arc;
use thiserror::Error;

/// Why a view of a part of guest memory was not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ViewError {
    /// The range starts or ends past the end of the view that it is to be a part of.
    #[error("{memory}: {start:#x}-{end:#x} lies outside the view's {len:#x} bytes")]
    Outside {
        /// The name of the memory.
        memory: String,
        /// Where the range starts, in bytes from the start of the view.
        start: u64,
        /// Where it ends.
        end: u64,
        /// The length of the view in bytes.
        len: u64,
    },
    /// The range ends before it starts.
    #[error("{memory}: a range from {start:#x} cannot end at {end:#x}")]
    Reversed {
        /// The name of the memory.
        memory: String,
        /// Where the range starts.
        start: u64,
        /// Where it ends.
        end: u64,
    },
    /// So many elements are more bytes than there are addresses.
    #[error("{memory}: {count:#x} elements of {size:#x} bytes from {start:#x} wrap")]
    Wraps {
        /// The name of the memory.
        memory: String,
        /// Where the first element starts, in bytes from the start of the view.
        start: u64,
        /// How many elements were asked for.
        count: u64,
        /// The size of an element in bytes.
        size: u64,
    },
}

impl GuestMemory {
    /// Makes a view of the bytes `range` (half-open, no alignment needed) of this one.
    ///
    /// In it address 0 is the range's start, and nothing outside the range can be reached. It
    /// costs an access nothing: it has another base and another length. A view of a tracked view
    /// is tracked. Errors name the guest physical address in the whole address space, and the
    /// offset in the view. An empty range is allowed, up to the end.
    ///
    /// # Errors
    ///
    /// The range leaves this view, or ends before it starts.
    ///
    /// ```
    /// use mapping_manager::{Cause, VaMapper};
    /// use memory_range::{Access, MemoryRange};
    /// use sparse_alloc::{Alignment, Backing, SharedMemory};
    ///
    /// # let ram = SharedMemory::new("ram", 0x4000)?;
    /// # let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
    /// # let backing = Backing::from(ram.mappable().clone());
    /// # mapper.map(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite)?;
    /// # let memory = mapper.guest_memory();
    /// let ring = memory.subrange(0x8100..0x8200)?;
    /// ring.write_plain(8, &1_u16)?;
    /// assert_eq!(memory.read_plain::<u16>(0x8108)?, 1);
    ///
    /// let error = ring.write_plain(0xff, &1_u16).unwrap_err();
    /// assert_eq!((error.gpa(), error.offset()), (0x81ff, 0xff));
    /// assert_eq!(error.cause(), Cause::OutsideView { start: 0x8100, end: 0x8200 });
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn subrange(&self, range: Range<u64>) -> Result<Self, ViewError> {
        let Range { start, end } = range;
        let memory = || self.name().to_owned();
        if end > self.len || start > self.len {
            return Err(ViewError::Outside {
                memory: memory(),
                start,
                end,
                len: self.len,
            });
        }
        let len = end.checked_sub(start).ok_or_else(|| ViewError::Reversed {
            memory: memory(),
            start,
            end,
        })?;
        let tracking = match &self.tracking {
            None => None,
            Some(tracking) => Some(Arc::new(Tracking {
                bitmap: tracking.bitmap.clone(),
                memory: tracking.memory.subrange(start..end)?,
            })),
        };
        let writable_len = if tracking.is_some() { 0 } else { len };
        // Stays in the reservation, by G1: neither truncates nor wraps.
        let base = self.base;
        let base = base.map_addr(|addr| addr.saturating_add(start as usize));
        Ok(Self {
            base,
            len,
            writable_len,
            exchangeable_len: exchangeable_len(base, writable_len),
            mapper: self.mapper.clone(),
            tracking,
        })
    }

    /// The guest physical addresses that this view shows: from 0 to the end of the address space,
    /// unless it is a [`subrange`](Self::subrange).
    pub fn gpa_range(&self) -> Range<u64> {
        let start = self.origin();
        // Does not wrap: it ends in the reservation, by G1.
        start..start.saturating_add(self.len)
    }

    /// The guest physical address of the view's first byte.
    pub(crate) fn origin(&self) -> u64 {
        let base = self.mapper.reservation().base();
        (self.base.addr().get() as u64).saturating_sub(base.addr().get() as u64)
    }

    /// Whether the view shows the whole address space.
    pub(super) fn is_whole(&self) -> bool {
        let va = self.mapper.reservation();
        self.base == va.base() && self.len == va.len()
    }
}
