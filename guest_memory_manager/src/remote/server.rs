//! Serves the processes that follow one view.

use super::listener::PeerListener;
use super::process::Leftover;
use super::{
    AcceptError, Eviction, ListenError, ProcessEvent, RemoteGrant, RemoteOptions, RemoteProcess,
    RemoteSocket, ServeRemoteError,
};
use crate::attach::{self, Attached};
use crate::builder;
use crate::manager::GuestMemoryManager;
use crate::shared::Shared;
use inspect::Inspect;
use mapping_manager::remote::{Peer, PeerOptions, RemoteEvent, RemoteService, ServiceThread};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

/// How many processes that are gone are remembered for inspection.
const MOST_LEFT: usize = 16;
/// How many offers of a process, and ends of offers, wait to be dealt with.
const MOST_EVENTS: usize = 64;

/// Lets other processes follow guest memory, each with a VA mapper of its own.
///
/// It does nothing by itself: a thread ([`spawn`](Self::spawn)) or a task ([`serve`](Self::serve)) must
/// drive it. Changes are sent by the thread that makes them; what is left to the driver are greetings,
/// acknowledgements, deadlines, and what a process did not take at once. **While nobody drives it, who
/// waits for an [`Acknowledgement`](crate::Acknowledgement) waits in vain.**
///
/// Dropping it disconnects every process; they keep what they have.
///
/// ```
/// use guest_memory_manager::{
///     GuestMemoryBuilder, MemoryLayout, MemoryRange, RamVisibility, RemoteClientOptions,
///     RemoteGrant, RemoteGuestMemory, RemoteOptions,
/// };
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let layout = MemoryLayout::new(1 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().x86_legacy_support(true).build_now(&layout)?;
/// let server = memory.serve_remote(RemoteOptions::new())?;
/// let _driver = server.spawn()?;
/// let (ours, theirs) = UnixStream::pair()?;
/// let process = server.accept(ours, RemoteGrant::new().name("net0"))?;
///
/// // This belongs into the other process.
/// let options = RemoteClientOptions::new("virtio-net");
/// let remote = RemoteGuestMemory::connect(theirs, options)?;
/// let _follower = remote.spawn()?;
/// remote.guest_memory().write_plain(0x1000, &7_u32)?;
///
/// assert_eq!(memory.client().guest_memory_now().read_plain::<u32>(0x1000)?, 7);
/// process.wait_ready(Duration::from_secs(5))?;
/// let segment = MemoryRange::new(0xf_0000..0x10_0000);
/// let visibility = memory.ram_visibility_control();
/// visibility.set_ram_visibility_now(segment, RamVisibility::ReadOnly)?.wait();
/// assert!(remote.guest_memory().write_plain(0xf_0000, &7_u32).is_err());
/// # Ok(())
/// # }
/// ```
#[must_use = "every process is disconnected when it is dropped"]
pub struct RemoteServer {
    inner: Arc<ServerInner>,
}

/// Drives a [`RemoteServer`] on a thread of its own; stops when it is dropped.
#[must_use = "processes are no longer served when it is dropped"]
pub struct RemoteServerThread {
    _thread: ServiceThread,
}

/// What the server, its sockets and its events share.
pub(crate) struct ServerInner {
    shared: Arc<Shared>,
    attached: Arc<Mutex<Attached>>,
    service: Arc<RemoteService>,
    options: RemoteOptions,
    state: Mutex<State>,
    events: Mutex<Events>,
}

#[derive(Default)]
struct State {
    closed: bool,
    next: u64,
    processes: Vec<RemoteProcess>,
    /// The processes that are gone, the last one last.
    left: VecDeque<RemoteProcess>,
}

/// What has happened and was not dealt with yet.
#[derive(Default)]
struct Events {
    waiting: VecDeque<RemoteEvent>,
    /// Whether a thread deals with them.
    busy: bool,
}

impl GuestMemoryManager {
    /// Lets other processes follow this guest memory; see [`RemoteServer`].
    ///
    /// # Errors
    ///
    /// Descriptors to wait with cannot be had; or a change was broken off by a panic.
    pub fn serve_remote(&self, options: RemoteOptions) -> Result<RemoteServer, ServeRemoteError> {
        let remotes = &self.shared.remotes;
        remotes.follow_changes(&self.shared.regions)?;
        let slot = Arc::new(OnceLock::<Weak<ServerInner>>::new());
        let report = {
            let slot = slot.clone();
            move |event| {
                if let Some(server) = slot.get().and_then(Weak::upgrade) {
                    server.enqueue(event);
                }
            }
        };
        let service = RemoteService::new(report)?;
        let inner = Arc::new(ServerInner {
            shared: self.shared.clone(),
            attached: self.attached_list(),
            service,
            options,
            state: Mutex::default(),
            events: Mutex::default(),
        });
        // Nobody else sets it.
        let _ = slot.set(Arc::downgrade(&inner));
        remotes.enter_server(Arc::downgrade(&inner));
        Ok(RemoteServer { inner })
    }
}

impl RemoteServer {
    /// Lets the process at the other end of a socket follow guest memory as far as it is granted. The
    /// socket is a connected stream socket of the Unix domain: one of a pair, one that was inherited,
    /// one that a listener accepted.
    ///
    /// It does not wait: the process greets when it likes, within the deadline.
    ///
    /// # Errors
    ///
    /// There are as many processes as there may be, the socket cannot be waited for, or the manager is
    /// gone.
    pub fn accept(
        &self,
        stream: impl Into<OwnedFd>,
        grant: RemoteGrant,
    ) -> Result<RemoteProcess, AcceptError> {
        self.inner.accept(stream.into(), grant)
    }

    /// Accepts every process that connects to a path, and grants each the same.
    ///
    /// The socket's mode is 0600 from its first moment on, so only this user's processes and root's can
    /// connect. A socket that a killed process has left there is replaced.
    ///
    /// # Errors
    ///
    /// Somebody listens there, there is a file that is no socket, or the socket cannot be made.
    pub fn listen(
        &self,
        path: impl AsRef<Path>,
        grant: RemoteGrant,
    ) -> Result<RemoteSocket, ListenError> {
        RemoteSocket::open(path.as_ref(), &self.inner, grant)
    }

    /// The processes that are connected.
    pub fn processes(&self) -> Vec<RemoteProcess> {
        self.inner.state().processes.clone()
    }

    /// Drives it on a thread of its own.
    ///
    /// # Errors
    ///
    /// The thread cannot be started.
    pub fn spawn(&self) -> Result<RemoteServerThread, ServeRemoteError> {
        let thread = self.inner.service.spawn()?;
        Ok(RemoteServerThread { _thread: thread })
    }

    /// Drives it as a task of a tokio runtime, whose I/O must be enabled. Returns only with an error;
    /// dropping the future stops driving.
    ///
    /// # Errors
    ///
    /// The processes can no longer be waited for.
    pub async fn serve(&self) -> Result<Infallible, ServeRemoteError> {
        Ok(self.inner.service.serve().await?)
    }
}

impl Drop for RemoteServer {
    fn drop(&mut self) {
        self.inner.close("the server is gone");
    }
}

impl ServerInner {
    pub(super) fn accept(
        &self,
        stream: OwnedFd,
        grant: RemoteGrant,
    ) -> Result<RemoteProcess, AcceptError> {
        // Held throughout, so that whoever is told of the process finds it.
        let mut state = self.state();
        let most = self.options.most_processes;
        if state.closed {
            return Err(AcceptError::Closed);
        }
        if state.processes.len() >= most {
            return Err(AcceptError::TooMany { most });
        }
        let seen = self.shared.layout.seen_by(grant.vtl);
        let granted = attach::limit(&seen, grant.only.as_deref());
        let number = state.next;
        let name = match &grant.name {
            Some(name) => name.clone(),
            None => format!("process {number}"),
        };
        let mut options = PeerOptions::new("guest memory");
        options.alignment = builder::alignment(self.shared.layout.end()).bytes();
        options.deadline = self.options.deadline;
        options.most_queued = self.options.most_queued;
        options.read_only = grant.read_only;
        options.allow_lazy = grant.lazy_allowed;
        let va = self.shared.mapper.va();
        let peer = self.service.add(stream, options, va.len());
        let peer = peer.map_err(|source| AcceptError::Service {
            process: name.clone(),
            source,
        })?;
        state.next = number.saturating_add(1);
        let process = RemoteProcess::new(name, grant, granted, peer, &*va);
        state.processes.push(process.clone());
        Ok(process)
    }

    /// Disconnects everybody, for good.
    pub(super) fn close(&self, reason: &str) {
        let processes = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.processes)
        };
        for process in processes {
            process.disconnect(reason);
            self.detach(&process);
        }
    }

    /// Whether one of the processes offers this partition.
    pub(super) fn finds(&self, partition: &partition_mapper::ForwardedPartition) -> bool {
        let state = self.state();
        state.processes.iter().any(|one| one.offers(partition))
    }

    /// Has a thread deal with an event: one that serves connections must not wait for the change
    /// lock, since who holds it may be waiting for an acknowledgement.
    ///
    /// Partitions that are offered and taken back faster than that are a flood.
    fn enqueue(self: Arc<Self>, event: RemoteEvent) {
        let mut events = self.events();
        if let RemoteEvent::PartitionOffered { peer, .. }
        | RemoteEvent::PartitionWithdrawn { peer, .. } = &event
        {
            let waiting = events.waiting.iter();
            if waiting.filter(|one| is_of(one, peer)).count() >= MOST_EVENTS {
                drop(events);
                return peer.evict("too many partitions were offered and taken back at once");
            }
        }
        events.waiting.push_back(event);
        if std::mem::replace(&mut events.busy, true) {
            return;
        }
        drop(events);
        let server = self.clone();
        let thread = std::thread::Builder::new().name("remote-events".to_owned());
        if let Err(error) = thread.spawn(move || server.work()) {
            log::warn!("events are dealt with by who serves: no thread could be started: {error}");
            self.work();
        }
    }

    /// Deals with what has happened, until nothing more has.
    fn work(&self) {
        /// Whoever comes after a callback that has panicked starts anew.
        struct Busy<'a>(&'a ServerInner);

        impl Drop for Busy<'_> {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    self.0.events().busy = false;
                }
            }
        }

        let _busy = Busy(self);
        loop {
            let mut events = self.events();
            let Some(event) = events.waiting.pop_front() else {
                events.busy = false;
                return;
            };
            drop(events);
            if let Some(event) = self.handle(event)
                && let Some(notice) = &self.options.on_event
            {
                notice(&event);
            }
        }
    }

    /// Deals with an event; says what the owner is to be told.
    fn handle(&self, event: RemoteEvent) -> Option<ProcessEvent> {
        match event {
            RemoteEvent::Ready { peer, lazy } => {
                let process = self.find(&peer)?;
                self.let_follow(&process, lazy)
                    .then_some(ProcessEvent::Ready { process })
            }
            RemoteEvent::PartitionOffered { peer, offer } => {
                let process = self.find(&peer)?;
                let partition = process.add_partition(offer, &*self.shared.mapper.va());
                Some(ProcessEvent::PartitionOffered { process, partition })
            }
            RemoteEvent::PartitionWithdrawn { peer, partition } => {
                let process = self.find(&peer)?;
                let (partition, leftover) = process.remove_partition(partition)?;
                self.give_up(leftover);
                Some(ProcessEvent::PartitionWithdrawn { process, partition })
            }
            RemoteEvent::Left { peer, reason } => {
                let process = self.find(&peer)?;
                log::info!("{} does not follow any more: {reason}", process.name());
                self.detach(&process);
                let mut state = self.state();
                state
                    .processes
                    .retain(|one| !Arc::ptr_eq(one.peer(), &peer));
                state.left.push_back(process.clone());
                if state.left.len() > MOST_LEFT {
                    state.left.pop_front();
                }
                Some(ProcessEvent::Left { process })
            }
            _ => None,
        }
    }

    fn find(&self, peer: &Arc<Peer>) -> Option<RemoteProcess> {
        let state = self.state();
        let mut processes = state.processes.iter();
        let found = processes.find(|one| Arc::ptr_eq(one.peer(), peer));
        found.cloned()
    }

    /// Gives a process the view, from now on and through every change.
    fn let_follow(&self, process: &RemoteProcess, lazy: bool) -> bool {
        let (peer, regions) = (process.peer(), &self.shared.regions);
        let granted = process.granted().to_vec();
        let ram_only = process.grant().ram_only;
        let listener = PeerListener::new(process.name(), peer.clone(), granted, ram_only);
        let added = regions.add_dma_listener(Box::new(listener));
        let done = added.map_err(|error| error.to_string());
        let done = done.and_then(|listener| {
            // What is queued by now is the end of a change, and nobody begins another one.
            let no_change = regions.transaction().map_err(|error| error.to_string())?;
            self.shared.remotes.enter(peer);
            drop(no_change);
            Ok(listener)
        });
        match done {
            Ok(listener) if process.set_ready(lazy, listener) => true,
            Ok(listener) => {
                // It was closed meanwhile.
                self.shared.remotes.leave(peer);
                let _ = regions.remove_listener(listener);
                false
            }
            Err(error) => {
                process.disconnect(&format!("the view cannot be shown: {error}"));
                false
            }
        }
    }

    /// Takes a process and its partitions out of the view.
    fn detach(&self, process: &RemoteProcess) {
        self.shared.remotes.leave(process.peer());
        let reason = process.gone().unwrap_or_else(|| {
            let reason = "the server is gone".to_owned();
            Arc::new(Eviction::Detached { reason })
        });
        if let Some(leftover) = process.set_gone(reason) {
            self.give_up(leftover);
        }
    }

    fn give_up(&self, leftover: Leftover) {
        let partitions = leftover.attached.into_iter().filter_map(|id| {
            let mut attached = attach::lock(&self.attached);
            attached.take(id)
        });
        let partitions: Vec<_> = partitions.flatten().collect();
        let regions = &self.shared.regions;
        for listener in partitions.into_iter().rev().chain(leftover.listener) {
            // None of them fails: there is nobody who could refuse. It is out, or the whole view is
            // being taken down.
            let _ = regions.remove_listener(listener);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A list of processes is whole whatever panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        // A queue is whole whatever panicked.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an event is about this process.
fn is_of(event: &RemoteEvent, process: &Arc<Peer>) -> bool {
    match event {
        RemoteEvent::Ready { peer, .. }
        | RemoteEvent::PartitionOffered { peer, .. }
        | RemoteEvent::PartitionWithdrawn { peer, .. }
        | RemoteEvent::Left { peer, .. } => Arc::ptr_eq(peer, process),
        _ => false,
    }
}

impl Inspect for ServerInner {
    fn inspect(&self, req: inspect::Request<'_>) {
        let (processes, left) = {
            let state = self.state();
            let left: Vec<_> = state.left.iter().cloned().collect();
            (state.processes.clone(), left)
        };
        req.respond()
            .child("processes", |req| {
                req.by_key(processes.iter().map(|one| (one.name(), one)));
            })
            .child("left", |req| {
                req.by_index(left.iter().map(|one| {
                    inspect::from_fn(move |req: inspect::Request<'_>| {
                        let reason = one.gone().map(|reason| reason.to_string());
                        req.respond()
                            .field("name", one.name())
                            .field("reason", &reason.unwrap_or_default());
                    })
                }));
            });
    }
}

impl fmt::Debug for RemoteServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServer")
            .field("options", &self.inner.options)
            .field("processes", &self.processes())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RemoteServerThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteServerThread").finish_non_exhaustive()
    }
}
