//! Who follows one view.

use super::server::ServerInner;
use crate::acknowledgement::Acknowledgement;
use inspect::Inspect;
use mapping_manager::remote::Peer;
use partition_mapper::ForwardedPartition;
use region_manager::{LockError, RegionManager};
use sparse_alloc::Backing;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The processes that follow one view, and who serves them.
#[derive(Default)]
pub(crate) struct Remotes {
    inner: Arc<Followers>,
    servers: Mutex<Servers>,
}

#[derive(Default)]
struct Servers {
    /// Whether the view says when a change is over.
    hooked: bool,
    list: Vec<Weak<ServerInner>>,
}

#[derive(Default)]
struct Followers {
    /// How many there are: all that a change looks at while nobody follows.
    count: AtomicUsize,
    /// Changed only under the change lock, or for those that are gone.
    peers: Mutex<Vec<Arc<Peer>>>,
}

impl Followers {
    fn peers(&self) -> MutexGuard<'_, Vec<Arc<Peer>>> {
        // A list of peers is whole whatever panicked.
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seal(&self) {
        if self.count.load(Ordering::Relaxed) != 0 {
            for peer in self.peers().iter() {
                peer.seal();
            }
        }
    }
}

impl Remotes {
    /// Has everything sent at the end of each change.
    pub(super) fn follow_changes(&self, regions: &RegionManager<Backing>) -> Result<(), LockError> {
        let mut servers = self.servers();
        if !servers.hooked {
            let followers = self.inner.clone();
            regions.set_end_of_change(Box::new(move || followers.seal()))?;
            servers.hooked = true;
        }
        Ok(())
    }

    pub(super) fn enter_server(&self, server: Weak<ServerInner>) {
        let mut servers = self.servers();
        servers.list.retain(|one| one.strong_count() != 0);
        servers.list.push(server);
    }

    /// Sends a process what is queued for it, and from now on every change. Called under the change
    /// lock.
    pub(super) fn enter(&self, peer: &Arc<Peer>) {
        peer.seal();
        let mut peers = self.inner.peers();
        peers.push(peer.clone());
        self.inner.count.store(peers.len(), Ordering::Relaxed);
    }

    pub(super) fn leave(&self, peer: &Arc<Peer>) {
        let mut peers = self.inner.peers();
        peers.retain(|one| !Arc::ptr_eq(one, peer));
        self.inner.count.store(peers.len(), Ordering::Relaxed);
    }

    /// What is to be waited for after a change: one look at a number, while nobody follows.
    pub(crate) fn acknowledgement(&self) -> Acknowledgement {
        // The thread that makes a change has held the change lock since a process entered under it.
        match self.inner.count.load(Ordering::Relaxed) {
            0 => Acknowledgement::complete(),
            _ => Acknowledgement::of(self.inner.peers().iter()),
        }
    }

    /// Whether some process offers this partition.
    pub(crate) fn finds(&self, partition: &ForwardedPartition) -> bool {
        self.list().iter().any(|server| server.finds(partition))
    }

    /// Disconnects everybody, because the manager is gone.
    pub(crate) fn close(&self) {
        for server in self.list() {
            server.close("the guest memory is gone");
        }
    }

    fn list(&self) -> Vec<Arc<ServerInner>> {
        let servers = self.servers();
        servers.list.iter().filter_map(Weak::upgrade).collect()
    }

    fn servers(&self) -> MutexGuard<'_, Servers> {
        // A list of servers is whole whatever panicked.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The servers by number.
impl Inspect for Remotes {
    fn inspect(&self, req: inspect::Request<'_>) {
        req.by_index(self.list().iter().map(|server| &**server));
    }
}

impl Remotes {
    /// Whether there is anything to show.
    pub(crate) fn is_idle(&self) -> bool {
        self.list().is_empty()
    }
}
