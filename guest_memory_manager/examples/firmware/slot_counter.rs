//! Counts and times what the manager asks of KVM.

use guest_memory_manager::{KvmPartition, MemoryRange, PartitionMemoryMap};
use partition_mapper::{MapError, Pin, Prefetch, SlotBudget, UnmapError, VcpuBarrier};
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Slot operations so far.
#[derive(Copy, Clone, Debug, Default)]
pub struct SlotOperations {
    /// Slots created.
    pub created: u64,
    /// Slots deleted.
    pub deleted: u64,
    /// Operations refused.
    pub refused: u64,
    /// What all of them took.
    pub time: Duration,
}

impl SlotOperations {
    /// Those after `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            created: self.created - earlier.created,
            deleted: self.deleted - earlier.deleted,
            refused: self.refused - earlier.refused,
            time: self.time.saturating_sub(earlier.time),
        }
    }
}

/// A KVM partition that counts.
pub struct SlotCounter {
    inner: KvmPartition,
    operations: Mutex<SlotOperations>,
}

impl SlotCounter {
    /// Counts from now on.
    pub fn new(inner: KvmPartition) -> Self {
        Self {
            inner,
            operations: Mutex::default(),
        }
    }

    /// What there was so far.
    pub fn operations(&self) -> SlotOperations {
        *self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn count<E>(
        &self,
        begin: Instant,
        result: Result<(), E>,
        counter: fn(&mut SlotOperations) -> &mut u64,
    ) -> Result<(), E> {
        let mut operations = self
            .operations
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        operations.time += begin.elapsed();
        match result {
            Ok(()) => *counter(&mut operations) += 1,
            Err(_) => operations.refused += 1,
        }
        result
    }
}

// SAFETY: every call is passed on as it is, so each promise is the inner partition's.
unsafe impl PartitionMemoryMap for SlotCounter {
    fn name(&self) -> &str {
        self.inner.name()
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        let begin = Instant::now();
        // SAFETY: the caller's promise is about the same addresses.
        let result = unsafe { self.inner.map(gpa, host, permissions) };
        self.count(begin, result, |operations| &mut operations.created)
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        let begin = Instant::now();
        let result = self.inner.unmap(gpa);
        self.count(begin, result, |operations| &mut operations.deleted)
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        PartitionMemoryMap::prefetch(&self.inner)
    }

    fn pin(&self) -> Option<&dyn Pin> {
        PartitionMemoryMap::pin(&self.inner)
    }

    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        self.inner.barrier()
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        self.inner.slot_budget()
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        PartitionMemoryMap::inspect(&self.inner, req);
    }
}
