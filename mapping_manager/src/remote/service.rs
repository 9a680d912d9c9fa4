//! Whoever looks after all clients.

mod serve;
mod thread;

pub use thread::ServiceThread;

use super::event::RemoteEvent;
use super::hub::{FIRST_PEER, Hub, Ready};
use super::options::PeerOptions;
use super::peer::{Event, Peer};
use inspect::{Inspect, Request};
use memory_range::PAGE_SIZE;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;
use thiserror::Error;

/// Serves the connections to all clients of a manager.
///
/// It does nothing by itself: a [thread](Self::spawn), a [task](Self::serve), or an event loop that
/// calls [`turn`](Self::turn) drives it. Without it changes still go out, as far as the sockets take
/// them, and [`Peer::wait`] works; but nobody greets new clients, no deadline passes, and nothing is
/// reported.
pub struct RemoteService {
    hub: Arc<Hub>,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    next: AtomicU64,
    report: Box<dyn Fn(RemoteEvent) + Send + Sync>,
    /// Held by whoever drives it.
    driving: Mutex<()>,
}

/// A client cannot be added.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// The addresses are none that a client can have.
    #[error("a space of {space:#x} bytes is empty or unaligned")]
    Space {
        /// In bytes.
        space: u64,
    },
    /// The hint for the client's alignment is none.
    #[error("an alignment of {alignment:#x} bytes is no power of two, or less than a page")]
    Alignment {
        /// In bytes.
        alignment: u64,
    },
    /// The socket cannot be watched: it is none, or there is no room for one more.
    #[error("the socket cannot be watched")]
    Watch(#[source] io::Error),
}

/// The connections cannot be served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// They are served already: by another thread, or further up in this one.
    #[error("the connections are served already")]
    Busy,
    /// A descriptor or a thread cannot be had, or the kernel won't wait.
    #[error("the connections cannot be served")]
    Io(#[source] io::Error),
}

impl RemoteService {
    /// Makes a service without clients. `report` is told what happens to clients, by whoever drives
    /// the service, with no lock held: it may call anything but what drives the service.
    ///
    /// # Errors
    ///
    /// There are no three descriptors left for it.
    pub fn new(
        report: impl Fn(RemoteEvent) + Send + Sync + 'static,
    ) -> Result<Arc<Self>, ServeError> {
        Ok(Arc::new(Self {
            hub: Arc::new(Hub::new().map_err(ServeError::Io)?),
            peers: Mutex::default(),
            next: AtomicU64::new(FIRST_PEER),
            report: Box::new(report),
            driving: Mutex::new(()),
        }))
    }

    /// Adds a client at the other end of a connected stream socket of the Unix domain. Its addresses go
    /// from 0 to `space`, in bytes.
    ///
    /// It returns at once; the client has greeted when [`RemoteEvent::Ready`] is reported, and must do
    /// so before its deadline. The mode of the socket neither matters nor changes. Nothing is reported
    /// by this call itself.
    ///
    /// # Errors
    ///
    /// For a space that is empty or unaligned, an alignment that is none, and a descriptor that cannot
    /// be watched.
    pub fn add(
        &self,
        socket: impl Into<OwnedFd>,
        options: PeerOptions,
        space: u64,
    ) -> Result<Arc<Peer>, AddPeerError> {
        if space == 0 || !space.is_multiple_of(PAGE_SIZE) {
            return Err(AddPeerError::Space { space });
        }
        let alignment = options.alignment;
        if !alignment.is_power_of_two() || alignment < PAGE_SIZE {
            return Err(AddPeerError::Alignment { alignment });
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let hub = Arc::clone(&self.hub);
        let peer = Peer::new(id, socket.into(), options, space, hub);
        // Known before its first event can come.
        self.known().insert(id, Arc::clone(&peer));
        if let Err(source) = peer.watch() {
            self.known().remove(&id);
            return Err(AddPeerError::Watch(source));
        }
        Ok(peer)
    }

    /// Returns the clients that have not been reported as gone, in the order in which they were added.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.known().values().cloned().collect()
    }

    /// Evicts every client with a reason, and has each of them reported as gone: by this call, or by
    /// the thread or task that serves them.
    pub fn close(&self, reason: &str) {
        for peer in self.peers() {
            peer.evict(reason);
        }
        // Whoever is busy with it will do it.
        let _ = self.turn(Some(Duration::ZERO));
    }

    /// Waits until there is something to do, at most for `timeout`, and does it. Returns how many
    /// things were done; 0 when the time was up.
    ///
    /// # Errors
    ///
    /// [`ServeError::Busy`] if another thread is at it, or if called from `report`.
    pub fn turn(&self, timeout: Option<Duration>) -> Result<usize, ServeError> {
        let driving = match self.driving.try_lock() {
            Ok(driving) => driving,
            // A report has panicked; nothing was left half done by that.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(ServeError::Busy),
        };
        self.turn_as(driving, timeout).map_err(ServeError::Io)
    }

    /// As [`turn`](Self::turn), after whoever is at it has ended a turn.
    fn turn_after_others(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let driving = self.driving.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn_as(driving, timeout)
    }

    fn turn_as(&self, driving: MutexGuard<'_, ()>, timeout: Option<Duration>) -> io::Result<usize> {
        let ready = self.hub.wait(timeout)?;
        for ready in &ready {
            match ready {
                Ready::Peer(id) => self.look_after(*id),
                Ready::Notices => {
                    for id in self.hub.take_notices() {
                        self.look_after(id);
                    }
                }
                Ready::Timer => {
                    let ids: Vec<u64> = self.known().keys().copied().collect();
                    for id in ids {
                        self.look_after(id);
                    }
                }
            }
        }
        drop(driving);
        Ok(ready.len())
    }

    fn look_after(&self, id: u64) {
        let Some(peer) = self.known().get(&id).cloned() else {
            return;
        };
        for event in peer.serve() {
            let peer = Arc::clone(&peer);
            let event = match event {
                Event::Ready { lazy } => RemoteEvent::Ready { peer, lazy },
                Event::Offered(offer) => RemoteEvent::PartitionOffered { peer, offer },
                Event::Withdrawn { partition } => {
                    RemoteEvent::PartitionWithdrawn { peer, partition }
                }
                Event::Left(reason) => {
                    self.known().remove(&peer.id());
                    RemoteEvent::Left { peer, reason }
                }
            };
            (self.report)(event);
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Peer>>> {
        // No call panics half way through a change of it.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The clients are told that it ends, and are reported as gone.
impl Drop for RemoteService {
    fn drop(&mut self) {
        self.close("the manager ends");
    }
}

impl fmt::Debug for RemoteService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteService")
            .field("peers", &self.peers())
            .finish_non_exhaustive()
    }
}

/// Shows the clients, in the order in which they were added.
impl Inspect for RemoteService {
    fn inspect(&self, req: Request<'_>) {
        let peers = self.peers();
        req.respond().child("peers", |req| {
            req.by_index(peers.iter().map(|peer| &**peer));
        });
    }
}
