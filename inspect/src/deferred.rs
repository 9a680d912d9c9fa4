//! Answers that come later, from another thread or process.

use crate::node::Node;
use crate::path::{MAX_DEPTH, Path};
use crate::query::Query;
use crate::request::{Ask, Inspect, InspectMut, Request};
use crate::slot::Slot;
use crate::tape::{Change, Deferral, Outcome, Tape};
use crate::unresolved::Unresolved;
use crate::update::{Update, UpdateError};
use crate::value::Value;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

/// Answers a request later, from any thread.
///
/// Whoever runs the query waits for it, up to the query's deadline
/// ([`Query::deadline`](crate::Query::deadline)). Until then, and if it is dropped, the place is
/// [`Node::Unresolved`]; all other places show as ever.
///
/// ```
/// use inspect::{Deferred, Inspect, Query, Request};
/// use std::sync::mpsc;
/// use std::time::Duration;
///
/// /// Its state belongs to a thread, which is asked by message.
/// struct Worker(mpsc::Sender<Deferred>);
///
/// impl Inspect for Worker {
///     fn inspect(&self, req: Request<'_>) {
///         // If the thread has ended, the message is dropped, which is an answer too.
///         let _ = self.0.send(req.defer());
///     }
/// }
///
/// let (sender, receiver) = mpsc::channel::<Deferred>();
/// let thread = std::thread::spawn(move || {
///     let state = vec![1, 2];
///     for question in receiver {
///         question.inspect(&state);
///     }
/// });
/// let worker = Worker(sender);
/// let tree = Query::new().deadline(Duration::from_secs(10)).run(&worker)?;
/// assert_eq!(tree.compact().to_string(), "{0: 1, 1: 2}");
/// drop(worker);
/// thread.join().unwrap();
/// # Ok::<(), inspect::NotFound>(())
/// ```
#[must_use = "a deferred request that is dropped shows as unresolved"]
pub struct Deferred {
    ask: Ask,
    /// From here to the place that the query is about.
    path: Vec<String>,
    change: Option<String>,
    /// For a flattened object, the name that it has as a value.
    flat_name: Option<String>,
    hops: usize,
    slot: Arc<Slot<Tape>>,
}

impl Request<'_> {
    /// Puts the answer off, to be given from another thread or when another process has told it.
    pub fn defer(self) -> Deferred {
        let Self {
            ask,
            tape,
            label,
            flat,
        } = self;
        let slot = Arc::new(Slot::new());
        let untried = tape
            .change
            .as_ref()
            .filter(|change| change.outcome == Outcome::Untried);
        let deferred = Deferred {
            ask: Ask { level: 0, ..ask },
            path: tape.rest_of_path(ask.above).to_vec(),
            change: untried.map(|change| change.text.clone()),
            flat_name: flat.then(|| String::from(tape.name(label))),
            hops: tape.hops.saturating_add(1),
            slot: Arc::clone(&slot),
        };
        // Answers that are deferred in answers, without end, are cut off as circles are.
        let deferral = match tape.hops < MAX_DEPTH {
            true => Deferral::Waiting(slot),
            false => {
                slot.close();
                Deferral::Missing(Unresolved::Dropped)
            }
        };
        let level = match flat && ask.above == 0 {
            true => ask.level.saturating_add(1),
            false => ask.level,
        };
        tape.push_deferral(level, label, flat, deferral);
        deferred
    }
}

impl Deferred {
    /// Tells whether anybody waits for the answer still: it may be spared after the deadline.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.slot.is_wanted()
    }

    /// Answers with an object.
    pub fn inspect(self, object: &(impl Inspect + ?Sized)) {
        self.respond_with(|req| object.inspect(req));
    }

    /// Answers with an object that can be updated.
    pub fn inspect_mut(self, object: &mut (impl InspectMut + ?Sized)) {
        self.respond_with(|req| object.inspect_mut(req));
    }

    /// Answers with a value.
    pub fn value(self, value: impl Into<Value>) {
        self.respond_with(|req| req.value(value));
    }

    /// Answers with what `answer` answers, which doesn't run if nobody waits any more. So an
    /// update that was not begun by the deadline is not made.
    pub fn respond_with(self, answer: impl FnOnce(Request<'_>)) {
        if !self.slot.is_wanted() {
            return;
        }
        let change = self.change.as_ref().map(|text| Change {
            text: text.clone(),
            outcome: Outcome::Untried,
        });
        let mut tape = Tape::new(self.path.clone(), change);
        tape.hops = self.hops;
        answer(match &self.flat_name {
            None => Request::new(self.ask, &mut tape),
            Some(name) => Request::flattened(self.ask, &mut tape, name),
        });
        self.slot.fill(tape);
    }

    /// Returns the question, to be put to an object that only another process can reach. What it
    /// finds there is the answer, to be given to [`node`](Self::node).
    ///
    /// Its path leads from the object that has deferred the request.
    pub fn query(&self) -> Query {
        Query::new()
            .path(self.rest())
            .depth(self.ask.depth)
            .sensitivity(self.ask.sensitivity)
    }

    /// Returns the update, if one is asked for, to be made to an object that only another process
    /// can reach. What comes of it is to be given to [`updated`](Self::updated).
    #[must_use]
    pub fn update(&self) -> Option<Update> {
        let text = self.change.as_ref()?;
        Some(Update::new(self.rest(), text.clone()).sensitivity(self.ask.sensitivity))
    }

    /// Answers with what [`query`](Self::query) has found elsewhere.
    pub fn node(mut self, node: &Node) {
        self.skip_path();
        self.respond_with(|req| node.inspect(req));
    }

    /// Answers with what has come of [`update`](Self::update) elsewhere.
    pub fn updated(mut self, result: Result<Value, UpdateError>) {
        self.skip_path();
        // What has been decided elsewhere is not tried here.
        self.respond_with(|req| match result {
            Ok(value) => req.update(|_| Ok(())).value(value),
            Err(error) => match error.into_expected() {
                Some(invalid) => req.update(|_| Err(invalid)).value(Value::Null),
                None => drop(req),
            },
        });
    }

    fn rest(&self) -> Path {
        // It is a part of a path that is no longer than a path may be.
        Path::from_names(self.path.iter().cloned()).unwrap_or_default()
    }

    /// Goes to the place that the query is about, without anybody on the way.
    fn skip_path(&mut self) {
        if self.ask.above > 0 {
            self.ask.above = 0;
            self.path.clear();
            self.flat_name = None;
        }
    }
}

impl Drop for Deferred {
    fn drop(&mut self) {
        self.slot.abandon();
    }
}

impl fmt::Debug for Deferred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred")
            .field("path", &self.path)
            .field("is_wanted", &self.is_wanted())
            .finish_non_exhaustive()
    }
}
