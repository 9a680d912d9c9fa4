//! A counted place for one backing, which readers without a lock may touch at any time.

use crate::sync::{AtomicU64, GuardedCell, Ordering};
use std::ptr::NonNull;

/// What a lease is for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum LeaseAccess {
    /// For reading.
    Read,
    /// For reading and writing.
    Write,
}

impl LeaseAccess {
    /// Says whether the lease may write.
    pub fn is_write(self) -> bool {
        self == Self::Write
    }

    /// Where in the state its leases are counted.
    #[inline(always)]
    fn shift(self) -> u32 {
        match self {
            Self::Read => 0,
            Self::Write => BITS,
        }
    }
}

impl std::fmt::Display for LeaseAccess {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
        })
    }
}

/// How many bits count the leases of one kind.
const BITS: u32 = 28;
const COUNT: u64 = (1 << BITS) - 1;
/// More leases of a kind are refused. The other half of the counter is for those who have counted
/// themselves and have yet to see that they are too many.
const MOST: u64 = if cfg!(test) { 4 } else { 1 << (BITS - 1) };
const LEASES: u64 = (1 << (2 * BITS)) - 1;

/// A mapping shows the contents.
const MAPPED: u64 = 1 << 56;
/// There are no contents.
const EMPTY: u64 = 1 << 57;
/// One thread is taking the contents out.
const CLAIMED: u64 = 1 << 58;
/// The table is gone: whoever empties the slot frees it, too.
const ORPHAN: u64 = 1 << 59;

/// A place for contents that stay while they are mapped or leased, whichever is longer.
///
/// A reader finds the slot in a table that may change at that moment, so it may count itself in a
/// slot that holds something else by now, or nothing. That does no harm: the slot's own memory stays
/// as long as the table, the reader then sees that the table changed ([`Sequence`]), and counts
/// itself out. Only after it has seen that the table did *not* change may it use the contents:
///
/// - To take a mapping away, the table is changed first, and MAPPED is cleared after that.
/// - Both that and a reader's counting are read-modify-writes of `state`, so one comes first. If the
///   reader's does, the other finds it counted and leaves the contents. If the other does, the
///   reader's acquire pairs with its release, and the reader sees the changed sequence.
///
/// So the state needs no sequential consistency. Its invariants:
///
/// - S1: Contents are written only while EMPTY, by the table's one writer, or by the thread that set
///   CLAIMED. They are read only by who counts and has seen its table unchanged, or by the writer,
///   or under the table's lock while MAPPED.
/// - S2: CLAIMED is set only in a state without leases and without MAPPED and EMPTY, by the very
///   read-modify-write that leads there; so exactly one thread does it.
/// - S3: The slot is freed only by [`orphan`](Self::orphan), or, once ORPHAN is set, by the thread
///   that had set CLAIMED. A lease counts, so neither happens while it lives.
///
/// [`Sequence`]: super::sequence::Sequence
pub(crate) struct Slot<T> {
    state: AtomicU64,
    contents: GuardedCell<Option<T>>,
}

// SAFETY: the contents go from one thread to another, and are shared between threads, by S1.
unsafe impl<T: Send + Sync> Send for Slot<T> {}
// SAFETY: as for Send.
unsafe impl<T: Send + Sync> Sync for Slot<T> {}

/// Says that there are as many leases of one kind as can be counted.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl<T> Slot<T> {
    /// Makes an empty slot, to be freed by [`orphan`](Self::orphan).
    pub(crate) fn allocate() -> NonNull<Self> {
        NonNull::from(Box::leak(Box::new(Self {
            state: AtomicU64::new(EMPTY),
            contents: GuardedCell::new(None),
        })))
    }

    /// Says whether [`fill`](Self::fill) may be called.
    pub(crate) fn is_empty(&self) -> bool {
        // Acquire: the thread that took the contents out is done.
        self.state.load(Ordering::Acquire) & EMPTY != 0
    }

    /// Puts contents in, mapped.
    ///
    /// # Safety
    ///
    /// The caller is the table's one writer, and the slot is empty.
    pub(crate) unsafe fn fill(&self, contents: T) {
        self.contents.with_mut(|cell| {
            // SAFETY: the slot is empty and this is the writer (S1).
            unsafe { *cell = Some(contents) };
        });
        // Not a store: a reader with an old table may be counted at this moment. Release: whoever
        // counts from now on may read the contents. (The change that shows the slot releases, too.)
        self.state.fetch_xor(EMPTY | MAPPED, Ordering::Release);
    }

    /// Counts a lease.
    ///
    /// # Safety
    ///
    /// The slot is not freed: its table lives, or the caller has a lease on it.
    #[inline(always)]
    pub(crate) unsafe fn acquire(slot: NonNull<Self>, access: LeaseAccess) -> Result<(), TooMany> {
        // SAFETY: the caller's promise.
        let state = unsafe { &slot.as_ref().state };
        // Acquire pairs with the release of `unmap` and of `fill`: see the type. (The fence in
        // `Sequence::is_still` would do the same, but not on its own account.)
        let before = state.fetch_add(1 << access.shift(), Ordering::Acquire);
        if (before >> access.shift()) & COUNT < MOST {
            return Ok(());
        }
        // SAFETY: it was counted just now. There are others, so nothing is left to drop.
        drop(unsafe { Self::release(slot, access) });
        Err(TooMany)
    }

    /// Counts a lease out. Returns the contents if nothing needs them any more.
    ///
    /// # Safety
    ///
    /// The caller counted it, and uses the slot no more.
    #[inline(always)]
    pub(crate) unsafe fn release(slot: NonNull<Self>, access: LeaseAccess) -> Option<T> {
        // SAFETY: by S3 the slot is there until this is counted out.
        let state = unsafe { &slot.as_ref().state };
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            // To subtract first and look then would be a use of a slot that is freed by now.
            let rest = seen.wrapping_sub(1 << access.shift());
            let last = rest & (LEASES | MAPPED | EMPTY | CLAIMED) == 0;
            let next = if last { rest | CLAIMED } else { rest };
            // Release: what was done with the contents comes before they are taken out. Acquire:
            // so does what others did.
            match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                // SAFETY: CLAIMED was set just now.
                Ok(_) if last => return unsafe { Self::take_out(slot) },
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    /// Says that no mapping shows the contents any more. Returns them if no lease needs them either.
    /// Else `leased` has looked at them, once or several times: they may be gone when this returns.
    ///
    /// # Safety
    ///
    /// The caller is the table's one writer, the slot is mapped, and the table says so no more.
    pub(crate) unsafe fn unmap(slot: NonNull<Self>, mut leased: impl FnMut(&T)) -> Option<T> {
        // SAFETY: the table, and so the slot, lives.
        let place = unsafe { slot.as_ref() };
        let state = &place.state;
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            let rest = seen & !MAPPED;
            let last = rest & LEASES == 0;
            let next = if last { rest | CLAIMED } else { rest };
            if !last {
                // SAFETY: the caller is the writer, and until the exchange the slot is mapped (S1).
                unsafe { place.with(|contents| contents.into_iter().for_each(&mut leased)) };
            }
            // As for `release`; and a reader who counts itself after this sees the changed table.
            match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                // SAFETY: CLAIMED was set just now.
                Ok(_) if last => return unsafe { Self::take_out(slot) },
                Ok(_) => return None,
                Err(now) => seen = now,
            }
        }
    }

    /// Says that a mapping shows the contents again, if there are any: then a lease has kept them.
    ///
    /// # Safety
    ///
    /// The caller is the table's one writer, and the slot is not mapped.
    pub(crate) unsafe fn remap(&self) -> bool {
        let mut seen = self.state.load(Ordering::Relaxed);
        while seen & (EMPTY | CLAIMED) == 0 {
            let next = seen | MAPPED;
            match self
                .state
                .compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => seen = now,
            }
        }
        false
    }

    /// Says that the table is gone: the last lease frees the slot, or this does if there is none.
    /// Returns the contents if no lease needs them.
    ///
    /// # Safety
    ///
    /// No one reads the table any more, and the caller uses the slot no more.
    pub(crate) unsafe fn orphan(slot: NonNull<Self>) -> Option<T> {
        // SAFETY: only this, called once, frees a slot before ORPHAN is set (S3).
        let state = unsafe { &slot.as_ref().state };
        let mut seen = state.load(Ordering::Relaxed);
        loop {
            let next = (seen & !MAPPED) | ORPHAN;
            match state.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        if seen & (LEASES | CLAIMED) != 0 {
            return None;
        }
        // SAFETY: no lease counts, no reader can count itself, and no thread has claimed it.
        let mut slot = unsafe { Box::from_raw(slot.as_ptr()) };
        take(&mut slot.contents)
    }

    /// Takes the contents out of a slot that this thread has claimed.
    ///
    /// # Safety
    ///
    /// The caller set CLAIMED, and uses the slot no more if it is an orphan.
    #[cold]
    unsafe fn take_out(slot: NonNull<Self>) -> Option<T> {
        // SAFETY: by S3 a slot that is claimed is freed by the claimant only, below.
        let place = unsafe { slot.as_ref() };
        let contents = place.contents.with_mut(|cell| {
            // SAFETY: only the claimant uses the contents (S1).
            unsafe { (*cell).take() }
        });
        // Release: the writer may fill it now. Acquire: `orphan` was done with it.
        let before = place.state.fetch_xor(CLAIMED | EMPTY, Ordering::AcqRel);
        if before & ORPHAN != 0 {
            // SAFETY: the table has left the slot to the claimant (S3).
            drop(unsafe { Box::from_raw(slot.as_ptr()) });
        }
        contents
    }

    /// Looks at the contents.
    ///
    /// # Safety
    ///
    /// S1: the caller counts, and found the table unchanged after it had counted itself; or it is
    /// the table's writer, or holds its lock, and the slot is mapped.
    #[inline(always)]
    pub(crate) unsafe fn with<R>(&self, look: impl FnOnce(Option<&T>) -> R) -> R {
        self.contents.with(|cell| {
            // SAFETY: by S1 no one writes the contents now.
            look(unsafe { (*cell).as_ref() })
        })
    }

    /// Returns how many read leases and write leases there are. Readers that have yet to see that
    /// the table changed are among them.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let state = self.state.load(Ordering::Relaxed);
        (state & COUNT, (state >> BITS) & COUNT)
    }
}

/// Takes the contents out of a slot that no one else knows.
fn take<T>(contents: &mut GuardedCell<Option<T>>) -> Option<T> {
    contents.with_mut(|cell| {
        // SAFETY: it is borrowed exclusively.
        unsafe { (*cell).take() }
    })
}
