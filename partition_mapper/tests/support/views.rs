//! A region manager whose memory is all there from the beginning, over partitions that record.

#![allow(dead_code, reason = "each test file uses a part of it")]

use crate::support::{memory, pages};
use memory_range::{Access, PAGE_SIZE};
use partition_mapper::testing::{FailingPartition, PartitionCall};
use partition_mapper::{
    MapperOptions, PartitionMapper, PauseError, PausedVcpus, SoftwareOptions, SoftwarePartition,
    VcpuBarrier,
};
use region_manager::{
    MapParams, MappingSink, RegionId, RegionManager, RegionSpec, SinkError, Transaction, VaOp,
};
use sparse_alloc::Reservation;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub(crate) const RW: Access = Access::ReadWrite;
pub(crate) const RO: Access = Access::ReadOnly;

/// The pages of a view.
const SPACE: u64 = 64;

struct Nothing;

impl MappingSink<u8> for Nothing {
    fn apply(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        Ok(())
    }

    fn undo(&mut self, _: &VaOp<u8>) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Says whether vCPUs are paused, and how often they were.
#[derive(Debug, Default)]
pub(crate) struct Barrier {
    paused: Arc<AtomicBool>,
    pauses: AtomicUsize,
}

impl Barrier {
    pub(crate) fn is_paused(&self) -> bool {
        self.paused.load(Ordering::SeqCst)
    }

    /// How often it was taken since this was asked last.
    pub(crate) fn pauses(&self) -> usize {
        self.pauses.swap(0, Ordering::SeqCst)
    }
}

impl VcpuBarrier for Barrier {
    fn pause(&self) -> Result<PausedVcpus, PauseError> {
        assert!(!self.paused.swap(true, Ordering::SeqCst), "paused twice");
        self.pauses.fetch_add(1, Ordering::SeqCst);
        let paused = self.paused.clone();
        Ok(PausedVcpus::new(move || {
            assert!(paused.swap(false, Ordering::SeqCst), "resumed twice");
        }))
    }
}

pub(crate) type Guest = FailingPartition<SoftwarePartition>;

/// A partition with so many slots.
pub(crate) fn guest(slots: u32) -> (Arc<Guest>, Arc<Barrier>) {
    let barrier = Arc::new(Barrier::default());
    let options = SoftwareOptions::new()
        .max_slots(slots)
        .barrier(barrier.clone());
    let partition = SoftwarePartition::with_options(options);
    (Arc::new(FailingPartition::new(partition)), barrier)
}

/// A view.
pub(crate) struct View {
    pub(crate) manager: RegionManager<u8>,
    va: Arc<Reservation>,
}

impl View {
    pub(crate) fn new() -> Self {
        Self {
            manager: RegionManager::new(SPACE * PAGE_SIZE, Box::new(Nothing)).unwrap(),
            va: memory(SPACE),
        }
    }

    pub(crate) fn mapper(&self, guest: &Arc<Guest>, options: MapperOptions) -> PartitionMapper {
        PartitionMapper::new(guest.clone(), self.va.clone(), options).unwrap()
    }

    /// Follows the view's slots.
    pub(crate) fn follow(&self, guest: &Arc<Guest>, options: MapperOptions) {
        let mapper = Box::new(self.mapper(guest, options));
        self.manager.add_listener(mapper).unwrap();
    }

    pub(crate) fn change<R>(&self, edit: impl FnOnce(&mut Transaction<'_, u8>) -> R) -> R {
        let mut change = self.manager.transaction().unwrap();
        let result = edit(&mut change);
        let _ = change.commit().unwrap();
        result
    }

    /// Makes a change that fails; returns its words and those of its causes.
    pub(crate) fn refused(&self, edit: impl FnOnce(&mut Transaction<'_, u8>)) -> String {
        let mut change = self.manager.transaction().unwrap();
        edit(&mut change);
        crate::support::chain(&change.commit().unwrap_err())
    }
}

/// Whether a region is RAM.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Is {
    Ram,
    Device,
}

/// Makes a region of one mapping of a backing of its own, at these pages.
pub(crate) fn region(
    change: &mut Transaction<'_, u8>,
    backing: u8,
    (start, end): (u64, u64),
    access: Access,
    is: Is,
) -> RegionId {
    let mut spec = RegionSpec::new(format!("region {backing}"), (end - start) * PAGE_SIZE, 1);
    if is == Is::Ram {
        spec = spec.ram();
    }
    let id = change.create_region(spec).unwrap();
    let all = pages(0, end - start);
    change.add_mapping(id, all, backing, 0, RW).unwrap();
    place(change, id, start, access);
    id
}

/// Maps a region at this page.
pub(crate) fn place(change: &mut Transaction<'_, u8>, id: RegionId, page: u64, access: Access) {
    let params = MapParams::new(page * PAGE_SIZE, access);
    change.map_region(id, params).unwrap();
}

/// What a guest sees: in pages, and whether it may store.
pub(crate) fn shown(guest: &Guest) -> Vec<(u64, u64, bool)> {
    assert_eq!(guest.inner().broken_rules(), []);
    let slots = guest.inner().slots();
    let page = |addr: u64| addr / PAGE_SIZE;
    slots
        .iter()
        .map(|slot| {
            let writable = slot.permissions.access.is_writable();
            (page(slot.gpa.start()), page(slot.gpa.end()), writable)
        })
        .collect()
}

/// The kinds of calls since the last `fail_` method: `m`ap, `u`nmap, `p`ause.
pub(crate) fn calls(guest: &Guest) -> String {
    let letter = |call: &PartitionCall| match call {
        PartitionCall::Map { .. } => 'm',
        PartitionCall::Unmap { .. } => 'u',
        PartitionCall::Pause => 'p',
        PartitionCall::Prefetch { .. } | PartitionCall::Pin { .. } => '?',
    };
    guest.calls().iter().map(letter).collect()
}
