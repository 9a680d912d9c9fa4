//! What an undo had to leave as it should not be.

use crate::BackingHandle;
use crate::call::Call;
use crate::error::UndoFailure;
use inspect::Inspect;
use memory_range::MemoryRange;

/// A call that would restore a range, and failed when a change was undone.
///
/// Kept, shown by inspection, and made again before the next change.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Damage<B: BackingHandle> {
    pub(crate) call: Call<'static, B>,
    pub(crate) who: String,
    pub(crate) cause: String,
}

impl<B: BackingHandle> Damage<B> {
    /// The same for the caller's error.
    pub(crate) fn as_failure(&self) -> UndoFailure {
        UndoFailure {
            step: self.call.describe(),
            range: self.call.range(),
            who: self.who.clone(),
            cause: self.cause.clone(),
        }
    }
}

impl<B: BackingHandle> Inspect for Damage<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.respond()
            .field("pending", &self.call.describe())
            .field("who", &self.who)
            .field("cause", &self.cause);
    }
}

/// The first damaged range that a change would work on.
pub(crate) fn in_the_way<B: BackingHandle>(
    damage: &[Damage<B>],
    ranges: impl Iterator<Item = MemoryRange>,
) -> Option<MemoryRange> {
    let mut ranges = ranges;
    ranges.find_map(|range| {
        damage
            .iter()
            .map(|one| one.call.range())
            .find(|damaged| damaged.overlaps(&range))
    })
}
