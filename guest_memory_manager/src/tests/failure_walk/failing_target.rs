//! A DMA target that fails when told to.

use crate::dma::{DmaMapping, DmaTarget, DmaTargetError};
use partition_mapper::testing::ToldToFail;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a target has, and which of its calls are to fail. The end of a change is no call here: it
/// undoes nothing.
#[derive(Debug, Default)]
pub(super) struct TargetState {
    held: BTreeMap<u64, String>,
    calls: usize,
    fails: Option<std::ops::Range<usize>>,
}

/// Has RAM, as text.
pub(super) struct FailingTarget {
    state: Arc<Mutex<TargetState>>,
}

impl FailingTarget {
    pub(super) fn new(state: Arc<Mutex<TargetState>>) -> Self {
        Self { state }
    }

    fn enter(&self) -> Result<MutexGuard<'_, TargetState>, DmaTargetError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let call = state.calls;
        state.calls += 1;
        match &state.fails {
            Some(fails) if fails.contains(&call) => Err(Box::new(ToldToFail { call })),
            _ => Ok(state),
        }
    }
}

impl DmaTarget for FailingTarget {
    fn name(&self) -> &str {
        "dma"
    }

    fn check(&mut self, _: &[DmaMapping], _: &[DmaMapping]) -> Result<(), DmaTargetError> {
        self.enter().map(drop)
    }

    fn map(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        let text = format!(
            "{} {} {} {:#x}",
            mapping.gpa(),
            mapping.access(),
            mapping.file().name(),
            mapping.offset()
        );
        let held = self.enter()?.held.insert(mapping.gpa().start(), text);
        assert_eq!(held, None, "{}", mapping.gpa());
        Ok(())
    }

    fn unmap(&mut self, mapping: &DmaMapping) -> Result<(), DmaTargetError> {
        let held = self.enter()?.held.remove(&mapping.gpa().start());
        assert!(held.is_some(), "{}", mapping.gpa());
        Ok(())
    }
}

impl TargetState {
    pub(super) fn set(&mut self, fails: Option<std::ops::Range<usize>>) {
        self.calls = 0;
        self.fails = fails;
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }

    /// What it has, by address.
    pub(super) fn held(&self) -> Vec<String> {
        self.held.values().cloned().collect()
    }
}
