//! A sink that remembers what it was told.

use crate::{MappingSink, SinkError, VaOp};
use std::sync::{Arc, Mutex, PoisonError};

/// The operations that a [`recording_sink`] was given, in order.
pub type RecordedOps<B> = Arc<Mutex<Vec<VaOp<B>>>>;

/// Makes a sink that maps nothing and remembers every operation.
///
/// For tests, for trying out a layout, and for printing plans where there is no memory.
pub fn recording_sink<B: Clone + Send + 'static>() -> (Box<dyn MappingSink<B>>, RecordedOps<B>) {
    let ops: RecordedOps<B> = Arc::default();
    (Box::new(Recording(ops.clone())), ops)
}

struct Recording<B>(RecordedOps<B>);

impl<B: Clone + Send> MappingSink<B> for Recording<B> {
    fn apply(&mut self, op: &VaOp<B>) -> Result<(), SinkError> {
        let mut ops = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ops.push(op.clone());
        Ok(())
    }

    fn undo(&mut self, op: &VaOp<B>) -> Result<(), SinkError> {
        self.apply(op)
    }
}
