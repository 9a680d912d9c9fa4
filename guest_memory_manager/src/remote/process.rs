//! A process that follows guest memory.

use super::forwarder::PeerSlots;
use super::{Eviction, ProcessWaitError, RemoteGrant};
use crate::acknowledgement::Acknowledgement;
use crate::attach::PartitionId;
use inspect::Inspect;
use mapping_manager::remote::{PartitionOffer, Peer};
use memory_range::MemoryRange;
use partition_mapper::{ForwardedOptions, ForwardedPartition};
use region_manager::ListenerId;
use sparse_alloc::MappedRegion;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A process that follows guest memory, or is about to, or did.
///
/// A clone is the same process. Dropping it changes nothing: the process follows until it leaves, is
/// evicted or [disconnected](Self::disconnect), or its server is dropped.
#[derive(Clone)]
pub struct RemoteProcess {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    grant: RemoteGrant,
    /// Sorted and disjoint.
    granted: Vec<MemoryRange>,
    peer: Arc<Peer>,
    /// The address of the view's reservation, by which one manager is told from another.
    view: usize,
    state: Mutex<State>,
    /// Told of every change of the state.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    phase: Phase,
    listener: Option<ListenerId>,
    offered: Vec<Offered>,
}

#[derive(Default)]
enum Phase {
    #[default]
    Connecting,
    Ready {
        lazy: bool,
    },
    Gone {
        reason: Arc<Eviction>,
    },
}

/// A partition that the process has offered.
struct Offered {
    number: u32,
    /// The process's name for it; no two are alike.
    name: String,
    partition: Arc<ForwardedPartition>,
    withdrawn: Arc<AtomicBool>,
    /// Where it is attached.
    attached: Vec<PartitionId>,
}

/// What is to be detached because a process, or one of its partitions, is gone.
#[derive(Default)]
pub(super) struct Leftover {
    pub(super) listener: Option<ListenerId>,
    pub(super) attached: Vec<PartitionId>,
}

impl RemoteProcess {
    pub(super) fn new(
        name: String,
        grant: RemoteGrant,
        granted: Vec<MemoryRange>,
        peer: Arc<Peer>,
        va: &dyn MappedRegion,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                name,
                grant,
                granted,
                peer,
                view: va.base().addr().get(),
                state: Mutex::default(),
                changed: Condvar::new(),
            }),
        }
    }

    /// The name that it was granted memory under.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Says whether it follows the view: it has greeted, was given what there is, and is not gone.
    pub fn is_ready(&self) -> bool {
        matches!(self.state().phase, Phase::Ready { .. })
    }

    /// Says whether it fetches what it touches, when it first touches it. Not known before it is
    /// ready.
    pub fn is_lazy(&self) -> bool {
        matches!(self.state().phase, Phase::Ready { lazy: true })
    }

    /// Why it does not follow the view any more; `None` while it does, and before.
    pub fn gone(&self) -> Option<Arc<Eviction>> {
        match &self.state().phase {
            Phase::Gone { reason } => Some(reason.clone()),
            _ => self.inner.peer.is_gone(),
        }
    }

    /// The number of the last change that it was to follow.
    pub fn last_sealed(&self) -> u64 {
        self.inner.peer.last_sealed()
    }

    /// The number of the last change that it has followed; `u64::MAX` when it is gone, so that nobody
    /// waits for it.
    pub fn acknowledged(&self) -> u64 {
        self.inner.peer.acknowledged()
    }

    /// What to wait for until it has followed all that has changed so far.
    pub fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::of([&self.inner.peer])
    }

    /// A partition that it has offered and not taken back, by its name; `None` if there is none yet.
    pub fn partition(&self, name: &str) -> Option<Arc<ForwardedPartition>> {
        find(&self.state(), name)
    }

    /// The partitions that it has offered and not taken back.
    pub fn partitions(&self) -> Vec<Arc<ForwardedPartition>> {
        let state = self.state();
        let offered = state.offered.iter();
        offered.map(|one| one.partition.clone()).collect()
    }

    /// Waits until it follows the view.
    ///
    /// # Errors
    ///
    /// It is gone, or was not so far in time.
    pub fn wait_ready(&self, timeout: Duration) -> Result<(), ProcessWaitError> {
        self.wait(timeout, |state| {
            matches!(state.phase, Phase::Ready { .. }).then_some(())
        })
    }

    /// Waits until it has offered a partition of this name, and returns it.
    ///
    /// # Errors
    ///
    /// It is gone, or had not offered it in time.
    pub fn wait_for_partition(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Arc<ForwardedPartition>, ProcessWaitError> {
        self.wait(timeout, |state| find(state, name))
    }

    /// Lets go of the process: it keeps what it has and follows no change any more. `reason` is told
    /// to it.
    ///
    /// Its partitions are detached soon after, on another thread. Nothing happens if it is gone.
    pub fn disconnect(&self, reason: &str) {
        self.inner.peer.evict(reason);
    }

    fn wait<T>(
        &self,
        timeout: Duration,
        find: impl Fn(&State) -> Option<T>,
    ) -> Result<T, ProcessWaitError> {
        let process = || self.name().to_owned();
        // A time that no clock reaches is never.
        let until = Instant::now().checked_add(timeout);
        let mut state = self.state();
        loop {
            if let Phase::Gone { reason } = &state.phase {
                let (process, reason) = (process(), reason.clone());
                return Err(ProcessWaitError::Gone { process, reason });
            }
            if let Some(found) = find(&state) {
                return Ok(found);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            state = match left {
                Some(Duration::ZERO) => {
                    let process = process();
                    return Err(ProcessWaitError::TimedOut { process, timeout });
                }
                Some(left) => {
                    let waited = self.inner.changed.wait_timeout(state, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => {
                    let waited = self.inner.changed.wait(state);
                    waited.unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing that could panic runs between two steps of a change.
        let state = self.inner.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

fn find(state: &State, name: &str) -> Option<Arc<ForwardedPartition>> {
    let found = state.offered.iter().find(|one| one.name == name);
    found.map(|one| one.partition.clone())
}

/// For the server.
impl RemoteProcess {
    pub(super) fn peer(&self) -> &Arc<Peer> {
        &self.inner.peer
    }

    pub(super) fn grant(&self) -> &RemoteGrant {
        &self.inner.grant
    }

    pub(super) fn granted(&self) -> &[MemoryRange] {
        &self.inner.granted
    }

    /// Notes that it follows now. `false`: it is gone.
    pub(super) fn set_ready(&self, lazy: bool, listener: ListenerId) -> bool {
        let mut state = self.state();
        if matches!(state.phase, Phase::Gone { .. }) {
            return false;
        }
        state.phase = Phase::Ready { lazy };
        state.listener = Some(listener);
        drop(state);
        self.inner.changed.notify_all();
        true
    }

    /// Notes a partition; says how it is called here. A second one of the same name is told from the
    /// first by its number.
    pub(super) fn add_partition(&self, offer: PartitionOffer, va: &dyn MappedRegion) -> String {
        let mut state = self.state();
        let name = match find(&state, &offer.name) {
            None => offer.name,
            Some(_) => format!("{} {}", offer.name, offer.partition),
        };
        let full = format!("{name} of {}", self.name());
        let mut options = ForwardedOptions::new(full).kind(offer.kind);
        if let Some(slots) = offer.slots {
            options = options.slots(slots);
        }
        let (number, withdrawn) = (offer.partition, Arc::<AtomicBool>::default());
        let slots = PeerSlots::new(self.inner.peer.clone(), number, withdrawn.clone());
        let partition = ForwardedPartition::new(va, Box::new(slots), options);
        state.offered.push(Offered {
            number,
            name: name.clone(),
            partition: Arc::new(partition),
            withdrawn,
            attached: Vec::new(),
        });
        drop(state);
        self.inner.changed.notify_all();
        name
    }

    /// Forgets a partition that the process has taken back; tells its name and where it is attached.
    pub(super) fn remove_partition(&self, number: u32) -> Option<(String, Leftover)> {
        let mut state = self.state();
        let index = state.offered.iter().position(|one| one.number == number)?;
        let offered = state.offered.remove(index);
        offered.withdrawn.store(true, Ordering::Relaxed);
        let leftover = Leftover {
            listener: None,
            attached: offered.attached,
        };
        Some((offered.name, leftover))
    }

    /// Notes that it is gone; hands out what is to be detached, the first time.
    pub(super) fn set_gone(&self, reason: Arc<Eviction>) -> Option<Leftover> {
        let mut state = self.state();
        if matches!(state.phase, Phase::Gone { .. }) {
            return None;
        }
        state.phase = Phase::Gone { reason };
        let offered = std::mem::take(&mut state.offered);
        let leftover = Leftover {
            listener: state.listener.take(),
            attached: offered.into_iter().flat_map(|one| one.attached).collect(),
        };
        drop(state);
        self.inner.changed.notify_all();
        Some(leftover)
    }
}

/// For attaching partitions.
impl RemoteProcess {
    /// Says whether it follows the view whose reservation this is.
    pub(crate) fn follows(&self, va: &dyn MappedRegion) -> bool {
        self.inner.view == va.base().addr().get()
    }

    /// Says whether it offers this partition.
    pub(crate) fn offers(&self, partition: &ForwardedPartition) -> bool {
        let state = self.state();
        let mut offered = state.offered.iter();
        offered.any(|one| std::ptr::eq(&*one.partition, partition))
    }

    /// Says whether it is shown all of this, to be written.
    pub(crate) fn is_granted(&self, seen: &[MemoryRange], ram_only: bool) -> bool {
        self.grant().covers(self.granted(), seen, ram_only)
    }

    /// Notes where a partition of its is attached. `false`: it is gone, or the partition is.
    pub(crate) fn note_attached(&self, partition: &ForwardedPartition, id: PartitionId) -> bool {
        let mut state = self.state();
        let mut offered = state.offered.iter_mut();
        let found = offered.find(|one| std::ptr::eq(&*one.partition, partition));
        match found {
            Some(one) if !one.partition.is_gone() => one.attached.push(id),
            _ => return false,
        }
        true
    }
}

impl Inspect for RemoteProcess {
    fn inspect(&self, req: inspect::Request<'_>) {
        let (phase, partitions) = {
            let state = self.state();
            let phase = match &state.phase {
                Phase::Connecting => "connecting".to_owned(),
                Phase::Ready { lazy: false } => "follows".to_owned(),
                Phase::Ready { lazy: true } => "fetches".to_owned(),
                Phase::Gone { reason } => format!("gone: {reason}"),
            };
            let offered = state.offered.iter();
            let offered = offered.map(|one| (one.name.clone(), one.partition.clone()));
            (phase, offered.collect::<Vec<_>>())
        };
        let mut response = req.respond();
        response.field("phase", &phase);
        if self.grant().read_only {
            response.field("read_only", &true);
        }
        if self.grant().ram_only {
            response.field("ram_only", &true);
        }
        response.child("connection", |req| self.inner.peer.inspect(req));
        response.child("partitions", |req| {
            req.by_key(partitions.iter().map(|(name, one)| (name, &**one)));
        });
    }
}

impl fmt::Debug for RemoteProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteProcess")
            .field("name", &self.name())
            .field("ready", &self.is_ready())
            .field("gone", &self.gone())
            .finish_non_exhaustive()
    }
}
