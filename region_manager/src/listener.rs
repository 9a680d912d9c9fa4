//! Who must be told when the flat view changes.

use crate::Slot;
use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;

/// The cause for which a listener refused a step.
pub type ListenerError = Box<dyn std::error::Error + Send + Sync>;

/// Identifies a registered listener within its manager; never reused.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub(crate) u64);

impl fmt::Display for ListenerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The slots that a change is about to take and to give, before any of it has happened.
#[derive(Copy, Clone, Debug)]
pub struct SlotChange<'a> {
    removed: &'a [Slot],
    added: &'a [Slot],
    gaps: &'a [MemoryRange],
}

impl<'a> SlotChange<'a> {
    /// Describes a change. `gaps` are the ranges that are both taken and given.
    pub const fn new(removed: &'a [Slot], added: &'a [Slot], gaps: &'a [MemoryRange]) -> Self {
        Self {
            removed,
            added,
            gaps,
        }
    }

    /// The slots that will go, by address.
    pub const fn removed(&self) -> &'a [Slot] {
        self.removed
    }

    /// The slots that will come, by address.
    pub const fn added(&self) -> &'a [Slot] {
        self.added
    }

    /// The ranges in which a vCPU that runs meanwhile could see nothing for a moment, although
    /// something is visible there both before and after. Empty for most changes.
    pub const fn gaps(&self) -> &'a [MemoryRange] {
        self.gaps
    }
}

/// Holds slots in step with the flat view.
///
/// Every call is made under the manager's change lock, on the thread that makes the change.
/// A listener that calls back into the manager gets an error (`LockError::Reentrant`), not a
/// deadlock.
///
/// The order of calls within one change: every [`remove`](Self::remove); then the host
/// addresses change; then [`contents_replaced`](Self::contents_replaced), then every
/// [`add`](Self::add). To undo, the manager makes the opposite calls in the opposite order,
/// so that a listener which hands out ids last-in-first-out ends with the ids it had.
///
/// A call that returns an error must have changed nothing: the manager undoes only the steps
/// that succeeded.
pub trait RegionListener: Send {
    /// Names the listener in errors and in inspection.
    fn name(&self) -> &str;

    /// Says whether the listener could follow a change: whether its budget of slots suffices, for
    /// one. Must change nothing.
    ///
    /// Every listener is asked once for each change that is about slots, in the order of
    /// registration, before anything is changed. Registering a listener is such a change, too: the
    /// new one is asked last and is given all slots, and the others are asked about a change of
    /// none, whatever they answer.
    ///
    /// # Errors
    ///
    /// The change is not made, and nothing needs to be undone.
    fn check(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        let _ = change;
        Ok(())
    }

    /// Keeps whoever runs on these slots from seeing the gaps of a change, until
    /// [`resume`](Self::resume).
    ///
    /// Called once for a change that has [gaps](SlotChange::gaps), and for no other, after every
    /// listener's [`check`](Self::check) and before the first step.
    ///
    /// # Errors
    ///
    /// The change is not made. Who was paused is resumed; this listener is not asked to.
    fn pause(&mut self, change: &SlotChange<'_>) -> Result<(), ListenerError> {
        let _ = change;
        Ok(())
    }

    /// Ends a [`pause`](Self::pause): the change is complete, or undone as far as it could be.
    fn resume(&mut self) {}

    /// Takes away a slot that was added before, exactly as it was added.
    ///
    /// # Errors
    ///
    /// The slot is still there; the change is undone.
    fn remove(&mut self, slot: &Slot) -> Result<(), ListenerError>;

    /// Gives a slot: its whole range is visible with its permissions, at host addresses that
    /// stay the same until it is removed.
    ///
    /// # Errors
    ///
    /// The slot is not there; the change is undone.
    fn add(&mut self, slot: &Slot) -> Result<(), ListenerError>;

    /// Says that other memory now stands at the host addresses of `range`, under slots that
    /// stay. Whoever pinned pages there must do it again (`mmap` with `MAP_FIXED` drops
    /// `mlock`), and whoever mapped them for DMA must map them anew.
    ///
    /// # Errors
    ///
    /// The change is undone, and the former memory is announced by another call.
    fn contents_replaced(&mut self, range: MemoryRange) -> Result<(), ListenerError>;

    /// Gives up every slot it holds, because it was taken out of its manager.
    ///
    /// A listener that is merely dropped must do the same; here it can say what went wrong.
    ///
    /// # Errors
    ///
    /// Some slots could not be given up. The listener is gone all the same, and must have seen to
    /// it that their host addresses are never used for anything else.
    fn detach(self: Box<Self>) -> Result<(), ListenerError>;

    /// Copies what [`inspect`](Self::inspect) shows.
    ///
    /// It is called under the change lock, and the copy is asked when the lock is free again. So a
    /// listener with much to show copies it here as it is, and writes and sorts it there. Without a
    /// copy, `inspect` is called under the lock, later than the rest of the manager's state is copied.
    fn inspection_copy(&self) -> Option<Box<dyn Inspect>> {
        None
    }

    /// Adds the listener's own state to the manager's tree.
    fn inspect(&self, req: inspect::Request<'_>);
}
