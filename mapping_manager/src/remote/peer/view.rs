//! What a client is to have in its view, and what it has.

use memory_range::{Access, MemoryRange, RangeMap, RangeValue, sorted};
use sparse_alloc::Backing;

/// What stands behind a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) backing: Backing,
    /// Of the range's first byte, in bytes; 0 for a fill, all of whose bytes are alike.
    pub(super) offset: u64,
    pub(super) access: Access,
}

impl Held {
    pub(super) fn new(backing: &Backing, offset: u64, access: Access) -> Self {
        Self {
            backing: backing.clone(),
            offset: backing.as_mappable().map_or(0, |_| offset),
            access,
        }
    }
}

impl RangeValue for Held {
    fn tail(&self, offset: u64) -> Self {
        // Does not wrap: whoever showed the mapping has checked that it ends in the backing.
        let offset = self.offset.saturating_add(offset);
        Self::new(&self.backing, offset, self.access)
    }
}

/// What a client has in a range, if anything.
#[derive(Clone, Debug, PartialEq)]
struct Told(Option<Held>);

impl RangeValue for Told {
    fn tail(&self, offset: u64) -> Self {
        Self(self.0.as_ref().map(|held| held.tail(offset)))
    }
}

/// A range in which the client has something else than it is to have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub(super) range: MemoryRange,
    /// What the client has there.
    pub(super) old: Option<Held>,
    /// What it is to have.
    pub(super) new: Option<Held>,
}

/// The view of one client.
///
/// What is to be seen stands in `shown`. The client has the same, but for the ranges in `before`,
/// which were touched since differences were last taken: there it has what that map says. So what
/// was changed and changed back leaves no difference.
#[derive(Debug, Default)]
pub(super) struct View {
    shown: RangeMap<Held>,
    before: RangeMap<Told>,
    /// Of a lazy client: the ranges of what it has. It is told nothing about others.
    fetched: Option<RangeMap<()>>,
}

impl View {
    /// From now on the client has what it fetches. It must have nothing yet.
    pub(super) fn become_lazy(&mut self) {
        self.fetched = Some(RangeMap::new());
    }

    /// Shows something in a range, in the place of what is there.
    pub(super) fn show(&mut self, range: MemoryRange, held: Held) {
        self.remember(range);
        self.shown.replace(range, held);
    }

    /// Shows nothing in a range any more.
    pub(super) fn hide(&mut self, range: MemoryRange) {
        self.remember(range);
        self.shown.remove(range);
    }

    /// Whether something was touched since differences were last taken.
    pub(super) fn is_touched(&self) -> bool {
        !self.before.is_empty()
    }

    /// The number of ranges that are to be seen.
    pub(super) fn len(&self) -> usize {
        self.shown.len()
    }

    /// The number of ranges that a lazy client has asked for.
    pub(super) fn fetched_len(&self) -> Option<usize> {
        self.fetched.as_ref().map(RangeMap::len)
    }

    /// Keeps what the client has in a range, where that isn't kept already.
    fn remember(&mut self, range: MemoryRange) {
        let untouched: Vec<_> = self.before.gaps(range).collect();
        for gap in untouched {
            let had: Vec<(MemoryRange, Held)> = match &self.fetched {
                None => self.shown.clipped(gap).collect(),
                Some(fetched) => {
                    let parts = fetched.clipped(gap);
                    let had = parts.flat_map(|(part, ())| self.shown.clipped(part));
                    had.collect()
                }
            };
            for hole in sorted::subtract([gap], had.iter().map(|(range, _)| *range)) {
                self.before.replace(hole, Told(None));
            }
            for (range, held) in had {
                self.before.replace(range, Told(Some(held)));
            }
        }
    }

    /// Finds out what a client must be told of what was touched, by address, and takes it for told.
    pub(super) fn take_differences(&mut self) -> Vec<Difference> {
        let before = std::mem::take(&mut self.before);
        let mut differences = Vec::new();
        for (whole, Told(old)) in before.iter() {
            if self.fetched.is_some() && old.is_none() {
                // It never asked for it.
                continue;
            }
            let mut differ = |range: MemoryRange, new: Option<Held>| {
                let old = old.as_ref().map(|held| part(held, whole, range));
                if old != new {
                    differences.push(Difference { range, old, new });
                }
            };
            let mut from = whole.start();
            for (range, held) in self.shown.clipped(whole) {
                if let Some(hole) = between(from, range.start()) {
                    differ(hole, None);
                }
                from = range.end();
                differ(range, Some(held));
            }
            if let Some(hole) = between(from, whole.end()) {
                differ(hole, None);
            }
        }
        if let Some(fetched) = &mut self.fetched {
            for difference in differences.iter().filter(|one| one.new.is_none()) {
                fetched.remove(difference.range);
            }
        }
        differences
    }

    /// Finds out what a lazy client lacks of the mappings that overlap a range, each of them whole,
    /// and takes it for told. Nothing must be [touched](Self::is_touched).
    pub(super) fn fetch(&mut self, range: MemoryRange) -> Vec<Difference> {
        let mut lacking = Vec::new();
        let Some(fetched) = &mut self.fetched else {
            return lacking;
        };
        for (whole, held) in self.shown.overlapping(range) {
            let gaps = fetched.gaps(whole).map(|gap| Difference {
                range: gap,
                old: None,
                new: Some(part(held, whole, gap)),
            });
            lacking.extend(gaps);
            fetched.replace(whole, ());
        }
        lacking
    }
}

/// What stands behind a part of a range.
fn part(held: &Held, whole: MemoryRange, part: MemoryRange) -> Held {
    match whole.offset_of(part.start()) {
        Some(skipped) if skipped > 0 => held.tail(skipped),
        _ => held.clone(),
    }
}

fn between(start: u64, end: u64) -> Option<MemoryRange> {
    let range = MemoryRange::try_new(start..end).ok()?;
    (!range.is_empty()).then_some(range)
}
