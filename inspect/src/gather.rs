//! What contributors have answered, before it is put in order.
//!
//! Gathering runs while contributors hold their locks, so it only appends. Sorting and merging
//! happen in [`finish`], when the locks are free again.

use crate::natural;
use crate::node::{Directory, Node};
use crate::value::Value;
use alloc::borrow::Cow;
use alloc::vec::Vec;

/// The name of a child.
pub(crate) type Name = Cow<'static, str>;

/// The answers for one place in the tree.
#[derive(Default)]
pub(crate) enum Gathered {
    /// Nobody has answered.
    #[default]
    Nothing,
    Value(Value),
    /// In the order of the answers, with names that may repeat.
    Directory(Vec<(Name, Gathered)>),
    /// A directory that lies below the depth of the query.
    Unopened,
    /// On the way to the place some contributors have directories, but none has led to it yet. The
    /// last of these directories lies that many names above the place.
    Approached(usize),
    /// On the way to the place stands a value, so that nothing can stand at the place.
    Blocked,
}

impl Gathered {
    /// Answers with a value, `above` names above the place.
    pub(crate) fn answer_value(&mut self, above: usize, value: impl FnOnce() -> Value) {
        match self {
            Self::Nothing | Self::Approached(_) if above == 0 => *self = Self::Value(value()),
            Self::Nothing => *self = Self::Blocked,
            // A directory that was answered for before stands, and one above this place does no
            // harm.
            Self::Approached(last) if above < *last => *self = Self::Blocked,
            _ => {}
        }
    }

    /// Answers with a directory, `above` names above the place. With `depth` 0 it is not opened.
    /// Tells whether its children count.
    pub(crate) fn answer_directory(&mut self, above: usize, depth: usize) -> bool {
        match self {
            Self::Nothing | Self::Approached(_) if above == 0 => {
                *self = match depth {
                    0 => Self::Unopened,
                    _ => Self::Directory(Vec::new()),
                };
            }
            Self::Nothing => *self = Self::Approached(above),
            Self::Approached(last) => *last = above.min(*last),
            _ => {}
        }
        match self {
            Self::Directory(_) => true,
            Self::Value(_) | Self::Unopened => above > 0,
            Self::Approached(_) => true,
            Self::Nothing | Self::Blocked => false,
        }
    }

    /// Adds the answers of another contributor to the same place: directories merge, otherwise
    /// the first answer stands.
    pub(crate) fn merge(&mut self, other: Self) {
        match (self, other) {
            (this @ Self::Nothing, other) => *this = other,
            (Self::Directory(children), Self::Directory(more)) => children.extend(more),
            _ => {}
        }
    }
}

/// Puts the answers in order. `None` if there were none.
pub(crate) fn finish(gathered: Gathered) -> Option<Node> {
    match gathered {
        Gathered::Nothing | Gathered::Approached(_) | Gathered::Blocked => None,
        Gathered::Value(value) => Some(Node::Value(value)),
        Gathered::Unopened => Some(Node::Unopened),
        Gathered::Directory(mut children) => {
            // Stable, so that equal names stay in the order of their answers.
            children.sort_by(|(left, _), (right, _)| natural::compare(left, right));
            children.dedup_by(|(next, more), (name, answers)| {
                let same = next == name;
                if same {
                    answers.merge(core::mem::take(more));
                }
                same
            });
            // Collecting from a vector's own items reuses its memory, which for large trees is
            // most of the time that this takes.
            let sorted = children
                .into_iter()
                .filter_map(|(name, answers)| Some((name, finish(answers)?)))
                .collect();
            Some(Node::Directory(Directory::from_sorted(sorted)))
        }
    }
}
