//! Gives the manager of another process the slots of a partition.

use mapping_manager::remote::SlotTaker;
use memory_range::{Access, MemoryRange};
use partition_mapper::{HeldSlots, PartitionMemoryMap, PausedVcpus};
use region_manager::{Execute, Permissions};
use sparse_alloc::HostRange;
use std::error::Error;
use std::sync::Arc;

/// A partition of this process whose slots another one decides on.
pub(super) struct PartitionSlots {
    held: HeldSlots,
    /// Held while a change makes a gap that the partition's vCPUs could see.
    paused: Option<PausedVcpus>,
}

impl PartitionSlots {
    pub(super) fn new(partition: Arc<dyn PartitionMemoryMap>) -> Self {
        Self {
            held: HeldSlots::new(partition),
            paused: None,
        }
    }
}

impl SlotTaker for PartitionSlots {
    fn add(
        &mut self,
        range: MemoryRange,
        host: HostRange,
        access: Access,
        executable: bool,
    ) -> Result<(), Box<dyn Error + Send + Sync>> {
        let execute = match executable {
            true => Execute::Allowed,
            false => Execute::Denied,
        };
        let permissions = Permissions { access, execute };
        Ok(self.held.add(range, &host, permissions)?)
    }

    fn remove(&mut self, range: MemoryRange) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(self.held.remove(range)?)
    }

    fn pause(&mut self, _: &[MemoryRange]) {
        let partition = self.held.partition();
        match partition
            .barrier()
            .map(|barrier| barrier.pause())
            .transpose()
        {
            Ok(paused) => self.paused = paused,
            // The manager has made its change: to leave this one out would be worse than a gap.
            Err(error) => log::warn!(
                "{}: vcpus run on while slots are made anew: {error}",
                partition.name()
            ),
        }
    }

    fn resume(&mut self) {
        self.paused = None;
    }
}
