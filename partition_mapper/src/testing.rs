//! Failing partitions, to test what stands above one.

use crate::{
    MapError, OfferStores, PartitionMemoryMap, PauseError, PausedVcpus, Pin, PinError, Prefetch,
    PrefetchError, SlotBudget, UnmapError, VcpuBarrier,
};
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::sync::{Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// A call that a [`FailingPartition`] received.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum PartitionCall {
    /// [`PartitionMemoryMap::map`].
    Map {
        /// The guest physical addresses.
        gpa: MemoryRange,
        /// The permissions asked for.
        permissions: Permissions,
    },
    /// [`PartitionMemoryMap::unmap`].
    Unmap {
        /// The guest physical addresses.
        gpa: MemoryRange,
    },
    /// [`Prefetch::prefetch`].
    Prefetch {
        /// The guest physical addresses.
        gpa: MemoryRange,
    },
    /// [`Pin::pin`].
    Pin {
        /// The guest physical addresses.
        gpa: MemoryRange,
    },
    /// [`VcpuBarrier::pause`].
    Pause,
}

/// The cause of a failure that was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Error)]
#[error("call {call} was told to fail")]
pub struct ToldToFail {
    /// Which call it was, from 0 on, counted since the failure was asked for.
    pub call: usize,
}

type Decision = Box<dyn FnMut(usize, &PartitionCall) -> bool + Send>;

/// Wraps a partition: counts and records the calls, and lets some of them fail.
///
/// A call that fails does not reach the partition inside. To walk every failure point of an
/// operation, let call 0 fail, then call 1, and so on until the operation succeeds.
pub struct FailingPartition<P> {
    inner: P,
    state: Mutex<State>,
}

struct State {
    calls: Vec<PartitionCall>,
    fails: Decision,
}

impl<P: PartitionMemoryMap> FailingPartition<P> {
    /// Wraps a partition; nothing fails yet.
    pub fn new(inner: P) -> Self {
        Self {
            inner,
            state: Mutex::new(State {
                calls: Vec::new(),
                fails: Box::new(|_, _| false),
            }),
        }
    }

    /// Lets the call fail that comes after `calls` others, counted from now, and no other.
    pub fn fail_at(&self, calls: usize) {
        self.fail_if(move |call, _| call == calls);
    }

    /// Lets every call fail that comes after `calls` others, counted from now.
    pub fn fail_from(&self, calls: usize) {
        self.fail_if(move |call, _| call >= calls);
    }

    /// Lets every unmapping fail.
    pub fn fail_unmaps(&self) {
        self.fail_if(|_, call| matches!(call, PartitionCall::Unmap { .. }));
    }

    /// Lets nothing fail.
    pub fn fail_never(&self) {
        self.fail_if(|_, _| false);
    }

    /// Lets those calls fail for which the closure says so. It gets the call and its number,
    /// counted from 0 from now on. The calls recorded before are forgotten.
    pub fn fail_if(&self, fails: impl FnMut(usize, &PartitionCall) -> bool + Send + 'static) {
        *self.state() = State {
            calls: Vec::new(),
            fails: Box::new(fails),
        };
    }

    /// Copies the list of calls since the last `fail_` method, those that failed included.
    pub fn calls(&self) -> Vec<PartitionCall> {
        self.state().calls.clone()
    }

    /// The number of calls since the last `fail_` method, those that failed included.
    pub fn call_count(&self) -> usize {
        self.state().calls.len()
    }

    /// The partition inside.
    pub const fn inner(&self) -> &P {
        &self.inner
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a call, and says whether it shall fail.
    fn enter(&self, call: PartitionCall) -> Result<(), ToldToFail> {
        let mut state = self.state();
        let number = state.calls.len();
        state.calls.push(call);
        match (state.fails)(number, &call) {
            true => Err(ToldToFail { call: number }),
            false => Ok(()),
        }
    }
}

// SAFETY: a call either fails before it has changed anything, or is the partition's inside.
unsafe impl<P: PartitionMemoryMap> PartitionMemoryMap for FailingPartition<P> {
    fn name(&self) -> &str {
        self.inner.name()
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        self.enter(PartitionCall::Map { gpa, permissions })
            .map_err(|told| MapError::Refused {
                gpa,
                source: Box::new(told),
            })?;
        // SAFETY: the caller makes the promise that the partition inside asks for.
        unsafe { self.inner.map(gpa, host, permissions) }
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        self.enter(PartitionCall::Unmap { gpa })
            .map_err(|told| UnmapError::Refused {
                gpa,
                source: Box::new(told),
            })?;
        self.inner.unmap(gpa)
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        self.inner.prefetch().map(|_| self as &dyn Prefetch)
    }

    fn pin(&self) -> Option<&dyn Pin> {
        self.inner.pin().map(|_| self as &dyn Pin)
    }

    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        self.inner.barrier().map(|_| self as &dyn VcpuBarrier)
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        self.inner.slot_budget()
    }

    fn store_offers(&self) -> Option<&dyn OfferStores> {
        self.inner.store_offers()
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        self.inner.inspect(req);
    }
}

impl<P: PartitionMemoryMap> Prefetch for FailingPartition<P> {
    fn prefetch(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), PrefetchError> {
        let told = self.enter(PartitionCall::Prefetch { gpa });
        told.map_err(|told| PrefetchError {
            gpa,
            source: Box::new(told),
        })?;
        match self.inner.prefetch() {
            Some(power) => power.prefetch(gpa, host, permissions),
            None => Ok(()),
        }
    }
}

impl<P: PartitionMemoryMap> Pin for FailingPartition<P> {
    fn pin(&self, gpa: MemoryRange, host: &HostRange) -> Result<(), PinError> {
        let told = self.enter(PartitionCall::Pin { gpa });
        told.map_err(|told| PinError {
            gpa,
            source: Box::new(told),
        })?;
        match self.inner.pin() {
            Some(power) => power.pin(gpa, host),
            None => Ok(()),
        }
    }
}

impl<P: PartitionMemoryMap> VcpuBarrier for FailingPartition<P> {
    fn pause(&self) -> Result<PausedVcpus, PauseError> {
        let told = self.enter(PartitionCall::Pause);
        told.map_err(|told| PauseError::Failed {
            source: Box::new(told),
        })?;
        match self.inner.barrier() {
            Some(barrier) => barrier.pause(),
            None => Ok(PausedVcpus::new(|| ())),
        }
    }
}
