//! The operations that lead from the present state to the next, as a value.

use crate::diff::{Comparison, Difference, Repainting};
use crate::dma::SubMapping;
use crate::ledger::Ledger;
use crate::slots::{self, Slot};
use crate::table::RegionTable;
use crate::va_ops::{self, VaOp, hole};
use crate::{BackingHandle, FlatView, Visible, overlay};
use inspect::Inspect;
use memory_range::{MemoryRange, sorted};
use std::fmt;

/// What a change has to do, and in which order.
///
/// A pure function of the slots and mappings before and of the regions after. Printing it
/// gives one line a step.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a plan does nothing until its transaction is committed"]
pub struct Plan<B> {
    pub(crate) removed: Vec<Slot>,
    pub(crate) dma_removed: Vec<SubMapping<B>>,
    pub(crate) va_ops: Vec<VaOp<B>>,
    pub(crate) replaced: Vec<MemoryRange>,
    pub(crate) dma_added: Vec<SubMapping<B>>,
    pub(crate) added: Vec<Slot>,
    pub(crate) gaps: Vec<MemoryRange>,
}

impl<B> Default for Plan<B> {
    fn default() -> Self {
        Self {
            removed: Vec::new(),
            dma_removed: Vec::new(),
            va_ops: Vec::new(),
            replaced: Vec::new(),
            dma_added: Vec::new(),
            added: Vec::new(),
            gaps: Vec::new(),
        }
    }
}

/// One step of a plan.
#[derive(Debug, PartialEq)]
#[non_exhaustive]
pub enum Step<'a, B> {
    /// Every slot listener takes the slot away.
    RemoveSlot(&'a Slot),
    /// Every DMA listener unmaps, but for one that could not map this.
    UnmapDma(&'a SubMapping<B>),
    /// The sink changes host addresses.
    Va(&'a VaOp<B>),
    /// Every slot listener hears that other memory stands under slots that stay.
    ContentsReplaced(MemoryRange),
    /// Every DMA listener maps.
    MapDma(&'a SubMapping<B>),
    /// Every slot listener gives the slot.
    AddSlot(&'a Slot),
}

/// What a plan starts from.
pub(crate) struct Present<'a, B> {
    pub(crate) view: &'a FlatView<B>,
    pub(crate) slots: &'a Ledger<Slot>,
    /// None where nobody listens.
    pub(crate) dma: Option<&'a Ledger<SubMapping<B>>>,
}

/// Where regions were edited, and how.
#[derive(Copy, Clone)]
pub(crate) struct Edited<'a> {
    /// Sorted by start.
    pub(crate) ranges: &'a [MemoryRange],
    /// Whether no region came to lie anywhere, or went: then who wins where is as it was.
    pub(crate) winners_stay: bool,
}

/// Finds what differs in a range by asking all regions that lie there.
fn overlay_anew<B: BackingHandle>(
    differences: &mut Vec<Difference<B>>,
    table: &RegionTable<B>,
    view: &FlatView<B>,
    range: MemoryRange,
) {
    match view.first_overlapping(range) {
        // Most changes are about one entry, or about a place where nothing is visible.
        Some(entry) if entry.0.contains(&range) => {
            let mut painting = Repainting::new(entry, range.start(), differences);
            overlay::overlay(table, range, &mut |shown| painting.shown(shown));
            painting.nothing_until(range.end());
        }
        None => overlay::overlay(table, range, &mut |shown| {
            differences.push(Difference::shown_anew(shown));
        }),
        Some(_) => {
            let old = view.overlapping(range);
            let mut comparison = Comparison::new(old, range.start(), differences);
            overlay::overlay(table, range, &mut |shown| comparison.shown(shown));
            comparison.nothing_until(range.end());
        }
    }
}

/// Finds what differs in a range where the same regions win as before: an entry of the view tells
/// which one does, and no other needs to be looked at. Who wins in a hole it does not tell.
fn repaint<B: BackingHandle>(
    differences: &mut Vec<Difference<B>>,
    table: &RegionTable<B>,
    view: &FlatView<B>,
    range: MemoryRange,
) {
    // One entry as a whole is the most frequent case, and needs no walk.
    if let Some(entry) = view.first_overlapping(range)
        && entry.0 == range
    {
        return repaint_part(differences, table, entry, range);
    }
    let mut hole_from = range.start();
    for entry in view.overlapping(range) {
        let part = entry.0.intersection(&range);
        if let Some(hole) = hole(hole_from, part.start()) {
            overlay_anew(differences, table, view, hole);
        }
        repaint_part(differences, table, entry, part);
        hole_from = part.end();
    }
    if let Some(hole) = hole(hole_from, range.end()) {
        overlay_anew(differences, table, view, hole);
    }
}

/// The same for a part of an entry.
fn repaint_part<B: BackingHandle>(
    differences: &mut Vec<Difference<B>>,
    table: &RegionTable<B>,
    entry: (MemoryRange, &Visible<B>),
    part: MemoryRange,
) {
    let mut painting = Repainting::new(entry, part.start(), differences);
    overlay::show_winner(table, part, entry.1.region, |shown| painting.shown(shown));
    painting.nothing_until(part.end());
}

impl<B: BackingHandle> Plan<B> {
    /// Plans the way from what is at present to what the regions in `table` say, in place of what
    /// this plan held. Writes into `differences` where the flat view will differ.
    ///
    /// Looks only at the ranges that were edited, sorted by start, outside which nothing differs.
    pub(crate) fn compute(
        &mut self,
        differences: &mut Vec<Difference<B>>,
        table: &RegionTable<B>,
        present: &Present<'_, B>,
        edited: Edited<'_>,
    ) {
        self.clear();
        differences.clear();
        let compare = if edited.winners_stay {
            repaint
        } else {
            overlay_anew
        };
        match edited.ranges {
            [range] => compare(differences, table, present.view, *range),
            ranges => sorted::merge_adjacent(ranges)
                .for_each(|range| compare(differences, table, present.view, range)),
        }
        let borders = table.borders();
        present
            .slots
            .plan(differences, borders, &mut self.removed, &mut self.added);
        if let Some(dma) = present.dma {
            let (removed, added) = (&mut self.dma_removed, &mut self.dma_added);
            dma.plan(differences, borders, removed, added);
        }
        va_ops::va_ops(differences, &mut self.va_ops);
        replaced_under_slots(&self.va_ops, &self.added, &mut self.replaced);
        slots::gaps(&self.removed, &self.added, &mut self.gaps);
    }

    /// Empties the lists and keeps their memory.
    fn clear(&mut self) {
        self.removed.clear();
        self.dma_removed.clear();
        self.va_ops.clear();
        self.replaced.clear();
        self.dma_added.clear();
        self.added.clear();
        self.gaps.clear();
    }

    /// The steps in the order in which they are taken: partitions lose slots, DMA listeners unmap,
    /// host addresses change, slot listeners hear of replaced contents, DMA listeners map,
    /// partitions get slots.
    pub fn steps(&self) -> impl Iterator<Item = Step<'_, B>> {
        let removed = self.removed.iter().map(Step::RemoveSlot);
        let dma_removed = self.dma_removed.iter().map(Step::UnmapDma);
        let va_ops = self.va_ops.iter().map(Step::Va);
        let replaced = self.replaced.iter().copied().map(Step::ContentsReplaced);
        let dma_added = self.dma_added.iter().map(Step::MapDma);
        let added = self.added.iter().map(Step::AddSlot);
        removed
            .chain(dma_removed)
            .chain(va_ops)
            .chain(replaced)
            .chain(dma_added)
            .chain(added)
    }

    /// The number of steps.
    pub(crate) fn step_count(&self) -> usize {
        let slots = self.removed.len().wrapping_add(self.added.len());
        let dma = self.dma_removed.len().wrapping_add(self.dma_added.len());
        slots
            .wrapping_add(dma)
            .wrapping_add(self.va_ops.len())
            .wrapping_add(self.replaced.len())
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

    /// The sub-mappings that DMA listeners unmap, by address; empty where there are none.
    pub fn dma_removed(&self) -> &[SubMapping<B>] {
        &self.dma_removed
    }

    /// The sub-mappings that DMA listeners map, by address; empty where there are none.
    pub fn dma_added(&self) -> &[SubMapping<B>] {
        &self.dma_added
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

    /// Whether there are [gaps](Self::gaps): whether vCPUs would be paused, where that is possible.
    pub fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }
}

/// The parts of `Map` operations that lie under slots which stay: everything mapped that no
/// new slot covers, since whatever is visible lies in a slot.
fn replaced_under_slots<B>(va_ops: &[VaOp<B>], added: &[Slot], replaced: &mut Vec<MemoryRange>) {
    let mapped = va_ops
        .iter()
        .filter(|op| matches!(op, VaOp::Map { .. }))
        .map(VaOp::range);
    if added.is_empty() {
        return replaced.extend(mapped);
    }
    let new = added.iter().map(|slot| slot.range);
    // Most changes map nothing, or just what gets new slots.
    if mapped.clone().next().is_none() || mapped.clone().eq(new.clone()) {
        return;
    }
    replaced.extend(sorted::subtract(mapped, new));
}

impl<B: BackingHandle> fmt::Display for Plan<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in self.steps() {
            match step {
                Step::RemoveSlot(slot) => writeln!(f, "remove slot {slot}")?,
                Step::UnmapDma(mapping) => writeln!(f, "unmap for DMA {mapping}")?,
                Step::Va(op) => writeln!(f, "{op}")?,
                Step::ContentsReplaced(range) => writeln!(f, "contents replaced {range}")?,
                Step::MapDma(mapping) => writeln!(f, "map for DMA {mapping}")?,
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
