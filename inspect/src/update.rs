//! New values for one place of a tree.

#[cfg(feature = "std")]
use crate::from_text::Invalid;
use crate::order::{self, Answer};
use crate::path::{Path, PathError};
use crate::query::{NotFound, Query};
use crate::request::{Inspect, InspectMut, Request, Sensitivity};
use crate::tape::{Change, Outcome};
use crate::tree::Leaf;
use crate::unresolved::Unresolved;
use crate::value::Value;
use alloc::borrow::Cow;
use alloc::string::{String, ToString};
use core::fmt;
use core::str::FromStr;
#[cfg(feature = "std")]
use core::time::Duration;
use thiserror::Error;

/// Gives the place at `path` a new value, as [`Update::new`] does, and returns the value that is
/// there then.
///
/// # Errors
///
/// See [`UpdateError`].
pub fn update(
    object: &(impl Inspect + ?Sized),
    path: &Path,
    text: &str,
) -> Result<Value, UpdateError> {
    Update::new(path.clone(), text).run(object)
}

/// Gives a place of a tree a new value.
///
/// Written it is `path=value`; in the path `\=` stands for a `=` of a name.
///
/// ```
/// use inspect::{Inspect, Update};
/// use std::sync::atomic::AtomicBool;
///
/// #[derive(Inspect)]
/// struct Log {
///     #[inspect(mut)]
///     verbose: AtomicBool,
/// }
///
/// let log = Log { verbose: AtomicBool::new(false) };
/// let update: Update = "verbose=on".parse()?;
/// assert_eq!(update.run(&log)?, inspect::Value::Bool(true));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an update does nothing until it runs"]
pub struct Update {
    query: Query,
    text: String,
}

impl Update {
    /// Asks for `text` to become the value at `path`, with [`Sensitivity::Default`].
    pub fn new(path: Path, text: impl Into<String>) -> Self {
        Self {
            // What stands at the place is all that counts, not what is below it.
            query: Query::new().path(path).depth(0),
            text: text.into(),
        }
    }

    /// Returns the path to the place.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.query.path_ref()
    }

    /// Returns the new value.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Reaches places up to that sensitivity.
    pub fn sensitivity(mut self, sensitivity: Sensitivity) -> Self {
        self.query = self.query.sensitivity(sensitivity);
        self
    }

    /// Waits that long for an answer that is deferred, as [`Query::deadline`] does.
    #[cfg(feature = "std")]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.query = self.query.deadline(deadline);
        self
    }

    /// Changes an object, or one below it, and returns the value that is there then
    /// ([`Value::Null`] in place of a directory).
    ///
    /// # Errors
    ///
    /// See [`UpdateError`]. Nothing was changed, unless it is [`UpdateError::Unresolved`].
    pub fn run(&self, object: &(impl Inspect + ?Sized)) -> Result<Value, UpdateError> {
        self.make(&mut |req| object.inspect(req))
    }

    /// Changes an object, or one below it, and returns the value that is there then
    /// ([`Value::Null`] in place of a directory).
    ///
    /// # Errors
    ///
    /// See [`UpdateError`]. Nothing was changed, unless it is [`UpdateError::Unresolved`].
    pub fn run_mut(&self, object: &mut (impl InspectMut + ?Sized)) -> Result<Value, UpdateError> {
        self.make(&mut |req| object.inspect_mut(req))
    }

    fn make(&self, ask: &mut dyn FnMut(Request<'_>)) -> Result<Value, UpdateError> {
        let change = Change {
            text: self.text.clone(),
            outcome: Outcome::Untried,
        };
        let limit = self.query.limit();
        let tape = self.query.gather(ask, Some(change), &limit);
        let path = || self.path().clone();
        let answer = order::root(&tape);
        match (tape.outcome(), answer) {
            (Outcome::Made, Answer::Leaf(leaf)) => Ok(Leaf::to_value(leaf)),
            (Outcome::Made, _) => Ok(Value::Null),
            (Outcome::Refused(expected), _) => Err(UpdateError::Invalid {
                path: path(),
                given: self.text.clone(),
                expected,
            }),
            (Outcome::Untried, Answer::Nothing) => {
                // With an empty path there is an object, but one that shows nothing.
                match self.path().is_root() {
                    true => Err(UpdateError::ReadOnly { path: path() }),
                    false => Err(UpdateError::NotFound(self.query.explain(ask, &limit))),
                }
            }
            (Outcome::Untried, Answer::Unresolved(why)) => {
                Err(UpdateError::Unresolved { path: path(), why })
            }
            (Outcome::Untried, _) => Err(UpdateError::ReadOnly { path: path() }),
        }
    }
}

/// Says why an [`Update`] was not made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpdateError {
    /// Nothing stands at the path that the update is allowed to see.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// What stands at the path takes no new value.
    #[error("{} can't be changed", Quoted(path))]
    ReadOnly {
        /// The path of the update.
        path: Path,
    },
    /// What stands at the path takes other values than this.
    #[error("{} can't be {given:?}: expected {expected}", Quoted(path))]
    Invalid {
        /// The path of the update.
        path: Path,
        /// The value that was refused.
        given: String,
        /// What would be valid, in words that follow "expected".
        expected: Cow<'static, str>,
    },
    /// Whoever answers for the path has not answered. The update may have been made, if it was
    /// begun before the deadline.
    #[error("{} is unresolved: {why}", Quoted(path))]
    Unresolved {
        /// The path of the update.
        path: Path,
        /// Why there is no answer.
        why: Unresolved,
    },
}

impl UpdateError {
    /// Returns what would have been valid, if the value was not.
    #[cfg(feature = "std")]
    pub(crate) fn into_expected(self) -> Option<Invalid> {
        match self {
            Self::Invalid { expected, .. } => Some(Invalid::expected(expected)),
            _ => None,
        }
    }
}

/// A path in a message.
struct Quoted<'a>(&'a Path);

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.is_root() {
            true => f.write_str("the root"),
            false => write!(f, "`{}`", self.0),
        }
    }
}

/// Says why a text is no update.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ParseUpdateError {
    /// There is no `=` after a path.
    #[error("an update is written `path=value`, and {text:?} has no `=`")]
    NoValue {
        /// The text.
        text: String,
    },
    /// What stands in front of the `=` is no path.
    #[error("what stands in front of `=` is no path")]
    Path(#[from] PathError),
}

impl FromStr for Update {
    type Err = ParseUpdateError;

    fn from_str(text: &str) -> Result<Self, ParseUpdateError> {
        let mut path = String::new();
        let mut rest = text.chars();
        while let Some(character) = rest.next() {
            match character {
                '=' => return Ok(Self::new(path.parse()?, rest.as_str())),
                '\\' => match rest.next() {
                    Some('=') => path.push('='),
                    // The other escapes are those of the path.
                    Some(escaped) => path.extend(['\\', escaped]),
                    None => path.push('\\'),
                },
                other => path.push(other),
            }
        }
        Err(ParseUpdateError::NoValue { text: text.into() })
    }
}

/// Writes the update so that it reads back as itself.
impl fmt::Display for Update {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().to_string().replace('=', "\\=");
        write!(f, "{path}={}", self.text)
    }
}
