//! The operations that lead from the present state to the next, as a value.

use crate::diff::{self, Difference};
use crate::slots::{self, SlotLedger};
use crate::table::RegionTable;
use crate::va_ops::{self, VaOp};
use crate::{BackingHandle, FlatView, Slot, overlay};
use inspect::Inspect;
use memory_range::MemoryRange;
use std::fmt;

/// What a change has to do, and in which order.
///
/// A pure function of the slots and mappings before and of the regions after. Printing it
/// gives one line a step.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a plan does nothing until its transaction is committed"]
pub struct Plan<B> {
    pub(crate) removed: Vec<Slot>,
    pub(crate) va_ops: Vec<VaOp<B>>,
    pub(crate) replaced: Vec<MemoryRange>,
    pub(crate) added: Vec<Slot>,
    pub(crate) gaps: Vec<MemoryRange>,
}

/// One step of a plan.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Step<'a, B> {
    /// Every listener takes the slot away.
    RemoveSlot(&'a Slot),
    /// The sink changes host addresses.
    Va(&'a VaOp<B>),
    /// Every listener hears that other memory stands under slots that stay.
    ContentsReplaced(MemoryRange),
    /// Every listener gives the slot.
    AddSlot(&'a Slot),
}

impl<B: BackingHandle> Plan<B> {
    /// Plans the way from `view` and `slots` to what the regions in `table` say.
    ///
    /// Looks only at the `dirty` ranges, sorted and disjoint, outside which nothing differs. Returns
    /// with the plan where the flat view will differ.
    pub(crate) fn compute(
        table: &RegionTable<B>,
        view: &FlatView<B>,
        slots: &SlotLedger,
        dirty: &[MemoryRange],
    ) -> (Self, Vec<Difference<B>>) {
        let mut differences = Vec::new();
        for range in dirty {
            let new = overlay::overlay(table, *range);
            diff::differences(view, *range, &new, &mut differences);
        }
        let (removed, added) = slots.plan(&differences, table.borders());
        let va_ops = va_ops::va_ops(&differences);
        let replaced = replaced_under_slots(&va_ops, &added);
        let gaps = slots::gaps(&removed, &added);
        let plan = Self {
            removed,
            va_ops,
            replaced,
            added,
            gaps,
        };
        (plan, differences)
    }

    /// The steps in the order in which they are taken: partitions lose slots, host addresses
    /// change, listeners hear of replaced contents, partitions get slots.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_, B>> {
        let removed = self.removed.iter().map(Step::RemoveSlot);
        let va_ops = self.va_ops.iter().map(Step::Va);
        let replaced = self.replaced.iter().copied().map(Step::ContentsReplaced);
        let added = self.added.iter().map(Step::AddSlot);
        removed.chain(va_ops).chain(replaced).chain(added)
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps().next().is_none()
    }

    /// The slots that go, by address.
    pub fn removed_slots(&self) -> &[Slot] {
        &self.removed
    }

    /// The slots that come, by address.
    pub fn added_slots(&self) -> &[Slot] {
        &self.added
    }

    /// The operations on host addresses, by address.
    pub fn va_ops(&self) -> &[VaOp<B>] {
        &self.va_ops
    }

    /// The ranges in which a vCPU that runs meanwhile could see nothing for a moment, although
    /// something is visible there both before and after.
    pub fn gaps(&self) -> &[MemoryRange] {
        &self.gaps
    }
}

/// The parts of `Map` operations that lie under slots which stay: everything mapped that no
/// new slot covers, since whatever is visible lies in a slot.
fn replaced_under_slots<B>(va_ops: &[VaOp<B>], added: &[Slot]) -> Vec<MemoryRange> {
    let mapped: Vec<MemoryRange> = va_ops
        .iter()
        .filter(|op| matches!(op, VaOp::Map { .. }))
        .map(VaOp::range)
        .collect();
    let new: Vec<MemoryRange> = added.iter().map(|slot| slot.range).collect();
    memory_range::sorted::subtract(&mapped, &new).collect()
}

impl<B: BackingHandle> fmt::Display for Plan<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps() {
            match step {
                Step::RemoveSlot(slot) => writeln!(f, "remove slot {slot}")?,
                Step::Va(op) => writeln!(f, "{op}")?,
                Step::ContentsReplaced(range) => writeln!(f, "contents replaced {range}")?,
                Step::AddSlot(slot) => writeln!(f, "add slot {slot}")?,
            }
        }
        for gap in &self.gaps {
            writeln!(f, "gap {gap}")?;
        }
        Ok(())
    }
}

impl<B: BackingHandle> Inspect for Plan<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        let text = self.to_string();
        let mut response = req.respond();
        for (line, step) in text.lines().enumerate() {
            response.field(line.to_string(), step);
        }
    }
}
