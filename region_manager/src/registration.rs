//! How listeners come and go.

use crate::change_lock::LockError;
use crate::diff::Difference;
use crate::dma::{DmaListener, SubMapping};
use crate::error::{AddListenerError, RemoveListenerError};
use crate::ledger::Ledger;
use crate::listener::{ListenerId, RegionListener, SlotChange};
use crate::manager::State;
use crate::neighbours::{Registered, RegisteredDma};
use crate::{BackingHandle, RegionManager, Slot};

impl<B: BackingHandle> RegionManager<B> {
    /// Registers a listener and gives it every slot there is.
    ///
    /// # Errors
    ///
    /// The listener's [`check`](RegionListener::check) says that it cannot hold so many slots; or it
    /// refused one, and those it had been given are taken from it again. It is dropped. Or an earlier
    /// change is not undone yet in some range.
    pub fn add_listener(
        &self,
        listener: Box<dyn RegionListener>,
    ) -> Result<ListenerId, AddListenerError> {
        let mut state = self.state.lock()?;
        let done = state.add_listener(listener);
        state.neighbours.acted = true;
        state.neighbours.end_change();
        done
    }

    /// Registers a DMA listener and has it map every sub-mapping there is.
    ///
    /// While there is no DMA listener, no sub-mappings are kept, and changes cost nothing for them.
    ///
    /// # Errors
    ///
    /// The listener's [`check`](DmaListener::check) says that it cannot follow; or it could not map
    /// RAM, and what it had mapped is unmapped again. It is dropped. Or an earlier change is not
    /// undone yet in some range. Device memory that it could not map is no error, and is among the [`dma_failures`](Self::dma_failures).
    pub fn add_dma_listener(
        &self,
        listener: Box<dyn DmaListener<B>>,
    ) -> Result<ListenerId, AddListenerError> {
        let mut state = self.state.lock()?;
        let done = state.add_dma_listener(listener);
        state.neighbours.acted = true;
        state.neighbours.end_change();
        done
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
        state.neighbours.acted = true;
        state.neighbours.end_change();
        detached.map_err(|source| RemoveListenerError::Detach { name, source })
    }

    /// Has `hook` called at the end of every change that told anybody anything, for who gathers what
    /// the listeners of a change are told and sends it on as one. Takes the place of the one before.
    ///
    /// It is called once a change, after the last call to the sink and to any listener, whether the
    /// change was applied or undone, and then also once when a listener is added (or refused) or
    /// removed. Nothing is called for a change that took no step: one with an empty plan, one that a
    /// listener's `check` or `pause` refused, or a transaction that is dropped.
    ///
    /// The change lock is held, so that no two changes can be taken for one, and the hook sees
    /// changes in their order. A hook that calls back into the manager gets
    /// [`LockError::Reentrant`]; it should be short, since every other change waits for it. One that
    /// panics poisons the manager as a listener would.
    ///
    /// ```
    /// use memory_range::{Access, MemoryRange};
    /// use region_manager::{MapParams, RegionManager, RegionSpec, recording_sink};
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    ///
    /// let manager: RegionManager<&str> = RegionManager::new(0x10_0000, recording_sink().0)?;
    /// let changes = Arc::new(AtomicU32::new(0));
    /// let counter = changes.clone();
    /// manager.set_end_of_change(Box::new(move || {
    ///     counter.fetch_add(1, Ordering::Relaxed);
    /// }))?;
    ///
    /// let mut change = manager.transaction()?;
    /// let ram = change.create_region(RegionSpec::new("ram", 0x4000, 255))?;
    /// change.add_mapping(ram, MemoryRange::new(0..0x4000), "memfd", 0, Access::ReadWrite)?;
    /// change.map_region(ram, MapParams::new(0x8000, Access::ReadWrite))?;
    /// let _ = change.commit()?;
    /// assert_eq!(changes.load(Ordering::Relaxed), 1);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn set_end_of_change(&self, hook: Box<dyn Fn() + Send + Sync>) -> Result<(), LockError> {
        self.state.lock()?.neighbours.end_of_change = Some(hook);
        Ok(())
    }
}

impl<B: BackingHandle> State<B> {
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

    fn add_listener(
        &mut self,
        listener: Box<dyn RegionListener>,
    ) -> Result<ListenerId, AddListenerError> {
        self.repair()?;
        let id = self.next_listener();
        let slots: Vec<Slot> = self.slots.iter().copied().collect();
        let neighbours = &mut self.neighbours;
        let mut new = Registered { id, listener };
        neighbours.check_new(&mut new, &SlotChange::new(&[], &slots, &[]))?;
        neighbours.listeners.push(new);
        // What can't be taken from it again goes with it: it is the listener that must let go
        // when it is dropped.
        if let Err(broken) = neighbours.replay(id, &slots) {
            neighbours.listeners.retain(|one| one.id != id);
            return Err((*broken.failure).into());
        }
        Ok(id)
    }

    fn add_dma_listener(
        &mut self,
        listener: Box<dyn DmaListener<B>>,
    ) -> Result<ListenerId, AddListenerError> {
        self.repair()?;
        let id = self.next_listener();
        let ledger = match self.dma.take() {
            Some(ledger) => ledger,
            None => self.sub_mappings(),
        };
        let mappings: Vec<SubMapping<B>> = ledger.iter().cloned().collect();
        let neighbours = &mut self.neighbours;
        let new = RegisteredDma::new(id, listener).checked(&mappings);
        let done = new.and_then(|new| {
            neighbours.dma.push(new);
            let done = neighbours.replay_dma(id, mappings.iter());
            done.map_err(|broken| *broken.failure)
        });
        self.dma = Some(ledger);
        if let Err(failure) = done {
            self.take_dma_listener(id);
            return Err(failure.into());
        }
        Ok(id)
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
        let index = neighbours.dma.iter().position(|one| one.id == id);
        neighbours.failures.forget(id);
        let one = index.map(|index| neighbours.dma.remove(index));
        if neighbours.dma.is_empty() {
            self.dma = None;
        }
        one
    }
}
