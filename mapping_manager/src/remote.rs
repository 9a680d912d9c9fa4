//! VA mappers in other processes, kept in step with the flat view over a Unix socket.
//!
//! The *manager* is the process that decides what is to be seen. It has a [`RemoteService`], and in it
//! one [`Peer`] for each client, which it tells what to show. A *client* is a process with a
//! [`RemoteClient`]: a VA mapper of its own that follows. The sockets are the caller's: of a path, of a
//! pair, or inherited.
//!
//! ```
//! use mapping_manager::remote::{
//!     ClientOptions, PeerOptions, RemoteClient, RemoteEvent, RemoteService,
//! };
//! use memory_range::{Access, MemoryRange};
//! use sparse_alloc::{Backing, HostRange, SharedMemory};
//! use std::os::unix::net::UnixStream;
//! use std::sync::mpsc;
//!
//! let (here, there) = UnixStream::pair()?;
//! // The client's side is as a rule another process.
//! let client = std::thread::spawn(|| RemoteClient::connect(there, ClientOptions::new("device")));
//!
//! let (sender, events) = mpsc::channel();
//! let service = RemoteService::new(move |event| drop(sender.send(event)))?;
//! let _thread = service.spawn()?;
//! let peer = service.add(here, PeerOptions::new("vmm"), 0x10_0000)?;
//! assert!(matches!(events.recv()?, RemoteEvent::Ready { .. }));
//!
//! let ram = SharedMemory::new("ram", 0x4000)?;
//! let backing = Backing::from(ram.mappable().clone());
//! peer.show(MemoryRange::new(0x8000..0xc000), &backing, 0, Access::ReadWrite);
//! peer.seal();
//!
//! let client = client.join().unwrap()?;
//! client.guest_memory().write_plain(0x8010, &42_u32)?;
//! let mut bytes = [0; 4];
//! HostRange::new(ram.linear_view().clone(), 0, ram.len())?.read(0x10, &mut bytes)?;
//! assert_eq!(u32::from_le_bytes(bytes), 42);
//!
//! // A change that is waited for is made in every process.
//! let _thread = client.spawn()?;
//! peer.hide(MemoryRange::new(0x8000..0xc000));
//! if let Some(change) = peer.seal() {
//!     peer.wait(change, None);
//! }
//! assert!(client.guest_memory().read_plain::<u32>(0x8010).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How changes travel
//!
//! The manager's side gathers what is shown and hidden and [seals](Peer::seal) it: the net difference to
//! what the client has goes out as one batch with a number, in one message where it fits, by the thread
//! that makes the change, without waiting and without waking another one. The client makes the change
//! and acknowledges the number. Each file travels once, with its descriptor, and is forgotten when no
//! range shows it any more.
//!
//! # Trust
//!
//! Neither side trusts the other: lengths, counts, numbers and ranges are checked before they are used,
//! and memory is bounded. A client that dies, hangs, floods or talks nonsense is evicted and reported
//! once, and holds up nobody. But a client has the files it was sent, whole, whatever parts of them it
//! is shown; and see [`PeerOptions::read_only`] for what a descriptor for reading is worth.

mod client;
mod event;
mod eviction;
pub(crate) mod frame;
mod hub;
pub(crate) mod message;
mod options;
mod peer;
mod service;

pub use event::{PartitionOffer, RemoteEvent};
pub use eviction::Eviction;
pub use options::PeerOptions;
pub use peer::Peer;
pub use service::{AddPeerError, RemoteService, ServeError, ServiceThread};

pub use client::{
    ChangeError, ClientOptions, ClientState, ClientThread, ConnectError, ManagerLost, OfferError,
    ProtocolError, ReconnectError, RemoteClient, SlotTaker, WaitError,
};

#[cfg(test)]
mod tests;
