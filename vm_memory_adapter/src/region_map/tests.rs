//! A tree of small nodes against a list of pages.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test stops at the first surprise"
)]

use super::RegionMap;
use super::node::{CHILDREN, Node, REGIONS};
use crate::options::SnapshotOptions;
use crate::region::SnapshotRegion;
use crate::{AccessView, View};
use guest_memory_manager::{GuestMemoryBuilder, MemoryLayout, MemoryRange};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;
use vm_memory::GuestMemoryRegion;

const PAGE: u64 = 0x1000;
const COUNT: u64 = 160;

/// Pages of RAM; every third one touches the next, and all others have a page between.
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

/// What there is of a region in a range of pages, as the facade would tell of it.
fn parts(all: &[SnapshotRegion], pages: Range<u64>) -> Vec<SnapshotRegion> {
    let range = pages.start * PAGE..pages.end * PAGE;
    all.iter()
        .filter_map(|one| one.part(range.clone()))
        .collect()
}

/// Where it starts, how long it is, where it lies, and where in the file.
type Shape = (u64, u64, usize, u64);

fn shape(region: &SnapshotRegion) -> Shape {
    let offset = region.file_offset().unwrap().start();
    (region.start(), region.len(), region.as_ptr().addr(), offset)
}

/// The regions that pages make.
fn painted(all: &[SnapshotRegion], pages: &BTreeSet<u64>) -> Vec<Shape> {
    let mut shapes: Vec<Shape> = Vec::new();
    for page in pages {
        for part in parts(all, *page..page + 1) {
            let (start, len, host, offset) = shape(&part);
            match shapes.last_mut() {
                // All pages are of one file, and lie in it in their order.
                Some(last) if last.0 + last.1 == start => last.1 += len,
                _ => shapes.push((start, len, host, offset)),
            }
        }
    }
    shapes
}

/// Sees that a node is as it should be; returns how far its leaves are.
fn check_node(node: &Arc<Node<()>>, is_root: bool) -> usize {
    match &**node {
        Node::Leaf(leaf) => {
            assert!((usize::from(!is_root)..=REGIONS).contains(&leaf.regions().len()));
            0
        }
        Node::Inner(inner) => {
            let (starts, children) = inner.children();
            assert!((1 + usize::from(is_root)..=CHILDREN).contains(&children.len()));
            assert!(
                starts
                    .iter()
                    .copied()
                    .eq(children.iter().map(|one| one.start()))
            );
            let depths: BTreeSet<_> = children.iter().map(|one| check_node(one, false)).collect();
            assert_eq!(depths.len(), 1);
            depths.first().unwrap() + 1
        }
    }
}

fn check(map: &RegionMap<()>, all: &[SnapshotRegion], pages: &BTreeSet<u64>) {
    check_node(&map.root, true);
    let expected = painted(all, pages);
    assert_eq!(map.iter().map(shape).collect::<Vec<_>>(), expected);
    assert_eq!(map.len(), expected.len());
    assert_eq!(map.last().map(shape), expected.last().copied());
    for page in 0..2 * COUNT {
        for gpa in [page * PAGE, page * PAGE + PAGE - 1] {
            let found = map.find_into(gpa);
            let covers = |one: &&Shape| one.0 <= gpa && gpa < one.0 + one.1;
            let expected = expected.iter().find(covers);
            assert_eq!(
                found.map(|(region, into)| (region.start(), into)),
                expected.map(|one| (one.0, gpa - one.0)),
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_tree_shows_what_is_painted(
        // A page, how many, whether they are shown, and whether somebody keeps the map before.
        changes in proptest::collection::vec(
            (0..2 * COUNT, prop_oneof![Just(1), 1..8_u64, 1..2 * COUNT], any::<bool>(), any::<bool>()),
            1..60
        ),
        is_full in any::<bool>(),
    ) {
        let all = regions();
        let mut pages = BTreeSet::new();
        let mut map = RegionMap::empty();
        if is_full {
            for part in parts(&all, 0..2 * COUNT) {
                pages.extend(part.start() / PAGE..part.end() / PAGE);
                map.show(part);
            }
        }
        let mut kept = Vec::new();
        for (first, count, shows, keeps) in changes {
            if keeps {
                kept.push((map.clone(), pages.clone()));
            }
            let range = first..first + count;
            if shows {
                for part in parts(&all, range) {
                    pages.extend(part.start() / PAGE..part.end() / PAGE);
                    map.show(part);
                }
            } else {
                pages.retain(|page| !range.contains(page));
                map.hide(first * PAGE..(first + count) * PAGE);
            }
            check(&map, &all, &pages);
        }
        // A clone does not change with what it was cloned from.
        for (map, pages) in &kept {
            check(map, &all, pages);
        }
    }
}

fn nodes(map: &RegionMap<()>) -> BTreeSet<usize> {
    let mut nodes = BTreeSet::new();
    let mut left = vec![map.root.clone()];
    while let Some(node) = left.pop() {
        nodes.insert(Arc::as_ptr(&node).addr());
        if let Node::Inner(inner) = &*node {
            left.extend(inner.children().1.iter().cloned());
        }
    }
    nodes
}

#[test]
fn a_tree_shrinks_with_what_it_shows() {
    let all = regions();
    let mut map = RegionMap::empty();
    for region in &all {
        map.show(region.clone());
    }
    let (full, height) = (nodes(&map).len(), check_node(&map.root, true));
    for (nth, region) in all.iter().enumerate() {
        if !nth.is_multiple_of(8) {
            map.hide(region.start()..region.end());
        }
    }
    // An eighth of the regions, in nodes that are half full or so.
    assert!(
        nodes(&map).len() <= full / 3,
        "{} of {full}",
        nodes(&map).len()
    );
    assert!(check_node(&map.root, true) < height);
}

#[test]
fn a_change_shares_all_but_its_way() {
    let all = regions();
    let mut map = RegionMap::empty();
    for region in &all {
        map.show(region.clone());
    }
    let height = check_node(&map.root, true);
    let before = map.clone();
    let middle = &all[all.len() / 2];
    map.hide(middle.start()..middle.end());
    let new = nodes(&map).difference(&nodes(&before)).count();
    // Each node on the way, and a neighbour that it may have been joined with.
    assert!(
        (1..=2 * (height + 1)).contains(&new),
        "{new} of height {height}"
    );
    map.show(middle.clone());
    assert!(map.iter().map(shape).eq(before.iter().map(shape)));
}
