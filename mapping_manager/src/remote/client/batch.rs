//! What came of a change before its commit.

use super::error::Violation;
use super::files::Files;
use crate::remote::message::{MOST_PENDING, RangeOp, SlotAdded, SlotRemoved, Source};
use memory_range::{Access, RangeMap, RangeValue};
use sparse_alloc::Backing;

/// What a range is to show. The files are looked up when the message comes, since their numbers may
/// mean others later.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Wanted {
    pub(super) backing: Backing,
    /// In the backing, of the range's first byte; 0 for a fill.
    pub(super) offset: u64,
    pub(super) access: Access,
}

impl Wanted {
    /// Whether each of its pages is like every other.
    pub(super) fn is_fill(&self) -> bool {
        is_fill(&self.backing)
    }

    /// The offset of what lies `by` bytes after the range's start.
    pub(super) fn offset_at(&self, by: u64) -> u64 {
        match self.is_fill() {
            true => 0,
            // Does not wrap: it lies in the range, whose end was checked.
            false => self.offset.saturating_add(by),
        }
    }
}

pub(super) fn is_fill(backing: &Backing) -> bool {
    matches!(backing, Backing::Zeros | Backing::Ones)
}

impl RangeValue for Wanted {
    fn tail(&self, offset: u64) -> Self {
        Self {
            offset: self.offset_at(offset),
            ..self.clone()
        }
    }
}

/// The operations of one change. Of ranges, the last operation counts.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) removed: Vec<SlotRemoved>,
    /// `None`: nothing is to be there.
    pub(super) ranges: RangeMap<Option<Wanted>>,
    pub(super) added: Vec<SlotAdded>,
    count: usize,
}

impl Batch {
    /// Whether nothing came since the last commit.
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Makes room for operations, of which a manager cannot send any number.
    fn count(&mut self, more: usize) -> Result<(), Violation> {
        self.count = self.count.saturating_add(more);
        match self.count > MOST_PENDING {
            true => Err(Violation::TooMany { most: MOST_PENDING }),
            false => Ok(()),
        }
    }

    pub(super) fn remove_slots(&mut self, slots: Vec<SlotRemoved>) -> Result<(), Violation> {
        self.count(slots.len())?;
        self.removed.extend(slots);
        Ok(())
    }

    pub(super) fn add_slots(&mut self, slots: Vec<SlotAdded>) -> Result<(), Violation> {
        self.count(slots.len())?;
        self.added.extend(slots);
        Ok(())
    }

    pub(super) fn set_ranges(
        &mut self,
        ops: Vec<RangeOp>,
        files: &Files,
        read_only: bool,
    ) -> Result<(), Violation> {
        self.count(ops.len())?;
        for RangeOp { range, shown } in ops {
            let wanted = match shown {
                None => None,
                Some(shown) if shown.writable && read_only => {
                    return Err(Violation::Writable { range });
                }
                Some(shown) => Some(Wanted {
                    backing: match shown.source {
                        Source::File(id) => files.get(id)?,
                        Source::Zeros => Backing::Zeros,
                        Source::Ones => Backing::Ones,
                    },
                    offset: shown.offset,
                    access: shown.access(),
                }),
            };
            self.ranges.replace(range, wanted);
        }
        Ok(())
    }
}
