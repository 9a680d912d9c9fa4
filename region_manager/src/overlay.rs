//! Which region wins where.

use crate::region::{Region, RegionId};
use crate::table::RegionTable;
use crate::view::Attributes;
use crate::{BackingHandle, MapParams, Mapping};
use memory_range::{MemoryRange, RangeMap};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A part of a mapping as it is to be visible, by reference: comparing needs no copy of a handle.
pub(crate) struct Shown<'a, B> {
    /// Guest physical addresses.
    pub(crate) range: MemoryRange,
    pub(crate) attributes: Attributes,
    pub(crate) backing: &'a B,
    /// The offset in the backing, in bytes, of the range's first byte.
    pub(crate) offset: u64,
}

/// A range in which one region wins.
struct Won<'a, B> {
    range: MemoryRange,
    id: RegionId,
    region: &'a Region<B>,
    params: MapParams,
    mappings: &'a RangeMap<Mapping<B>>,
    /// The offset among the mappings of the region's first byte.
    from: u64,
}

impl<'a, B: BackingHandle> Won<'a, B> {
    fn new(
        table: &'a RegionTable<B>,
        range: MemoryRange,
        id: RegionId,
        region: &'a Region<B>,
    ) -> Option<Self> {
        let (mappings, from) = table.source_of(region)?;
        Some(Self {
            range,
            id,
            region,
            params: region.mapped?,
            mappings,
            from,
        })
    }

    /// Calls `show` with the parts of the region's mappings that lie in the range.
    #[inline]
    fn show(&self, show: &mut (impl FnMut(&Shown<'a, B>) + ?Sized)) {
        let Some(inside) = self
            .range
            .shifted_down(self.params.gpa)
            .and_then(|inside| inside.shifted(self.from))
        else {
            return;
        };
        // One mapping throughout is the most frequent case, and needs no walk.
        match self.mappings.first_overlapping(inside) {
            Some(found) if found.0.contains(&inside) => self.show_part(inside, found, show),
            Some(_) => {
                for found in self.mappings.overlapping(inside) {
                    self.show_part(found.0.intersection(&inside), found, show);
                }
            }
            None => {}
        }
    }

    /// The same for a part of a mapping, by offsets among the mappings.
    #[inline]
    fn show_part(
        &self,
        part: MemoryRange,
        (whole, mapping): (MemoryRange, &'a Mapping<B>),
        show: &mut (impl FnMut(&Shown<'a, B>) + ?Sized),
    ) {
        let skipped = part.start().saturating_sub(whole.start());
        let shifted = part.shifted_down(self.from);
        if let Some(range) = shifted.and_then(|part| part.shifted(self.params.gpa)) {
            show(&Shown {
                range,
                attributes: Attributes::new(self.id, self.region, &self.params, mapping.access),
                backing: &mapping.backing,
                // Does not wrap: offset + length was checked when the mapping was added.
                offset: mapping.offset.wrapping_add(skipped),
            });
        }
    }
}

/// Calls `show` with all that is to be visible in `range`, by address, where it is known that this
/// region wins.
#[inline]
pub(crate) fn show_winner<'a, B: BackingHandle>(
    table: &'a RegionTable<B>,
    range: MemoryRange,
    winner: RegionId,
    mut show: impl FnMut(&Shown<'a, B>),
) {
    if let Ok(region) = table.get(winner)
        && let Some(won) = Won::new(table, range, winner, region)
    {
        won.show(&mut show);
    }
}

/// Calls `show` with all that is to be visible in `range`, by address.
///
/// A hole in the winning region hides what lies below: it stays a hole. Costs O(log n + h log h + v)
/// for h mapped regions that overlap `range`, among n, and v visible mappings.
pub(crate) fn overlay<'a, B: BackingHandle>(
    table: &'a RegionTable<B>,
    range: MemoryRange,
    show: &mut dyn FnMut(&Shown<'a, B>),
) {
    let mut candidates: SmallVec<[Candidate<'a, B>; 4]> = SmallVec::new();
    table.mapped_in(range, |at, id, region| {
        candidates.push(Candidate { at, id, region });
    });
    let mut won = |range, candidate: &Candidate<'a, B>| {
        if let Some(won) = Won::new(table, range, candidate.id, candidate.region) {
            won.show(show);
        }
    };
    // Most changes are about one region that wins throughout.
    match candidates.iter().max_by_key(|candidate| candidate.rank()) {
        Some(first) if first.at.contains(&range) => won(range, first),
        _ => contest(&candidates, range, won),
    }
}

/// A region that is mapped somewhere in the range in question.
struct Candidate<'a, B> {
    at: MemoryRange,
    id: RegionId,
    region: &'a Region<B>,
}

impl<B> Candidate<'_, B> {
    /// The winner has the highest: the highest priority, then the lowest id.
    fn rank(&self) -> (u8, Reverse<RegionId>) {
        (self.region.priority, Reverse(self.id))
    }
}

/// Calls `wins` with each candidate and where in `range` it wins, by address, as few times as
/// possible. The candidates are sorted by start.
fn contest<'c, 'a, B>(
    candidates: &'c [Candidate<'a, B>],
    range: MemoryRange,
    mut wins: impl FnMut(MemoryRange, &'c Candidate<'a, B>),
) {
    // Those that have started, the winner on top. One that has ended stays until it gets there.
    let mut started: BinaryHeap<(u8, Reverse<RegionId>, usize)> = BinaryHeap::new();
    let mut rest = candidates.iter().enumerate().peekable();
    // Who has been winning since when.
    let mut winning: Option<(u64, &'c Candidate<'a, B>)> = None;
    let mut at = range.start();
    loop {
        while let Some((index, candidate)) = rest.next_if(|(_, next)| next.at.start() <= at) {
            let (priority, id) = candidate.rank();
            started.push((priority, id, index));
        }
        let has_ended = |(_, _, index): &(u8, Reverse<RegionId>, usize)| {
            candidates
                .get(*index)
                .is_none_or(|candidate| candidate.at.end() <= at)
        };
        while started.peek().is_some_and(has_ended) {
            started.pop();
        }
        let winner = started
            .peek()
            .and_then(|(.., index)| candidates.get(*index));
        if winner.map(|one| one.id) != winning.map(|(_, one)| one.id) {
            if let Some((since, former)) = winning
                && let Ok(won) = MemoryRange::try_new(since..at)
            {
                wins(won, former);
            }
            winning = winner.map(|winner| (at, winner));
        }
        // The next place where the winner may change.
        let starts = rest.peek().map(|(_, next)| next.at.start());
        let ends = winner.map(|winner| winner.at.end());
        let next = starts.into_iter().chain(ends).min();
        match next {
            Some(next) if next < range.end() => at = next,
            _ => break,
        }
    }
    if let Some((since, last)) = winning
        && let Ok(won) = MemoryRange::try_new(since..range.end().min(last.at.end()))
    {
        wins(won, last);
    }
}
