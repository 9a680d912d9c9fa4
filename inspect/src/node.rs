//! The tree that a query results in.

use crate::natural;
use crate::path::Path;
use crate::tape::Name;
use crate::tree::{Leaf, Split, Tree};
use crate::unresolved::Unresolved;
use crate::value::Value;
use alloc::vec::Vec;

/// Holds one place of the tree, and all that is below it.
///
/// It is owned, and has no tie to what it was made from. [`Display`](core::fmt::Display) writes it
/// as indented text; [`compact`](Self::compact) as text in one line; `to_json` as JSON.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Node {
    /// A value.
    Value(Value),
    /// A directory, with its children.
    Directory(Directory),
    /// A directory whose children lie below the depth of the query.
    Unopened,
    /// An answer that was deferred and has not come.
    Unresolved(Unresolved),
}

impl Node {
    /// Returns the value, if this is one.
    #[must_use]
    pub fn as_value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            _ => None,
        }
    }

    /// Returns the directory, if this is one that was opened.
    #[must_use]
    pub fn as_directory(&self) -> Option<&Directory> {
        match self {
            Self::Directory(directory) => Some(directory),
            _ => None,
        }
    }

    /// Returns the child called `name`. `None` if there is no such child, and for a value.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.as_directory()?.get(name)
    }

    /// Returns what stands at `path` below this node; this node itself for the empty path.
    #[must_use]
    pub fn get(&self, path: &Path) -> Option<&Node> {
        path.names().try_fold(self, |node, name| node.child(name))
    }
}

impl From<Value> for Node {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

impl<'t> Tree<'t> for &'t Node {
    type Children = Children<'t>;

    fn split(&self) -> Split<'t, Children<'t>> {
        match *self {
            Node::Value(value) => Split::Leaf(Leaf::from(value)),
            Node::Directory(directory) => Split::Directory(Children(directory.children.iter())),
            Node::Unopened => Split::Unopened,
            Node::Unresolved(why) => Split::Unresolved(*why),
        }
    }
}

/// The children of a directory, in order.
pub(crate) struct Children<'t>(core::slice::Iter<'t, (Name, Node)>);

impl<'t> Iterator for Children<'t> {
    type Item = (&'t str, &'t Node);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|(name, node)| (name.as_ref(), node))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Children<'_> {}

/// Holds the children of a node, each name once, in natural order (`a2` before `a10`).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Directory {
    /// Invariant: strictly ascending by `natural::compare`.
    children: Vec<(Name, Node)>,
}

impl Directory {
    /// Takes children that already are in the order of the invariant.
    pub(crate) fn from_sorted(children: Vec<(Name, Node)>) -> Self {
        debug_assert!(
            children.is_sorted_by(|(left, _), (right, _)| natural::compare(left, right).is_lt())
        );
        Self { children }
    }

    /// Returns the number of children.
    #[must_use]
    pub fn len(&self) -> usize {
        self.children.len()
    }

    /// Tells whether there is no child.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// Returns the child called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Node> {
        let index = self
            .children
            .binary_search_by(|(child, _)| natural::compare(child, name))
            .ok()?;
        self.children.get(index).map(|(_, node)| node)
    }

    /// Returns the children with their names, in natural order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (&str, &Node)> + ExactSizeIterator {
        self.children
            .iter()
            .map(|(name, node)| (name.as_ref(), node))
    }
}

/// Collects children. Of those that share a name the first stands; if it is a directory, the other
/// directories of that name merge into it.
impl<N: Into<Name>> FromIterator<(N, Node)> for Directory {
    fn from_iter<I: IntoIterator<Item = (N, Node)>>(children: I) -> Self {
        let mut children: Vec<(Name, Node)> = children
            .into_iter()
            .map(|(name, node)| (name.into(), node))
            .collect();
        children.sort_by(|(left, _), (right, _)| natural::compare(left, right));
        let mut sorted: Vec<(Name, Node)> = Vec::with_capacity(children.len());
        for (name, node) in children {
            match sorted.last_mut() {
                Some((last, first)) if *last == name => {
                    if let (Node::Directory(first), Node::Directory(more)) = (first, node) {
                        let both = core::mem::take(first).children.into_iter();
                        *first = both.chain(more.children).collect();
                    }
                }
                _ => sorted.push((name, node)),
            }
        }
        Self::from_sorted(sorted)
    }
}
