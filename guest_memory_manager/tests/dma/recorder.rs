//! A DMA target that writes down what it is told, and refuses when it shall.

#![allow(dead_code, reason = "each test file uses a part of it")]

use guest_memory_manager::{DmaMapping, DmaTarget, DmaTargetError, MemoryKind};
use memory_range::{Access, MemoryRange};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// The cause of a failure that was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("told to refuse")]
pub(crate) struct Refused;

/// A call, but for `check`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Map(MemoryRange, MemoryKind),
    Unmap(MemoryRange, MemoryKind),
    Finish,
}

/// Says which calls are refused.
type Decision = Box<dyn FnMut(&Call) -> bool + Send>;

#[derive(Default)]
pub(crate) struct State {
    /// What the target has, by address.
    pub(crate) held: BTreeMap<u64, DmaMapping>,
    pub(crate) calls: Vec<Call>,
    pub(crate) checks: usize,
    refuses: Option<Decision>,
}

/// The other end of a [`Recorder`].
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<State>>);

pub(crate) struct Recorder {
    record: Record,
}

impl Record {
    pub(crate) fn target(&self) -> Box<dyn DmaTarget> {
        let record = self.clone();
        Box::new(Recorder { record })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A test that fails drops its manager, which calls once more.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on, refuses the calls for which the closure says so.
    pub(crate) fn refuse(&self, refuses: impl FnMut(&Call) -> bool + Send + 'static) {
        let mut state = self.state();
        state.refuses = Some(Box::new(refuses));
        state.calls.clear();
    }

    pub(crate) fn refuse_nothing(&self) {
        self.refuse(|_| false);
    }

    /// The calls since the last time.
    pub(crate) fn take_calls(&self) -> Vec<Call> {
        std::mem::take(&mut self.state().calls)
    }

    /// Where the target has what: start, end, name of the file, offset, whether it may write.
    pub(crate) fn held(&self) -> Vec<(MemoryRange, String, u64, bool)> {
        let state = self.state();
        let held = state.held.values().map(|one| {
            let name = one.file().name().to_owned();
            (
                one.gpa(),
                name,
                one.offset(),
                one.access() == Access::ReadWrite,
            )
        });
        held.collect()
    }

    /// The first word at an address, through the host addresses that the target was given.
    pub(crate) fn word(&self, gpa: u64) -> Option<u32> {
        let state = self.state();
        let (start, mapping) = state.held.range(..=gpa).next_back()?;
        if !mapping.gpa().contains_addr(gpa) {
            return None;
        }
        let mut word = [0; 4];
        mapping.host().read(gpa - start, &mut word).unwrap();
        Some(u32::from_le_bytes(word))
    }
}

impl State {
    fn enter(&mut self, call: Call) -> Result<(), DmaTargetError> {
        self.calls.push(call);
        match self.refuses.as_mut().is_some_and(|refuses| refuses(&call)) {
            true => Err(Box::new(Refused)),
            false => Ok(()),
        }
    }
}

impl DmaTarget for Recorder {
    fn name(&self) -> &str {
        "recorder"
    }

    fn check(
        &mut self,
        removed: &[DmaMapping],
        added: &[DmaMapping],
    ) -> Result<(), DmaTargetError> {
        assert!(!removed.is_empty() || !added.is_empty());
        self.record.state().checks += 1;
        Ok(())
    }

    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        let mut state = self.record.state();
        state.enter(Call::Map(mapping.gpa(), mapping.kind()))?;
        let end = mapping.gpa().end();
        let below = state.held.range(..end).next_back();
        assert!(
            below.is_none_or(|(_, below)| !below.gpa().overlaps(&mapping.gpa())),
            "{} is mapped already",
            mapping.gpa()
        );
        state.held.insert(mapping.gpa().start(), mapping.clone());
        Ok(())
    }

    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        let mut state = self.record.state();
        state.enter(Call::Unmap(mapping.gpa(), mapping.kind()))?;
        let held = state.held.remove(&mapping.gpa().start());
        let held = held.expect("it was mapped before");
        let parts = |one: &DmaMapping| (one.gpa(), one.offset(), one.access(), one.host().as_ptr());
        assert_eq!(parts(&held), parts(mapping), "exactly as it was mapped");
        assert_eq!(held.file(), mapping.file());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), DmaTargetError> {
        self.record.state().enter(Call::Finish)
    }
}
