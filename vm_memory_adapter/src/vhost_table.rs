//! The memory table of vhost and vhost-user devices, in the types of the `vhost` crate.

use crate::ring::{Ring, RingError};
use guest_memory_manager::{
    AttachDmaError, DmaOptions, DmaTargetError, DmaTargetId, GuestMemoryManager, MemoryTable,
    MemoryTableEntry,
};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vhost::{VhostUserMemoryRegionInfo, VringConfigData};

/// What a vhost or vhost-user device is to know of guest memory: [`VhostUserMemoryRegionInfo`] for each
/// range, with guest physical address, size, host address, descriptor and offset.
///
/// What lies side by side in all of these is one region. A change that would need more regions than
/// the back end takes is refused as a whole, before anything is changed; so is attaching. Memory that is
/// read-only is left out: a back end would write there.
///
/// The host addresses are those of the guest's window: base + GPA. They identify memory for the front
/// end's messages, and are where kernel vhost reaches it. A snapshot's regions have others; use
/// one kind for a device, table and rings.
///
/// ```
/// use guest_memory_manager::{DmaOptions, GuestMemoryBuilder, MemoryLayout};
/// use vm_memory_adapter::{Ring, RingLayout, VhostTable};
///
/// let layout = MemoryLayout::new(16 << 20, &[], None)?;
/// let memory = GuestMemoryBuilder::new().build_now(&layout)?;
/// // `send` would be `|regions| Ok(front_end.set_mem_table(regions)?)`.
/// let table = VhostTable::attach(&memory, "blk0", 8, DmaOptions::new(), |regions| {
///     println!("the back end has {} regions now", regions.len());
///     Ok(())
/// })?;
/// assert_eq!(table.regions().len(), 1);
/// let mut ring = Ring {
///     layout: RingLayout::Split,
///     size: 256,
///     event_index: true,
///     descriptors: 0x1_0000,
///     driver: 0x1_1000,
///     device: 0x1_2000,
/// };
/// table.ring(&ring)?;
/// // It begins in RAM, and does not end there.
/// ring.device = (16 << 20) - 0x100;
/// assert!(table.ring(&ring).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct VhostTable {
    id: DmaTargetId,
    sent: Arc<Mutex<Vec<MemoryTableEntry>>>,
}

impl VhostTable {
    /// Gives guest memory to a device whose back end takes `limit` regions, from now on and through
    /// every change. `send` is called with the whole table, by address, now and after each change in
    /// which it differs; when the device is detached, with an empty one.
    ///
    /// A vhost-user front end should negotiate `REPLY_ACK` and set `NEED_REPLY`
    /// (`Frontend::set_hdr_flags` of the `vhost` crate): without it `set_mem_table` returns before
    /// the back end has read the table, so the guest may use memory that the back end doesn't have yet, and
    /// the back end memory that the guest has no more.
    ///
    /// It is called within the change, on the thread that makes it, and must make none of its own. If
    /// it fails the back end is taken to have the table before, and is told again at the end of the
    /// next change. The descriptors are good during the call; the back end gets its own.
    ///
    /// # Errors
    ///
    /// As [`attach_dma_target`](GuestMemoryManager::attach_dma_target): the table would be too long,
    /// or `send` fails.
    pub fn attach(
        manager: &GuestMemoryManager,
        name: impl Into<String>,
        limit: usize,
        reach: DmaOptions,
        mut send: impl FnMut(&[VhostUserMemoryRegionInfo]) -> Result<(), DmaTargetError>
        + Send
        + 'static,
    ) -> Result<Self, AttachDmaError> {
        let sent = Arc::new(Mutex::new(Vec::new()));
        let shared = sent.clone();
        let table = MemoryTable::new(name, limit, move |entries| {
            let regions: Vec<_> = entries.iter().map(info).collect();
            send(&regions)?;
            *locked(&shared) = entries.to_vec();
            Ok(())
        });
        let id = manager.attach_dma_target(Box::new(table), reach)?;
        Ok(Self { id, sent })
    }

    /// By what it is detached from the manager.
    pub fn id(&self) -> DmaTargetId {
        self.id
    }

    /// Returns the regions that the back end has. Their descriptors are good until the next change.
    pub fn regions(&self) -> Vec<VhostUserMemoryRegionInfo> {
        locked(&self.sent).iter().map(info).collect()
    }

    /// Finds the host addresses of a virtqueue, for `set_vring_addr` of a vhost-user front end. Each of
    /// its parts lies in one region, from the first byte to the last.
    ///
    /// A later change may take memory from under a ring: check it again whenever a table is sent, and
    /// stop the queue if it is gone.
    ///
    /// # Errors
    ///
    /// The size or an address is none that virtio allows; or a part does not lie in one region.
    pub fn ring(&self, ring: &Ring) -> Result<VringConfigData, RingError> {
        let sent = locked(&self.sent);
        ring.place(|gpa| find(&sent, gpa))
    }

    /// As [`ring`](Self::ring), with the guest physical addresses, for `set_vring_addr` of kernel vhost,
    /// which finds host addresses in its own address space, a
    /// [`BackendSnapshot`](crate::BackendSnapshot) or an [`AddressSpace`](crate::AddressSpace) of such.
    /// The kernel uses those for as long as the queue runs: keep a snapshot of that time.
    ///
    /// # Errors
    ///
    /// As [`ring`](Self::ring).
    pub fn kernel_ring(&self, ring: &Ring) -> Result<VringConfigData, RingError> {
        let sent = locked(&self.sent);
        ring.place(|gpa| find(&sent, gpa).map(|(_, there)| (gpa, there)))
    }
}

/// The host address of a guest physical one, and how many bytes of the entry are left there.
fn find(entries: &[MemoryTableEntry], gpa: u64) -> Option<(u64, u64)> {
    let nth = entries.partition_point(|entry| entry.gpa().end() <= gpa);
    let entry = entries.get(nth)?;
    let into = gpa.checked_sub(entry.gpa().start())?;
    let host = entry.host().as_ptr().addr() as u64;
    Some((host.checked_add(into)?, entry.gpa().end().checked_sub(gpa)?))
}

fn info(entry: &MemoryTableEntry) -> VhostUserMemoryRegionInfo {
    VhostUserMemoryRegionInfo {
        guest_phys_addr: entry.gpa().start(),
        memory_size: entry.gpa().len(),
        userspace_addr: entry.host().as_ptr().addr() as u64,
        mmap_offset: entry.offset(),
        mmap_handle: entry.file().as_fd().as_raw_fd(),
    }
}

/// The list is whole whatever panicked.
fn locked(entries: &Mutex<Vec<MemoryTableEntry>>) -> MutexGuard<'_, Vec<MemoryTableEntry>> {
    entries.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for VhostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VhostTable")
            .field("id", &self.id)
            .field("regions", &locked(&self.sent))
            .finish()
    }
}
