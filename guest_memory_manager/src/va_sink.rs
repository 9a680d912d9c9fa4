//! Lets the regions' plans drive the VA mapper.

use mapping_manager::VaMapper;
use region_manager::{MappingSink, SinkError, VaOp};
use sparse_alloc::Backing;
use std::sync::Arc;

/// The VA mapper of this process as the place where plans put backings.
pub(crate) struct VaSink {
    mapper: Arc<VaMapper>,
}

impl VaSink {
    pub(crate) fn new(mapper: Arc<VaMapper>) -> Self {
        Self { mapper }
    }
}

impl MappingSink<Backing> for VaSink {
    fn apply(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        match op {
            VaOp::Map {
                range,
                backing,
                offset,
                access,
            } => self.mapper.map(*range, backing, *offset, *access)?,
            VaOp::Protect { range, access } => self.mapper.protect(*range, *access)?,
            VaOp::Reserve { range } => self.mapper.unmap(*range)?,
        }
        Ok(())
    }

    fn undo(&mut self, op: &VaOp<Backing>) -> Result<(), SinkError> {
        let undo = self.mapper.undo();
        match op {
            VaOp::Map {
                range,
                backing,
                offset,
                access,
            } => undo.map(*range, backing, *offset, *access)?,
            VaOp::Protect { range, access } => undo.protect(*range, *access)?,
            VaOp::Reserve { range } => undo.unmap(*range)?,
        }
        Ok(())
    }
}
