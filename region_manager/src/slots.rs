//! Slots: ranges with the same permissions throughout.

use crate::diff::Difference;
use crate::ledger::Held;
use crate::params::Permissions;
use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;

/// A range that is visible throughout with the same permissions, as a listener holds it.
///
/// Because HVA = base + GPA never changes, a slot depends on nothing else: other contents
/// under it are no business of its holder's, but for what
/// [`contents_replaced`](crate::RegionListener::contents_replaced) says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Inspect)]
pub struct Slot {
    /// The guest physical addresses; never empty.
    #[inspect(display)]
    pub range: MemoryRange,
    /// What the guest may do there, taken from the flat view.
    #[inspect(flatten)]
    pub permissions: Permissions,
    /// Whether the memory should be faulted in when the slot is added.
    pub prefetch: bool,
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefetch = if self.prefetch { " prefetch" } else { "" };
        write!(f, "{} {}{prefetch}", self.range, self.permissions)
    }
}

impl<B> Held<B> for Slot {
    fn range(&self) -> MemoryRange {
        self.range
    }

    fn differs(difference: &Difference<B>) -> bool {
        let permissions = |attributes: crate::view::Attributes| attributes.permissions;
        difference.old.map(permissions) != difference.attributes().map(permissions)
    }

    fn part(&self, range: MemoryRange) -> Self {
        Self { range, ..*self }
    }

    fn after(difference: &Difference<B>, range: MemoryRange, _: Option<&Self>) -> Option<Self> {
        let attributes = difference.attributes()?;
        Some(Self {
            range,
            permissions: attributes.permissions,
            prefetch: attributes.prefetch,
        })
    }

    fn absorb(&mut self, next: &Self) -> bool {
        if self.permissions != next.permissions {
            return false;
        }
        let Ok(both) = MemoryRange::try_new(self.range.start()..next.range.end()) else {
            return false;
        };
        self.range = both;
        self.prefetch |= next.prefetch;
        true
    }
}

/// Finds the ranges that a plan takes away and gives again: a running vCPU can see them missing in
/// between.
pub(crate) fn gaps(removed: &[Slot], added: &[Slot], gaps: &mut Vec<MemoryRange>) {
    let mut rest = added;
    for old in removed {
        while let [new, behind @ ..] = rest {
            if new.range.overlaps(&old.range) {
                gaps.push(old.range.intersection(&new.range));
            }
            if new.range.end() > old.range.end() {
                break;
            }
            rest = behind;
        }
    }
}
