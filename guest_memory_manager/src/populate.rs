//! Making RAM present before anybody touches it.

use crate::manager::GuestMemoryManager;
use memory_range::{Access, MemoryRange};
use sparse_alloc::{HostRange, PopulateError, PopulateProgress, Populated};
use std::num::NonZeroUsize;

impl GuestMemoryManager {
    /// Makes the RAM that is visible now present, all of it or what lies in `only`, so that the guest
    /// does not wait for memory when it first touches a page; with several threads.
    ///
    /// It blocks until all is done, which takes seconds for a large guest: call it from a thread of its
    /// own where something else is to go on. `progress` is to be looked at meanwhile, and can cancel.
    /// `threads` counts the caller's; `None` means one for each processor.
    ///
    /// What is made present are the host addresses that a guest's accesses go by. RAM that is hidden,
    /// and device windows, are left out. Where RAM lies is looked up once and no lock is held: changes
    /// of guest memory go on, and where one hides RAM meanwhile, or makes it read-only, populating
    /// it may fail. [`prefetch_ram`](crate::GuestMemoryBuilder::prefetch_ram) does the same within each
    /// change, for a partition that is attached.
    ///
    /// ```
    /// use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, PopulateProgress, Populated};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let layout = MemoryLayout::new(16 << 20, &[], None)?;
    /// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
    /// let progress = PopulateProgress::new();
    /// let done = std::thread::scope(|scope| {
    ///     let work = scope.spawn(|| memory.populate_ram(None, &progress, None));
    ///     while !work.is_finished() {
    ///         println!("{} of {} bytes", progress.done_bytes(), progress.total_bytes());
    ///         std::thread::sleep(std::time::Duration::from_millis(1));
    ///     }
    ///     work.join().expect("it does not panic")
    /// });
    /// assert_eq!(done?, Populated::Completely);
    /// assert_eq!(progress.done_bytes(), 16 << 20);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Memory runs out; the RAM was hidden meanwhile; or the kernel is older than 5.14. What is present
    /// already stays so.
    pub fn populate_ram(
        &self,
        only: Option<MemoryRange>,
        progress: &PopulateProgress,
        threads: Option<NonZeroUsize>,
    ) -> Result<Populated, PopulateError> {
        let pieces = self.visible_ram(only)?;
        sparse_alloc::populate_in_parallel(&pieces, threads, progress)
    }

    /// The host addresses of RAM that is visible now, and what may be done there.
    fn visible_ram(
        &self,
        only: Option<MemoryRange>,
    ) -> Result<Vec<(HostRange, Access)>, PopulateError> {
        let mapper = &self.shared.mapper;
        let mut pieces = Vec::new();
        let memories = self.shared.backing.memories();
        for region in &self.shared.ram {
            let wanted = only.map_or(region.range, |only| only.intersection(&region.range));
            let found = mapper.mapping_at(region.range.start());
            let (Some((_, mapping)), Some(memory)) = (found, memories.get(region.backing)) else {
                continue;
            };
            // Nothing hides RAM, so a region that shows at its start shows everywhere; and what shows
            // there while it is hidden is a window's.
            let is_shown = mapping.backing.as_mappable() == Some(memory.mappable());
            if !is_shown || wanted.is_empty() {
                continue;
            }
            let host = HostRange::new(mapper.va(), wanted.start(), wanted.len());
            let host = host.map_err(|_| PopulateError::OutOfBounds {
                range: wanted,
                len: mapper.space().end(),
            })?;
            pieces.push((host, mapping.access));
        }
        Ok(pieces)
    }
}
