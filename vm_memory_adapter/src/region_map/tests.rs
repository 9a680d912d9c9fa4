//! Chunks, small enough to be many, against a plain list.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use super::RegionMap;
use crate::options::SnapshotOptions;
use crate::region::SnapshotRegion;
use crate::{AccessView, View};
use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, MemoryRange};
use proptest::prelude::*;
use std::collections::BTreeMap;

const PAGE: u64 = 0x1000;
const COUNT: u64 = 120;

/// Regions of one page each; every third one touches the next, and all others have a page between.
fn regions() -> Vec<SnapshotRegion> {
    let starts = (0..COUNT).map(|nth| (nth * 2 - nth / 3) * PAGE);
    let mut gaps = Vec::new();
    let mut end = 0;
    for start in starts {
        if end < start {
            gaps.push(MemoryRange::new(end..start));
        }
        end = start + PAGE;
    }
    let layout = MemoryLayout::new(COUNT * PAGE, &gaps, None).unwrap();
    let manager = GuestMemoryBuilder::new().build_now(&layout).unwrap();
    let view = AccessView::<()>::take(&manager, &SnapshotOptions::new()).unwrap();
    view.regions().cloned().collect()
}

fn starts<'a>(regions: impl Iterator<Item = &'a SnapshotRegion>) -> Vec<u64> {
    regions.map(SnapshotRegion::start).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn chunks_show_what_a_list_shows(
        // From which region to which, and which of them are there afterwards.
        changes in proptest::collection::vec(
            (0..COUNT as usize, 0..40_usize, any::<u64>()), 1..40
        ),
        few in 1..6_usize,
    ) {
        let all = regions();
        let most = few * 3;
        let mut list: BTreeMap<u64, SnapshotRegion> = BTreeMap::new();
        let mut map = RegionMap::<()>::empty();
        for (first, count, kept) in changes {
            let first = first.min(all.len() - 1);
            let part = &all[first..(first + count + 1).min(all.len())];
            for (nth, region) in part.iter().enumerate() {
                match kept >> (nth % 64) & 1 {
                    0 => list.remove(&region.start()),
                    _ => list.insert(region.start(), region.clone()),
                };
            }
            // With the holes at both ends.
            let before = first.checked_sub(1).map_or(0, |before| all[before].end());
            let next = all.get(first + part.len());
            let after = next.map_or(part[part.len() - 1].end(), SnapshotRegion::start);
            let dirty = before..after;
            let span = map.span(dirty.clone());
            for region in map.iter() {
                // What touches a change may become one with it.
                let touches = region.end() >= dirty.start && region.start() <= dirty.end;
                let inside = span.range.start <= region.start() && region.end() <= span.range.end;
                prop_assert!(inside || !touches);
            }
            let inside = list.range(span.range.clone()).map(|(_, region)| region.clone());
            map = map.replaced_in_chunks(&span, inside.collect(), few, most);

            prop_assert_eq!(starts(map.iter()), starts(list.values()));
            prop_assert_eq!(map.len(), list.len());
            let last = list.values().last().map(SnapshotRegion::end);
            prop_assert_eq!(map.last().map(SnapshotRegion::end), last);
            let end = all[all.len() - 1].end() / PAGE + 1;
            for gpa in (0..end).flat_map(|page| [page * PAGE, page * PAGE + PAGE - 1]) {
                let before = list.range(..=gpa).next_back().map(|(_, region)| region);
                let expected = before.filter(|region| gpa < region.end());
                let found = map.find_into(gpa);
                prop_assert_eq!(
                    found.map(|(region, into)| (region.start(), into)),
                    expected.map(|region| (region.start(), gpa - region.start()))
                );
            }
            for chunk in &map.chunks {
                prop_assert!((1..=most + few).contains(&chunk.regions.len()));
            }
        }
        // Chunks do not get small, and then many.
        prop_assert!(map.chunks.len() <= 2 + 2 * map.len() / few);
    }
}
