//! A sink that fails when told to.

use partition_mapper::testing::ToldToFail;
use region_manager::{MappingSink, SinkError, VaOp};
use sparse_alloc::Backing;
use std::sync::{Arc, Mutex};

/// The calls of a sink, which are to fail from one on.
#[derive(Debug, Default)]
pub(super) struct SinkFaults {
    calls: usize,
    fails: Option<std::ops::Range<usize>>,
}

/// Wraps the real sink.
pub(super) struct FailingSink {
    inner: Box<dyn MappingSink<Backing>>,
    faults: Arc<Mutex<SinkFaults>>,
}

impl FailingSink {
    pub(super) fn new(
        inner: Box<dyn MappingSink<Backing>>,
        faults: Arc<Mutex<SinkFaults>>,
    ) -> Self {
        Self { inner, faults }
    }

    fn enter(&self) -> Result<(), SinkError> {
        let mut faults = self.faults.lock().unwrap();
        let call = faults.calls;
        faults.calls += 1;
        match &faults.fails {
            Some(fails) if fails.contains(&call) => Err(Box::new(ToldToFail { call })),
            _ => Ok(()),
        }
    }
}

impl MappingSink<Backing> for FailingSink {
    fn apply(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.enter()?;
        self.inner.apply(op)
    }

    fn undo(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        self.enter()?;
        self.inner.undo(op)
    }
}

impl SinkFaults {
    pub(super) fn set(&mut self, fails: Option<std::ops::Range<usize>>) {
        *self = Self { calls: 0, fails };
    }

    pub(super) fn calls(&self) -> usize {
        self.calls
    }
}
