//! The regions of a snapshot, in a tree that the next snapshot shares but for what changed.

mod node;

use crate::dirty_marks::Marks;
use crate::region::SnapshotRegion;
use node::{Iter, Node};
use std::ops::Range;
use std::sync::Arc;

/// Regions, sorted and disjoint.
///
/// A clone costs one count of references and is another map. A change copies the nodes on the way to it
/// that another map has, too, a few hundred bytes each, whatever the number of regions; nodes that
/// it has copied once it changes in place until the map is cloned again.
#[derive(Clone, Debug)]
pub struct RegionMap<B> {
    root: Arc<Node<B>>,
    /// How many regions there are.
    len: usize,
}

impl<B: Marks> RegionMap<B> {
    pub(crate) fn empty() -> Self {
        Self {
            root: Arc::new(Node::leaf(Vec::new())),
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The region that an address lies in.
    #[inline(always)]
    pub(crate) fn find(&self, gpa: u64) -> Option<&SnapshotRegion<B>> {
        let (region, _) = self.find_into(gpa)?;
        Some(region)
    }

    /// As [`find`](Self::find), with the bytes from the region's start to the address.
    #[inline(always)]
    pub(crate) fn find_into(&self, gpa: u64) -> Option<(&SnapshotRegion<B>, u64)> {
        let region = self.root.find(gpa)?;
        Some((region, region.into(gpa)?))
    }

    /// As [`find_into`](Self::find_into), for what is inlined into vm-memory's iterators. Were this inlined
    /// there, too, its result would be put together in memory and read back in other pieces, which
    /// stalls the processor: reads then took 11 to 50 ns instead of 7.
    #[inline(never)]
    pub(crate) fn find_into_apart(&self, gpa: u64) -> Option<(&SnapshotRegion<B>, u64)> {
        self.find_into(gpa)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &SnapshotRegion<B>> {
        Iter::new(&self.root)
    }

    /// The last region.
    pub(crate) fn last(&self) -> Option<&SnapshotRegion<B>> {
        self.root.last()
    }

    /// Puts a region in, in place of what was there. It becomes one with the region before and the
    /// one after, where these go on in it.
    pub(crate) fn show(&mut self, region: SnapshotRegion<B>) {
        let Range { start, end } = region.start()..region.end();
        self.hide(start..end);
        let mut region = region;
        let before = start.checked_sub(1).and_then(|last| self.find(last));
        if let Some(joined) = before.and_then(|before| before.joined(&region)) {
            self.remove(joined.start());
            region = joined;
        }
        if let Some(joined) = self.find(end).and_then(|after| region.joined(after)) {
            self.remove(end);
            region = joined;
        }
        self.insert(region);
    }

    /// Takes everything out that is in a range. What lies in it in part keeps the rest.
    pub(crate) fn hide(&mut self, range: Range<u64>) {
        while let Some(region) = self.first_in(&range) {
            self.remove(region.start());
            let before = region.part(region.start()..range.start);
            let after = region.part(range.end..region.end());
            for rest in before.into_iter().chain(after) {
                self.insert(rest);
            }
        }
    }

    /// The first region that has bytes in a range.
    fn first_in(&self, range: &Range<u64>) -> Option<SnapshotRegion<B>> {
        let found = self.root.first_past(range.start);
        found.filter(|one| one.start() < range.end).cloned()
    }

    /// Puts a region in where there is none.
    fn insert(&mut self, region: SnapshotRegion<B>) {
        self.len = self.len.saturating_add(1);
        if let Some(right) = node::insert(&mut self.root, region) {
            let left = self.root.clone();
            self.root = Arc::new(Node::inner(vec![left, right]));
        }
    }

    /// Takes the region out that starts at an address.
    fn remove(&mut self, start: u64) {
        if node::remove(&mut self.root, start) {
            self.len = self.len.saturating_sub(1);
            while let Some(only) = self.root.only_child() {
                self.root = only;
            }
        }
    }
}

#[cfg(test)]
mod tests;
