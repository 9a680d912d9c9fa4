//! Finds the intervals that overlap a range, among intervals that may overlap each other.

use crate::RegionId;
use memory_range::MemoryRange;
use smallvec::SmallVec;

/// A set of `(range, id)` pairs, searchable by overlap in O(log n + hits).
///
/// A treap by start address, each node with the furthest end below it. The shape depends only
/// on a counter, never on addresses, so a guest that chooses where its windows lie cannot
/// degrade it. (A list for each priority would lose: regions of one priority overlap, too.)
#[derive(Clone, Debug)]
pub(crate) struct IntervalIndex {
    nodes: Vec<Node>,
    free: Vec<Link>,
    root: Link,
    seed: u64,
}

/// The index of a node, or [`NONE`].
type Link = u32;

const NONE: Link = Link::MAX;

/// Steps of a search that need no allocation: the depth of a treap of a million nodes is about 50.
const DEPTH: usize = 64;

/// One cache line, since a search looks at nodes all over the place.
#[derive(Clone, Debug)]
#[repr(align(64))]
struct Node {
    range: MemoryRange,
    id: RegionId,
    /// The highest `range.end()` of the node and all below it.
    furthest: u64,
    /// Heap order: a parent's weight is not below its children's.
    weight: u32,
    left: Link,
    right: Link,
}

impl Node {
    fn key(&self) -> (u64, RegionId) {
        (self.range.start(), self.id)
    }
}

impl Default for IntervalIndex {
    fn default() -> Self {
        Self {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NONE,
            seed: 0,
        }
    }
}

impl IntervalIndex {
    /// Adds an interval. The same range and id must not be there already.
    pub(crate) fn insert(&mut self, range: MemoryRange, id: RegionId) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let weight = scramble(self.seed);
        // Down to where the weight belongs; only what is below there is split.
        let key = (range.start(), id);
        let (mut above, mut at) = (NONE, self.root);
        while at != NONE {
            let node = &mut self.nodes[at as usize];
            if node.weight < weight {
                break;
            }
            node.furthest = node.furthest.max(range.end());
            above = at;
            at = if node.key() < key {
                node.right
            } else {
                node.left
            };
        }
        let (left, right) = self.split(at, key);
        let new = self.keep(Node {
            range,
            id,
            furthest: range.end(),
            weight,
            left,
            right,
        });
        self.refresh(new);
        self.hang(above, key, new);
    }

    /// Takes an interval out; tells whether it was there.
    pub(crate) fn remove(&mut self, range: MemoryRange, id: RegionId) -> bool {
        let key = (range.start(), id);
        let mut path: SmallVec<[Link; DEPTH]> = SmallVec::new();
        let mut at = self.root;
        while at != NONE && self.nodes[at as usize].key() != key {
            path.push(at);
            let node = &self.nodes[at as usize];
            at = if node.key() < key {
                node.right
            } else {
                node.left
            };
        }
        if at == NONE {
            return false;
        }
        let node = &self.nodes[at as usize];
        let end = node.range.end();
        let below = self.join(node.left, node.right);
        self.hang(path.last().copied().unwrap_or(NONE), key, below);
        self.free.push(at);
        // Above a node that reaches further than this interval did, all do.
        for at in path.into_iter().rev() {
            if self.nodes[at as usize].furthest > end {
                break;
            }
            self.refresh(at);
        }
        true
    }

    /// Puts a node into the list.
    fn keep(&mut self, node: Node) -> Link {
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                // Each region has one node at most, and an index of 32 bits.
                Link::try_from(self.nodes.len() - 1).unwrap_or(NONE)
            }
        }
    }

    /// Makes a tree the child of a node, on the side where the key belongs, or the root.
    fn hang(&mut self, above: Link, key: (u64, RegionId), tree: Link) {
        match self.nodes.get_mut(above as usize) {
            Some(node) if node.key() < key => node.right = tree,
            Some(node) => node.left = tree,
            None => self.root = tree,
        }
    }

    /// Calls `visit` with each interval that overlaps `range`, by start address.
    pub(crate) fn overlapping(
        &self,
        range: MemoryRange,
        mut visit: impl FnMut(MemoryRange, RegionId),
    ) {
        if !range.is_empty() {
            self.overlapping_below(self.root, range, &mut visit);
        }
    }

    /// The same for a tree. Recursive like the changes: the depth is that of the tree.
    fn overlapping_below(
        &self,
        mut at: Link,
        range: MemoryRange,
        visit: &mut impl FnMut(MemoryRange, RegionId),
    ) {
        while let Some(node) = self.nodes.get(at as usize) {
            if node.furthest <= range.start() {
                return;
            }
            if node.range.start() >= range.end() {
                at = node.left;
                continue;
            }
            if let Some(left) = self.nodes.get(node.left as usize)
                && left.furthest > range.start()
            {
                self.overlapping_below(node.left, range, visit);
            }
            if node.range.end() > range.start() {
                visit(node.range, node.id);
            }
            at = node.right;
        }
    }

    /// One of the ids, if there is any.
    pub(crate) fn first(&self) -> Option<RegionId> {
        self.nodes.get(self.root as usize).map(|node| node.id)
    }

    /// Splits a tree into what is before `key` and what is not.
    fn split(&mut self, tree: Link, key: (u64, RegionId)) -> (Link, Link) {
        if tree == NONE {
            return (NONE, NONE);
        }
        let node = &self.nodes[tree as usize];
        if node.key() < key {
            let (before, after) = self.split(node.right, key);
            self.nodes[tree as usize].right = before;
            self.refresh(tree);
            (tree, after)
        } else {
            let (before, after) = self.split(node.left, key);
            self.nodes[tree as usize].left = after;
            self.refresh(tree);
            (before, tree)
        }
    }

    /// Joins two trees, all of the first before all of the second.
    fn join(&mut self, first: Link, second: Link) -> Link {
        if first == NONE {
            return second;
        }
        if second == NONE {
            return first;
        }
        let (a, b) = (&self.nodes[first as usize], &self.nodes[second as usize]);
        if a.weight >= b.weight {
            let right = self.join(a.right, second);
            self.nodes[first as usize].right = right;
            self.refresh(first);
            first
        } else {
            let left = self.join(first, b.left);
            self.nodes[second as usize].left = left;
            self.refresh(second);
            second
        }
    }

    fn refresh(&mut self, at: Link) {
        let node = &self.nodes[at as usize];
        let below = [node.left, node.right]
            .into_iter()
            .filter_map(|child| self.nodes.get(child as usize))
            .map(|child| child.furthest)
            .fold(node.range.end(), u64::max);
        self.nodes[at as usize].furthest = below;
    }
}

/// The finaliser of SplitMix64: a counter in, well-spread weights out.
fn scramble(mut x: u64) -> u32 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (x >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn id(number: u64) -> RegionId {
        let place = number as u32;
        RegionId { number, place }
    }

    fn pages(first: u64, count: u64) -> MemoryRange {
        MemoryRange::new(first * 4096..(first + count) * 4096)
    }

    /// Weights make a heap, and every node knows how far those below it reach.
    fn check(index: &IntervalIndex, at: Link) -> u64 {
        let Some(node) = index.nodes.get(at as usize) else {
            return 0;
        };
        for child in [node.left, node.right] {
            let weight = index
                .nodes
                .get(child as usize)
                .map_or(0, |child| child.weight);
            assert!(weight <= node.weight);
        }
        let below = check(index, node.left).max(check(index, node.right));
        let furthest = below.max(node.range.end());
        assert_eq!(node.furthest, furthest);
        furthest
    }

    proptest! {
        /// Against a plain list, for random insertions, removals and queries.
        #[test]
        fn finds_what_a_list_finds(
            steps in proptest::collection::vec((0u64..60, 1u64..20, any::<bool>()), 1..120),
            queries in proptest::collection::vec((0u64..80, 0u64..10), 1..20),
        ) {
            let mut index = IntervalIndex::default();
            let mut list: Vec<(MemoryRange, RegionId)> = Vec::new();
            for (key, (first, count, remove)) in steps.into_iter().enumerate() {
                if remove && !list.is_empty() {
                    let (range, id) = list.swap_remove(first as usize % list.len());
                    prop_assert!(index.remove(range, id));
                    prop_assert!(!index.remove(range, id));
                } else {
                    let range = pages(first, count);
                    index.insert(range, id(key as u64));
                    list.push((range, id(key as u64)));
                }
                check(&index, index.root);
            }
            for (first, count) in queries {
                let query = pages(first, count);
                let mut found = Vec::new();
                index.overlapping(query, |range, id| found.push((range, id)));
                let mut expected: Vec<_> =
                    list.iter().copied().filter(|(range, _)| range.overlaps(&query)).collect();
                expected.sort_by_key(|(range, id)| (range.start(), *id));
                prop_assert_eq!(found, expected);
                prop_assert_eq!(index.first().is_some(), !list.is_empty());
            }
        }
    }
}
