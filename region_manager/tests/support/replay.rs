//! Replays plans on painted pages, knowing nothing of how they were made, and judges each step.

use super::paint::{Page, Painted, as_va, permissions};
use super::{Backing, PAGES, VaPage, pages};
use memory_range::{Access, MemoryRange, PAGE_SIZE};
use region_manager::{Plan, Slot, Step, SubMapping, VaOp};
use std::collections::{BTreeMap, BTreeSet};

/// What the plans replayed so far have led to.
pub struct Replay {
    va: Vec<VaPage>,
    slots: BTreeMap<u64, Slot>,
    /// None where no DMA listener is registered.
    dma: Option<BTreeMap<u64, SubMapping<Backing>>>,
}

/// The views on both sides of a change, and the pages at which placed regions start or end.
pub struct Change<'a> {
    pub before: &'a [Painted],
    pub after: &'a [Painted],
    pub borders: &'a BTreeSet<u64>,
}

impl Change<'_> {
    /// Whether what `of` says of a page differs between the views.
    fn differs<T: PartialEq>(&self, page: usize, of: impl Fn(Page) -> T) -> bool {
        self.before[page].map(&of) != self.after[page].map(&of)
    }

    /// Whether it differs in some page of a range.
    fn differs_in<T: PartialEq>(&self, range: MemoryRange, of: impl Fn(Page) -> T + Copy) -> bool {
        pages(range).any(|page| self.differs(page, of))
    }

    /// Whether a border lies inside a range.
    fn cuts(&self, range: MemoryRange) -> bool {
        let inside = range.page_numbers();
        self.borders
            .range(inside.start + 1..inside.end)
            .next()
            .is_some()
    }
}

impl Replay {
    pub fn new(with_dma: bool) -> Self {
        Self {
            va: vec![None; PAGES as usize],
            slots: BTreeMap::new(),
            dma: with_dma.then(BTreeMap::new),
        }
    }

    /// Replays one plan, and panics where a step is wrong, needless, or in the wrong place.
    pub fn check(&mut self, plan: &Plan<Backing>, change: &Change<'_>) {
        check_order(plan);
        self.check_survival(plan, change);
        for step in plan.steps() {
            self.take(&step, change);
            self.check_moment(change);
        }
        self.check_end(change);
        check_merged(plan, change);
        check_gaps(plan);
        check_replaced(plan);
    }

    /// What goes must have changed somewhere, and what has changed must go.
    fn check_survival(&self, plan: &Plan<Backing>, change: &Change<'_>) {
        for slot in self.slots.values() {
            let changes = change.differs_in(slot.range, |page| page.permissions);
            let goes = plan.removed_slots().contains(slot);
            assert_eq!(goes, changes, "slot {slot} in\n{plan}");
        }
        for mapping in self.dma.iter().flat_map(BTreeMap::values) {
            let changes = change.differs_in(mapping.range, Page::dma);
            let goes = plan.dma_removed().contains(mapping);
            assert_eq!(goes, changes, "sub-mapping {mapping} in\n{plan}");
        }
    }

    fn take(&mut self, step: &Step<'_, Backing>, change: &Change<'_>) {
        match step {
            Step::RemoveSlot(slot) => {
                let held = self.slots.remove(&slot.range.start());
                assert_eq!(held.as_ref(), Some(*slot), "removes what is there");
            }
            Step::AddSlot(slot) => {
                assert!(!change.cuts(slot.range), "{slot} spans a border");
                let free = self
                    .slots
                    .values()
                    .all(|one| !one.range.overlaps(&slot.range));
                assert!(free, "{slot} overlaps another");
                self.slots.insert(slot.range.start(), **slot);
            }
            Step::UnmapDma(mapping) => {
                let dma = self.dma.as_mut().expect("somebody listens");
                let held = dma.remove(&mapping.range.start());
                assert_eq!(held.as_ref(), Some(*mapping), "unmaps what is there");
            }
            Step::MapDma(mapping) => {
                assert!(!change.cuts(mapping.range), "{mapping} spans a border");
                let dma = self.dma.as_mut().expect("somebody listens");
                let free = dma.values().all(|one| !one.range.overlaps(&mapping.range));
                assert!(free, "{mapping} overlaps another");
                dma.insert(mapping.range.start(), (*mapping).clone());
            }
            Step::Va(op) => self.take_va(op, change),
            Step::ContentsReplaced(range) => {
                let mut under = self.slots.values();
                let in_slots = |page: &usize| {
                    let addr = *page as u64 * PAGE_SIZE;
                    under.clone().any(|slot| slot.range.contains_addr(addr))
                };
                assert!(pages(*range).all(|page| in_slots(&page)), "{range}");
                assert!(under.next().is_some());
            }
            other => panic!("a step that this checker doesn't know: {other:?}"),
        }
    }

    fn take_va(&mut self, op: &VaOp<Backing>, change: &Change<'_>) {
        for (index, page) in pages(op.range()).enumerate() {
            assert!(
                change.differs(page, Page::va),
                "{op} touches page {page}, which stays as it is"
            );
            let after = change.after[page].map(Page::va);
            let is = &mut self.va[page];
            match op {
                VaOp::Map {
                    backing,
                    offset,
                    access,
                    ..
                } => {
                    let first = offset / PAGE_SIZE;
                    let same_bytes =
                        is.is_some_and(|(b, p, _)| (b, p) == (*backing, first + index as u64));
                    assert!(!same_bytes, "{op} at page {page}: protecting is cheaper");
                    *is = Some((*backing, first + index as u64, *access));
                }
                VaOp::Protect { access, .. } => {
                    let (backing, offset, _) = is.expect("protects only what is there");
                    *is = Some((backing, offset, *access));
                }
                VaOp::Reserve { .. } => *is = None,
            }
            assert_eq!(*is, after, "{op} at page {page}: once and for all");
        }
    }

    /// What must hold after every single step.
    fn check_moment(&self, change: &Change<'_>) {
        for page in 0..PAGES as usize {
            if change.before[page].is_some() && change.after[page].is_some() {
                assert!(self.va[page].is_some(), "a hole at page {page} in between");
            }
        }
        for slot in self.slots.values() {
            for page in pages(slot.range) {
                let (_, _, access) = self.va[page].expect("a slot shows memory");
                let writable = slot.permissions.access.is_writable();
                assert!(
                    writable || access == Access::ReadOnly,
                    "page {page} of {slot}"
                );
            }
        }
        for mapping in self.dma.iter().flat_map(BTreeMap::values) {
            for (index, page) in pages(mapping.range).enumerate() {
                let offset = mapping.offset / PAGE_SIZE + index as u64;
                let said = Some((mapping.backing, offset, mapping.access));
                assert_eq!(self.va[page], said, "page {page} of {mapping}");
            }
        }
    }

    fn check_end(&self, change: &Change<'_>) {
        assert_eq!(self.va, as_va(change.after));
        let slots = self
            .slots
            .values()
            .map(|slot| (slot.range, slot.permissions));
        assert_eq!(spread(slots), permissions(change.after));
        if let Some(dma) = &self.dma {
            let first = dma.values().map(|mapping| (mapping.range, mapping));
            for (page, held) in spread(first).into_iter().enumerate() {
                let held = held.map(|mapping| {
                    let inside = page as u64 - mapping.range.start() / PAGE_SIZE;
                    let offset = mapping.offset / PAGE_SIZE + inside;
                    (mapping.backing, offset, mapping.access, mapping.kind)
                });
                assert_eq!(held, change.after[page].map(Page::dma), "page {page}");
            }
        }
    }
}

/// Kinds of steps follow one another as promised; within a kind, addresses ascend.
fn check_order(plan: &Plan<Backing>) {
    let rank = |step: &Step<'_, Backing>| match step {
        Step::RemoveSlot(slot) => (0, slot.range),
        Step::UnmapDma(mapping) => (1, mapping.range),
        Step::Va(op) => (2, op.range()),
        Step::ContentsReplaced(range) => (3, *range),
        Step::MapDma(mapping) => (4, mapping.range),
        Step::AddSlot(slot) => (5, slot.range),
        other => panic!("a step that this checker doesn't know: {other:?}"),
    };
    let ranks: Vec<(i32, MemoryRange)> = plan.steps().map(|step| rank(&step)).collect();
    for pair in ranks.windows(2) {
        let ((kind, range), (next_kind, next)) = (pair[0], pair[1]);
        let in_order = kind < next_kind || (kind == next_kind && range.end() <= next.start());
        assert!(in_order, "{plan}");
    }
    assert!(ranks.iter().all(|(_, range)| !range.is_empty()), "{plan}");
    assert_eq!(plan.is_empty(), ranks.is_empty());
}

/// Neighbours that could be one are one.
fn check_merged(plan: &Plan<Backing>, change: &Change<'_>) {
    let at_border = |range: MemoryRange| change.borders.contains(&(range.end() / PAGE_SIZE));
    for pair in plan.va_ops().windows(2) {
        let meet = pair[0].range().end() == pair[1].range().start();
        let could_be_one = match (&pair[0], &pair[1]) {
            (VaOp::Reserve { .. }, VaOp::Reserve { .. }) => true,
            (VaOp::Protect { access: a, .. }, VaOp::Protect { access: b, .. }) => a == b,
            (
                VaOp::Map {
                    range,
                    backing: b1,
                    offset: o1,
                    access: a1,
                },
                VaOp::Map {
                    backing: b2,
                    offset: o2,
                    access: a2,
                    ..
                },
            ) => b1 == b2 && a1 == a2 && o1 + range.len() == *o2,
            _ => false,
        };
        assert!(!(meet && could_be_one), "{} and {}", pair[0], pair[1]);
    }
    for pair in plan.added_slots().windows(2) {
        let meet = pair[0].range.end() == pair[1].range.start() && !at_border(pair[0].range);
        let alike = pair[0].permissions == pair[1].permissions;
        assert!(!(meet && alike), "{} and {}", pair[0], pair[1]);
    }
    for pair in plan.dma_added().windows(2) {
        let (low, high) = (&pair[0], &pair[1]);
        let meet = low.range.end() == high.range.start() && !at_border(low.range);
        let alike = low.backing == high.backing
            && low.offset + low.range.len() == high.offset
            && (low.access, low.kind) == (high.access, high.kind);
        assert!(!(meet && alike), "{low} and {high}");
    }
}

/// A gap is exactly a page that loses a slot and gets one.
fn check_gaps(plan: &Plan<Backing>) {
    let gaps = spread(plan.gaps().iter().map(|range| (*range, ())));
    let removed = spread(plan.removed_slots().iter().map(|slot| (slot.range, ())));
    let added = spread(plan.added_slots().iter().map(|slot| (slot.range, ())));
    for page in 0..PAGES as usize {
        let gap = removed[page].is_some() && added[page].is_some();
        assert_eq!(gaps[page].is_some(), gap, "page {page} of\n{plan}");
    }
    assert_eq!(plan.has_gaps(), !plan.gaps().is_empty());
}

/// Contents are announced exactly where other memory is mapped under a slot that stays.
fn check_replaced(plan: &Plan<Backing>) {
    let replaced = plan.steps().filter_map(|step| match step {
        Step::ContentsReplaced(range) => Some((range, ())),
        _ => None,
    });
    let maps = plan.va_ops().iter().filter_map(|op| match op {
        VaOp::Map { range, .. } => Some((*range, ())),
        _ => None,
    });
    let (replaced, mapped) = (spread(replaced), spread(maps));
    let added = spread(plan.added_slots().iter().map(|slot| (slot.range, ())));
    for page in 0..PAGES as usize {
        let expected = mapped[page].is_some() && added[page].is_none();
        assert_eq!(replaced[page].is_some(), expected, "page {page} of\n{plan}");
    }
}

/// Spreads ranges that must not overlap over the pages.
pub fn spread<T: Copy>(ranges: impl Iterator<Item = (MemoryRange, T)>) -> Vec<Option<T>> {
    let mut spread = vec![None; PAGES as usize];
    for (range, value) in ranges {
        for page in pages(range) {
            assert!(spread[page].is_none(), "{range} overlaps another");
            spread[page] = Some(value);
        }
    }
    spread
}
