//! The regions of one view, and everyone who follows it.

use crate::change_lock::{ChangeGuard, ChangeLock, LockError};
use crate::damage::{self, Damage};
use crate::diff::Difference;
use crate::error::{AddListenerError, CommitError, RemoveListenerError};
use crate::journal::{Neighbours, Registered};
use crate::listener::{InspectListener, ListenerId, RegionListener};
use crate::slots::SlotLedger;
use crate::table::RegionTable;
use crate::{BackingHandle, FlatView, MappingSink, Plan, Slot, Transaction};
use inspect::Inspect;
use memory_range::{InvalidRange, MemoryRange, sorted};
use std::sync::Arc;

/// Owns the regions of one flat view, and keeps a sink and any number of listeners in step.
///
/// All methods take `&self` and may be called from any thread; changes wait for one another.
pub struct RegionManager<B: BackingHandle> {
    state: ChangeLock<State<B>>,
}

pub(crate) struct State<B: BackingHandle> {
    pub(crate) table: RegionTable<B>,
    view: FlatView<B>,
    slots: SlotLedger,
    sink: Box<dyn MappingSink<B>>,
    listeners: Vec<Registered>,
    next_listener: u64,
    damage: Vec<Damage<B>>,
    counters: Counters,
    last_plan: Option<Arc<Plan<B>>>,
}

/// What has happened so far.
#[derive(Default, Inspect)]
struct Counters {
    #[inspect(counter)]
    changes: u64,
    #[inspect(counter)]
    failed_changes: u64,
    #[inspect(counter)]
    va_ops: u64,
    #[inspect(counter)]
    slots_removed: u64,
    #[inspect(counter)]
    slots_added: u64,
}

impl<B: BackingHandle> RegionManager<B> {
    /// Makes a manager for guest physical addresses from 0 to `space_len` (exclusive).
    ///
    /// # Errors
    ///
    /// `space_len` is not page aligned.
    pub fn new(space_len: u64, sink: Box<dyn MappingSink<B>>) -> Result<Self, InvalidRange> {
        let space = MemoryRange::try_new(0..space_len)?;
        Ok(Self {
            state: ChangeLock::new(State {
                table: RegionTable::new(space),
                view: FlatView::default(),
                slots: SlotLedger::default(),
                sink,
                listeners: Vec::new(),
                next_listener: 0,
                damage: Vec::new(),
                counters: Counters::default(),
                last_plan: None,
            }),
        })
    }

    /// Begins a change. Waits for a change that another thread is making.
    ///
    /// # Errors
    ///
    /// This thread is inside a change already, or an earlier one was broken off by a panic.
    pub fn transaction(&self) -> Result<Transaction<'_, B>, LockError> {
        Ok(Transaction::new(self.state.lock()?))
    }

    /// Registers a listener and gives it every slot there is.
    ///
    /// # Errors
    ///
    /// The listener refused a slot: those it had been given are taken from it again, and it
    /// is dropped. Or an earlier change is not undone yet in some range.
    pub fn add_listener(
        &self,
        listener: Box<dyn RegionListener>,
    ) -> Result<ListenerId, AddListenerError> {
        let mut state = self.state.lock()?;
        let state = &mut *state;
        // Its slots must not lie over host addresses that don't show what the view says.
        let mut present = Neighbours {
            sink: state.sink.as_mut(),
            listeners: &mut state.listeners,
        };
        present.repair(&mut state.damage);
        if let Some(left) = state.damage.first() {
            let range = left.call.range();
            return Err(AddListenerError::Damaged { range });
        }
        let id = ListenerId(state.next_listener);
        state.next_listener = state.next_listener.saturating_add(1);
        state.listeners.push(Registered { id, listener });
        let slots: Vec<Slot> = state.slots.iter().collect();
        let mut neighbours = Neighbours {
            sink: state.sink.as_mut(),
            listeners: &mut state.listeners,
        };
        // What can't be taken from it again goes with it: it is the listener that must let go
        // when it is dropped.
        if let Err(broken) = neighbours.replay(id, &slots) {
            state.listeners.retain(|one| one.id != id);
            return Err((*broken.failure).into());
        }
        Ok(id)
    }

    /// Takes a listener out and has it give up its slots.
    ///
    /// # Errors
    ///
    /// No listener has this id; or it could not give up some of its slots, and is gone all the
    /// same.
    pub fn remove_listener(&self, id: ListenerId) -> Result<(), RemoveListenerError> {
        let mut state = self.state.lock()?;
        let found = state.listeners.iter().position(|one| one.id == id);
        let Some(index) = found else {
            return Err(RemoveListenerError::Unknown { id: id.0 });
        };
        state.damage.retain(|one| one.call.listener() != Some(id));
        let listener = state.listeners.remove(index).listener;
        let name = listener.name().to_owned();
        // Still under the lock, so that no change runs while its slots go.
        listener
            .detach()
            .map_err(|source| RemoveListenerError::Detach { name, source })
    }

    /// Copies the flat view.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn flat_view(&self) -> Result<FlatView<B>, LockError> {
        Ok(self.read()?.view.clone())
    }

    /// Copies the list of slots that every listener holds.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn slots(&self) -> Result<Vec<Slot>, LockError> {
        Ok(self.read()?.slots.iter().collect())
    }

    /// The ranges that an earlier change could not restore; empty in good health.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn damaged(&self) -> Result<Vec<MemoryRange>, LockError> {
        Ok(self
            .read()?
            .damage
            .iter()
            .map(|one| one.call.range())
            .collect())
    }

    fn read(&self) -> Result<ChangeGuard<'_, State<B>>, LockError> {
        self.state.lock()
    }
}

impl<B: BackingHandle> State<B> {
    pub(crate) fn plan(&self, dirty: &[MemoryRange]) -> (Plan<B>, Vec<Difference<B>>) {
        let dirty = sorted::flatten(dirty);
        Plan::compute(&self.table, &self.view, &self.slots, &dirty)
    }

    /// Plans, applies, and publishes. The regions are as edited; the caller takes the edits
    /// back if this fails.
    pub(crate) fn commit(&mut self, dirty: &[MemoryRange]) -> Result<Arc<Plan<B>>, CommitError> {
        let (plan, differences) = self.plan(dirty);
        let mut neighbours = Neighbours {
            sink: self.sink.as_mut(),
            listeners: &mut self.listeners,
        };
        if !self.damage.is_empty() {
            neighbours.repair(&mut self.damage);
            let slots = plan.removed.iter().chain(&plan.added);
            let ranges = slots
                .map(|slot| slot.range)
                .chain(differences.iter().map(|difference| difference.range));
            if let Some(range) = damage::in_the_way(&self.damage, ranges) {
                self.counters.failed_changes += 1;
                return Err(CommitError::Damaged { range });
            }
        }
        if let Err(broken) = neighbours.carry_out(&plan, &self.view) {
            self.damage.extend(broken.damage);
            self.counters.failed_changes += 1;
            return Err((*broken.failure).into());
        }
        for difference in differences {
            self.view.set(difference.range, difference.new);
        }
        self.slots.update(&plan.removed, &plan.added);
        self.counters.changes += 1;
        self.counters.va_ops += plan.va_ops.len() as u64;
        self.counters.slots_removed += plan.removed.len() as u64;
        self.counters.slots_added += plan.added.len() as u64;
        let plan = Arc::new(plan);
        self.last_plan = Some(plan.clone());
        Ok(plan)
    }
}

impl<B: BackingHandle> Inspect for RegionManager<B> {
    fn inspect(&self, req: inspect::Request<'_>) {
        let state = match self.read() {
            Ok(state) => state,
            Err(error) => return req.value(error.to_string()),
        };
        req.respond()
            .display("address_space", &state.table.space())
            .child("regions", |req| {
                let mut response = req.respond();
                for (id, region) in state.table.iter() {
                    response.field(id.to_string(), region);
                }
            })
            .field("flat_view", &state.view)
            .child("slots", |req| {
                let mut response = req.respond();
                for slot in state.slots.iter() {
                    response.display(slot.range.to_string(), &slot.permissions);
                }
            })
            .field("slot_count", &(state.slots.len() as u64))
            .child("listeners", |req| {
                let mut response = req.respond();
                for one in &state.listeners {
                    let listener = InspectListener(one.listener.as_ref());
                    response.child(format!("{} {}", one.id, one.listener.name()), |req| {
                        listener.inspect(req);
                    });
                }
            })
            .child("damage", |req| {
                let mut response = req.respond();
                for (index, one) in state.damage.iter().enumerate() {
                    response.field(index.to_string(), one);
                }
            })
            .field("counters", &state.counters)
            .field("last_plan", &state.last_plan);
    }
}
