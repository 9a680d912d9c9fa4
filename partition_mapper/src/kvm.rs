//! The KVM backend.

mod options;
mod slot_zap;
mod vcpu_barrier;

pub use options::KvmOptions;
pub use slot_zap::SlotZapAll;
pub use vcpu_barrier::{BarrierSignalError, KvmVcpuBarrier, KvmVcpuBarrierOptions, RunGate};

use crate::barrier::SharedBarrier;
use crate::slot_ids::SlotIds;
use crate::slot_table::{ReadOnlySlots, Rules, SlotTable, hva};
use crate::{
    MapError, PartitionMemoryMap, Pin, PinError, Prefetch, PrefetchError, SlotBudget, SlotClaims,
    SlotInfo, UnmapError, VcpuBarrier,
};
use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::{Cap, VmFd};
use memory_range::{MemoryRange, PAGE_SIZE};
use region_manager::Permissions;
use sparse_alloc::HostRange;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// The longest slot, in bytes: the kernel's `KVM_MEM_MAX_NR_PAGES` of 2^31 - 1 pages.
const LONGEST_SLOT: u64 = ((1 << 31) - 1) * PAGE_SIZE;

/// The cause for which a [`KvmPartition`] could not be made.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KvmError {
    /// The VM did not say how many slots it has.
    #[error("the vm does not report its number of memory slots")]
    SlotLimit,
    /// The ids reserved for this partition are not ids of the VM.
    #[error("slot ids {}-{} exceed the vm's limit of {limit}", .ids.start, .ids.end)]
    SlotIds {
        /// The ids asked for.
        ids: Range<u32>,
        /// The number of slots that the VM has.
        limit: u32,
    },
}

/// A KVM virtual machine's memory slots.
///
/// Each [`map`](PartitionMemoryMap::map) and each [`unmap`](PartitionMemoryMap::unmap) is one
/// `KVM_SET_USER_MEMORY_REGION` ioctl (the kernel's `Documentation/virt/kvm/api.rst`, 4.35). How
/// many slots there are, and whether one can be read-only, is asked of the VM.
///
/// It holds a share of the VM's file descriptor, so that it can delete its slots even when
/// everyone else has closed theirs; a vCPU's file descriptor alone keeps the VM running. When it
/// is dropped, it deletes the slots that it still has; if that fails, it leaks their host
/// addresses and reports it.
///
/// By default it turns off the quirk that makes each deletion of a slot drop the shadow pages of
/// all ([`KvmOptions::keep_slot_zap_quirk`]). It stops vCPUs over a gap if it is given a barrier
/// ([`KvmOptions::barrier`]).
///
/// KVM cannot deny instruction fetches: `Execute::Denied` is an error. It knows nothing of dirty
/// logging; deleting a slot loses the bits of a log that somebody else has switched on.
///
/// Slots that other code creates in the same VM are out of its sight. Keep some ids for them
/// with [`KvmOptions::slot_ids`].
///
/// ```no_run
/// use partition_mapper::{KvmPartition, MapperOptions, PartitionMapper};
/// use sparse_alloc::{Alignment, Reservation};
/// use std::sync::Arc;
///
/// let vm = Arc::new(kvm_ioctls::Kvm::new()?.create_vm()?);
/// let partition = Arc::new(KvmPartition::new(vm)?);
/// let memory = Arc::new(Reservation::new(1 << 32, Alignment::Huge2M)?);
/// let mapper = PartitionMapper::new(partition, memory, MapperOptions::new().pinned())?;
/// // Now register the mapper with a region manager.
/// # drop(mapper);
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct KvmPartition {
    name: String,
    vm: Arc<VmFd>,
    /// Held across the ioctl, so that the table and the VM change together.
    table: Mutex<SlotTable>,
    barrier: Option<SharedBarrier>,
    claims: SlotClaims,
    slot_zap_all: SlotZapAll,
}

impl KvmPartition {
    /// Takes charge of all of a VM's memory slots.
    ///
    /// # Errors
    ///
    /// The VM does not say how many there are.
    pub fn new(vm: Arc<VmFd>) -> Result<Self, KvmError> {
        Self::with_options(vm, KvmOptions::new())
    }

    /// Takes charge of a VM's memory slots, as the options say.
    ///
    /// # Errors
    ///
    /// The VM does not say how many there are, or the options name ids that it does not have.
    pub fn with_options(vm: Arc<VmFd>, options: KvmOptions) -> Result<Self, KvmError> {
        let limit = u32::try_from(vm.check_extension_int(Cap::NrMemslots))
            .ok()
            .filter(|limit| *limit > 0)
            .ok_or(KvmError::SlotLimit)?;
        let ids = options.slot_ids.unwrap_or(0..limit);
        if ids.start > ids.end || ids.end > limit {
            return Err(KvmError::SlotIds { ids, limit });
        }
        let read_only = match vm.check_extension(Cap::ReadonlyMem) {
            true => ReadOnlySlots::Supported,
            false => ReadOnlySlots::Unsupported,
        };
        let rules = Rules {
            name: options.name.clone(),
            read_only,
            longest: LONGEST_SLOT,
        };
        let ids = SlotIds::new(ids, options.max_slots.unwrap_or(u32::MAX));
        let slot_zap_all = match options.keep_slot_zap_quirk {
            true => SlotZapAll::Kept,
            false => SlotZapAll::turn_off(&vm, &options.name),
        };
        Ok(Self {
            name: options.name,
            vm,
            table: Mutex::new(SlotTable::new(rules, ids)),
            barrier: options.barrier.map(SharedBarrier::new),
            claims: SlotClaims::new(),
            slot_zap_all,
        })
    }

    /// The VM's file descriptor.
    pub fn vm(&self) -> &Arc<VmFd> {
        &self.vm
    }

    /// The number of slots that may exist at the same time.
    pub fn slot_limit(&self) -> u32 {
        self.table().limit()
    }

    /// What became of the quirk that makes each deletion of a slot drop all shadow pages.
    pub const fn slot_zap_all(&self) -> SlotZapAll {
        self.slot_zap_all
    }

    /// Copies the list of slots, by guest physical address.
    pub fn slots(&self) -> Vec<SlotInfo> {
        self.table().snapshot()
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        // Between its checks and its commit, the table is as it was: a panic leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deletes a slot: a slot of size zero is none.
    fn delete(&self, id: u32, gpa: MemoryRange) -> Result<(), io::Error> {
        let region = kvm_userspace_memory_region {
            slot: id,
            flags: 0,
            guest_phys_addr: gpa.start(),
            memory_size: 0,
            userspace_addr: 0,
        };
        // SAFETY: a deletion shows no memory to the guest.
        let answer = unsafe { self.vm.set_user_memory_region(region) };
        answer.map_err(|errno| io::Error::from_raw_os_error(errno.errno()))
    }
}

// SAFETY: the kernel keeps the promises for memory slots. `table` has exactly the slots that
// exist: it changes after the ioctl, under one lock. A dropped partition has deleted its slots,
// or else never lets go of their host addresses.
unsafe impl PartitionMemoryMap for KvmPartition {
    fn name(&self) -> &str {
        &self.name
    }

    unsafe fn map(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), MapError> {
        let mut table = self.table();
        let id = table.check_map(gpa, host, permissions)?;
        let region = kvm_userspace_memory_region {
            slot: id,
            flags: match permissions.access.is_writable() {
                true => 0,
                false => KVM_MEM_READONLY,
            },
            guest_phys_addr: gpa.start(),
            memory_size: gpa.len(),
            userspace_addr: hva(host),
        };
        // SAFETY: the addresses are `host`'s: they hold no Rust object (`MappedRegion`), and stay
        // reserved until the slot is deleted, since the table keeps a share of them until then.
        let answer = unsafe { self.vm.set_user_memory_region(region) };
        answer.map_err(|errno| {
            let error = io::Error::from_raw_os_error(errno.errno());
            let kind = error.kind();
            let source = Box::new(error);
            match kind {
                // EEXIST, where the table knows of nothing.
                io::ErrorKind::AlreadyExists => MapError::ForeignOverlap { gpa, source },
                _ => MapError::Refused { gpa, source },
            }
        })?;
        table.commit_map(gpa, host, permissions);
        Ok(())
    }

    fn unmap(&self, gpa: MemoryRange) -> Result<(), UnmapError> {
        let mut table = self.table();
        let id = table.check_unmap(gpa)?;
        self.delete(id, gpa).map_err(|error| UnmapError::Refused {
            gpa,
            source: Box::new(error),
        })?;
        let unused = table.commit_unmap(gpa);
        drop(table);
        drop(unused);
        Ok(())
    }

    fn prefetch(&self) -> Option<&dyn Prefetch> {
        Some(self)
    }

    fn pin(&self) -> Option<&dyn Pin> {
        Some(self)
    }

    fn barrier(&self) -> Option<&dyn VcpuBarrier> {
        let barrier = self.barrier.as_ref()?;
        Some(barrier)
    }

    fn slot_budget(&self) -> Option<SlotBudget<'_>> {
        let table = self.table();
        let (limit, used) = (table.limit(), table.used());
        Some(SlotBudget::new(limit.into(), used.into(), &self.claims))
    }

    fn inspect(&self, req: inspect::Request<'_>) {
        inspect::Inspect::inspect(self, req);
    }
}

impl Prefetch for KvmPartition {
    fn prefetch(
        &self,
        gpa: MemoryRange,
        host: &HostRange,
        permissions: Permissions,
    ) -> Result<(), PrefetchError> {
        crate::host_powers::prefetch(gpa, host, permissions)
    }
}

impl Pin for KvmPartition {
    fn pin(&self, gpa: MemoryRange, host: &HostRange) -> Result<(), PinError> {
        crate::host_powers::pin(gpa, host)
    }
}

impl Drop for KvmPartition {
    fn drop(&mut self) {
        let slots = self.slots();
        let mut table = self.table();
        for slot in slots {
            if let Err(error) = self.delete(slot.id, slot.gpa) {
                let held = table.slots().get_exact(slot.gpa);
                std::mem::forget(held.and_then(|held| table.reservation(held).cloned()));
                log::error!(
                    "{}: slot {} at gpa {} could not be deleted ({error}): \
                     the address space behind it, at {:#x}, is leaked",
                    self.name,
                    slot.id,
                    slot.gpa,
                    slot.hva
                );
            }
            drop(table.commit_unmap(slot.gpa));
        }
    }
}

impl inspect::Inspect for KvmPartition {
    fn inspect(&self, req: inspect::Request<'_>) {
        let mut response = req.respond();
        // A change that makes slots waits for the table's lock: only the copy is made under it.
        let table = self.table().copy();
        table.inspect(&mut response, "kvm", &self.name);
        response.display("slot_zap_all", &self.slot_zap_all);
        match &self.barrier {
            None => response.field("vcpu_pauses", "no barrier"),
            Some(barrier) => response.flatten("vcpu_pauses", barrier),
        };
    }
}
