//! Whom the manager tells, and how it reaches them.

use crate::call::Call;
use crate::dma::{DmaFailure, DmaListener, Followed};
use crate::dma_failures::DmaFailures;
use crate::error::StepFailure;
use crate::listener::{ListenerError, ListenerId, RegionListener, SlotChange};
use crate::region::MemoryKind;
use crate::{BackingHandle, MappingSink, SubMapping};
use memory_range::MemoryRange;

/// A slot listener with its id.
pub(crate) struct Registered {
    pub(crate) id: ListenerId,
    pub(crate) listener: Box<dyn RegionListener>,
}

/// A DMA listener with its id.
pub(crate) struct RegisteredDma<B> {
    pub(crate) id: ListenerId,
    pub(crate) listener: Box<dyn DmaListener<B>>,
    /// Whether it unmapped or mapped something since it was last told that a change is over.
    told: bool,
}

/// The neighbours that plans are carried out on.
pub(crate) struct Neighbours<B> {
    pub(crate) sink: Box<dyn MappingSink<B>>,
    pub(crate) listeners: Vec<Registered>,
    pub(crate) dma: Vec<RegisteredDma<B>>,
    /// What DMA listeners go without.
    pub(crate) failures: DmaFailures<B>,
    /// What they refused in the change that is going on.
    pub(crate) refused: DmaFailures<B>,
    pub(crate) end_of_change: Option<EndOfChange>,
    /// Whether anybody was told anything since it was last said that a change is over.
    pub(crate) acted: bool,
}

/// Hears that a change is over.
type EndOfChange = Box<dyn Fn() + Send + Sync>;

/// Whether a host address operation may draw on what is held back for undoing.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Undo,
}

impl Registered {
    /// Asks the listener whether it could follow a change that takes slots or gives some.
    pub(crate) fn check(&mut self, change: &SlotChange<'_>) -> Result<(), StepFailure> {
        let Some(slot) = change.removed().iter().chain(change.added()).next() else {
            return Ok(());
        };
        let checked = self.listener.check(change);
        checked.map_err(|cause| refused_before("check the change", slot.range, self.name(), cause))
    }

    pub(crate) fn name(&self) -> &str {
        self.listener.name()
    }
}

/// A listener refused before anything was changed: nothing needs to be undone.
#[cold]
#[inline(never)]
pub(crate) fn refused_before(
    step: &str,
    range: MemoryRange,
    who: &str,
    cause: ListenerError,
) -> StepFailure {
    StepFailure {
        step: step.to_owned(),
        range,
        who: who.to_owned(),
        undo: Vec::new(),
        cause,
    }
}

impl<B> RegisteredDma<B> {
    pub(crate) fn new(id: ListenerId, listener: Box<dyn DmaListener<B>>) -> Self {
        Self {
            id,
            listener,
            told: false,
        }
    }

    /// Asks the listener whether it could follow a change that unmaps or maps something.
    pub(crate) fn check(
        &mut self,
        removed: &[SubMapping<B>],
        added: &[SubMapping<B>],
    ) -> Result<(), StepFailure> {
        let Some(first) = removed.iter().chain(added).next() else {
            return Ok(());
        };
        let checked = self.listener.check(removed, added);
        checked.map_err(|cause| {
            refused_before("check the change", first.range, self.listener.name(), cause)
        })
    }

    /// The same for one that is new and shall map all that there is.
    pub(crate) fn checked(mut self, mappings: &[SubMapping<B>]) -> Result<Self, StepFailure> {
        self.check(&[], mappings)?;
        Ok(self)
    }

    pub(crate) fn unmap(&mut self, mapping: &SubMapping<B>) -> Result<(), ListenerError> {
        self.listener.unmap(mapping)?;
        self.told = true;
        Ok(())
    }

    /// Maps; tolerates that device memory cannot be mapped, and adds it to `refused`.
    pub(crate) fn map_or_refuse(
        &mut self,
        mapping: &SubMapping<B>,
        refused: &mut DmaFailures<B>,
    ) -> Result<(), ListenerError>
    where
        B: BackingHandle,
    {
        match self.listener.map(mapping) {
            Ok(()) => self.told = true,
            Err(cause) if mapping.kind == MemoryKind::Device => {
                let name = self.listener.name();
                log::warn!("{name} goes without device memory: cannot map {mapping}: {cause}");
                refused.insert(DmaFailure {
                    listener: self.id,
                    name: name.to_owned(),
                    mapping: mapping.clone(),
                    cause: cause.to_string(),
                });
            }
            Err(cause) => return Err(cause),
        }
        Ok(())
    }
}

impl<B: BackingHandle> Neighbours<B> {
    pub(crate) fn new(sink: Box<dyn MappingSink<B>>) -> Self {
        Self {
            sink,
            listeners: Vec::new(),
            dma: Vec::new(),
            failures: DmaFailures::default(),
            refused: DmaFailures::default(),
            end_of_change: None,
            acted: false,
        }
    }

    /// Says that a change is over, if it told anybody anything.
    pub(crate) fn end_change(&mut self) {
        if std::mem::take(&mut self.acted)
            && let Some(hook) = &self.end_of_change
        {
            hook();
        }
    }

    /// Asks a slot listener that is new whether it could hold what there is.
    ///
    /// Those that are there already are asked about a change of nothing, before it, as they are for
    /// any other change: listeners that share a budget tell one change from the next by that.
    pub(crate) fn check_new(
        &mut self,
        new: &mut Registered,
        change: &SlotChange<'_>,
    ) -> Result<(), StepFailure> {
        if !change.added().is_empty() {
            for one in &mut self.listeners {
                // It is given nothing, and so it has nothing to refuse.
                let _ = one.listener.check(&SlotChange::new(&[], &[], &[]));
            }
        }
        new.check(change)
    }

    /// Makes one call. A DMA listener that is gone holds nothing that could be taken or given.
    pub(crate) fn make(
        &mut self,
        call: &Call<'_, B>,
        direction: Direction,
    ) -> Result<(), ListenerError> {
        match call {
            Call::Va(op) if direction == Direction::Forward => self.sink.apply(op),
            Call::Va(op) => self.sink.undo(op),
            Call::Remove(id, slot) => self.with(*id, |listener| listener.remove(slot)),
            Call::Add(id, slot) => self.with(*id, |listener| listener.add(slot)),
            Call::Replaced(id, range) => {
                self.with(*id, |listener| listener.contents_replaced(*range))
            }
            Call::Unmap(id, mapping) => match self.dma.iter_mut().find(|one| one.id == *id) {
                Some(one) => one.unmap(mapping),
                None => Ok(()),
            },
            Call::Map(id, mapping) => match self.dma.iter_mut().find(|one| one.id == *id) {
                Some(one) => one.map_or_refuse(mapping, &mut self.refused),
                None => Ok(()),
            },
        }
    }

    /// Adds what was refused in the change that ends to what listeners go without.
    pub(crate) fn keep_refused(&mut self) {
        if !self.refused.is_empty() {
            self.failures.extend(std::mem::take(&mut self.refused));
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

    /// Tells every DMA listener that did something that this is over.
    pub(crate) fn finish(&mut self, result: Followed) {
        for one in self.dma.iter_mut().filter(|one| one.told) {
            one.told = false;
            one.listener.finish(result);
        }
    }

    /// Who is called, for errors and inspection.
    pub(crate) fn name_of(&self, call: &Call<'_, B>) -> String {
        let Some(id) = call.listener() else {
            return "the VA mapper".to_owned();
        };
        let slots = self.listeners.iter().find(|one| one.id == id);
        let dma = self.dma.iter().find(|one| one.id == id);
        slots
            .map(|one| one.listener.name())
            .or(dma.map(|one| one.listener.name()))
            .unwrap_or_default()
            .to_owned()
    }
}
