//! The question that an object answers.

use crate::gather::{Gathered, Name};
use crate::response::Response;
use crate::value::{Style, Value};
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;

/// The most levels of directories that a tree has, and the most names in a path.
///
/// Objects that refer to each other in a circle end here, rather than with an exhausted stack. It
/// is low enough for JSON parsers that limit nesting (to 128 levels, commonly).
pub const MAX_DEPTH: usize = 100;

/// Tells who may see a child of a directory.
///
/// The order is that of a query's reach: one of [`Sensitive`](Self::Sensitive) sees everything,
/// one of [`Safe`](Self::Safe) only what was declared safe.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sensitivity {
    /// Tells nothing about the guest or its owner, and may go into any bug report.
    Safe,
    /// For whoever runs the program.
    #[default]
    Default,
    /// May contain secrets, such as the contents of guest memory.
    Sensitive,
}

/// Shows its state as a part of a tree.
///
/// An implementation answers its request once: with a value, or with a directory. One that drops
/// the request has nothing to show, and its name does not appear in the tree.
///
/// It is asked while the program runs. What it locks should be locked as short as possible;
/// answers are only gathered meanwhile, and are sorted and written after it has returned.
///
/// ```
/// use inspect::{Inspect, Request};
///
/// struct Mapping {
///     gpa: u64,
///     backing: String,
///     writes: u64,
/// }
///
/// impl Inspect for Mapping {
///     fn inspect(&self, req: Request<'_>) {
///         req.respond()
///             .hex("gpa", self.gpa)
///             .field("backing", &self.backing)
///             .counter("writes", self.writes);
///     }
/// }
///
/// let mapping = Mapping { gpa: 0xf0000, backing: "rom".into(), writes: 3 };
/// let tree = inspect::inspect(&mapping);
/// assert_eq!(tree.compact().to_string(), "{backing: rom, gpa: 0xf0000, writes: 3}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be inspected",
    note = "derive or implement `inspect::Inspect` for it, or show the field in another way, such \
            as `#[inspect(display)]`, `#[inspect(debug)]`, `#[inspect(with = \"...\")]` or \
            `#[inspect(skip)]`"
)]
pub trait Inspect {
    /// Answers the request with the present state of the object.
    fn inspect(&self, req: Request<'_>);
}

/// What is asked below one place, without the place.
#[derive(Copy, Clone)]
pub(crate) struct Ask<'a> {
    /// Leads from the object to the place that the query is about.
    pub(crate) path: &'a [String],
    /// How many levels of directories are opened from there.
    pub(crate) depth: usize,
    pub(crate) sensitivity: Sensitivity,
    /// For integers that choose none themselves.
    pub(crate) style: Style,
}

/// Asks one object for its state.
///
/// It is consumed by the answer. See [`Inspect`].
#[must_use = "a request that is dropped shows nothing; answer with `respond` or `value`"]
pub struct Request<'a> {
    ask: Ask<'a>,
    place: &'a mut Gathered,
    /// For an object that is flattened into a directory: the name of the child that stands for it
    /// if it answers with a value.
    flat_name: Option<Name>,
}

impl<'a> Request<'a> {
    pub(crate) fn new(ask: Ask<'a>, place: &'a mut Gathered) -> Self {
        Self {
            ask,
            place,
            flat_name: None,
        }
    }

    pub(crate) fn flattened(ask: Ask<'a>, place: &'a mut Gathered, name: Name) -> Self {
        Self {
            ask,
            place,
            flat_name: Some(name),
        }
    }

    /// Answers with a directory, to which the response then adds children.
    ///
    /// If the place has a directory already, from another contributor, the two merge.
    pub fn respond(self) -> Response<'a> {
        Response::new(self.ask, self.place)
    }

    /// Answers with a value.
    pub fn value(self, value: impl Into<Value>) {
        self.value_with(|| value.into());
    }

    /// Answers with a value that is made only if it is wanted.
    pub(crate) fn value_with(self, value: impl FnOnce() -> Value) {
        let Self {
            ask,
            place,
            flat_name,
        } = self;
        match flat_name {
            None => place.answer_value(ask.path.len(), || value().with_default_style(ask.style)),
            Some(name) => {
                // The directory was answered for by whoever flattens the object, and its children
                // have the sensitivity that they are flattened with.
                let mut response = Response::new(ask, place);
                response.child_at(Sensitivity::Safe, name, |req| req.value_with(value));
            }
        }
    }

    /// Answers with the text that `value` displays.
    pub fn display(self, value: &(impl fmt::Display + ?Sized)) {
        self.value_with(|| Value::Text(Cow::Owned(value.to_string())));
    }

    /// Answers with the text of `value`'s `Debug`.
    pub fn debug(self, value: &(impl fmt::Debug + ?Sized)) {
        self.display(&format_args!("{value:?}"));
    }

    /// Answers with a directory that has the items of `items` as children, named `0`, `1`, ...
    pub fn by_index<I>(self, items: I)
    where
        I: IntoIterator<Item: Inspect>,
    {
        let path = self.ask.path;
        // Even if the path leads to no item: this is a directory, and no value can replace it.
        let mut response = self.respond();
        let mut items = items.into_iter();
        if let Some(name) = path.first() {
            // Goes straight to the item that the path names, if it does name one.
            if response.is_open()
                && let Ok(index) = name.parse::<usize>()
                && index.to_string() == *name
                && let Some(item) = items.nth(index)
            {
                response.element(name.clone(), &item);
            }
            return;
        }
        if response.is_open() {
            for (index, item) in items.enumerate() {
                response.element(index.to_string(), &item);
            }
        }
    }

    /// Answers with a directory that has the values of `items` as children, named by their keys.
    pub fn by_key<I, K, V>(self, items: I)
    where
        I: IntoIterator<Item = (K, V)>,
        K: fmt::Display,
        V: Inspect,
    {
        let mut response = self.respond();
        if response.is_open() {
            for (key, item) in items {
                response.element(key.to_string(), &item);
            }
        }
    }

    /// Returns the request with another style for the integers that choose none themselves.
    pub(crate) fn with_style(mut self, style: Style) -> Self {
        self.ask.style = style;
        self
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("path", &self.ask.path)
            .field("depth", &self.ask.depth)
            .field("sensitivity", &self.ask.sensitivity)
            .finish_non_exhaustive()
    }
}
