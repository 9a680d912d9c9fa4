//! Questions to a whole tree.

use crate::node::Node;
use crate::order;
use crate::path::{MAX_DEPTH, Path};
use crate::request::{Ask, Inspect, InspectMut, Request, Sensitivity};
use crate::snapshot::Snapshot;
use crate::tape::{Change, Tape};
use crate::tree::{Split, Tree};
use crate::value::Style;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
#[cfg(feature = "std")]
use core::time::Duration;
#[cfg(feature = "std")]
use std::time::Instant;
use thiserror::Error;

/// Returns the whole tree of an object, as [`Query::new`] sees it.
#[must_use]
pub fn inspect(object: &(impl Inspect + ?Sized)) -> Node {
    // Only a path leads to nothing.
    Query::new()
        .run(object)
        .unwrap_or(Node::Value(crate::Value::Null))
}

/// Runs a query, and waits up to `deadline` for answers that are deferred to other threads.
///
/// It is the same as [`Query::deadline`] and [`Query::run`].
///
/// # Errors
///
/// [`NotFound`] if nothing at the path answers that the query is allowed to see.
#[cfg(feature = "std")]
pub fn collect(
    object: &(impl Inspect + ?Sized),
    query: &Query,
    deadline: Duration,
) -> Result<Node, NotFound> {
    query.clone().deadline(deadline).run(object)
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
    #[cfg(feature = "std")]
    deadline: Duration,
}

/// When the waiting ends. Without `std` nobody waits.
pub(crate) struct Limit {
    #[cfg(feature = "std")]
    end: Instant,
}

impl Query {
    /// How long a query waits for deferred answers, unless it says otherwise.
    #[cfg(feature = "std")]
    pub const DEADLINE: Duration = Duration::from_secs(1);

    /// Asks for everything from the root down to [`MAX_DEPTH`], with [`Sensitivity::Default`].
    pub const fn new() -> Self {
        Self {
            path: Path::ROOT,
            depth: MAX_DEPTH,
            sensitivity: Sensitivity::Default,
            #[cfg(feature = "std")]
            deadline: Self::DEADLINE,
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

    /// Waits that long, from the beginning of the query, for all answers that are deferred
    /// together; at most a day. What hasn't come then is [`Node::Unresolved`].
    ///
    /// It is [`DEADLINE`](Self::DEADLINE) if nothing else is said. A query to which all objects
    /// answer at once never waits.
    #[cfg(feature = "std")]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);

        self.deadline = deadline.min(DAY);
        self
    }

    /// Asks an object, and all objects below it.
    ///
    /// An object at the root that has nothing to show results in
    /// [`Value::Null`](crate::Value::Null).
    ///
    /// # Errors
    ///
    /// [`NotFound`] if nothing at the path answers that the query is allowed to see.
    pub fn run(&self, object: &(impl Inspect + ?Sized)) -> Result<Node, NotFound> {
        Ok(self.snapshot(object)?.to_node())
    }

    /// Asks an object that can be updated, as [`run`](Self::run) does. Nothing is changed.
    ///
    /// # Errors
    ///
    /// [`NotFound`] if nothing at the path answers that the query is allowed to see.
    pub fn run_mut(&self, object: &mut (impl InspectMut + ?Sized)) -> Result<Node, NotFound> {
        let snapshot = self.take(&mut |req| object.inspect_mut(req))?;
        Ok(snapshot.to_node())
    }

    /// Asks as [`run`](Self::run) does, but leaves the answers as they came: sorting, merging and
    /// writing is done when the snapshot is written. That is several times faster than a [`Node`]
    /// where the tree is only to be printed.
    ///
    /// # Errors
    ///
    /// [`NotFound`] if nothing at the path answers that the query is allowed to see.
    pub fn snapshot(&self, object: &(impl Inspect + ?Sized)) -> Result<Snapshot, NotFound> {
        self.take(&mut |req| object.inspect(req))
    }

    fn take(&self, ask: &mut dyn FnMut(Request<'_>)) -> Result<Snapshot, NotFound> {
        let limit = self.limit();
        let tape = self.gather(ask, None, &limit);
        if self.path.is_root() || order::root(&tape).is_some() {
            Ok(Snapshot::new(tape))
        } else {
            Err(self.explain(ask, &limit))
        }
    }

    #[cfg_attr(
        not(feature = "std"),
        allow(clippy::unused_self, reason = "without std there is no deadline")
    )]
    pub(crate) fn limit(&self) -> Limit {
        Limit {
            #[cfg(feature = "std")]
            end: {
                let now = Instant::now();
                // No clock is a day from its end; if it were, nobody would wait.
                now.checked_add(self.deadline).unwrap_or(now)
            },
        }
    }

    pub(crate) fn gather(
        &self,
        ask: &mut dyn FnMut(Request<'_>),
        change: Option<Change>,
        limit: &Limit,
    ) -> Tape {
        self.gather_at(self.path.as_slice(), self.depth, ask, change, limit)
    }

    fn gather_at(
        &self,
        path: &[String],
        depth: usize,
        ask: &mut dyn FnMut(Request<'_>),
        change: Option<Change>,
        limit: &Limit,
    ) -> Tape {
        let mut tape = Tape::new(path.to_vec(), change);
        let question = Ask {
            above: path.len(),
            depth,
            level: 0,
            sensitivity: self.sensitivity,
            style: Style::Decimal,
        };
        ask(Request::new(question, &mut tape));
        limit.wait_for(&mut tape);
        tape
    }

    /// Finds how far the path leads, and what is there instead.
    pub(crate) fn explain(&self, ask: &mut dyn FnMut(Request<'_>), limit: &Limit) -> NotFound {
        let mut names = self.path.as_slice();
        let mut children = Vec::new();
        while let Some((_, parents)) = names.split_last() {
            names = parents;
            let tape = self.gather_at(names, 1, ask, None, limit);
            let root = order::root(&tape);
            if root.is_some() {
                if let Split::Directory(directory) = root.split() {
                    children = directory.map(|(name, _)| name.into()).collect();
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

    pub(crate) fn path_ref(&self) -> &Path {
        &self.path
    }
}

impl Limit {
    #[cfg(feature = "std")]
    fn wait_for(&self, tape: &mut Tape) {
        tape.wait(self.end);
    }

    #[cfg(not(feature = "std"))]
    fn wait_for(&self, _: &mut Tape) {}
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
