//! The question that an object answers, and a directory while its children are added.
//!
//! The two lead to each other: a directory asks its children, and a request is answered with a
//! directory. What is built upon them for convenience stands in `answer`.

use crate::from_text::Invalid;
use crate::tape::{Content, Deferral, Label, Name, Outcome, Place, Tape};
use crate::unresolved::Unresolved;
use crate::value::{Style, Value};
use core::fmt;

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

/// Shows its state as a part of a tree, and takes new values for it.
///
/// It answers as [`Inspect`] does. In addition an [`Update`](crate::Update) may ask a place below
/// it to take another value; objects on the way need not know of that. Values that parse
/// themselves from text implement it, so that a place which can be changed is made with
/// [`Response::field_mut`] or `#[inspect(mut)]`.
///
/// What can change behind a shared reference, such as atomics and locks, implements it for that
/// reference too: `&AtomicU64` is an `InspectMut`, and so `response.field_mut("limit", &mut
/// &self.limit)` is possible in an [`Inspect`].
///
/// ```
/// use inspect::InspectMut;
/// use std::sync::Mutex;
/// use std::sync::atomic::AtomicU64;
///
/// #[derive(InspectMut)]
/// struct Limits {
///     #[inspect(mut)]
///     queue: u32,
/// }
///
/// #[derive(inspect::Inspect)]
/// struct Device {
///     #[inspect(mut)]
///     limits: Mutex<Limits>,
///     #[inspect(mut, hex)]
///     features: AtomicU64,
/// }
///
/// let device = Device { limits: Mutex::new(Limits { queue: 8 }), features: AtomicU64::new(1) };
/// inspect::update(&device, &"limits/queue".parse()?, "16")?;
/// inspect::update(&device, &"features".parse()?, "0xff")?;
/// let tree = inspect::inspect(&device);
/// assert_eq!(tree.compact().to_string(), "{features: 0xff, limits: {queue: 16}}");
///
/// let error = inspect::update(&device, &"limits/queue".parse()?, "many").unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "`limits/queue` can't be \"many\": expected an integer from 0 to 4294967295",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be updated",
    note = "behind a shared reference only atomics, cells and locks can be updated: derive \
            `InspectMut` in place of `Inspect` to update plain fields, or give the field with \
            `#[inspect(mut, with = \"...\")]` a setter (`inspect::setter`)"
)]
pub trait InspectMut {
    /// Answers the request with the present state of the object, after it has changed what the
    /// request wants changed.
    fn inspect_mut(&mut self, req: Request<'_>);
}

/// What is asked below one place, without the place.
#[derive(Copy, Clone)]
pub(crate) struct Ask {
    /// How many names lead from the object to the place that the query is about.
    pub(crate) above: usize,
    /// How many levels of directories are opened from there.
    pub(crate) depth: usize,
    /// How many levels below the place that the query is about the object stands.
    pub(crate) level: usize,
    pub(crate) sensitivity: Sensitivity,
    /// For integers that choose none themselves.
    pub(crate) style: Style,
}

/// Asks one object for its state.
///
/// It is consumed by the answer. See [`Inspect`].
#[must_use = "a request that is dropped shows nothing; answer with `respond` or `value`"]
pub struct Request<'a> {
    pub(crate) ask: Ask,
    pub(crate) tape: &'a mut Tape,
    /// The name of the place. For an object that is flattened into a directory, the name of the
    /// child that stands for it if it answers with a value.
    pub(crate) label: Label,
    pub(crate) flat: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(ask: Ask, tape: &'a mut Tape) -> Self {
        Self {
            ask,
            tape,
            label: Label::EMPTY,
            flat: false,
        }
    }

    /// Makes a request to an object that is flattened into a directory at the root of a tape.
    #[cfg(feature = "std")]
    pub(crate) fn flattened(ask: Ask, tape: &'a mut Tape, name: &str) -> Self {
        open_root(tape, ask);
        let label = Label::Written(tape.write_str(name));
        Self {
            ask,
            tape,
            label,
            flat: true,
        }
    }

    /// Answers with a directory, to which the response then adds children.
    ///
    /// If the place has a directory already, from another contributor, the two merge.
    pub fn respond(self) -> Response<'a> {
        let Self {
            ask,
            tape,
            label,
            flat,
        } = self;
        let open = if flat {
            // The directory was answered for by whoever flattens the object.
            true
        } else if ask.level == 0 {
            open_root(tape, ask)
        } else {
            let content = match ask.depth {
                0 => Content::Unopened,
                _ => Content::Directory,
            };
            tape.push(ask.level, label, content);
            ask.depth > 0
        };
        Response { ask, tape, open }
    }

    /// Answers with a value that is made only if it is wanted.
    pub(crate) fn answer(self, make: impl FnOnce(&mut Tape) -> Content) {
        let Some(Self {
            ask, tape, label, ..
        }) = self.unflatten()
        else {
            return;
        };
        if ask.level == 0 {
            if tape.place.take_value(ask.above) {
                let content = make(tape);
                tape.push(0, label, content);
            } else if ask.above > 0 {
                let (above, value) = (ask.above, true);
                tape.push(0, label, Content::OnTheWay { above, value });
            }
        } else {
            let content = make(tape);
            tape.push(ask.level, label, content);
        }
    }

    /// Turns the request to a flattened object into one to the child that stands for it as a
    /// value. `None` if that child is not wanted.
    fn unflatten(self) -> Option<Self> {
        if !self.flat {
            return Some(self);
        }
        // The child has the sensitivity that its object is flattened with.
        let Self {
            ask, tape, label, ..
        } = self;
        enter(ask, tape, label)
    }

    /// Answers with a value.
    pub fn value(self, value: impl Into<Value>) {
        let style = self.ask.style;
        self.answer(|tape| tape.content(value.into(), style));
    }

    /// Answers with a directory of which nothing is known but that it is one.
    pub(crate) fn unopened(self) {
        if self.flat || self.ask.above > 0 {
            self.respond();
            return;
        }
        let ask = Ask {
            depth: 0,
            ..self.ask
        };
        Request { ask, ..self }.respond();
    }

    /// Passes on that an answer has not come.
    pub(crate) fn unresolved(self, why: Unresolved) {
        let Self {
            ask,
            tape,
            label,
            flat,
        } = self;
        let level = match flat && ask.above == 0 {
            true => ask.level.saturating_add(1),
            false => ask.level,
        };
        tape.push_deferral(level, label, flat, Deferral::Missing(why));
    }

    /// Tells whether an update wants exactly this place changed, and nobody has done so.
    fn is_to_change(&self) -> bool {
        let Some(change) = &self.tape.change else {
            return false;
        };
        let above = match self.flat {
            false => self.ask.above,
            // The child that stands for a flattened value lies one name nearer.
            true => {
                let name = self.tape.name(self.label);
                match self.ask.above.checked_sub(1) {
                    Some(above) if self.tape.next_name(self.ask.above) == Some(name) => above,
                    _ => return false,
                }
            }
        };
        above == 0
            && self.ask.level == 0
            && change.outcome == Outcome::Untried
            && matches!(self.tape.place, Place::Nothing | Place::Approached(_))
    }

    /// Changes the object if an [`Update`](crate::Update) wants exactly this place changed, and
    /// returns the request to be answered with the value that is there then.
    ///
    /// `set` gets the new value as text. If it returns an error, it must have changed nothing.
    ///
    /// ```
    /// use inspect::{Invalid, Request};
    /// use std::cell::Cell;
    ///
    /// struct Percent(Cell<u8>);
    ///
    /// impl inspect::Inspect for Percent {
    ///     fn inspect(&self, req: Request<'_>) {
    ///         let set = |text: &str| match text.parse() {
    ///             Ok(number @ 0..=100) => Ok(self.0.set(number)),
    ///             _ => Err(Invalid::expected("a number from 0 to 100")),
    ///         };
    ///         req.update(set).value(self.0.get());
    ///     }
    /// }
    ///
    /// let load = Percent(Cell::new(5));
    /// inspect::update(&load, &inspect::Path::ROOT, "50")?;
    /// assert_eq!(load.0.get(), 50);
    /// assert!(inspect::update(&load, &inspect::Path::ROOT, "101").is_err());
    /// # Ok::<(), inspect::UpdateError>(())
    /// ```
    pub fn update(self, set: impl FnOnce(&str) -> Result<(), Invalid>) -> Self {
        if self.is_to_change()
            && let Some(change) = &mut self.tape.change
        {
            change.outcome = match set(&change.text) {
                Ok(()) => Outcome::Made,
                Err(invalid) => Outcome::Refused(invalid.into_expected()),
            };
        }
        self
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
            .field("names_to_go", &self.ask.above)
            .field("depth", &self.ask.depth)
            .field("sensitivity", &self.ask.sensitivity)
            .finish_non_exhaustive()
    }
}

/// Answers with a directory for the place that the query is about, or above it.
fn open_root(tape: &mut Tape, ask: Ask) -> bool {
    let open = tape.place.take_directory(ask.above, ask.depth > 0);
    let content = match ask.above {
        0 if ask.depth > 0 => Content::Directory,
        0 => Content::Unopened,
        above => Content::OnTheWay {
            above,
            value: false,
        },
    };
    tape.push(0, Label::EMPTY, content);
    open
}

/// Makes the request for a child of an open directory, if its name is wanted.
fn enter(ask: Ask, tape: &mut Tape, label: Label) -> Option<Request<'_>> {
    if ask.above > 0 {
        let is_wanted = tape.next_name(ask.above) == Some(tape.name(label));
        let ask = Ask {
            above: ask.above.saturating_sub(1),
            ..ask
        };
        return is_wanted.then(|| Request::new(ask, tape));
    }
    let ask = Ask {
        // A directory with depth 0 is not open, so this takes one from at least one.
        depth: ask.depth.saturating_sub(1),
        level: ask.level.saturating_add(1),
        ..ask
    };
    Some(Request {
        ask,
        tape,
        label,
        flat: false,
    })
}

/// Adds children to a directory.
///
/// A child that the query doesn't want, by its path, depth or sensitivity, is not evaluated: the
/// closures given to [`child`](Self::child) don't run, and no [`Inspect`] is called.
///
/// The methods whose name doesn't end in `_at` add children of [`Sensitivity::Default`].
pub struct Response<'a> {
    ask: Ask,
    tape: &'a mut Tape,
    /// Whether any child can be wanted.
    open: bool,
}

impl Response<'_> {
    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    /// Returns the name of the only child that can be wanted, if there is only one.
    pub(crate) fn wanted(&self) -> Option<&str> {
        match self.ask.above {
            0 => None,
            above => self.tape.next_name(above),
        }
    }

    /// Makes the request for a child, if it is wanted.
    ///
    /// Not generic, so that what is compiled once for every field is small.
    fn enter(&mut self, level: Sensitivity, name: Name) -> Option<Request<'_>> {
        if !self.open || level > self.ask.sensitivity {
            return None;
        }
        let label = self.tape.label(name);
        enter(self.ask, self.tape, label)
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

    /// Adds the children that `answer` answers with, if the query sees that sensitivity, as if
    /// they were children of this directory.
    pub(crate) fn flattened(
        &mut self,
        level: Sensitivity,
        name: Name,
        answer: impl FnOnce(Request<'_>),
    ) -> &mut Self {
        if self.open && level <= self.ask.sensitivity {
            answer(Request {
                ask: self.ask,
                label: self.tape.label(name),
                tape: self.tape,
                flat: true,
            });
        }
        self
    }

    /// Adds a part of what the directory itself stands for: whoever sees the one sees the other.
    pub(crate) fn element(
        &mut self,
        name: &(impl fmt::Display + ?Sized),
        answer: impl FnOnce(Request<'_>),
    ) {
        if !self.open {
            return;
        }
        let written = self.tape.write(name);
        match enter(self.ask, self.tape, Label::Written(written)) {
            Some(request) => answer(request),
            // Many may be passed by on the way to the one that is wanted.
            None => self.tape.unwrite(written),
        }
    }
}

impl fmt::Debug for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response").finish_non_exhaustive()
    }
}
