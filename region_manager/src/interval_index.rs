//! Finds the intervals that overlap a range, among intervals that may overlap each other.

use memory_range::MemoryRange;

/// A set of `(range, key)` pairs, searchable by overlap in O(log n + hits).
///
/// A treap by start address, each node with the furthest end below it. The shape depends only
/// on a counter, never on addresses, so a guest that chooses where its windows lie cannot
/// degrade it. (A list for each priority would lose: regions of one priority overlap, too.)
#[derive(Clone, Debug, Default)]
pub(crate) struct IntervalIndex {
    nodes: Vec<Node>,
    free: Vec<usize>,
    root: Link,
    seed: u64,
}

type Link = Option<usize>;

#[derive(Clone, Debug)]
struct Node {
    range: MemoryRange,
    key: u64,
    /// Heap order: a parent's weight is not below its children's.
    weight: u64,
    /// The highest `range.end()` of the node and all below it.
    furthest: u64,
    left: Link,
    right: Link,
}

impl IntervalIndex {
    /// Adds an interval. The same range and key must not be there already.
    pub(crate) fn insert(&mut self, range: MemoryRange, key: u64) {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let node = Node {
            range,
            key,
            weight: scramble(self.seed),
            furthest: range.end(),
            left: None,
            right: None,
        };
        let index = match self.free.pop() {
            Some(index) => {
                self.nodes[index] = node;
                index
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        let (before, after) = self.split(self.root, (range.start(), key));
        let before = self.join(before, Some(index));
        self.root = self.join(before, after);
    }

    /// Takes an interval out; tells whether it was there.
    pub(crate) fn remove(&mut self, range: MemoryRange, key: u64) -> bool {
        let (before, rest) = self.split(self.root, (range.start(), key));
        // Keys are unique for one start, so what is not after this pair is the pair itself.
        let (found, after) = match key.checked_add(1) {
            Some(next) => self.split(rest, (range.start(), next)),
            None => self.split(rest, (range.start().saturating_add(1), 0)),
        };
        if let Some(index) = found {
            self.free.push(index);
        }
        self.root = self.join(before, after);
        found.is_some()
    }

    /// Calls `visit` with each interval that overlaps `range`, by start address.
    pub(crate) fn overlapping(&self, range: MemoryRange, mut visit: impl FnMut(MemoryRange, u64)) {
        // An explicit stack: the depth is O(log n) only with high probability.
        let mut path: Vec<usize> = Vec::new();
        let mut next = self.root;
        loop {
            while let Some(index) = next {
                let node = &self.nodes[index];
                if node.furthest <= range.start() {
                    break;
                }
                path.push(index);
                next = node.left;
            }
            let Some(index) = path.pop() else {
                return;
            };
            let node = &self.nodes[index];
            if node.range.start() >= range.end() {
                return;
            }
            if node.range.overlaps(&range) {
                visit(node.range, node.key);
            }
            next = node.right;
        }
    }

    /// Splits a tree into what is before `at` and what is not.
    fn split(&mut self, tree: Link, at: (u64, u64)) -> (Link, Link) {
        let Some(index) = tree else {
            return (None, None);
        };
        let node = &self.nodes[index];
        if (node.range.start(), node.key) < at {
            let (before, after) = self.split(node.right, at);
            self.nodes[index].right = before;
            self.refresh(index);
            (Some(index), after)
        } else {
            let (before, after) = self.split(node.left, at);
            self.nodes[index].left = after;
            self.refresh(index);
            (before, Some(index))
        }
    }

    /// Joins two trees, all of the first before all of the second.
    fn join(&mut self, first: Link, second: Link) -> Link {
        let (Some(a), Some(b)) = (first, second) else {
            return first.or(second);
        };
        if self.nodes[a].weight >= self.nodes[b].weight {
            self.nodes[a].right = self.join(self.nodes[a].right, second);
            self.refresh(a);
            first
        } else {
            self.nodes[b].left = self.join(first, self.nodes[b].left);
            self.refresh(b);
            second
        }
    }

    fn refresh(&mut self, index: usize) {
        let node = &self.nodes[index];
        let below = [node.left, node.right]
            .into_iter()
            .flatten()
            .map(|child| self.nodes[child].furthest)
            .fold(node.range.end(), u64::max);
        self.nodes[index].furthest = below;
    }
}

/// The finaliser of SplitMix64: a counter in, well-spread weights out.
fn scramble(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pages(first: u64, count: u64) -> MemoryRange {
        MemoryRange::new(first * 4096..(first + count) * 4096)
    }

    proptest! {
        /// Against a plain list, for random insertions, removals and queries.
        #[test]
        fn finds_what_a_list_finds(
            steps in proptest::collection::vec((0u64..60, 1u64..20, any::<bool>()), 1..120),
            queries in proptest::collection::vec((0u64..80, 0u64..10), 1..20),
        ) {
            let mut index = IntervalIndex::default();
            let mut list: Vec<(MemoryRange, u64)> = Vec::new();
            for (key, (first, count, remove)) in steps.into_iter().enumerate() {
                if remove && !list.is_empty() {
                    let (range, key) = list.swap_remove(first as usize % list.len());
                    prop_assert!(index.remove(range, key));
                    prop_assert!(!index.remove(range, key));
                } else {
                    let range = pages(first, count);
                    index.insert(range, key as u64);
                    list.push((range, key as u64));
                }
            }
            for (first, count) in queries {
                let query = pages(first, count);
                let mut found = Vec::new();
                index.overlapping(query, |range, key| found.push((range, key)));
                let mut expected: Vec<_> =
                    list.iter().copied().filter(|(range, _)| range.overlaps(&query)).collect();
                expected.sort_by_key(|(range, key)| (range.start(), *key));
                prop_assert_eq!(found, expected);
            }
        }
    }
}
