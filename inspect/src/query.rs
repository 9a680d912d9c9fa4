//! Questions to a whole tree.

use crate::gather::{self, Gathered};
use crate::node::Node;
use crate::path::Path;
use crate::request::{Ask, Inspect, MAX_DEPTH, Request, Sensitivity};
use crate::value::{Style, Value};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;

/// Returns the whole tree of an object, as [`Query::new`] sees it.
#[must_use]
pub fn inspect(object: &(impl Inspect + ?Sized)) -> Node {
    let query = Query::new();
    query
        .ask(object, &[], query.depth)
        .unwrap_or(Node::Value(Value::Null))
}

/// Asks for a part of a tree.
///
/// ```
/// use inspect::{Query, Sensitivity};
/// use std::collections::BTreeMap;
///
/// let slots = BTreeMap::from([("vtl0", vec![1, 2]), ("vtl2", vec![3])]);
/// let tree = Query::new().path("vtl2".parse()?).run(&slots)?;
/// assert_eq!(tree.compact().to_string(), "{0: 3}");
///
/// let tree = Query::new().depth(1).sensitivity(Sensitivity::Safe).run(&slots)?;
/// assert_eq!(tree.compact().to_string(), "{vtl0: ..., vtl2: ...}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a query does nothing until it runs"]
pub struct Query {
    path: Path,
    depth: usize,
    sensitivity: Sensitivity,
}

impl Query {
    /// Asks for everything from the root down to [`MAX_DEPTH`], with [`Sensitivity::Default`].
    pub const fn new() -> Self {
        Self {
            path: Path::ROOT,
            depth: MAX_DEPTH,
            sensitivity: Sensitivity::Default,
        }
    }

    /// Asks for what stands at `path`.
    pub fn path(mut self, path: Path) -> Self {
        self.path = path;
        self
    }

    /// Opens at most `depth` levels of directories, from the path on. With 0 only a value is seen;
    /// with 1 the children of a directory, but not theirs. More than [`MAX_DEPTH`] is the same as
    /// that.
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth.min(MAX_DEPTH);
        self
    }

    /// Asks for children up to that sensitivity. On the way along the path it counts too: what
    /// lies in a directory that isn't seen, isn't seen either.
    pub fn sensitivity(mut self, sensitivity: Sensitivity) -> Self {
        self.sensitivity = sensitivity;
        self
    }

    /// Asks an object, and all objects below it.
    ///
    /// An object at the root that has nothing to show results in [`Value::Null`].
    ///
    /// # Errors
    ///
    /// [`NotFound`] if nothing at the path answers that the query is allowed to see.
    pub fn run(&self, object: &(impl Inspect + ?Sized)) -> Result<Node, NotFound> {
        match self.ask(object, self.path.as_slice(), self.depth) {
            Some(node) => Ok(node),
            None if self.path.is_root() => Ok(Node::Value(Value::Null)),
            None => Err(self.explain(object)),
        }
    }

    fn ask(&self, object: &(impl Inspect + ?Sized), path: &[String], depth: usize) -> Option<Node> {
        let mut gathered = Gathered::Nothing;
        let ask = Ask {
            path,
            depth,
            sensitivity: self.sensitivity,
            style: Style::Decimal,
        };
        object.inspect(Request::new(ask, &mut gathered));
        gather::finish(gathered)
    }

    /// Finds how far the path leads, and what is there instead.
    fn explain(&self, object: &(impl Inspect + ?Sized)) -> NotFound {
        let mut names = self.path.as_slice();
        let mut children = Vec::new();
        while let Some((_, parents)) = names.split_last() {
            names = parents;
            if let Some(node) = self.ask(object, names, 1) {
                if let Node::Directory(directory) = node {
                    children = directory.iter().map(|(name, _)| name.into()).collect();
                }
                break;
            }
        }
        NotFound {
            path: self.path.clone(),
            found: names.len(),
            children,
        }
    }
}

impl Default for Query {
    fn default() -> Self {
        Self::new()
    }
}

/// Says that nothing stands at the path of a query.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub struct NotFound {
    path: Path,
    found: usize,
    children: Vec<String>,
}

impl NotFound {
    /// Returns the path that leads nowhere.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns how many names of the path, from its beginning, lead somewhere.
    #[must_use]
    pub fn found(&self) -> usize {
        self.found
    }

    /// Returns the names that could have followed there: none if it is a value.
    #[must_use]
    pub fn children(&self) -> &[String] {
        &self.children
    }
}

impl fmt::Display for NotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A list that is longer than this hides the message.
        const SHOWN: usize = 12;

        write!(f, "nothing at `{}`: ", self.path)?;
        let found = Path::from_names(self.path.names().take(self.found)).unwrap_or_default();
        if found.is_root() {
            f.write_str("the root")?;
        } else {
            write!(f, "`{found}`")?;
        }
        if self.children.is_empty() {
            return f.write_str(" has no children");
        }
        f.write_str(" has only ")?;
        for (index, child) in self.children.iter().take(SHOWN).enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}`{}`", child.escape_debug())?;
        }
        match self.children.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, " and {more} more"),
            _ => Ok(()),
        }
    }
}
