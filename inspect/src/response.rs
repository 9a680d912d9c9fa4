//! A directory while its children are added.

use crate::gather::{Gathered, Name};
use crate::request::{Ask, Inspect, Request, Sensitivity};
use crate::show;
use crate::value::{Style, Value};
use alloc::string::String;
use core::fmt;

/// Adds children to a directory.
///
/// A child that the query doesn't want, by its path, depth or sensitivity, is not evaluated: the
/// closures given to [`child`](Self::child) don't run, and no [`Inspect`] is called.
///
/// The methods whose name doesn't end in `_at` add children of [`Sensitivity::Default`].
pub struct Response<'a> {
    ask: Ask<'a>,
    place: &'a mut Gathered,
    /// Whether any child can be wanted.
    open: bool,
}

impl<'a> Response<'a> {
    pub(crate) fn new(ask: Ask<'a>, place: &'a mut Gathered) -> Self {
        let open = place.answer_directory(ask.path.len(), ask.depth);
        Self { ask, place, open }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Makes the request for a child, if it is wanted.
    ///
    /// Not generic, so that what is compiled once for every field is small.
    fn enter(&mut self, level: Sensitivity, name: Name) -> Option<Request<'_>> {
        if !self.open || level > self.ask.sensitivity {
            return None;
        }
        if let Some((next, rest)) = self.ask.path.split_first() {
            let ask = Ask {
                path: rest,
                ..self.ask
            };
            return (name == *next).then(|| Request::new(ask, self.place));
        }
        let Gathered::Directory(children) = &mut *self.place else {
            return None;
        };
        children.push((name, Gathered::Nothing));
        let (_, place) = children.last_mut()?;
        let ask = Ask {
            // A directory with depth 0 is not open, so this takes one from at least one.
            depth: self.ask.depth.saturating_sub(1),
            ..self.ask
        };
        Some(Request::new(ask, place))
    }

    /// Adds a child that `answer` answers for.
    pub fn child(&mut self, name: impl Into<Name>, answer: impl FnOnce(Request<'_>)) -> &mut Self {
        self.child_at(Sensitivity::Default, name, answer)
    }

    /// Adds a child of that sensitivity, that `answer` answers for.
    pub fn child_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        answer: impl FnOnce(Request<'_>),
    ) -> &mut Self {
        if let Some(request) = self.enter(level, name.into()) {
            answer(request);
        }
        self
    }

    /// Adds an object as a child.
    pub fn field(&mut self, name: impl Into<Name>, object: &(impl Inspect + ?Sized)) -> &mut Self {
        self.field_at(Sensitivity::Default, name, object)
    }

    /// Adds an object as a child of that sensitivity.
    pub fn field_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        if let Some(request) = self.enter(level, name.into()) {
            object.inspect(request);
        }
        self
    }

    /// Adds a part of what the directory itself stands for: whoever sees the one sees the other.
    pub(crate) fn element(&mut self, name: String, object: &(impl Inspect + ?Sized)) {
        self.field_at(Sensitivity::Safe, name, object);
    }

    /// Adds a value.
    pub fn value(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.child(name, |request| request.value(value))
    }

    /// Adds an integer that is written as hexadecimal.
    pub fn hex(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Hex)
    }

    /// Adds an integer that is written as binary.
    pub fn binary(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Binary)
    }

    /// Adds a number that only grows.
    pub fn counter(&mut self, name: impl Into<Name>, value: impl Into<Value>) -> &mut Self {
        self.styled(name, value, Style::Counter)
    }

    fn styled(
        &mut self,
        name: impl Into<Name>,
        value: impl Into<Value>,
        style: Style,
    ) -> &mut Self {
        self.child(name, |request| {
            request.value(value.into().with_style(style))
        })
    }

    /// Adds bytes that are not text.
    pub fn bytes(
        &mut self,
        name: impl Into<Name>,
        bytes: &(impl AsRef<[u8]> + ?Sized),
    ) -> &mut Self {
        self.field(name, &show::bytes(bytes))
    }

    /// Adds the text that `value` displays.
    pub fn display(
        &mut self,
        name: impl Into<Name>,
        value: &(impl fmt::Display + ?Sized),
    ) -> &mut Self {
        self.child(name, |request| request.display(value))
    }

    /// Adds the text of `value`'s `Debug`.
    pub fn debug(
        &mut self,
        name: impl Into<Name>,
        value: &(impl fmt::Debug + ?Sized),
    ) -> &mut Self {
        self.child(name, |request| request.debug(value))
    }

    /// Adds the children of an object, as if they were children of this directory.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten(
        &mut self,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        self.flatten_at(Sensitivity::Default, name, object)
    }

    /// Adds the children of an object, if the query sees that sensitivity, as if they were
    /// children of this directory. Their own sensitivity counts as well.
    ///
    /// An object that answers with a value, and so has no children, stands under `name`.
    pub fn flatten_at(
        &mut self,
        level: Sensitivity,
        name: impl Into<Name>,
        object: &(impl Inspect + ?Sized),
    ) -> &mut Self {
        if self.open && level <= self.ask.sensitivity {
            object.inspect(Request::flattened(self.ask, self.place, name.into()));
        }
        self
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}
