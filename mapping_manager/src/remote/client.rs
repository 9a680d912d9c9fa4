//! A VA mapper that follows the flat view of a manager in another process.

mod apply;
mod asking;
mod batch;
mod connect;
mod driver;
mod error;
mod files;
mod inner;
mod inspection;
mod options;
mod outgoing;
mod partitions;
mod shared;
#[cfg(test)]
mod tests;
mod thread;
mod waiting;

pub use error::{
    ChangeError, ConnectError, ManagerLost, OfferError, ProtocolError, ReconnectError, WaitError,
};
pub use options::ClientOptions;
pub use partitions::SlotTaker;
pub use shared::ClientState;
pub use thread::ClientThread;

use crate::remote::message::{MOST_NAME, MOST_PARTITIONS, ToServer, bounded};
use crate::{GuestMemory, VaMapper};
use asking::Asking;
use connect::Greeted;
use inner::Inner;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A VA mapper that shows what a manager in another process shows its guest, and follows every change.
///
/// Its [`guest_memory`](Self::guest_memory) is that of any VA mapper: the same type, as fast, with the
/// same errors. A change replaces contents in one step, as it does in the manager's process, and the
/// manager is told when it is made. A clone is a handle of the same client.
///
/// Somebody must make the changes: a thread ([`spawn`](Self::spawn)), a task of a runtime
/// ([`serve`](Self::serve)), or a loop of the caller's own ([`turn`](Self::turn)). Whoever waits for a
/// change, or fetches, does it as well while it waits.
///
/// # Lazy clients
///
/// A lazy client ([`ClientOptions::lazy`]) maps nothing before it is touched. An access, or a lease,
/// that reaches a hole asks the manager and goes on when the answer is mapped; from then on that place
/// follows every change. Only accesses by GPA ask: who uses the host addresses directly, a guest or the
/// kernel, needs an eager client. So does a partition.
///
/// # When the manager goes
///
/// All that was mapped stays, can be read and written, and leases stay valid. Whoever waits for a change,
/// and the access that fetches, gets an error that says so. [`reconnect`](Self::reconnect) goes on with
/// another manager.
///
/// # Trust
///
/// What the manager sends is checked before it is used, and the memory that it can make the client take
/// is bounded. What it shows is its own affair: contents, files that it truncates (accesses then fail),
/// and files of devices or of file systems that make whoever asks them wait.
///
/// Files that were sent are kept out of this process's core dumps and forked children, from mappings of
/// 1 MiB on.
#[derive(Clone)]
pub struct RemoteClient {
    inner: Arc<Inner>,
}

/// # The connection
impl RemoteClient {
    /// Connects by a stream socket (Unix) whose other end the manager serves, and waits for the first
    /// view: all that is shown, or in a lazy client nothing.
    ///
    /// It takes no longer than [`ClientOptions::deadline`]. The socket's mode does not matter.
    ///
    /// # Errors
    ///
    /// The manager refuses, is none, dies, or is too slow; there is no room for its address space; or
    /// its first view cannot be mapped.
    pub fn connect(
        socket: impl Into<OwnedFd>,
        options: ClientOptions,
    ) -> Result<Self, ConnectError> {
        let socket = Arc::new(socket.into());
        let until = connect::deadline(&options);
        let greeted = connect::greet(&socket, &options, until);
        let Greeted { welcome, reader } = greeted.map_err(ConnectError::Lost)?;
        let space = welcome.space;
        let alignment = connect::alignment(welcome.alignment);
        let mapper = VaMapper::new(options.name.clone(), space, alignment)
            .map_err(|source| ConnectError::Reserve { space, source })?;
        let inner = Inner::new(options, mapper)?;
        if inner.options.lazy {
            inner
                .mapper
                .fetch_with(Arc::new(Asking(Arc::downgrade(&inner))));
        }
        let begun = inner.begin(socket, reader, welcome);
        begun.map_err(ConnectError::Lost)?;
        inner.first_view(until).map_err(ConnectError::Lost)?;
        Ok(Self { inner })
    }

    /// Leaves the manager, if there is one, for another, and waits for its first view.
    ///
    /// What the new manager shows at the same place, from the same file (device and inode) and with the
    /// same permissions, is not touched; what else it shows is mapped in the place of what was there,
    /// and what it does not show is unmapped. Leases stay valid in any case. A lazy client asks about
    /// what it has mapped, and nothing else. Partitions are offered again, under the same numbers;
    /// slots that the new manager gives as they are stay.
    ///
    /// Accesses go on meanwhile. What they fetch waits.
    ///
    /// # Errors
    ///
    /// The manager has another address space, and nothing has changed; or as
    /// [`connect`](Self::connect). Then the client has no manager; it may be connected again.
    pub fn reconnect(&self, socket: impl Into<OwnedFd>) -> Result<(), ReconnectError> {
        let inner = &*self.inner;
        if inner.shared().is_serving() {
            return Err(ReconnectError::ServingThread);
        }
        let socket = Arc::new(socket.into());
        let until = connect::deadline(&inner.options);
        let greeted = connect::greet(&socket, &inner.options, until);
        let Greeted { welcome, reader } = greeted.map_err(ReconnectError::Lost)?;
        let own = inner.mapper.space().len();
        if welcome.space != own {
            let found = welcome.space;
            return Err(ReconnectError::Space { found, own });
        }
        let begun = inner.begin(socket, reader, welcome);
        begun.map_err(ReconnectError::Lost)?;
        inner.first_view(until).map_err(ReconnectError::Lost)
    }

    /// Tells how it stands with the manager.
    pub fn state(&self) -> ClientState {
        self.inner.shared().state.clone()
    }

    /// Tells the manager's name, as it gave it.
    pub fn manager(&self) -> String {
        self.inner.shared().manager.clone()
    }

    /// Says whether the manager shows only what is fetched.
    pub fn is_lazy(&self) -> bool {
        self.inner.shared().lazy
    }

    /// Says whether the manager allows nothing to be written.
    pub fn is_read_only(&self) -> bool {
        self.inner.shared().read_only
    }
}

/// # Memory
impl RemoteClient {
    /// Returns access to what the manager shows, now and later.
    pub fn guest_memory(&self) -> GuestMemory {
        self.inner.mapper.guest_memory()
    }

    /// Returns the mapper that follows the manager. Who changes it makes it differ from what the manager
    /// shows, until that changes there.
    pub fn mapper(&self) -> &Arc<VaMapper> {
        &self.inner.mapper
    }
}

/// # Changes
impl RemoteClient {
    /// Returns the number of the last change that was made here, as the manager counts the changes of
    /// this connection; at least 1, the first view.
    pub fn sequence(&self) -> u64 {
        self.inner.shared().sequence
    }

    /// Returns how many changes were made here, on all connections, first views included.
    pub fn changes(&self) -> u64 {
        self.inner.shared().counts.changes
    }

    /// Waits until the change with a number, as [`sequence`](Self::sequence) counts, is made here.
    /// Returns the number of the last one that is.
    ///
    /// # Errors
    ///
    /// It does not come in time, or won't come, since the manager is gone.
    pub fn wait_for(&self, sequence: u64, timeout: Duration) -> Result<u64, WaitError> {
        self.wait(timeout, |shared| {
            (shared.sequence >= sequence).then_some(shared.sequence)
        })
    }

    /// Waits until more changes than `after` are made, as [`changes`](Self::changes) counts. Returns
    /// how many are.
    ///
    /// # Errors
    ///
    /// As [`wait_for`](Self::wait_for).
    pub fn wait_for_change(&self, after: u64, timeout: Duration) -> Result<u64, WaitError> {
        self.wait(timeout, |shared| {
            (shared.counts.changes > after).then_some(shared.counts.changes)
        })
    }

    fn wait(
        &self,
        timeout: Duration,
        done: impl Fn(&shared::Shared) -> Option<u64>,
    ) -> Result<u64, WaitError> {
        if self.inner.shared().is_serving() {
            return Err(WaitError::ServingThread);
        }
        let until = Instant::now().checked_add(timeout);
        let found = self.inner.until(until, |shared| match done(shared) {
            Some(found) => Some(Ok(found)),
            None => shared.lost().map(|lost| Err(WaitError::Lost(lost.clone()))),
        });
        found.unwrap_or(Err(WaitError::TimedOut { within: timeout }))
    }

    /// Starts a thread that makes the changes, until the guard that is returned is dropped.
    ///
    /// # Errors
    ///
    /// There can be no thread, or no descriptor to stop it by.
    pub fn spawn(&self) -> io::Result<ClientThread> {
        ClientThread::spawn(Arc::clone(&self.inner))
    }

    /// Waits at most for a time (`None`: without end) until there is something to do, and does it. It
    /// may return earlier, having done nothing.
    ///
    /// # Errors
    ///
    /// There is no manager, or none any more.
    pub fn turn(&self, timeout: Option<Duration>) -> Result<(), ManagerLost> {
        let inner = &*self.inner;
        if let Some(lost) = inner.shared().lost() {
            return Err(lost.clone());
        }
        if !inner.shared().is_serving() {
            inner.turn(timeout, None);
        }
        match inner.shared().lost() {
            Some(lost) => Err(lost.clone()),
            None => Ok(()),
        }
    }

    /// Makes the changes, as a task of a tokio runtime, until there is no manager any more; says why.
    /// It may be dropped at any time, and called again, also for the next connection.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime, or in one whose I/O is not enabled.
    pub async fn serve(&self) -> ManagerLost {
        let inner = &*self.inner;
        let gate = Arc::clone(inner.gate.descriptor());
        // SAFETY: the share of the descriptor that is handed over keeps it open, and the same, for as
        // long as the registration lives.
        let gate = unsafe { AsyncFd::register_with_interest(gate, Interest::READABLE) };
        let gate = match gate {
            Ok(gate) => gate,
            Err(error) => return ManagerLost::io(error),
        };
        loop {
            if let Some(lost) = inner.shared().lost() {
                return lost.clone();
            }
            let mut ready = match gate.readable().await {
                Ok(ready) => ready,
                Err(error) => return ManagerLost::io(error),
            };
            if inner.work() {
                tokio::task::yield_now().await;
            } else {
                ready.clear_ready();
            }
        }
    }
}

/// # Partitions
impl RemoteClient {
    /// Offers a partition to the manager, whose slots are the manager's from now on. Returns its number.
    ///
    /// `name` is what the manager finds it by, `kind` the hypervisor, for people; both are cut to 64
    /// bytes. `slots` is how many slots there are for the manager, `None` if there is no limit. When
    /// the manager goes, the slots stay.
    ///
    /// # Errors
    ///
    /// There is no manager, or the client is lazy, or offers 16 already.
    pub fn offer_partition(
        &self,
        name: &str,
        kind: &str,
        slots: Option<u64>,
        taker: Box<dyn SlotTaker>,
    ) -> Result<u32, OfferError> {
        let inner = &*self.inner;
        if inner.shared().is_serving() {
            return Err(OfferError::ServingThread);
        }
        let mut serving = inner.driver();
        {
            let shared = inner.shared();
            if let Some(lost) = shared.lost() {
                return Err(OfferError::Lost(lost.clone()));
            }
            if shared.lazy {
                return Err(OfferError::Lazy);
            }
        }
        if serving.driver.partitions.is_full() {
            let most = MOST_PARTITIONS;
            return Err(OfferError::TooMany { most });
        }
        let [name, kind] = [name, kind].map(|text| bounded(text, MOST_NAME));
        let offer = serving.driver.partitions.add(name, kind, slots, taker);
        let number = offer.partition;
        match inner.send(&ToServer::Offer(offer)) {
            Ok(()) => Ok(number),
            Err(lost) => {
                serving.driver.partitions.withdraw(number);
                serving.driver.lose(inner, lost.clone());
                Err(OfferError::Lost(lost))
            }
        }
    }

    /// Takes an offer back: takes the partition's slots away, drops its taker, and tells the manager.
    ///
    /// # Errors
    ///
    /// There is no such partition; or a slot was not given up: it is withdrawn then, too.
    pub fn withdraw_partition(&self, partition: u32) -> Result<(), OfferError> {
        let inner = &*self.inner;
        if inner.shared().is_serving() {
            return Err(OfferError::ServingThread);
        }
        let mut serving = inner.driver();
        let withdrawn = serving.driver.partitions.withdraw(partition);
        let withdrawn = withdrawn.ok_or(OfferError::NoPartition { partition })?;
        if let Err(lost) = inner.send(&ToServer::Withdraw { partition }) {
            serving.driver.lose(inner, lost);
        }
        withdrawn.map_err(OfferError::Slot)
    }
}

impl fmt::Debug for RemoteClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteClient")
            .field("name", &self.inner.options.name)
            .field("state", &self.state())
            .field("sequence", &self.sequence())
            .finish_non_exhaustive()
    }
}
