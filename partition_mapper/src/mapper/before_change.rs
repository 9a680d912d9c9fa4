//! What a mapper does before its view changes: it looks whether the slots suffice, and stops the
//! vCPUs where they could see a gap.

use super::pieces::PieceState;
use super::{CheckError, PartitionMapper};
use crate::slot_budget::{Claimant, SlotNeed};
use crate::{PauseError, TooManySlots};
use memory_range::MemoryRange;

impl PartitionMapper {
    /// Checks that the partition has slots enough for a change that takes these ranges of the view
    /// away and gives those.
    pub(super) fn check_budget(
        &self,
        removed: impl Iterator<Item = MemoryRange>,
        added: impl Iterator<Item = MemoryRange>,
    ) -> Result<(), CheckError> {
        let Some(budget) = self.partition.slot_budget() else {
            return Ok(());
        };
        let mut need = SlotNeed {
            freed: self.count(removed),
            needed: self.count(added),
        };
        if self.damaged != 0 {
            // Put right before the change.
            for (_, held) in self.pieces.iter() {
                match held.state {
                    PieceState::Mapped => {}
                    PieceState::Stray => need.freed = need.freed.saturating_add(1),
                    PieceState::Missing => need.needed = need.needed.saturating_add(1),
                }
            }
        }
        let Some(mapper) = self.number else {
            return Ok(());
        };
        let view = self.va.region().base().addr().get();
        let claimed = budget.claim(Claimant { view, mapper }, need);
        claimed.map_err(|source: TooManySlots| CheckError::TooManySlots {
            partition: self.partition.name().to_owned(),
            source,
        })
    }

    /// How many pieces these ranges of the view are.
    fn count(&self, ranges: impl Iterator<Item = MemoryRange>) -> u64 {
        if self.window.filter.is_none() {
            return ranges.filter(|range| !range.is_empty()).count() as u64;
        }
        ranges.fold(0, |sum, range| sum.saturating_add(self.window.count(range)))
    }

    /// Stops the vCPUs if they could see one of the gaps and the partition can stop them.
    pub(super) fn pause_over(
        &mut self,
        mut gaps: impl Iterator<Item = MemoryRange>,
    ) -> Result<(), PauseError> {
        if self.paused.is_none()
            && let Some(barrier) = self.partition.barrier()
            && gaps.any(|gap| self.window.count(gap) != 0)
        {
            self.paused = Some(barrier.pause()?);
        }
        Ok(())
    }

    /// Tells the partition's account that there is one mapper less.
    pub(super) fn give_up_claims(&mut self) {
        if let Some(number) = self.number.take()
            && let Some(budget) = self.partition.slot_budget()
        {
            budget.claims().leave_mapper(number);
        }
    }
}
