//! The regions of one view, and everyone who follows it.

use crate::change_lock::{ChangeGuard, ChangeLock, LockError};
use crate::damage::{self, Damage};
use crate::diff::Difference;
use crate::dma::{DmaFailure, SubMapping};
use crate::error::CommitError;
use crate::ledger::Ledger;
use crate::neighbours::Neighbours;
use crate::plan::{Edited, Present};
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
const TIMED_STEPS: usize = 32;

/// Owns the regions of one flat view, and keeps a sink and any number of listeners in step.
///
/// All methods take `&self` and may be called from any thread; changes wait for one another.
pub struct RegionManager<B: BackingHandle> {
    pub(crate) state: ChangeLock<State<B>>,
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
    pub(crate) next_listener: u64,
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
    spare_plan: Option<Arc<Plan<B>>>,
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
                spare_plan: None,
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
    /// Off at first, and then only changes of 32 steps or more are timed: two looks at the clock cost
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
        let edited = Edited {
            ranges: &dirty,
            winners_stay: !self.edits.winners_change,
        };
        let mut plan = Plan::default();
        let mut differences = Vec::new();
        plan.compute(&mut differences, &self.table, &self.present(), edited);
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
    pub(crate) fn commit(&mut self) -> Result<(), CommitError> {
        let spare = self.spare_plan.take();
        let mut next = spare
            .filter(|plan| Arc::strong_count(plan) == 1)
            .unwrap_or_default();
        let mut differences = std::mem::take(&mut self.differences);
        self.edits.dirty.sort_unstable();
        let edited = Edited {
            ranges: &self.edits.dirty,
            winners_stay: !self.edits.winners_change,
        };
        let plan = Arc::make_mut(&mut next);
        plan.compute(&mut differences, &self.table, &self.present(), edited);
        let done = self.apply(plan, &mut differences);
        self.neighbours.end_change();
        differences.clear();
        self.differences = differences;
        match done {
            Ok(()) => {
                self.last_reason = self.edits.reason;
                self.spare_plan = self.last_plan.replace(next);
                Ok(())
            }
            Err(error) => {
                self.spare_plan = Some(next);
                self.note_failure(&error);
                Err(error)
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn note_failure(&mut self, error: &CommitError) {
        self.counters.failed_changes += 1;
        self.last_failure = Some(Arc::new(self.failed(error)));
    }

    /// Carries a plan out and publishes it. The view takes over the handles in the differences.
    fn apply(
        &mut self,
        plan: &Plan<B>,
        differences: &mut [Difference<B>],
    ) -> Result<(), CommitError> {
        if !self.damage.is_empty() {
            self.mend(plan, differences)?;
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
            let new = difference.new.take();
            self.view
                .apply(difference.range, new, region.unwrap_or_default());
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

    /// Mends what an earlier change left; fails if a plan would work on what cannot be mended.
    #[cold]
    #[inline(never)]
    fn mend(&mut self, plan: &Plan<B>, differences: &[Difference<B>]) -> Result<(), CommitError> {
        self.neighbours.repair(&mut self.damage);
        let slots = plan.removed.iter().chain(&plan.added);
        let dma = plan.dma_removed.iter().chain(&plan.dma_added);
        let ranges = slots
            .map(|slot| slot.range)
            .chain(dma.map(|mapping| mapping.range))
            .chain(differences.iter().map(|difference| difference.range));
        match damage::in_the_way(&self.damage, ranges) {
            Some(range) => Err(CommitError::Damaged { range }),
            None => Ok(()),
        }
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
}
