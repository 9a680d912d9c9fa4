//! Slots: which ranges a listener holds, and how few of them a change has to touch.

use crate::BackingHandle;
use crate::diff::Difference;
use crate::params::Permissions;
use crate::table::Borders;
use inspect::Inspect;
use memory_range::sorted::{Piece, walk};
use memory_range::{MemoryRange, RangeMap, RangeValue};
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

/// What the ledger keeps for each slot, beside its range.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) permissions: Permissions,
    pub(crate) prefetch: bool,
}

impl RangeValue for Held {}

/// The slots that every listener of a manager holds now.
///
/// # Invariant
///
/// Each slot's whole range is visible, with the slot's permissions; slots don't overlap; and
/// every visible page lies in one.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SlotLedger {
    held: RangeMap<Held>,
}

impl SlotLedger {
    /// Every slot, by address.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = Slot> {
        self.held.iter().map(|(range, held)| slot(range, *held))
    }

    /// The number of slots.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Records what a plan did.
    pub(crate) fn update(&mut self, removed: &[Slot], added: &[Slot]) {
        for slot in removed {
            self.held.remove_exact(slot.range);
        }
        for slot in added {
            self.held.replace(slot.range, held(slot));
        }
    }

    /// Computes the fewest slots to remove and to add for a set of differences.
    ///
    /// A slot goes only if some of its range vanishes or changes permissions. What that leaves
    /// uncovered, and what is newly visible, gets new slots, cut at the borders of every region
    /// placed there, mapped or not: so the next change of any of these regions finds a slot
    /// that ends where it does.
    pub(crate) fn plan<B: BackingHandle>(
        &self,
        differences: &[Difference<B>],
        borders: &Borders,
    ) -> (Vec<Slot>, Vec<Slot>) {
        // Sorted and disjoint, since the differences are.
        let affected: Vec<(MemoryRange, Option<Held>)> = differences
            .iter()
            .filter(|difference| difference.permissions_change())
            .map(|difference| {
                let held = difference.new.as_ref().map(|visible| Held {
                    permissions: visible.permissions,
                    prefetch: visible.prefetch,
                });
                (difference.range, held)
            })
            .collect();

        let mut removed: Vec<Slot> = Vec::new();
        for (range, _) in &affected {
            for (slot_range, held) in self.held.overlapping(*range) {
                // One slot may reach into several differences.
                if removed.last().is_none_or(|last| last.range != slot_range) {
                    removed.push(slot(slot_range, *held));
                }
            }
        }

        // What a removed slot leaves was visible with its permissions, by the ledger's invariant,
        // and still is where no difference says otherwise.
        let uncovered = walk(
            removed.iter().map(|slot| (slot.range, held(slot))),
            affected,
        )
        .filter_map(|piece| match piece {
            Piece::Left(range, held) => Some((range, held)),
            Piece::Right(range, new) | Piece::Both(range, _, new) => Some((range, new?)),
        });
        let added = cut_and_join(uncovered, borders);
        (removed, added)
    }
}

/// Joins neighbours with equal permissions, except across a region's border, and cuts at
/// every such border.
fn cut_and_join(
    uncovered: impl Iterator<Item = (MemoryRange, Held)>,
    borders: &Borders,
) -> Vec<Slot> {
    let mut added: Vec<Slot> = Vec::new();
    for (range, held) in uncovered {
        let mut start = range.start();
        let cuts = borders.between(range.start(), range.end());
        for end in cuts.chain(std::iter::once(range.end())) {
            let Ok(piece) = MemoryRange::try_new(start..end) else {
                continue;
            };
            match added.last_mut() {
                Some(last)
                    if last.range.end() == start
                        && last.permissions == held.permissions
                        && !borders.contains(start) =>
                {
                    if let Ok(joined) = MemoryRange::try_new(last.range.start()..end) {
                        last.range = joined;
                        last.prefetch |= held.prefetch;
                    }
                }
                _ => added.push(slot(piece, held)),
            }
            start = end;
        }
    }
    added
}

fn held(slot: &Slot) -> Held {
    Held {
        permissions: slot.permissions,
        prefetch: slot.prefetch,
    }
}

fn slot(range: MemoryRange, held: Held) -> Slot {
    Slot {
        range,
        permissions: held.permissions,
        prefetch: held.prefetch,
    }
}

/// The ranges that a plan takes away and gives again: a running vCPU can see them missing in
/// between.
pub(crate) fn gaps(removed: &[Slot], added: &[Slot]) -> Vec<MemoryRange> {
    let mut gaps = Vec::new();
    let mut rest = added.iter().peekable();
    for old in removed {
        while let Some(new) = rest.peek() {
            let common = old.range.intersection(&new.range);
            if !common.is_empty() {
                gaps.push(common);
            }
            if new.range.end() > old.range.end() {
                break;
            }
            rest.next();
        }
    }
    gaps
}
