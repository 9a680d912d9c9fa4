//! Leases on what a view shows.

use super::GuestMemory;
use crate::fetch::Asked;
use crate::lease::{self, Lease, LeaseError, Wanted};
use crate::table::LeaseAccess;
use std::ops::Range;

impl GuestMemory {
    /// Leases the bytes `range`: they stay valid, at their host addresses, until the lease is
    /// dropped, and no change waits for it. See [`Lease`].
    ///
    /// The range is half-open and needs no alignment. It may span mappings, of which the lease
    /// then shows one moment. If it is empty, nothing is held.
    ///
    /// RAM is leased without a system call and without a lock. The first lease of another backing
    /// makes its linear view, which is a system call. Only where changes follow each other so
    /// closely that a range is never seen whole does it keep the next one waiting, until it has it.
    ///
    /// A write lease of a [`tracked`](Self::tracked) view marks what is written through the lease at
    /// once, and all of its pages when it is dropped, since others may have been given its addresses.
    ///
    /// # Errors
    ///
    /// The range leaves this view or ends before it starts; reaches a hole; reaches memory that is
    /// read-only now, and `access` is for writing; reaches anonymous memory or zeros, which nobody
    /// else can hold; or a linear view cannot be made, or ends before the part that is mapped.
    ///
    /// ```
    /// use mapping_manager::{LeaseAccess, VaMapper};
    /// use memory_range::{Access, MemoryRange};
    /// use sparse_alloc::{Alignment, Backing, SharedMemory};
    ///
    /// let ram = SharedMemory::new("ram", 0x4000)?;
    /// let mapper = VaMapper::new("guest", 0x10_0000, Alignment::Page)?;
    /// let window = MemoryRange::new(0x8000..0xc000);
    /// mapper.map(window, &Backing::from(&ram), 0, Access::ReadWrite)?;
    ///
    /// let request = mapper.guest_memory().lock(0x8010..0x8210, LeaseAccess::Write)?;
    /// mapper.unmap(window)?;
    /// // Nothing is there any more, but the device completes what it has begun.
    /// request.write(0, b"data")?;
    ///
    /// mapper.map(window, &Backing::from(&ram), 0, Access::ReadWrite)?;
    /// assert_eq!(mapper.guest_memory().read_plain::<[u8; 4]>(0x8010)?, *b"data");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[inline]
    pub fn lock(
        &self,
        range: impl Into<Range<u64>>,
        access: LeaseAccess,
    ) -> Result<Lease, LeaseError> {
        let Range { start, end } = range.into();
        if start > end || end > self.len {
            return Err(self.outside(start, end));
        }
        let origin = self.origin();
        let wanted = Wanted {
            memory: self.name(),
            // Neither wraps: the view ends in the reservation.
            start: origin.wrapping_add(start),
            end: origin.wrapping_add(end),
            access,
        };
        let lease = match lease::take(self.mapper.table(), &wanted) {
            Ok(lease) => lease,
            Err(error) => self.lock_fetched(&wanted, error)?,
        };
        match &self.tracking {
            None => Ok(lease),
            Some(_) => Ok(self.track(lease)),
        }
    }

    /// As [`lock`](Self::lock), and shows `holder` in the mapper's inspection for as long as the
    /// lease lives. This takes a lock and allocates, here and when the lease is dropped.
    ///
    /// # Errors
    ///
    /// As [`lock`](Self::lock).
    pub fn lock_named(
        &self,
        range: impl Into<Range<u64>>,
        access: LeaseAccess,
        holder: &str,
    ) -> Result<Lease, LeaseError> {
        let lease = self.lock(range, access)?;
        Ok(lease.named(self.mapper.holders(), holder))
    }

    /// Goes on after an error: in a lazy mapper a hole is asked about before it counts as one.
    #[cold]
    fn lock_fetched(&self, wanted: &Wanted<'_>, error: LeaseError) -> Result<Lease, LeaseError> {
        let mut asked = Asked::default();
        let mut error = error;
        loop {
            let LeaseError::Hole { gpa, .. } = error else {
                return Err(error);
            };
            match asked.ask(&self.mapper, gpa, wanted.end.saturating_sub(gpa)) {
                Ok(true) => {}
                Ok(false) => return Err(error),
                Err(why) => {
                    let memory = self.name().to_owned();
                    return Err(LeaseError::NotFetched { memory, gpa, why });
                }
            }
            match lease::take(self.mapper.table(), wanted) {
                Ok(lease) => return Ok(lease),
                Err(again) => error = again,
            }
        }
    }

    /// Has a lease mark its writes in every bitmap that this view marks.
    #[cold]
    fn track(&self, lease: Lease) -> Lease {
        let mut lease = lease;
        let mut tracking = self.tracking.as_ref();
        while let Some(here) = tracking {
            lease = lease.tracked(here.bitmap.clone());
            tracking = here.memory.tracking.as_ref();
        }
        lease
    }

    #[cold]
    fn outside(&self, start: u64, end: u64) -> LeaseError {
        let memory = self.name().to_owned();
        match start > end {
            true => LeaseError::Reversed { memory, start, end },
            false => LeaseError::Outside {
                memory,
                start,
                end,
                len: self.len,
            },
        }
    }
}
