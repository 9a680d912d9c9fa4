//! Which region wins where.

use crate::region::{Region, RegionId};
use crate::table::RegionTable;
use crate::{BackingHandle, Visible};
use memory_range::MemoryRange;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// Computes what is visible in `range`, sorted and cut to it.
///
/// A hole in the winning region hides what lies below: it stays a hole. Costs O((h + v) log h)
/// for h mapped regions that overlap `range` and v visible mappings.
pub(crate) fn overlay<B: BackingHandle>(
    table: &RegionTable<B>,
    range: MemoryRange,
) -> Vec<(MemoryRange, Visible<B>)> {
    let mut candidates = table.mapped_in(range);
    let mut visible = Vec::new();
    // The winner first: the highest priority, then the lowest id.
    candidates.sort_unstable_by_key(|(_, id, region)| (Reverse(region.priority), *id));
    // Most changes are about one region that wins throughout.
    if let Some((at, id, region)) = candidates.first()
        && at.contains(&range)
    {
        show(range, *at, *id, region, &mut visible);
        return visible;
    }

    // Where the winner may change: the start or end of each candidate, by its rank.
    let mut events: Vec<(u64, usize, Event)> = Vec::new();
    for (rank, (at, _, _)) in candidates.iter().enumerate() {
        let at = at.intersection(&range);
        events.push((at.start(), rank, Event::Starts));
        events.push((at.end(), rank, Event::Ends));
    }
    events.sort_unstable_by_key(|(addr, rank, _)| (*addr, *rank));

    let mut present: BTreeSet<usize> = BTreeSet::new();
    let mut from = range.start();
    for (addr, rank, event) in events {
        let winner = present.first().copied();
        let next = match event {
            Event::Starts => {
                present.insert(rank);
                present.first().copied()
            }
            Event::Ends => {
                present.remove(&rank);
                present.first().copied()
            }
        };
        if next != winner {
            if let Some((at, id, region)) = winner.and_then(|rank| candidates.get(rank))
                && let Ok(shown) = MemoryRange::try_new(from..addr)
            {
                show(shown, *at, *id, region, &mut visible);
            }
            from = addr;
        }
    }
    visible
}

enum Event {
    Starts,
    Ends,
}

/// Adds the mappings of `region` (mapped at `at`) that lie in `shown`.
fn show<B: BackingHandle>(
    shown: MemoryRange,
    at: MemoryRange,
    id: RegionId,
    region: &Region<B>,
    visible: &mut Vec<(MemoryRange, Visible<B>)>,
) {
    let Some(params) = region.mapped else {
        return;
    };
    let Some(inside) = shown.shifted_down(at.start()) else {
        return;
    };
    for (part, mapping) in region.mappings.clipped(inside) {
        if let Some(part) = part.shifted(at.start()) {
            visible.push((part, Visible::new(id, mapping, &params)));
        }
    }
}
