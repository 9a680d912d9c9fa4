//! A mapper that follows the mappings behind a view instead of its slots: a slot does not say
//! whether it is RAM, a sub-mapping does.

use super::{Kinds, PartitionMapper};
use memory_range::{MemoryRange, sorted};
use region_manager::{
    DmaListener, Execute, Followed, ListenerError, MemoryKind, Permissions, Slot, SubMapping,
};

/// Gives the partition a slot for each sub-mapping; a [`ram_only`](super::MapperOptions::ram_only)
/// mapper leaves out those of device memory.
///
/// Sub-mappings are unmapped and mapped anew also when only their contents are replaced, so
/// that there are more slots and more changes of them than for a mapper that follows the slots. The
/// partition's vCPUs are stopped over gaps all the same. A sub-mapping does not say whether it may be
/// executed: its slot is executable.
impl<B> DmaListener<B> for PartitionMapper {
    fn name(&self) -> &str {
        &self.name
    }

    fn check(
        &mut self,
        removed: &[SubMapping<B>],
        added: &[SubMapping<B>],
    ) -> Result<(), ListenerError> {
        let kinds = self.kinds;
        let ranges = |mappings| ranges(mappings, kinds);
        self.check_budget(ranges(removed), ranges(added))?;
        self.gaps_ahead = sorted::overlap(ranges(removed), ranges(added)).collect();
        Ok(())
    }

    fn unmap(&mut self, mapping: &SubMapping<B>) -> Result<(), ListenerError> {
        if !self.kinds.include(mapping.kind) {
            return Ok(());
        }
        let was_paused = self.paused.is_some();
        let gaps = std::mem::take(&mut self.gaps_ahead);
        self.pause_over(gaps.into_iter())?;
        let removed = self.remove_slot(&slot(mapping));
        if removed.is_err() && !was_paused {
            // Nothing was done, so nobody will say that it is over.
            self.paused = None;
        }
        Ok(removed?)
    }

    fn map(&mut self, mapping: &SubMapping<B>) -> Result<(), ListenerError> {
        if !self.kinds.include(mapping.kind) {
            return Ok(());
        }
        Ok(self.give_slot(&slot(mapping))?)
    }

    fn finish(&mut self, _: Followed) {
        self.gaps_ahead.clear();
        self.paused = None;
    }

    fn detach(self: Box<Self>) -> Result<(), ListenerError> {
        Ok(PartitionMapper::detach(*self)?)
    }

    fn inspection_copy(&self) -> Option<Box<dyn inspect::Inspect>> {
        Some(self.copy())
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        inspect::Inspect::inspect(self, req);
    }
}

/// The ranges of the sub-mappings that are shown.
fn ranges<B>(mappings: &[SubMapping<B>], kinds: Kinds) -> impl Iterator<Item = MemoryRange> {
    mappings
        .iter()
        .filter(move |mapping| kinds.include(mapping.kind))
        .map(|mapping| mapping.range)
}

fn slot<B>(mapping: &SubMapping<B>) -> Slot {
    Slot {
        range: mapping.range,
        permissions: Permissions {
            access: mapping.access,
            execute: Execute::Allowed,
        },
        prefetch: false,
    }
}

impl Kinds {
    fn include(self, kind: MemoryKind) -> bool {
        match self {
            Self::All => true,
            Self::Ram => kind == MemoryKind::Ram,
        }
    }
}
