//! Puts answers in order: children sorted, those of equal names merged.
//!
//! Nothing is copied. A directory's children are put in order when whoever writes the tree comes
//! to it.

use crate::natural;
use crate::node::{Directory, Node};
use crate::tape::{Content, Deferral, Entry, Label, Name, Place, Tape};
use crate::tree::{Leaf, Split, Tree};
use crate::unresolved::Unresolved;
use crate::value::Value;
use alloc::vec::{self, Vec};

/// An entry of a tape.
#[derive(Copy, Clone)]
pub(crate) struct At<'t> {
    tape: &'t Tape,
    index: usize,
}

/// What stands at one place, with all its contributors.
#[derive(Clone)]
pub(crate) enum Answer<'t> {
    /// Nobody has answered.
    Nothing,
    Leaf(Leaf<'t>),
    Directory(Parts<'t>),
    Unopened,
    Unresolved(Unresolved),
}

/// The contributors to a directory.
#[derive(Clone)]
pub(crate) enum Parts<'t> {
    One(At<'t>),
    Many(Vec<At<'t>>),
}

impl<'t> Parts<'t> {
    fn as_slice(&self) -> &[At<'t>] {
        match self {
            Self::One(one) => core::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    fn add(&mut self, more: Self) {
        let mut all = self.as_slice().to_vec();
        all.extend_from_slice(more.as_slice());
        *self = Self::Many(all);
    }
}

impl<'t> Answer<'t> {
    /// Adds the answer of another contributor to the same place: directories merge, otherwise the
    /// first answer stands. An answer that didn't come stands only where there is no other.
    fn merge(&mut self, other: Self) {
        match (&mut *self, other) {
            (_, Self::Nothing) => {}
            (Self::Nothing, other) => *self = other,
            (Self::Unresolved(_), Self::Unresolved(_)) => {}
            (Self::Unresolved(_), other) => *self = other,
            (Self::Directory(parts), Self::Directory(more)) => parts.add(more),
            _ => {}
        }
    }

    /// Tells whether anybody has answered.
    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::Nothing)
    }
}

/// Returns what stands at the place that the query is about.
pub(crate) fn root(tape: &Tape) -> Answer<'_> {
    let mut root = Root {
        place: Place::Nothing,
        answer: Answer::Nothing,
        missing: None,
    };
    root.take(tape);
    match (root.answer, root.missing) {
        (Answer::Nothing, Some(why)) if root.place != Place::Blocked => Answer::Unresolved(why),
        (answer, _) => answer,
    }
}

/// The root while answers arrive for it, in the order in which they were asked for.
struct Root<'t> {
    place: Place,
    answer: Answer<'t>,
    missing: Option<Unresolved>,
}

impl<'t> Root<'t> {
    fn take(&mut self, tape: &'t Tape) {
        for (index, entry) in tape.roots() {
            match &entry.content {
                Content::Directory => {
                    if self.place.take_directory(0, true) {
                        self.answer.merge(answer(tape, index, entry));
                    }
                }
                Content::Unopened => {
                    self.place.take_directory(0, false);
                    if self.place == Place::Unopened {
                        self.answer = Answer::Unopened;
                    }
                }
                Content::OnTheWay { above, value: true } => {
                    self.place.take_value(*above);
                }
                Content::OnTheWay { above, .. } => {
                    self.place.take_directory(*above, true);
                }
                Content::Deferred { index, .. } => match tape.deferral(*index) {
                    Some(Deferral::Answered(tape)) => self.take(tape),
                    missing => self.missing = self.missing.or(Some(why(missing))),
                },
                _ => {
                    if self.place.take_value(0) {
                        self.answer = answer(tape, index, entry);
                    }
                }
            }
        }
    }
}

/// Returns why a deferred answer is missing.
fn why(deferral: Option<&Deferral>) -> Unresolved {
    match deferral {
        Some(Deferral::Missing(why)) => *why,
        _ => Unresolved::Late,
    }
}

/// Returns what one contributor has answered.
fn answer<'t>(tape: &'t Tape, index: usize, entry: &'t Entry) -> Answer<'t> {
    match &entry.content {
        Content::Null => Answer::Leaf(Leaf::Null),
        Content::Bool(truth) => Answer::Leaf(Leaf::Bool(*truth)),
        Content::Unsigned(number, style) => Answer::Leaf(Leaf::Unsigned(*number, *style)),
        Content::Signed(number, style) => Answer::Leaf(Leaf::Signed(*number, *style)),
        Content::Float(number) => Answer::Leaf(Leaf::Float(*number)),
        Content::Text(part) => Answer::Leaf(Leaf::Text(tape.written(*part))),
        Content::Boxed(value) => Answer::Leaf(Leaf::from(&**value)),
        Content::Directory => Answer::Directory(Parts::One(At { tape, index })),
        Content::Unopened => Answer::Unopened,
        Content::Deferred { index, .. } => match tape.deferral(*index) {
            Some(Deferral::Answered(tape)) => root(tape),
            missing => Answer::Unresolved(why(missing)),
        },
        Content::OnTheWay { .. } => Answer::Nothing,
    }
}

/// A child, before those of its name are merged into it.
struct Child<'t> {
    name: &'t str,
    /// The name, if it is a part of the program, so that it need not be copied.
    literal: Option<&'static str>,
    answer: Answer<'t>,
}

/// Returns the children of a directory in natural order, each name once.
fn children<'t>(parts: &[At<'t>]) -> Vec<Child<'t>> {
    let mut children = Vec::new();
    for part in parts {
        gather(*part, &mut children);
    }
    let in_order = |left: &Child<'_>, right: &Child<'_>| natural::compare(left.name, right.name);
    // Most directories are in order, or short.
    if !children.is_sorted_by(|left, right| in_order(left, right).is_lt()) {
        // Stable, so that equal names stay in the order of their answers.
        children.sort_by(in_order);
        children.dedup_by(|next, first| {
            let same = next.name == first.name;
            if same {
                let more = core::mem::replace(&mut next.answer, Answer::Nothing);
                first.answer.merge(more);
            }
            same
        });
    }
    children
}

fn gather<'t>(part: At<'t>, children: &mut Vec<Child<'t>>) {
    for (index, entry) in part.tape.children(part.index) {
        if let Content::Deferred { index, flat: true } = entry.content
            && let Some(Deferral::Answered(inner)) = part.tape.deferral(index)
        {
            if let Answer::Directory(parts) = root(inner) {
                for part in parts.as_slice() {
                    gather(*part, children);
                }
            }
            continue;
        }
        let answer = answer(part.tape, index, entry);
        if answer.is_some() {
            let name = part.tape.name(entry.label);
            let literal = match entry.label {
                Label::Own(name) => Some(name),
                Label::Written(_) => None,
            };
            children.push(Child {
                name,
                literal,
                answer,
            });
        }
    }
}

/// Makes a tree of an answer.
pub(crate) fn node(answer: &Answer<'_>) -> Node {
    match answer {
        Answer::Nothing => Node::Value(Value::Null),
        Answer::Leaf(leaf) => Node::Value(leaf.to_value()),
        Answer::Directory(parts) => {
            let children = children(parts.as_slice()).into_iter().map(|child| {
                let name = match child.literal {
                    Some(name) => Name::Borrowed(name),
                    None => Name::Owned(child.name.into()),
                };
                (name, node(&child.answer))
            });
            Node::Directory(Directory::from_sorted(children.collect()))
        }
        Answer::Unopened => Node::Unopened,
        Answer::Unresolved(why) => Node::Unresolved(*why),
    }
}

impl<'t> Tree<'t> for Answer<'t> {
    type Children = Children<'t>;

    fn split(&self) -> Split<'t, Children<'t>> {
        match self {
            Self::Nothing => Split::Leaf(Leaf::Null),
            Self::Leaf(leaf) => Split::Leaf(*leaf),
            Self::Directory(parts) => {
                Split::Directory(Children(children(parts.as_slice()).into_iter()))
            }
            Self::Unopened => Split::Unopened,
            Self::Unresolved(why) => Split::Unresolved(*why),
        }
    }
}

/// The children of a directory, in order.
pub(crate) struct Children<'t>(vec::IntoIter<Child<'t>>);

impl<'t> Iterator for Children<'t> {
    type Item = (&'t str, Answer<'t>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(|child| (child.name, child.answer))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for Children<'_> {}
