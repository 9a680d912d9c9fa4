//! How far populating has got, and the wish that it stop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Tells other threads how far populating has got, and lets them stop it.
///
/// One may serve several calls, one after the other or at once: they add up. `done_bytes` never
/// becomes less, and never exceeds `total_bytes` where that is read after it.
///
/// ```
/// use memory_range::Access;
/// use sparse_alloc::{HostRange, MappedRegion, PopulateProgress, Populated, SharedMemory};
/// use sparse_alloc::populate_in_parallel;
/// use std::sync::Arc;
///
/// let ram = SharedMemory::new("ram", 1 << 20)?;
/// let view = ram.linear_view().clone();
/// let all = HostRange::new(view.clone(), 0, view.len())?;
///
/// // A clone of the `Arc` is for the thread that shows a bar, or waits for someone to cancel.
/// let progress = Arc::new(PopulateProgress::new());
/// let populated = populate_in_parallel(&[(all, Access::ReadWrite)], None, &progress)?;
/// assert_eq!(populated, Populated::Completely);
/// assert_eq!((progress.done_bytes(), progress.total_bytes()), (1 << 20, 1 << 20));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct PopulateProgress {
    done: AtomicU64,
    total: AtomicU64,
    cancelled: AtomicBool,
}

impl PopulateProgress {
    /// Makes the progress of something that has not begun.
    pub const fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Returns how many bytes have been made present, in whole chunks.
    pub fn done_bytes(&self) -> u64 {
        // Acquire, with the release of `add_done`: what was done was part of a total before.
        self.done.load(Ordering::Acquire)
    }

    /// Returns how many bytes are to be made present; zero until the work has begun.
    pub fn total_bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Has whoever populates stop when the chunks under way are done: in milliseconds, as a rule.
    /// It cannot be taken back.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Says whether [`cancel`](Self::cancel) was called.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    pub(super) fn add_total(&self, bytes: u64) {
        self.total.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn add_done(&self, bytes: u64) {
        self.done.fetch_add(bytes, Ordering::Release);
    }
}
