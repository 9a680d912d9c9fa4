//! Makes the state of a running program visible as a tree, to a person and to a program.
//!
//! A type implements [`Inspect`], by hand or with `#[derive(Inspect)]`. A [`Query`] then walks
//! objects by path and depth; each answers its [`Request`] with a [`Value`], or with a directory
//! of children through a [`Response`]. What comes out is a [`Node`]: an owned tree that prints as
//! text and as JSON. Nothing is recorded beforehand, so an object that nobody looks at pays
//! nothing.
//!
//! ```
//! use inspect::Inspect;
//!
//! #[derive(Inspect)]
//! struct Slot {
//!     #[inspect(hex)]
//!     gpa: u64,
//!     writable: bool,
//! }
//!
//! #[derive(Inspect)]
//! struct Partition {
//!     name: String,
//!     slots: Vec<Slot>,
//! }
//!
//! let partition = Partition {
//!     name: "vtl0".into(),
//!     slots: vec![Slot { gpa: 0xf0000, writable: false }],
//! };
//! let tree = inspect::inspect(&partition);
//! assert_eq!(
//!     tree.to_string(),
//!     "name: vtl0\nslots:\n  0:\n    gpa: 0xf0000\n    writable: false",
//! );
//! ```
//!
//! # Rules of the tree
//!
//! - Children sort naturally: `a2` before `a10`, `0xa0000` before `0x100000`.
//! - Several contributors to one directory merge. Where two of them answer for one name and not
//!   both with a directory, the first one stands.
//! - A child has a [`Sensitivity`]; a query sees up to its own.
//! - Trees end at [`MAX_DEPTH`] levels, so that objects which refer to each other in a circle
//!   cannot exhaust the stack.
//! - While objects are asked, answers are only appended to a list. Sorting, merging and writing
//!   come afterwards, when the locks of the objects are free. [`Query::snapshot`] stops in between.
//!
//! # More than looking
//!
//! - An [`Update`] gives a place a new value: one that is `#[inspect(mut)]`, or was added with
//!   [`Response::field_mut`]. Atomics and locks take it behind a shared reference; see
//!   [`InspectMut`].
//! - [`Request::defer`] puts an answer off, to another thread or process. A query waits for it up
//!   to its deadline, and shows what hasn't come as [`Node::Unresolved`].
//! - [`rates`] compares the counters of two trees.
//!
//! # Features
//!
//! Those of the first three lines are on by default; without them the crate needs only `alloc`.
//!
//! - `std`: [`Inspect`] for locks, hash maps and paths of the standard library, and deferred
//!   answers.
//! - `derive`: the derive macros.
//! - `json`: `Node::to_json`, `Node::from_json` and `Serialize`.
//! - `live`: the tree of a running process over a Unix socket.
//!
//! # Not here
//!
//! Text is for people and JSON keeps less than a [`Node`] does: neither reads back as all that it
//! was. Who may look, and who may change, is for the caller to decide.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod answer;
#[cfg(feature = "std")]
mod deferred;
mod from_text;
mod impls;
mod impls_mut;
#[cfg(feature = "std")]
mod impls_std;
#[cfg(feature = "json")]
mod json;
#[cfg(feature = "live")]
pub mod live;
mod natural;
mod node;
mod order;
mod path;
mod query;
mod rates;
mod request;
mod show;
#[cfg(feature = "std")]
mod slot;
mod snapshot;
mod tape;
mod text;
mod tree;
mod unresolved;
mod update;
mod value;

#[cfg(feature = "std")]
pub use deferred::Deferred;
pub use from_text::{FromText, Invalid};
#[cfg(feature = "derive")]
pub use inspect_derive::{Inspect, InspectMut};
pub use node::{Directory, Node};
pub use path::{MAX_DEPTH, Path, PathError};
#[cfg(feature = "std")]
pub use query::collect;
pub use query::{NotFound, Query, inspect};
pub use rates::rates;
pub use request::{Inspect, InspectMut, Request, Response, Sensitivity};
pub use show::{
    FromFn, FromFnMut, Number, Setter, Styled, binary, bytes, counter, debug, display, from_fn,
    from_fn_mut, hex, setter,
};
pub use snapshot::Snapshot;
pub use text::Compact;
pub use unresolved::Unresolved;
pub use update::{ParseUpdateError, Update, UpdateError, update};
pub use value::{Style, Value};
