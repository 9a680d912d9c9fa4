//! A counted lease on one backing.

use crate::table::{BackingSlot, Held, LeaseAccess, Slot, TooMany};
use sparse_alloc::Backing;
use std::ptr::NonNull;
use std::sync::Arc;

/// A lease that is counted in the slot of its backing.
///
/// Invariant H1: while this lives, the slot counts it, so the slot is not freed; if it was counted
/// before its table was seen unchanged, the backing stays in the slot.
pub(super) struct Hold {
    slot: NonNull<BackingSlot>,
    access: LeaseAccess,
}

// SAFETY: it is a pointer to a slot, which any thread may use (it is Sync).
unsafe impl Send for Hold {}
// SAFETY: as for Send; a shared reference only looks at the slot.
unsafe impl Sync for Hold {}

impl Hold {
    /// Counts a lease in a slot.
    ///
    /// # Safety
    ///
    /// The slot is one of a table that lives during this call. Before the hold is used for anything
    /// but being dropped, the caller sees that the table has not changed since it found the slot.
    #[inline(always)]
    pub(super) unsafe fn count(
        slot: NonNull<BackingSlot>,
        access: LeaseAccess,
    ) -> Result<Self, TooMany> {
        // SAFETY: a table's slots are not freed before it is.
        unsafe { Slot::acquire(slot, access) }?;
        Ok(Self { slot, access })
    }

    pub(super) fn slot(&self) -> NonNull<BackingSlot> {
        self.slot
    }

    /// Looks at the backing.
    #[inline(always)]
    pub(super) fn with<R>(&self, look: impl FnOnce(&Held) -> R) -> Option<R> {
        // SAFETY: the slot is not freed (H1).
        let slot = unsafe { self.slot.as_ref() };
        // SAFETY: it is counted, and whoever made it saw the table unchanged (H1).
        unsafe { slot.with(|held| held.map(look)) }
    }

    /// The name of the guest memory.
    pub(super) fn memory(&self) -> Arc<str> {
        let memory = self.with(|held| held.memory.clone());
        memory.unwrap_or_default()
    }

    /// The backing.
    pub(super) fn backing(&self) -> Option<Backing> {
        self.with(|held| held.backing.clone())
    }
}

impl Drop for Hold {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: `count` counted it, and it is used no more.
        let unused = unsafe { Slot::release(self.slot, self.access) };
        if unused.is_some() {
            drop_unused(unused);
        }
    }
}

#[cold]
#[inline(never)]
fn drop_unused(unused: Option<Held>) {
    drop(unused);
}
