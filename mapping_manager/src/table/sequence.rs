//! How a reader without a lock learns that a table changed while it looked.

use crate::sync::{AtomicU64, Ordering, fence};

/// A number that is odd while a change is made, and higher after it.
///
/// What it guards is atomic itself, all of it, so that a reader who meets a change reads
/// nonsense but does nothing undefined. It then throws the nonsense away.
pub(crate) struct Sequence {
    number: AtomicU64,
}

impl Sequence {
    pub(crate) fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
        }
    }

    /// Returns what `look` makes of the table, unless it changed meanwhile, or `look` itself returns
    /// `None`. What `look` has counted must count itself out when it is dropped.
    #[inline(always)]
    pub(crate) fn unless_changed<R>(&self, look: impl FnOnce(u64) -> Option<R>) -> Option<R> {
        let seen = self.begin()?;
        let found = look(seen)?;
        self.is_still(seen).then_some(found)
    }

    /// Begins to look; `None` while a change is made.
    #[inline(always)]
    pub(crate) fn begin(&self) -> Option<u64> {
        // Acquire: what this number's change stored is visible to the loads that follow.
        let seen = self.number.load(Ordering::Acquire);
        seen.is_multiple_of(2).then_some(seen)
    }

    /// Says whether nothing has changed since `begin` returned `seen`.
    #[inline(always)]
    pub(crate) fn is_still(&self, seen: u64) -> bool {
        // The fence pairs with the one in `change`: if a load before it read what a change stored,
        // the load after it reads that change's odd number, or a later one.
        fence(Ordering::Acquire);
        self.number.load(Ordering::Relaxed) == seen
    }

    /// Begins a change, which ends when the guard is dropped. The caller excludes other changes.
    pub(crate) fn change(&self) -> Changing<'_> {
        let before = self.number.load(Ordering::Relaxed);
        self.number.store(before.wrapping_add(1), Ordering::Relaxed);
        // See `is_still`: no store of the change is visible before the odd number is.
        fence(Ordering::Release);
        Changing {
            sequence: self,
            after: before.wrapping_add(2),
        }
    }
}

/// A change that is being made.
#[must_use = "the change ends when it is dropped"]
pub(crate) struct Changing<'a> {
    sequence: &'a Sequence,
    after: u64,
}

impl Drop for Changing<'_> {
    fn drop(&mut self) {
        // Release: whoever begins with this number sees all of the change.
        self.sequence.number.store(self.after, Ordering::Release);
    }
}
