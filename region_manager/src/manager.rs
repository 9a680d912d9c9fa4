//! The regions of one view, and everyone who follows it.

use crate::change_lock::{ChangeGuard, ChangeLock, LockError};
use crate::damage::{self, Damage};
use crate::diff::Difference;
use crate::dma::{DmaFailure, DmaListener, SubMapping};
use crate::error::{AddListenerError, CommitError, RemoveListenerError};
use crate::ledger::Ledger;
use crate::listener::{ListenerId, RegionListener};
use crate::neighbours::{Neighbours, Registered, RegisteredDma};
use crate::plan::Present;
use crate::reason::Reason;
use crate::table::{Edits, RegionTable};
use crate::{BackingHandle, FlatView, MappingSink, Plan, Slot, Transaction};
use inspect::Inspect;
use memory_range::{InvalidRange, MemoryRange};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A change of as many steps is timed, whatever else is said: beside them two looks at the clock are
/// nothing.
const TIMED_STEPS: usize = 8;

/// Owns the regions of one flat view, and keeps a sink and any number of listeners in step.
///
/// All methods take `&self` and may be called from any thread; changes wait for one another.
pub struct RegionManager<B: BackingHandle> {
    state: ChangeLock<State<B>>,
    pub(crate) time_changes: Arc<AtomicBool>,
    /// In nanoseconds.
    inspection_hold: AtomicU64,
}

pub(crate) struct State<B: BackingHandle> {
    pub(crate) table: RegionTable<B>,
    /// Of the transaction that is open.
    pub(crate) edits: Edits<B>,
    pub(crate) view: FlatView<B>,
    pub(crate) slots: Ledger<Slot>,
    /// Kept only while there are DMA listeners.
    pub(crate) dma: Option<Ledger<SubMapping<B>>>,
    pub(crate) neighbours: Neighbours<B>,
    next_listener: u64,
    pub(crate) damage: Vec<Damage<B>>,
    pub(crate) counters: Counters,
    pub(crate) last_plan: Option<Arc<Plan<B>>>,
    /// Why there was the last plan.
    pub(crate) last_reason: Reason,
    /// How long carrying it out took, if anybody wanted to know.
    pub(crate) last_took: Option<Duration>,
    pub(crate) last_failure: Option<Arc<Failed>>,
    time_changes: Arc<AtomicBool>,
    /// The plan before the last, whose memory the next one takes if nobody looks at it any more.
    spare_plan: Arc<Plan<B>>,
    /// Memory for the next change.
    differences: Vec<Difference<B>>,
}

/// The last change that failed.
#[derive(Inspect)]
pub(crate) struct Failed {
    reason: String,
    error: String,
}

/// What has happened so far.
#[derive(Copy, Clone, Default, Inspect)]
pub(crate) struct Counters {
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
        let time_changes = Arc::new(AtomicBool::new(false));
        Ok(Self {
            time_changes: time_changes.clone(),
            inspection_hold: AtomicU64::new(0),
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
                last_reason: Reason::default(),
                last_took: None,
                last_failure: None,
                time_changes,
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

    /// Says whether inspection shall tell how long the last change took, however small it was.
    ///
    /// Off at first, and then only changes of eight steps or more are timed: two looks at the clock cost
    /// more than most of what else a small change does. Inspection can switch it, as `time_changes`.
    pub fn time_changes(&self, time: bool) {
        self.time_changes.store(time, Ordering::Relaxed);
    }

    /// Tells for how long at a time, at most, changes had to wait for the last inspection.
    ///
    /// Not in the tree, where it would make two trees of the same state differ.
    pub fn inspection_hold(&self) -> Duration {
        Duration::from_nanos(self.inspection_hold.load(Ordering::Relaxed))
    }

    pub(crate) fn note_inspection(&self, held: Duration) {
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        self.inspection_hold.store(held, Ordering::Relaxed);
    }

    pub(crate) fn let_others(&self) {
        self.state.let_others();
    }

    pub(crate) fn read(&self) -> Result<ChangeGuard<'_, State<B>>, LockError> {
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
                self.last_reason = self.edits.reason;
                let last = self.last_plan.replace(next.clone());
                self.spare_plan = last.unwrap_or_default();
                Ok(next)
            }
            Err(error) => {
                self.spare_plan = next;
                self.counters.failed_changes += 1;
                self.last_failure = Some(Arc::new(self.failed(&error)));
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
        let timed = plan.step_count() >= TIMED_STEPS || self.time_changes.load(Ordering::Relaxed);
        let since = timed.then(Instant::now);
        let done = self.neighbours.carry_out(plan, &self.view);
        let took = since.map(|since| since.elapsed());
        if let Err(broken) = done {
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
        self.last_took = took;
        self.counters.changes += 1;
        self.counters.va_ops += plan.va_ops.len() as u64;
        self.counters.dma_unmapped += plan.dma_removed.len() as u64;
        self.counters.dma_mapped += plan.dma_added.len() as u64;
        self.counters.slots_removed += plan.removed.len() as u64;
        self.counters.slots_added += plan.added.len() as u64;
        Ok(())
    }

    /// Describes a change that failed. The regions are still as edited.
    fn failed(&self, error: &CommitError) -> Failed {
        let name = |id| Some(self.table.get(id).ok()?.name.clone());
        let mut text = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        Failed {
            reason: self.edits.reason.describe(name),
            error: text,
        }
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
