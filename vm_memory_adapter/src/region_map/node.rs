//! The tree: all leaves are equally far from the root.

use crate::dirty_marks::Marks;
use crate::places::Places;
use crate::region::SnapshotRegion;
use std::slice;
use std::sync::Arc;

/// How many regions a leaf has at most, and how many children any other node. 1,024 regions in a row have
/// one node above their leaves, 60,000 have two. Longer ones would make look-ups a little faster,
/// shorter ones changes.
pub(super) const REGIONS: usize = if cfg!(test) { 4 } else { 32 };
pub(super) const CHILDREN: usize = if cfg!(test) { 5 } else { 64 };

/// How many pieces a node's index has: several for each of its children.
const PIECES: usize = 256;

/// Neighbours that have together no more than this part of the most become one, which then has room for
/// some more.
const FEW: (usize, usize) = (3, 4);

#[derive(Clone, Debug)]
pub(super) enum Node<B> {
    /// Empty only where it is the root.
    Leaf(Leaf<B>),
    Inner(Inner<B>),
}

#[derive(Clone, Debug)]
pub(super) struct Leaf<B> {
    places: Places<PIECES>,
    regions: Vec<SnapshotRegion<B>>,
}

/// Not empty.
#[derive(Clone, Debug)]
pub(super) struct Inner<B> {
    places: Places<PIECES>,
    /// Where each child starts.
    starts: Vec<u64>,
    children: Vec<Arc<Node<B>>>,
}

impl<B: Marks> Leaf<B> {
    #[inline(always)]
    fn start(&self, nth: usize) -> Option<u64> {
        self.regions.get(nth).map(SnapshotRegion::start)
    }

    fn place(&self, gpa: u64) -> usize {
        self.places.place(gpa, |nth| self.start(nth))
    }

    #[cfg(test)]
    pub(super) fn regions(&self) -> &[SnapshotRegion<B>] {
        &self.regions
    }

    fn index(&mut self) {
        self.places = Places::new(self.regions.iter().map(SnapshotRegion::start));
    }
}

impl<B: Marks> Inner<B> {
    #[inline(always)]
    fn start(&self, nth: usize) -> Option<u64> {
        self.starts.get(nth).copied()
    }

    fn place(&self, gpa: u64) -> usize {
        self.places.place(gpa, |nth| self.start(nth))
    }

    #[cfg(test)]
    pub(super) fn children(&self) -> (&[u64], &[Arc<Node<B>>]) {
        (&self.starts, &self.children)
    }

    fn index(&mut self) {
        self.starts.clear();
        self.starts
            .extend(self.children.iter().map(|one| one.start()));
        self.places = Places::new(self.starts.iter().copied());
    }
}

impl<B: Marks> Node<B> {
    pub(super) fn leaf(regions: Vec<SnapshotRegion<B>>) -> Self {
        let mut leaf = Leaf {
            places: Places::new(std::iter::empty()),
            regions,
        };
        leaf.index();
        Self::Leaf(leaf)
    }

    /// Of sorted children, one at least.
    pub(super) fn inner(children: Vec<Arc<Self>>) -> Self {
        let mut inner = Inner {
            places: Places::new(std::iter::empty()),
            starts: Vec::with_capacity(children.len()),
            children,
        };
        inner.index();
        Self::Inner(inner)
    }

    /// How many regions or children it has.
    fn len(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.regions.len(),
            Self::Inner(inner) => inner.children.len(),
        }
    }

    fn most(&self) -> usize {
        match self {
            Self::Leaf(_) => REGIONS,
            Self::Inner(_) => CHILDREN,
        }
    }

    /// Where its first region starts.
    pub(super) fn start(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.regions.first().map_or(0, SnapshotRegion::start),
            Self::Inner(inner) => inner.starts.first().copied().unwrap_or(0),
        }
    }

    /// The region that an address lies in, if it lies in one; or another one.
    #[inline(always)]
    pub(super) fn find(&self, gpa: u64) -> Option<&SnapshotRegion<B>> {
        let mut node = self;
        loop {
            match node {
                Self::Leaf(leaf) => {
                    return match leaf.regions.as_slice() {
                        [only] => Some(only),
                        regions => regions.get(leaf.places.place_from(gpa, |nth| leaf.start(nth))),
                    };
                }
                Self::Inner(inner) => {
                    let place = inner.places.place_from(gpa, |nth| inner.start(nth));
                    node = inner.children.get(place)?;
                }
            }
        }
    }

    /// The first region that ends past an address.
    pub(super) fn first_past(&self, gpa: u64) -> Option<&SnapshotRegion<B>> {
        match self {
            Self::Leaf(leaf) => {
                let mut regions = leaf.regions.iter().skip(leaf.place(gpa));
                regions.find(|one| one.end() > gpa)
            }
            Self::Inner(inner) => {
                let mut children = inner.children.iter().skip(inner.place(gpa));
                children.find_map(|one| one.first_past(gpa))
            }
        }
    }

    pub(super) fn last(&self) -> Option<&SnapshotRegion<B>> {
        match self {
            Self::Leaf(leaf) => leaf.regions.last(),
            Self::Inner(inner) => inner.children.last()?.last(),
        }
    }

    /// The child, where there is no other.
    pub(super) fn only_child(&self) -> Option<Arc<Self>> {
        match self {
            Self::Inner(inner) if inner.children.len() == 1 => inner.children.first().cloned(),
            _ => None,
        }
    }

    /// Splits what comes last off, if there is more than there may be. A node that grew at its end, as
    /// in a row of insertions, stays full.
    fn split(&mut self, grew_at: usize) -> Option<Arc<Self>> {
        let len = self.len();
        if len <= self.most() {
            return None;
        }
        let at = match grew_at.saturating_add(1) == len {
            true => grew_at,
            false => len / 2,
        };
        let right = match self {
            Self::Leaf(leaf) => {
                let regions = leaf.regions.split_off(at);
                leaf.index();
                Self::leaf(regions)
            }
            Self::Inner(inner) => {
                let children = inner.children.split_off(at);
                inner.index();
                Self::inner(children)
            }
        };
        Some(Arc::new(right))
    }

    /// Takes all that a node has which comes right after this one, and is as far from the root.
    fn take_in(&mut self, next: Self) {
        match (self, next) {
            (Self::Leaf(leaf), Self::Leaf(next)) => {
                leaf.regions.extend(next.regions);
                leaf.index();
            }
            (Self::Inner(inner), Self::Inner(next)) => {
                inner.children.extend(next.children);
                inner.index();
            }
            // All leaves are equally far from the root.
            _ => debug_assert!(false, "neighbours differ in height"),
        }
    }
}

/// Puts a region into a tree, where there is none. Returns the second half of the node, if it had to be
/// split.
pub(super) fn insert<B: Marks>(
    node: &mut Arc<Node<B>>,
    region: SnapshotRegion<B>,
) -> Option<Arc<Node<B>>> {
    let node = Arc::make_mut(node);
    let at = match node {
        Node::Leaf(leaf) => {
            let at = leaf
                .regions
                .partition_point(|one| one.start() < region.start());
            leaf.regions.insert(at, region);
            leaf.index();
            at
        }
        Node::Inner(inner) => {
            let at = inner.place(region.start());
            let is_first = inner
                .starts
                .first()
                .is_none_or(|first| region.start() < *first);
            let right = insert(inner.children.get_mut(at)?, region);
            let has_right = right.is_some();
            if let Some(right) = right {
                inner.children.insert(at.saturating_add(1), right);
            }
            if has_right || is_first {
                inner.index();
            }
            at.saturating_add(1)
        }
    };
    node.split(at)
}

/// Takes the region out that starts at an address; says whether there was one.
pub(super) fn remove<B: Marks>(node: &mut Arc<Node<B>>, start: u64) -> bool {
    match Arc::make_mut(node) {
        Node::Leaf(leaf) => {
            let at = leaf.regions.partition_point(|one| one.start() < start);
            let is_there = leaf.regions.get(at).is_some_and(|one| one.start() == start);
            if is_there {
                leaf.regions.remove(at);
                leaf.index();
            }
            is_there
        }
        Node::Inner(inner) => {
            let at = inner.place(start);
            let Some(child) = inner.children.get_mut(at) else {
                return false;
            };
            if !remove(child, start) {
                return false;
            }
            let (is_empty, now) = (child.len() == 0, child.start());
            if is_empty {
                inner.children.remove(at);
            }
            let is_joined = join(&mut inner.children, at);
            if is_empty || is_joined || inner.starts.get(at) != Some(&now) {
                inner.index();
            }
            true
        }
    }
}

/// Joins the child at a place with a neighbour, if both are small.
fn join<B: Marks>(children: &mut Vec<Arc<Node<B>>>, at: usize) -> bool {
    for left in [at.saturating_sub(1), at] {
        let right = left.saturating_add(1);
        let (Some(one), Some(next)) = (children.get(left), children.get(right)) else {
            continue;
        };
        let together = one.len().saturating_add(next.len());
        if together.saturating_mul(FEW.1) <= one.most().saturating_mul(FEW.0) {
            let next = Arc::unwrap_or_clone(children.remove(right));
            if let Some(one) = children.get_mut(left) {
                Arc::make_mut(one).take_in(next);
            }
            return true;
        }
    }
    false
}

/// The regions of a tree, by address.
pub(super) struct Iter<'a, B> {
    /// What is left of each node on the way down.
    above: Vec<slice::Iter<'a, Arc<Node<B>>>>,
    regions: slice::Iter<'a, SnapshotRegion<B>>,
}

impl<'a, B> Iter<'a, B> {
    pub(super) fn new(root: &'a Arc<Node<B>>) -> Self {
        Self {
            above: vec![slice::from_ref(root).iter()],
            regions: [].iter(),
        }
    }
}

impl<'a, B> Iterator for Iter<'a, B> {
    type Item = &'a SnapshotRegion<B>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(region) = self.regions.next() {
                return Some(region);
            }
            match self.above.last_mut()?.next() {
                None => {
                    self.above.pop();
                }
                Some(node) => match &**node {
                    Node::Leaf(leaf) => self.regions = leaf.regions.iter(),
                    Node::Inner(inner) => self.above.push(inner.children.iter()),
                },
            }
        }
    }
}
