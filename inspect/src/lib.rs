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
//!
//! # Features
//!
//! All are on by default; without them the crate needs only `alloc`.
//!
//! - `std`: [`Inspect`] for locks, hash maps and paths of the standard library.
//! - `derive`: the derive macro.
//! - `json`: `Node::to_json`, `Node::from_json` and `Serialize`.
//!
//! # Not here
//!
//! Answers come from the thread that asks, while it waits: none is deferred to another thread or
//! process. A tree is read, not written, and two trees are not compared. The crate opens no
//! socket.

#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod gather;
mod impls;
#[cfg(feature = "std")]
mod impls_std;
#[cfg(feature = "json")]
mod json;
mod natural;
mod node;
mod path;
mod query;
mod request;
mod response;
mod show;
mod text;
mod value;

#[cfg(feature = "derive")]
pub use inspect_derive::Inspect;
pub use node::{Directory, Node};
pub use path::{Path, PathError};
pub use query::{NotFound, Query, inspect};
pub use request::{Inspect, MAX_DEPTH, Request, Sensitivity};
pub use response::Response;
pub use show::{Number, binary, bytes, counter, debug, display, from_fn, hex};
pub use text::Compact;
pub use value::{Style, Value};
