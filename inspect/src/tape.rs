//! What contributors have answered, before it is put in order.
//!
//! Gathering runs while contributors hold their locks, so it only appends: one entry to one list,
//! and dynamic text to one string. `order` sorts and merges when the locks are free again.

#[cfg(feature = "std")]
use crate::slot::Slot;
use crate::unresolved::Unresolved;
use crate::value::{Style, Value};
use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
#[cfg(feature = "std")]
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::{self, Write};
#[cfg(feature = "std")]
use std::time::Instant;

/// The name of a child.
pub(crate) type Name = Cow<'static, str>;

/// A part of a tape's text.
#[derive(Copy, Clone, Default)]
pub(crate) struct Part {
    start: u32,
    len: u32,
}

/// The name of an entry.
#[derive(Copy, Clone)]
pub(crate) enum Label {
    Own(&'static str),
    Written(Part),
}

impl Label {
    pub(crate) const EMPTY: Self = Self::Own("");
}

/// What an entry says. It is small, because most of what gathering costs is the memory that it
/// touches first.
pub(crate) enum Content {
    Null,
    Bool(bool),
    Unsigned(u64, Style),
    Signed(i64, Style),
    Float(f64),
    Text(Part),
    /// Any other value.
    Boxed(Box<Value>),
    /// Its children are the entries one level below it, up to the next entry of its level.
    Directory,
    /// A directory that lies below the depth of the query.
    Unopened,
    /// What somebody answers later, as the index into the tape's list of these. It is a directory
    /// whose children belong one level higher if `flat`.
    Deferred {
        index: usize,
        flat: bool,
    },
    /// At the root only: an answer that many names above the place that the query is about.
    OnTheWay {
        above: usize,
        value: bool,
    },
}

pub(crate) struct Entry {
    pub(crate) label: Label,
    pub(crate) content: Content,
    level: u32,
    /// The next entry with the same parent; 0 if there is none, as 0 follows nothing.
    next: u32,
}

const _: () = assert!(
    size_of::<Entry>() <= 40 || size_of::<usize>() != 8,
    "an entry has become larger"
);

/// The state of the place that the query is about, from the answers for it so far.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nobody has answered.
    #[default]
    Nothing,
    Value,
    Directory,
    Unopened,
    /// On the way to the place some contributors have directories, but none has led to it yet. The
    /// last of these directories lies that many names above the place.
    Approached(usize),
    /// On the way to the place stands a value, so that nothing can stand at the place.
    Blocked,
}

impl Place {
    /// Takes a value, `above` names above the place. Tells whether it stands at the place.
    pub(crate) fn take_value(&mut self, above: usize) -> bool {
        match *self {
            Self::Nothing | Self::Approached(_) if above == 0 => {
                *self = Self::Value;
                return true;
            }
            Self::Nothing => *self = Self::Blocked,
            // A directory that was answered for before stands, and one above this place does no
            // harm.
            Self::Approached(last) if above < last => *self = Self::Blocked,
            _ => {}
        }
        false
    }

    /// Takes a directory, `above` names above the place. Tells whether its children count.
    pub(crate) fn take_directory(&mut self, above: usize, opened: bool) -> bool {
        match *self {
            Self::Nothing | Self::Approached(_) if above == 0 => {
                *self = match opened {
                    true => Self::Directory,
                    false => Self::Unopened,
                };
            }
            Self::Nothing => *self = Self::Approached(above),
            Self::Approached(last) => *self = Self::Approached(above.min(last)),
            _ => {}
        }
        match *self {
            Self::Directory | Self::Approached(_) => true,
            Self::Value | Self::Unopened => above > 0,
            Self::Nothing | Self::Blocked => false,
        }
    }
}

/// A new value for the place that the query is about.
pub(crate) struct Change {
    pub(crate) text: String,
    pub(crate) outcome: Outcome,
}

/// What has become of a [`Change`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nobody could take it.
    #[default]
    Untried,
    Made,
    /// What would have been valid.
    Refused(Cow<'static, str>),
}

/// An answer that was deferred.
pub(crate) enum Deferral {
    #[cfg(feature = "std")]
    Waiting(Arc<Slot<Tape>>),
    #[cfg_attr(not(feature = "std"), allow(dead_code, reason = "nothing is deferred"))]
    Answered(Box<Tape>),
    Missing(Unresolved),
}

/// The answers to one query.
#[derive(Default)]
pub(crate) struct Tape {
    entries: Vec<Entry>,
    text: String,
    /// For each level the last entry, up to the level of the last entry of all.
    last: Vec<u32>,
    pub(crate) place: Place,
    /// Leads from the root to the place that the query is about.
    path: Vec<String>,
    pub(crate) change: Option<Change>,
    deferrals: Vec<Deferral>,
    /// How many deferrals have led to this tape, each in the answer of the one before.
    #[cfg(feature = "std")]
    pub(crate) hops: usize,
}

impl Tape {
    pub(crate) fn new(path: Vec<String>, change: Option<Change>) -> Self {
        Self {
            path,
            change,
            ..Self::default()
        }
    }

    /// Appends an entry. `level` is at most one more than that of the entry before.
    ///
    /// Entries and text go up to 4 GiB each. What is beyond is lost: by then a tree has long become
    /// too large for whoever reads it.
    pub(crate) fn push(&mut self, level: usize, label: Label, content: Content) {
        let (Ok(index), Ok(depth)) = (u32::try_from(self.entries.len()), u32::try_from(level))
        else {
            return;
        };
        // What is deeper than this entry has no further siblings.
        self.last.truncate(level.saturating_add(1));
        match self.last.get_mut(level) {
            Some(last) => {
                if let Some(before) = self.entries.get_mut(position(*last)) {
                    before.next = index;
                }
                *last = index;
            }
            None => self.last.push(index),
        }
        self.entries.push(Entry {
            label,
            content,
            level: depth,
            next: 0,
        });
    }

    pub(crate) fn push_deferral(
        &mut self,
        level: usize,
        label: Label,
        flat: bool,
        deferral: Deferral,
    ) {
        let index = self.deferrals.len();
        self.deferrals.push(deferral);
        self.push(level, label, Content::Deferred { index, flat });
    }

    /// Waits for the answers that were deferred, and for those deferred in them.
    #[cfg(feature = "std")]
    pub(crate) fn wait(&mut self, deadline: Instant) {
        for deferral in &mut self.deferrals {
            if let Deferral::Waiting(slot) = deferral {
                *deferral = match slot.take(deadline) {
                    Ok(mut tape) => {
                        tape.wait(deadline);
                        Deferral::Answered(Box::new(tape))
                    }
                    Err(why) => Deferral::Missing(why),
                };
            }
        }
    }

    /// Returns what has become of the change, here or wherever the answer was deferred to.
    pub(crate) fn outcome(&self) -> Outcome {
        let own = self.change.as_ref().map(|change| &change.outcome);
        let mut all = own
            .cloned()
            .into_iter()
            .chain(self.deferrals.iter().map(|deferral| match deferral {
                Deferral::Answered(tape) => tape.outcome(),
                _ => Outcome::Untried,
            }));
        all.find(|outcome| *outcome != Outcome::Untried)
            .unwrap_or_default()
    }

    /// Writes to the tape's text, and returns where.
    pub(crate) fn write(&mut self, text: &(impl fmt::Display + ?Sized)) -> Part {
        let start = self.text.len();
        // A string takes everything; an error comes from `text` itself, and what it wrote before
        // is all there is to show.
        let _ = write!(self.text, "{text}");
        self.part_from(start)
    }

    pub(crate) fn write_str(&mut self, text: &str) -> Part {
        let start = self.text.len();
        self.text.push_str(text);
        self.part_from(start)
    }

    fn part_from(&mut self, start: usize) -> Part {
        let len = self.text.len().saturating_sub(start);
        match (u32::try_from(start), u32::try_from(len)) {
            (Ok(start), Ok(len)) => Part { start, len },
            _ => {
                self.text.truncate(start);
                Part::default()
            }
        }
    }

    /// Takes back the text that was written last.
    pub(crate) fn unwrite(&mut self, part: Part) {
        self.text.truncate(position(part.start));
    }

    pub(crate) fn written(&self, part: Part) -> &str {
        let rest = self.text.get(position(part.start)..).unwrap_or_default();
        rest.get(..position(part.len)).unwrap_or_default()
    }

    /// Returns the name of an entry.
    pub(crate) fn name(&self, label: Label) -> &str {
        match label {
            Label::Own(name) => name,
            Label::Written(part) => self.written(part),
        }
    }

    /// Makes a name one of this tape's.
    pub(crate) fn label(&mut self, name: Name) -> Label {
        match name {
            Cow::Borrowed(name) => Label::Own(name),
            Cow::Owned(name) => Label::Written(self.write_str(&name)),
        }
    }

    /// Makes a value one of this tape's. Integers that have chosen no style get `style`.
    pub(crate) fn content(&mut self, value: Value, style: Style) -> Content {
        let styled = |own: Style| match own {
            Style::Decimal => style,
            own => own,
        };
        match value {
            Value::Null => Content::Null,
            Value::Bool(truth) => Content::Bool(truth),
            Value::Unsigned(number, own) => Content::Unsigned(number, styled(own)),
            Value::Signed(number, own) => Content::Signed(number, styled(own)),
            Value::Float(number) => Content::Float(number),
            Value::Text(text) => Content::Text(self.write_str(&text)),
            other => Content::Boxed(Box::new(other)),
        }
    }

    /// Returns the name that follows on the way to the place, `above` names above it.
    pub(crate) fn next_name(&self, above: usize) -> Option<&str> {
        let index = self.path.len().checked_sub(above)?;
        self.path.get(index).map(String::as_str)
    }

    /// Returns the names that lead from `above` names above the place to it.
    #[cfg(feature = "std")]
    pub(crate) fn rest_of_path(&self, above: usize) -> &[String] {
        let start = self.path.len().saturating_sub(above);
        self.path.get(start..).unwrap_or_default()
    }

    pub(crate) fn deferral(&self, index: usize) -> Option<&Deferral> {
        self.deferrals.get(index)
    }

    /// Returns the answers of level 0, in their order.
    pub(crate) fn roots(&self) -> Siblings<'_> {
        Siblings {
            tape: self,
            next: (!self.entries.is_empty()).then_some(0),
        }
    }

    /// Returns the children of an entry, in the order of their answers.
    pub(crate) fn children(&self, index: usize) -> Siblings<'_> {
        let level = self.entries.get(index).map(|entry| entry.level);
        let first = index.saturating_add(1);
        let child = self.entries.get(first).map(|entry| entry.level);
        let any = matches!((level, child), (Some(level), Some(child)) if child > level);
        Siblings {
            tape: self,
            next: any.then_some(first),
        }
    }
}

/// Entries of one parent.
pub(crate) struct Siblings<'t> {
    tape: &'t Tape,
    next: Option<usize>,
}

impl<'t> Iterator for Siblings<'t> {
    type Item = (usize, &'t Entry);

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next?;
        let entry = self.tape.entries.get(index)?;
        self.next = (entry.next != 0).then_some(position(entry.next));
        Some((index, entry))
    }
}

/// Makes an index of a stored one, which was made of an index.
fn position(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}
