//! What the handles of a client share.

use super::driver::Driver;
use super::error::{ConnectError, ManagerLost};
use super::options::ClientOptions;
use super::outgoing::Outgoing;
use super::shared::{ClientState, Shared};
use super::waiting::{Bell, Gate, left, wait};
use crate::VaMapper;
use crate::remote::frame::FrameReader;
use crate::remote::message::{ToServer, Welcome};
use rustix::event::{PollFd, PollFlags};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a thread that serves leaves the work to one that waits for it.
const GIVE_WAY: Duration = Duration::from_millis(100);

/// A client.
///
/// Locks are taken in this order: `driver`, then one of `shared` and `outgoing`, which are held for
/// moments. The mapper's are taken below `driver`; nobody takes `driver` while holding one of those.
pub(super) struct Inner {
    pub(super) options: ClientOptions,
    pub(super) mapper: Arc<VaMapper>,
    pub(super) gate: Gate,
    /// Rung for the leader, when what it waits for may have been done by another thread.
    leader_bell: Bell,
    shared: Mutex<Shared>,
    changed: Condvar,
    outgoing: Mutex<Outgoing>,
    driver: Mutex<Driver>,
}

impl Inner {
    pub(super) fn new(
        options: ClientOptions,
        mapper: Arc<VaMapper>,
    ) -> Result<Arc<Self>, ConnectError> {
        Ok(Arc::new(Self {
            options,
            mapper,
            gate: Gate::new().map_err(ConnectError::Wait)?,
            leader_bell: Bell::new().map_err(ConnectError::Wait)?,
            shared: Mutex::new(Shared::new()),
            changed: Condvar::new(),
            outgoing: Mutex::default(),
            driver: Mutex::new(Driver::new()),
        }))
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        // Nothing can panic while it is held.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn outgoing(&self) -> MutexGuard<'_, Outgoing> {
        // As for `shared`.
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The driver, for a thread that is not serving already.
    pub(super) fn driver(&self) -> Serving<'_> {
        // A taker of slots may have panicked in the middle of a change, which then was not
        // acknowledged: the manager gives the client up at its deadline.
        let driver = self.driver.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared().serving = Some(std::thread::current().id());
        Serving {
            inner: self,
            driver,
        }
    }

    pub(super) fn send(&self, message: &ToServer) -> Result<(), ManagerLost> {
        self.outgoing().send(message, &self.gate)
    }

    /// Changes what others may wait for, and wakes them.
    pub(super) fn update(&self, change: impl FnOnce(&mut Shared)) {
        let mut shared = self.shared();
        change(&mut shared);
        let me = std::thread::current().id();
        let ring = shared.leader.is_some_and(|leader| leader != me);
        drop(shared);
        self.changed.notify_all();
        if ring {
            self.leader_bell.ring();
        }
    }

    /// Waits until `check` finds something, and meanwhile does what there is to do, if no other
    /// thread does. `None`: the time is over.
    pub(super) fn until<T>(
        &self,
        deadline: Option<Instant>,
        mut check: impl FnMut(&mut Shared) -> Option<T>,
    ) -> Option<T> {
        let mut shared = self.shared();
        loop {
            if let Some(found) = check(&mut shared) {
                return Some(found);
            }
            let left = left(deadline)?;
            shared = if shared.leader.is_some() {
                self.wait(shared, left)
            } else {
                shared.leader = Some(std::thread::current().id());
                drop(shared);
                let leading = Leading(self);
                self.lead(left);
                drop(leading);
                self.shared()
            };
        }
    }

    fn wait<'a>(
        &self,
        shared: MutexGuard<'a, Shared>,
        timeout: Option<Duration>,
    ) -> MutexGuard<'a, Shared> {
        match timeout {
            None => {
                let woken = self.changed.wait(shared);
                woken.unwrap_or_else(PoisonError::into_inner)
            }
            Some(timeout) => {
                let woken = self.changed.wait_timeout(shared, timeout);
                woken.unwrap_or_else(PoisonError::into_inner).0
            }
        }
    }

    /// Waits at the socket once, and works.
    fn lead(&self, timeout: Option<Duration>) {
        let mut fds = [
            PollFd::new(self.gate.descriptor(), PollFlags::IN),
            PollFd::new(&self.leader_bell, PollFlags::IN),
        ];
        if let Err(error) = wait(&mut fds, timeout) {
            return self.lose(ManagerLost::io(error));
        }
        let [gate, bell] = fds.map(|fd| !fd.revents().is_empty());
        if bell {
            self.leader_bell.silence();
        }
        if gate {
            self.work();
        }
    }

    /// Waits once, until there is something to do or `stop` rings, and works.
    pub(super) fn turn(&self, timeout: Option<Duration>, stop: Option<&Bell>) {
        let gate = PollFd::new(self.gate.descriptor(), PollFlags::IN);
        let waited = match stop {
            None => wait(&mut [gate], timeout),
            Some(stop) => wait(&mut [gate, PollFd::new(stop, PollFlags::IN)], timeout),
        };
        if let Err(error) = waited {
            return self.lose(ManagerLost::io(error));
        }
        let shared = self.shared();
        if shared.leader.is_some() {
            // It has been woken, too, and gets on sooner by itself.
            drop(self.wait(shared, Some(GIVE_WAY)));
            return;
        }
        drop(shared);
        self.work();
    }

    /// Does what there is to do, without waiting. `true`: there may be more.
    pub(super) fn work(&self) -> bool {
        let mut serving = self.driver();
        match serving.driver.work(self) {
            Ok(more) => more,
            Err(lost) => {
                serving.driver.lose(self, lost);
                false
            }
        }
    }

    /// Ends the connection, if there is one.
    pub(super) fn lose(&self, lost: ManagerLost) {
        self.driver().driver.lose(self, lost);
    }

    /// Begins with a manager that has said its welcome.
    pub(super) fn begin(
        &self,
        socket: Arc<OwnedFd>,
        reader: FrameReader,
        welcome: Welcome,
    ) -> Result<(), ManagerLost> {
        let mut serving = self.driver();
        self.update(|shared| {
            shared.state = ClientState::Connecting;
            shared.lazy = welcome.lazy;
            shared.read_only = welcome.read_only;
            shared.sequence = 0;
            shared.fetches.clear();
            shared.counts.connections = shared.counts.connections.saturating_add(1);
            shared.manager.clone_from(&welcome.name);
        });
        let begun = serving.driver.begin(self, socket, reader, &welcome);
        begun.inspect_err(|lost| serving.driver.lose(self, lost.clone()))
    }
}

/// The driver's lock, held by the thread that serves.
pub(super) struct Serving<'a> {
    inner: &'a Inner,
    pub(super) driver: MutexGuard<'a, Driver>,
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        self.inner.shared().serving = None;
    }
}

/// While it lives, the calling thread is the leader.
struct Leading<'a>(&'a Inner);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.shared().leader = None;
        self.0.changed.notify_all();
    }
}
