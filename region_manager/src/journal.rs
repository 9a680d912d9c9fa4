//! Takes a plan's steps, and takes them back when one fails.

use crate::call::Call;
use crate::damage::Damage;
use crate::dma::Followed;
use crate::dma_failures::DmaFailures;
use crate::error::{StepFailure, UndoFailure};
use crate::listener::{ListenerError, ListenerId, SlotChange};
use crate::neighbours::{Direction, Neighbours, refused_before};
use crate::{BackingHandle, FlatView, Plan, Slot, SubMapping};
use memory_range::MemoryRange;
use std::borrow::Cow;

/// A plan that was broken off.
pub(crate) struct Broken<B: BackingHandle> {
    pub(crate) failure: Box<StepFailure>,
    /// What could not be undone.
    pub(crate) damage: Vec<Damage<B>>,
}

impl<B: BackingHandle> From<StepFailure> for Broken<B> {
    /// Nothing was changed, and so nothing needs to be undone.
    fn from(failure: StepFailure) -> Self {
        Self {
            failure: Box::new(failure),
            damage: Vec::new(),
        }
    }
}

/// The calls that carry out a plan, in order. What a DMA listener could not map it is not asked to
/// unmap.
fn calls<'c, B: BackingHandle>(
    plan: &'c Plan<B>,
    slot_ids: &'c [ListenerId],
    dma_ids: &'c [ListenerId],
    failures: &'c DmaFailures<B>,
) -> impl Iterator<Item = Call<'c, B>> + Clone {
    let removes = plan
        .removed
        .iter()
        .flat_map(|slot| slot_ids.iter().rev().map(|id| Call::Remove(*id, *slot)));
    let unmaps = plan.dma_removed.iter().flat_map(move |mapping| {
        let holders = dma_ids.iter().rev();
        holders
            .filter(|id| !failures.contains(**id, mapping))
            .map(|id| Call::Unmap(*id, Cow::Borrowed(mapping)))
    });
    let va_ops = plan.va_ops.iter().map(|op| Call::Va(Cow::Borrowed(op)));
    let replaced = plan
        .replaced
        .iter()
        .flat_map(|range| slot_ids.iter().map(|id| Call::Replaced(*id, *range)));
    let maps = plan.dma_added.iter().flat_map(|mapping| {
        dma_ids
            .iter()
            .map(|id| Call::Map(*id, Cow::Borrowed(mapping)))
    });
    let adds = plan
        .added
        .iter()
        .flat_map(|slot| slot_ids.iter().map(|id| Call::Add(*id, *slot)));
    removes
        .chain(unmaps)
        .chain(va_ops)
        .chain(replaced)
        .chain(maps)
        .chain(adds)
}

impl<B: BackingHandle> Neighbours<B> {
    /// Carries out a plan. `view` is the view from before.
    ///
    /// On failure, all the calls that had succeeded are undone, in the opposite order; what
    /// cannot be undone is in the error's damage.
    pub(crate) fn carry_out(
        &mut self,
        plan: &Plan<B>,
        view: &FlatView<B>,
    ) -> Result<(), Broken<B>> {
        let change = SlotChange::new(&plan.removed, &plan.added, &plan.gaps);
        for one in &mut self.listeners {
            one.check(&change)?;
        }
        for one in &mut self.dma {
            one.check(&plan.dma_removed, &plan.dma_added)?;
        }
        if !plan.has_gaps() {
            return self.run_plan(plan, view);
        }
        self.pause(&change)?;
        let done = self.run_plan(plan, view);
        self.resume(self.listeners.len());
        done
    }

    fn run_plan(&mut self, plan: &Plan<B>, view: &FlatView<B>) -> Result<(), Broken<B>> {
        self.acted |= plan.step_count() != 0;
        let mut made = 0_usize;
        let done = match self.take_steps(plan, &mut made) {
            Ok(()) => {
                for mapping in &plan.dma_removed {
                    for one in &self.dma {
                        self.failures.remove(one.id, mapping);
                    }
                }
                self.finish(Followed::Completed);
                Ok(())
            }
            Err(cause) => {
                let slot_ids: Vec<ListenerId> = self.listeners.iter().map(|one| one.id).collect();
                let dma_ids: Vec<ListenerId> = self.dma.iter().map(|one| one.id).collect();
                let failures = std::mem::take(&mut self.failures);
                let calls = calls(plan, &slot_ids, &dma_ids, &failures);
                let broken = self.break_off(calls, made, cause, view, &plan.replaced);
                self.failures = failures;
                Err(broken)
            }
        };
        self.keep_refused();
        done
    }

    /// Makes the calls of a plan, in the order of [`calls`], until one fails; counts those made.
    ///
    /// Loops rather than that iterator, because the calls themselves can take less time than finding
    /// out which is next.
    fn take_steps(&mut self, plan: &Plan<B>, made: &mut usize) -> Result<(), ListenerError> {
        let mut count =
            |result: Result<(), ListenerError>| result.map(|()| *made = made.saturating_add(1));
        for slot in &plan.removed {
            for one in self.listeners.iter_mut().rev() {
                count(one.listener.remove(slot))?;
            }
        }
        for mapping in &plan.dma_removed {
            for one in self.dma.iter_mut().rev() {
                if !self.failures.contains(one.id, mapping) {
                    count(one.unmap(mapping))?;
                }
            }
        }
        for op in &plan.va_ops {
            count(self.sink.apply(op))?;
        }
        for range in &plan.replaced {
            for one in &mut self.listeners {
                count(one.listener.contents_replaced(*range))?;
            }
        }
        for mapping in &plan.dma_added {
            for one in &mut self.dma {
                count(one.map_or_refuse(mapping, &mut self.refused))?;
            }
        }
        for slot in &plan.added {
            for one in &mut self.listeners {
                count(one.listener.add(slot))?;
            }
        }
        Ok(())
    }

    /// Has every listener keep the gaps out of sight, or none.
    fn pause(&mut self, change: &SlotChange<'_>) -> Result<(), Broken<B>> {
        let range = change.gaps().first().copied().unwrap_or_default();
        for index in 0..self.listeners.len() {
            let Some(one) = self.listeners.get_mut(index) else {
                break;
            };
            if let Err(cause) = one.listener.pause(change) {
                let failure = refused_before("pause", range, one.name(), cause);
                self.resume(index);
                return Err(failure.into());
            }
        }
        Ok(())
    }

    /// Ends the pause of the first `count` listeners, the last one first.
    fn resume(&mut self, count: usize) {
        for one in self.listeners.iter_mut().take(count).rev() {
            one.listener.resume();
        }
    }

    /// Gives a listener the slots that there are.
    pub(crate) fn replay(&mut self, id: ListenerId, slots: &[Slot]) -> Result<(), Broken<B>> {
        let calls = slots.iter().map(|slot| Call::Add(id, *slot));
        self.run(calls)
    }

    /// Gives a DMA listener the sub-mappings that there are.
    pub(crate) fn replay_dma<'c>(
        &mut self,
        id: ListenerId,
        mappings: impl Iterator<Item = &'c SubMapping<B>> + Clone,
    ) -> Result<(), Broken<B>> {
        let calls = mappings.map(|mapping| Call::Map(id, Cow::Borrowed(mapping)));
        let done = self.run(calls);
        self.keep_refused();
        done
    }

    /// Makes calls until one fails, and then undoes those made. Says to DMA listeners that it is
    /// over.
    fn run<'c>(&mut self, calls: impl Iterator<Item = Call<'c, B>> + Clone) -> Result<(), Broken<B>>
    where
        B: 'c,
    {
        for (made, call) in calls.clone().enumerate() {
            if let Err(cause) = self.make(&call, Direction::Forward) {
                return Err(self.break_off(calls, made, cause, &FlatView::default(), &[]));
            }
        }
        self.finish(Followed::Completed);
        Ok(())
    }

    /// Undoes the first calls of which the next one failed. Says to DMA listeners that it is over.
    ///
    /// The journal is the iterator itself: which calls were made is how many.
    fn break_off<'c>(
        &mut self,
        mut calls: impl Iterator<Item = Call<'c, B>>,
        made: usize,
        cause: ListenerError,
        view: &FlatView<B>,
        replaced: &[MemoryRange],
    ) -> Broken<B>
    where
        B: 'c,
    {
        let done: Vec<Call<'c, B>> = calls.by_ref().take(made).collect();
        let (damage, undo) = self.undo(done, view, replaced);
        self.finish(Followed::Undone);
        let failed = calls.next();
        let failure = StepFailure {
            step: failed.as_ref().map(Call::describe).unwrap_or_default(),
            range: failed.as_ref().map(Call::range).unwrap_or_default(),
            who: failed.map(|call| self.name_of(&call)).unwrap_or_default(),
            undo,
            cause,
        };
        Broken {
            failure: Box::new(failure),
            damage,
        }
    }

    /// Undoes calls in the opposite order. One that fails doesn't stop the others.
    ///
    /// Where contents under slots that stay were `replaced`, every listener hears that they
    /// are replaced again once the former ones are back: also the one that had refused, since
    /// its pins went with the first replacement.
    fn undo(
        &mut self,
        made: Vec<Call<'_, B>>,
        view: &FlatView<B>,
        replaced: &[MemoryRange],
    ) -> (Vec<Damage<B>>, Vec<UndoFailure>) {
        let ids: Vec<ListenerId> = self.listeners.iter().map(|one| one.id).collect();
        // What was refused on the way there need not be unmapped on the way back.
        let mut refused = std::mem::take(&mut self.refused);
        let mut back: Vec<Call<'static, B>> = Vec::new();
        for call in made.into_iter().rev() {
            match call {
                Call::Add(id, slot) => back.push(Call::Remove(id, slot)),
                Call::Remove(id, slot) => back.push(Call::Add(id, slot)),
                Call::Map(id, mapping) => {
                    if !refused.remove(id, &mapping) {
                        back.push(Call::Unmap(id, Cow::Owned(mapping.into_owned())));
                    }
                }
                Call::Unmap(id, mapping) => {
                    back.push(Call::Map(id, Cow::Owned(mapping.into_owned())));
                }
                Call::Replaced(..) => {}
                Call::Va(op) => {
                    let inverse = op.inverse(view).into_iter();
                    back.extend(inverse.map(|op| Call::Va(Cow::Owned(op))));
                    let under_slots = replaced.iter().filter(|range| op.range().contains(range));
                    back.extend(
                        under_slots
                            .flat_map(|range| ids.iter().map(|id| Call::Replaced(*id, *range))),
                    );
                }
            }
        }

        let mut damage = Vec::new();
        self.make_or_leave(back, &mut damage);
        let failures = damage.iter().map(Damage::as_failure).collect();
        (damage, failures)
    }

    /// Makes calls that restore an earlier state, in order, and leaves those that fail in
    /// `damage`.
    ///
    /// A call that would build on one that was left is left, too: a slot is not given again over
    /// host addresses that don't show what they should, so that a guest finds nothing there
    /// rather than the wrong memory.
    fn make_or_leave(
        &mut self,
        calls: impl IntoIterator<Item = Call<'static, B>>,
        damage: &mut Vec<Damage<B>>,
    ) {
        for call in calls {
            let blocked = damage
                .iter()
                .any(|left| left.call.range().overlaps(&call.range()));
            let cause = if blocked {
                "an earlier step there failed".to_owned()
            } else {
                match self.make(&call, Direction::Undo) {
                    Ok(()) => continue,
                    Err(cause) => cause.to_string(),
                }
            };
            let who = self.name_of(&call);
            damage.push(Damage { call, who, cause });
        }
    }

    /// Makes the calls again that an earlier undo had to leave, the oldest first; keeps those that
    /// fail again.
    pub(crate) fn repair(&mut self, damage: &mut Vec<Damage<B>>) {
        if damage.is_empty() {
            return;
        }
        self.acted = true;
        let pending = std::mem::take(damage);
        self.make_or_leave(pending.into_iter().map(|one| one.call), damage);
        self.keep_refused();
        self.finish(Followed::Undone);
    }
}
