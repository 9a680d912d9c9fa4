//! One client, as the manager sees it.

mod acknowledge;
mod files;
mod incoming;
mod inspection;
mod outgoing;
mod seal;
mod slots;
mod state;
mod view;

pub(super) use state::Event;

use super::eviction::Eviction;
use super::hub::Hub;
use super::message::SlotAdded;
use super::options::PeerOptions;
use memory_range::{Access, MemoryRange};
use sparse_alloc::Backing;
use state::{Phase, State};
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use view::Held;

/// A client that follows the flat view from another process.
///
/// What is to be seen is [shown](Self::show) and [hidden](Self::hide), and slots are
/// [added](Self::add_slot) and [removed](Self::remove_slot), in any order and as often as one likes;
/// [`seal`](Self::seal) makes one change of all that came since the last one, with a number: the *net*
/// difference, so that what was done and undone is not sent. It is sent at once as far as the socket
/// takes it. None of these calls waits for the client or fails: a client that doesn't take what it is
/// sent is evicted at its deadline, or when too much waits for it.
///
/// A client that is gone swallows everything, and counts as having acknowledged everything, so that
/// nobody waits for it.
///
/// A change is made by the client in this order: slots go; ranges change; slots come.
///
/// What can't be shared, [anonymous memory](Backing::Anonymous), is a hole for it. Of
/// [fills](Backing::Zeros) each process has its own pages: what one writes there, no other reads.
pub struct Peer {
    id: u64,
    hub: Arc<Hub>,
    /// What is in `state`, to be looked at without the lock; `u64::MAX` when it is gone.
    acknowledged: AtomicU64,
    state: Mutex<State>,
    /// For those who wait while another one who waits reads from the socket: it has read, or goes.
    changed: Condvar,
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Peer")
            .field("client", &state.client)
            .field("phase", &state.phase)
            .field("sealed", &state.sealed)
            .field("acknowledged", &state.acknowledged)
            .finish_non_exhaustive()
    }
}

/// # What it is to see
impl Peer {
    /// Shows `backing` from `offset` on in a range of the guest's addresses, in the place of what is
    /// there, from the next [seal](Self::seal) on.
    ///
    /// A client that may only read gets no more than that. An empty range changes nothing.
    pub fn show(&self, range: MemoryRange, backing: &Backing, offset: u64, access: Access) {
        let mut state = self.lock();
        if !state.takes_changes() || range.is_empty() {
            return;
        }
        let read_only = state.options.read_only;
        if !is_shareable(backing, read_only) {
            state.view.hide(range);
            return;
        }
        let access = Access::from_writable(access.is_writable() && !read_only);
        let held = Held::new(backing, offset, access);
        state.view.show(range, held);
    }

    /// Shows nothing in a range any more, from the next [seal](Self::seal) on.
    pub fn hide(&self, range: MemoryRange) {
        let mut state = self.lock();
        if state.takes_changes() {
            state.view.hide(range);
        }
    }

    /// Adds a slot to a partition that the client has offered: its addresses `range` show the guest's
    /// addresses from `gpa` on. A partition that it hasn't offered, or has taken back, is passed over.
    pub fn add_slot(
        &self,
        partition: u32,
        range: MemoryRange,
        gpa: u64,
        access: Access,
        executable: bool,
    ) {
        let mut state = self.lock();
        if state.takes_changes() && state.partitions.contains_key(&partition) {
            state.slots.add(SlotAdded {
                partition,
                range,
                gpa,
                writable: access.is_writable(),
                executable,
            });
        }
    }

    /// Removes the slot with exactly this range, if there is one.
    pub fn remove_slot(&self, partition: u32, range: MemoryRange) {
        let mut state = self.lock();
        if state.takes_changes() && state.partitions.contains_key(&partition) {
            state.slots.remove(partition, range);
        }
    }

    /// Makes one change of all that came since the last seal, and sends what the socket takes.
    ///
    /// Returns the number of the change, one more than the last one's; the first is 1. `None` when
    /// nothing is to be sent: the client is gone, or has what it is to have. Only the first one is
    /// sent in any case, to tell the client that it knows all there is. Before the client has greeted,
    /// the change becomes its first when it does.
    pub fn seal(&self) -> Option<u64> {
        let mut state = self.lock();
        let now = Instant::now();
        let sequence = state.seal(now);
        state.flush(now);
        self.settle(state);
        sequence
    }

    /// Returns the number of the last change; 0 if there was none.
    pub fn last_sealed(&self) -> u64 {
        self.lock().sealed
    }
}

/// # The connection
impl Peer {
    pub(super) fn new(
        id: u64,
        socket: OwnedFd,
        options: PeerOptions,
        space: u64,
        hub: Arc<Hub>,
    ) -> Arc<Self> {
        let state = State::new(id, socket, options, space, Arc::clone(&hub), Instant::now());
        Arc::new(Self {
            id,
            hub,
            acknowledged: AtomicU64::new(0),
            state: Mutex::new(state),
            changed: Condvar::new(),
        })
    }

    /// Returns the client's name as it has greeted, of at most 64 bytes; empty before.
    pub fn client_name(&self) -> String {
        self.lock().client.clone()
    }

    /// Ends the connection. The client is told the reason, where it still can be told; the owner by
    /// [`RemoteEvent::Left`](crate::remote::RemoteEvent::Left). Nothing happens if it is gone.
    pub fn evict(&self, reason: impl Into<String>) {
        let reason = reason.into();
        let mut state = self.lock();
        state.evict(Eviction::Detached { reason });
        self.settle(state);
    }

    /// Returns why the client is gone, if it is.
    pub fn is_gone(&self) -> Option<Arc<Eviction>> {
        self.lock().gone().cloned()
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Makes the epoll instance watch the socket.
    pub(super) fn watch(&self) -> std::io::Result<()> {
        let state = self.lock();
        state.watch()?;
        self.settle(state);
        Ok(())
    }

    /// Does what is to be done now, and returns what the owner is to be told.
    pub(super) fn serve(&self) -> Vec<Event> {
        let mut state = self.lock();
        let now = Instant::now();
        let more = !state.reading && state.receive(now);
        state.flush(now);
        state.check_deadlines(now);
        let events = std::mem::take(&mut state.events);
        self.settle(state);
        if more {
            self.hub.notice(self.id);
        }
        events
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No call of this crate panics half way through a change of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells everyone concerned what has become of the state.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        let acknowledged = match state.phase {
            Phase::Gone(_) => u64::MAX,
            Phase::Greeting | Phase::Live => state.acknowledged,
        };
        let mut awaited = Vec::new();
        if acknowledged != self.acknowledged.load(Ordering::Relaxed) {
            self.acknowledged.store(acknowledged, Ordering::Release);
            let due = state.wakers.extract_if(.., |(of, _)| *of <= acknowledged);
            awaited.extend(due.map(|(_, waker)| waker));
        }
        state.update_interest();
        // Before the lock is released: whoever resets the timer looks at all peers afterwards.
        if let Some(at) = state.next_deadline() {
            self.hub.wake_by(at);
        }
        let has_events = !state.events.is_empty();
        drop(state);
        for waker in awaited {
            waker.wake();
        }
        if has_events {
            self.hub.notice(self.id);
        }
    }
}

impl State {
    /// Whether changes are kept; one that comes now ends a change that was sealed too early.
    fn takes_changes(&mut self) -> bool {
        self.sealed_early = false;
        self.gone().is_none()
    }
}

/// Whether another process can have it.
fn is_shareable(backing: &Backing, read_only: bool) -> bool {
    match backing {
        Backing::Mappable(file) => !read_only || matches!(file.len(), Ok(Some(_))),
        Backing::Zeros | Backing::Ones => true,
        Backing::Anonymous => false,
    }
}
