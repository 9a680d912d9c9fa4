//! Takes a plan's steps, and takes them back when one fails.

use crate::call::Call;
use crate::damage::Damage;
use crate::error::{StepFailure, UndoFailure};
use crate::listener::{ListenerError, ListenerId, RegionListener, SlotChange};
use crate::{BackingHandle, FlatView, MappingSink, Plan, Slot};
use memory_range::MemoryRange;
use std::borrow::Cow;

/// A listener with its id, as the manager holds it.
pub(crate) struct Registered {
    pub(crate) id: ListenerId,
    pub(crate) listener: Box<dyn RegionListener>,
}

/// A plan that was broken off.
pub(crate) struct Broken<B: BackingHandle> {
    pub(crate) failure: Box<StepFailure>,
    /// What could not be undone.
    pub(crate) damage: Vec<Damage<B>>,
}

/// The neighbours that a plan is carried out on.
pub(crate) struct Neighbours<'a, B> {
    pub(crate) sink: &'a mut dyn MappingSink<B>,
    pub(crate) listeners: &'a mut [Registered],
}

/// A listener refused before anything was changed: nothing needs to be undone.
fn before_anything<B: BackingHandle>(
    step: &str,
    range: MemoryRange,
    who: &Registered,
    cause: ListenerError,
) -> Broken<B> {
    Broken {
        failure: Box::new(StepFailure {
            step: step.to_owned(),
            range,
            who: who.listener.name().to_owned(),
            undo: Vec::new(),
            cause,
        }),
        damage: Vec::new(),
    }
}

/// Whether a host address operation may draw on what is held back for undoing.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Direction {
    Forward,
    Undo,
}

impl<B: BackingHandle> Neighbours<'_, B> {
    /// Carries out a plan. `view` is the view from before.
    ///
    /// On failure, all the calls that had succeeded are undone, in the opposite order; what
    /// cannot be undone is in the error's damage.
    pub(crate) fn carry_out(
        &mut self,
        plan: &Plan<B>,
        view: &FlatView<B>,
    ) -> Result<(), Broken<B>> {
        let ids: Vec<ListenerId> = self.listeners.iter().map(|one| one.id).collect();
        let removes = plan
            .removed
            .iter()
            .flat_map(|slot| ids.iter().rev().map(|id| Call::Remove(*id, *slot)));
        let va_ops = plan.va_ops.iter().map(|op| Call::Va(Cow::Borrowed(op)));
        let replaced = plan
            .replaced
            .iter()
            .flat_map(|range| ids.iter().map(|id| Call::Replaced(*id, *range)));
        let adds = plan
            .added
            .iter()
            .flat_map(|slot| ids.iter().map(|id| Call::Add(*id, *slot)));
        let calls = removes.chain(va_ops).chain(replaced).chain(adds);
        let change = SlotChange::new(&plan.removed, &plan.added, &plan.gaps);
        self.check(&change)?;
        if plan.gaps.is_empty() {
            return self.run(calls, view, &plan.replaced);
        }
        self.pause(&change)?;
        let done = self.run(calls, view, &plan.replaced);
        self.resume(ids.len());
        done
    }

    /// Asks every listener that slots are taken from or given to whether it could follow.
    fn check(&mut self, change: &SlotChange<'_>) -> Result<(), Broken<B>> {
        let mut slots = change.removed().iter().chain(change.added());
        let Some(range) = slots.next().map(|slot| slot.range) else {
            return Ok(());
        };
        for one in &mut *self.listeners {
            one.listener
                .check(change)
                .map_err(|cause| before_anything("check the change", range, one, cause))?;
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
                let broken = before_anything("pause", range, one, cause);
                self.resume(index);
                return Err(broken);
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
        self.run(calls, &FlatView::default(), &[])
    }

    /// Makes calls until one fails, and then undoes those made.
    ///
    /// The journal is the iterator itself: which calls were made is how many.
    fn run<'c>(
        &mut self,
        calls: impl Iterator<Item = Call<'c, B>> + Clone,
        view: &FlatView<B>,
        replaced: &[MemoryRange],
    ) -> Result<(), Broken<B>> {
        for (made, call) in calls.clone().enumerate() {
            if let Err(cause) = self.make(&call, Direction::Forward) {
                let made = calls.take(made).collect();
                let (damage, undo) = self.undo(made, view, replaced);
                let failure = StepFailure {
                    step: call.describe(),
                    range: call.range(),
                    who: self.name_of(&call),
                    undo,
                    cause,
                };
                return Err(Broken {
                    failure: Box::new(failure),
                    damage,
                });
            }
        }
        Ok(())
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
        let mut back: Vec<Call<'static, B>> = Vec::new();
        for call in made.into_iter().rev() {
            match call {
                Call::Add(id, slot) => back.push(Call::Remove(id, slot)),
                Call::Remove(id, slot) => back.push(Call::Add(id, slot)),
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
        let pending = std::mem::take(damage);
        self.make_or_leave(pending.into_iter().map(|one| one.call), damage);
    }

    fn make(&mut self, call: &Call<'_, B>, direction: Direction) -> Result<(), ListenerError> {
        match call {
            Call::Va(op) if direction == Direction::Forward => self.sink.apply(op),
            Call::Va(op) => self.sink.undo(op),
            Call::Remove(id, slot) => self.with(*id, |listener| listener.remove(slot)),
            Call::Add(id, slot) => self.with(*id, |listener| listener.add(slot)),
            Call::Replaced(id, range) => {
                self.with(*id, |listener| listener.contents_replaced(*range))
            }
        }
    }

    fn with(
        &mut self,
        id: ListenerId,
        call: impl FnOnce(&mut dyn RegionListener) -> Result<(), ListenerError>,
    ) -> Result<(), ListenerError> {
        match self.listeners.iter_mut().find(|one| one.id == id) {
            Some(one) => call(one.listener.as_mut()),
            // Gone since: it holds nothing that could be taken or given.
            None => Ok(()),
        }
    }

    fn name_of(&self, call: &Call<'_, B>) -> String {
        match call.listener() {
            None => "the VA mapper".to_owned(),
            Some(id) => self
                .listeners
                .iter()
                .find(|one| one.id == id)
                .map_or_else(String::new, |one| one.listener.name().to_owned()),
        }
    }
}
