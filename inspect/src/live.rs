//! The tree of a running process over a Unix socket.
//!
//! A process opens the socket with one call, [`serve`]; whoever runs it then reads the tree with a
//! [`Client`] (the program `guest-inspect` is one).
//!
//! ```
//! use inspect::live;
//! use inspect::{Inspect, Path, Sensitivity};
//! use std::sync::Arc;
//!
//! #[derive(Inspect)]
//! struct Vmm {
//!     #[inspect(hex)]
//!     ram: u64,
//! }
//!
//! # let folder = tempfile::tempdir()?;
//! # let socket = folder.path().join("vmm.sock");
//! let vmm = Arc::new(Vmm { ram: 0x4000_0000 });
//! let server = live::serve(&socket, vmm.clone())?;
//!
//! let mut client = live::Client::connect(&socket)?;
//! let tree = client.get(&Path::ROOT, inspect::MAX_DEPTH, Sensitivity::Default)?;
//! assert_eq!(tree.to_string(), "ram: 0x40000000");
//!
//! drop(server);
//! assert!(!socket.exists());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a client can't do
//!
//! Requests are not trusted. A peer of another user is turned away (but root, to whom the process is
//! open anyway). The length of a request, the time that it may take to arrive, the time in which its
//! answer must be taken, the number of connections and the requests in a second are bounded; who
//! exceeds them is told so if he still listens, and cut off. Objects are asked from threads of the
//! server, one for each connection, so that no thread of the program waits for a client; what it may
//! wait for is the lock of an object that is being asked, and the bound on requests is there so that
//! this is rare.
//!
//! # Protocol
//!
//! A message is its length in bytes, as 32 bits in little-endian order, and then JSON. The client
//! sends a request and reads its answer, as often as it likes.
//!
//! | request | answer |
//! |---|---|
//! | `{"version": 1, "get": {"path": "a/b", "depth": 3, "sensitivity": "default"}}` | `{"tree": ...}` |
//! | `{"version": 1, "set": {"path": "a/b", "value": "7"}}` | `{"value": ...}`, as it is now |
//! | anything that is refused | `{"error": {"kind": "...", "message": "...", "found": 1, "children": [...]}}` |
//!
//! The last two parts of `get` may be left out. Trees keep what JSON alone would lose:
//!
//! | in a tree | JSON |
//! |---|---|
//! | directory | object |
//! | directory that was not opened | `["..."]` |
//! | child that did not answer, and why | `["?", "..."]` |
//! | null, bool, text, integer that is not negative in decimal | as in JSON |
//! | other integers | `["d", -1]`; `["x", 16]` hexadecimal; `["b", 2]` binary; `["c", 3]` counter |
//! | integers of types with a sign | `["sd", 1]`, `["sx", -16]`, `["sb", -2]`, `["sc", 3]` |
//! | float | `["f", "0.5"]` |
//! | bytes | `["y", "00ff"]` |
//! | duration, in seconds and nanoseconds | `["t", 1, 500]` |

mod answer;
mod budget;
mod client;
mod connection;
mod error;
mod frame;
mod message;
mod server;
mod socket;
mod wire;

pub use client::Client;
pub use error::{ConnectError, Refusal, RequestError, ServeError};
pub use message::RefusalKind;
pub use server::{LiveServer, ServerOptions, serve};
