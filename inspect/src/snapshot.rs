//! The answers to a query, before they are written.

use crate::node::Node;
use crate::order;
use crate::tape::Tape;
use core::fmt;

/// Holds the answers to a query as they came: unsorted, and in one piece of memory.
///
/// It is what [`Query::snapshot`](crate::Query::snapshot) returns, owned and without a tie to what
/// was asked. It prints as a [`Node`] does, and each output sorts anew: to look into the tree, or
/// to write it more than once, make a [`Node`] of it.
///
/// ```
/// let snapshot = inspect::Query::new().snapshot(&vec!["a", "b"])?;
/// assert_eq!(snapshot.to_string(), "0: a\n1: b");
/// # Ok::<(), inspect::NotFound>(())
/// ```
pub struct Snapshot {
    tape: Tape,
}

impl Snapshot {
    pub(crate) fn new(tape: Tape) -> Self {
        Self { tape }
    }

    pub(crate) fn root(&self) -> order::Answer<'_> {
        order::root(&self.tape)
    }

    /// Makes a tree of the answers.
    #[must_use]
    pub fn to_node(&self) -> Node {
        order::node(&self.root())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(&self.to_node()).finish()
    }
}
