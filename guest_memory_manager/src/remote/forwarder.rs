//! Passes the slots of a partition on to its process.

use mapping_manager::remote::Peer;
use memory_range::MemoryRange;
use partition_mapper::ForwardSlots;
use region_manager::{Execute, Permissions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The slots of one partition, queued beside what its process is to show: so the process makes both in
/// the order in which the change makes them.
pub(super) struct PeerSlots {
    peer: Arc<Peer>,
    /// The process's number of the partition.
    partition: u32,
    withdrawn: Arc<AtomicBool>,
}

impl PeerSlots {
    pub(super) fn new(peer: Arc<Peer>, partition: u32, withdrawn: Arc<AtomicBool>) -> Self {
        Self {
            peer,
            partition,
            withdrawn,
        }
    }
}

impl ForwardSlots for PeerSlots {
    fn add(&self, gpa: MemoryRange, view: u64, permissions: Permissions) {
        let executable = permissions.execute == Execute::Allowed;
        let access = permissions.access;
        self.peer
            .add_slot(self.partition, gpa, view, access, executable);
    }

    fn remove(&self, gpa: MemoryRange) {
        // Of a partition that it has taken back, the process knows nothing any more.
        if !self.withdrawn.load(Ordering::Relaxed) {
            self.peer.remove_slot(self.partition, gpa);
        }
    }

    fn is_gone(&self) -> bool {
        self.withdrawn.load(Ordering::Relaxed) || self.peer.is_gone().is_some()
    }
}
