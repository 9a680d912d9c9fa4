//! The manager's side against a client that is played by hand, over real sockets.

mod acknowledgements;
mod conversation;
mod descriptors;
mod driving;
mod hostile;
mod lazy;
mod model;
mod player;
mod slots;

use super::{Peer, PeerOptions, RemoteEvent, RemoteService, ServiceThread};
use player::Player;
use sparse_alloc::{Backing, SharedMemory};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Longer than anything takes here; a test that waits so long has failed.
pub(super) const LONG: Duration = Duration::from_secs(60);
/// For peers that are to be evicted.
const SHORT: Duration = Duration::from_millis(50);
const SPACE: u64 = 0x100_0000;

/// A service with its thread, and what it reports.
struct World {
    // Ends before the service.
    _thread: Option<ServiceThread>,
    service: Arc<RemoteService>,
    events: Mutex<Receiver<RemoteEvent>>,
}

impl World {
    fn new() -> Self {
        let mut world = Self::without_thread();
        world._thread = Some(world.service.spawn().unwrap());
        world
    }

    fn without_thread() -> Self {
        let (sender, events) = channel();
        let report = move |event| drop(sender.send(event));
        Self {
            _thread: None,
            service: RemoteService::new(report).unwrap(),
            events: Mutex::new(events),
        }
    }

    /// A connection; nobody has greeted.
    fn connect(&self, options: PeerOptions) -> (Arc<Peer>, Player) {
        let (here, there) = UnixStream::pair().unwrap();
        let peer = self.service.add(here, options, SPACE).unwrap();
        (peer, Player::new(there))
    }

    /// A client that has greeted and was welcomed.
    fn greeted(&self, options: PeerOptions, lazy: bool) -> (Arc<Peer>, Player) {
        let (peer, mut player) = self.connect(options);
        player.greet(lazy);
        match self.event() {
            RemoteEvent::Ready {
                peer: ready,
                lazy: is,
            } => {
                assert!(Arc::ptr_eq(&ready, &peer));
                assert_eq!(is, lazy);
            }
            other => panic!("{other:?}"),
        }
        (peer, player)
    }

    fn eager(&self) -> (Arc<Peer>, Player) {
        self.greeted(options(), false)
    }

    fn event(&self) -> RemoteEvent {
        self.events.lock().unwrap().recv_timeout(LONG).unwrap()
    }

    /// The next event is that this one is gone; returns why.
    fn left(&self, peer: &Arc<Peer>) -> String {
        match self.event() {
            RemoteEvent::Left { peer: left, reason } => {
                assert!(Arc::ptr_eq(&left, peer));
                assert_eq!(peer.is_gone().unwrap().to_string(), reason.to_string());
                let mut text = reason.to_string();
                let mut cause = std::error::Error::source(&*reason);
                while let Some(error) = cause {
                    text = format!("{text}: {error}");
                    cause = error.source();
                }
                text
            }
            other => panic!("{other:?}"),
        }
    }

    /// Nothing more was reported, by whatever has happened up to now.
    fn no_more_events(&self) {
        assert!(self.events.lock().unwrap().try_recv().is_err());
    }
}

/// With a deadline that doesn't matter.
fn options() -> PeerOptions {
    PeerOptions {
        deadline: LONG,
        ..PeerOptions::new("manager")
    }
}

fn impatient() -> PeerOptions {
    PeerOptions {
        deadline: SHORT,
        ..PeerOptions::new("manager")
    }
}

fn ram(name: &str) -> Backing {
    let memory = SharedMemory::new(name, 0x10_0000).unwrap();
    Backing::from(memory.mappable().clone())
}
