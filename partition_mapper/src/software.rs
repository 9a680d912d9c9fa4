//! A partition without a hypervisor.

mod access;
mod broken_rule;
mod options;

pub use access::{GuestAccess, GuestAccessError, MmioExit};
pub use broken_rule::BrokenRule;
pub use options::SoftwareOptions;

use crate::barrier::SharedBarrier;
use crate::slot_ids::SlotIds;
use crate::slot_table::{Rules, SlotTable};
use crate::{
    MapError, OfferStores, PartitionMemoryMap, Pin, PinError, Prefetch, PrefetchError, SlotBudget,
    SlotClaims, SlotInfo, StoreTaker, UnmapError, VcpuBarrier,
};
use memory_range::MemoryRange;
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};

/// A partition that needs no hypervisor, keeps KVM's rules, and answers as a guest would see it.
///
/// What KVM refuses, it refuses: an overlap, an unmapping of anything but exactly a mapped range,
/// a slot too many. Beyond that, it remembers each refusal that a correct caller would never
/// meet ([`broken_rules`](Self::broken_rules)), so that a test of a VMM can assert that there
/// was none. Slot ids come from the same allocator as those of the KVM backend.
///
/// [`load`](Self::load) and [`store`](Self::store) are what a guest's instructions would do:
/// they reach memory, or they exit to the VMM (a hole; a store to read-only memory).
///
/// All methods may be called from several threads while the map changes. An access that has
/// begun ends before a change takes effect.
///
/// See [`PartitionMapper`](crate::PartitionMapper) for an example.
pub struct SoftwarePartition {
    name: String,
    table: RwLock<SlotTable>,
    broken: Mutex<Vec<BrokenRule>>,
    powers: options::Powers,
    /// Who is offered stores that reach no memory.
    takers: Mutex<Vec<Weak<dyn StoreTaker>>>,
    barrier: Option<SharedBarrier>,
    claims: SlotClaims,
    limit: u32,
    /// How many slots the table has: to be asked for before each change, without its lock.
    used: AtomicU32,
}

impl SoftwarePartition {
    /// Makes a partition with as many slots as KVM commonly has, and every power.
    pub fn new() -> Self {
        Self::with_options(SoftwareOptions::new())
    }

    /// Makes a partition as the options say.
    pub fn with_options(options: SoftwareOptions) -> Self {
        let rules = Rules {
            name: options.name.clone(),
            read_only: options.read_only,
            longest: u64::MAX,
        };
        let ids = SlotIds::new(options.slot_ids, options.max_slots);
        let limit = ids.limit();
        Self {
            name: options.name,
            table: RwLock::new(SlotTable::new(rules, ids)),
            broken: Mutex::new(Vec::new()),
            powers: options.powers,
            takers: Mutex::default(),
            barrier: options.barrier.map(SharedBarrier::new),
            claims: SlotClaims::new(),
            limit,
            used: AtomicU32::new(0),
        }
    }

    /// The number of slots that may exist at the same time.
    pub fn slot_limit(&self) -> u32 {
        self.limit
    }

    /// Copies the list of slots, by guest physical address.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.read().snapshot()
    }

    /// Copies the list of calls that no correct caller makes, the oldest first.
    pub fn broken_rules(&self) -> Vec<BrokenRule> {
        self.broken().clone()
    }

    // No code that can panic runs between two steps of a change, so a poisoned lock is whole.

    fn read(&self) -> RwLockReadGuard<'_, SlotTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, SlotTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn broken(&self) -> MutexGuard<'_, Vec<BrokenRule>> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn takers(&self) -> MutexGuard<'_, Vec<Weak<dyn StoreTaker>>> {
        self.takers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SoftwarePartition {
    fn default() -> Self {
        Self::new()
    }
}

// SAFETY: `load` and `store` are the guest. They reach only what is in the table, with the
// permissions there, and hold the table's lock meanwhile, so that none is under way once `unmap`
// has returned. The table keeps a share of every reservation in which a slot lies.
unsafe impl PartitionMemoryMap for SoftwarePartition {
    fn name(&self) -> &str {
        &self.name
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        let mut table = self.write();
        match table.check_map(gpa, host, permissions) {
            Ok(_) => {
                table.commit_map(gpa, host, permissions);
                self.used.store(table.used(), Ordering::Relaxed);
                Ok(())
            }
            Err(error) => {
                drop(table);
                self.broken().extend(BrokenRule::by_map(&error));
                Err(error)
            }
        }
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.write();
        match table.check_unmap(gpa) {
            Ok(_) => {
                let unused = table.commit_unmap(gpa);
                self.used.store(table.used(), Ordering::Relaxed);
                drop(table);
                drop(unused);
                Ok(())
            }
            Err(error) => {
                drop(table);
                self.broken().extend(BrokenRule::by_unmap(&error));
                Err(error)
            }
        }
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        self.powers.prefetch.then_some(self as &dyn Prefetch)
    }

    fn pin(&self) -> Option<&dyn Pin> {
        self.powers.pin.then_some(self as &dyn Pin)
    }

    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        let barrier = self.barrier.as_ref()?;
        Some(barrier)
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        let used = self.used.load(Ordering::Relaxed);
        let (limit, used) = (self.limit.into(), used.into());
        Some(SlotBudget::new(limit, used, &self.claims))
    }

    fn store_offers(&self) -> Option<&dyn OfferStores> {
        Some(self)
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        inspect::Inspect::inspect(self, req);
    }
}

impl OfferStores for SoftwarePartition {
    fn offer_stores_to(&self, taker: Weak<dyn StoreTaker>) {
        let mut takers = self.takers();
        takers.retain(|taker| taker.strong_count() > 0);
        takers.push(taker);
    }
}

impl Prefetch for SoftwarePartition {
    fn prefetch(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), PrefetchError> {
        crate::host_powers::prefetch(gpa, host, permissions)
    }
}

impl Pin for SoftwarePartition {
    fn pin(&self, gpa: MemoryRange, host: &HostRange) -> Result<(), PinError> {
        crate::host_powers::pin(gpa, host)
    }
}

impl inspect::Inspect for SoftwarePartition {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        // A change waits for the table's lock: only the copy is made under it.
        let table = self.read().copy();
        table.inspect(&mut response, "software", &self.name);
        response.field("broken_rules", &self.broken_rules());
        if let Some(barrier) = &self.barrier {
            response.flatten("vcpu_pauses", barrier);
        }
    }
}
