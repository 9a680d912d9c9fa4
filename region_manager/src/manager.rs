//! The regions of one view, and everyone who follows it.

use crate::change_lock::{ChangeGuard, ChangeLock, LockError};
use crate::damage::{self, Damage};
use crate::diff::Difference;
use crate::dma::{DmaFailure, DmaListener, InspectDma, SubMapping};
use crate::error::{AddListenerError, CommitError, RemoveListenerError};
use crate::ledger::Ledger;
use crate::listener::{InspectListener, ListenerId, RegionListener};
use crate::neighbours::{Neighbours, Registered, RegisteredDma};
use crate::plan::Present;
use crate::table::{Edits, RegionTable};
use crate::{BackingHandle, FlatView, MappingSink, Plan, Slot, Transaction};
use inspect::Inspect;
use memory_range::{InvalidRange, MemoryRange};
use std::sync::Arc;

/// Owns the regions of one flat view, and keeps a sink and any number of listeners in step.
///
/// All methods take `&self` and may be called from any thread; changes wait for one another.
pub struct RegionManager<B: BackingHandle> {
    state: ChangeLock<State<B>>,
}

pub(crate) struct State<B: BackingHandle> {
    pub(crate) table: RegionTable<B>,
    /// Of the transaction that is open.
    pub(crate) edits: Edits<B>,
    view: FlatView<B>,
    slots: Ledger<Slot>,
    /// Kept only while there are DMA listeners.
    dma: Option<Ledger<SubMapping<B>>>,
    neighbours: Neighbours<B>,
    next_listener: u64,
    damage: Vec<Damage<B>>,
    counters: Counters,
    last_plan: Option<Arc<Plan<B>>>,
    /// The plan before the last, whose memory the next one takes if nobody looks at it any more.
    spare_plan: Arc<Plan<B>>,
    /// Memory for the next change.
    differences: Vec<Difference<B>>,
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
    dma_unmapped: u64,
    #[inspect(counter)]
    dma_mapped: u64,
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
                edits: Edits::default(),
                view: FlatView::default(),
                slots: Ledger::default(),
                dma: None,
                neighbours: Neighbours::new(sink),
                next_listener: 0,
                damage: Vec::new(),
                counters: Counters::default(),
                last_plan: None,
                spare_plan: Arc::default(),
                differences: Vec::new(),
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
        state.repair()?;
        let id = state.next_listener();
        let neighbours = &mut state.neighbours;
        neighbours.listeners.push(Registered { id, listener });
        let slots: Vec<Slot> = state.slots.iter().copied().collect();
        // What can't be taken from it again goes with it: it is the listener that must let go
        // when it is dropped.
        if let Err(broken) = neighbours.replay(id, &slots) {
            neighbours.listeners.retain(|one| one.id != id);
            return Err((*broken.failure).into());
        }
        Ok(id)
    }

    /// Registers a DMA listener and has it map every sub-mapping there is.
    ///
    /// While there is no DMA listener, no sub-mappings are kept, and changes cost nothing for them.
    ///
    /// # Errors
    ///
    /// The listener could not map RAM: what it had mapped is unmapped again, and it is dropped. Or
    /// an earlier change is not undone yet in some range. Device memory that it could not map is no
    /// error, and is among the [`dma_failures`](Self::dma_failures).
    pub fn add_dma_listener(
        &self,
        listener: Box<dyn DmaListener<B>>,
    ) -> Result<ListenerId, AddListenerError> {
        let mut state = self.state.lock()?;
        let state = &mut *state;
        state.repair()?;
        let id = state.next_listener();
        let ledger = match state.dma.take() {
            Some(ledger) => ledger,
            None => state.sub_mappings(),
        };
        let neighbours = &mut state.neighbours;
        neighbours.dma.push(RegisteredDma::new(id, listener));
        let done = neighbours.replay_dma(id, ledger.iter());
        state.dma = Some(ledger);
        if let Err(broken) = done {
            state.take_dma_listener(id);
            return Err((*broken.failure).into());
        }
        Ok(id)
    }

    /// Takes a listener of either sort out and has it give up what it holds.
    ///
    /// # Errors
    ///
    /// No listener has this id; or it could not give up some of what it held, and is gone all the
    /// same.
    pub fn remove_listener(&self, id: ListenerId) -> Result<(), RemoveListenerError> {
        let mut state = self.state.lock()?;
        let state = &mut *state;
        let listeners = &mut state.neighbours.listeners;
        // Still under the lock, so that no change runs while it lets go.
        let (name, detached) = match listeners.iter().position(|one| one.id == id) {
            Some(index) => {
                let listener = listeners.remove(index).listener;
                (listener.name().to_owned(), listener.detach())
            }
            None => {
                let found = state.take_dma_listener(id);
                let one = found.ok_or(RemoveListenerError::Unknown { id: id.0 })?;
                (one.listener.name().to_owned(), one.listener.detach())
            }
        };
        state.damage.retain(|one| one.call.listener() != Some(id));
        detached.map_err(|source| RemoveListenerError::Detach { name, source })
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
        Ok(self.read()?.slots.iter().copied().collect())
    }

    /// Copies the list of sub-mappings that DMA listeners hold, but for the
    /// [`dma_failures`](Self::dma_failures). Empty where there is no DMA listener.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn sub_mappings(&self) -> Result<Vec<SubMapping<B>>, LockError> {
        let state = self.read()?;
        Ok(state.dma.iter().flat_map(Ledger::iter).cloned().collect())
    }

    /// Lists the device memory that DMA listeners could not map, by listener and address.
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn dma_failures(&self) -> Result<Vec<DmaFailure<B>>, LockError> {
        Ok(self.read()?.neighbours.failures.iter().cloned().collect())
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
    /// Plans the open transaction, for whoever only asks.
    pub(crate) fn plan(&self) -> Plan<B> {
        let mut dirty = self.edits.dirty.clone();
        dirty.sort_unstable();
        let mut plan = Plan::default();
        let mut differences = Vec::new();
        plan.compute(&mut differences, &self.table, &self.present(), &dirty);
        plan
    }

    fn present(&self) -> Present<'_, B> {
        Present {
            view: &self.view,
            slots: &self.slots,
            dma: self.dma.as_ref(),
        }
    }

    /// Plans, applies, and publishes the open transaction. The regions are as edited; the caller
    /// takes the edits back if this fails.
    pub(crate) fn commit(&mut self) -> Result<Arc<Plan<B>>, CommitError> {
        let mut next = std::mem::take(&mut self.spare_plan);
        if Arc::strong_count(&next) > 1 {
            next = Arc::default();
        }
        let mut differences = std::mem::take(&mut self.differences);
        self.edits.dirty.sort_unstable();
        let plan = Arc::make_mut(&mut next);
        plan.compute(
            &mut differences,
            &self.table,
            &self.present(),
            &self.edits.dirty,
        );
        let done = self.apply(plan, &differences);
        differences.clear();
        self.differences = differences;
        match done {
            Ok(()) => {
                let last = self.last_plan.replace(next.clone());
                self.spare_plan = last.unwrap_or_default();
                Ok(next)
            }
            Err(error) => {
                self.spare_plan = next;
                self.counters.failed_changes += 1;
                Err(error)
            }
        }
    }

    fn apply(&mut self, plan: &Plan<B>, differences: &[Difference<B>]) -> Result<(), CommitError> {
        if !self.damage.is_empty() {
            self.neighbours.repair(&mut self.damage);
            let slots = plan.removed.iter().chain(&plan.added);
            let dma = plan.dma_removed.iter().chain(&plan.dma_added);
            let ranges = slots
                .map(|slot| slot.range)
                .chain(dma.map(|mapping| mapping.range))
                .chain(differences.iter().map(|difference| difference.range));
            if let Some(range) = damage::in_the_way(&self.damage, ranges) {
                return Err(CommitError::Damaged { range });
            }
        }
        if let Err(broken) = self.neighbours.carry_out(plan, &self.view) {
            self.damage.extend(broken.damage);
            return Err((*broken.failure).into());
        }
        for difference in differences {
            let region = difference
                .attributes()
                .and_then(|new| self.table.get(new.region).ok()?.mapped_range());
            self.view.apply(difference, region.unwrap_or_default());
        }
        self.slots.update::<B>(&plan.removed, &plan.added);
        if let Some(dma) = &mut self.dma {
            dma.update(&plan.dma_removed, &plan.dma_added);
        }
        self.counters.changes += 1;
        self.counters.va_ops += plan.va_ops.len() as u64;
        self.counters.dma_unmapped += plan.dma_removed.len() as u64;
        self.counters.dma_mapped += plan.dma_added.len() as u64;
        self.counters.slots_removed += plan.removed.len() as u64;
        self.counters.slots_added += plan.added.len() as u64;
        Ok(())
    }

    /// Mends what an earlier change left, before a listener is given anything: it must not lie over
    /// host addresses that don't show what the view says.
    fn repair(&mut self) -> Result<(), AddListenerError> {
        self.neighbours.repair(&mut self.damage);
        match self.damage.first() {
            Some(left) => Err(AddListenerError::Damaged {
                range: left.call.range(),
            }),
            None => Ok(()),
        }
    }

    fn next_listener(&mut self) -> ListenerId {
        let id = ListenerId(self.next_listener);
        self.next_listener = self.next_listener.saturating_add(1);
        id
    }

    /// Computes the sub-mappings of the present view.
    fn sub_mappings(&self) -> Ledger<SubMapping<B>> {
        let appeared: Vec<Difference<B>> = self
            .view
            .iter()
            .map(|(range, visible)| Difference::appeared(range, visible))
            .collect();
        let mut ledger = Ledger::default();
        let (mut removed, mut added) = (Vec::new(), Vec::new());
        ledger.plan(&appeared, self.table.borders(), &mut removed, &mut added);
        ledger.update(&removed, &added);
        ledger
    }

    /// Takes a DMA listener out, and the ledger with the last one.
    fn take_dma_listener(&mut self, id: ListenerId) -> Option<RegisteredDma<B>> {
        let neighbours = &mut self.neighbours;
        let index = neighbours.dma.iter().position(|one| one.id == id)?;
        neighbours.failures.forget(id);
        let one = neighbours.dma.remove(index);
        if neighbours.dma.is_empty() {
            self.dma = None;
        }
        Some(one)
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
                for (id, region) in state.table.in_order() {
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
            .child("sub_mappings", |req| {
                let mut response = req.respond();
                for (index, mapping) in state.dma.iter().flat_map(Ledger::iter).enumerate() {
                    response.display(index.to_string(), mapping);
                }
            })
            .child("listeners", |req| {
                let mut response = req.respond();
                for one in &state.neighbours.listeners {
                    let listener = InspectListener(one.listener.as_ref());
                    response.field(format!("{} {}", one.id, one.listener.name()), &listener);
                }
                for one in &state.neighbours.dma {
                    let listener = InspectDma(one.listener.as_ref());
                    response.field(format!("{} {}", one.id, one.listener.name()), &listener);
                }
            })
            .child("dma_failures", |req| {
                let mut response = req.respond();
                for (index, failure) in state.neighbours.failures.iter().enumerate() {
                    response.field(index.to_string(), failure);
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
